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
    /// A byte of an image that is turned over beforehand: which image, and where.
    pub(crate) harm: Vec<(&'static str, u64)>,
}

impl Deed {
    fn new(format: &str, words: String, promise: Promise) -> Deed {
        let (needs, harm) = (Vec::new(), Vec::new());
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
        for (image, at) in &self.harm {
            let mut bytes = place.get(image);
            let at = usize::try_from(*at).expect("small");
            bytes[at] ^= 0xff;
            place.put(image, &bytes);
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

/// Formats whose images change in place, with what makes one.
const IN_PLACE: [(&str, &str); 7] = [
    ("raw", ""),
    ("qcow2", "-o cluster_size=4k"),
    ("vmdk", ""),
    ("vhd", "-o block_size=512k"),
    ("vhdx", "-o block_size=1M"),
    ("vdi", ""),
    ("ploop", "-o cluster_size=32k"),
];

/// Where a byte may be wrong such that a repair mends it: in what, and the words that make it.
const HARM: [(&str, &str, &[u64]); 6] = [
    // The refcount of the first cluster, and one further on.
    ("qcow2", "-o cluster_size=4k", &[0x2001, 0x2011]),
    // A grain table, whose twin is right.
    ("vmdk", "", &[0x2c00]),
    // The copy of the footer in front.
    ("vhd", "-o block_size=512k", &[0x20]),
    // The sum of one of the two headers.
    ("vhdx", "-o block_size=1M", &[0x10004]),
    // How many blocks have been given room.
    ("vdi", "", &[0x184]),
    // The mark of one that is in use.
    ("ploop", "-o cluster_size=32k", &[0x2c]),
];

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
    for (format, words) in IN_PLACE {
        let words = if words.is_empty() { String::new() } else { format!(" {words}") };
        let create = format!("create -q -f {format}{words} new 3M");
        deeds.push(Deed::new(format, create.clone(), Promise::Whole));
        let made = format!("convert -q -O {format}{words} disk.raw image");
        let kept = || Promise::Keeps(Kept { image: "image", format, damaged: false });
        // A vmdk image does not become smaller.
        let sizes: &[_] = if format == "vmdk" { &["+5M"] } else { &["+5M", "--shrink 1M"] };
        for size in sizes {
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
    for (format, words, places) in HARM {
        let promise = Promise::Keeps(Kept { image: "image", format, damaged: true });
        let repair = Deed::new(format, format!("check -q -r all -f {format} image"), promise);
        let needs = vec![format!("convert -q -O {format} {words} disk.raw image")];
        let harm = places.iter().map(|at| ("image", *at)).collect();
        deeds.push(Deed { needs, harm, ..repair });
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
