"""Capped databases where demands, grants and changes of mind meet."""

import asyncio
import contextlib
import time

import wire
from pooler import pool
from test_pool_coordinator import capped, coordinator, holding, reload_with, sv, users, wait_home
from waiting import stays, wait_until
from wire import AsyncWire

__all__ = ["capped"]  # a fixture


def ask(client, sql="SELECT 'served'"):
    client.send(wire.query(sql))


def served(client):
    return wire.rows(client.until_ready()) == [["served"]]


def waiting(pooler, user):
    return pooler.pool_row("app", user)["cl_waiting"]


def wait_for_waiters(pooler, user, count):
    wait_until(lambda: waiting(pooler, user) == count, 8, "%d waiting" % count)


def test_commit_of_another_user_serves_a_waiter_at_once(capped):
    """0.6 s is the limit; the best of a few, since the machine has other things to do."""
    pooler = capped(max_db_connections=2, min_connection_lifetime=50, reserve_pool_timeout=8000)
    took = []
    with holding(pooler, "one", 2) as owners:
        for owner in owners * 3:
            with pooler.client(user="two") as client:
                ask(client, "BEGIN; SELECT 'served'")
                wait_for_waiters(pooler, "two", 1)
                stays(lambda: waiting(pooler, "two") == 1, 0.1)
                began = time.monotonic()
                owner.query("COMMIT")
                assert served(client)
                took.append(time.monotonic() - began)
            # Back to where it was.
            owner.send(wire.query("BEGIN; SELECT 1"))
            owner.until_ready()
            row = coordinator(pooler)
            assert (row["reserve_acq"], row["exhaustions"], row["current"]) == (0, 0, 2)
            if min(took) < 0.6:
                return
    assert False, took


def test_permit_of_a_backend_that_ends_costs_nobody_another(capped, postgres):
    """Whoever is woken by a free permit takes that; what else could be had stays where it is."""
    pooler = capped(max_db_connections=3, min_connection_lifetime=1, reserve_pool_timeout=8000)
    with holding(pooler, "one", 3) as (first, second, _), contextlib.ExitStack() as stack:
        client = stack.enter_context(pooler.client(user="two"))
        ask(client, "BEGIN; SELECT 'served'")
        wait_for_waiters(pooler, "two", 1)
        postgres.terminate("pid = %d" % int(first.backend_pid()))
        assert served(client)
        second.query("COMMIT")
        assert coordinator(pooler)["evictions"] == 0
        assert (sv(pooler, "one"), sv(pooler, "two")) == (2, 1)
        assert second.value("SELECT 1") == "1"


def test_one_event_serves_one_of_many(capped):
    pooler = capped((5, 5, 5), max_db_connections=2, min_connection_lifetime=1,
                    reserve_pool_timeout=20000)
    with holding(pooler, "one", 2) as (first, second), contextlib.ExitStack() as stack:
        clients = [stack.enter_context(pooler.client(user=user)) for user in ("two", "three") * 3]
        for client in clients:
            ask(client, "BEGIN; SELECT 'served'")

        def still_waiting():
            return waiting(pooler, "two") + waiting(pooler, "three")

        wait_until(lambda: still_waiting() == 6, 8, "six waiting")
        for owner, left in ((first, 5), (second, 4)):
            owner.query("COMMIT")
            wait_until(lambda: still_waiting() == left, 8, "one of them to be served")
            stays(lambda: still_waiting() == left, 0.4, "the others' wait")
            row = coordinator(pooler)
            assert (row["current"], row["evictions"]) == (2, 6 - left)


def test_grant_that_nobody_collects_serves_others(capped):
    """Clients give up all the time, also between grant and connection; and there are more of them
    than there is reserve. In the end each permit is where it belongs, and of use to others."""
    pooler = capped((20, 20, 20), max_db_connections=2, reserve_pool_size=2,
                    min_connection_lifetime=1, reserve_pool_timeout=20,
                    general={"query_wait_timeout": "10s"})

    async def one(number, client):
        client.writer.write(wire.query("SELECT 1"))
        if number % 2:
            await asyncio.sleep(0.05 * (number % 30))
        else:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await client.until_ready()
        client.close()

    def slow_down():
        reload_with(pooler, startup_parameters={"post_auth_delay": "1"})

    async def flood():
        clients = [await AsyncWire().open(pooler.address, user)
                   for _ in range(20) for user in ("one", "two", "three")]
        # From now on a connection takes a second.
        await asyncio.get_running_loop().run_in_executor(None, slow_down)
        await asyncio.gather(*(one(*pair) for pair in enumerate(clients)))

    asyncio.run(flood())
    pooler.wait_no_clients()
    wait_home(pooler)
    assert coordinator(pooler)["exhaustions"] > 0
    reload_with(pooler, startup_parameters={})
    pooler.admin("RECONNECT")
    wait_home(pooler, 0)
    with holding(pooler, "two", 2), holding(pooler, "three", 2):
        row = coordinator(pooler)
        assert (row["current"], row["reserve_used"]) == (4, 2)


def test_permits_are_taken_only_for_what_can_be_opened_now(capped):
    """Twenty want connections, two of which can be opened at a time, slowly: the others leave the
    permits to other users, who need no reserve."""
    pooler = capped((20, 20), max_db_connections=20, reserve_pool_size=5,
                    startup_parameters={"post_auth_delay": "1"},
                    general={"scaling_max_parallel_creates": 2})
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(pooler.client(user="one")) for _ in range(20)]
        for client in clients:
            ask(client, "SELECT pg_sleep(5), 'served'")
        wait_until(lambda: pooler.pool_row("app", "one")["sv_login"] == 2, 8, "two in the making")
        other = stack.enter_context(pooler.client(user="two"))
        ask(other)
        wait_until(lambda: pooler.pool_row("app", "two")["sv_login"] == 1, 8, "one more")
        assert coordinator(pooler)["current"] <= sv(pooler, "one") + sv(pooler, "two") + 1
        assert sv(pooler, "one") <= 6
        assert served(other)
        assert coordinator(pooler)["reserve_acq"] == 0
        for client in clients:
            client.reset()
    pooler.wait_no_clients()


def test_reserve_that_was_given_back_is_of_use_again(capped):
    pooler = capped((5, 5, 5), max_db_connections=2, reserve_pool_size=1,
                    min_connection_lifetime=500, general={"retain_connections_time": 500})
    with holding(pooler, "one", 2), holding(pooler, "two", 1) as (client,):
        client.query("COMMIT")
        wait_until(lambda: coordinator(pooler)["reserve_used"] == 0, 1.5 + 6,
                   "the reserve to be free")
        with holding(pooler, "three", 1):
            row = coordinator(pooler)
            assert (row["reserve_used"], row["current"]) == (1, 3)
            assert row["reserve_acq"] >= 2  # more, if it rested long between login and query


def test_vanished_clients_of_two_users_leave_a_capped_database_usable(doorman, postgres):
    """One streams large rows, one asks; then they cancel, and their hosts die."""
    pooler = doorman(pools={"app": pool(postgres, users(4, 4), max_db_connections=4,
                                        reserve_pool_size=2, min_guaranteed_pool_size=1)},
                     general={"proxy_copy_data_timeout": 2000})
    clients = []
    for user, sql, count in (("one", "SELECT repeat('x', 30000000)", 4), ("two", "SELECT 1", 1)):
        for _ in range(count):
            client = wire.Wire(pooler.address, receive_buffer=4096)
            client.login(user)
            client.send(wire.query(sql))
            clients.append(client)
    for client in clients[:4]:
        client.take(50000)
    for client in clients:
        client.cancel()
        client.reset()
    for user in ("one", "two"):
        pooler.wait_idle(6 + 4, user=user)
        with pooler.client(user=user) as client:
            assert client.value("SELECT 1") == "1"
    wait_home(pooler)
