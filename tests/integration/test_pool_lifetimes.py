"""Backends that come to their time: when, in which order, how many at once, and what follows."""

import os
import re
import signal
import threading
import time

import wire
from pooler import pool, trust_user
from postgres import PASSWORDS
from test_auth_query import MD5_HBA, SHADOW
from test_pool_coordinator import holding
from waiting import wait_until


def looks_up(postgres, users=(), **auth_query):
    return {"users": list(users), "unix": True, "server_database": "app",
            "auth_query": {"query": SHADOW, "user": "postgres", "database": "app", **auth_query}}


def section(postgres, settings, **more):
    settings = {**settings, **more}
    return pool(postgres, settings.pop("users"), settings.pop("unix", False), **settings)


def backends_of(pooler, database):
    return [actor for actor in pooler.snapshot()["actors"]
            if actor["type"] == "backend" and actor["database"] == database]


def open_at_once(pooler, database, user, count):
    """So many transactions, ended together: backends that are idle since the same moment."""
    password = PASSWORDS.get(user, "")
    clients = [pooler.client(database, user, password) for _ in range(count)]
    for client in clients:
        client.query("BEGIN; SELECT 1")
    for client in clients:
        client.query("COMMIT")
    return clients


def test_limits_are_those_of_the_pool_and_differ_from_backend_to_backend(doorman, postgres):
    """Whichever way a user came: written down, found, or found and served by another."""
    limits = {"server_lifetime": 100000, "idle_timeout": 50000}
    pooler = doorman(
        pools={"written": pool(postgres, [trust_user(20)], server_database="app", **limits),
               "found": section(postgres, looks_up(postgres), **limits),
               "shared": section(postgres, looks_up(postgres, server_user="trust_user"), **limits),
               "user": pool(postgres, [trust_user(20, server_lifetime=200000)],
                            server_database="app", **limits),
               "general": pool(postgres, [trust_user(20)], server_database="app")},
        general={"pg_hba": "host all trust_user 127.0.0.1/32 trust\n" + MD5_HBA,
                 "server_lifetime": 3600000, "idle_timeout": 0})
    for database, user in (("written", "trust_user"), ("found", "md5_user"),
                           ("shared", "md5_user"), ("user", "trust_user"),
                           ("general", "trust_user")):
        clients = open_at_once(pooler, database, user, 20)
        backends = backends_of(pooler, database)
        assert len(backends) == 20
        lifetime, idle_limit = {"user": (200e6, 50e6), "general": (3600e6, 0)}.get(
            database, (100e6, 50e6))
        for field, base in (("lifetime_us", lifetime), ("idle_limit_us", idle_limit)):
            values = [backend[field] for backend in backends]
            assert all(0.8 * base <= value <= 1.2 * base for value in values), (database, values)
            if base > 0:
                assert len(set(values)) == 20
                assert min(values) < base < max(values)
                assert max(values) - min(values) > 0.1 * base
        for client in clients:
            client.terminate()


def closed_by(pooler, reason):
    """Databases whose backends were closed for that reason, in order."""
    return re.findall(r"\[trust_user@(\w+)\] server closed pid=\d+: " + reason, pooler.log())


def test_quota_is_shared_by_all_pools_and_takes_them_in_an_order_by_chance(doorman, postgres):
    """Seven pools with two idle backends each, and one may be closed in each cycle."""
    names = ["db%02d" % number for number in range(7)]
    pooler = doorman(pools={name: pool(postgres, [trust_user(2)], server_database="app",
                                       idle_timeout=1) for name in names},
                     general={"retain_connections_time": "1h", "retain_connections_max": 1})
    for name in names:
        open_at_once(pooler, name, "trust_user", 2)
    config = pooler.config
    config["general"]["retain_connections_time"] = "100ms"
    pooler.write_config(config)
    began = time.monotonic()
    pooler.admin("RELOAD")
    wait_until(lambda: len(closed_by(pooler, "idle timeout")) >= 1, 8, "the first to be closed")
    while len(closed_by(pooler, "idle timeout")) < 14:
        closed = len(closed_by(pooler, "idle timeout"))
        cycles = (time.monotonic() - began) / 0.1 + 2  # one at once, and one that has just begun
        assert closed <= cycles
        assert cycles < 600, closed
        time.sleep(0.02)
    order = closed_by(pooler, "idle timeout")
    assert sorted(order) == sorted(names * 2)
    # Both backends of one pool after another, or pools by turns: one order in billions.
    assert order not in (sorted(order), names * 2, sorted(order)[::-1], names[::-1] * 2)
    assert order[:7] != order[7:]


def test_pools_shrink_to_their_minimum_and_its_backends_are_renewed(doorman, postgres):
    """Written down with a minimum of 2, found without one, found with one: 5 in use, then idle."""
    lifetime = {"server_lifetime": 1000}
    pooler = doorman(
        pools={"written": pool(postgres, [trust_user(5, min_pool_size=2)], server_database="app",
                               **lifetime),
               "found": section(postgres, looks_up(postgres, pool_size=5), **lifetime),
               "kept": section(postgres, looks_up(postgres, pool_size=5, min_pool_size=2),
                               **lifetime)},
        general={"pg_hba": "host all trust_user 127.0.0.1/32 trust\n" + MD5_HBA,
                 "server_lifetime": 60000, "retain_connections_time": 500,
                 "retain_connections_max": 0})
    places = (("written", "trust_user", 2), ("found", "md5_user", 0), ("kept", "md5_user", 2))

    def pids(database):
        return {int(row["server_process_id"]) for row in pooler.admin("SHOW SERVERS")
                if row["database_name"] == database}

    first = {}
    for database, user, _ in places:
        clients = [pooler.client(database, user, PASSWORDS.get(user, "")) for _ in range(5)]
        for client in clients:
            client.query("BEGIN; SELECT 1")
        first[database] = pids(database)
        assert len(first[database]) == 5
        for client in clients:
            client.query("COMMIT")
            client.terminate()
    for database, _, rest in places:
        wait_until(lambda: len(pids(database)) == rest and not pids(database) & first[database],
                   4 + 6, "%d new backends" % rest, 0.1)
    renewed = pids("kept")
    wait_until(lambda: len(pids("kept")) >= 2 and not pids("kept") & renewed, 4 + 6,
               "yet other backends", 0.1)


def test_named_statement_survives_lifetimes(doorman):
    pooler = doorman(pool_size=1, server_lifetime=100, general={"retain_connections_time": 200})
    with pooler.client() as client:
        client.send(wire.parse("s", "SELECT pg_backend_pid() + $1::int * 0"), wire.sync())
        client.until_ready()
        seen = set()

        def three_backends():
            client.send(wire.bind("", "s", [1]), wire.execute(), wire.sync())
            ((pid,),) = wire.rows(client.until_ready())
            seen.add(pid)
            return len(seen) >= 3

        wait_until(three_backends, 10, "the third backend")


def test_backend_that_ended_at_rest_is_noticed_by_the_check(doorman, postgres):
    pooler = doorman(pool_size=2, general={"server_idle_check_timeout": 100})
    with pooler.client() as client:
        for _ in range(3):
            pid = client.backend_pid()
            os.kill(int(pid), signal.SIGSTOP)  # its end is not told before its next breath
            postgres.run("SELECT pg_terminate_backend(%d)" % int(pid))
            time.sleep(0.15)
            os.kill(int(pid), signal.SIGCONT)
            assert client.backend_pid() != pid


def test_backend_that_is_silent_costs_the_time_to_connect_and_no_more(doorman):
    """The check has a limit, for what PostgreSQL does not answer TCP does acknowledge."""
    pooler = doorman(pool_size=1, general={"server_idle_check_timeout": 100,
                                           "connect_timeout": 1000,
                                           "query_wait_timeout": 30000})
    with pooler.client() as client:
        pid = int(client.backend_pid())
        os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(0.2)
            began = time.monotonic()
            assert int(client.backend_pid()) != pid
            assert 0.9 < time.monotonic() - began < 8
        finally:
            os.kill(pid, signal.SIGCONT)
    assert "failed alive check" in pooler.log()


def test_many_deadlines_that_meet_returns_lose_nothing(doorman, postgres):
    """Those who wait give up about when it is their turn: each backend is with one client, idle or
    gone, and the pool has as many as PostgreSQL."""
    pooler = doorman(pool_size=3, general={"query_wait_timeout": 60})
    refused, served, over = [0], [0], threading.Event()

    def work(number):
        while not over.is_set():
            with pooler.client() as client:
                while not over.is_set():
                    messages = client.query("SELECT pg_sleep(0.0%d)" % (2 + number % 4))
                    if wire.errors(messages):
                        assert wire.sqlstates(messages) == ["53300"]
                        refused[0] += 1
                        break
                    served[0] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    wait_until(lambda: refused[0] > 60 and served[0] > 100, 20, "some of both")
    over.set()
    for thread in threads:
        thread.join()
    pooler.wait_no_clients()
    pooler.wait_idle()
    shown = {int(row["server_process_id"]) for row in pooler.admin("SHOW SERVERS")}
    assert shown == {row[0] for row in postgres.backends()} and len(shown) <= 3
    config = pooler.config
    config["general"]["query_wait_timeout"] = 20000
    pooler.write_config(config)
    pooler.admin("RELOAD")
    with holding(pooler, "trust_user", 3):
        assert pooler.pool_row()["sv_active"] == 3
