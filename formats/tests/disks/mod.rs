//! Disks to put into images, and images to put them into: what the batteries share.

#![allow(dead_code, reason = "each battery takes what it needs of this")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]
#![allow(clippy::cast_possible_truncation, reason = "the disks are small")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use formats::{
    Beside, CopyOptions, Create, Error, FORMATS, Format, Image, Kind, Limits, Links, Memory,
    OpenOptions, OptionHelp, Options, Reference, Resolved, Resolver, Result, Source, Target, Usage,
    parse_size,
};

/// Numbers that look random and are the same in every run.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }

    pub(crate) fn one_of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

/// A disk with runs of zeros, noise, text and a single byte, of any length from a byte on.
pub(crate) fn disk(seed: u64, size: usize) -> Vec<u8> {
    let mut dice = Dice::new(seed);
    let mut bytes = vec![0; size];
    let mut at = 0;
    while at < size {
        let most = *dice.one_of(&[700, 9_000, 70_000, 400_000]);
        let end = (at + 1 + dice.below(most)).min(size);
        let run = &mut bytes[at..end];
        match dice.below(6) {
            0 => dice.fill(run),
            1 => {
                for (index, byte) in run.iter_mut().enumerate() {
                    *byte = b"the quick brown fox jumps "[index % 26] ^ u8::from(index % 991 == 0);
                }
            }
            2 => run.fill(dice.next() as u8),
            _ => {}
        }
        at = end;
    }
    bytes
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// The same disk of `bytes`, as an image without a format.
pub(crate) fn raw(bytes: &[u8]) -> Box<dyn Image> {
    open(Arc::new(Memory::new(bytes)), formats::format("raw").unwrap()).unwrap()
}

/// What lies in these bytes, with no name followed.
pub(crate) fn open(source: Arc<dyn Source>, format: &'static Format) -> Result<Box<dyn Image>> {
    let limits = Limits::default();
    formats::open(source, format, &OpenOptions::new(FORMATS, &limits))
}

/// All bytes of a disk.
pub(crate) fn read_all(image: &dyn Image) -> Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(image.disk_size()).expect("a disk of a test")];
    image.read(0, &mut bytes)?;
    Ok(bytes)
}

/// The probed format's view of these bytes, read to the end.
pub(crate) fn content(bytes: Vec<u8>) -> Result<Vec<u8>> {
    let source = Arc::new(Memory::new(bytes));
    let format = formats::probe(FORMATS, &*source)?;
    read_all(&*open(source, format)?)
}

/// A folder in memory: where the files beside an image go, and where names lead.
#[derive(Clone, Default)]
pub(crate) struct Folder(Arc<Mutex<BTreeMap<String, Arc<Memory>>>>);

impl Folder {
    /// Puts a file there.
    pub(crate) fn put(&self, name: &str, bytes: impl Into<Vec<u8>>) {
        self.0.lock().unwrap().insert(name.into(), Arc::new(Memory::new(bytes)));
    }

    /// All files, by name.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let files = self.0.lock().unwrap();
        files.iter().map(|(name, file)| (name.clone(), file.to_vec())).collect()
    }
}

impl Beside for Folder {
    fn name(&self) -> &'static str {
        "image.file"
    }

    fn make(&self, name: &str) -> Result<Arc<dyn Target>> {
        let file = Arc::new(Memory::default());
        self.0.lock().unwrap().insert(name.into(), file.clone());
        Ok(file)
    }
}

impl Resolver for Folder {
    fn resolve(&self, reference: &Reference) -> Result<Resolved> {
        let found = self.0.lock().unwrap().get(&reference.name).cloned();
        let source = found.ok_or_else(|| Error::refused("there is no such file"))?;
        Ok(Resolved { source, resolver: Arc::new(self.clone()) })
    }
}

/// An image as it was made: its own file, and those beside it.
#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) format: &'static Format,
    pub(crate) file: Vec<u8>,
    pub(crate) beside: Folder,
}

impl Made {
    /// Its disk.
    pub(crate) fn open(&self) -> Result<Box<dyn Image>> {
        let limits = Limits::default();
        let mut options = OpenOptions::new(FORMATS, &limits);
        options.resolver = Arc::new(self.beside.clone());
        formats::open(Arc::new(Memory::new(self.file.clone())), self.format, &options)
    }

    /// What a check looks at.
    pub(crate) fn links(&self) -> Links {
        let limits = Limits::default();
        let mut options = OpenOptions::new(FORMATS, &limits);
        options.resolver = Arc::new(self.beside.clone());
        formats::links(Arc::new(Memory::new(self.file.clone())), self.format, &options).unwrap()
    }

    /// Bytes of all its files.
    pub(crate) fn len(&self) -> u64 {
        let beside: usize = self.beside.files().values().map(Vec::len).sum();
        (self.file.len() + beside) as u64
    }
}

impl PartialEq for Made {
    fn eq(&self, other: &Made) -> bool {
        self.file == other.file && self.beside.files() == other.beside.files()
    }
}

/// An image of this format with this disk.
pub(crate) fn made(
    format: &'static Format,
    create: &Create,
    disk: &dyn Image,
    threads: usize,
) -> Made {
    made_on(format, create, disk, threads, Memory::default())
}

/// The same, written over what is there already.
pub(crate) fn made_on(
    format: &'static Format,
    create: &Create,
    disk: &dyn Image,
    threads: usize,
    there: Memory,
) -> Made {
    let (target, beside) = (Arc::new(there), Folder::default());
    let create = Create { beside: Some(Arc::new(beside.clone())), ..create.clone() };
    let writer = (format.create.expect("it can be written"))(target.clone(), &create).unwrap();
    let options = CopyOptions { threads, ..Default::default() };
    formats::copy(disk, &*writer, &options).unwrap();
    Made { format, file: target.to_vec(), beside }
}

/// An image that lies in one file, as the bytes of that.
pub(crate) fn image(
    format: &'static Format,
    create: &Create,
    disk: &dyn Image,
    threads: usize,
) -> Vec<u8> {
    let made = made(format, create, disk, threads);
    assert!(made.beside.files().is_empty(), "{} with files beside it", format.name);
    made.file
}

/// The stretches of a disk that hold data, for a measure.
pub(crate) fn usage(disk: &[u8]) -> Box<Usage<'_>> {
    Box::new(|take| {
        for (index, sector) in disk.chunks(512).enumerate() {
            if sector.iter().any(|byte| *byte != 0) {
                take(index as u64 * 512, sector.len() as u64);
            }
        }
        Ok(())
    })
}

/// The formats that can be written, and whose disks may be small. Of those for Google's cloud none
/// is: they are tried by themselves.
pub(crate) fn writable() -> impl Iterator<Item = &'static Format> {
    let small = |format: &&Format| (format.padded)(1, &Options::default()).unwrap() < 1 << 30;
    FORMATS.iter().copied().filter(|format| format.create.is_some()).filter(small)
}

/// A way to make an image.
#[derive(Clone)]
pub(crate) struct Variant {
    pub(crate) name: String,
    pub(crate) create: Create,
    /// Whether files lie beside it.
    pub(crate) beside: bool,
}

/// Of the ways to make an image those that make one file.
pub(crate) fn lone_variants(format: &'static Format, size: u64) -> Vec<Variant> {
    variants(format, size).into_iter().filter(|variant| !variant.beside).collect()
}

/// Ways to make an image of this format: every value of every option by itself, with and without
/// compression, and some of them together. They follow from what the format says of its options.
pub(crate) fn variants(format: &'static Format, size: u64) -> Vec<Variant> {
    let all: Vec<_> = format.options.iter().map(|help| (help.name, values(help))).collect();
    let mut lists: Vec<Vec<(&str, String)>> = vec![Vec::new()];
    for (name, values) in &all {
        lists.extend(values.iter().map(|value| vec![(*name, value.clone())]));
    }
    let mut dice = Dice::new(20);
    let rich: Vec<_> = all.iter().filter(|(_, values)| !values.is_empty()).collect();
    for _ in 0..if rich.len() > 1 { 60 } else { 0 } {
        let mut list: Vec<(&str, String)> = Vec::new();
        for _ in 0..2 + dice.below(3) {
            let (name, values) = dice.one_of(&rich);
            if list.iter().all(|(is, _)| is != name) {
                list.push((name, dice.one_of(values).clone()));
            }
        }
        lists.push(list);
    }
    let both = lists.into_iter().flat_map(|list| [(list.clone(), false), (list, true)]);
    both.filter_map(|(list, compress)| variant(format, size, &list, compress)).collect()
}

/// A variant, if the format has it.
fn variant(
    format: &'static Format,
    size: u64,
    list: &[(&str, String)],
    compress: bool,
) -> Option<Variant> {
    let pairs = list.iter().map(|(name, value)| ((*name).to_string(), value.clone()));
    let create = Create { size, compress, options: Options::new(pairs), ..Default::default() };
    let words: Vec<_> = list.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let packed = if compress { " compressed" } else { "" };
    let name = format!("{} {}{packed}", format.name, words.join(","));
    let folder = Folder::default();
    let tried = Create { beside: Some(Arc::new(folder.clone())), ..create.clone() };
    match format.create?(Arc::new(Memory::default()), &tried) {
        Ok(_) => Some(Variant { name, create, beside: !folder.files().is_empty() }),
        Err(error) if error.kind() == Kind::Invalid => None,
        Err(error) => panic!("{name}: {error:?}"),
    }
}

/// Values of an option, out of the words that explain it.
pub(crate) fn values(help: &OptionHelp) -> Vec<String> {
    let words: Vec<_> = help.values.split([' ', ',', '(', ')']).collect();
    if help.values.contains('|') {
        return help.values.split('|').map(str::to_string).collect();
    }
    let ranges = words.windows(3).filter(|three| three[1] == "to");
    if help.values.contains("power of two") {
        let sizes = ranges.map(|three| [three[0], three[2]].map(|text| parse_size(text).unwrap()));
        let powers = sizes.flat_map(|[low, high]| {
            std::iter::successors(Some(low), move |size| {
                Some(size * 2).filter(|next| *next <= high)
            })
        });
        return powers.map(|size| size.to_string()).collect();
    }
    ranges.flat_map(|three| [three[0].to_string(), three[2].to_string()]).collect()
}

/// The folder with the images that belong to the project.
pub(crate) fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata")
}

/// An image of the project's testdata, with what is known of it.
#[derive(Clone)]
pub(crate) struct Good {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) facts: Vec<(String, String)>,
}

impl Good {
    /// What `NAME.toml` says of a key.
    pub(crate) fn fact(&self, key: &str) -> &str {
        let found = self.facts.iter().find(|(is, _)| is == key);
        found.map_or_else(|| panic!("{} says no {key}", self.name), |(_, value)| value)
    }

    /// Whether it can be read by itself: without another file, and without a key.
    pub(crate) fn stands_alone(&self) -> bool {
        self.facts.iter().all(|(key, _)| !["beside", "key"].contains(&key.as_str()))
    }
}

/// All images of testdata/good, unpacked.
pub(crate) fn goods() -> Vec<Good> {
    kept("good")
}

/// All images of testdata/bad, unpacked.
pub(crate) fn bads() -> Vec<Good> {
    kept("bad")
}

fn kept(folder: &str) -> Vec<Good> {
    let mut found = Vec::new();
    for format in std::fs::read_dir(testdata().join(folder)).expect("a folder of testdata") {
        for file in std::fs::read_dir(format.expect("readable").path()).expect("a folder") {
            let path = file.expect("readable").path();
            if path.extension().is_some_and(|end| end == "toml") {
                found.push(good(&path));
            }
        }
    }
    found.sort_by(|one, two| one.name.cmp(&two.name));
    assert!(!found.is_empty(), "testdata/{folder} is empty");
    found
}

fn good(path: &Path) -> Good {
    let text = std::fs::read_to_string(path).expect("readable");
    let pair = |line: &str| {
        let (key, value) = line.split_once('=')?;
        Some((key.trim().to_string(), value.trim().trim_matches('"').to_string()))
    };
    let facts = text.lines().filter(|line| !line.starts_with('#')).filter_map(pair).collect();
    let packed = std::fs::read(path.with_extension("zst")).expect("the image itself");
    let bytes = zstd::decode_all(&packed[..]).expect("a zstd file");
    let name = path.file_stem().expect("it has a name").to_string_lossy().into_owned();
    Good { name, bytes, facts }
}
