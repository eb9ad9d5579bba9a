"""asyncpg: Parse and Describe with Flush, then Bind, Execute and Sync; everything binary."""

import asyncio
import io

import asyncpg

import matrix
from matrix import DATABASE, DSN, KEEPS_STATE, NotApplicable, once

WAIT_SECONDS = 30


async def connect(**more):
    return await asyncpg.connect(database=DATABASE, ssl=False, **DSN, **more)


async def simple(client):
    connection = await connect()
    client.see(await connection.execute("SELECT 1; SELECT 'two'; CREATE TEMP TABLE gone (x int); "
                                        "DROP TABLE gone"))
    row = await connection.fetchrow("SELECT $1::text, $2::bytea, $3::int[], $4::jsonb, NULL",
                                    "ü", b"\x00\xff", [1, None, 3], '{"a": 1}')
    assert tuple(row) == ("ü", b"\x00\xff", [1, None, 3], '{"a": 1}', None), row
    client.see(await connection.execute("UPDATE %s SET amount = 1 WHERE false" % client.table))
    assert await connection.fetch("SELECT 1 WHERE false") == []
    assert await connection.fetchval("") is None
    await connection.close()


async def work(connection, turns=60):
    for turn in range(turns):
        added = "SELECT $1::int + %d" % (turn % 5)
        assert await connection.fetchval(added, turn) == turn + turn % 5
        assert await connection.fetchval("SELECT $1::text || 'x'", str(turn)) == "%dx" % turn


async def prepared(client):
    """By default up to 100 named statements are kept."""
    connection = await connect()
    await work(connection)
    for number in range(120):
        assert await connection.fetchval("SELECT %d" % number) == number
    await connection.close()


async def forced(client):
    connection = await connect(statement_cache_size=5)
    await work(connection)
    statement = await connection.prepare("SELECT $1::int * 2")
    assert [str(t.name) for t in statement.get_parameters()] == ["int4"]
    for number in range(20):
        assert await statement.fetchval(number) == number * 2
        assert await connection.fetchval("SELECT %d" % number) == number
    await connection.close()
    await changed_table(client)


async def changed_table(client):
    """The table changes under a statement that is cached. That a statement which it has described
    gives other columns now is told to the driver only by the backend that has seen the old ones:
    where backends change, it takes a new connection, which describes anew."""
    table = "%s_%d" % (client.table, client.number)
    connection = await connect()
    await connection.execute("CREATE TABLE %s (x int); INSERT INTO %s VALUES (1)" % (table, table))
    for columns in range(1, 5):
        for _ in range(4):
            row = await connection.fetchrow("SELECT * FROM " + table)
            assert len(row) == columns, row
        await connection.execute("ALTER TABLE %s ADD COLUMN y%d text" % (table, columns))
        if not KEEPS_STATE:
            await connection.close()
            connection = await connect()
    await connection.execute("DROP TABLE " + table)
    await connection.close()


async def unprepared(client):
    connection = await connect(statement_cache_size=0)
    await work(connection)
    async with connection.transaction():
        await work(connection, 10)
    await connection.close()


async def pipeline(client):
    """executemany is one batch."""
    connection = await connect()
    insert = "INSERT INTO %s VALUES ($1, $2, $3, $4)" % client.table
    count = "SELECT count(*) FROM %s WHERE client = $1" % client.table
    await connection.executemany(insert, [(client.number, n, "row", n) for n in range(2000)])
    assert await connection.fetchval(count, client.number) == 2000
    try:
        await connection.executemany(insert, [(client.number, n, "row", n)
                                              for n in (5000, 5001, 1, 5002)])
        raise AssertionError("no error")
    except asyncpg.UniqueViolationError as problem:
        client.see(problem.sqlstate, problem)
    assert await connection.fetchval(count, client.number) == 2000
    await connection.execute("DELETE FROM %s WHERE client = $1" % client.table, client.number)
    await connection.close()


async def copy(client):
    connection = await connect()
    transaction = connection.transaction()
    await transaction.start()
    records = [(client.number, n, "copy %d" % n, n) for n in range(3000)]
    client.see(await connection.copy_records_to_table(client.table, records=records))
    out = io.BytesIO()
    client.see(await connection.copy_from_query(
        "SELECT id FROM %s WHERE client = $1 ORDER BY id" % client.table, client.number,
        output=out))
    assert out.getvalue() == b"".join(b"%d\n" % n for n in range(3000))
    await transaction.rollback()
    for bad in (io.BytesIO(b"not a number\n" + b"1,2,x,3\n" * 50000), broken_source()):
        try:
            await connection.copy_to_table(client.table, source=bad, format="csv")
            raise AssertionError("bad rows were copied")
        except asyncpg.BadCopyFileFormatError as problem:
            client.see(problem.sqlstate, problem)
        except asyncpg.InvalidTextRepresentationError as problem:
            client.see(problem.sqlstate, problem)
        except KeyError:
            client.see("gave up")
        assert await connection.fetchval("SELECT 1") == 1
    await connection.close()


async def broken_source():
    yield b"1,2,x,3\n"
    raise KeyError("the client gives up")


async def errors(client):
    connection = await connect()
    for _ in range(2):
        for text, code in matrix.wrong_statements(client):
            for call in (connection.execute, connection.fetch):
                try:
                    await call(text)
                    raise AssertionError("no error from " + text)
                except asyncpg.PostgresError as problem:
                    assert problem.sqlstate == code, (text, problem.sqlstate)
                    client.see(code, problem.severity, problem.message, problem.detail,
                               problem.hint, problem.position, problem.constraint_name,
                               problem.context, problem.server_source_function)
                assert await connection.fetchval("SELECT $1::int", 1) == 1
    try:
        await connection.fetch("SELECT $1::int", 1, 2)
    except asyncpg.InterfaceError as problem:
        client.see(problem)
    transaction = connection.transaction()
    await transaction.start()
    for _ in range(3):
        try:
            await connection.fetchval("SELECT 1 / $1::int", 0)
            raise AssertionError("no error")
        except asyncpg.PostgresError as problem:
            client.see(problem.sqlstate, problem)
    await transaction.rollback()
    assert await connection.fetchval("SELECT $1::int", 1) == 1
    await connection.close()


async def cancel(client):
    """A time-out of the driver sends a cancel request. It does so once, and a request that comes
    before the statement runs is lost: the statement ends by itself then, soon enough."""
    connection = await connect()
    for _ in range(2):
        try:
            await connection.fetchval("SELECT pg_sleep($1)", 5, timeout=0.3)
            raise AssertionError("no time-out")
        except asyncio.TimeoutError:
            pass
        assert await connection.fetchval("SELECT $1::int", 1) == 1
    task = asyncio.ensure_future(connection.execute("SELECT pg_sleep(5)"))
    await asyncio.sleep(0.3)  # at any moment: it is the driver that ends the wait
    task.cancel()
    try:
        await task
        raise AssertionError("it was not cancelled")
    except asyncio.CancelledError:
        pass
    async with connection.transaction():
        await connection.execute("SET LOCAL statement_timeout = 50")
        try:
            async with connection.transaction():
                await connection.fetchval("SELECT pg_sleep(60)")
        except asyncpg.QueryCanceledError as problem:
            client.see(problem.sqlstate, problem)
        assert await connection.fetchval("SELECT $1::int", 2) == 2
    await connection.close()


async def cursors(client):
    connection = await connect()
    async with connection.transaction():
        few = await connection.cursor("SELECT generate_series(1, 3)")
        assert (await few.fetchrow())[0] == 1
        total = 0
        async for row in connection.cursor("SELECT generate_series(1, $1::int)", 2000,
                                           prefetch=100):
            total += row[0]
        assert total == 2001000
        assert [row[0] for row in await few.fetch(10)] == [2, 3]
    await connection.execute("BEGIN; DECLARE kept CURSOR WITH HOLD FOR SELECT 1; COMMIT")
    if KEEPS_STATE:
        assert await connection.fetchval("FETCH kept") == 1
        await connection.execute("CLOSE kept")
    await connection.close()


async def large(client):
    connection = await connect()
    text = "x" * 3000000
    assert await connection.fetchval("SELECT $1::text", text) == text
    rows = await connection.fetch("SELECT n, repeat('y', 50) FROM generate_series(1, 20000) n")
    assert sum(row[0] for row in rows) == 200010000
    assert len(await connection.fetchval("SELECT repeat('z', 5000000)")) == 5000000
    await connection.close()


async def transactions(client):
    connection = await connect()
    insert = "INSERT INTO %s VALUES (%d, $1, 'x', 1)" % (client.table, client.number)
    count = "SELECT count(*) FROM %s WHERE client = %d" % (client.table, client.number)
    async with connection.transaction():
        pid = await connection.fetchval("SELECT pg_backend_pid()")
        await connection.execute(insert, 1)
        for _ in range(2):
            try:
                async with connection.transaction():
                    await connection.execute(insert, 2)
                    await connection.execute(insert, 1)
            except asyncpg.UniqueViolationError as problem:
                client.see(problem.sqlstate, problem)
        async with connection.transaction():
            await connection.execute(insert, 3)
        assert await connection.fetchval(count) == 2
        assert await connection.fetchval("SELECT pg_backend_pid()") == pid
    async with connection.transaction(isolation="serializable", readonly=True):
        assert await connection.fetchval("SHOW transaction_isolation") == "serializable"
        assert await connection.fetchval("SHOW transaction_read_only") == "on"
    client.see(await connection.execute("DELETE FROM %s WHERE client = $1" % client.table,
                                        client.number))
    await connection.close()


async def settings(client):
    connection = await connect(server_settings={"application_name": "named by client"})
    assert connection.get_settings().application_name == "named by client"
    async with connection.transaction():
        await connection.execute("SET LOCAL work_mem = '7MB'")
        assert await connection.fetchval("SHOW work_mem") == "7MB"
    assert await connection.fetchval("SHOW work_mem") == "4MB"
    await connection.execute("SET work_mem = '8MB'")
    assert await connection.fetchval("SHOW work_mem") == ("8MB" if KEEPS_STATE else "4MB")
    await connection.reset()  # its own statements for that
    assert await connection.fetchval("SHOW work_mem") == "4MB"
    await connection.close()


async def notices(client):
    connection = await connect()
    heard = []
    connection.add_log_listener(lambda _, message: heard.append(message.message))
    await connection.execute("DO $$ BEGIN RAISE NOTICE 'one'; RAISE WARNING 'two'; END $$")
    await connection.fetchval("SELECT 1")  # the listener runs later
    await asyncio.sleep(0)
    assert heard == ["one", "two"]
    client.see(heard)
    await connection.close()


@once
async def listen(client):
    if not KEEPS_STATE:
        raise NotApplicable("LISTEN belongs to a session")
    listener, teller = await connect(), await connect()
    heard = asyncio.Queue()
    await listener.add_listener(client.channel, lambda *said: heard.put_nowait(said[3]))
    for turn in range(3):
        await teller.execute("SELECT pg_notify($1, $2)", client.channel, str(turn))
        assert await asyncio.wait_for(heard.get(), WAIT_SECONDS) == str(turn)
    await listener.close()
    await teller.close()


async def reconnects(client):
    for number in range(8):
        connection = await connect()
        assert await connection.fetchval("SELECT $1::int", number) == number
        await connection.close()


@once
async def pool(client):
    connections = await asyncpg.create_pool(database=DATABASE, ssl=False, min_size=1,
                                            max_size=matrix.CONNECTIONS, **DSN)

    async def one(number):
        async with connections.acquire() as connection, connection.transaction():
            return await connection.fetchval("SELECT $1::int * %d" % (number % 5), number)

    assert await asyncio.gather(*(one(n) for n in range(200))) == [n * (n % 5) for n in range(200)]
    await connections.close()


async def functions(client):
    raise NotApplicable("asyncpg has no large objects")


if __name__ == "__main__":
    matrix.run_asyncio("asyncpg", asyncpg.__version__, [
        simple, prepared, forced, unprepared, pipeline, copy, errors, cancel, cursors, large,
        transactions, settings, notices, listen, reconnects, pool, functions])
