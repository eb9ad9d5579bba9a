"""What moves with an upgrade: every session, with all that it has."""

import os
import threading

import psycopg2

import wire
from upgrading import alive
from waiting import wait_until
from wire import query


def server_pids(postgres):
    """What PostgreSQL knows of its clients: who, and since when."""
    with psycopg2.connect(host=postgres.directory, port=postgres.port, user="postgres",
                          dbname="postgres") as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pid, backend_start FROM pg_stat_activity "
                       "WHERE datname IN ('app', 'other') ORDER BY pid")
        return cursor.fetchall()


def test_c1_05_idle_client_moves_and_finds_its_server_connection(upgrading, postgres):
    pooler = upgrading()
    client = pooler.doorman.client()
    pid = client.value("SELECT pg_backend_pid()")
    before = server_pids(postgres)
    first = pooler.pid
    assert pooler.upgrade() < 15
    assert not alive(first) and pooler.pid != first
    assert server_pids(postgres) == before
    assert client.value("SELECT pg_backend_pid()") == pid
    new = pooler.doorman.client()
    assert new.value("SELECT pg_backend_pid()") == pid
    assert server_pids(postgres) == before
    client.terminate()
    new.terminate()


def test_transaction_moves_with_all_it_has(upgrading, postgres):
    pooler = upgrading()
    client = pooler.doorman.client()
    client.query("BEGIN")
    client.query("CREATE TEMP TABLE kept AS SELECT 7 AS seven; "
                 "SELECT pg_advisory_xact_lock(77); "
                 "DECLARE walk CURSOR FOR SELECT generate_series(1, 5)")
    client.query("FETCH 2 FROM walk")
    before = server_pids(postgres)
    for _ in range(3):
        pooler.upgrade()
        assert client.value("SELECT seven FROM kept") == "7"
    assert wire.rows(client.query("FETCH 2 FROM walk")) == [["3"], ["4"]]
    assert client.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == "1"
    client.query("ROLLBACK")
    assert server_pids(postgres) == before
    client.terminate()


def test_failed_transaction_stays_failed(upgrading):
    pooler = upgrading()
    client = pooler.doorman.client()
    client.query("BEGIN")
    client.send(query("SELECT 1/0"))
    client.until_ready()
    pooler.upgrade()
    messages = client.query("SELECT 1")
    assert wire.errors(messages)[0]["C"] == "25P02"
    client.query("ROLLBACK")
    assert client.value("SELECT 1") == "1"
    client.terminate()


def test_running_query_is_answered_through_the_successor(upgrading, postgres):
    """Its client need not notice: neither end of the pooler is at rest."""
    pooler = upgrading()
    client = pooler.doorman.client()
    client.send(query("SELECT pg_sleep(2), 'late'"))
    wait_until(lambda: postgres.backends("state = 'active'"), 5, "the statement to run")
    first = pooler.pid
    assert pooler.upgrade() < 15
    assert postgres.backends("state = 'active'"), "the old process has gone before the answer"
    assert not alive(first)
    assert wire.rows(client.until_ready()) == [["", "late"]]
    client.terminate()


def test_waiters_keep_their_places(upgrading, postgres):
    pooler = upgrading(pool_size=1, general={"upgrade_inherited_accounting": "strict"})
    holder = pooler.doorman.client()
    holder.query("BEGIN")
    holder.query("SELECT 1")
    waiters = []
    for number in range(6):
        waiters.append(pooler.doorman.client())
        waiters[-1].send(query("SELECT %d, clock_timestamp()" % number))
        wait_until(lambda n=number: pooler.doorman.pool_row()["cl_waiting"] == n + 1, 5,
                   "the client to wait")
    pooler.upgrade()
    assert pooler.doorman.pool_row()["cl_waiting"] == 6
    holder.query("COMMIT")
    served = [wire.rows(waiter.until_ready())[0] for waiter in waiters]
    assert [row[0] for row in sorted(served, key=lambda row: row[1])] == list("012345")
    for client in [holder] + waiters:
        client.terminate()


def test_c1_13_deferred_begin_is_still_owed(upgrading):
    pooler = upgrading()
    client = pooler.doorman.client()
    client.query("BEGIN")
    pooler.upgrade()
    assert wire.status(client.query("SELECT 1")) == "T"
    client.query("COMMIT")
    assert wire.status(client.query("SELECT 1")) == "I"
    client.terminate()


def test_half_sent_message_is_completed_later(upgrading):
    pooler = upgrading()
    client = pooler.doorman.client()
    whole = query("SELECT 'from two halves'")
    client.send(whole[:9])
    pooler.upgrade()
    client.send(whole[9:])
    assert wire.rows(client.until_ready()) == [["from two halves"]]
    client.terminate()


def test_copy_in_both_directions_goes_on(upgrading, postgres, table):
    name = table("line text")
    pooler = upgrading()
    source = pooler.doorman.client()
    source.send(query("COPY %s FROM STDIN" % name))
    wait_until(lambda: source.receive().type == "G", 5, "CopyInResponse")
    source.send(wire.message("d", b"one\n"))
    pooler.upgrade()
    source.send(wire.message("d", b"two\n") + wire.message("c"))
    assert wire.tags(source.until_ready()) == ["COPY 2"]

    sink = pooler.doorman.client()
    sink.send(query("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 40000)) TO STDOUT"))
    wait_until(lambda: postgres.backends("state = 'active'"), 5, "the copy to begin")
    pooler.upgrade()
    messages = sink.until_ready()
    rows = [m for m in messages if m.type == "d"]
    assert len(rows) == 40000 and all(len(m.body) == 1001 for m in rows)
    assert wire.tags(messages) == ["COPY 40000"]
    source.terminate()
    sink.terminate()


def test_large_result_is_neither_cut_nor_doubled(upgrading):
    pooler = upgrading()
    client = pooler.doorman.client()
    client.send(query("SELECT n, md5(n::text), repeat('y', 2000) "
                      "FROM generate_series(1, 30000) n"))
    pooler.upgrade()
    pooler.upgrade()
    rows = wire.rows(client.until_ready())
    assert [int(row[0]) for row in rows] == list(range(1, 30001))
    client.terminate()


def test_session_mode_client_keeps_what_it_set(upgrading):
    pooler = upgrading(pool_mode="session")
    client = pooler.doorman.client()
    client.query("SET work_mem = '5MB'; LISTEN news; CREATE TEMP TABLE mine AS SELECT 1 AS a")
    pid = client.value("SELECT pg_backend_pid()")
    pooler.upgrade()
    assert client.value("SHOW work_mem") == "5MB"
    assert client.value("SELECT pg_backend_pid()") == pid
    assert client.value("SELECT a FROM mine") == "1"
    messages = client.query("NOTIFY news, 'heard'")
    assert [m for m in messages if m.type == "A"]
    client.terminate()


def test_prepared_statements_live_on(upgrading):
    pooler = upgrading(pool_size=2)
    connection = pooler.doorman.connect()
    client = pooler.doorman.client()
    client.send(wire.parse("one", "SELECT $1::int + 1") + wire.parse("", "SELECT 'nameless'")
                + wire.sync())
    client.until_ready()
    for number in range(3):
        pooler.upgrade()
        client.send(wire.bind("", "one", [str(number)]) + wire.execute() + wire.sync())
        assert wire.rows(client.until_ready()) == [[str(number + 1)]]
    client.send(wire.bind("", "", []) + wire.execute() + wire.sync())
    messages = client.until_ready()
    assert not wire.errors(messages) or number == 2
    client.terminate()
    connection.close()


def test_b14_unix_socket_and_its_clients_move(upgrading, tmp_path):
    pooler = upgrading(general={"unix_socket_dir": str(tmp_path)})
    path = os.path.join(str(tmp_path), ".s.PGSQL.%d" % pooler.doorman.port)
    wait_until(lambda: "Accepting connections" in pooler.doorman.log(), 10, "the pooler to be up")
    inode = os.stat(path).st_ino
    client = pooler.doorman.connect(host=str(tmp_path))
    cursor = client.cursor()
    cursor.execute("SELECT 1")
    refused = []
    done = threading.Event()

    def knock(host):
        while not done.is_set():
            try:
                pooler.doorman.connect(host=host).close()
            except psycopg2.Error as error:
                refused.append(str(error))

    knockers = [threading.Thread(target=knock, args=(host,)) for host in (str(tmp_path), "127.0.0.1")]
    for knocker in knockers:
        knocker.start()
    for _ in range(3):
        pooler.upgrade()
        cursor.execute("SELECT 2")
        assert cursor.fetchone() == (2,)
    done.set()
    for knocker in knockers:
        knocker.join()
    assert not refused
    assert os.stat(path).st_ino == inode
    client.close()


def test_console_clients_and_pauses_move(upgrading):
    pooler = upgrading()
    console = pooler.doorman.connect_admin()
    client = pooler.doorman.client()
    with console.cursor() as cursor:
        cursor.execute("PAUSE")
        pooler.upgrade()
        cursor.execute("SHOW POOLS")
        paused = [column.name for column in cursor.description].index("paused")
        assert cursor.fetchall()[0][paused] in ("1", "t", "true", "yes")
        client.send(query("SELECT 'after'"))
        wait_until(lambda: pooler.doorman.pool_row()["cl_waiting"] == 1, 5, "the client to wait")
        pooler.upgrade()
        cursor.execute("RESUME")
        assert wire.rows(client.until_ready()) == [["after"]]
        client.terminate()
    status = pooler.status()
    assert status["generation"] == "2" and status["result"] == "ok"
    console.close()


def test_commands_prepared_on_the_console_move(upgrading):
    pooler = upgrading()
    console = pooler.doorman.wire().login("admin", "pgdoorman", "admin secret")
    console.send(wire.parse("version", "SHOW VERSION"), wire.parse("pause", "PAUSE $1"),
                 wire.parse("", "SHOW POOLS"), wire.sync())
    assert not wire.errors(console.until_ready())
    for _ in range(2):
        pooler.upgrade()
        for name in ("version", ""):
            console.send(wire.bind("", name), wire.execute(), wire.sync())
            messages = console.until_ready()
            assert not wire.errors(messages) and wire.rows(messages)
    console.send(wire.bind("", "pause", ["app"]), wire.execute(), wire.sync())
    assert not wire.errors(console.until_ready())
    assert pooler.doorman.pool_row()["paused"]
    console.query("RESUME")
    console.terminate()


def test_counters_do_not_fall(upgrading):
    pooler = upgrading()
    client = pooler.doorman.client()
    for number in range(20):
        client.query("SELECT %d" % number)
    def total():
        rows = {row["database"]: row for row in pooler.doorman.admin("SHOW STATS")}
        return int(rows["app"]["total_query_count"])
    before = total()
    assert before >= 20
    pooler.upgrade()
    client.query("SELECT 1")
    assert total() == before + 1
    assert int(pooler.doorman.admin("SHOW CONNECTIONS")[0]["total"]) > 2
    client.terminate()


def test_percentiles_move_with_what_they_are_made_of(upgrading):
    """As if nothing had been: neither an empty window, nor all of the past in it, nor twice."""
    pooler = upgrading()
    client = pooler.doorman.client()
    for _ in range(9):
        client.query("SELECT pg_sleep(0.2)")

    def times():
        rows = {row["what"]: row for row in pooler.doorman.admin("SHOW LATENCY")}
        return rows["query"]
    before = times()
    assert int(before["count"]) == 9 and float(before["0.5"]) >= 200000
    for _ in range(2):
        pooler.upgrade()
        after = times()
        assert int(after["count"]) == 9
        assert [after[name] for name in ("0.5", "0.99", "max")] == \
            [before[name] for name in ("0.5", "0.99", "max")]
    client.query("SELECT 1")
    assert int(times()["count"]) == 10
    client.terminate()


def test_limits_on_silence_hold_after_the_move(upgrading):
    pooler = upgrading(general={"client_idle_timeout": "3s"})
    with pooler.doorman.client(TimeZone="Asia/Tokyo") as client:
        client.value("SELECT 1")
        pooler.upgrade()
        assert client.value("SHOW TimeZone") == "Asia/Tokyo"
        assert wire.sqlstates(client.wait_closed()) == ["57P05"]
