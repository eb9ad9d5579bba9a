"""What each setting of upgrades does."""

import os
import signal
import time

import pytest

import wire
from pooler import pool, trust_user
from test_upgrade_failures import replace, run_from_link
from upgrading import alive
from waiting import stays, wait_until
from wire import query

RULES = "host all slow 127.0.0.1/32 md5\nhost all all 127.0.0.1/32 trust\n"
SLOW = {"username": "slow", "password": "a secret", "pool_size": 2,
        "server_username": "trust_user", "server_password": ""}
HOUR = "1h"


@pytest.fixture
def with_login(upgrading, postgres):
    """A pooler, and a client of it that has been asked for its password."""
    made = []

    def start(**general):
        pooler = upgrading(pools={"app": pool(postgres, [trust_user(), SLOW])},
                           general={"pg_hba": RULES, "client_login_timeout": HOUR, **general})
        client = wire.Wire(pooler.doorman.address)
        client.send(wire.startup("slow", "app"))
        asked = client.receive()
        assert asked.type == "R" and asked.body[:4] == b"\0\0\0\5"
        client.salt = asked.body[4:8]
        made.append(client)
        return pooler, client

    yield start
    for client in made:
        client.close()


def log_in(client):
    client.send(wire.md5_response("slow", "a secret", client.salt))
    client.until_ready()
    assert client.value("SELECT 1") == "1"


def say(pooler, words, seconds=20):
    wait_until(lambda: words in pooler.doorman.log(), seconds, words)


def test_b02_ready_timeout(upgrading, monkeypatch, tmp_path):
    link = run_from_link(monkeypatch, tmp_path)
    pooler = upgrading(general={"upgrade_ready_timeout": "300ms"})
    replace(link, "#!/bin/sh\n[ \"$1\" = -t ] && exit 0\nexec sleep 60\n")
    pooler.request()
    say(pooler, "did not signal readiness within 300ms")
    with pooler.doorman.client() as client:
        assert client.value("SELECT 1") == "1"
    assert pooler.status()["result"] == "aborted"


def test_b02_settle_timeout_lets_logins_end(with_login):
    pooler, client = with_login(upgrade_settle_timeout=HOUR)
    pooler.request()
    say(pooler, "New process signaled readiness")
    stays(lambda: "upgrade: moved" not in pooler.doorman.log(), 0.5, "waiting for the login")
    log_in(client)
    pooler.follow()
    assert "0 clients stay for now" in pooler.doorman.log()
    assert client.value("SELECT 1") == "1"


def test_b02_without_settling_a_login_stays_behind(with_login):
    pooler, client = with_login(upgrade_settle_timeout="0")
    pooler.request()
    say(pooler, "1 clients stay for now: 1 logging in")
    log_in(client)
    pooler.follow()
    assert client.value("SELECT 1") == "1"


def test_b02_freeze_limit(upgrading):
    """The successor stands still when it is asked to take over."""
    pooler = upgrading(general={"upgrade_freeze_limit": "3s"},
                       environment={"PG_DOORMAN_UPGRADE_FAULT": "s-begin:stand"})
    client = pooler.doorman.client()
    pooler.request()
    wait_until(lambda: pooler.standing(), 20, "the freeze")
    began = time.monotonic()
    assert client.value("SELECT 1") == "1"
    assert 1 < time.monotonic() - began
    say(pooler, "nothing has changed: the new process did not answer in time")
    client.terminate()


def successor_of(pooler):
    say(pooler, "upgrade: moved")
    return wait_until(pooler.successor, 10, "the successor")


def test_b02_guard_serves_again_when_the_successor_dies(upgrading):
    """As nothing has been closed on which clients arrive, nobody is refused."""
    pooler = upgrading(general={"upgrade_guard": HOUR})
    moved = pooler.doorman.client()
    assert moved.value("SELECT 1") == "1"
    pooler.request()
    successor = successor_of(pooler)
    assert moved.value("SELECT 2") == "2"
    os.kill(successor, signal.SIGKILL)
    assert moved.wait_closed() == []
    with pooler.doorman.client() as client:
        assert client.value("SELECT 3") == "3"
    assert pooler.status()["result"] == "lost"
    assert "the clients that had moved are lost" in pooler.doorman.log()
    # And it can try again.
    pooler.request()
    wait_until(lambda: pooler.doorman.log().count("upgrade: moved") == 2, 20, "another one")
    again = pooler.successor()
    os.kill(pooler.pid, signal.SIGTERM)
    pooler.follow()
    assert pooler.pid == again
    with pooler.doorman.client() as client:
        assert client.value("SELECT 4") == "4"
    # Which is told all that was counted here, though the one that died was told a part.
    pooler.doorman.wait_idle()
    row, = pooler.doorman.admin("SHOW STATS")
    assert int(row["total_xact_count"]) == 3


def test_b02_guard_is_no_guard_against_an_end_that_is_meant(upgrading):
    pooler = upgrading(general={"upgrade_guard": HOUR})
    pooler.request()
    successor = successor_of(pooler)
    os.kill(successor, signal.SIGTERM)
    pooler.doorman.wait()
    assert "are lost" not in pooler.doorman.log()
    wait_until(lambda: pooler.gone(successor), 10, "the end of the successor")


def test_b02_without_guard_the_listeners_are_let_go_at_once(with_login):
    pooler, client = with_login(upgrade_guard="0", upgrade_linger=HOUR, upgrade_settle_timeout="0")
    pooler.request()
    say(pooler, "listener released")
    successor = successor_of(pooler)
    os.kill(successor, signal.SIGKILL)
    pooler.doorman.wait()
    wait_until(lambda: pooler.gone(successor), 10, "the end of the successor")
    assert wire.errors(client.wait_closed())[0]["C"] == "58006"


def test_b02_old_process_dies_with_those_who_stayed(with_login):
    """They are lost, and they alone."""
    pooler, client = with_login(upgrade_settle_timeout="0", upgrade_linger=HOUR)
    moved = pooler.doorman.client()
    moved.query("BEGIN")
    pooler.doorman.expected_status = -signal.SIGKILL
    pooler.request()
    say(pooler, "1 clients stay for now")
    os.kill(pooler.pid, signal.SIGKILL)
    assert client.wait_closed() == []
    pooler.follow()
    assert wire.status(moved.query("SELECT 1")) == "T"
    wait_until(lambda: pooler.status()["result"] == "adopted", 10, "the new process to know")
    with pooler.doorman.client() as new:
        assert new.value("SELECT 2") == "2"
    moved.terminate()


def test_b15_sighup_in_the_linger_is_passed_on(with_login):
    pooler, client = with_login(upgrade_settle_timeout="0", upgrade_linger=HOUR)
    pooler.request()
    say(pooler, "listener released")
    config = pooler.doorman.config
    config["pools"]["new"] = {**config["pools"]["app"], "server_database": "app"}
    pooler.doorman.write_config(config)
    os.kill(pooler.pid, signal.SIGHUP)
    say(pooler, "config reloaded")
    with pooler.doorman.client(database="new") as new:
        assert new.value("SELECT 1") == "1"
    log_in(client)
    pooler.follow()


def test_b02_linger_is_for_those_who_stay(with_login):
    pooler, client = with_login(upgrade_linger="1s", shutdown_timeout=HOUR,
                                upgrade_settle_timeout="0")
    pooler.upgrade()
    assert "Graceful shutdown timed out" in pooler.doorman.log()
    client.wait_closed()


def test_b02_incomplete_aborts(with_login):
    pooler, client = with_login(upgrade_incomplete="abort")
    first = pooler.pid
    pooler.request()
    say(pooler, "nothing has changed: upgrade_incomplete: 1 of the clients cannot move now: "
                "logging in")
    assert alive(first) and pooler.status()["result"] == "aborted"
    log_in(client)
    client.query("BEGIN")
    client.send(query("SELECT 1"))
    client.until_ready()
    pooler.upgrade()
    assert wire.tags(client.query("COMMIT")) == ["COMMIT"]


# ---- upgrade_mode: drain


DRAIN = {"upgrade_mode": "drain", "upgrade_guard": "0"}


def test_b02_drain_lets_transactions_end_where_they_are(upgrading, postgres):
    pooler = upgrading(pool_size=1, general=DRAIN)
    idle = pooler.doorman.client()
    idle.query("BEGIN")  # no server has seen it
    busy = pooler.doorman.client()
    busy.query("BEGIN")
    pid = busy.value("SELECT pg_backend_pid()")
    waiting = pooler.doorman.client()
    waiting.send(query("SELECT pg_backend_pid()"))
    wait_until(lambda: pooler.doorman.pool_row()["cl_waiting"] == 1, 5, "the client to wait")
    first = pooler.pid
    pooler.request()
    say(pooler, "clients stay for now: 1 in a transaction")
    # Others need not wait for the transaction, even with a pool of one.
    (served,), = wire.rows(waiting.until_ready())
    assert served != pid
    assert idle.value("SELECT pg_backend_pid()") == served
    assert wire.tags(idle.query("COMMIT")) == ["COMMIT"]
    assert alive(first) and busy.value("SELECT pg_backend_pid()") == pid
    assert wire.tags(busy.query("COMMIT")) == ["COMMIT"]
    assert busy.value("SELECT pg_backend_pid()") == served
    pooler.follow()
    assert idle.value("SELECT pg_backend_pid()") == served
    wait_until(lambda: len(postgres.backends()) == 1, 10, "the old server connection to be closed")
    for client in (idle, busy, waiting):
        client.terminate()


def test_b02_drain_finds_a_moment_of_a_busy_client(upgrading, postgres):
    """It has always sent further transactions before the last one is answered."""
    pooler = upgrading(general=DRAIN)
    client = pooler.doorman.client()
    first = pooler.pid
    client.send(query("SELECT 0") * 2)
    done = 0
    pooler.request()
    while alive(first) or done < 100:
        client.send(query("SELECT %d" % done))
        assert len(wire.rows(client.until_ready())) == 1
        done += 1
    for _ in range(2):
        client.until_ready()
    pooler.follow()
    assert "0 clients left behind" in pooler.doorman.log()
    client.terminate()


def test_b02_drain_statements_and_cancel_go_along(upgrading):
    pooler = upgrading(general=DRAIN)
    client = pooler.doorman.client()
    client.send(wire.parse("one", "SELECT 41 + 1") + wire.sync())
    client.until_ready()
    stays_here = pooler.doorman.client()
    stays_here.query("BEGIN")
    stays_here.send(query("SELECT pg_sleep(60)"))
    pooler.request()
    say(pooler, "upgrade: moved")
    client.send(wire.bind("", "one") + wire.execute() + wire.sync())
    assert wire.rows(client.until_ready()) == [["42"]]
    # The request comes to the new process, the statement runs for the old one.
    with wire.Wire(pooler.doorman.address) as other:
        other.send(wire.cancel_request(stays_here.pid, stays_here.key))
        other.wait_closed()
    assert wire.errors(stays_here.until_ready())[0]["C"] == "57014"
    stays_here.query("ROLLBACK")
    pooler.follow()
    assert stays_here.value("SELECT 1") == "1"
    for one in (client, stays_here):
        one.terminate()


def test_b02_drain_ends_who_stays_too_long(upgrading):
    """In session mode a client keeps its server connection, and so stays."""
    pooler = upgrading(pool_mode="session", general={**DRAIN, "upgrade_linger": "1s"})
    holds = pooler.doorman.client()
    assert holds.value("SELECT 1") == "1"
    free = pooler.doorman.client()
    pooler.upgrade()
    assert wire.errors(holds.wait_closed())[0]["C"] == "58006"
    assert free.value("SELECT 2") == "2"
    free.terminate()


def test_b02_drain_is_taken_back_when_the_successor_dies(upgrading):
    pooler = upgrading(general={**DRAIN, "upgrade_guard": HOUR})
    client = pooler.doorman.client()
    client.query("BEGIN")
    client.query("SELECT 1")
    pooler.request()
    successor = successor_of(pooler)
    os.kill(successor, signal.SIGKILL)
    say(pooler, "are lost")
    assert wire.tags(client.query("COMMIT")) == ["COMMIT"]
    assert client.value("SELECT 2") == "2"
    with pooler.doorman.client() as new:
        assert new.value("SELECT 3") == "3"
    assert alive(pooler.pid)
    client.terminate()
