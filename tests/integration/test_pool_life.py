"""What changes in a living pool: settings, commands, deadlines."""

import threading
import time

import wire
from waiting import stays, wait_until


def reload_with(pooler, general=None, **settings):
    config = pooler.config
    config["general"].update(general or {})
    config["pools"]["app"].update(settings)
    pooler.write_config(config)
    pooler.admin("RELOAD")


def pids(postgres):
    return {backend[0] for backend in postgres.backends()}


def ask_in_background(client, sql="SELECT 1"):
    """The thread, and a list that will hold (seconds it took, messages)."""
    result = []

    def ask():
        began = time.monotonic()
        messages = client.query(sql)
        result.append((time.monotonic() - began, messages))

    thread = threading.Thread(target=ask)
    thread.start()
    return thread, result


def test_new_lifetime_applies_to_backends_that_are_there(doorman, postgres):
    pooler = doorman(general={"retain_connections_time": "200ms"})
    with pooler.client() as client:
        first = client.backend_pid()
        reload_with(pooler, server_lifetime=500)
        wait_until(lambda: first not in pids(postgres), 8, "the old backend to be closed")


def test_new_idle_timeout_and_retain_cycle_apply_at_once(doorman, postgres):
    pooler = doorman(general={"retain_connections_time": "1h"})
    with pooler.client() as client:
        client.value("SELECT 1")
    reload_with(pooler, general={"retain_connections_time": "200ms"}, idle_timeout=300)
    wait_until(lambda: not postgres.backends(), 8, "no backend")


def test_retain_closes_no_more_than_its_quota_in_a_cycle(doorman, postgres):
    pooler = doorman(pool_size=6, general={"retain_connections_time": "1s",
                                           "retain_connections_max": 1}, idle_timeout=300)
    clients = [pooler.client() for _ in range(6)]
    for client in clients:
        client.query("BEGIN")
        client.query("SELECT 1")
    for client in clients:
        client.query("COMMIT")
        client.close()
    seen = []

    def empty():
        count = len(postgres.backends())
        if not seen or seen[-1] != count:
            seen.append(count)
        return count == 0

    wait_until(empty, 20, "no backend", 0.01)
    assert seen == [6, 5, 4, 3, 2, 1, 0]


def test_shorter_wait_counts_for_those_who_come_then(doorman):
    pooler = doorman(pool_size=1, general={"query_wait_timeout": "60s"})
    with pooler.client() as holder, pooler.client() as patient, pooler.client() as hasty:
        holder.query("BEGIN")
        holder.query("SELECT 1")
        first, answer = ask_in_background(patient)
        wait_until(lambda: pooler.pool_row()["cl_waiting"] == 1, 5, "one waiting client")
        reload_with(pooler, general={"query_wait_timeout": "500ms"})
        error, = wire.errors(hasty.query("SELECT 1"))
        assert "query_wait_timeout" in error["M"]
        assert first.is_alive()
        holder.query("COMMIT")
        first.join()
        assert wire.errors(answer[0][1]) == []


def test_pause_is_part_of_the_one_deadline(doorman):
    pooler = doorman(pool_size=1, general={"query_wait_timeout": "4s"})
    with pooler.client() as holder, pooler.client() as waiter:
        holder.query("BEGIN")
        holder.query("SELECT 1")
        pooler.admin("PAUSE")
        thread, answer = ask_in_background(waiter)
        wait_until(lambda: pooler.pool_row()["cl_waiting"] == 1, 5, "one waiting client")
        time.sleep(3)  # a deadline that began anew would be over after seven seconds
        pooler.admin("RESUME")
        thread.join()
        waited, messages = answer[0]
        assert "query_wait_timeout" in wire.errors(messages)[0]["M"]
        assert 3.8 <= waited < 6.9


def test_without_patience_a_client_gets_what_is_there_or_can_be_opened(doorman):
    pooler = doorman(pool_size=1, general={"query_wait_timeout": 0})
    with pooler.client() as first, pooler.client() as second:
        first.query("BEGIN")
        assert first.value("SELECT 1") == "1"
        error, = wire.errors(second.query("SELECT 1"))
        assert error["C"] == "53300"


def test_reconnect_closes_what_is_out_when_it_comes_back(doorman, postgres):
    pooler = doorman(pool_size=2)
    with pooler.client() as client:
        client.query("BEGIN")
        first = client.backend_pid()
        pooler.admin("RECONNECT")
        assert client.backend_pid() == first
        client.query("COMMIT")
        wait_until(lambda: first not in pids(postgres), 5, "the old backend to be closed")
        assert client.backend_pid() != first


def test_backends_that_postgresql_refuses_do_not_fail_those_who_can_wait(doorman, postgres):
    """The server takes no more connections, while the pool has some already."""
    pooler = doorman(pool_size=5, general={"query_wait_timeout": "20s"})
    postgres.run("ALTER ROLE trust_user CONNECTION LIMIT 2")
    try:
        with pooler.client() as first, pooler.client() as second, pooler.client() as third:
            for client in (first, second):
                client.query("BEGIN")
                client.query("SELECT 1")
            thread, answer = ask_in_background(third)
            wait_until(lambda: int(pooler.admin("SHOW POOL_SCALING")[0]["creates"]) > 3, 10,
                       "attempts to connect")
            stays(thread.is_alive, 0.3, "the wait")
            first.query("COMMIT")
            thread.join()
            assert wire.errors(answer[0][1]) == []
    finally:
        postgres.run("ALTER ROLE trust_user CONNECTION LIMIT -1")
