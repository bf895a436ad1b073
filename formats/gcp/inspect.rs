//! The first member is the disk.

use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::entry::{Entry, EntryKind};
use crate::base::model::facts::{Facts, Hazard, HazardKind};
use crate::base::storage::Window;
use crate::base::tar::{self, Archive, Links, Member};

/// What the member is called.
pub(super) const NAME: &str = "disk.raw";

/// Whether the first member is called as it must be.
pub(super) fn probe(window: &dyn Window) -> Result<bool> {
    if !tar::probe(window)? {
        return Ok(false);
    }
    match Archive::new(window, Links::Refused, &Limits::default()).next() {
        Some(Ok(member)) => Ok(is_disk(&member)),
        Some(Err(error)) if error.need().is_some() => Err(error),
        Some(Err(_)) | None => Ok(false),
    }
}

fn is_disk(member: &Member) -> bool {
    member.path == NAME && member.kind == EntryKind::File
}

/// The disk: the first member. What may lie behind it is not looked at.
pub(super) fn disk(window: &dyn Window, limits: &Limits) -> Result<Member> {
    let member = Archive::new(window, Links::Refused, limits).next().transpose()?;
    member.filter(is_disk).ok_or_else(|| {
        Error::malformed(0, format!("the first member of the archive is not called {NAME}"))
    })
}

pub(super) fn entries(
    window: &dyn Window,
    limits: &Limits,
    visit: &mut dyn FnMut(Entry) -> Result<()>,
) -> Result<()> {
    for member in Archive::new(window, Links::Refused, limits) {
        visit(member?.into())?;
    }
    Ok(())
}

pub(super) fn inspect(window: &dyn Window, limits: &Limits) -> Result<Facts> {
    let mut facts = Facts::new("gcp", "gcp", disk(window, limits)?.size);
    if let Some(other) = Archive::new(window, Links::Refused, limits).nth(1) {
        let other = other?.path;
        let what = format!("'{}' lies behind {NAME}, which should be alone", other.escape_debug());
        facts.hazards.push(Hazard { kind: HazardKind::Irregular, what });
    }
    Ok(facts)
}
