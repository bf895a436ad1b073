//! The disk as everything here reads it: in pages that are kept, within a budget.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use formats::{Error, Image, Kind, Place, Reader, Result};

/// Bounds on what a look at a disk may cost. When one is reached, the look ends with what is known
/// so far, and a note.
///
/// The default is for disks of strangers: whatever lies on them, a look takes less than 100 ms of
/// one processor and 64 MiB.
#[derive(Debug, Clone)]
pub struct Budget {
    /// Bytes read from the image, each page of the disk once. A compressed unit counts as far as
    /// it has to be unpacked. So much memory is taken, too.
    pub read: u64,
    /// Bytes handed to whoever looks at them, again and again if need be.
    pub handed: u64,
    /// Reads, however small.
    pub reads: u64,
    /// Entries of folders.
    pub entries: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Budget { read: 8 << 20, handed: 20 << 20, reads: 20_000, entries: 100_000 }
    }
}

/// Bytes of a page: what is read at once, and kept.
const PAGE: u64 = 16 << 10;
/// Notes that are kept, and characters of each: what is wrong with a disk may be wrong everywhere.
const NOTES: usize = 32;
const NOTE: usize = 300;

/// Why something could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The budget is spent: nothing more will be read.
    Spent,
    /// The image does not give these bytes.
    Unreadable(String),
    /// The bytes make no sense, in a sentence.
    Damaged(String),
}

/// What was read, or why it was not.
pub(crate) type Read<T> = std::result::Result<T, Fault>;

/// The content breaks its own rules.
pub(crate) fn damaged<T>(what: impl Into<String>) -> Read<T> {
    Err(Fault::Damaged(what.into()))
}

/// A disk, what has been read of it, and what may still be.
pub(crate) struct Disk {
    image: Arc<dyn Image>,
    left: RefCell<Budget>,
    spent: Cell<bool>,
    /// Bytes that one call into a library may still be handed.
    allowance: Cell<u64>,
    pages: RefCell<HashMap<u64, Rc<[u8]>>>,
    reader: RefCell<Reader>,
    failure: RefCell<Option<Error>>,
    notes: RefCell<Vec<String>>,
}

impl Disk {
    pub(crate) fn new(image: Arc<dyn Image>, budget: &Budget) -> Disk {
        Disk {
            image,
            left: RefCell::new(budget.clone()),
            spent: Cell::new(false),
            allowance: Cell::new(u64::MAX),
            pages: RefCell::default(),
            reader: RefCell::default(),
            failure: RefCell::default(),
            notes: RefCell::default(),
        }
    }

    pub(crate) fn size(&self) -> u64 {
        self.image.disk_size()
    }

    /// Says something about the disk, once.
    pub(crate) fn note(&self, what: impl Into<String>) {
        let mut what: String = what.into();
        if let Some((end, _)) = what.char_indices().nth(NOTE) {
            what.truncate(end);
        }
        let mut notes = self.notes.borrow_mut();
        if notes.len() < NOTES && !notes.contains(&what) {
            notes.push(what);
        }
    }

    /// Says why something could not be read. A spent budget is said at the end.
    pub(crate) fn complain(&self, of: &str, fault: &Fault) {
        match fault {
            Fault::Spent => {}
            Fault::Unreadable(what) | Fault::Damaged(what) => self.note(format!("{of}: {what}")),
        }
    }

    /// What was found, unless the image failed in a way that is no matter of its content.
    pub(crate) fn finish(&self) -> Result<Vec<String>> {
        if let Some(error) = self.failure.borrow_mut().take() {
            return Err(error);
        }
        let mut notes = std::mem::take(&mut *self.notes.borrow_mut());
        if self.spent.get() {
            notes.push("there is more on the disk than a look may read".into());
        }
        Ok(notes)
    }

    /// Whether nothing more will be read.
    pub(crate) fn is_spent(&self) -> bool {
        self.spent.get()
    }

    /// What `call` gives, which is handed `most` bytes at most. What it makes of them in memory is
    /// bounded by that.
    pub(crate) fn allowing<T>(&self, most: u64, call: impl FnOnce() -> T) -> T {
        self.allowance.set(most);
        let result = call();
        self.allowance.set(u64::MAX);
        result
    }

    /// Counts an entry of a folder.
    pub(crate) fn count_entry(&self) -> Read<()> {
        let mut left = self.left.borrow_mut();
        self.take(&mut left.entries, 1)
    }

    /// Counts bytes that were made of what was read.
    pub(crate) fn count_handed(&self, len: u64) -> Read<()> {
        let mut left = self.left.borrow_mut();
        self.take(&mut left.handed, len)
    }

    fn take(&self, left: &mut u64, cost: u64) -> Read<()> {
        match left.checked_sub(cost) {
            Some(rest) if !self.spent.get() => {
                *left = rest;
                Ok(())
            }
            _ => {
                self.spent.set(true);
                Err(Fault::Spent)
            }
        }
    }

    /// Fills `out` with the bytes of the disk from `start` on.
    pub(crate) fn read(&self, start: u64, out: &mut [u8]) -> Read<()> {
        let len = out.len() as u64;
        let end = start.checked_add(len).filter(|end| *end <= self.size());
        let Some(end) = end else {
            return damaged(format!("{len} bytes at {start} are not on the disk"));
        };
        {
            let mut left = self.left.borrow_mut();
            self.take(&mut left.reads, 1)?;
            self.take(&mut left.handed, len)?;
        }
        let Some(allowed) = self.allowance.get().checked_sub(len) else {
            return damaged("more has to be read for it than a look may read");
        };
        self.allowance.set(allowed);
        let mut at = start;
        while at < end {
            let first = at / PAGE * PAGE;
            let page = self.page(first)?;
            let (from, stop) = (at - first, (end - first).min(page.len() as u64));
            let (to, len) = (narrow(at - start), narrow(stop - from));
            out[to..to + len].copy_from_slice(&page[narrow(from)..narrow(stop)]);
            at = first + stop;
        }
        Ok(())
    }

    /// The page that begins at `first`; the last one is shorter.
    fn page(&self, first: u64) -> Read<Rc<[u8]>> {
        if let Some(page) = self.pages.borrow().get(&first) {
            return Ok(page.clone());
        }
        let len = PAGE.min(self.size() - first);
        let mut bytes = vec![0; narrow(len)];
        self.take(&mut self.left.borrow_mut().read, len)?;
        self.fetch(first, &mut bytes)?;
        let page: Rc<[u8]> = bytes.into();
        self.pages.borrow_mut().insert(first, page.clone());
        Ok(page)
    }

    fn fetch(&self, first: u64, bytes: &mut [u8]) -> Read<()> {
        let mut reader = self.reader.borrow_mut();
        for extent in self.image.walk(first, first + bytes.len() as u64) {
            let extent = extent.map_err(|error| self.failed(error))?;
            if let Place::Packed(packed) = &extent.place {
                let before = packed.skip.saturating_add(packed.len);
                self.take(&mut self.left.borrow_mut().read, before)?;
            }
            let (from, len) = (narrow(extent.start - first), narrow(extent.len));
            reader
                .fetch(self.image.files(), &extent, &mut bytes[from..from + len])
                .map_err(|error| self.failed(error))?;
        }
        Ok(())
    }

    /// A failure of the image: of its content, or one that ends the look.
    fn failed(&self, error: Error) -> Fault {
        let what = error.to_string();
        match error.kind() {
            Kind::Malformed | Kind::Truncated | Kind::Unsupported | Kind::Invalid => {
                Fault::Unreadable(what)
            }
            Kind::Limit | Kind::Refused | Kind::Io | Kind::Cancelled | Kind::Awaiting => {
                self.spent.set(true);
                self.failure.borrow_mut().get_or_insert(error);
                Fault::Unreadable(what)
            }
        }
    }
}

/// A number that was compared with the length of a buffer.
fn narrow(number: u64) -> usize {
    usize::try_from(number).expect("within a buffer")
}

/// A stretch of a disk, or several as one: a partition, all of the disk, a logical volume.
#[derive(Clone)]
pub(crate) struct Volume {
    pub(crate) disk: Rc<Disk>,
    /// Where each piece begins in the volume and on the disk, and how long it is.
    pieces: Rc<[(u64, u64, u64)]>,
    pub(crate) len: u64,
}

impl Volume {
    /// All of a disk.
    pub(crate) fn whole(disk: &Rc<Disk>) -> Volume {
        Volume::part(disk, 0, disk.size())
    }

    /// A stretch of a disk, as far as it lies on it.
    pub(crate) fn part(disk: &Rc<Disk>, start: u64, len: u64) -> Volume {
        let len = len.min(disk.size().saturating_sub(start));
        Volume { disk: disk.clone(), pieces: [(0, start, len)].into(), len }
    }

    /// Stretches of the disk that another volume is on, one behind the other.
    pub(crate) fn of(other: &Volume, stretches: Vec<(u64, u64)>) -> Volume {
        let mut len = 0_u64;
        let mut pieces = Vec::new();
        for (start, size) in stretches {
            pieces.push((len, start, size));
            len = len.saturating_add(size);
        }
        Volume { disk: other.disk.clone(), pieces: pieces.into(), len }
    }

    /// Where this stretch of the volume lies on the disk, if it is all in one piece.
    pub(crate) fn on_disk(&self, at: u64, len: u64) -> Option<u64> {
        let end = at.checked_add(len)?;
        let holds =
            |piece: &&(u64, u64, u64)| piece.0 <= at && end <= piece.0.saturating_add(piece.2);
        let (first, start, _) = self.pieces.iter().find(holds)?;
        start.checked_add(at - first)
    }

    /// Fills `out` from `at` on, counted from the volume's start.
    pub(crate) fn read(&self, at: u64, out: &mut [u8]) -> Read<()> {
        let len = out.len() as u64;
        if let Some(place) = self.on_disk(at, len) {
            return self.disk.read(place, out);
        }
        if at.checked_add(len).is_none_or(|end| end > self.len) {
            return damaged(format!("{len} bytes at {at} of {} are outside", self.len));
        }
        let (mut at, mut rest) = (at, out);
        while !rest.is_empty() {
            let (first, _, size) = self.piece(at);
            let part = (first.saturating_add(size) - at).min(rest.len() as u64);
            let (now, later) = rest.split_at_mut(narrow(part));
            let place = self.on_disk(at, part);
            let Some(place) = place else { return damaged("a piece of a volume is not there") };
            self.disk.read(place, now)?;
            (at, rest) = (at + part, later);
        }
        Ok(())
    }

    /// The piece that holds this place of the volume.
    fn piece(&self, at: u64) -> (u64, u64, u64) {
        let index = self.pieces.partition_point(|piece| piece.0 <= at);
        self.pieces[index - 1]
    }

    /// `len` bytes from `at` on. What asks for them has compared `len` with a bound of its own.
    pub(crate) fn bytes(&self, at: u64, len: usize) -> Read<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.read(at, &mut bytes)?;
        Ok(bytes)
    }

    /// As many of `len` bytes from `at` on as there are.
    pub(crate) fn front(&self, at: u64, len: usize) -> Read<Vec<u8>> {
        let left = usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX);
        self.bytes(at, len.min(left))
    }
}
