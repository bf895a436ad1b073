"""Compression around an image: bombs, and texts that lie about what is inside."""

import bz2
import gzip
import lzma
import struct
import zlib

from .image import Image, family
from .vhd import footer

MIB = 1 << 20
BOMB = 128 * MIB
RLE = 128 << 10


def zstd_frame(size, byte, window=7, says=True):
    """A frame of blocks that each repeat a byte."""
    head = b"\x28\xb5\x2f\xfd"
    head += bytes([0x80 | 0x20]) + struct.pack("<I", size) if says else bytes([0, window << 3])
    blocks = bytearray()
    for at in range(0, size, RLE):
        part = min(RLE, size - at)
        word = part << 3 | 1 << 1 | (at + part == size)
        blocks += struct.pack("<I", word)[:3] + bytes([byte])
    return head + bytes(blocks)


def xxh32(data):
    """The digest that the head of an lz4 frame ends with; of less than four bytes."""
    two, three, five = 2246822519, 3266489917, 374761393
    value = five + len(data)
    for byte in data:
        value = (value + byte * five) & 0xFFFFFFFF
        value = ((value << 11 | value >> 21) * 2654435761) & 0xFFFFFFFF
    value = ((value ^ value >> 15) * two) & 0xFFFFFFFF
    value = ((value ^ value >> 13) * three) & 0xFFFFFFFF
    return value ^ value >> 16


def lz4_bomb():
    """Blocks of 4 MiB, each of one byte that is repeated."""
    flags = bytes([0x60, 0x70])
    head = struct.pack("<I", 0x184D2204) + flags + bytes([xxh32(flags) >> 8 & 0xFF])
    length = 4 * MIB - 1 - 5
    more = length - 4 - 15
    block = (
        b"\x1f\xaa\x01\0" + b"\xff" * (more // 255) + bytes([more % 255]) + b"\x50" + b"\xaa" * 5
    )
    return head + (struct.pack("<I", len(block)) + block) * (BOMB // (4 * MIB)) + bytes(4)


def vli(number):
    out = b""
    while number >= 0x80:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def xz_of(data, says):
    """A stream whose index says that it holds so many bytes."""
    stream = lzma.compress(data, lzma.FORMAT_XZ, lzma.CHECK_CRC32)
    size = (struct.unpack("<I", stream[-8:-4])[0] + 1) * 4
    body = stream[12 : -12 - size]
    index = b"\0\1" + vli(len(body)) + vli(says)
    index += bytes(-len(index) % 4)
    index += struct.pack("<I", zlib.crc32(index))
    back = struct.pack("<I", len(index) // 4 - 1) + stream[6:8]
    return stream[:12] + body + index + struct.pack("<I", zlib.crc32(back)) + back + b"YZ"


def xz_dictionary(data):
    """A stream that asks for a dictionary of 4 GiB."""
    stream = Image(lzma.compress(data, lzma.FORMAT_XZ, lzma.CHECK_CRC32))
    size = (stream.data[12] + 1) * 4
    assert stream.data[14] == 0x21, "the only filter is LZMA2"
    stream = stream.put(16, b"\x28")
    return stream.le32(12 + size - 4, zlib.crc32(stream.data[12 : 12 + size - 4]))


def xz_blocks(count):
    """A stream whose index says that it has so many blocks."""
    flags = b"\0\1"
    index = b"\0" + vli(count) + (vli(4) + vli(1)) * count
    index += bytes(-len(index) % 4)
    index += struct.pack("<I", zlib.crc32(index))
    back = struct.pack("<I", len(index) // 4 - 1) + flags
    head = b"\xfd7zXZ\0" + flags + struct.pack("<I", zlib.crc32(flags))
    return head + bytes(4 * count) + index + struct.pack("<I", zlib.crc32(back)) + back + b"YZ"


def packed(data):
    return gzip.compress(data, 9, mtime=0)


def bombs(found):
    story = "A few bytes that become 128 MiB here, and could become terabytes"
    add = family("gzip", found)
    add("gzip-bomb", "bomb", "unwrap", "limit", f"{story}.", packed(b"\xaa" * BOMB))
    add(
        "gzip-bomb-nested",
        "bomb",
        "unwrap",
        "limit",
        f"{story}, packed twice over.",
        packed(packed(b"\xaa" * BOMB)),
    )
    add(
        "gzip-thrice",
        "bomb",
        "unwrap",
        "limit",
        "Packed three times over.",
        packed(packed(packed(b"hello"))),
    )
    name = b"\x1f\x8b\x08\x08" + bytes(6) + b"A" * (16 * MIB)
    add(
        "gzip-name",
        "table-size",
        "unwrap",
        "malformed",
        "The name in its head has no end: who keeps it keeps all of the file.",
        name,
    )
    empty = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
    add(
        "gzip-members",
        "count",
        "unwrap",
        "limit",
        "A million members, each of which holds nothing: to begin each takes its time.",
        empty * 1_000_000,
    )
    add(
        "gzip-cut",
        "truncation",
        "unwrap",
        "truncated",
        "It ends in the midst of its data.",
        packed(bytes(range(256)) * 64)[:200],
    )
    add(
        "gzip-vhd",
        "polyglot",
        "unwrap",
        "refused",
        "It is packed, and it ends with the footer of a disk.",
        packed(bytes(range(256)) * 8).ljust(1024, b"\0") + footer(2, 1024),
    )
    add = family("bzip2", found)
    add("bzip2-bomb", "bomb", "unwrap", "limit", f"{story}.", bz2.compress(b"\xaa" * BOMB))
    add = family("lz4", found)
    add("lz4-bomb", "bomb", "unwrap", "limit", f"{story}.", lz4_bomb())
    add = family("zstd", found)
    add("zstd-bomb", "bomb", "unwrap", "limit", f"{story}.", zstd_frame(BOMB, 0xAA))
    add(
        "zstd-frames",
        "bomb",
        "unwrap",
        "limit",
        f"{story}: in two frames, each of which is one unit.",
        zstd_frame(BOMB, 0xAA) + zstd_frame(BOMB, 0xAA),
    )
    for word, exponent, size in [("window", 21, "2 GiB"), ("window-last", 31, "2 TiB")]:
        add(
            f"zstd-{word}",
            "table-size",
            "unwrap",
            "limit",
            f"It asks for a window of {size}: who gives it gives his memory.",
            zstd_frame(4096, 0xAA, exponent, False),
        )
    add(
        "zstd-frames-many",
        "count",
        "unwrap",
        "limit",
        "Two million frames, each of one byte: to begin each takes longer than to unpack it.",
        zstd_frame(1, 0xAA) * 2_000_000,
    )
    add(
        "zstd-cut",
        "truncation",
        "unwrap",
        "truncated",
        "It ends in the midst of its data.",
        zstd_frame(MIB, 0xAA)[:-9],
    )


def indexes(found):
    add = family("xz", found)
    data = bytes(range(256)) * 16
    story = "Its index lies about how much a block holds: whoever trusts it reads what was there"
    for word, says in [("more", 5000), ("less", 300), ("huge", 1 << 62)]:
        add(
            f"xz-index-{word}",
            "mismatch",
            "unwrap",
            "malformed",
            f"{story}.",
            xz_of(data, says) + xz_of(data, len(data)),
        )
    add(
        "xz-dictionary",
        "table-size",
        "unwrap",
        "limit",
        "It asks for a dictionary of 4 GiB: who gives it gives his memory.",
        xz_dictionary(data),
    )
    add(
        "xz-blocks",
        "count",
        "unwrap",
        "malformed",
        "Its index tells of two million blocks, of which there is none.",
        xz_blocks(2_000_000),
    )
    add(
        "xz-bomb",
        "bomb",
        "unwrap",
        "limit",
        "A few bytes that become 128 MiB.",
        lzma.compress(b"\xaa" * BOMB, lzma.FORMAT_XZ, lzma.CHECK_CRC32),
    )


def attacks():
    found = []
    bombs(found)
    indexes(found)
    return found
