//! Headers → facts.

use super::bitmap;
use super::encryption::{self, Encryption};
use super::layout::{
    BITMAPS, COMPRESSION_TYPE, CORRUPT, DATA_FILE, DATA_FILE_RAW, DIRTY, EXTENDED_L2,
    EXTENSION_BACKING_FORMAT, EXTENSION_BITMAPS, EXTENSION_DATA_FILE, EXTENSION_END,
    EXTENSION_FEATURE_NAMES, Extension, FULL_LENGTH, Geometry, Header, LAZY_REFCOUNTS, MAGIC,
    MAX_BACKING_NAME, MAX_L1, MAX_REFCOUNT_TABLE, MAX_SNAPSHOTS, V2_LENGTH, V3_LENGTH,
};
use super::snapshot;
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::facts::{Detail, Facts, Hazard, HazardKind, Value};
use crate::base::model::reference::{Reference, Role};
use crate::base::storage::{Span, Window};

/// Bytes of a LUKS header that are asked for ahead of time: key material is not looked at.
const MAX_EXPECTED: u64 = 64 << 10;

/// The magic, and a version that is not 1: that is another format.
pub(super) fn probe(window: &dyn Window) -> Result<bool> {
    Ok(window.starts_with(0, &MAGIC)? && !window.starts_with(4, &[0, 0, 0, 1])?)
}

/// The first cluster, understood.
pub(super) struct Head {
    pub(super) header: Header,
    pub(super) geometry: Geometry,
    pub(super) backing: Option<String>,
    pub(super) backing_format: Option<String>,
    pub(super) data_file: Option<String>,
    pub(super) bitmaps: Option<bitmap::Directory>,
    pub(super) extensions: Vec<Extension>,
}

/// Reads the first cluster. Everything in it that is used later is checked here.
pub(super) fn head(window: &dyn Window) -> Result<Head> {
    let header = header(window)?;
    let geometry = header.geometry();
    let mut head = Head {
        geometry,
        backing: None,
        backing_format: None,
        data_file: None,
        bitmaps: None,
        extensions: extensions(window, &header)?,
        header,
    };
    refuse_unknown_features(window, &head)?;
    check_header(&head.header)?;
    for extension in head.extensions.clone() {
        let text = || text(window, extension.at, extension.len, 4096);
        match extension.kind {
            EXTENSION_BACKING_FORMAT => head.backing_format = Some(text()?),
            EXTENSION_DATA_FILE => head.data_file = Some(text()?),
            EXTENSION_BITMAPS => head.bitmaps = Some(bitmap::directory(window, extension)?),
            _ => {}
        }
    }
    let Header { backing_offset, backing_len, .. } = head.header;
    if backing_offset != 0 {
        if backing_len > MAX_BACKING_NAME {
            let what = format!(
                "the backing file's name has {backing_len} bytes, {MAX_BACKING_NAME} at most"
            );
            return Err(Error::malformed(16, what));
        }
        let end = backing_offset.saturating_add(u64::from(backing_len));
        if end > geometry.cluster() {
            let what = format!(
                "the backing file's name lies at {backing_offset}, outside the first cluster"
            );
            return Err(Error::malformed(8, what));
        }
        head.backing = Some(text(window, backing_offset, backing_len, MAX_BACKING_NAME)?);
    }
    if geometry.data_file && head.data_file.is_none() {
        return Err(Error::malformed(72, "its bytes are in a data file that it does not name"));
    }
    Ok(head)
}

fn text(window: &dyn Window, at: u64, len: u32, most: u32) -> Result<String> {
    if len > most {
        return Err(Error::malformed(at, format!("a name has {len} bytes, {most} at most")));
    }
    let bytes = window.bytes(Span::new(at, u64::from(len))?, "a name", &Limits::default())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn header(window: &dyn Window) -> Result<Header> {
    let mut bytes = [0; FULL_LENGTH as usize];
    window.read(0, &mut bytes[..V2_LENGTH as usize])?;
    let version = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
    if version == 3 {
        window.read(0, &mut bytes[..V3_LENGTH as usize])?;
        if bytes[100..104] > V3_LENGTH.to_be_bytes()[..] {
            window.read(0, &mut bytes)?;
        }
    } else if version != 2 {
        return Err(Error::unsupported(format!("version {version} is neither 2 nor 3")).at(4));
    }
    let header = Header::parse(&bytes).map_err(|_| Error::malformed(0, "no qcow2 header"))?;
    let Header { cluster_bits, header_length, .. } = header;
    if !(9..=21).contains(&cluster_bits) {
        return Err(Error::malformed(20, format!("cluster_bits {cluster_bits} is not 9 to 21")));
    }
    let most = 1_u32 << cluster_bits;
    if version == 3 && (header_length < V3_LENGTH || header_length > most || header_length % 8 != 0)
    {
        let what =
            format!("header_length {header_length} is not a multiple of 8 from 104 to {most}");
        return Err(Error::malformed(100, what));
    }
    Ok(header)
}

/// The list of header extensions: from the end of the header to the backing file's name or the
/// end of the cluster.
fn extensions(window: &dyn Window, header: &Header) -> Result<Vec<Extension>> {
    let cluster = 1_u64 << header.cluster_bits;
    let end = match header.backing_offset {
        0 => cluster,
        offset => offset.min(cluster),
    };
    let mut found: Vec<Extension> = Vec::new();
    let mut at = u64::from(header.header_length);
    while at + 8 <= end {
        let kind = u32::from_be_bytes(window.array(at)?);
        let len = u32::from_be_bytes(window.array(at + 4)?);
        if kind == EXTENSION_END {
            break;
        }
        if u64::from(len) > end - (at + 8) {
            let what = format!("header extension {kind:#010x} has {len} bytes, past its room");
            return Err(Error::malformed(at + 4, what));
        }
        if found.iter().any(|other| other.kind == kind) {
            let what = format!("header extension {kind:#010x} stands there twice");
            return Err(Error::malformed(at, what));
        }
        found.push(Extension { kind, at: at + 8, len });
        at += 8 + u64::from(len).next_multiple_of(8);
    }
    Ok(found)
}

fn refuse_unknown_features(window: &dyn Window, head: &Head) -> Result<()> {
    let known = DIRTY | CORRUPT | DATA_FILE | COMPRESSION_TYPE | EXTENDED_L2;
    let unknown = head.header.incompatible & !known;
    if unknown == 0 {
        return Ok(());
    }
    let names = feature_names(window, head)?;
    let name = |bit: u32| {
        let named = names.iter().find(|(kind, number, _)| *kind == 0 && u32::from(*number) == bit);
        named.map_or(format!("bit {bit}"), |(_, _, name)| format!("'{}'", name.escape_debug()))
    };
    let list: Vec<_> = (0..64).filter(|bit| unknown >> bit & 1 == 1).map(name).collect();
    let what = format!("it uses features that are not known here: {}", list.join(", "));
    Err(Error::unsupported(what).at(72))
}

fn feature_names(window: &dyn Window, head: &Head) -> Result<Vec<(u8, u8, String)>> {
    let table = head.extensions.iter().find(|e| e.kind == EXTENSION_FEATURE_NAMES);
    let Some(table) = table else { return Ok(Vec::new()) };
    let rows = u64::from(table.len / 48).min(192);
    let row = |index: u64| {
        let row = window.array::<48>(table.at + index * 48)?;
        let name = row[2..].split(|byte| *byte == 0).next().unwrap_or_default();
        Ok((row[0], row[1], String::from_utf8_lossy(name).into_owned()))
    };
    (0..rows).map(row).collect()
}

/// A rule of the header: broken if `wrong`, at this offset.
fn rule(wrong: bool, at: u64, what: impl FnOnce() -> String) -> Result<()> {
    if wrong { Err(Error::malformed(at, what())) } else { Ok(()) }
}

fn check_header(header: &Header) -> Result<()> {
    let cluster = 1_u64 << header.cluster_bits;
    let geometry = header.geometry();
    let unaligned = |offset: u64| !offset.is_multiple_of(cluster);
    let Header { refcount_order, crypt_method, compression_type, l1_size, l1_offset, .. } = *header;
    rule(refcount_order > 6, 96, || format!("refcount_order {refcount_order} is not 0 to 6"))?;
    if crypt_method > 2 {
        return Err(Error::unsupported(format!("encryption method {crypt_method}")).at(32));
    }
    if compression_type > 1 {
        return Err(Error::unsupported(format!("compression type {compression_type}")).at(104));
    }
    let flagged = header.incompatible & COMPRESSION_TYPE != 0;
    rule(flagged != (compression_type != 0), 72, || {
        format!("compression type {compression_type} and its feature bit do not agree")
    })?;
    rule(geometry.extended && header.cluster_bits < 14, 20, || {
        format!("extended L2 entries want clusters of 16 KiB or more, not {cluster} bytes")
    })?;
    rule(unaligned(l1_offset), 40, || {
        format!("the L1 table lies at {l1_offset:#x}, inside a cluster")
    })?;
    rule(l1_size > 0 && l1_offset == 0, 40, || "the L1 table lies at 0, over the header".into())?;
    let reach = u128::from(geometry.l2_reach());
    rule(u128::from(l1_size) * reach < u128::from(header.size), 36, || {
        format!("the L1 table has {l1_size} entries, too few for {} bytes", header.size)
    })?;
    if u64::from(l1_size) * 8 > MAX_L1 {
        return Err(Error::limit(format!("the L1 table has {l1_size} entries")).at(36));
    }
    let table = header.refcount_table_offset;
    rule(unaligned(table), 48, || {
        format!("the refcount table lies at {table:#x}, inside a cluster")
    })?;
    let clusters = header.refcount_table_clusters;
    if u64::from(clusters) * cluster > MAX_REFCOUNT_TABLE {
        return Err(Error::limit(format!("the refcount table has {clusters} clusters")).at(56));
    }
    let count = header.snapshot_count;
    if count > MAX_SNAPSHOTS {
        return Err(Error::limit(format!("{count} snapshots, {MAX_SNAPSHOTS} at most")).at(60));
    }
    let snapshots = header.snapshots_offset;
    rule(count > 0 && unaligned(snapshots), 64, || {
        format!("the snapshot table lies at {snapshots:#x}, inside a cluster")
    })
}

/// All that the headers and the lists of snapshots and bitmaps say.
pub(super) fn inspect(window: &dyn Window, limits: &Limits) -> Result<Facts> {
    let head = head(window)?;
    let header = &head.header;
    let variant = if header.version == 2 { "v2" } else { "v3" };
    let mut facts = Facts::new("qcow2", variant, header.size);
    facts.unit = Some(head.geometry.cluster());
    facts.encrypted = header.crypt_method != 0;
    facts.dirty = header.incompatible & DIRTY != 0;
    if let Some(bitmaps) = &head.bitmaps {
        // Both lists are asked for before either is read: in a stream they pass only once.
        window.expect(bitmaps.span.start(), bitmaps.span.len());
    }
    if let Some(place) = encryption::place(window, &head)? {
        window.expect(place.offset, place.len.min(MAX_EXPECTED));
    }
    for snapshot in snapshot::read(window, header, limits)? {
        facts.snapshots.push(snapshot.facts);
    }
    let encryption = encryption::read(window, &head, limits)?;
    references(&head, &mut facts);
    hazards(&head, &encryption, &mut facts);
    details(window, &head, &encryption, &mut facts)?;
    Ok(facts)
}

fn references(head: &Head, facts: &mut Facts) {
    if let Some(name) = &head.backing {
        let format = head.backing_format.clone();
        let reference = Reference::new(Role::Backing, name.as_str());
        facts.references.push(Reference { format, ..reference });
    }
    if head.geometry.data_file {
        let name = head.data_file.clone().unwrap_or_default();
        let format = Some("raw".into());
        facts.references.push(Reference { format, ..Reference::new(Role::DataFile, name) });
    }
}

fn hazards(head: &Head, encryption: &Encryption, facts: &mut Facts) {
    let mut add = |kind, what: String| facts.hazards.push(Hazard { kind, what });
    for (role, name) in [
        (Role::Backing, head.backing.as_ref()),
        (Role::DataFile, head.data_file.as_ref().filter(|_| head.geometry.data_file)),
    ] {
        if let Some(name) = name {
            add(HazardKind::Reference, format!("it refers to the {} '{name}'", role.name()));
        }
    }
    if head.header.incompatible & CORRUPT != 0 {
        add(HazardKind::Corrupt, "it is marked as corrupt".into());
    }
    for Hazard { kind, what } in encryption.hazards() {
        add(kind, what);
    }
    if !head.header.size.is_multiple_of(512) {
        let size = head.header.size;
        let what = format!("its size, {size}, is not a multiple of 512: qemu cuts it down");
        add(HazardKind::Irregular, what);
    }
    if head.data_file.is_some() && !head.geometry.data_file {
        add(HazardKind::Irregular, "it names a data file that it does not use".into());
    }
}

/// In the order and by the names of qemu's `ImageInfoSpecificQCow2`.
fn details(
    window: &dyn Window,
    head: &Head,
    encryption: &Encryption,
    facts: &mut Facts,
) -> Result<()> {
    let header = &head.header;
    let mut add = |name, value: Value| facts.details.push(Detail { name, value });
    add("compat", if header.version == 2 { "0.10" } else { "1.1" }.into());
    add("compression-type", head.geometry.codec.name().into());
    if header.version == 2 {
        add("refcount-bits", 16.into());
        encryption.value().into_iter().for_each(|value| add("encrypt", value));
        return Ok(());
    }
    add("lazy-refcounts", (header.compatible & LAZY_REFCOUNTS != 0).into());
    if let Some(directory) = &head.bitmaps {
        let valid = header.autoclear & BITMAPS != 0;
        let list = bitmap::read(window, directory, head.geometry)?;
        add("bitmaps", Value::List(list.iter().map(|bitmap| bitmap.value(valid)).collect()));
    }
    add("refcount-bits", (1 << header.refcount_order).into());
    encryption.value().into_iter().for_each(|value| add("encrypt", value));
    add("corrupt", (header.incompatible & CORRUPT != 0).into());
    if let Some(name) = head.data_file.as_ref().filter(|_| head.geometry.data_file) {
        add("data-file", name.as_str().into());
        add("data-file-raw", (header.autoclear & DATA_FILE_RAW != 0).into());
    }
    add("extended-l2", head.geometry.extended.into());
    Ok(())
}
