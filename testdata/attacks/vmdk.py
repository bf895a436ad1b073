"""vmdk: descriptors, sparse extents, streams."""

import struct
import zlib

from .image import Image, family

SECTOR = 512
GRAIN = 65536
SPARE = 21 * SECTOR
SPARE_TABLE = 22 * SECTOR
DIRECTORY = 26 * SECTOR
TABLE = 27 * SECTOR
FIRST = 128 * SECTOR
GRAINS = 4
LAST = 0xFFFFFFFFFFFFFFFF
CVE = "CVE-2022-47951: Cinder, Glance and Nova handed out files of the host"


def header(version, flags, directory, spare, compressed, capacity=GRAINS * 128, overhead=128):
    head = struct.pack(
        "<4sIIQQQQIQQQB4sH",
        b"KDMV",
        version,
        flags,
        capacity,
        128,
        1,
        20,
        512,
        spare,
        directory,
        overhead,
        0,
        b"\n \r\n",
        compressed,
    )
    return head.ljust(SECTOR, b"\0")


def text(lines, kind="monolithicFlat"):
    head = (
        f'# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType="{kind}"\n'
    )
    return (head + lines + "\n").encode()


def sparse():
    """Four grains of 64 KiB, of which the first and the third are there."""
    image = Image(bytes(FIRST + 2 * GRAIN))
    image = image.put(0, header(1, 3, DIRECTORY // SECTOR, SPARE // SECTOR, 0))
    image = image.put(SECTOR, text(f'RW {GRAINS * 128} SPARSE "x.vmdk"', "monolithicSparse"))
    image = image.le32(SPARE, SPARE_TABLE // SECTOR).le32(DIRECTORY, TABLE // SECTOR)
    for table in (SPARE_TABLE, TABLE):
        image = image.le32(table, 128).le32(table + 8, 256)
    return image.put(FIRST, b"\x11" * GRAIN + b"\x33" * GRAIN)


def stream():
    """The same, compressed, with its footer. Returns where the first grain and footer are, too."""
    out = bytearray(header(3, 0x30001, LAST, 0, 1))
    out += text(f'RDONLY {GRAINS * 128} SPARSE "x.vmdk"', "streamOptimized").ljust(
        20 * SECTOR, b"\0"
    )
    out = out.ljust(FIRST, b"\0")
    table = bytearray(512 * 4)
    for index, byte in ((0, 0x11), (2, 0x33)):
        struct.pack_into("<I", table, index * 4, len(out) // SECTOR)
        packed = zlib.compress(bytes([byte]) * GRAIN, 9)
        out += struct.pack("<QI", index * 128, len(packed)) + packed
        out += bytes(-len(out) % SECTOR)

    def marker(sectors, kind):
        return struct.pack("<QII", sectors, 0, kind).ljust(SECTOR, b"\0")

    out += marker(4, 1)
    at = len(out) // SECTOR
    out += table
    out += marker(1, 2)
    directory = len(out) // SECTOR
    out += struct.pack("<I", at).ljust(SECTOR, b"\0")
    out += marker(1, 3)
    footer = len(out)
    out += header(3, 0x30001, directory, 0, 1) + bytes(SECTOR)
    return Image(out), footer


def references(add):
    for word, name in [
        ("passwd", "/etc/passwd"),
        ("urandom", "/dev/urandom"),
        ("parent", "../../etc/passwd"),
        ("absolute", "/var/lib/images/other-tenant.img"),
    ]:
        image = text(f'RW 8 FLAT "{name}" 0')
        add(
            f"vmdk-extent-{word}",
            "reference",
            "open",
            "refused",
            f"An extent of the disk is {name}. {CVE}.",
            image,
        )
        add(
            f"vmdk-extent-{word}-allowed",
            "reference",
            "follow",
            "refused",
            f"An extent is {name}, and names in the image's own folder may be followed. {CVE}.",
            image,
        )
        add(
            f"vmdk-extent-{word}-listed",
            "reference",
            "inspect",
            "hazard: reference",
            f"An extent is {name}: it is told, and not opened. {CVE}.",
            image,
        )
    for word, name in [("json", "json:{}"), ("nbd", "nbd:127.0.0.1:10809")]:
        add(
            f"vmdk-extent-{word}",
            "protocol",
            "follow",
            "refused",
            "An extent of the disk is behind a protocol.",
            text(f'RW 8 FLAT "{name}" 0'),
        )
    for word, kind in [("vmfs", "vmfs"), ("sparse", "monolithicSparse")]:
        line = {"vmfs": 'RW 8 VMFS "/etc/passwd"', "sparse": 'RW 8 SPARSE "/etc/passwd"'}[word]
        add(
            f"vmdk-extent-{word}",
            "reference",
            "open",
            "refused",
            f"An extent of another kind is /etc/passwd. {CVE}.",
            text(line, kind),
        )
    hint = 'parentFileNameHint="/etc/passwd"\nRW 8 SPARSE "vmdk-hint"'
    child = text(hint, "monolithicSparse").replace(b"parentCID=ffffffff", b"parentCID=12345678")
    add("vmdk-hint", "reference", "open", "refused", "Its parent is /etc/passwd.", child)
    inside = sparse().put(
        SECTOR,
        text(f'parentFileNameHint="/etc/passwd"\nRW 512 SPARSE "x"').replace(
            b"parentCID=ffffffff", b"parentCID=12345678"
        ),
    )
    add(
        "vmdk-hint-embedded",
        "reference",
        "open",
        "refused",
        "Its parent is /etc/passwd, says the text inside a sparse file.",
        inside,
    )
    add(
        "vmdk-device",
        "reference",
        "open",
        "refused",
        "The disk is a disk of the host.",
        text('RW 63 FLAT "/dev/sda" 0', "fullDevice"),
    )
    add(
        "vmdk-itself",
        "cycle",
        "follow",
        "malformed",
        "The extent of the disk is the descriptor itself.",
        text('RW 8 SPARSE "vmdk-itself"' + "\n" * 1024),
    )
    own = text('parentFileNameHint="vmdk-own-parent"\nRW 8 ZERO').replace(
        b"parentCID=ffffffff", b"parentCID=12345678"
    )
    add("vmdk-own-parent", "cycle", "follow", "refused", "It is its own parent.", own)


def descriptors(add):
    add(
        "vmdk-extents",
        "count",
        "open",
        "limit",
        "The disk has 100,000 extents.",
        text("\n".join('RW 1 FLAT "a" 0' for _ in range(100_000))),
    )
    files = "\n".join(f'RW 1 FLAT "{number}" 0' for number in range(600))
    add(
        "vmdk-files",
        "count",
        "open",
        "refused",
        "The disk lies in 600 files, the first of which is refused already.",
        text(files),
    )
    for word, line in [
        ("sectors", "RW 18014398509481984 ZERO"),
        ("sectors-signed", "RW 9223372036854775808 ZERO"),
        ("sectors-words", "RW 99999999999999999999 ZERO"),
        ("sectors-negative", "RW -1 ZERO"),
        ("offset", 'RW 8 FLAT "a" 18446744073709551615'),
    ]:
        add(
            f"vmdk-{word}",
            "overflow",
            "open",
            "malformed",
            "An extent has more sectors than a number can say.",
            text(line),
        )
    add(
        "vmdk-sectors-sum",
        "overflow",
        "open",
        "malformed",
        "Three extents have more sectors together than a number can say.",
        text("\n".join("RW 9007199254740992 ZERO" for _ in range(3))),
    )
    padded = text('RW 8 FLAT "/etc/passwd" 0').ljust(8192, b"\0")
    add(
        "vmdk-padded",
        "reference",
        "open",
        "refused",
        "A descriptor that zeros follow: oslo.utils takes it for a safe raw disk.",
        padded,
    )
    evil = "\x1b[2J\x1b]0;owned\x07name"
    add(
        "vmdk-name",
        "control-characters",
        "open",
        "refused",
        "The name of an extent steers the terminal of whoever reads the message.",
        text(f'RW 8 FLAT "{evil}" 0'),
    )
    add(
        "vmdk-line",
        "control-characters",
        "open",
        "malformed",
        "A line that is no line, and steers the terminal of whoever reads the message.",
        text(f"RW 8 {evil} 0"),
    )
    add(
        "vmdk-extent-short",
        "truncation",
        "follow",
        "truncated",
        "Its flat extent is shorter than the descriptor says: qemu-img fills up with zeros.",
        text('RW 100000 FLAT "vmdk-extent-passwd" 0'),
        "vmdk-extent-passwd",
    )


def sparses(add):
    image = sparse()
    for word, kind_of, at, number, kind, what in [
        ("capacity", "overflow", 12, LAST, "malformed", "A disk of 2^64 - 1 sectors"),
        ("grain-zero", "overflow", 20, 0, "malformed", "Grains of no sector"),
        ("grain-huge", "overflow", 20, 1 << 40, "malformed", "Grains of 2^40 sectors"),
        ("descriptor-offset", "overflow", 28, LAST, "malformed", "A descriptor past 2^64"),
        ("descriptor-size", "table-size", 36, 1 << 40, "limit", "A descriptor of 2^40 sectors"),
        ("descriptor-past", "past-the-end", 28, 1 << 16, "truncated", "A descriptor past the end"),
    ]:
        add(
            f"vmdk-{word}",
            kind_of,
            "inspect",
            kind,
            f"{what}: CVE-2014-0144 has numbers like it.",
            image.le64(at, number),
        )
    for word, number in [("table-entries-zero", 0), ("table-entries", 0xFFFFFFFF)]:
        add(
            f"vmdk-{word}",
            "table-size",
            "inspect",
            "malformed",
            f"Its tables have {number} entries.",
            image.le32(44, number),
        )
    add(
        "vmdk-tables",
        "table-size",
        "open",
        "limit",
        "A disk that needs more tables than memory holds.",
        image.le64(12, 1 << 50),
    )
    add(
        "vmdk-directory-past",
        "past-the-end",
        "read",
        "malformed",
        "Its directory lies behind 2^63.",
        image.le64(56, (1 << 63) - 1),
    )
    add(
        "vmdk-table-past",
        "past-the-end",
        "read",
        "truncated",
        "A grain table lies behind the end of the file.",
        image.le32(DIRECTORY, 0xFFFFFF),
    )
    add(
        "vmdk-grain-past",
        "past-the-end",
        "read",
        "truncated",
        "A grain lies behind the end of the file.",
        image.le32(TABLE, 0x7FFFFF00),
    )
    finding = "finding: corruption"
    for word, at, number, what in [
        ("grain-twice", TABLE + 4, 128, "Two places of the disk share a grain"),
        ("grain-on-table", TABLE + 4, TABLE // SECTOR, "A grain lies over a grain table"),
        ("grain-on-descriptor", TABLE + 4, 1, "A grain lies over the descriptor"),
        ("grain-on-directory", TABLE + 4, DIRECTORY // SECTOR, "A grain lies over the directory"),
        ("table-on-header", DIRECTORY, 1, "A grain table lies over the descriptor"),
    ]:
        kind_of = "cycle" if word == "table-on-header" else "overlap"
        add(f"vmdk-{word}", kind_of, "check", finding, f"{what}.", image.le32(at, number))
        add(
            f"vmdk-{word}-strict",
            kind_of,
            "strict",
            "refused",
            f"{what}, where only sound images are wanted.",
            image.le32(at, number),
        )
    aliased = image.le64(12, 1024 * 128).le32(DIRECTORY + 4, TABLE // SECTOR)
    aliased = aliased.le32(SPARE + 4, SPARE_TABLE // SECTOR)
    add(
        "vmdk-tables-aliased",
        "overlap",
        "check",
        finding,
        "Two entries of the directory share a grain table.",
        aliased,
    )
    add(
        "vmdk-cut",
        "truncation",
        "read",
        "truncated",
        "The file ends inside a grain: qemu-img fills up with zeros.",
        image.cut(FIRST + GRAIN + 99),
    )


def streams(add):
    sound, footer = stream()
    assert sound.data[footer : footer + 4] == b"KDMV"
    for word, at, number, what in [
        ("capacity", 12, 1, "another size of the disk"),
        ("grain", 20, 8, "another size of grains"),
        ("version", 4, 1, "another version"),
        ("entries", 44, 9, "another size of tables"),
    ]:
        add(
            f"vmdk-footer-{word}",
            "mismatch",
            "inspect",
            "hazard: irregular",
            f"Its footer says {what} than its header: readers differ in which they believe.",
            sound.put(footer + at, bytes([number])),
        )
        add(
            f"vmdk-footer-{word}-read",
            "mismatch",
            "read",
            "malformed",
            f"Its footer says {what} than its header.",
            sound.put(footer + at, bytes([number])),
        )
    add(
        "vmdk-footer-directory",
        "past-the-end",
        "read",
        "truncated",
        "The footer says that the directory lies behind the end of the file.",
        sound.le64(footer + 56, 0xFFFFFF),
    )
    for word, at, number, what in [
        ("grain-size", FIRST + 8, 0xFFFFFFFF, "A compressed grain has 2^32 - 1 bytes"),
        ("grain-large", FIRST + 8, 200_000, "A compressed grain has more bytes than two grains"),
        ("grain-empty", FIRST + 8, 0, "A compressed grain has no bytes"),
        ("grain-place", FIRST, 128, "A compressed grain says that it belongs elsewhere"),
        ("grain-none", FIRST + 12, 0xFFFFFFFF, "A compressed grain is no stream"),
    ]:
        kind_of = "mismatch" if word in ("grain-place", "grain-none") else "table-size"
        add(f"vmdk-stream-{word}", kind_of, "read", "malformed", f"{what}.", sound.le32(at, number))
    add(
        "vmdk-stream-cut",
        "truncation",
        "inspect",
        "truncated",
        "The end of the stream is missing.",
        sound.cut(footer - 700),
    )
    grains = 1 << 17
    tables = grains // 512
    bomb = Image(header(3, 0x10001, 128, 0, 1, grains * 128)).put(
        SECTOR, text(f'RW {grains * 128} SPARSE "x.vmdk"', "streamOptimized")
    )
    table = (FIRST + tables * 4) // SECTOR
    bomb = bomb.put(FIRST, struct.pack("<I", table) * tables)
    bomb = bomb.put(table * SECTOR, struct.pack("<I", table + 4) * 512)
    packed = zlib.compress(b"\xaa" * GRAIN, 9)
    bomb = bomb.put((table + 4) * SECTOR, struct.pack("<I", len(packed)) + packed + bytes(SECTOR))
    add(
        "vmdk-bomb",
        "bomb",
        "survey",
        "limit",
        "131,072 grains are the same few bytes: a small file that claims 8 GiB.",
        bomb,
    )


def shared_tables(add):
    tables = 1 << 20
    image = Image(header(1, 3, 128, 0, 0, tables * 512 * 128)).put(
        SECTOR, text(f'RW {tables * 512 * 128} SPARSE "x.vmdk"', "monolithicSparse")
    )
    table = 128 + tables * 4 // SECTOR
    image = image.put(FIRST, struct.pack("<I", table) * tables).put(table * SECTOR, bytes(2048))
    add(
        "vmdk-tables-shared",
        "bomb",
        "open",
        "limit",
        "A million tables are one and the same, and empty: a small file that keeps whoever goes "
        "over its map busy for hours.",
        image,
    )


def attacks():
    found = []
    add = family("vmdk", found)
    for part in (references, descriptors, sparses, streams, shared_tables):
        part(add)
    planted = text('RW 8 FLAT "/etc/passwd" 0').ljust(8192, b"\0")
    family("raw", found)(
        "raw-with-vmdk-text",
        "declared-raw",
        "raw",
        "right",
        "A guest wrote a descriptor into the first sector of its raw disk: what the caller says is "
        "raw stays raw. CVE-2022-47951 and CVE-2024-40767 came of looking again.",
        planted,
    )
    return found
