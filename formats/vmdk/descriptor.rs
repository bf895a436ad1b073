//! The descriptor: text that says what a disk is made of.
//!
//! Read tolerantly: keywords in any case, blanks anywhere, any order of lines. What cannot be
//! understood is an error that names the line.

use nom::branch::alt;
use nom::bytes::complete::{tag_no_case, take_till, take_while1};
use nom::character::complete::{char, space0, space1, u64 as number};
use nom::combinator::{all_consuming, opt, rest, value};
use nom::sequence::{delimited, preceded};
use nom::{IResult, Parser};

use super::layout::SECTOR;
use crate::base::error::{Error, Result};
use crate::base::limits::Limits;

/// A parent that there is not.
pub(super) const NO_PARENT: u32 = u32::MAX;

/// A descriptor, understood.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Descriptor {
    /// `createType`, as it is written.
    pub(super) kind: String,
    pub(super) cid: Option<u32>,
    pub(super) parent_cid: Option<u32>,
    pub(super) parent: Option<String>,
    pub(super) extents: Vec<Line>,
    /// The lines that begin with `ddb.`, and what else was said.
    pub(super) settings: Vec<(String, String)>,
}

/// A line about an extent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) access: Access,
    /// Bytes of disk.
    pub(super) len: u64,
    pub(super) kind: Kind,
    pub(super) name: Option<String>,
    /// Where in its file a flat extent begins.
    pub(super) offset: u64,
}

/// What the guest may do with an extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    ReadWrite,
    ReadOnly,
    None,
}

/// What an extent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Flat,
    Sparse,
    /// Sparse, of the old kind.
    OldSparse,
    /// Sparse, of the space-efficient kind.
    SeSparse,
    Zero,
    /// A device of a machine.
    Device,
}

impl Line {
    /// Whether it is a sparse extent.
    pub(super) fn has_tables(&self) -> bool {
        matches!(self.kind, Kind::Sparse | Kind::OldSparse | Kind::SeSparse)
    }
}

impl Descriptor {
    /// Whether there is an image underneath.
    pub(super) fn has_parent(&self) -> bool {
        self.parent_cid.is_some_and(|cid| cid != NO_PARENT)
    }

    /// Bytes of the disk. `Malformed` if no disk is so large.
    pub(super) fn size(&self) -> Result<u64> {
        let mut size: u64 = 0;
        for line in &self.extents {
            let sum = size.checked_add(line.len).filter(|sum| i64::try_from(*sum).is_ok());
            size =
                sum.ok_or_else(|| Error::malformed(0, "its extents add up to over 2^63 bytes"))?;
        }
        Ok(size)
    }

    /// Whether it lies on a device of some machine.
    pub(super) fn is_device(&self) -> bool {
        const DEVICES: [&str; 6] = [
            "fulldevice",
            "partitioneddevice",
            "vmfsrawdevicemap",
            "vmfspassthroughrawdevicemap",
            "vmfsrdm",
            "vmfsrdmp",
        ];
        let kind = self.kind.to_ascii_lowercase();
        DEVICES.contains(&&*kind)
            || kind == "vmfsraw"
            || self.extents.iter().any(|line| line.kind == Kind::Device)
    }

    /// The value of a setting.
    pub(super) fn setting(&self, key: &str) -> Option<&str> {
        let found = self.settings.iter().find(|(is, _)| is.eq_ignore_ascii_case(key));
        found.map(|(_, value)| value.as_str())
    }
}

/// The line that makes a text a descriptor.
const TITLE: &str = "diskdescriptorfile";

/// Whether these bytes are the front of a descriptor: its title stands behind nothing but blank
/// lines and comments.
pub(super) fn begins(bytes: &[u8]) -> bool {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    for line in bytes[..end].split(|byte| *byte == b'\n') {
        let line = line.trim_ascii();
        let Some(comment) = line.strip_prefix(b"#") else {
            if line.is_empty() {
                continue;
            }
            return false;
        };
        let words: Vec<u8> =
            comment.iter().filter(|byte| !byte.is_ascii_whitespace()).copied().collect();
        if words.eq_ignore_ascii_case(TITLE.as_bytes()) {
            return true;
        }
    }
    false
}

/// The descriptor in these bytes, up to the first NUL. `Malformed` with the number of the line that
/// cannot be understood; `Limit` for more extents than a list may have.
pub(super) fn parse(bytes: &[u8], limits: &Limits) -> Result<Descriptor> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let text = decode(&bytes[..end]);
    let mut found = Descriptor::default();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = || {
            let shown: String = line.chars().take(80).collect();
            let what = format!("line {} is not understood: {}", index + 1, shown.escape_debug());
            Error::malformed(0, what)
        };
        match statement(line) {
            Ok((_, Statement::Extent(extent))) => {
                if found.extents.len() as u64 >= limits.max_entries {
                    let most = limits.max_entries;
                    return Err(Error::limit(format!("more than {most} extents")));
                }
                found.extents.push(extent.bytes().ok_or_else(wrong)?);
            }
            Ok((_, Statement::Setting(key, value))) => {
                found.set(key, value).ok_or_else(wrong)?;
            }
            Err(_) => return Err(wrong()),
        }
    }
    Ok(found)
}

/// The text, in the encoding that it names; UTF-8 if it names none that is known.
fn decode(bytes: &[u8]) -> String {
    let plain = String::from_utf8_lossy(bytes);
    let named = plain.lines().find_map(|line| match statement(line.trim()) {
        Ok((_, Statement::Setting(key, value))) if key.eq_ignore_ascii_case("encoding") => {
            encoding_rs::Encoding::for_label(value.as_bytes())
        }
        Ok(_) | Err(_) => None,
    });
    match named {
        Some(encoding) => encoding.decode(bytes).0.into_owned(),
        None => plain.into_owned(),
    }
}

impl Descriptor {
    /// Takes a setting in; `None` if its value makes no sense.
    fn set(&mut self, key: &str, value: &str) -> Option<()> {
        match key.to_ascii_lowercase().as_str() {
            "cid" => self.cid = Some(identifier(value)?),
            "parentcid" => self.parent_cid = Some(identifier(value)?),
            "createtype" => self.kind = value.into(),
            "parentfilenamehint" => self.parent = Some(value.into()),
            _ => self.settings.push((key.into(), value.into())),
        }
        Some(())
    }
}

/// One to eight hexadecimal digits: qemu leaves zeros in front out.
fn identifier(text: &str) -> Option<u32> {
    let digits = (1..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    u32::from_str_radix(text, 16).ok().filter(|_| digits)
}

enum Statement<'a> {
    Extent(Sectors<'a>),
    Setting(&'a str, &'a str),
}

/// An extent as it is written.
struct Sectors<'a> {
    access: Access,
    len: u64,
    kind: Kind,
    name: Option<&'a str>,
    offset: Option<u64>,
}

impl Sectors<'_> {
    /// In bytes; `None` for numbers that no file reaches, or a file that is missing.
    fn bytes(self) -> Option<Line> {
        let bytes = |sectors: u64| {
            sectors.checked_mul(SECTOR).filter(|bytes| i64::try_from(*bytes).is_ok())
        };
        let (len, offset) = (bytes(self.len)?, bytes(self.offset.unwrap_or(0))?);
        let name = self.name.filter(|_| self.kind != Kind::Zero).map(str::to_string);
        if name.is_none() && self.kind != Kind::Zero {
            return None;
        }
        Some(Line { access: self.access, len, kind: self.kind, name, offset })
    }
}

fn statement(line: &str) -> IResult<&str, Statement<'_>> {
    all_consuming(alt((extent.map(Statement::Extent), setting))).parse(line)
}

/// `ACCESS SECTORS TYPE ["FILE" [OFFSET [PARTITION DEVICE]]]`.
fn extent(line: &str) -> IResult<&str, Sectors<'_>> {
    let access = alt((
        value(Access::ReadWrite, tag_no_case("RW")),
        value(Access::ReadOnly, tag_no_case("RDONLY")),
        value(Access::None, tag_no_case("NOACCESS")),
    ));
    // The longer word first, where one begins with another.
    let kind = alt((
        value(Kind::OldSparse, tag_no_case("VMFSSPARSE")),
        value(Kind::Device, tag_no_case("VMFSRDM")),
        value(Kind::Device, tag_no_case("VMFSRAW")),
        value(Kind::Flat, tag_no_case("VMFS")),
        value(Kind::SeSparse, tag_no_case("SESPARSE")),
        value(Kind::Sparse, tag_no_case("SPARSE")),
        value(Kind::Flat, tag_no_case("FLAT")),
        value(Kind::Zero, tag_no_case("ZERO")),
    ));
    let name = delimited(char('"'), take_till(|c| c == '"'), char('"'));
    let tail = (name, opt(preceded(space1, number)), rest_of_line);
    let mut parts = (access, space1, number, space1, kind, opt(preceded(space0, tail)), space0);
    let (left, (access, _, len, _, kind, tail, _)) = parts.parse(line)?;
    let (name, offset) = match tail {
        Some((name, offset, _)) => (Some(name), offset),
        None => (None, None),
    };
    Ok((left, Sectors { access, len, kind, name, offset }))
}

/// What may follow: the partition and the device of a raw disk.
fn rest_of_line(line: &str) -> IResult<&str, Option<&str>> {
    opt(preceded(space1, rest)).parse(line)
}

/// `KEY = VALUE`, the value with or without quotes.
fn setting(line: &str) -> IResult<&str, Statement<'_>> {
    let key = take_while1(|c: char| c != '=' && !c.is_control());
    let (line, (key, _, value)) = (key, char('='), rest).parse(line)?;
    let value = value.trim();
    let inside = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    Ok((line, Statement::Setting(key.trim(), inside.unwrap_or(value))))
}

/// What a new descriptor says.
pub(super) struct Text<'a> {
    pub(super) kind: &'a str,
    pub(super) cid: u32,
    /// Bytes of the disk.
    pub(super) size: u64,
    /// Lines about extents.
    pub(super) extents: Vec<String>,
    pub(super) adapter: &'a str,
    pub(super) hardware: u64,
    pub(super) tools: u64,
    pub(super) uuid: [u8; 16],
    /// The upper 96 bits of what is longer than the CID.
    pub(super) long_id: [u8; 12],
    pub(super) thin: bool,
}

impl Text<'_> {
    /// The text, as VMware's tools write it.
    pub(super) fn write(&self) -> String {
        let Text { kind, cid, adapter, hardware, tools, .. } = self;
        let extents = self.extents.join("\n");
        let (cylinders, heads, sectors) = geometry(self.size, self.adapter);
        let long: Vec<_> = self.long_id.iter().map(|byte| format!("{byte:02x}")).collect();
        let long = long.concat();
        let thin = if self.thin { "ddb.thinProvisioned = \"1\"\n" } else { "" };
        let uuid = spaced(&self.uuid);
        format!(
            "# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID={cid:08x}\n\
             parentCID=ffffffff\ncreateType=\"{kind}\"\n\n\
             # Extent description\n{extents}\n\n\
             # The Disk Data Base\n#DDB\n\n\
             ddb.adapterType = \"{adapter}\"\n\
             ddb.geometry.cylinders = \"{cylinders}\"\n\
             ddb.geometry.heads = \"{heads}\"\n\
             ddb.geometry.sectors = \"{sectors}\"\n\
             ddb.longContentID = \"{long}{cid:08x}\"\n{thin}\
             ddb.toolsInstallType = \"4\"\n\
             ddb.toolsVersion = \"{tools}\"\n\
             ddb.uuid = \"{uuid}\"\n\
             ddb.virtualHWVersion = \"{hardware}\"\n"
        )
    }
}

/// Bytes in two groups of eight, as VMware writes a UUID.
fn spaced(uuid: &[u8; 16]) -> String {
    let group =
        |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    format!("{}-{}", group(&uuid[..8]), group(&uuid[8..]))
}

/// Cylinders, heads and sectors as the adapter counts them.
fn geometry(size: u64, adapter: &str) -> (u64, u64, u64) {
    let (heads, sectors) = if adapter == "ide" { (16, 63) } else { (255, 63) };
    let cylinders = size / SECTOR / (heads * sectors);
    let most = if adapter == "ide" { 16_383 } else { u64::MAX };
    (cylinders.clamp(1, most), heads, sectors)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Descriptor {
        parse(text.as_bytes(), &Limits::default()).expect("a descriptor")
    }

    #[test]
    fn what_is_written_is_read_back() {
        let text = Text {
            kind: "monolithicSparse",
            cid: 0x0ec5_b26a,
            size: 83_971 * 512,
            extents: vec!["RW 83971 SPARSE \"größe 1.vmdk\"".into()],
            adapter: "ide",
            hardware: 4,
            tools: 0,
            uuid: [7; 16],
            long_id: [1; 12],
            thin: true,
        };
        let text = text.write();
        assert!(begins(text.as_bytes()) && text.contains("\nCID=0ec5b26a\n"));
        let back = read(&text);
        assert_eq!((back.kind.as_str(), back.cid), ("monolithicSparse", Some(0x0ec5_b26a)));
        assert!(!back.has_parent() && back.size().expect("small") == 83_971 * 512);
        assert_eq!(back.extents[0].name.as_deref(), Some("größe 1.vmdk"));
        assert_eq!(back.setting("ddb.geometry.cylinders"), Some("83"));
        let long = back.setting("DDB.LONGCONTENTID").expect("it is there");
        assert!(long.len() == 32 && long.ends_with("0ec5b26a"));
    }

    #[test]
    fn lines_are_read_as_people_and_tools_write_them() {
        let text = "\r\n# comment\r\n#disk descriptorfile\r\nversion = 1\r\n  cid = \"4ec5b26\"\r\n\
                    ParentCID=FFFFFFFF\r\nCREATETYPE = \"custom\"\r\n\
                    rw 8 flat \"a b.vmdk\" 16\r\nRDONLY 4 ZERO\r\nNOACCESS 2 Sparse \"c\"\r\n\
                    RW 1 VMFS \"d\"\r\nRW 1 VMFSSPARSE \"e\"\r\nRW 1 SESPARSE \"f\"\r\n\0junk";
        assert!(begins(text.as_bytes()));
        let read = read(text);
        let extents: Vec<_> = read.extents.iter().map(|line| (line.kind, line.len)).collect();
        let wanted = [
            (Kind::Flat, 4096),
            (Kind::Zero, 2048),
            (Kind::Sparse, 1024),
            (Kind::Flat, 512),
            (Kind::OldSparse, 512),
            (Kind::SeSparse, 512),
        ];
        assert_eq!(extents, wanted);
        assert_eq!((read.extents[0].offset, read.cid), (8192, Some(0x04ec_5b26)));
        assert_eq!(read.extents[2].access, Access::None);
        assert!(!read.has_parent() && !read.is_device());
    }

    #[test]
    fn what_is_not_understood_is_an_error_with_its_line() {
        for bad in [
            "RW 8 FLAT",
            "RW 8 CUBIC \"a\"",
            "RW -8 FLAT \"a\" 0",
            "RW 36028797018963968 FLAT \"a\" 0",
            "RW 99999999999999999999999 FLAT \"a\" 0",
            "CID=123456789",
            "CID=xyz",
            "nonsense",
        ] {
            let text = format!("# Disk DescriptorFile\n\n{bad}\n");
            let error = parse(text.as_bytes(), &Limits::default()).expect_err(bad);
            assert!(error.to_string().contains("line 3"), "{error}");
        }
        let many = "RW 1 ZERO\n".repeat(70_000);
        let error = parse(many.as_bytes(), &Limits::default()).expect_err("too many");
        assert_eq!(error.kind(), crate::Kind::Limit);
    }

    #[test]
    fn names_are_read_in_the_encoding_that_the_text_names() {
        let bytes = b"# Disk DescriptorFile\nencoding=\"Shift_JIS\"\nRW 1 FLAT \"\x83f\x83B\" 0\n";
        let read = parse(bytes, &Limits::default()).expect("a descriptor");
        assert_eq!(read.extents[0].name.as_deref(), Some("ディ"));
        let bytes = b"encoding = windows-1252\nparentFileNameHint=\"gr\xf6\xdfe\"\n";
        let read = parse(bytes, &Limits::default()).expect("a descriptor");
        assert_eq!(read.parent.as_deref(), Some("größe"));
    }

    #[test]
    fn devices_are_known_by_their_kind() {
        for text in ["createType=\"fullDevice\"", "RW 8 VMFSRDM \"a\"", "createType=\"vmfsRaw\""] {
            assert!(read(text).is_device(), "{text}");
        }
    }
}
