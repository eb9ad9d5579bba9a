"""Many hostile clients at once on a small pool, and one honest one that must notice nothing.

The vandals send valid and invalid sequences of messages, cut at random bytes and pipelined at
random depth, hang up in the middle, cancel each other. Meanwhile backends are terminated and the
configuration is reloaded, with one pool more or less. Every choice follows from the seed; what the
scheduler makes of it does not, of course.

    DOORMAN_CHAOS_SEED, DOORMAN_CHAOS_SECONDS    for longer hunts
"""

import os
import random
import select
import signal
import socket
import struct
import threading
import time

import psycopg2
import pytest

import wire
from pooler import pool, trust_user
from waiting import wait_until
from wire import message

SEED = int(os.environ.get("DOORMAN_CHAOS_SEED", "20240229"))
SECONDS = float(os.environ.get("DOORMAN_CHAOS_SECONDS", "18"))
POOL_SIZE = 2
VANDALS = 24
HONEST = 4

pytestmark = pytest.mark.slow


# ---- what vandals send

STATEMENTS = ["SELECT %d", "SELECT '%d'::text, now()", "SELECT generate_series(1, %d)", "SELEC %d",
              "SELECT 1/(%d-%d)", "INSERT INTO {t} VALUES ('%d')", "SELECT repeat('y', 100 * %d)",
              "SELECT pg_sleep(0.00%d)", "SET work_mem = '6%dMB'", "SELECT $1::int + %d"]
QUERIES = STATEMENTS + [
    "BEGIN", "COMMIT", "ROLLBACK", ";", "", "BEGIN; SELECT %d", "COPY {t} FROM STDIN",
    "COPY {t} TO STDOUT", "COPY nowhere FROM STDIN", "DISCARD ALL", "DEALLOCATE ALL",
    "PREPARE p%d AS SELECT 1", "EXECUTE p%d", "SELECT repeat('z', 30000 * %d)", "LISTEN c%d",
    "NOTIFY c1", "SELECT 1; SELECT 1/0; SELECT %d", "DECLARE c CURSOR FOR SELECT %d", "RESET ALL",
    "SELECT pg_notify('c2', repeat('n', 900))", "DO $$ BEGIN RAISE NOTICE 'n%d'; END $$"]


class Vandal:
    def __init__(self, chaos, number):
        self.chaos = chaos
        self.random = random.Random("%d/%d" % (SEED, number))
        self.sock = None
        self.key = None

    def sql(self, texts):
        text = self.random.choice(texts).replace("{t}", self.chaos.table)
        return text.replace("%d", str(self.random.randint(0, 9)))

    def name(self):
        return self.random.choice(["", "", "a", "b", "c", "d", "a name longer than eight"])

    def one(self):
        r = self.random
        return r.choice([
            lambda: wire.query(self.sql(QUERIES)),
            lambda: wire.parse(self.name(), self.sql(STATEMENTS)),
            lambda: wire.bind(r.choice(["", "portal"]), self.name(),
                              r.choice([(), (), ("1",), (None, "x")])),
            lambda: wire.describe(r.choice("SP"), self.name()),
            lambda: wire.execute(r.choice(["", "portal"]), r.choice([0, 0, 1])),
            lambda: wire.close(r.choice("SP"), self.name()),
            wire.flush, wire.sync, wire.sync,
            lambda: wire.copy_data(b"row\n" * r.randint(0, 500)),
            wire.copy_done,
            lambda: wire.copy_fail("enough"),
            lambda: wire.parse("", self.sql(STATEMENTS)) + wire.bind() + wire.execute() +
            wire.sync(),
            lambda: wire.parse(self.name(), self.sql(STATEMENTS)) +
            wire.describe("S", self.name()) + wire.flush(),
            lambda: wire.parse("", "COPY %s FROM STDIN" % self.chaos.table) + wire.bind() +
            wire.execute() + wire.copy_data(b"ahead\n") + wire.copy_done() + wire.sync(),
            lambda: wire.query("COPY %s FROM STDIN" % self.chaos.table) +
            wire.copy_data(b"ahead\n") + wire.copy_done(),
            lambda: wire.parse("", "SELECT '%s'" % ("q" * r.choice([100, 70000, 300000]))),
            lambda: wire.query("SELECT length('%s')" % ("q" * r.choice([5000, 70000, 300000]))),
        ])()

    def nonsense(self):
        r = self.random
        return r.choice([
            lambda: message(r.choice("zp?\0T"), bytes(r.randrange(256) for _ in range(9))),
            lambda: b"Q" + struct.pack("!i", r.choice([-1, 0, 3, 1 << 30])),
            lambda: message(r.choice("PBDCEF"), bytes(r.randrange(256) for _ in range(7))),
            lambda: bytes(r.randrange(256) for _ in range(r.randint(1, 60))),
        ])()

    def volley(self):
        parts = [self.one() for _ in range(self.random.choice([1, 2, 3, 5, 12, 120]))]
        if self.random.random() < 0.06:
            parts.insert(self.random.randint(0, len(parts)), self.nonsense())
        if self.random.random() < 0.6:
            parts.append(wire.sync())
        if self.random.random() < 0.05:
            parts.append(wire.terminate())
        return b"".join(parts)

    # ---- life

    def enter(self):
        client = wire.Wire(self.chaos.address, timeout=20,
                           receive_buffer=self.random.choice([None, None, 4096]))
        self.sock = client.sock
        client.login()
        self.key = client.pid, client.key
        self.sock.setblocking(False)

    def leave(self):
        if self.random.random() < 0.5:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def send(self, data, reads):
        """All of it, or until the other side has had enough of us."""
        at = 0
        give_up = time.monotonic() + 3
        while at < len(data) and time.monotonic() < give_up:
            size = self.random.choice([1, 7, 100, 4096, 1 << 20])
            readable, writable, _ = select.select([self.sock] if reads else [], [self.sock], [],
                                                  0.3)
            if readable and not self.sock.recv(1 << 16):
                return False
            if writable:
                at += self.sock.send(data[at:at + size])
        return at == len(data)

    def listen(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if not select.select([self.sock], [], [], 0.02)[0]:
                return True
            if not self.sock.recv(1 << 16):
                return False
        return True

    def session(self):
        self.enter()
        for _ in range(self.random.randint(1, 8)):
            data = self.volley()
            if self.random.random() < 0.1:
                self.send(data[:self.random.randint(0, len(data))], True)
                return
            if not self.send(data, self.random.random() < 0.9):
                return
            if self.random.random() < 0.12:
                self.cancel()
            if not self.listen(self.random.choice([0, 0, 0.02, 0.2])):
                return

    def cancel(self):
        with wire.Wire(self.chaos.address, timeout=5) as other:
            key = self.key[1] if self.random.random() < 0.8 else 7
            other.push(wire.cancel_request(self.key[0], key))
            if self.random.random() < 0.5:
                other.reset()

    def run(self):
        while not self.chaos.over.is_set():
            try:
                self.session()
                self.chaos.sessions += 1
            except (OSError, wire.LoginFailed, wire.Closed, ValueError):
                self.chaos.refused += 1
            finally:
                if self.sock is not None:
                    self.leave()
                    self.sock = None


# ---- the honest

class Honest:
    """Asks for values that nobody else can know, by all ways, and takes only its own for an answer.
    It may be told of the end of its backend (some sequences make PostgreSQL itself crash) and of a
    lack of one; nothing else."""

    EXCUSES = {"57P01", "57P02", "57P03", "08006", "53300"}

    def __init__(self, chaos, number, database="app"):
        self.chaos = chaos
        self.database = database
        if database != "app":
            self.EXCUSES = self.EXCUSES | {"3D000"}
        self.number = number
        self.random = random.Random("honest %d/%d" % (SEED, number))
        self.asked = 0
        self.answers = 0

    def ask(self, client):
        self.asked += 1
        nonce = "%d-%d-%x" % (self.number, self.asked, self.random.getrandbits(60))
        way = self.random.randrange(6)
        columns = 1
        if way == 0:
            client.send(wire.query("SELECT '%s'" % nonce))
        elif way == 1:
            client.send(wire.extended("SELECT $1::text", [nonce]), wire.sync())
        elif way == 2:
            name = self.random.choice(["a", "b", "c", "d"])
            client.send(wire.close("S", name), wire.extended(
                "SELECT $1::text || '%s'" % name, [nonce], name), wire.sync())
            nonce += name
        elif way == 3:
            columns = 3
            for _ in range(3):
                client.send(wire.extended("SELECT '%s'" % nonce), wire.sync())
        elif way == 4:
            client.send(wire.query("BEGIN"), wire.query("SELECT '%s'" % nonce),
                        wire.query("COMMIT"))
            messages = client.until_ready(3)
            return self.judge(messages, [nonce])
        else:
            client.send(wire.extended("SELECT '%s', repeat('%s', 2000)" % (nonce, nonce)),
                        wire.sync())
            return self.judge(client.until_ready(), [nonce, nonce * 2000])
        self.judge(client.until_ready(columns), [nonce], columns)

    def judge(self, messages, expected, times=1):
        problems = wire.errors(messages)
        if problems:
            assert all(p["C"] in self.EXCUSES for p in problems), problems
            raise wire.Closed("excused")
        assert wire.rows(messages) == [expected] * times, (expected, wire.rows(messages))
        self.answers += 1

    def run(self):
        try:
            while not self.chaos.over.is_set():
                try:
                    with wire.Wire(self.chaos.address, timeout=20) as client:
                        client.login(database=self.database)
                        for _ in range(self.random.choice([1, 10, 1000])):
                            if self.chaos.over.is_set():
                                break
                            self.ask(client)
                except (wire.Closed, ConnectionError):
                    pass
                except wire.LoginFailed as refusal:
                    assert refusal.error.get("C") in (None, "3D000", *self.EXCUSES), refusal.error
                    time.sleep(0.01)
        except Exception as problem:  # seen by the test, in its own thread
            self.chaos.problems.append("%s: %r" % (type(problem).__name__, problem))
            self.chaos.over.set()


# ---- the whole

class Chaos:
    def __init__(self, pooler, postgres, table):
        self.pooler = pooler
        self.postgres = postgres
        self.address = pooler.address
        self.table = table
        self.over = threading.Event()
        self.problems = []
        self.sessions = self.refused = self.killed = self.reloads = 0
        without = {**pooler.config, "pools": {"app": pooler.config["pools"]["app"]}}
        self.configs = [pooler.config, without]

    def disturb(self):
        """Terminates backends and reloads the configuration."""
        r = random.Random("disturb %d" % SEED)
        while not self.over.wait(r.uniform(0.05, 0.6)):
            if r.random() < 0.5:
                self.terminate("random() < %f" % r.choice([0.5, 1.1]))
            elif self.pooler.running():
                self.reloads += 1
                self.pooler.write_config(self.configs[self.reloads % 2])
                self.pooler.signal(signal.SIGHUP)

    def terminate(self, where):
        try:
            self.killed += len(self.postgres.terminate(where))
        except psycopg2.OperationalError:
            pass

    def counted(self):
        try:
            return len(self.postgres.backends(database="app"))
        except psycopg2.OperationalError:
            return 0

    def watch(self):
        most = 0
        while not self.over.is_set():
            alive = self.pooler.running()
            if not alive:
                self.over.set()
            most = max(most, self.counted())
            time.sleep(0.1)
        # Those that are being closed may live on for a moment while their successors log in.
        if most > POOL_SIZE * 4:
            self.problems.append("%d backends" % most)

    def run(self, seconds):
        honest = [Honest(self, number) for number in range(HONEST)]
        honest += [Honest(self, HONEST + n, "other") for n in range(3)]
        actors = [Vandal(self, number) for number in range(VANDALS)] + honest
        threads = [threading.Thread(target=a.run, daemon=True) for a in actors]
        threads += [threading.Thread(target=t, daemon=True) for t in (self.disturb, self.watch)]
        for thread in threads:
            thread.start()
        self.over.wait(seconds)
        self.over.set()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
        return honest


def still(pooler):
    return {"descriptors": pooler.descriptors(), "sessions": len(pooler.admin("SHOW CLIENTS"))}


def test_chaos(doorman, postgres, table):
    name = table("a text")
    pooler = doorman(
        pools={"app": pool(postgres, [trust_user(POOL_SIZE)]),
               "other": pool(postgres, [trust_user(POOL_SIZE)])},
        general={"worker_threads": 4, "server_prepared_statements_cache_size": 2,
                 "query_wait_timeout": 20000, "proxy_copy_data_timeout": 2000,
                 "max_memory_usage": "64MB"})
    for _ in range(2):
        with pooler.client() as client:
            client.value("SELECT 1")
    pooler.wait_idle()
    before = still(pooler)

    chaos = Chaos(pooler, postgres, name)
    honest = chaos.run(SECONDS)

    print("sessions %d, refused %d, backends ended %d, reloads %d, honest answers %s"
          % (chaos.sessions, chaos.refused, chaos.killed, chaos.reloads,
             [h.answers for h in honest]))
    assert pooler.running(), "status %s\n%s" % (pooler.process.returncode, pooler.log()[-6000:])
    assert not chaos.problems, "\n".join(chaos.problems)
    assert all(h.answers > 0 for h in honest)
    wait_until(postgres.answers, 30, "PostgreSQL to have recovered")
    pooler.wait_no_clients(20)
    pooler.wait_idle(20)
    wait_until(lambda: len(postgres.backends(database="app")) <= POOL_SIZE, 10,
               "no more backends than the pool may have")
    with pooler.client() as client:
        assert client.value("SELECT 'after'") == "after"
    pooler.wait_idle()

    def back():
        after = still(pooler)
        return all(after[what] <= before[what] + 2 * POOL_SIZE for what in before)
    wait_until(back, 10, "descriptors and sessions as before (%r)" % before)
