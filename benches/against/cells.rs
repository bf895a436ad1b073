//! The matrix: which work is compared.

/// Of a command line.
type Words = &'static [&'static str];

/// A conversion: its name, how both are told to do it, and its input.
pub(crate) struct Cell {
    pub(crate) name: String,
    pub(crate) words: Words,
    /// What ours alone is told, where qemu-img has no such setting.
    pub(crate) ours: Words,
    pub(crate) input: String,
    /// Whether the processor is what takes the time, wherever the output is.
    pub(crate) computes: bool,
}

/// Work without an output: its name, the verb, and its words; inputs are named among them.
pub(crate) struct Question {
    pub(crate) name: &'static str,
    pub(crate) words: Words,
}

const fn question(name: &'static str, words: Words) -> Question {
    Question { name, words }
}

const QCOW2: Words = &["-O", "qcow2"];
const ZLIB: Words = &["-c", "-O", "qcow2"];
const ZSTD: Words = &["-c", "-O", "qcow2", "-o", "compression_type=zstd"];
const RAW: Words = &["-O", "raw"];
const VMDK: Words = &["-O", "vmdk"];
const STREAM: Words = &["-O", "vmdk", "-o", "subformat=streamOptimized"];
/// The size as it is, and not as cylinders have it.
const VHD: Words = &["-O", "vpc", "-o", "force_size=on"];
const VHDX: Words = &["-O", "vhdx"];
const VDI: Words = &["-O", "vdi"];

/// Formats that hold the bytes as they are: each is converted to each.
const PLAIN: [(&str, Words); 6] =
    [("raw", RAW), ("qcow2", QCOW2), ("vmdk", VMDK), ("vhd", VHD), ("vhdx", VHDX), ("vdi", VDI)];

/// From a disk of a real system: what is compressed, or is to be, and the names of the inputs.
const PACKED: [(&str, &str, Words, &str); 12] = [
    ("raw", "qcow2 -c zlib", ZLIB, "os.raw"),
    ("raw", "qcow2 -c zstd", ZSTD, "os.raw"),
    ("raw", "stream", STREAM, "os.raw"),
    ("qcow2", "stream", STREAM, "os.qcow2"),
    ("qcow2 zlib", "qcow2 zlib", ZLIB, "os.zlib.qcow2"),
    ("qcow2 zlib", "qcow2 zstd", ZSTD, "os.zlib.qcow2"),
    ("dense raw", "qcow2 -c zlib", ZLIB, "dense.raw"),
    ("dense raw", "stream", STREAM, "dense.raw"),
    ("sparse raw", "qcow2 -c zlib", ZLIB, "sparse.raw"),
    ("qcow2 zlib", "qcow2", QCOW2, "os.zlib.qcow2"),
    ("qcow2 zstd", "qcow2", QCOW2, "os.zstd.qcow2"),
    ("stream", "qcow2", QCOW2, "os.stream.vmdk"),
];

/// The whole matrix.
pub(crate) fn cells() -> Vec<Cell> {
    let cell = |from: &str, to: &str, words, input: String, computes| Cell {
        name: format!("{from} to {to}"),
        words,
        ours: &[],
        input,
        computes,
    };
    let plain = PLAIN.iter().flat_map(|(from, _)| {
        let cells = PLAIN.iter().map(move |(to, words)| (*from, *to, *words));
        cells.map(|(from, to, words)| cell(from, to, words, format!("os.{from}"), false))
    });
    let dense = [("raw", RAW), ("qcow2", QCOW2)].into_iter();
    let dense =
        dense.map(|(to, words)| cell("dense raw", to, words, "dense.raw".to_owned(), false));
    let sparse = ["raw", "qcow2"].into_iter().flat_map(|from| {
        let (name, input) = (format!("sparse {from}"), format!("sparse.{from}"));
        PLAIN.iter().map(move |(to, words)| cell(&name, to, words, input.clone(), false))
    });
    let unpacked = [("qcow2 zlib", "zlib.qcow2"), ("qcow2 zstd", "zstd.qcow2")].into_iter();
    let unpacked = unpacked.chain([("stream", "stream.vmdk")]);
    let unpacked = unpacked.map(|(from, of)| cell(from, "raw", RAW, format!("os.{of}"), false));
    let packed = PACKED.into_iter();
    let packed =
        packed.map(|(from, to, words, input)| cell(from, to, words, input.to_owned(), true));
    let level = Cell {
        ours: &["-o", "compression_level=1"],
        ..cell("raw", "qcow2 -c zlib, level 1", ZLIB, "os.raw".to_owned(), true)
    };
    plain.chain(dense).chain(sparse).chain(unpacked).chain(packed).chain([level]).collect()
}

impl Cell {
    /// The ending of the output's name.
    pub(crate) fn ending(&self) -> &'static str {
        match self.words.iter().skip_while(|word| **word != "-O").nth(1) {
            Some(&"vpc") => "vhd",
            Some(format) => format,
            None => "raw",
        }
    }
}

pub(crate) const QUESTIONS: &[Question] = &[
    question("info qcow2", &["info", "os.qcow2"]),
    question("info vhdx", &["info", "os.vhdx"]),
    question("info stream", &["info", "os.stream.vmdk"]),
    question("map raw", &["map", "--output=json", "-f", "raw", "os.raw"]),
    question("map qcow2", &["map", "--output=json", "os.qcow2"]),
    question("map sparse qcow2", &["map", "--output=json", "sparse.qcow2"]),
    question("map stream", &["map", "--output=json", "os.stream.vmdk"]),
    question("check qcow2", &["check", "os.qcow2"]),
    question("check qcow2 zlib", &["check", "os.zlib.qcow2"]),
    question("check sparse qcow2", &["check", "sparse.qcow2"]),
    question("check vmdk", &["check", "os.vmdk"]),
    question("check vdi", &["check", "os.vdi"]),
    question("check vhdx", &["check", "os.vhdx"]),
    question("measure raw", &["measure", "-f", "raw", "-O", "qcow2", "os.raw"]),
    question("measure sparse raw", &["measure", "-f", "raw", "-O", "qcow2", "sparse.raw"]),
    question("compare raw qcow2", &["compare", "-f", "raw", "os.raw", "os.qcow2"]),
    question("compare raw qcow2 zlib", &["compare", "-f", "raw", "os.raw", "os.zlib.qcow2"]),
];

/// How qemu-img is told to be fast; the best of them counts.
pub(crate) const VARIANTS: &[(&str, Words)] = &[
    ("default", &[]),
    ("-W -m 16", &["-W", "-m", "16"]),
    ("-t none -T none", &["-t", "none", "-T", "none"]),
];

/// Variants from this one on differ from others only in how storage is asked.
pub(crate) const CACHED: usize = 2;

/// What `qemu-img convert` makes of `os.raw` for the other inputs: the name, and how.
pub(crate) const DERIVED: &[(&str, Words)] = &[
    ("os.qcow2", QCOW2),
    ("os.zlib.qcow2", ZLIB),
    ("os.zstd.qcow2", ZSTD),
    ("os.vmdk", VMDK),
    ("os.stream.vmdk", STREAM),
    ("os.vhd", VHD),
    ("os.vhdx", VHDX),
    ("os.vdi", VDI),
];
