#!/usr/bin/env python3
"""The longest stall that a client sees when the pooler is upgraded, by the number of its sessions.

Thousands of silent sessions, some of them inside of a transaction; a few probes, each a process of
its own with one blocking socket, ask all the time and note their longest wait around each upgrade.
A control does the same with a process that only answers: what it waits is the machine's doing. Who
holds the silent sessions sleeps meanwhile, so the measure costs next to nothing of its own; what
all of the tool's processes used is printed.

    tests/bench/upgrade_stall.py --sessions 1000,10000
    tests/bench/upgrade_stall.py --binary build/before/pg_doorman --binary build/pg_doorman

Each number of sessions and each program (which is upgraded to itself) has a pooler of its own. At
the end stands a table. A session costs the pooler a descriptor: for 50,000 of them `ulimit -Hn`
must be more than that. They come from several addresses of 127.0.0.0/8, 20,000 from each.
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
import wire  # noqa: E402
from private_postgres import PrivatePostgres  # noqa: E402
from upgrade_pooler import HOST, Pooler, Upgrade, raise_open_files  # noqa: E402

PAUSE_SECONDS = 0.001
HOLDER_SESSIONS = 15000  # of one process and one address
SPARE_FILES = 300
STEPS = ("take back", "choose", "write", "send", "read and check", "take over", "forget")


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--binary", action="append", help="more than one: they take turns")
    add("--sessions", default="1000,10000", help="silent clients; one number or several")
    add("--transactions", type=int, default=100, help="so many of them inside of a transaction")
    add("--probes", type=int, default=3)
    add("--upgrades", type=int, default=10)
    return parser.parse_args()


class Talker:
    """A blocking client with as little between it and its socket as can be."""

    def __init__(self, port, startup, source=HOST):
        self.socket = socket.create_connection((HOST, port), source_address=(source, 0))
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


def joe(port, source=HOST):
    return Talker(port, wire.startup("joe", "app"), source)


def hold(port, source, count, transactions, pipe):
    """A process that has silent sessions; told to, it looks whether all are still there."""
    talkers = [joe(port, source) for _ in range(count)]
    for talker in talkers[:transactions]:
        talker.query("BEGIN")
        talker.query("SELECT 1")
    pipe.send("ready")
    pipe.recv()
    for number, talker in enumerate(talkers):
        if b"%d" % number not in talker.query("SELECT %d" % number):
            raise RuntimeError("a session has lost its answer")
    pipe.send("well")


class Holders:
    def __init__(self, port, sessions, transactions):
        self.pipes = []
        while sessions > 0:
            count = min(sessions, HOLDER_SESSIONS)
            here, there = multiprocessing.Pipe()
            source = "127.0.0.%d" % (2 + len(self.pipes))
            multiprocessing.Process(target=hold, daemon=True, args=(
                port, source, count, min(transactions, count), there)).start()
            there.close()
            self.pipes.append(here)
            sessions, transactions = sessions - count, max(0, transactions - count)
        self.expect("ready")

    def expect(self, word):
        for pipe in self.pipes:
            if not pipe.poll(300) or pipe.recv() != word:
                raise RuntimeError("whoever holds the sessions is not %s" % word)

    def check(self):
        for pipe in self.pipes:
            pipe.send("check")
        self.expect("well")


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

    def __init__(self, options, binary, sessions, server, folder):
        os.mkdir(folder)
        self.binary, self.sessions, self.probes = binary, sessions, options.probes
        self.pooler = Pooler(binary, server, folder, options.transactions + options.probes + 20,
                             max_connections=sessions + 1000)
        self.rows = []
        try:
            self.pooler.await_start()
            self.holders = Holders(self.pooler.port, sessions, options.transactions)
            for _ in range(options.upgrades):
                self.upgrade()
            self.holders.check()
        finally:
            self.pooler.end()

    def upgrade(self):
        makers = [lambda: joe(self.pooler.port)] * self.probes + [Echo]
        probes = Probes(makers)
        time.sleep(1)
        probes.longest()
        upgrade = Upgrade(self.pooler, self.pooler.newest())
        wait_for(upgrade.over, "the upgrade")
        time.sleep(0.2)  # for the new process's log
        told = probes.longest()
        probes.end()
        log = upgrade.log()
        served = re.findall(r"(\d+) us after the old process stopped", log)
        line = re.findall(r"upgrade: frozen for (\d+) us: (.*)", log)
        first = max(line, key=lambda found: int(found[0]))
        steps = {step: int(re.search(r"%s (\d+)" % step, first[1]).group(1)) / 1000
                 for step in STEPS if re.search(r"%s (\d+)" % step, first[1])}
        self.rows.append({"stall": max(wait for wait, _ in told[:-1]), "control": told[-1][0],
                          "frozen": int(first[0]) / 1000,
                          "served": max(map(int, served)) / 1000, "steps": steps,
                          "tool_cpu": sum(cpu for _, cpu in told) * 1000})

    def median(self, name):
        return statistics.median(row[name] for row in self.rows)

    def median_step(self, step):
        return statistics.median(row["steps"].get(step, 0) for row in self.rows)


def report(run):
    rows = run.rows
    print("\n%s: %d sessions, %d upgrades; load %.1f; times in ms" % (
        run.binary, run.sessions, len(rows), os.getloadavg()[0]))
    print("  stall  control  frozen  served   " + "  ".join(STEPS))
    for row in rows:
        print("%7.1f  %7.1f %7.1f %7.1f   " % (row["stall"], row["control"], row["frozen"],
                                              row["served"])
              + "  ".join("%*.1f" % (len(step), row["steps"].get(step, 0)) for step in STEPS))
    for name in ("stall", "control", "frozen", "served"):
        print("  %-8s median %.1f ms, best %.1f ms" % (
            name, run.median(name), min(row[name] for row in rows)))
    print("  CPU of the probes: %.0f ms an upgrade" % run.median("tool_cpu"), flush=True)


def table(runs):
    """Medians, as Markdown."""
    yield ("| Program | Sessions | Stop to first served | Stall of a probe | Control | "
           + " | ".join(STEPS) + " |")
    yield "| :-- |" + " --: |" * (4 + len(STEPS))
    for run in runs:
        yield "| %s | %s | %.1f ms | %.1f ms | %.1f ms | %s |" % (
            os.path.relpath(run.binary, TOP), "{:,}".format(run.sessions), run.median("served"),
            run.median("stall"), run.median("control"),
            " | ".join("%.1f" % run.median_step(step) for step in STEPS))


def main():
    options = parse_options()
    binaries = options.binary or [os.path.join(TOP, "build", "pg_doorman")]
    sizes = [int(word) for word in options.sessions.split(",")]
    limit = raise_open_files(max(sizes) + options.transactions + SPARE_FILES)
    if max(sizes) + options.transactions + SPARE_FILES > limit:
        sys.exit("%d sessions need more than the %d open files that a process may have here "
                 "(ulimit -Hn)" % (max(sizes), limit))
    runs = []
    server = PrivatePostgres(max_connections=options.transactions + 100)
    try:
        with tempfile.TemporaryDirectory(prefix="pg_doorman-stall-") as folder:
            server.start()
            for sessions in sizes:
                for binary in binaries:
                    runs.append(Run(options, binary, sessions, server,
                                    os.path.join(folder, str(len(runs)))))
                    report(runs[-1])
            print("\n" + "\n".join(table(runs)))
    finally:
        server.stop()


if __name__ == "__main__":
    main()
