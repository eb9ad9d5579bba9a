"""Through the pooler a client reads what a private PostgreSQL session would have sent it."""

import re
import struct

import pytest

import wire
from wire import (bind, close, describe, execute, extended, flush, function_call, parse, query,
                  sync)


@pytest.fixture
def both(postgres, doorman):
    """A session through the pooler and one straight to PostgreSQL."""
    opened = []

    def start(**settings):
        pooler = doorman(**settings)
        opened.append(pooler.client())
        opened.append(wire.Wire(("127.0.0.1", postgres.port)).login())
        return opened[-2:]

    yield start
    for client in opened:
        client.close()


def same(pair, *parts, ready=1):
    """Sends the same bytes to both and compares every message but S (parameters)."""
    replies = []
    for client in pair:
        client.send(*parts)
        replies.append([m for m in client.until_ready(ready) if m.type != "S"])
    through, direct = replies
    assert wire.types(through) == wire.types(direct)
    for ours, theirs in zip(through, direct):
        if ours.type in "EN":  # field by field, for people; a text may name the shared statement
            found = wire.fields(ours)
            found["M"] = re.sub(r"DOORMAN_\d+", "", found["M"])
            assert found == wire.fields(theirs)
        else:
            assert ours == theirs
    return through


SIMPLE = [
    "SELECT 1", "", ";", "  ; ;", "SELECT 1; SELECT 2, 'x'; SELECT NULL",
    "SELECT nonsense", "SELECT 1; SELECT 1/0; SELECT 3", "SELECT 1 WHERE false",
    "BEGIN; SELECT 1; COMMIT", "BEGIN; SELECT 1/0", "ROLLBACK", "COMMIT",
    "DO $$ BEGIN RAISE NOTICE 'hello'; END $$", "SELECT generate_series(1, 5000)",
    "SELECT repeat('x', 300000)", "VALUES (1, 'a'), (2, NULL)", "SHOW work_mem",
    "/* nothing */", "SELECT 'umlaut ä €'", "SELECT '\\'", "EXPLAIN (COSTS OFF) SELECT 1",
]


@pytest.mark.parametrize("prepared", [True, False], ids=["remapped", "verbatim"])
def test_simple_queries_are_answered_natively(both, prepared):
    pair = both(general={"prepared_statements": prepared})
    for sql in SIMPLE:
        same(pair, query(sql))


BATCHES = {
    "one": [extended("SELECT $1::int", [1]), sync()],
    "null and text": [extended("SELECT $1::text, $2::text", [None, "x"]), sync()],
    "binary": [parse("", "SELECT $1::int"), bind("", "", [7], binary=True), execute(), sync()],
    "describe statement": [parse("", "SELECT $1::int, $2::text"), describe("S"), sync()],
    "no data": [parse("", "SET work_mem = '2MB'"), describe("S"), bind(), describe("P"), execute(),
                sync()],
    "empty": [extended(""), sync()],
    "portal in parts": [query("BEGIN"), parse("", "SELECT generate_series(1, 10)"),
                        bind("p"), execute("p", 3), execute("p", 3), execute("p"), close("P", "p"),
                        sync(), query("COMMIT")],
    "error in the middle": [extended("SELECT 1"), extended("SELECT 1/0"), extended("SELECT 3"),
                            sync()],
    "parse error": [extended("SELEKT"), extended("SELECT 1"), sync()],
    "wrong count of values": [extended("SELECT $1::int", [1, 2]), sync()],
    "bad value": [extended("SELECT $1::int", ["abc"]), sync()],
    "named": [parse("a", "SELECT 1"), describe("S", "a"), bind("", "a"), execute(), close("S", "a"),
              sync()],
    "close of nothing": [close("S", "nothing"), close("P", "nothing"), sync()],
    "lone sync": [sync()],
    "transaction in a batch": [extended("BEGIN"), extended("SELECT 1"), extended("COMMIT"), sync()],
    "failed transaction in a batch": [extended("BEGIN"), extended("SELECT 1/0"),
                                      extended("ROLLBACK"), sync(), query("ROLLBACK")],
}


@pytest.mark.parametrize("prepared", [True, False], ids=["remapped", "verbatim"])
@pytest.mark.parametrize("name", BATCHES)
def test_extended_batches_are_answered_natively(both, name, prepared):
    parts = BATCHES[name]
    ready = sum(1 for p in parts if p[:1] in (b"S", b"Q"))
    pair = both(general={"prepared_statements": prepared}, pool_size=1)
    for _ in range(2):  # the second time statements are known already
        same(pair, *parts, ready=ready)
    same(pair, query("SELECT 'still in step'"))


def test_pipelined_syncs_each_have_their_answer(both):
    pair = both(pool_size=1)
    parts = []
    for number in range(30):
        parts += [extended("SELECT 1/(%d %% 7)" % number), sync()]
    same(pair, *parts, ready=30)


def test_many_binds_before_one_sync(both):
    pair = both()
    same(pair, parse("s", "SELECT $1::int"),
         *[bind("", "s", [n]) + describe("P") + execute() for n in range(500)], close("S", "s"),
         sync())


def test_simple_query_behind_a_queued_batch_runs_after_it(both):
    same(both(), extended("SELECT 'first'"), query("SELECT 'second'"), sync(), ready=2)


def test_error_skips_to_sync_and_not_further(both):
    same(both(), parse("", "SELECT 1/0"), bind(), execute(), extended("SELECT 1"), sync(),
         extended("SELECT 2"), sync(), ready=2)


def test_statement_that_was_never_prepared(both):
    through, direct = both()
    for client in (through, direct):
        client.send(bind("", "missing"), execute(), sync())
        messages = client.until_ready()
        error, = wire.errors(messages)
        assert (error["S"], error["C"]) == ("ERROR", "26000")
        assert error["M"] == 'prepared statement "missing" does not exist'
        assert wire.status(messages) == "I"
        assert client.value("SELECT 1") == "1"


def test_execute_of_a_portal_that_was_never_bound(both):
    same(both(), execute("missing"), sync())


def test_flush_delivers_answers_before_sync(both):
    pair = both(pool_size=1)
    for client in pair:
        client.send(parse("", "SELECT $1::int + 1"), describe("S"), flush())
        assert wire.essence(client.until("TE")) == "1tT"
        client.send(bind("", "", [41]), execute(), flush())
        messages = client.until("CE")
        assert wire.essence(messages) == "2DC" and wire.rows(messages) == [["42"]]
        client.send(sync())
        assert wire.types(client.until_ready()) == "Z"


def test_flush_after_an_error_does_not_hang(both):
    pair = both()
    for client in pair:
        client.send(parse("", "SELEKT"), flush())
        assert wire.sqlstates(client.until("E")) == ["42601"]
        client.send(parse("", "SELECT 1"), flush())
        assert client.quiet()
        client.send(sync())
        assert wire.types(client.until_ready()) == "Z"
        assert client.value("SELECT 1") == "1"


def test_flush_with_nothing_to_flush(both):
    pair = both()
    for client in pair:
        client.send(flush(), flush())
        assert client.quiet(0.2)
    same(pair, extended("SELECT 1"), sync())


def test_simple_query_behind_a_flush_without_sync(both):
    pair = both()
    for client in pair:
        client.send(parse("", "SELECT 1"), describe("S"), flush())
        client.until("T")
    same(pair, query("SELECT 'simple'"))
    same(pair, sync())


def test_backend_is_held_from_flush_to_sync(doorman):
    pooler = doorman(pool_size=1)
    with pooler.client() as client:
        client.send(extended("SELECT 1"), flush())
        client.until("C")
        assert pooler.pool_row()["sv_active"] == 1
        client.send(sync())
        client.until_ready()
        assert pooler.pool_row()["sv_active"] == 0


def test_function_call(both, postgres):
    lo_creat, lo_unlink = 957, 964
    pair = both(pool_size=1)
    for client in pair:
        client.send(function_call(lo_creat, [struct.pack("!i", 0x60000)]))
        messages = client.until_ready()
        assert wire.types(messages) == "VZ"
        oid = messages[0].body[4:]
        client.send(function_call(lo_unlink, [oid]))
        assert wire.types(client.until_ready()) == "VZ"
        client.send(function_call(lo_unlink, [oid]))
        assert wire.sqlstates(client.until_ready()) == ["42704"]
        client.query("BEGIN")
        client.send(function_call(lo_creat, [struct.pack("!i", 0x60000)]))
        assert wire.status(client.until_ready()) == "T"
        client.query("SELECT 1/0")
        client.send(function_call(lo_creat, [struct.pack("!i", 0x60000)]))
        messages = client.until_ready()
        assert wire.sqlstates(messages) == ["25P02"] and wire.status(messages) == "E"
        client.query("ROLLBACK")


def test_notice_arrives_before_the_statement_ends(doorman):
    with doorman().client() as client:
        client.send(query("DO $$ BEGIN RAISE NOTICE 'on its way'; PERFORM pg_sleep(3); END $$"))
        client.sock.settimeout(2)
        m = client.receive()
        assert m.type == "N" and wire.fields(m)["M"] == "on its way"
        client.sock.settimeout(15)
        assert wire.tags(client.until_ready()) == ["DO"]


def test_parameter_status_reaches_the_client(doorman):
    with doorman().client() as client:
        client.query("BEGIN")
        messages = client.query("SET TimeZone = 'Asia/Tokyo'")
        assert client.parameters["TimeZone"] == "Asia/Tokyo" and "S" in wire.types(messages)
        client.query("ROLLBACK")


def test_notification_reaches_a_listening_session(doorman, postgres):
    pooler = doorman(pool_mode="session")
    with pooler.client() as client:
        client.query("LISTEN news")
        postgres.run("NOTIFY news, 'hot'", database="app")
        m = client.receive()
        assert m.type == "A" and m.body[4:] == b"news\0hot\0"
        assert client.value("SELECT 1") == "1"


@pytest.mark.parametrize("size", [1, 3])
def test_a_whole_session_in_splinters(doorman, size):
    with doorman().wire() as client:
        client.send_bytewise(wire.startup("trust_user", "app", application_name="splinters"), size)
        client.authenticate("trust_user")
        for data, want in (
                (query("SELECT 1"), "TDCZ"),
                (extended("SELECT $1::text", ["splinter"]) + sync(), "12TDCZ"),
                (parse("named", "SELECT $1::int") + sync(), "1Z"),
                (bind("", "named", [1]) + execute() + sync(), "2DCZ"),
                (query("begin;"), "CZ"),
                (query("CREATE TEMP TABLE s (x int)"), "CZ"),
                (query("COPY s FROM stdin"), "G"),
                (wire.copy_data(b"1\n2\n") + wire.copy_done(), "CZ"),
                (query("COPY s TO stdout"), "HddcCZ"),
                (query("rollback"), "CZ")):
            client.send_bytewise(data, size)
            assert wire.essence(client.until("G" if want == "G" else "Z")) == want
        client.send_bytewise(wire.terminate(), size)
        assert client.wait_closed() == []


@pytest.mark.parametrize("megabytes", [4, 20])
def test_large_query_and_large_row(both, megabytes):
    size = megabytes << 20
    through, _ = both()
    text = "x" * size
    assert through.value("SELECT length('%s')" % text) == str(size)
    assert through.value("SELECT repeat('y', %d)" % size) == "y" * size
    messages = through.run("SELECT $1::text", [text])
    assert wire.rows(messages) == [[text]]
    assert through.value("SELECT 'after'") == "after"


@pytest.mark.slow
def test_fifty_megabyte_row_in_a_transaction(doorman):
    pooler = doorman(pool_size=1)
    with pooler.client() as client:
        client.query("BEGIN")
        for letter in "ab":
            assert client.value("SELECT repeat('%s', 50000000)" % letter) == letter * 50000000
        client.query("COMMIT")
    pooler.wait_idle()


def test_batch_of_eight_megabytes_before_sync(doorman):
    with doorman().client() as client:
        client.send(*[extended("SELECT length($1)", ["z" * 100000]) for _ in range(80)], sync())
        assert wire.rows(client.until_ready()) == [["100000"]] * 80


def test_startup_options(doorman):
    """GSS and TLS are declined with N, then the same connection goes on."""
    pooler = doorman()
    with pooler.wire() as client:
        for code in (wire.GSS_REQUEST, wire.SSL_REQUEST):
            client.send(wire.untyped(code))
            assert client.take(1) == b"N"
        client.login()
        assert client.value("SELECT 1") == "1"


def test_newer_minor_version_is_negotiated(doorman):
    with doorman().wire() as client:
        client.send(wire.startup("trust_user", "app", version=(3 << 16) + 9, **{"_pq_.x": "1"}))
        m = client.receive()
        assert m.type == "v"
        # The whole version, as PostgreSQL sends it and libpq wants it.
        assert m.body == struct.pack("!II", (3 << 16) + 2, 1) + b"_pq_.x\0"
        client.authenticate("trust_user")
        assert client.value("SELECT 1") == "1"


@pytest.mark.parametrize("minor", [0, 1, 2, 9999])
@pytest.mark.parametrize("options", [(), ("_pq_.x", "_pq_.compression")], ids=["plain", "options"])
def test_versions_and_options_of_the_protocol(doorman, minor, options):
    """NegotiateProtocolVersion where something is asked for that is not given, and only there."""
    with doorman().wire() as client:
        client.send(wire.startup("trust_user", "app", version=(3 << 16) + minor,
                                 **{name: "1" for name in options}))
        if minor > 2 or options:
            m = client.receive()
            assert m.type == "v"
            assert m.body == struct.pack("!II", (3 << 16) + min(minor, 2), len(options)) + b"".join(
                name.encode() + b"\0" for name in options)
        m = client.receive()
        assert (m.type, m.body) == ("R", bytes(4))
        messages = client.until_ready()
        key, = [m.body[4:] for m in messages if m.type == "K"]
        assert len(key) == (32 if minor >= 2 else 4)
        assert client.value("SELECT 1") == "1"


def test_negotiation_looks_as_postgresqls(doorman, postgres):
    """The same words for an option of the protocol, which every version here knows to refuse."""
    answers = []
    for address in (("127.0.0.1", postgres.port), doorman().address):
        with wire.Wire(address) as client:
            client.send(wire.startup("trust_user", "app", **{"_pq_.x": "1"}))
            answers.append(client.receive())
    assert answers[0] == answers[1]


def test_other_major_version_is_refused(doorman):
    with doorman().wire() as client:
        client.send(wire.startup("trust_user", "app", version=2 << 16))
        error, = wire.errors(client.wait_closed())
        assert (error["C"], error["M"]) == (
            "0A000", "unsupported frontend protocol 2.0: server supports 3.0 to 3.2")


def test_check_query_is_answered_by_the_pooler(doorman, postgres):
    pooler = doorman(server_database="logged", general={"pooler_check_query": "SELECT 'alive'"})
    with pooler.client() as client:
        first = client.query("SELECT 'alive'")
        mark = postgres.log_position()
        assert client.query("SELECT 'alive'") == first
        client.query("select 'ALIVE'")
        assert postgres.statements_since(mark) == ["select 'ALIVE'"]


def test_deallocate_is_answered_by_the_pooler(doorman):
    with doorman().client() as client:
        client.send(parse("s", "SELECT 1"), sync())
        client.until_ready()
        messages = client.query("DEALLOCATE ALL")
        assert wire.tags(messages)[0].startswith("DEALLOCATE") and wire.status(messages) == "I"
        client.send(parse("s", "SELECT 2"), bind("", "s"), execute(), sync())
        assert wire.rows(client.until_ready()) == [["2"]]
