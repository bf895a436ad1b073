//! Rock Ridge: what stands behind a name in a directory record, field by field.
//!
//! A field is two letters, its length, its version, and its content. Where a record has no room for
//! all, a field `CE` says where more of them are.

use std::collections::HashSet;

use super::dates;
use super::layout::{Record, Twice};
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::storage::{Span, Window};

/// Bytes of a field in front of its content.
const HEAD: usize = 4;
/// The mark of the field `SP`, which says that fields are used.
pub(super) const USED: [u8; 2] = [0xbe, 0xef];
/// Flags of names, and of parts of a link: goes on; the folder itself; the one above; the root.
pub(super) const GOES_ON: u8 = 1;
pub(super) const ITSELF: u8 = 2;
pub(super) const ABOVE: u8 = 4;
pub(super) const ROOT: u8 = 8;
/// The time of change among others, and times of seventeen bytes.
const MODIFIED: u8 = 2;
const LONG: u8 = 0x80;

/// What the fields of a record say.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    pub(super) name: Option<Vec<u8>>,
    /// Kind and permissions.
    pub(super) mode: Option<u32>,
    /// Where a symbolic link points.
    pub(super) link: Option<Vec<u8>>,
    pub(super) modified: Option<i64>,
    /// Block of the folder that stands here, and lies elsewhere for being too deep.
    pub(super) moved_to: Option<u32>,
    /// Whether it is such a folder, where it lies.
    pub(super) moved: bool,
    /// Bytes of the content of a file that is compressed.
    pub(super) unpacked: Option<u64>,
    /// Whether its extent is a table of stretches.
    pub(super) sparse: bool,
    /// Whether the last part of the link goes on in the next one.
    open_part: bool,
}

/// Reads fields. Continuations are taken from one budget for all records.
pub(super) struct Fields<'a> {
    window: &'a dyn Window,
    block: u64,
    /// Bytes in front of the fields, in every record.
    skip: usize,
    budget: u64,
}

/// Where more fields lie.
type Next = Option<Span>;

/// How many bytes stand in front of the fields of every record, as the first record of the root
/// says; `None` if it says that there are no fields.
pub(super) fn skip(window: &dyn Window, root: u64) -> Result<Option<usize>> {
    let bytes = window.array::<256>(root)?;
    let own = bytes.get(..usize::from(bytes[0])).and_then(Record::parse);
    let Some(own) = own else { return Ok(None) };
    let field = own.system_use.windows(7).take(16).find(|field| field.starts_with(b"SP\x07\x01"));
    Ok(field.filter(|field| field[4..6] == USED).map(|field| field[6].into()))
}

impl<'a> Fields<'a> {
    pub(super) fn new(window: &'a dyn Window, block: u64, skip: usize, limits: &Limits) -> Self {
        Fields { window, block, skip, budget: limits.max_table }
    }

    /// What the fields of a record say, which stands at this offset. `Malformed` if a field ends
    /// behind its end, or if they go round in a circle.
    pub(super) fn of(&mut self, record: &Record, at: u64) -> Result<Attributes> {
        let mut attributes = Attributes::default();
        let own = record.system_use.get(self.skip..).unwrap_or_default();
        let mut next = self.take(own, at, &mut attributes)?;
        let mut seen = HashSet::new();
        while let Some(span) = next {
            if !seen.insert(span.start()) {
                return Err(Error::malformed(at, "its Rock Ridge fields go round in a circle"));
            }
            self.budget = self.budget.checked_sub(span.len()).ok_or_else(|| {
                Error::limit("its Rock Ridge fields take more room than a table may").at(at)
            })?;
            // Every step takes something off the budget.
            self.budget = self.budget.saturating_sub(1);
            let mut area = vec![0; usize::try_from(span.len()).expect("less than the budget")];
            self.window.read(span.start(), &mut area)?;
            next = self.take(&area, span.start(), &mut attributes)?;
        }
        Ok(attributes)
    }

    /// Takes in the fields of one area.
    fn take(&self, area: &[u8], at: u64, attributes: &mut Attributes) -> Result<Next> {
        let mut rest = area;
        let mut next = None;
        while let [first, second, len, _, ..] = *rest {
            if first == 0 || [first, second] == *b"ST" {
                break;
            }
            let len = usize::from(len);
            let Some(field) = rest.get(HEAD..len) else {
                let what = format!("a Rock Ridge field of {len} bytes, where {} are", rest.len());
                return Err(Error::malformed(at, what));
            };
            rest = &rest[len..];
            match [first, second] {
                [b'C', b'E'] => next = Some(self.continuation(field, at)?),
                other => attributes.take(other, field),
            }
        }
        Ok(next)
    }

    fn continuation(&self, field: &[u8], at: u64) -> Result<Span> {
        let [Some(block), Some(offset), Some(len)] = [0, 8, 16].map(|at| number(field, at)) else {
            return Err(Error::malformed(at, "a field CE without room for its numbers"));
        };
        let start = u64::from(block) * self.block + u64::from(offset);
        // No writer needs more than a sector; what is larger only costs time.
        if len > 4096 {
            let what = format!("Rock Ridge fields go on in {len} bytes, 4096 at most");
            return Err(Error::malformed(at, what));
        }
        Span::new(start, len.into())
    }
}

/// The number that stands at an offset of a field, in both orders.
fn number(field: &[u8], at: usize) -> Option<u32> {
    let bytes = field.get(at..)?.first_chunk()?;
    Some(Twice::parse(*bytes).value)
}

impl Attributes {
    /// One field more. What is too short, or unknown, says nothing.
    fn take(&mut self, kind: [u8; 2], field: &[u8]) {
        match &kind {
            b"NM" => self.take_name(field),
            b"PX" => self.mode = number(field, 0).or(self.mode),
            b"SL" => self.take_link(field),
            b"TF" => self.modified = modified(field).or(self.modified),
            b"CL" => self.moved_to = number(field, 0).or(self.moved_to),
            b"RE" => self.moved = true,
            b"SF" => self.sparse = true,
            b"ZF" => self.unpacked = number(field, 4).map(u64::from).or(self.unpacked),
            _ => {}
        }
    }

    fn take_name(&mut self, field: &[u8]) {
        let Some((flags, part)) = field.split_first() else { return };
        let name = self.name.get_or_insert_default();
        match *flags {
            flags if flags & ITSELF != 0 => name.extend(b"."),
            flags if flags & ABOVE != 0 => name.extend(b".."),
            _ => name.extend(part),
        }
    }

    fn take_link(&mut self, field: &[u8]) {
        let link = self.link.get_or_insert_default();
        let mut rest = field.get(1..).unwrap_or_default();
        while let [flags, len, behind @ ..] = rest {
            let part = behind.get(..usize::from(*len)).unwrap_or(behind);
            rest = &behind[part.len()..];
            if !self.open_part && !link.is_empty() && !link.ends_with(b"/") {
                link.push(b'/');
            }
            match *flags {
                flags if flags & ROOT != 0 => *link = b"/".to_vec(),
                flags if flags & ITSELF != 0 => link.extend(b"."),
                flags if flags & ABOVE != 0 => link.extend(b".."),
                _ => link.extend(part),
            }
            self.open_part = flags & GOES_ON != 0;
        }
    }
}

/// The time of change in a field of times.
fn modified(field: &[u8]) -> Option<i64> {
    let (flags, times) = field.split_first()?;
    let before = usize::from(flags & (MODIFIED - 1) != 0);
    if flags & MODIFIED == 0 {
        return None;
    }
    match flags & LONG {
        0 => dates::short(*times.get(before * 7..)?.first_chunk()?),
        _ => dates::long(times.get(before * 17..)?.first_chunk()?),
    }
}
