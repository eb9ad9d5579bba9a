"""RELOAD: the new configuration takes over without a failed query; a broken one changes nothing."""

import os
import signal
import threading

import psycopg2
import pytest

import wire
from pooler import configuration, pool, trust_user
from waiting import wait_until


def reload_by_signal(pooler):
    before = pooler.log().count("Reloading config")
    pooler.signal(signal.SIGHUP)
    wait_until(lambda: pooler.log().count("Reloading config") > before, 5, "the reload")


def reload_by_admin(pooler):
    assert pooler.admin("RELOAD") is None


@pytest.fixture(params=[reload_by_signal, reload_by_admin], ids=["SIGHUP", "RELOAD"])
def reload(request):
    return request.param


def with_pools(pooler, pools, **general):
    pooler.write_config(configuration(pooler.port, pools, **general))


def test_changed_size_applies_to_connected_clients(doorman, postgres, reload):
    pooler = doorman(pool_size=1)
    with pooler.client() as a, pooler.client() as b:
        a.value("SELECT 1")
        with_pools(pooler, {"app": pool(postgres, [trust_user(2)])})
        reload(pooler)
        wait_until(lambda: pooler.pool_row()["pool_size"] == 2, 5, "the new size")
        a.query("BEGIN")
        a.query("SELECT 1")
        assert b.value("SELECT 'at the same time'") == "at the same time"
        a.query("COMMIT")
    pooler.wait_idle()


def test_smaller_size_is_reached_and_never_exceeded_again(doorman, postgres, reload):
    pooler = doorman(pool_size=4)
    clients = [pooler.client() for _ in range(4)]
    for client in clients:
        client.query("BEGIN; SELECT 1")
    with_pools(pooler, {"app": pool(postgres, [trust_user(1)])})
    reload(pooler)
    for client in clients:
        assert client.value("SELECT 'undisturbed'") == "undisturbed"
        client.query("COMMIT")
    for client in clients:
        client.value("SELECT 1")
    wait_until(lambda: len(postgres.backends()) == 1, 5, "one backend")
    for client in clients:
        client.terminate()


def test_new_database_and_new_user(doorman, postgres, reload):
    pooler = doorman()
    with pytest.raises(wire.LoginFailed):
        pooler.client("other")
    with_pools(pooler, {"app": pool(postgres), "other": pool(postgres)})
    reload(pooler)
    wait_until(lambda: len(pooler.admin("SHOW DATABASES")) == 2, 5, "the new pool")
    with pooler.client("other") as client:
        assert client.value("SELECT current_database()") == "other"


def test_removed_database_is_refused(doorman, postgres, reload):
    pooler = doorman(pools={"app": pool(postgres), "other": pool(postgres)})
    pooler.client("other").terminate()
    with_pools(pooler, {"app": pool(postgres)})
    reload(pooler)
    wait_until(lambda: len(pooler.admin("SHOW DATABASES")) == 1, 5, "the pool to be gone")
    with pytest.raises(wire.LoginFailed) as refusal:
        pooler.client("other")
    assert refusal.value.error["C"] in ("3D000", "28P01")
    wait_until(lambda: not postgres.backends(database="other"), 5, "its backends to be closed")


def test_moved_database_takes_connected_clients_along(doorman, postgres, reload):
    pooler = doorman()
    with pooler.client() as client:
        assert client.value("SELECT current_database()") == "app"
        client.query("BEGIN")
        client.query("SELECT 1")
        with_pools(pooler, {"app": pool(postgres, server_database="other")})
        reload(pooler)
        wait_until(lambda: pooler.admin("SHOW DATABASES")[0]["database"] == "other", 5, "the move")
        assert client.value("SELECT current_database()") == "app", "a transaction stays"
        client.query("COMMIT")
        assert client.value("SELECT current_database()") == "other"
    wait_until(lambda: not postgres.backends(database="app"), 5, "the old backends to be closed")


def test_unchanged_pool_keeps_its_backends(doorman, postgres, reload):
    pooler = doorman(pools={"app": pool(postgres), "other": pool(postgres)})
    with pooler.client() as client:
        backend = client.backend_pid()
        with_pools(pooler, {"app": pool(postgres), "other": pool(postgres, [trust_user(3)])})
        reload(pooler)
        wait_until(lambda: pooler.pool_row("other")["pool_size"] == 3, 5, "the new size")
        assert client.backend_pid() == backend


def test_hba_rules_apply_to_new_logins(doorman, postgres, reload):
    pooler = doorman()
    with pooler.client() as old:
        with_pools(pooler, {"app": pool(postgres)},
                   pg_hba="host all admin 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 reject\n")
        reload(pooler)

        def refused():
            try:
                pooler.client().terminate()
                return False
            except wire.LoginFailed as refusal:
                return refusal.error["C"] == "28000"

        wait_until(refused, 5, "new logins to be refused")
        assert old.value("SELECT 1") == "1"


@pytest.mark.parametrize("broken", [
    "general: [not, a, table\n",
    "general:\n  port: 1\n",
    "general:\n  port: {port}\n  admin_username: a\n  admin_password: b\npools:\n  app:\n"
    "    pool_mode: sometimes\n    users: []\n",
    "",
], ids=["syntax", "missing keys", "bad value", "empty"])
def test_broken_configuration_changes_nothing(doorman, postgres, broken):
    pooler = doorman(pool_size=3)
    with pooler.client() as client:
        backend = client.backend_pid()
        pooler.write_config(broken.replace("{port}", str(pooler.port)) or "# nothing\n")
        connection = pooler.connect_admin()
        with connection.cursor() as cursor:
            with pytest.raises(psycopg2.Error) as error:
                cursor.execute("RELOAD")
            assert error.value.pgcode == "F0000"
            cursor.execute("SHOW VERSION")
            assert cursor.fetchone()
        connection.close()
        pooler.signal(signal.SIGHUP)
        wait_until(lambda: "Config reload" in pooler.log(), 5, "the complaint in the log")
        assert client.backend_pid() == backend
        assert pooler.pool_row()["pool_size"] == 3
    pooler.client().terminate()


def test_missing_file_changes_nothing(doorman):
    pooler = doorman()
    os.rename(pooler.config_path, pooler.config_path + ".away")
    with pytest.raises(psycopg2.Error):
        pooler.admin("RELOAD")
    pooler.client().terminate()


def test_pause_survives_a_reload(doorman, postgres):
    pooler = doorman(pool_size=2)
    with pooler.client() as client:
        client.value("SELECT 1")
        pooler.admin("PAUSE app")
        with_pools(pooler, {"app": pool(postgres, [trust_user(3)])})
        pooler.admin("RELOAD")
        assert pooler.pool_row()["paused"] in (1, "1")
        client.send(wire.query("SELECT 1"))
        assert client.quiet(0.3)
        pooler.admin("RESUME app")
        client.until_ready()


@pytest.mark.slow
def test_reloads_under_load_fail_no_query_and_keep_the_limit(doorman, postgres):
    pooler = doorman(pool_size=4, general={"query_wait_timeout": "15s"})
    stop, problems, counts, over = threading.Event(), [], [0] * 12, []

    def work(number):
        try:
            with pooler.client() as client:
                while not stop.is_set():
                    if number % 3 == 0:
                        client.query("BEGIN")
                    messages = client.run("SELECT $1::int", [number], name="s%d" % counts[number])
                    assert not wire.errors(messages), wire.errors(messages)
                    assert wire.rows(messages) == [[str(number)]]
                    if number % 3 == 0:
                        assert wire.status(client.query("COMMIT")) == "I"
                    counts[number] += 1
        except Exception as problem:
            problems.append(repr(problem))

    def sample():
        connection = postgres.connect()
        with connection.cursor() as cursor:
            while not stop.is_set():
                cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = 'trust_user'")
                count, = cursor.fetchone()
                if count > 4:
                    over.append(count)
                stop.wait(0.01)
        connection.close()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(12)]
    threads.append(threading.Thread(target=sample))
    for thread in threads:
        thread.start()
    for turn in range(10):
        with_pools(pooler, {"app": pool(postgres, [trust_user(4 - turn % 3)],
                                        application_name="turn %d" % turn)})
        before = sum(counts)
        if turn % 2:
            pooler.admin("RELOAD")
        else:
            reload_by_signal(pooler)
        wait_until(lambda: problems or sum(counts) > before + 100, 15, "work to go on")
    stop.set()
    for thread in threads:
        thread.join(30)
    assert problems == []
    assert over == [], "more backends than any of the configurations allows"
    assert min(counts) > 0
    pooler.wait_idle()
    wait_until(lambda: not postgres.backends("application_name <> 'turn 9'"), 5,
               "the backends of old configurations to be closed")
