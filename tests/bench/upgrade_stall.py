#!/usr/bin/env python3
"""The longest stall that a client sees when the pooler is upgraded.

Thousands of silent sessions, some of them inside of a transaction; a few probes, each a process of
its own with one blocking socket, ask all the time and note their longest wait around each upgrade.
A control does the same with a process that only answers: what it waits is the machine's doing. Whoever
holds the silent sessions sleeps meanwhile, so the measure costs next to nothing of its own; what
all of the tool's processes used is printed.

    tests/bench/upgrade_stall.py --clients 9000 --transactions 1000 --upgrades 10
    tests/bench/upgrade_stall.py --binary build/before/pg_doorman --binary build/pg_doorman

Several programs take turns (each upgrades to itself); their figures are printed side by side.
"""

import argparse
import multiprocessing
import os
import re
import resource
import signal
import socket
import statistics
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
for part in ("tools", "integration", "demo"):
    sys.path.insert(0, os.path.join(TOP, "tests", part))
import upgrade as demo  # noqa: E402
import wire  # noqa: E402
from private_postgres import PrivatePostgres  # noqa: E402

PAUSE_SECONDS = 0.001
STEPS = ("take back", "choose", "write", "send", "read and check", "take over", "forget")


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--binary", action="append", help="more than one: they take turns")
    add("--clients", type=int, default=9000, help="silent clients")
    add("--transactions", type=int, default=1000, help="silent clients inside of a transaction")
    add("--probes", type=int, default=3)
    add("--upgrades", type=int, default=10)
    return parser.parse_args()


class Talker:
    """A blocking client with as little between it and its socket as can be."""

    def __init__(self, port, startup):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(startup)
        self.until_ready()

    def until_ready(self):
        data = b""
        while not (data[-6:-1] == b"Z\0\0\0\5"):
            more = self.socket.recv(65536)
            if not more:
                raise RuntimeError("hung up on: %r" % data[-200:])
            data += more
            if data[:1] == b"E":
                raise RuntimeError("%r" % data)
        return data

    def query(self, sql):
        self.socket.sendall(wire.query(sql))
        return self.until_ready()


class Echo:
    """The control: as many turns as a query, and nobody in between."""

    def __init__(self):
        self.socket, there = socket.socketpair()
        multiprocessing.Process(target=self.answer, args=(there,), daemon=True).start()

    @staticmethod
    def answer(there):
        while data := there.recv(4096):
            there.sendall(data)

    def query(self, sql):
        self.socket.sendall(sql.encode())
        return self.socket.recv(4096)


def joe(port):
    return Talker(port, wire.startup("joe", "app"))


def probe(make, pipe, in_transaction):
    """Asks until it is told to end; tells [longest wait, its CPU] since the last time, when told."""
    talker = make()
    if in_transaction:
        talker.query("BEGIN")
    longest = 0.0
    pipe.send("ready")
    while True:
        began = time.monotonic()
        talker.query("SELECT 1")
        longest = max(longest, time.monotonic() - began)
        if pipe.poll():
            if pipe.recv() == "end":
                return
            pipe.send((longest * 1000, time.process_time()))
            longest = 0.0
        time.sleep(PAUSE_SECONDS)


class Probes:
    def __init__(self, makers):
        self.pipes = []
        self.processes = []
        for number, make in enumerate(makers):
            here, there = multiprocessing.Pipe()
            process = multiprocessing.Process(target=probe, args=(make, there, number == 0))
            process.start()
            if not here.poll(20) or here.recv() != "ready":
                raise RuntimeError("a probe does not come up")
            self.pipes.append(here)
            self.processes.append(process)

    def longest(self):
        for pipe in self.pipes:
            pipe.send("tell")
        return [pipe.recv() for pipe in self.pipes]

    def end(self):
        for pipe, process in zip(self.pipes, self.processes):
            pipe.send("end")
            process.join()


def wait_for(condition, what, seconds=90):
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up:
            raise RuntimeError("waited in vain for " + what)
        time.sleep(0.02)


class Run:
    """One pooler with its clients; each upgrade adds a row."""

    def __init__(self, options, binary, server, folder):
        options.binary, options.streams = binary, options.probes
        os.mkdir(folder)
        self.pooler = demo.Pooler(options, server, folder)
        self.rows = []
        wait_for(lambda: "Accepting connections" in self.pooler.log(), "the pooler", 20)
        self.silent = [joe(self.pooler.port) for _ in range(options.clients)]
        for talker in [joe(self.pooler.port) for _ in range(options.transactions)]:
            talker.query("BEGIN")
            talker.query("SELECT 1")
            self.silent.append(talker)

    def upgrade(self):
        port = self.pooler.port
        makers = [lambda: joe(port)] * self.probes + [Echo]
        probes = Probes(makers)
        time.sleep(1)
        probes.longest()
        old = self.pooler.newest()
        done = self.pooler.log().count("upgrade: done in")
        os.kill(old, signal.SIGUSR2)
        wait_for(lambda: self.pooler.log().count("upgrade: done in") > done, "the upgrade")
        told = probes.longest()
        probes.end()
        served = re.findall(r"(\d+) us after the old process stopped", self.pooler.log())
        line = re.findall(r"upgrade: frozen for (\d+) us: (.*)", self.pooler.log())
        first = max(line, key=lambda found: int(found[0]))
        steps = {step: int(re.search(r"%s (\d+)" % step, first[1]).group(1)) / 1000
                 for step in STEPS if re.search(r"%s (\d+)" % step, first[1])}
        self.rows.append({"stall": max(wait for wait, _ in told[:-1]), "control": told[-1][0],
                          "frozen": int(first[0]) / 1000,
                          "served": max(map(int, served)) / 1000, "steps": steps,
                          "tool_cpu": sum(cpu for _, cpu in told) * 1000})
        wait_for(lambda: not alive(old), "the old process's end")
        with open(self.pooler.log_path, "w"):
            pass

    def check(self):
        for number, talker in enumerate(self.silent):
            assert b"%d" % number in talker.query("SELECT %d" % number)
            talker.socket.close()


def alive(pid):
    try:
        return os.waitpid(pid, os.WNOHANG)[0] != pid
    except ChildProcessError:
        return os.path.exists("/proc/%d" % pid)


def report(binary, rows):
    print("\n%s: %d upgrades" % (binary, len(rows)))
    print("  stall  control  frozen  served   " + "  ".join(STEPS))
    for row in rows:
        print("%7.1f  %7.1f %7.1f %7.1f   " % (row["stall"], row["control"], row["frozen"],
                                              row["served"])
              + "  ".join("%*.1f" % (len(step), row["steps"].get(step, 0)) for step in STEPS))
    for name in ("stall", "control", "frozen", "served"):
        print("  %-8s median %.1f ms, best %.1f ms" % (
            name, statistics.median(row[name] for row in rows), min(row[name] for row in rows)))
    print("  median of steps: " + ", ".join(
        "%s %.1f" % (step, statistics.median(row["steps"].get(step, 0) for row in rows))
        for step in STEPS))
    print("  CPU of the probes: %.0f ms an upgrade" % statistics.median(
        row["tool_cpu"] for row in rows))


def main():
    options = parse_options()
    binaries = options.binary or [os.path.join(TOP, "build", "pg_doorman")]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    Run.probes = options.probes
    results = {binary: [] for binary in binaries}
    server = PrivatePostgres(max_connections=options.transactions + 100)
    try:
        with tempfile.TemporaryDirectory(prefix="pg_doorman-stall-") as folder:
            server.start()
            for number, binary in enumerate(binaries):
                run = Run(options, binary, server, os.path.join(folder, str(number)))
                for _ in range(options.upgrades):
                    run.upgrade()
                run.check()
                results[binary] = run.rows
                run.pooler.end()
                report(binary, run.rows)
    finally:
        server.stop()


if __name__ == "__main__":
    main()
