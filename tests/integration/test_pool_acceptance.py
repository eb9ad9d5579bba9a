"""Pools under the loads by which they are judged: pgbench clients that share few backends.

The loads run side by side, each against a database of its own, since they mostly wait.
"""

import glob
import os
import subprocess
import threading
from collections import Counter

import pytest

from pooler import pool, trust_user
from postgres import binary
from waiting import PATIENCE


class Load:
    """So many clients with as many transactions each, all of which hold a backend for a while."""

    def __init__(self, clients, size, hold_ms, turns, p99_ms=None, lifetime_ms=1200000):
        self.name = "c%d_s%d_h%d_l%d" % (clients, size, hold_ms, lifetime_ms)
        self.clients, self.size, self.hold_ms, self.turns = clients, size, hold_ms, turns
        self.p99_ms, self.lifetime_ms = p99_ms, lifetime_ms

    def pool(self, postgres):
        return pool(postgres, [trust_user(self.size)], server_database="app",
                    server_lifetime=self.lifetime_ms)

    def run(self, pooler, clients=None, turns=None):
        """Collects all transactions, as (when it ended, client, how long it took, in ms)."""
        prefix = "%s/%s" % (pooler.directory, self.name)
        with open(prefix + ".sql", "w") as script:
            script.write("SELECT pg_sleep(%f);\n" % (self.hold_ms / 1000))
        ended = subprocess.run(
            [binary("pgbench"), "-n", "-f", prefix + ".sql", "-c", str(clients or self.clients),
             "-t", str(turns or self.turns), "-h", "127.0.0.1", "-p", str(pooler.port),
             "-U", "trust_user", "--log", "--log-prefix=" + prefix, self.name],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            timeout=60 * PATIENCE, text=True)
        assert ended.returncode == 0 and "error" not in ended.stderr, ended.stderr[-2000:]
        self.ends = []
        for path in glob.glob(prefix + ".[0-9]*"):
            with open(path) as log:
                for client, _, took_us, _, s, us in map(str.split, log):
                    ended_us = int(s) * 1000000 + int(us)
                    self.ends.append((ended_us, int(client), int(took_us) / 1000))
            os.remove(path)
        self.ends.sort()
        self.took_ms = sorted(took for _, _, took in self.ends)
        self.row, = [row for row in pooler.admin("SHOW POOL_SCALING")
                     if row["database"] == self.name]
        return self

    def rank(self, q):
        return self.took_ms[int(q * (len(self.took_ms) - 1))]

    def p99_beside_others(self):
        """How much longer than the median of those that ended within the same tenth of a second:
        a machine that has other things to do is slow for all of them."""
        slices = {}
        for ended_us, _, took in self.ends:
            slices.setdefault(ended_us // 100000, []).append(took)
        ratios = sorted(took / sorted(slice)[len(slice) // 2]
                        for slice in slices.values() for took in slice)
        return ratios[int(0.99 * (len(ratios) - 1))]

    def turns_when_the_first_was_through(self):
        turns = Counter()
        for _, client, _ in self.ends:
            turns[client] += 1
            if turns[client] == self.turns:
                return [turns[number] for number in range(self.clients)]
        return None

    def judge(self, largest):
        turns = self.turns_when_the_first_was_through()
        told = (self.name, largest, turns, self.rank(0.5), self.rank(0.99), self.rank(1), self.row)
        assert len(self.ends) == self.clients * self.turns, told
        assert largest == self.size, told
        assert self.row["inflight"] == 0, told
        most = self.size if self.lifetime_ms > 1000 else 2 * self.size
        assert self.size <= self.row["creates"] <= most, told
        # Fair: everybody has its turns, and nobody waits out of all proportion.
        assert min(turns) >= self.turns // 2, told
        assert self.rank(1) <= 20 * self.rank(0.5), told
        if self.p99_ms is not None:
            assert self.rank(0.99) <= self.p99_ms or self.p99_beside_others() <= 1.5, told


class Sampler(threading.Thread):
    """The most connections that the pool of each database was seen with."""

    def __init__(self, pooler):
        super().__init__(daemon=True)
        self.pooler, self.most, self.over = pooler, Counter(), threading.Event()

    def run(self):
        connection = self.pooler.connect_admin()
        with connection.cursor() as cursor:
            while not self.over.wait(0.05):
                cursor.execute("SHOW POOLS")
                names = [column.name for column in cursor.description]
                for row in (dict(zip(names, values)) for values in cursor.fetchall()):
                    size = sum(int(row["sv_" + state]) for state in ("active", "idle", "login"))
                    self.most[row["database"]] = max(self.most[row["database"]], size)
        connection.close()


@pytest.mark.slow
def test_many_clients_on_few_backends(doorman, postgres):
    """No error, no more connections than are needed, everybody in turn: in lanes, one load after
    another in each. In the last one backends outlive their lifetime as long as clients wait."""
    lanes = (
        [Load(200, 2, 100, 1)],
        [Load(300, 10, 10, 6, p99_ms=600), Load(500, 10, 10, 4, p99_ms=800),
         Load(200, 10, 20, 5, p99_ms=600)],
        [Load(100, 2, 50, 4)],
        [Load(50, 5, 10, 10), Load(200, 10, 5, 20, p99_ms=600), Load(200, 5, 10, 5)],
        [Load(100, 10, 50, 12, lifetime_ms=200)],
    )
    pooler = doorman(pools={load.name: load.pool(postgres) for lane in lanes for load in lane},
                     # One worker: of two, a busy machine may hold up one, and half of the clients.
                     general={"query_wait_timeout": "30s", "worker_threads": 1})
    failures = []

    def run(lane):
        try:
            for load in lane:
                load.run(pooler)
        except BaseException as failure:  # told by the main thread
            failures.append(failure)

    sampler = Sampler(pooler)
    threads = [sampler] + [threading.Thread(target=run, args=(lane,)) for lane in lanes]
    for thread in threads:
        thread.start()
    for thread in threads[1:]:
        thread.join()
    sampler.over.set()
    sampler.join()
    assert not failures, failures
    for lane in lanes:
        for load in lane:
            load.judge(sampler.most[load.name])
    # Whoever comes at the start finds the pool cold, on any machine that is not very slow.
    assert min(load.row["create_fallback"] for lane in lanes for load in lane
               if load.size == 10) <= 5
    # When there is time, a lifetime is kept to.
    (aged,) = lanes[-1]
    before = aged.row["creates"]
    assert aged.run(pooler, clients=1, turns=10).row["creates"] > before
