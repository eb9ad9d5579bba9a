"""Pools under load: growth, caps that hold while everything changes, a server that goes away."""

import asyncio
import random
import re
import threading
import time

import pytest

import wire
from pooler import pool
from waiting import PATIENCE, wait_until
from wire import AsyncWire

NAMES = ("one", "two", "three")
DOWN_S = 10


def users(size, **more):
    return [{"username": name, "password": "", "pool_size": size, "server_username": "trust_user",
             **more} for name in NAMES]


def test_forty_clients_that_start_together_get_forty_backends(doorman):
    pooler = doorman(pool_size=40)

    async def start_all():
        clients = await asyncio.gather(*(AsyncWire().open(pooler.address) for _ in range(40)))
        running = [asyncio.ensure_future(client.query("SELECT pg_sleep(3)")) for client in clients]
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, wait_until, lambda: pooler.pool_row()["sv_active"] == 40,
                                   3, "forty active backends")
        row = pooler.pool_row()
        assert (row["cl_active"], row["cl_waiting"]) == (40, 0)
        for messages in await asyncio.gather(*running):
            assert not wire.errors(messages)
        for client in clients:
            client.close()

    asyncio.run(start_all())


@pytest.mark.parametrize("clients, size, hold_ms", [(300, 10, 10), (100, 2, 50)])
def test_load_is_served_in_turn_by_no_more_backends_than_needed(doorman, clients, size, hold_ms):
    pooler = doorman(pool_size=size, general={"query_wait_timeout": "30s"})
    served = [0] * clients

    async def one(number, until):
        client = await AsyncWire().open(pooler.address)
        while time.monotonic() < until:
            assert not wire.errors(await client.query("SELECT pg_sleep(%f)" % (hold_ms / 1000)))
            served[number] += 1
        client.close()

    async def all_of_them():
        until = time.monotonic() + 2
        await asyncio.gather(*(one(number, until) for number in range(clients)))

    asyncio.run(all_of_them())
    row, = pooler.admin("SHOW POOL_SCALING")
    assert int(row["creates"]) == size and int(row["inflight"]) == 0
    assert pooler.pool_row()["sv_idle"] == size
    # Each got its turn: nobody is more than two rounds behind the others.
    assert max(served) - min(served) <= 3


class Watcher(threading.Thread):
    """Samples pg_stat_activity over one connection, as fast as it can."""

    def __init__(self, postgres):
        super().__init__(daemon=True)
        self.postgres = postgres
        self.most = 0
        self.samples = 0
        self.over = False

    def run(self):
        connection = self.postgres.connect()
        with connection.cursor() as cursor:
            while not self.over:
                cursor.execute("SELECT count(*) FROM pg_stat_activity "
                               "WHERE backend_type = 'client backend' AND usename = 'trust_user'")
                self.most = max(self.most, cursor.fetchone()[0])
                self.samples += 1
        connection.close()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over = True
        self.join()


def changing_load(pooler, seconds, errors, seed):
    """Each user's number of busy clients changes by itself; each transaction is short."""
    chance = random.Random(seed)

    async def one(user, until):
        client = await AsyncWire().open(pooler.address, user)
        while time.monotonic() < until:
            for _ in range(chance.randrange(1, 20)):
                errors.extend(wire.errors(await client.query("BEGIN")))
                errors.extend(wire.errors(await client.query("SELECT pg_sleep(0.002)")))
                errors.extend(wire.errors(await client.query("COMMIT")))
            await asyncio.sleep(chance.random() * 0.3)
        client.close()

    async def all_of_them():
        until = time.monotonic() + seconds
        await asyncio.gather(*(one(user, until) for user in NAMES for _ in range(12)))

    asyncio.run(all_of_them())


@pytest.mark.parametrize("reload_each_second", [False, True])
def test_cap_holds_and_nothing_fails_under_changing_load(doorman, postgres, reload_each_second):
    def settings(second):
        return pool(postgres, users(8, min_pool_size=1), max_db_connections=8 - second % 2,
                    reserve_pool_size=2, reserve_pool_timeout=5000, min_connection_lifetime=50,
                    min_guaranteed_pool_size=1, idle_timeout=60000 + second)

    pooler = doorman(pools={"app": settings(0)}, general={"query_wait_timeout": "20s",
                                                         "retain_connections_time": 200})
    errors, seconds = [], 4 if reload_each_second else 3
    ended = threading.Event()

    def reload_all_the_time():
        second = 0
        while reload_each_second and not ended.wait(1):
            second += 1
            config = pooler.config
            config["pools"]["app"] = settings(second)
            pooler.write_config(config)
            pooler.admin("RELOAD")

    reloading = threading.Thread(target=reload_all_the_time)
    with Watcher(postgres) as watcher:
        reloading.start()
        changing_load(pooler, seconds, errors, seed=reload_each_second)
        ended.set()
        reloading.join()
    assert errors == []
    assert watcher.samples > 10
    assert 3 <= watcher.most <= 10  # cap and reserve
    row, = pooler.admin("SHOW POOL_COORDINATOR")
    assert int(row["exhaustions"]) == 0
    pooler.wait_idle(user="one")
    assert all(int(row["sv_idle"]) >= 1 for row in pooler.admin("SHOW POOLS"))  # their minimum


@pytest.fixture
def sequence(postgres):
    postgres.run("CREATE SEQUENCE turns; GRANT ALL ON SEQUENCE turns TO PUBLIC", database="app")
    yield "turns"
    postgres.run("DROP SEQUENCE turns", database="app")


# What tools read of the log, every 15 s.
WINDOW_LINE = re.compile(
    r"\[trust_user@app\] qps=\d+ tps=\d+ \| clients=\d+ active=\d+ idle=\d+ wait=\d+ "
    r"\| servers=\d+ active=\d+ idle=\d+ "
    r"\| query_ms p50=\d+\.\d\d p90=\d+\.\d\d p95=\d+\.\d\d p99=\d+\.\d\d "
    r"\| xact_ms p50=\d+\.\d\d p90=\d+\.\d\d p95=\d+\.\d\d p99=\d+\.\d\d "
    r"\| wait_ms p50=\d+\.\d\d p90=\d+\.\d\d p95=\d+\.\d\d p99=\d+\.\d\d "
    r"\| avg_wait=\d+\.\d\d\dms\n")


def test_server_goes_away_under_five_hundred_waiting_clients(doorman, postgres, sequence):
    """Each is served or told within its deadline, in order, and the server is not stormed."""
    wait_s = (DOWN_S + 8) * PATIENCE
    # One worker, so that requests reach the pool in the order in which they were sent.
    pooler = doorman(pool_size=4, general={"query_wait_timeout": int(wait_s * 1000),
                                           "worker_threads": 1})
    turns, told, late = {}, [], []

    async def answer(number, client):
        began = time.monotonic()
        messages = await client.until_ready()
        if time.monotonic() - began > wait_s + 5:
            late.append(number)
        if wire.errors(messages):
            told.append(number)
        else:
            turns[number] = int(wire.rows(messages)[0][0])

    async def scenario():
        loop = asyncio.get_running_loop()
        clients = [await AsyncWire().open(pooler.address) for _ in range(500)]
        postgres.stop()
        wait_until(lambda: pooler.pool_row()["sv_idle"] == 0, 5, "the pool to notice")
        for client in clients:
            client.writer.write(wire.query("SELECT nextval('%s')" % sequence))
        answers = [asyncio.ensure_future(answer(*pair)) for pair in enumerate(clients)]
        in_flight, began = [], time.monotonic()
        while time.monotonic() < began + DOWN_S:
            in_flight.append((await loop.run_in_executor(None, pooler.pool_row))["sv_login"])
            await asyncio.sleep(0.05)
        assert max(in_flight) <= 2
        scaling, = await loop.run_in_executor(None, pooler.admin, "SHOW POOL_SCALING")
        # Two at once, each 10 ms after another, then one by one, ever later, once a second at last.
        assert scaling["creates"] <= 4 + 12 + 1.2 * DOWN_S
        postgres.start()
        await asyncio.gather(*answers)
        for client in clients:
            client.close()

    asyncio.run(scenario())
    assert late == []
    # A failed connection fails the longest waiter; attempts become rarer.
    assert len(turns) + len(told) == 500 and len(told) <= 30
    assert set(told) == set(range(len(told)))
    # The rest in their order: nobody runs before many who came earlier, though one of the four
    # server processes may lag.
    served = sorted(turns, key=turns.get)
    assert all(number - len(told) - place <= 8 for place, number in enumerate(served))
    pooler.wait_idle()
    wait_until(lambda: WINDOW_LINE.search(pooler.log()), 25, "a line about the last 15 s")


def test_returns_are_waited_for_when_that_is_quicker(doorman, postgres):
    """A pool with room to grow does not, as long as what it has comes back in no time."""
    pooler = doorman(pool_size=40, scaling_warm_pool_ratio=5, scaling_fast_retries=50)
    eager = doorman(pool_size=40, scaling_warm_pool_ratio=5, scaling_fast_retries=0)

    async def load(target):
        async def one(until):
            client = await AsyncWire().open(target.address)
            while time.monotonic() < until:
                await client.query("SELECT 1")
            client.close()
        until = time.monotonic() + 1
        await asyncio.gather(*(one(until) for _ in range(12)))

    for target in (pooler, eager):
        asyncio.run(load(target))
    opened, = pooler.admin("SHOW POOL_SCALING")
    opened_eagerly, = eager.admin("SHOW POOL_SCALING")
    assert int(opened["creates"]) <= int(opened_eagerly["creates"])
    assert int(opened["antic_notify"]) > 0
