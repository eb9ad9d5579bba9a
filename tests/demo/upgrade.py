#!/usr/bin/env python3
"""Hot upgrades in a row, with live clients watching.

A private PostgreSQL, a pooler, and clients of several kinds: silent ones, long transactions, some
that query all the time, some that read an endless result, psql with \\watch, and pgbench at full
load. The pooler is upgraded several times. The terminal shows each kind of session, the process
that serves it, and its longest stall; at the end come a report and a picture of latency over time.

    ninja demo-upgrade
    tests/demo/upgrade.py --clients 10000 --transactions 1000 --upgrades 10 --plain

Exit status 0 when nobody was disconnected, nothing failed, and PostgreSQL saw no new connection.
"""

import argparse
import asyncio
import ctypes
import json
import os
import re
import resource
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "tests", "tools"))
from private_postgres import PrivatePostgres, find_program, free_port  # noqa: E402

# Successors become our children, so that they can be waited for.
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
HOST = "127.0.0.1"


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--binary", default=os.path.join(TOP, "build", "pg_doorman"))
    add("--clients", type=int, default=200, help="silent clients")
    add("--transactions", type=int, default=20, help="clients inside of a transaction")
    add("--probes", type=int, default=10, help="clients that query all the time")
    add("--streams", type=int, default=2, help="clients that read an endless result")
    add("--pgbench", type=int, default=8, metavar="CLIENTS", help="0: none")
    add("--upgrades", type=int, default=5)
    add("--pause", type=float, default=2.0, help="seconds between upgrades")
    add("--picture", default=os.path.join(TOP, "build", "upgrade.png"), help="'': none")
    add("--plain", action="store_true", help="no live view")
    return parser.parse_args()


def say(text):
    print(text, flush=True)


# ---- the processes


CONFIGURATION = """\
general:
  host: {host}
  port: {port}
  admin_username: admin
  admin_password: admin
  worker_threads: 2
  max_connections: 20000
  query_wait_timeout: 60s
  log_client_connections: false
  log_client_disconnections: false
  # No connection is to be opened for those that are in use.
  upgrade_inherited_accounting: strict
  pg_hba: "host all all 127.0.0.1/32 trust"
pools:
  app:
    server_host: {host}
    server_port: {server_port}
    server_database: postgres
    pool_mode: transaction
    users:
      - username: joe
        password: ""
        server_username: postgres
        server_password: {password}
        pool_size: {pool_size}
        # All are open before the first upgrade, so that any new one is an upgrade's doing.
        min_pool_size: {pool_size}
"""


class Pooler:
    def __init__(self, options, server, folder):
        self.port = free_port()
        self.config = os.path.join(folder, "pg_doorman.yaml")
        self.log_path = os.path.join(folder, "pg_doorman.log")
        pool_size = options.transactions + options.streams + 20
        with open(self.config, "w") as file:
            file.write(CONFIGURATION.format(host=HOST, port=self.port, server_port=server.port,
                                            password=json.dumps(server.password),
                                            pool_size=pool_size))
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([options.binary, self.config, "-l", "info"],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.pid = self.process.pid

    def log(self):
        with open(self.log_path, errors="replace") as file:
            return file.read()

    def successor(self):
        found = re.findall(r"upgrade: took over", self.log())
        return len(found)

    def newest(self):
        """The process that has the listener now: the youngest of ours."""
        mine = []
        for name in os.listdir("/proc"):
            try:
                with open("/proc/%s/cmdline" % name, "rb") as file:
                    words = file.read().split(b"\0")
                with open("/proc/%s/stat" % name) as file:
                    state = file.read().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if name.isdigit() and self.config.encode() in words and b"-t" not in words \
                    and state[0] != "Z":
                mine.append((int(state[19]), int(name)))
        return max(mine)[1] if mine else None

    def end(self):
        pid = self.newest()
        if pid:
            os.kill(pid, signal.SIGTERM)


# ---- a client of the protocol


def message(kind, body=b""):
    return kind + struct.pack("!I", len(body) + 4) + body


class Session:
    """One client. `stall` is the longest time that it had to wait for something during the run."""

    def __init__(self, kind, number):
        self.kind = kind
        self.number = number
        self.stall = 0.0
        self.done = 0
        self.failed = None
        self.local_port = None

    async def open(self, port):
        self.reader, self.writer = await asyncio.open_connection(HOST, port, limit=1 << 20)
        self.local_port = self.writer.get_extra_info("sockname")[1]
        body = struct.pack("!I", 196608) + b"user\0joe\0database\0app\0\0"
        self.writer.write(struct.pack("!I", len(body) + 4) + body)
        await self.until_ready()
        return self

    async def one(self):
        head = await self.reader.readexactly(5)
        body = await self.reader.readexactly(struct.unpack("!I", head[1:])[0] - 4)
        if head[:1] == b"E":
            raise RuntimeError(body.replace(b"\0", b" ").decode(errors="replace"))
        return head[:1], body

    async def until_ready(self):
        rows = []
        while True:
            kind, body = await self.one()
            if kind == b"D":
                rows.append(body)
            if kind == b"Z":
                return rows

    async def query(self, sql):
        """The first column of the first row, as text."""
        began = time.monotonic()
        self.writer.write(message(b"Q", sql.encode() + b"\0"))
        rows = await self.until_ready()
        took = time.monotonic() - began
        self.stall = max(self.stall, took)
        self.done += 1
        if not rows:
            return None, took
        length = struct.unpack("!i", rows[0][2:6])[0]
        return rows[0][6:6 + length].decode(), took


# ---- what the clients do


class Scene:
    def __init__(self, options, pooler):
        self.options = options
        self.pooler = pooler
        self.sessions = []
        self.latencies = []  # (when, seconds)
        self.upgrades = []  # (asked, gone, pid, of the log)
        self.stopping = False
        self.facts = {}
        self.began = time.monotonic()

    async def make(self, kind, count, first=None):
        made = []
        gate = asyncio.Semaphore(64)

        async def one(number):
            async with gate:
                session = await Session(kind, number).open(self.pooler.port)
                if first:
                    await first(session)
                made.append(session)

        await asyncio.gather(*(one(number) for number in range(count)))
        self.sessions += made
        return made

    async def begin(self, session):
        await session.query("BEGIN")
        facts, _ = await session.query("SELECT pg_backend_pid() || '/' || txid_current()")
        self.facts[session] = facts
        session.stall = 0.0

    async def guard(self, session, work):
        try:
            await work
        except Exception as error:  # whatever it is, it is what we count
            session.failed = repr(error)

    async def probe(self, session):
        while not self.stopping:
            value, took = await session.query("SELECT %d" % session.done)
            if value != str(session.done - 1):
                raise RuntimeError("answered %s" % value)
            self.latencies.append((time.monotonic() - self.began, took))
            await asyncio.sleep(0.002)

    async def stream(self, session):
        """An endless result: the numbers must come one after the other."""
        session.writer.write(message(b"Q", b"SELECT n, pg_sleep(0.005) FROM "
                                           b"generate_series(1, 1000000) n\0"))
        wanted, last = 1, time.monotonic()
        while not self.stopping:
            kind, body = await session.one()
            if kind != b"D":
                continue
            length = struct.unpack("!i", body[2:6])[0]
            if int(body[6:6 + length]) != wanted:
                raise RuntimeError("row %d expected" % wanted)
            wanted += 1
            now = time.monotonic()
            session.stall = max(session.stall, now - last)
            last = now
            session.done += 1

    async def beat(self, session):
        """A transaction that says something now and then."""
        while not self.stopping:
            await asyncio.sleep(1)
            facts, _ = await session.query("SELECT pg_backend_pid() || '/' || txid_current()")
            if facts != self.facts[session]:
                raise RuntimeError("transaction %s has become %s" % (self.facts[session], facts))

    async def check_silent(self, session):
        value, _ = await session.query("SELECT %d" % session.number)
        if value != str(session.number):
            raise RuntimeError("answered %s" % value)

    def alive(self, pid):
        try:
            if os.waitpid(pid, os.WNOHANG)[0] == pid:
                return False
        except ChildProcessError:
            return os.path.exists("/proc/%d" % pid)
        return True

    async def upgrade(self):
        old = self.pooler.newest()
        asked = time.monotonic()
        before = self.pooler.log().count("upgrade: done in")
        os.kill(old, signal.SIGUSR2)
        while self.alive(old):
            await asyncio.sleep(0.002)
            if time.monotonic() > asked + 60:
                raise RuntimeError("the old process does not end\n" + self.pooler.log()[-3000:])
        gone = time.monotonic()
        log = self.pooler.log()
        if log.count("upgrade: done in") != before + 1:
            raise RuntimeError("the upgrade has failed\n" + log[-3000:])
        self.upgrades.append((asked - self.began, gone - self.began, self.pooler.newest(), log))


# ---- watching


def owners(pids, ports):
    """Which process has the pooler's end of each connection: by client port."""
    inodes = {}
    with open("/proc/net/tcp") as file:
        next(file)
        for line in file:
            fields = line.split()
            port = int(fields[2].rsplit(":", 1)[1], 16)
            if port in ports:
                inodes[fields[9]] = port
    found = {}
    for pid in pids:
        try:
            for name in os.listdir("/proc/%d/fd" % pid):
                target = os.readlink("/proc/%d/fd/%s" % (pid, name))
                if target.startswith("socket:[") and target[8:-1] in inodes:
                    found[inodes[target[8:-1]]] = pid
        except OSError:
            continue
    return found


def colour(text, code):
    return "\033[%dm%s\033[0m" % (code, text)


async def watch(scene, shown):
    """The live view: a line per session, twice a second."""
    lines = 0
    seen = [scene.pooler.newest()]
    while not scene.stopping:
        newest = scene.pooler.newest()
        if newest and newest not in seen:
            seen.append(newest)
        found = owners(seen, {session.local_port for session in shown})
        out = ["", "  %-16s %8s %12s %14s  %s" % ("session", "pid", "answers", "longest stall", "")]
        for session in shown:
            pid = found.get(session.local_port)
            generation = seen.index(pid) if pid in seen else 0
            out.append("  %-16s %s %12d %11.1f ms  %s" % (
                "%s %d" % (session.kind, session.number),
                colour("%8s" % (pid or "?"), 31 + generation % 6), session.done,
                session.stall * 1000, session.failed or ""))
        out.append("  %d sessions in all, %d upgrades, %d failures" % (
            len(scene.sessions), len(scene.upgrades),
            sum(1 for session in scene.sessions if session.failed)))
        sys.stdout.write(("\033[%dA" % lines if lines else "")
                         + "".join("\033[2K%s\n" % line for line in out))
        sys.stdout.flush()
        lines = len(out)
        await asyncio.sleep(0.5)


# ---- the report


def figures(scene):
    """Of each upgrade, from the log: start of the successor, the rest, frozen, moved."""
    log = scene.pooler.log()
    done = re.findall(r"upgrade: done in (\d+) ms: (\d+) clients and (\d+) server connections moved "
                      r"in (\d+) rounds, longest freeze (\d+) ms, (\d+) clients left", log)
    stamps = re.findall(r"^(\S+)Z .*?(Got SIGUSR2|New process signaled readiness|upgrade: done in)",
                        log, re.MULTILINE)

    def seconds(stamp):
        hours, minutes, rest = stamp.split("T")[1].split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(rest)

    steps = [seconds(stamp) for stamp, _ in stamps]
    rows = []
    for number, fields in enumerate(done):
        asked, ready, ended = steps[number * 3:number * 3 + 3]
        rows.append({"start_ms": (ready - asked) * 1000, "rest_ms": (ended - ready) * 1000,
                     "clients": int(fields[1]), "servers": int(fields[2]),
                     "rounds": int(fields[3]), "freeze_ms": int(fields[4]),
                     "left": int(fields[5])})
    return rows


def stalls(scene):
    """The longest answer of a probe around each upgrade, in ms."""
    out = []
    for asked, gone, _, _ in scene.upgrades:
        near = [took for when, took in scene.latencies if asked <= when <= gone + 1.0]
        out.append(max(near, default=0) * 1000)
    return out


def picture(scene, path):
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(figsize=(11, 4.5))
    axes.plot([when for when, _ in scene.latencies], [took * 1000 for _, took in scene.latencies],
              ".", markersize=2, color="#336791", label="one query")
    for number, (asked, gone, _, _) in enumerate(scene.upgrades):
        axes.axvspan(asked, gone, color="#d62728", alpha=0.25,
                     label="an upgrade, from the request to the end of the old process"
                     if number == 0 else None)
    axes.set_yscale("log")
    axes.set_xlabel("seconds")
    axes.set_ylabel("latency, ms")
    axes.set_title("%d sessions, %d of them in transactions, through %d upgrades"
                   % (len(scene.sessions), scene.options.transactions, len(scene.upgrades)))
    axes.legend(loc="upper right")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def report(scene, new_connections, same_backends, pgbench):
    failures = [session for session in scene.sessions if session.failed]
    rows = figures(scene)
    longest = stalls(scene)
    say("\nupgrade   successor's start   the rest   frozen   longest stall   clients   servers")
    for number, row in enumerate(rows):
        say("%7d %16.0f ms %7.0f ms %5d ms %12.1f ms %9d %9d" % (
            number + 1, row["start_ms"], row["rest_ms"], row["freeze_ms"], longest[number],
            row["clients"], row["servers"]))
    say("")
    say("sessions                                    %d" % len(scene.sessions))
    say("moved, in all                               %d" % sum(row["clients"] for row in rows))
    say("left behind                                 %d" % sum(row["left"] for row in rows))
    say("failures                                    %d" % len(failures))
    for session in failures[:5]:
        say("    %s %d: %s" % (session.kind, session.number, session.failed))
    say("PostgreSQL connections opened meanwhile     %d" % new_connections)
    say("the same backends as before                 %s" % ("yes" if same_backends else "no"))
    if longest:
        say("longest stall of a query                    %.1f ms, median of upgrades %.1f ms"
            % (max(longest), statistics.median(longest)))
    if pgbench is not None:
        said, status = pgbench
        line = re.search(r"number of transactions actually processed: (\d+)", said)
        failed = re.search(r"number of failed transactions: (\d+)", said)
        if status != 0:
            say(said[-2000:])
        say("pgbench                                     %s transactions, %s failed, status %d"
            % (line.group(1) if line else "?", failed.group(1) if failed else "?", status))
    good = (not failures and new_connections == 0 and same_backends
            and not any(row["left"] for row in rows) and len(rows) == scene.options.upgrades
            and (pgbench is None or (pgbench[1] == 0 and "aborted" not in pgbench[0])))
    say("\n%s" % ("all is well" if good else "NOT AS IT SHOULD BE"))
    return good


# ---- all of it


def backends(server):
    lines = server.ask("SELECT pid || ' ' || backend_start FROM pg_stat_activity "
                       "WHERE client_port IS NOT NULL AND application_name NOT LIKE 'psql%'")
    return set(lines.splitlines())


def start_pgbench(options, pooler):
    """For about as long as the rest takes."""
    seconds = int(5 + options.upgrades * (options.pause + 1))
    environment = {**os.environ, "PGHOST": HOST, "PGPORT": str(pooler.port), "PGUSER": "joe",
                   "PGDATABASE": "app", "PGSSLMODE": "disable"}
    return subprocess.Popen([find_program("pgbench"), "-n", "-S", "-M", "prepared", "-c",
                             str(options.pgbench), "-j", "2", "-T", str(seconds)], env=environment,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


async def wait_for(condition, seconds, what):
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up:
            raise RuntimeError("waited in vain for " + what)
        await asyncio.sleep(0.05)


async def perform(options, server, pooler):
    scene = Scene(options, pooler)
    await wait_for(lambda: "Accepting connections" in pooler.log(), 15, "the pooler")
    say("-- %d silent clients, %d in transactions, %d probes, %d streams, pgbench with %d"
        % (options.clients, options.transactions, options.probes, options.streams,
           options.pgbench))
    silent = await scene.make("silent", options.clients)
    busy = await scene.make("transaction", options.transactions, scene.begin)
    probes = await scene.make("probe", options.probes)
    streams = await scene.make("stream", options.streams)
    tasks = [asyncio.create_task(scene.guard(session, work(session)))
             for work, group in ((scene.probe, probes), (scene.stream, streams),
                                 (scene.beat, busy)) for session in group]
    pgbench = start_pgbench(options, pooler) if options.pgbench else None
    await asyncio.sleep(3)
    pool_size = options.transactions + options.streams + 20
    await wait_for(lambda: len(backends(server)) >= pool_size, 60, "all server connections")
    for session in scene.sessions:
        session.stall = 0.0
    before = backends(server)
    if not options.plain:
        shown = probes[:3] + streams[:2] + busy[:4] + silent[:3]
        tasks.append(asyncio.create_task(watch(scene, shown)))
    for _ in range(options.upgrades):
        await asyncio.sleep(options.pause)
        await scene.upgrade()
    await asyncio.sleep(1.5)
    after = backends(server)
    scene.stopping = True
    said = None
    if pgbench is not None:
        while pgbench.poll() is None:
            await asyncio.sleep(0.1)
        said = (pgbench.communicate()[0], pgbench.returncode)
    await asyncio.gather(*(asyncio.wait_for(task, 20) for task in tasks), return_exceptions=True)
    await asyncio.gather(*(scene.guard(session, scene.check_silent(session))
                           for session in silent))
    for session in busy:
        await scene.guard(session, session.query("COMMIT"))
    return scene, len(after - before), before <= after, said


def main():
    options = parse_options()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    wanted = options.clients + 2 * options.transactions + 1000
    if wanted > hard:
        options.clients = max(10, hard - 2 * options.transactions - 1000)
        say("-- %d silent clients, for this process may have %d open files only"
            % (options.clients, hard))
    server = PrivatePostgres(max_connections=options.transactions + 100)
    pooler = None
    try:
        with tempfile.TemporaryDirectory(prefix="pg_doorman-upgrade-") as folder:
            say("-- starting PostgreSQL and the pooler")
            server.start()
            if options.pgbench:
                subprocess.run([find_program("pgbench"), "-i", "-q", "-s", "1"],
                               env={**os.environ, **server.environment}, check=True,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            pooler = Pooler(options, server, folder)
            try:
                scene, new, same, said = asyncio.run(perform(options, server, pooler))
                if options.picture:
                    picture(scene, options.picture)
                good = report(scene, new, same, said)
                if options.picture:
                    say("picture: " + os.path.relpath(options.picture))
            finally:
                pooler.end()
                time.sleep(0.5)
    finally:
        server.stop()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
