"""What may take only so long: silence, queries, sides that take no bytes."""

import json
import os
import signal
import time

import pytest

import wire
from pooler import ADMIN, configuration, pool, run_program, trust_user
from waiting import stays, wait_until
from wire import query


def ending(client):
    error, = wire.errors(client.wait_closed())
    return error["S"], error["C"], error["M"]


def test_silent_client_outside_of_transactions(doorman):
    pooler = doorman(general={"client_idle_timeout": "500ms"})
    with pooler.client() as never, pooler.client() as client, pooler.client() as busy:
        client.value("SELECT 1")
        busy.query("BEGIN; SELECT 1")
        for silent in (never, client):
            assert ending(silent) == ("FATAL", "57P05",
                                      "terminating connection due to idle-session timeout")
        assert busy.value("SELECT 1") == "1"


def test_busy_client_is_not_silent(doorman):
    with doorman(general={"client_idle_timeout": "2s"}).client() as client:
        end = time.monotonic() + 2.6
        while time.monotonic() < end:
            client.value("SELECT pg_sleep(0.1)")


@pytest.mark.parametrize("begin", ["BEGIN", "BEGIN; SELECT 1"], ids=["owed", "begun"])
def test_silent_client_in_a_transaction(doorman, postgres, begin):
    pooler = doorman(pool_size=1, general={"idle_transaction_timeout": "500ms"})
    with pooler.client() as client:
        client.query(begin)
        assert ending(client) == ("FATAL", "25P03",
                                  "terminating connection due to idle-in-transaction timeout")
    with pooler.client() as client:
        assert client.value("SELECT 1") == "1"


def test_query_that_runs_too_long_is_cancelled(doorman):
    with doorman(pool_size=1, general={"query_timeout": "500ms"}).client() as client:
        pid = client.backend_pid()
        error, = wire.errors(client.query("SELECT pg_sleep(30)"))
        assert error["C"] == "57014"
        assert client.backend_pid() == pid


def test_limits_of_a_reload_reach_connected_clients(doorman, postgres):
    pooler = doorman(general={"client_idle_timeout": "1h"})

    def reload(**general):
        pools = {"app": pool(postgres, [trust_user(2)])}
        pooler.write_config(configuration(pooler.port, pools, **general))
        pooler.admin("RELOAD")

    with pooler.client() as silent, pooler.client() as client:
        reload()
        reload(query_timeout="500ms")
        assert wire.sqlstates(client.query("SELECT pg_sleep(30)")) == ["57014"]
        reload(idle_transaction_timeout="500ms")
        client.query("BEGIN; SELECT 1")
        assert ending(client)[1] == "25P03"
        assert silent.value("SELECT 1") == "1"
        reload(client_idle_timeout="500ms")
        assert ending(silent)[1] == "57P05"


def test_slow_reader_is_served_as_long_as_it_reads(doorman):
    """S-30: the limit is on progress, not on the whole."""
    pooler = doorman(pool_size=1, general={"proxy_copy_data_timeout": "2s"})
    with pooler.wire(receive_buffer=65536) as client:
        client.login()
        client.send(query("SELECT repeat('x', 6000000)"))
        for _ in range(14):
            client.take(100000)
            time.sleep(0.3)  # together twice the limit, each far below it
        assert pooler.pool_row()["sv_active"] == 1
        client.buffer.clear()


def test_client_that_never_reads_does_not_hold_its_backend(doorman, tmp_path):
    """S-33, rows 4 and 5: not before its time, and not much longer; the servers are free then."""
    pooler = doorman(pool_size=4, general={"proxy_copy_data_timeout": "2s",
                                           "unix_socket_dir": str(tmp_path)})
    clients = []
    for address in (pooler.address, "%s/.s.PGSQL.%d" % (tmp_path, pooler.port)):
        for sql in ("SELECT repeat('x', 50000000)",
                    "COPY (SELECT repeat('x', 4000000) FROM generate_series(1, 5)) TO STDOUT"):
            client = wire.Wire(address, receive_buffer=4096)
            clients.append(client)
            client.login()
            client.send(query(sql))
    wait_until(lambda: pooler.pool_row()["sv_active"] == 4, 5, "four busy backends")
    stays(lambda: pooler.pool_row()["sv_active"] == 4, 1, "all of them")
    pooler.wait_idle(10)
    for client in clients:
        client.close()
    others = [pooler.client() for _ in range(4)]
    for other in others:
        other.query("BEGIN")
        assert other.rows("SELECT 'own row'") == [["own row"]]


def test_large_messages_are_counted_as_streamed(doorman, tmp_path):
    """message_size_to_be_stream: by kind, to their end or not, and in bytes."""
    pooler = doorman(pool_size=1, general={"message_size_to_be_stream": "64KB"})

    def streams():
        path = tmp_path / "snapshot"
        with pooler.client("pgdoorman", ADMIN["user"], ADMIN["password"]) as admin:
            path.write_bytes(bytes.fromhex(admin.value("SNAPSHOT")[2:]))
        document = json.loads(run_program("inspect", "--json", str(path)).stdout)
        return find(document, "streams")

    with pooler.client() as client:
        client.query("SELECT repeat('x', 60000)")
        client.query("COPY (SELECT repeat('x', 70000)) TO STDOUT")
        client.query("SELECT repeat('x', 300000) FROM generate_series(1, 2)")
        assert streams() == {"data_row": [2, 0, 2 * (300000 + 11)],
                             "copy_data": [1, 0, 70000 + 1 + 5],
                             "function_call_response": [0, 0, 0]}
        client.send(query("SELECT repeat('x', 50000000)"))
        client.take(100000)
        client.reset()
    pooler.wait_idle()
    ended, broken, size = streams()["data_row"]
    # Small enough for the limit on what is read for nobody, or cut off by it.
    assert ended + broken == 3 and size > 600022


def find(document, key):
    """The first value of that key, at whatever depth."""
    if isinstance(document, dict):
        if key in document:
            return document[key]
        document = list(document.values())
    if isinstance(document, list):
        for item in document:
            found = find(item, key)
            if found is not None:
                return found
    return None


@pytest.mark.slow
def test_server_that_takes_nothing(doorman):
    """Row 16: 58006 after five seconds, readable, not a reset."""
    pooler = doorman(pool_size=2, general={"prepared_statements": False})
    text = "SELECT '" + "x" * (8 << 20) + "'"
    clients = [pooler.client(), pooler.client()]
    for client in clients:
        client.query("BEGIN; SELECT 1")
    pids = [client.backend_pid() for client in clients]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        for client, sent in zip(clients, (query(text), wire.extended(text) + wire.sync())):
            client.send(sent)
        for client in clients:
            assert ending(client)[1:] == (
                "58006", "pooler is shut down now (flush timeout: server did not accept data "
                         "within the timeout period)")
            assert time.monotonic() - begun > 4.5
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    pooler.wait_idle()
