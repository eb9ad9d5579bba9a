"""Whatever bytes come: a clear error or a closed socket, and nobody else notices."""

import random
import struct
import threading
import time

import pytest

import wire
from pooler import ADMIN, pool
from postgres import PASSWORDS
from waiting import stays
from wire import message, query


@pytest.fixture
def witnessed(doorman):
    """A pooler with one backend, and an old client of it that must notice nothing."""
    pooler = doorman(pool_size=1, general={"client_login_timeout": "20s"})
    witness = pooler.client()
    assert witness.value("SELECT 'before'") == "before"
    yield pooler
    assert pooler.running(), pooler.log()[-3000:]
    pooler.wait_idle(5)
    assert witness.value("SELECT 'after'") == "after"
    with pooler.client() as fresh:
        assert fresh.value("SELECT 'next'") == "next"
    witness.terminate()


def ends(client, seconds=5):
    """The connection is closed by the other side; returns what it said before."""
    client.sock.settimeout(seconds)
    try:
        return client.wait_closed()
    except BrokenPipeError:
        return []


BEFORE_LOGIN = {
    "length 0": struct.pack("!II", 0, wire.PROTOCOL_3),
    "length 4": struct.pack("!II", 4, wire.PROTOCOL_3),
    "length 7": struct.pack("!II", 7, wire.PROTOCOL_3),
    "length -1": struct.pack("!iI", -1, wire.PROTOCOL_3),
    "length 2^31": struct.pack("!II", 1 << 31, wire.PROTOCOL_3),
    "length 8193": struct.pack("!II", 8193, wire.PROTOCOL_3) + b"x" * 8185,
    "length 1 GiB": struct.pack("!II", 1 << 30, wire.PROTOCOL_3),
    "only the code": struct.pack("!II", 8, wire.PROTOCOL_3),
    "no final NUL": wire.untyped(wire.PROTOCOL_3, b"user\0trust_user\0database\0app"),
    "odd list": wire.untyped(wire.PROTOCOL_3, b"user\0trust_user\0database\0\0"),
    "one name": wire.untyped(wire.PROTOCOL_3, b"user\0\0"),
    "NULs": wire.untyped(wire.PROTOCOL_3, b"\0" * 64),
    "high bytes": wire.untyped(wire.PROTOCOL_3, bytes(range(128, 256)) * 4),
    "cancel of 8 bytes": struct.pack("!II", 8, wire.CANCEL_REQUEST),
    "cancel of 12 bytes": struct.pack("!III", 12, wire.CANCEL_REQUEST, 1),
    "cancel of 20 bytes": wire.untyped(wire.CANCEL_REQUEST, b"x" * 12),
    "protocol 1.0": wire.untyped(1 << 16, b"user\0x\0\0"),
    "protocol 1234.9999": wire.untyped((1234 << 16) | 9999, b""),
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "tls hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x5a" * 508,
    "ssh": b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n",
    "eight bytes": b"\xde\xad\xbe\xef\xde\xad\xbe\xef",
}


@pytest.mark.parametrize("name", BEFORE_LOGIN)
def test_first_packet(witnessed, name):
    with witnessed.wire() as client:
        client.push(BEFORE_LOGIN[name])
        client.half_close()
        messages = ends(client)
        assert wire.types(messages) in ("", "E"), messages
        for error in wire.errors(messages):
            assert error["S"] == "FATAL"


def test_missing_terminator_is_told(witnessed):
    with witnessed.wire() as client:
        client.push(BEFORE_LOGIN["no final NUL"])
        error, = wire.errors(ends(client))
        assert (error["C"], error["M"]) == (
            "08P01", "invalid startup packet layout: expected terminator as last byte")


def test_ssl_request_twice_then_nonsense(witnessed):
    with witnessed.wire() as client:
        client.send(wire.untyped(wire.SSL_REQUEST))
        assert client.take(1) == b"N"
        client.send(b"\x16\x03\x01" + b"\0" * 30)
        client.half_close()
        ends(client)


WHILE_ASKED_FOR_A_PASSWORD = {
    "length 0": b"p\0\0\0\0", "length 3": b"p\0\0\0\3", "length -1": b"p\xff\xff\xff\xff",
    "length 1 GiB": b"p\x40\0\0\0" + b"x" * 1000,
    "query": query("SELECT 1"), "terminate": wire.terminate(), "sync": wire.sync(),
    "empty": message("p"), "no NUL": message("p", b"md5abc"), "long": message("p", b"x" * 5000),
    "NUL": message("p", b"\0"), "high": message("p", b"\xff" * 40 + b"\0"),
    "another startup": wire.startup("trust_user", "app"),
}


@pytest.mark.parametrize("name", WHILE_ASKED_FOR_A_PASSWORD)
@pytest.mark.parametrize("user", ["md5_user", "scram_user"])
def test_password_message(postgres, doorman, user, name):
    users = [{"username": u, "password": postgres.verifier(u), "pool_size": 1}
             for u in ("md5_user", "scram_user")]
    pooler = doorman(pools={"app": pool(postgres, users)},
                     general={"pg_hba": "host all all 0.0.0.0/0 md5\n"})
    with pooler.wire() as client:
        client.send(wire.startup(user, "app"))
        assert client.receive().type == "R"
        client.push(WHILE_ASKED_FOR_A_PASSWORD[name])
        client.half_close()
        messages = ends(client)
        assert wire.types(messages) in ("", "E")
    with pooler.client("app", user, PASSWORDS[user]) as client:
        assert client.value("SELECT 1") == "1"


AFTER_LOGIN = {
    "length 0": b"Q\0\0\0\0", "length 1": b"Q\0\0\0\1", "length 3": b"Q\0\0\0\3",
    "length -1": b"Q\xff\xff\xff\xff", "length 2^31": b"Q\x80\0\0\0",
    "length 300 MiB": b"Q" + struct.pack("!I", 300 << 20),
    "type NUL": message("\0", b"x"), "type 0xff": b"\xff\0\0\0\4", "type 'z'": message("z"),
    "server type D": message("T", b"\0\0"), "server type R": message("R", b"\0" * 4),
    "server type Z": message("Z", b"I"), "password": message("p", b"x\0"),
    "parse cut short": message("P", b"name\0SELECT 1"),
    "parse without a body": message("P"), "parse, count too large": message("P", b"\0\0\xff\xff"),
    "describe cut short": message("D", b"S"), "describe of nothing": message("D"),
    "describe of X": message("D", b"X\0"), "close cut short": message("C", b"S"),
    "close of nothing": message("C"), "bind without a body": message("B"),
    "bind cut short": message("B", b"\0\0\0\1"),
    "bind, value longer than all": message("B", b"\0\0\0\0\0\1\x7f\xff\xff\xff"),
    "execute without a body": message("E"), "execute cut short": message("E", b"\0\0\0"),
    "query without NUL": message("Q", b"SELECT 1"), "query with two": message("Q", b"SELECT 1\0\0"),
    "query without a body": message("Q"), "function call without a body": message("F"),
    "function call cut short": message("F", b"\0\0\0\1\0\1"),
}


@pytest.mark.parametrize("name", AFTER_LOGIN)
def test_message_in_a_session(witnessed, name):
    """Either the session ends, or it stays in step; and it may take nothing with it."""
    with witnessed.client() as client:
        client.push(AFTER_LOGIN[name], wire.sync())
        client.half_close()
        messages = ends(client)
        for error in wire.errors(messages):
            assert error["C"] in ("08P01", "53200", "26000", "34000", "42601", "08003", "08006",
                                  "42883"), error


@pytest.mark.parametrize("data, code, text", [
    (message("z"), "08P01", "invalid frontend message type 122"),
    (b"Q\0\0\0\3", "08P01", "invalid message length"),
    (b"Q\x80\0\0\0", "08P01", "invalid message length"),
], ids=["type", "short", "long"])
def test_texts(witnessed, data, code, text):
    with witnessed.client() as client:
        client.push(data)
        error, = wire.errors(ends(client))
        assert (error["S"], error["C"], error["M"]) == ("FATAL", code, text)


def test_truncated_messages_and_hang_up(witnessed):
    whole = [query("SELECT 1"), wire.parse("s", "SELECT $1::int"), wire.bind("", "s", [1]),
             wire.describe("S", "s"), wire.execute(), wire.close("S", "s"),
             wire.copy_data(b"x" * 100), wire.startup("trust_user", "app")]
    for number, data in enumerate(whole):
        for cut in (1, 3, 5, len(data) - 1):
            client = witnessed.client() if number < 7 else witnessed.wire()
            client.send(data[:cut])
            client.reset() if cut % 2 else client.close()
    witnessed.wait_idle(5)


def test_announced_but_not_sent_megabytes_do_not_hinder_others(witnessed):
    held = [witnessed.client() for _ in range(3)]
    try:
        for client in held:
            client.send(b"Q" + struct.pack("!I", 200 << 20) + b"SELECT")
        with witnessed.client() as other:
            assert other.value("SELECT length('%s')" % ("x" * 100000)) == "100000"
    finally:
        for client in held:
            client.close()


@pytest.mark.parametrize("stray", [wire.copy_data(b"x"), wire.copy_done(), wire.copy_fail("x")],
                         ids="dcf")
def test_stray_copy_message_behind_an_unsent_batch_and_hang_up(witnessed, stray):
    with witnessed.client() as client:
        client.send(wire.parse("", "SELECT 1"), wire.bind(), stray)
        client.half_close()
        assert wire.essence(ends(client)) in ("", "12")


@pytest.mark.parametrize("seed", range(6))
def test_random_bytes_at_every_stage(witnessed, seed):
    chance = random.Random(seed)
    for turn in range(12):
        noise = chance.randbytes(chance.choice((1, 7, 8, 100, 1000, 10000)))
        stage = chance.choice(("start", "session", "transaction", "copy", "batch"))
        client = witnessed.wire()
        try:
            if stage != "start":
                client.login()
            if stage == "transaction":
                client.query("BEGIN; SELECT 1")
            if stage == "copy":
                client.send(query("BEGIN; CREATE TEMP TABLE n (x text); COPY n FROM stdin"))
                client.until("G")
            if stage == "batch":
                client.send(wire.parse("", "SELECT 1"), wire.bind())
            if chance.random() < 0.3:
                # A valid frame around the noise reaches deeper than the noise alone.
                noise = message(chance.choice("QPBDECSHFdcfXpz"), noise)
            client.push(noise)
            client.half_close()
            ends(client, 10)
        except (BrokenPipeError, ConnectionResetError, wire.Closed):
            pass
        except AssertionError as problem:
            raise AssertionError("seed %d, turn %d, stage %s: %s" % (seed, turn, stage, problem))
        finally:
            client.close()
    assert witnessed.running()


@pytest.mark.parametrize("seed", range(4))
def test_mutated_conversations(witnessed, seed):
    """A valid conversation with a few bytes flipped."""
    chance = random.Random(1000 + seed)
    talk = (query("SELECT 1") + wire.extended("SELECT $1::int", [1]) + wire.sync() +
            wire.parse("n", "SELECT 2") + wire.bind("p", "n") + wire.describe("P", "p") +
            wire.execute("p") + wire.close("S", "n") + wire.flush() + wire.sync())
    for _ in range(25):
        data = bytearray(talk)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        client = witnessed.client()
        try:
            client.push(bytes(data))
            client.half_close()
            ends(client, 10)
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            client.close()
    assert witnessed.running()


def test_fifty_attackers_at_once(witnessed):
    def attack(number):
        chance = random.Random(number)
        for _ in range(5):
            client = witnessed.wire()
            try:
                if number % 2:
                    client.login()
                client.send(chance.randbytes(chance.randint(100, 10000)))
                time.sleep(chance.random() / 50)
                client.reset()
            except (OSError, wire.Closed, wire.LoginFailed):
                client.close()

    threads = [threading.Thread(target=attack, args=(n,)) for n in range(50)]
    for thread in threads:
        thread.start()
    with witnessed.client() as busy:
        for number in range(50):
            assert busy.value("SELECT %d" % number) == str(number)
    for thread in threads:
        thread.join(30)


@pytest.mark.parametrize("sent", [b"", b"\0", wire.startup("trust_user", "app")[:-3],
                                  wire.untyped(wire.SSL_REQUEST)],
                         ids=["nothing", "one byte", "most of it", "ssl request"])
def test_login_that_is_never_finished_is_ended(doorman, sent):
    pooler = doorman(general={"client_login_timeout": "1s"})
    with pooler.client() as other, pooler.wire() as client:
        began = time.monotonic()
        client.send(sent)
        if sent == wire.untyped(wire.SSL_REQUEST):
            assert client.take(1) == b"N"
        messages = ends(client, 10)
        assert 0.5 < time.monotonic() - began < 8
        assert wire.types(messages) in ("", "E")
        stays(lambda: other.value("SELECT 1") == "1", 1.2, "a session, which is no login,")


def test_password_that_never_comes_is_ended(doorman, postgres):
    users = [{"username": "md5_user", "password": postgres.verifier("md5_user"), "pool_size": 1}]
    pooler = doorman(pools={"app": pool(postgres, users)},
                     general={"client_login_timeout": "1s",
                              "pg_hba": "host all all 0.0.0.0/0 md5\n"})
    with pooler.wire() as client:
        client.send(wire.startup("md5_user", "app"))
        assert client.receive().type == "R"
        assert wire.types(ends(client, 10)) in ("", "E")


@pytest.mark.parametrize("sent", [query(""), query(";"), query("  ;; "), message("Q"),
                                  message("Q", b"SHOW POOLS"), wire.sync(), message("\0"),
                                  wire.extended("SHOW POOLS") + wire.sync(), b"Q\0\0\0\1",
                                  query("SHOW " + "x" * 100000), query("\xff\xfe SHOW")],
                         ids=["empty", "semicolon", "blanks", "no body", "no NUL", "sync", "NUL",
                              "extended", "short", "long word", "no UTF-8"])
def test_admin_console(witnessed, sent):
    with witnessed.client("pgdoorman", ADMIN["user"], ADMIN["password"]) as client:
        client.push(sent)
        client.half_close()
        ends(client)
    assert len(witnessed.admin("SHOW VERSION")) == 1
