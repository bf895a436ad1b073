//! Headers, or the text of a bundle → facts.

use super::descriptor::{self, Bundle};
use super::ext;
use super::layout::{
    Geometry, HEADER, Header, IN_USE, LENGTH, MAX_ENTRIES, MAX_TRACKS, NEW_MAGIC, OLD_MAGIC,
    VERSION,
};
use crate::base::error::{Error, Kind, Result};
use crate::base::limits::Limits;
use crate::base::model::facts::{Detail, Facts, Hazard, HazardKind, Value};
use crate::base::model::reference::{Reference, Role};
use crate::base::storage::Window;

/// One of the magics, or a bundle's text.
pub(super) fn probe(window: &dyn Window) -> Result<bool> {
    Ok(is_image(window)? || descriptor::is_one(window)?)
}

pub(super) fn is_image(window: &dyn Window) -> Result<bool> {
    Ok(window.starts_with(0, &OLD_MAGIC)? || window.starts_with(0, &NEW_MAGIC)?)
}

/// The header of an image, understood.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) header: Header,
    pub(super) geometry: Geometry,
}

impl Head {
    /// Whether whoever wrote last did not come to an end: its table may be stale.
    pub(super) fn is_dirty(&self) -> bool {
        self.header.in_use == IN_USE
    }
}

/// A rule of the header: broken if `wrong`, at this offset.
fn rule(wrong: bool, at: u64, what: impl FnOnce() -> String) -> Result<()> {
    if wrong { Err(Error::malformed(at, what())) } else { Ok(()) }
}

/// Reads the header. Everything in it that is used later is checked here.
pub(super) fn head(window: &dyn Window) -> Result<Head> {
    let bytes = window.array::<HEADER>(0)?;
    let header = Header::parse(&bytes).map_err(|_| Error::malformed(0, "no ploop header"))?;
    let Header { magic, version, tracks, entries, sectors, data, .. } = header;
    rule(magic != OLD_MAGIC && magic != NEW_MAGIC, 0, || "no ploop header".into())?;
    if version != VERSION {
        return Err(Error::unsupported(format!("version {version} is not {VERSION}")).at(16));
    }
    rule(tracks == 0, 28, || "clusters of no sector".into())?;
    if tracks > MAX_TRACKS {
        let what = format!("clusters of {tracks} sectors, {MAX_TRACKS} at most");
        return Err(Error::limit(what).at(28));
    }
    if entries > MAX_ENTRIES {
        let what = format!("a table of {entries} entries, {MAX_ENTRIES} at most");
        return Err(Error::limit(what).at(32));
    }
    let geometry = header.geometry().ok_or_else(|| {
        Error::malformed(36, format!("a disk of {sectors} sectors, past 2^64 bytes"))
    })?;
    rule(geometry.needed() > geometry.entries, 32, || {
        format!("the table has {entries} entries, too few for {} bytes", geometry.size)
    })?;
    rule(geometry.data < geometry.table_end(), 48, || {
        format!("clusters begin at sector {data}, over the table")
    })?;
    Ok(Head { header, geometry })
}

/// All that the header or the text says.
pub(super) fn inspect(window: &dyn Window, limits: &Limits) -> Result<Facts> {
    if !is_image(window)? {
        return Ok(bundle(&descriptor::read(window, limits)?));
    }
    let head = head(window)?;
    let variant = if head.header.is_old() { "old" } else { "new" };
    let mut facts = Facts::new("ploop", variant, head.geometry.size);
    facts.unit = Some(head.geometry.cluster);
    facts.dirty = head.is_dirty();
    let mut odd = |what: String| {
        facts.hazards.push(Hazard { kind: HazardKind::Irregular, what });
    };
    let sectors = head.header.sectors;
    if head.header.is_old() && sectors >> 32 != 0 {
        odd(format!("it has {sectors:#x} sectors, of which its magic counts the lower half"));
    }
    if lacks_table(window)? {
        odd("it ends with its header: it has no table, and no data".into());
    }
    if head.header.ext != 0 {
        match ext::read(window, head.header.ext, head.geometry, limits) {
            Ok(extension) => {
                for (magic, flags) in &extension.unknown {
                    let flags = ext::flags_text(*flags);
                    odd(format!("it has a feature {magic:#x}, not known here and {flags}"));
                }
                let list = extension.bitmaps.iter().map(ext::Bitmap::value).collect();
                facts.details.push(Detail::new("bitmaps", Value::List(list)));
            }
            Err(error) => match error.kind() {
                Kind::Malformed | Kind::Truncated | Kind::Unsupported | Kind::Limit => {
                    odd(format!("its format extension cannot be used: {error}"));
                }
                Kind::Refused | Kind::Invalid | Kind::Io | Kind::Cancelled | Kind::Awaiting => {
                    return Err(error);
                }
            },
        }
    }
    Ok(facts)
}

/// Whether the file ends behind its header, as new ones of some programs do: all of it is zeros.
/// A table that is there in part is another thing: such a file was cut short.
pub(super) fn lacks_table(window: &dyn Window) -> Result<bool> {
    match window.array::<1>(LENGTH) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == Kind::Truncated => Ok(true),
        Err(error) => Err(error),
    }
}

fn bundle(bundle: &Bundle) -> Facts {
    let mut facts = Facts::new("ploop", "bundle", bundle.size);
    facts.unit = bundle.storages.first().and_then(|storage| storage.cluster);
    facts.encrypted = bundle.encrypted;
    for image in bundle.storages.iter().flat_map(|storage| &storage.images) {
        let name = &image.file;
        let what = format!("it refers to the {} '{name}'", Role::Extent.name());
        facts.hazards.push(Hazard { kind: HazardKind::Reference, what });
        let format = Some(if image.plain { "raw" } else { "ploop" }.to_string());
        facts.references.push(Reference { format, ..Reference::new(Role::Extent, name.as_str()) });
    }
    if facts.encrypted {
        let what = "its content is encrypted".into();
        facts.hazards.push(Hazard { kind: HazardKind::Encrypted, what });
    }
    facts.snapshots = bundle.snapshots();
    facts.details.push(Detail::new("guid", bundle.chain[0].as_str()));
    facts
}
