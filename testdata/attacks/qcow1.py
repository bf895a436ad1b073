"""qcow and qed."""

import struct
import zlib

from .image import Image, family
from .qcow import CLUSTER, FAR, NAMES, PROTOCOLS, SHARED, SIZE


def qcow1():
    """A disk of 64 KiB in clusters of 4 KiB: the first is there."""
    head = struct.pack(">4sIQIIQBBHIQ", b"QFI\xfb", 1, 0, 0, 0, SIZE, 12, 9, 0, 0, 48)
    image = Image(head).be64(48, CLUSTER).put(CLUSTER, bytes(CLUSTER)).be64(CLUSTER, 2 * CLUSTER)
    return image.put(2 * CLUSTER, b"\x11" * CLUSTER)


def qcow(add):
    sound1 = qcow1()
    names = [(word, name, "reference") for word, name, _ in NAMES]
    names += [(word, name, "protocol") for word, name, _ in PROTOCOLS]
    for word, name, kind_of in names:
        over1 = sound1.put(64, name).be64(8, 64).be32(16, len(name))
        add(
            f"qcow-backing-{word}",
            kind_of,
            "open",
            "refused",
            "A backing file that it may not name; qemu-img follows it: CVE-2015-5163.",
            over1,
        )
    own = sound1.put(64, b"qcow-self").be64(8, 64).be32(16, 9)
    add(
        "qcow-self",
        "cycle",
        "follow",
        "refused",
        "It names itself as its backing file, of a format that it cannot say.",
        own,
    )
    add(
        "qcow-l1-past",
        "past-the-end",
        "read",
        "truncated",
        "Its L1 table lies behind the end of the file.",
        sound1.be64(40, FAR),
    )
    add(
        "qcow-l1-header",
        "cycle",
        "inspect",
        "malformed",
        "Its L1 table lies over its header.",
        sound1.be64(40, 0),
    )
    add(
        "qcow-l2-header",
        "cycle",
        "check",
        "finding: corruption",
        "An entry of its L1 table leads to the L1 table.",
        sound1.be64(48, 48),
    )
    add(
        "qcow-cluster-past",
        "past-the-end",
        "read",
        "truncated",
        "A cluster lies behind the end of the file: qemu-img reads zeros.",
        sound1.be64(CLUSTER, FAR),
    )
    add(
        "qcow-packed-past",
        "past-the-end",
        "read",
        "truncated",
        "A compressed cluster lies behind the end of the file.",
        sound1.be64(CLUSTER, (1 << 63) | (512 << 51) | (1 << 40)),
    )
    add(
        "qcow-cluster-twice",
        "overlap",
        "check",
        "finding: corruption",
        "Two places of the disk share a cluster.",
        sound1.be64(CLUSTER + 8, 2 * CLUSTER),
    )
    for word, at, number, what in [
        ("cluster-bits", 32, 63, "A cluster has 2^63 bytes"),
        ("l2-bits", 33, 255, "A table has 2^255 entries: CVE-2014-0222"),
    ]:
        add(
            f"qcow-{word}",
            "overflow",
            "inspect",
            "malformed",
            f"{what}.",
            sound1.put(at, bytes([number])),
        )
    add(
        "qcow-size",
        "overflow",
        "open",
        "limit",
        "A disk of 2^64 - 512 bytes: its number of tables wrapped in CVE-2014-0223.",
        sound1.be64(24, 0xFFFFFFFFFFFFFE00),
    )
    add(
        "qcow-tables",
        "table-size",
        "read",
        "truncated",
        "A disk whose first table would take 2 TiB: nothing of it becomes memory.",
        sound1.be64(24, 1 << 59),
    )
    add(
        "qcow-name",
        "table-size",
        "inspect",
        "malformed",
        "The name of the backing file has 4 GiB.",
        sound1.be64(8, 64).be32(16, 0xFFFFFFFF),
    )
    add(
        "qcow-cut",
        "truncation",
        "read",
        "truncated",
        "The file ends inside a cluster: qemu-img fills up with zeros.",
        sound1.cut(2 * CLUSTER + 9),
    )
    add(
        "qcow-aes",
        "encryption-cost",
        "read",
        "unsupported",
        "Encrypted content is never handed on as it is.",
        sound1.be32(36, 1),
    )
    stream = zlib.compressobj(9, zlib.DEFLATED, -12)
    stream = stream.compress(b"\xaa" * 65536) + stream.flush()
    bomb = Image(struct.pack(">4sIQIIQBBHIQ", b"QFI\xfb", 1, 0, 0, 0, 8 << 30, 16, 13, 0, 0, 48))
    bomb = bomb.put(48, struct.pack(">Q", 65536) * 16)
    entry = (1 << 63) | (512 << 47) | (2 * 65536)
    bomb = bomb.put(65536, struct.pack(">Q", entry) * 8192).put(131072, stream.ljust(512, b"\0"))
    add(
        "qcow-bomb",
        "bomb",
        "survey",
        "limit",
        "131,072 clusters of its disk are the same few compressed bytes.",
        bomb,
    )
    tables = 8192
    many = struct.pack(
        ">4sIQIIQBBHIQ", b"QFI\xfb", 1, 0, 0, 0, tables * 8192 << 16, 16, 13, 0, 0, 48
    )
    many = Image(many).put(48, struct.pack(">Q", 131072) * tables).put(131072, bytes(65536))
    add("qcow-tables-shared", "bomb", "open", "limit", SHARED, many)
    evil = b"\x1b[2J\x1b]0;owned\x07\r\nbase"
    add(
        "qcow-backing-name",
        "control-characters",
        "open",
        "refused",
        "The name of the backing file steers the terminal of whoever reads the message.",
        sound1.put(64, evil).be64(8, 64).be32(16, len(evil)),
    )


def qed1():
    """A disk of 64 KiB in clusters of 4 KiB, tables of one cluster: the first two are there."""
    head = struct.pack("<4sIIIQQQQQII", b"QED\0", CLUSTER, 1, 1, 0, 0, 0, CLUSTER, SIZE, 0, 0)
    image = Image(head).put(CLUSTER, bytes(2 * CLUSTER)).le64(CLUSTER, 2 * CLUSTER)
    image = image.le64(2 * CLUSTER, 3 * CLUSTER).le64(2 * CLUSTER + 8, 4 * CLUSTER)
    return image.put(3 * CLUSTER, b"\x11" * CLUSTER + b"\x12" * CLUSTER)


def qed(add):
    sound1 = qed1()
    names = [(word, name, "reference") for word, name, _ in NAMES]
    names += [(word, name, "protocol") for word, name, _ in PROTOCOLS]
    for word, name, kind_of in names:
        over1 = sound1.put(64, name).le64(16, 1).le32(56, 64).le32(60, len(name))
        add(
            f"qed-backing-{word}",
            kind_of,
            "open",
            "refused",
            "A backing file that it may not name; qemu-img follows it: CVE-2015-5163.",
            over1,
        )
    own = sound1.put(64, b"qed-self").le64(16, 1).le32(56, 64).le32(60, 8)
    add("qed-self", "cycle", "follow", "refused", "It names itself as its backing file.", own)
    add(
        "qed-l1-past",
        "past-the-end",
        "read",
        "truncated",
        "Its L1 table lies behind the end of the file.",
        sound1.le64(40, FAR),
    )
    add(
        "qed-l1-header",
        "cycle",
        "inspect",
        "malformed",
        "Its L1 table lies over its header.",
        sound1.le64(40, 0),
    )
    add(
        "qed-l2-on-l1",
        "cycle",
        "check",
        "finding: corruption",
        "An entry of its L1 table leads to the L1 table.",
        sound1.le64(CLUSTER, CLUSTER),
    )
    add(
        "qed-cluster-past",
        "past-the-end",
        "read",
        "truncated",
        "A cluster lies behind the end of the file.",
        sound1.le64(2 * CLUSTER, FAR),
    )
    add(
        "qed-cluster-twice",
        "overlap",
        "check",
        "finding: corruption",
        "Two places of the disk share a cluster.",
        sound1.le64(2 * CLUSTER + 8, 3 * CLUSTER),
    )
    for word, at, number, what in [
        ("cluster-size", 4, 0xFFFFFFFF, "A cluster has 2^32 - 1 bytes"),
        ("table-size", 8, 0xFFFFFFFF, "A table has 2^32 - 1 clusters"),
        ("header-size", 12, 0xFFFFFFFF, "The header has 2^32 - 1 clusters"),
    ]:
        kind_of = "table-size" if word == "table-size" else "overflow"
        add(f"qed-{word}", kind_of, "inspect", "malformed", f"{what}.", sound1.le32(at, number))
    add(
        "qed-size",
        "overflow",
        "inspect",
        "malformed",
        "A disk of 2^64 - 1 bytes.",
        sound1.le64(48, 0xFFFFFFFFFFFFFFFF),
    )
    add(
        "qed-cut",
        "truncation",
        "read",
        "truncated",
        "The file ends inside a cluster.",
        sound1.cut(4 * CLUSTER + 9),
    )
    tables = 8192
    many = struct.pack(
        "<4sIIIQQQQQII", b"QED\0", 65536, 1, 1, 0, 0, 0, 65536, tables * 8192 << 16, 0, 0
    )
    many = Image(many).put(65536, struct.pack("<Q", 131072) * tables).put(131072, bytes(65536))
    add("qed-tables-shared", "bomb", "open", "limit", SHARED, many)
    evil = b"\x1b[2J\x1b]0;owned\x07\r\nbase"
    add(
        "qed-backing-name",
        "control-characters",
        "open",
        "refused",
        "The name of the backing file steers the terminal of whoever reads the message.",
        sound1.put(64, evil).le64(16, 1).le32(56, 64).le32(60, len(evil)),
    )


def attacks():
    found = []
    qcow(family("qcow", found))
    qed(family("qed", found))
    return found
