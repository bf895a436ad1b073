//! The files of a new image that lie beside its descriptor.

use std::sync::Arc;

use super::layout::SECTOR;
use super::options::Plan;
use crate::base::error::{Error, Result};
use crate::base::model::create::Create;
use crate::base::model::identity::Identity;
use crate::base::storage::{Put, Spread, Target};

/// Bytes of disk in one of several extents, a little below 2 GiB: what those who made the format
/// use.
const PIECE: u64 = 4_192_256 * SECTOR;
/// Files that a disk lies in at most: more are not opened again.
const MOST: u64 = 512;
/// What an extent is called whose file has no name that a descriptor can say.
const NAMELESS: &str = "disk.vmdk";

/// How a disk is cut into files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// Not at all.
    Whole,
    /// Into pieces whose names have this letter.
    Pieces(char),
}

impl Cut {
    /// Bytes of disk in every file but the last.
    pub(super) fn stride(self) -> u64 {
        match self {
            Cut::Whole => u64::MAX,
            Cut::Pieces(_) => PIECE,
        }
    }

    /// How many files there are; one, even for nothing.
    pub(super) fn count(self, size: u64) -> u64 {
        size.div_ceil(self.stride()).max(1)
    }

    fn name(self, stem: &str, number: u64) -> String {
        match self {
            Cut::Whole => format!("{stem}-flat.vmdk"),
            Cut::Pieces(letter) => format!("{stem}-{letter}{number:03}.vmdk"),
        }
    }
}

/// An extent of a new image.
pub(super) struct Part {
    pub(super) name: String,
    /// Bytes of disk.
    pub(super) len: u64,
    pub(super) target: Arc<dyn Target>,
}

/// All extents of a new image.
pub(super) struct Parts {
    /// The image's own file.
    own: Arc<dyn Target>,
    /// Bytes of disk in every part but the last.
    stride: u64,
    /// Whether the descriptor is a file of its own.
    pub(super) apart: bool,
    pub(super) list: Vec<Part>,
    /// The files of all of them.
    pub(super) all: Arc<dyn Target>,
}

impl Parts {
    /// Makes the files that there are to be beside `own`, or takes that.
    pub(super) fn new(own: Arc<dyn Target>, create: &Create, plan: &Plan) -> Result<Parts> {
        let (size, mut list) = (create.size, Vec::new());
        let Some(cut) = plan.kind.cut() else {
            let part = Part { name: own_name(&*own, create), len: size, target: own.clone() };
            let (stride, all, list) = (u64::MAX, own.clone(), vec![part]);
            return Ok(Parts { own, stride, apart: false, list, all });
        };
        let count = cut.count(size);
        if count > MOST {
            let what = format!("a disk of {size} bytes lies in {count} files");
            return Err(Error::invalid(format!("{what}, and {MOST} are the most")));
        }
        let Some(beside) = &create.beside else {
            return Err(Error::invalid(format!("{} wants files beside it", plan.kind.name())));
        };
        let name = beside.name();
        let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        let stem = if stem.is_empty() { name } else { stem };
        if !can_be_said(stem) {
            let shown = stem.escape_debug();
            return Err(Error::invalid(format!("a descriptor cannot say the name '{shown}'")));
        }
        forget(&*own)?;
        for number in 0..count {
            let name = cut.name(stem, number + 1);
            let len = (size - number * cut.stride()).min(cut.stride());
            list.push(Part { target: beside.make(&name)?, name, len });
        }
        let all = match cut {
            Cut::Whole => list[0].target.clone(),
            Cut::Pieces(_) => {
                let targets = list.iter().map(|part| part.target.clone()).collect();
                Arc::new(Spread::new(targets))
            }
        };
        Ok(Parts { own, stride: cut.stride(), apart: true, list, all })
    }

    /// Which part a stretch of disk begins in, where in it, and how much of it lies there.
    pub(super) fn find(&self, start: u64, len: u64) -> (usize, u64, u64) {
        let (index, inside) = (start / self.stride, start % self.stride);
        let len = len.min(self.stride - inside);
        (usize::try_from(index).expect("a few hundred at most"), inside, len)
    }

    /// Goes over a stretch of disk, part by part: which, where in it, how many bytes.
    pub(super) fn each(
        &self,
        start: u64,
        len: u64,
        mut take: impl FnMut(usize, u64, u64) -> Result<()>,
    ) -> Result<()> {
        let mut done = 0;
        while done < len {
            let (index, inside, step) = self.find(start + done, len - done);
            take(index, inside, step)?;
            done += step;
        }
        Ok(())
    }

    /// Where an offset in a part is in the target of all of them.
    pub(super) fn offset(&self, part: usize, offset: u64) -> u64 {
        if self.stride == u64::MAX { offset } else { Spread::offset(part, offset) }
    }

    /// The text of the descriptor.
    pub(super) fn describe(&self, plan: &Plan, identity: &Identity) -> String {
        let line = |part: &Part| plan.line(part.len, &part.name);
        plan.describe(identity, self.list.iter().map(line).collect())
    }

    /// Returns when all parts are in storage.
    pub(super) fn settle(&self) -> Result<()> {
        self.list.iter().try_for_each(|part| part.target.settle())
    }

    /// Writes the descriptor into a file of its own: with it the image is there.
    pub(super) fn finish(&self, text: &str) -> Result<()> {
        let fail = |error| Error::io("cannot finish", error);
        let mut bytes = text.as_bytes().to_vec();
        if let Some(room) = self.own.fixed_len() {
            // What a device holds behind it is no text.
            let padded = (bytes.len() as u64 + 1).next_multiple_of(SECTOR);
            if padded > room {
                let what = format!("the device has {room} bytes, and the descriptor {padded}");
                return Err(Error::invalid(what));
            }
            bytes.resize(usize::try_from(padded).map_err(|_| Error::limit("the text"))?, 0);
        }
        self.own.put(1, &bytes[1..])?;
        self.own.set_len(bytes.len() as u64).map_err(fail)?;
        self.own.settle()?;
        // By itself, for a text torn in the middle could pass for a shorter disk.
        self.own.put(0, &bytes[..1])?;
        self.own.settle()
    }
}

/// What stood at the front of a file must not vouch for what is written from now on.
pub(super) fn forget(target: &dyn Target) -> Result<()> {
    if target.is_fresh() { Ok(()) } else { target.put(0, &[0; 512]) }
}

/// What an extent inside of the image's own file is called.
pub(super) fn own_name(own: &dyn Target, create: &Create) -> String {
    let name = create.beside.as_ref().map(|beside| beside.name());
    let name = name.filter(|name| !own.appends_only() && can_be_said(name));
    name.unwrap_or(NAMELESS).into()
}

/// Whether a name can stand between quotes in a line, and fits a descriptor.
fn can_be_said(name: &str) -> bool {
    let fits = !name.is_empty() && name.len() <= 1024;
    fits && !name.contains(|c: char| c == '"' || c.is_control())
}
