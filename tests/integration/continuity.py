"""Sessions of every kind that work without a pause, and check each answer: for tests of upgrades.

Each worker is a thread with a client of its own. Its work is numbered, so that an answer that is
lost, doubled or another's is noticed. Any exception of a worker fails the test that runs it.
"""

import hashlib
import threading

import wire
from pooler import pool, trust_user
from waiting import wait_until
from wire import query

USER = "trust_user"
ROW = 3000000


def pools(postgres):
    """One for transactions, one of a single connection, one for whole sessions."""
    plain = {"username": "plain_user", "password": "", "server_username": "plain_user",
             "server_password": "plain secret", "pool_size": 1}
    return {"app": pool(postgres, [trust_user(12, min_pool_size=12), plain]),
            "other": pool(postgres, [trust_user(2)], pool_mode="session")}


class Continuity:
    def __init__(self, pooler, postgres, table):
        self.pooler, self.postgres = pooler, postgres
        self.table = table("worker int, n bigint, line text")
        self.done = threading.Event()
        self.failures = []
        self.rounds = {}
        self.open = 0
        self.clients = []
        self.threads = []

    # ---- running them

    def start(self, kinds=None):
        for kind in kinds or KINDS:
            client = self.client(kind)
            self.clients.append(client)
            self.threads.append(threading.Thread(target=self.run, args=(kind, client)))
        for thread in self.threads:
            thread.start()
        wait_until(lambda: len(self.rounds) == len(self.threads) or self.failures, 30,
                   "each worker's first round; there are " + repr(self.rounds))
        self.check()
        return self

    def client(self, kind):
        if kind is admin:
            return self.pooler.wire(receive_buffer=4096).login("admin", "pgdoorman", "admin secret")
        if kind is listening:
            return self.pooler.client(database="other")
        if kind in (queued, queueing):
            return self.pooler.client(user="plain_user")
        options = {"receive_buffer": 4096} if kind in (copy_out, large_row) else {}
        return self.pooler.wire(timeout=60, **options).login(USER, "app", "")

    def run(self, kind, client):
        steps = kind(self, client)
        number = 0
        try:
            while True:
                # A round that has begun is brought to its end.
                next(steps)
                number += 1
                self.rounds[kind.__name__] = number
                if self.done.is_set():
                    break
            steps.close()
        except Exception as error:  # counted, whatever it is
            self.failures.append("%s, round %d: %r" % (kind.__name__, number, error))

    def check(self):
        assert not self.failures, self.failures

    def stop(self):
        self.done.set()
        for thread in self.threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self.threads), "a worker does not end"
        self.check()
        for client in self.clients:
            client.terminate()
        return self.rounds


def same(found, expected):
    assert found == expected, "%r in the place of %r" % (found, expected)


# ---- the kinds: generators, each step of which is a round


def idle(work, client):
    n = 0
    while True:
        n += 1
        same(client.value("SELECT %d" % n), str(n))
        yield
        work.done.wait(0.05)


def transaction(work, client):
    """One transaction from beginning to end: temporary table, lock, cursor."""
    client.query("BEGIN")
    client.query("CREATE TEMP TABLE kept (n int); SELECT pg_advisory_xact_lock(4711); "
                 "DECLARE walk CURSOR FOR SELECT generate_series(1, 10000000)")
    server = client.value("SELECT pg_backend_pid()")
    n = 0
    try:
        while True:
            n += 1
            client.query("INSERT INTO kept VALUES (%d)" % n)
            same(wire.rows(client.query("FETCH 1 FROM walk")), [[str(n)]])
            same(wire.rows(client.query("SELECT count(*), sum(n), pg_backend_pid() FROM kept")),
                 [[str(n), str(n * (n + 1) // 2), server]])
            same(client.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' "
                              "AND pid = pg_backend_pid()"), "1")
            yield
    finally:
        client.query("ROLLBACK")


def listening(work, client):
    """Session mode, with what it has LISTENed to and SET."""
    client.query("LISTEN news; SET work_mem = '5MB'")
    n = 0
    while True:
        n += 1
        client.send(query("NOTIFY news, '%d'" % n))
        messages = client.until_ready()
        while not [m for m in messages if m.type == "A"]:
            messages.append(client.receive())
        heard = [m.body[4:].split(b"\0")[:2] for m in messages if m.type == "A"]
        same(heard, [[b"news", b"%d" % n]])
        same(client.value("SHOW work_mem"), "5MB")
        yield


def copy_in(work, client):
    total = 0
    while True:
        client.send(query("COPY %s FROM STDIN" % work.table))
        client.until("G")
        for n in range(200):
            client.send(wire.message("d", b"7\t%d\tline %d\n" % (total + n, total + n)))
            if n % 20 == 0:
                work.done.wait(0.01)
        client.send(wire.message("c"))
        same(wire.tags(client.until_ready()), ["COPY 200"])
        total += 200
        same(wire.rows(client.query("SELECT count(*), max(n) FROM %s WHERE worker = 7"
                                    % work.table)), [[str(total), str(total - 1)]])
        yield


def copy_out(work, client):
    while True:
        client.send(query("COPY (SELECT n, md5(n::text) FROM generate_series(1, 5000) n) TO STDOUT"))
        n = 0
        while True:
            m = client.receive()
            if m.type == "Z":
                break
            assert m.type != "E", wire.fields(m)
            if m.type == "d":
                n += 1
                same(m.body, b"%d\t%s\n" % (n, hashlib.md5(b"%d" % n).hexdigest().encode()))
                if n % 500 == 0:
                    work.done.wait(0.01)
        same(n, 5000)
        yield


def large_row(work, client):
    n = 0
    while True:
        n += 1
        client.send(query("SELECT repeat('%d,', %d), %d" % (n, ROW // (len(str(n)) + 1), n)))
        text, number = wire.rows(client.until_ready())[0]
        same(number, str(n))
        assert text == ("%d," % n) * (ROW // (len(str(n)) + 1)), "a row was damaged"
        yield


def pipelined(work, client):
    """Batches that are not waited for; the names are parsed again and again."""
    n = 0
    while True:
        batch = b""
        for number in range(n, n + 20):
            name = "s%d" % (number % 4)
            batch += (wire.close("S", name) + wire.parse(name, "SELECT $1::int * %d" % (number % 4))
                      + wire.bind("", name, [str(number)]) + wire.execute() + wire.sync())
        client.send(batch[:len(batch) // 2])
        work.done.wait(0.005)
        client.send(batch[len(batch) // 2:])
        for number in range(n, n + 20):
            messages = client.until_ready()
            assert not wire.errors(messages), wire.errors(messages)
            same(wire.rows(messages), [[str(number * (number % 4))]])
        n += 20
        yield


def prepared(work, client):
    """A name that was given long ago, and the one without a name."""
    client.send(wire.parse("ever", "SELECT $1::int + 1"), wire.sync())
    client.until_ready()
    n = 0
    while True:
        n += 1
        client.send(wire.bind("", "ever", [str(n)]), wire.execute(), wire.sync())
        same(wire.rows(client.until_ready()), [[str(n + 1)]])
        yield
        work.done.wait(0.01)


def queueing(work, client):
    """Holds the only connection of a pool for most of the time."""
    n = 0
    while True:
        n += 1
        client.query("BEGIN")
        same(client.value("SELECT %d, pg_sleep(0.03)" % n), str(n))
        client.query("COMMIT")
        yield


def queued(work, client):
    """Waits for it."""
    n = 0
    while True:
        n += 1
        same(client.value("SELECT %d" % n), str(n))
        yield


def deferred_begin(work, client):
    n = 0
    while True:
        n += 1
        same(wire.status(client.query("BEGIN")), "T")
        work.done.wait(0.03)
        messages = client.query("SELECT %d" % n)
        same((wire.rows(messages), wire.status(messages)), ([[str(n)]], "T"))
        same(wire.status(client.query("COMMIT")), "I")
        yield


def failed(work, client):
    """A transaction that has failed stays so until it ends."""
    while True:
        client.query("BEGIN")
        same(wire.errors(client.query("SELECT 1/0"))[0]["C"], "22012")
        for _ in range(3):
            same(wire.errors(client.query("SELECT 1"))[0]["C"], "25P02")
            work.done.wait(0.01)
        same(wire.status(client.query("ROLLBACK")), "I")
        yield


def running(work, client):
    """A statement that takes its time."""
    n = 0
    while True:
        n += 1
        same(client.value("SELECT %d, pg_sleep(0.1)" % n), str(n))
        yield


def admin(work, client):
    """The console, read slowly."""
    while True:
        client.send(query("SHOW CONFIG"))
        work.done.wait(0.02)
        messages = client.until_ready()
        assert not wire.errors(messages), wire.errors(messages)
        names = [row[0] for row in wire.rows(messages)]
        assert len(names) == len(set(names)) > 30
        yield


KINDS = [idle, transaction, listening, copy_in, copy_out, large_row, pipelined, prepared, queueing,
         queued, deferred_begin, failed, running, admin]
