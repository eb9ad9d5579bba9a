"""psycopg 3: the extended protocol of libpq, with prepared statements and pipelines."""

import datetime

import psycopg
import psycopg.errors as errors
import psycopg_pool

import matrix
from matrix import DATABASE, DSN, KEEPS_STATE, NotApplicable, Repeated, once


def connect(autocommit=True, **more):
    return psycopg.connect(dbname=DATABASE, sslmode="disable", autocommit=autocommit, **DSN,
                           **more)


def value(connection, *statement, **more):
    return connection.execute(*statement, **more).fetchone()[0]


def simple(client):
    with connect() as connection:
        cursor = connection.execute("SELECT 1 AS a; SELECT 'two' AS b")
        assert cursor.fetchall() == [(1,)] and cursor.nextset()
        assert cursor.fetchall() == [("two",)] and not cursor.nextset()
        now = datetime.datetime(2020, 2, 29, tzinfo=datetime.timezone.utc)
        row = connection.execute("SELECT %s, %s, %s::timestamptz, %s::int[], %s::text",
                                 ("ü", b"\x00\xff", now, [1, None, 3], None)).fetchone()
        assert row == ("ü", b"\x00\xff", now, [1, None, 3], None), row
        cursor = connection.execute("UPDATE %s SET amount = 1 WHERE false" % client.table)
        client.see(cursor.statusmessage, cursor.rowcount)
        client.see(connection.execute("").statusmessage)
        binary = connection.execute("SELECT %b::int8 + 1", (41,), binary=True)
        assert binary.fetchone() == (42,)


def work(connection, turns=60):
    for turn in range(turns):
        assert value(connection, "SELECT %s::int + " + str(turn % 5), (turn,)) == turn + turn % 5
        assert value(connection, "SELECT %s::text || 'x'", (str(turn),)) == "%dx" % turn


def prepared(client):
    """By default from the fifth use on."""
    with connect() as connection:
        work(connection)
        for _ in range(8):
            try:
                connection.execute("SELECT 10 / %s::int", (0,))
            except errors.DivisionByZero as problem:
                client.see(problem.sqlstate)
        work(connection)


def forced(client):
    with connect(prepare_threshold=0) as connection:
        connection.prepared_max = 3  # so that it deallocates, too
        work(connection)
        with connection.transaction():
            work(connection, 10)
        assert value(connection, "SELECT 7", prepare=True) == 7


def unprepared(client):
    with connect(prepare_threshold=None) as connection:
        work(connection)


def pipeline(client):
    insert = "INSERT INTO %s VALUES (%%s, %%s, %%s, %%s)" % client.table
    with connect(prepare_threshold=0) as connection:
        with connection.pipeline() as pipe, connection.transaction(force_rollback=True):
            cursor = connection.cursor()
            cursor.executemany(insert, [(client.number, n, "row", n) for n in range(200)])
            total = connection.execute("SELECT sum(amount), count(*) FROM %s WHERE client = %%s"
                                       % client.table, (client.number,))
            pipe.sync()
            assert total.fetchone() == (19900, 200)
        cursors = []
        with connection.pipeline():
            for number in range(50):
                cursors.append(connection.execute("SELECT %s::int * 2", (number,)))
        assert [c.fetchone()[0] for c in cursors] == [2 * n for n in range(50)]
    # With a threshold of 0 it would take for prepared what the server skipped after an error.
    with connect() as connection:
        try:
            with connection.pipeline():
                connection.execute("SELECT 1")
                connection.execute("SELECT 1 / %s::int", (0,))
                connection.execute("SELECT 2")
            raise AssertionError("the pipeline did not fail")
        except errors.DivisionByZero as problem:
            client.see(problem.sqlstate, problem)
        with connection.pipeline() as pipe:
            first = connection.execute("SELECT 1")
            try:
                connection.execute("SELECT nonsense")
                pipe.sync()
                raise AssertionError("the pipeline did not fail")
            except errors.UndefinedColumn as problem:
                client.see(problem.sqlstate, problem)
            second = connection.execute("SELECT 2")
            pipe.sync()
            assert (first.fetchone(), second.fetchone()) == ((1,), (2,))
        assert value(connection, "SELECT 3") == 3


def copy(client):
    with connect(autocommit=False) as connection:
        cursor = connection.cursor()
        with cursor.copy("COPY %s FROM STDIN" % client.table) as copying:
            for number in range(3000):
                copying.write_row((client.number, number, "copy %d" % number, number))
        client.see(cursor.statusmessage)
        with cursor.copy("COPY (SELECT id, label FROM %s WHERE client = %d ORDER BY id) TO STDOUT "
                         "(FORMAT BINARY)" % (client.table, client.number)) as copying:
            copying.set_types(["int4", "text"])
            assert list(copying.rows()) == [(n, "copy %d" % n) for n in range(3000)]
        connection.rollback()
        for stop in (False, True):
            try:
                with cursor.copy("COPY %s FROM STDIN" % client.table) as copying:
                    copying.write("1\t2\tx\t3\n" if stop else "not a number\n")
                    if stop:
                        raise KeyError("the client gives up")
                    for number in range(2000):
                        copying.write_row((client.number, number, "after the error", 1))
                raise AssertionError("bad rows were copied")
            except errors.InvalidTextRepresentation as problem:
                client.see(problem.sqlstate, problem.diag.message_primary, problem.diag.context)
            except errors.QueryCanceled as problem:  # what CopyFail becomes
                client.see(problem.sqlstate, problem, connection.info.transaction_status.name)
            connection.rollback()
        assert value(connection, "SELECT 1") == 1
        connection.rollback()


def errors_and_recovery(client):
    with connect(prepare_threshold=0) as connection:
        for _ in range(2):
            for text, code in matrix.wrong_statements(client):
                try:
                    connection.execute(text)
                    raise AssertionError("no error from " + text)
                except psycopg.Error as problem:
                    assert problem.sqlstate == code, (text, problem.sqlstate)
                    diag = problem.diag
                    client.see(code, diag.severity, diag.message_primary, diag.message_detail,
                               diag.message_hint, diag.statement_position, diag.constraint_name,
                               diag.context, diag.source_function)
                assert value(connection, "SELECT %s::int", (1,)) == 1
        try:
            connection.execute(b"SELECT $1::int", [])
        except psycopg.Error as problem:
            client.see(problem.sqlstate)
        connection.execute("BEGIN")
        try:
            connection.execute("SELECT 1 / %s::int", (0,))
        except errors.DivisionByZero:
            pass
        for _ in range(2):
            try:
                value(connection, "SELECT %s::int", (1,))
                raise AssertionError("a failed transaction answers")
            except errors.InFailedSqlTransaction as problem:
                client.see(problem.sqlstate, problem)
        connection.execute("ROLLBACK")
        assert value(connection, "SELECT %s::int", (1,)) == 1


errors_and_recovery.__name__ = "errors"


def cancel(client):
    with connect(autocommit=False) as connection:
        for statement in (("SELECT pg_sleep(60)",), ("SELECT pg_sleep(%s)", (60,))):
            try:
                with Repeated(connection.cancel):
                    connection.execute(*statement)
                raise AssertionError("it was not cancelled")
            except errors.QueryCanceled as problem:
                client.see(problem.sqlstate, problem)
            connection.rollback()
            assert value(connection, "SELECT 1") == 1
            connection.rollback()
        connection.cancel()
        connection.execute("SET LOCAL statement_timeout = 50")
        try:
            connection.execute("SELECT pg_sleep(60)")
            raise AssertionError("no time-out")
        except errors.QueryCanceled as problem:
            client.see(problem.sqlstate, problem)
        connection.rollback()


def cursors(client):
    with connect(autocommit=False) as connection:
        with connection.cursor("many") as many, connection.cursor("few") as few:
            many.itersize = 100
            many.execute("SELECT generate_series(1, %s)", (2000,))
            few.execute("SELECT generate_series(1, 3)")
            assert few.fetchone() == (1,)
            assert sum(row[0] for row in many) == 2001000
            assert few.fetchall() == [(2,), (3,)]
        connection.commit()
        with connection.cursor("binary", binary=True, scrollable=True) as scrolls:
            scrolls.execute("SELECT generate_series(1, 10)")
            scrolls.scroll(5, mode="absolute")
            assert scrolls.fetchone() == (6,)
        connection.commit()
        if KEEPS_STATE:
            with connection.cursor("held", withhold=True) as held:
                held.execute("SELECT generate_series(1, 100)")
                connection.commit()
                assert len(held.fetchall()) == 100
            connection.commit()
        stream = connection.cursor().stream("SELECT generate_series(1, 2000)")
        assert sum(row[0] for row in stream) == 2001000
        unread = connection.cursor().stream("SELECT generate_series(1, 20000)")
        assert next(unread) == (1,)
        unread.close()  # it cancels
        connection.rollback()
        assert value(connection, "SELECT 1") == 1
        connection.rollback()


def large(client):
    with connect() as connection:
        text = "x" * 3000000
        for binary in (False, True):
            cursor = connection.cursor(binary=binary)
            cursor.execute("SELECT %s::text, length(%s)", (text, text))
            assert cursor.fetchone() == (text, len(text))
        rows = connection.execute("SELECT n, repeat('y', 50) FROM generate_series(1, 5000) n")
        assert sum(row[0] for row in rows) == 12502500
        assert len(value(connection, "SELECT repeat('z', 5000000)")) == 5000000


def transactions(client):
    insert = "INSERT INTO %s VALUES (%d, %%s, 'x', 1)" % (client.table, client.number)
    count = "SELECT count(*) FROM %s WHERE client = %d" % (client.table, client.number)
    with connect(prepare_threshold=0) as connection:
        with connection.transaction():
            pid = value(connection, "SELECT pg_backend_pid()")
            connection.execute(insert, (1,))
            for _ in range(2):
                try:
                    with connection.transaction():
                        connection.execute(insert, (2,))
                        connection.execute(insert, (1,))
                except errors.UniqueViolation as problem:
                    client.see(problem.sqlstate, problem)
            with connection.transaction():
                connection.execute(insert, (3,))
            assert value(connection, count) == 2
            assert value(connection, "SELECT pg_backend_pid()") == pid
        try:
            with connection.transaction():
                connection.execute("DELETE FROM %s" % client.table)
                raise psycopg.Rollback()
        except psycopg.Rollback:
            pass
        assert value(connection, count) == 2
        connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        connection.read_only = True
        with connection.transaction():
            assert value(connection, "SHOW transaction_isolation") == "serializable"
            assert value(connection, "SHOW transaction_read_only") == "on"
        connection.read_only = None
        connection.isolation_level = None
        deleted = connection.execute("DELETE FROM %s WHERE client = %%s" % client.table,
                                     (client.number,))
        assert deleted.rowcount == 2


def settings(client):
    with connect(autocommit=False, application_name="named by client") as connection:
        assert connection.info.parameter_status("application_name") == "named by client"
        connection.execute("SELECT set_config('work_mem', '7MB', true)")
        assert value(connection, "SHOW work_mem") == "7MB"
        connection.commit()
        assert value(connection, "SHOW work_mem") == "4MB"
        connection.execute("SELECT set_config('work_mem', '8MB', false)")
        connection.execute("SET timezone = 'Asia/Tokyo'")
        assert connection.info.timezone.key == "Asia/Tokyo"
        assert value(connection, "SELECT timestamptz '2020-01-01 00:00Z'").hour == 9
        connection.commit()
        assert value(connection, "SHOW work_mem") == ("8MB" if KEEPS_STATE else "4MB")
        connection.rollback()


def notices(client):
    with connect() as connection:
        heard = []
        connection.add_notice_handler(lambda diag: heard.append(diag.message_primary))
        connection.execute("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$")
        assert heard == ["one", "two"]
        client.see(heard)


@once
def listen(client):
    if not KEEPS_STATE:
        raise NotApplicable("LISTEN belongs to a session")
    with connect() as listener, connect() as teller:
        listener.execute("LISTEN " + client.channel)
        for turn in range(3):
            teller.execute("SELECT pg_notify(%s, %s)", (client.channel, str(turn)))
            assert next(listener.notifies()).payload == str(turn)


def reconnects(client):
    for number in range(8):
        with connect() as connection:
            assert value(connection, "SELECT %s::int", (number,)) == number


@once
def pool(client):
    """Its own pool over ours, used by more threads than it has connections."""
    from concurrent.futures import ThreadPoolExecutor
    with psycopg_pool.ConnectionPool(
            min_size=1, max_size=matrix.CONNECTIONS,
            kwargs={"dbname": DATABASE, "sslmode": "disable", **DSN}) as connections:
        def one(number):
            with connections.connection() as connection:
                return value(connection, "SELECT %s::int + " + str(number % 3), (number,))
        with ThreadPoolExecutor(12) as threads:
            assert list(threads.map(one, range(200))) == [n + n % 3 for n in range(200)]
        connections.check()


def functions(client):
    raise NotApplicable("psycopg 3 has no large objects")


if __name__ == "__main__":
    matrix.run("psycopg 3", psycopg.__version__, [
        simple, prepared, forced, unprepared, pipeline, copy, errors_and_recovery, cancel, cursors,
        large, transactions, settings, notices, listen, reconnects, pool, functions])
