"""Clients and servers that vanish at a bad moment: the outcome, and what must not be left over."""

import os
import signal
import threading
import time

import pytest

import wire
from pooler import SANITIZED
from waiting import stays, wait_until
from wire import copy_data, query

BIG_ROW = "SELECT repeat('x', 50000000)"
LONG = "SELECT pg_sleep(60)"


def at_rest(pooler):
    """Leases home, nobody waiting, and the next client is served correctly."""
    pooler.wait_idle()
    with pooler.client() as client:
        messages = client.query("SELECT 'own row'")
        assert wire.essence(messages) == "TDCZ" and wire.rows(messages) == [["own row"]]
        assert client.value("SELECT 1") == "1"
    pooler.wait_idle()


@pytest.fixture(params=["close", "reset", "terminate"])
def leave(request):
    return request.param


# ---- the client goes


def test_client_gone_in_a_transaction_is_rolled_back_and_the_backend_kept(doorman, postgres, table,
                                                                          leave):
    name = table("x int")
    pooler = doorman(pool_size=1)
    with pooler.client() as client:
        client.query("BEGIN")
        client.query("INSERT INTO %s VALUES (1)" % name)
        backend = client.backend_pid()
        getattr(client, leave)()
    pooler.wait_idle()
    with pooler.client() as client:
        assert client.backend_pid() == backend
        assert client.value("SELECT count(*) FROM " + name) == "0"
    at_rest(pooler)


def test_client_gone_with_an_unsent_batch_leaves_no_trace(doorman, table, leave):
    name = table("x int")
    pooler = doorman(pool_size=1)
    insert = "INSERT INTO %s VALUES (1)" % name
    for parts in ([wire.parse("", insert)], [wire.parse("s", insert), wire.bind("", "s")],
                  [wire.extended(insert)], [wire.extended("SELECT 1"), wire.sync(),
                                            wire.extended(insert)]):
        with pooler.client() as client:
            client.send(*parts)
            if wire.sync() in parts:
                client.until_ready()
            getattr(client, leave)()
    pooler.wait_idle()
    with pooler.client() as client:
        assert client.value("SELECT count(*) FROM " + name) == "0"
        client.send(wire.parse("s", "SELECT 'mine'"), wire.bind("", "s"), wire.execute(),
                    wire.sync())
        assert wire.rows(client.until_ready()) == [["mine"]]
    at_rest(pooler)


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_client_gone_after_flush_does_not_commit(doorman, table, leave, mode):
    name = table("x int")
    pooler = doorman(pool_size=1, pool_mode=mode)
    with pooler.client() as client:
        client.send(wire.extended("INSERT INTO %s VALUES (1)" % name), wire.flush())
        client.until("C")
        getattr(client, leave)()
    pooler.wait_idle()
    with pooler.client() as client:
        client.query("SELECT 1")
        assert client.value("SELECT count(*) FROM " + name) == "0"
    at_rest(pooler)


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_client_gone_after_an_error_under_flush_does_not_hang_the_backend(doorman, mode, leave):
    pooler = doorman(pool_size=1, pool_mode=mode)
    with pooler.client() as client:
        client.send(wire.parse("", "SELEKT"), wire.flush())
        client.until("E")
        getattr(client, leave)()
    at_rest(pooler)


def test_client_gone_in_copy_in_aborts_the_copy(doorman, postgres, table, leave):
    name = table("x int")
    pooler = doorman(pool_size=1)
    with pooler.client() as client:
        client.send(query("COPY %s FROM stdin" % name))
        client.until("G")
        client.send(copy_data(b"1\n2\n"))
        getattr(client, leave)()
    pooler.wait_idle()
    assert postgres.value("SELECT count(*) FROM " + name, database="app") == 0
    at_rest(pooler)


def test_client_gone_in_copy_out(doorman, leave):
    pooler = doorman(pool_size=1, general={"proxy_copy_data_timeout": "2s"})
    with pooler.client() as client:
        client.send(query("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 300000)) "
                          "TO stdout"))
        client.until("d")
        getattr(client, leave)()
    at_rest(pooler)


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_client_gone_while_a_large_row_streams(doorman, leave, extended):
    pooler = doorman(pool_size=1, general={"proxy_copy_data_timeout": "2s"})
    for _ in range(3):
        with pooler.wire(receive_buffer=65536) as client:
            client.login()
            client.send(wire.extended(BIG_ROW) + wire.sync() if extended else query(BIG_ROW))
            client.take(100000)
            getattr(client, leave)()
        pooler.wait_idle(8)
    at_rest(pooler)


def test_client_gone_while_the_statement_runs(doorman, postgres, leave):
    pooler = doorman(pool_size=1)
    with pooler.client() as client:
        client.send(query("SELECT pg_sleep(2), repeat('x', 5000000)"))
        wait_until(lambda: postgres.backends("state = 'active'"), 5, "the statement to run")
        getattr(client, leave)()
    at_rest(pooler)


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("sent", ["query", "pipeline", "transaction", "flush"])
def test_what_a_vanished_client_left_running_is_cancelled(doorman, postgres, how, sent):
    """The backend comes home early, alive, and what stood behind the statement is not waited for."""
    pooler = doorman(pool_size=1)
    with pooler.client() as client:
        pid = client.backend_pid()
        if sent == "transaction":
            client.query("BEGIN")
        client.send(wire.parse("", LONG) + wire.bind() + wire.execute() + wire.flush()
                    if sent == "flush" else query(LONG) * (3 if sent == "pipeline" else 1))
        wait_until(lambda: postgres.backends("state = 'active'"), 5, "the statement to run")
        getattr(client, how)()
    pooler.wait_idle(12)
    with pooler.client() as client:
        # An error under Flush costs the backend in transaction mode.
        assert (client.backend_pid() == pid) == (sent != "flush")
    at_rest(pooler)


def test_what_was_sent_before_a_goodbye_is_done(doorman, postgres, table):
    target = table("a int")
    with doorman(pool_size=1).client() as client:
        client.send(query("SELECT pg_sleep(1); INSERT INTO %s VALUES (1)" % target))
        client.terminate()
    wait_until(lambda: postgres.value("SELECT count(*) FROM " + target, database="app") == 1, 10,
               "the row")


def test_cancelling_for_those_who_vanish_can_be_switched_off(doorman, postgres, table, leave):
    target = table("a int")
    with doorman(pool_size=1, general={"cancel_on_disconnect": False}).client() as client:
        client.send(query("SELECT pg_sleep(1); INSERT INTO %s VALUES (1)" % target))
        wait_until(lambda: postgres.backends("state = 'active'"), 5, "the statement to run")
        getattr(client, leave)()
    wait_until(lambda: postgres.value("SELECT count(*) FROM " + target, database="app") == 1, 10,
               "the row")


def test_client_that_stops_reading_leaves_after_all(doorman):
    pooler = doorman(pool_size=1, general={"proxy_copy_data_timeout": "2s"})
    for letter in "abc":
        with pooler.wire(receive_buffer=4096) as client:
            client.login()
            client.send(query("SELECT repeat('%s', 50000000)" % letter))
            wait_until(lambda: pooler.pool_row()["sv_active"] == 1, 5, "one active backend")
        pooler.wait_idle(8)
        at_rest(pooler)


def test_half_close_counts_as_gone(doorman):
    pooler = doorman(pool_size=1)
    with pooler.client() as client:
        client.query("BEGIN")
        client.query("SELECT 1")
        client.half_close()
        pooler.wait_idle(5)
        client.wait_closed()
    at_rest(pooler)


@pytest.mark.slow
def test_many_sessions_that_end_in_mid_batch_leave_no_busy_server(doorman, postgres):
    pooler = doorman(pool_size=5, general={"query_wait_timeout": "20s"})

    def one(number):
        with pooler.client() as client:
            client.send(wire.extended("BEGIN"), wire.extended("SELECT %d" % number))
            if number % 3 == 0:
                client.send(wire.flush())
            elif number % 3 == 1:
                client.send(wire.sync())
                client.until_ready()
                client.send(wire.extended("SELECT 1"))
            getattr(client, ("terminate", "close", "reset")[number % 3])()

    threads = [threading.Thread(target=one, args=(n,)) for n in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    at_rest(pooler)
    wait_until(lambda: not postgres.backends("state <> 'idle'"), 5, "idle servers only")


@pytest.mark.slow
def test_forty_clients_that_leave_in_a_long_statement_free_the_whole_pool(doorman, postgres):
    pooler = doorman(pool_size=10, general={"query_wait_timeout": "500ms",
                                            "proxy_copy_data_timeout": "2s"})
    clients = [pooler.client() for _ in range(10)]
    for client in clients:
        client.send(query("SELECT pg_sleep(60)"))
    wait_until(lambda: pooler.pool_row()["sv_active"] == 10, 15, "a full pool")
    with pooler.client() as late:
        error, = wire.errors(late.query("SELECT 1"))
        assert error["C"] == "53300" and "timeout" in error["M"].lower()
    for client in clients:
        client.reset()
    pooler.wait_idle(12)
    at_rest(pooler)


# ---- the server goes


def test_server_process_ended_while_the_client_is_idle_in_a_transaction(doorman, postgres):
    pooler = doorman(pool_size=1)
    for _ in range(2):
        with pooler.client() as victim, pooler.client() as other:
            victim.query("BEGIN")
            victim.query("SELECT 1")
            postgres.terminate()
            assert other.value("SELECT 'served'") == "served"
            error, = wire.errors(victim.wait_closed())
            assert error["S"] == "FATAL" and error["C"] in ("08006", "57P01")
            if error["C"] == "08006":
                assert error["M"] == ("server closed the connection unexpectedly while client was "
                                      "idle in transaction")
    at_rest(pooler)


def test_idle_in_transaction_timeout_of_the_server(doorman, postgres):
    pooler = doorman(pool_size=1)
    with pooler.client() as victim:
        victim.query("BEGIN; SET LOCAL idle_in_transaction_session_timeout = '200ms'")
        with pooler.client() as other:
            assert other.value("SELECT 'served'") == "served"
        assert wire.sqlstates(victim.wait_closed())[-1] in ("08006", "25P03")
    at_rest(pooler)


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_server_process_ended_in_a_statement_tells_its_reason(doorman, postgres, mode):
    pooler = doorman(pool_size=1, pool_mode=mode)
    with pooler.client() as client:
        client.send(query("SELECT 'row before the end'; SELECT pg_sleep(20)"))
        wait_until(lambda: postgres.backends("state = 'active'"), 5, "the statement to run")
        postgres.terminate()
        messages = client.wait_closed()
        assert wire.rows(messages)[:1] == [["row before the end"]]
        assert wire.sqlstates(messages) == ["57P01"]
    at_rest(pooler)


def test_server_that_ends_while_it_is_written_to_tells_its_reason(doorman):
    """It does not read what is on its way: to write that fails, and the reason is still to be read."""
    for unix in (False, True):
        pooler = doorman(pool_size=1, unix=unix)
        for _ in range(5):
            with pooler.client() as client:
                client.send(wire.query("CREATE TEMP TABLE taken (a text); COPY taken FROM STDIN"))
                client.until("G")
                client.push(wire.query("SELECT 1"), *[wire.copy_data(b"x" * 8000 + b"\n")] * 500)
                messages = client.wait_closed()
            assert wire.sqlstates(messages)[:2] == ["08P01", "08P01"], messages
            assert "synchronization was lost" in str(wire.errors(messages)[1])


def test_server_process_killed_in_a_statement_is_told(doorman, postgres):
    """No last word from the server: the pooler has to say it."""
    pooler = doorman(pool_size=1)
    with pooler.client() as client:
        client.send(query("SELECT pg_sleep(20)"))
        pid, = wait_until(lambda: [b[0] for b in postgres.backends("state = 'active'")], 5,
                          "the statement to run")
        os.kill(pid, signal.SIGKILL)
        error, = wire.errors(client.wait_closed())
        assert error["S"] == "FATAL" and error["C"] in ("08006", "57P02")
    wait_until(postgres.answers, 20, "PostgreSQL to recover")
    wait_until(lambda: serves(pooler), 10, "the pooler to serve again", 0.2)
    at_rest(pooler)


def test_server_process_ended_while_streaming(doorman, postgres):
    pooler = doorman(pool_size=1)
    for sql in (BIG_ROW, "SELECT repeat('x', 1000) FROM generate_series(1, 1000000)"):
        with pooler.wire(receive_buffer=4096) as client:
            client.login()
            client.send(query(sql))
            client.take(100000)
            postgres.terminate()
            client.drain()
        at_rest(pooler)


def test_deferred_begin_and_a_server_that_ends_after_it(doorman, postgres):
    pooler = doorman(pool_size=1)
    with pooler.client() as client:
        client.query("begin;")
        client.query("SELECT 1")
        postgres.terminate()
        client.send(query("SELECT 2"))
        assert wire.sqlstates(client.wait_closed())[-1] in ("08006", "57P01")
    at_rest(pooler)


def test_quick_statements_in_a_transaction_raise_no_false_alarm(doorman):
    with doorman(pool_size=1).client() as client:
        client.query("BEGIN")
        for number in range(10):
            assert client.value("SELECT %d" % number) == str(number)
            time.sleep(0.03)
        time.sleep(0.3)
        assert wire.status(client.query("COMMIT")) == "I"


def serves(pooler):
    try:
        with pooler.client() as client:
            return client.value("SELECT 1") == "1"
    except (wire.LoginFailed, wire.Closed, AssertionError):
        return False


def test_postgresql_down_at_start_and_up_later(doorman, postgres):
    postgres.stop()
    pooler = doorman()
    with pytest.raises(wire.LoginFailed) as refusal:
        pooler.client()
    assert refusal.value.error["C"] == "3D000"
    assert "Unable to retrieve server parameters" in refusal.value.error["M"]
    postgres.start()
    assert serves(pooler)
    at_rest(pooler)


def test_checkout_while_postgresql_is_down_ends_with_its_text(doorman, postgres):
    pooler = doorman()
    with pooler.client() as client:
        client.value("SELECT 1")
        postgres.stop()
        error, = wire.errors(client.query("SELECT 1"))
        assert error["C"] in ("53300", "08006", "57P01")
        if error["C"] == "53300":
            assert ("(postgresql_login_error): Backend connect error: Could not connect to "
                    "127.0.0.1:%d" % postgres.port) in error["M"]
    postgres.start()
    at_rest(pooler)


@pytest.mark.slow
def test_postgresql_restarted_under_load(doorman, postgres, table):
    """Every statement that was reported as done is there; nothing is executed twice."""
    name = table("client int, number int")
    pooler = doorman(pool_size=4)
    with pooler.client() as client:
        client.value("SELECT 1")
    descriptors = pooler.descriptors()
    stop = threading.Event()
    done, unsure, problems = set(), set(), []

    def one(who):
        number = 0
        while not stop.is_set():
            try:
                with pooler.client() as client:
                    while not stop.is_set():
                        number += 1
                        try:
                            messages = client.query("INSERT INTO %s VALUES (%d, %d)"
                                                    % (name, who, number))
                        except wire.Closed:
                            unsure.add((who, number))
                            raise
                        if wire.errors(messages):
                            unsure.add((who, number))
                        else:
                            done.add((who, number))
            except (wire.Closed, wire.LoginFailed, OSError):
                time.sleep(0.05)
            except Exception as problem:  # a thread's failure must not get lost
                problems.append(problem)
                return

    threads = [threading.Thread(target=one, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        before = len(done)
        wait_until(lambda: len(done) > before + 200, 15, "some work to be done")
        postgres.restart()
    before = len(done)
    wait_until(lambda: len(done) > before + 200, 20, "work to go on after the restart")
    stop.set()
    for thread in threads:
        thread.join(30)
    assert problems == []
    found = postgres.run("SELECT client, number FROM " + name, database="app")
    assert len(found) == len(set(found)), "a statement was executed twice"
    assert done <= set(found) <= done | unsure
    at_rest(pooler)
    wait_until(lambda: pooler.descriptors() <= descriptors + 4, 10, "descriptors to be given back")


# ---- nothing is left over


@pytest.mark.slow
def test_disasters_leak_neither_descriptors_nor_memory(doorman, postgres, table):
    name = table("x int")
    pooler = doorman(pool_size=3, general={"proxy_copy_data_timeout": "2s"})

    def disaster(turn):
        leave = ("close", "reset", "terminate")[turn % 3]
        with pooler.wire(receive_buffer=65536) as client:
            client.login()
            kind = turn % 5
            if kind == 0:
                client.query("BEGIN; INSERT INTO %s VALUES (1)" % name)
            elif kind == 1:
                client.send(query("COPY %s FROM stdin" % name), copy_data(b"1\n" * 1000))
            elif kind == 2:
                client.send(query("SELECT repeat('x', 3000000)"))
                client.take(10000)
            elif kind == 3:
                client.send(wire.extended("SELECT 1/0"), wire.flush())
            else:
                client.query("BEGIN; SELECT 1")
                postgres.terminate("state LIKE 'idle in%'")
            getattr(client, leave)()

    def round_of_disasters():
        for turn in range(60):
            disaster(turn)
        pooler.wait_idle()
        pooler.wait_no_clients()

    round_of_disasters()
    descriptors, memory = pooler.descriptors(), pooler.own_bytes()
    round_of_disasters()
    round_of_disasters()
    wait_until(lambda: pooler.descriptors() <= descriptors + 3, 5, "descriptors to be given back")
    if not SANITIZED:
        assert pooler.own_bytes() < memory + (2 << 20)
    at_rest(pooler)


def test_quiet_pooler_keeps_its_descriptors(doorman):
    pooler = doorman(pool_size=2)
    with pooler.client() as client:
        client.value("SELECT 1")
        count = pooler.descriptors()
        stays(lambda: pooler.descriptors() == count, 0.5, "the number of descriptors")
