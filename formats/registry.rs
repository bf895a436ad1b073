//! Every format, one line each.

use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::format::Format;
use crate::base::model::machine::{Machine, MachineDisk};
use crate::base::storage::Window;

#[path = "docker/mod.rs"]
mod docker;
#[path = "gcp/mod.rs"]
mod gcp;
#[path = "iso/mod.rs"]
mod iso;
#[path = "luks/mod.rs"]
mod luks;
#[path = "ova/mod.rs"]
mod ova;
#[path = "ploop/mod.rs"]
mod ploop;
#[path = "qcow1/mod.rs"]
mod qcow1;
#[path = "qcow2/mod.rs"]
mod qcow2;
#[path = "qed/mod.rs"]
mod qed;
#[path = "raw/mod.rs"]
mod raw;
#[path = "vdi/mod.rs"]
mod vdi;
#[path = "vhd/mod.rs"]
mod vhd;
#[path = "vhdx/mod.rs"]
mod vhdx;
#[path = "vmdk/mod.rs"]
mod vmdk;

pub use iso::IsoAuthor;

/// Every format; the one that matches any bytes stands last.
pub static FORMATS: &[&Format] = &[
    #[cfg(feature = "broken")]
    &crate::broken::FORMAT,
    &qcow2::FORMAT,
    &vmdk::FORMAT,
    &vhd::FORMAT,
    &vhdx::FORMAT,
    &vdi::FORMAT,
    &ploop::FORMAT,
    &qcow1::FORMAT,
    &qed::FORMAT,
    &luks::FORMAT,
    &iso::FORMAT,
    &docker::FORMAT,
    &gcp::FORMAT,
    &ova::FORMAT,
    &ova::DESCRIPTOR,
    &raw::FORMAT,
];

/// The format of this name. `Invalid`, with the names there are, if there is none.
pub fn format(name: &str) -> Result<&'static Format> {
    let found = FORMATS.iter().find(|format| format.name == name || format.aliases.contains(&name));
    found.copied().ok_or_else(|| {
        let names: Vec<_> = FORMATS.iter().map(|format| format.name).collect();
        Error::invalid(format!("there is no format '{name}'; formats: {}", names.join(", ")))
    })
}

/// The text that describes a machine and its disks: what an archive of it begins with.
pub fn describe(machine: &Machine, disks: &[MachineDisk]) -> Result<Vec<u8>> {
    ova::describe(machine, disks)
}

/// The machine that an archive holds: the first one, as far as its descriptor speaks of it.
pub fn machine(window: &dyn Window, limits: &Limits) -> Result<Option<Machine>> {
    ova::machine(window, limits)
}
