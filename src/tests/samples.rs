//! Images that many tests look at: those of testdata, and those that others made.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A file, and the name that tables know it by.
pub(crate) struct Sample {
    /// The folder, the format's folder, and the name.
    pub(crate) name: String,
    /// Where it lies.
    pub(crate) path: PathBuf,
}

/// Where the project is.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

/// What is in a folder, in order.
fn list(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Unpacks a file, by the program of this name.
fn unpack(program: &str, from: &Path, to: &Path) {
    std::fs::create_dir_all(to.parent().unwrap()).unwrap();
    let file = std::fs::File::create(to).unwrap();
    let status = Command::new(program).args(["-dcq"]).arg(from).stdout(file).status();
    assert!(status.unwrap().success(), "{}", from.display());
}

/// The images of a folder of testdata.
pub(crate) fn ours(which: &str, place: &Path) -> Vec<Sample> {
    let folders = list(&root().join("testdata").join(which));
    let packed = folders.iter().flat_map(|folder| list(folder));
    let packed = packed.filter(|path| path.extension().is_some_and(|end| end == "zst"));
    let sample = |from: PathBuf| {
        let folder = from.parent().unwrap().file_name().unwrap().to_str().unwrap();
        let stem = from.file_stem().unwrap().to_str().unwrap();
        let name = format!("{which}/{folder}/{stem}");
        let path = place.join(&name);
        unpack("zstd", &from, &path);
        Sample { name, path }
    };
    packed.map(sample).collect()
}

/// What is written about the images that others made, a row each, and where they are. Says aloud
/// where there are none.
pub(crate) fn manifest() -> Option<(PathBuf, String)> {
    let beside = root().join("../shared");
    let shared = std::env::var_os("DISKWRIGHT_SHARED").map_or(beside, PathBuf::from);
    let corpus = shared.join("corpus");
    let text = std::fs::read_to_string(corpus.join("manifest.tsv"));
    if text.is_err() {
        eprintln!("skipped: there is no corpus here; $DISKWRIGHT_SHARED says where it is");
    }
    Some((corpus, text.ok()?))
}

/// The images that others made, where they are.
pub(crate) fn theirs(place: &Path) -> Vec<Sample> {
    let Some((corpus, text)) = manifest() else { return Vec::new() };
    let files = text.lines().skip(1).map(|line| line.split('\t').next().unwrap());
    let sample = |file: &str| {
        let (name, plain) = (format!("corpus/{file}"), corpus.join(file));
        if plain.exists() {
            return Sample { name, path: plain };
        }
        let path = place.join(&name);
        unpack("xz", &corpus.join(format!("{file}.xz")), &path);
        Sample { name, path }
    };
    files.map(sample).collect()
}

/// All of them, and how many are ours.
pub(crate) fn samples(place: &Path) -> (Vec<Sample>, usize) {
    let mut samples = ours("good", place);
    samples.extend(ours("bad", place));
    let own = samples.len();
    samples.extend(theirs(place));
    (samples, own)
}
