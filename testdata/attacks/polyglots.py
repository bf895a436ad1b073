"""Two formats in one file; disks that are said to be raw, whatever a guest wrote; luks."""

import hashlib
import json
import struct

from . import archives, iso, qcow, qcow1, vdi, vhd, vhdx, vmdk
from .image import Image, family

STORY = "two readers see two disks in it: CVE-2024-40767 and CVE-2024-44082 came of that"


def luks1():
    """A header with 64 KiB behind its 2 MiB."""
    return Image(bytes(qcow.luks(1000)).ljust((2 << 20) + (64 << 10), b"\0"))


def luks2(kdf):
    """A header of version 2 with a key that costs this."""
    text = json.dumps(
        {
            "keyslots": {"0": {"type": "luks2", "key_size": 64, "kdf": kdf}},
            "segments": {"0": {"type": "crypt", "offset": "65536", "size": "dynamic"}},
            "digests": {"x": [1]},
        },
        separators=(",", ":"),
    ).encode()
    image = Image(bytes((64 << 10) + 4096))
    for at, magic in [(0, b"LUKS\xba\xbe"), (16 << 10, b"SKUL\xba\xbe")]:
        head = Image(bytes(16 << 10)).put(0, magic).put(7, b"\2").be64(8, 16 << 10)
        head = head.put(23, b"\5").put(72, b"sha256").be64(256, at).put(4096, text)
        image = image.put(at, bytes(head.put(448, hashlib.sha256(head.data).digest())))
    return image


def wholes():
    """A valid image of every format, made by its family."""
    return {
        "qcow2": bytes(qcow.sound()),
        "qcow": bytes(qcow1.qcow1()),
        "qed": bytes(qcow1.qed1()),
        "vmdk": bytes(vmdk.sparse()),
        "vdi": bytes(vdi.vdi()),
        "vhdx": bytes(vhdx.sound()),
        "ploop": bytes(vdi.ploop()),
        "luks": bytes(luks1()),
        "ova": archives.package(),
        "docker": archives.saved([archives.end([archives.member("disk/a.raw", archives.DISK)])]),
        "gcp": archives.end([archives.member("disk.raw", archives.DISK)]),
    }


def polyglots(found):
    volume = bytes(iso.volume())
    for form, data in wholes().items():
        add = family(form, found)
        both = Image(data.ljust(len(volume), b"\0"))
        # A volume begins at 32 KiB; what an image has there is given up.
        both = both.put(32768, volume[32768:])
        add(
            f"{form}-iso",
            "polyglot",
            "probe",
            "refused",
            f"It is {form} and iso at once: {STORY}.",
            both,
        )
        padded = data + bytes(-len(data) % 512)
        add(
            f"{form}-vhd",
            "polyglot",
            "probe",
            "refused",
            f"It is {form} and ends with the footer of a fixed vhd: {STORY}; oslo.utils calls a "
            "qcow2 with such an end safe.",
            padded + vhd.footer(2, len(padded)),
        )
    add = family("iso", found)
    add(
        "iso-vhd",
        "polyglot",
        "probe",
        "refused",
        f"It is iso and vhd at once: {STORY}.",
        volume + vhd.footer(2, len(volume)),
    )
    partitions = (
        Image(volume)
        .put(510, b"\x55\xaa")
        .put(446, b"\x80" + bytes(3) + b"\x17" + bytes(3) + struct.pack("<II", 0, 96))
    )
    add(
        "iso-partitions",
        "polyglot",
        "probe",
        "right",
        "A volume with a table of partitions is the only lawful pair: oslo.utils takes some for "
        "two formats.",
        partitions,
    )
    dynamic = Image(bytes(vhd.dynamic()))
    add = family("vhd", found)
    add(
        "vhd-iso",
        "polyglot",
        "probe",
        "refused",
        f"It is vhd and iso at once: {STORY}.",
        dynamic.put(32768, volume[32768:]),
    )
    add(
        "vhd-qcow2",
        "polyglot",
        "probe",
        "refused",
        f"A qcow2 header stands where a dynamic vhd has its copy of the footer: {STORY}.",
        dynamic.put(0, bytes(qcow.over(b"/etc/passwd"))[:512]),
    )


def declared(found):
    """What a guest can write into its own raw disk, which is not to be looked at again."""
    add = family("raw", found)
    story = "A guest wrote it into its raw disk: what the caller says is raw stays raw"
    cve = "CVE-2015-1850, CVE-2015-1851 and CVE-2026-24708 came of a second look"
    heads = {
        "qcow2": bytes(qcow.over(b"/etc/passwd")),
        "qcow2-data-file": bytes(qcow.data_file(b"/etc/passwd", True)),
        "qcow": bytes(qcow1.qcow1()),
        "qed": bytes(qcow1.qed1()),
        "vmdk": bytes(vmdk.sparse()),
        "vdi": bytes(vdi.vdi()),
        "ploop": bytes(vdi.ploop()),
        "luks": bytes(luks1()),
        "iso": bytes(iso.volume()),
        "bundle": vdi.bundle("/etc/passwd"),
        "ova": archives.package(),
        "gzip": b"\x1f\x8b\x08\0" + bytes(508),
        "vhdx": b"vhdxfile" + bytes(4088),
        "vhd": bytes(vhd.fixed(bytes(4096))),
        "koly": bytes(7680) + b"koly" + bytes(508),
    }
    for word, data in heads.items():
        add(f"raw-{word}", "declared-raw", "raw", "right", f"{story}. {cve}.", data)
    add(
        "raw-koly-probed",
        "declared-raw",
        "probe",
        "unsupported",
        "It ends like a dmg, which is not read here: it does not pass for raw unless the caller "
        "says so.",
        heads["koly"],
    )
    add(
        "raw-tar-probed",
        "declared-raw",
        "probe",
        "unsupported",
        "It begins like an archive without a disk: it does not pass for raw unless the caller says "
        "so.",
        archives.end([archives.member("x", b"x")]),
    )


def costs(found):
    add = family("luks", found)
    story = "To open its key slot takes hours, or all memory, of whoever tries"
    add(
        "luks-iterations",
        "encryption-cost",
        "inspect",
        "hazard: irregular",
        f"{story}: 2^32 - 1 iterations.",
        bytes(qcow.luks(0xFFFFFFFF)).ljust((2 << 20) + 4096, b"\0"),
    )
    add(
        "luks-stripes",
        "encryption-cost",
        "inspect",
        "hazard: irregular",
        f"{story}: 2^32 - 1 stripes.",
        luks1().be32(252, 0xFFFFFFFF),
    )
    for word, kdf in [
        ("time", {"type": "argon2id", "time": 4294967295, "memory": 65536, "cpus": 4}),
        ("memory", {"type": "argon2id", "time": 4, "memory": (1 << 64) - 1, "cpus": 4}),
        ("threads", {"type": "argon2id", "time": 4, "memory": 65536, "cpus": 4000000000}),
        ("rounds", {"type": "pbkdf2", "hash": "sha256", "iterations": (1 << 63) - 1}),
    ]:
        add(
            f"luks-{word}",
            "encryption-cost",
            "inspect",
            "hazard: irregular",
            f"{story}: its {word}.",
            luks2(kdf),
        )
    add(
        "luks-key",
        "table-size",
        "inspect",
        "malformed",
        "A key of 4 GiB.",
        luks1().be32(108, 0xFFFFFFFF),
    )
    add(
        "luks-past",
        "past-the-end",
        "inspect",
        "truncated",
        "Its content lies behind its end.",
        luks1().be32(104, 0xFFFFFFFF),
    )
    add(
        "luks-cut",
        "truncation",
        "inspect",
        "truncated",
        "It ends inside its header.",
        luks1().cut(591),
    )
    add(
        "luks-read",
        "encryption-cost",
        "read",
        "unsupported",
        "Content that is encrypted is never handed on as if it were plain.",
        luks1(),
    )
    add(
        "luks-text",
        "control-characters",
        "inspect",
        "hazard: encrypted",
        "Its cipher steers the terminal of whoever inspects it.",
        luks1().put(8, b"aes\x1b[2J\x1b]0;x\x07"),
    )


def attacks():
    found = []
    for part in (polyglots, declared, costs):
        part(found)
    return found
