"""Many clients, large answers, slow readers: what the pooler needs for them."""

import resource
import time

import pytest

import wire
from pooler import SANITIZED
from waiting import wait_until
from wire import query

KILOBYTE, MEGABYTE = 1 << 10, 1 << 20


def descriptor_limit():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 30000), hard))
        except ValueError:
            pass
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


@pytest.mark.slow
def test_thousands_of_idle_clients_and_a_busy_one(doorman, request):
    """PSS is measured before and after; a sanitizer build has figures of its own."""
    limit = descriptor_limit()
    count = 10000 if limit > 10500 else 5000 if limit > 5500 else limit - 400
    pooler = doorman(pool_size=4, general={"max_connections": count + 100})
    with pooler.client() as busy:
        busy.value("SELECT 1")
        for _ in range(200):  # what is allocated once is there before the first reading
            with pooler.client() as early:
                early.value("SELECT 1")
        before = pooler.own_bytes()
        clients = [pooler.client() for _ in range(count)]
        try:
            for number, client in enumerate(clients):
                if number % 100 == 0:
                    assert busy.value("SELECT %d" % number) == str(number)
                client.send(query("SELECT 1"))
                client.until_ready()
            assert pooler.pool_row()["cl_idle"] == count + 1
            began, turns = time.monotonic(), 0
            while time.monotonic() - began < 1:
                busy.value("SELECT 1")
                turns += 1
            after = pooler.own_bytes()
            each = (after - before) / count
            report = ("%d idle clients: %.0f bytes PSS each (%d KiB -> %d KiB); "
                      "the busy one: %d transactions/s"
                      % (count, each, before // KILOBYTE, after // KILOBYTE, turns))
            print(report)
            request.node.user_properties.append(("memory", report))
            if not SANITIZED:
                assert each <= KILOBYTE, report
            assert turns > 50, report
        finally:
            for client in clients:
                client.close()
    pooler.wait_no_clients(20)
    pooler.wait_idle()


def test_client_that_does_not_read_does_not_grow_the_pooler(doorman, postgres):
    pooler = doorman(pool_size=2, general={"proxy_copy_data_timeout": "60s"})
    with pooler.client() as warm:
        warm.value("SELECT repeat('x', 3000000)")
    before = pooler.own_bytes()
    with pooler.wire(receive_buffer=4096) as client:
        client.login()
        client.send(query("SELECT repeat('x', 1000) FROM generate_series(1, 200000)"))
        wait_until(lambda: postgres.backends("wait_event = 'ClientWrite'"), 15,
                   "PostgreSQL to be held up by the reader")
        if not SANITIZED:
            assert pooler.own_bytes() < before + 4 * MEGABYTE
        with pooler.client() as other:
            assert other.value("SELECT 'not held up'") == "not held up"
        messages = client.until_ready()
        assert len(messages) == 200000 + 3 and not wire.errors(messages)


def test_large_row_to_a_slow_reader_is_streamed(doorman):
    pooler = doorman(pool_size=1)
    with pooler.client() as warm:
        warm.value("SELECT repeat('x', 3000000)")
    before = pooler.own_bytes()
    with pooler.wire(receive_buffer=65536) as client:
        client.login()
        client.send(query("SELECT repeat('x', 40000000)"))
        assert client.receive().type == "T"
        client.take(5 + 2 + 4)  # header, number of columns, length of the one value
        for part in range(40):
            assert client.take(1000000) == b"x" * 1000000
            if not SANITIZED:
                assert pooler.own_bytes() < before + 8 * MEGABYTE
        assert wire.types(client.until_ready()) == "CZ"


def test_idle_client_does_not_remember_its_largest_message(doorman):
    """Thirty clients, each of which once sent and received five megabytes."""
    pooler = doorman(pool_size=2)
    text = "x" * (5 * MEGABYTE)
    with pooler.client() as warm:
        warm.value("SELECT '%s'" % text)
    before = pooler.own_bytes()
    clients = [pooler.client() for _ in range(30)]
    for client in clients:
        assert client.value("SELECT '%s'" % text) == text
    try:
        if not SANITIZED:
            wait_until(lambda: pooler.own_bytes() < before + 16 * MEGABYTE, 5,
                       "the buffers to be given back")
    finally:
        for client in clients:
            client.close()


@pytest.mark.slow
def test_connection_storm_leaks_no_descriptors(doorman):
    pooler = doorman(pool_size=2)
    pooler.client().terminate()
    count = pooler.descriptors()
    for turn in range(1000):
        client = pooler.client()
        if turn % 3 == 0:
            client.value("SELECT 1")
        getattr(client, ("terminate", "close", "reset")[turn % 3])()
    wait_until(lambda: pooler.descriptors() <= count + 3, 10, "descriptors to be given back")
    pooler.wait_no_clients()
    pooler.wait_idle()


def test_thousand_statements_pipelined(doorman):
    with doorman().client() as client:
        client.send(*[wire.extended("SELECT $1::int", [n]) + wire.sync() for n in range(1000)])
        rows = wire.rows(client.until_ready(1000))
        assert rows == [[str(n)] for n in range(1000)]
