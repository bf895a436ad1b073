//! A sparse extent: a directory of tables of grains.

use std::sync::Arc;

use super::layout::{
    AT_END, COMPRESSED, COWD, DEFLATE, Entry, GRAIN_MARKER, Grains, HEADER, Header, INCOMPATIBLE,
    MAGIC, MARKER_FOOTER, MARKERS, Marker, NEWLINE_TEST, NEWLINES, OldHeader, REDUNDANT, SE_MAGIC,
    SE_VOLATILE, SECTOR, SeHeader, Shape, Words,
};
use crate::base::codec::Codec;
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::extent::{Extent, Packed, Place, push};
use crate::base::storage::{Le32, Le64, Pages, Source, Span, Window, Word};

/// How far in front of the end of a file a footer is looked for: some programs leave zeros behind
/// the end of a stream.
const FOOTER_WITHIN: u64 = 64 << 10;
/// Grains of a stream that one look goes over: each costs a read of its marker.
const PACKED_AT_ONCE: u64 = 64;

/// The front of a sparse extent, understood.
pub(super) struct Head {
    pub(super) shape: Shape,
    /// The header, if it is of the usual kind.
    pub(super) header: Option<Header>,
    /// Where the descriptor lies inside.
    pub(super) descriptor: Option<Span>,
    /// Whether it was not closed.
    pub(super) unclean: bool,
    /// The name of its kind.
    pub(super) kind: &'static str,
}

/// Whether a sparse extent of any kind begins here.
pub(super) fn is_sparse(window: &dyn Window) -> Result<bool> {
    for magic in [&MAGIC[..], &COWD, &SE_MAGIC] {
        if window.starts_with(0, magic)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Reads the front. Everything in it that is used later is checked here, but for a directory that
/// stands at the end.
pub(super) fn head(window: &dyn Window, limits: &Limits) -> Result<Head> {
    let bytes = window.array::<HEADER>(0)?;
    let head = if bytes.starts_with(&MAGIC) {
        usual(&bytes)?
    } else if bytes.starts_with(&COWD) {
        let old = OldHeader::parse(&bytes).map_err(|_| Error::malformed(0, "no COWD header"))?;
        let shape = old.shape().map_err(wrong)?;
        Head { shape, header: None, descriptor: None, unclean: false, kind: "vmfsSparse" }
    } else if bytes.starts_with(&SE_MAGIC) {
        space_efficient(window, &bytes)?
    } else {
        return Err(Error::malformed(0, "no sparse extent begins here"));
    };
    let tables = head.shape.tables * head.shape.word();
    if tables > limits.max_table {
        let most = limits.max_table;
        let what = format!("the grain directory takes {tables} bytes, {most} at most");
        return Err(Error::limit(what));
    }
    Ok(head)
}

fn wrong((at, what): (u64, String)) -> Error {
    Error::malformed(at, what)
}

fn usual(bytes: &[u8; HEADER]) -> Result<Head> {
    let header = header(bytes, 0)?;
    let shape = header.shape().map_err(wrong)?;
    let Header { descriptor, descriptor_len, unclean, .. } = header;
    let descriptor = (descriptor > 0 && descriptor_len > 0).then_some((descriptor, descriptor_len));
    let span = |(start, len): (u64, u64)| {
        let bytes = start.checked_mul(SECTOR).zip(len.checked_mul(SECTOR));
        let (start, len) =
            bytes.ok_or_else(|| Error::malformed(28, "the descriptor lies past every file"))?;
        Span::new(start, len)
    };
    let descriptor = descriptor.map(span).transpose()?;
    let kind = if header.flags & COMPRESSED != 0 { "streamOptimized" } else { "monolithicSparse" };
    Ok(Head { shape, header: Some(header), descriptor, unclean: unclean != 0, kind })
}

/// A header of the usual kind, or the footer that repeats it.
fn header(bytes: &[u8; HEADER], at: u64) -> Result<Header> {
    let header = Header::parse(bytes).map_err(|_| Error::malformed(at, "no KDMV header"))?;
    let Header { version, flags, newlines, compression, .. } = header;
    if !(1..=3).contains(&version) {
        let what = format!("version {version} is not known");
        return Err(Error::unsupported(what).at(at + 4));
    }
    if flags & INCOMPATIBLE & !(COMPRESSED | MARKERS) != 0 {
        let what = format!("flags {flags:#x}, of which not all are known");
        return Err(Error::unsupported(what).at(at + 8));
    }
    if flags & NEWLINE_TEST != 0 && newlines != NEWLINES {
        let what = "the ends of its lines were changed: it was transferred as if it were text";
        return Err(Error::malformed(at + 73, what));
    }
    match (flags & COMPRESSED != 0, flags & MARKERS != 0) {
        (false, true) => {
            Err(Error::malformed(at + 8, "markers, and grains that are not compressed"))
        }
        (true, _) if compression != DEFLATE => {
            let what = format!("compression {compression} is not known");
            Err(Error::unsupported(what).at(at + 77))
        }
        _ => Ok(header),
    }
}

/// The journal of such an extent is not replayed: one that has something in it is refused.
fn space_efficient(window: &dyn Window, bytes: &[u8; HEADER]) -> Result<Head> {
    let header = SeHeader::parse(bytes).map_err(|_| Error::malformed(0, "no seSparse header"))?;
    let shape = header.shape().map_err(wrong)?;
    let at = header.volatile.start.checked_mul(SECTOR);
    let at = at.ok_or_else(|| Error::malformed(80, "its second header lies past every file"))?;
    let volatile = window.array::<32>(at)?;
    if Le64::get(&volatile) != SE_VOLATILE {
        return Err(Error::malformed(at, "its second header is none"));
    }
    if Le64::get(&volatile[24..]) != 0 {
        let what = "its journal has to be replayed, which is not done here";
        return Err(Error::unsupported(what).at(at + 24));
    }
    Ok(Head { shape, header: None, descriptor: None, unclean: false, kind: "seSparse" })
}

/// The footer of a stream, and where it stands: in front of the end, with zeros behind it at most.
fn footer(window: &dyn Window) -> Result<(u64, Header)> {
    let total = window.len()?;
    let end = total / SECTOR * SECTOR;
    let from = total.saturating_sub(FOOTER_WITHIN).next_multiple_of(SECTOR);
    let mut tail = vec![0; usize::try_from(end.saturating_sub(from)).expect("64 KiB at most")];
    window.read(from, &mut tail)?;
    for (index, sectors) in tail.windows(2 * HEADER).step_by(HEADER).enumerate().rev() {
        let (marker, footer) = sectors.split_at(HEADER);
        let marker = Marker::parse(marker[..16].try_into().expect("sixteen"));
        if marker.kind == MARKER_FOOTER && marker.len == 0 && footer.starts_with(&MAGIC) {
            let at = from + (index as u64 + 1) * SECTOR;
            let bytes = footer.try_into().expect("a sector");
            return Ok((at, header(bytes, at)?));
        }
    }
    let what = format!("the footer is missing, and the file ends at {total}");
    Err(Error::truncated(total, what))
}

/// `Limit` if a directory leads to more tables than the file has room for, by far.
pub(super) fn room_for_tables(
    pages: &Pages,
    shape: &Shape,
    directory: u64,
    limits: &Limits,
) -> Result<()> {
    let (at, len) = ((directory, shape.tables), shape.entries * shape.word());
    let leads = |word| word != 0;
    match shape.words {
        Words::Sectors { .. } => pages.room_for_tables::<Le32>(at, len, limits, leads),
        Words::Indices { .. } => pages.room_for_tables::<Le64>(at, len, limits, leads),
    }
}

/// A sparse extent that is open.
pub(super) struct Sparse {
    pub(super) source: Arc<dyn Source>,
    pub(super) shape: Shape,
    /// Which of the image's files it is.
    file: usize,
    /// What lies where there is no grain.
    missing: Place,
}

impl Sparse {
    /// Opens the extent in this file. `Truncated` if its directory lies behind the end.
    pub(super) fn open(
        source: Arc<dyn Source>,
        file: usize,
        missing: Place,
        limits: &Limits,
    ) -> Result<Sparse> {
        let head = head(&*source, limits)?;
        let shape = with_directory(&head, &*source)?;
        room_for_tables(&Pages::new(source.clone()), &shape, shape.directory, limits)?;
        Ok(Sparse { source, shape, file, missing })
    }

    /// Adds what lies at `start` of the extent, which is at `base` on the disk, and goes as far as
    /// `end`; `pages` are those of its file.
    pub(super) fn extents(
        &self,
        pages: &Pages,
        base: u64,
        start: u64,
        end: u64,
        out: &mut Vec<Extent>,
    ) -> Result<()> {
        let Shape { directory, tables, .. } = self.shape;
        let (reach, word) = (self.shape.reach(), self.shape.word());
        let index = start / reach;
        let at = directory + index * word;
        let (first, empty) = pages.look(at, (tables - index) * word, |bytes| {
            let mut words = self.words(bytes);
            let first = words.next();
            (first, 1 + words.take_while(|word| *word == 0).count() as u64)
        })?;
        let ended = || Error::truncated(at, "the file ends inside the grain directory");
        match self.shape.table(first.ok_or_else(ended)?) {
            Entry::Missing => {
                let stop = (index + empty).saturating_mul(reach).min(end);
                let (start, len) = (base + start, stop - start);
                out.push(Extent { start, len, place: self.missing, depth: 0 });
                Ok(())
            }
            Entry::Grain(table) if table >= SECTOR => {
                self.table_extents(pages, table, base, index * reach..end, start, out)
            }
            Entry::Grain(_) | Entry::Zero | Entry::Wrong => {
                Err(Error::malformed(at, "a grain table lies where none can be"))
            }
        }
    }

    /// Goes over a table, which is for the extent from the beginning of `within` on.
    fn table_extents(
        &self,
        pages: &Pages,
        table: u64,
        base: u64,
        within: std::ops::Range<u64>,
        start: u64,
        out: &mut Vec<Extent>,
    ) -> Result<()> {
        let Shape { grain, entries, grains, .. } = self.shape;
        let word = self.shape.word();
        let first = (start - within.start) / grain;
        let left = (within.end - within.start).div_ceil(grain).min(entries) - first;
        let count = if grains == Grains::Plain { left } else { left.min(PACKED_AT_ONCE) };
        let at = table + first * word;
        pages.look(at, count * word, |bytes| {
            let mut at = at;
            let mut start = within.start + first * grain;
            for entry in self.words(bytes) {
                let len = grain.min(within.end - start);
                let place = match self.shape.entry(entry) {
                    Entry::Missing => self.missing,
                    Entry::Zero => Place::Zero { offset: None },
                    Entry::Grain(offset) if offset >= SECTOR => self.grain(offset, start, at)?,
                    Entry::Grain(_) | Entry::Wrong => {
                        let what = format!("the entry {entry:#x} leads to no grain");
                        return Err(Error::malformed(at, what));
                    }
                };
                push(out, Extent { start: base + start, len, place, depth: 0 });
                start += grain;
                at += word;
            }
            if bytes.len() < usize::try_from(word).expect("4 or 8") {
                return Err(Error::truncated(at, "the file ends inside a grain table"));
            }
            Ok(())
        })?
    }

    fn words<'a>(&self, bytes: &'a [u8]) -> impl Iterator<Item = u64> + use<'a> {
        let sectors = matches!(self.shape.words, Words::Sectors { .. });
        let size = if sectors { Le32::SIZE } else { Le64::SIZE };
        let get = if sectors { Le32::get } else { Le64::get };
        bytes.chunks_exact(size).map(get)
    }

    /// Where the bytes of the grain are that begins at `start` of the extent; the entry that leads
    /// to it stands at `at`.
    fn grain(&self, offset: u64, start: u64, at: u64) -> Result<Place> {
        let Shape { grain, grains, size, .. } = self.shape;
        let Grains::Packed { front } = grains else {
            return Ok(Place::Data { file: self.file, offset });
        };
        let len = packed_len(&*self.source, &self.shape, offset, start)
            .map_err(|error| if error.offset().is_some() { error } else { error.at(at) })?;
        // The last grain is whole in what most programs write, and cut off in what qemu does.
        let unit = grain.min(size - start);
        let (file, codec) = (self.file, Codec::Zlib);
        Ok(Place::Packed(Packed { file, offset: offset + front, len, unit, skip: 0, codec }))
    }
}

/// The length of the compressed grain at `offset`, which is for the extent from `start` on, as the
/// bytes in front of it say.
pub(super) fn packed_len(
    source: &dyn Source,
    shape: &Shape,
    offset: u64,
    start: u64,
) -> Result<u64> {
    let window = source as &dyn Window;
    let len = if shape.grains == (Grains::Packed { front: GRAIN_MARKER }) {
        let marker = window.array::<12>(offset)?;
        let sector = Le64::get(&marker);
        if sector != start / SECTOR {
            let wanted = start / SECTOR;
            let what = format!("a grain for sector {sector}, where that for {wanted} should be");
            return Err(Error::malformed(offset, what));
        }
        Le32::get(&marker[8..])
    } else {
        Le32::get(&window.array::<4>(offset)?)
    };
    if len == 0 || len > 2 * shape.grain + SECTOR {
        let what = format!("a compressed grain of {len} bytes");
        return Err(Error::malformed(offset, what));
    }
    Ok(len)
}

/// What is wrong with an extent that is two.
const UNLIKE: &str = "the footer says something else than the header";

/// Whether a footer is for another disk than the header, or leads nowhere.
fn differ(header: &Header, footer: &Header) -> bool {
    let other = Header { directory: AT_END, ..footer.clone() };
    let same = Header { redundant: header.redundant, unclean: header.unclean, ..other };
    same != *header || footer.directory == AT_END
}

/// What is wrong with the footer of a stream, if it is to have one. `Truncated` if it is missing:
/// then the end of the stream is, and there is no disk.
pub(super) fn unlike_footer(head: &Head, window: &dyn Window) -> Result<Option<&'static str>> {
    let Some(header) = head.header.as_ref().filter(|header| header.directory == AT_END) else {
        return Ok(None);
    };
    let (_, footer) = footer(window)?;
    Ok(differ(header, &footer).then_some(UNLIKE))
}

/// The shape, with the directory as the footer has it where that is the one to ask; or the
/// redundant one, where the file ends before the first.
pub(super) fn with_directory(head: &Head, source: &dyn Source) -> Result<Shape> {
    let (mut shape, total) = (head.shape, source.len());
    let len = shape.tables * shape.word();
    let Some(header) = &head.header else {
        Span::new(shape.directory, len)?.within(total, "the grain directory")?;
        return Ok(shape);
    };
    if header.directory == AT_END {
        let (at, footer) = footer(source)?;
        if differ(header, &footer) {
            return Err(Error::malformed(at, UNLIKE));
        }
        shape = footer.shape().map_err(|(inside, what)| Error::malformed(at + inside, what))?;
    }
    let first = Span::new(shape.directory, len)?.within(total, "the grain directory");
    if first.is_err() && header.flags & REDUNDANT != 0 {
        let spare = header.redundant.saturating_mul(SECTOR);
        if Span::new(spare, len)?.within(total, "").is_ok() && spare >= SECTOR {
            return Ok(Shape { directory: spare, ..shape });
        }
    }
    let first = first?;
    if shape.tables > 0 && first.start() < SECTOR {
        return Err(Error::malformed(56, "the grain directory lies over the header"));
    }
    Ok(shape)
}
