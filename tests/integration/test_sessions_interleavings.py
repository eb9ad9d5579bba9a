"""Interleavings that once went wrong, by the number of their row in the session contract.

Each row has a test: here, or under the name in ELSEWHERE.
"""

import importlib
import re

import pytest

import wire
from pooler import SANITIZED
from waiting import wait_until
from wire import bind, close, describe, execute, extended, flush, parse, query, sync

ELSEWHERE = {
    5: "test_session_limits.test_client_that_never_reads_does_not_hold_its_backend",
    16: "test_session_limits.test_server_that_takes_nothing",
    17: "test_cancel.test_key_of_a_client_that_is_gone_hits_nobody",
    19: "test_cancel.test_wrong_names_hit_nobody",
    20: "test_cancel.test_key_of_an_idle_client_does_not_hit_the_one_on_its_former_backend",
    21: "test_cancel.test_hit_on_one_client_then_its_successor_is_safe",
    24: "test_failures.test_deferred_begin_and_a_server_that_ends_after_it",
    25: "test_failures.test_idle_in_transaction_timeout_of_the_server",
    26: "test_failures.test_quick_statements_in_a_transaction_raise_no_false_alarm",
    28: "test_session_parameters.test_search_path_at_startup_chooses_tables_and_plans",
    32: "test_cli.test_drain_in_the_middle_of_a_statement_delivers_its_reply",
    33: "test_protocol.test_function_call",
    34: "test_copy.test_failed_copy_in_a_transaction_does_not_leak_its_backend",
    37: "test_garbage.test_fifty_attackers_at_once",
    38: "test_failures.test_forty_clients_that_leave_in_a_long_statement_free_the_whole_pool",
}
BIG = "SELECT repeat('%s', 8000000)"


def test_every_row_has_its_test():
    here = {int(found.group(1)) for found in
            (re.match(r"test_row_(\d+)_", name) for name in globals()) if found}
    assert here | set(ELSEWHERE) == set(range(1, 41)) and not here & set(ELSEWHERE)
    for name in ELSEWHERE.values():
        module, function = name.split(".")
        assert callable(getattr(importlib.import_module(module), function))


def own_row(pooler):
    """The next client is served, and sees what it asked for alone."""
    pooler.wait_idle()
    with pooler.client() as client:
        messages = client.query("SELECT 'own row'")
        assert wire.essence(messages) == "TDCZ" and wire.rows(messages) == [["own row"]]


def test_row_01_batch_of_a_client_that_waited_in_vain_is_never_run(doorman, postgres, table):
    target = table("a int")
    pooler = doorman(pool_size=1, general={"query_wait_timeout": "300ms"})
    with pooler.client() as holder, pooler.client() as waiter:
        holder.query("BEGIN; SELECT 1")
        waiter.send(extended("INSERT INTO %s VALUES (1)" % target), sync())
        messages = waiter.until_ready()  # the suite reads up to Z
        assert wire.sqlstates(messages) == ["53300"]
        assert "timeout" in wire.errors(messages)[0]["M"].lower()
        assert waiter.wait_closed() == []
        with pooler.client() as again:
            holder.query("COMMIT")
            assert again.value("SELECT count(*) FROM " + target) == "0"


def part_of(client, count=100000):
    client.take(count)


@pytest.mark.parametrize("kind", ["simple", "extended"])
def test_row_02_resets_while_a_large_row_streams(doorman, kind):
    """The whole pool at once, again and again, with cancels between."""
    pooler = doorman(pool_size=5)
    for episode in range(6):
        clients = [pooler.client() for _ in range(5)]
        for letter, client in zip("abcde", clients):
            client.send(query(BIG % letter) if kind == "simple" else
                        extended(BIG % letter) + sync())
        for number, client in enumerate(clients):
            part_of(client, 200000 * (number + 1))
            if number % 2:
                client.cancel()
            client.reset()
    own_row(pooler)


@pytest.mark.parametrize("how", ["reset", "close"])
def test_row_03_gone_while_the_server_prepares_a_large_row(doorman, postgres, how):
    pooler = doorman(pool_size=5)
    clients = [pooler.client() for _ in range(5)]
    for client in clients:
        client.send(query("SELECT pg_sleep(1), repeat('x', 8000000)"))
    wait_until(lambda: len(postgres.backends("state = 'active'")) == 5, 5, "five statements")
    clients[0].cancel()
    for client in clients:
        getattr(client, how)()
    own_row(pooler)


def test_row_04_one_client_after_the_other_that_never_reads(doorman):
    pooler = doorman(pool_size=1, general={"proxy_copy_data_timeout": "400ms"})
    for letter in "abcab":
        with pooler.wire(receive_buffer=4096) as client:
            client.login()
            client.send(query("SELECT repeat('%s', 20000000)" % letter))
            wait_until(lambda: pooler.pool_row()["sv_active"] == 1, 5, "a busy backend")
            pooler.wait_idle(8)
        own_row(pooler)


def test_row_06_gone_between_the_header_of_a_row_and_its_body(doorman):
    """Nobody else gets a backend that owes the rest of a message, or the rest itself."""
    pooler = doorman(pool_size=1)
    with pooler.client() as client:
        client.send(query("SELECT generate_series(1, 3); " + BIG % "x"))
        client.until("C")
        client.take(40)
        client.reset()
    own_row(pooler)


def test_row_07_skipped_parse_before_a_row_that_streams(doorman):
    pooler = doorman(pool_size=1, general={"message_size_to_be_stream": "64KB"})
    with pooler.client() as client:
        for _ in range(2):
            client.send(parse("s", BIG % "y"), bind("", "s"), execute(), sync())
            messages = client.until_ready()
            assert wire.types(messages) == "12DCZ"
            assert len(messages[2].body) == 8000000 + 6


def test_row_08_skipped_parse_and_a_reply_in_several_chunks(doorman):
    with doorman(pool_size=1).client() as client:
        batch = parse("s", "SELECT repeat('x', 3000) FROM generate_series(1, 200)"), bind("", "s")
        for _ in range(2):
            client.send(*batch, execute(), *batch, execute(), sync())
            assert wire.types(client.until_ready()) == ("12" + "D" * 200 + "C") * 2 + "Z"


def test_row_09_skipped_parses_before_an_error(doorman):
    with doorman(pool_size=1).client() as client:
        for text in ("SELECT 1", "SELECT 2"):
            client.send(parse("", text), sync())
            client.until_ready()
        client.send(parse("a", "SELECT 1"), parse("b", "SELECT 2"), parse("c", "SELECT nonsense("),
                    parse("d", "SELECT 1"), sync())
        assert wire.types(client.until_ready()) == "11EZ"


def test_row_10_gone_before_the_last_reply_behind_a_skipped_parse(doorman):
    pooler = doorman(pool_size=1)
    with pooler.client() as client:
        client.send(parse("s", "SELECT pg_sleep(0.3), 'left over'"), sync())
        client.until_ready()
    for leave in ("close", "reset", "terminate"):
        with pooler.client() as client:
            client.send(parse("s", "SELECT pg_sleep(0.3), 'left over'"), bind("", "s"), execute(),
                        sync())
            getattr(client, leave)()
        own_row(pooler)


def test_row_11_statement_evicted_under_flush(doorman):
    pooler = doorman(pool_size=1, general={"server_prepared_statements_cache_size": 2})
    with pooler.client() as client:
        for number in range(8):
            client.send(parse("s%d" % number, "SELECT %d" % number), bind("", "s%d" % number),
                        describe("P"), execute(), flush())
            assert wire.types(client.until("C")) == "12TDC"
        client.send(sync())
        assert wire.types(client.until_ready()) == "Z"
        assert client.value("SELECT 'in step'") == "in step"


def test_row_12_flush_without_the_statement_cache(doorman):
    with doorman(pool_size=1, general={"prepared_statements": False}).client() as client:
        for _ in range(3):
            client.send(parse("", "SELECT 7"), describe("S"), flush())
            assert wire.types(client.until("T")) == "1tT"
            client.send(bind(), execute(), flush())
            assert wire.types(client.until("C")) == "2DC"
            client.send(sync())
            assert wire.types(client.until_ready()) == "Z"


@pytest.mark.parametrize("leave", ["close", "reset", "terminate"])
def test_row_13_parse_without_sync_and_gone(doorman, leave):
    pooler = doorman(pool_size=1)
    with pooler.client() as client:
        client.send(parse("s", "SELECT 'thirteen'"))
        getattr(client, leave)()
    with pooler.client() as client:
        client.send(parse("s", "SELECT 'thirteen'"), bind("", "s"), execute(), sync())
        messages = client.until_ready()
        assert wire.types(messages) == "12DCZ" and wire.rows(messages) == [["thirteen"]]


def test_row_14_thousands_of_rows_under_flush_and_reset(doorman):
    pooler = doorman(pool_size=1)
    rows = parse("", "SELECT generate_series(1, 50000)") + bind() + execute() + flush()
    for _ in range(2):
        with pooler.client() as client:
            client.send(rows)
            client.until("D")
            client.send(rows)
            client.reset()
        own_row(pooler)


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_row_15_error_under_flush(doorman, mode):
    pooler = doorman(pool_size=1, pool_mode=mode)
    with pooler.client() as client:
        pid = client.backend_pid()
        if mode == "session":
            client.query("SET work_mem = '1MB'")
        for text in ("SELECT 1/0", "SELECT * FROM nowhere_to_be_found", "nonsense"):
            client.send(parse("", text), bind(), execute(), flush())
            client.until("E")
            client.send(sync())
            assert wire.types(client.until_ready()) == "Z"
            assert (client.backend_pid() == pid) == (mode == "session")
        if mode == "session":
            assert client.value("SHOW work_mem") == "1MB"
    own_row(pooler)
    with pooler.client() as client:
        assert (client.backend_pid() == pid) == (mode == "session")
        assert client.value("SHOW work_mem") == "4MB"


def test_row_18_three_old_keys(doorman, postgres):
    pooler = doorman(pool_size=1)
    keys = []
    for _ in range(3):
        with pooler.client() as client:
            client.value("SELECT 1")
            keys.append((client.pid, client.key))
    with pooler.client() as client:
        client.send(query("SELECT pg_sleep(0.5), 'not hit'"))
        wait_until(lambda: postgres.backends("state = 'active'"), 5, "the statement to run")
        for pid, key in keys:
            client.cancel(pid, key)
        assert wire.rows(client.until_ready()) == [["", "not hit"]]


def test_row_22_cancel_when_there_is_nothing_to_cancel(doorman):
    with doorman(pool_size=1).client() as client:
        client.cancel()
        pid = client.backend_pid()
        client.cancel()
        client.cancel()
        client.query("BEGIN")
        client.query("SELECT 1")
        client.cancel()
        assert client.value("SELECT 'still in it'") == "still in it"
        client.query("COMMIT")
        client.send(query("COPY (SELECT generate_series(1, 2000000)) TO STDOUT"))
        client.until("d")
        client.cancel()
        messages = client.until_ready()
        assert wire.sqlstates(messages) in (["57014"], [])
        assert client.backend_pid() == pid


def test_row_23_errors_savepoints_and_a_decorated_rollback(doorman, postgres):
    pooler = doorman(pool_size=2)
    with pooler.client() as client:
        client.query("BEGIN")
        pid = client.backend_pid()
        client.query("SAVEPOINT a")
        assert wire.status(client.query("SELECT 1/0")) == "E"
        assert wire.status(client.query("ROLLBACK TO a")) == "T"
        assert client.backend_pid() == pid
        assert wire.status(client.query("SELECT 1/0")) == "E"
        assert postgres.backends("state = 'idle in transaction (aborted)'")
        assert wire.status(client.query("ROLLback /*x*/;")) == "I"
        assert not postgres.backends("state = 'idle in transaction (aborted)'")


def test_row_27_same_names_with_other_texts_after_deallocate_all(doorman):
    with doorman(pool_size=1).client() as client:
        for generation in range(3):
            for name in "ab":
                client.send(parse(name, "SELECT '%s%d'" % (name, generation)), sync())
                client.until_ready()
            for name in "ab":
                client.send(bind("", name), execute(), sync())
                assert wire.rows(client.until_ready()) == [["%s%d" % (name, generation)]]
            assert not wire.errors(client.query("DEALLOCATE ALL"))


def test_row_29_name_of_a_failed_parse_is_used_again(doorman):
    with doorman(pool_size=1).client() as client:
        for text, letters in (("SELECT nonsense from", "EZ"), ("SELECT 29", "12DCZ"),
                              ("SELECT nonsense from", "EZ"), ("SELECT 30", "12DCZ")):
            client.send(parse("s", text) if letters == "12DCZ" else close("S", "s") +
                        parse("s", text), bind("", "s"), execute(), sync())
            assert wire.types(client.until_ready()).lstrip("3") == letters
            client.send(close("S", "s"), sync())
            client.until_ready()


def test_row_30_large_check_query_then_other_statements(doorman):
    text = "SELECT repeat('x', 20000)"
    pooler = doorman(pool_size=1, general={"pooler_check_query": text})
    with pooler.client() as client:
        first = client.query(text)
        assert wire.types(first) == "TDCZ"
        assert client.query(text) == first
        for number in range(3):
            assert client.value("SELECT %d" % number) == str(number)


def test_row_31_set_in_session_mode_and_gone_after_an_error(doorman):
    pooler = doorman(pool_size=1, pool_mode="session")
    for leave in ("close", "reset", "terminate"):
        with pooler.client() as client:
            client.query("SET work_mem = '1MB'")
            client.query("SELECT 1/0")
            getattr(client, leave)()
        pooler.wait_idle()
        with pooler.client() as client:
            assert client.value("SHOW work_mem") == "4MB"


def test_row_35_memory_of_half_messages_is_given_back(doorman):
    pooler = doorman(general={"max_memory_usage": "2MB"})
    for _ in range(8):
        with pooler.client() as client:
            client.send(parse("", "SELECT '" + "x" * 1500000 + "'")[:1000000])
            client.reset()
    with pooler.client() as client:
        assert client.value("SELECT length('%s')" % ("x" * 1500000)) == "1500000"


@pytest.mark.skipif(SANITIZED, reason="a sanitizer keeps what is freed")
def test_row_36_idle_clients_keep_nothing_of_large_messages(doorman):
    pooler = doorman(pool_size=4)
    clients = [pooler.client() for _ in range(100)]
    before = pooler.own_bytes()
    for client in clients:
        client.send(query("SELECT length('%s')" % ("x" * 2000000)))
        assert wire.rows(client.until_ready()) == [["2000000"]]
    assert pooler.own_bytes() - before < 20 << 20
    for client in clients:
        client.close()


def test_row_39_statistics_of_session_mode(doorman):
    pooler = doorman(pool_size=1, pool_mode="session")
    with pooler.client() as client:
        for sql in ("SELECT 1", "SELECT 2", "BEGIN; SELECT 3", "SELECT 4", "COMMIT"):
            client.query(sql)
        row, = [row for row in pooler.admin("SHOW STATS") if row["database"] == "app"]
        assert int(row["total_query_count"]) == 5
        assert int(row["total_xact_count"]) == 3


def test_row_40_one_name_for_two_texts(doorman):
    pooler = doorman(pool_size=1)
    with pooler.client() as a, pooler.client() as b:
        for _ in range(3):
            for client, text in ((a, "SELECT 'a'"), (b, "SELECT 'b'")):
                client.send(parse("", text), bind(), execute(), sync())
                assert wire.rows(client.until_ready()) == [[text[-2]]]
        a.send(parse("s", "SELECT 'a'"), sync())
        b.send(parse("s", "SELECT 'b'"), sync())
        a.until_ready(), b.until_ready()
        for _ in range(3):
            for client, letter in ((a, "a"), (b, "b")):
                client.send(bind("", "s"), execute(), sync())
                assert wire.rows(client.until_ready()) == [[letter]]
