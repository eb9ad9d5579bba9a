"""The extended query protocol on the console: what drivers speak by themselves."""

import asyncio
import decimal

import asyncpg
import pytest

import wire
from pooler import ADMIN, pool
from test_admin import INT4, NUMERIC, TABLES, TEXT, cols, console
from wire import bind, close, describe, execute, flush, parse, query, sync


@pytest.fixture
def admin(doorman):
    with console(doorman()) as connection:
        yield connection


def test_every_table_is_described_before_it_is_shown(admin):
    for table, columns in TABLES.items():
        admin.send(parse("", "SHOW " + table), describe("S"), sync())
        messages = admin.until_ready()
        assert wire.types(messages) == "1tTZ", table
        assert wire.columns(messages)[:len(cols(columns))] == cols(columns), table
        admin.send(bind(), describe("P"), execute(), sync())
        messages = admin.until_ready()
        assert wire.essence(messages).replace("D", "") == "2TCZ", (table, messages)
        assert wire.columns(messages)[:len(cols(columns))] == cols(columns), table
        assert wire.tags(messages) == ["SHOW"]
        admin.send(wire.extended("SHOW " + table), sync())
        assert not wire.errors(admin.until_ready())


def test_rows_are_those_of_the_simple_protocol(admin):
    for table in ("VERSION", "LISTS", "POOLS", "USERS", "CONFIG"):
        admin.send(wire.extended("SHOW " + table), sync())
        assert wire.rows(admin.until_ready()) == wire.rows(admin.query("SHOW " + table)), table


def test_rows_come_in_portions(admin):
    admin.send(parse("lists", "SHOW LISTS"), bind("p", "lists"), describe("P", "p"),
               execute("p", 5), execute("p", 5), flush())
    messages = admin.until("s") + admin.until("s")
    assert wire.types(messages) == "12TDDDDDsDDDDDs"
    admin.send(execute("p", 5), execute("p"), sync())
    rest = admin.until_ready()
    assert wire.types(rest) == "DDCCZ"
    names = [row[0] for row in wire.rows(messages + rest)]
    assert names == ["databases", "users", "pools", "free_clients", "used_clients",
                     "login_clients", "free_servers", "used_servers", "dns_names", "dns_zones",
                     "dns_queries", "dns_pending"]
    # Sync has ended the portal, not the statement.
    admin.send(execute("p"), sync())
    assert wire.sqlstates(admin.until_ready()) == ["34000"]
    admin.send(bind("", "lists"), execute("", 12), sync())
    assert wire.types(admin.until_ready()) == "2" + "D" * 12 + "sZ"


def test_binary_formats(admin):
    def binary(text):
        admin.send(parse("", text), bind(binary=True), describe("P"), execute(), sync())
        return admin.until_ready()
    messages = binary("SHOW LISTS")
    assert wire.columns(messages) == [("list", TEXT), ("items", INT4)]
    rows = [raw_row(m.body) for m in messages if m.type == "D"]
    assert rows[0][0] == b"databases" and int.from_bytes(rows[0][1], "big") == 2
    messages = binary("SHOW POOLS")
    oids = [oid for _, oid in wire.columns(messages)]
    row, = [raw_row(m.body) for m in messages if m.type == "D"]
    for cell, oid in zip(row, oids):
        if oid == NUMERIC:
            digits, scale = int.from_bytes(cell[:2], "big"), int.from_bytes(cell[6:8], "big")
            assert len(cell) == 8 + 2 * digits and scale == 0


def raw_row(body):
    count, at, cells = int.from_bytes(body[:2], "big"), 2, []
    for _ in range(count):
        size = int.from_bytes(body[at:at + 4], "big", signed=True)
        cells.append(None if size < 0 else body[at + 4:at + 4 + size])
        at += 4 + max(size, 0)
    return cells


def test_parameter_is_the_database(doorman, postgres):
    pooler = doorman(pools={"app": pool(postgres), 'od"d': pool(postgres, server_database="other")})
    for name in ("app", 'od"d'):
        pooler.client(name).terminate()

    def paused():
        return {r["database"]: r["paused"] for r in pooler.admin("SHOW POOLS")}
    with console(pooler) as admin:
        admin.send(parse("stop", "PAUSE $1"), describe("S", "stop"), sync())
        messages = admin.until_ready()
        assert wire.types(messages) == "1tnZ" and messages[1].body == b"\0\1\0\0\0\x19"
        assert paused() == {"app": "0", 'od"d': "0"}
        admin.send(bind("", "stop", ['od"d']), execute(), sync())
        messages = admin.until_ready()
        assert wire.types(messages) == "2CZ" and wire.tags(messages) == ["PAUSE"]
        assert paused() == {"app": "0", 'od"d': "1"}
        admin.send(wire.extended("RESUME $1", ['od"d']), sync())
        assert wire.tags(admin.until_ready()) == ["RESUME"]
        assert paused() == {"app": "0", 'od"d': "0"}
        admin.send(bind("", "stop", ["nowhere"]), execute(), bind("", "stop", ["app"]), execute(),
                   sync())
        messages = admin.until_ready()
        assert wire.types(messages) == "2EZ", "the rest is skipped"
        assert wire.errors(messages)[0]["M"] == 'No pool for database "nowhere"'
        assert paused() == {"app": "0", 'od"d': "0"}


@pytest.mark.parametrize("what, messages, sqlstate", [
    ("unknown statement", [bind("", "nowhere")], "26000"),
    ("no unnamed statement", [bind()], "26000"),
    ("unknown statement described", [describe("S", "nowhere")], "26000"),
    ("unknown portal", [execute("nowhere")], "34000"),
    ("unknown portal described", [describe("P", "nowhere")], "34000"),
    ("name taken", [parse("s", "SHOW LISTS"), parse("s", "SHOW POOLS")], "42P05"),
    ("portal's name taken", [parse("", "SHOW LISTS"), bind("p"), bind("p")], "42P03"),
    ("two commands", [parse("", "SHOW LISTS; SHOW POOLS")], "42601"),
    ("parameter elsewhere", [parse("", "SHOW $1")], "42P02"),
    ("value too many", [parse("", "PAUSE"), bind("", "", ["x"])], "08P01"),
    ("value missing", [parse("", "PAUSE $1"), bind()], "08P01"),
    ("no name", [parse("", "PAUSE $1"), bind("", "", [None])], "22004"),
    ("unknown command", [parse("", "FROBNICATE"), bind(), execute()], "58000"),
    ("unknown table", [parse("", "SHOW NONSENSE"), describe("S")], "58000"),
    ("COPY", [parse("", "COPY t FROM stdin"), bind(), execute()], "0A000"),
    ("torn Parse", [wire.message("P", b"name")], "08P01"),
    ("torn Bind", [wire.message("B", b"p\0")], "08P01"),
    ("bad kind", [wire.message("D", b"Xname\0")], "08P01"),
], ids=lambda value: value if isinstance(value, str) and " " in value else "")
def test_errors_end_the_series_and_the_session_goes_on(admin, what, messages, sqlstate):
    admin.send(*messages, query("SHOW VERSION"), parse("", "RECONNECT"), bind(), execute(), flush(),
               sync())
    answers = admin.until_ready()
    assert wire.sqlstates(answers) == [sqlstate], (what, answers)
    assert wire.errors(answers)[0]["S"] == "ERROR"
    assert wire.types(answers)[-2:] == "EZ", "what follows the error is skipped up to Sync"
    admin.send(wire.extended("SHOW VERSION"), sync())
    assert len(wire.rows(admin.until_ready())) == 1


def test_empty_statement_close_and_function_call(admin):
    admin.send(wire.extended(" ; "), sync())
    assert wire.types(admin.until_ready()) in ("12nIZ", "12IZ")
    admin.send(parse("s", "SHOW LISTS"), close("S", "s"), close("S", "s"), close("P", "nowhere"),
               sync())
    assert wire.types(admin.until_ready()) == "1333Z"
    admin.send(bind("", "s"), sync())
    assert wire.sqlstates(admin.until_ready()) == ["26000"]
    admin.send(wire.function_call(1, []))
    assert wire.sqlstates(admin.until_ready()) == ["0A000"]
    assert wire.sqlstates(admin.query("COPY t FROM stdin")) == ["0A000"]
    assert wire.rows(admin.query("SHOW VERSION"))


def test_describing_changes_nothing(doorman):
    pooler = doorman()
    with console(pooler) as admin:
        for text, shape in (("SHUTDOWN", "1tTZ"), ("UPGRADE", "1tTZ"), ("PAUSE", "1tnZ"),
                            ("RELOAD", "1tnZ"), ("SNAPSHOT TO '/nowhere/x'", "1tTZ")):
            admin.send(parse("", text), describe("S"), sync())
            assert wire.types(admin.until_ready()) == shape, text
    assert pooler.admin("SHOW POOLS")[0]["paused"] == "0"


def test_statements_and_portals_are_bounded(admin):
    for i in range(1000):
        admin.send(parse("s%d" % i, "SHOW LISTS"))
    admin.send(sync())
    assert wire.types(admin.until_ready()) == "1" * 1000 + "Z"
    admin.send(parse("one more", "SHOW LISTS"), sync())
    assert wire.sqlstates(admin.until_ready()) == ["54000"]
    admin.send(close("S", "s0"), parse("one more", "SHOW LISTS"), sync())
    assert wire.types(admin.until_ready()) == "31Z"


def test_asyncpg_reads_the_tables(doorman):
    pooler = doorman()
    pooler.client().terminate()

    async def read():
        connection = await asyncpg.connect(host="127.0.0.1", port=pooler.port, ssl=False,
                                           database="pgbouncer", **ADMIN)
        pools = await connection.fetch("SHOW POOLS")
        lists = await connection.fetch("SHOW LISTS")
        with pytest.raises(asyncpg.PostgresError, match="No pool for database"):
            await connection.execute("PAUSE nowhere")
        paused = await connection.execute("PAUSE app")
        resumed = await connection.fetch("RESUME $1", "app")
        await connection.close()
        return pools, lists, paused, resumed
    pools, lists, paused, resumed = asyncio.run(asyncio.wait_for(read(), 20))
    assert pools[0]["database"] == "app" and pools[0]["pool_size"] == decimal.Decimal(10)
    assert dict(lists)["databases"] == 2
    assert paused == "PAUSE" and resumed == []
