"""qcow2."""

import struct
import zlib

from .image import Image, family

CLUSTER = 4096
HEADER = 0
REFTABLE = 1 * CLUSTER
REFBLOCK = 2 * CLUSTER
L1 = 3 * CLUSTER
L2 = 4 * CLUSTER
DATA = 5 * CLUSTER
SIZE = 64 << 10
COPIED = 1 << 63
COMPRESSED = 1 << 62
FAR = 1 << 40
EXTENSIONS = 112

FORMAT_NAME = 0xE2792ACA
FEATURE_NAMES = 0x6803F857
BITMAPS = 0x23852875
DATA_FILE = 0x44415441
ENCRYPTION = 0x0537BE77


def sound(clusters=2):
    """A disk of 64 KiB in clusters of 4 KiB, of which the first two are there."""
    image = Image(bytes(DATA + clusters * CLUSTER))
    head = struct.pack(
        ">4sIQIIQIIQQIIQ", b"QFI\xfb", 3, 0, 0, 12, SIZE, 0, 1, L1, REFTABLE, 1, 0, 0
    )
    head += struct.pack(">QQQII", 0, 0, 0, 4, 112) + bytes(8)
    image = image.put(HEADER, head).be64(REFTABLE, REFBLOCK).be64(L1, COPIED | L2)
    for index in range(5 + clusters):
        image = image.be16(REFBLOCK + index * 2, 1)
    for index in range(clusters):
        at = DATA + index * CLUSTER
        image = image.be64(L2 + index * 8, COPIED | at).put(at, bytes([0x11 + index]) * CLUSTER)
    return image


def extension(image, kind, data, length=None):
    """A header extension in front of whatever follows."""
    length = len(data) if length is None else length
    return image.put(EXTENSIONS, struct.pack(">II", kind, length) + data)


def over(name, form=b"raw"):
    """An image with this backing file and nothing of its own."""
    image = sound().put(L2, bytes(CLUSTER))
    if form:
        image = extension(image, FORMAT_NAME, form)
    return image.put(2048, name).be64(8, 2048).be32(16, len(name))


def data_file(name, raw):
    """An image whose bytes lie in this file."""
    image = extension(sound(), DATA_FILE, name).be64(72, 1 << 2)
    return image.be64(88, 2) if raw else image


NAMES = [
    ("passwd", b"/etc/passwd", "an absolute path of the host"),
    ("environ", b"/proc/self/environ", "the environment of whoever reads it"),
    ("parent", b"../../../../etc/passwd", "a path that climbs out of its folder"),
]
PROTOCOLS = [
    ("json", b"json:{'driver':'file','filename':'/etc/passwd'}", "a description of a driver"),
    ("nbd", b"nbd:127.0.0.1:10809", "a server on the network"),
    ("ssh", b"ssh://host/etc/passwd", "another machine"),
    ("http", b"http://169.254.169.254/latest/meta-data", "the metadata service of a cloud"),
    ("fd", b"fd:0", "a file that is open already"),
]


def references(add):
    for word, name, what in NAMES + PROTOCOLS:
        kind_of = "protocol" if (word, name, what) in PROTOCOLS else "reference"
        cve = "qemu-img follows it, and so did Glance and Nova: CVE-2015-5163, CVE-2015-1850"
        if kind_of == "protocol":
            cve = "qemu-img opens it, with whatever the program behind it may do: CVE-2024-4467"
        add(
            f"qcow2-backing-{word}",
            kind_of,
            "open",
            "refused",
            f"The backing file is {what}. {cve}.",
            over(name),
        )
        add(
            f"qcow2-backing-{word}-allowed",
            kind_of,
            "follow",
            "refused",
            f"The backing file is {what}, and names in the image's own folder may be followed.",
            over(name),
        )
        add(
            f"qcow2-backing-{word}-listed",
            kind_of,
            "inspect",
            "hazard: reference",
            f"The backing file is {what}: it is told, and not opened.",
            over(name),
        )
    cve = "qemu-img info opened it: CVE-2024-32498, and CVE-2024-40767 by way of another format"
    for raw in (False, True):
        word = "raw-data-file" if raw else "data-file"
        add(
            f"qcow2-{word}",
            "reference",
            "open",
            "refused",
            f"Its bytes lie in /etc/passwd. {cve}.",
            data_file(b"/etc/passwd", raw),
        )
        add(
            f"qcow2-{word}-listed",
            "reference",
            "inspect",
            "hazard: reference",
            f"Its bytes lie in /etc/passwd, which is told and not opened. {cve}.",
            data_file(b"/etc/passwd", raw),
        )
    add(
        "qcow2-data-file-json",
        "protocol",
        "follow",
        "refused",
        f"Its bytes lie in a description of a driver. {cve}.",
        data_file(b"json:{'driver':'nbd','host':'::1'}", False),
    )
    add(
        "qcow2-data-file-unused",
        "reference",
        "inspect",
        "hazard: irregular",
        "It names a data file without the bit that says so.",
        extension(sound(), DATA_FILE, b"/etc/passwd"),
    )
    add(
        "qcow2-data-file-nameless",
        "reference",
        "inspect",
        "malformed",
        "It says that its bytes are elsewhere, and not where.",
        sound().be64(72, 1 << 2),
    )
    add(
        "qcow2-backing-of-no-format",
        "reference",
        "follow",
        "refused",
        "The format of the backing file is not said, and a guest who writes that file could choose "
        "it: qemu-img guesses. CVE-2015-1851 came of a guess like it.",
        over(b"qcow2-backing-passwd", b""),
        "qcow2-backing-passwd",
    )


def cycles(add):
    story = "qemu-img spins over it for minutes"
    add(
        "qcow2-self",
        "cycle",
        "follow",
        "refused",
        f"Its backing file is itself: {story}.",
        over(b"qcow2-self", b"qcow2"),
    )
    add(
        "qcow2-cycle-one",
        "cycle",
        "follow",
        "refused",
        f"Two images lie on each other: {story}.",
        over(b"qcow2-cycle-two", b"qcow2"),
        "qcow2-cycle-two",
    )
    add(
        "qcow2-cycle-two",
        "cycle",
        "follow",
        "refused",
        "The other one of two images that lie on each other.",
        over(b"qcow2-cycle-one", b"qcow2"),
        "qcow2-cycle-one",
    )
    kind = "finding: corruption"
    for word, entry, at in [
        ("l1-on-itself", L1, L1),
        ("l1-on-header", 0x8000_0000_0000_0000, L1),
        ("l2-on-itself", L2, L2),
        ("l2-on-l1", L1, L2),
        ("l2-on-refcounts", REFBLOCK, L2),
    ]:
        image = sound().be64(at, COPIED | entry)
        add(
            f"qcow2-{word}",
            "cycle",
            "check",
            kind,
            "A table leads back to the metadata: who writes there rewrites the image. What tables "
            "say was believed in CVE-2014-0144.",
            image,
        )
        add(
            f"qcow2-{word}-strict",
            "cycle",
            "strict",
            "refused",
            "A table leads back to the metadata, where only sound images are wanted.",
            image,
        )
    add(
        "qcow2-refcounts-on-header",
        "cycle",
        "check",
        kind,
        "The refcount table says that the header is a refcount block.",
        sound().be64(REFTABLE, 0x0000).be64(REFTABLE + 8, REFTABLE),
    )


def overlaps(add):
    twice = sound().be64(L2 + 8, COPIED | DATA)
    add(
        "qcow2-cluster-twice",
        "overlap",
        "check",
        "finding: corruption",
        "Two places of the disk share a cluster: who writes one writes the other.",
        twice,
    )
    add(
        "qcow2-cluster-twice-strict",
        "overlap",
        "strict",
        "refused",
        "Two places of the disk share a cluster, where only sound images are wanted.",
        twice,
    )
    l2_twice = sound().be64(24, SIZE * 64).be32(36, 2).be64(L1 + 8, COPIED | L2)
    add(
        "qcow2-l2-twice",
        "overlap",
        "check",
        "finding: corruption",
        "Two entries of the L1 table share an L2 table.",
        l2_twice,
    )
    add(
        "qcow2-inside-a-cluster",
        "overlap",
        "read",
        "malformed",
        "A cluster begins inside another one.",
        sound().be64(L2, DATA + 512),
    )


def sizes(add):
    cve = "sizes that nobody checked were CVE-2014-0144 and CVE-2014-0145"
    for word, at, number, kind, what in [
        ("l1-size", 36, 0xFFFFFFFF, "limit", "The L1 table has 2^32 - 1 entries"),
        ("refcount-table", 56, 0xFFFFFFFF, "limit", "The refcount table has 2^32 - 1 clusters"),
    ]:
        add(
            f"qcow2-{word}",
            "table-size",
            "inspect",
            kind,
            f"{what}: {cve}.",
            sound().be32(at, number),
        )
    for word, at, number, what in [
        ("snapshots", 60, 0xFFFFFFFF, "It has 2^32 - 1 snapshots"),
        ("one-snapshot-too-many", 60, 65537, "It has 65,537 snapshots"),
    ]:
        add(
            f"qcow2-{word}",
            "count",
            "inspect",
            "limit",
            f"{what}: {cve}.",
            sound().be32(at, number),
        )
    add(
        "qcow2-bitmaps",
        "count",
        "inspect",
        "malformed",
        "It has 2^32 - 1 bitmaps.",
        extension(sound(), BITMAPS, b"\xff" * 24),
    )
    add(
        "qcow2-bitmaps-missing",
        "past-the-end",
        "inspect",
        "truncated",
        "The list of its bitmaps lies behind the end of the file.",
        extension(sound(), BITMAPS, struct.pack(">IIQQ", 1, 0, 24, FAR)),
    )
    row = struct.pack(">QIHHIIQII", 0, 0xFFFFFFFF, 0, 0, 0, 0, 0, 0, 0)
    add(
        "qcow2-snapshot-l1",
        "table-size",
        "inspect",
        "limit",
        f"The L1 table of a snapshot has 2^32 - 1 entries: {cve}.",
        sound().put(DATA + 2 * CLUSTER, row + bytes(64)).be32(60, 1).be64(64, DATA + 2 * CLUSTER),
    )
    row = struct.pack(">QIHHIIQII", 0, 0, 0, 0, 0, 0, 0, 0, 0xFFFFFFFF)
    add(
        "qcow2-snapshot-extra",
        "table-size",
        "inspect",
        "malformed",
        "A snapshot has 2^32 - 1 bytes of extra data.",
        sound().put(DATA + 2 * CLUSTER, row + bytes(64)).be32(60, 1).be64(64, DATA + 2 * CLUSTER),
    )
    add(
        "qcow2-snapshot-names",
        "past-the-end",
        "inspect",
        "truncated",
        "The names of a snapshot go on behind the end of the file.",
        sound()
        .put(DATA + 2 * CLUSTER, struct.pack(">QIHHIIQII", 0, 0, 65535, 65535, 0, 0, 0, 0, 0))
        .be32(60, 1)
        .be64(64, DATA + 2 * CLUSTER),
    )
    add(
        "qcow2-disk-size",
        "overflow",
        "inspect",
        "malformed",
        "A disk of 2^64 - 1 bytes.",
        sound().be64(24, 0xFFFFFFFFFFFFFFFF),
    )


def overflows(add):
    for word, at, number, what in [
        ("header-length", 100, 0xFFFFFFF8, "The header has 4 GiB"),
        ("header-length-zero", 100, 0, "The header has no bytes"),
        ("cluster-bits", 20, 63, "A cluster has 2^63 bytes"),
        ("cluster-bits-wrap", 20, 0xFFFFFFFF, "A cluster has 2 to the power of 2^32 - 1 bytes"),
        ("refcount-order", 96, 7, "A refcount has 128 bits"),
        ("refcount-order-wrap", 96, 0xFFFFFFFF, "A refcount has 2 to the 2^32 - 1 bits"),
    ]:
        add(
            f"qcow2-{word}",
            "overflow",
            "inspect",
            "malformed",
            f"{what}.",
            sound().be32(at, number),
        )
    add(
        "qcow2-extension-length",
        "overflow",
        "inspect",
        "malformed",
        "A header extension has 2^32 - 1 bytes: CVE-2014-0144 read past the header.",
        extension(sound(), 0x1234, b"", 0xFFFFFFFF),
    )
    add(
        "qcow2-extension-twice",
        "count",
        "inspect",
        "malformed",
        "A header extension stands there twice: readers differ in which one they take.",
        extension(sound(), 0x1234, bytes(8) + struct.pack(">II", 0x1234, 0), 8),
    )
    add(
        "qcow2-backing-name-offset",
        "overflow",
        "inspect",
        "malformed",
        "The name of the backing file begins at the last offset there is.",
        sound().be64(8, 0xFFFFFFFFFFFFFFFF).be32(16, 9),
    )
    add(
        "qcow2-l1-last-offset",
        "overflow",
        "read",
        "truncated",
        "The L1 table lies at the end of all offsets.",
        sound().be64(40, 0xFFFFFFFFFFFFF000),
    )
    for word, at, entry, what in [
        ("l1-past", L1, COPIED | FAR, "An L2 table lies behind the end of the file"),
        ("l2-past", L2, COPIED | FAR, "A cluster lies behind the end of the file"),
        ("packed-past", L2, COMPRESSED | FAR, "A compressed cluster lies behind the end"),
        ("packed-last", L2, (1 << 63) - 1, "A compressed cluster lies at the last offset"),
    ]:
        add(
            f"qcow2-{word}",
            "past-the-end",
            "read",
            "truncated",
            f"{what}: qemu-img reads zeros there and says nothing.",
            sound().be64(at, entry),
        )
    add(
        "qcow2-packed-none",
        "past-the-end",
        "read",
        "malformed",
        "A compressed cluster that is no such thing.",
        sound().be64(L2, COMPRESSED | L2),
    )
    add(
        "qcow2-cut",
        "truncation",
        "read",
        "truncated",
        "The file ends inside a cluster: qemu-img fills up with zeros and says that all is well.",
        sound().cut(DATA + CLUSTER + 100),
    )
    add(
        "qcow2-cut-header",
        "truncation",
        "inspect",
        "truncated",
        "The file ends inside its header.",
        sound().cut(60),
    )


def bombs(add):
    packed = zlib.compressobj(9, zlib.DEFLATED, -12)
    stream = packed.compress(b"\xaa" * 65536) + packed.flush()
    # Clusters of 64 KiB: one compressed one, 8192 entries that share it, 16 tables that are one.
    cluster = 65536
    image = Image(bytes(5 * cluster))
    head = (
        struct.pack(
            ">4sIQIIQIIQQIIQ",
            b"QFI\xfb",
            3,
            0,
            0,
            16,
            8 << 30,
            0,
            16,
            3 * cluster,
            cluster,
            1,
            0,
            0,
        )
        + struct.pack(">QQQII", 0, 0, 0, 4, 112)
        + bytes(8)
    )
    entry = COMPRESSED | (5 * cluster)
    image = image.put(0, head).be64(cluster, 2 * cluster)
    image = image.put(2 * cluster, struct.pack(">H", 1) * 6)
    image = image.put(3 * cluster, struct.pack(">Q", COPIED | 4 * cluster) * 16)
    image = image.put(4 * cluster, struct.pack(">Q", entry) * 8192)
    image = image.put(5 * cluster, stream.ljust(512, b"\0"))
    story = "A file of 330 KB, in which 131,072 clusters are the same few bytes, claims 8 GiB"
    add("qcow2-bomb", "bomb", "survey", "limit", f"{story}: qemu-img writes them all.", image)
    add("qcow2-bomb-strict", "bomb", "strict", "refused", f"{story}: as its refcounts show.", image)


def shared_tables(add):
    """A table of tables whose entries all lead to one, in which there is nothing."""
    cluster, tables = 65536, 8192
    image = Image(bytes(6 * cluster))
    head = struct.pack(
        ">4sIQIIQIIQQIIQ",
        b"QFI\xfb",
        3,
        0,
        0,
        16,
        tables * 8192 * cluster,
        0,
        tables,
        3 * cluster,
        cluster,
        1,
        0,
        0,
    )
    head += struct.pack(">QQQII", 0, 0, 0, 4, 112) + bytes(8)
    image = image.put(0, head).be64(cluster, 2 * cluster).put(2 * cluster, b"\0\1" * 6)
    image = image.put(3 * cluster, struct.pack(">Q", COPIED | 4 * cluster) * tables)
    add("qcow2-tables-shared", "bomb", "open", "limit", SHARED, image)


SHARED = (
    "Thousands of tables are one and the same, and empty: a small file that keeps whoever goes "
    "over its map busy for hours."
)


def luks(iterations, memory=None):
    """A header of LUKS 1 that says what its keys cost."""
    head = Image(bytes(592)).put(0, b"LUKS\xba\xbe\0\x01aes").put(40, b"xts-plain64")
    head = head.put(72, b"sha256").be32(104, 4096).be32(108, 64).be32(164, 1000)
    head = head.put(168, b"00000000-0000-4000-8000-000000000000")
    for slot in range(8):
        at = 208 + slot * 48
        head = head.be32(at, 0x00AC71F3 if slot == 0 else 0xDEAD)
        head = head.be32(at + 4, iterations if slot == 0 else 0)
        head = head.be32(at + 40, 8 + slot * 504).be32(at + 44, 4000)
    return head


def encryption(add):
    place = DATA + 2 * CLUSTER
    image = extension(sound(), ENCRYPTION, struct.pack(">QQ", place, 520 * CLUSTER))
    image = (
        image.be32(32, 2).put(place, bytes(luks(0xFFFFFFFF))).put(place + 520 * CLUSTER - 1, b"\0")
    )
    story = "To open its key slot takes 2^32 - 1 rounds of key derivation, hours of a host's time"
    add("qcow2-luks-cost", "encryption-cost", "inspect", "hazard: irregular", f"{story}.", image)
    add(
        "qcow2-luks-read",
        "encryption-cost",
        "read",
        "unsupported",
        "Content that is encrypted is never handed on as if it were plain; imago, qcow2-rs and "
        "others do that.",
        image,
    )
    add(
        "qcow2-aes",
        "encryption-cost",
        "read",
        "unsupported",
        "Content encrypted by the old method, which some readers hand on as it is.",
        sound().be32(32, 1),
    )


def texts(add):
    evil = b"\x1b]0;owned\x07\x1b[2J\r\n\xe2\x80\xaename\0"
    place = DATA + 2 * CLUSTER
    row = struct.pack(">QIHHIIQII", 0, 0, 1, len(evil), 0, 0, 0, 0, 0) + b"1" + evil
    add(
        "qcow2-snapshot-name",
        "control-characters",
        "inspect",
        "right",
        "The name of a snapshot steers the terminal of whoever lists it.",
        sound().put(place, row + bytes(64)).be32(60, 1).be64(64, place),
    )
    name = struct.pack(">BB46s", 0, 17, b"\x1b[2J\x1b]0;owned\x07\r\nfeature")
    add(
        "qcow2-feature-name",
        "control-characters",
        "inspect",
        "unsupported",
        "The table of features names one that is not known: the name goes into a message.",
        extension(sound(), FEATURE_NAMES, name).be64(72, 1 << 17),
    )
    add(
        "qcow2-backing-name",
        "control-characters",
        "open",
        "refused",
        "The name of the backing file steers the terminal of whoever reads the message.",
        over(b"\x1b[2J\x1b]0;owned\x07\r\nbase"),
    )


def attacks():
    found = []
    add = family("qcow2", found)
    for part in (
        references,
        cycles,
        overlaps,
        sizes,
        overflows,
        bombs,
        shared_tables,
        encryption,
        texts,
    ):
        part(add)
    return found
