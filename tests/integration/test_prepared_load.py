"""Many clients, few texts, few backends: what PostgreSQL is spared, what is held at most, and what
a client costs. The same at full size is tests/bench/statements.py."""

import asyncio

import pytest

import wire
from pooler import SANITIZED
from prepared import ParseCount
from waiting import wait_until
from wire import AsyncWire, bind, close, execute, parse, sync

CLIENTS, BACKENDS, TEXTS = 200, 10, 10


def text(number):
    return "SELECT %d + $1::int" % number


async def one_client(address, number, writes, batches):
    """Prepares, uses and forgets statements, every other one without a name; as a driver without a
    cache does. Each answer is checked."""
    client = await AsyncWire().open(address)
    for turn in range(writes):
        wants = []
        data = b""
        for batch in range(batches):
            pick = (number + turn * batches + batch) % TEXTS
            name = "s%d" % pick if batch % 2 else ""
            data += (parse(name, text(pick)) + bind("", name, [batch]) + execute()
                     + close("S", name) + sync())
            wants.append(str(pick + batch))
        client.writer.write(data)
        for want in wants:
            messages = await client.until_ready()
            assert wire.essence(messages) == "12DC3Z"
            assert wire.rows(messages) == [[want]]
    client.close()


async def all_clients(address, writes, batches):
    await asyncio.gather(*[one_client(address, n, writes, batches) for n in range(CLIENTS)])


@pytest.fixture
def parses(postgres):
    count = ParseCount(postgres)
    yield count
    count.end()


def test_load_of_200_clients_is_parsed_once_per_backend(doorman, parses):
    writes, batches = 6, 10
    asked = CLIENTS * writes * batches
    seen = {}
    for cached in (False, True):
        pooler = doorman(pool_size=BACKENDS, general={"prepared_statements": cached})
        parses.restart()
        asyncio.run(all_clients(pooler.address, writes, batches))
        pooler.wait_idle()
        seen[cached] = [name for name, _ in parses.lines() if name.startswith("DOORMAN_") == cached]
        if cached:
            servers = pooler.admin("SHOW SERVERS")
            hits = sum(int(server["prepare_cache_hit"]) for server in servers)
            misses = sum(int(server["prepare_cache_miss"]) for server in servers)
            assert hits + misses == 2 * asked  # Parse and Bind
            assert misses == len(seen[True])
    assert len(seen[False]) == asked
    assert len(seen[True]) <= BACKENDS * TEXTS
    assert len(seen[True]) * 100 <= len(seen[False])


@pytest.mark.parametrize("bound", [4])
def test_no_backend_holds_more_than_its_bound(doorman, bound):
    pooler = doorman(pool_size=BACKENDS, general={"server_prepared_statements_cache_size": bound})
    asyncio.run(all_clients(pooler.address, 1, 10))
    pooler.wait_idle()
    sizes = [int(s["prepare_cache_size"]) for s in pooler.admin("SHOW SERVERS")]
    assert len(sizes) > 1 and max(sizes) <= bound
    clients = [pooler.client() for _ in sizes]
    held = []
    for client in clients:  # each has a backend of its own
        client.query("BEGIN")
        held.append(int(client.value("SELECT count(*) FROM pg_prepared_statements")))
    assert 0 < max(held) <= bound
    for client in clients:
        client.close()


async def with_statements(address, clients, batch):
    opened = [await AsyncWire().open(address) for _ in range(clients)]

    for client in opened:  # one by one: what is on its way is not what is measured
        client.writer.write(batch)
        await client.until_ready()
    return opened


@pytest.mark.parametrize("name", ["S_%d", "stmtcache_0123456789abcdef0123456789abcdef%08d"],
                         ids=["short", "long"])
def test_memory_of_clients_with_100_statements_each(doorman, name):
    """The texts are stored once; a client pays for its names."""
    clients, statements = 1000, 100
    pooler = doorman(pool_size=5)
    texts = ["SELECT %d, '%s'" % (n, "x" * 500) for n in range(statements)]
    batch = b"".join(parse(name % n, t) for n, t in enumerate(texts)) + sync()

    async def measure():
        idle = await with_statements(pooler.address, clients, sync())
        opened = await with_statements(pooler.address, 1, batch)  # the backends' share
        before = pooler.own_bytes()
        opened += await with_statements(pooler.address, clients, batch)
        after = pooler.own_bytes()
        interner = {r["kind"]: r for r in pooler.admin("SHOW INTERNER")}
        row, = pooler.admin("SHOW POOLS_MEMORY")
        for client in idle + opened:
            client.close()
        return after - before, interner, row

    grown, interner, row = asyncio.run(measure())
    assert int(interner["named"]["entries"]) == statements
    assert int(interner["named"]["bytes"]) == sum(map(len, texts))
    assert int(row["client_named_count"]) == (clients + 1) * statements
    assert int(row["pool_prepared_count"]) == statements
    each = int(row["client_prepared_bytes"]) / int(row["client_named_count"])
    assert each < 25, "%.1f bytes" % each
    if not SANITIZED:  # sockets' buffers and sessions come on top
        assert grown < clients * statements * 50, "%d bytes" % grown
    wait_until(lambda: int(pooler.admin("SHOW POOLS_MEMORY")[0]["client_named_count"]) == 0, 10,
               "the clients to be gone")
