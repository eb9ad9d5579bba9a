"""Users that are looked up in PostgreSQL: who gets in, what is remembered, whose pools come and go."""

import itertools
import os
import threading

import psycopg2
import pytest

import wire
from pooler import TRUST, configuration, pool
from postgres import PASSWORDS
from upgrading import generations_of
from waiting import stays, wait_until

MD5_HBA = "host all all 127.0.0.1/32 md5\nlocal all all md5\n"
SCRAM_HBA = "host all all 127.0.0.1/32 scram-sha-256\nlocal all all scram-sha-256\n"
SHADOW = "SELECT passwd FROM pg_shadow WHERE usename = $1"
_numbers = itertools.count(1)


def lookup_pool(postgres, users=(), query=SHADOW, pool_settings=None, **settings):
    """A pool section that finds its users as the superuser, through the Unix socket."""
    return pool(postgres, list(users), unix=True, **(pool_settings or {}),
                auth_query={"query": query, "user": "postgres", "database": "app", **settings})


@pytest.fixture
def looking_up(postgres, doorman):
    """A running pooler without users of its own."""
    def start(users=(), general=None, pool_settings=None, **settings):
        return doorman(pools={"app": lookup_pool(postgres, users, pool_settings=pool_settings,
                                                 **settings)},
                       general={"pg_hba": MD5_HBA, **(general or {})})
    return start


@pytest.fixture
def role(postgres):
    """Factory of roles, dropped afterwards: role(password, kind) -> name."""
    made = []

    def create(password, kind="scram-sha-256"):
        name = "found%d_%d" % (os.getpid(), next(_numbers))
        made.append(name)
        postgres.run("SET password_encryption = '%s'; CREATE ROLE %s LOGIN PASSWORD '%s'"
                     % (kind, name, password))
        return name

    yield create
    for name in made:
        postgres.run("DROP ROLE IF EXISTS " + name)


def change_password(postgres, name, password, kind="scram-sha-256"):
    postgres.run("SET password_encryption = '%s'; ALTER ROLE %s PASSWORD '%s'"
                 % (kind, name, password))


def whoami(connection):
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user")
        return cursor.fetchone()[0]


def facts(pooler, database="app"):
    rows = [r for r in pooler.admin("SHOW AUTH_QUERY") if r["database"] == database]
    assert len(rows) == 1, rows
    return {name: int(value) for name, value in rows[0].items() if name != "database"}


def users_with_pools(pooler):
    return {row["user"] for row in pooler.admin("SHOW POOLS") if row["database"] == "app"}


def refusal(pooler, user, password, database="app"):
    with pooler.wire() as client:
        with pytest.raises(wire.LoginFailed) as failed:
            client.login(user, database, password)
        return failed.value.error


# ---- who gets in


@pytest.mark.parametrize("user", ["scram_user", "md5_user"])
def test_found_user_reaches_postgresql_as_itself(looking_up, user):
    pooler = looking_up()
    connection = pooler.connect(user, "app", PASSWORDS[user])
    assert whoami(connection) == user
    connection.close()
    assert users_with_pools(pooler) == {user}
    counts = facts(pooler)
    assert (counts["auth_success"], counts["auth_failure"]) == (1, 0)
    assert (counts["cache_entries"], counts["cache_misses"], counts["cache_hits"]) == (1, 1, 0)
    assert (counts["executor_queries"], counts["executor_errors"]) == (1, 0)
    assert (counts["dynamic_pools_current"], counts["dynamic_pools_created"]) == (1, 1)


@pytest.mark.parametrize("user", ["scram_user", "md5_user"])
def test_wrong_password_is_refused(looking_up, user):
    pooler = looking_up()
    error = refusal(pooler, user, "wrong")
    assert (error["S"], error["C"]) == ("FATAL", "28P01")
    assert error["M"] == 'password authentication failed for user "%s"' % user
    assert facts(pooler)["auth_failure"] == 1
    assert users_with_pools(pooler) == set()


def test_user_whose_password_is_in_a_column_called_password(looking_up):
    pooler = looking_up(query="SELECT usename, passwd AS \"PassWord\", 1 AS more FROM pg_shadow "
                              "WHERE usename = $1")
    pooler.connect("scram_user", "app", PASSWORDS["scram_user"]).close()


def test_unknown_user_is_asked_for_a_password_and_refused_like_any_other(looking_up):
    """Whoever asks cannot tell which users exist."""
    pooler = looking_up()
    with pooler.wire() as known, pooler.wire() as unknown:
        for client, user in ((known, "scram_user"), (unknown, "nobody")):
            client.send(wire.startup(user, "app"))
        challenges = [known.receive(), unknown.receive()]
        assert challenges[0].body == challenges[1].body
    assert refusal(pooler, "nobody", "any")["M"] == (
        'password authentication failed for user "nobody"')


def test_salt_for_an_unknown_user_is_always_the_same(looking_up):
    pooler = looking_up()
    salts = []
    for user in ("nobody", "nobody", "nobody else"):
        with pooler.wire() as client:
            client.send(wire.startup(user, "app"))
            client.receive()
            client.send(wire.Scram("x").first())
            salts.append(client.receive().body.decode().split(",s=")[1])
    assert salts[0] == salts[1] != salts[2]


def test_unknown_user_is_refused_at_once_without_auth_mock(looking_up):
    pooler = looking_up(general={"auth_mock": False})
    with pooler.wire() as client:
        client.send(wire.startup("nobody", "app"))
        error, = wire.errors(client.wait_closed())
    assert (error["C"], error["M"]) == ("28P01",
                                        'password authentication failed for user "nobody"')


def test_unknown_user_is_remembered_for_a_while_only(looking_up, role):
    pooler = looking_up(cache_failure_ttl="300ms")
    for _ in range(2):
        assert refusal(pooler, "nobody", "any")["C"] == "28P01"
    counts = facts(pooler)
    assert counts["cache_misses"] + counts["cache_hits"] == 2
    assert counts["auth_failure"] == 2

    def asked_again():
        refusal(pooler, "nobody", "any")
        return facts(pooler)["executor_queries"] > counts["executor_queries"]
    wait_until(asked_again, 10, "the answer to be forgotten", 0.1)


def test_name_that_is_too_long_is_never_looked_up(looking_up):
    pooler = looking_up()
    assert refusal(pooler, "n" * 64, "any")["C"] == "28P01"
    counts = facts(pooler)
    assert (counts["executor_queries"], counts["cache_entries"]) == (0, 0)


def test_static_user_beats_the_one_that_is_found(postgres, looking_up):
    pooler = looking_up(users=[{"username": "md5_user", "password": "static secret",
                                "pool_size": 2, "server_username": "plain_user",
                                "server_password": PASSWORDS["plain_user"]}])
    connection = pooler.connect("md5_user", "app", "static secret")
    assert whoami(connection) == "plain_user"
    connection.close()
    assert refusal(pooler, "md5_user", PASSWORDS["md5_user"])["C"] == "28P01"
    assert facts(pooler)["executor_queries"] == 0


def test_database_without_auth_query_has_no_users_but_its_own(postgres, doorman):
    pooler = doorman(pools={"app": lookup_pool(postgres), "other": pool(postgres)},
                     general={"pg_hba": MD5_HBA})
    assert refusal(pooler, "scram_user", "any", "other")["C"] == "3D000"


# ---- access rules


@pytest.mark.parametrize("dedicated", [False, True])
def test_rejected_before_anything_is_looked_up(looking_up, dedicated):
    more = {"server_user": "trust_user"} if dedicated else {}
    pooler = looking_up(general={"pg_hba": "host all scram_user 127.0.0.1/32 reject\n" + TRUST},
                        **more)
    assert refusal(pooler, "scram_user", "any")["C"] == "28000"
    assert facts(pooler)["executor_queries"] == 0


@pytest.mark.parametrize("dedicated", [False, True])
def test_trust_lets_a_found_user_in_and_no_other(looking_up, dedicated):
    more = {"server_user": "trust_user"} if dedicated else {}
    pooler = looking_up(general={"pg_hba": TRUST}, **more)
    with pooler.wire() as client:
        client.login("trust_user", "app", "")
    assert refusal(pooler, "nobody", "")["C"] == "28P01"


def test_scram_rule_does_not_serve_an_md5_secret(looking_up):
    pooler = looking_up(general={"pg_hba": SCRAM_HBA})
    error = refusal(pooler, "md5_user", PASSWORDS["md5_user"])
    assert error["C"] == "28000"
    assert error["M"].endswith("md5_user@app is not permitted by HBA configuration.")


# ---- secrets that change


def test_changed_md5_password_works_at_the_first_attempt(postgres, looking_up, role):
    pooler = looking_up(server_user="trust_user", min_interval="0s")
    name = role("before", "md5")
    pooler.connect(name, "app", "before").close()
    change_password(postgres, name, "after", "md5")
    pooler.connect(name, "app", "after").close()
    assert facts(pooler)["cache_refetches"] == 1
    assert refusal(pooler, name, "before")["C"] == "28P01"


def test_md5_user_who_moves_to_scram_has_to_come_again(postgres, looking_up, role):
    pooler = looking_up(server_user="trust_user")
    name = role("before", "md5")
    pooler.connect(name, "app", "before").close()
    change_password(postgres, name, "after")
    assert refusal(pooler, name, "after")["C"] == "28P01"
    wait_until(lambda: "refetched verifier changed type" in pooler.log(), 10, "the reason")
    pooler.connect(name, "app", "after").close()


def assert_login(pooler, user, password):
    connection = pooler.connect(user, "app", password)
    assert whoami(connection) == user
    connection.close()


def test_changed_scram_password_works_at_the_second_attempt(postgres, looking_up, role):
    pooler = looking_up()
    name = role("before")
    assert_login(pooler, name, "before")
    change_password(postgres, name, "after")
    assert refusal(pooler, name, "after")["C"] == "28P01"
    assert_login(pooler, name, "after")
    assert refusal(pooler, name, "before")["C"] == "28P01"


def test_guesses_do_not_drive_queries(looking_up):
    pooler = looking_up(min_interval="1h")
    for _ in range(6):
        assert refusal(pooler, "scram_user", "wrong")["C"] == "28P01"
        assert refusal(pooler, "md5_user", "wrong")["C"] == "28P01"
    counts = facts(pooler)
    # Each name: asked for once, and once more after the first failure.
    assert counts["executor_queries"] == 4
    assert counts["cache_refetches"] == 1
    assert counts["cache_rate_limited"] == 5
    assert counts["auth_failure"] == 12


def test_backends_log_in_with_the_secret_of_the_last_login(postgres, looking_up, role):
    pooler = looking_up()
    name = role("before")
    assert_login(pooler, name, "before")
    change_password(postgres, name, "after")
    assert refusal(pooler, name, "after")["C"] == "28P01"
    connection = pooler.connect(name, "app", "after")
    postgres.terminate()

    def works():
        try:
            return whoami(connection) == name
        except psycopg2.Error:
            return False
    if not works():
        connection = pooler.connect(name, "app", "after")
    assert works()
    connection.close()


def test_what_is_remembered_can_be_flushed(postgres, looking_up):
    pooler = looking_up()
    for queries, command in enumerate(("FLUSH AUTH_QUERY", "FLUSH AUTH_QUERY app",
                                       "FLUSH AUTH_QUERY app scram_user",
                                       "FLUSH AUTH_QUERY app md5_user"), 1):
        pooler.connect("scram_user", "app", PASSWORDS["scram_user"]).close()
        assert facts(pooler)["executor_queries"] == queries
        assert pooler.admin(command) is None
    pooler.connect("scram_user", "app", PASSWORDS["scram_user"]).close()
    assert facts(pooler)["executor_queries"] == 4
    for command, sqlstate in (("FLUSH AUTH_QUERY other", "3D000"), ("FLUSH STATS", "58000")):
        with pytest.raises(psycopg2.Error) as refused:
            pooler.admin(command)
        assert refused.value.pgcode == sqlstate


# ---- one query for many


def test_many_logins_of_one_user_are_one_query(looking_up, postgres):
    pooler = looking_up(query="SELECT passwd, pg_sleep(0.5) AS nap FROM pg_shadow WHERE "
                              "usename = $1")
    results = []

    def login():
        connection = pooler.connect("scram_user", "app", PASSWORDS["scram_user"])
        results.append(whoami(connection))
        connection.close()

    threads = [threading.Thread(target=login) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == ["scram_user"] * 8
    counts = facts(pooler)
    assert counts["executor_queries"] == counts["cache_misses"] == 1
    assert counts["dynamic_pools_created"] == 1


# ---- the query and its connections


@pytest.mark.parametrize("query, reason", [
    ("SELECT passwd FROM pg_shadow WHERE $1 <> ''", "rows for user"),
    ("SELECT usename, 1 AS passwd FROM pg_shadow WHERE usename = $1", "got columns: [usename, passwd]"),
    ("SELECT 1 WHERE $1 <> ''", "failed to read password from single-column result"),
    ("SELECT passwd FROM no_such_table WHERE usename = $1", "no_such_table"),
    ("COPY pg_class TO STDOUT", "Auth query execution error"),
], ids=["rows", "columns", "type", "error", "copy"])
def test_query_that_is_wrong_is_told_in_the_log_alone(looking_up, query, reason):
    pooler = looking_up(query=query)
    error = refusal(pooler, "scram_user", PASSWORDS["scram_user"])
    assert (error["C"], error["M"]) == (
        "58000", "Authentication service unavailable. Please try again later.")
    wait_until(lambda: reason in pooler.log(), 10, "the reason")
    counts = facts(pooler)
    assert counts["executor_errors"] >= 1
    assert counts["cache_entries"] == 0


def test_secret_that_is_null_or_empty_is_no_user(looking_up):
    for secret in ("NULL::text", "''"):
        pooler = looking_up(query="SELECT %s AS passwd WHERE $1 <> ''" % secret)
        assert refusal(pooler, "scram_user", "any")["C"] == "28P01"
        wait_until(lambda: "password is NULL or empty" in pooler.log(), 10, "the reason")


def test_executor_that_cannot_connect_is_tried_anew(postgres, looking_up):
    pooler = looking_up(user="scram_user", password="wrong")
    error = refusal(pooler, "md5_user", PASSWORDS["md5_user"])
    assert error["C"] == "58000"
    pooler.write_config(configuration(pooler.port, {"app": lookup_pool(postgres)},
                                      pg_hba=MD5_HBA))
    pooler.admin("RELOAD")
    pooler.connect("md5_user", "app", PASSWORDS["md5_user"]).close()


EXECUTORS = "FROM pg_stat_activity WHERE usename = 'postgres' AND application_name = 'pg_doorman'"


def test_executor_connections_that_were_lost_are_replaced(postgres, looking_up):
    pooler = looking_up(cache_ttl="0s", workers=1)
    for _ in range(3):
        pooler.connect("scram_user", "app", PASSWORDS["scram_user"]).close()
        assert postgres.value("SELECT count(pg_terminate_backend(pid)) " + EXECUTORS) == 1
        wait_until(lambda: postgres.value("SELECT count(*) " + EXECUTORS) == 0, 10, "its end")
    wait_until(lambda: "lost: server closed" in pooler.log(), 10, "the loss to be noticed")
    pooler.connect("scram_user", "app", PASSWORDS["scram_user"]).close()
    assert facts(pooler)["executor_queries"] >= 4


def test_executor_logs_in_with_a_password(postgres, doorman):
    secret = pool(postgres, [], unix=False, auth_query={
        "query": "SELECT $1::text || '' AS ignored, 'plain secret' AS passwd",
        "user": "scram_user", "password": PASSWORDS["scram_user"], "database": "app"})
    pooler = doorman(pools={"app": secret}, general={"pg_hba": MD5_HBA})
    connection = pooler.connect("plain_user", "app", "plain secret")
    assert whoami(connection) == "plain_user"
    connection.close()


def test_nothing_is_opened_before_the_first_login(postgres, looking_up):
    pooler = looking_up(workers=3)
    assert postgres.value("SELECT count(*) " + EXECUTORS) == 0
    refusal(pooler, "nobody", "x")
    wait_until(lambda: postgres.value("SELECT count(*) " + EXECUTORS) == 3, 10,
               "the executor's connections")
    assert "initializing executor (lazy, first request)" in pooler.log()
    assert pooler.admin("SHOW SERVERS") == []


# ---- dedicated mode


def test_all_who_are_found_share_one_role(looking_up):
    pooler = looking_up(server_user="trust_user", pool_size=3)
    for user in ("scram_user", "md5_user"):
        connection = pooler.connect(user, "app", PASSWORDS[user])
        assert whoami(connection) == "trust_user"
        names = {row["user"] for row in pooler.admin("SHOW CLIENTS")
                 if row["database"] == "app"}
        assert names == {"trust_user"}
        connection.close()
    assert users_with_pools(pooler) == {"trust_user"}
    assert pooler.pool_row()["pool_size"] == 3
    counts = facts(pooler)
    assert (counts["auth_success"], counts["dynamic_pools_created"]) == (2, 0)


def test_static_user_of_the_shared_name_lends_its_pool(looking_up):
    pooler = looking_up(users=[{"username": "trust_user", "password": "", "pool_size": 7}],
                        server_user="trust_user", pool_size=3)
    connection = pooler.connect("md5_user", "app", PASSWORDS["md5_user"])
    assert whoami(connection) == "trust_user"
    connection.close()
    assert pooler.pool_row()["pool_size"] == 7


# ---- dynamic pools


def test_empty_pool_is_collected_and_made_anew(looking_up):
    pooler = looking_up(general={"retain_connections_time": "100ms", "idle_timeout": "200ms",
                                 "server_lifetime": "500ms"})
    for turn in range(1, 3):
        pooler.connect("scram_user", "app", PASSWORDS["scram_user"]).close()
        wait_until(lambda: users_with_pools(pooler) == set(), 20, "the pool to be collected")
        counts = facts(pooler)
        assert (counts["dynamic_pools_created"], counts["dynamic_pools_destroyed"],
                counts["dynamic_pools_current"]) == (turn, turn, 0)
    wait_until(lambda: "GC: removed 1 idle dynamic pool(s): scram_user@app" in pooler.log(), 10,
               "the log line")


def test_pool_that_a_client_may_need_is_not_collected(looking_up):
    pooler = looking_up(general={"retain_connections_time": "100ms", "idle_timeout": "200ms",
                                 "server_lifetime": "300ms"})
    connection = pooler.connect("scram_user", "app", PASSWORDS["scram_user"])
    wait_until(lambda: pooler.pool_row(user="scram_user")["sv_idle"] == 0, 20,
               "its connections to be closed")
    stays(lambda: users_with_pools(pooler) == {"scram_user"}, 0.5, "the pool")
    assert whoami(connection) == "scram_user"
    connection.close()
    wait_until(lambda: users_with_pools(pooler) == set(), 20, "the pool to be collected")


def test_two_first_logins_survive_an_eager_collector(looking_up):
    pooler = looking_up(general={"retain_connections_time": "20ms", "idle_timeout": "500ms",
                                 "server_lifetime": "1s"})
    failures = []

    def work(user):
        try:
            for _ in range(10):
                connection = pooler.connect(user, "app", PASSWORDS[user])
                assert whoami(connection) == user
                connection.close()
        except Exception as problem:  # told by the main thread
            failures.append(problem)

    threads = [threading.Thread(target=work, args=(user,)) for user in ("scram_user", "md5_user")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    wait_until(lambda: users_with_pools(pooler) == set(), 20, "both pools to be collected")


def test_min_pool_size_fills_the_pool_and_keeps_it(looking_up):
    pooler = looking_up(general={"retain_connections_time": "100ms", "server_lifetime": "1s"},
                        min_pool_size=2, pool_size=5)
    pooler.connect("scram_user", "app", PASSWORDS["scram_user"]).close()
    wait_until(lambda: pooler.pool_row(user="scram_user")["sv_idle"] >= 2, 20, "two connections")
    stays(lambda: users_with_pools(pooler) == {"scram_user"}, 2, "the pool")


def test_pool_of_a_login_that_failed_goes_at_once(postgres, looking_up, role):
    name = role("known to the pooler alone", "md5")
    pooler = looking_up(query="SELECT 'md5' || md5('pooler secret' || $1) AS passwd")
    error = refusal(pooler, name, "pooler secret")
    assert (error["C"], error["M"]) == (
        "58000", "Unable to connect to database server. Please try again later.")
    wait_until(lambda: users_with_pools(pooler) == set(), 10, "the pool to be gone")
    assert facts(pooler)["dynamic_pools_destroyed"] == 0


# ---- reload


def reload_with(pooler, pools, **general):
    pooler.write_config(configuration(pooler.port, pools, pg_hba=MD5_HBA, **general))
    pooler.admin("RELOAD")


def test_reload_without_changes_keeps_everything(postgres, looking_up):
    pooler = looking_up()
    pooler.connect("scram_user", "app", PASSWORDS["scram_user"]).close()
    before = facts(pooler)
    pooler.admin("RELOAD")
    assert facts(pooler) == before
    assert users_with_pools(pooler) == {"scram_user"}


def test_reload_of_another_section_keeps_what_is_known(postgres, looking_up):
    pooler = looking_up()
    pooler.connect("scram_user", "app", PASSWORDS["scram_user"]).close()
    before = facts(pooler)
    reload_with(pooler, {"app": lookup_pool(postgres), "other": pool(postgres)})
    wait_until(lambda: "reusing state" in pooler.log(), 10, "the reload")
    assert facts(pooler) == before
    assert users_with_pools(pooler) == {"scram_user"}


def test_reload_of_its_section_begins_anew(postgres, looking_up):
    pooler = looking_up()
    pooler.connect("scram_user", "app", PASSWORDS["scram_user"]).close()
    stayed = pooler.connect("md5_user", "app", PASSWORDS["md5_user"])
    reload_with(pooler, {"app": lookup_pool(postgres, pool_size=3)})
    wait_until(lambda: "cache cleared on RELOAD" in pooler.log(), 10, "the reload")
    wait_until(lambda: users_with_pools(pooler) == {"md5_user"}, 10, "the unused pool to be gone")
    assert facts(pooler)["cache_entries"] == 0
    # Whoever is connected goes on, under the new settings.
    assert whoami(stayed) == "md5_user"
    assert pooler.pool_row(user="md5_user")["pool_size"] == 3
    stayed.close()
    pooler.connect("scram_user", "app", PASSWORDS["scram_user"]).close()
    assert facts(pooler)["cache_misses"] == 1


def test_reload_without_auth_query_takes_its_users_away(postgres, looking_up):
    pooler = looking_up()
    connection = pooler.connect("scram_user", "app", PASSWORDS["scram_user"])
    assert whoami(connection) == "scram_user"
    reload_with(pooler, {"app": pool(postgres, unix=True)})
    wait_until(lambda: users_with_pools(pooler) == {"trust_user"}, 10, "the pool to be gone")
    assert pooler.admin("SHOW AUTH_QUERY") == []
    assert refusal(pooler, "scram_user", PASSWORDS["scram_user"])["C"] == "3D000"
    with pytest.raises(psycopg2.Error, match="No pool configured"):
        whoami(connection)
    reload_with(pooler, {"app": lookup_pool(postgres)})
    pooler.connect("scram_user", "app", PASSWORDS["scram_user"]).close()


def test_reload_that_writes_a_found_user_down(postgres, looking_up):
    pooler = looking_up()
    connection = pooler.connect("md5_user", "app", PASSWORDS["md5_user"])
    assert whoami(connection) == "md5_user"
    static = {"username": "md5_user", "password": "md5_pass", "pool_size": 2,
              "server_username": "plain_user", "server_password": PASSWORDS["plain_user"]}
    reload_with(pooler, {"app": lookup_pool(postgres, [static])})
    wait_until(lambda: "overrides dynamic pool" in pooler.log(), 10, "the reload")
    written_down = pooler.connect("md5_user", "app", "md5_pass")
    assert whoami(written_down) == "plain_user"
    written_down.close()
    assert whoami(connection) == "plain_user"
    connection.close()
    assert refusal(pooler, "md5_user", PASSWORDS["md5_user"])["C"] == "28P01"
    assert facts(pooler)["dynamic_pools_current"] == 0


# ---- startup parameters of single users


def parameters_query(value):
    return ("SELECT passwd, %s AS startup_parameters FROM pg_shadow WHERE usename = $1" % value)


@pytest.mark.parametrize("kind", ["text", "json", "jsonb"])
def test_startup_parameters_of_a_row_reach_the_backend(looking_up, kind):
    value = "'{\"work_mem\": \"5MB\", \"TIMEZONE\": \"Asia/T\\u006fkyo\"}'::" + kind
    pooler = looking_up(query=parameters_query(value),
                        pool_settings={"startup_parameters": {"work_mem": "9MB",
                                                              "enable_sort": "off"}})
    connection = pooler.connect("scram_user", "app", PASSWORDS["scram_user"])
    with connection.cursor() as cursor:
        for name, wanted in (("work_mem", "5MB"), ("TimeZone", "Asia/Tokyo"),
                             ("enable_sort", "off")):
            cursor.execute("SHOW " + name)
            assert cursor.fetchone() == (wanted,)
    connection.close()


def test_startup_parameter_that_postgresql_refuses_is_told_in_its_words(looking_up):
    pooler = looking_up(query=parameters_query("'{\"work_mem\": \"much\"}'"))
    error = refusal(pooler, "scram_user", PASSWORDS["scram_user"])
    assert error["C"] == "22023"
    assert "work_mem" in error["M"]


def test_startup_parameters_that_are_too_long_together_are_sent_to_nobody(looking_up):
    pooler = looking_up(query=parameters_query("'{\"a.b\": \"' || repeat('x', 9000) || '\"}'"),
                        pool_settings={"startup_parameters": {"c.d": "y" * 900}})
    assert refusal(pooler, "scram_user", PASSWORDS["scram_user"])["C"] == "53400"


def test_console_tells_startup_parameters_and_where_they_come_from(looking_up):
    pooler = looking_up(query=parameters_query("'{\"work_mem\": \"5MB\"}'"),
                        pool_settings={"startup_parameters": {"work_mem": "9MB",
                                                              "enable_sort": "off"}})
    pooler.connect("scram_user", "app", PASSWORDS["scram_user"]).close()
    rows = {(row["user"], row["parameter"]): (row["value"], row["source"])
            for row in pooler.admin("SHOW STARTUP_PARAMETERS")}
    assert rows == {("scram_user", "work_mem"): ("5MB", "auth_query"),
                    ("scram_user", "enable_sort"): ("off", "pool")}


def test_startup_parameters_are_ignored_in_dedicated_mode(looking_up):
    pooler = looking_up(query=parameters_query("'{\"work_mem\": \"5MB\"}'"),
                        server_user="trust_user")
    connection = pooler.connect("scram_user", "app", PASSWORDS["scram_user"])
    with connection.cursor() as cursor:
        cursor.execute("SHOW work_mem")
        assert cursor.fetchone() == ("4MB",)
    connection.close()
    wait_until(lambda: "per-user startup_parameters ignored in dedicated" in pooler.log(), 10,
               "the warning")


def test_startup_parameters_that_change_replace_the_connections(postgres, looking_up, table):
    settings = table("setting text")
    postgres.run("INSERT INTO %s VALUES ('{\"work_mem\": \"5MB\"}')" % settings, database="app")
    pooler = looking_up(query=parameters_query("(SELECT setting FROM %s)" % settings),
                        cache_ttl="0s")
    for wanted in ("5MB", "6MB"):
        postgres.run("UPDATE %s SET setting = '{\"work_mem\": \"%s\"}'" % (settings, wanted),
                     database="app")
        connection = pooler.connect("scram_user", "app", PASSWORDS["scram_user"])
        with connection.cursor() as cursor:
            cursor.execute("SHOW work_mem")
            assert cursor.fetchone() == (wanted,)
        connection.close()


# ---- upgrade


@pytest.fixture
def upgrading(looking_up):
    """Factory of poolers that look users up and will be upgraded."""
    yield from generations_of(looking_up)


def backend_of(client):
    return client.value("SELECT pg_backend_pid()")


def test_clients_of_dynamic_pools_move(upgrading):
    pooler = upgrading(query=parameters_query("'{\"work_mem\": \"5MB\"}'"))
    idle = pooler.doorman.client("app", "scram_user", PASSWORDS["scram_user"])
    busy = pooler.doorman.client("app", "md5_user", PASSWORDS["md5_user"])
    pids = [backend_of(idle)]
    busy.query("BEGIN")
    pids.append(backend_of(busy))
    pooler.upgrade()
    assert [backend_of(idle), backend_of(busy)] == pids
    busy.query("COMMIT")
    assert backend_of(busy) == pids[1]
    assert busy.value("SHOW work_mem") == "5MB"
    counts = facts(pooler.doorman)
    assert (counts["dynamic_pools_current"], counts["executor_queries"]) == (2, 0)
    for client in (idle, busy):
        client.terminate()


def test_successor_opens_connections_for_users_that_it_has_not_looked_up(postgres, upgrading):
    pooler = upgrading()
    client = pooler.doorman.client("app", "scram_user", PASSWORDS["scram_user"])
    first = backend_of(client)
    postgres.terminate()
    wait_until(lambda: pooler.doorman.pool_row(user="scram_user")["sv_idle"] == 0, 10,
               "the connection to be gone")
    pooler.upgrade()
    assert backend_of(client) != first
    assert client.value("SELECT current_user") == "scram_user"
    client.terminate()
    pooler.doorman.connect("scram_user", "app", PASSWORDS["scram_user"]).close()


def test_clients_of_the_shared_role_move(upgrading):
    pooler = upgrading(server_user="trust_user")
    client = pooler.doorman.client("app", "scram_user", PASSWORDS["scram_user"])
    pid = backend_of(client)
    pooler.upgrade()
    assert backend_of(client) == pid
    client.terminate()


def test_pool_is_collected_in_the_successor_too(upgrading):
    pooler = upgrading(general={"retain_connections_time": "100ms", "server_lifetime": "500ms",
                                "idle_timeout": "200ms"})
    client = pooler.doorman.client("app", "scram_user", PASSWORDS["scram_user"])
    pooler.upgrade()
    assert client.value("SELECT current_user") == "scram_user"
    client.terminate()
    wait_until(lambda: users_with_pools(pooler.doorman) == set(), 20, "the pool to be collected")


def test_clients_of_a_dynamic_pool_that_is_gone_are_told(postgres, upgrading):
    pooler = upgrading()
    client = pooler.doorman.client("app", "scram_user", PASSWORDS["scram_user"])
    pooler.doorman.write_config(configuration(pooler.doorman.port, {"app": pool(postgres)},
                                              pg_hba=MD5_HBA))
    pooler.upgrade()
    error, = wire.errors(client.wait_closed())
    assert error["C"] == "3D000"


def test_salts_of_nobody_outlive_an_upgrade(upgrading):
    pooler = upgrading()
    salts = []
    for _ in range(2):
        with pooler.doorman.wire() as client:
            client.send(wire.startup("nobody", "app"))
            client.receive()
            client.send(wire.Scram("x").first())
            salts.append(client.receive().body.decode().split(",s=")[1])
        if len(salts) == 1:
            pooler.upgrade()
    assert salts[0] == salts[1]
