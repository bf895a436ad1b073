//! Headers → facts.

use super::layout::{
    DIFFERENCING, DYNAMIC, ENTRY, FIXED, FLAGS, FULL, Header, MAX_BLOCK, OLD, OLD_VERSION, PRELUDE,
    SECTOR, SHORT, SIGNATURE, SIGNATURE_AT, UNDO,
};
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::facts::{Detail, Facts, Hazard, HazardKind};
use crate::base::model::identity::uuid_text;
use crate::base::model::reference::{Reference, Role};
use crate::base::storage::Window;

/// The signature, behind the text.
pub(super) fn probe(window: &dyn Window) -> Result<bool> {
    window.starts_with(SIGNATURE_AT, &SIGNATURE)
}

/// Reads the header. Everything in it that is used later is checked here.
pub(super) fn head(window: &dyn Window) -> Result<Header> {
    let prelude = window.array::<PRELUDE>(0)?;
    if prelude[64..68] != SIGNATURE {
        return Err(Error::malformed(SIGNATURE_AT, "no vdi header"));
    }
    let version = u32::from_le_bytes([prelude[68], prelude[69], prelude[70], prelude[71]]);
    let broken = |_| Error::malformed(0, "no vdi header");
    let header = if version == OLD_VERSION {
        Header::parse_old(&window.array::<OLD>(0)?).map_err(broken)?
    } else if version >> 16 == 1 {
        let len = u32::from_le_bytes(window.array(PRELUDE as u64)?);
        if (len as usize) < SHORT - PRELUDE {
            let what = format!("a header of {len} bytes, 384 at least");
            return Err(Error::malformed(PRELUDE as u64, what));
        }
        let full = len as usize >= FULL - PRELUDE;
        let mut bytes = [0; FULL];
        window.read(0, &mut bytes[..if full { FULL } else { SHORT }])?;
        Header::parse(&bytes).map_err(broken)?
    } else {
        return Err(Error::unsupported(format!("version {version:#x} is not known")).at(68));
    };
    check_header(&header)?;
    Ok(header)
}

fn check_header(header: &Header) -> Result<()> {
    let fields = header.fields();
    let Header { kind, flags, block, extra, blocks, size, map, data, end, .. } = *header;
    match kind {
        DYNAMIC | FIXED | DIFFERENCING => {}
        UNDO => return Err(Error::unsupported("an undo image").at(fields.kind)),
        _ => return Err(Error::malformed(fields.kind, format!("an image of type {kind}"))),
    }
    if flags & !FLAGS != 0 {
        let what = format!("flags {flags:#x}, of which not all are known");
        return Err(Error::unsupported(what).at(fields.flags));
    }
    if !block.is_power_of_two() || !(u64::from(SECTOR)..=MAX_BLOCK).contains(&block) {
        let what = format!("blocks of {block} bytes: not a power of two from 512 to 64 MiB");
        return Err(Error::malformed(fields.block, what));
    }
    if extra > block {
        let what = format!("{extra} bytes in front of blocks of {block}");
        return Err(Error::malformed(fields.extra, what));
    }
    if blocks * block < size {
        let what = format!("{blocks} blocks of {block} bytes are too few for {size} bytes of disk");
        return Err(Error::malformed(fields.blocks, what));
    }
    if map < end || !map.is_multiple_of(ENTRY) {
        let what = format!("the map lies at {map:#x}, over the header or between two numbers");
        return Err(Error::malformed(fields.map, what));
    }
    if data < map + blocks * ENTRY {
        let what = format!("the blocks begin at {data:#x}, over the map");
        return Err(Error::malformed(fields.data, what));
    }
    Ok(())
}

/// All that the header says.
pub(super) fn inspect(window: &dyn Window, _: &Limits) -> Result<Facts> {
    let header = head(window)?;
    let variant = match header.kind {
        FIXED => "fixed",
        DIFFERENCING => "differencing",
        _ => "dynamic",
    };
    let mut facts = Facts::new("vdi", variant, header.size);
    facts.unit = Some(header.block);
    facts.identity = Some(identity(header.create, header.modify));
    if header.kind == DIFFERENCING {
        let mut parent = Reference::new(Role::Backing, "");
        parent.format = Some("vdi".into());
        if ![header.parent, header.parent_modify].contains(&[0; 16]) {
            parent.expects.push(identity(header.parent, header.parent_modify));
        }
        facts.references.push(parent);
    }
    hazards(&header, &mut facts);
    details(&header, &mut facts);
    Ok(facts)
}

/// What a child knows its parent by.
fn identity(create: [u8; 16], modify: [u8; 16]) -> String {
    format!("{}/{}", uuid_text(create), uuid_text(modify))
}

fn hazards(header: &Header, facts: &mut Facts) {
    let mut add = |kind, what: String| facts.hazards.push(Hazard { kind, what });
    if header.kind == DIFFERENCING {
        add(HazardKind::Reference, "it has a parent, which it does not name".into());
    }
    for (_, what) in irregularities(header) {
        add(HazardKind::Irregular, what);
    }
    // Nothing else in the file bears these two out: a wrong one is another disk.
    let Header { data, extra, .. } = *header;
    let whole = [data, extra].iter().all(|number| number.is_multiple_of(SECTOR.into()));
    if !header.old && !whole {
        let what = format!(
            "its blocks begin at {data:#x}, with {extra} bytes in front of each: inside a sector"
        );
        add(HazardKind::Irregular, what);
    }
}

/// What `VirtualBox` refuses and a reader need not mind: where it stands, and what it is.
pub(super) fn irregularities(header: &Header) -> Vec<(u64, String)> {
    let (fields, mut found) = (header.fields(), Vec::new());
    if header.create == [0; 16] {
        found.push((fields.create, "its UUID is null".into()));
    }
    if header.modify == [0; 16] {
        found.push((fields.modify, "the UUID of its last modification is null".into()));
    }
    if let Some(sector) = header.sector.filter(|sector| *sector != SECTOR) {
        found.push((fields.sector, format!("its geometry has sectors of {sector} bytes")));
    }
    let Header { allocated, blocks, .. } = *header;
    if allocated > blocks {
        let what = format!("it counts {allocated} blocks with room, and has {blocks}");
        found.push((fields.allocated, what));
    }
    found
}

fn details(header: &Header, facts: &mut Facts) {
    let mut add = |name, value: String| facts.details.push(Detail::new(name, value.as_str()));
    add("version", if header.old { "0.2" } else { "1.1" }.into());
    add("uuid", uuid_text(header.create));
    add("modify-uuid", uuid_text(header.modify));
    if header.kind == DIFFERENCING {
        add("parent-uuid", uuid_text(header.parent));
        add("parent-modify-uuid", uuid_text(header.parent_modify));
    }
    if !header.comment.is_empty() {
        add("comment", header.comment.clone());
    }
    facts.details.push(Detail::new("allocated-blocks", header.allocated));
}
