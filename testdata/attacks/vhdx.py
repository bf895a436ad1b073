"""vhdx: a valid image, and checksums that are made right again after each change."""

import struct
import uuid

from .image import Image, family

KIB = 1 << 10
MIB = 1 << 20
HEADERS = (64 * KIB, 128 * KIB)
TABLES = (192 * KIB, 256 * KIB)
LOG, META, BAT, DATA = MIB, 2 * MIB, 3 * MIB, 4 * MIB
ITEMS = META + 64 * KIB
SESSION = b"\x5a" * 16
LAST = 0xFFFFFFFF
FINDING = "finding: corruption"

CRC = []
for number in range(256):
    for _ in range(8):
        number = (number >> 1) ^ (0x82F63B78 if number & 1 else 0)
    CRC.append(number)


def crc32c(data):
    """Castagnoli's sum."""
    crc = LAST
    for byte in data:
        crc = (crc >> 8) ^ CRC[(crc ^ byte) & 0xFF]
    return crc ^ LAST


def guid(text):
    return uuid.UUID(text).bytes_le


def seal(image, at, length):
    image = image.le32(at + 4, 0)
    return image.le32(at + 4, crc32c(image.data[at : at + length]))


def item(name, offset, length, flags):
    return guid(name) + struct.pack("<IIII", offset, length, flags, 0)


PARENT_LOCATOR = "a8d35f2d-b30b-454d-abf7-d3d84834ab0c"
ROWS = [
    ("caa16737-fa36-4d43-b3b6-33f0aa44e76b", 0, 8, 4),
    ("2fa54224-cd1b-4876-b211-5dbed83bf4b8", 8, 8, 6),
    ("beca12ab-b2e6-4523-93ef-c309e000c746", 16, 16, 6),
    ("8141bf1d-a96f-4709-ba47-f233a8faab5f", 32, 4, 6),
    ("cda348c7-445d-4471-9cc9-e9885251c556", 36, 4, 6),
]


def locator(rows):
    """What a parent is called."""
    head = guid("b04aefb7-d19e-4a81-b789-25b8e9445913") + struct.pack("<HH", 0, len(rows))
    entries, texts, at = b"", b"", len(head) + 12 * len(rows)
    for key, value in rows:
        key, value = key.encode("utf-16-le"), value.encode("utf-16-le")
        entries += struct.pack("<IIHH", at, at + len(key), len(key), len(value))
        texts += key + value
        at += len(key) + len(value)
    return head + entries + texts


def seal_all(image):
    for at in HEADERS:
        image = seal(image, at, 4096)
    for at in TABLES:
        image = seal(image, at, 64 * KIB)
    return image


def sound(parent=None):
    """A disk of 2 MiB in blocks of 1 MiB; both are there."""
    image = Image(bytes(DATA)).put(0, b"vhdxfile")
    for number, at in enumerate(HEADERS):
        head = struct.pack(
            "<4sIQ16s16s16sHHIQ",
            b"head",
            0,
            7 + number,
            b"\x01" * 16,
            b"\x02" * 16,
            bytes(16),
            0,
            1,
            MIB,
            LOG,
        )
        image = image.put(at, head)
    for at in TABLES:
        image = image.put(at, struct.pack("<4sIII", b"regi", 0, 2, 0))
        image = image.put(at + 16, guid("2dc27766-f623-4200-9d64-115e9bfd4a08"))
        image = image.put(at + 32, struct.pack("<QII", BAT, MIB, 1))
        image = image.put(at + 48, guid("8b7ca206-4790-4b9a-b8fe-575f050f886e"))
        image = image.put(at + 64, struct.pack("<QII", META, MIB, 1))
    rows = [item(name, 64 * KIB + at, length, flags) for name, at, length, flags in ROWS]
    if parent is not None:
        text = locator(parent)
        rows.append(item(PARENT_LOCATOR, 64 * KIB + 4096, len(text), 4))
        image = image.put(ITEMS + 4096, text)
    image = image.put(META, struct.pack("<8sHH", b"metadata", 0, len(rows)))
    image = image.put(META + 32, b"".join(rows))
    parameters = struct.pack("<II", MIB, 2 if parent is not None else 0)
    image = image.put(ITEMS, parameters + struct.pack("<Q", 2 * MIB) + b"\x83" * 16)
    image = image.put(ITEMS + 32, struct.pack("<II", 512, 512))
    image = image.le64(BAT, DATA | 6).le64(BAT + 8, (DATA + MIB) | 6)
    image = image.put(DATA, b"\x11" * MIB + b"\x12" * MIB)
    return seal_all(image)


def regions(image, at, data):
    """Bytes of both tables of regions."""
    for table in TABLES:
        image = image.put(table + at, data)
    return seal_all(image)


def heads(image, at, data):
    for header in HEADERS:
        image = image.put(header + at, data)
    return seal_all(image)


def le32(number):
    return struct.pack("<I", number)


def le64(number):
    return struct.pack("<Q", number)


def parents(add):
    for word, key, name in [
        ("climbs", "relative_path", "..\\..\\..\\etc\\passwd"),
        ("absolute", "absolute_win32_path", "C:\\secret.vhdx"),
        ("unc", "absolute_win32_path", "\\\\server\\share\\secret.vhdx"),
        ("volume", "volume_path", "\\\\?\\Volume{1}\\secret.vhdx"),
        ("unix", "relative_path", "/etc/passwd"),
        ("proc", "absolute_win32_path", "/proc/self/environ"),
    ]:
        shown = name.replace("\\", "/")
        linkage = ("parent_linkage", "{5A5A5A5A-5A5A-5A5A-5A5A-5A5A5A5A5A5A}")
        image = sound([linkage, (key, name)])
        add(f"vhdx-parent-{word}", "reference", "open", "refused", f"Its parent is {shown}.", image)
        add(
            f"vhdx-parent-{word}-allowed",
            "reference",
            "follow",
            "refused",
            f"Its parent is {shown}, and names in its own folder may be followed.",
            image,
        )
    linkage = ("parent_linkage", "{02020202-0202-0202-0202-020202020202}")
    add(
        "vhdx-parent-listed",
        "reference",
        "inspect",
        "hazard: reference",
        "Its parent is told, and not opened.",
        sound([linkage, ("relative_path", "/etc/passwd")]),
    )
    add(
        "vhdx-parent-nbd",
        "protocol",
        "follow",
        "refused",
        "Its parent is a server.",
        sound([linkage, ("relative_path", "nbd:localhost:10809")]),
    )
    add(
        "vhdx-self",
        "cycle",
        "follow",
        "refused",
        "It is its own parent.",
        sound([linkage, ("relative_path", "vhdx-self")]),
    )
    add(
        "vhdx-parent-text",
        "control-characters",
        "open",
        "refused",
        "The name of its parent steers the terminal of whoever reads the message.",
        sound([linkage, ("relative_path", "\x1b[2J\x1b]0;owned\x07parent")]),
    )
    add(
        "vhdx-parent-nameless",
        "reference",
        "open",
        "refused",
        "It has a parent and does not say which: others read zeros.",
        sound([linkage]),
    )
    add(
        "vhdx-locator-past",
        "past-the-end",
        "inspect",
        "malformed",
        "The text about its parent goes on behind its item.",
        sound([linkage]).le16(ITEMS + 4096 + 20 + 10, 0xFFFF),
    )
    add(
        "vhdx-locator-count",
        "count",
        "inspect",
        "malformed",
        "The text about its parent has 65,535 rows.",
        sound([linkage]).le16(ITEMS + 4096 + 18, 0xFFFF),
    )


def tables(add):
    image = sound()
    for word, kind_of, at, data, kind, what in [
        ("regions", "count", 8, le32(LAST), "malformed", "2^32 - 1 regions"),
        ("regions-many", "count", 8, le32(2048), "malformed", "2,048 regions"),
        ("regions-none", "count", 8, le32(0), "malformed", "No regions"),
        ("bat-on-metadata", "overlap", 32, le64(META), "malformed", "A BAT over the metadata"),
        ("bat-on-header", "overlap", 32, le64(0), "malformed", "A BAT over the headers"),
        (
            "bat-last",
            "overflow",
            32,
            le64((1 << 64) - MIB),
            "malformed",
            "A BAT at the end of all offsets",
        ),
        (
            "metadata-past",
            "past-the-end",
            64,
            le64(1 << 40),
            "truncated",
            "Metadata behind the end of the file",
        ),
        (
            "region-unknown",
            "count",
            8,
            le32(3),
            "unsupported",
            "A region that is required, and that nobody knows",
        ),
    ]:
        if word == "region-unknown":
            image = regions(image, 80, SESSION + struct.pack("<QII", 64 * MIB, MIB, 1))
        add(f"vhdx-{word}", kind_of, "inspect", kind, f"{what}.", regions(image, at, data))
        image = sound()
    add(
        "vhdx-bat-past",
        "past-the-end",
        "read",
        "truncated",
        "A BAT behind the end of the file.",
        regions(image, 32, le64(1 << 40)),
    )
    add(
        "vhdx-bat-size",
        "table-size",
        "check",
        FINDING,
        "A BAT that claims 4 GiB: no memory is taken for it.",
        regions(image, 40, le32(0xFFF00000)),
    )
    story = "without bounds for it readers spun: CVE-2014-0148"
    for word, at, number, what in [
        ("block-zero", 0, 0, "Blocks of no bytes"),
        ("block-odd", 0, 3 * MIB, "Blocks of 3 MiB"),
        ("block-huge", 0, LAST, "Blocks of 2^32 - 1 bytes"),
        ("sector-zero", 32, 0, "Sectors of no bytes"),
        ("sector-odd", 32, 520, "Sectors of 520 bytes"),
        ("sector-huge", 32, 1 << 31, "Sectors of 2 GiB"),
        ("size", 12, LAST, "A disk of 2^64 bytes"),
        ("no-locator", 4, 2, "A parent and no word of it"),
    ]:
        add(
            f"vhdx-{word}",
            "overflow",
            "inspect",
            "malformed",
            f"{what}: {story}.",
            image.le32(ITEMS + at, number),
        )
    row = META + 32
    for word, kind_of, at, data, kind, what in [
        ("items", "count", META + 10, b"\xff\xff", "malformed", "65,535 items"),
        ("items-none", "count", META + 10, b"\0\0", "malformed", "No items"),
        (
            "item-past",
            "past-the-end",
            row + 32 + 16,
            le32(MIB),
            "malformed",
            "An item behind its region",
        ),
        (
            "item-last",
            "overflow",
            row + 32 + 16,
            le32(LAST),
            "malformed",
            "An item at the last offset",
        ),
        ("item-size", "table-size", row + 32 + 20, le32(LAST), "malformed", "An item of 4 GiB"),
        (
            "item-on-table",
            "overlap",
            row + 32 + 16,
            le32(64),
            "malformed",
            "An item over the table",
        ),
        (
            "item-on-item",
            "overlap",
            row + 32 + 16,
            le32(64 * KIB),
            "malformed",
            "Two items in one place",
        ),
        (
            "item-twice",
            "count",
            row + 64,
            bytes(image.data[row + 32 : row + 64]),
            "malformed",
            "Two sizes of the disk",
        ),
        (
            "item-unknown",
            "count",
            row + 4 * 32,
            SESSION,
            "unsupported",
            "An item that is required, and that nobody knows",
        ),
    ]:
        add(f"vhdx-{word}", kind_of, "inspect", kind, f"{what}.", image.put(at, data))


def blocks(add):
    image = sound()
    for word, kind_of, entry, kind, what in [
        ("block-past", "past-the-end", 1 << 40 | 6, "truncated", "A block lies behind the end"),
        ("block-last", "overflow", (1 << 64) - MIB | 6, "malformed", "A block at the last offset"),
        ("block-on-header", "overlap", 6, "malformed", "A block lies over the headers"),
        ("block-state", "mismatch", DATA | 4, "malformed", "A block in a state that there is not"),
        (
            "block-partly",
            "mismatch",
            DATA | 7,
            "malformed",
            "A block that is partly its parent's, of none",
        ),
    ]:
        add(f"vhdx-{word}", kind_of, "read", kind, f"{what}.", image.le64(BAT, entry))
    for word, entry, what in [
        ("twice", DATA | 6, "Two places of the disk share a block"),
        ("on-log", LOG | 6, "A block lies over the log"),
        ("on-metadata", META | 6, "A block lies over the metadata"),
        ("on-bat", BAT | 6, "A block lies over the BAT"),
    ]:
        bad = image.le64(BAT + 8, entry)
        add(f"vhdx-block-{word}", "overlap", "check", FINDING, f"{what}.", bad)
        add(
            f"vhdx-block-{word}-strict",
            "overlap",
            "strict",
            "refused",
            f"{what}, where only sound images are wanted.",
            bad,
        )
    bomb = image.le64(ITEMS + 8, 100 << 30)
    bomb = bomb.put(BAT, struct.pack("<Q", DATA | 6) * 110_000)
    add(
        "vhdx-bomb",
        "bomb",
        "survey",
        "limit",
        "102,400 places of the disk share one block: a small file that claims 100 GiB.",
        bomb,
    )
    add(
        "vhdx-cut",
        "truncation",
        "read",
        "truncated",
        "The file ends inside a block.",
        image.cut(DATA + MIB + 4096),
    )
    both = image.put(HEADERS[0] + 100, b"\1").put(HEADERS[1] + 100, b"\1")
    add("vhdx-headers", "mismatch", "inspect", "malformed", "Both headers have a wrong sum.", both)


def entry(changes, sequence=40, tail=0, length=None, last=6 * MIB, flushed=6 * MIB):
    """An entry of the log: zeros as (offset, length), data as (offset, bytes of a sector)."""
    head, body = b"", b""
    for offset, change in changes:
        if isinstance(change, int):
            head += struct.pack("<4sIQQQ", b"zero", 0, change, offset, sequence)
        else:
            head += struct.pack("<4s4s8sQQ", b"desc", change[-4:], change[:8], offset, sequence)
            body += b"data" + le32(sequence >> 32) + change[8:-4] + le32(sequence & LAST)
    front = -(-(64 + len(head)) // 4096) * 4096
    whole = (bytes(64) + head).ljust(front, b"\0") + body
    first = struct.pack(
        "<4sIIIQII16sQQ",
        b"loge",
        0,
        length or len(whole),
        tail * 4096,
        sequence,
        len(changes),
        0,
        SESSION,
        flushed,
        last,
    )
    return bytes(seal(Image(whole).put(0, first), 0, len(whole)))


def logged(*entries):
    """A valid image with these entries in its log, each at a sector."""
    image = sound()
    for at, data in entries:
        image = image.put(LOG + at * 4096, data)
    return heads(image, 48, SESSION)


def logs(add):
    sector = b"\xee" * 4096
    for word, offset, change, what in [
        ("identifier", 0, sector, "the identifier of the file"),
        ("header", HEADERS[0], sector, "a header"),
        ("header-zero", HEADERS[1], 4096, "a header"),
        ("itself", LOG + 8192, sector, "the log itself"),
        ("half", TABLES[0] + 512, sector, "half a sector"),
        ("zeros", 8 * MIB, 1 << 63, "2^63 bytes of zeros"),
        ("wrap", (1 << 64) - 4096, 8192, "zeros past 2^64"),
        ("past", 1 << 40, sector, "a place behind the end of the file"),
        ("last", (1 << 64) - 4096, sector, "the last offset there is"),
    ]:
        add(
            f"vhdx-log-{word}",
            "write-primitive",
            "read",
            "malformed",
            f"Its log writes to {what}: whoever replays it writes where the image says.",
            logged((0, entry([(offset, change)]))),
        )
    add(
        "vhdx-log-empty",
        "mismatch",
        "inspect",
        "malformed",
        "It says that its log is pending, and there is none: others read stale bytes.",
        logged(),
    )
    loop = [(at, entry([], 300 - at, (at + 1) % 256)) for at in range(256)]
    add(
        "vhdx-log-loop",
        "cycle",
        "inspect",
        "malformed",
        "Each entry of the log says that it follows the next one.",
        logged(*loop),
    )
    tangled = []
    for at in range(256):
        data = Image(entry([], at + 1, at)).le32(8, MIB)
        tangled.append((at, bytes(data)))
    add(
        "vhdx-log-tangled",
        "cycle",
        "inspect",
        "limit",
        "Every sector of the log begins an entry as long as the log.",
        logged(*tangled),
    )
    sums = Image(entry([(DATA, sector)])).put(5000, b"\0")
    add(
        "vhdx-log-torn",
        "mismatch",
        "inspect",
        "malformed",
        "The only entry of the log is torn: others read what was there before.",
        logged((0, bytes(sums))),
    )
    for word, at, data, kind, kind_of, what in [
        ("size", 68, le32(0xFFF00000), "limit", "table-size", "A log of 4 GiB"),
        ("place", 72, le64(0), "malformed", "overlap", "A log over the headers"),
        ("long", 68, le32(2 * MIB), "malformed", "overlap", "A log over the metadata"),
        ("behind", 68, le32(64 * MIB), "truncated", "past-the-end", "A log that goes past the end"),
    ]:
        image = logged((0, entry([(DATA, sector)])))
        add(f"vhdx-log-{word}", kind_of, "inspect", kind, f"{what}.", heads(image, at, data))
    grows = logged((0, entry([(DATA, 4096)], last=1 << 60)))
    add(
        "vhdx-log-grows",
        "bomb",
        "read",
        "limit",
        "Its log says that the file has 2^60 bytes once it is replayed.",
        grows,
    )


def attacks():
    found = []
    add = family("vhdx", found)
    for part in (parents, tables, blocks, logs):
        part(add)
    return found
