//! Disk offset → extents: the pieces of the disk, one behind the other.

use std::sync::{Arc, Mutex, PoisonError};

use super::descriptor::{Descriptor, Kind};
use super::inspect::{self, Form};
use super::sparse::Sparse;
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::extent::{Extent, Place};
use crate::base::model::format::Links;
use crate::base::model::image::Image;
use crate::base::storage::{Pages, Source, Span};

/// Sparse extents whose tables are kept at a time.
const RECENT: usize = 4;

struct Vmdk {
    size: u64,
    pieces: Vec<Piece>,
    files: Vec<Arc<dyn Source>>,
    /// The tables of the pieces that were looked at last, by their number: the latest stands last.
    recent: Mutex<Vec<(usize, Arc<Pages>)>>,
}

/// A stretch of the disk.
struct Piece {
    start: u64,
    end: u64,
    body: Body,
}

enum Body {
    /// Bytes of a file, from this offset on.
    Flat {
        file: usize,
        offset: u64,
    },
    Sparse(Sparse),
    Zero,
}

/// `Refused` for disks that are devices, `Truncated` where a file is shorter than the descriptor
/// says, `Malformed` where an extent has a smaller disk.
pub(super) fn open(links: Links, limits: &Limits) -> Result<Box<dyn Image>> {
    let image = match inspect::form(&*links.source, limits)? {
        Form::Text(text) => several(&text, &links, limits)?,
        Form::Sparse(head, inside) => {
            let missing = missing(inside.as_ref());
            let sparse = Sparse::open(links.source.clone(), 0, missing, limits)?;
            let size = head.shape.size;
            let pieces = vec![Piece { start: 0, end: size, body: Body::Sparse(sparse) }];
            Vmdk::new(size, pieces, vec![links.source])
        }
    };
    Ok(Box::new(image))
}

/// What lies where an extent has nothing.
fn missing(text: Option<&Descriptor>) -> Place {
    if text.is_some_and(Descriptor::has_parent) { Place::Backing } else { Place::Hole }
}

/// An image whose extents lie in files of their own.
fn several(text: &Descriptor, links: &Links, limits: &Limits) -> Result<Vmdk> {
    if text.is_device() {
        let kind = text.kind.escape_debug();
        let what = format!("its disk is a device of some machine ({kind}), which is not followed");
        return Err(Error::refused(what));
    }
    let missing = missing(Some(text));
    let mut given = links.extents.iter();
    let (mut pieces, mut files, mut start) = (Vec::new(), Vec::<Arc<dyn Source>>::new(), 0);
    for line in &text.extents {
        let end = start + line.len;
        let body = if line.name.is_some() {
            let source = given.next().ok_or_else(|| {
                Error::refused("its disk lies in other files, which were not given")
            })?;
            // A file that several extents lie in counts once: what it holds is there once.
            let same = files.iter().position(|file| Arc::ptr_eq(file, source));
            let file = same.unwrap_or(files.len());
            if same.is_none() {
                files.push(source.clone());
            }
            body(line.kind, source, file, (line.offset, line.len), missing, limits)
                .map_err(|error| error.path(source.name()))?
        } else {
            Body::Zero
        };
        if start < end {
            pieces.push(Piece { start, end, body });
        }
        start = end;
    }
    Ok(Vmdk::new(text.size()?, pieces, files))
}

fn body(
    kind: Kind,
    source: &Arc<dyn Source>,
    file: usize,
    (offset, len): (u64, u64),
    missing: Place,
    limits: &Limits,
) -> Result<Body> {
    match kind {
        Kind::Flat | Kind::Device => {
            Span::new(offset, len)?.within(source.len(), "the extent")?;
            Ok(Body::Flat { file, offset })
        }
        Kind::Zero => Ok(Body::Zero),
        Kind::Sparse | Kind::OldSparse | Kind::SeSparse => {
            let sparse = Sparse::open(source.clone(), file, missing, limits)?;
            let size = sparse.shape.size;
            if size < len {
                let what = format!("an extent of {size} bytes, and the descriptor says {len}");
                return Err(Error::malformed(0, what));
            }
            Ok(Body::Sparse(sparse))
        }
    }
}

impl Vmdk {
    fn new(size: u64, pieces: Vec<Piece>, files: Vec<Arc<dyn Source>>) -> Vmdk {
        Vmdk { size, pieces, files, recent: Mutex::default() }
    }

    fn pages(&self, index: usize, sparse: &Sparse) -> Arc<Pages> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let found = match recent.iter().position(|(number, _)| *number == index) {
            Some(at) => recent.remove(at),
            None => (index, Arc::new(Pages::new(sparse.source.clone()))),
        };
        if recent.len() == RECENT {
            recent.remove(0);
        }
        recent.push(found.clone());
        found.1
    }
}

impl Image for Vmdk {
    fn disk_size(&self) -> u64 {
        self.size
    }

    fn extents(&self, start: u64, out: &mut Vec<Extent>) -> Result<()> {
        let index = self.pieces.partition_point(|piece| piece.end <= start);
        let Some(piece) = self.pieces.get(index) else { return Ok(()) };
        let (inside, len) = (start - piece.start, piece.end - start);
        let place = match &piece.body {
            Body::Sparse(sparse) => {
                let (pages, end) = (self.pages(index, sparse), piece.end - piece.start);
                return sparse.extents(&pages, piece.start, inside, end, out);
            }
            Body::Flat { file, offset } => Place::Data { file: *file, offset: offset + inside },
            Body::Zero => Place::Zero { offset: None },
        };
        out.push(Extent { start, len, place, depth: 0 });
        Ok(())
    }

    fn files(&self) -> &[Arc<dyn Source>] {
        &self.files
    }
}
