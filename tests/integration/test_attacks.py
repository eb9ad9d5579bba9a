"""What was found by attacking: from a client, from a server that is none, and through the log."""

import base64
import socket
import struct
import threading

import pytest

import wire
from pooler import trust_user
from wire import errors, extended, message, query, sync


# ---- clients


@pytest.mark.parametrize("what", ["query", "extended", "notice"])
def test_error_text_of_megabytes(doorman, what):
    """Such a message passes in pieces: only what has come of it may be looked at."""
    pooler = doorman(pool_size=1)
    kind = "NOTICE" if what == "notice" else "EXCEPTION"
    with pooler.client() as client:
        for size in (1 << 20, 3000000):
            sql = "DO $$ BEGIN RAISE %s '%%', repeat('x', %d); END $$" % (kind, size)
            client.send(extended(sql) + sync() if what == "extended" else query(sql))
            told = [m for m in client.until_ready() if m.type in "EN"]
            assert [len(wire.fields(m)["M"]) for m in told] == [size]
            assert client.value("SELECT 'next'") == "next"
    with pooler.client() as other:
        assert other.value("SELECT 'other'") == "other"


def test_names_forge_no_lines_of_the_log(doorman):
    pooler = doorman()
    forged = "x\n2030-01-01T00:00:00.000Z  INFO forged\x1b[2J"
    with pooler.wire() as client:
        client.send(wire.startup(forged, forged))
        error, = errors(client.wait_closed())
        assert error["C"] == "3D000"
    assert pooler.client().value("SELECT 1") == "1"
    lines = pooler.log().split("\n")
    assert any("forged" in line for line in lines)
    assert not any(line.startswith("2030") for line in lines)
    assert not any("\x1b" in line for line in lines)


# ---- servers


def authentication(code, rest=b""):
    return message("R", struct.pack("!I", code) + rest)


READY = message("Z", b"I")
WELCOME = (authentication(0) + message("S", b"server_version\x0016.0\0") +
           message("K", struct.pack("!II", 7, 9)) + READY)
OFFER = authentication(10, b"SCRAM-SHA-256\0\0")
NO_SIGNATURE = authentication(12, b"v=" + base64.b64encode(bytes(32)))


class FalseServer:
    """Listens as PostgreSQL would; `talk` is run with each connection behind its startup."""

    def __init__(self, talk):
        self.talk = talk
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def pools(self, **user):
        return {"app": {"server_host": "127.0.0.1", "server_port": self.port,
                        "connect_timeout": 2000, "users": [trust_user(2, **user)]}}

    def run(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        with connection:
            try:
                size, = struct.unpack("!I", exactly(connection, 4))
                exactly(connection, size - 4)
                self.talk(connection)
                exactly(connection, 1 << 30)  # until the other side closes
            except OSError:
                pass


def exactly(connection, count):
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise ConnectionResetError
        data += more
    return data


def read(connection):
    head = exactly(connection, 5)
    return exactly(connection, struct.unpack("!I", head[1:])[0] - 4)


@pytest.fixture
def false_server():
    made = []

    def create(talk):
        made.append(FalseServer(talk))
        return made[-1]
    yield create
    for server in made:
        server.listener.close()


def refused_because(pooler, why):
    with pytest.raises(wire.LoginFailed):
        pooler.client()
    assert why in pooler.log()


@pytest.mark.parametrize("answer, why", [
    (NO_SIGNATURE + WELCOME, "server signature does not match"),
    (WELCOME, "server skipped the proof of its identity"),
    (READY, "Protocol error"),
    (OFFER, "authentication on the server is not supported"),
], ids=["no signature", "admitted", "ready", "offered twice"])
def test_server_that_skips_the_challenge_has_proven_nothing(doorman, false_server, answer, why):
    def talk(connection):
        connection.sendall(OFFER)
        read(connection)
        connection.sendall(answer)

    server = false_server(talk)
    pooler = doorman(pools=server.pools(server_username="app", server_password="secret"))
    refused_because(pooler, why)


@pytest.mark.parametrize("kind", ["Z", "C", "S"])
def test_message_that_cannot_be_that_long_ends_the_backend(doorman, false_server, kind):
    def talk(connection):
        connection.sendall(WELCOME)
        read(connection)
        connection.sendall(kind.encode() + struct.pack("!I", 1 << 30) + b"I" * 100000)

    pooler = doorman(pools=false_server(talk).pools())
    with pooler.client() as client:
        client.send(query("SELECT 1"))
        assert "08006" in wire.sqlstates(client.wait_closed())
    pooler.wait_idle()
