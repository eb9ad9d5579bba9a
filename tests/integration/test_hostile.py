"""Sequences that nobody sends but those who mean harm, and a few that only look like it.

After each the one backend must be free for others, and clients must have been told nothing but the
truth.
"""

import os
import re

import pytest

import wire
from pooler import ADMIN, ADMIN_DATABASE, SANITIZED, run_program
from waiting import stays, wait_until
from wire import (bind, close, copy_data, copy_done, describe, essence, execute, flush, message,
                  parse, query, sync)


@pytest.fixture
def pooler(doorman):
    """One backend, which holds two statements at most; afterwards it must be free."""
    started = doorman(pool_size=1, general={
        "server_prepared_statements_cache_size": 2, "proxy_copy_data_timeout": 2000,
        "pooler_check_query": ";", "max_memory_usage": "4MB"})
    yield started
    assert started.running(), started.log()[-3000:]
    free(started)


def free(pooler):
    with pooler.client() as other:
        assert other.value("SELECT 'free'") == "free"
    pooler.wait_idle(5)


def push_for(client, data, times, seconds=2):
    """Sends as much of it as is taken; how many bytes that was."""
    client.sock.settimeout(seconds)
    sent = 0
    try:
        for _ in range(times):
            client.send(data)
            sent += len(data)
    except OSError:
        pass
    return sent


# ---- Flush, Sync, errors


def test_flush_alone_takes_no_backend(pooler):
    client = pooler.client()
    client.send(flush())
    stays(lambda: pooler.pool_row()["sv_active"] == 0, 0.2, "a pool without loans")
    free(pooler)


def test_many_flushes(pooler):
    client = pooler.client()
    client.send(flush() * 50000, query("SELECT 1"))
    assert essence(client.until_ready()) == "TDCZ"


def test_query_behind_an_error_is_skipped(pooler):
    """As the server does: it reads nothing but Sync."""
    client = pooler.client()
    client.send(parse("", "SELEC"), flush())
    client.until("E")
    client.send(query("SELECT 1"), sync())
    assert essence(client.until_ready()) == "Z"
    free(pooler)
    assert client.value("SELECT 2") == "2"


def test_large_batch_late_in_a_transaction(pooler):
    """Begun before its Sync has come, when the lease has had its share of batches."""
    client = pooler.client()
    client.query("BEGIN")
    for _ in range(70):
        client.value("SELECT 1")
    client.send((parse("", "SELECT 1") + bind() + describe("P") + execute()) * 3000, sync())
    assert essence(client.until_ready()) == "12TDC" * 3000 + "Z"
    client.query("COMMIT")


# ---- prepared statements over their bound


def test_error_in_a_batch_that_exceeds_the_bound(pooler):
    client = pooler.client()
    client.send(parse("a", "SELECT 1"), parse("b", "SELECT 2"), sync())
    client.until_ready()
    client.send(parse("c", "SELECT 3"), bind("", "c", ["too", "many"]), execute(), sync())
    assert essence(client.until_ready()) == "1EZ"
    for name, value in zip("abcabc", "123123"):
        client.send(bind("", name), execute(), sync())
        messages = client.until_ready()
        assert not wire.errors(messages)
        assert wire.rows(messages) == [[value]]


def test_flushed_error_over_the_bound(pooler):
    client = pooler.client()
    client.send(parse("a", "SELECT 1"), parse("b", "SELECT 2"), sync())
    client.until_ready()
    client.send(parse("c", "SELECT 3"), bind("", "c", ["too", "many"]), flush())
    client.until("E")
    client.send(sync())
    assert essence(client.until_ready()) == "Z"
    free(pooler)


def test_failed_parses_that_nobody_holds(pooler):
    client = pooler.client()
    for i in range(10):
        client.send(parse("", "SELEC %d" % i), parse("", "SELECT %d + 1" % i),
                    parse("", "SELECT %d + 2" % i), bind(), execute(), sync())
        assert essence(client.until_ready()) == "EZ"
        client.send(parse("", "SELECT %d + 1" % i), parse("", "SELECT %d + 2" % i), bind(),
                    execute(), sync())
        assert essence(client.until_ready()) == "112DCZ"


def test_second_batch_does_not_pay_for_the_first(pooler):
    """It counts on a statement that the first one would have prepared, had it not failed."""
    client = pooler.client()
    for i in range(10):
        text = "SELECT %d::int8" % i
        client.send(bind("", "missing"), parse("", text), bind(), execute(), sync(),
                    parse("", text), bind(), execute(), sync())
        assert essence(client.until_ready(2)) == "EZ12DCZ"


def test_statement_deallocated_by_hand(pooler):
    client = pooler.client()
    client.send(parse("a", "SELECT 7"), sync())
    client.until_ready()
    name, = client.rows("SELECT name FROM pg_prepared_statements")[0]
    client.query('DEALLOCATE "%s"' % name)
    for _ in range(3):
        client.send(bind("", "a"), execute(), sync())
        messages = client.until_ready()
    assert wire.rows(messages) == [["7"]]


# ---- COPY


def test_sync_behind_a_copy_query(pooler, table):
    client = pooler.client()
    client.send(query("COPY %s FROM STDIN" % table("a text")), sync())
    client.until("G")
    client.send(copy_data(b"x\n"), copy_done())
    assert wire.tags(client.until_ready()) == ["COPY 1"]


@pytest.mark.parametrize("where", ["there", "nowhere"])
@pytest.mark.parametrize("how", ["simple", "extended"])
def test_copy_data_ahead_of_the_answer(pooler, table, how, where):
    name = table("a text") if where == "there" else "nowhere"
    client = pooler.client()
    sql = "COPY %s FROM STDIN" % name
    for _ in range(3):
        if how == "simple":
            client.send(query(sql), copy_data(b"x\n"), copy_data(b"y\n"), copy_done())
        else:
            client.send(parse("", sql), bind(), execute(), copy_data(b"x\ny\n"), copy_done(),
                        sync())
        messages = client.until_ready()
        assert wire.sqlstates(messages) == ([] if where == "there" else ["42P01"])
        assert wire.tags(messages) == (["COPY 2"] if where == "there" else [])
        assert client.value("SELECT 'q'") == "q"


# ---- clients that do not read


def test_told_off_with_unread_output(pooler):
    client = pooler.wire(receive_buffer=4096).login()
    client.send(query("SELECT repeat('x', 1000) FROM generate_series(1, 100000)"))
    wait_until(lambda: "write" in [row["wait"] for row in pooler.admin("SHOW CLIENTS")], 10,
               "the pooler to have something to write")
    client.send(message("?"))
    pooler.wait_idle(20)


def test_local_answers_unread(pooler):
    client = pooler.wire(receive_buffer=4096).login()
    client.query(";")
    count = 20000
    assert push_for(client, query(";") * 1000, 2000) < 30 << 20
    client.sock.settimeout(30)
    client.until_ready(count)
    client.reset()


# ---- memory


@pytest.mark.slow
def test_pipelined_queries_are_not_hoarded(pooler):
    client = pooler.client()
    for _ in range(70):
        client.send(query("SELECT pg_sleep(0.2)"))
    before = pooler.own_bytes()
    sent = push_for(client, query("SELECT '%s'" % ("x" * 1000)) * 1000, 100)
    assert sent < 40 << 20
    if not SANITIZED:
        assert pooler.own_bytes() < before + (4 << 20)
    client.reset()
    pooler.wait_idle(30)


@pytest.mark.slow
def test_pipelined_parses_are_not_hoarded(pooler):
    client = pooler.client()
    client.send(parse("", "SELECT 1"), sync())
    client.until_ready()
    client.send(parse("z", "SELECT pg_sleep(8)"), bind("", "z"), execute(), flush())
    assert push_for(client, parse("", "SELECT 1") * 2000, 4000) < 30 << 20
    client.reset()
    pooler.wait_idle(30)


def large(megabytes):
    return parse("x", "SELECT '%s'" % ("x" * (megabytes << 20)))


def test_message_that_can_never_fit(pooler):
    client = pooler.client()
    client.push(large(5)[:1000])
    messages = client.wait_closed()
    assert wire.sqlstates(messages) == ["53200"] and wire.types(messages) == "EZ"
    assert wire.errors(messages)[0]["M"] == (
        "Server is temporarily out of memory. Please try again later or reduce the size of your "
        "query.")


def held(pooler):
    """Bytes of unfinished messages, as far as they count."""
    path = os.path.join(pooler.directory, "snapshot")
    with pooler.client(ADMIN_DATABASE, ADMIN["user"], ADMIN["password"]) as admin:
        with open(path, "wb") as file:
            file.write(bytes.fromhex(admin.value("SNAPSHOT")[2:]))
    return int(re.search(r"input_held: (\d+)", run_program("inspect", path).stdout)[1])


def test_messages_that_do_not_fit_together(pooler):
    data = large(3)
    clients = [pooler.client() for _ in range(3)]
    patient = pooler.client()
    for client in clients[:2]:
        client.push(data[:1900000])
    wait_until(lambda: held(pooler) > 3 << 20, 10, "the messages of two to be there")
    clients[2].push(data[:1900000])
    assert wire.sqlstates(clients[2].wait_closed()) == ["53200"]
    # Those who hold little do not notice, and what was held is given back.
    assert patient.value("SELECT 'p'") == "p"
    for client in clients[:2]:
        client.reset()
    pooler.wait_idle()
    wait_until(lambda: len(pooler.admin("SHOW CLIENTS")) == 2, 10, "the others to be gone")
    patient.send(data, sync())
    assert essence(patient.until_ready()) == "1Z"


def test_promises_do_not_count(pooler):
    clients = [pooler.client() for _ in range(5)]
    for client in clients:
        client.push(large(3)[:1000])
    with pooler.client() as other:
        other.send(large(3), sync())
        assert essence(other.until_ready()) == "1Z"


# ---- the check query


def test_check_query_with_something_behind_it(pooler):
    """Its reply is kept for all; what came with it is not."""
    client = pooler.client()
    client.send(query(";"), query("SELECT 'secret'"))
    assert essence(client.until_ready(2)) == "IZTDCZ"
    other = pooler.client()
    for _ in range(3):
        assert essence(other.query(";")) == "IZ"
        assert other.value("SELECT 'other'") == "other"


def test_endless_requests_for_encryption(pooler):
    client = pooler.wire()
    client.push(wire.untyped(wire.SSL_REQUEST) * 1000)
    client.half_close()
    client.sock.settimeout(5)
    got = b""
    try:
        while len(got) < 1000:
            more = client.sock.recv(4096)
            if not more:
                break
            got += more
    except ConnectionResetError:
        pass
    assert len(got) < 10


def test_close_of_what_never_was(pooler):
    client = pooler.client()
    client.send(close("S", "never"), close("P", "never"), sync())
    assert essence(client.until_ready()) == "33Z"
