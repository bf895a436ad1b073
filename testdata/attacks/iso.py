"""iso volumes."""

import struct

from .image import Image, family

SECTOR = 2048
PRIMARY = 16 * SECTOR
ROOT, FOLDER, FILE, MORE = 18, 19, 20, 21
SECTORS = 24


def both16(number):
    return struct.pack("<H", number) + struct.pack(">H", number)


def both32(number):
    return struct.pack("<I", number) + struct.pack(">I", number)


def record(name, sector, size, flags=0, more=b""):
    """A record of a directory, with what Rock Ridge adds to it."""
    name += b"" if len(name) % 2 else b"\0"
    length = 33 + len(name) + len(more)
    head = struct.pack("B", length + length % 2) + b"\0" + both32(sector) + both32(size)
    head += bytes([124, 1, 1, 0, 0, 0, 0, flags, 0, 0]) + both16(1)
    head += struct.pack("B", len(name.rstrip(b"\0")) or 1) + name + more
    return head + bytes(len(head) % 2)


def field(kind, data):
    return kind + bytes([len(data) + 4, 1]) + data


def name_of(text, flags=0):
    return field(b"NM", bytes([flags]) + text)


def volume(records=None, inner=None, blocks=SECTORS):
    """A volume with a file and a folder that holds another one."""
    if records is None:
        records = record(b"A.;1", FILE, 5) + record(b"B", FOLDER, SECTOR, 2)
    if inner is None:
        inner = record(b"C.;1", FILE, 5)
    image = Image(bytes(SECTORS * SECTOR))
    head = b"\x01CD001\x01\0" + b"LINUX".ljust(32) + b"HOSTILE".ljust(32) + bytes(8)
    head += both32(blocks) + bytes(32) + both16(1) + both16(1) + both16(SECTOR) + both32(10)
    head += struct.pack("<IIII", MORE, 0, struct.unpack("<I", struct.pack(">I", MORE))[0], 0)
    head += record(b"\0", ROOT, SECTOR, 2)
    image = image.put(PRIMARY, head.ljust(SECTOR, b" ")).put(PRIMARY + 881, b"\x01\0")
    image = image.put(PRIMARY + SECTOR, b"\xffCD001\x01")
    for at, up, content in [(ROOT, ROOT, records), (FOLDER, ROOT, inner)]:
        more = field(b"SP", b"\xbe\xef\0") if at == ROOT else b""
        dots = record(b"\0", at, SECTOR, 2, more) + record(b"\1", up, SECTOR, 2)
        image = image.put(at * SECTOR, dots + content)
    # The path table: the root, and the folder below it.
    rows = bytes([1, 0]) + struct.pack("<IH", ROOT, 1) + b"\0\0"
    rows += bytes([1, 0]) + struct.pack("<IH", FOLDER, 1) + b"B\0"
    return image.put(MORE * SECTOR, rows).put(FILE * SECTOR, b"hello")


def rock(*fields):
    """A volume with one file, with these fields beside its name."""
    return volume(record(b"A.;1", FILE, 5, 0, b"".join(fields)))


def loops(add):
    add(
        "iso-folder-in-itself",
        "cycle",
        "entries",
        "malformed",
        "A folder holds itself: who walks it walks for ever.",
        volume(inner=record(b"D", FOLDER, SECTOR, 2)),
    )
    add(
        "iso-folder-of-root",
        "cycle",
        "entries",
        "malformed",
        "A folder is the root that it lies in.",
        volume(record(b"B", ROOT, SECTOR, 2)),
    )
    area = field(b"CE", both32(MORE) + both32(0) + both32(28))
    image = rock(area).put(MORE * SECTOR, area)
    add(
        "iso-fields-circle",
        "cycle",
        "entries",
        "malformed",
        "The fields of a file go on where they began.",
        image,
    )
    two = field(b"CE", both32(MORE) + both32(512) + both32(28))
    image = rock(area).put(MORE * SECTOR, two).put(MORE * SECTOR + 512, area)
    add(
        "iso-fields-circle-of-two",
        "cycle",
        "entries",
        "malformed",
        "Two areas of fields each say that the other one follows.",
        image,
    )
    add(
        "iso-fields-past",
        "past-the-end",
        "entries",
        "truncated",
        "The fields of a file go on behind the end of the volume.",
        rock(field(b"CE", both32(1 << 30) + both32(0) + both32(28))),
    )
    add(
        "iso-fields-huge",
        "table-size",
        "entries",
        "malformed",
        "The fields of a file go on for 2^30 bytes.",
        rock(field(b"CE", both32(MORE) + both32(0) + both32(1 << 30))),
    )
    add(
        "iso-moved-to-root",
        "cycle",
        "entries",
        "malformed",
        "A folder was moved, says its field, to the root.",
        rock(field(b"CL", both32(ROOT))),
    )


def records(add):
    for word, length in [("one", 1), ("short", 20), ("shortest", 33)]:
        image = volume()
        at = image.data.find(b"A.;1") - 33
        add(
            f"iso-record-{word}",
            "count",
            "entries",
            "malformed",
            f"A record of {length} bytes.",
            image.put(at, bytes([length])),
        )
    image = volume()
    at = image.data.find(b"A.;1") - 33
    add(
        "iso-record-name",
        "past-the-end",
        "entries",
        "malformed",
        "A record whose name is longer than it.",
        image.put(at + 32, b"\xfa"),
    )
    add(
        "iso-record-nameless",
        "count",
        "entries",
        "malformed",
        "A record whose name has no letters.",
        image.put(at + 32, b"\0"),
    )
    add(
        "iso-field-long",
        "past-the-end",
        "entries",
        "malformed",
        "A field that is longer than its record.",
        rock(b"NM\xc8\x01\0name"),
    )
    add(
        "iso-field-zero",
        "cycle",
        "entries",
        "malformed",
        "A field of less than its head: who skips it stays where he is.",
        rock(b"NM\x03\x01\0name"),
    )
    full = b"".join(record(f"F{n:02}.;1".encode(), FILE, 5) for n in range(44))
    image = volume(full)
    last = image.data.rfind(b"F43.;1") - 33
    add(
        "iso-record-edge",
        "past-the-end",
        "entries",
        "malformed",
        "A record that goes on in the next sector.",
        image.put(last, b"\xfe"),
    )
    add(
        "iso-folder-past",
        "past-the-end",
        "entries",
        "truncated",
        "A folder lies behind the end.",
        volume(record(b"B", 1 << 31, SECTOR, 2)),
    )
    add(
        "iso-folder-huge",
        "table-size",
        "entries",
        "limit",
        "A folder of 4 GiB: no memory is taken for it.",
        volume(record(b"B", FOLDER, 0xFFFFFFFF, 2)),
    )


def names(add):
    for word, text in [
        ("up", b".."),
        ("climbs", b"../evil"),
        ("slash", b"a/b"),
        ("here", b"."),
        ("absolute", b"/etc/passwd"),
        ("nul", b"a\0b"),
    ]:
        add(
            f"iso-name-{word}",
            "escape",
            "entries",
            "malformed",
            "A file's name leads out of the folder that it is extracted to.",
            rock(name_of(text)),
        )
    for word, flags in [("current", 2), ("parent", 4)]:
        add(
            f"iso-name-{word}",
            "escape",
            "entries",
            "malformed",
            "A file's name is, says a flag, the folder itself or the one above.",
            rock(name_of(b"", flags)),
        )
    plain = volume(record(b"../A.;1", FILE, 5)).put(ROOT * SECTOR + 34, b"XX")
    add(
        "iso-name-plain",
        "escape",
        "entries",
        "malformed",
        "A file's own name leads out of the folder.",
        plain,
    )
    twice = record(b"A.;1", FILE, 5, 0, name_of(b"same")) + record(
        b"B.;1", FILE, 5, 0, name_of(b"same")
    )
    add(
        "iso-name-twice",
        "escape",
        "entries",
        "malformed",
        "Two files of one name: the second is written through what the first made.",
        volume(twice),
    )
    through = record(
        b"A.;1",
        FILE,
        0,
        0,
        name_of(b"out")
        + field(b"PX", both32(0o120777) + both32(1) + both32(0) + both32(0))
        + field(b"SL", b"\0\x08\0" + b"\0\x03etc"),
    ) + record(b"B", FOLDER, SECTOR, 2, name_of(b"out"))
    add(
        "iso-through-link",
        "escape",
        "entries",
        "malformed",
        "A link to /etc, and a folder of the same name to be written through it.",
        volume(through),
    )
    evil = record(b"A.;1", FILE, 5, 0, name_of(b"\x1b[2J")) + record(
        b"B.;1", FILE, 5, 0, name_of(b"\x1b[2J")
    )
    add(
        "iso-name-text",
        "control-characters",
        "entries",
        "malformed",
        "A name that steers the terminal, in a message about it.",
        volume(evil),
    )
    add(
        "iso-label-text",
        "control-characters",
        "inspect",
        "right",
        "The label of the volume steers the terminal of whoever inspects it.",
        volume().put(PRIMARY + 40, b"\x1b[2J\x1b]0;owned\x07"),
    )


def numbers(add):
    for word, at in [("blocks", 80 + 7), ("block", 128 + 3), ("table", 132 + 7)]:
        image = volume()
        add(
            f"iso-{word}-disagree",
            "mismatch",
            "inspect",
            "hazard: irregular",
            "A number in both orders has two values: readers differ in which they believe.",
            image.put(PRIMARY + at, bytes([image.data[PRIMARY + at] ^ 1])),
        )
    add(
        "iso-block-odd",
        "overflow",
        "inspect",
        "malformed",
        "Blocks of 7 bytes.",
        volume().put(PRIMARY + 128, both16(7)),
    )
    add(
        "iso-block-zero",
        "overflow",
        "inspect",
        "malformed",
        "Blocks of no bytes.",
        volume().put(PRIMARY + 128, both16(0)),
    )
    packed = field(b"ZF", b"pz\x04\x0f" + both32(0xFFFFFFFF))
    add(
        "iso-zisofs-bomb",
        "bomb",
        "entries",
        "right",
        "A packed file says that it has 4 GiB: it is listed, and never unpacked.",
        rock(packed),
    )
    add(
        "iso-cut",
        "truncation",
        "open",
        "truncated",
        "The volume ends too early.",
        volume().cut(22 * SECTOR - 100),
    )
    add(
        "iso-cut-told",
        "truncation",
        "inspect",
        "hazard: corrupt",
        "The volume ends too early.",
        volume().cut(22 * SECTOR - 100),
    )
    add(
        "iso-no-root",
        "mismatch",
        "entries",
        "malformed",
        "It has no root directory.",
        volume().put(PRIMARY + 156 + 32, b"\x09"),
    )
    add(
        "iso-catalog-past",
        "past-the-end",
        "inspect",
        "hazard: corrupt",
        "Its boot catalog lies behind the end.",
        volume()
        .put(PRIMARY + 2 * SECTOR, b"\xffCD001\x01")
        .put(
            PRIMARY + SECTOR, b"\0CD001\x01EL TORITO SPECIFICATION".ljust(71, b"\0") + b"\xff" * 4
        ),
    )


def attacks():
    found = []
    add = family("iso", found)
    for part in (loops, records, names, numbers):
        part(add)
    return found
