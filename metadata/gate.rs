//! The gate of OpenStack's services, as it decides: the format inspector of oslo.utils, which
//! Glance asks while an upload goes by, and Nova before a disk is used.
//!
//! It is another reader than ours, with another opinion at times: a VHD is one by its front, so a
//! fixed VHD is raw to it; a boot sector is `gpt`. What it answers is foretold here, from the rules
//! that oslo.utils 10.2 follows, and compared with it on every image there is.

use std::fmt;

use formats::{Result, Source};

/// Bytes that it reads at once, where that has a bearing on what it sees.
const CHUNK: u64 = 4096;
/// Longest descriptor of a VMDK that it reads.
const DESCRIPTOR: u64 = (1 << 20) - 1;

/// What the gate makes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    /// The formats that it finds, in the order of the alphabet; `raw` alone if there is none.
    pub formats: Vec<&'static str>,
    /// Whether it lets the file through.
    pub verdict: Verdict,
}

/// Whether the gate lets a file through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It does.
    Safe,
    /// It does not: the names of the checks that failed, in the order of the alphabet.
    Unsafe(Vec<&'static str>),
    /// It does not: what the format needs is not all there.
    Incomplete,
    /// It does not: it is several formats at once.
    Several,
    /// It comes to no answer, for its reader fails.
    Confused,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Safe => f.write_str("safe"),
            Verdict::Unsafe(checks) => write!(f, "unsafe {}", checks.join(",")),
            Verdict::Incomplete => f.write_str("incomplete"),
            Verdict::Several => f.write_str("several"),
            Verdict::Confused => f.write_str("confused"),
        }
    }
}

impl Gate {
    /// What the gate makes of these bytes, which are the file as it is stored.
    pub fn of(source: &dyn Source) -> Result<Gate> {
        let file = File { source, len: source.len() };
        let found = [
            file.gpt()?,
            file.iso()?,
            file.luks()?,
            file.qcow2()?,
            file.qed()?,
            file.vdi()?,
            file.vhd()?,
            file.vhdx()?,
            file.vmdk()?,
        ];
        let mut found: Vec<_> = found.into_iter().flatten().collect();
        let formats = match found.is_empty() {
            true => vec!["raw"],
            false => found.iter().map(|(name, _)| *name).collect(),
        };
        let confused = found.iter().any(|(_, verdict)| *verdict == Verdict::Confused);
        let verdict = match found.pop() {
            _ if confused => Verdict::Confused,
            None => Verdict::Safe,
            Some((_, verdict)) if found.is_empty() => verdict,
            Some(_) => Verdict::Several,
        };
        Ok(Gate { formats, verdict })
    }

    /// The one format that it decides for: `None` if there are several.
    pub fn format(&self) -> Option<&'static str> {
        match self.formats[..] {
            [one] => Some(one),
            _ => None,
        }
    }
}

/// A format that it finds, and whether that passes its checks.
type Found = Result<Option<(&'static str, Verdict)>>;

/// A file, as the gate looks at it.
struct File<'a> {
    source: &'a dyn Source,
    len: u64,
}

impl File<'_> {
    /// As many of these bytes as the file has.
    fn some(&self, offset: u64, len: u64) -> Result<Vec<u8>> {
        let len = len.min(self.len.saturating_sub(offset));
        let mut bytes = vec![0; usize::try_from(len).expect("a few at a time")];
        self.source.read(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// These bytes, if the file has all of them.
    fn all<const N: usize>(&self, offset: u64) -> Result<Option<[u8; N]>> {
        Ok(self.some(offset, N as u64)?.try_into().ok())
    }

    fn qcow2(&self) -> Found {
        let Some(head) = self.all::<512>(0)?.filter(|head| head.starts_with(b"QFI\xfb")) else {
            return Ok(None);
        };
        let version = u32::from_be_bytes(word(&head, 4));
        let features = u64::from_be_bytes(word(&head, 72));
        let mut failed = Vec::new();
        if u64::from_be_bytes(word(&head, 8)) != 0 {
            failed.push("backing_file");
        }
        // Whatever the version: of an image of version 2 these bytes are something else.
        if features & 4 != 0 {
            failed.push("data_file");
        }
        if version != 2 && (version != 3 || features & !0xf != 0) {
            failed.push("unknown_features");
        }
        Ok(Some(("qcow2", verdict(failed))))
    }

    fn qed(&self) -> Found {
        let is = self.all::<512>(0)?.is_some_and(|head| head.starts_with(b"QED\0"));
        Ok(is.then(|| ("qed", Verdict::Unsafe(vec!["banned"]))))
    }

    /// By its front: a fixed image has its only footer at the end, and is not known.
    fn vhd(&self) -> Found {
        let is = self.some(0, 8)? == b"conectix";
        let verdict = if self.len < 512 { Verdict::Incomplete } else { Verdict::Safe };
        Ok(is.then_some(("vhd", verdict)))
    }

    fn vdi(&self) -> Found {
        let head = self.all::<512>(0)?;
        let is = head.is_some_and(|head| u32::from_le_bytes(word(&head, 0x40)) == 0xbeda_107f);
        Ok(is.then_some(("vdi", Verdict::Safe)))
    }

    fn iso(&self) -> Found {
        let Some(volume) = self.all::<2048>(32 << 10)? else { return Ok(None) };
        let is = [*b"CD001", *b"NSR02", *b"NSR03"].contains(&word(&volume, 1));
        Ok(is.then_some(("iso", Verdict::Safe)))
    }

    /// Version 1 only; without a passphrase nothing inside is looked at.
    fn luks(&self) -> Found {
        let head = self.some(0, 592)?;
        if !head.starts_with(b"LUKS\xba\xbe") {
            return Ok(None);
        }
        let verdict = match head.len() {
            592 if head[6..8] == [0, 1] => Verdict::Safe,
            592 => Verdict::Unsafe(vec!["version"]),
            _ => Verdict::Incomplete,
        };
        Ok(Some(("luks", verdict)))
    }

    /// A boot sector is one, but for that of a FAT file system.
    fn gpt(&self) -> Found {
        let Some(sector) = self.all::<512>(0)? else { return Ok(None) };
        let fat = sector[0x10] == 2 && sector[0x15] == 0xf8;
        if fat || sector[510..] != [0x55, 0xaa] {
            return Ok(None);
        }
        let rows: [[u8; 16]; 4] = std::array::from_fn(|row| word(&sector, 446 + 16 * row));
        let used: Vec<_> = (0..4).filter(|row| rows[*row][4] != 0).collect();
        let protective = rows.iter().any(|row| row[4] == 0xee);
        let odd = |row: &[u8; 16]| {
            let start = u32::from_le_bytes(word(row, 8));
            !matches!(row[0], 0 | 0x80) || row[4] == 0xee && (row[1..4] != [0, 2, 0] || start != 1)
        };
        let bad = rows.iter().any(odd) || used.is_empty() || protective && used != [0];
        Ok(Some(("gpt", verdict(if bad { vec!["mbr"] } else { Vec::new() }))))
    }

    /// By its mark; then it wants to have the size of the disk, which it looks for behind two
    /// tables.
    fn vhdx(&self) -> Found {
        if !self.some(0, 8)?.starts_with(b"vhdxfile") {
            return Ok(None);
        }
        let verdict = if self.size_of_vhdx()? { Verdict::Safe } else { Verdict::Incomplete };
        Ok(Some(("vhdx", verdict)))
    }

    /// Whether it finds what it looks for, or gives up before it looks for anything.
    fn size_of_vhdx(&self) -> Result<bool> {
        // {8B7CA206-4790-4B9A-B8FE-575F050F886E} and {2FA54224-CD1B-4876-B211-5DBED83BF4B8}
        const REGION: [u8; 16] =
            *b"\x06\xa2\x7c\x8b\x90\x47\x9a\x4b\xb8\xfe\x57\x5f\x05\x0f\x88\x6e";
        const SIZE: [u8; 16] = *b"\x24\x42\xa5\x2f\x1b\xcd\x76\x48\xb2\x11\x5d\xbe\xd8\x3b\xf4\xb8";
        let end = 256 << 10;
        let table = self.some(192 << 10, 64 << 10)?;
        if table.len() < 64 << 10 {
            return Ok(false);
        }
        let rows = u32::from_le_bytes(word(&table, 8)) as usize;
        if !table.starts_with(b"regi") || rows >= 2048 {
            return Ok(true);
        }
        let Some(row) = row_of(&table, 16, rows, REGION) else { return Ok(true) };
        let start = u64::from_le_bytes(word(&table, row + 16));
        // What lies before the table is past when it is wanted.
        if start < end - CHUNK {
            return Ok(false);
        }
        let items = self.some(start, 64 << 10)?;
        if items.len() < 32 || !items.starts_with(b"metadata") {
            return Ok(false);
        }
        let rows = usize::from(u16::from_le_bytes(word(&items, 10)));
        let room = 32 + 32 * rows;
        let Some(item) = (room <= items.len()).then(|| row_of(&items, 32, rows, SIZE)).flatten()
        else {
            return Ok(items.len() == 64 << 10);
        };
        let at = u64::from(u32::from_le_bytes(word(&items, item + 16)));
        let len = u64::from(u32::from_le_bytes(word(&items, item + 20))).min(64 << 10);
        Ok(start.saturating_add(at).saturating_add(len) <= self.len)
    }

    fn vmdk(&self) -> Found {
        let front = self.some(0, CHUNK)?;
        if front.starts_with(b"KDMV") {
            return Ok(Some(("vmdk", self.sparse_vmdk(&front)?)));
        }
        let is_text = |byte: &u8| matches!(byte, b' '..=b'~' | 9..=13 | 0x1c..=0x1f);
        if front.len() < 64 || !front[..front.len().min(512)].iter().all(is_text) {
            return Ok(None);
        }
        // Of a descriptor without an image it sees no more than it read at once.
        let verdict = match Descriptor::of(&front) {
            None => Verdict::Confused,
            Some(text) if text.kind.is_none() => return Ok(None),
            Some(text) => verdict(text.failed()),
        };
        Ok(Some(("vmdk", verdict)))
    }

    fn sparse_vmdk(&self, front: &[u8]) -> Result<Verdict> {
        let Some(head) = Sparse::of(front) else { return Ok(Verdict::Incomplete) };
        if !(1..=3).contains(&head.version) {
            return Ok(Verdict::Unsafe(vec!["descriptor"]));
        }
        let at_end = head.directory == u64::MAX;
        if head.descriptor.checked_mul(512) != Some(512) {
            let verdict = Verdict::Unsafe(vec!["descriptor"]);
            return Ok(if at_end { Verdict::Incomplete } else { verdict });
        }
        let len = head.descriptor_len.saturating_mul(512).min(DESCRIPTOR);
        let text = self.some(512, len)?;
        if (text.len() as u64) < len || at_end && self.len < 1536 {
            return Ok(Verdict::Incomplete);
        }
        let text = Descriptor::of(&text);
        let mut failed = text.map_or(vec!["descriptor"], |text| text.failed());
        if at_end && !self.has_footer(&head)? {
            failed.push("footer");
        }
        Ok(verdict(failed))
    }

    /// Whether the last three sectors are a marker, a header like the first one, and the end.
    fn has_footer(&self, head: &Sparse) -> Result<bool> {
        let end = self.some(self.len - 1536, 1536)?;
        let marker = |at: usize| end[at + 16..at + 512].iter().all(|byte| *byte == 0);
        let numbers = |at: usize| (word::<8>(&end, at), word::<8>(&end, at + 8));
        let first = numbers(0).1 == [0, 0, 0, 0, 3, 0, 0, 0] && marker(0);
        let last = numbers(1024) == ([0; 8], [0; 8]) && marker(1024);
        let like = Sparse::of(&end[512..]).is_some_and(|foot| {
            end[512..].starts_with(b"KDMV")
                && foot.version == head.version
                && foot.descriptor == head.descriptor
                && foot.descriptor_len == head.descriptor_len
                && foot.directory != u64::MAX
        });
        Ok(first && like && last)
    }
}

/// What it reads of the header of a sparse VMDK.
struct Sparse {
    version: u32,
    descriptor: u64,
    descriptor_len: u64,
    directory: u64,
}

impl Sparse {
    fn of(bytes: &[u8]) -> Option<Sparse> {
        let head: &[u8; 64] = bytes.get(..64)?.try_into().ok()?;
        Some(Sparse {
            version: u32::from_le_bytes(word(head, 4)),
            descriptor: u64::from_le_bytes(word(head, 28)),
            descriptor_len: u64::from_le_bytes(word(head, 36)),
            directory: u64::from_le_bytes(word(head, 56)),
        })
    }
}

/// The text of a VMDK, in small letters.
struct Descriptor {
    text: String,
    /// Its createType, if it has one.
    kind: Option<String>,
}

impl Descriptor {
    /// Up to the first zero byte. `None` if it is not ASCII.
    fn of(bytes: &[u8]) -> Option<Descriptor> {
        let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        let text = std::str::from_utf8(text).ok().filter(|text| text.is_ascii())?;
        let text = text.to_ascii_lowercase();
        let kind = text.split_once("createtype=\"").and_then(|(_, rest)| match rest.find('"') {
            Some(end) => (end < 64).then(|| rest[..end].to_owned()),
            // It is missing, and all but the last letter is taken.
            None => Some(rest[..rest.len().saturating_sub(1)].to_owned()),
        });
        Some(Descriptor { text, kind })
    }

    /// The check that failed, if it did.
    fn failed(&self) -> Vec<&'static str> {
        let kind = self.kind.as_deref().unwrap_or_default();
        let mut extents = 0;
        let mut known = |line: &str| {
            let (first, _) = line.split_once(' ').unwrap_or((line, ""));
            if line.is_empty() || line.starts_with('#') || line.starts_with("ddb") {
                return true;
            }
            if line.split_once('=').is_some_and(|(key, _)| !key.contains(' ')) {
                return true;
            }
            extents += 1;
            ["rw", "rdonly", "noaccess"].contains(&first) && !line.contains('/')
        };
        let all = self.text.split('\n').map(str::trim).all(&mut known);
        let taken = ["monolithicsparse", "streamoptimized"].contains(&kind);
        if all && taken && extents > 0 { Vec::new() } else { vec!["descriptor"] }
    }
}

/// Where the row with this GUID begins.
fn row_of(table: &[u8], first: usize, rows: usize, guid: [u8; 16]) -> Option<usize> {
    let starts = (0..rows).map(|row| first + 32 * row);
    starts.take_while(|at| at + 32 <= table.len()).find(|at| word(table, *at) == guid)
}

/// `N` bytes out of a header that is long enough.
fn word<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("N bytes")
}

fn verdict(failed: Vec<&'static str>) -> Verdict {
    if failed.is_empty() { Verdict::Safe } else { Verdict::Unsafe(failed) }
}
