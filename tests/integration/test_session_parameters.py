"""Settings: what a client asked for, was told, and has on whatever backend it gets."""

import os
import signal

import pytest

import wire
from pooler import pool, trust_user
from waiting import wait_until
from wire import query

SHOW = "SELECT current_setting('%s')"


def told(client):
    """Parameters as the client was told them, against what its backend says."""
    return {name: (value, client.value(SHOW % name)) for name, value in client.parameters.items()
            if name not in ("is_superuser", "session_authorization")}


def assert_truth(client):
    for name, (value, real) in told(client).items():
        assert value == real, name


OWN = {"client_encoding": "LATIN1", "DateStyle": "German, DMY", "IntervalStyle": "iso_8601",
       "TimeZone": "Asia/Tokyo", "application_name": "own name"}


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_reported_settings_are_those_of_the_client_on_any_backend(doorman, mode):
    """S-8: whatever a client is told, its backend has."""
    pooler = doorman(pool_size=1, pool_mode=mode)
    for _ in range(2):
        with pooler.client(**OWN) as client:
            assert {name: client.parameters[name] for name in OWN} == OWN
            assert_truth(client)
            if mode == "transaction":
                with pooler.client() as plain:
                    assert plain.value(SHOW % "TimeZone") == "UTC"
                    assert_truth(plain)
            assert_truth(client)
        with pooler.client() as plain:
            assert_truth(plain)


def test_first_statement_already_has_them_in_each_protocol(doorman):
    pooler = doorman(pool_size=1)
    for _ in range(2):  # the second time the server is known to take them
        with pooler.client(TimeZone="Asia/Tokyo") as client:
            client.send(wire.extended(SHOW % "TimeZone"), wire.sync())
            messages = client.until_ready()
            assert wire.essence(messages) == "12TDCZ"
            assert wire.rows(messages) == [["Asia/Tokyo"]]
        with pooler.client(TimeZone="Asia/Tokyo") as client:
            client.send(query("BEGIN"), query(SHOW % "TimeZone"), query("COMMIT"))
            messages = client.until_ready(3)
            assert wire.essence(messages) == "CZTDCZCZ"
            assert wire.rows(messages) == [["Asia/Tokyo"]]
        with pooler.client() as client:
            assert client.value(SHOW % "TimeZone") == "UTC"


def test_alike_clients_cost_nothing(doorman, postgres):
    """A query is spent only where something differs."""
    pooler = doorman(pool_size=1, server_database="logged")
    with pooler.client(TimeZone="Asia/Tokyo") as a, pooler.client(TimeZone="Asia/Tokyo") as b:
        a.value("SELECT 1")
        mark = postgres.log_position()
        for client in (a, b, a, b):
            client.value("SELECT 2")
        assert postgres.statements_since(mark) == ["SELECT 2"] * 4


def test_spelling_of_the_server_is_told(doorman):
    with doorman(pool_size=1).client(DateStyle="iso", client_encoding="utf-8") as client:
        assert client.parameters["DateStyle"] == "iso"
        client.value("SELECT 1")
        assert client.parameters["DateStyle"] == "ISO, MDY"
        assert client.parameters["client_encoding"] == "UTF8"


def test_set_of_a_reported_setting_stays_with_its_client(doorman):
    pooler = doorman(pool_size=1)
    with pooler.client() as client, pooler.client() as other:
        client.query("SET TimeZone = 'Asia/Tokyo'; SET application_name = 'changed'")
        assert other.value(SHOW % "TimeZone") == "UTC"
        for name, value in (("TimeZone", "Asia/Tokyo"), ("application_name", "changed")):
            assert client.value(SHOW % name) == client.parameters[name] == value
        assert other.value(SHOW % "application_name") == "pg_doorman"
        client.query("BEGIN; SET TimeZone = 'Asia/Seoul'; ROLLBACK")
        client.query("BEGIN; SET LOCAL TimeZone = 'Asia/Seoul'; COMMIT")
        assert client.value(SHOW % "TimeZone") == client.parameters["TimeZone"] == "Asia/Tokyo"
        assert_truth(client)
        assert_truth(other)


def test_set_local_of_a_reported_setting_is_no_wish_and_needs_no_clean_up(doorman, postgres):
    pooler = doorman(pool_size=1, server_database="logged")
    with pooler.client() as client:
        mark = postgres.log_position()
        for _ in range(2):
            client.query("BEGIN")
            client.query("SET LOCAL TimeZone = 'Asia/Seoul'")
            client.query("COMMIT")
        assert postgres.statements_since(mark) == [
            "begin;", "SET LOCAL TimeZone = 'Asia/Seoul'", "COMMIT"] * 2


def test_function_that_changes_a_reported_setting_is_noticed(doorman, postgres):
    """No word of the text says so, but the server's ParameterStatus does."""
    postgres.run("CREATE OR REPLACE FUNCTION sneaky() RETURNS int LANGUAGE sql AS "
                 "$$ SELECT length(set_config('TimeZone', 'Asia/Seoul', false)) $$",
                 database="app")
    pooler = doorman(pool_size=1)
    with pooler.client() as client, pooler.client() as other:
        assert client.value("SELECT sneaky()") == "10"
        assert other.value(SHOW % "TimeZone") == "UTC"
        assert client.value(SHOW % "TimeZone") == "Asia/Seoul"


@pytest.mark.parametrize("mode", ["transaction", "session"])
@pytest.mark.parametrize("reset", ["RESET ALL", "DISCARD ALL"])
def test_reset_all_brings_back_what_the_client_began_with(doorman, mode, reset):
    """As in a session of its own, where the StartupMessage's values are the defaults."""
    with doorman(pool_size=1, pool_mode=mode).client(**OWN) as client:
        client.query("SET TimeZone = 'Asia/Seoul'")
        client.query(reset)
        assert client.value(SHOW % "TimeZone") == "Asia/Tokyo"
        assert client.value(SHOW % "application_name") == "own name"
        assert_truth(client)


@pytest.mark.parametrize("sync", [False, True])
def test_refused_setting_ends_the_session_with_the_servers_words(doorman, sync):
    """S-11: and the statement that stood behind it is not run."""
    pooler = doorman(pool_size=1, general={"sync_server_parameters": sync})
    with pooler.client() as client:
        pid = client.backend_pid()
    with pooler.client(TimeZone="Nowhere/Land") as client:
        client.send(query("CREATE TABLE must_not_be ()"))
        error, = wire.errors(client.wait_closed())
        assert (error["S"], error["C"]) == ("FATAL", "22023")
        assert "Nowhere/Land" in error["M"]
    with pooler.client() as client:
        assert client.backend_pid() == pid
        assert client.value("SELECT to_regclass('must_not_be') IS NULL") == "t"
        assert_truth(client)


def test_backend_that_ends_amid_the_settings_is_told_of_once(doorman, postgres):
    pooler = doorman(pool_size=1)
    with pooler.client() as plain, pooler.client(TimeZone="Asia/Tokyo") as client:
        pid = plain.backend_pid()
        os.kill(pid, signal.SIGSTOP)
        try:
            client.send(query("SELECT 1"))
            wait_until(lambda: pooler.pool_row()["sv_active"] == 1, what="a lease")
            os.kill(pid, signal.SIGTERM)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert [(e["S"], e["C"]) for e in wire.errors(client.wait_closed())] == [("FATAL", "57P01")]
        assert plain.value("SELECT 1") == "1"


def test_quotes_backslashes_and_foreign_letters(doorman):
    name = "O'Brien\\ \"x\"; SELECT 1; --"
    with doorman(pool_size=1).client(application_name=name) as client:
        assert client.value(SHOW % "application_name") == name
    with doorman(pool_size=1).client(application_name="Größe") as client:
        assert client.value(SHOW % "application_name") == client.parameters["application_name"]
        assert client.parameters["application_name"].startswith("Gr")


# ---- application_name and the operator


@pytest.mark.parametrize("sync", [False, True])
def test_application_name_of_the_pool_stays_unless_all_is_followed(doorman, sync):
    pooler = doorman(pool_size=1, application_name="the pool's",
                     general={"sync_server_parameters": sync})
    with pooler.client(application_name="mine") as client:
        expected = "mine" if sync else "the pool's"
        assert client.value("SHOW application_name") == expected
        assert client.parameters["application_name"] == expected
    assert pooler.admin("SHOW CLIENTS") is not None


def test_settings_of_the_operator_win(doorman):
    """Neither told nor followed: the client's value for a name in startup_parameters."""
    pooler = doorman(pool_size=1, startup_parameters={"TimeZone": "Asia/Seoul",
                                                      "application_name": "operator"},
                     general={"sync_server_parameters": True})
    with pooler.client(TimeZone="Asia/Tokyo", application_name="mine") as client:
        assert client.parameters["TimeZone"] == "Asia/Seoul"
        assert client.parameters["application_name"] == "operator"
        assert_truth(client)


def test_statistics_know_the_clients_name(doorman):
    pooler = doorman()
    with pooler.client(application_name="a name"), pooler.client():
        names = {row["application_name"] for row in pooler.admin("SHOW CLIENTS")}
        assert {"a name", "pg_doorman"} <= names


# ---- sync_server_parameters


@pytest.fixture
def schemas(postgres):
    postgres.run("CREATE SCHEMA a; CREATE SCHEMA b; CREATE TABLE a.t AS SELECT 'a'::text AS x; "
                 "CREATE TABLE b.t AS SELECT 2 AS x, 'b' AS y; "
                 "CREATE TABLE public.t AS SELECT 'public'::text AS x; "
                 "GRANT USAGE ON SCHEMA a, b TO PUBLIC; "
                 "GRANT SELECT ON a.t, b.t, public.t TO PUBLIC", database="app")
    yield
    postgres.run("DROP SCHEMA a CASCADE; DROP SCHEMA b CASCADE; DROP TABLE public.t",
                 database="app")


def test_search_path_at_startup_chooses_tables_and_plans(doorman, schemas):
    """Row 28: pool size 1; the second has its own plans, the third the default schema."""
    pooler = doorman(pool_size=1, general={"sync_server_parameters": True})
    with pooler.client(search_path="a, public") as a, pooler.client(search_path="b") as b, \
            pooler.client() as plain:
        for _ in range(2):
            assert a.run("SELECT * FROM t", name="s") and wire.rows(
                a.run("SELECT * FROM t", name="s")) == [["a"]]
            assert wire.rows(b.run("SELECT * FROM t", name="s")) == [["2", "b"]]
            assert wire.rows(plain.run("SELECT * FROM t", name="s")) == [["public"]]
        assert a.parameters["search_path"] == "a, public"


def test_without_sync_other_settings_are_neither_told_nor_followed(doorman):
    with doorman(pool_size=1).client(search_path="a", statement_timeout="12345") as client:
        assert client.value("SHOW search_path") == '"$user", public'
        assert client.value("SHOW statement_timeout") == "0"
        assert "statement_timeout" not in client.parameters


def test_other_settings_come_and_go_with_their_client(doorman):
    pooler = doorman(pool_size=1, general={"sync_server_parameters": True})
    with pooler.client(statement_timeout="12345", **{"my.own": "x'y"}) as client, \
            pooler.client() as plain:
        for _ in range(2):
            assert client.value("SHOW statement_timeout") == "12345ms"
            assert client.value("SELECT current_setting('my.own')") == "x'y"
            assert plain.value("SHOW statement_timeout") == "0"
        client.query("SET statement_timeout = 7")
        assert plain.value("SHOW statement_timeout") == "0"
        assert client.value("SHOW statement_timeout") == "12345ms"
        client.query("RESET statement_timeout")
        assert plain.value("SHOW statement_timeout") == "0"
        assert client.value("SHOW statement_timeout") == "12345ms"


def test_role_at_startup_is_left_with_its_client(doorman, postgres):
    postgres.run("DO $$BEGIN CREATE ROLE lesser; EXCEPTION WHEN duplicate_object THEN NULL; END$$;"
                 " GRANT lesser TO trust_user")
    pooler = doorman(pool_size=1, general={"sync_server_parameters": True})
    with pooler.client(role="lesser") as client, pooler.client() as plain:
        assert client.value("SELECT current_user") == "lesser"
        assert plain.value("SELECT current_user") == "trust_user"
        client.query("SELECT pg_advisory_lock(1)")  # what is cleaned, resets the role as well
        assert client.value("SELECT current_user") == "lesser"
        assert plain.value("SELECT current_user") == "trust_user"


def test_startup_options_are_settings(doorman):
    """S-9: as libpq's PGOPTIONS sends them."""
    pooler = doorman(pool_size=1, general={"sync_server_parameters": True})
    with pooler.client(options="-c TimeZone=Asia/Tokyo --search-path=a,\\ b -cgeqo=off") as client:
        assert client.value("SHOW TimeZone") == "Asia/Tokyo"
        assert client.value("SHOW search_path") == "a, b"
        assert client.value("SHOW geqo") == "off"
        assert "options" not in client.parameters


@pytest.mark.parametrize("name", ["is_superuser", "session_authorization", "transaction_isolation",
                                  "server_version", "bad-name", "x" * 200, "a..b", "a.b.",
                                  "a.1"])
def test_names_that_are_not_a_clients_are_ignored(doorman, name):
    with doorman(general={"sync_server_parameters": True}).client(**{name: "1"}) as client:
        assert client.value("SELECT 1") == "1"
        assert client.parameters.get(name) in (None, "off", "trust_user",
                                               client.value("SHOW server_version"))


def test_parameters_come_in_alphabetical_order(doorman):
    client = doorman().wire()
    client.send(wire.startup("trust_user", "app", application_name="z"))
    names = [m.body.split(b"\0")[0].decode().lower() for m in client.until("Z") if m.type == "S"]
    assert names == sorted(names) and len(names) > 8
    client.close()


def test_settings_follow_a_change_of_backends(doorman, postgres):
    pooler = doorman(pool_size=1)
    with pooler.client(TimeZone="Asia/Tokyo") as client:
        assert client.value("SHOW TimeZone") == "Asia/Tokyo"
        postgres.terminate()
        wait_until(lambda: not postgres.backends(), 5, "the backend to be gone")
        assert client.value("SHOW TimeZone") == "Asia/Tokyo"


# ---- aliases (§3.3)


def test_alias_of_a_database(doorman, postgres):
    pooler = doorman(pools={"app": pool(postgres, [trust_user(1)]),
                            "alias": pool(postgres, [trust_user(1)], server_database="app"),
                            "nowhere": pool(postgres, [trust_user(1)], server_database="missing")})
    with pooler.client() as client, pooler.client(database="alias") as other:
        client.query("BEGIN; SELECT 1")
        assert other.value("SELECT current_database()") == "app"  # a pool of its own
        assert other.backend_pid() != client.backend_pid()
    with pytest.raises(wire.LoginFailed) as refused:
        pooler.client(database="nowhere")
    assert refused.value.error["C"] == "3D000"
    assert "nowhere" in refused.value.error["M"] and "missing" not in refused.value.error["M"]
