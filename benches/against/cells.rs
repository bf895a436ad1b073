//! The matrix: which work is compared.

/// A conversion: its name, how both are told to do it, its input, and the ending of its output.
pub(crate) struct Cell {
    pub(crate) name: &'static str,
    pub(crate) words: &'static [&'static str],
    pub(crate) input: &'static str,
    pub(crate) ending: &'static str,
}

/// Work without an output: its name, the verb, and its words; inputs are named among them.
pub(crate) struct Question {
    pub(crate) name: &'static str,
    pub(crate) words: &'static [&'static str],
}

const fn cell(
    name: &'static str,
    words: &'static [&'static str],
    input: &'static str,
    ending: &'static str,
) -> Cell {
    Cell { name, words, input, ending }
}

const fn question(name: &'static str, words: &'static [&'static str]) -> Question {
    Question { name, words }
}

const QCOW2: &[&str] = &["-O", "qcow2"];
const ZLIB: &[&str] = &["-c", "-O", "qcow2"];
const ZSTD: &[&str] = &["-c", "-O", "qcow2", "-o", "compression_type=zstd"];
const RAW: &[&str] = &["-O", "raw"];
const VMDK: &[&str] = &["-O", "vmdk"];
const STREAM: &[&str] = &["-O", "vmdk", "-o", "subformat=streamOptimized"];
/// The size as it is, and not as cylinders have it.
const VHD: &[&str] = &["-O", "vpc", "-o", "force_size=on"];
const VHDX: &[&str] = &["-O", "vhdx"];
const VDI: &[&str] = &["-O", "vdi"];

pub(crate) const CELLS: &[Cell] = &[
    cell("raw to qcow2", QCOW2, "os.raw", "qcow2"),
    cell("raw to vmdk", VMDK, "os.raw", "vmdk"),
    cell("raw to vhd", VHD, "os.raw", "vhd"),
    cell("raw to vhdx", VHDX, "os.raw", "vhdx"),
    cell("raw to vdi", VDI, "os.raw", "vdi"),
    cell("raw to raw", RAW, "os.raw", "raw"),
    cell("qcow2 to raw", RAW, "os.qcow2", "raw"),
    cell("vmdk to raw", RAW, "os.vmdk", "raw"),
    cell("vhd to raw", RAW, "os.vhd", "raw"),
    cell("vhdx to raw", RAW, "os.vhdx", "raw"),
    cell("vdi to raw", RAW, "os.vdi", "raw"),
    cell("qcow2 to qcow2", QCOW2, "os.qcow2", "qcow2"),
    cell("qcow2 to vmdk", VMDK, "os.qcow2", "vmdk"),
    cell("qcow2 to vhd", VHD, "os.qcow2", "vhd"),
    cell("qcow2 to vhdx", VHDX, "os.qcow2", "vhdx"),
    cell("qcow2 to vdi", VDI, "os.qcow2", "vdi"),
    cell("vmdk to qcow2", QCOW2, "os.vmdk", "qcow2"),
    cell("vhd to qcow2", QCOW2, "os.vhd", "qcow2"),
    cell("vhdx to qcow2", QCOW2, "os.vhdx", "qcow2"),
    cell("vdi to qcow2", QCOW2, "os.vdi", "qcow2"),
    cell("raw to qcow2 -c zlib", ZLIB, "os.raw", "qcow2"),
    cell("raw to qcow2 -c zstd", ZSTD, "os.raw", "qcow2"),
    cell("raw to stream", STREAM, "os.raw", "vmdk"),
    cell("qcow2 to stream", STREAM, "os.qcow2", "vmdk"),
    cell("qcow2 zlib to raw", RAW, "os.zlib.qcow2", "raw"),
    cell("qcow2 zstd to raw", RAW, "os.zstd.qcow2", "raw"),
    cell("stream to raw", RAW, "os.stream.vmdk", "raw"),
    cell("stream to qcow2", QCOW2, "os.stream.vmdk", "qcow2"),
    cell("qcow2 zlib to qcow2", QCOW2, "os.zlib.qcow2", "qcow2"),
    cell("qcow2 zlib to qcow2 zlib", ZLIB, "os.zlib.qcow2", "qcow2"),
    cell("qcow2 zlib to qcow2 zstd", ZSTD, "os.zlib.qcow2", "qcow2"),
    cell("dense raw to qcow2", QCOW2, "dense.raw", "qcow2"),
    cell("dense raw to qcow2 -c zlib", ZLIB, "dense.raw", "qcow2"),
    cell("dense raw to stream", STREAM, "dense.raw", "vmdk"),
    cell("dense raw to raw", RAW, "dense.raw", "raw"),
    cell("sparse raw to qcow2", QCOW2, "sparse.raw", "qcow2"),
    cell("sparse raw to qcow2 -c zlib", ZLIB, "sparse.raw", "qcow2"),
    cell("sparse qcow2 to raw", RAW, "sparse.qcow2", "raw"),
    cell("sparse raw to raw", RAW, "sparse.raw", "raw"),
    cell("sparse raw to vmdk", VMDK, "sparse.raw", "vmdk"),
    cell("sparse raw to vhd", VHD, "sparse.raw", "vhd"),
    cell("sparse raw to vhdx", VHDX, "sparse.raw", "vhdx"),
    cell("sparse raw to vdi", VDI, "sparse.raw", "vdi"),
];

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
pub(crate) const VARIANTS: &[(&str, &[&str])] = &[
    ("default", &[]),
    ("-W -m 16", &["-W", "-m", "16"]),
    ("-t none -T none", &["-t", "none", "-T", "none"]),
];

/// What `qemu-img convert` makes of `os.raw` for the other inputs: the name, and how.
pub(crate) const DERIVED: &[(&str, &[&str])] = &[
    ("os.qcow2", QCOW2),
    ("os.zlib.qcow2", ZLIB),
    ("os.zstd.qcow2", ZSTD),
    ("os.vmdk", VMDK),
    ("os.stream.vmdk", STREAM),
    ("os.vhd", VHD),
    ("os.vhdx", VHDX),
    ("os.vdi", VDI),
];
