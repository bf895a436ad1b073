//! Headers, regions, log and metadata → facts.

use super::layout::{
    CREATOR, CREATOR_LEN, HEADER_LEN, HEADERS, Header, MAGIC, MAX_ROWS, MIB, REGION_BAT,
    REGION_METADATA, REGION_TABLES, Region, RegionHead, TABLE_LEN, guid_text, is_sound, parse,
    utf16,
};
use super::log::{self, Log, Replayed};
use super::metadata::{self, Metadata};
use crate::base::error::{Error, Kind, Result};
use crate::base::limits::Limits;
use crate::base::model::facts::{Detail, Facts, Hazard, HazardKind, Value};
use crate::base::model::reference::{Reference, Role};
use crate::base::storage::{Span, Window};

/// Metadata that pass before the log does are kept up to this size.
const AHEAD: u64 = MIB;

/// Eight bytes decide.
pub(super) fn probe(window: &dyn Window) -> Result<bool> {
    window.starts_with(0, &MAGIC)
}

/// All that leads to the disk.
pub(super) struct Head {
    pub(super) header: Header,
    pub(super) regions: Regions,
    pub(super) metadata: Metadata,
    /// Changes that are still to be made.
    pub(super) log: Option<Log>,
}

/// Where things are.
#[derive(Debug, Clone)]
pub(super) struct Regions {
    /// As the table has them.
    pub(super) rows: Vec<Region>,
    pub(super) bat: Span,
    pub(super) metadata: Span,
}

/// Reads everything but the BAT. A log that is to be replayed counts as if it had been.
pub(super) fn head(window: &dyn Window, limits: &Limits) -> Result<Head> {
    if !probe(window)? {
        return Err(Error::malformed(0, "it does not begin with 'vhdxfile'"));
    }
    let (header, _) = header(window)?;
    if header.version != 1 {
        let what = format!("version {}; versions known: 1", header.version);
        return Err(Error::unsupported(what).at(HEADERS[0] + 66));
    }
    if header.log != [0; 16] {
        match regions(window) {
            // In a stream they may pass before the log does.
            Ok(regions) => {
                window.expect(regions.metadata.start(), regions.metadata.len().min(AHEAD));
            }
            Err(error) if error.kind() == Kind::Awaiting => return Err(error),
            // The log may mend them.
            Err(_) => {}
        }
    }
    let log = Log::read(window, &header, limits)?;
    let replayed = Replayed { window, log: log.as_ref() };
    let regions = regions(&replayed)?;
    if log.is_some() {
        let place = log::place(&header)?;
        if [regions.bat, regions.metadata].iter().any(|region| region.overlaps(place)) {
            return Err(Error::malformed(place.start(), "the log lies over another region"));
        }
    }
    let metadata = metadata::read(&replayed, regions.metadata, limits)?;
    let (need, there) = (metadata.geometry.entries() * 8, regions.bat.len());
    if need > there {
        let what = format!("the BAT has {there} bytes, too few for the disk: {need}");
        return Err(Error::malformed(regions.bat.start(), what));
    }
    Ok(Head { header, regions, metadata, log })
}

/// The header that stands here; `None` if it is not sound.
pub(super) fn one_header(window: &dyn Window, at: u64) -> Result<Option<Header>> {
    let bytes = window.array::<HEADER_LEN>(at)?;
    Ok(parse(&bytes).filter(|_| is_sound(&bytes)))
}

/// The header in use, and which of the two it is: of the sound ones that with the higher number.
/// Some programs write both with one number, which is fine as long as they are the same.
pub(super) fn header(window: &dyn Window) -> Result<(Header, usize)> {
    let [one, two] = HEADERS.map(|at| one_header(window, at));
    match (one?, two?) {
        (None, None) => Err(Error::malformed(HEADERS[0], "neither header is sound")),
        (Some(one), Some(two)) if one.sequence == two.sequence && one != two => {
            let what = format!("both headers have the number {}, and they differ", one.sequence);
            Err(Error::malformed(HEADERS[0], what))
        }
        (Some(one), Some(two)) if two.sequence < one.sequence => Ok((one, 0)),
        (Some(one), None) => Ok((one, 0)),
        (_, Some(two)) => Ok((two, 1)),
    }
}

/// What one of the two tables of regions says.
pub(super) fn region_table(window: &dyn Window, at: u64) -> Result<Vec<Region>> {
    let bytes = window.array::<TABLE_LEN>(at)?;
    let Some(head) = parse::<RegionHead>(&bytes).filter(|_| is_sound(&bytes)) else {
        return Err(Error::malformed(at, "the table of regions is not sound"));
    };
    let count = usize::try_from(head.count).unwrap_or(usize::MAX);
    if count > MAX_ROWS {
        return Err(Error::malformed(at, format!("{count} regions, {MAX_ROWS} at most")));
    }
    let rows = bytes[16..].chunks_exact(32).take(count);
    Ok(rows.map(|row| parse(row).expect("any bytes are a row")).collect())
}

/// Where things are, by the first table that is sound.
pub(super) fn regions(window: &dyn Window) -> Result<Regions> {
    let at = REGION_TABLES[0];
    let rows = match region_table(window, at) {
        Err(error) if error.kind() != Kind::Awaiting => {
            let other = region_table(window, REGION_TABLES[1]);
            // In a stream the other one may yet come.
            let waits = |other: &Error| other.kind() == Kind::Awaiting;
            other.map_err(|other| if waits(&other) { other } else { error })?
        }
        rows => rows?,
    };
    let mut spans: Vec<Span> = Vec::new();
    let (mut bat, mut metadata) = (None, None);
    for row in &rows {
        let (offset, length) = (row.offset, u64::from(row.length));
        let name = guid_text(row.guid);
        if offset < MIB || offset % MIB != 0 || length == 0 || length % MIB != 0 {
            let what = format!("the region {name} has {length} bytes at {offset:#x}");
            return Err(Error::malformed(at, what));
        }
        let span = Span::new(offset, length)?;
        if let Some(other) = spans.iter().find(|other| other.overlaps(span)) {
            let other = other.start();
            let what = format!("the region {name} at {offset:#x} lies over that at {other:#x}");
            return Err(Error::malformed(at, what));
        }
        spans.push(span);
        let twice = match row.guid {
            REGION_BAT => bat.replace(span).is_some(),
            REGION_METADATA => metadata.replace(span).is_some(),
            _ if row.required & 1 != 0 => {
                let what = format!("it requires the region {name}, unknown here");
                return Err(Error::unsupported(what).at(at));
            }
            _ => false,
        };
        if twice {
            return Err(Error::malformed(at, format!("the region {name} is there twice")));
        }
    }
    let missing = |what: &str| Error::malformed(at, format!("there is no {what} region"));
    let bat = bat.ok_or_else(|| missing("BAT"))?;
    let metadata = metadata.ok_or_else(|| missing("metadata"))?;
    Ok(Regions { rows, bat, metadata })
}

/// The name of the program that made the file.
fn creator(window: &dyn Window) -> Result<String> {
    Ok(utf16(&window.array::<CREATOR_LEN>(CREATOR)?))
}

/// All that the headers, the log and the metadata say.
pub(super) fn inspect(window: &dyn Window, limits: &Limits) -> Result<Facts> {
    let head = head(window, limits)?;
    let Metadata { geometry, fixed, physical, page_83, .. } = &head.metadata;
    let variant = match (geometry.parent, fixed) {
        (true, _) => "differencing",
        (false, true) => "fixed",
        (false, false) => "dynamic",
    };
    let mut facts = Facts::new("vhdx", variant, geometry.size);
    facts.unit = Some(geometry.block);
    facts.identity = Some(guid_text(head.header.data_write));
    facts.dirty = head.log.is_some();
    if geometry.parent {
        let name = head.metadata.parent_name();
        let what = format!("it refers to the {} '{name}'", Role::Backing.name());
        facts.hazards.push(Hazard { kind: HazardKind::Reference, what });
        facts.references.push(Reference {
            format: Some("vhdx".into()),
            expects: head.metadata.parent_identities(),
            ..Reference::new(Role::Backing, name)
        });
    }
    let mut add = |name, value: Value| facts.details.push(Detail { name, value });
    add("creator", Value::Text(creator(window)?));
    add("block-size", Value::Bytes(geometry.block));
    add("logical-sector-size", Value::Bytes(geometry.sector));
    if let Some(size) = physical {
        add("physical-sector-size", Value::Bytes(*size));
    }
    if let Some(guid) = page_83 {
        add("page-83-id", Value::Text(guid_text(*guid)));
    }
    add("data-write-guid", Value::Text(guid_text(head.header.data_write)));
    add("log-pending", head.log.is_some().into());
    Ok(facts)
}
