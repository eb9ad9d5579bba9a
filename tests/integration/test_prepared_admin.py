"""Prepared statements as operators see them, and what bounds them."""

import pytest

import wire
from pooler import pool
from prepared import settled
from waiting import wait_until
from wire import bind, close, describe, execute, parse, sync


def use(client, name, text):
    client.send(parse(name, text), bind("", name), execute(), sync())
    messages = client.until_ready()
    assert not wire.errors(messages), wire.errors(messages)
    return messages


def statements(pooler):
    return {row["query"]: row for row in pooler.admin("SHOW PREPARED_STATEMENTS")}


def interner(pooler):
    rows = pooler.admin("SHOW INTERNER")
    assert [row["kind"] for row in rows] == ["named", "anonymous"]
    return {row["kind"]: int(row["entries"]) for row in rows}


def memory(pooler):
    row, = pooler.admin("SHOW POOLS_MEMORY")
    return {k: int(v) if k not in ("database", "user") else v for k, v in row.items()}


def test_anonymous_lru_of_a_client(doorman):
    """The suite's anonymous-prepared-lru: two are kept, names are safe, siblings too."""
    pooler = doorman(pool_size=1, general={"client_anonymous_prepared_cache_size": 2})
    with pooler.client() as client, pooler.client() as sibling:
        use(client, "named", "SELECT 'named'")
        use(sibling, "", "SELECT 1")
        for number in range(1, 4):
            use(client, "", "SELECT %d" % number)
        client.send(bind("", "named"), execute(), sync())
        assert wire.rows(client.until_ready()) == [["named"]]
        sibling.send(bind(), execute(), sync())
        assert wire.rows(sibling.until_ready()) == [["1"]]
        found = memory(pooler)
        assert found["client_named_count"] == 1
        assert found["client_anonymous_count"] == 2 + 1
        assert found["client_anonymous_evictions_alive"] == 1
        assert found["client_prepared_count"] == 4
        assert found["pool_prepared_count"] == 4 and found["pool_prepared_bytes"] > 4 * 128
        # The evicted one is a text like any other.
        use(client, "", "SELECT 1")
        assert memory(pooler)["client_anonymous_evictions_alive"] == 2


def test_unlimited_and_single_anonymous_statements(doorman):
    for limit, kept, evicted in ((0, 20, 0), (1, 1, 19)):
        pooler = doorman(pool_size=1, general={"client_anonymous_prepared_cache_size": limit})
        with pooler.client() as client:
            for number in range(20):
                use(client, "", "SELECT %d" % number)
            found = memory(pooler)
            assert found["client_anonymous_count"] == kept
            assert found["client_anonymous_evictions_alive"] == evicted


def test_kinds_and_uses(doorman):
    pooler = doorman(pool_size=1)
    with pooler.client() as client:
        use(client, "n", "SELECT 'n'")
        use(client, "", "SELECT 'a'")
        use(client, "m", "SELECT 'm'")
        use(client, "", "SELECT 'm'")
        for _ in range(3):
            client.send(bind("", "n"), execute(), sync())
            client.until_ready()
        found = statements(pooler)
        assert {q: row["kind"] for q, row in found.items()} == {
            "SELECT 'n'": "named", "SELECT 'a'": "anonymous", "SELECT 'm'": "mixed"}
        assert {q: int(row["count_used"]) for q, row in found.items()} == {
            "SELECT 'n'": 5, "SELECT 'a'": 2, "SELECT 'm'": 4}
        assert {row["pool"] for row in found.values()} == {"trust_user@app"}
        held = {name for name, in client.rows("SELECT name FROM pg_prepared_statements")}
        assert held == {row["name"] for row in found.values()}
        assert interner(pooler) == {"named": 2, "anonymous": 2}
        server, = pooler.admin("SHOW SERVERS")
        assert (int(server["prepare_cache_hit"]), int(server["prepare_cache_miss"]),
                int(server["prepare_cache_size"])) == (8, 3, 3)


def test_texts_by_length(doorman):
    pooler = doorman(pool_size=1)
    long = "SELECT '%s'" % ("ä" * 200)
    with pooler.client() as client:
        use(client, "long", long)
        use(client, "", "SELECT 1")
        rows = pooler.admin("SHOW INTERNER 10")
        assert [row["query"] for row in rows] == [long[:120], "SELECT 1"]
        assert [int(row["bytes"]) for row in rows] == [len(long.encode()), 8]
        assert [row["kind"] for row in rows] == ["named", "anonymous"]
        assert int(rows[0]["idle_ms"]) == -1 and int(rows[1]["idle_ms"]) >= 0
        assert all(row["hash"].startswith("0x") for row in rows)
        assert [row["query"] for row in pooler.admin("SHOW INTERNER 1")] == [long[:120]]
        assert pooler.admin("SHOW INTERNER 0") == []
        assert len(pooler.admin("SHOW INTERNER many")) == 2
        numbers = {int(row["hash"]) for row in statements(pooler).values()}
        assert numbers == {int(row["hash"], 16) for row in rows}


def test_reset_interner_and_time_to_live(doorman):
    """The suite's query-interner: sweeps each half second, texts rest for a second."""
    pooler = doorman(pool_size=1, general={"query_interner_gc_interval_seconds": 1,
                                           "query_interner_anon_idle_ttl_seconds": 1})
    with pooler.client() as client:
        use(client, "n", "SELECT 'n'")
        use(client, "", "SELECT 'a'")
        use(client, "", "SELECT 'b'")
        assert interner(pooler) == {"named": 1, "anonymous": 2}
        connection = pooler.connect_admin()
        with connection.cursor() as cursor:
            cursor.execute("RESET INTERNER")
            assert cursor.statusmessage == "RESET"
        connection.close()
        assert interner(pooler) == {"named": 0, "anonymous": 0}
        client.send(bind("", "n"), execute(), bind(), execute(), sync())  # goes on as before
        assert wire.essence(client.until_ready()) == "2DC2DCZ"
        assert interner(pooler) == {"named": 1, "anonymous": 1}
        wait_until(lambda: interner(pooler) == {"named": 1, "anonymous": 0}, 15,
                   "the unnamed text to be too old")
        client.send(bind(), execute(), sync())
        assert wire.rows(client.until_ready()) == [["b"]]
        assert interner(pooler) == {"named": 1, "anonymous": 1}
        wait_until(lambda: memory(pooler)["client_anonymous_count"] == 1, 15,
                   "the client to keep its last text only")


def test_pool_cache_is_bounded_and_clients_do_not_notice(doorman):
    pooler = doorman(pool_size=1, prepared_statements_cache_size=5)
    with pooler.client() as client:
        for number in range(30):
            use(client, "s%d" % number, "SELECT %d" % number)
        assert memory(pooler)["pool_prepared_count"] == 5
        server, = pooler.admin("SHOW SERVERS")
        assert int(server["prepare_cache_size"]) == 5
        for number in range(30):
            client.send(bind("", "s%d" % number), execute(), sync())
            assert wire.rows(client.until_ready()) == [[str(number)]]
    assert "Pool cache eviction" in pooler.log()


def test_a_client_may_have_a_hundred_thousand_names(doorman):
    """One more is an error like any other, not the end of the session."""
    pooler = doorman(pool_size=1)
    with pooler.client() as client:
        for start in range(0, 100000, 10000):
            client.send(*[parse("%x" % n, "SELECT 1") for n in range(start, start + 10000)], sync())
            client.until_ready()
        client.send(parse("more", "SELECT 1"), bind("", "more"), sync())
        messages = client.until_ready()
        assert wire.essence(messages) == "EZ"
        assert "too many prepared statements" in wire.errors(messages)[0]["M"]
        client.send(parse("0", "SELECT 2"), bind("", "0"), execute(), sync())
        assert wire.rows(client.until_ready()) == [["2"]]
        client.send(close("S", "1"), sync(), parse("more", "SELECT 3"), bind("", "more"), execute(), sync())
        assert wire.rows(client.until_ready(2)) == [["3"]]
        assert memory(pooler)["client_named_count"] == 100000


@pytest.mark.parametrize("name, text", [("nosuch", 'prepared statement "nosuch" does not exist'),
                                        ("", "unnamed prepared statement does not exist")])
def test_text_of_an_unknown_statement(doorman, name, text):
    pooler = doorman(pool_size=1)
    with pooler.client() as client:
        client.send(bind("", name))
        error, = wire.errors(client.until("E"))
        assert (error["S"], error["C"], error["M"]) == ("ERROR", "26000", text)
        client.send(describe("S", name), sync())
        assert wire.essence(client.until_ready()) == "Z"
        assert settled(client) == []


def test_reload_changes_the_bounds(doorman):
    pooler = doorman(pool_size=1, prepared_statements_cache_size=50)
    with pooler.client() as client:
        for number in range(30):
            use(client, "s%d" % number, "SELECT %d" % number)
        assert memory(pooler)["pool_prepared_count"] == 30
        pooler.config["pools"]["app"]["prepared_statements_cache_size"] = 7
        pooler.write_config(pooler.config)
        pooler.admin("RELOAD")
        wait_until(lambda: memory(pooler)["pool_prepared_count"] == 7, 10, "the smaller cache")
        use(client, "one more", "SELECT 'one more'")
        wait_until(lambda: int(pooler.admin("SHOW SERVERS")[0]["prepare_cache_size"]) <= 7, 10,
                   "the smaller set")
        for number in range(30):
            client.send(bind("", "s%d" % number), execute(), sync())
            assert wire.rows(client.until_ready()) == [[str(number)]]


def test_pool_that_is_removed_gives_its_texts_back(doorman, postgres):
    pools = {"app": pool(postgres), "gone": pool(postgres, server_database="app")}
    pooler = doorman(pools=pools)
    with pooler.client(database="gone") as client:
        for number in range(20):
            use(client, "s%d" % number, "SELECT %d" % number)
    assert interner(pooler)["named"] == 20
    del pooler.config["pools"]["gone"]
    pooler.write_config(pooler.config)
    pooler.admin("RELOAD")
    wait_until(lambda: interner(pooler)["named"] == 0, 10, "the texts to be forgotten")
