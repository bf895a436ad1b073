//! What services and clouds want to know of a disk image, and what they take.

mod gate;
mod names;
mod targets;

pub use gate::{Gate, Verdict};
pub use names::{CONTAINER_FORMATS, DISK_FORMATS, container_format, disk_format, min_disk};
pub use targets::{Judgement, Recipe, Remark, Subject, TARGETS, Target, Weight, target};
