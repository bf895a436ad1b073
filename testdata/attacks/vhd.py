"""vhd."""

import struct

from .image import Image, family

HEADER = 512
BAT = 1536
BLOCK = 512 << 10
NONE = 0xFFFFFFFF


def seal(image, at, length, field):
    """Makes the checksum of a footer or header right."""
    image = image.be32(at + field, 0)
    return image.be32(at + field, ~sum(image.data[at : at + length]) & 0xFFFFFFFF)


def footer(kind, size):
    header = LAST if kind == 2 else HEADER
    head = struct.pack(
        ">8sIIQI4sI4sQQHBBII16s",
        b"conectix",
        2,
        0x10000,
        header,
        0,
        b"win ",
        0,
        b"Wi2k",
        size,
        size,
        120,
        4,
        17,
        kind,
        0,
        b"\xa1" * 16,
    )
    return bytes(seal(Image(head.ljust(512, b"\0")), 0, 512, 64))


LAST = 0xFFFFFFFFFFFFFFFF


def dynamic(kind=3, names=()):
    """Three blocks of 512 KiB, of which the first two are there."""
    size = 3 * BLOCK
    image = Image(bytes(8192))
    head = struct.pack(">8sQQIIII", b"cxsparse", LAST, BAT, 0x10000, 3, BLOCK, 0)
    image = image.put(HEADER, head)
    for index, (code, name) in enumerate(names):
        units = name.encode("utf-16-le")
        image = image.put(
            HEADER + 576 + index * 24,
            struct.pack(">4sIIIQ", code, 512, len(units), 0, 4096 + index * 1024),
        )
        image = image.put(4096 + index * 1024, units)
    if kind == 4:
        image = image.put(HEADER + 40, b"\xb1" * 16)
    for index in range(2):
        at = len(image)
        image = image.be32(BAT + index * 4, at // 512)
        image = image.put(at, b"\xff" * 128 + bytes(384) + bytes([0x11 + index]) * BLOCK)
    image = image.be32(BAT + 8, NONE)
    image = seal(image, HEADER, 1024, 36).put(0, footer(kind, size))
    return image.put(len(image), footer(kind, size))


def changed(image, at, number, width=4):
    """A field of the header, with its checksum made right."""
    image = image.be32(HEADER + at, number) if width == 4 else image.be64(HEADER + at, number)
    return seal(image, HEADER, 1024, 36)


def both_footers(image, at, number):
    for start in (0, len(image) - 512):
        image = seal(image.be64(start + at, number), start, 512, 64)
    return image


def fixed(data):
    return Image(data + footer(2, len(data)))


def locators(add):
    for word, code, name in [
        ("climbs", b"W2ru", "..\\..\\..\\..\\etc\\passwd"),
        ("absolute", b"W2ku", "C:\\secret.vhd"),
        ("unc", b"W2ku", "\\\\server\\share\\secret.vhd"),
        ("unix", b"W2ru", "/etc/passwd"),
        ("proc", b"W2ku", "/proc/self/environ"),
        ("device", b"W2ku", "\\\\.\\PhysicalDrive0"),
    ]:
        image = dynamic(4, [(code, name)])
        add(
            f"vhd-parent-{word}",
            "reference",
            "open",
            "refused",
            f"Its parent is {name.replace(chr(92), '/')}; oslo.utils calls such an image safe.",
            image,
        )
        add(
            f"vhd-parent-{word}-allowed",
            "reference",
            "follow",
            "refused",
            f"Its parent is {name.replace(chr(92), '/')}, and names in its own folder may be "
            "followed.",
            image,
        )
    add(
        "vhd-parent-nbd",
        "protocol",
        "follow",
        "refused",
        "Its parent is a server.",
        dynamic(4, [(b"W2ru", "nbd:localhost:10809")]),
    )
    add(
        "vhd-parent-listed",
        "reference",
        "inspect",
        "hazard: reference",
        "Its parent is told, and not opened.",
        dynamic(4, [(b"W2ru", "/etc/passwd")]),
    )
    add(
        "vhd-parent-nameless",
        "reference",
        "open",
        "refused",
        "It has a parent and does not say which: qemu-img reads zeros for what the parent has.",
        dynamic(4),
    )
    add(
        "vhd-self",
        "cycle",
        "follow",
        "refused",
        "It is its own parent.",
        dynamic(4, [(b"W2ru", "vhd-self")]),
    )
    evil = "\x1b[2J\x1b]0;owned\x07parent"
    add(
        "vhd-parent-text",
        "control-characters",
        "open",
        "refused",
        "The name of its parent steers the terminal of whoever reads the message.",
        dynamic(4, [(b"W2ru", evil)]),
    )
    far = dynamic(4, [(b"W2ru", "parent.vhd")])
    add(
        "vhd-locator-past",
        "past-the-end",
        "inspect",
        "truncated",
        "The name of its parent lies behind the end of the file.",
        seal(far.be64(HEADER + 576 + 16, 1 << 40), HEADER, 1024, 36),
    )
    add(
        "vhd-locator-huge",
        "table-size",
        "inspect",
        "malformed",
        "The name of its parent has 2^32 - 1 bytes.",
        seal(far.be32(HEADER + 576 + 8, NONE), HEADER, 1024, 36),
    )


def tables(add):
    sound = dynamic()
    last = (len(sound) - 512) // 512
    for word, entry, kind, what in [
        ("past", last + 1, "truncated", "A block lies behind the end of the file"),
        ("far", NONE - 1, "truncated", "A block lies 2 TiB behind the end of the file"),
    ]:
        add(f"vhd-bat-{word}", "past-the-end", "read", kind, f"{what}.", sound.be32(BAT, entry))
    for word, entry, what in [
        ("footer", 0, "the copy of the footer"),
        ("header", 1, "the header"),
        ("bat", 3, "the BAT"),
    ]:
        add(
            f"vhd-bat-on-{word}",
            "overlap",
            "read",
            "malformed",
            f"A block lies over {what}.",
            sound.be32(BAT, entry),
        )
        add(
            f"vhd-bat-on-{word}-strict",
            "overlap",
            "strict",
            "refused",
            f"A block lies over {what}, where only sound images are wanted.",
            sound.be32(BAT, entry),
        )
    first = struct.unpack(">I", bytes(sound.data[BAT : BAT + 4]))[0]
    twice = sound.be32(BAT + 4, first)
    add(
        "vhd-bat-twice",
        "overlap",
        "check",
        "finding: corruption",
        "Two places of the disk share a block.",
        twice,
    )
    add(
        "vhd-bat-twice-strict",
        "overlap",
        "strict",
        "refused",
        "Two places of the disk share a block, where only sound images are wanted.",
        twice,
    )
    story = "CVE-2014-0144 and CVE-2014-0142 are of such numbers"
    for word, kind_of, at, number, kind, what in [
        ("block-zero", "overflow", 32, 0, "malformed", "Blocks of no bytes"),
        ("block-odd", "overflow", 32, 3 << 18, "malformed", "Blocks of an odd size"),
        ("block-huge", "overflow", 32, 1 << 31, "malformed", "Blocks of 2 GiB"),
        ("block-last", "overflow", 32, NONE, "malformed", "Blocks of 2^32 - 1 bytes"),
        ("entries-zero", "count", 28, 0, "malformed", "A BAT without entries"),
        ("entries-few", "count", 28, 2, "malformed", "A BAT too short for the disk"),
        ("bat-over-header", "overlap", 20, 512, "malformed", "A BAT over the header"),
        ("table-far", "past-the-end", 16, 0x70000000, "truncated", "A BAT far behind the end"),
    ]:
        deed = "read"
        add(f"vhd-{word}", kind_of, deed, kind, f"{what}: {story}.", changed(sound, at, number))
    huge = both_footers(changed(changed(sound, 28, NONE), 32, 512), 48, 0xFF << 32)
    add(
        "vhd-entries",
        "table-size",
        "read",
        "truncated",
        "A BAT of 2^32 - 1 entries, 16 GiB, is not there: nothing of it becomes memory.",
        huge,
    )
    add(
        "vhd-entries-check",
        "table-size",
        "check",
        "limit",
        "A BAT of 2^32 - 1 entries is more than a check goes over.",
        huge,
    )
    add(
        "vhd-size",
        "overflow",
        "inspect",
        "malformed",
        "A disk of 2^64 - 512 bytes.",
        both_footers(sound, 48, LAST - 511),
    )
    add(
        "vhd-header-past",
        "past-the-end",
        "read",
        "truncated",
        "Its header lies behind the end of the file.",
        both_footers(sound, 16, 0x7FFF0000),
    )
    smaller = sound.put(len(sound) - 512, footer(3, 2 * BLOCK))
    add(
        "vhd-two-sizes",
        "mismatch",
        "inspect",
        "hazard: irregular",
        "Its two footers say two sizes: readers differ in which they believe.",
        smaller,
    )
    add(
        "vhd-two-sizes-strict",
        "mismatch",
        "strict",
        "refused",
        "Its two footers say two sizes, where only sound images are wanted.",
        smaller,
    )
    add(
        "vhd-sum",
        "mismatch",
        "inspect",
        "malformed",
        "Both its footers have a wrong sum.",
        sound.be32(64, 1).be32(len(sound) - 512 + 64, 1),
    )
    add(
        "vhd-cut",
        "truncation",
        "read",
        "truncated",
        "The file ends inside a block.",
        sound.cut(8192 + 512 + BLOCK + 700),
    )
    short = fixed(b"\x11" * 8192).data
    short = Image(short[:4096] + short[8192:])
    add(
        "vhd-fixed-short",
        "truncation",
        "read",
        "truncated",
        "A fixed disk is longer than its file.",
        short,
    )


def shared_blocks(add):
    entries = 1 << 20
    image = Image(dynamic().data[:8192]).be32(HEADER + 28, entries)
    image = seal(image, HEADER, 1024, 36).put(0, footer(3, entries * BLOCK))
    block = BAT + entries * 4
    image = image.put(BAT, struct.pack(">I", block // 512) * entries).put(block, bytes(512 + BLOCK))
    add(
        "vhd-blocks-shared",
        "bomb",
        "open",
        "limit",
        "A million blocks are one and the same, of which nothing is there: a small file that keeps "
        "whoever goes over its map busy for long.",
        image.put(len(image), footer(3, entries * BLOCK)),
    )


def attacks():
    found = []
    add = family("vhd", found)
    locators(add)
    tables(add)
    shared_blocks(add)
    return found
