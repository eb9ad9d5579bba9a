"""Documents of the state as bytes (docs/state-schema.md). Needs nothing but Python."""

import struct

MAJOR = 1

# ---- msgpack, as much of it as is used


def pack(value):
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        if value < 0:
            return b"\xd3" + struct.pack("!q", value)
        for first, form, limit in ((b"", "!B", 0x7f), (b"\xcc", "!B", 0xff),
                                   (b"\xcd", "!H", 0xffff), (b"\xce", "!I", 0xffffffff)):
            if value <= limit:
                return first + struct.pack(form, value)
        return b"\xcf" + struct.pack("!Q", value)
    if isinstance(value, bytes):
        return b"\xc6" + struct.pack("!I", len(value)) + value
    if isinstance(value, str):
        text = value.encode("utf-8", "surrogateescape")
        return b"\xdb" + struct.pack("!I", len(text)) + text
    if isinstance(value, (list, tuple)):
        return b"\xdd" + struct.pack("!I", len(value)) + b"".join(map(pack, value))
    return b"\xdf" + struct.pack("!I", len(value)) + b"".join(
        pack(key) + pack(item) for key, item in value.items())


class Unpacker:
    def __init__(self, data, at=0):
        self.data, self.at = data, at

    def number(self, form):
        value, = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return value

    def raw(self, length):
        self.at += length
        return bytes(self.data[self.at - length:self.at])

    def text(self, length):
        return self.raw(length).decode("utf-8", "surrogateescape")

    def list(self, length):
        return [self.value() for _ in range(length)]

    def map(self, length):
        return {self.value(): self.value() for _ in range(length)}

    def value(self):
        first = self.number("!B")
        if first < 0x80:
            return first
        if first >= 0xe0:
            return first - 256
        if first < 0xc0:
            return (self.map if first < 0x90 else self.list)(first & 15) if first < 0xa0 \
                else self.text(first & 31)
        numbers = {0xcc: "!B", 0xcd: "!H", 0xce: "!I", 0xcf: "!Q", 0xd0: "!b", 0xd1: "!h",
                   0xd2: "!i", 0xd3: "!q", 0xca: "!f", 0xcb: "!d"}
        if first in numbers:
            return self.number(numbers[first])
        sized = {0xc4: ("!B", self.raw), 0xc5: ("!H", self.raw), 0xc6: ("!I", self.raw),
                 0xd9: ("!B", self.text), 0xda: ("!H", self.text), 0xdb: ("!I", self.text),
                 0xdc: ("!H", self.list), 0xdd: ("!I", self.list),
                 0xde: ("!H", self.map), 0xdf: ("!I", self.map)}
        if first in sized:
            form, read = sized[first]
            return read(self.number(form))
        return {0xc0: None, 0xc2: False, 0xc3: True}[first]


# ---- documents

HEADER, STATEMENTS, POOLS, BACKENDS, SESSIONS = 1, 4, 5, 6, 7
CRITICAL = 1
_crc_table = []


def crc32c(data):
    if not _crc_table:
        for value in range(256):
            for _ in range(8):
                value = value >> 1 ^ (0x82f63b78 if value & 1 else 0)
            _crc_table.append(value)
    crc = 0xffffffff
    for byte in data:
        crc = crc >> 8 ^ _crc_table[(crc ^ byte) & 0xff]
    return crc ^ 0xffffffff


def read_document(data):
    """(major, minor), and the sections: [kind, flags, records]."""
    assert data[:4] == b"PGDH"
    at, sections = 8, []
    while at < len(data):
        kind, flags, length, crc = struct.unpack_from("!HHII", data, at)
        body = data[at + 12:at + 12 + length]
        assert crc32c(body) == crc
        sections.append([kind, flags, Unpacker(body).value()])
        at += 12 + length
    return struct.unpack_from("!HH", data, 4), sections


def write_document(sections, version=(MAJOR, 0)):
    out = [b"PGDH", struct.pack("!HH", *version)]
    for kind, flags, records in sections:
        body = records if isinstance(records, bytes) else pack(records)
        out += [struct.pack("!HHII", kind, flags, len(body), crc32c(body)), body]
    return b"".join(out)


def records(sections, kind):
    return [record for found, _, group in sections if found == kind for record in group]
