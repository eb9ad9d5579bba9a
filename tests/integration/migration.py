"""How PgDoorman 3.10 hands over its clients, for tests that play that program: one client is a frame
on a stream socket, with its connection attached to the first byte (actors/migration.h)."""

import os
import socket
import struct
import zlib

from waiting import PATIENCE, wait_until
from wire import Wire

MAGIC, VERSION = 0x50474d47, 2
NO_AUTH, MD5, CLIENT_KEY, PENDING = range(4)


# ---- one client


def text(value):
    value = value if isinstance(value, bytes) else value.encode()
    return struct.pack("!H", len(value)) + value


def number_of(query):
    """Stands for that program's hash of a statement: the receiver only carries it."""
    return zlib.crc32(query.encode()) * 0x100000001


def entry_end(query, oids):
    raw = query.encode()
    return (struct.pack("!QI", number_of(query), len(raw)) + raw
            + struct.pack("!h%dI" % len(oids), len(oids), *oids))


def named(name, query, oids=()):
    return b"\0" + text(name) + entry_end(query, oids)


def anonymous(query, oids=()):
    return b"\1" + struct.pack("!Q", number_of(query)) + entry_end(query, oids)


def state_of(number=1, secret=0x12345678, transaction=True, database="app", user="trust_user",
             peer=("127.0.0.1", 5999), parameters=None, prepared=True, asynchronous=False,
             entries=(), tls=False, auth=NO_AUTH, auth_value=b"", magic=MAGIC, version=VERSION):
    """The state of a client. `secret` is the cancel key's, as BackendKeyData shows it."""
    pairs = {"application_name": "test"} if parameters is None else parameters
    host = peer[0].encode()
    out = struct.pack("!IHQIB", magic, version, number, secret, transaction)
    out += text(database) + text(user) + struct.pack("!HB", peer[1], len(host)) + host
    out += struct.pack("!H", len(pairs))
    out += b"".join(text(name) + text(value) for name, value in pairs.items())
    out += struct.pack("!BBI", prepared, asynchronous, len(entries)) + b"".join(entries)
    out += struct.pack("!BB", tls, auth)
    return out + (text(auth_value) if auth in (MD5, CLIENT_KEY) else b"")


def frame_of(state, blob=b""):
    return struct.pack("!I", len(state)) + state + struct.pack("!I", len(blob)) + blob


# ---- the old process, played


class Front:
    """Where its clients came in: a socket of its own, not the one that it hands over."""

    def __init__(self, path=None):
        self.listener = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
        self.listener.bind(path or ("127.0.0.1", 0))
        self.listener.listen()
        self.address = path or self.listener.getsockname()

    def client(self):
        """A client's end, and the one in the old process."""
        client = Wire(self.address)
        served, _ = self.listener.accept()
        return client, served

    def close(self):
        self.listener.close()


class OldProcess:
    """Starts a pooler as PgDoorman 3.10 starts its successor: with a listening socket, a pipe for
    the word that it is ready, and a socket for clients."""

    def __init__(self, doorman):
        self.doorman = doorman
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self.listener.bind(doorman.address)
        self.listener.listen(128)
        self.front = Front()
        self.link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.link.settimeout(15 * PATIENCE)
        reading, writing = os.pipe()
        doorman.arguments += ["--inherit-fd", str(self.listener.fileno())]
        doorman.environment.update(PG_DOORMAN_READY_FD=str(writing),
                                   PG_DOORMAN_MIGRATION_FD=str(theirs.fileno()))
        doorman.pass_fds = (self.listener.fileno(), writing, theirs.fileno())
        doorman.start(wait=False)
        os.close(writing)
        theirs.close()
        self.word = os.read(reading, 16)
        assert os.read(reading, 16) == b"", "the descriptor is closed behind the word"
        os.close(reading)
        self.listener.close()
        self.number = 100

    def send(self, frame, fds):
        """The bytes of a frame, or of a part, with descriptors at the first one."""
        sent = socket.send_fds(self.link, [frame], fds)
        if sent < len(frame):
            self.link.sendall(frame[sent:])

    def hand_over(self, served, blob=b"", **fields):
        """A connection whose client is idle."""
        self.send(frame_of(state_of(**fields), blob), [served.fileno()])
        served.close()

    def move(self, front=None, secret=0x12345678, **fields):
        """A client that is logged in here, and then there."""
        self.number += 1
        client, served = (front or self.front).client()
        client.pid, client.key = self.number, secret
        self.hand_over(served, number=self.number, secret=secret, **fields)
        return client

    def end(self):
        """It has no client left."""
        self.link.close()

    def wait_said(self, words, count=1):
        """The log is written a moment later."""
        wait_until(lambda: self.doorman.log().count(words) >= count, 10, "the words " + words)
        assert self.doorman.log().count(words) == count, words

    def wait_stopped(self):
        """The receiver there has nothing more to wait for."""
        self.wait_said("migration receiver: stopped")

    def why(self):
        self.wait_stopped()
        lines = [line for line in self.doorman.log().splitlines() if "receiver done" in line]
        assert len(lines) == 1, lines
        return lines[0].split("migration receiver done: ")[1]

    def finish(self):
        self.front.close()
        self.link.close()
        self.doorman.finish()
