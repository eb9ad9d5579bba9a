"""The admin console: its tables, its commands, its errors."""

import threading
import time

import psycopg2
import pytest

import wire
from pooler import ADMIN, pool, trust_user
from waiting import wait_until

TEXT, INT4, NUMERIC = 25, 23, 1700


def cols(text):
    """'name:t other:n' as pairs of column name and type OID."""
    kinds = {"t": TEXT, "i": INT4, "n": NUMERIC}
    return [(name, kinds[kind]) for name, kind in (c.split(":") for c in text.split())]


TABLES = {
    "VERSION": "version:t",
    "CONFIG": "key:t value:t default:t changeable:t",
    "DATABASES": "name:t host:t port:t database:t force_user:t pool_size:i min_pool_size:i "
                 "reserve_pool:i pool_mode:t max_connections:i current_connections:i",
    "POOLS": "database:t user:t pool_mode:t cl_idle:n cl_active:n cl_waiting:n cl_cancel_req:n "
             "sv_active:n sv_idle:n sv_used:n sv_login:n pool_size:n maxwait:n maxwait_us:n "
             "avg_xact_time:n paused:t fallback_active:t oldest_active_age_ms:n",
    "POOLS_EXTENDED": "database:t user:t cl_active:n cl_waiting:n sv_active:n sv_idle:n sv_used:n "
                      "sv_login:n pool_size:n maxwait:n maxwait_us:n pool_mode:t "
                      "bytes_recieved:n bytes_sent:n query_0.99:n transaction_0.99:n "
                      "query_0.95:n transaction_0.95:n query_0.5:n transaction_0.5:n",
    "POOLS_MEMORY": "database:t user:t pool_prepared_count:n pool_prepared_bytes:n "
                    "client_prepared_count:n client_prepared_bytes:n client_named_count:n "
                    "client_anonymous_count:n client_anonymous_evictions_alive:n async_clients:n",
    "STATS": "database:t user:t total_xact_count:n total_query_count:n total_received:n "
             "total_sent:n total_xact_time:n total_query_time:n total_wait_time:n total_errors:n "
             "avg_xact_count:n avg_query_count:n avg_recv:n avg_sent:n avg_errors:n "
             "avg_xact_time:n avg_query_time:n avg_wait_time:n",
    "CLIENTS": "client_id:t database:t user:t application_name:t addr:t tls:t state:t wait:t "
               "transaction_count:n query_count:n error_count:n age_seconds:n",
    "SERVERS": "server_id:t server_process_id:t database_name:t user:t application_name:t tls:t "
               "state:t wait:t transaction_count:n query_count:n bytes_sent:n bytes_received:n "
               "age_seconds:n prepare_cache_hit:n prepare_cache_miss:n prepare_cache_size:n",
    "CONNECTIONS": "total:n errors:n tls:n plain:n cancel:n",
    "LISTS": "list:t items:i",
    "USERS": "name:t pool_mode:t",
    "HELP": "item:t",
    "LOG_LEVEL": "log_level:t",
    "AUTH_QUERY": "database:t cache_entries:n cache_hits:n cache_misses:n cache_refetches:n "
                  "cache_rate_limited:n auth_success:n auth_failure:n executor_queries:n "
                  "executor_errors:n dynamic_pools_current:n dynamic_pools_created:n "
                  "dynamic_pools_destroyed:n",
    "POOL_COORDINATOR": "database:t max_db_conn:n current:n reserve_size:n reserve_used:n "
                        "evictions:n reserve_acq:n exhaustions:n",
    "POOL_SCALING": "user:t database:t inflight:n creates:n gate_waits:n gate_budget_ex:n "
                    "antic_notify:n antic_timeout:n create_fallback:n replenish_def:n",
    "STARTUP_PARAMETERS": "user:t database:t parameter:t value:t source:t state:t",
    "PREPARED_STATEMENTS": "pool:t hash:n name:t query:t count_used:n kind:t",
    "INTERNER": "kind:t entries:n bytes:n",
}
# Columns that may follow the agreed ones.
MAY_FOLLOW = {"POOLS": ["oldest_wait_ms"]}


def console(pooler, database="pgdoorman"):
    return pooler.client(database, ADMIN["user"], ADMIN["password"])


@pytest.mark.parametrize("table", TABLES)
def test_columns(doorman, table):
    pooler = doorman()
    with pooler.client(), console(pooler) as admin:
        messages = admin.query("SHOW %s" % table)
        assert not wire.errors(messages), wire.errors(messages)
        found, agreed = wire.columns(messages), cols(TABLES[table])
        assert found[:len(agreed)] == agreed
        assert [name for name, _ in found[len(agreed):]] in ([], MAY_FOLLOW.get(table))
        assert wire.tags(messages) == ["SHOW"] and wire.status(messages) == "I"
        assert wire.essence(messages).replace("D", "") == "TCZ"
        assert all(None not in row for row in wire.rows(messages)), "a cell is NULL"


def test_sockets_has_34_columns(doorman):
    with console(doorman()) as admin:
        found = wire.columns(admin.query("SHOW SOCKETS"))
        states = ("established syn_sent syn_recv fin_wait1 fin_wait2 time_wait close close_wait "
                  "last_ack listen closing").split()
        new = ["tcp_new_syn_recv", "tcp_bound_inactive"]
        assert found == [(name, NUMERIC) for name in (
            ["tcp_" + s for s in states] + new + ["tcp6_" + s for s in states] + new
            + ["unix_" + s for s in ("free", "unconnected", "connecting", "connected",
                                     "disconnecting", "dgram", "seq_packet")] + ["unknown"])]


def test_tables_of_what_is_not_configured_have_no_rows(doorman):
    with console(doorman()) as admin:
        for table in ("AUTH_QUERY", "POOL_COORDINATOR", "STARTUP_PARAMETERS"):
            assert wire.rows(admin.query("SHOW " + table)) == [], table


def test_words_in_any_case_with_blanks_and_semicolons(doorman):
    with console(doorman(), "pgbouncer") as admin:
        for text in ("show version", "SHOW VERSION;", "  Show   Version ; ", "SHOW\tVERSION;;",
                     "SHOW VERSION extra words"):
            assert wire.rows(admin.query(text))[0][0].startswith("PgDoorman "), text


def test_alias_pool_memory(doorman):
    with console(doorman()) as admin:
        assert wire.columns(admin.query("SHOW POOL_MEMORY")) == cols(TABLES["POOLS_MEMORY"])


def test_empty_statements_are_answered_with_empty_query_response(doorman):
    with console(doorman()) as admin:
        for text in ("", ";", "   ", " ; ; "):
            assert wire.types(admin.query(text)) == "IZ", repr(text)
        assert wire.rows(admin.query("SHOW VERSION"))


ERRORS = [
    ("FROBNICATE", "58000", "Unsupported query against the admin database"),
    ("SHOW", "58000", "Unsupported query against the admin database, please use SHOW HELP for a "
                      "list of supported subcommands"),
    ("SHOW NONSENSE", "58000", "Unsupported SHOW query against the admin database"),
    ("RESET NONSENSE", "58000", "Unsupported RESET target — only RESET INTERNER is supported"),
    ("PAUSE nowhere", "3D000", 'No pool for database "nowhere"'),
    ("RESUME nowhere", "3D000", 'No pool for database "nowhere"'),
    ("RECONNECT nowhere", "3D000", 'No pool for database "nowhere"'),
    ("SET", "42601", "SET requires: SET <parameter> = '<value>'"),
    ("SET work_mem = '1'", "42601",
     "Unknown SET parameter: WORK_MEM. Supported: log_level"),
    ("SET log_level = 'loud'", "42601",
     "Invalid log level 'loud'. Valid: error, warn, info, debug, trace, off"),
    ("SET log_level = 'info,warn'", "42601", "Multiple base levels specified"),
]


@pytest.mark.parametrize("command, code, text", ERRORS, ids=[e[0] for e in ERRORS])
def test_errors_have_their_texts_and_the_session_goes_on(doorman, command, code, text):
    with console(doorman()) as admin:
        messages = admin.query(command)
        assert wire.errors(messages) == [{"S": "ERROR", "V": "ERROR", "C": code, "M": text}]
        assert wire.types(messages) == "EZ"
        assert wire.rows(admin.query("SHOW VERSION"))


def test_login_parameters(doorman):
    with console(doorman()) as admin:
        assert admin.parameters["client_encoding"] == "UTF8"
        assert admin.parameters["standard_conforming_strings"] == "on"
        assert admin.parameters["DateStyle"] == "ISO, MDY"


def test_help_lists_the_commands(doorman):
    items = [row["item"] for row in doorman().admin("SHOW HELP")]
    assert items[0].startswith("SHOW HELP|CONFIG|DATABASES|POOLS|POOLS_EXTENDED|")
    assert items[1:12] == ["SHOW LISTS", "SHOW CONNECTIONS", "SHOW STATS",
                           "SET log_level = '<filter>'", "RELOAD", "SHUTDOWN", "UPGRADE",
                           "PAUSE [db]", "RESUME [db]", "RECONNECT [db]", "RESET INTERNER"]


def test_databases_and_users_and_config_show_the_configuration(doorman, postgres):
    pooler = doorman(pools={"app": pool(postgres, [trust_user(7, min_pool_size=2)],
                                        server_database="other", pool_mode="session")})
    row, = pooler.admin("SHOW DATABASES")
    assert (row["name"], row["host"], row["port"], row["database"], row["force_user"]) == (
        "app", "127.0.0.1", str(postgres.port), "other", "trust_user")
    assert (row["pool_size"], row["min_pool_size"], row["max_connections"]) == (7, 2, 7)
    assert row["pool_mode"] == "session"
    assert pooler.admin("SHOW USERS") == [{"name": "trust_user", "pool_mode": "session"}]
    config = {row["key"]: row for row in pooler.admin("SHOW CONFIG")}
    assert config["port"]["value"] == str(pooler.port)
    assert config["port"]["changeable"] == config["host"]["changeable"] == "no"


def test_lists(doorman):
    pooler = doorman()
    with pooler.client() as client:
        client.query("BEGIN; SELECT 1")
        rows = [(r["list"], r["items"]) for r in pooler.admin("SHOW LISTS")]
    assert [name for name, _ in rows] == [
        "databases", "users", "pools", "free_clients", "used_clients", "login_clients",
        "free_servers", "used_servers", "dns_names", "dns_zones", "dns_queries", "dns_pending"]
    counts = dict(rows)
    assert counts["databases"] == counts["users"] == counts["pools"] == 2
    assert counts["used_servers"] == 1
    assert counts["used_clients"] in (1, 2), "the asking session may count itself"


def test_clients_and_servers_tell_who_does_what(doorman, postgres):
    pooler = doorman()
    with pooler.client(application_name="worker bee") as client:
        client.query("BEGIN")
        backend = client.backend_pid()
        found = [r for r in pooler.admin("SHOW CLIENTS") if r["database"] == "app"]
        assert len(found) == 1
        row = found[0]
        assert row["application_name"] == "worker bee" and row["state"] in ("active", "idle")
        assert row["addr"] == "%s:%d" % client.sock.getsockname() and row["tls"] == "false"
        assert row["client_id"].startswith("#c")
        server, = pooler.admin("SHOW SERVERS")
        assert server["server_process_id"] == str(backend) and server["state"] == "active"
        assert server["database_name"] == "app" and server["tls"] == "false"
        client.query("COMMIT")
        assert pooler.admin("SHOW SERVERS")[0]["state"] == "idle"


def test_admin_sessions_are_clients_too_and_a_reset_one_is_gone_soon(doorman):
    pooler = doorman()
    with console(pooler) as one:
        assert len(wire.rows(one.query("SHOW CLIENTS"))) == 1
        with console(pooler) as two:
            assert len(wire.rows(one.query("SHOW CLIENTS"))) == 2
            two.reset()
        wait_until(lambda: len(wire.rows(one.query("SHOW CLIENTS"))) == 1, 2, "one client")


def test_statistics_count_queries_and_transactions(doorman):
    for mode in ("transaction", "session"):
        pooler = doorman(pool_mode=mode)
        with pooler.client() as client:
            for _ in range(5):
                client.query("SELECT 1")
            client.query("BEGIN")
            for _ in range(3):
                client.query("SELECT 1")
            client.query("COMMIT")
            client.query("SELECT 1/0")
        pooler.wait_idle()
        row, = pooler.admin("SHOW STATS")
        assert int(row["total_xact_count"]) == 7, mode
        assert 10 <= int(row["total_query_count"]) <= 11, mode
        assert int(row["total_errors"]) == 1, mode
        assert int(row["total_sent"]) > 0 and int(row["total_received"]) > 0


def test_connections_are_counted_by_kind(doorman):
    pooler = doorman()
    with pooler.client() as client:
        client.cancel()
    before = pooler.admin("SHOW CONNECTIONS")[0]
    assert int(before["cancel"]) == 1
    pooler.client().terminate()
    after = pooler.admin("SHOW CONNECTIONS")[0]
    assert int(after["plain"]) >= int(before["plain"]) + 1
    assert int(after["total"]) >= int(before["total"]) + 1 and int(after["tls"]) == 0


def test_age_of_the_oldest_loan(doorman):
    pooler = doorman()
    with pooler.client() as client:
        client.send(wire.query("SELECT pg_sleep(1)"))
        wait_until(lambda: 200 <= pooler.pool_row()["oldest_active_age_ms"] <= 5000, 3, "an age")
        client.until_ready()
        assert pooler.pool_row()["oldest_active_age_ms"] == 0


def test_prepared_statements_and_interner(doorman):
    pooler = doorman()
    with pooler.client() as client:
        client.run("SELECT 'a named one'", name="s")
        client.run("SELECT 'an unnamed one'")
        found = {r["query"]: r for r in pooler.admin("SHOW PREPARED_STATEMENTS")}
        assert found["SELECT 'a named one'"]["kind"] == "named"
        assert found["SELECT 'an unnamed one'"]["kind"] == "anonymous"
        assert found["SELECT 'a named one'"]["name"].startswith("DOORMAN_")
        assert found["SELECT 'a named one'"]["pool"] == "trust_user@app"
        kinds = {r["kind"]: int(r["entries"]) for r in pooler.admin("SHOW INTERNER")}
        assert kinds["named"] >= 1 and list(kinds) == ["named", "anonymous"]
        assert len(pooler.admin("SHOW INTERNER 1")) == 1
        assert pooler.admin("RESET INTERNER") is None
        client.send(wire.bind("", "s"), wire.execute(), wire.sync())
        assert wire.rows(client.until_ready()) == [["a named one"]]


def test_startup_parameters(doorman):
    pooler = doorman(startup_parameters={"plan_cache_mode": "force_custom_plan"},
                     general={"startup_parameters": {"statement_timeout": "10s"}})
    with pooler.client() as client:
        assert client.value("SHOW statement_timeout") == "10s"
        assert client.value("SHOW plan_cache_mode") == "force_custom_plan"
    rows = [tuple(r.values()) for r in pooler.admin("SHOW STARTUP_PARAMETERS")]
    assert rows == [
        ("trust_user", "app", "plan_cache_mode", "force_custom_plan", "pool", "applied"),
        ("trust_user", "app", "statement_timeout", "10s", "general", "applied")]


def test_log_level_can_be_set_in_every_spelling(doorman):
    pooler = doorman()
    for command, shown in (("SET log_level = 'debug'", "debug"), ("SET log_level='warn'", "warn"),
                           ("SET LOG_LEVEL TO error", "error"), ("set log_level info", "info"),
                           ("SET log_level = 'warn,pg_doorman::pool=debug'",
                            "warn,pg_doorman::pool=debug"),
                           ("SET log_level = 'default'", "info")):
        assert pooler.admin(command) is None
        assert pooler.admin("SHOW LOG_LEVEL") == [{"log_level": shown}]


def test_pause_lets_nobody_through_and_resume_wakes_everybody(doorman):
    pooler = doorman(pool_size=2)
    with pooler.client() as inside, pooler.client() as client:
        inside.query("BEGIN")
        inside.query("SELECT 1")
        pooler.admin("PAUSE app")
        pooler.admin("PAUSE app")
        assert pooler.pool_row()["paused"] in (1, "1")
        assert inside.value("SELECT 'goes on'") == "goes on"
        inside.query("COMMIT")
        client.send(wire.query("SELECT 'late'"))
        assert client.quiet(0.4)
        pooler.admin("RESUME app")
        client.sock.settimeout(2)
        assert wire.rows(client.until_ready()) == [["late"]]
        pooler.admin("RESUME app")
        assert pooler.pool_row()["paused"] in (0, "0")


def test_pause_ends_waiting_with_the_usual_error(doorman):
    pooler = doorman(general={"query_wait_timeout": "300ms"})
    with pooler.client() as client:
        pooler.admin("PAUSE")
        error, = wire.errors(client.query("SELECT 1"))
        assert error["C"] == "53300" and "timeout" in error["M"].lower()
    pooler.admin("RESUME")
    with pooler.client() as client:
        assert client.value("SELECT 1") == "1"


def test_pause_of_one_database_leaves_the_other(doorman, postgres):
    pooler = doorman(pools={"app": pool(postgres), "other": pool(postgres)})
    pooler.client("app").terminate()
    with pooler.client("other") as other:
        pooler.admin("PAUSE app")
        assert other.value("SELECT 1") == "1"
        pooler.admin("RESUME app")


def test_reconnect_renews_idle_backends_now_and_busy_ones_later(doorman, postgres):
    pooler = doorman(pool_size=2)
    with pooler.client() as busy, pooler.client() as client:
        busy.query("BEGIN")
        old_busy = busy.backend_pid()
        old_idle = client.backend_pid()
        assert pooler.admin("RECONNECT app") is None
        wait_until(lambda: [b[0] for b in postgres.backends()] == [old_busy], 5,
                   "the idle backend to be closed")
        assert busy.backend_pid() == old_busy
        busy.query("COMMIT")
        fresh = {client.backend_pid(), busy.backend_pid()}
        assert not fresh & {old_busy, old_idle}
    wait_until(lambda: old_busy not in [b[0] for b in postgres.backends()], 5, "the old backend")


def test_tags_of_action_commands(doorman):
    with console(doorman()) as admin:
        for command in ("PAUSE", "RESUME", "RECONNECT", "RELOAD", "PAUSE app", "RESUME app"):
            messages = admin.query(command)
            assert wire.essence(messages) == "CZ", (command, messages)
            assert wire.tags(messages) == [command.split()[0]]


def test_several_commands_in_a_row_are_answered_in_order(doorman):
    with console(doorman()) as admin:
        admin.send(*[wire.query("SHOW VERSION"), wire.query("SHOW NONSENSE"),
                     wire.query("SHOW LISTS")])
        assert wire.essence(admin.until_ready(3)).replace("D", "") == "TCZEZTCZ"


def test_psycopg2_reads_the_tables(doorman):
    pooler = doorman()
    connection = pooler.connect_admin("pgbouncer")
    with connection.cursor() as cursor:
        cursor.execute("SHOW POOLS")
        assert [c.name for c in cursor.description][:2] == ["database", "user"]
        with pytest.raises(psycopg2.Error):
            cursor.execute("SHOW NONSENSE")
        cursor.execute("SHOW VERSION")
    connection.close()


@pytest.mark.slow
def test_tables_under_load(doorman):
    """Reading every table while clients come and go neither fails nor disturbs them."""
    pooler = doorman(pool_size=3)
    stop, problems = threading.Event(), []

    def work():
        try:
            while not stop.is_set():
                with pooler.client() as client:
                    for _ in range(20):
                        client.value("SELECT 1")
        except Exception as problem:
            problems.append(problem)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 3
    with console(pooler) as admin:
        while time.monotonic() < end:
            for table in TABLES:
                assert not wire.errors(admin.query("SHOW " + table))
    stop.set()
    for thread in threads:
        thread.join(30)
    assert problems == []
