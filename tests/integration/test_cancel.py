"""Cancel requests hit the statement of the client they name, and nothing else, ever."""

import contextlib
import tempfile
import threading
import time

import pytest

import wire
from pooler import pool
from wire import query
from waiting import wait_until

SLEEP = "SELECT pg_sleep(20)"


def running(postgres, count=1):
    wait_until(lambda: len(postgres.backends("state = 'active'")) == count, 5,
               "%d running statements" % count)


def cancelled(messages):
    """The one error is PostgreSQL's own, with all its fields."""
    error, = wire.errors(messages)
    assert (error["C"], error["R"]) == ("57014", "ProcessInterrupts")
    return True


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_running_statement_is_cancelled_and_the_session_goes_on(doorman, postgres, mode):
    pooler = doorman(pool_mode=mode)
    with pooler.client() as client:
        for _ in range(3):
            client.send(query(SLEEP))
            running(postgres)
            client.cancel()
            messages = client.until_ready()
            assert cancelled(messages) and wire.status(messages) == "I"
            assert client.value("SELECT 'alive'") == "alive"
    pooler.wait_idle()


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_cancelled_backend_is_kept(doorman, postgres, mode):
    pooler = doorman(pool_mode=mode, pool_size=1)
    with pooler.client() as client:
        pid = client.backend_pid()
        for begin in ("", "BEGIN; "):
            client.send(query(begin + SLEEP))
            running(postgres)
            client.cancel()
            assert cancelled(client.until_ready())
            client.query("ROLLBACK")
            assert client.backend_pid() == pid
    with pooler.client() as client:
        assert client.backend_pid() == pid
    pooler.wait_idle()


def test_temporary_table_outlives_a_cancel(doorman, postgres):
    with doorman(pool_size=1).client() as client:
        client.query("CREATE TEMP TABLE mine (a int)")
        client.send(query(SLEEP))
        running(postgres)
        client.cancel()
        assert cancelled(client.until_ready())
        assert client.value("SELECT count(*) FROM mine") == "0"


def test_in_a_transaction_the_transaction_is_failed(doorman, postgres):
    with doorman().client() as client:
        client.query("BEGIN")
        client.send(query(SLEEP))
        running(postgres)
        client.cancel()
        assert wire.status(client.until_ready()) == "E"
        assert wire.status(client.query("ROLLBACK")) == "I"
        assert client.value("SELECT 1") == "1"


def test_in_a_batch_the_rest_is_skipped(doorman, postgres):
    with doorman().client() as client:
        client.send(wire.extended(SLEEP), wire.extended("SELECT 2"), wire.sync())
        running(postgres)
        client.cancel()
        messages = client.until_ready()
        assert wire.essence(messages) == "12TEZ" and cancelled(messages)
        assert wire.essence(client.run("SELECT 1")) == "12TDCZ"


def test_copy_out_is_cancelled_behind_the_rows_already_sent(doorman, postgres):
    with doorman().client() as client:
        client.send(query("COPY (SELECT pg_sleep(0.001), repeat('x', 1000) "
                          "FROM generate_series(1, 20000)) TO stdout"))
        client.until("H")
        client.cancel()
        messages = client.until_ready()
        assert cancelled(messages) and "C" not in wire.types(messages)
        assert client.value("SELECT 1") == "1"


def test_request_twice_is_one_error(doorman, postgres):
    with doorman().client() as client:
        client.send(query(SLEEP))
        running(postgres)
        client.cancel()
        client.cancel()
        assert cancelled(client.until_ready())
        for _ in range(10):
            assert client.value("SELECT 1") == "1"


def test_idle_client_and_finished_statement_are_not_hit(doorman, postgres):
    pooler = doorman(pool_size=1)
    with pooler.client() as client:
        client.cancel()
        assert client.value("SELECT 1") == "1"
        client.cancel()
        assert client.value("SELECT 2") == "2"


def test_idle_in_a_transaction_is_not_hit(doorman, postgres):
    with doorman().client() as client:
        client.query("BEGIN")
        client.query("SELECT 1")
        client.cancel()
        assert wire.status(client.query("COMMIT")) == "I"


@pytest.mark.parametrize("wrong", ["key", "pid", "server pid"])
def test_wrong_names_hit_nobody(doorman, postgres, wrong):
    pooler = doorman(pool_size=1)
    with pooler.client() as client:
        backend = client.backend_pid()
        client.send(query("SELECT pg_sleep(0.6), 'whole'"))
        running(postgres)
        if wrong == "key":
            client.cancel(key=client.key ^ 1)
        elif wrong == "pid":
            client.cancel(pid=client.pid + 1)
        else:
            client.cancel(pid=backend)
        messages = client.until_ready()
        assert not wire.errors(messages) and wire.rows(messages) == [["", "whole"]]


def test_key_of_an_idle_client_does_not_hit_the_one_on_its_former_backend(doorman, postgres):
    pooler = doorman(pool_size=1)
    with pooler.client() as a, pooler.client() as b:
        assert a.backend_pid() == b.backend_pid()
        b.send(query("SELECT pg_sleep(0.6), 'whole'"))
        running(postgres)
        a.cancel()
        assert not wire.errors(b.until_ready())


def test_key_of_a_client_that_is_gone_hits_nobody(doorman, postgres):
    pooler = doorman(pool_size=1)
    keys = []
    for leave in ("terminate", "close", "reset"):
        with pooler.client() as gone:
            gone.value("SELECT 1")
            keys.append((gone.pid, gone.key))
            getattr(gone, leave)()
    with pooler.client() as client:
        client.send(query("SELECT pg_sleep(0.6), 'whole'"))
        running(postgres)
        for pid, key in keys:
            client.cancel(pid, key)
        assert not wire.errors(client.until_ready())


def test_hit_on_one_client_then_its_successor_is_safe(doorman, postgres):
    pooler = doorman(pool_size=1)
    with pooler.client() as a, pooler.client() as b:
        a.send(query(SLEEP))
        running(postgres)
        a.cancel()
        cancelled(a.until_ready())
        b.value("SELECT 1")
        pid, key = b.pid, b.key
        b.terminate()
        with pooler.client() as c:
            c.send(query("SELECT pg_sleep(0.6), 'whole'"))
            running(postgres)
            a.cancel()
            a.cancel(pid, key)
            assert not wire.errors(c.until_ready())


def test_right_one_of_several_is_hit(doorman, postgres):
    pooler = doorman(pool_size=3)
    clients = [pooler.client() for _ in range(3)]
    for client in clients:
        client.send(query("SELECT pg_sleep(1.5), 'whole'"))
    running(postgres, 3)
    clients[1].cancel()
    assert [bool(wire.errors(c.until_ready())) for c in clients] == [False, True, False]
    for client in clients:
        client.terminate()


def test_long_key_of_protocol_3_2(doorman, postgres):
    pooler = doorman()
    with pooler.wire() as client:
        client.login(version=(3 << 16) + 2)
        assert isinstance(client.key, bytes) and len(client.key) == 32
        client.send(query(SLEEP))
        running(postgres)
        for wrong in (client.key[:4], client.key[:31], client.key + b"x", client.key[:-1] + b"x"):
            if wrong != client.key:
                client.cancel(key=wrong)
        assert client.quiet()
        client.cancel()
        assert cancelled(client.until_ready())


def test_keys_are_the_poolers_own(doorman):
    pooler = doorman()
    with pooler.client() as a, pooler.client() as b:
        assert a.pid != b.pid and a.key != b.key
        assert a.backend_pid() not in (a.pid, b.pid)


def test_over_a_unix_socket_for_a_tcp_client(doorman, postgres):
    with tempfile.TemporaryDirectory(prefix="dm-") as directory:
        pooler = doorman(general={"unix_socket_dir": directory})
        with pooler.client() as client:
            client.send(query(SLEEP))
            running(postgres)
            with wire.Wire("%s/.s.PGSQL.%d" % (directory, pooler.port)) as other:
                other.send(wire.cancel_request(client.pid, client.key))
                assert other.wait_closed() == []
            assert cancelled(client.until_ready())


def test_through_a_unix_socket_to_the_server(doorman, postgres):
    pooler = doorman(pools={"app": pool(postgres, unix=True)})
    with pooler.client() as client:
        client.send(query(SLEEP))
        running(postgres)
        client.cancel()
        assert cancelled(client.until_ready())


def test_after_a_declined_ssl_request(doorman, postgres):
    """So libpq 17 does it."""
    pooler = doorman()
    with pooler.client() as client:
        client.send(query(SLEEP))
        running(postgres)
        with pooler.wire() as other:
            other.send(wire.untyped(wire.SSL_REQUEST))
            assert other.take(1) == b"N"
            other.send(wire.cancel_request(client.pid, client.key))
            assert other.wait_closed() == []
        assert cancelled(client.until_ready())


def test_above_max_connections(doorman, postgres):
    pooler = doorman(general={"max_connections": 1})

    # The probe that waited for the port may count as a client for a moment.
    def admitted():
        try:
            return pooler.client()
        except Exception:
            return None
    with wait_until(admitted, 5, "a free place") as client:
        client.send(query(SLEEP))
        running(postgres)
        client.cancel()
        assert cancelled(client.until_ready())


def test_libpq_cancel_succeeds(doorman, postgres):
    connection = doorman().connect()
    timer = threading.Timer(0.5, connection.cancel)
    timer.start()
    began = time.monotonic()
    with pytest.raises(Exception, match="canceling statement due to user request"):
        with connection.cursor() as cursor:
            cursor.execute(SLEEP)
    assert time.monotonic() - began < 15
    timer.join()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
    connection.close()


@pytest.mark.slow
def test_storm_of_cancels_hits_only_those_who_asked(doorman):
    """Victims and bystanders share two backends; no bystander may ever see 57014."""
    pooler = doorman(pool_size=2)
    stop = threading.Event()
    wrong, hits = [], []

    def bystander():
        with pooler.client() as client:
            while not stop.is_set():
                found = wire.sqlstates(client.query("SELECT pg_sleep(0.003)"))
                if found:
                    wrong.append(found)

    def victim():
        with pooler.client() as client:
            while not stop.is_set():
                client.send(query("SELECT pg_sleep(0.01)"))
                client.cancel()
                found = wire.sqlstates(client.until_ready())
                assert found in ([], ["57014"])
                hits.extend(found)

    threads = [threading.Thread(target=f) for f in [bystander] * 4 + [victim] * 3]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(hits) >= 40 or wrong, 30, "40 statements to be cancelled")
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert wrong == []
    pooler.wait_idle()


def cancelled_in_the_queue_but_one(pooler, client):
    wait_until(lambda: pooler.pool_row()["cl_waiting"] == 1, 5, "one waiting client")
    client.cancel()
    assert wire.sqlstates(client.until_ready()) == ["57014"]
    wait_until(lambda: pooler.pool_row()["cl_waiting"] == 1, 5, "the next to wait")


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_statement_is_cancelled_while_it_waits_for_a_server(doorman, postgres, mode):
    """Not when it runs at last: the one who holds the server holds it all the time."""
    pooler = doorman(pool_mode=mode, pool_size=1)
    sql = "INSERT INTO nowhere VALUES (1)"  # it would be an error of its own
    batch = [wire.parse("s", sql), wire.bind("", "s"), wire.execute()]

    def cancelled_in_the_queue(client):
        wait_until(lambda: pooler.pool_row()["cl_waiting"] == 1, 5, "one waiting client")
        client.cancel()
        error = client.receive()
        assert wire.fields(error)["C"] == "57014"
        assert wire.fields(error)["S"] == "ERROR"
        wait_until(lambda: pooler.pool_row()["cl_waiting"] == 0, 5, "nobody to wait")

    with pooler.client() as holder, pooler.client() as client:
        holder.query("BEGIN")
        pid = holder.backend_pid()
        for _ in range(2):
            client.send(query(sql))
            cancelled_in_the_queue(client)
            assert wire.status(client.until_ready()) == "I"
            client.send(*batch, wire.sync())
            cancelled_in_the_queue(client)
            assert wire.essence(client.until_ready()) == "Z"
            client.send(wire.parse("s", sql), wire.describe("S", "s"), wire.flush())
            cancelled_in_the_queue(client)
            # Everything up to Sync is ignored, however it comes.
            client.send(wire.bind("", "s"), wire.execute(), query(sql))
            client.send_bytewise(wire.parse("t", "x" * 500) + wire.sync(), 100)
            assert wire.essence(client.until_ready()) == "Z"
        # What came behind the cancelled statement is waiting as it should.
        client.send(query(sql), query("SELECT 'next'"))
        cancelled_in_the_queue_but_one(pooler, client)
        assert holder.backend_pid() == pid
        holder.query("COMMIT")
        if mode == "session":
            holder.terminate()
        assert wire.rows(client.until_ready()) == [["next"]]
        assert wire.sqlstates(client.run(sql)) == ["42P01"]
    pooler.wait_idle()


def test_statement_behind_a_parse_of_the_pooler_is_cancelled(doorman, postgres):
    """PostgreSQL keeps the reply to the Parse to itself until the statement has ended."""
    pooler = doorman(pool_size=1)
    with pooler.client() as client:
        client.send(wire.parse("s", SLEEP), wire.sync())
        client.until_ready()
        pooler.admin("RECONNECT")  # the next server connection has not got it
        client.send(wire.bind("", "s"), wire.execute(), wire.sync())
        running(postgres)
        client.cancel()
        assert cancelled(client.until_ready())
        assert client.value("SELECT 'alive'") == "alive"
    pooler.wait_idle()


def test_parse_of_the_poolers_own_that_waits_for_a_lock(doorman, postgres):
    """The statement was prepared on another backend. What is sent ahead of it is part of it."""
    postgres.run("CREATE TABLE IF NOT EXISTS locked_for_parse (a int);"
                 "GRANT ALL ON locked_for_parse TO PUBLIC", database="app")
    pooler = doorman(pool_size=2)
    with pooler.client() as client, pooler.client() as holder, \
            contextlib.closing(postgres.connect(database="app")) as connection:
        owner = connection.cursor()
        client.send(wire.parse("s", "SELECT * FROM locked_for_parse"), wire.sync())
        client.until_ready()
        holder.query("BEGIN")
        holder.query("SELECT 1")
        owner.execute("BEGIN")
        owner.execute("LOCK TABLE locked_for_parse IN ACCESS EXCLUSIVE MODE")
        client.send(wire.bind("", "s"), wire.execute(), wire.sync())
        wait_until(lambda: postgres.backends("wait_event_type = 'Lock'"), 5, "a wait for the lock")
        client.cancel()
        messages = client.until_ready()
        assert cancelled(messages) and wire.status(messages) == "I"
        owner.execute("ROLLBACK")
        client.send(wire.bind("", "s"), wire.execute(), wire.sync())
        assert wire.essence(client.until_ready()) == "2CZ"
        holder.query("COMMIT")
