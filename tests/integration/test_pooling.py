"""Sharing backends: sizes, fairness, transactions, session state, life and death of backends."""

import asyncio
import threading
import time

import pytest

import wire
from pooler import pool, trust_user
from waiting import stays, wait_until


def test_two_clients_take_turns_on_one_backend(doorman):
    pooler = doorman(pool_size=1)
    with pooler.client() as first, pooler.client() as second:
        assert first.backend_pid() == second.backend_pid() == first.backend_pid()


def test_transaction_keeps_its_backend_to_itself(doorman):
    pooler = doorman(pool_size=2)
    with pooler.client() as first, pooler.client() as second:
        first.query("BEGIN")
        mine = first.backend_pid()
        assert second.backend_pid() != mine
        assert first.backend_pid() == mine
        assert wire.status(first.query("COMMIT")) == "I"


def test_session_mode_keeps_the_backend_till_the_client_leaves(doorman, postgres):
    pooler = doorman(pool_size=2, pool_mode="session")
    with pooler.client() as first:
        mine = first.backend_pid()
        with pooler.client() as second:
            assert second.backend_pid() != mine
            assert first.backend_pid() == mine
            row = pooler.pool_row()
            assert (row["cl_active"], row["sv_active"]) == (2, 2)
    pooler.wait_idle()


def test_counters_are_idle_when_the_client_reads_ready_for_query(doorman):
    pooler = doorman(pool_size=1)
    with pooler.client() as client:
        client.query("BEGIN")
        client.query("SELECT 1")
        row = pooler.pool_row()
        assert (row["cl_active"], row["sv_active"], row["cl_waiting"]) == (1, 1, 0)
        client.query("COMMIT")
        row = pooler.pool_row()
        assert (row["cl_active"], row["sv_active"]) == (0, 0)
        assert (row["cl_idle"], row["sv_idle"]) == (1, 1)


def test_deferred_begin_takes_no_backend(doorman, postgres):
    pooler = doorman(pool_size=1)
    with pooler.client() as client, pooler.client() as other:
        messages = client.query("begin;")
        assert wire.tags(messages) == ["BEGIN"] and wire.status(messages) == "T"
        assert pooler.pool_row()["sv_active"] == 0
        assert other.value("SELECT 'not blocked'") == "not blocked"
        assert wire.status(client.query("SELECT 1")) == "T"
        assert pooler.pool_row()["sv_active"] == 1
        assert wire.status(client.query("ROLLBACK")) == "I"


def test_deferred_begin_is_forgotten_with_its_client(doorman, postgres):
    pooler = doorman(pool_size=1, server_database="logged")
    with pooler.client() as client:
        client.value("SELECT 1")
        mark = postgres.log_position()
        client.query("begin;")
        client.terminate()
    with pooler.client() as client:
        client.value("SELECT 'after'")
    wait_until(lambda: "SELECT 'after'" in postgres.statements_since(mark), 5, "the log")
    assert not [s for s in postgres.statements_since(mark) if s.lower().startswith("begin")]


def test_failed_transaction_keeps_its_backend_till_rollback(doorman, postgres):
    pooler = doorman(pool_size=1)
    with pooler.client() as client:
        client.query("BEGIN")
        assert wire.sqlstates(client.query("SELECT 1/0")) == ["22012"]
        assert len(postgres.backends("state = 'idle in transaction (aborted)'")) == 1
        assert wire.sqlstates(client.query("SELECT 1")) == ["25P02"]
        messages = client.query("ROLLback /*x*/;")
        assert wire.tags(messages) == ["ROLLBACK"] and wire.status(messages) == "I"
        assert postgres.backends("state LIKE 'idle in transaction%%'") == []


def test_savepoint_after_an_error_stays_on_its_backend(doorman):
    pooler = doorman(pool_size=2)
    with pooler.client() as client, pooler.client() as other:
        client.query("BEGIN")
        mine = client.backend_pid()
        client.query("SAVEPOINT s")
        client.query("SELECT nonsense")
        assert other.backend_pid() != mine
        client.query("ROLLBACK TO s")
        assert client.backend_pid() == mine
        assert wire.status(client.query("COMMIT")) == "I"


def test_waiting_for_a_backend_ends_with_an_error_and_nothing_runs_later(doorman, table):
    name = table("x int")
    pooler = doorman(pool_size=1, general={"query_wait_timeout": "300ms"})
    with pooler.client() as holder, pooler.client() as late:
        holder.query("BEGIN")
        holder.query("SELECT 1")
        began = time.monotonic()
        late.send(wire.extended("INSERT INTO %s VALUES (1)" % name), wire.sync())
        messages = late.until_ready()
        assert time.monotonic() - began < 5
        error, = wire.errors(messages)
        assert (error["S"], error["C"]) == ("FATAL", "53300")
        assert error["M"] == (
            "Could not get a database connection from the pool. All servers may be busy or down. "
            "Error details: Timeout occurred while waiting free connection from pool "
            "(query_wait_timeout). Please try again later.")
        assert wire.types(messages) == "EZ"
        assert late.wait_closed() == []
        holder.query("COMMIT")
        with pooler.client() as client:
            assert client.value("SELECT count(*) FROM " + name) == "0"
    pooler.wait_idle()


def test_client_that_leaves_the_queue_is_not_served(doorman, table):
    name = table("x int")
    pooler = doorman(pool_size=1)
    with pooler.client() as holder:
        holder.query("BEGIN")
        holder.query("SELECT 1")
        waiter = pooler.client()
        waiter.send(wire.query("INSERT INTO %s VALUES (1)" % name))
        wait_until(lambda: pooler.pool_row()["cl_waiting"] == 1, 5, "one waiting client")
        waiter.reset()
        wait_until(lambda: pooler.pool_row()["cl_waiting"] == 0, 5, "the queue to be empty")
        holder.query("COMMIT")
        assert holder.value("SELECT count(*) FROM " + name) == "0"
    pooler.wait_idle()


def test_waiters_are_served_in_the_order_they_came(doorman):
    pooler = doorman(pool_size=1)
    order, lock = [], threading.Lock()

    with pooler.client() as holder:
        holder.query("BEGIN")
        holder.query("SELECT 1")
        clients = [pooler.client() for _ in range(6)]
        for number, client in enumerate(clients):
            client.send(wire.query("SELECT pg_sleep(0.05), %d" % number))
            wait_until(lambda: pooler.pool_row()["cl_waiting"] == number + 1, 5, "one more waiter")
        threads = []
        for number, client in enumerate(clients):
            def read(client=client, number=number):
                client.until_ready()
                with lock:
                    order.append(number)
            threads.append(threading.Thread(target=read))
            threads[-1].start()
        holder.query("COMMIT")
        for thread in threads:
            thread.join(20)
        assert order == sorted(order)
        for client in clients:
            client.terminate()


@pytest.mark.slow
def test_200_clients_on_4_backends_see_their_own_rows_and_none_starves(doorman, postgres, table):
    clients, size, rounds = 200, 4, 8
    name = table("client int, round int, mark text")
    pooler = doorman(pool_size=size, general={"query_wait_timeout": "30s"})
    samples, done = [], threading.Event()

    def sample():
        connection = postgres.connect()
        with connection.cursor() as cursor:
            while not done.is_set():
                cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = 'trust_user'")
                samples.append(cursor.fetchone()[0])
                time.sleep(0.02)
        connection.close()

    async def one(number, finished):
        client = await wire.AsyncWire().open(pooler.address)
        for turn in range(rounds):
            mark = "%d/%d" % (number, turn)
            if turn % 2:
                await client.query("BEGIN")
                await client.query("INSERT INTO %s VALUES (%d, %d, '%s')"
                                   % (name, number, turn, mark))
                assert await client.value("SELECT '%s'" % mark) == mark
                messages = await client.query("COMMIT")
            else:
                messages = await client.run("INSERT INTO %s VALUES (%d, %d, $1)"
                                            % (name, number, turn), [mark])
            assert wire.status(messages) == "I" and not wire.errors(messages)
            mine = await client.value("SELECT string_agg(mark, ',' ORDER BY round) FROM %s "
                                      "WHERE client = %d" % (name, number))
            assert mine == ",".join("%d/%d" % (number, t) for t in range(turn + 1))
            finished[number] = turn
        client.close()

    async def everyone():
        finished = {}
        await asyncio.gather(*(one(number, finished) for number in range(clients)))
        return finished

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        finished = asyncio.run(asyncio.wait_for(everyone(), 90))
    finally:
        done.set()
        sampler.join()
    assert len(finished) == clients and set(finished.values()) == {rounds - 1}
    assert max(samples) == size
    assert postgres.value("SELECT count(*) FROM " + name, database="app") == clients * rounds
    pooler.wait_idle()


@pytest.mark.slow
def test_nobody_waits_much_longer_than_the_others(doorman):
    """50 clients a backend, 2 ms each: the slowest is bounded by the queue, not by luck."""
    pooler = doorman(pool_size=2, general={"query_wait_timeout": "30s"})
    waits, counts = [], {}

    async def one(number, end):
        client = await wire.AsyncWire().open(pooler.address)
        while time.monotonic() < end:
            began = time.monotonic()
            await client.query("SELECT pg_sleep(0.002)")
            waits.append(time.monotonic() - began)
            counts[number] = counts.get(number, 0) + 1
        client.close()

    async def everyone():
        end = time.monotonic() + 4
        await asyncio.gather(*(one(number, end) for number in range(100)))

    asyncio.run(everyone())
    waits.sort()
    median = waits[len(waits) // 2]
    assert len(counts) == 100
    assert min(counts.values()) >= max(counts.values()) / 3, counts
    assert waits[-1] < 10 * median + 0.5, (waits[-1], median)


def test_pool_grows_at_once_when_there_is_room(doorman, postgres):
    pooler = doorman(pool_size=20)
    clients = [pooler.client() for _ in range(20)]
    for client in clients:
        client.send(wire.query("SELECT pg_sleep(1)"))
    wait_until(lambda: pooler.pool_row()["sv_active"] == 20, 3, "20 active backends")
    row = pooler.pool_row()
    assert (row["cl_active"], row["cl_waiting"]) == (20, 0)
    for client in clients:
        client.until_ready()
        client.terminate()
    pooler.wait_idle()
    assert len(postgres.backends()) == 20


def test_max_connections_is_exact(doorman):
    pooler = doorman(general={"max_connections": 5})
    clients = [pooler.client() for _ in range(5)]
    with pytest.raises(wire.LoginFailed) as refusal:
        pooler.client()
    error = refusal.value.error
    assert (error["S"], error["C"], error["M"]) == (
        "FATAL", "53300", "sorry, too many clients already")
    with pooler.wire() as late:
        late.send(wire.untyped(wire.SSL_REQUEST))
        assert late.take(1) == b"N"
        assert wire.sqlstates(late.wait_closed()) == ["53300"]
    for client in clients:
        assert client.value("SELECT 1") == "1"

    def admitted():
        try:
            pooler.client().terminate()
            return True
        except wire.LoginFailed:
            return False

    clients.pop().terminate()
    wait_until(admitted, 5, "the freed place")
    for client in clients:
        client.terminate()


# ---- what a client leaves behind


def test_settings_of_one_client_do_not_reach_the_next(doorman):
    pooler = doorman(pool_size=1)
    with pooler.client() as first, pooler.client() as second:
        default = second.value("SHOW statement_timeout")
        first.query("SET statement_timeout = 12345")
        assert second.value("SHOW statement_timeout") == default
        assert not wire.errors(first.query("SET ROLE trust_user"))
        first.query("BEGIN; SET work_mem = '1MB'; COMMIT")
        assert second.value("SHOW role") == "none"
        assert second.value("SHOW work_mem") == "4MB"


@pytest.mark.parametrize("mode", ["transaction", "session"])
@pytest.mark.parametrize("dirty, check, clean", [
    ("SELECT pg_advisory_lock(4711)",
     "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", "0"),
    ("LISTEN somewhere", "SELECT count(*) FROM pg_listening_channels()", "0"),
    ("PREPARE leftover AS SELECT 1", "SELECT count(*) FROM pg_prepared_statements", "0"),
    ("SELECT set_config('work_mem', '1MB', false)", "SHOW work_mem", "4MB"),
    ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "SELECT count(*) FROM pg_cursors", "0"),
    ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
     "SHOW default_transaction_read_only", "off"),
    ("SET ROLE trust_user", "SHOW role", "none"),
    ("SET SESSION AUTHORIZATION trust_user; SET ROLE trust_user", "SHOW role", "none"),
    ("CREATE TEMP TABLE secret (x int)",
     "SELECT count(*) FROM pg_class WHERE relname = 'secret'", "0"),
    ("DO $$ BEGIN PERFORM set_config('work_mem', '1MB', false); END $$", "SHOW work_mem", "4MB"),
    ("RESET ALL; SELECT set_config('work_mem', '1MB', false)", "SHOW work_mem", "4MB"),
    ("SELECT ';'; SET work_mem = '1MB'; SELECT 'x'", "SHOW work_mem", "4MB"),
], ids=["advisory", "listen", "prepare", "set_config", "cursor", "characteristics", "role",
        "authorization", "temp", "do", "reset-and-set", "among-others"])
@pytest.mark.parametrize("how", ["simple", "extended"])
def test_session_state_does_not_reach_the_next_client(doorman, mode, dirty, check, clean, how):
    if how == "extended" and dirty.count(";") and not dirty.startswith("DO"):
        pytest.skip("several statements are for the simple protocol")
    pooler = doorman(pool_size=1, pool_mode=mode)
    with pooler.client() as first:
        if how == "extended":
            messages = first.run(dirty)
        else:
            messages = first.query(dirty)
        assert not wire.errors(messages)
        first.terminate()
    pooler.wait_idle()
    with pooler.client() as second:
        assert second.value(check) == clean


def test_temporary_table_does_not_reach_another_client(doorman):
    pooler = doorman(pool_size=1)
    with pooler.client() as first, pooler.client() as second:
        first.query("CREATE TEMP TABLE secret AS SELECT 1 AS x")
        assert wire.sqlstates(second.query("SELECT * FROM secret")) == ["42P01"]


def test_temporary_table_is_there_in_the_same_clients_next_transaction(doorman):
    pooler = doorman(pool_size=10)
    with pooler.client() as client:
        client.query("CREATE TEMP TABLE mine (x int)")
        client.query("INSERT INTO mine VALUES (7)")
        assert client.value("SELECT x FROM mine") == "7"


def test_temporary_tables_of_two_clients_stay_apart(doorman):
    """Each gets its own backend again while both are idle; who comes between finds neither."""
    pooler = doorman(pool_size=2)
    with pooler.client() as first, pooler.client() as second:
        first.query("BEGIN")
        first.query("CREATE TEMP TABLE mine AS SELECT 1 AS x")
        second.query("CREATE TEMP TABLE mine AS SELECT 2 AS x")
        first.query("COMMIT")
        for _ in range(3):
            assert first.value("SELECT x FROM mine") == "1"
            assert second.value("SELECT x FROM mine") == "2"
        with pooler.client() as third:
            assert third.value("SELECT count(*) FROM pg_class WHERE relname = 'mine' "
                               "AND pg_table_is_visible(oid)") == "0"


def test_commands_behind_a_reset_are_cleaned_too(doorman):
    """In one go: each reply is counted in its turn."""
    pooler = doorman(pool_size=1, pool_mode="session")
    with pooler.client() as first:
        first.send(wire.query("SET work_mem = '2MB'"), wire.query("RESET ALL"),
                   wire.query("SELECT set_config('work_mem', '1MB', false)"))
        for _ in range(3):
            assert not wire.errors(first.until_ready())
        first.terminate()
    pooler.wait_idle()
    with pooler.client() as second:
        assert second.value("SHOW work_mem") == "4MB"


def test_function_call_that_locks_is_cleaned(doorman):
    pooler = doorman(pool_size=1)
    with pooler.client() as client:
        client.send(wire.function_call(2880, [(4711).to_bytes(8, "big")]))
        assert not wire.errors(client.until_ready())
        assert client.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == "0"


CLEANUP = [
    ("transaction", ["SET statement_timeout = 1000"], {"RESET ALL": 1, "RESET ROLE": 1}),
    ("transaction", ["SET SESSION AUTHORIZATION DEFAULT; RESET ALL; CLOSE ALL; UNLISTEN *; "
                     "SELECT pg_advisory_unlock_all(); DISCARD PLANS; DISCARD SEQUENCES; "
                     "DISCARD TEMP"], {"RESET ALL": 1, "RESET ROLE": 0}),
    ("session", ["SET statement_timeout = 1000", "DISCARD ALL"],
     {"DISCARD ALL": 1, "RESET ROLE": 0, "RESET ALL": 0}),
    ("transaction", ["BEGIN", "DECLARE c CURSOR FOR SELECT 1", "CLOSE ALL", "COMMIT"],
     {"RESET ROLE": 0}),
    ("session", ["SET statement_timeout = 1000", "RESET statement_timeout"], {"RESET ROLE": 0}),
    ("transaction", ["BEGIN", "DECLARE c1 CURSOR FOR SELECT 1", "DECLARE c2 CURSOR FOR SELECT 1",
                     "CLOSE c1", "COMMIT"], {"RESET ROLE": 1, "CLOSE ALL": 1}),
    ("session", ["SELECT 1/0"], {"DEALLOCATE ALL": 1}),
    ("session", ["SELECT 1/0", "DISCARD ALL"], {"DEALLOCATE ALL": 0, "RESET ROLE": 0}),
    ("transaction", ["BEGIN", "SET LOCAL statement_timeout = 1000", "COMMIT"], {"RESET ALL": 0}),
    ("transaction", ["SELECT 1"], {"RESET": 0, "DEALLOCATE": 0, "DISCARD": 0}),
    ("session", ["SET statement_timeout = 1000", "SET work_mem = '1MB'",
                 "RESET statement_timeout"], {"RESET ROLE": 1, "RESET ALL": 1}),
    ("session", ["SET statement_timeout = 1000", "BEGIN", "RESET statement_timeout", "ROLLBACK"],
     {"RESET ROLE": 1, "RESET ALL": 1}),
    ("transaction", ["SELECT set_config('statement_timeout', '1000', true)"], {"RESET": 0}),
    ("transaction", ["SELECT pg_advisory_lock(1)"],
     {"RESET ROLE": 1, "pg_advisory_unlock_all": 1, "RESET ALL": 0}),
    ("transaction", ["SELECT 'it''s; SET a'", "SELECT $$; LISTEN x$$"],
     {"RESET": 0, "UNLISTEN": 0}),
]


@pytest.mark.parametrize("mode, script, expected", CLEANUP,
                         ids=["set", "cleaned-by-client", "set-discard", "cursors-closed",
                              "set-reset", "cursor-left", "error", "error-discard", "set-local",
                              "nothing", "one-of-two-reset", "reset-rolled-back",
                              "set-config-local", "advisory", "quoted"])
def test_cleanup_is_what_the_client_made_necessary(doorman, postgres, mode, script, expected):
    """Counted in PostgreSQL's log; what the client itself sent counts too."""
    pooler = doorman(pool_size=1, server_database="logged", pool_mode=mode)
    with pooler.client() as client:
        if mode == "transaction":
            client.query("SELECT 'warm'")
        mark = postgres.log_position()
        for statement in script:
            client.query(statement)
        client.terminate()

    def cleaned():
        log = "\n".join(postgres.statements_since(mark))
        return all(log.count(text) == count for text, count in expected.items())

    pooler.wait_idle()
    wait_until(cleaned, 3, "the statements %r" % expected)
    # Nothing more may follow: eager, once, and never repeated at the next checkout.
    with pooler.client() as client:
        assert client.value("SELECT 'next'") == "next"
        assert client.value("SHOW statement_timeout") == "0"
    assert cleaned(), postgres.statements_since(mark)


def test_cleanup_can_be_switched_off_but_rollback_cannot(doorman, postgres, table):
    name = table("x int")
    pooler = doorman(pool_size=1, cleanup_server_connections=False)
    with pooler.client() as first:
        first.query("SET work_mem = '1MB'")
        first.query("BEGIN")
        first.query("INSERT INTO %s VALUES (1)" % name)
        first.reset()
    pooler.wait_idle()
    with pooler.client() as second:
        assert second.value("SHOW work_mem") == "1MB"
        assert second.value("SELECT count(*) FROM " + name) == "0"
        assert wire.status(second.query("SELECT 1")) == "I"


def test_reset_returns_to_startup_parameters(doorman):
    pooler = doorman(pool_size=1, startup_parameters={"work_mem": "7MB"})
    with pooler.client() as client:
        assert client.value("SHOW work_mem") == "7MB"
        client.query("SET work_mem = '1MB'")
        assert client.value("SHOW work_mem") == "7MB"


# ---- life of backends


def pids(postgres):
    return [backend[0] for backend in postgres.backends()]


def test_min_pool_size_is_there_from_the_start(doorman, postgres):
    pooler = doorman(pool_size=5, user={"min_pool_size": 3})
    wait_until(lambda: len(postgres.backends()) == 3, 5, "three backends before any client")
    assert len(pooler.admin("SHOW SERVERS")) == 3


def test_min_pool_size_is_restored(doorman, postgres):
    doorman(pool_size=5, user={"min_pool_size": 2}, general={"retain_connections_time": "300ms"})
    wait_until(lambda: len(postgres.backends()) == 2, 5, "two backends")
    gone = postgres.terminate()
    wait_until(lambda: len(postgres.backends()) == 2 and not set(pids(postgres)) & set(gone), 8,
               "two other backends")


def test_lifetime_replaces_backends(doorman, postgres):
    pooler = doorman(pool_size=2, server_lifetime=300, general={"retain_connections_time": "60s"})
    with pooler.client() as client:
        first = client.backend_pid()
        wait_until(lambda: client.backend_pid() != first, 8, "another backend", 0.2)
        wait_until(lambda: first not in pids(postgres), 5, "the old one to be closed")


def test_lifetime_keeps_min_pool_size_and_changes_pids(doorman, postgres):
    doorman(pool_size=5, user={"min_pool_size": 2}, server_lifetime=500,
            general={"retain_connections_time": "200ms"})
    wait_until(lambda: len(postgres.backends()) == 2, 5, "two backends")
    first = set(pids(postgres))
    wait_until(lambda: len(pids(postgres)) >= 2 and not first & set(pids(postgres)), 10,
               "two new backends")


def test_idle_timeout_empties_the_pool(doorman, postgres):
    pooler = doorman(pool_size=3, idle_timeout=300, general={"retain_connections_time": "100ms"})
    with pooler.client() as client:
        client.value("SELECT 1")
        wait_until(lambda: postgres.backends() == [], 8, "no backend")
        assert pooler.admin("SHOW SERVERS") == []
        assert client.value("SELECT 2") == "2"


def test_backend_that_died_idle_is_replaced_unnoticed(doorman, postgres):
    pooler = doorman(pool_size=2)
    with pooler.client() as client:
        for _ in range(5):
            first = client.backend_pid()
            postgres.terminate()
            wait_until(lambda: first not in pids(postgres), 5, "the backend to end")
            assert client.backend_pid() != first


def test_named_statement_survives_a_new_backend(doorman, postgres):
    pooler = doorman(pool_size=1)
    with pooler.client() as client:
        client.send(wire.parse("s", "SELECT $1::int + 1"), wire.sync())
        assert wire.essence(client.until_ready()) == "1Z"
        for value in (1, 2):
            client.send(wire.bind("", "s", [value]), wire.execute(), wire.sync())
            assert wire.rows(client.until_ready()) == [[str(value + 1)]]
            first = postgres.terminate()
            wait_until(lambda: not set(first) & set(pids(postgres)), 5, "the backend to end")
        client.send(wire.bind("", "s", [9]), wire.execute(), wire.sync())
        assert wire.rows(client.until_ready()) == [["10"]]


def test_two_clients_use_one_statement_name_for_different_texts(doorman):
    pooler = doorman(pool_size=1)
    with pooler.client() as a, pooler.client() as b:
        for client, text in ((a, "SELECT 'a' || $1::text"), (b, "SELECT 'b' || $1::text")):
            client.send(wire.parse("s", text), wire.sync())
            client.until_ready()
        for turn in range(5):
            for client, letter in ((a, "a"), (b, "b")):
                client.send(wire.bind("", "s", [turn]), wire.execute(), wire.sync())
                assert wire.rows(client.until_ready()) == [["%s%d" % (letter, turn)]]


def test_pools_of_two_users_and_databases_are_apart(doorman, postgres):
    pooler = doorman(pools={"app": pool(postgres, [trust_user(1)]),
                            "other": pool(postgres, [trust_user(1)])})
    with pooler.client("app") as a, pooler.client("other") as b:
        a.query("BEGIN")
        a.query("SELECT 1")
        assert b.value("SELECT current_database()") == "other"
        assert pooler.pool_row("app")["sv_active"] == 1
        assert pooler.pool_row("other")["sv_active"] == 0


def test_idle_backends_stay_open(doorman, postgres):
    pooler = doorman(pool_size=2)
    with pooler.client() as client:
        first = client.backend_pid()
    stays(lambda: pids(postgres) == [first], 0.5, "the idle backend")
