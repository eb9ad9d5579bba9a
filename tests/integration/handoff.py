"""The handoff as it goes over the wire (actors/handoff.h, docs/state-schema.md), for tests that read
what one process gives to the next, or that play one of the two."""

import mmap
import os
import socket
import struct
import subprocess

from pooler import BINARY
from waiting import PATIENCE, wait_until

HELLO, HELLO_ACK, LISTENERS, READY = 1, 3, 5, 9
BEGIN, FDS, FDS_OK, END, PREPARED, COMMIT, COMMITTED = 11, 15, 17, 19, 21, 23, 25
CANCEL, ERROR, BYE = 32, 33, 36
OPEN, IS_PREPARED, IS_COMMITTED, ABORTED, RECLAIMED, ADOPTED = range(6)
TEXT = 15  # the key of a packet's text
MAJOR, MINOR = 1, 0

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


def write_document(sections, version=(MAJOR, MINOR)):
    out = [b"PGDH", struct.pack("!HH", *version)]
    for kind, flags, records in sections:
        body = records if isinstance(records, bytes) else pack(records)
        out += [struct.pack("!HHII", kind, flags, len(body), crc32c(body)), body]
    return b"".join(out)


def records(sections, kind):
    return [record for found, _, group in sections if found == kind for record in group]


def document_of(pid):
    """What a process that stands still in the middle of a round has written."""
    for name in os.listdir("/proc/%d/fd" % pid):
        path = "/proc/%d/fd/%s" % (pid, name)
        if os.readlink(path).startswith("/memfd:pg_doorman-state"):
            with open(path, "rb") as file:
                return file.read()
    return None


# ---- the old process, played

def memory_file(name, content):
    fd = os.memfd_create(name)
    os.write(fd, content)
    return fd


class Predecessor:
    """Starts the program as the successor of this process, which has a listening socket and a
    configuration, and nothing else."""

    def __init__(self, config_path, listener, log_path, binary=BINARY):
        self.link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.link.settimeout(15 * PATIENCE)
        self.listener = listener
        self.sequence = 0
        self.log_path = log_path
        self.page = self.page_fd = None
        environment = dict(os.environ, PG_DOORMAN_HANDOFF_FD=str(theirs.fileno()))
        environment.pop("PG_DOORMAN_UPGRADE_FAULT", None)
        with open(log_path, "ab") as log:
            self.process = subprocess.Popen(
                [binary, config_path, "-l", "info", "--inherit-fd", str(listener.fileno())],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                pass_fds=[theirs.fileno(), listener.fileno()])
        theirs.close()

    def send(self, kind, *numbers, text=b"", fds=()):
        self.sequence += 1
        body = {at + 1: number for at, number in enumerate(numbers)}
        if text:
            body[TEXT] = text
        socket.send_fds(self.link, [pack([kind, self.sequence, body])], list(fds))

    def receive(self):
        """(kind, body) of the next packet; its descriptors are closed. None: it has gone."""
        data, fds, _, _ = socket.recv_fds(self.link, 65536, 253)
        for fd in fds:
            os.close(fd)
        if not data:
            return None
        kind, _, body = Unpacker(data).value()
        return kind, body

    def expect(self, kind):
        got = self.receive()
        assert got is not None and got[0] == kind, "%r in the place of %d\n%s" % (
            got, kind, self.log()[-3000:])
        return got[1]

    def greet(self):
        """Up to the successor's word that it waits."""
        hello = self.expect(HELLO)
        assert hello[3] == self.process.pid
        self.send(HELLO_ACK, 1, MAJOR, 1, os.getpid())
        self.send(LISTENERS, 1, 0, fds=[self.listener.fileno()])
        self.expect(READY)
        return self

    def offer(self, document, fd_count):
        """A round with this document. Returns the answer: PREPARED or ERROR, and its body."""
        self.forget()
        self.page_fd = memory_file("page", struct.pack("=III", 0x50474443, 1, OPEN))
        self.page = mmap.mmap(self.page_fd, 12)
        state = memory_file("state", document)
        # An empty file cannot be mapped, and is refused for that.
        self.send(BEGIN, 1, len(document), fds=[self.page_fd, state])
        os.close(state)
        ends = []
        for first in range(0, fd_count, 250):
            group = [os.memfd_create("descriptor") for _ in range(min(250, fd_count - first))]
            self.send(FDS, first, len(group), fds=group)
            ends += group
        self.send(END, fd_count)
        for fd in ends:
            os.close(fd)
        while True:
            got = self.receive()
            assert got is not None, "it has gone:\n" + self.log()[-3000:]
            if got[0] in (PREPARED, ERROR):
                return got

    @property
    def word(self):
        return struct.unpack_from("=I", self.page, 8)[0]

    @word.setter
    def word(self, value):
        struct.pack_into("=I", self.page, 8, value)

    def forget(self):
        if self.page is not None:
            self.page.close()
            os.close(self.page_fd)
        self.page = None

    def running(self):
        return self.process.poll() is None

    def log(self):
        with open(self.log_path, errors="replace") as file:
            return file.read()

    def end(self):
        self.forget()
        self.link.close()
        if self.running():
            self.process.kill()
        wait_until(lambda: self.process.poll() is not None, 10, "it to end")
