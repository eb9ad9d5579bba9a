"""A client that speaks protocol 3.0 byte by byte.

It does what libpq would not: send half a message, never read, hang up in the middle, break the
rules. Messages are built by plain functions that return bytes; `Wire` sends and reads them on a
blocking socket with a time limit; `AsyncWire` is its asyncio sister for many clients at once.
"""

import asyncio
import base64
import hashlib
import hmac
import os
import socket
import struct
from collections import namedtuple

from waiting import PATIENCE

Message = namedtuple("Message", "type body")

PROTOCOL_3 = 196608
SSL_REQUEST = 80877103
GSS_REQUEST = 80877104
CANCEL_REQUEST = 80877102


class Closed(Exception):
    """The other side closed the connection; `rest` holds the bytes of an unfinished message."""

    def __init__(self, how, rest=b""):
        super().__init__(how)
        self.how = how
        self.rest = rest


# ---- building messages


def message(kind, body=b""):
    return kind.encode() + struct.pack("!I", len(body) + 4) + body


def untyped(code, body=b""):
    return struct.pack("!II", len(body) + 8, code) + body


def cstring(text):
    return (text if isinstance(text, bytes) else text.encode()) + b"\0"


def startup(user, database=None, version=PROTOCOL_3, **parameters):
    pairs = {"user": user, **({"database": database} if database else {}), **parameters}
    return untyped(version, b"".join(cstring(k) + cstring(v) for k, v in pairs.items()) + b"\0")


def cancel_request(pid, key):
    """`key` as BackendKeyData brought it: a number of 4 bytes, or bytes."""
    key = key if isinstance(key, bytes) else struct.pack("!I", key)
    return untyped(CANCEL_REQUEST, struct.pack("!I", pid) + key)


def query(sql):
    return message("Q", cstring(sql))


def parse(name, sql, oids=()):
    return message("P", cstring(name) + cstring(sql) +
                   struct.pack("!H%dI" % len(oids), len(oids), *oids))


def bind(portal="", statement="", values=(), binary=False):
    body = cstring(portal) + cstring(statement) + struct.pack("!HH", 0, len(values))
    for value in values:
        if value is None:
            body += struct.pack("!i", -1)
            continue
        data = value if isinstance(value, bytes) else str(value).encode()
        body += struct.pack("!i", len(data)) + data
    return message("B", body + (struct.pack("!HH", 1, 1) if binary else struct.pack("!H", 0)))


def describe(kind, name=""):
    return message("D", kind.encode() + cstring(name))


def execute(portal="", rows=0):
    return message("E", cstring(portal) + struct.pack("!I", rows))


def close(kind, name=""):
    return message("C", kind.encode() + cstring(name))


def sync():
    return message("S")


def flush():
    return message("H")


def copy_data(data):
    return message("d", data)


def copy_done():
    return message("c")


def copy_fail(why):
    return message("f", cstring(why))


def terminate():
    return message("X")


def function_call(oid, values):
    """Arguments and result in binary format."""
    body = struct.pack("!IHHH", oid, 1, 1, len(values))
    for value in values:
        body += struct.pack("!i", len(value)) + value
    return message("F", body + struct.pack("!H", 1))


def extended(sql, values=(), name=""):
    """Parse, Bind, Describe, Execute; without Sync."""
    return parse(name, sql) + bind("", name, values) + describe("P") + execute()


# ---- reading messages


def types(messages):
    return "".join(m.type for m in messages)


def essence(messages):
    """The letters without what may come at any time (notices and parameters)."""
    return "".join(m.type for m in messages if m.type not in "NS")


def fields(m):
    """ErrorResponse or NoticeResponse as a dictionary."""
    parts = m.body.rstrip(b"\0").split(b"\0")
    return {p[:1].decode(): p[1:].decode("utf-8", "replace") for p in parts if p}


def errors(messages):
    return [fields(m) for m in messages if m.type == "E"]


def sqlstates(messages):
    return [e.get("C") for e in errors(messages)]


def row(m):
    count, = struct.unpack_from("!H", m.body)
    values, at = [], 2
    for _ in range(count):
        size, = struct.unpack_from("!i", m.body, at)
        at += 4
        values.append(None if size < 0 else m.body[at:at + size])
        at += max(size, 0)
    assert at == len(m.body), "DataRow with a wrong length"
    return values


def rows(messages):
    """All rows as lists of text."""
    return [[None if v is None else v.decode() for v in row(m)]
            for m in messages if m.type == "D"]


def tags(messages):
    return [m.body.rstrip(b"\0").decode() for m in messages if m.type == "C"]


def columns(messages):
    """Names and type OIDs of the first RowDescription."""
    body = next(m.body for m in messages if m.type == "T")
    count, = struct.unpack_from("!H", body)
    result, at = [], 2
    for _ in range(count):
        end = body.index(b"\0", at)
        _, _, oid, _, _, _ = struct.unpack_from("!IHIhih", body, end + 1)
        result.append((body[at:end].decode(), oid))
        at = end + 19
    return result


def status(messages):
    """Transaction status of the last ReadyForQuery."""
    return [m.body.decode() for m in messages if m.type == "Z"][-1]


# ---- passwords


def md5_response(user, password, salt):
    inner = hashlib.md5((password + user).encode()).hexdigest()
    return message("p", b"md5" + hashlib.md5(inner.encode() + salt).hexdigest().encode() + b"\0")


class Scram:
    """Client side of SCRAM-SHA-256 without channel binding."""

    def __init__(self, password, flag="n"):
        self.password = password.encode()
        self.header = flag + ",,"
        self.bare = "n=,r=" + base64.b64encode(os.urandom(18)).decode()
        self.server_signature = None

    def first(self, mechanism="SCRAM-SHA-256"):
        data = (self.header + self.bare).encode()
        return message("p", cstring(mechanism) + struct.pack("!i", len(data)) + data)

    def final(self, server_first):
        text = server_first.decode()
        nonce, salt, count = (part[2:] for part in text.split(",")[:3])
        assert nonce.startswith(self.bare.split("r=")[1])
        salted = hashlib.pbkdf2_hmac("sha256", self.password, base64.b64decode(salt), int(count))
        client_key = _hmac(salted, b"Client Key")
        without = "c=%s,r=%s" % (base64.b64encode(self.header.encode()).decode(), nonce)
        auth = ",".join((self.bare, text, without)).encode()
        signature = _hmac(hashlib.sha256(client_key).digest(), auth)
        proof = bytes(a ^ b for a, b in zip(client_key, signature))
        self.server_signature = _hmac(_hmac(salted, b"Server Key"), auth)
        return message("p", (without + ",p=" + base64.b64encode(proof).decode()).encode())

    def check(self, server_final):
        assert server_final == b"v=" + base64.b64encode(self.server_signature), server_final


def _hmac(key, data):
    return hmac.new(key, data, hashlib.sha256).digest()


class Login:
    """The answers of a client to Authentication messages, whatever the transport."""

    def __init__(self, user, password):
        self.user = user
        self.password = password
        self.scram = None

    def answer(self, m):
        """Bytes to send for an `R` message, or None."""
        code, = struct.unpack_from("!I", m.body)
        rest = m.body[4:]
        if code == 3:
            return message("p", cstring(self.password))
        if code == 5:
            return md5_response(self.user, self.password, rest)
        if code == 10:
            assert b"SCRAM-SHA-256" in rest.split(b"\0")
            self.scram = Scram(self.password)
            return self.scram.first()
        if code == 11:
            return self.scram.final(rest)
        if code == 12:
            self.scram.check(rest)
        return None


class LoginFailed(Exception):
    def __init__(self, messages):
        super().__init__(str(errors(messages)))
        self.messages = messages
        self.error = (errors(messages) or [{}])[0]


# ---- the blocking client


class Wire:
    """A connection. `address` is (host, port) or the path of a Unix socket."""

    def __init__(self, address, timeout=15, receive_buffer=None):
        self.address = address
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(timeout * PATIENCE)
        self.sock.connect(address)
        if family == socket.AF_INET:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()
        self.parameters = {}
        self.pid = self.key = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # ---- bytes

    def send(self, *parts):
        self.sock.sendall(b"".join(parts))

    def send_bytewise(self, data, size=1):
        for at in range(0, len(data), size):
            self.sock.sendall(data[at:at + size])

    def half_close(self):
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the other side was faster

    def close(self):
        """An ordinary close: FIN, without Terminate."""
        self.sock.close()

    def reset(self):
        """RST: what a killed host or an impatient driver leaves behind."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def _fill(self):
        try:
            data = self.sock.recv(262144)
        except ConnectionResetError:
            raise Closed("reset", bytes(self.buffer)) from None
        if not data:
            raise Closed("eof", bytes(self.buffer))
        self.buffer += data

    def take(self, count):
        while len(self.buffer) < count:
            self._fill()
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        return data

    def push(self, *parts):
        """Like send, for bytes during which the other side may well hang up."""
        try:
            self.send(*parts)
        except (BrokenPipeError, ConnectionResetError):
            pass

    def drain(self):
        """Reads bytes, whatever they are, until the other side closes."""
        try:
            while True:
                self.buffer.clear()
                self._fill()
        except Closed:
            return

    def wait_closed(self):
        """Reads until the other side closes; returns the whole messages that came before."""
        messages = []
        while True:
            try:
                messages.append(self.receive())
            except Closed:
                return messages

    # ---- messages

    def receive(self):
        while len(self.buffer) < 5:
            self._fill()
        size, = struct.unpack_from("!I", self.buffer, 1)
        assert 4 <= size < 1 << 30, "message of length %d" % size
        while len(self.buffer) < size + 1:
            self._fill()
        m = Message(chr(self.buffer[0]), bytes(self.buffer[5:size + 1]))
        del self.buffer[:size + 1]
        if m.type == "S":
            name, value = m.body.split(b"\0")[:2]
            self.parameters[name.decode()] = value.decode()
        return m

    def until(self, kinds):
        """Messages up to and including the first of one of the given types."""
        messages = []
        while not messages or messages[-1].type not in kinds:
            messages.append(self.receive())
        return messages

    def until_ready(self, count=1):
        messages = []
        for _ in range(count):
            messages += self.until("Z")
        return messages

    def quiet(self, seconds=0.3):
        """True when nothing arrives for a while."""
        if self.buffer:
            return False
        before = self.sock.gettimeout()
        self.sock.settimeout(seconds)
        try:
            self._fill()
            return False
        except (socket.timeout, TimeoutError):
            return True
        except Closed:
            return False
        finally:
            self.sock.settimeout(before)

    # ---- conversation

    def login(self, user="trust_user", database="app", password="", version=PROTOCOL_3,
              **parameters):
        """Startup and authentication. Raises LoginFailed with the messages of a refusal."""
        self.send(startup(user, database, version, **parameters))
        return self.authenticate(user, password)

    def authenticate(self, user, password=""):
        login, seen = Login(user, password), []
        while True:
            try:
                m = self.receive()
            except Closed:
                raise LoginFailed(seen) from None
            seen.append(m)
            if m.type == "E":
                raise LoginFailed(seen)
            if m.type == "R":
                answer = login.answer(m)
                if answer:
                    self.send(answer)
            if m.type == "K":
                self.pid, = struct.unpack_from("!I", m.body)
                self.key = m.body[4:] if len(m.body) > 8 else struct.unpack("!I", m.body[4:])[0]
            if m.type == "Z":
                return self

    def query(self, sql):
        self.send(query(sql))
        return self.until_ready()

    def rows(self, sql):
        messages = self.query(sql)
        assert not errors(messages), errors(messages)
        return rows(messages)

    def value(self, sql):
        return self.rows(sql)[0][0]

    def backend_pid(self):
        return int(self.value("SELECT pg_backend_pid()"))

    def run(self, sql, values=(), name=""):
        """One statement through the extended protocol with its Sync."""
        self.send(extended(sql, values, name), sync())
        return self.until_ready()

    def terminate(self):
        self.send(terminate())
        self.sock.close()

    def cancel(self, pid=None, key=None):
        """Sends a cancel request for this session, waits till the other side closes it."""
        with Wire(self.address) as other:
            other.send(cancel_request(self.pid if pid is None else pid,
                                      self.key if key is None else key))
            assert other.wait_closed() == []


# ---- the asyncio client


class AsyncWire:
    """For hundreds of clients in one thread; the same messages."""

    def __init__(self):
        self.reader = self.writer = None

    async def open(self, address, user="trust_user", database="app", password=""):
        if isinstance(address, str):
            self.reader, self.writer = await asyncio.open_unix_connection(address)
        else:
            self.reader, self.writer = await asyncio.open_connection(*address)
        self.writer.write(startup(user, database))
        login, seen = Login(user, password), []
        while True:
            m = await self.receive()
            seen.append(m)
            if m.type == "E":
                raise LoginFailed(seen)
            if m.type == "R":
                answer = login.answer(m)
                if answer:
                    self.writer.write(answer)
            if m.type == "Z":
                return self

    async def receive(self):
        head = await self.reader.readexactly(5)
        size, = struct.unpack_from("!I", head, 1)
        return Message(chr(head[0]), await self.reader.readexactly(size - 4))

    async def until_ready(self):
        messages = []
        while not messages or messages[-1].type != "Z":
            messages.append(await self.receive())
        return messages

    async def query(self, sql):
        self.writer.write(query(sql))
        return await self.until_ready()

    async def run(self, sql, values=(), name=""):
        self.writer.write(extended(sql, values, name) + sync())
        return await self.until_ready()

    async def value(self, sql):
        messages = await self.query(sql)
        assert not errors(messages), errors(messages)
        return rows(messages)[0][0]

    def close(self):
        self.writer.close()
