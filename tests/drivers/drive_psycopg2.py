"""psycopg2: libpq, simple protocol only, values put into the text by the driver."""

import io
import select

import psycopg2
import psycopg2.errors as errors
import psycopg2.extensions
import psycopg2.extras
import psycopg2.pool

import matrix
from matrix import DATABASE, DSN, KEEPS_STATE, MODE, NotApplicable, Repeated, once


def connect(**more):
    return psycopg2.connect(dbname=DATABASE, sslmode="disable", **DSN, **more)


def autocommit():
    connection = connect()
    connection.autocommit = True
    return connection


def value(cursor, *statement):
    cursor.execute(*statement)
    return cursor.fetchone()[0]


def simple(client):
    connection = autocommit()
    cursor = connection.cursor()
    cursor.execute("SELECT 1; SELECT 'two', NULL, %s, %s", ("drei ü", b"\x00\xff"))
    two, null, three, four = cursor.fetchone()
    assert (two, null, three, bytes(four)) == ("two", None, "drei ü", b"\x00\xff")
    for number in range(50):
        assert value(cursor, "SELECT %s + 1", (number,)) == number + 1
    cursor.execute("SELECT 1 WHERE false")
    assert cursor.fetchall() == [] and cursor.statusmessage == "SELECT 0"
    cursor.execute("UPDATE %s SET amount = 1 WHERE false" % client.table)
    client.see(cursor.statusmessage, cursor.rowcount)
    try:
        cursor.execute("")
    except psycopg2.ProgrammingError as problem:
        client.see("empty:", problem)
    connection.close()


def prepared(client):
    """SQL's own PREPARE; it belongs to the connection to PostgreSQL, so one transaction has it."""
    connection = connect()
    cursor = connection.cursor()
    for turn in range(5):
        cursor.execute("PREPARE added (int) AS SELECT $1 + %s" % turn)
        for number in range(10):
            assert value(cursor, "EXECUTE added (%s)", (number,)) == number + turn
        cursor.execute("DEALLOCATE added")
        connection.commit()
    connection.close()


def forced(client):
    if not KEEPS_STATE:
        raise NotApplicable("SQL's PREPARE belongs to a session")
    connection = autocommit()
    cursor = connection.cursor()
    cursor.execute("PREPARE kept (text) AS SELECT $1 || '!'")
    for _ in range(5):
        assert value(cursor, "EXECUTE kept ('a')") == "a!"
    cursor.execute("DEALLOCATE ALL")
    try:
        cursor.execute("EXECUTE kept ('a')")
        raise AssertionError("it is still there")
    except errors.InvalidSqlStatementName as problem:
        client.see(problem.pgcode, problem)
    connection.close()


def unprepared(client):
    raise NotApplicable("psycopg2 never prepares; `simple` is that")


def pipeline(client):
    """Many statements in one message, and execute_values and execute_batch."""
    connection = connect()
    cursor = connection.cursor()
    rows = [(client.number, n, "row %d" % n, n) for n in range(200)]
    psycopg2.extras.execute_values(cursor, "INSERT INTO %s VALUES %%s" % client.table, rows)
    psycopg2.extras.execute_batch(
        cursor, "UPDATE " + client.table + " SET amount = amount + 1 WHERE client = %s AND id = %s",
        [(client.number, n) for n in range(200)])
    assert value(cursor, "SELECT sum(amount) FROM %s WHERE client = %d"
                 % (client.table, client.number)) == sum(range(201))
    connection.rollback()
    connection.close()


def copy(client):
    connection = connect()
    cursor = connection.cursor()
    lines = "".join("%d\t%d\tcopy %d\t%d\n" % (client.number, n, n, n) for n in range(3000))
    cursor.copy_expert("COPY %s FROM STDIN" % client.table, io.StringIO(lines))
    client.see(cursor.statusmessage)
    out = io.StringIO()
    cursor.copy_expert("COPY (SELECT * FROM %s WHERE client = %d ORDER BY id) TO STDOUT"
                       % (client.table, client.number), out)
    assert out.getvalue() == lines
    connection.rollback()
    try:
        cursor.copy_expert("COPY %s FROM STDIN" % client.table,
                           io.StringIO("1\t2\tx\t3\n" * 5 + "not a number\n" + lines))
        raise AssertionError("bad rows were copied")
    except errors.InvalidTextRepresentation as problem:
        client.see(problem.pgcode, problem.diag.message_primary, problem.diag.context)
    connection.rollback()
    assert value(cursor, "SELECT 1") == 1
    connection.rollback()
    connection.close()


def errors_and_recovery(client):
    connection = autocommit()
    cursor = connection.cursor()
    several = ("SELECT 1; SELECT 2/0; SELECT 3", "22012")
    for text, code in [*matrix.wrong_statements(client), several]:
        try:
            cursor.execute(text)
            raise AssertionError("no error from " + text)
        except psycopg2.Error as problem:
            assert problem.pgcode == code, (text, problem.pgcode)
            diag = problem.diag
            client.see(code, diag.severity, diag.message_primary, diag.message_detail,
                       diag.message_hint, diag.statement_position, diag.constraint_name,
                       diag.context, diag.source_function)
        assert value(cursor, "SELECT 1") == 1
    connection.close()


errors_and_recovery.__name__ = "errors"


def cancel(client):
    connection = connect()
    cursor = connection.cursor()
    for _ in range(2):
        try:
            with Repeated(connection.cancel):
                cursor.execute("SELECT pg_sleep(60)")
            raise AssertionError("it was not cancelled")
        except errors.QueryCanceled as problem:
            client.see(problem.pgcode, problem)
        connection.rollback()
        assert value(cursor, "SELECT 1") == 1
        connection.rollback()
    connection.cancel()  # nothing runs: no effect
    cursor.execute("SET LOCAL statement_timeout = 50")
    try:
        cursor.execute("SELECT pg_sleep(60)")
        raise AssertionError("no time-out")
    except errors.QueryCanceled as problem:
        client.see(problem.pgcode, problem)
    connection.rollback()
    assert value(cursor, "SELECT 2") == 2
    connection.close()


def cursors(client):
    connection = connect()
    with connection, connection.cursor("many") as many, connection.cursor("few") as few:
        many.itersize = 100
        many.execute("SELECT generate_series(1, 2000)")
        few.execute("SELECT generate_series(1, 3)")
        assert few.fetchone() == (1,)
        assert sum(row[0] for row in many) == 2001000
        assert few.fetchall() == [(2,), (3,)]
    with connection, connection.cursor("scrolls", scrollable=True) as scrolls:
        scrolls.execute("SELECT generate_series(1, 10)")
        scrolls.scroll(5, mode="absolute")
        assert scrolls.fetchone() == (6,)
        scrolls.scroll(-3)
        assert scrolls.fetchone() == (4,)
    if KEEPS_STATE:
        with connection, connection.cursor("held", withhold=True) as held:
            held.execute("SELECT generate_series(1, 100)")
            connection.commit()
            assert len(held.fetchall()) == 100
    connection.close()


def large(client):
    connection = autocommit()
    cursor = connection.cursor()
    text = "x" * 3000000
    cursor.execute("SELECT %s, length(%s)", (text, text))
    assert cursor.fetchone() == (text, len(text))
    cursor.execute("SELECT n, repeat('y', 50) FROM generate_series(1, 20000) n")
    assert sum(row[0] for row in cursor.fetchall()) == 200010000
    assert len(value(cursor, "SELECT repeat('z', 5000000)")) == 5000000
    connection.close()


def transactions(client):
    connection = connect()
    cursor = connection.cursor()
    insert = "INSERT INTO %s VALUES (%d, %%s, 'x', 1)" % (client.table, client.number)
    count = "SELECT count(*) FROM %s WHERE client = %d" % (client.table, client.number)
    cursor.execute(insert, (1,))
    pid = value(cursor, "SELECT pg_backend_pid()")
    cursor.execute("SAVEPOINT one")
    try:
        cursor.execute(insert, (1,))
    except errors.UniqueViolation:
        pass
    try:
        cursor.execute(count)
        raise AssertionError("a failed transaction answers")
    except errors.InFailedSqlTransaction as problem:
        client.see(problem.pgcode, problem)
    cursor.execute("ROLLBACK TO one")
    cursor.execute(insert, (2,))
    cursor.execute("RELEASE one")
    assert value(cursor, count) == 2 and value(cursor, "SELECT pg_backend_pid()") == pid
    status = connection.get_transaction_status()
    assert status == psycopg2.extensions.TRANSACTION_STATUS_INTRANS, status
    connection.commit()
    assert connection.get_transaction_status() == psycopg2.extensions.TRANSACTION_STATUS_IDLE
    connection.set_session(isolation_level="SERIALIZABLE", readonly=True)
    assert value(cursor, "SHOW transaction_isolation") == "serializable"
    try:
        cursor.execute("DELETE FROM %s WHERE client = %d" % (client.table, client.number))
        raise AssertionError("a read-only transaction writes")
    except errors.ReadOnlySqlTransaction as problem:
        client.see(problem.pgcode, problem)
    connection.rollback()
    connection.set_session(isolation_level="READ COMMITTED", readonly=False)
    cursor.execute("DELETE FROM %s WHERE client = %d" % (client.table, client.number))
    assert cursor.rowcount == 2
    connection.commit()
    connection.close()


def settings(client):
    connection = connect(application_name="named by client")
    assert connection.get_parameter_status("application_name") == "named by client"
    cursor = connection.cursor()
    cursor.execute("SET LOCAL work_mem = '7MB'")
    assert value(cursor, "SHOW work_mem") == "7MB"
    connection.commit()
    assert value(cursor, "SHOW work_mem") == "4MB"
    cursor.execute("SET work_mem = '8MB'")
    cursor.execute("SET timezone = 'Asia/Tokyo'")
    assert connection.get_parameter_status("TimeZone") == "Asia/Tokyo"
    assert value(cursor, "SELECT timestamptz '2020-01-01 00:00Z'").hour == 9
    connection.commit()
    assert value(cursor, "SHOW work_mem") == ("8MB" if KEEPS_STATE else "4MB")
    connection.rollback()
    connection.close()


def notices(client):
    connection = autocommit()
    cursor = connection.cursor()
    cursor.execute("DO $$ BEGIN FOR n IN 1..3 LOOP RAISE NOTICE 'number %', n; END LOOP; END $$")
    client.see(connection.notices)
    assert len(connection.notices) == 3
    connection.close()


@once
def listen(client):
    if not KEEPS_STATE:
        raise NotApplicable("LISTEN belongs to a session")
    listener, teller = autocommit(), autocommit()
    listener.cursor().execute("LISTEN " + client.channel)
    listener.cursor().execute("NOTIFY %s, 'own'" % client.channel)
    assert [n.payload for n in listener.notifies] == ["own"]
    for turn in range(3):
        teller.cursor().execute("NOTIFY %s, '%d'" % (client.channel, turn))
        listener.notifies.clear()
        assert select.select([listener], [], [], 30)[0], "no notification came"
        listener.poll()
        assert [n.payload for n in listener.notifies] == [str(turn)]
    listener.close()
    teller.close()


def reconnects(client):
    for number in range(8):
        connection = autocommit()
        assert value(connection.cursor(), "SELECT %s", (number,)) == number
        connection.close()


@once
def pool(client):
    connections = psycopg2.pool.ThreadedConnectionPool(1, matrix.CONNECTIONS, dbname=DATABASE,
                                                       sslmode="disable", **DSN)
    for number in range(100):
        connection = connections.getconn()
        assert value(connection.cursor(), "SELECT %s", (number,)) == number
        connections.putconn(connection)  # this rolls back
    connections.closeall()


def functions(client):
    """Large objects: FunctionCall messages."""
    connection = connect()
    data = bytes(range(256)) * 1000
    made = connection.lobject(0, "wb")
    made.write(data)
    made.seek(100)
    made.close()
    oid = made.oid
    connection.commit()
    read = connection.lobject(oid, "rb")
    assert read.read() == data
    read.unlink()
    connection.commit()
    try:
        connection.lobject(oid, "rb")
        raise AssertionError("a large object that is gone opens")
    except psycopg2.OperationalError as problem:
        client.see(str(problem).replace(str(oid), "OID"))
    connection.rollback()
    connection.close()


if __name__ == "__main__":
    assert MODE in ("direct", "transaction", "session")
    matrix.run("psycopg2", psycopg2.__version__.split()[0], [
        simple, prepared, forced, unprepared, pipeline, copy, errors_and_recovery, cancel, cursors,
        large, transactions, settings, notices, listen, reconnects, pool, functions])
