"""Prepared statements through the pooler answer as a private PostgreSQL session does, message by
message. The tests N-… are the interleavings that poolers get wrong; W-… are whole conversations."""

import importlib
import os
import random
import re
import signal

import pytest

import wire
from pooler import ROOT
from prepared import Pair, masked
from waiting import wait_until
from wire import (bind, close, describe, execute, extended, flush, parse, query, sync)

# By their numbers, those whose tests are in other files; all others have theirs here.
ELSEWHERE = {
    32: "test_upgrade_compatibility.test_c1_09_statement_without_a_name",
}
IN_UNIT_TESTS = {
    33: "test_statement.statement_registry_survives_equal_hashes",
    35: "test_statement.statement_text_is_listed_while_it_is_used",
}


def test_every_interleaving_has_its_test():
    here = {int(number) for name in globals() if name.startswith("test_")
            for number in re.findall(r"_n(\d+)", name)}
    assert here | set(ELSEWHERE) | set(IN_UNIT_TESTS) == set(range(1, 39))
    for name in ELSEWHERE.values():
        module, function = name.split(".")
        assert callable(getattr(importlib.import_module(module), function))
    for name in IN_UNIT_TESTS.values():
        module, case = name.split(".")
        with open(os.path.join(ROOT, "tests", "unit", module + ".c")) as source:
            assert "TEST(%s)" % case in source.read()


@pytest.fixture
def pair(postgres, doorman):
    opened = []

    def start(pool_size=1, general=None, bound=None, **options):
        general = dict(general or {})
        if bound is not None:
            general["server_prepared_statements_cache_size"] = bound
        pooler = doorman(pool_size=pool_size, general=general)
        opened.append(Pair(pooler, postgres, **options))
        opened[-1].pooler = pooler
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def run(name, *values):
    return bind("", name, values) + execute()


ROWS = "SELECT generate_series(1, 3)"


def known(both, *texts):
    """The backend holds these; the clients call them k0, k1, …"""
    for number, text in enumerate(texts):
        both.same(parse("k%d" % number, text) + sync())


# ---- N-1 to N-11: batches that mix what is known with what is new


def test_n01_cached_and_new_parse_before_describe(pair):
    both = pair()
    known(both, "SELECT 1")
    assert both.same(parse("a", "SELECT 1"), parse("b", "SELECT 2, 3"), describe("S", "a"),
                     sync()) == "11tTZ"


@pytest.mark.parametrize("seed", range(4))
def test_n02_batches_of_everything_in_any_order(pair, seed):
    both = pair(bound=1 + seed)
    rng = random.Random(seed)
    for _ in range(40):
        if rng.random() < 0.15:
            both.same(query(rng.choice(["BEGIN", "COMMIT", "ROLLBACK", "SELECT 1/0"])))
            # A Query ends the unnamed statement of PostgreSQL, but not here.
            both.same(close("S"), sync())
        say_anything(both, rng)


@pytest.mark.parametrize("seed", range(2))
def test_n02_clients_that_share_a_backend_and_its_two_statements(doorman, postgres, seed):
    pooler = doorman(pool_size=1, general={"server_prepared_statements_cache_size": 2})
    pairs = [Pair(pooler, postgres) for _ in range(3)]
    rng = random.Random(100 + seed)
    for _ in range(60):
        say_anything(rng.choice(pairs), rng)
    for both in pairs:
        both.close()


def test_n03_three_unnamed_parses_then_one_bind(pair):
    both = pair()
    for _ in range(2):
        assert both.same(parse("", "SELECT 1"), parse("", "SELECT 2"), parse("", "SELECT 3"),
                         run(""), sync()) == "1112DCZ"


def test_n04_each_describe_shows_its_own_unnamed_statement(pair):
    both = pair()
    for _ in range(2):
        both.same(parse("", "SELECT $1::int"), describe("S"), parse("", "SELECT $1::text, 2"),
                  describe("S"), sync())


def test_n05_w13_close_then_redefine_in_one_batch(pair):
    both = pair()
    for _ in range(2):
        both.same(parse("a", "SELECT 1"), sync())
        assert both.same(close("S", "a"), parse("a", "SELECT 1"), run("a"), sync()) == "312DCZ"
        assert both.same(close("S", "a"), parse("a", "SELECT 'other'"), describe("S", "a"),
                         run("a"), sync()) == "31tT2DCZ"
        both.same(close("S", "a"), sync())


def test_n06_w08_overflow_inside_a_batch(pair):
    both = pair(bound=2)
    known(both, "SELECT 'A'", "SELECT 'B'")
    for text in ("SELECT 'C'", "SELECT 'D'"):
        assert both.same(close("S", "a"), parse("a", "SELECT 'A'"), run("a"), close("S", "c"),
                         parse("c", text), run("c"), sync()) == "312DC312DCZ"
    held = both.through.rows("SELECT count(*) FROM pg_prepared_statements")
    assert held == [["2"]]


def test_n07_overflow_under_flush(pair):
    both = pair(bound=2)
    for number in range(4):
        name = "s%d" % number
        both.same(parse(name, "SELECT %d, $1::int" % number), describe("S", name), flush())
    for number in (0, 1, 2, 3, 2, 0):
        both.same(run("s%d" % number, number), sync())
    both.calm()


@pytest.mark.parametrize("bound", [2, 100])
@pytest.mark.parametrize("how", ["close", "reset"])
def test_n08_w14_n27_client_dies_before_sync(doorman, postgres, bound, how):
    pooler = doorman(pool_size=1, cleanup_server_connections=False,
                     general={"server_prepared_statements_cache_size": bound})
    for turn in range(3):
        gone = pooler.client()
        gone.send(*[parse("s%d" % i, "SELECT %d + %d" % (turn, i)) for i in range(4)],
                  bind("", "s0"), execute())
        getattr(gone, how)()
        with pooler.client() as client:
            for i in range(4):
                client.send(parse("s", "SELECT %d + %d" % (turn, i)), run("s"), close("S", "s"),
                            sync())
                messages = client.until_ready()
                assert wire.essence(messages) == "12DC3Z"
                assert wire.rows(messages) == [[str(turn + i)]]


def test_n09_w06_name_is_reused_after_a_parse_error(pair):
    both = pair()
    for _ in range(2):
        assert both.same(parse("s", "SELECT nonsense FROM nowhere"), run("s"), sync()) == "EZ"
        assert both.same(parse("s", "SELECT 'good'"), run("s"), sync()) == "12DCZ"
        both.same(close("S", "s"), sync())


def test_n10_parses_before_the_failing_one_stay(pair):
    both = pair()
    texts = ["SELECT %d" % i for i in range(5)]
    texts[3] = "SELEKT"
    both.same(*[parse("s%d" % i, text) for i, text in enumerate(texts)], sync())
    held = both.through.rows("SELECT statement FROM pg_prepared_statements ORDER BY 1")
    assert held == [["SELECT 0"], ["SELECT 1"], ["SELECT 2"]]
    for i in range(3):
        both.same(run("s%d" % i), sync())


@pytest.mark.parametrize("text", ["SELECT repeat('x', 3000000)",
                                  "SELECT repeat('y', 2000) FROM generate_series(1, 500)"],
                         ids=["one large row", "many chunks"])
def test_n11_n16_large_reply_behind_a_known_parse(pair, text):
    both = pair()
    known(both, text)
    both.same(parse("a", text), run("a"), sync())
    both.same(bind("p", "a"), parse("b", text), execute("p"), sync())


# ---- N-12 to N-17: the pooler's own answers stand where PostgreSQL's would


def test_n12_known_parse_between_bind_and_execute_without_rows(pair, table):
    both = pair()
    name = table("a int")
    insert = "INSERT INTO %s VALUES (1)" % name
    known(both, insert, "SELECT 'rows'")
    assert both.same(bind("p1", "k0"), parse("s", "SELECT 'rows'"), execute("p1"),
                     bind("p2", "s"), execute("p2"), sync()) == "21C2DCZ"


def test_n13_known_parse_behind_describe(pair):
    both = pair()
    known(both, "SELECT 1, 2", "SELECT 3")
    assert both.same(describe("S", "k0"), parse("b", "SELECT 3"), run("b"), sync()) == "tT12DCZ"


def test_n14_known_parses_around_suspended_and_empty_portals(pair):
    both = pair()
    known(both, ROWS, "", "SELECT 'last'")
    assert both.same(bind("p", "k0"), execute("p", 1), parse("a", ROWS), execute("p", 1),
                     parse("b", ""), run("b"), parse("c", "SELECT 'last'"), run("c"),
                     sync()) == "2Ds1Ds12I12DCZ"


def test_n15_w07_nothing_is_answered_behind_an_error(pair):
    both = pair()
    texts = ["SELECT 'a'", "SELECT 1/$1::int", "SELECT 'c'"]
    known(both, *texts)
    assert both.same(parse("a", texts[0]), run("a"), parse("b", texts[1]), run("b", 0),
                     parse("c", texts[2]), run("c"), parse("d", texts[0]), sync()) == "12DC1EZ"
    assert both.same(parse("e", texts[0]), bind("", "e", ["too", "many"]), parse("f", texts[0]),
                     sync()) == "1EZ"


def test_n17_first_flush_of_a_session(pair):
    both = pair()
    known(both, "SELECT 'a'", "SELECT 'b'")
    assert both.same(parse("a", "SELECT 'a'"), run("a"), parse("b", "SELECT 'b'"), run("b"),
                     flush()) == "12DC12DC"
    both.same(sync())


def test_n18_pipeline_goes_on_after_an_error_under_flush(pair):
    both = pair()
    both.same(parse("", "SELEKT"), flush(), extended("SELECT 1"), flush(), sync())
    both.calm()


# ---- N-19 to N-23: nothing is invented between the client's messages


def test_n19_missing_statement_under_flush_does_not_commit(pair, table):
    both = pair(bound=1)
    name = table("a int")
    both.same(parse("s", "SELECT 7"), sync())
    both.same(parse("other", "SELECT 8"), run("other"), sync())  # the backend drops the first
    both.same(extended("INSERT INTO %s VALUES (1)" % name), flush())
    both.same(bind("portal", "s"), flush())
    both.same(execute("portal"), flush())
    both.same(extended("SELECT 1/0"), sync())
    assert both.direct.value("SELECT count(*) FROM " + name) == "0"


def test_n20_missing_statement_is_parsed_in_its_turn(pair, table):
    both = pair(bound=1)
    name = table("a int")
    both.same(parse("y", "SELECT * FROM %s" % name), sync())
    both.same(parse("z", "SELECT 1"), sync())
    both.same(extended("ALTER TABLE %s ADD IF NOT EXISTS b int DEFAULT 5" % name),
              parse("x", "SELECT 'x'"), parse("y2", "SELECT * FROM %s" % name), run("x"), sync())
    both.same(run("x"), sync())


def test_n21_requests_and_replies_beyond_all_buffers(pair):
    both = pair()
    text = "SELECT repeat($1, 30)"
    batch = parse("s", text) + run("s", "z" * 20000) * 150 + sync()
    both.through.send(batch)
    messages = both.through.until_ready()
    assert wire.types(messages) == "1" + "2DC" * 150 + "Z"


def test_n22_work_under_flush_of_a_vanished_client_is_rolled_back(doorman, postgres, table):
    pooler = doorman(pool_size=1)
    name = table("a int")
    gone = pooler.client()
    gone.send(extended("INSERT INTO %s VALUES (1)" % name), flush())
    assert wire.essence(gone.until("C")) == "12nC"
    gone.close()
    with pooler.client() as client:
        client.send(sync())
        client.until_ready()
        assert client.value("SELECT count(*) FROM " + name) == "0"


def test_n23_query_behind_unsent_requests(pair):
    both = pair()
    both.same(parse("a", "SELECT 'first'"), run("a"), query("SELECT 'second'"), sync(), ready=2)
    both.same(run("a"), sync())


# ---- N-24 to N-37: names, texts and settings


def test_n24_close_of_a_name_like_the_poolers_own(doorman):
    pooler = doorman(pool_size=1)
    with pooler.client() as client, pooler.client() as other:
        client.send(parse("a", "SELECT 7"), sync())
        client.until_ready()
        name, = client.rows("SELECT name FROM pg_prepared_statements")[0]
        other.send(close("S", name), sync())
        assert wire.essence(other.until_ready()) == "3Z"
        client.send(run("a"), sync())
        assert wire.essence(client.until_ready()) == "2DCZ"


def test_n25_only_a_lone_deallocate_is_intercepted(pair, table):
    both = pair()
    name = table("a int")
    both.same(parse("a", "SELECT 1"), sync())
    both.through.query("DEALLOCATE a; INSERT INTO %s VALUES (1)" % name)
    both.through.query("INSERT INTO %s VALUES (2)" % name)
    assert both.through.value("SELECT max(a) FROM " + name) == "2"


@pytest.mark.parametrize("protocol", ["simple", "extended"])
def test_n26_deallocate_inside_a_transaction(pair, protocol):
    both = pair()

    def say(sql):
        return both.same(query(sql) if protocol == "simple" else extended(sql) + sync())

    for _ in range(2):
        both.same(parse("a", "SELECT 1"), parse("Q", "SELECT 2"), sync())
        both.same(query("BEGIN"))
        both.same(run("a"), sync())
        say("DEALLOCATE a")
        say("/* ours */ deallocate prepare \"Q\";")
        both.same(parse("a", "SELECT 'new'"), run("a"), sync())
        say("DEALLOCATE unknown")
        both.same(query("ROLLBACK"))
        say("DEALLOCATE a")


def test_n26_deallocate_frees_the_name_for_another_text(pair):
    both = pair()
    for sql in ("DEALLOCATE a", "DEALLOCATE ALL", "DISCARD ALL"):
        both.same(parse("a", "SELECT 1"), run("a"), sync())
        assert both.same(query(sql)) == "CZ"
        assert both.same(parse("a", "SELECT 'text'"), run("a"), sync()) == "12DCZ"
        both.same(query("DEALLOCATE ALL"))


def test_n26_extended_deallocate_leaves_the_backend_its_statements(doorman):
    pooler = doorman(pool_size=1)
    with pooler.client() as client, pooler.client() as other:
        other.send(parse("mine", "SELECT 1"), sync())
        other.until_ready()
        for _ in range(3):
            client.send(parse("a", "SELECT 1"), extended("DEALLOCATE a"), sync())
            assert wire.essence(client.until_ready()) == "112nCZ"
            client.send(run("a"), sync())
            assert wire.sqlstates(client.until_ready()) == ["26000"]
        held = client.rows("SELECT statement FROM pg_prepared_statements ORDER BY 1")
        assert ["SELECT 1"] in held and len(held) <= 2


@pytest.mark.parametrize("where", ["general", "pool"])
def test_n28_backends_that_keep_nothing(doorman, where):
    setting = {"server_prepared_statements_cache_size": 0}
    pooler = doorman(pool_size=1, **({"general": setting} if where == "general" else setting))
    with pooler.client() as client:
        for _ in range(3):
            client.send(parse("a", "SELECT 7"), run("a"), close("S", "a"), sync())
            assert wire.essence(client.until_ready()) == "12DC3Z"
        assert client.value("SELECT count(*) FROM pg_prepared_statements") == "0"


def test_n28_pool_cache_of_size_zero(doorman):
    pooler = doorman(pool_size=1, prepared_statements_cache_size=0)
    with pooler.client() as client:
        for number in range(3):
            client.send(parse("a%d" % number, "SELECT %d" % number), sync())
            client.until_ready()
        for number in range(3):
            client.send(run("a%d" % number), sync())
            assert wire.rows(client.until_ready()) == [[str(number)]]


def test_n29_many_parameter_types(pair):
    both = pair()
    for count in (32767, 32768, 65535):
        text = "SELECT $1::int"
        both.same(parse("", text, [23] * count), describe("S"), sync())


def test_n30_texts_and_names_that_are_no_utf8(pair):
    both = pair(client_encoding="LATIN1")
    text = "SELECT 'caf\xe9'::text, $1::text".encode("latin-1")
    for _ in range(2):
        both.same(parse(b"\xe4", text), describe("S", b"\xe4") + run(b"\xe4", b"\xfc"), sync())
        both.same(close("S", b"\xe4"), sync())
    assert both.same(bind("", b"\xe5"), sync()) == "EZ"


LITERAL = "SELECT timestamptz '2020-06-01 12:00:00' AT TIME ZONE 'UTC'"


def test_n31_same_text_under_other_settings(doorman):
    pooler = doorman(pool_size=1)
    results = {}
    for turn in range(2):
        for zone in ("Asia/Tokyo", "UTC", "America/New_York"):
            with pooler.client(TimeZone=zone) as client:
                client.send(parse("s", LITERAL), run("s"), sync())
                row, = wire.rows(client.until_ready())
                assert results.setdefault(zone, row) == row
    assert len(set(map(tuple, results.values()))) == 3


def test_n31_same_bytes_under_another_encoding(doorman):
    pooler = doorman(pool_size=1)
    text = b"SELECT length('\xc3\xa4')"
    for turn in range(2):
        for encoding, length in (("UTF8", "1"), ("LATIN1", "2")):
            with pooler.client(client_encoding=encoding) as client:
                client.send(parse("s", text), run("s"), sync())
                assert wire.rows(client.until_ready()) == [[length]], encoding


def test_startup_search_path_with_synchronised_settings(doorman, postgres):
    """The suite's prepared-cache-startup-parameters."""
    for number, schema in enumerate(("one", "two", "public"), 1):
        postgres.run("CREATE SCHEMA IF NOT EXISTS {0}; GRANT USAGE ON SCHEMA {0} TO PUBLIC;"
                     "DROP TABLE IF EXISTS {0}.pathed; CREATE TABLE {0}.pathed AS SELECT {1} AS n;"
                     "GRANT SELECT ON {0}.pathed TO PUBLIC".format(schema, number), database="app")
    try:
        pooler = doorman(pool_size=1, general={"sync_server_parameters": True})
        for _ in range(2):
            for number, path in ((1, "one"), (2, "two"), (3, None)):
                options = {"search_path": path} if path else {}
                with pooler.client(**options) as client:
                    client.send(parse("s", "SELECT n FROM pathed"), run("s"), sync())
                    assert wire.rows(client.until_ready()) == [[str(number)]]
    finally:
        postgres.run("DROP SCHEMA one, two CASCADE; DROP TABLE public.pathed", database="app")


def test_n34_sql_prepare_does_not_leak_and_works_within_a_transaction(pair):
    both = pair()
    both.same(query("BEGIN"))
    both.same(query("PREPARE mine(int) AS SELECT $1 + 1"))
    both.same(query("EXECUTE mine(1)"))
    both.same(describe("S", "mine"), run("mine", 4), sync())
    both.same(query("DEALLOCATE mine"))
    both.same(query("PREPARE mine AS SELECT 'again'"))
    both.same(close("S", "mine"), sync())
    both.same(query("PREPARE mine AS SELECT 'left behind'"))
    both.same(query("COMMIT"))
    with both.pooler.client() as other:
        assert wire.sqlstates(other.query("EXECUTE mine")) == ["26000"]
        assert not wire.errors(other.query("PREPARE mine AS SELECT 1"))


def test_n36_unknown_statement_in_a_transaction(pair):
    both = pair()
    both.same(query("BEGIN"))
    assert both.same(bind("", "nosuch"), execute(), sync()) == "EZ"
    assert both.same(query("SELECT 1")) == "EZ"
    assert both.same(query("ROLLBACK")) == "CZ"


@pytest.mark.parametrize("sql", ["DEALLOCATE nosuch", "DEALLOCATE ALL"])
def test_n37_deallocate_behind_begin_is_in_the_transaction(doorman, sql):
    pooler = doorman(pool_size=1)
    with pooler.client() as client:
        client.query("BEGIN")
        messages = client.query(sql)
        assert wire.status(messages) == "T" and wire.tags(messages)[0].startswith("DEALLOCATE")
        assert wire.status(client.query("COMMIT")) == "I"


def test_n38_errors_leave_the_statements_alone(doorman, table):
    pooler = doorman(pool_size=1)
    name = table("a int UNIQUE")
    with pooler.client() as client:
        client.send(parse("i", "INSERT INTO %s VALUES ($1)" % name), run("i", 1), sync())
        client.until_ready()
        pid = client.backend_pid()
        for _ in range(10):
            client.send(run("i", 1), sync())
            assert wire.sqlstates(client.until_ready()) == ["23505"]
        assert client.backend_pid() == pid
        assert client.value("SELECT count(*) FROM pg_prepared_statements") == "1"


# ---- conversations


def test_w01_w02_w03_cold_warm_and_prepare_only(pair):
    both = pair()
    assert both.same(parse("s1", "SELECT 1"), run("s1"), sync()) == "12DCZ"
    assert both.same(parse("x", "SELECT 1"), bind("", "x"), describe("P"), execute(),
                     sync()) == "12TDCZ"
    assert both.same(parse("y", "SELECT 1"), describe("S", "y"), sync()) == "1tTZ"
    assert both.same(parse("z", "SELECT 1"), sync()) == "1Z"


def test_w04_statement_follows_to_another_backend(doorman, postgres):
    pooler = doorman(pool_size=2)
    with pooler.client() as holder, pooler.client() as client:
        client.send(parse("s", "SELECT pg_backend_pid()"), run("s"), sync())
        first = wire.rows(client.until_ready())
        holder.query("BEGIN")
        holder.query("SELECT 1")
        client.send(run("s"), sync())
        messages = client.until_ready()
        assert wire.essence(messages) == "2DCZ"
        assert wire.rows(messages) != first or holder.backend_pid() != int(first[0][0])


def test_w05_mixed_batch(pair):
    both = pair()
    texts = {"a": "SELECT $1::int", "b": "SELECT 'b'", "c": "SELECT 'c', 2"}
    known(both, texts["a"], texts["c"])
    assert both.same(parse("a", texts["a"]), parse("b", texts["b"]), describe("S", "a"),
                     bind("p1", "a", [1]), execute("p1"), parse("c", texts["c"]), bind("p2", "c"),
                     execute("p2"), sync()) == "11tT2DC12DCZ"


def test_w09_w10_flush(pair):
    both = pair()
    for _ in range(3):
        assert both.same(parse("", "SELECT $1::int"), describe("S"), flush()) == "1tT"
        assert both.same(run("", 5), sync()) == "2DCZ"
    assert both.same(parse("s", "SELECT $1::int"), flush()) == "1"
    both.same(sync())
    assert both.through.value("SELECT count(*) FROM pg_prepared_statements") == "1"


@pytest.mark.parametrize("name", ["nosuch", ""])
@pytest.mark.parametrize("message", ["bind", "describe"])
def test_w11_unknown_statement_is_told_without_sync(pair, name, message):
    both = pair()
    request = bind("", name) if message == "bind" else describe("S", name)
    for _ in range(2):
        assert both.same(request) == "E"
        assert both.same(execute(), sync()) == "Z"
    both.calm()


def test_w11_unknown_statement_behind_others_of_its_batch(pair):
    both = pair()
    both.through.send(parse("a", "SELECT 1"), run("a"), bind("", "nosuch"))
    error = both.through.until("E")
    assert wire.essence(error) == "12DCE"
    both.through.send(sync())
    assert wire.essence(both.through.until_ready()) == "Z"


def test_w12_deallocate_all_of_an_idle_client(doorman, postgres):
    pooler = doorman(pool_size=1)
    with pooler.client() as client:
        client.send(parse("s", "SELECT 1"), sync())
        client.until_ready()
        messages = client.query("DEALLOCATE ALL")
        assert (wire.essence(messages), wire.tags(messages)) == ("CZ", ["DEALLOCATE ALL"])
        client.send(parse("s", "SELECT 'other'"), run("s"), sync())
        assert wire.rows(client.until_ready()) == [["other"]]
        client.query("DEALLOCATE ALL")
        client.send(run("s"), sync())
        assert wire.sqlstates(client.until_ready()) == ["26000"]


def test_w15_table_changes_between_two_clients(doorman, postgres, table):
    """Directly at PostgreSQL: the pooler does not see it."""
    pooler = doorman(pool_size=2)
    name = table("a int")
    text = "SELECT * FROM " + name
    with pooler.client() as first, pooler.client() as second:
        for client in (first, second):  # both backends have it
            client.query("BEGIN")
            client.send(parse("s", text), run("s"), sync())
            client.until_ready()
        first.query("COMMIT")
        second.query("COMMIT")
        for number in range(3):
            postgres.run("ALTER TABLE %s ADD c%d int" % (name, number), database="app")
            for how in (describe("S", "n"), run("n"), describe("S", "n") + run("n")):
                with pooler.client() as fresh:
                    fresh.send(parse("n", text), how, sync())
                    messages = fresh.until_ready()
                    assert not wire.errors(messages), wire.errors(messages)
                    letters = {b"D": "tT", b"B": "2C"}
                    assert wire.types(messages).startswith("1" + letters[how[:1]])
            postgres.run("INSERT INTO %s DEFAULT VALUES; DELETE FROM %s" % (name, name),
                         database="app")


def test_batch_that_is_cancelled_before_it_is_sent_again_leaves_nothing(doorman, postgres, table):
    """Half of the answer to its Describe was told; the next Describe is answered in full."""
    pooler = doorman(pool_size=1)
    name = table("a int")
    text = "SELECT * FROM " + name
    with pooler.client() as client, pooler.client() as other, pooler.client() as holder:
        other.send(parse("s", text), run("s"), sync())
        other.until_ready()
        postgres.run("ALTER TABLE %s ADD b int" % name, database="app")
        holder.query("BEGIN")
        holder.query("SELECT 1")
        client.send(parse("n", text), describe("S", "n"), sync())
        wait_until(lambda: pooler.pool_row()["cl_waiting"] == 1, 5, "one waiting client")
        other.query("BEGIN")
        other.send(query("SELECT 'in between'"))
        wait_until(lambda: pooler.pool_row()["cl_waiting"] == 2, 5, "two waiting clients")
        holder.query("COMMIT")
        other.until_ready()
        assert wire.types([client.receive(), client.receive()]) == "1t"
        wait_until(lambda: pooler.pool_row()["cl_waiting"] == 1, 5, "the batch to wait again")
        client.cancel()
        assert wire.sqlstates(client.until_ready()) == ["57014"]
        other.query("COMMIT")
        client.send(parse("m", "SELECT 1"), describe("S", "m"), sync())
        assert wire.types(client.until_ready()) == "1tTZ"


def test_w15_client_that_prepared_before_the_change_is_told(pair, table, postgres):
    both = pair()
    name = table("a int")
    both.same(parse("s", "SELECT * FROM " + name), run("s"), sync())
    postgres.run("ALTER TABLE %s ADD b int" % name, database="app")
    assert both.same(run("s"), sync()) == "EZ"
    both.through.send(run("s"), sync())  # PostgreSQL would repeat its error until Close
    assert wire.essence(both.through.until_ready()) == "2CZ"


@pytest.mark.parametrize("lead", ["BEGIN", None])
def test_lost_statement_is_healed_unnoticed(doorman, lead):
    """A function takes all statements away, which no text shows."""
    pooler = doorman(pool_size=1)
    with pooler.client() as client:
        for text, how in (("SELECT 7", run("s")), ("SELECT 8, $1::int", describe("S", "s"))):
            client.send(close("S", "s"), parse("s", text), sync())
            client.until_ready()
            with pooler.client() as other:
                other.query("DO $$ BEGIN EXECUTE 'DEALLOCATE ' || 'ALL'; END $$")
            if lead:
                client.query(lead)
            client.send(how, sync())
            messages = client.until_ready()
            assert not wire.errors(messages), wire.errors(messages)
            if lead:
                assert wire.status(messages) == "T"
                assert wire.status(client.query("COMMIT")) == "I"


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo"], ids=["at once", "behind a SET"])
def test_cancel_request_strikes_the_batch_that_is_sent_again(doorman, zone):
    """Whether it comes while the backend is given the client's settings, or while the statement
    that is lost is asked for: what the client waits for is cancelled."""
    pooler = doorman(pool_size=1)
    with pooler.client(TimeZone=zone) as client, pooler.client() as other:
        client.send(parse("s", "SELECT 7"), sync())
        client.until_ready()
        other.query("DO $$ BEGIN EXECUTE 'DEALLOCATE ' || 'ALL'; END $$")
        pid = other.backend_pid()
        os.kill(pid, signal.SIGSTOP)
        try:
            client.send(run("s"), sync())
            wait_until(lambda: pooler.pool_row()["sv_active"] == 1, what="a lease")
            client.cancel()
        finally:
            os.kill(pid, signal.SIGCONT)
        assert wire.sqlstates(client.until_ready()) == ["57014"]
        client.send(run("s"), sync())
        messages = client.until_ready()
        assert not wire.errors(messages) and wire.rows(messages) == [["7"]]


def test_lost_statement_behind_work_that_was_told_of_is_an_error(doorman, table):
    """Healed, it would commit the second half of a transaction alone."""
    pooler = doorman(pool_size=1)
    name = table("a int")
    with pooler.client() as client:
        client.send(parse("s", "INSERT INTO %s VALUES (2)" % name), sync())
        client.until_ready()
        client.send(extended("INSERT INTO %s VALUES (1)" % name), flush())
        client.until("C")
        client.send(extended("DO $$ BEGIN EXECUTE 'DEALLOCATE ' || 'ALL'; END $$"), flush())
        client.until("C")
        client.send(run("s"), sync())
        assert wire.sqlstates(client.until_ready()) == ["26000"]
        assert client.rows("SELECT a FROM " + name) == []
        client.send(run("s"), sync())
        assert wire.essence(client.until_ready()) == "2CZ"


def test_deallocate_commits_what_was_sent_without_a_sync(pair, table):
    """As any Query does. The pooler answers it, but not for the transaction."""
    both = pair(pool_size=1)
    name = table("a int")
    known(both, "SELECT 1")
    both.same(parse("", "INSERT INTO %s VALUES (1)" % name), run(""), flush())
    both.same(query("DEALLOCATE k0"))
    with both.pooler.client() as other:
        assert other.rows("SELECT a FROM " + name) == [["1"], ["1"]]
    both.calm()


def test_lost_copy_is_begun_again_with_its_first_rows(doorman, table):
    """They are kept until the server asks for them, so the client need not know."""
    pooler = doorman(pool_size=1)
    name = table("a int")
    with pooler.client() as client:
        client.send(parse("s", "COPY %s FROM stdin" % name), sync())
        client.until_ready()
        with pooler.client() as other:
            other.query("DO $$ BEGIN EXECUTE 'DEALLOCATE ' || 'ALL'; END $$")
        client.send(run("s"), sync(), wire.copy_data(b"1\n"))
        assert wire.types(client.until("ZG")) == "2G"
        client.send(wire.copy_data(b"2\n"), wire.copy_done(), sync())
        assert wire.tags(client.until_ready()) == ["COPY 2"]
        assert client.rows("SELECT a FROM " + name) == [["1"], ["2"]]


@pytest.mark.parametrize("sql", ["DISCARD ALL", "DEALLOCATE ALL"])
@pytest.mark.parametrize("protocol", ["simple", "extended"])
def test_everything_discarded_ahead_of_a_known_parse_in_one_write(doorman, sql, protocol):
    pooler = doorman(pool_size=1)
    with pooler.client() as client:
        for _ in range(5):
            client.send(parse("a", "SELECT 7"), run("a"), sync())
            client.until_ready()
            first = query(sql) if protocol == "simple" else extended(sql) + sync()
            client.send(first, parse("b", "SELECT 7"), run("b"), close("S", "b"), sync())
            messages = client.until_ready(2)
            assert not wire.errors(messages), wire.errors(messages)
            assert wire.rows(messages) == [["7"]]
            client.query("DEALLOCATE ALL")


def test_deallocate_all_and_what_needs_a_statement_in_one_batch(doorman):
    pooler = doorman(pool_size=1)
    with pooler.client() as client:
        for _ in range(3):
            client.send(parse("a", "SELECT 7"), sync(), extended("DEALLOCATE ALL"),
                        parse("a", "SELECT 7"), run("a"), sync(), query("DEALLOCATE ALL"))
            messages = client.until_ready(3)
            assert not wire.errors(messages), wire.errors(messages)
            assert wire.rows(messages) == [["7"]]


def test_parse_in_a_failed_transaction(pair):
    both = pair()
    known(both, "SELECT 1", "ROLLBACK")
    both.same(query("BEGIN"))
    both.same(query("SELECT 1/0"))
    both.same(parse("a", "SELECT 1"), run("a"), sync())  # known to the backend
    both.same(parse("b", "SELECT 'new'"), sync())
    both.same(run("k0"), sync())
    both.same(parse("c", "ROLLBACK"), run("c"), sync())
    both.same(parse("a", "SELECT 1"), run("a"), sync())


def test_close_that_an_error_skips_leaves_the_statement(pair):
    both = pair()
    both.same(parse("a", "SELECT 'a'"), parse("", "SELECT 'unnamed'"), sync())
    both.same(parse("x", "SELEKT"), close("S", "a"), close("S", ""), sync())
    both.same(run("a"), sync())
    both.same(close("S", "a"), bind("", "a"), sync())
    both.same(run("a"), sync())


def test_altered_table_in_the_same_transaction(doorman, table):
    """The pooler sees the ALTER: an explicit Parse is made again."""
    pooler = doorman(pool_size=1)
    name = table("a int")
    text = "SELECT * FROM " + name
    with pooler.client() as client:
        client.send(parse("s", text), run("s"), sync())
        client.until_ready()
        client.query("BEGIN")
        client.query("ALTER TABLE %s ADD temporary int" % name)
        client.send(parse("t", text), describe("S", "t"), run("t"), sync())
        assert wire.essence(client.until_ready()) == "1tT2CZ"
        client.query("ROLLBACK")
        client.send(parse("u", text), describe("S", "u"), sync())
        assert wire.essence(client.until_ready()) == "1tTZ"


def test_copy_from_stdin_as_a_statement_over_the_bound(doorman, table):
    """A Close behind it would be read as part of the copy."""
    pooler = doorman(pool_size=1, general={"server_prepared_statements_cache_size": 1})
    name = table("a int")
    with pooler.client() as client:
        client.send(parse("x", "SELECT 1"), sync())
        client.until_ready()
        client.send(parse("c", "COPY %s FROM STDIN" % name), run("c"), sync())
        client.until("G")
        client.send(wire.copy_data(b"1\n2\n"), wire.copy_done(), sync())
        assert wire.tags(client.until_ready()) == ["COPY 2"]
        client.send(run("x"), sync())
        assert wire.essence(client.until_ready()) == "2DCZ"


def test_one_text_is_parsed_twice_without_reading(pair):
    """By a client that sends on before it has an answer: nobody hears of 42P05."""
    both = pair()
    for name in ("a", "b"):
        text = "SELECT 'twice by %s'" % name
        both.same(parse(name, text) + flush() + parse(name + "2", text) + flush() + run(name) +
                  flush() + run(name + "2") + sync())
    both.calm()


def test_two_clients_with_one_name_for_different_texts(doorman):
    pooler = doorman(pool_size=1)
    clients = [pooler.client() for _ in range(3)]
    for number, client in enumerate(clients):
        client.send(parse("same", "SELECT 'of client %d'" % number), sync())
        client.until_ready()
    for _ in range(20):
        for number, client in enumerate(clients):
            client.send(run("same"), sync())
            assert wire.rows(client.until_ready()) == [["of client %d" % number]]
    for client in clients:
        client.close()


def test_error_under_flush_costs_the_backend_in_transaction_mode_only(doorman):
    for mode, stays in (("session", True), ("transaction", False)):
        pooler = doorman(pool_size=1, pool_mode=mode)
        with pooler.client() as client:
            pid = client.backend_pid()
            for _ in range(2):
                client.send(parse("", "SELECT 1/0"), bind(), execute(), flush())
                client.until("E")
                client.send(sync())
                client.until_ready()
            assert (client.backend_pid() == pid) == stays


def test_statement_survives_the_end_of_its_backend(doorman, postgres):
    pooler = doorman(pool_size=1)
    with pooler.client() as client:
        client.send(parse("s", "SELECT 7"), sync())
        client.until_ready()
        for _ in range(2):
            postgres.terminate()
            wait_until(lambda: not postgres.backends(), 10, "the backends to be gone")
            client.send(run("s"), sync())
            assert wire.rows(client.until_ready()) == [["7"]]


def test_hundred_prepares_over_a_bound_of_ten(doorman):
    """The suite's go_issue_repro_prepared_cache: prepared in one batch, executed in another."""
    pooler = doorman(pool_size=1, general={"server_prepared_statements_cache_size": 10})
    with pooler.client() as client:
        for number in range(100):
            client.send(parse("s%d" % number, "SELECT %d" % number), describe("S", "s%d" % number),
                        sync())
            client.until_ready()
        client.send(parse("count", "SELECT count(*) FROM pg_prepared_statements"), sync())
        client.until_ready()
        client.send(run("count"), sync())
        assert wire.rows(client.until_ready()) == [["10"]]


@pytest.mark.parametrize("bound", [1, 30])
def test_batch_with_more_statements_than_the_bound(doorman, bound):
    """The suite's dotnet batch: hundreds of Bind and Execute before one Sync."""
    pooler = doorman(pool_size=2, general={"server_prepared_statements_cache_size": bound})
    clients = [pooler.client() for _ in range(4)]
    count = 100
    for client in clients:
        for number in range(count):
            client.send(parse("s%d" % number, "SELECT %d::int" % number))
        client.send(sync())
        client.until_ready()
    for _ in range(3):
        for client in clients:
            client.send(*[run("s%d" % number) for number in range(count)], sync())
        for client in clients:
            rows = wire.rows(client.until_ready())
            assert rows == [[str(number)] for number in range(count)]
    assert int(clients[0].value("SELECT count(*) FROM pg_prepared_statements")) <= bound
    for client in clients:
        client.close()


# ---- at random


TEXTS = ["SELECT 1", "SELECT $1::int", "SELECT generate_series(1, 4)", "", "SELECT $1::text, 2",
         "SELECT 1/$1::int", "SELEKT", "SELECT nonsense", "SET work_mem = '1MB'",
         "SELECT repeat('x', 9000)"]
NAMES = ["", "a", "b", "a name of more than eight bytes"]


def request(rng):
    """One message. Both sides know each name at most once, as PostgreSQL demands."""
    name = rng.choice(NAMES)
    kind = rng.randrange(11)
    if kind < 3:
        before = close("S", name) if name else b""
        return before + parse(name, rng.choice(TEXTS))
    if kind < 6:
        values = [rng.choice([0, 1, 7, "word"]) for _ in range(rng.choice([0, 0, 1, 1, 2]))]
        return bind(rng.choice(["", "", "p"]), name, values)
    if kind < 8:
        return execute(rng.choice(["", "", "p"]), rng.choice([0, 0, 2]))
    if kind == 8:
        return describe(*rng.choice([("S", name), ("P", ""), ("P", "p")]))
    if kind == 9:
        return flush() if rng.random() < 0.3 else b""
    return close(*rng.choice([("S", name), ("P", "p"), ("S", "never")]))


def say_anything(both, rng):
    """One batch at random, in pieces, whose answers must agree."""
    batch = b"".join(request(rng) for _ in range(rng.randrange(1, 12))) + sync()
    both.direct.send(batch)
    size = rng.choice([1, 7, 64, 4096, len(batch)])
    both.through.send_bytewise(batch, max(size, len(batch) // 200))
    theirs = [m for m in both.direct.until_ready() if m.type not in "SNA"]
    ours = [m for m in both.through.until_ready() if m.type not in "SNA"]
    assert wire.types(ours) == wire.types(theirs), batch
    for mine, other in zip(ours, theirs):
        if mine.type == "E":
            assert masked(mine)["C"] == masked(other)["C"], batch
        else:
            assert mine == other, batch
    # An error leaves behind what PostgreSQL did not parse: here the names are there (lenient).
    if "E" in wire.types(theirs):
        both.same(*[close("S", name) for name in NAMES], sync())


# ---- where statements are not remapped


def unnamed(pooler, mode):
    """A client that left an unnamed statement on the only backend; gone, or it would hold it."""
    owner = pooler.client()
    owner.send(parse("", "SELECT 'secret'"), sync())
    assert wire.essence(owner.until_ready()) == "1Z"
    if mode == "session":
        owner.terminate()
        pooler.wait_idle()
    return owner


def assert_no_unnamed(messages):
    assert wire.essence(messages) == "EZ" and wire.sqlstates(messages) == ["26000"]
    assert wire.errors(messages)[0]["M"] == "unnamed prepared statement does not exist"


@pytest.mark.parametrize("ask", [bind() + execute(), describe("S"), bind("p", "") + execute("p")],
                         ids=["bind", "describe", "portal"])
@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_unnamed_statement_of_another_is_not_found(doorman, mode, ask):
    pooler = doorman(pool_size=1, pool_mode=mode, general={"prepared_statements": False})
    with unnamed(pooler, mode) as owner, pooler.client() as other:
        other.send(ask, sync())
        assert_no_unnamed(other.until_ready())
        if mode == "transaction":  # and its owner may find it
            owner.send(bind(), execute(), sync())
            assert wire.rows(owner.until_ready()) == [["secret"]]
        other.send(bind("", "missing"), parse("", "SELECT 'skipped'"), sync(), ask, sync())
        assert_no_unnamed(other.until_ready(2)[-2:])
        other.send(parse("", "SELECT 'own'"), bind(), execute(), sync())
        assert wire.rows(other.until_ready()) == [["own"]]
        for _ in range(2):
            other.send(bind(), execute(), sync())
            assert wire.rows(other.until_ready()) == [["own"]]
