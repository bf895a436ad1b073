//! What the program is made to do, again and again, while something goes wrong.

use std::path::Path;

use crate::dice::Dice;
use crate::place::{Place, split};

/// What must hold if a deed does not come to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Promise {
    /// Nothing has changed, or all of it is done.
    Whole,
    /// Each file for itself is as it was, or as it is when all is done.
    Each,
    /// The image is changed in place: it opens, and holds what it held.
    Keeps(Kept),
    /// The file is written in place: it stays, and is as long as it was.
    Over(&'static str),
}

/// An image that is changed in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) image: &'static str,
    pub(crate) format: &'static str,
    /// Whether it was damaged, so that a check may find something until it is mended.
    pub(crate) damaged: bool,
}

/// Something the program does.
#[derive(Debug, Clone)]
pub(crate) struct Deed {
    /// What is counted together.
    pub(crate) format: String,
    pub(crate) words: String,
    pub(crate) promise: Promise,
    /// Words that make what is needed beforehand, each for itself.
    pub(crate) needs: Vec<String>,
    /// What is done to the image beforehand.
    pub(crate) harm: Option<Harm>,
}

/// Damages an image.
type Harm = fn(&mut [u8]);

impl Deed {
    fn new(format: &str, words: String, promise: Promise) -> Deed {
        let (needs, harm) = (Vec::new(), None);
        Deed { format: format.into(), words, promise, needs, harm }
    }

    /// A folder in which everything that is needed is there.
    pub(crate) fn place(&self, seed: u64) -> Place {
        self.place_in(&std::env::temp_dir(), seed)
    }

    /// The same, below this folder.
    pub(crate) fn place_in(&self, folder: &Path, seed: u64) -> Place {
        let mut place = Place::below(folder);
        let mut dice = Dice::new(seed);
        place.put("disk.raw", &dice.disk((2 << 20) + 1536));
        place.put("other.raw", &dice.disk((2 << 20) + 1536));
        for need in &self.needs {
            place.must(need);
        }
        if let Some(harm) = self.harm {
            let mut bytes = place.get("image");
            harm(&mut bytes);
            place.put("image", &bytes);
            let checked = place.run(&format!("check -q -f {} image", self.format));
            assert_eq!(checked.status.code(), Some(1), "{}: it is damaged", self.format);
        }
        place.remember();
        place
    }

    pub(crate) fn words(&self) -> Vec<String> {
        split(&self.words)
    }
}

/// Every kind of output: what is counted, the words, the name.
const OUTPUTS: [(&str, &str, &str); 27] = [
    ("raw", "-O raw", "out.raw"),
    ("qcow2", "-O qcow2", "out.qcow2"),
    ("qcow2", "-O qcow2 -c", "out.qcow2"),
    ("qcow2", "-O qcow2 -c -o compression_type=zstd", "out.qcow2"),
    ("qcow2", "-O qcow2 -o compat=v2,cluster_size=4k", "out.qcow2"),
    ("qcow2", "-O qcow2 -o extended_l2=on", "out.qcow2"),
    ("qcow2", "-O qcow2 -o preallocation=falloc", "out.qcow2"),
    ("qcow2", "-O qcow2 -o data_file=out.data", "out.qcow2"),
    ("vmdk", "-O vmdk", "out.vmdk"),
    ("vmdk", "-O vmdk -o subformat=streamOptimized", "out.vmdk"),
    ("vmdk", "-O vmdk -o subformat=monolithicFlat", "out.vmdk"),
    ("vmdk", "-O vmdk -o subformat=twoGbMaxExtentSparse", "out.vmdk"),
    ("vmdk", "-O vmdk -o subformat=twoGbMaxExtentFlat", "out.vmdk"),
    ("vhd", "-O vhd", "out.vhd"),
    ("vhd", "-O vhd -o subformat=fixed", "out.vhd"),
    ("vhdx", "-O vhdx -o block_size=1M", "out.vhdx"),
    ("vhdx", "-O vhdx -o subformat=fixed,block_size=1M", "out.vhdx"),
    ("vdi", "-O vdi", "out.vdi"),
    ("vdi", "-O vdi -o static=on", "out.vdi"),
    ("ploop", "-O ploop", "out.hds"),
    ("ova", "-O ova", "out.ova"),
    ("wrappers", "-O raw", "out.raw.zst"),
    ("wrappers", "-O raw", "out.raw.gz"),
    ("wrappers", "-O raw", "out.raw.xz"),
    ("wrappers", "-O qcow2", "out.qcow2.zst"),
    ("wrappers", "-O vhdx -o block_size=1M", "out.vhdx.gz"),
    ("raw", "-O raw -n", "out.raw"),
];

/// Formats whose images change in place, with what makes one, and by how much it has to grow for its
/// tables to find no room where they are.
const IN_PLACE: [(&str, &str, &str); 7] = [
    ("raw", "", "+5M"),
    ("qcow2", "-o cluster_size=512", "+5M"),
    ("vmdk", "", "+70M"),
    ("vhd", "-o block_size=512k", "+70M"),
    ("vhdx", "-o block_size=1M", "+70M"),
    ("vdi", "", "+70M"),
    ("ploop", "-o cluster_size=4k", "+5M"),
];

/// What may be wrong with an image such that a repair mends it, and the words that make the image.
const HARM: [(&str, &str, Harm); 6] = [
    ("qcow2", "-o cluster_size=4k", wrong_refcounts),
    // A grain table, whose twin is right.
    ("vmdk", "", |bytes| bytes[0x2c00] ^= 0xff),
    // The copy of the footer in front.
    ("vhd", "-o block_size=512k", |bytes| bytes[0x20] ^= 0xff),
    // The sum of one of the two headers.
    ("vhdx", "-o block_size=1M", |bytes| bytes[0x1_0004] ^= 0xff),
    // How many blocks have been given room.
    ("vdi", "", |bytes| bytes[0x184] ^= 0xff),
    // The mark of one that is in use.
    ("ploop", "-o cluster_size=32k", |bytes| {
        bytes[0x2c..0x30].copy_from_slice(&0x746f_6e59_u32.to_le_bytes());
    }),
];

/// Of two bytes each: one too many for one cluster, and none for another.
fn wrong_refcounts(bytes: &mut [u8]) {
    let word = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight"));
    let table = usize::try_from(word(48)).expect("small");
    let block = usize::try_from(word(table)).expect("small");
    bytes[block + 11] = 2;
    bytes[block + 21] = 0;
}

/// Everything that writes.
pub(crate) fn writing() -> Vec<Deed> {
    let mut deeds = Vec::new();
    for (format, words, name) in OUTPUTS {
        let make = |source: &str| format!("convert -q {words} {source} {name}");
        let in_place = words.contains("-n");
        let promise = if in_place { Promise::Over("out.raw") } else { Promise::Whole };
        let mut over = Deed::new(format, make("disk.raw"), promise);
        over.needs.push(make("other.raw").replace("-n", ""));
        deeds.push(over);
        if !in_place {
            deeds.push(Deed::new(format, make("disk.raw"), Promise::Whole));
        }
    }
    for (format, words, more) in IN_PLACE {
        let words = if words.is_empty() { String::new() } else { format!(" {words}") };
        let create = format!("create -q -f {format}{words} new 3M");
        deeds.push(Deed::new(format, create.clone(), Promise::Whole));
        let made = format!("convert -q -O {format}{words} disk.raw image");
        let kept = || Promise::Keeps(Kept { image: "image", format, damaged: false });
        // A vmdk image does not become smaller.
        for size in [more, "--shrink 1M"].into_iter().take(if format == "vmdk" { 1 } else { 2 }) {
            let words = format!("resize -q -f {format} image {size}");
            let needs = vec![made.clone()];
            deeds.push(Deed { needs, ..Deed::new(format, words, kept()) });
        }
        if format != "raw" {
            let words = format!("convert -q -n -O {format} other.raw image");
            let needs = vec![made.clone()];
            deeds.push(Deed { needs, ..Deed::new(format, words, Promise::Whole) });
        }
    }
    for (format, words, harm) in HARM {
        let promise = Promise::Keeps(Kept { image: "image", format, damaged: true });
        let repair = Deed::new(format, format!("check -r all -f {format} image"), promise);
        let needs = vec![format!("convert -q -O {format} {words} disk.raw image")];
        deeds.push(Deed { needs, harm: Some(harm), ..repair });
    }
    deeds.extend(containers());
    deeds
}

/// What gives several files, and volumes.
fn containers() -> Vec<Deed> {
    let packed = "convert -q -O ova disk.raw other.raw both.ova".to_owned();
    let tree = "convert -q -O raw both.ova tree/".to_owned();
    let volume = "iso create -q --label X tree both.iso".to_owned();
    let list = [
        ("ova", "convert -q -O raw both.ova tree/", Promise::Each, vec![packed.clone()]),
        ("ova", "convert -q -O qcow2 both.ova tree/", Promise::Each, vec![packed.clone()]),
        (
            "iso",
            "iso create -q --label X tree both.iso",
            Promise::Whole,
            vec![packed.clone(), tree.clone()],
        ),
        ("iso", "extract -q both.iso -C out", Promise::Each, vec![packed.clone(), tree, volume]),
        ("ova", "extract -q both.ova -C out", Promise::Each, vec![packed]),
        (
            "qcow2",
            "convert -q -O qcow2 -B other.raw -F raw disk.raw over.qcow2",
            Promise::Whole,
            Vec::new(),
        ),
    ];
    let deed = |(format, words, promise, needs)| {
        let words: &str = words;
        Deed { needs, ..Deed::new(format, words.into(), promise) }
    };
    list.into_iter().map(deed).collect()
}

/// What can be asked of an image in every format.
pub(crate) fn reading() -> Vec<Deed> {
    let mut deeds = Vec::new();
    let made = OUTPUTS.into_iter().filter(|(_, words, _)| !words.contains("-n"));
    for (format, words, name) in made {
        let needs = vec![format!("convert -q {words} disk.raw {name}")];
        let mut asked = vec![
            format!("convert -q --allow-refs {name} back.raw"),
            format!("compare --allow-refs disk.raw {name}"),
            format!("info {name}"),
            format!("inspect {name}"),
        ];
        if format != "raw" && format != "ova" {
            asked.push(format!("map --allow-refs {name}"));
        }
        if !["raw", "wrappers"].contains(&format) {
            asked.push(format!("check --allow-refs {name}"));
        }
        for words in asked {
            let needs = needs.clone();
            deeds.push(Deed { needs, ..Deed::new(format, words, Promise::Whole) });
        }
    }
    deeds
}
