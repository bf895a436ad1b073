//! Tables of an image, read as needed, never whole.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Source, Window, Word};
use crate::base::error::{Error, Kind, Result};
use crate::base::limits::Limits;

/// Bytes of one page.
const PAGE: u64 = 64 << 10;
/// Pages kept.
const KEPT: usize = 16;

/// A small cache over the metadata of a file: any table is read through it, a page at a time.
pub(crate) struct Pages {
    source: Arc<dyn Source>,
    kept: Mutex<Vec<(u64, Arc<Vec<u8>>)>>,
}

impl Pages {
    pub(crate) fn new(source: Arc<dyn Source>) -> Pages {
        Pages { source, kept: Mutex::new(Vec::new()) }
    }

    /// The file itself.
    pub(crate) fn source(&self) -> &Arc<dyn Source> {
        &self.source
    }

    /// As many of the `len` bytes at `offset` as lie in one page, handed to `look`; at least one.
    /// `Truncated` if there is none.
    pub(crate) fn look<T>(
        &self,
        offset: u64,
        len: u64,
        look: impl FnOnce(&[u8]) -> T,
    ) -> Result<T> {
        let page = self.page(offset / PAGE)?;
        let start = usize::try_from(offset % PAGE).expect("below the size of a page");
        let len = usize::try_from(len.min(PAGE)).expect("at most the size of a page");
        if start >= page.len() {
            let end = self.source.len();
            return Err(Error::truncated(
                offset,
                format!("a table goes on, and the file ends at {end}"),
            ));
        }
        Ok(look(&page[start..page.len().min(start + len)]))
    }

    /// Hands over the bytes of a stretch in pieces: how many came before, and the piece. Pieces are
    /// multiples of 16 bytes, but for what the end of the file cuts; what lies behind it is left
    /// out.
    pub(crate) fn pieces(
        &self,
        offset: u64,
        len: u64,
        mut look: impl FnMut(u64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut done = 0;
        while done < len {
            let at = offset
                .checked_add(done)
                .ok_or_else(|| Error::malformed(offset, "a table does not end in 2^64"))?;
            let step =
                self.look(at, len - done, |bytes| look(done, bytes).map(|()| bytes.len() as u64));
            match step {
                Ok(step) => match step? {
                    // A file that grew since: its last page is kept as it was.
                    0 => break,
                    step => done += step,
                },
                Err(error) if error.kind() == Kind::Truncated => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Hands over the words of a table, which begins at a multiple of their size: index, offset,
    /// word. What lies behind the end of the file is left out.
    pub(crate) fn words<W: Word>(
        &self,
        offset: u64,
        count: u64,
        mut look: impl FnMut(u64, u64, u64) -> Result<()>,
    ) -> Result<()> {
        let size = W::SIZE as u64;
        self.pieces(offset, count.saturating_mul(size), |done, bytes| {
            for (index, word) in bytes.chunks_exact(W::SIZE).enumerate() {
                let done = done + index as u64 * size;
                look(done / size, offset + done, W::get(word))?;
            }
            Ok(())
        })
    }

    /// `Limit` if the tables that a table of `count` words leads to would take more room than the
    /// file has, and `max_table` on top: then many words lead to the same ones, and whoever goes
    /// over the disk goes over these again and again. `leads` says whether a word leads to a
    /// table; each of those has `len` bytes.
    pub(crate) fn room_for_tables<W: Word>(
        &self,
        (offset, count): (u64, u64),
        len: u64,
        limits: &Limits,
        leads: impl Fn(u64) -> bool,
    ) -> Result<()> {
        let room = self.source.len().saturating_add(limits.max_table);
        if count.saturating_mul(len) <= room {
            return Ok(());
        }
        let mut tables = 0_u64;
        self.words::<W>(offset, count, |_, _, word| {
            tables += u64::from(leads(word));
            Ok(())
        })?;
        if tables.saturating_mul(len) <= room {
            return Ok(());
        }
        let what = format!("it leads to {tables} tables of {len} bytes, and the file has less");
        Err(Error::limit(what).at(offset))
    }

    fn page(&self, index: u64) -> Result<Arc<Vec<u8>>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = kept.iter().position(|(number, _)| *number == index) {
            // The latest used stands last; the first is the next to go.
            let found = kept.remove(at);
            let page = found.1.clone();
            kept.push(found);
            return Ok(page);
        }
        let mut bytes = if kept.len() < KEPT {
            Vec::new()
        } else {
            Arc::try_unwrap(kept.remove(0).1).unwrap_or_default()
        };
        let start = index.saturating_mul(PAGE);
        let left = self.source.len().saturating_sub(start).min(PAGE);
        bytes.resize(usize::try_from(left).expect("at most the size of a page"), 0);
        Window::read(&*self.source, start, &mut bytes)?;
        let page = Arc::new(bytes);
        kept.push((index, page.clone()));
        Ok(page)
    }
}
