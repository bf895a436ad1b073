//! The blocks of a file: who uses them, and moving them.

use std::sync::Arc;

use super::layout::{ENTRY, Entry, Header};
use crate::base::error::{Error, Result};
use crate::base::storage::{Buffer, Le32, Pages, Put, Source, Storage, Window};

/// Bytes that are copied at once.
const CHUNK: u64 = 1 << 20;

/// Hands over the entries of the map that the disk reaches: number of the block on the disk, where
/// the entry stands, and what it says. `Truncated` where the file ends inside the map.
pub(super) fn entries(
    pages: &Pages,
    header: &Header,
    mut look: impl FnMut(u64, u64, Entry) -> Result<()>,
) -> Result<()> {
    let mut seen = 0;
    pages.words::<Le32>(header.map, header.needed(), |index, at, word| {
        seen = index + 1;
        look(index, at, Entry::of(word))
    })?;
    if seen < header.needed() {
        let at = header.map + seen * ENTRY;
        return Err(Error::truncated(at, "the file ends inside the map"));
    }
    Ok(())
}

/// Which blocks of the file are in use: one bit for each.
pub(super) struct Taken(Vec<u64>);

impl Taken {
    /// None of so many.
    pub(super) fn none_of(count: u64) -> Result<Taken> {
        let words = usize::try_from(count.div_ceil(64)).map_err(|_| Error::limit("the map"))?;
        Ok(Taken(vec![0; words]))
    }

    fn place(number: u64) -> (usize, u64) {
        (usize::try_from(number / 64).unwrap_or(usize::MAX), 1 << (number % 64))
    }

    /// Takes a block; says whether it was taken before. One that is not among them never was.
    pub(super) fn take(&mut self, number: u64) -> bool {
        let (word, bit) = Taken::place(number);
        let Some(word) = self.0.get_mut(word) else { return false };
        let before = *word & bit != 0;
        *word |= bit;
        before
    }

    /// The first one from `at` on that is not taken.
    pub(super) fn next_free(&self, at: u64) -> u64 {
        let mut number = at;
        loop {
            let (word, bit) = Taken::place(number);
            if self.0.get(word).is_none_or(|word| word & bit == 0) {
                return number;
            }
            number += 1;
        }
    }
}

/// Copies a block of the file to another place in it, as far as the file has it.
pub(super) fn copy(
    storage: &Arc<dyn Storage>,
    header: &Header,
    from: u64,
    to: u64,
    buffer: &mut Buffer,
) -> Result<()> {
    let far = || Error::limit("a block lies past every file's end");
    let (from, to) = (header.end_of(from).ok_or_else(far)?, header.end_of(to).ok_or_else(far)?);
    let all = header.stride().min(Source::len(&**storage).saturating_sub(from));
    let mut done = 0;
    while done < all {
        let len = (all - done).min(CHUNK);
        let bytes = &mut buffer[..usize::try_from(len).expect("a MiB at most")];
        Window::read(&**storage, from + done, bytes)?;
        storage.put(to + done, bytes)?;
        done += len;
    }
    Ok(())
}

/// A buffer to copy with.
pub(super) fn buffer() -> Buffer {
    Buffer::new(usize::try_from(CHUNK).expect("a MiB"))
}

/// Moves blocks from the end of the file into gaps, so that `used` blocks without gaps remain, and
/// cuts the file off behind them. No block is used twice.
pub(super) fn compact(storage: &Arc<dyn Storage>, header: &Header, used: u64) -> Result<()> {
    let source: Arc<dyn Source> = storage.clone();
    let pages = Pages::new(source);
    let mut taken = Taken::none_of(used)?;
    entries(&pages, header, |_, _, entry| {
        if let Entry::Block(number) = entry {
            taken.take(number.into());
        }
        Ok(())
    })?;
    let (mut free, mut buffer) = (0, buffer());
    let mut moved: Vec<(u64, u32)> = Vec::new();
    entries(&pages, header, |_, at, entry| {
        let Entry::Block(number) = entry else { return Ok(()) };
        if u64::from(number) < used {
            return Ok(());
        }
        free = taken.next_free(free);
        moved.push((at, u32::try_from(free).unwrap_or(u32::MAX)));
        free += 1;
        copy(storage, header, number.into(), free - 1, &mut buffer)
    })?;
    storage.settle()?;
    for (at, number) in moved {
        storage.put(at, &number.to_le_bytes())?;
    }
    storage.settle()?;
    let count = u32::try_from(used).map_err(|_| Error::limit("too many blocks"))?;
    storage.put(header.fields().allocated, &count.to_le_bytes())?;
    storage.settle()?;
    let end = header.end_of(used).unwrap_or(u64::MAX);
    if end < Source::len(&**storage) && storage.fixed_len().is_none() {
        storage.set_len(end).map_err(|error| Error::io("cannot cut the file off", error))?;
        storage.settle()?;
    }
    Ok(())
}
