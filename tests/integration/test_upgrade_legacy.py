"""PgDoorman 3.10 as the new process: legacy_successor.py plays it."""

import json
import os
import signal

import pytest

import wire
from pooler import BINARY, ROOT, pool, trust_user
from postgres import PASSWORDS
from test_upgrade_failures import replace, run_from_link
from test_upgrade_settings import HOUR, say
from upgrading import alive
from waiting import wait_until
from wire import query

SUCCESSOR = os.path.join(ROOT, "tests", "integration", "legacy_successor.py")


@pytest.fixture
def old(upgrading, monkeypatch, tmp_path):
    """Factory of poolers whose program on disk is PgDoorman 3.10 when they are asked to upgrade."""
    link = run_from_link(monkeypatch, tmp_path)

    def start(unix=False, environment=None, **settings):
        general = settings.pop("general", {})
        path = str(tmp_path / "run")
        if unix:
            os.makedirs(path, exist_ok=True)
            general = {**general, "unix_socket_dir": path}
        pooler = upgrading(general=general, environment=environment, **settings)
        pooler.unix = "%s/.s.PGSQL.%d" % (path, pooler.doorman.port) if unix else None
        link.unlink()
        link.symlink_to(SUCCESSOR)
        return pooler

    return start


def received(pooler):
    """What the new process was told, and whether no more can come."""
    path = os.path.join(pooler.doorman.directory, "legacy.json")
    if not os.path.exists(path):
        return []
    with open(path) as file:
        return [json.loads(line) for line in file if line.endswith("\n")]


def told_of(pooler, client):
    found = wait_until(lambda: [one for one in received(pooler)
                                if one != "end" and one["id"] == client.pid], 10, "its frame")
    assert len(found) == 1
    return found[0]


def served(client, text="SELECT 1"):
    return client.value(text) == "3.10: " + text


def test_b16_idle_clients_go_to_the_old_version(old):
    pooler = old()
    clients = [pooler.doorman.client() for _ in range(20)]
    clients[0].query("SELECT 1")
    first = pooler.pid
    took = pooler.upgrade()
    assert took < 15 and not alive(first)
    for client in clients:
        assert served(client)
        told = told_of(pooler, client)
        host, port = client.sock.getsockname()
        assert (told["address"], told["port"]) == (host, port)
        assert (told["database"], told["user"]) == ("app", "trust_user")
        assert told["secret"] == client.key
        assert told["transaction"] == 1 and told["prepared"] == 1 and told["async"] == 0
        assert told["tls"] == 0 and told["auth"] == 0
    assert received(pooler)[-1] == "end" and len(received(pooler)) == 21
    log = pooler.doorman.log()
    for words in ("Starting new process with inherited listener fd=", "New process signaled "
                  "readiness", "Client migration enabled", "listener released",
                  "migration sender: closing socket", "Migration sender finished",
                  "Shutting down..."):
        assert words in log, words
    assert log.count("migrated to new process") == 20
    # Whoever comes now comes to the new one.
    with wire.Wire(pooler.doorman.address) as new:
        new.send(wire.startup("trust_user", "app"))
        assert wire.errors(new.wait_closed())[0]["M"] == "this is 3.10"


def test_b16_what_a_client_has_is_told(old):
    pooler = old()
    client = pooler.doorman.client(application_name="of a kind", timezone="Asia/Tokyo")
    client.send(wire.parse("named", "SELECT $1::int + 1", [23]) + wire.parse("other", "SELECT 2")
                + wire.sync())
    client.until_ready()
    for text in ("SELECT 'first'", "SELECT 'second'"):
        client.send(wire.parse("", text) + wire.bind() + wire.execute() + wire.sync())
        client.until_ready()
    pooler.upgrade()
    told = told_of(pooler, client)
    named = {one["name"]: one for one in told["entries"] if "name" in one}
    assert named["named"]["query"] == "SELECT $1::int + 1" and named["named"]["types"] == [23]
    assert named["other"]["query"] == "SELECT 2" and named["other"]["types"] == []
    assert [one["query"] for one in told["entries"] if "anonymous" in one] == [
        "SELECT 'second'", "SELECT 'first'"]
    assert ["name" in one for one in told["entries"]] == [True, True, False, False]
    assert told["parameters"]["application_name"] == "of a kind"
    assert told["parameters"]["TimeZone"] == "Asia/Tokyo"
    client.send(wire.bind("", "other") + wire.execute() + wire.sync())
    assert wire.rows(client.until_ready()) == [["3.10: SELECT 2"]]


def test_b16_transaction_ends_in_the_old_process(old, postgres):
    pooler = old(pool_size=1)
    holder = pooler.doorman.client()
    holder.query("BEGIN")
    pid = holder.value("SELECT pg_backend_pid()")
    owed = pooler.doorman.client()
    owed.query("BEGIN")
    waiter = pooler.doorman.client()
    waiter.send(query("SELECT 'has waited'"))
    wait_until(lambda: pooler.doorman.pool_row()["cl_waiting"] == 1, 5, "the client to wait")
    first = pooler.pid
    pooler.request()
    say(pooler, "listener released")
    assert holder.value("SELECT pg_backend_pid()") == pid
    assert wire.tags(holder.query("COMMIT")) == ["COMMIT"]
    assert wire.rows(waiter.until_ready()) == [["has waited"]]
    for client in (holder, waiter):
        told_of(pooler, client)
        assert served(client)
    assert alive(first)
    assert owed.value("SELECT 7") == "7"
    assert wire.tags(owed.query("COMMIT")) == ["COMMIT"]
    pooler.follow()
    assert served(owed)
    assert postgres.backends() == []


def test_b16_busy_client_goes_between_two_transactions(old):
    """It sends the next one as soon as it has the answer."""
    pooler = old()
    client = pooler.doorman.client()
    pooler.request()
    for number in range(1000000):
        text = "SELECT %d" % number
        answer = client.value(text)
        assert answer in (str(number), "3.10: " + text)
        if answer != str(number):
            break
    pooler.follow()


def test_b16_who_stays_too_long_is_told_so(old):
    pooler = old(pool_mode="session", general={"upgrade_linger": "2s", "shutdown_timeout": HOUR})
    holder = pooler.doorman.client()
    assert holder.value("SELECT 1") == "1"
    free = pooler.doorman.client()
    pooler.request()
    say(pooler, "listener released")
    assert holder.value("SELECT 2") == "2"
    assert served(free)
    pooler.follow()
    assert wire.errors(holder.wait_closed())[0]["C"] == "58006"
    assert "Graceful shutdown timed out" in pooler.doorman.log()
    assert [one["transaction"] for one in received(pooler) if one != "end"] == [0]


def test_b16_whom_the_old_version_cannot_take_is_served_here(old):
    """A name in its format has up to 65,535 bytes."""
    pooler = old(general={"upgrade_linger": HOUR})
    stays_here = pooler.doorman.client()
    stays_here.send(wire.parse("n" * 65536, "SELECT 'kept'") + wire.sync())
    stays_here.until_ready()
    other = pooler.doorman.client()
    pooler.request()
    say(pooler, "listener released")
    told_of(pooler, other)
    for number in range(5):
        assert stays_here.value("SELECT %d" % number) == str(number)
    stays_here.send(wire.bind("", "n" * 65536) + wire.execute() + wire.sync())
    assert wire.rows(stays_here.until_ready()) == [["kept"]]
    stays_here.terminate()
    pooler.follow()


def test_b16_user_that_was_looked_up_is_served_here(old, postgres):
    """3.10 has no pool for it yet."""
    lookup = {"query": "SELECT passwd FROM pg_shadow WHERE usename = $1", "user": "postgres",
              "database": "app"}
    pooler = old(pools={"app": pool(postgres, [trust_user()], unix=True, auth_query=lookup)},
                 general={"upgrade_linger": HOUR})
    stays_here = pooler.doorman.client(user="md5_user", password=PASSWORDS["md5_user"])
    other = pooler.doorman.client()
    pooler.request()
    say(pooler, "listener released")
    told_of(pooler, other)
    for number in range(5):
        assert stays_here.value("SELECT %d" % number) == str(number)
    stays_here.terminate()
    pooler.follow()


def test_b16_client_of_which_only_a_part_was_sent_stays(old):
    """The new process reads nothing, and the socket has no room for a million bytes."""
    pooler = old(environment={"LEGACY_READS": "0"}, general={"upgrade_linger": HOUR})
    client = pooler.doorman.client()
    client.send(wire.parse("large", "SELECT 'kept' --" + "x" * 1000000) + wire.sync())
    client.until_ready()
    pooler.request()
    say(pooler, "does not take all of a client")
    for number in range(3):
        assert client.value("SELECT %d" % number) == str(number)
    client.terminate()
    pooler.follow()


def test_b16_clients_of_the_unix_socket(old, tmp_path):
    """3.10 cannot take the socket over, and does not start beside it: ours makes way then."""
    pooler = old(unix=True)
    client = wire.Wire(pooler.unix).login()
    assert client.value("SELECT 1") == "1"
    pooler.upgrade()
    assert "once more, with the Unix socket out of the way" in pooler.doorman.log()
    assert served(client)
    told = told_of(pooler, client)
    assert (told["address"], told["port"]) == ("127.0.0.1", 0)
    client.close()
    with wire.Wire(pooler.unix) as new:
        assert wire.errors(new.wait_closed())[0]["M"] == "this is 3.10"
    assert os.listdir(tmp_path / "run") == [os.path.basename(pooler.unix)]


def test_b16_unix_socket_comes_back_when_the_new_process_does_not_start(old, tmp_path):
    pooler = old(unix=True, environment={"LEGACY_REFUSES": "1"})
    pooler.request()
    say(pooler, "nothing has changed: New process exited before readiness")
    assert "once more" in pooler.doorman.log()
    with wire.Wire(pooler.unix).login() as client:
        assert client.value("SELECT 1") == "1"
    assert os.listdir(tmp_path / "run") == [os.path.basename(pooler.unix)]


def test_b16_new_process_that_leaves_unknown_descriptors_open(old):
    """As versions before 3.10.6 do: the link stays open, and nothing comes through it."""
    pooler = old(environment={"LEGACY_CLOSES": "0"})
    client = pooler.doorman.client()
    pooler.upgrade()
    assert served(client)


def test_b16_new_process_dies_within_the_guard(old):
    pooler = old(general={"upgrade_guard": HOUR})
    moved = pooler.doorman.client()
    stays_here = pooler.doorman.client()
    stays_here.query("BEGIN")
    stays_here.query("SELECT 1")
    pooler.request()
    told_of(pooler, moved)
    os.kill(wait_until(pooler.successor, 10, "the new process"), signal.SIGKILL)
    say(pooler, "are lost")
    moved.wait_closed()
    assert wire.tags(stays_here.query("COMMIT")) == ["COMMIT"]
    assert stays_here.value("SELECT 2") == "2"
    with pooler.doorman.client() as new:
        assert new.value("SELECT 3") == "3"


def test_b16_new_process_dies_later(old):
    """Who is still here is served here."""
    pooler = old(general={"upgrade_guard": "0", "upgrade_linger": "3s"})
    holder = pooler.doorman.client()
    holder.query("BEGIN")
    holder.query("SELECT 1")
    pooler.request()
    say(pooler, "listener released")
    os.kill(wait_until(pooler.successor, 10, "the new process"), signal.SIGKILL)
    say(pooler, "the new process has gone")
    assert wire.tags(holder.query("COMMIT")) == ["COMMIT"]
    assert holder.value("SELECT 2") == "2"
    pooler.doorman.wait()
    assert wire.errors(holder.wait_closed())[0]["C"] == "58006"


def test_b16_in_the_way_of_3_10_and_on_in_our_own(upgrading, monkeypatch, tmp_path):
    """This program in that one's part, too: it is not told of the link. The next upgrade is one
    between two that are."""
    link = run_from_link(monkeypatch, tmp_path)
    pooler = upgrading()
    client = pooler.doorman.client()
    client.send(wire.parse("kept", "SELECT $1::int + 1", [23]) + wire.sync())
    client.until_ready()
    replace(link, "#!/bin/sh\nexec env -u PG_DOORMAN_HANDOFF_FD %s \"$@\"\n" % BINARY)
    for number in range(2):
        pooler.upgrade()
        client.send(wire.bind("", "kept", [str(number)]) + wire.execute() + wire.sync())
        assert wire.rows(client.until_ready()) == [[str(number + 1)]]
        with pooler.doorman.client() as new:
            assert new.value("SELECT 1") == "1"
    assert pooler.doorman.log().count("migrated to new process") == 1
    assert "upgrade: moved 1 clients" in pooler.doorman.log()
    client.terminate()
