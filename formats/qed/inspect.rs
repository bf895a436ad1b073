//! Header → facts.

use super::layout::{
    BACKING_FILE, BACKING_IS_RAW, Geometry, Header, LENGTH, MAGIC, MAX_BACKING_NAME, NEED_CHECK,
};
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::facts::{Facts, Hazard, HazardKind};
use crate::base::model::reference::{Reference, Role};
use crate::base::storage::{Span, Window};

/// The magic.
pub(super) fn probe(window: &dyn Window) -> Result<bool> {
    window.starts_with(0, &MAGIC)
}

/// The header, understood.
pub(super) struct Head {
    pub(super) header: Header,
    pub(super) geometry: Geometry,
    pub(super) backing: Option<String>,
    pub(super) l1: Span,
}

impl Head {
    /// Whether its tables may be wrong: whoever wrote last did not come to an end.
    pub(super) fn needs_check(&self) -> bool {
        self.header.features & NEED_CHECK != 0
    }
}

/// Reads the header. Everything in it that is used later is checked here.
pub(super) fn head(window: &dyn Window, limits: &Limits) -> Result<Head> {
    let bytes = window.array::<LENGTH>(0)?;
    let header = Header::parse(&bytes).map_err(|_| Error::malformed(0, "no QED header"))?;
    let Header { cluster_size, table_clusters, header_clusters, features, .. } = header;
    let known = BACKING_FILE | NEED_CHECK | BACKING_IS_RAW;
    if features & !known != 0 {
        let unknown = features & !known;
        let what = format!("it uses features that are not known here: {unknown:#x}");
        return Err(Error::unsupported(what).at(16));
    }
    if !cluster_size.is_power_of_two() || !(1 << 12..=1 << 26).contains(&cluster_size) {
        let what = format!("cluster_size {cluster_size} is not a power of two, 4 KiB to 64 MiB");
        return Err(Error::malformed(4, what));
    }
    if ![1, 2, 4, 8, 16].contains(&table_clusters) {
        let what = format!("table_size {table_clusters} is not 1, 2, 4, 8 or 16");
        return Err(Error::malformed(8, what));
    }
    if header_clusters == 0 || header_clusters > u32::MAX / cluster_size {
        let what = format!("header_size {header_clusters} is not a number of clusters");
        return Err(Error::malformed(12, what));
    }
    let geometry = header.geometry();
    let Header { size, l1_offset, .. } = header;
    if !size.is_multiple_of(512) || u128::from(size) > geometry.max_size() {
        let most = geometry.max_size();
        let what = format!("a disk of {size} bytes, not a multiple of 512 up to {most}");
        return Err(Error::malformed(48, what));
    }
    if !geometry.is_place(l1_offset) {
        let what = format!("the L1 table lies at {l1_offset:#x}, in the header or in a cluster");
        return Err(Error::malformed(40, what));
    }
    let l1 = Span::new(l1_offset, geometry.table)?;
    let backing = backing(window, &header, limits)?;
    Ok(Head { header, geometry, backing, l1 })
}

fn backing(window: &dyn Window, header: &Header, limits: &Limits) -> Result<Option<String>> {
    let Header { features, backing_offset, backing_len, .. } = *header;
    if features & BACKING_FILE == 0 || backing_len == 0 {
        return Ok(None);
    }
    if backing_len > MAX_BACKING_NAME {
        let most = MAX_BACKING_NAME;
        let what = format!("the backing file's name has {backing_len} bytes, {most} at most");
        return Err(Error::malformed(60, what));
    }
    let span = Span::new(u64::from(backing_offset), u64::from(backing_len))?;
    if span.end() > header.geometry().header {
        let what = format!("the backing file's name lies at {backing_offset}, behind the header");
        return Err(Error::malformed(56, what));
    }
    let name = window.bytes(span, "the backing file's name", limits)?;
    Ok(Some(String::from_utf8_lossy(&name).into_owned()))
}

/// All that the header says.
pub(super) fn inspect(window: &dyn Window, limits: &Limits) -> Result<Facts> {
    let head = head(window, limits)?;
    let mut facts = Facts::new("qed", "qed", head.header.size);
    facts.unit = Some(head.geometry.cluster);
    facts.dirty = head.needs_check();
    if let Some(name) = head.backing {
        let what = format!("it refers to the backing file '{name}'");
        facts.hazards.push(Hazard { kind: HazardKind::Reference, what });
        let raw = head.header.features & BACKING_IS_RAW != 0;
        let format = raw.then(|| "raw".to_string());
        facts.references.push(Reference { format, ..Reference::new(Role::Backing, name) });
    }
    Ok(facts)
}
