"""What pools of PgDoorman 3.10 did wrong, and must not do here."""

import threading
import time

import pytest

import wire
from pooler import pool, trust_user
from test_pool_coordinator import capped, holding
from test_pool_errors import deaf
from test_pool_life import ask_in_background
from test_pool_scenarios import SLOW_LOGIN
from waiting import stays, wait_until

__all__ = ["capped", "deaf"]  # fixtures


def pids(postgres):
    return {row[0] for row in postgres.backends()}


def reload_with(pooler, **pools):
    config = pooler.config
    config["pools"].update(pools)
    pooler.write_config(config)
    pooler.admin("RELOAD")


def test_backend_of_a_session_is_active_while_it_is_owned(doorman):
    """Also between transactions; and its age counts from when it was taken."""
    pooler = doorman(pool_size=2, pool_mode="session")
    with pooler.client() as client:
        client.query("SELECT 1")
        row = pooler.pool_row()
        assert (row["sv_active"], row["sv_idle"]) == (1, 0)
        first = wait_until(lambda: pooler.pool_row()["oldest_active_age_ms"], 5, "an age")
        client.query("SELECT 1")
        wait_until(lambda: pooler.pool_row()["oldest_active_age_ms"] > first + 100, 5, "more")
    pooler.wait_idle()
    assert pooler.pool_row()["oldest_active_age_ms"] == 0


def test_backend_that_was_begun_before_reconnect_counts_as_old(doorman, postgres):
    pooler = doorman(pool_size=1, startup_parameters=SLOW_LOGIN)
    with pooler.client() as client:
        pooler.admin("RECONNECT")
        wait_until(lambda: not postgres.backends(), 5, "no backend")
        before, = pooler.admin("SHOW POOL_SCALING")
        thread, answer = ask_in_background(client)
        wait_until(lambda: pooler.pool_row()["sv_login"] == 1, 5, "a backend in the making")
        pooler.admin("RECONNECT")
        thread.join()
        assert wire.rows(answer[0][1]) == [["1"]]
        after, = pooler.admin("SHOW POOL_SCALING")
        assert after["creates"] - before["creates"] == 2
        wait_until(lambda: len(pids(postgres)) == 1, 8, "the old one to be closed")


def test_logins_share_one_attempt_and_its_failure(doorman, postgres, deaf):
    """One after another they would wait for as many time-outs. And nothing is left of it."""
    pooler = doorman(pools={"app": pool(postgres, server_port=deaf)},
                     general={"connect_timeout": 1500, "query_wait_timeout": 30000})
    took = []

    def login():
        began = time.monotonic()
        with pytest.raises(wire.LoginFailed):
            pooler.client()
        took.append(time.monotonic() - began)

    threads = [threading.Thread(target=login) for _ in range(12)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(pooler.admin("SHOW SERVERS")) > 0, 5, "a login in the list")
    for thread in threads:
        thread.join()
    assert len(took) == 12 and max(took) < 10  # not 18
    wait_until(lambda: pooler.admin("SHOW SERVERS") == [], 8, "no login in the list")


def test_user_that_is_added_leaves_the_others_their_backends(doorman, postgres):
    pooler = doorman(pool_size=2)
    with pooler.client() as client:
        pid = client.backend_pid()
        reload_with(pooler, app=pool(postgres, [trust_user(2), trust_user(
            3, min_pool_size=2, username="added", server_username="trust_user")]))
        # A pool that appears is filled at once, not with the next cycle.
        wait_until(lambda: pooler.pool_row(user="added")["sv_idle"] == 2, 8, "its minimum")
        assert client.backend_pid() == pid


def test_who_does_not_wait_does_not_wait_for_a_permit_either(capped):
    pooler = capped((5, 5), max_db_connections=2, reserve_pool_size=1, reserve_pool_timeout=20000,
                    min_connection_lifetime=30000)
    config = pooler.config
    config["general"]["query_wait_timeout"] = 0
    with holding(pooler, "one", 2), holding(pooler, "two", 1), pooler.client(user="two") as late:
        pooler.write_config(config)
        pooler.admin("RELOAD")
        began = time.monotonic()
        error, = wire.errors(late.query("SELECT 1"))
        assert error["C"] == "53300" and time.monotonic() - began < 8


def test_minimum_is_filled_side_by_side_and_never_exceeded(doorman, postgres):
    """Four pools whose server takes a second for each connection; clients come at the same time."""
    names = ["db%d" % number for number in range(4)]
    began = time.monotonic()
    pooler = doorman(pools={name: pool(postgres, [trust_user(2, min_pool_size=2)],
                                       server_database="app", startup_parameters=SLOW_LOGIN)
                            for name in names})
    clients = [pooler.client(name) for name in names for _ in range(3)]
    for client in clients:
        client.send(wire.query("SELECT 1"))
    most = [0]

    def filled():
        rows = [pooler.pool_row(name) for name in names]
        most[0] = max([most[0]] + [row["sv_idle"] + row["sv_active"] + row["sv_login"]
                                   for row in rows])
        return all(row["sv_idle"] + row["sv_active"] == 2 for row in rows)

    wait_until(filled, 8, "two in each")
    assert time.monotonic() - began < 8  # one after another they take that
    assert most[0] == 2
    for client in clients:
        assert not wire.errors(client.until_ready())
    stays(filled, 0.2, "two in each")
