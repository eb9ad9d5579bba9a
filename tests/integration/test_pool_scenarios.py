"""Scenarios of pools that went wrong once, in other hands, and what must come of them."""

import json
import threading
import time

import psycopg2

import wire
from pooler import pool, trust_user
from postgres import PASSWORDS
from test_auth_query import (MD5_HBA, lookup_pool, parameters_query, users_with_pools, whoami)
from test_pool_coordinator import holding
from waiting import stays, wait_until

SLOW_LOGIN = {"post_auth_delay": "1"}  # seconds that PostgreSQL takes for each connection


def test_idle_timeout_of_zero_is_off(doorman, postgres):
    pooler = doorman(pool_size=2, idle_timeout=0, general={"retain_connections_time": "20ms"})
    with pooler.client() as client:
        first = client.backend_pid()
        pooler.wait_idle()
        stays(lambda: [int(pid) for pid, *_ in postgres.backends()] == [int(first)], 1,
              "the backend")
        assert client.backend_pid() == first


def test_lifetimes_of_two_pools_are_their_own(doorman, postgres):
    pooler = doorman(pools={"app": pool(postgres, [trust_user(1)], server_lifetime=200),
                            "other": pool(postgres, [trust_user(1)], server_lifetime=600000,
                                          server_database="app")},
                     general={"retain_connections_time": "50ms"})
    with pooler.client() as short, pooler.client(database="other") as long:
        first, kept = short.backend_pid(), long.backend_pid()
        wait_until(lambda: short.backend_pid() != first, 10, "another backend")
        assert long.backend_pid() == kept


def test_backends_that_went_from_hand_to_hand_cost_the_pool_no_place(doorman):
    pooler = doorman(pool_size=2)

    def transactions():
        with pooler.client() as client:
            for _ in range(50):
                assert client.value("SELECT 1") == "1"

    threads = [threading.Thread(target=transactions) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pooler.wait_idle()
    # Whoever comes next is served within 0.1 s: at least the luckiest, on a busy machine.
    took = []
    for _ in range(5):
        with pooler.client() as client:
            began = time.monotonic()
            assert client.value("SELECT 1") == "1"
            took.append(time.monotonic() - began)
    assert min(took) < 0.1
    with holding(pooler, "trust_user", 2):
        row = pooler.pool_row()
        assert (row["sv_active"], row["sv_idle"], row["cl_waiting"]) == (2, 0, 0)


def test_error_in_session_mode_costs_no_backend(doorman):
    """Also after Flush; and the next session finds the backend with its defaults."""
    pooler = doorman(pool_size=1, pool_mode="session")
    with pooler.client() as client:
        pid = client.backend_pid()
        client.query("SET work_mem = '7MB'")
        for end in (wire.sync(), wire.flush()):
            client.send(wire.extended("SELECT 1/0"), end)
            assert wire.sqlstates(client.until("E")) == ["22012"]
            if end == wire.flush():
                client.send(wire.sync())
            client.until_ready()
            assert client.backend_pid() == pid
        assert client.value("SHOW work_mem") == "7MB"
        client.send(wire.extended("SELECT 1/0"), wire.flush())
        client.until("E")
        client.terminate()
    pooler.wait_idle()
    with pooler.client() as client:
        assert client.value("SHOW work_mem") == "4MB"
        assert client.backend_pid() == pid


def test_session_mode_times_are_those_of_queries(doorman):
    """Neither the time for which a client thinks counts, nor that for which the pooler rested."""
    pooler = doorman(pool_size=2, pool_mode="session")
    with pooler.client() as client:
        for _ in range(60):
            client.query("SELECT pg_sleep(0.005)")
        for _ in range(3):
            time.sleep(0.7)
            client.query("BEGIN")
            client.query("SELECT pg_sleep(0.005)")
            client.query("COMMIT")
        row, = pooler.admin("SHOW POOLS_EXTENDED")
        for what in ("query", "transaction"):
            assert 4000 <= row[what + "_0.5"] < 500000
            assert row[what + "_0.95"] < 500000
        stats, = pooler.admin("SHOW STATS")
        assert stats["total_xact_count"] == 63
        assert 63 * 5000 <= stats["total_xact_time"]
    latency = {row["what"]: row for row in pooler.admin("SHOW LATENCY")}
    assert float(latency["query"]["max"]) < 10000000


def test_statements_in_a_row_are_timed_one_by_one(doorman):
    """Not from the beginning of their transaction, and without the wait for a backend."""
    pooler = doorman(pool_size=1)
    with pooler.client() as holder, pooler.client() as client:
        holder.query("BEGIN; SELECT 1")
        client.send(wire.query("BEGIN; SELECT 1"))
        wait_until(lambda: pooler.pool_row()["cl_waiting"] == 1, 8, "one that waits")
        time.sleep(1.2)
        before, = pooler.admin("SHOW STATS")
        began = time.monotonic()
        holder.query("COMMIT")
        client.until_ready()
        for _ in range(20):
            client.query("SELECT pg_sleep(0.02)")
        client.query("COMMIT")
        after, = pooler.admin("SHOW STATS")
        wall_us = (time.monotonic() - began) * 1000000
        query_us = after["total_query_time"] - before["total_query_time"]
        # From the beginning of the transaction they would be about ten times that.
        assert 400000 <= query_us < 2 * wall_us
        assert after["total_wait_time"] - before["total_wait_time"] >= 1200000


# ---- users that are looked up


def looking_up(doorman, postgres, general=None, **settings):
    return doorman(pools={"app": lookup_pool(postgres, **settings)},
                   general={"pg_hba": MD5_HBA, **(general or {})})


def in_background(function, *arguments):
    result = []
    thread = threading.Thread(target=lambda: result.append(function(*arguments)))
    thread.start()
    return thread, result


def test_pool_is_not_collected_while_its_first_backend_connects(doorman, postgres):
    pooler = looking_up(doorman, postgres, pool_settings={"startup_parameters": SLOW_LOGIN},
                        general={"retain_connections_time": "50ms", "idle_timeout": "500ms",
                                 "server_lifetime": "1s"})

    def login(user):
        connection = pooler.connect(user, "app", PASSWORDS[user])
        try:
            return whoami(connection)
        finally:
            connection.close()

    users = ("scram_user", "md5_user")
    logins = [in_background(login, user) for user in users]
    for (thread, name), user in zip(logins, users):
        thread.join()
        assert name == [user]
    wait_until(lambda: users_with_pools(pooler) == set(), 5 + 5, "both pools to be collected")


def test_user_who_is_written_down_while_it_logs_in(doorman, postgres):
    """The static pool is the one from then on, whatever becomes of the login."""
    pooler = looking_up(doorman, postgres, pool_settings={"startup_parameters": SLOW_LOGIN})

    def login():
        try:
            connection = pooler.connect("md5_user", "app", PASSWORDS["md5_user"])
            name = whoami(connection)
            connection.close()
            return name
        except psycopg2.Error as error:
            return error

    thread, result = in_background(login)
    wait_until(lambda: users_with_pools(pooler) == {"md5_user"}, 8, "the login")
    static = {"username": "md5_user", "password": "md5_pass", "pool_size": 2,
              "server_username": "plain_user", "server_password": PASSWORDS["plain_user"]}
    config = pooler.config
    config["pools"]["app"] = lookup_pool(postgres, [static])
    pooler.write_config(config)
    pooler.admin("RELOAD")
    thread.join()
    assert isinstance(result[0], psycopg2.Error) or result[0] in ("md5_user", "plain_user")
    for _ in range(2):
        connection = pooler.connect("md5_user", "app", "md5_pass")
        assert whoami(connection) == "plain_user"
        connection.close()
    assert users_with_pools(pooler) == {"md5_user"}
    row, = pooler.admin("SHOW AUTH_QUERY")
    assert row["dynamic_pools_current"] == 0
    assert pooler.pool_row("app", "md5_user")["pool_size"] == 2


def test_row_that_changes_is_what_counts_for_many_logins_at_once(doorman, postgres, table):
    settings = table("setting text")
    postgres.run("INSERT INTO %s VALUES ('')" % settings, database="app")
    pooler = looking_up(doorman, postgres, cache_ttl="0s",
                        query=parameters_query("(SELECT nullif(setting, '') FROM %s)" % settings))

    def work_mem():
        connection = pooler.connect("md5_user", "app", PASSWORDS["md5_user"])
        with connection.cursor() as cursor:
            cursor.execute("SHOW work_mem")
            found, = cursor.fetchone()
        connection.close()
        return found

    for megabytes in (5, 6, 7):
        value = json.dumps({"work_mem": "%dMB" % megabytes})
        postgres.run("UPDATE %s SET setting = '%s'" % (settings, value), database="app")
        logins = [in_background(work_mem) for _ in range(6)]
        for thread, _ in logins:
            thread.join()
        # Those of the moment of the change may have either; nobody has the old one afterwards.
        assert [found for _, found in logins] == [["%dMB" % megabytes]] * 6
        assert work_mem() == "%dMB" % megabytes


def test_reload_of_startup_parameters_leaves_no_backend_with_the_old_ones(doorman, postgres):
    pooler = doorman(pool_size=4, startup_parameters={"work_mem": "5MB"})
    with holding(pooler, "trust_user", 4) as clients:
        clients[0].query("COMMIT")
        config = pooler.config
        config["pools"]["app"]["startup_parameters"] = {"work_mem": "6MB"}
        pooler.write_config(config)
        pooler.admin("RELOAD")
        assert clients[1].value("SHOW work_mem") == "5MB", "a transaction stays as it is"
        assert clients[0].value("SHOW work_mem") == "6MB"
        for client in clients[1:]:
            client.query("COMMIT")
        for client in clients:
            client.query("BEGIN")
            assert client.value("SHOW work_mem") == "6MB"
