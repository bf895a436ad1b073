"""What the families share: bytes that are changed in place, and an attack with its facts."""

import struct


class Attack:
    """An image, and what must come of it."""

    def __init__(self, form, name, kind_of, deed, kind, story, data, beside=None):
        self.format = form
        self.name = name
        self.data = bytes(data)
        self.facts = {
            "class": kind_of,
            "format": form,
            "deed": deed,
            "kind": kind,
            "beside": beside,
            "story": story,
        }


class Image:
    """Bytes in the making; each change gives a new one."""

    def __init__(self, data):
        self.data = bytearray(data)

    def put(self, at, more):
        """These bytes at this place, which grows if it must."""
        new = Image(self.data)
        end = at + len(more)
        if end > len(new.data):
            new.data.extend(bytes(end - len(new.data)))
        new.data[at:end] = more
        return new

    def be16(self, at, number):
        return self.put(at, struct.pack(">H", number))

    def be32(self, at, number):
        return self.put(at, struct.pack(">I", number))

    def be64(self, at, number):
        return self.put(at, struct.pack(">Q", number))

    def le16(self, at, number):
        return self.put(at, struct.pack("<H", number))

    def le32(self, at, number):
        return self.put(at, struct.pack("<I", number))

    def le64(self, at, number):
        return self.put(at, struct.pack("<Q", number))

    def cut(self, length):
        return Image(self.data[:length])

    def __bytes__(self):
        return bytes(self.data)

    def __len__(self):
        return len(self.data)


def family(form, attacks):
    """A function that adds an attack of this format to the list."""

    def add(name, kind_of, deed, kind, story, data, beside=None):
        attacks.append(Attack(form, name, kind_of, deed, kind, story, data, beside))

    return add
