//! What a package says of itself, and what of that is odd.

use super::certificate::{self, Certificate};
use super::contents::{self, Contents, MAX_TEXT, Text};
use super::descriptor::{self as ovf, Disk, Package};
use super::held::{self, Budget};
use super::xml;
use crate::base::digest::Hasher;
use crate::base::error::{Error, Kind, Result};
use crate::base::limits::Limits;
use crate::base::manifest::{self, Line};
use crate::base::model::entry::{Held, Vouch};
use crate::base::model::facts::{Detail, Facts, Hazard, HazardKind, Value};
use crate::base::model::machine::Machine;
use crate::base::model::reference::{Reference, Role};
use crate::base::storage::{Span, Window};

/// How far behind the front the root of a descriptor is looked for.
const LOOKS: [usize; 4] = [512, 4096, 32 << 10, 256 << 10];
/// What the root is called, and what its namespace has in it.
const ROOT: &str = "Envelope";
const NAMESPACE: &str = "/ovf";

/// Whether this is a descriptor: its first element is the root of one.
pub(super) fn probe(window: &dyn Window) -> Result<bool> {
    let first: [u8; 1] = match window.array(0) {
        Err(error) if error.kind() == Kind::Truncated => return Ok(false),
        first => first?,
    };
    if !matches!(first[0], b'<' | 0xef | b' ' | b'\t' | b'\r' | b'\n') {
        return Ok(false);
    }
    for look in LOOKS {
        let (front, all) = front(window, look)?;
        match xml::begins(&front, ROOT, NAMESPACE) {
            Some(is) => return Ok(is),
            None if all => return Ok(false),
            None => {}
        }
    }
    Ok(false)
}

/// The first bytes, as many as there are up to a length; and whether those are all.
fn front(window: &dyn Window, len: usize) -> Result<(Vec<u8>, bool)> {
    let mut bytes = vec![0; len];
    match window.read(0, &mut bytes) {
        Ok(()) => return Ok((bytes, false)),
        Err(error) if error.kind() != Kind::Truncated => return Err(error),
        Err(_) => {}
    }
    let total = window.len()?;
    bytes.truncate(usize::try_from(total).unwrap_or(len));
    window.read(0, &mut bytes)?;
    Ok((bytes, true))
}

/// All that an archive says.
pub(super) fn archive(window: &dyn Window, limits: &Limits) -> Result<Facts> {
    let contents = contents::read(window, limits)?;
    let package = ovf::read(&xml::parse(&contents.descriptor.bytes, limits)?, limits)?;
    let mut facts = Facts::new("ova", "archive", 0);
    let (mut disks, mut budget) = (Vec::new(), Budget::new(limits));
    for disk in &package.disks {
        let (held, odd) = held::inside(&contents, &package, disk, &mut budget)?;
        hazards(&mut facts, HazardKind::Irregular, odd);
        disks.push(held);
    }
    describe(&mut facts, &package, disks);
    let mut said = Vec::new();
    for file in &package.files {
        if let Err(error) = held::members(&contents, file, &mut budget) {
            if error.kind() == Kind::Limit {
                return Err(error);
            }
            said.push(error.to_string());
        }
    }
    hazards(&mut facts, HazardKind::Irregular, said);
    let Contents { members, descriptor, .. } = &contents;
    let name = &members[descriptor.index].path;
    if descriptor.index != 0 {
        let what = format!("'{name}' is not its first member, and many readers look only there");
        hazards(&mut facts, HazardKind::Irregular, [what]);
    }
    facts.details.push(Detail::new("descriptor", name.as_str()));
    let lines = match &contents.manifest {
        Some(text) => manifest::parse(&text.bytes, limits)?,
        None => Vec::new(),
    };
    vouches(&mut facts, &contents, &lines);
    certified(&mut facts, &contents);
    Ok(facts)
}

/// All that a descriptor by itself says.
pub(super) fn descriptor(window: &dyn Window, limits: &Limits) -> Result<Facts> {
    let package = text(window, limits)?;
    let mut facts = Facts::new("ovf", "descriptor", 0);
    let mut disks = Vec::new();
    for disk in &package.disks {
        disks.push(held::beside(&package, disk, limits)?);
    }
    describe(&mut facts, &package, disks);
    let names = package.files.iter().map(|file| format!("it refers to the file '{}'", file.href));
    hazards(&mut facts, HazardKind::Reference, names);
    Ok(facts)
}

/// Reads a descriptor by itself.
pub(super) fn text(window: &dyn Window, limits: &Limits) -> Result<Package> {
    let len = window.len()?;
    if len > MAX_TEXT {
        return Err(Error::limit(format!("a descriptor of {len} bytes, {MAX_TEXT} at most")));
    }
    let bytes = window.bytes(Span::new(0, len)?, "the descriptor", limits)?;
    ovf::read(&xml::parse(&bytes, limits)?, limits)
}

fn hazards(facts: &mut Facts, kind: HazardKind, all: impl IntoIterator<Item = String>) {
    facts.hazards.extend(all.into_iter().map(|what| Hazard { kind, what }));
}

/// Disks and machines.
fn describe(facts: &mut Facts, package: &Package, disks: Vec<Held>) {
    facts.disk_size = package.disks.first().and_then(|disk| disk.capacity).unwrap_or(0);
    for (disk, held) in package.disks.iter().zip(disks) {
        let file = disk.file.map(|index| package.files[index].href.as_str());
        let format = Some(short(&disk.format)).filter(|format| !format.is_empty());
        facts.references.push(Reference {
            format,
            held: Some(held),
            ..Reference::new(Role::Disk, file.unwrap_or_default())
        });
        if let Some(parent) = &disk.parent {
            let what = format!("the disk '{}' lies on top of '{parent}': it is not read", disk.id);
            hazards(facts, HazardKind::Irregular, [what]);
        }
    }
    if let Some(version) = &package.version {
        facts.details.push(Detail::new("ovf-version", version.as_str()));
    }
    let machines: Vec<_> = package.machines.iter().map(super::machine::Machine::value).collect();
    facts.details.push(Detail::new("machines", Value::List(machines)));
    let disks: Vec<_> = package.disks.iter().map(|disk| value(disk, package)).collect();
    facts.details.push(Detail::new("disks", Value::List(disks)));
}

fn value(disk: &Disk, package: &Package) -> Value {
    let mut map = vec![("id", Value::Text(disk.id.clone()))];
    if let Some(file) = disk.file.map(|index| &package.files[index]) {
        map.push(("file", Value::Text(file.href.clone())));
        map.extend(file.size.map(|size| ("size", Value::Bytes(size))));
        let packing = file.compression.as_ref();
        map.extend(packing.map(|word| ("compression", Value::Text(word.clone()))));
    }
    if !disk.format.is_empty() {
        map.push(("format", Value::Text(short(&disk.format))));
    }
    map.extend(disk.capacity.map(|size| ("capacity", Value::Bytes(size))));
    map.extend(disk.populated.map(|size| ("populated-size", Value::Bytes(size))));
    map.extend(disk.parent.as_ref().map(|parent| ("parent", Value::Text(parent.clone()))));
    if disk.boot {
        map.push(("boot", Value::Flag(true)));
    }
    Value::Map(map)
}

/// A format in short: `streamOptimized` of a URI that ends with `vmdk.html#streamOptimized`.
fn short(uri: &str) -> String {
    let tail = uri.trim_end_matches('/').rsplit(['/', '#']).next().unwrap_or_default();
    tail.strip_suffix(".html").unwrap_or(tail).to_string()
}

/// What the manifest promises. The descriptor is small enough to see at once whether it is kept.
fn vouches(facts: &mut Facts, contents: &Contents, lines: &[Line]) {
    let Some(text) = &contents.manifest else { return };
    for line in lines {
        let member = contents.named(&line.name);
        let stretches = member.map(|member| member.stretches.clone());
        if member.is_none() {
            let what = format!("its manifest names '{}', which is not in it", line.name);
            hazards(facts, HazardKind::Irregular, [what]);
        }
        if member == Some(&contents.members[contents.descriptor.index]) {
            hazards(facts, HazardKind::Corrupt, broken(line, &contents.descriptor));
        }
        let (name, digest) = (line.name.clone(), line.digest.clone());
        facts.vouches.push(Vouch { name, stretches, digest });
    }
    let mut algorithms: Vec<_> = lines.iter().map(|line| line.digest.algorithm.name()).collect();
    algorithms.sort_unstable();
    algorithms.dedup();
    let names = lines.iter().map(|line| Value::Text(line.name.clone())).collect();
    let value = vec![
        ("file", Value::Text(contents.members[text.index].path.clone())),
        ("algorithm", Value::Text(algorithms.join(", "))),
        ("files", Value::List(names)),
    ];
    facts.details.push(Detail { name: "manifest", value: Value::Map(value) });
}

/// What is wrong with a text by its line in the manifest.
pub(super) fn broken(line: &Line, text: &Text) -> Option<String> {
    let mut hasher = Hasher::new(line.digest.algorithm);
    hasher.update(&text.bytes);
    let is = hasher.finish();
    let (name, how) = (&line.name, is.algorithm.name());
    let said = line.digest.hex();
    let what = || format!("the {how} digest of '{name}' is {}, not {said}", is.hex());
    (is != line.digest).then(what)
}

/// Reads the certificate, if there is one.
pub(super) fn signed(contents: &Contents) -> Option<Result<Certificate>> {
    let text = contents.certificate.as_ref()?;
    let Some(manifest) = &contents.manifest else {
        return Some(Err(Error::malformed(0, "it has a certificate, and no manifest to sign")));
    };
    let certificate = certificate::read(&text.bytes, &manifest.bytes);
    Some(certificate.and_then(|certificate| {
        let signs = contents.members[manifest.index].path.rsplit('/').next();
        if signs == Some(&certificate.signs) {
            return Ok(certificate);
        }
        let signs = certificate.signs.escape_debug();
        let what = format!("the certificate signs '{signs}', which is no manifest here");
        Err(Error::malformed(0, what))
    }))
}

fn certified(facts: &mut Facts, contents: &Contents) {
    match signed(contents) {
        None => {}
        Some(Err(error)) => hazards(facts, HazardKind::Irregular, [error.to_string()]),
        Some(Ok(certificate)) => {
            if !certificate.verifies {
                let what = "the signature of its manifest is wrong".into();
                hazards(facts, HazardKind::Irregular, [what]);
            }
            let Certificate { subject, issuer, from, until, algorithm, verifies, .. } = certificate;
            let value = vec![
                ("subject", Value::Text(subject)),
                ("issuer", Value::Text(issuer)),
                ("valid-from", Value::Text(from)),
                ("valid-until", Value::Text(until)),
                ("algorithm", Value::from(algorithm.name())),
                ("signature-verifies", Value::Flag(verifies)),
            ];
            facts.details.push(Detail { name: "certificate", value: Value::Map(value) });
        }
    }
}

/// The machine that a package is of, to make another one like it: the first, if there are several.
pub(crate) fn machine(window: &dyn Window, limits: &Limits) -> Result<Option<Machine>> {
    let package = match contents::probe(window)? {
        true => {
            let contents = contents::read(window, limits)?;
            ovf::read(&xml::parse(&contents.descriptor.bytes, limits)?, limits)?
        }
        false => text(window, limits)?,
    };
    Ok(package.machines.first().map(super::machine::Machine::model))
}
