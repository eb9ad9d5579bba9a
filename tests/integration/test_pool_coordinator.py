"""Several users of one database under max_db_connections: who gets a connection, from whom."""

import contextlib
import threading
import time

import pytest

import wire
from pooler import pool
from waiting import stays, wait_until


def users(*sizes, **more):
    """one, two, three ... with these pool sizes, all trust_user on the server."""
    names = ("one", "two", "three")
    return [{"username": name, "password": "", "pool_size": size, "server_username": "trust_user",
             **more} for name, size in zip(names, sizes)]


@pytest.fixture
def capped(doorman, postgres):
    def start(sizes=(5, 5), general=None, user=None, **settings):
        pooler = doorman(pools={"app": pool(postgres, users(*sizes, **(user or {})), **settings)},
                         general=general)
        # A user's first login needs a backend; what follows shall find none.
        for name, _ in zip(("one", "two", "three"), sizes):
            pooler.client(user=name).close()
            pooler.admin("RECONNECT")
        if not (user or {}).get("min_pool_size"):
            wait_until(lambda: not postgres.backends(), 5, "no backend")
        return pooler

    return start


@contextlib.contextmanager
def holding(pooler, user, count):
    """So many clients of that user, each inside a transaction."""
    clients = [pooler.client(user=user) for _ in range(count)]
    try:
        for client in clients:
            client.query("BEGIN")
            assert client.value("SELECT 1") == "1"
        yield clients
    finally:
        for client in clients:
            client.close()


def coordinator(pooler):
    row, = pooler.admin("SHOW POOL_COORDINATOR")
    return {name: value if name == "database" else int(value) for name, value in row.items()}


def warm(pooler, user, count):
    """Leaves so many idle backends."""
    with holding(pooler, user, count) as clients:
        for client in clients:
            client.query("COMMIT")


def error_of(client, sql="SELECT 1"):
    error, = wire.errors(client.query(sql))
    return error


def sv(pooler, user):
    row = pooler.pool_row("app", user)
    return row["sv_idle"] + row["sv_active"] + row["sv_login"]


def wait_home(pooler, current=None):
    """Permits are as many as backends."""
    def home():
        found = coordinator(pooler)["current"]
        return found == sum(sv(pooler, row["user"]) for row in pooler.admin("SHOW POOLS")) \
            and (current is None or found == current)
    wait_until(home, 10, "as many permits as backends")


# ---- the cap, the reserve


def test_name_of_a_user_may_be_long(doorman):
    name = "u" * 300
    pooler = doorman(max_db_connections=2, user={"username": name, "server_username": "trust_user"})
    with pooler.client(user=name) as client:
        assert client.value("SELECT 1") == "1"
    assert coordinator(pooler)["current"] == 1


def test_beyond_the_cap_is_an_error_that_names_database_and_limit(capped):
    pooler = capped((5,), max_db_connections=2, reserve_pool_timeout=500)
    with holding(pooler, "one", 2), pooler.client(user="one") as third:
        error = error_of(third)
        assert error["C"] == "53300"
        assert "all server connections to database 'app' are in use (max=2, user='one')" \
            in error["M"]
        assert coordinator(pooler) == {
            "database": "app", "max_db_conn": 2, "current": 2, "reserve_size": 0,
            "reserve_used": 0, "evictions": 0, "reserve_acq": 0, "exhaustions": 1}


def test_reserve_serves_what_the_cap_does_not(capped):
    pooler = capped(max_db_connections=2, reserve_pool_size=1, reserve_pool_timeout=500)
    with holding(pooler, "one", 2), holding(pooler, "two", 1):
        row = coordinator(pooler)
        assert (row["current"], row["reserve_used"], row["reserve_acq"]) == (3, 1, 1)
        with pooler.client(user="two") as fourth:
            assert "in use (max=2, reserve=1/1, user='two')" in error_of(fourth)["M"]


def test_reserve_in_session_mode(capped):
    pooler = capped(max_db_connections=2, reserve_pool_size=1, pool_mode="session")
    with holding(pooler, "one", 2), pooler.client(user="two") as client:
        assert client.value("SELECT 7") == "7"


def test_a_return_to_the_own_pool_serves_a_client_that_waits_for_a_permit(capped):
    """More pool_size than cap: whatever comes first, return or permit."""
    pooler = capped((5,), max_db_connections=2)
    with holding(pooler, "one", 2) as (first, _), pooler.client(user="one") as third:
        third.send(wire.query("SELECT 'served'"))
        wait_until(lambda: pooler.pool_row("app", "one")["cl_waiting"] == 1, 5, "a waiting client")
        first.query("COMMIT")
        assert wire.rows(third.until_ready()) == [["served"]]
        assert coordinator(pooler)["exhaustions"] == 0


def test_prewarm_stays_within_the_cap(capped):
    pooler = capped((5,), max_db_connections=2, user={"min_pool_size": 2})
    wait_until(lambda: coordinator(pooler)["current"] == 2, 5, "two backends")
    stays(lambda: coordinator(pooler)["current"] == 2, 0.5)


# ---- eviction


def test_idle_backend_of_another_user_is_evicted(capped):
    pooler = capped(max_db_connections=2, min_connection_lifetime=100)
    warm(pooler, "one", 2)
    with holding(pooler, "two", 1):
        row = coordinator(pooler)
        assert (row["current"], row["evictions"], row["reserve_acq"]) == (2, 1, 0)
        assert sv(pooler, "one") == 1
    wait_until(lambda: "[one@app] gives a connection to user two, 1 stay"
               in pooler.log(), 5, "a line in the log")


def test_guaranteed_minimum_is_not_taken(capped):
    pooler = capped(max_db_connections=2, min_connection_lifetime=50, reserve_pool_size=1,
                    reserve_pool_timeout=500, min_guaranteed_pool_size=2)
    warm(pooler, "one", 2)
    with holding(pooler, "two", 1), pooler.client(user="two") as more:
        assert coordinator(pooler)["reserve_used"] == 1
        assert "all server connections" in error_of(more)["M"]
        assert sv(pooler, "one") == 2
        assert coordinator(pooler)["evictions"] == 0


def test_young_backends_are_not_taken(capped):
    pooler = capped(max_db_connections=3, min_connection_lifetime=30000, reserve_pool_timeout=300)
    warm(pooler, "one", 3)
    with pooler.client(user="two") as client:
        assert "all server connections" in error_of(client)["M"]
    assert sv(pooler, "one") == 3


def test_backends_become_old_enough_while_somebody_waits(capped):
    pooler = capped(max_db_connections=2, min_connection_lifetime=1000)
    warm(pooler, "one", 2)
    with pooler.client(user="two") as client:
        assert client.value("SELECT 1") == "1"
    assert coordinator(pooler)["evictions"] == 1


def test_three_at_once_are_served_by_three_evictions(capped):
    pooler = capped(max_db_connections=5, min_connection_lifetime=100)
    warm(pooler, "one", 5)
    with holding(pooler, "two", 3):
        row = coordinator(pooler)
        assert (row["current"], row["evictions"]) == (5, 3)
        assert sv(pooler, "one") == 2


def test_waiter_is_served_when_the_other_user_commits(capped):
    pooler = capped(max_db_connections=2, min_connection_lifetime=50, reserve_pool_timeout=5000)
    with holding(pooler, "one", 2) as (first, _), pooler.client(user="two") as client:
        client.send(wire.query("SELECT 'served'"))
        wait_until(lambda: pooler.pool_row("app", "two")["cl_waiting"] == 1, 5, "a waiting client")
        first.query("COMMIT")
        assert wire.rows(client.until_ready()) == [["served"]]
        row = coordinator(pooler)
        assert (row["reserve_acq"], row["exhaustions"], row["evictions"]) == (0, 0, 1)


def test_a_busy_pool_gives_one_up_at_its_next_return(capped):
    """The other pool always has clients that wait, so none of its backends is ever idle."""
    pooler = capped(max_db_connections=2, min_connection_lifetime=50, reserve_pool_timeout=8000)
    with holding(pooler, "one", 2) as holders, contextlib.ExitStack() as stack:
        waiting = [stack.enter_context(pooler.client(user="one")) for _ in range(4)]
        for client in waiting:
            client.send(wire.query("SELECT pg_sleep(0.2)"))
        wait_until(lambda: pooler.pool_row("app", "one")["cl_waiting"] == 4, 5, "four waiting")
        with pooler.client(user="two") as client:
            client.send(wire.query("SELECT 'served'"))
            wait_until(lambda: pooler.pool_row("app", "two")["cl_waiting"] == 1, 5, "one waiting")
            holders[0].query("COMMIT")
            assert wire.rows(client.until_ready()) == [["served"]]
        for client in waiting:
            assert wire.errors(client.until_ready()) == []
        assert coordinator(pooler)["current"] <= 2


def test_what_was_promised_may_end_for_another_reason(capped):
    """Connections that were to be given up at their return are closed because of RECONNECT: that
    gives them up as well, and nothing more is owed."""
    pooler = capped(max_db_connections=4, min_connection_lifetime=1, reserve_pool_timeout=20000,
                    general={"scaling_max_parallel_creates": 4})
    with holding(pooler, "one", 4) as owners, contextlib.ExitStack() as stack:
        waiting = [stack.enter_context(pooler.client(user="two")) for _ in range(4)]
        for client in waiting:
            client.send(wire.query("BEGIN; SELECT 7"))
        wait_until(lambda: pooler.pool_row("app", "two")["cl_waiting"] == 4, 5, "four waiters")
        pooler.admin("RECONNECT")
        for client in owners:
            client.query("COMMIT")
        for client in waiting:
            assert wire.rows(client.until_ready()) == [["7"]]
        wait_home(pooler, 4)
        for client in waiting:
            client.query("COMMIT")
        # Nobody wants anything: what is returned stays.
        assert sv(pooler, "two") == 4


def test_the_larger_surplus_gives_first(capped):
    pooler = capped((4, 4, 4), max_db_connections=5, min_connection_lifetime=1)
    warm(pooler, "one", 2)
    warm(pooler, "two", 3)
    wait_until(lambda: coordinator(pooler)["current"] == 5, 5, "five backends")
    with holding(pooler, "three", 1):
        assert (sv(pooler, "one"), sv(pooler, "two")) == (2, 2)


def test_among_equals_the_slower_pool_gives_first(capped):
    pooler = capped((4, 4, 4), max_db_connections=4, min_connection_lifetime=100)
    warm(pooler, "one", 2)
    warm(pooler, "two", 2)
    with pooler.client(user="two") as slow, pooler.client(user="one") as quick:
        for _ in range(4):
            slow.value("SELECT pg_sleep(0.3)")
            quick.value("SELECT 1")
    time.sleep(3.5)  # the ranking is as of the latest roll of the percentiles, every three seconds
    with holding(pooler, "three", 1):
        assert (sv(pooler, "one"), sv(pooler, "two")) == (2, 1)


# ---- at rest


def test_reserve_becomes_main_when_main_has_room(capped):
    pooler = capped(max_db_connections=2, reserve_pool_size=1, min_connection_lifetime=30000)
    with holding(pooler, "one", 2) as (first, _), holding(pooler, "two", 1):
        assert coordinator(pooler)["reserve_used"] == 1
        first.close()
        pooler.admin("RECONNECT app")
    wait_until(lambda: coordinator(pooler)["reserve_used"] == 0, 5, "the reserve to be free")
    wait_home(pooler)


def test_rested_backends_are_closed_for_the_reserve(capped):
    pooler = capped(max_db_connections=2, reserve_pool_size=1, min_connection_lifetime=300,
                    general={"retain_connections_time": 300})
    with holding(pooler, "one", 2), holding(pooler, "two", 1) as (client,):
        client.query("COMMIT")
        wait_until(lambda: coordinator(pooler)["reserve_used"] == 0, 10, "the reserve to be free")
        assert sv(pooler, "one") == 2
        assert coordinator(pooler)["evictions"] == 0


def test_all_permits_are_home_when_all_backends_are_gone(capped):
    pooler = capped((20, 20, 20), max_db_connections=10, reserve_pool_size=5,
                    min_connection_lifetime=10, pool_mode="transaction")

    def work(user, failures):
        with pooler.client(user=user) as client:
            for _ in range(20):
                failures += wire.errors(client.query("SELECT pg_sleep(0.002)"))

    failures = []
    threads = [threading.Thread(target=work, args=(user, failures))
               for user in ("one", "two", "three") for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    pooler.admin("RECONNECT")
    wait_home(pooler, 0)


def test_permits_of_failed_connections_come_back(capped, postgres):
    pooler = capped(max_db_connections=2, general={"query_wait_timeout": "1s"})
    warm(pooler, "one", 2)
    postgres.stop()
    for user in ("one", "two"):
        with contextlib.suppress(wire.Closed, AssertionError), pooler.client(user=user) as client:
            client.query("SELECT 1")
    wait_home(pooler, 0)
    postgres.start()
    with holding(pooler, "two", 2):
        assert coordinator(pooler)["current"] == 2
    wait_home(pooler)


# ---- RELOAD


def reload_with(pooler, **settings):
    config = pooler.config
    config["pools"]["app"].update(settings)
    pooler.write_config(config)
    pooler.admin("RELOAD")


def test_cap_comes_changes_and_goes_with_reload(capped):
    pooler = capped((5, 5))
    with holding(pooler, "one", 3):
        assert pooler.admin("SHOW POOL_COORDINATOR") == []
        reload_with(pooler, max_db_connections=2, reserve_pool_timeout=300)
        wait_until(lambda: coordinator(pooler)["current"] == 3, 5, "those that are there to count")
        with pooler.client(user="two") as client:
            assert "(max=2, user='two')" in error_of(client)["M"]
        reload_with(pooler, max_db_connections=4)
        with holding(pooler, "two", 1):
            row = coordinator(pooler)
            assert (row["max_db_conn"], row["current"], row["exhaustions"]) == (4, 4, 1)
        reload_with(pooler, max_db_connections=0)
        assert pooler.admin("SHOW POOL_COORDINATOR") == []
        with holding(pooler, "two", 3):
            pass
    reload_with(pooler, max_db_connections=9)
    wait_home(pooler)


def test_raised_cap_serves_those_who_wait(capped):
    pooler = capped((5, 5), max_db_connections=1)
    with holding(pooler, "one", 1), pooler.client(user="two") as client:
        client.send(wire.query("SELECT 'served'"))
        wait_until(lambda: pooler.pool_row("app", "two")["cl_waiting"] == 1, 5, "a waiting client")
        reload_with(pooler, max_db_connections=2)
        assert wire.rows(client.until_ready()) == [["served"]]


def test_removed_user_keeps_its_permits_until_its_backends_end(capped, postgres):
    pooler = capped((5, 5), max_db_connections=2, reserve_pool_timeout=300)
    with holding(pooler, "two", 2) as (first, second):
        config = pooler.config
        config["pools"]["app"]["users"] = users(5)
        pooler.write_config(config)
        pooler.admin("RELOAD")
        with pooler.client(user="one") as client:
            client.send(wire.query("SELECT 1"))
            assert "all server connections" in wire.errors(client.until_ready())[0]["M"]
        first.query("COMMIT")
        second.query("COMMIT")
    with holding(pooler, "one", 2):
        assert coordinator(pooler)["current"] == 2
