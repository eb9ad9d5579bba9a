"""Many upgrades in a row under work of every kind: nobody notices, nothing is lost or left over.

    DOORMAN_TEST_UPGRADES   how many in a row; by hand 1000
    DOORMAN_OTHER_BIN       program to change to and back again, as one of an earlier version
"""

import os
import socket
import threading

import pytest

import continuity
import wire
from continuity import Continuity
from pooler import BINARY
from upgrading import inventory
from waiting import wait_until
from wire import query

# A socket that never has room for a whole segment, as that of a client with a tiny buffer that
# always has something to read, counts as dead to the kernel after tcp_user_timeout.
GENERAL = {"query_wait_timeout": "60s", "tcp_user_timeout": 0,
           "upgrade_inherited_accounting": "strict"}
OTHER = os.path.abspath(os.environ.get("DOORMAN_OTHER_BIN", BINARY))
UPGRADES = int(os.environ.get("DOORMAN_TEST_UPGRADES", "12"))


def server_pids(postgres):
    return postgres.run("SELECT pid, backend_start FROM pg_stat_activity "
                        "WHERE datname IN ('app', 'other') AND usename <> 'postgres' ORDER BY pid")


def test_b01_work_of_every_kind_goes_on(upgrading, postgres, table, monkeypatch, tmp_path):
    program = tmp_path / "pg_doorman"
    program.symlink_to(BINARY)
    monkeypatch.setattr("pooler.BINARY", str(program))
    pooler = upgrading(pools=continuity.pools(postgres), general=GENERAL)
    work = Continuity(pooler.doorman, postgres, table).start()
    # As many connections as may be, so that none is opened later on.
    wait_until(lambda: len(server_pids(postgres)) == 12 + 1 + 1 or work.failures, 30,
               "all connections to be open")
    before = server_pids(postgres)
    position = postgres.log_position()
    for number in range(UPGRADES):
        program.unlink()
        program.symlink_to([OTHER, BINARY][number % 2])
        pooler.upgrade(60)
        work.check()
    rounds = work.stop()
    connected = [line for line in postgres.log_since(position).splitlines()
                 if "connection authorized" in line and "user=postgres" not in line]
    if OTHER == BINARY:  # an earlier one may have opened connections
        assert not connected, "%s\n%s" % (connected, pooler.doorman.log()[-6000:])
        assert server_pids(postgres) == before
    assert all(count > 1 for count in rounds.values()), rounds
    print("rounds of work:", rounds)


def test_b02_faults_in_a_row_under_work(upgrading, postgres, table, tmp_path):
    """Each failure leaves the work as it was, and the last attempt succeeds."""
    fault = tmp_path / "fault"
    fault.write_text("none\n")
    pooler = upgrading(pools=continuity.pools(postgres), general=GENERAL,
                       environment={"PG_DOORMAN_UPGRADE_FAULT": "@%s" % fault})
    work = Continuity(pooler.doorman, postgres, table).start()
    before = server_pids(postgres)
    points = ["spawned:kill-other", "greeted:kill-other", "s-ready:die", "freeze:kill-other",
              "begin:kill-other", "s-begin:refuse", "s-fds:refuse", "fds:kill-other", "s-end:die",
              "s-end:refuse", "s-prepared:refuse", "prepared:kill-other", "s-commit:die"]
    for number, point in enumerate(points):
        fault.write_text(point + "\n")
        pooler.request()
        wait_until(lambda n=number: pooler.doorman.log().count("nothing has changed") == n + 1, 30,
                   "the failure of " + point)
        work.check()
    fault.write_text("none\n")
    pooler.upgrade(60)
    work.stop()
    assert set(before) <= set(server_pids(postgres))


# ---- one byte at a time


class Dribble:
    """Between pooler and PostgreSQL: passes on what either says, single bytes at a time."""

    def __init__(self, port):
        self.port = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.port))
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for source, sink, slow in ((client, server, False), (server, client, True)):
                threading.Thread(target=self.pump, args=(source, sink, slow), daemon=True).start()

    @staticmethod
    def pump(source, sink, slow):
        try:
            while True:
                data = source.recv(4096)
                if not data:
                    break
                for at in range(len(data)) if slow else ():
                    sink.sendall(data[at:at + 1])
                if not slow:
                    sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.listener.close()


def test_b04_single_bytes_in_both_directions(upgrading, postgres):
    between = Dribble(postgres.port)
    users = [{"username": "trust_user", "password": "", "pool_size": 4}]
    pooler = upgrading(pools={"app": {"server_host": "127.0.0.1", "server_port": between.address[1],
                                      "users": users}})
    done, failures, counts = threading.Event(), [], {}

    def talk(number):
        try:
            with pooler.doorman.wire(timeout=60).login("trust_user", "app", "") as client:
                n = 0
                while not done.is_set():
                    n += 1
                    client.send_bytewise(query("SELECT %d, 'text %d'" % (n, n)))
                    assert wire.rows(client.until_ready()) == [[str(n), "text %d" % n]]
                    name = "s%d" % (n % 3)
                    client.send_bytewise(
                        wire.parse(name, "SELECT $1::int + %d" % n) + wire.bind("", name, ["1"])
                        + wire.execute() + wire.close("S", name) + wire.sync())
                    assert wire.rows(client.until_ready()) == [[str(n + 1)]]
                    counts[number] = n
        except Exception as error:  # counted, whatever it is
            failures.append(repr(error))

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(counts) == 3 or failures, 20, "each client's first answer")
    for _ in range(UPGRADES):
        pooler.upgrade(60)
    done.set()
    for thread in threads:
        thread.join(60)
    assert not failures, failures
    between.close()


# ---- what is counted


TOTALS = ("total_xact_count", "total_query_count", "total_received", "total_sent",
          "total_xact_time", "total_query_time", "total_wait_time")


def counters(pooler):
    """All that may only grow, by name."""
    found = {}
    for row in pooler.admin("SHOW STATS"):
        for name in TOTALS:
            if name in row:
                found["stats", row["database"], name] = int(row[name])
    for name, value in pooler.admin("SHOW CONNECTIONS")[0].items():
        found["connections", name] = int(value)
    return found


def test_b12_counters_only_grow(upgrading):
    pooler = upgrading()
    done, falls, samples = threading.Event(), [], [0]

    def sample():
        last = {}
        try:
            while not done.is_set():
                now = counters(pooler.doorman)
                falls.extend((name, last[name], now.get(name)) for name in last
                             if now.get(name, -1) < last[name])
                last = now
                samples[0] += 1
                done.wait(0.01)
        except Exception as error:  # counted, whatever it is
            falls.append(repr(error))

    with pooler.doorman.client() as client:
        client.query("SELECT 0")
        sampler = threading.Thread(target=sample)
        sampler.start()
        queries = 1
        for _ in range(UPGRADES):
            for _ in range(5):
                client.query("SELECT 1")
            queries += 5
            pooler.upgrade(60)
        done.set()
        sampler.join(60)
        assert not falls and samples[0] > UPGRADES / 2, (falls[:5], samples)
        found = {row["database"]: row for row in pooler.doorman.admin("SHOW STATS")}
        assert int(found["app"]["total_query_count"]) == queries


def memory_bytes(pid):
    with open("/proc/%d/smaps_rollup" % pid) as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))


def test_b13_nothing_grows_with_the_generations(upgrading):
    pooler = upgrading()
    clients = [pooler.doorman.client() for _ in range(20)]
    for client in clients:
        client.send(wire.parse("s", "SELECT 1"), wire.sync())
        client.until_ready()
        client.query("SELECT 1")
    pooler.upgrade()
    pooler.upgrade()
    first, memory = inventory(pooler.pid), memory_bytes(pooler.pid)
    for _ in range(UPGRADES):
        pooler.upgrade(60)
    wait_until(lambda: inventory(pooler.pid) == first, 10,
               "as many descriptors as at first, %r" % first)
    assert memory_bytes(pooler.pid) < memory + (8 << 20)
    for client in clients:
        assert client.value("SELECT 1") == "1"
        client.terminate()


# ---- who waits, who cancels


def test_b10_a_hundred_waiters_are_served_in_order(upgrading, postgres):
    pooler = upgrading(pool_size=1, general={"query_wait_timeout": "120s",
                                             "upgrade_inherited_accounting": "strict"})
    holder = pooler.doorman.client()
    holder.query("BEGIN")
    holder.query("SELECT 1")
    postgres.run("CREATE SEQUENCE IF NOT EXISTS turn; GRANT ALL ON SEQUENCE turn TO PUBLIC; "
                 "ALTER SEQUENCE turn RESTART", database="app")
    waiters = [pooler.doorman.client() for _ in range(100)]
    for number, waiter in enumerate(waiters):
        waiter.send(query("SELECT nextval('turn')"))
        if number % 10 == 9 or number < 3:
            wait_until(lambda n=number: pooler.doorman.pool_row()["cl_waiting"] == n + 1, 10,
                       "%d clients to wait" % (number + 1))
    # Within a group of ten the order of arrival is the pooler's to see: the console has it.
    pooler.upgrade()
    assert pooler.doorman.pool_row()["cl_waiting"] == 100
    pooler.upgrade()
    holder.query("COMMIT")
    turns = [int(wire.rows(waiter.until_ready())[0][0]) for waiter in waiters]
    assert sorted(turns) == list(range(1, 101))
    for first in range(0, 100, 10):
        assert sorted(turns[first:first + 10]) == list(range(first + 1, first + 11)), turns
    for client in [holder] + waiters:
        client.terminate()
    postgres.run("DROP SEQUENCE turn", database="app")


@pytest.fixture
def held_lock(postgres):
    """Takes a lock, which is given back with its connection, at the end of the test at last."""
    connection = postgres.connect("app")

    def take():
        connection.cursor().execute("SELECT pg_advisory_lock(1111)")
        return connection

    yield take
    connection.close()


@pytest.mark.parametrize("point", ["spawned", "freeze", "begin", "fds", "prepared", "committed",
                                   "adopted", "moved", "bye", "s-commit", "s-adopted"])
def test_b11_cancel_in_the_middle(upgrading, postgres, held_lock, tmp_path, point):
    """A request that comes while one of the two stands still at this step strikes, once, and the
    right one."""
    fault = tmp_path / "fault"
    fault.write_text(point + ":stand\n")
    pooler = upgrading(environment={"PG_DOORMAN_UPGRADE_FAULT": "@%s" % fault})
    victim, other = pooler.doorman.client(), pooler.doorman.client()
    victim.query("BEGIN")
    victim.send(query("SELECT pg_sleep(60)"))
    lock = held_lock()
    other.send(query("SELECT pg_advisory_lock(1111), 'untouched'"))
    wait_until(lambda: len(postgres.backends("state = 'active'")) == 2, 10, "both to run")
    first = pooler.pid
    pooler.request()
    standing = wait_until(lambda: pooler.standing(), 20, "one of them to stand still")
    fault.write_text("none\n")
    with wire.Wire(victim.address) as request:
        request.send(wire.cancel_request(victim.pid, victim.key))
        os.kill(standing, 18)
        assert request.wait_closed() == []
    assert wire.errors(victim.until_ready())[0]["C"] == "57014"
    assert wire.errors(victim.query("SELECT 1"))[0]["C"] == "25P02"
    victim.query("ROLLBACK")
    assert victim.value("SELECT 'again'") == "again"
    lock.close()
    assert wire.rows(other.until_ready()) == [["", "untouched"]]
    wait_until(lambda: pooler.gone(first) or "nothing has changed" in pooler.doorman.log(), 20,
               "the upgrade to end")
    if pooler.gone(first):
        pooler.follow()
    victim.terminate()
    other.terminate()
