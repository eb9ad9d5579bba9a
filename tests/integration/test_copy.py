"""COPY in and out, its errors, and mixtures of COPY with other statements."""

import pytest

import wire
from wire import copy_data, copy_done, copy_fail, query, sync


@pytest.fixture
def target(postgres):
    """The table c, empty."""
    postgres.run("CREATE UNLOGGED TABLE c (x int, y text); GRANT ALL ON c TO PUBLIC",
                 database="app")
    yield "c"
    postgres.run("DROP TABLE c", database="app")


@pytest.fixture
def client(doorman, target):
    with doorman(pool_size=1).client() as client:
        yield client
        client.close()


@pytest.fixture
def session(doorman, postgres, request, target):
    """Through the pooler, and straight to PostgreSQL: the second shows what is native."""
    if request.param == "direct":
        client = wire.Wire(("127.0.0.1", postgres.port)).login()
    else:
        client = doorman(pool_size=1).client()
    with client:
        yield client
        assert client.value("SELECT 'alive'") == "alive"


def natively(test):
    return pytest.mark.parametrize("session", ["direct", "pooled"], indirect=True)(test)


@natively
def test_copy_in_and_out(session):
    session.send(query("COPY c FROM stdin"))
    assert wire.essence(session.until("G")) == "G"
    session.send(*[copy_data(b"%d\trow %d\n" % (n, n)) for n in range(1000)], copy_done())
    messages = session.until_ready()
    assert wire.tags(messages) == ["COPY 1000"] and wire.status(messages) == "I"
    messages = session.query("COPY (SELECT * FROM c ORDER BY x) TO stdout")
    data = [m.body for m in messages if m.type == "d"]
    assert data == [b"%d\trow %d\n" % (n, n) for n in range(1000)]
    assert wire.essence(messages).replace("d", "") == "HcCZ"


@natively
def test_formats(session):
    session.query("INSERT INTO c VALUES (1, 'a;b'), (2, NULL)")
    for options in ("FORMAT csv, HEADER", "FORMAT csv, DELIMITER ';'", "FORMAT binary"):
        messages = session.query("COPY c TO stdout WITH (%s)" % options)
        data = b"".join(m.body for m in messages if m.type == "d")
        session.send(query("COPY c FROM stdin WITH (%s)" % options))
        session.until("G")
        session.send(copy_data(data[:7]), copy_data(data[7:]), copy_done())
        assert not wire.errors(session.until_ready())
    assert session.value("SELECT count(*) FROM c") == "16"


@natively
def test_empty_copy(session):
    session.send(query("COPY c FROM stdin"))
    session.until("G")
    session.send(copy_done())
    assert wire.tags(session.until_ready()) == ["COPY 0"]
    assert wire.essence(session.query("COPY c TO stdout")) == "HcCZ"


@natively
def test_client_gives_up(session):
    session.send(query("COPY c FROM stdin"))
    session.until("G")
    session.send(copy_data(b"1\tx\n"), copy_fail("changed my mind"))
    messages = session.until_ready()
    error, = wire.errors(messages)
    assert error["C"] == "57014" and "changed my mind" in error["M"]
    assert session.value("SELECT count(*) FROM c") == "0"


@natively
def test_bad_data_is_reported_at_once_and_the_rest_ignored(session):
    session.send(query("COPY c FROM stdin"))
    session.until("G")
    # More than PostgreSQL's input buffer, so that it sees the bad row before the end.
    session.send(copy_data(b"not a number\tx\n"), *[copy_data(b"1\t" + b"x" * 8000 + b"\n")] * 40)
    messages = session.until_ready()
    assert wire.sqlstates(messages) == ["22P02"]
    session.send(copy_data(b"2\ty\n"), copy_done())
    assert session.value("SELECT count(*) FROM c") == "0"


@natively
def test_stray_copy_messages_are_ignored(session):
    session.send(copy_data(b"stray"), copy_done(), copy_fail("stray"))
    assert session.quiet(0.2)


@natively
def test_rows_before_copy_in_one_query(session):
    session.send(query("SELECT 1; COPY c FROM stdin"))
    assert wire.essence(session.until("G")) == "TDCG"
    session.send(copy_data(b"1\tx\n"), copy_done())
    assert wire.tags(session.until_ready()) == ["COPY 1"]


@natively
def test_rows_after_copy_in_one_query(session):
    session.send(query("COPY c FROM stdin; SELECT repeat('x', 1000) FROM generate_series(1, 200)"))
    session.until("G")
    session.send(copy_data(b"1\tx\n"), copy_done())
    messages = session.until_ready()
    assert wire.tags(messages) == ["COPY 1", "SELECT 200"] and len(wire.rows(messages)) == 200


@natively
def test_two_copies_in_one_query(session):
    session.send(query("COPY c FROM stdin; COPY c FROM stdin; COPY c TO stdout"))
    for number in (1, 2):
        session.until("G")
        session.send(copy_data(b"%d\tx\n" % number), copy_done())
    messages = session.until_ready()
    assert wire.essence(messages) == "CHddcCZ"


@natively
def test_extended_copy_in(session):
    session.send(wire.parse("", "COPY c FROM stdin"), wire.bind(), wire.execute(), sync())
    assert wire.essence(session.until("G")) == "12G"
    session.send(copy_data(b"1\tx\n"), copy_done(), sync())
    messages = session.until_ready()
    assert wire.essence(messages) == "CZ" and wire.tags(messages) == ["COPY 1"]


@natively
def test_extended_copy_in_with_an_error(session):
    session.send(wire.parse("", "COPY c FROM stdin"), wire.bind(), wire.execute(), sync())
    session.until("G")
    session.send(copy_data(b"bad\tx\n"), copy_done())
    assert wire.sqlstates(session.until("E")) == ["22P02"]
    session.send(wire.extended("SELECT 'skipped'"), sync())
    assert wire.types(session.until_ready()) == "Z"


@natively
def test_extended_copy_out(session):
    session.query("INSERT INTO c VALUES (1, 'x')")
    messages = session.run("COPY c TO stdout")
    assert wire.essence(messages) == "12nHdcCZ"


@natively
def test_copy_in_behind_a_flush_without_sync(session):
    """As asyncpg does it: the columns first, then the rows."""
    session.query("BEGIN")
    session.send(wire.parse("s", "SELECT * FROM c LIMIT 1"), wire.describe("S", "s"), wire.flush())
    assert wire.essence(session.until("T")) == "1tT"
    session.send(query("COPY c FROM stdin WITH (FORMAT binary)"))
    assert wire.essence(session.until("G")) == "G"
    session.send(copy_data(b"PGCOPY\n\xff\r\n\0" + b"\0" * 8), copy_data(b"\xff\xff"), copy_done())
    assert wire.essence(session.until_ready()) == "CZ"
    session.query("COMMIT")


@natively
def test_data_in_the_same_write_as_the_copy_command(session):
    """Before the server could answer; asyncpg does it, too."""
    session.send(query("COPY c FROM stdin"), copy_data(b"1\tx\n"), copy_done())
    messages = session.until_ready()
    assert wire.essence(messages) == "GCZ" and wire.tags(messages) == ["COPY 1"]
    session.send(wire.parse("", "COPY c FROM stdin"), wire.bind(), wire.execute(),
                 copy_data(b"2\tx\n"), copy_done(), sync())
    messages = session.until_ready()
    assert wire.essence(messages) == "12GCZ" and wire.tags(messages) == ["COPY 1"]


@natively
def test_data_behind_a_refused_copy_command_is_ignored(session):
    session.send(query("COPY nowhere FROM stdin"), copy_data(b"1\tx\n"), copy_done(),
                 query("SELECT 'next'"))
    messages = session.until_ready(2)
    assert wire.essence(messages) == "EZTDCZ" and wire.sqlstates(messages) == ["42P01"]


@natively
def test_flush_and_sync_during_copy_in_are_ignored(session):
    session.send(query("COPY c FROM stdin"))
    session.until("G")
    session.send(wire.flush(), copy_data(b"1\tx\n"), sync(), copy_data(b"2\tx\n"), copy_done())
    assert wire.tags(session.until_ready()) == ["COPY 2"]


def test_end_of_the_server_process_reaches_a_silent_client(doorman, postgres, target):
    pooler = doorman(pool_size=1)
    with pooler.client() as client:
        client.send(query("COPY c FROM stdin"))
        client.until("G")
        client.send(copy_data(b"1\tx\n"))
        postgres.terminate()
        assert wire.sqlstates(client.wait_closed())[0] == "57P01"
    pooler.wait_idle()


@pytest.mark.parametrize("path", ["direct", "pooled"])
def test_query_during_copy_in_ends_the_session(path, doorman, postgres, target):
    pooler = doorman(pool_size=1) if path == "pooled" else None
    client = pooler.client() if pooler else wire.Wire(("127.0.0.1", postgres.port)).login()
    with client:
        client.send(query("COPY c FROM stdin"))
        client.until("G")
        client.send(query("SELECT 1"))
        found = wire.errors(client.wait_closed())
        assert found[0]["C"] == "08P01" and "0x51 during COPY from stdin" in found[0]["M"]
        assert found[-1]["S"] == "FATAL"
    if pooler:
        pooler.wait_idle()
        with pooler.client() as client:
            assert client.value("SELECT 1") == "1"


def test_many_megabytes_in_and_out(client):
    row = b"1\t" + b"x" * 1000 + b"\n"
    client.send(query("COPY c FROM stdin"))
    client.until("G")
    for _ in range(100):
        client.send(*[copy_data(row * 10)] * 30)
    client.send(copy_done())
    assert wire.tags(client.until_ready()) == ["COPY 30000"]
    messages = client.query("COPY c TO stdout")
    assert sum(len(m.body) for m in messages if m.type == "d") == 30000 * len(row)


def test_copy_data_frame_above_the_streaming_limit(client):
    client.query("INSERT INTO c VALUES (1, repeat('z', 5000000))")
    messages = client.query("COPY c TO stdout")
    assert b"".join(m.body for m in messages if m.type == "d") == b"1\t" + b"z" * 5000000 + b"\n"


def test_failed_copy_in_a_transaction_does_not_leak_its_backend(doorman, table):
    name = table("x int UNIQUE")
    pooler = doorman(pool_size=1)
    with pooler.client() as client:
        client.query("BEGIN")
        client.send(query("COPY %s FROM stdin" % name))
        client.until("G")
        client.send(copy_data(b"1\n1\n"), copy_done())
        messages = client.until_ready()
        assert wire.sqlstates(messages) == ["23505"] and wire.status(messages) == "E"
        client.query("ROLLBACK")
        assert pooler.pool_row()["sv_active"] == 0


def test_copy_that_waits_for_a_lock_ends_with_the_servers_error(doorman, postgres, table):
    name = table("x int")
    pooler = doorman(pool_size=2)
    with pooler.client() as holder, pooler.client() as client:
        holder.query("BEGIN; LOCK TABLE %s IN ACCESS EXCLUSIVE MODE" % name)
        client.query("BEGIN; SET LOCAL statement_timeout = '200ms'")
        messages = client.query("COPY %s FROM stdin" % name)
        assert wire.sqlstates(messages) == ["57014"]
        assert wire.status(client.query("ROLLBACK")) == "I"
        holder.query("ROLLBACK")
    pooler.wait_idle()
