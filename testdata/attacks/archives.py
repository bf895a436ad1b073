"""ova, ovf, docker and gcp: archives, and the texts in them."""

import hashlib
import json
import struct

from .image import family

DISK = b"\x07" * 1024
SIZES = [
    ("base256", b"\x80\0\0\x01" + bytes(8), "malformed"),
    ("negative", b"\xff" * 12, "malformed"),
    ("wraps", b"\x80\0\0\0" + b"\xff" * 8, "malformed"),
    ("signed", b"\x80\0\0\0\x7f" + b"\xff" * 7, "truncated"),
    ("octal", b"7" * 12, "truncated"),
    ("letters", b"0000000x000\0", "malformed"),
]
OUT = [
    ("climbs", "../evil"),
    ("absolute", "/etc/passwd"),
    ("within", "a/../../evil"),
    ("dotted", "./../evil"),
    ("up", ".."),
]


def member(name, content=b"", kind=b"0", link=b"", size=None, block=None):
    """A member of a tar archive, with its sum."""
    name = name.encode() if isinstance(name, str) else name
    head = bytearray(512)
    head[: len(name)] = name
    head[100:108] = b"0000644\0"
    head[124:136] = size if size is not None else b"%011o\0" % len(content)
    head[136:148] = b"00000000000\0"
    head[156:157] = kind
    head[157 : 157 + len(link)] = link
    head[257:265] = b"ustar\x0000"
    for at, data in block or []:
        head[at : at + len(data)] = data
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + content + bytes(-len(content) % 512)


def end(members):
    whole = b"".join(members) + bytes(1024)
    return whole + bytes(-len(whole) % 10240)


def sparse(name, stretches, size, content):
    block = [(257, b"ustar  \0"), (483, b"\x80"), (487, struct.pack(">Q", size))]
    for index, (offset, length) in enumerate(stretches):
        block.append((386 + 24 * index, b"%011o\0%011o\0" % (offset, length)))
    return member(name, content, b"S", block=block)


def descriptor(disks=(("disk.img", 1024, "1024", ""),), front="", items=""):
    """The text about a machine with these disks: file, size, capacity, units."""
    files = list_of = links = ""
    for index, (href, size, capacity, units) in enumerate(disks):
        size = f" o:size='{size}'" if size is not None else ""
        files += f"<File o:id='file{index}' o:href='{href}'{size}/>"
        list_of += (
            f"<Disk o:diskId='disk{index}' o:fileRef='file{index}' o:capacity='{capacity}' "
            f"o:capacityAllocationUnits='{units}' o:format='http://example.com/raw'/>"
        )
        links += (
            f"<Item><InstanceID>{index + 10}</InstanceID><ResourceType>17</ResourceType>"
            f"<HostResource>ovf:/disk/disk{index}</HostResource></Item>"
        )
    space = "http://schemas.dmtf.org/ovf/envelope/1"
    return (
        f"<?xml version=\"1.0\"?>{front}<Envelope xmlns='{space}' xmlns:o='{space}' "
        f"o:version='1.0'><References>{files}</References><DiskSection><Info>disks</Info>{list_of}"
        "</DiskSection><VirtualSystem o:id='vm'><Info>it</Info><Name>vm</Name>"
        f"<VirtualHardwareSection><Info>parts</Info>{links}{items}</VirtualHardwareSection>"
        "</VirtualSystem></Envelope>"
    )


def line(name, content, how="SHA256"):
    return f"{how}({name})= {hashlib.new(how, content).hexdigest()}\n"


def package(*more, text=None, disk=True, before=()):
    """A package of one disk; these members behind it."""
    text = (text if text is not None else descriptor()).encode()
    parts = list(before) + [member("a.ovf", text)]
    if disk:
        parts.append(member("disk.img", DISK))
    return end(parts + list(more))


def members(add):
    for word, name in OUT:
        add(
            f"ova-member-{word}",
            "escape",
            "open",
            "refused",
            f"A member is called {name}: who unpacks it writes outside of the folder.",
            package(member(name, b"evil")),
        )
    add(
        "ova-member-long",
        "escape",
        "open",
        "refused",
        "A member's long name, in a header of its own, leads out.",
        package(member("././@LongLink", b"../evil\0", b"L"), member("good")),
    )
    add(
        "ova-member-pax",
        "escape",
        "open",
        "refused",
        "A member's name in an extended header leads out.",
        package(member("pax", b"16 path=../evil\n", b"x"), member("good")),
    )
    for word, kind in [
        ("hardlink", b"1"),
        ("symlink", b"2"),
        ("character", b"3"),
        ("block", b"4"),
        ("fifo", b"6"),
    ]:
        add(
            f"ova-{word}",
            "escape",
            "open",
            "refused",
            "A member that is no file: a link or a device.",
            package(member("evil", b"", kind, b"/etc/passwd")),
        )
    add(
        "ova-through-link",
        "escape",
        "open",
        "refused",
        "A link to a folder, then a file that is written through it.",
        package(member("out", b"", b"2", b"/etc"), member("out/evil", b"evil")),
    )
    add(
        "ova-through-hardlink",
        "escape",
        "open",
        "refused",
        "A hard link to a file of the host, then a member of its name.",
        package(member("out", b"", b"1", b"/etc/passwd"), member("out", b"evil")),
    )
    for word, more in [
        ("disk", member("disk.img", b"\x08" * 1024)),
        ("dotted", member("./disk.img", DISK)),
        ("descriptor", member("b.ovf", b"<Envelope/>")),
        ("manifests", member("a.mf", b"") + member("b.mf", b"")),
    ]:
        add(
            f"ova-twice-{word}",
            "escape",
            "open",
            "refused",
            "Two members of one name: one may be checked, and the other one used.",
            package(more),
        )
    for word, size, kind in SIZES:
        add(
            f"ova-size-{word}",
            "overflow",
            "open",
            kind,
            "The size of a member is more than there is, or no number.",
            package(member("huge", b"", size=size)),
        )
    add(
        "ova-size-pax",
        "overflow",
        "open",
        "malformed",
        "The size of a member is 2^64 - 1, in an extended header.",
        package(member("pax", b"29 size=18446744073709551615\n", b"x"), member("huge")),
    )
    add(
        "ova-sparse-bomb",
        "bomb",
        "open",
        "limit",
        "A sparse member of 2^63 bytes of holes.",
        package(sparse("bomb", [], 1 << 63, b"")),
    )
    for word, stretches in [
        ("back", [(512, 512), (0, 512)]),
        ("over", [(0, 512), (100, 512)]),
        ("past", [(4000, 512)]),
    ]:
        add(
            f"ova-sparse-{word}",
            "overlap",
            "open",
            "malformed",
            "The stretches of a sparse member overlap, or lead past its end.",
            end(
                [
                    member("a.ovf", descriptor((("disk.img", None, "4096", ""),)).encode()),
                    sparse("disk.img", stretches, 4096, b"\5" * 512 * len(stretches)),
                ]
            ),
        )
    add(
        "ova-cut",
        "truncation",
        "open",
        "truncated",
        "The archive ends inside its disk.",
        package()[: -10240 + 3000],
    )


def texts(add):
    for word, href in [
        ("climbs", "../../etc/passwd"),
        ("absolute", "/etc/passwd"),
        ("file", "file:///etc/passwd"),
        ("http", "http://127.0.0.1:9/disk.img"),
        ("https", "https://example.com/disk.img"),
    ]:
        kind_of = "protocol" if ":" in href else "reference"
        text = descriptor(((href, None, "1024", ""),))
        add(
            f"ova-href-{word}",
            kind_of,
            "open",
            "refused",
            f"The descriptor says that the disk is {href}.",
            package(text=text),
        )
        add(
            f"ova-href-{word}-listed",
            kind_of,
            "inspect",
            "hazard: irregular",
            f"The descriptor says that the disk is {href}: it is told.",
            package(text=text),
        )
    for word, front in [
        ("laughs", '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;">]>'),
        ("dtd", '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/x.dtd">'),
        ("outside", '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'),
    ]:
        add(
            f"ova-xml-{word}",
            "xml",
            "open",
            "refused",
            "The descriptor asks to be expanded, or for another file.",
            package(text=descriptor(front=front)),
        )
    add(
        "ova-xml-entity",
        "xml",
        "open",
        "refused",
        "The descriptor uses an entity of its own.",
        package(text=descriptor().replace("<Info>", "<Info>&x;")),
    )
    add(
        "ova-xml-deep",
        "xml",
        "open",
        "limit",
        "Elements inside each other, 100,000 deep.",
        package(text="<a>" * 100_000),
    )
    add(
        "ova-xml-items",
        "count",
        "open",
        "limit",
        "A machine of a million parts.",
        package(text=descriptor(items="<Item/>" * 1_000_000)),
    )
    for word, capacity, units, kind in [
        ("power", "1", "byte * 2^999", "malformed"),
        ("edge", "1", "byte * 2^64", "malformed"),
        ("product", "18446744073709551615", "byte * 2^10", "malformed"),
        ("digits", "18446744073709551616", "", "malformed"),
        ("negative", "-1", "", "malformed"),
        ("float", "1e3", "", "malformed"),
        ("property", "${size}", "", "malformed"),
        ("large", "1", "byte * 2^62", "limit"),
        ("small", "512", "", "malformed"),
    ]:
        add(
            f"ova-capacity-{word}",
            "overflow",
            "open",
            kind,
            f"The capacity of the disk is {capacity} of '{units}'.".replace("''", "bytes"),
            package(text=descriptor((("disk.img", 1024, capacity, units),))),
        )
    for word, numbers, size in [
        ("gap", (0, 2), None),
        ("first", (1, 2), None),
        ("last", (0, 1), 1536),
        ("far", (0, 1, 300), None),
    ]:
        text = descriptor((("disk.img", size, "1536", ""),))
        chunks = [member(f"disk.img.{number:09}", b"\x09" * 512) for number in numbers]
        add(
            f"ova-chunks-{word}",
            "truncation",
            "open",
            "malformed",
            "A chunk of the disk is missing: what follows it would move up.",
            package(*chunks, text=text, disk=False),
        )
    add(
        "ova-name-text",
        "control-characters",
        "inspect",
        "hazard: irregular",
        "The name of a missing file steers the terminal of whoever inspects it.",
        package(text=descriptor((("\u202e\u009b2Jdisk", None, "1024", ""),))),
    )


def manifests(add):
    text = descriptor().encode()
    lines = line("a.ovf", text) + line("disk.img", DISK)

    def with_lines(lines):
        return end(
            [member("a.ovf", text), member("a.mf", lines.encode()), member("disk.img", DISK)]
        )

    add(
        "ova-manifest-missing",
        "manifest",
        "inspect",
        "hazard: irregular",
        "The manifest vouches for a file that is not there.",
        with_lines(lines + line("gone", b"")),
    )
    add(
        "ova-manifest-silent",
        "manifest",
        "check",
        "finding: unreadable",
        "The manifest does not speak of the disk, and the disk can be anything.",
        with_lines(line("a.ovf", text)),
    )
    add(
        "ova-manifest-broken",
        "manifest",
        "read",
        "malformed",
        "The disk is not the one that the manifest vouches for: ovftool stops, many do not look.",
        with_lines(line("a.ovf", text) + line("disk.img", b"another")),
    )
    add(
        "ova-manifest-broken-check",
        "manifest",
        "check",
        "finding: corruption",
        "The disk is not the one that the manifest vouches for.",
        with_lines(line("a.ovf", text) + line("disk.img", b"another")),
    )
    for word, broken, kind in [
        ("short", "SHA1(a.ovf)= 12\n", "malformed"),
        ("md5", "MD5(a.ovf)= 00\n", "unsupported"),
        ("words", "nonsense\n", "malformed"),
    ]:
        add(
            f"ova-manifest-{word}",
            "manifest",
            "open",
            kind,
            "A manifest that is none: to pass over it would be to vouch for nothing.",
            with_lines(broken),
        )


def lone_descriptors(add):
    for word, href in [("passwd", "/etc/passwd"), ("climbs", "../../etc/passwd")]:
        text = descriptor(((href, None, "1024", ""),)).encode()
        add(f"ovf-href-{word}", "reference", "open", "refused", f"The disk is {href}.", text)
        add(
            f"ovf-href-{word}-allowed",
            "reference",
            "follow",
            "refused",
            f"The disk is {href}, and names in its own folder may be followed.",
            text,
        )
    for word, href in [("http", "http://127.0.0.1:9/x"), ("file", "file:///etc/passwd")]:
        add(
            f"ovf-href-{word}",
            "protocol",
            "follow",
            "refused",
            f"The disk is {href}.",
            descriptor(((href, None, "1024", ""),)).encode(),
        )
    add(
        "ovf-xml-outside",
        "xml",
        "inspect",
        "refused",
        "It asks for another file.",
        descriptor(front='<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>').encode(),
    )
    add(
        "ovf-itself",
        "cycle",
        "follow",
        "unsupported",
        "Its disk is the descriptor itself.",
        descriptor((("ovf-itself", None, "1024", ""),)).encode(),
    )


def saved(layers, extra=()):
    """What `docker save` writes."""
    names = [f"{number:064x}/layer.tar" for number in range(len(layers))]
    ids = ["sha256:" + hashlib.sha256(layer).hexdigest() for layer in layers]
    config = json.dumps(
        {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": ids}}
    ).encode()
    name = hashlib.sha256(config).hexdigest() + ".json"
    manifest = json.dumps([{"Config": name, "RepoTags": ["me:1"], "Layers": names}]).encode()
    parts = [member(name, config)]
    parts += [member(name, layer) for name, layer in zip(names, layers)]
    return end(parts + list(extra) + [member("manifest.json", manifest)])


def layout(index, blobs, extra=()):
    """An OCI layout with this index and these blobs."""
    parts = [member("oci-layout", b"{}"), *extra, member("index.json", index)]
    parts += [member("blobs/sha256/" + hashlib.sha256(blob).hexdigest(), blob) for blob in blobs]
    return end(parts)


def blob(kind, data, size=None):
    return {
        "mediaType": f"application/vnd.oci.image.{kind}.v1+json",
        "digest": "sha256:" + hashlib.sha256(data).hexdigest(),
        "size": len(data) if size is None else size,
    }


def index_of(rows):
    return json.dumps({"schemaVersion": 2, "manifests": rows}).encode()


def containers(add):
    layer = end([member("disk/a.raw", DISK)])
    for word, name in OUT[:3]:
        add(
            f"docker-member-{word}",
            "escape",
            "inspect",
            "refused",
            f"A member is called {name}.",
            layout(index_of([]), [], [member(name, b"x")]),
        )
        add(
            f"docker-layer-{word}",
            "escape",
            "open",
            "refused",
            f"A file of a layer is called {name}: CVE-2024-44082 is of trust in uploads.",
            saved([end([member(name + "/disk/a.raw", DISK)])]),
        )
    add(
        "docker-member-twice",
        "escape",
        "inspect",
        "refused",
        "Two members of one name.",
        layout(index_of([]), [], [member("oci-layout", b"{}")]),
    )
    add(
        "docker-layer-twice",
        "escape",
        "open",
        "refused",
        "Two files of one name in a layer.",
        saved([end([member("disk/a.raw", DISK), member("disk/a.raw", DISK)])]),
    )
    for word, kind, link in [
        ("symlink", b"2", b"/etc/passwd"),
        ("hardlink", b"1", b"/etc/passwd"),
        ("device", b"4", b""),
    ]:
        add(
            f"docker-disk-{word}",
            "escape",
            "open",
            "unsupported",
            "The disk in a layer is a link or a device: it is not followed, and so there is none.",
            saved([end([member("disk/a.raw", b"", kind, link)])]),
        )
    manifest = b'[{"Layers":["b/layer.tar"]}]'
    for word, link in [("itself", b"layer.tar"), ("out", b"../../x"), ("absolute", b"/etc/passwd")]:
        add(
            f"docker-link-{word}",
            "cycle" if word == "itself" else "escape",
            "inspect",
            "malformed",
            "A layer is a link that leads to itself, or out of the archive.",
            end(
                [
                    member("manifest.json", manifest),
                    member("a/layer.tar", layer),
                    member("b/layer.tar", b"", b"2", link),
                ]
            ),
        )
    inner, blobs = index_of([]), [index_of([])]
    for _ in range(6):
        inner = index_of([blob("index", inner)])
        blobs.append(inner)
    add(
        "docker-index-deep",
        "cycle",
        "inspect",
        "limit",
        "Indexes in each other, seven deep.",
        layout(inner, blobs),
    )
    inner, blobs = index_of([]), [index_of([])]
    for _ in range(3):
        inner = index_of([blob("index", inner)] * 1000)
        blobs.append(inner)
    add(
        "docker-index-wide",
        "bomb",
        "inspect",
        "limit",
        "Each of three indexes names the next one a thousand times: a billion in all.",
        layout(inner, blobs),
    )
    manifest = json.dumps({"layers": [blob("layer", layer, 10)]}).encode()
    add(
        "docker-blob-size",
        "mismatch",
        "inspect",
        "malformed",
        "A blob has another size than said.",
        layout(index_of([blob("manifest", manifest)]), [manifest, layer]),
    )
    add(
        "docker-blob-name",
        "escape",
        "inspect",
        "malformed",
        "The name of a blob leads out.",
        layout(index_of([{"digest": "sha256:../../etc/passwd", "size": 1}]), []),
    )
    broken = saved([layer]).replace(DISK, b"\x08" * 1024)
    add(
        "docker-blob-changed",
        "manifest",
        "read",
        "malformed",
        "A layer has other bytes than its digest says.",
        broken,
    )
    many = json.dumps([{"Layers": ["a/layer.tar"] * 600}]).encode()
    add(
        "docker-layers",
        "count",
        "inspect",
        "limit",
        "An image of 600 layers.",
        end([member("manifest.json", many), member("a/layer.tar", layer)]),
    )
    deep = b"[" * 5000 + b'"manifests"'
    add(
        "docker-json-deep",
        "bomb",
        "inspect",
        "malformed",
        "A text of 5,000 lists inside each other.",
        layout(deep, []),
    )
    add(
        "docker-json-large",
        "table-size",
        "inspect",
        "limit",
        "An index of 4 MiB and a byte.",
        layout(b" " * ((4 << 20) + 1), []),
    )
    for word, size, kind in SIZES[:3]:
        add(
            f"docker-size-{word}",
            "overflow",
            "inspect",
            kind,
            "The size of a member is more than there is, or no number.",
            layout(index_of([]), [], [member("huge", b"", size=size)]),
        )


def clouds(add):
    whole = end([member("disk.raw", DISK)])
    add(
        "gcp-two",
        "mismatch",
        "inspect",
        "hazard: irregular",
        "A second file behind the disk, which should be alone.",
        end([member("disk.raw", DISK), member("x", b"x")]),
    )
    add(
        "gcp-cut",
        "truncation",
        "inspect",
        "truncated",
        "The archive ends inside its disk.",
        whole[:900],
    )
    for word, size, kind in SIZES:
        add(
            f"gcp-size-{word}",
            "overflow",
            "inspect",
            kind,
            "The size of the disk is more than there is, or no number.",
            end([member("disk.raw", DISK, size=size)]),
        )
    add(
        "gcp-sparse-bomb",
        "bomb",
        "open",
        "limit",
        "A disk of 2^63 bytes of holes.",
        end([sparse("disk.raw", [], 1 << 63, b"")]),
    )
    add(
        "gcp-sparse-over",
        "overlap",
        "inspect",
        "malformed",
        "The stretches of the disk overlap.",
        end([sparse("disk.raw", [(0, 512), (100, 512)], 4096, b"\5" * 1024)]),
    )


def attacks():
    found = []
    add = family("ova", found)
    for part in (members, texts, manifests):
        part(add)
    lone_descriptors(family("ovf", found))
    containers(family("docker", found))
    clouds(family("gcp", found))
    return found
