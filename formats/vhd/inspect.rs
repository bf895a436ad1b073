//! Footers and header → facts.

use super::footers::{self, Chosen};
use super::layout::{
    Blocks, DIFFERENCING, ENTRY, FIXED, FOOTER, Footer, Geometry, HEADER, HEADER_BYTES,
    HEADER_COOKIE, HEADER_SUM, Header, MAX_BLOCK, SECTOR, VERSION, checksum,
};
use super::parent;
use crate::base::error::{Error, Kind, Result};
use crate::base::limits::Limits;
use crate::base::model::facts::{Detail, Facts, Hazard, HazardKind, Value};
use crate::base::model::identity::uuid_text;
use crate::base::model::reference::{Reference, Role};
use crate::base::storage::{Span, Window};

/// Footer and header, understood.
pub(super) struct Head {
    pub(super) chosen: Chosen,
    /// Of a dynamic or differencing image.
    pub(super) dynamic: Option<Dynamic>,
    /// Bytes of the disk.
    pub(super) size: u64,
}

/// The header of a dynamic image, and what follows from it.
#[derive(Debug, Clone)]
pub(super) struct Dynamic {
    pub(super) at: u64,
    pub(super) header: Header,
    pub(super) blocks: Blocks,
    /// Whether the checksum is right.
    pub(super) sound: bool,
}

/// Reads footer and header. Everything in them that is used later is checked here.
pub(super) fn head(window: &dyn Window) -> Result<Head> {
    if let Some(front) = footers::front(window)?.filter(|front| front.sound) {
        // In a stream it has gone by when the end says which footer is to be believed.
        match dynamic(window, &front.footer) {
            Err(error) if error.kind() == Kind::Awaiting => return Err(error),
            Ok(Some(dynamic)) => parent::expect(window, &dynamic.header),
            Ok(None) | Err(_) => {}
        }
    }
    let head = understood(window, footers::copies(window)?.choose()?)?;
    if let Some(dynamic) = head.dynamic.as_ref().filter(|dynamic| !dynamic.sound) {
        return Err(Error::malformed(dynamic.at, "the checksum of the header is wrong"));
    }
    Ok(head)
}

/// What a footer leads to.
pub(super) fn understood(window: &dyn Window, chosen: Chosen) -> Result<Head> {
    let footer = &chosen.footer;
    let dynamic = dynamic(window, footer)?;
    let there = match &dynamic {
        None => chosen.end,
        Some(dynamic) => u64::from(dynamic.header.entries) * dynamic.blocks.size,
    };
    let size = footer.disk_size(there);
    if size > there && dynamic.is_some() {
        let what = format!("the BAT has room for {there} bytes, too few for {size}");
        return Err(Error::malformed(footer.header, what));
    }
    Ok(Head { chosen, dynamic, size })
}

/// The header to which this footer leads; `None` for a fixed disk.
fn dynamic(window: &dyn Window, footer: &Footer) -> Result<Option<Dynamic>> {
    if footer.kind == FIXED {
        return Ok(None);
    }
    let at = footer.header;
    let span = Span::new(at, HEADER)?;
    if at < FOOTER {
        return Err(Error::malformed(16, format!("the header lies at {at:#x}, over the footer")));
    }
    let bytes = window.array::<HEADER_BYTES>(at)?;
    let Some(header) = Header::parse(&bytes).filter(|_| bytes.starts_with(&HEADER_COOKIE)) else {
        return Err(Error::malformed(at, "there is no header where the footer leads"));
    };
    let sound = header.checksum == checksum(&bytes, HEADER_SUM);
    if header.version >> 16 != VERSION >> 16 {
        let what = format!("a header of version {:#x}", header.version);
        return Err(Error::unsupported(what).at(at));
    }
    let block = u64::from(header.block);
    if !block.is_power_of_two() || !(SECTOR..=MAX_BLOCK).contains(&block) {
        let what = format!("blocks of {block} bytes: not a power of two from 512 to 256 MiB");
        return Err(Error::malformed(at, what));
    }
    let bat = Span::new(header.bat, u64::from(header.entries) * ENTRY)?;
    let taken = bat.overlaps(span) || bat.overlaps(Span::new(0, FOOTER)?);
    if taken || !header.bat.is_multiple_of(SECTOR) {
        let bat = header.bat;
        let what = format!("the BAT lies at {bat:#x}, over other structures or inside a sector");
        return Err(Error::malformed(at, what));
    }
    let blocks = header.blocks();
    Ok(Some(Dynamic { at, header, blocks, sound }))
}

/// All that footer and header say.
pub(super) fn inspect(window: &dyn Window, limits: &Limits) -> Result<Facts> {
    let head = head(window)?;
    let variant = match head.chosen.footer.kind {
        FIXED => "fixed",
        DIFFERENCING => "differencing",
        _ => "dynamic",
    };
    let mut facts = Facts::new("vhd", variant, head.size);
    facts.unit = head.dynamic.as_ref().map(|dynamic| dynamic.blocks.size);
    facts.identity = Some(uuid_text(head.chosen.footer.uuid));
    if let Some(dynamic) = head.dynamic.as_ref()
        && head.chosen.footer.kind == DIFFERENCING
    {
        let name = parent::name(window, &dynamic.header, limits)?;
        let what = match name.is_empty() {
            true => "it has a parent, which it does not name".to_string(),
            false => format!("it refers to the {} '{name}'", Role::Backing.name()),
        };
        facts.hazards.push(Hazard { kind: HazardKind::Reference, what });
        let mut reference = Reference::new(Role::Backing, name);
        reference.format = Some("vhd".into());
        if dynamic.header.parent != [0; 16] {
            reference.expects.push(uuid_text(dynamic.header.parent));
        }
        facts.references.push(reference);
    }
    hazards(&head, &mut facts);
    details(&head, &mut facts);
    Ok(facts)
}

fn hazards(head: &Head, facts: &mut Facts) {
    let mut add = |kind, what: String| facts.hazards.push(Hazard { kind, what });
    for (_, what) in &head.chosen.wrong {
        add(HazardKind::Irregular, what.clone());
    }
    if head.chosen.ambiguous {
        let what = "it has footers of two disks, one at its end and one at its beginning";
        add(HazardKind::Ambiguous, what.into());
    }
    let footer = &head.chosen.footer;
    if footer.is_contradictory() {
        let (size, by_geometry) = (footer.current_size, footer.geometry.size());
        let what = format!("it says {size} bytes, and its geometry means {by_geometry}");
        add(HazardKind::Irregular, what);
    }
    if head.dynamic.is_none() && head.chosen.end > head.size {
        let end = head.chosen.end;
        add(HazardKind::Irregular, format!("a disk of {} bytes in a file of {end}", head.size));
    }
}

fn details(head: &Head, facts: &mut Facts) {
    let footer = &head.chosen.footer;
    let text = |bytes: &[u8]| Value::Text(String::from_utf8_lossy(bytes).trim_end().to_string());
    let mut add = |name, value: Value| facts.details.push(Detail { name, value });
    add("uuid", Value::Text(uuid_text(footer.uuid)));
    add("creator", text(&footer.creator));
    add("creator-system", text(&footer.creator_system));
    let Geometry { cylinders, heads, sectors } = footer.geometry;
    let number = |number: u16| Value::Number(number.into());
    let geometry = vec![
        ("cylinders", number(cylinders)),
        ("heads", number(heads.into())),
        ("sectors", number(sectors.into())),
    ];
    add("geometry", Value::Map(geometry));
    if let Some(dynamic) = head.dynamic.as_ref().filter(|_| footer.kind == DIFFERENCING) {
        add("parent-uuid", Value::Text(uuid_text(dynamic.header.parent)));
    }
    if footer.saved != 0 {
        add("saved-state", Value::Flag(true));
    }
}
