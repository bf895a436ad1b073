//! Headers and descriptor → facts.

use super::descriptor::{self, Descriptor, Kind, Line};
use super::layout::{Grains, Shape};
use super::sparse::{self, Head};
use crate::base::error::{Error, Kind as Why, Result};
use crate::base::limits::Limits;
use crate::base::model::facts::{Detail, Facts, Hazard, HazardKind, Value};
use crate::base::model::reference::{Reference, Role};
use crate::base::storage::{Span, Window};

/// Bytes in which the title of a descriptor has to stand.
const TITLE_WITHIN: usize = 1024;
/// Bytes of a descriptor at most.
const MAX_DESCRIPTOR: u64 = 4 << 20;

/// An image, as far as its own file tells.
pub(super) enum Form {
    /// The file is the descriptor.
    Text(Descriptor),
    /// The file is the only extent; it may hold a descriptor.
    Sparse(Box<Head>, Option<Descriptor>),
}

/// The magic of a sparse extent, or the title of a descriptor.
pub(super) fn probe(window: &dyn Window) -> Result<bool> {
    Ok(sparse::is_sparse(window)? || is_text(window)?)
}

fn is_text(window: &dyn Window) -> Result<bool> {
    // Most images are told by their first byte.
    let first = match window.array::<1>(0) {
        Ok([byte]) => byte,
        Err(error) if error.kind() == Why::Truncated => return Ok(false),
        Err(error) => return Err(error),
    };
    if first != b'#' && !first.is_ascii_whitespace() {
        return Ok(false);
    }
    Ok(descriptor::begins(&front(window, TITLE_WITHIN)?))
}

/// The first bytes: fewer if there are no more.
fn front(window: &dyn Window, most: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; most];
    match window.read(0, &mut bytes) {
        Ok(()) => {}
        Err(error) if error.kind() == Why::Truncated => {
            bytes.truncate(usize::try_from(window.len()?).unwrap_or(most));
            window.read(0, &mut bytes)?;
        }
        Err(error) => return Err(error),
    }
    Ok(bytes)
}

/// Reads headers and descriptor.
pub(super) fn form(window: &dyn Window, limits: &Limits) -> Result<Form> {
    if !sparse::is_sparse(window)? {
        let len = window.len()?;
        if len > MAX_DESCRIPTOR {
            let what = format!("a descriptor of {len} bytes, {MAX_DESCRIPTOR} at most");
            return Err(Error::limit(what));
        }
        let bytes = window.bytes(Span::new(0, len)?, "the descriptor", limits)?;
        if !descriptor::begins(&bytes) {
            return Err(Error::malformed(
                0,
                "it has neither a magic nor the title of a descriptor",
            ));
        }
        let text = descriptor::parse(&bytes, limits)?;
        if text.extents.is_empty() {
            return Err(Error::malformed(0, "its descriptor names no extent"));
        }
        // Each of them has tables of its own, even where they lie in one file.
        let tables = text.extents.iter().filter(|line| line.has_tables()).count();
        if tables > limits.max_files {
            let most = limits.max_files;
            return Err(Error::limit(format!("{tables} sparse extents, {most} at most")));
        }
        return Ok(Form::Text(text));
    }
    let head = sparse::head(window, limits)?;
    let Some(span) = head.descriptor else { return Ok(Form::Sparse(Box::new(head), None)) };
    if span.len() > MAX_DESCRIPTOR {
        let len = span.len();
        let what = format!("a descriptor of {len} bytes, {MAX_DESCRIPTOR} at most");
        return Err(Error::limit(what).at(span.start()));
    }
    let bytes = window.bytes(span, "the descriptor", limits)?;
    let inside = descriptor::parse(&bytes, limits).map_err(|error| error.at(span.start()))?;
    let pieces = inside.extents.len();
    if pieces > 1 {
        let what = format!("its descriptor names {pieces} extents, and it should be the only one");
        return Err(Error::unsupported(what).at(span.start()));
    }
    Ok(Form::Sparse(Box::new(head), Some(inside)))
}

/// All that headers and descriptor say.
pub(super) fn inspect(window: &dyn Window, limits: &Limits) -> Result<Facts> {
    match form(window, limits)? {
        Form::Text(text) => {
            let mut facts = Facts::new("vmdk", variant(&text, "descriptor"), text.size()?);
            described(&text, &mut facts);
            extents(&text, &mut facts);
            Ok(facts)
        }
        Form::Sparse(head, inside) => {
            let variant = inside.as_ref().map_or(head.kind, |text| variant(text, head.kind));
            let mut facts = Facts::new("vmdk", variant, head.shape.size);
            facts.unit = Some(head.shape.grain);
            facts.dirty = head.unclean;
            if let Some(what) = sparse::unlike_footer(&head, window)? {
                facts.hazards.push(Hazard { kind: HazardKind::Irregular, what: what.into() });
            }
            if let Some(text) = inside {
                described(&text, &mut facts);
                let list = Value::List(vec![Value::Map(only(&head.shape))]);
                facts.details.push(Detail { name: "extents", value: list });
            } else {
                let what = "it has no descriptor: it may be one extent of several";
                facts.hazards.push(Hazard { kind: HazardKind::Irregular, what: what.into() });
            }
            Ok(facts)
        }
    }
}

/// The kind of image in the usual spelling.
fn variant(text: &Descriptor, otherwise: &'static str) -> &'static str {
    const KINDS: [&str; 20] = [
        "monolithicSparse",
        "monolithicFlat",
        "twoGbMaxExtentSparse",
        "twoGbMaxExtentFlat",
        "2GbMaxExtentSparse",
        "2GbMaxExtentFlat",
        "streamOptimized",
        "vmfs",
        "vmfsThin",
        "vmfsPreallocated",
        "vmfsEagerZeroedThick",
        "vmfsSparse",
        "seSparse",
        "custom",
        "fullDevice",
        "partitionedDevice",
        "vmfsRDM",
        "vmfsRDMP",
        "vmfsRaw",
        "vmfsRawDeviceMap",
    ];
    let known = KINDS.iter().find(|kind| kind.eq_ignore_ascii_case(&text.kind));
    known.copied().unwrap_or(otherwise)
}

/// What a descriptor says of the image as a whole.
fn described(text: &Descriptor, facts: &mut Facts) {
    let cid = |cid: Option<u32>| cid.map_or_else(String::new, |cid| format!("{cid:08x}"));
    facts.identity = text.cid.map(|own| cid(Some(own)));
    facts.details.push(Detail::new("create-type", text.kind.as_str()));
    for (name, cid) in [("cid", text.cid), ("parent-cid", text.parent_cid)] {
        if let Some(cid) = cid {
            facts.details.push(Detail::new(name, u64::from(cid)));
        }
    }
    for key in ["ddb.adapterType", "ddb.virtualHWVersion", "ddb.uuid"] {
        if let Some(value) = text.setting(key) {
            let name = match key {
                "ddb.adapterType" => "adapter-type",
                "ddb.virtualHWVersion" => "hardware-version",
                _ => "uuid",
            };
            facts.details.push(Detail::new(name, value));
        }
    }
    if text.has_parent() {
        let name = text.parent.clone().unwrap_or_default();
        let what = format!("it refers to the backing file '{name}'");
        facts.hazards.push(Hazard { kind: HazardKind::Reference, what });
        let mut parent = Reference::new(Role::Backing, name);
        parent.format = Some("vmdk".into());
        parent.expects.push(cid(text.parent_cid));
        facts.references.push(parent);
    }
}

/// The files that the disk lies in.
fn extents(text: &Descriptor, facts: &mut Facts) {
    let names = || text.extents.iter().filter_map(|line| line.name.as_deref());
    let unlike = |first: &str| names().filter(|name| *name != first).count();
    if let Some(first) = names().next() {
        let more = match unlike(first) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let what = match text.is_device() {
            true => format!("its disk is a device: '{first}'"),
            false => format!("its disk lies in other files: '{first}'{more}"),
        };
        facts.hazards.push(Hazard { kind: HazardKind::Reference, what });
    }
    for line in text.extents.iter().filter(|_| !text.is_device()) {
        // A device is nothing that could be followed.
        if let Some(name) = &line.name {
            let format = (line.kind == Kind::Flat).then(|| "raw".to_string());
            facts.references.push(Reference { format, ..Reference::new(Role::Extent, name) });
        }
    }
    let list = text.extents.iter().map(|line| Value::Map(extent(line))).collect();
    facts.details.push(Detail { name: "extents", value: Value::List(list) });
}

/// The only extent, in the image's own file.
fn only(shape: &Shape) -> Vec<(&'static str, Value)> {
    let mut map = vec![
        ("virtual-size", Value::Bytes(shape.size)),
        ("cluster-size", Value::Bytes(shape.grain)),
    ];
    if shape.grains != Grains::Plain {
        map.push(("compressed", Value::Flag(true)));
    }
    map
}

fn extent(line: &Line) -> Vec<(&'static str, Value)> {
    let kind = match line.kind {
        Kind::Flat => "FLAT",
        Kind::Sparse => "SPARSE",
        Kind::OldSparse => "VMFSSPARSE",
        Kind::SeSparse => "SESPARSE",
        Kind::Zero => "ZERO",
        Kind::Device => "DEVICE",
    };
    let mut map = vec![("virtual-size", Value::Bytes(line.len)), ("format", kind.into())];
    if let Some(name) = &line.name {
        map.push(("filename", name.as_str().into()));
    }
    map
}
