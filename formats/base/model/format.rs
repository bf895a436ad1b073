//! The sign on the door.

use std::sync::Arc;

use super::create::{Create, OptionHelp, Options};
use super::entry::Entry;
use super::facts::Facts;
use super::finding::{Finding, Repair, Tally};
use super::image::Image;
use super::writer::{Measure, Writer};
use crate::base::error::Result;
use crate::base::limits::Limits;
use crate::base::storage::{Source, Storage, Target, Window};

/// What an image is opened with: what the policy gave, never the policy.
#[derive(Clone)]
pub struct Links {
    /// The image itself.
    pub source: Arc<dyn Source>,
    /// The file with the bytes of the disk, if the image names one.
    pub data_file: Option<Arc<dyn Source>>,
    /// The files that its disk is made of: one for every reference of that role, in their order.
    pub extents: Vec<Arc<dyn Source>>,
    /// Which of its snapshots to read, by name or identifier, instead of the current state.
    pub snapshot: Option<String>,
}

impl Links {
    /// An image with nothing beside it.
    pub fn alone(source: Arc<dyn Source>) -> Links {
        Links { source, data_file: None, extents: Vec::new(), snapshot: None }
    }
}

/// Goes over a disk to be written: units in order of the disk, with whether they hold data.
pub type Usage<'a> = dyn FnMut(&mut dyn FnMut(u64, u64)) -> Result<()> + 'a;

/// Goes over the files inside a container, folders before what is in them.
pub type EntriesFn = fn(&dyn Window, &Limits, &mut dyn FnMut(Entry) -> Result<()>) -> Result<()>;
/// Opens the disk of an image.
pub type OpenFn = fn(Links, &Limits) -> Result<Box<dyn Image>>;
/// Opens the disk of an image that goes by.
pub type ForwardFn = fn(Arc<dyn Source>, &Limits) -> Result<Option<Box<dyn Image>>>;
/// Makes a [`Writer`] for a new image.
pub type CreateFn = fn(Arc<dyn Target>, &Create) -> Result<Box<dyn Writer>>;
/// Tells how an image like this one is made.
pub type LikenessFn = fn(&dyn Window, &Limits) -> Result<Create>;
/// Tells how much room a new image takes. The last argument hands over the stretches of data.
pub type MeasureFn = fn(&Create, &mut Usage) -> Result<Measure>;
/// Looks for damage.
pub type CheckFn = fn(Links, &Limits, &mut dyn FnMut(Finding)) -> Result<Tally>;
/// Looks for damage and mends it.
pub type RepairFn = fn(Arc<dyn Storage>, Repair, &Limits, &mut dyn FnMut(Finding)) -> Result<Tally>;
/// Makes the disk of an image larger or smaller, in place. What lies behind a new, smaller size is
/// lost; whoever calls has made sure that it may be.
pub type ResizeFn = fn(Arc<dyn Storage>, u64, &Limits) -> Result<()>;

/// A format, as a sign on a door. What is `None` it cannot do.
pub struct Format {
    /// What `-f` takes and `info` prints.
    pub name: &'static str,
    /// Other names that `-f` takes.
    pub aliases: &'static [&'static str],
    /// One line about it.
    pub about: &'static str,
    /// Endings of file names, without the dot.
    pub extensions: &'static [&'static str],
    /// Whether this is such an image: a few bytes decide.
    pub probe: fn(&dyn Window) -> Result<bool>,
    /// What its headers say.
    pub inspect: fn(&dyn Window, &Limits) -> Result<Facts>,
    /// Whether it holds disks in images of their own, which `inspect` finds.
    pub holds_disks: bool,
    /// The files inside, if it is a container of files.
    pub entries: Option<EntriesFn>,
    /// Its own disk.
    pub open: Option<OpenFn>,
    /// Its disk, from a source that is read from its front to its end only: extents are asked for
    /// in the order of the disk, each once. `None` from it: not this image.
    pub forward: Option<ForwardFn>,
    /// The size of the disk that a new image gets: as asked, or as little more as the format forces
    /// with these settings.
    pub padded: fn(u64, &Options) -> Result<u64>,
    /// A new image.
    pub create: Option<CreateFn>,
    /// Whether a new one is an archive of several disks and of the machine that they are for.
    pub packs_machines: bool,
    /// Whether a new image with these settings is written from its front to its end only, so that
    /// a pipe can take it.
    pub appends: Option<fn(&Options) -> bool>,
    /// Whether a new image with these settings has other files beside it.
    pub spreads: Option<fn(&Options) -> bool>,
    /// The settings of an image, to make another one like it. `Refused` if it holds something
    /// that another one would not: snapshots, bitmaps.
    pub likeness: Option<LikenessFn>,
    /// The room that a new image takes.
    pub measure: Option<MeasureFn>,
    /// What is wrong with it.
    pub check: Option<CheckFn>,
    /// What is wrong with it, mended.
    pub repair: Option<RepairFn>,
    /// Another size for its disk.
    pub resize: Option<ResizeFn>,
    /// Its settings, documented once.
    pub options: &'static [OptionHelp],
}

impl Format {
    /// A format that is recognised and described, and cannot do anything else yet.
    pub(crate) const fn known_by(
        name: &'static str,
        about: &'static str,
        probe: fn(&dyn Window) -> Result<bool>,
        inspect: fn(&dyn Window, &Limits) -> Result<Facts>,
    ) -> Format {
        Format {
            name,
            aliases: &[],
            about,
            extensions: &[],
            probe,
            inspect,
            holds_disks: false,
            entries: None,
            open: None,
            forward: None,
            padded: |size, _| Ok(size),
            create: None,
            packs_machines: false,
            appends: None,
            spreads: None,
            likeness: None,
            measure: None,
            check: None,
            repair: None,
            resize: None,
            options: &[],
        }
    }
}

impl std::fmt::Debug for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}
