//! Headers of new archives: the same name, size and time give the same bytes.

use super::BLOCK;
use super::header::{CHECKSUM, GNU, GROUP, KIND, MAGIC, MODE, MODIFIED, NAME, OWNER, SIZE, USTAR};
use crate::base::error::{Error, Result};

/// The size of a record: archives are filled up to it.
const RECORD: u64 = 20 * BLOCK;
/// Sizes from here on have no room in octal digits.
const LARGE: u64 = 1 << 33;

/// Whose headers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Those of POSIX, as long as name and size have room in them; then those of GNU.
    Ustar,
    /// Those of GNU.
    Gnu,
}

/// The blocks in front of a file of this name and size, changed at `modified` (seconds since
/// 1970), that its owner may write and all may read.
///
/// `Invalid` if nobody would read a file of such a name.
pub(crate) fn header(path: &str, size: u64, modified: u64, dialect: Dialect) -> Result<Vec<u8>> {
    let parts = || path.split('/');
    if path.contains('\0') || parts().any(|part| matches!(part, "" | "." | "..")) {
        let path = path.escape_debug();
        return Err(Error::invalid(format!("'{path}' cannot be a name in an archive")));
    }
    let long = path.len() > NAME.len();
    let magic = match dialect {
        Dialect::Ustar if !long && size < LARGE => USTAR,
        Dialect::Ustar | Dialect::Gnu => GNU,
    };
    let mut blocks = Vec::new();
    if long {
        let name = [path.as_bytes(), &[0]].concat();
        blocks.extend(block(b"././@LongLink", b'L', name.len() as u64, 0, magic));
        blocks.extend_from_slice(&name);
        blocks.resize(blocks.len().next_multiple_of(512), 0);
    }
    let name = &path.as_bytes()[..path.len().min(NAME.len())];
    blocks.extend(block(name, b'0', size, modified, magic));
    Ok(blocks)
}

fn block(name: &[u8], kind: u8, size: u64, modified: u64, magic: [u8; 8]) -> [u8; 512] {
    let mut block = [0; 512];
    block[..name.len()].copy_from_slice(name);
    block[MODE].copy_from_slice(b"0000644\0");
    block[OWNER].copy_from_slice(b"0000000\0");
    block[GROUP].copy_from_slice(b"0000000\0");
    block[SIZE].copy_from_slice(&field(size));
    block[MODIFIED].copy_from_slice(&field(modified));
    block[KIND] = kind;
    block[MAGIC].copy_from_slice(&magic);
    block[CHECKSUM].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// A number in octal digits, or in bytes where it is too large for those.
fn field(number: u64) -> [u8; 12] {
    let mut field = [0; 12];
    if number < LARGE {
        field[..11].copy_from_slice(format!("{number:011o}").as_bytes());
    } else {
        field[0] = 0x80;
        field[4..].copy_from_slice(&number.to_be_bytes());
    }
    field
}

/// Zeros behind a content of `size` bytes.
pub(crate) fn padding(size: u64) -> u64 {
    match size % BLOCK {
        0 => 0,
        over => BLOCK - over,
    }
}

/// Zeros that end an archive whose members end at `at`.
pub(crate) fn trailer(at: u64) -> u64 {
    let least = at.saturating_add(2 * BLOCK);
    least.checked_next_multiple_of(RECORD).unwrap_or(least) - at
}

#[cfg(test)]
mod tests {
    use super::super::read::{Archive, Links, probe};
    use super::*;
    use crate::base::error::Kind;
    use crate::base::limits::Limits;
    use crate::base::model::entry::{EntryKind, Stretch};
    use crate::base::storage::Memory;

    fn archive(members: &[(&str, &[u8])], dialect: Dialect) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (path, content) in members {
            let size = content.len() as u64;
            bytes.extend(header(path, size, 12, dialect).expect("a name"));
            bytes.extend_from_slice(content);
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
        let len = bytes.len() as u64 + trailer(bytes.len() as u64);
        bytes.resize(usize::try_from(len).expect("small"), 0);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Vec<super::super::read::Member>> {
        let memory = Memory::new(bytes);
        Archive::new(&memory, Links::Refused, &Limits::default()).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let long = "folder/".repeat(30) + "file";
        let contents: [&[u8]; 3] = [b"one", b"", &[7; 600]];
        let names = ["a.ovf", "b", &long];
        let members: Vec<_> = names.into_iter().zip(contents).collect();
        for dialect in [Dialect::Ustar, Dialect::Gnu] {
            let bytes = archive(&members, dialect);
            assert_eq!(bytes.len() % 10240, 0);
            assert!(probe(&Memory::new(&*bytes)).expect("bytes"));
            let found = read(&bytes).expect("an archive");
            assert_eq!(found.len(), 3);
            for (found, (name, content)) in found.iter().zip(&members) {
                assert_eq!(found.path, *name);
                assert_eq!(found.kind, EntryKind::File);
                assert_eq!((found.size, found.modified), (content.len() as u64, Some(12)));
                assert!(found.usual);
                if let [Stretch { offset: Some(at), len }] = found.stretches[..] {
                    let [at, len] = [at, len].map(|n| usize::try_from(n).expect("small"));
                    assert_eq!(bytes[at..at + len], **content);
                }
            }
        }
    }

    #[test]
    fn sizes_beyond_octal_digits_are_bytes() {
        let bytes = header("disk.raw", 1 << 40, 0, Dialect::Ustar).expect("a name");
        assert_eq!(&bytes[124..136], b"\x80\0\0\0\0\0\x01\0\0\0\0\0");
        assert_eq!(bytes[257..265], GNU);
        let error = read(&bytes).expect_err("no content");
        assert_eq!(error.kind(), Kind::Truncated);
    }

    #[test]
    fn an_archive_without_its_end_is_read_and_a_cut_one_is_not() {
        let bytes = archive(&[("a", &[1; 700])], Dialect::Ustar);
        for len in [1536, 1212, 2048, 2560] {
            assert_eq!(read(&bytes[..len]).expect("all of it").len(), 1, "{len}");
        }
        for len in [1, 511, 512, 1211, 1537, 2047] {
            let error = read(&bytes[..len]).expect_err("cut");
            assert_eq!(error.kind(), Kind::Truncated, "{len}");
        }
        assert_eq!(read(b"").expect("nothing").len(), 0);
    }

    #[test]
    fn names_that_lead_out_and_names_that_come_twice_are_refused() {
        for name in ["../a", "/a", "a/../b", "", "a\0b"] {
            assert!(header(name, 0, 0, Dialect::Gnu).is_err(), "{name:?}");
        }
        let bytes = archive(&[("a", b"1"), ("a", b"2")], Dialect::Gnu);
        assert_eq!(read(&bytes).expect_err("twice").kind(), Kind::Refused);
        for name in [&b"../evil"[..], b"/evil", b"x/../../evil"] {
            let bytes = block(name, b'0', 0, 0, USTAR);
            assert_eq!(read(&bytes).expect_err("leads out").kind(), Kind::Refused);
        }
        for kind in [b'1', b'2', b'3', b'4', b'6'] {
            let bytes = block(b"evil", kind, 0, 0, USTAR);
            assert_eq!(read(&bytes).expect_err("no file").kind(), Kind::Refused);
        }
        let with_bytes = block(b"folder/", b'5', 512, 0, USTAR);
        assert_eq!(read(&with_bytes).expect_err("odd").kind(), Kind::Refused);
        let dot = [block(b"./", b'5', 0, 0, USTAR), block(b"./a/./b", b'0', 0, 0, USTAR)].concat();
        assert_eq!(read(&dot).expect("a/b")[0].path, "a/b");
    }

    #[test]
    fn a_flipped_byte_of_a_header_is_seen() {
        let bytes = archive(&[("a.ovf", b"")], Dialect::Ustar);
        for at in 0..512 {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x20;
            let seen = read(&bytes).map(|members| !members[0].usual);
            assert!(seen.unwrap_or(true), "byte {at}");
        }
    }

    #[test]
    fn holes_of_sparse_members_are_stretches_without_bytes() {
        let mut block = block(b"disk", b'S', 512, 0, GNU);
        let list = [1024, 512, 4096, 0].map(field).concat();
        block[386..386 + 48].copy_from_slice(&list);
        block[483..495].copy_from_slice(&field(4096));
        block[CHECKSUM].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let bytes = [block, [9; 512]].concat();
        let found = read(&bytes).expect("one member").remove(0);
        let hole = |len| Stretch { offset: None, len };
        assert_eq!(found.size, 4096);
        assert_eq!(found.stretches, [hole(1024), Stretch::stored(512, 512), hole(2560)]);
    }
}
