"""Tables about pools, in one known state: every column has the value that it is there for."""

import contextlib
import re

import psycopg2
import pytest

import wire
from pooler import ADMIN, pool, trust_user
from waiting import wait_until

SIZE, COUNTS = 2, re.compile(r"[0-9]+")


@pytest.fixture
def known(doorman, postgres):
    """Two clients in transactions on both backends, one that waits, one that does nothing."""
    pooler = doorman(pools={"app": pool(postgres, [trust_user(SIZE)], max_db_connections=5,
                                        reserve_pool_size=1)},
                     general={"query_wait_timeout": 60000})
    with contextlib.ExitStack() as stack:
        def client(name):
            return stack.enter_context(pooler.client(application_name=name))

        client("idle")
        busy = [client("busy") for _ in range(SIZE)]
        for one in busy:
            one.query("BEGIN")
            assert one.value("SELECT 1") == "1"
        waiting = client("waiting")
        waiting.send(wire.query("SELECT 1"))
        wait_until(lambda: pooler.pool_row()["cl_waiting"] == 1, 10, "one that waits")
        yield pooler
        for one in busy:
            one.query("COMMIT")
        waiting.until_ready()


def counts(row, *names):
    """Takes them out of the row: whole numbers, not negative."""
    taken = {}
    for name in names:
        value = row.pop(name)
        assert COUNTS.fullmatch(value), (name, value)
        taken[name] = int(value)
    return taken


def shown(pooler, table):
    return [{name: str(value) for name, value in row.items()}
            for row in pooler.admin("SHOW " + table)]


def only(pooler, table):
    row, = [r for r in shown(pooler, table) if r["database"] == "app"]
    return row


def test_pools(known):
    row = only(known, "POOLS")
    moving = counts(row, "maxwait_us", "avg_xact_time", "oldest_active_age_ms")
    assert row == {
        "database": "app", "user": "trust_user", "pool_mode": "transaction", "cl_idle": "1",
        "cl_active": "2", "cl_waiting": "1", "cl_cancel_req": "0", "sv_active": "2",
        "sv_idle": "0", "sv_used": "0", "sv_login": "0", "pool_size": str(SIZE), "maxwait": "0",
        "paused": "0", "fallback_active": "0"}
    assert moving["maxwait_us"] < 1000000
    wait_until(lambda: int(only(known, "POOLS")["oldest_active_age_ms"]) > 0, 5, "an age")
    known.admin("PAUSE")
    assert only(known, "POOLS")["paused"] == "1"
    known.admin("RESUME")
    assert only(known, "POOLS")["paused"] == "0"


def test_pools_extended(known):
    row = only(known, "POOLS_EXTENDED")
    moving = counts(row, "maxwait_us", "bytes_recieved", "bytes_sent", "query_0.99", "query_0.95",
                    "query_0.5", "transaction_0.99", "transaction_0.95", "transaction_0.5")
    wait = row.pop("maxwait")
    assert re.fullmatch(r"0|0\.[0-9]{0,5}[1-9]", wait), wait
    assert round(float(wait) * 1000000) % 1000000 == moving["maxwait_us"]
    assert row == {
        "database": "app", "user": "trust_user", "cl_active": "2", "cl_waiting": "1",
        "sv_active": "2", "sv_idle": "0", "sv_used": "0", "sv_login": "0",
        "pool_size": str(SIZE), "pool_mode": "transaction"}
    assert moving["bytes_recieved"] > moving["bytes_sent"] > 0, "replies are longer than requests"
    # Of the last 15 seconds, in which nothing may have been asked: test_pool_times.py has values.
    assert moving["query_0.99"] >= moving["query_0.95"] >= moving["query_0.5"] >= 0


def test_stats(known):
    row = only(known, "STATS")
    moving = counts(row, "total_received", "total_sent", "total_query_time", "total_wait_time",
                    "avg_xact_count", "avg_query_count", "avg_recv", "avg_sent", "avg_errors",
                    "avg_xact_time", "avg_query_time", "avg_wait_time")
    # BEGIN goes to the server with what follows it; none of the transactions has ended.
    assert row == {"database": "app", "user": "trust_user", "total_xact_count": "0",
                   "total_query_count": row["total_query_count"], "total_xact_time": "0",
                   "total_errors": "0"}
    assert int(row["total_query_count"]) in (2, 4)
    assert moving["total_received"] > moving["total_sent"] > 0 < moving["total_query_time"]


def test_servers(known, postgres):
    backends = {str(pid) for pid, *_ in postgres.backends()}
    rows = shown(known, "SERVERS")
    assert {row["server_process_id"] for row in rows} == backends and len(rows) == SIZE
    assert len({row["server_id"] for row in rows}) == SIZE
    for row in rows:
        moving = counts(row, "transaction_count", "query_count", "bytes_sent", "bytes_received",
                        "age_seconds", "prepare_cache_hit", "prepare_cache_miss",
                        "prepare_cache_size")
        assert re.fullmatch(r"0x[0-9A-F]{8}", row.pop("server_id"))
        row.pop("server_process_id")
        assert row == {"database_name": "app", "user": "trust_user", "application_name": "busy",
                       "tls": "false", "state": "active", "wait": "idle"}
        assert moving["transaction_count"] == 0 < moving["query_count"]
        assert moving["bytes_received"] > moving["bytes_sent"] > 0
        assert moving["prepare_cache_size"] == 0 and moving["age_seconds"] < 60


def test_clients(known):
    rows = shown(known, "CLIENTS")
    numbers = [int(row.pop("client_id")[2:]) for row in rows]
    assert numbers == sorted(set(numbers))
    found = []
    for row in rows:
        counts(row, "transaction_count", "query_count", "error_count", "age_seconds")
        assert re.fullmatch(r"127\.0\.0\.1:[0-9]+", row.pop("addr")) and row.pop("tls") == "false"
        found.append(tuple(row.values()))
    mine = ("app", "trust_user")
    assert found[:-1] == [mine + ("idle", "idle", "read"), mine + ("busy", "active", "read"),
                          mine + ("busy", "active", "read"), mine + ("waiting", "waiting", "idle")]
    assert found[-1][:2] == ("pgdoorman", ADMIN["user"])


def test_pool_coordinator(known):
    assert shown(known, "POOL_COORDINATOR") == [{
        "database": "app", "max_db_conn": "5", "current": str(SIZE), "reserve_size": "1",
        "reserve_used": "0", "evictions": "0", "reserve_acq": "0", "exhaustions": "0"}]


def test_pool_scaling(known):
    row = only(known, "POOL_SCALING")
    assert list(row)[:2] == ["user", "database"]
    counts(row, "gate_waits", "gate_budget_ex", "antic_notify", "antic_timeout", "create_fallback")
    assert row == {"user": "trust_user", "database": "app", "inflight": "0",
                   "creates": str(SIZE), "replenish_def": "0"}


def test_tables_that_count_all_pools(known):
    database, = shown(known, "DATABASES")
    assert {k: database[k] for k in ("name", "force_user", "pool_size", "min_pool_size",
                                     "reserve_pool", "max_connections", "current_connections")} == {
        "name": "app", "force_user": "trust_user", "pool_size": str(SIZE), "min_pool_size": "0",
        "reserve_pool": "0", "max_connections": str(SIZE), "current_connections": str(SIZE)}
    lists = {row["list"]: int(row["items"]) for row in shown(known, "LISTS")}
    assert (lists["databases"], lists["users"], lists["pools"]) == (2, 2, 2)
    assert (lists["free_servers"], lists["used_servers"]) == (0, SIZE)


@pytest.mark.parametrize("table", ["POOLS", "POOLS_EXTENDED", "STATS", "SERVERS", "CLIENTS",
                                   "POOL_COORDINATOR", "POOL_SCALING", "DATABASES", "LISTS"])
def test_types_have_the_length_of_their_kind(known, table):
    # psycopg2 passes on what RowDescription says.
    connection = psycopg2.connect(host="127.0.0.1", port=known.port, dbname="pgdoorman", **ADMIN)
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("SHOW " + table)
            lengths = {column.name: (column.type_code, column.internal_size)
                       for column in cursor.description}
    finally:
        connection.close()
    assert set(lengths.values()) <= {(25, -1), (1700, -1), (23, 4)}, lengths
