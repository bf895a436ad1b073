//! Header → facts.

use super::layout::{CRYPT_AES, CRYPT_NONE, Geometry, Header, LENGTH, MAGIC, MAX_BACKING_NAME};
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::facts::{Facts, Hazard, HazardKind};
use crate::base::model::reference::{Reference, Role};
use crate::base::storage::{Span, Window};

/// The magic and the version: other versions are another format.
pub(super) fn probe(window: &dyn Window) -> Result<bool> {
    window.starts_with(0, &MAGIC)
}

/// The header, understood.
pub(super) struct Head {
    pub(super) header: Header,
    pub(super) geometry: Geometry,
    pub(super) backing: Option<String>,
    /// The L1 table, whose length follows from the size of the disk.
    pub(super) l1: Span,
}

/// Reads the header. Everything in it that is used later is checked here.
pub(super) fn head(window: &dyn Window, limits: &Limits) -> Result<Head> {
    let bytes = window.array::<LENGTH>(0)?;
    let header = Header::parse(&bytes).map_err(|_| Error::malformed(0, "no qcow header"))?;
    let Header { cluster_bits, l2_bits, crypt_method, l1_offset, size, .. } = header;
    if !(9..=16).contains(&cluster_bits) {
        return Err(Error::malformed(32, format!("cluster_bits {cluster_bits} is not 9 to 16")));
    }
    if !(6..=13).contains(&l2_bits) {
        return Err(Error::malformed(33, format!("l2_bits {l2_bits} is not 6 to 13")));
    }
    if ![CRYPT_NONE, CRYPT_AES].contains(&crypt_method) {
        return Err(Error::unsupported(format!("encryption method {crypt_method}")).at(36));
    }
    if l1_offset < LENGTH as u64 || !l1_offset.is_multiple_of(8) {
        let what = format!("the L1 table lies at {l1_offset:#x}, over the header or not aligned");
        return Err(Error::malformed(40, what));
    }
    let geometry = header.geometry();
    let l1 = Span::new(l1_offset, size.div_ceil(geometry.l2_reach()) * 8)?;
    let backing = backing(window, &header, limits)?;
    Ok(Head { header, geometry, backing, l1 })
}

fn backing(window: &dyn Window, header: &Header, limits: &Limits) -> Result<Option<String>> {
    let Header { backing_offset, backing_len, .. } = *header;
    if backing_offset == 0 || backing_len == 0 {
        return Ok(None);
    }
    if backing_len > MAX_BACKING_NAME {
        let most = MAX_BACKING_NAME;
        let what = format!("the backing file's name has {backing_len} bytes, {most} at most");
        return Err(Error::malformed(16, what));
    }
    let span = Span::new(backing_offset, u64::from(backing_len))?;
    let name = window.bytes(span, "the backing file's name", limits)?;
    Ok(Some(String::from_utf8_lossy(&name).into_owned()))
}

/// All that the header says.
pub(super) fn inspect(window: &dyn Window, limits: &Limits) -> Result<Facts> {
    let head = head(window, limits)?;
    let size = head.header.size;
    let mut facts = Facts::new("qcow", "v1", size);
    facts.unit = Some(head.geometry.cluster());
    facts.encrypted = head.header.crypt_method != CRYPT_NONE;
    let mut add = |kind, what: String| facts.hazards.push(Hazard { kind, what });
    if let Some(name) = head.backing {
        add(HazardKind::Reference, format!("it refers to the backing file '{name}'"));
        facts.references.push(Reference::new(Role::Backing, name));
    }
    if facts.encrypted {
        add(HazardKind::Encrypted, "its content is encrypted (AES)".into());
    }
    if !size.is_multiple_of(512) {
        let what = format!("its size, {size}, is not a multiple of 512: qemu cuts it down");
        add(HazardKind::Irregular, what);
    }
    Ok(facts)
}
