"""PgDoorman 3.10 is replaced by this program, and its idle clients go along (spec: B 16)."""

import base64
import hashlib
import hmac
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import unicodedata

import pytest

import wire
from migration import CLIENT_KEY, MD5, Front, OldProcess, anonymous, frame_of, named, state_of
from pooler import Doorman, configuration, pool, trust_user
from postgres import PASSWORDS, free_port
from upgrading import Upgrading
from waiting import wait_until

CANCEL_SECRET = 0xfedcba98


@pytest.fixture
def migrating(postgres, tmp_path):
    """Factory of poolers that are started by a 3.10. Afterwards each must end well."""
    started, kept = [], []

    def start(pools=None, before=None, expect_word=b"\x01", **general):
        port = free_port()
        kept.append(before and before(port))
        directory = tmp_path / ("new%d" % len(started))
        directory.mkdir()
        pools = pools or {"app": pool(postgres, [trust_user()])}
        old = OldProcess(Doorman(str(directory), port, configuration(port, pools, **general)))
        started.append(old)
        assert old.word == expect_word, old.doorman.log()
        return old

    yield start
    for old in started:
        old.finish()
    for one in kept:
        if one is not None:
            one.close()
    wait_until(lambda: not postgres.backends(), 10, "PostgreSQL to be without clients")


def ask(client, *parts):
    client.send(*parts)
    return client.until_ready()


def status(old):
    return {row["name"]: row["value"] for row in old.doorman.admin("SHOW UPGRADE")}


def closed_silently(client):
    try:
        got = client.sock.recv(4096)
    except ConnectionResetError:
        got = b""
    return got == b""


def test_b16_the_successor_says_that_it_is_ready_and_serves(migrating):
    old = migrating()
    assert old.word == b"\x01"
    client = old.doorman.client()
    assert client.value("SELECT 1") == "1"
    client.terminate()
    old.end()
    assert old.why() == "migration socket closed"
    for words in ("Inheriting listener from parent process (fd=",
                  "Signaling readiness to parent process (fd=",
                  "Migration socket received from parent (fd=",
                  "migration receiver: listening for migrated clients"):
        old.wait_said(words)


def test_b16_idle_client_goes_on(migrating):
    old = migrating()
    client = old.move(parameters={"application_name": "moved one", "TimeZone": "Asia/Tokyo",
                                  "client_encoding": "UTF8", "server_version": "16.1"})
    assert client.value("SELECT 40 + 2") == "42"
    assert client.value("SHOW TimeZone") == "Asia/Tokyo"
    assert client.value("SHOW application_name") == "moved one"
    client.query("BEGIN")
    assert client.value("SELECT 1") == "1"
    client.query("COMMIT")
    row = next(r for r in old.doorman.admin("SHOW CLIENTS") if r["database"] == "app")
    assert row["application_name"] == "moved one"
    assert row["addr"] == "127.0.0.1:5999"
    old.end()
    assert old.why() == "migration socket closed"
    old.wait_said("[trust_user@app #c101] migrated client accepted from 127.0.0.1:5999")
    told = status(old)
    assert (told["clients_moved"], told["clients_left"], told["phase"], told["result"]) == (
        "1", "0", "serving", "ok")
    assert client.value("SELECT 3") == "3"
    client.terminate()
    old.doorman.wait_no_clients()


def test_b16_unix_client_goes_on(migrating, tmp_path):
    old = migrating()
    front = Front(str(tmp_path / "old.sock"))
    client = old.move(front, peer=("127.0.0.1", 0))
    assert client.value("SELECT 7") == "7"
    row = next(r for r in old.doorman.admin("SHOW CLIENTS") if r["database"] == "app")
    assert row["addr"].startswith("unix")
    client.terminate()
    front.close()


@pytest.mark.parametrize("peer,shown", [
    (("::1", 7), "[::1]:7"), (("10.1.2.3", 65535), "10.1.2.3:65535"), (("nonsense", 7), None)])
def test_b16_peer_is_who_it_was(migrating, peer, shown):
    old = migrating()
    client = old.move(peer=peer)
    assert client.value("SELECT 1") == "1"
    row = next(r for r in old.doorman.admin("SHOW CLIENTS") if r["database"] == "app")
    assert row["addr"] == (shown or "%s:%d" % client.sock.getsockname())
    client.terminate()


def test_b16_new_clients_are_numbered_behind_those_that_came(migrating):
    old = migrating()
    client = old.move()
    assert client.value("SELECT 1") == "1"
    new = old.doorman.client()
    assert new.pid > client.pid
    client.terminate()
    new.terminate()


def test_b16_named_statement_is_bound_without_parse(migrating):
    old = migrating()
    client = old.move(entries=[named("sum", "SELECT $1 + $2", (23, 23)),
                               named("word", "SELECT $1 || '!'", (25,)),
                               anonymous("SELECT 'unnamed'"), anonymous("SELECT 'before'")])
    for _ in range(3):
        got = ask(client, wire.bind("", "sum", (3, 4)), wire.execute(), wire.sync())
        assert wire.rows(got) == [["7"]]
        got = ask(client, wire.bind("", "word", ("hej",)), wire.execute(), wire.sync())
        assert wire.rows(got) == [["hej!"]]
    got = ask(client, wire.describe("S", "sum"), wire.sync())
    assert wire.essence(got) == "tTZ"
    got = ask(client, wire.close("S", "sum"), wire.bind("", "sum", (1, 1)), wire.sync())
    assert wire.sqlstates(got) == ["26000"]
    assert client.value("SELECT 1") == "1"
    client.terminate()


def test_b16_unnamed_statement_has_to_be_parsed_again(migrating):
    old = migrating()
    client = old.move(entries=[anonymous("SELECT 'unnamed'")])
    got = ask(client, wire.bind("", ""), wire.execute(), wire.sync())
    assert wire.sqlstates(got) == ["26000"]
    got = ask(client, wire.extended("SELECT 'unnamed'"), wire.sync())
    assert wire.rows(got) == [["unnamed"]]
    client.terminate()


def test_b16_deallocate_all_forgets_what_came(migrating):
    old = migrating()
    client = old.move(entries=[named("a", "SELECT 1"), named("b", "SELECT 2")])
    client.query("DEALLOCATE ALL")
    got = ask(client, wire.bind("", "a"), wire.sync())
    assert wire.sqlstates(got) == ["26000"]
    got = ask(client, wire.extended("SELECT 'other'", name="b"), wire.sync())
    assert wire.rows(got) == [["other"]]
    client.terminate()


def test_b16_cancel_key_stays_valid_beside_one_with_the_same_number(migrating):
    old = migrating()
    first = old.doorman.client()  # has number 1, or about that
    client, served = old.front.client()
    old.hand_over(served, number=first.pid, secret=CANCEL_SECRET)
    client.send(wire.query("SELECT pg_sleep(60)"))
    wait_until(lambda: old.doorman.pool_row()["sv_active"] == 1, 10, "the query to run")
    for wrong in (first.key, CANCEL_SECRET ^ 1):
        with old.doorman.wire() as canceller:
            canceller.send(wire.cancel_request(first.pid, wrong))
            assert closed_silently(canceller)
    assert old.doorman.pool_row()["sv_active"] == 1
    with old.doorman.wire() as canceller:
        canceller.send(wire.cancel_request(first.pid, CANCEL_SECRET))
        assert closed_silently(canceller)
    assert wire.sqlstates(client.until_ready()) == ["57014"]
    assert first.value("SELECT 1") == "1"
    first.terminate()
    client.terminate()


# ---- with what servers are logged in to


def client_key(postgres, user):
    """What a client that knows the password proves to have."""
    count, salt = postgres.verifier(user).split("$")[1].split(":")
    password = unicodedata.normalize("NFKC", PASSWORDS[user]).encode()
    salted = hashlib.pbkdf2_hmac("sha256", password, base64.b64decode(salt), int(count))
    return hmac.new(salted, b"Client Key", hashlib.sha256).digest()


def test_b16_client_key_opens_server_connections(migrating, postgres):
    user = {"username": "scram_user", "password": postgres.verifier("scram_user"),
            "pool_size": 2}
    old = migrating({"app": pool(postgres, [user])})
    wrong = old.move(user="scram_user", auth=CLIENT_KEY, auth_value=b"x" * 32)
    assert wire.errors(wrong.query("SELECT 1"))
    client = old.move(user="scram_user", auth=CLIENT_KEY,
                      auth_value=client_key(postgres, "scram_user"))
    assert client.value("SELECT current_user") == "scram_user"
    old.wait_said("[scram_user@app] restored backend auth from migrated client")
    old.wait_said("the key of a migrated client does not fit the secret any more")
    client.terminate()


def test_b16_two_users(migrating, postgres):
    users = [trust_user(2), {"username": "md5_user", "password": postgres.verifier("md5_user"),
                             "pool_size": 2}]
    old = migrating({"app": pool(postgres, users)})
    one = old.move()
    other = old.move(user="md5_user", auth=MD5,
                     auth_value=postgres.verifier("md5_user").encode())
    for _ in range(2):
        assert one.value("SELECT current_user") == "trust_user"
        assert other.value("SELECT current_user") == "md5_user"
    one.terminate()
    other.terminate()


def test_b16_user_of_auth_query_keeps_its_pool(migrating, postgres):
    lookup = {"query": "SELECT passwd FROM pg_shadow WHERE usename = $1", "user": "postgres",
              "database": "app"}
    old = migrating({"app": pool(postgres, [], unix=True, auth_query=lookup)})
    clients = [old.move(user="md5_user", auth=MD5,
                        auth_value=postgres.verifier("md5_user").encode())
               for _ in range(3)]
    keyed = old.move(user="scram_user", auth=CLIENT_KEY,
                     auth_value=client_key(postgres, "scram_user"))
    for client in clients:
        assert client.value("SELECT current_user") == "md5_user"
    assert keyed.value("SELECT current_user") == "scram_user"
    gone = old.move(user="nobody_there")
    error, = wire.errors(gone.wait_closed())
    assert (error["C"], error["M"]) == (
        "3D000", "No pool configured for database: app, user: nobody_there")
    for client in clients + [keyed]:
        client.terminate()


def test_b16_hash_serves_while_nobody_can_be_asked(migrating, postgres):
    lookup = {"query": "SELECT nonsense FROM nowhere WHERE usename = $1", "user": "postgres",
              "database": "app"}
    old = migrating({"app": pool(postgres, [], unix=True, auth_query=lookup)})
    client = old.move(user="md5_user", auth=MD5,
                      auth_value=postgres.verifier("md5_user").encode())
    assert client.value("SELECT current_user") == "md5_user"
    other = old.move(user="scram_user", auth=CLIENT_KEY,
                     auth_value=client_key(postgres, "scram_user"))
    assert wire.sqlstates(other.wait_closed()) == ["58000"]
    client.terminate()


# ---- sockets


def test_b16_unix_socket_of_the_old_process_is_replaced(migrating, tmp_path):
    """Only that one: see the test below."""
    old = migrating(unix_socket_dir=str(tmp_path), before=lambda port: listening(tmp_path, port))
    path = "%s/.s.PGSQL.%d" % (tmp_path, old.doorman.port)
    client = wire.Wire(path).login()
    assert client.value("SELECT 1") == "1"
    old.end()
    old.wait_said("Unix socket %s is taken from the old process" % path)
    old.wait_stopped()
    client.terminate()


def test_b16_unix_socket_of_another_process_is_not(migrating, tmp_path):
    other = subprocess.Popen(
        [sys.executable, "-c", "import socket, sys, time; s = socket.socket(socket.AF_UNIX); "
         "s.bind(sys.argv[1]); s.listen(); print('listens', flush=True); time.sleep(60)",
         str(tmp_path / "other")], stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline() == b"listens\n"
        old = migrating(unix_socket_dir=str(tmp_path), expect_word=b"", before=lambda port: os.rename(
            tmp_path / "other", "%s/.s.PGSQL.%d" % (tmp_path, port)))
        old.doorman.expected_status = 71
        assert old.doorman.wait() == 71
        old.wait_said("another process is already listening")
    finally:
        other.kill()
        other.wait()
        other.stdout.close()


def listening(directory, port):
    server = socket.socket(socket.AF_UNIX)
    server.bind("%s/.s.PGSQL.%d" % (directory, port))
    server.listen()
    return server


# ---- who cannot be taken


def test_b16_client_without_pool_is_told_so(migrating):
    old = migrating()
    for fields in ({"database": "gone"}, {"user": "gone"}):
        client = old.move(**fields)
        got = client.wait_closed()
        error = wire.errors(got)[0]
        assert (error["S"], error["C"]) == ("FATAL", "3D000")
        assert error["M"] == "No pool configured for database: %s, user: %s" % (
            fields.get("database", "app"), fields.get("user", "trust_user"))
        assert wire.essence(got) == "EZ"
    assert old.move().value("SELECT 1") == "1"


def test_b16_limits_of_the_pooler_do_not_concern_clients_that_come(migrating):
    old = migrating(max_connections=1, pg_hba="host all all 127.0.0.1/32 reject\n")
    clients = [old.move() for _ in range(3)]
    for client in clients:
        assert client.value("SELECT 1") == "1"
    for client in clients:
        client.terminate()


def test_b16_tls_client_is_closed_without_a_word(migrating):
    old = migrating()
    record = b"\x17\x03\x03\x00\x20" + b"x" * 32
    # It says so; it has sent something already; it is silent at first; its state came along.
    says = old.move(tls=True)
    early, served = old.front.client()
    early.send(record)
    wait_until(lambda: served.recv(1, socket.MSG_PEEK) == b"\x17", 10, "the record")
    old.hand_over(served)
    alert, served = old.front.client()
    alert.send(b"\x15\x03\x03\x00\x1a" + b"x" * 26)
    wait_until(lambda: served.recv(1, socket.MSG_PEEK) == b"\x15", 10, "the alert")
    old.hand_over(served)
    stated = old.move(blob=b"\x01\x03\x04" + b"k" * 100)
    late = old.move()
    plain = old.move()
    assert plain.value("SELECT 1") == "1"
    late.send(record)
    for client in (says, early, alert, stated, late):
        assert closed_silently(client)
        client.close()
    assert plain.value("SELECT 2") == "2"
    plain.terminate()
    old.wait_said("TLS migration not available; closing fd", 5)


def test_b16_other_strange_words_are_answered(migrating):
    """Only where there may be TLS is an error left out."""
    old = migrating()
    client = old.move()
    assert client.value("SELECT 1") == "1"
    client.send(b"\x17\x03\x03\x00\x20" + b"x" * 32)
    assert wire.sqlstates(client.wait_closed()) == ["08P01"]


# ---- damage


@pytest.mark.parametrize("how,why", [
    ("version 1", "unsupported version 1"), ("version 3", "unsupported version 3"),
    ("magic", "not the state of a client"), ("short", "not the state of a client"),
    ("no descriptor", "a client came without its descriptor"),
    ("huge", "a client of 4294967295 bytes"),
    ("huge TLS", "a client of 1048576 bytes"),
    ("cut length", "the migration socket was closed within a client"),
    ("cut state", "the migration socket was closed within a client"),
    ("cut before TLS", "the migration socket was closed within a client"),
    ("cut TLS", "the migration socket was closed within a client"),
])
def test_b16_what_is_not_understood_ends_the_receiver_alone(migrating, how, why):
    old = migrating()
    before = old.move()
    assert before.value("SELECT 1") == "1"
    client, served = old.front.client()
    state = state_of()
    frame = {"version 1": frame_of(state_of(version=1)),
             "version 3": frame_of(state_of(version=3)),
             "magic": frame_of(state_of(magic=1)),
             "short": frame_of(b""),
             "no descriptor": frame_of(state),
             "huge": b"\xff\xff\xff\xff",
             "huge TLS": frame_of(state)[:-4] + struct.pack("!I", 1 << 20),
             "cut length": b"\0\0",
             "cut state": frame_of(state)[:30],
             "cut before TLS": frame_of(state)[:-4],
             "cut TLS": frame_of(state)[:-4] + struct.pack("!I", 10) + b"12345"}[how]
    old.send(frame, [] if how == "no descriptor" else [served.fileno()])
    served.close()
    if how.startswith("cut"):
        old.end()
    assert old.why() == why
    assert status(old)["error"] == why
    if how != "no descriptor":
        assert closed_silently(client)
    client.close()
    assert before.value("SELECT 2") == "2"
    new = old.doorman.client()
    assert new.value("SELECT 3") == "3"
    new.terminate()
    before.terminate()
    old.doorman.wait_no_clients()


def test_b16_clients_beyond_the_limits_are_closed_and_others_not(migrating):
    old = migrating()
    many = [anonymous("SELECT %d" % i) for i in range(100001)]
    text = "SELECT '%s'" % ("x" * 1100000)
    refused = [old.move(entries=many), old.move(entries=[named("s%d" % i, text) for i in range(10)]),
               old.move(user="u" * 20000), old.move(parameters={"application_name": "a" * 20000}),
               old.move(entries=[named("s", "SELECT\0 1")])]
    taken = [old.move(entries=many[:1000]), old.move(entries=[named("long", text)])]
    for client in refused:
        assert closed_silently(client)
    assert taken[0].value("SELECT 1") == "1"
    got = ask(taken[1], wire.bind("", "long"), wire.execute(), wire.sync())
    assert len(wire.rows(got)[0][0]) == 1100000
    old.wait_said("failed to reconstruct migrated client: ", len(refused))
    assert status(old)["clients_left"] == str(len(refused))
    for client in taken:
        client.terminate()


def test_b16_descriptors_that_are_no_connections_are_closed(migrating, tmp_path):
    old = migrating()
    reading, writing = os.pipe()
    listening = socket.socket()
    listening.listen()
    datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    strange = [reading, listening.fileno(), datagram.fileno(), file]
    before = old.doorman.descriptors()
    for fd in strange:
        old.send(frame_of(state_of()), [fd])
    # Of several only the first belongs to the client.
    client, served = old.front.client()
    old.send(frame_of(state_of()), [served.fileno()] + strange)
    served.close()
    assert client.value("SELECT 1") == "1"
    client.terminate()
    old.doorman.wait_no_clients()
    # A server connection is there now.
    wait_until(lambda: old.doorman.descriptors() <= before + 1, 10, "descriptors to be closed")
    old.wait_said("its descriptor is not a connection", len(strange))
    for fd in (reading, writing, file):
        os.close(fd)
    listening.close()
    datagram.close()


def test_b16_frames_in_pieces(migrating):
    """However the bytes come, two frames do not mix."""
    old = migrating()
    pairs = [old.front.client() for _ in range(3)]
    for number, (_, served) in enumerate(pairs):
        frame = frame_of(state_of(number=number + 1, entries=[named("n", "SELECT %d" % number)]))
        socket.send_fds(old.link, [frame[:1]], [served.fileno()])
        for at in range(1, len(frame), 7):
            old.link.sendall(frame[at:at + 7])
        served.close()
    for number, (client, _) in enumerate(pairs):
        got = ask(client, wire.bind("", "n"), wire.execute(), wire.sync())
        assert wire.rows(got) == [[str(number)]]
        client.terminate()


def test_b16_random_damage_never_harms_the_pooler(migrating):
    """Bytes of the state are changed at random; the frame stays one. Each client is served or
    closed; a receiver that has given up is started anew with another process."""
    chance = random.Random(7)
    whole = state_of(parameters={"application_name": "x", "TimeZone": "UTC"},
                     entries=[named("a", "SELECT $1", (23,)), anonymous("SELECT 1"),
                              named("b", "SELECT 2")], auth=CLIENT_KEY, auth_value=b"k" * 32)
    old = migrating()
    for _ in range(int(os.environ.get("DOORMAN_TEST_DOCUMENTS", "300"))):
        state = bytearray(whole)
        for _ in range(chance.choice((1, 1, 2, 5))):
            at = chance.randrange(6, len(state))
            state[at] = chance.choice((0, 255, 1, 127, 128, chance.randrange(256)))
        if chance.random() < 0.2:
            del state[chance.randrange(6, len(state)):]
        client, served = old.front.client()
        old.send(frame_of(bytes(state)), [served.fileno()])
        served.close()
        client.close()
    assert old.doorman.running()
    good = old.move()
    assert good.value("SELECT 1") == "1"
    good.terminate()
    old.end()
    assert old.why() == "migration socket closed"
    old.doorman.wait_no_clients()


# ---- and then


def test_b16_no_upgrade_while_clients_may_still_come_but_behind_that(migrating):
    old = migrating()
    client = old.move(entries=[named("kept", "SELECT 'kept'")])
    assert client.value("SELECT 1") == "1"
    old.doorman.signal(signal.SIGUSR2)
    old.wait_said("upgrade already in progress")
    old.end()
    old.wait_stopped()
    pooler = Upgrading(old.doorman)
    pooler.upgrade()
    try:
        assert client.value("SELECT 2") == "2"
        got = ask(client, wire.bind("", "kept"), wire.execute(), wire.sync())
        assert wire.rows(got) == [["kept"]]
        client.terminate()
    finally:
        pooler.finish()
