"""Clients that are refused at once, where the settings ask for it: max_waiters and
shed_expected_timeouts."""

import contextlib
import threading
import time

import wire
from waiting import wait_until


def holding(pooler, stack):
    """A client with a backend."""
    client = stack.enter_context(pooler.client())
    client.query("BEGIN")
    client.query("SELECT 1")
    return client


def ask(client):
    client.send(wire.query("SELECT 1"))


def test_as_many_wait_as_may(doorman):
    pooler = doorman(pool_size=2, general={"max_waiters": 2, "query_wait_timeout": "60s"})
    with contextlib.ExitStack() as stack:
        holders = [holding(pooler, stack), holding(pooler, stack)]
        waiters = [stack.enter_context(pooler.client()) for _ in range(2)]
        for waiter in waiters:
            ask(waiter)
        wait_until(lambda: pooler.pool_row()["cl_waiting"] == 2, 5, "two waiting clients")
        with pooler.client() as client:
            began = time.monotonic()
            error, = wire.errors(client.query("SELECT 1"))
        assert error["C"] == "53300" and "2 clients wait already (max_waiters)" in error["M"]
        assert time.monotonic() - began < 20
        for holder in holders:
            holder.query("COMMIT")
        for waiter in waiters:
            assert wire.errors(waiter.until_ready()) == []
        with pooler.client() as client:
            assert client.value("SELECT 1") == "1"


def test_who_can_get_a_new_backend_is_no_waiter(doorman):
    pooler = doorman(pool_size=4, max_waiters=1, general={"query_wait_timeout": "60s"})
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(pooler.client()) for _ in range(4)]
        for client in clients:
            client.send(wire.query("BEGIN; SELECT 1"))
        for client in clients:
            assert wire.errors(client.until_ready()) == []
        waiter = stack.enter_context(pooler.client())
        ask(waiter)
        wait_until(lambda: pooler.pool_row()["cl_waiting"] == 1, 5, "a waiting client")
        with pooler.client() as client:
            assert "(max_waiters)" in wire.errors(client.query("SELECT 1"))[0]["M"]
        clients[0].query("COMMIT")
        assert wire.errors(waiter.until_ready()) == []


def test_who_would_wait_in_vain_is_told_at_once(doorman):
    """Twelve clients that want a backend for 0.3 s each, and patience for 1.5 s."""
    pooler = doorman(pool_size=1, general={"query_wait_timeout": 1500,
                                           "shed_expected_timeouts": True})
    refused = []
    done = []
    stop = threading.Event()

    def work():
        while not stop.is_set():
            with pooler.client() as client:
                began = time.monotonic()
                errors = wire.errors(client.query("SELECT pg_sleep(0.3)"))
                if not errors:
                    done.append(began)
                elif "(shed_expected_timeouts)" in errors[0]["M"]:
                    assert errors[0]["C"] == "53300"
                    refused.append(time.monotonic() - began)
            stop.wait(0.1)

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: len(refused) > 20, 40, "clients that are refused at once")
        served = len(done)
        wait_until(lambda: len(done) > served + 5, 20, "others that are served")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert sorted(refused)[len(refused) // 2] < 0.75
    with pooler.client() as client:
        assert client.value("SELECT 1") == "1"


def test_waits_in_vain_are_waits(doorman):
    """The percentiles would flatter without the longest of them."""
    pooler = doorman(pool_size=1, general={"query_wait_timeout": 700})
    with contextlib.ExitStack() as stack:
        holding(pooler, stack)
        with pooler.client() as client:
            assert "query_wait_timeout" in wire.errors(client.query("SELECT 1"))[0]["M"]
        row, = [row for row in pooler.admin("SHOW LATENCY") if row["what"] == "wait"]
    assert float(row["max"]) > 650000
