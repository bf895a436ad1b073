//! Logical volumes: where each lies in the partitions of its group (lvm(8); the text that a group
//! keeps of itself, and the headers in front of it).
//!
//! Those that lie there in a line are found: mirrors, thin volumes and snapshots are not.

use std::collections::BTreeMap;

use crate::bytes::Bytes;
use crate::disk::{Read, Volume, damaged};

/// Bytes of the text that are looked at, sections in each other, volumes, stretches of one.
const TEXT: u64 = 256 << 10;
const DEPTH: usize = 6;
const VOLUMES: usize = 32;
const STRETCHES: usize = 64;
const SECTOR: u64 = 512;

/// A logical volume.
pub(crate) struct Logical {
    /// The names of its group and of itself, with a slash between them.
    pub(crate) name: String,
    pub(crate) volume: Volume,
}

/// A part of a volume group: its id, where its text is, and the volume.
struct Part<'a> {
    id: String,
    text: Option<String>,
    volume: &'a Volume,
}

/// The logical volumes in these parts of volume groups. What cannot be read of them is noted.
pub(crate) fn volumes(parts: &[Volume]) -> Vec<Logical> {
    let mut read = Vec::new();
    for volume in parts {
        match part(volume) {
            Ok(Some(part)) => read.push(part),
            Ok(None) => {}
            Err(fault) => volume.disk.complain("a volume group", &fault),
        }
    }
    let mut found: Vec<Logical> = Vec::new();
    for text in read.iter().filter_map(|part| part.text.as_ref()) {
        let group = Section::parse(text).and_then(|top| {
            // Beside the group there are only remarks on the text.
            top.0.into_iter().find_map(|(name, value)| Some((name, value.section()?)))
        });
        let Some((name, group)) = group.filter(|(name, _)| is_name(name)) else { continue };
        // Every part of a group has the same text.
        if !found.iter().any(|other| other.name.starts_with(&format!("{name}/"))) {
            found.extend(in_group(&name, &group, &read));
        }
    }
    found.truncate(VOLUMES);
    found
}

/// What a part says of itself.
fn part(volume: &Volume) -> Read<Option<Part<'_>>> {
    let raw = volume.front(0, 2048)?;
    let mut sectors = raw.chunks(512).map(Bytes);
    let Some(label) = sectors.find(|sector| sector.has(0, b"LABELONE")) else { return Ok(None) };
    let word = |at: usize| label.le64(at).unwrap_or(0);
    let Some(header) = label.le32(20).and_then(|at| usize::try_from(at).ok()) else {
        return Ok(None);
    };
    if header > 256 {
        return damaged("its header is not in the first sectors");
    }
    let id = String::from_utf8_lossy(label.slice(header, 32).unwrap_or_default()).into_owned();
    // Places of data, an empty one, then places of text.
    let mut at = header + 40;
    while word(at) != 0 {
        at += 16;
    }
    let (start, size) = (word(at + 16), word(at + 24));
    let text = if start == 0 { None } else { Some(text(volume, start, size)?) };
    Ok(Some(Part { id, text, volume }))
}

/// The newest text in a place for that: a ring behind its own header.
fn text(volume: &Volume, start: u64, size: u64) -> Read<String> {
    let raw = volume.bytes(start, 512)?;
    let raw = Bytes(&raw);
    if !raw.has(4, b" LVM2 x[5A%r0N*>") {
        return damaged("the header of its text makes no sense");
    }
    let (at, len) = (raw.le64(40).unwrap_or(0), raw.le64(48).unwrap_or(0));
    if at < SECTOR || at > size || len > TEXT || size < SECTOR {
        return damaged(format!("its text has {len} bytes"));
    }
    let front = len.min(size - at);
    let take = |at: u64, len: u64| match start.checked_add(at) {
        Some(at) => volume.bytes(at, usize::try_from(len).expect("compared with a bound")),
        None => damaged("its text is not on the disk"),
    };
    let mut text = take(at, front)?;
    text.extend(take(SECTOR, len - front)?);
    volume.disk.count_handed(8 * len)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The volumes of a group that lie on this disk in a line.
fn in_group(name: &str, group: &Section, parts: &[Part]) -> Vec<Logical> {
    let bytes = |section: &Section, key: &str| section.number(key)?.checked_mul(SECTOR);
    let Some(extent) = bytes(group, "extent_size") else { return Vec::new() };
    // The parts by the names that the text has for them, each with the place of its first extent.
    let mut known = BTreeMap::new();
    for (alias, section) in group.sections("physical_volumes") {
        let id = section.text("id").unwrap_or_default().replace('-', "");
        let part = parts.iter().find(|part| part.id == id);
        if let Some((part, start)) = part.zip(bytes(section, "pe_start")) {
            known.insert(alias.as_str(), (part.volume, start));
        }
    }
    let mut found = Vec::new();
    for (volume, section) in group.sections("logical_volumes") {
        let pieces = pieces(section, extent, &known);
        if let Some((pieces, disk)) = pieces.filter(|_| is_name(volume)) {
            let volume_name = format!("{name}/{volume}");
            found.push(Logical { name: volume_name, volume: Volume::of(disk, pieces) });
        }
    }
    found
}

/// Where a volume lies on the disk: stretches in its order.
fn pieces<'a>(
    volume: &Section,
    extent: u64,
    known: &BTreeMap<&str, (&'a Volume, u64)>,
) -> Option<(Vec<(u64, u64)>, &'a Volume)> {
    let count =
        volume.number("segment_count").filter(|count| (1..=STRETCHES as u64).contains(count))?;
    let (mut pieces, mut end, mut first) = (Vec::new(), 0, None);
    for index in 1..=count {
        let segment = volume.0.get(&format!("segment{index}"))?.as_section()?;
        let is_line = segment.text("type") == Some("striped")
            && segment.number("stripe_count") == Some(1)
            && segment.number("start_extent") == Some(end);
        let Value::List(stripes) = segment.0.get("stripes")? else { return None };
        let [Value::Text(alias), Value::Number(at)] = stripes.as_slice() else { return None };
        let (part, start) = known.get(alias.as_str()).filter(|_| is_line)?;
        let extents = segment.number("extent_count")?;
        end = end.checked_add(extents)?;
        let len = extents.checked_mul(extent)?;
        let within = at.checked_mul(extent)?.checked_add(*start)?;
        pieces.push((part.on_disk(within, len)?, len));
        first.get_or_insert(*part);
    }
    Some((pieces, first?))
}

/// Whether this is a name that lvm allows.
fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "+_.-".contains(c);
    !name.is_empty() && name.len() <= 127 && name.chars().all(fits)
}

/// A value of the text.
enum Value {
    Text(String),
    Number(u64),
    List(Vec<Value>),
    Section(Section),
}

impl Value {
    fn section(self) -> Option<Section> {
        match self {
            Value::Section(section) => Some(section),
            Value::Text(_) | Value::Number(_) | Value::List(_) => None,
        }
    }

    fn as_section(&self) -> Option<&Section> {
        match self {
            Value::Section(section) => Some(section),
            Value::Text(_) | Value::Number(_) | Value::List(_) => None,
        }
    }
}

/// Names and values between braces.
#[derive(Default)]
struct Section(BTreeMap<String, Value>);

impl Section {
    fn parse(text: &str) -> Option<Section> {
        let mut words = Words(text);
        words.section(0)
    }

    fn number(&self, key: &str) -> Option<u64> {
        match self.0.get(key)? {
            Value::Number(number) => Some(*number),
            Value::Text(_) | Value::List(_) | Value::Section(_) => None,
        }
    }

    fn text(&self, key: &str) -> Option<&str> {
        match self.0.get(key)? {
            Value::Text(text) => Some(text),
            Value::Number(_) | Value::List(_) | Value::Section(_) => None,
        }
    }

    /// The sections in a section.
    fn sections(&self, key: &str) -> impl Iterator<Item = (&String, &Section)> {
        let inside = self.0.get(key).and_then(Value::as_section);
        let all = inside.into_iter().flat_map(|section| &section.0);
        all.filter_map(|(name, value)| Some((name, value.as_section()?)))
    }
}

/// What is left of a text, word by word.
struct Words<'a>(&'a str);

impl<'a> Words<'a> {
    /// The next word: a sign, a text with the quote in front of it, or anything up to a space.
    fn next(&mut self) -> Option<&'a str> {
        loop {
            self.0 = self.0.trim_start_matches(|c: char| c.is_whitespace() || c == '\0');
            match self.0.strip_prefix('#') {
                Some(remark) => self.0 = remark.split_once('\n').map_or("", |(_, rest)| rest),
                None => break,
            }
        }
        let first = self.0.chars().next()?;
        let end = match first {
            '{' | '}' | '[' | ']' | '=' | ',' => 1,
            '"' => self.0[1..].find('"')? + 1,
            _ => {
                let ends = |c: char| c.is_whitespace() || "{}[]=,\"#\0".contains(c);
                self.0.find(ends).unwrap_or(self.0.len())
            }
        };
        let word = &self.0[..end];
        self.0 = &self.0[end + usize::from(first == '"')..];
        Some(word)
    }

    /// What stands up to the brace that closes, or up to the end.
    fn section(&mut self, depth: usize) -> Option<Section> {
        let mut section = Section::default();
        while let Some(name) = self.next().filter(|name| *name != "}") {
            let value = match self.next()? {
                "{" if depth < DEPTH => Value::Section(self.section(depth + 1)?),
                "=" => self.value()?,
                _ => return None,
            };
            section.0.insert(name.to_string(), value);
        }
        Some(section)
    }

    fn value(&mut self) -> Option<Value> {
        let word = self.next()?;
        if word != "[" {
            return single(word);
        }
        let mut list = Vec::new();
        loop {
            match self.next()? {
                "]" => return Some(Value::List(list)),
                "," => {}
                word => list.push(single(word)?),
            }
        }
    }
}

/// A text or a number; one below zero or with a point counts as nothing.
fn single(word: &str) -> Option<Value> {
    Some(match word.strip_prefix('"') {
        Some(text) => Value::Text(text.to_string()),
        None if word.starts_with(['{', '}', '[', ']', '=', ',']) => return None,
        None => Value::Number(word.parse().unwrap_or(0)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_group_is_read() {
        let text =
            "vg {\nid = \"a\" # remark\nn=7\nlist = [\"x\", 1,\n2]\ninner {\nm = 8\n}\n}\nv = 1\0";
        let top = Section::parse(text).expect("a sound text");
        assert_eq!(top.number("v"), Some(1));
        let group = top.0["vg"].as_section().expect("a section");
        assert_eq!((group.text("id"), group.number("n")), (Some("a"), Some(7)));
        assert!(matches!(&group.0["list"], Value::List(list) if list.len() == 3));
        assert_eq!(group.0["inner"].as_section().and_then(|inner| inner.number("m")), Some(8));
    }

    #[test]
    fn texts_that_are_none_are_nothing() {
        for text in ["a", "a =", "a = [", "a = [ [ ]", "a = \"x", "a {", "{", "= 1"] {
            let parsed = Section::parse(text);
            assert!(parsed.is_none_or(|top| top.0.len() < 2), "{text}");
        }
        assert!(Section::parse(&"a {".repeat(100_000)).is_none());
    }
}
