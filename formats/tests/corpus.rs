//! Images that others made: each holds what two independent readers see in it, or is refused.
//!
//! They lie outside the project, for they have licences of their own: in the folder `corpus` of
//! `$DISKWRIGHT_SHARED`, or of `shared` beside the workspace.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]
#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

mod disks;

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use formats::{Access, Beneath, Caching, FORMATS, Image, ImageFile, Limits, OpenOptions, Result};
use sha2::{Digest, Sha256};

fn corpus() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let shared = std::env::var_os("DISKWRIGHT_SHARED").map_or(beside, PathBuf::from);
    let corpus = shared.join("corpus");
    if corpus.join("manifest.tsv").exists() {
        return Some(corpus);
    }
    eprintln!("skipped: there is no corpus here; $DISKWRIGHT_SHARED says where it is");
    None
}

/// A row of the manifest, by the names of its columns.
type Row = HashMap<String, String>;

fn rows(corpus: &Path) -> Vec<Row> {
    let text = std::fs::read_to_string(corpus.join("manifest.tsv")).unwrap();
    let mut lines = text.lines();
    let names: Vec<_> = lines.next().unwrap().split('\t').collect();
    let row = |line: &str| -> Row {
        let cells = names.iter().zip(line.split('\t'));
        cells.map(|(name, cell)| ((*name).to_string(), cell.to_string())).collect()
    };
    lines.map(row).collect()
}

/// Lays an image out, unpacked.
fn lay_out(corpus: &Path, file: &str, folder: &Path) -> PathBuf {
    let path = folder.join(Path::new(file).file_name().unwrap());
    let (plain, packed) = (corpus.join(file), corpus.join(format!("{file}.xz")));
    if plain.exists() {
        std::fs::copy(plain, &path).unwrap();
    } else {
        let mut bytes = Vec::new();
        let stream = std::fs::File::open(packed).unwrap();
        xz2::read::XzDecoder::new(stream).read_to_end(&mut bytes).unwrap();
        std::fs::write(&path, bytes).unwrap();
    }
    path
}

/// The digest of a disk: of all of it, or of a large one's blocks that are not all zeros, each
/// behind its offset, and the size.
fn digest(disk: &dyn Image, only_data: bool) -> Result<String> {
    let mut sum = Sha256::new();
    let mut block = vec![0; 65_536];
    let size = disk.disk_size();
    let mut at = 0;
    for extent in disk.walk(0, size) {
        let extent = extent?;
        // Hundreds of gibibytes of zeros take a while, even to us.
        if only_data && extent.is_zero() {
            continue;
        }
        at = if only_data { at.max(extent.start / 65_536 * 65_536) } else { at };
        while at < extent.end() {
            let len = usize::try_from((size - at).min(65_536)).unwrap();
            disk.read(at, &mut block[..len])?;
            if !only_data {
                sum.update(&block[..len]);
            } else if block[..len].iter().any(|byte| *byte != 0) {
                sum.update(at.to_be_bytes());
                sum.update(&block[..len]);
            }
            at += len as u64;
        }
    }
    if only_data {
        sum.update(size.to_be_bytes());
    }
    let hex = disks::hex(&sum.finalize());
    Ok(if only_data { format!("nz:{hex}") } else { hex })
}

/// What we see in an image: the size and the digest of its disk.
fn see(path: &Path, row: &Row) -> Result<(String, u64, String)> {
    let limits = Limits::default();
    let source = Arc::new(ImageFile::open(path, Access::Read, Caching::Writeback)?);
    let source = formats::unwrapped(source, FORMATS, &limits)?;
    let format = formats::probe(FORMATS, &*source)?;
    if row["note"].starts_with("expect=info") {
        // A descriptor whose files are not here can be looked at all the same.
        let facts = (format.inspect)(&*source, &limits)?;
        return Ok((format.name.into(), facts.disk_size, String::new()));
    }
    let only_data = row["content_sha256"].starts_with("nz:");
    let mut options = OpenOptions::new(FORMATS, &limits);
    let folder = path.parent().unwrap();
    options.resolver = Arc::new(Beneath::new(folder, folder, Access::Read)?);
    let disk = formats::open(source, format, &options)?;
    Ok((format.name.into(), disk.disk_size(), digest(&*disk, only_data)?))
}

fn judge(row: &Row, seen: Result<(String, u64, String)>) -> Result<(), String> {
    let note = &row["note"];
    let (expect, more) = note.split_once(';').unwrap_or((note, ""));
    let other = |key: &str| more.split(';').find_map(|word| word.trim().strip_prefix(key));
    let agrees = |size: u64, sum: &str| {
        let sums = other("alt=").unwrap_or("").split(',').chain([row["content_sha256"].as_str()]);
        let sizes = other("altv=").unwrap_or("").split(',').chain([row["virtual_size"].as_str()]);
        let known = row["content_sha256"] == "-" || sums.into_iter().any(|is| is == sum);
        known && sizes.into_iter().any(|is| is == size.to_string())
    };
    match (expect.trim().trim_start_matches("expect="), seen) {
        ("convert" | "either", Ok((_, size, sum))) if agrees(size, &sum) => Ok(()),
        ("convert" | "either", Ok((name, size, sum))) => Err(format!("{name} {size} {sum}")),
        ("info" | "nocrash" | "foreign", Ok(_)) | ("reject" | "either" | "nocrash", Err(_)) => {
            Ok(())
        }
        ("reject", Ok(_)) => Err("was not refused".into()),
        (_, Err(error)) => Err(format!("{error:?}")),
        (word, Ok(_)) => Err(format!("there is no expectation '{word}'")),
    }
}

#[test]
fn images_that_others_made_hold_what_others_see_in_them() {
    let Some(corpus) = corpus() else { return };
    let rows = rows(&corpus);
    let names = FORMATS.iter().flat_map(|format| format.aliases.iter().chain([&format.name]));
    let known: Vec<_> = names.copied().collect();
    let mut wrong = Vec::new();
    let mut tried = 0;
    for row in rows.iter().filter(|row| known.contains(&row["format"].as_str())) {
        let folder = tempfile::tempdir().unwrap();
        let path = lay_out(&corpus, &row["file"], folder.path());
        for part in rows.iter().filter(|part| part["format"] == "part") {
            if part["note"].contains(&row["file"]) {
                lay_out(&corpus, &part["file"], folder.path());
            }
        }
        let seen = see(&path, row);
        if let Err(why) = judge(row, seen) {
            wrong.push(format!("{}: {why}", row["file"]));
        }
        tried += 1;
    }
    assert!(tried > 20, "only {tried} rows are for us");
    assert!(wrong.is_empty(), "{} of {tried}:\n{}", wrong.len(), wrong.join("\n"));
}
