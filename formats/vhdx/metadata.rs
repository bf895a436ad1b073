//! The metadata region: a table of items, and what they say of the disk.

use std::collections::HashSet;

use super::layout::{
    Geometry, Guid, HAS_PARENT, ITEM_DISK_SIZE, ITEM_FILE, ITEM_IS_REQUIRED, ITEM_IS_USER,
    ITEM_LOCATOR, ITEM_LOGICAL, ITEM_PAGE_83, ITEM_PHYSICAL, Item, LEAVE_ALLOCATED, LOCATOR_TYPE,
    LocatorHead, LocatorRow, MAX_BLOCK, MAX_DISK, MAX_ITEM, MAX_ROWS, MIN_BLOCK, MetadataHead,
    TABLE_LEN, guid_text, parse, utf16,
};
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::model::identity::{parse_uuid, uuid_text};
use crate::base::storage::{Le32, Le64, Span, Window, Word};

/// Bytes of the table before its rows, and of a row.
const ROW: u64 = 32;
const ROW_LEN: usize = 32;

/// What the items say.
#[derive(Debug, Clone)]
pub(super) struct Metadata {
    pub(super) geometry: Geometry,
    /// Whether blocks stay allocated: a fixed image.
    pub(super) fixed: bool,
    /// Bytes of a physical sector.
    pub(super) physical: Option<u64>,
    /// The identifier that the disk has for its guest.
    pub(super) page_83: Option<Guid>,
    /// Where the image underneath is.
    pub(super) locator: Option<Vec<(String, String)>>,
    /// Where in the file the size of the disk stands.
    pub(super) size_at: u64,
}

/// Reads the region. `Unsupported` for an item that whoever opens the file must know and we do
/// not; `Malformed` for one that is missing or cannot be.
pub(super) fn read(window: &dyn Window, region: Span, limits: &Limits) -> Result<Metadata> {
    let items = items(window, region, limits)?;
    // In a stream they pass only once, in any order.
    for (_, item) in &items {
        window.expect(item.start(), item.len());
    }
    let find = |guid: Guid, len: Option<u64>, what: &str| -> Result<Option<(u64, Vec<u8>)>> {
        let Some((_, span)) = items.iter().find(|(item, _)| item.guid == guid) else {
            return Ok(None);
        };
        if len.is_some_and(|len| len != span.len()) {
            let what = format!("the {what} has {} bytes", span.len());
            return Err(Error::malformed(span.start(), what));
        }
        Ok(Some((span.start(), window.bytes(*span, what, limits)?)))
    };
    let must = |guid: Guid, len: u64, what: &str| {
        let missing = || Error::malformed(region.start(), format!("there is no {what}"));
        find(guid, Some(len), what)?.ok_or_else(missing)
    };
    let (file_at, file) = must(ITEM_FILE, 8, "item with file parameters")?;
    let (size_at, size) = must(ITEM_DISK_SIZE, 8, "item with the size of the disk")?;
    let (sector_at, sector) = must(ITEM_LOGICAL, 4, "item with the logical sector size")?;
    let physical = find(ITEM_PHYSICAL, Some(4), "physical sector size")?;
    let page_83 = find(ITEM_PAGE_83, Some(16), "identifier of the disk")?;
    let flags = u32::try_from(Le32::get(&file[4..])).expect("four bytes");
    let parent = flags & HAS_PARENT != 0;
    let geometry = Geometry {
        size: Le64::get(&size),
        block: Le32::get(&file),
        sector: Le32::get(&sector),
        parent,
    };
    check(geometry, [size_at, file_at, sector_at])?;
    let mut rows = None;
    if parent {
        let missing = || Error::malformed(region.start(), "it has a parent and no parent locator");
        let (at, bytes) = find(ITEM_LOCATOR, None, "parent locator")?.ok_or_else(missing)?;
        rows = Some(locator(&bytes).map_err(|error| error.at(at))?);
    }
    Ok(Metadata {
        geometry,
        fixed: flags & LEAVE_ALLOCATED != 0,
        physical: physical.map(|(_, bytes)| Le32::get(&bytes)),
        page_83: page_83.map(|(_, bytes)| {
            let mut guid = [0; 16];
            guid.copy_from_slice(&bytes);
            guid
        }),
        locator: rows,
        size_at,
    })
}

/// The rows of the table that are for us, each with where its item lies in the file.
fn items(window: &dyn Window, region: Span, limits: &Limits) -> Result<Vec<(Item, Span)>> {
    let start = region.start();
    let head = window.array::<ROW_LEN>(start)?;
    let head: MetadataHead = parse(&head)
        .ok_or_else(|| Error::malformed(start, "the metadata do not begin with their mark"))?;
    let count = usize::from(head.count);
    if count > MAX_ROWS {
        let what = format!("the metadata have {count} items, {MAX_ROWS} at most");
        return Err(Error::malformed(start, what));
    }
    let rows = Span::new(start + ROW, u64::from(head.count) * ROW)?;
    let rows = window.bytes(rows, "the table of metadata", limits)?;
    let (mut seen, mut found) = (HashSet::new(), Vec::new());
    let mut spans: Vec<Span> = Vec::new();
    for (index, row) in rows.chunks_exact(ROW_LEN).enumerate() {
        let at = start + ROW + index as u64 * ROW;
        let item: Item = parse(row).expect("any bytes are a row");
        let user = item.flags & ITEM_IS_USER != 0;
        let known = !user
            && [ITEM_FILE, ITEM_DISK_SIZE, ITEM_LOGICAL, ITEM_PHYSICAL, ITEM_PAGE_83, ITEM_LOCATOR]
                .contains(&item.guid);
        let name = guid_text(item.guid);
        if !known && item.flags & ITEM_IS_REQUIRED != 0 {
            let what = format!("it requires the metadata item {name}, unknown here");
            return Err(Error::unsupported(what).at(at));
        }
        if !seen.insert((user, item.guid)) {
            return Err(Error::malformed(at, format!("the metadata item {name} is there twice")));
        }
        let (offset, length) = (u64::from(item.offset), u64::from(item.length));
        let outside = offset < TABLE_LEN as u64 || offset + length > region.len();
        if length > 0 && (outside || item.length > MAX_ITEM) {
            let what = format!("the metadata item {name} has {length} bytes at {offset:#x}");
            return Err(Error::malformed(at, what));
        }
        let span = Span::new(start + offset, length)?;
        spans.push(span);
        if known {
            found.push((item, span));
        }
    }
    spans.retain(|span| !span.is_empty());
    spans.sort_unstable();
    if let Some(pair) = spans.windows(2).find(|pair| pair[0].overlaps(pair[1])) {
        let at = pair[1].start();
        return Err(Error::malformed(at, "two items of metadata lie over each other"));
    }
    Ok(found)
}

/// Whether these numbers can be; `at` says where each of them stands.
fn check(geometry: Geometry, at: [u64; 3]) -> Result<()> {
    let Geometry { size, block, sector, .. } = geometry;
    if !block.is_power_of_two() || !(MIN_BLOCK..=MAX_BLOCK).contains(&block) {
        let what = format!("blocks of {block} bytes, not a power of two from 1 to 256 MiB");
        return Err(Error::malformed(at[1], what));
    }
    if sector != 512 && sector != 4096 {
        return Err(Error::malformed(at[2], format!("sectors of {sector} bytes, not 512 or 4096")));
    }
    if size > MAX_DISK || !size.is_multiple_of(sector) {
        let what = format!("a disk of {size} bytes, not whole sectors up to 64 TiB");
        return Err(Error::malformed(at[0], what));
    }
    Ok(())
}

/// The keys and values of a parent locator.
fn locator(bytes: &[u8]) -> Result<Vec<(String, String)>> {
    let head: LocatorHead =
        parse(bytes).ok_or_else(|| Error::malformed(0, "the parent locator is cut short"))?;
    if head.kind != LOCATOR_TYPE {
        let kind = guid_text(head.kind);
        return Err(Error::unsupported(format!("a parent locator of the type {kind}")));
    }
    let text = |offset: u32, len: u16| {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let inside = bytes.get(from..from.saturating_add(usize::from(len)));
        inside.map(utf16).ok_or_else(|| {
            Error::malformed(0, format!("a text of {len} bytes at {offset} of the parent locator"))
        })
    };
    let rows = &bytes[20..];
    if usize::from(head.count) > rows.len() / 12 {
        let what = format!("a parent locator of {} rows in {} bytes", head.count, bytes.len());
        return Err(Error::malformed(0, what));
    }
    let mut found = Vec::new();
    for row in rows.chunks_exact(12).take(usize::from(head.count)) {
        let row: LocatorRow = parse(row).expect("any bytes are a row");
        found.push((text(row.key_offset, row.key_len)?, text(row.value_offset, row.value_len)?));
    }
    Ok(found)
}

impl Metadata {
    fn located(&self, key: &str) -> Option<&str> {
        let rows = self.locator.as_ref()?;
        let found = rows.iter().find(|(is, _)| is.eq_ignore_ascii_case(key));
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// What the image underneath is called, as names are written here.
    pub(super) fn parent_name(&self) -> String {
        let keys = ["relative_path", "volume_path", "absolute_win32_path"];
        let name = keys.iter().find_map(|key| self.located(key)).unwrap_or_default();
        let name = name.replace('\\', "/");
        name.strip_prefix("./").unwrap_or(&name).to_string()
    }

    /// What the image underneath must say that it is.
    pub(super) fn parent_identities(&self) -> Vec<String> {
        let keys = ["parent_linkage", "parent_linkage2"];
        let found = keys.iter().filter_map(|key| self.located(key));
        // The second one is all zeros where there is no alternative.
        let known = found.filter(|text| parse_uuid(text) != Some([0; 16]));
        let plain = |text: &str| parse_uuid(text).map_or_else(|| text.to_string(), uuid_text);
        known.map(plain).collect()
    }
}
