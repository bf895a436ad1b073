//! XML as far as a descriptor needs it: elements, attributes, text. Names count without their
//! prefix, and no document type is let in, so nothing expands.

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use crate::base::error::{Error, Result};
use crate::base::limits::Limits;
use crate::base::xml::resolve;

/// What a text can begin with.
const BYTE_ORDER: &[u8] = b"\xef\xbb\xbf";
/// Elements inside each other at most.
const MAX_DEPTH: usize = 64;

/// One element with what is in it.
#[derive(Debug, Default)]
pub(super) struct Element {
    /// Its name, without prefix.
    pub(super) name: String,
    /// Where it begins.
    pub(super) at: u64,
    /// Names, without prefix, and values.
    attributes: Vec<(String, String)>,
    /// The text directly in it.
    text: String,
    pub(super) children: Vec<Element>,
}

impl Element {
    /// The value of an attribute. `Malformed` if there are two of this name, of whatever prefix.
    pub(super) fn attribute(&self, name: &str) -> Result<Option<&str>> {
        let mut found = self.attributes.iter().filter(|(key, _)| key == name);
        let first = found.next().map(|(_, value)| value.as_str());
        if found.next().is_none() {
            return Ok(first);
        }
        let what = format!("an element {} with two attributes '{name}'", self.shown());
        Err(Error::malformed(self.at, what))
    }

    /// Whether it is of this kind: by its name, or as OVF 0.9 has it, by its type.
    pub(super) fn is(&self, kind: &str) -> bool {
        if self.name != "Section" && self.name != "Content" {
            return self.name == kind;
        }
        let types = self.attributes.iter().filter(|(key, _)| key == "type");
        let mut types = types.filter_map(|(_, value)| value.rsplit(':').next());
        types.any(|of| of.strip_suffix("_Type") == Some(kind))
    }

    /// Those directly in it that are of a kind.
    pub(super) fn all<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Element> {
        self.children.iter().filter(move |child| child.is(kind))
    }

    /// The first of them.
    pub(super) fn first<'a>(&'a self, kind: &'a str) -> Option<&'a Element> {
        self.all(kind).next()
    }

    /// The text in it, without spaces around.
    pub(super) fn text(&self) -> &str {
        self.text.trim()
    }

    /// The text of the first element of a name in it, if there is any.
    pub(super) fn text_of(&self, name: &str) -> Option<&str> {
        let child = self.children.iter().find(|child| child.name.eq_ignore_ascii_case(name))?;
        Some(child.text()).filter(|text| !text.is_empty())
    }

    /// Every element below this one, in the order of the text.
    pub(super) fn below(&self) -> Vec<&Element> {
        let mut found = Vec::new();
        let mut next: Vec<_> = self.children.iter().rev().collect();
        while let Some(element) = next.pop() {
            found.push(element);
            next.extend(element.children.iter().rev());
        }
        found
    }

    fn shown(&self) -> std::str::EscapeDebug<'_> {
        self.name.escape_debug()
    }
}

/// The root element of a text.
pub(super) fn parse(bytes: &[u8], limits: &Limits) -> Result<Element> {
    let bytes = bytes.strip_prefix(BYTE_ORDER).unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        Error::malformed(error.valid_up_to() as u64, "the descriptor is no UTF-8 text")
    })?;
    let mut tree = Tree { limits, open: Vec::new(), root: None, count: 0 };
    let mut reader = Reader::from_str(text);
    loop {
        let at = reader.buffer_position();
        let event = reader.read_event().map_err(|error| unsound(at, &error))?;
        if matches!(event, Event::Eof) {
            break;
        }
        tree.take(event, at)?;
    }
    let at = bytes.len() as u64;
    match (tree.root, tree.open.is_empty()) {
        (Some(root), true) => Ok(root),
        (None, true) => Err(Error::malformed(0, "the descriptor is no XML: it has no element")),
        (_, false) => Err(Error::truncated(at, "the descriptor ends within an element")),
    }
}

/// Whether the root of a text that begins like this is of this name, with a namespace in which
/// this word occurs. `None` if it does not begin yet.
pub(super) fn begins(front: &[u8], root: &str, namespace: &str) -> Option<bool> {
    let front = front.strip_prefix(BYTE_ORDER).unwrap_or(front);
    let text = match std::str::from_utf8(front) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&front[..error.valid_up_to()]).unwrap_or_default(),
    };
    let mut reader = Reader::from_str(text);
    loop {
        match reader.read_event() {
            Ok(Event::Start(element) | Event::Empty(element)) => {
                let is = |value: &str| value.contains(namespace);
                let mut spaces = element.attributes().flatten();
                let spaced = spaces.any(|attribute| {
                    let key: &str = attribute.key.as_ref();
                    key.starts_with("xmlns") && is(&attribute.value)
                });
                let name: &str = element.local_name().into_inner();
                return Some(name == root && spaced);
            }
            Ok(Event::Text(text)) if !text.trim_ascii().is_empty() => return Some(false),
            Ok(Event::Eof) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

fn unsound(at: u64, error: &dyn std::fmt::Display) -> Error {
    Error::malformed(at, format!("the descriptor is no sound XML: {error}"))
}

/// A tree that grows.
struct Tree<'a> {
    limits: &'a Limits,
    /// Elements that have begun, and not ended.
    open: Vec<Element>,
    root: Option<Element>,
    /// Elements and attributes.
    count: u64,
}

impl Tree<'_> {
    fn take(&mut self, event: Event, at: u64) -> Result<()> {
        match event {
            Event::Start(start) => {
                if self.open.len() == MAX_DEPTH {
                    let what = format!("more than {MAX_DEPTH} elements inside each other");
                    return Err(Error::limit(what).at(at));
                }
                let element = self.element(&start, at)?;
                self.open.push(element);
            }
            Event::Empty(start) => {
                let element = self.element(&start, at)?;
                self.close(element)?;
            }
            Event::End(_) => match self.open.pop() {
                Some(element) => self.close(element)?,
                None => return Err(unsound(at, &"an element ends that has not begun")),
            },
            Event::Text(text) => self.text(&text, at)?,
            Event::CData(text) => self.text(&text, at)?,
            Event::GeneralRef(reference) => {
                let text = resolve(&reference, at)?;
                self.text(&text, at)?;
            }
            Event::DocType(_) => {
                let what = "the descriptor has a document type, which could name other files";
                return Err(Error::refused(what).at(at));
            }
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::Eof => {}
        }
        Ok(())
    }

    fn element(&mut self, start: &BytesStart, at: u64) -> Result<Element> {
        let name = start.local_name().into_inner().to_string();
        let mut element = Element { name, at, ..Element::default() };
        for attribute in start.attributes() {
            let attribute = attribute.map_err(|error| unsound(at, &error))?;
            let value = attribute
                .normalized_value(XmlVersion::Implicit1_0)
                .map_err(|error| unsound(at, &error))?;
            let key: &str = attribute.key.as_ref();
            if key != "xmlns" && !key.starts_with("xmlns:") {
                let key = attribute.key.local_name().into_inner().to_string();
                element.attributes.push((key, value.into_owned()));
            }
            self.count += 1;
        }
        self.count += 1;
        if self.count > self.limits.max_entries.saturating_mul(4) {
            let what = "a descriptor of too many elements and attributes";
            return Err(Error::limit(what).at(at));
        }
        Ok(element)
    }

    fn close(&mut self, element: Element) -> Result<()> {
        match self.open.last_mut() {
            Some(parent) => parent.children.push(element),
            None if self.root.is_some() => return Err(unsound(element.at, &"it has two roots")),
            None => self.root = Some(element),
        }
        Ok(())
    }

    fn text(&mut self, text: &str, at: u64) -> Result<()> {
        match self.open.last_mut() {
            Some(element) => element.text.push_str(text),
            None if text.trim().is_empty() => {}
            None => return Err(unsound(at, &"there is text outside of the root")),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::error::Kind;

    #[test]
    fn elements_are_found_by_name_or_type() {
        let text = b"\xef\xbb\xbf<?xml version='1.0'?><!-- a --><o:A xmlns:o='u'>\
            <o:B o:id='1&amp;2'/><o:Section x:type='o:B_Type'> t&lt;<![CDATA[<]]> </o:Section>\
            </o:A>";
        let root = parse(text, &Limits::default()).expect("sound");
        assert_eq!(root.name, "A");
        let all: Vec<_> = root.all("B").collect();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].attribute("id").expect("one"), Some("1&2"));
        assert_eq!(all[1].text(), "t<<");
        assert_eq!(root.below().len(), 2);
    }

    #[test]
    fn what_is_no_sound_text_is_an_error() {
        let wrong: [(&[u8], Kind); 8] = [
            (b"<a>", Kind::Truncated),
            (b"<a></b>", Kind::Malformed),
            (b"<a/><b/>", Kind::Malformed),
            (b"text", Kind::Malformed),
            (b"\xff\xfe<\0a\0", Kind::Malformed),
            (b"", Kind::Malformed),
            (b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", Kind::Refused),
            (b"<a>&b;</a>", Kind::Refused),
        ];
        for (text, kind) in wrong {
            assert_eq!(parse(text, &Limits::default()).expect_err("wrong").kind(), kind);
        }
        let deep = "<a>".repeat(100);
        let error = parse(deep.as_bytes(), &Limits::default()).expect_err("deep");
        assert_eq!(error.kind(), Kind::Limit);
    }

    #[test]
    fn the_root_is_known_from_the_front() {
        let begins = |text: &str| begins(text.as_bytes(), "Envelope", "/ovf/");
        let uri = "http://schemas.dmtf.org/ovf/envelope/1";
        assert_eq!(begins(&format!("<!--x--><e:Envelope xmlns:e='{uri}'>")), Some(true));
        assert_eq!(begins(&format!("<?xml?>\n<Other xmlns='{uri}'><Envelope/>")), Some(false));
        assert_eq!(begins("<Envelope xmlns='http://schemas.xmlsoap.org/soap'>"), Some(false));
        assert_eq!(begins("<?xml version='1.0'?><!-- a long"), None);
    }
}
