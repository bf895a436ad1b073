"""vdi and ploop."""

from .image import Image, family

MIB = 1 << 20
BLOCK = 64 << 10
FREE = 0xFFFFFFFF
LAST = 0xFFFFFFFF
FINDING = "finding: corruption"


def vdi(entries=(1, FREE, 0, FREE - 1)):
    """Four blocks of 64 KiB, of which the first and the third are there."""
    image = Image(bytes(2 * MIB)).put(0, b"<<< Oracle VM VirtualBox Disk Image >>>\n")
    for at, number in [
        (64, 0xBEDA107F),
        (68, 0x10001),
        (72, 400),
        (76, 1),
        (340, MIB),
        (344, 2 * MIB),
        (360, 512),
        (368, len(entries) * BLOCK),
        (376, BLOCK),
        (384, len(entries)),
        (388, 2),
        (468, 512),
    ]:
        image = image.le32(at, number)
    image = image.put(392, b"\xc1" * 16).put(408, b"\xd1" * 16)
    for index, entry in enumerate(entries):
        image = image.le32(MIB + index * 4, entry)
    return image.put(2 * MIB, b"\x01" * BLOCK + b"\x02" * BLOCK)


def disk_images(add):
    sound = vdi()
    for word, entry in [("past", 9), ("far", 1 << 30), ("last", FREE - 2)]:
        image = sound.le32(MIB, entry)
        add(
            f"vdi-map-{word}",
            "past-the-end",
            "read",
            "truncated",
            "A block lies behind the end of the file: qemu-img accepts it.",
            image,
        )
        add(
            f"vdi-map-{word}-check",
            "past-the-end",
            "check",
            FINDING,
            "A block lies behind the end of the file: qemu-img finds no errors.",
            image,
        )
    twice = sound.le32(MIB, 0)
    add(
        "vdi-map-twice",
        "overlap",
        "check",
        FINDING,
        "Two places of the disk share a block: qemu-img accepts it.",
        twice,
    )
    add(
        "vdi-map-twice-strict",
        "overlap",
        "strict",
        "refused",
        "Two places of the disk share a block, where only sound images are wanted.",
        twice,
    )
    for word, kind_of, at, number, what in [
        ("blocks", "count", 384, LAST, "2^32 - 1 blocks"),
        ("blocks-none", "count", 384, 0, "No blocks"),
        ("blocks-few", "count", 384, 3, "Too few blocks for the disk"),
        ("block-zero", "overflow", 376, 0, "Blocks of no bytes"),
        ("block-odd", "overflow", 376, 65537, "Blocks of 65,537 bytes"),
        ("block-huge", "overflow", 376, LAST, "Blocks of 2^32 - 1 bytes"),
        ("extra", "overflow", 380, LAST, "2^32 - 1 bytes in front of each block"),
        ("header", "overlap", 72, LAST, "A header over everything"),
        ("map-on-header", "overlap", 340, 400, "A map over the header"),
        ("data-on-map", "overlap", 344, MIB + 8, "Blocks over the map"),
        ("size", "overflow", 372, LAST, "A disk of many exbibytes"),
    ]:
        add(
            f"vdi-{word}",
            kind_of,
            "inspect",
            "malformed",
            f"{what}: CVE-2014-0144 is of numbers that nobody checked.",
            sound.le32(at, number),
        )
    large = sound.le32(384, (1 << 30) - MIB).le32(344, LAST - 511).le32(372, 1 << 13)
    add(
        "vdi-map-size",
        "table-size",
        "read",
        "truncated",
        "A map of 4 GiB is not there: nothing of it becomes memory.",
        large,
    )
    add(
        "vdi-map-size-check",
        "table-size",
        "check",
        "limit",
        "A map of 4 GiB is more than a check goes over.",
        large,
    )
    add(
        "vdi-allocated",
        "mismatch",
        "check",
        FINDING,
        "It counts 2^32 - 1 blocks in use, and two are.",
        sound.le32(388, LAST),
    )
    child = sound.le32(76, 4).put(424, b"\xe1" * 32)
    add(
        "vdi-child",
        "reference",
        "open",
        "refused",
        "It has a parent and no name for it: read alone, it would be zeros.",
        child,
    )
    add(
        "vdi-cut",
        "truncation",
        "read",
        "truncated",
        "The file ends inside a block: qemu-img fills up with zeros.",
        sound.cut(2 * MIB + BLOCK + 9),
    )
    bomb = Image(sound.data[: 2 * MIB] + sound.data[2 * MIB : 2 * MIB + BLOCK])
    blocks = 1 << 17
    bomb = bomb.le32(384, blocks).le32(368, 0).le32(372, 2).le32(388, blocks)
    bomb = bomb.put(MIB, bytes(blocks * 4))
    add(
        "vdi-bomb",
        "bomb",
        "survey",
        "limit",
        "131,072 places of the disk share one block: a small file that claims 8 GiB.",
        bomb,
    )


def ploop():
    """64 KiB in clusters of 4 KiB, of which the first and the third are there."""
    image = Image(bytes(3 * 4096)).put(0, b"WithouFreSpacExt")
    for at, number in [(16, 2), (28, 8), (32, 16), (36, 128), (48, 8), (64, 1), (72, 2)]:
        image = image.le32(at, number)
    return image.put(4096, b"\x07" * 4096 + b"\x08" * 4096)


def expandable(add):
    sound = ploop()
    for word, entry in [("past", 3), ("far", 1 << 30), ("last", LAST)]:
        image = sound.le32(64, entry)
        add(
            f"ploop-bat-{word}",
            "past-the-end",
            "read",
            "truncated",
            "A cluster lies behind the end of the file.",
            image,
        )
        add(
            f"ploop-bat-{word}-check",
            "past-the-end",
            "check",
            FINDING,
            "A cluster lies behind the end of the file.",
            image,
        )
    twice = sound.le32(72, 1)
    add("ploop-bat-twice", "overlap", "check", FINDING, "Two places share a cluster.", twice)
    add(
        "ploop-bat-twice-strict",
        "overlap",
        "strict",
        "refused",
        "Two places share a cluster, where only sound images are wanted.",
        twice,
    )
    for word, kind_of, at, number, kind, what in [
        (
            "tracks-zero",
            "overflow",
            28,
            0,
            "malformed",
            "Clusters of no sector: a division by zero in CVE-2014-0142",
        ),
        ("tracks", "overflow", 28, LAST, "limit", "Clusters of 2^32 - 1 sectors"),
        (
            "entries",
            "table-size",
            32,
            LAST,
            "limit",
            "A table of 2^32 - 1 entries: an overflow in CVE-2014-0143",
        ),
        ("entries-wrap", "table-size", 32, 1 << 29, "limit", "A table of 2^29 entries"),
        ("entries-few", "count", 32, 15, "malformed", "A table too short for the disk"),
        ("size", "overflow", 40, 1 << 31, "malformed", "A disk of 2^63 sectors"),
    ]:
        add(f"ploop-{word}", kind_of, "inspect", kind, f"{what}.", sound.le32(at, number))
    extension = sound.le64(56, 1 << 50)
    add(
        "ploop-extension",
        "past-the-end",
        "inspect",
        "hazard: irregular",
        "Its extension lies behind the end of the file: repair would write there.",
        extension,
    )
    add(
        "ploop-extension-check",
        "past-the-end",
        "check",
        FINDING,
        "Its extension lies behind the end of the file.",
        extension,
    )
    add(
        "ploop-cut",
        "truncation",
        "read",
        "truncated",
        "The file ends inside a cluster: qemu-img fills up with zeros.",
        sound.cut(9000),
    )


TOP = "{5fbaabe3-6958-40ff-92a7-860e329aab41}"


def bundle(file="top.hds", front="", size=128, more=""):
    """A DiskDescriptor.xml of one image."""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n{front}<Parallels_disk_image Version="1.0">'
        f"<Disk_Parameters><Disk_size>{size}</Disk_size><Cylinders>1</Cylinders><Heads>1</Heads>"
        "<Sectors>1</Sectors><Padding>0</Padding></Disk_Parameters>"
        "<StorageData><Storage><Start>0</Start><End>128</End><Blocksize>8</Blocksize>"
        f"<Image><GUID>{TOP}</GUID><Type>Compressed</Type><File>{file}</File></Image>{more}"
        f"</Storage></StorageData><Snapshots><Shot><GUID>{TOP}</GUID>"
        "<ParentGUID>{00000000-0000-0000-0000-000000000000}</ParentGUID></Shot></Snapshots>"
        "</Parallels_disk_image>\n"
    ).encode()


def bundles(add):
    for word, name in [
        ("passwd", "/etc/passwd"),
        ("urandom", "/dev/urandom"),
        ("climbs", "../../etc/passwd"),
    ]:
        add(
            f"ploop-file-{word}",
            "reference",
            "open",
            "refused",
            f"The bundle says that its image is {name}.",
            bundle(name),
        )
        add(
            f"ploop-file-{word}-allowed",
            "reference",
            "follow",
            "refused",
            f"The bundle says that its image is {name}, and names in its own folder may be "
            "followed.",
            bundle(name),
        )
    add(
        "ploop-file-listed",
        "reference",
        "inspect",
        "hazard: reference",
        "The image of a bundle is told, and not opened.",
        bundle("/etc/passwd"),
    )
    for word, name in [("json", "json:{}"), ("nbd", "nbd://host/x")]:
        add(
            f"ploop-file-{word}",
            "protocol",
            "follow",
            "refused",
            "The bundle says that its image is behind a protocol.",
            bundle(name),
        )
    laughs = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>\n'
    outside = '<!DOCTYPE x [<!ENTITY b SYSTEM "file:///etc/passwd">]>\n'
    dtd = '<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd">\n'
    for word, front, name in [
        ("laughs", laughs, "&b;"),
        ("outside", outside, "&b;"),
        ("dtd", dtd, "top.hds"),
        ("entity", "", "&b;"),
    ]:
        add(
            f"ploop-xml-{word}",
            "xml",
            "inspect",
            "refused",
            "The text of a bundle asks to be expanded, or for another file.",
            bundle(name, front).replace(b'"', b"'") if word == "entity" else bundle(name, front),
        )
    add(
        "ploop-xml-deep",
        "xml",
        "inspect",
        "limit",
        "Elements inside each other, 100 deep.",
        bundle(more="<a>" * 100 + "</a>" * 100),
    )
    add(
        "ploop-xml-images",
        "count",
        "inspect",
        "limit",
        "A bundle of 70,000 images.",
        bundle(more="<Image/>" * 70_000),
    )
    add(
        "ploop-itself",
        "cycle",
        "follow",
        "malformed",
        "A bundle is its own image.",
        bundle("ploop-itself"),
    )
    add(
        "ploop-name",
        "control-characters",
        "open",
        "refused",
        "The name of its image steers the terminal of whoever reads the message.",
        bundle("\u202e&#x9b;2J"),
    )


def attacks():
    found = []
    disk_images(family("vdi", found))
    add = family("ploop", found)
    expandable(add)
    bundles(add)
    return found
