#!/usr/bin/python3
"""Prepared statements: what they cost in time and in memory.

  statements.py throughput     pgbench -M extended and prepared: PgDoorman with and without its
                               cache, PgBouncer with and without its own (from 1.21 on)
  statements.py memory         10,000 clients with 100 statements each, of the same 100 texts
  statements.py memory --clients 1000 --statements 10
"""

import argparse
import asyncio
import os
import struct
import sys
import tempfile
import time

import measure
import targets
from targets import DATABASE, USER, Failure

NAMES = {"short": "S_%d", "long": "stmtcache_0123456789abcdef0123456789abcdef%08d", "unnamed": ""}


def say(text):
    print(text, flush=True)


# ---- targets


class Doorman(targets.Doorman):
    """One worker; the cache can be turned off, and passwords are not asked for."""

    def __init__(self, setup, postgres, options, cached=True):
        super().__init__("doorman" if cached else "doorman-uncached", setup, postgres,
                         options.doorman, options.engine, 1)
        self.cached = cached
        self.label = "PgDoorman" if cached else "PgDoorman, prepared_statements: false"

    def command(self):
        argv = super().command()
        with open(argv[-1], encoding="utf-8") as f:
            text = f.read()
        more = 'pg_hba: "host all all 127.0.0.1/32 trust"\n  max_memory_usage: 4GB'
        if not self.cached:
            more += "\n  prepared_statements: false"
        text = text.replace("general:", "general:\n  " + more, 1)
        self.setup.write(os.path.basename(argv[-1]), text)
        return argv


class PgBouncer(targets.PgBouncer):
    def __init__(self, setup, postgres, options, cached):
        self.name = "pgbouncer" if cached else "pgbouncer-uncached"
        super().__init__(setup, postgres, options.pgbouncer)
        self.cached = cached
        self.label = f"PgBouncer, max_prepared_statements = {1000 if cached else 0}"
        version = tuple(int(n) for n in self.version().split()[1].split(".")[:2])
        if cached and version < (1, 21):
            raise Failure("%s knows no max_prepared_statements" % self.version())
        self.has_setting = version >= (1, 21)

    def command(self):
        argv = super().command()
        with open(argv[-1], encoding="utf-8") as f:
            text = f.read()
        if self.has_setting:
            text += f"max_prepared_statements = {1000 if self.cached else 0}\n"
        argv[-1] = self.setup.write(self.name + ".ini", text)
        return argv


# ---- throughput


def throughput(options, setup, postgres):
    """Rounds interleaved. Named statements need the cache, in transaction mode."""
    made = []
    for kind in (Doorman, PgBouncer):
        for cached in (True, False):
            try:
                target = kind(setup, postgres, options, cached)
                target.start()
                made.append(target)
            except Failure as e:
                say(f"not measured: {e}")
    results = {}
    for turn in range(options.rounds):
        for protocol in ("extended", "prepared"):
            for target in made:
                if protocol == "prepared" and not target.cached:
                    continue
                run = measure.Pgbench(target, protocol, options.clients or 40, options.seconds,
                                      False)
                found = run.wait()
                if found["errors"]:
                    raise Failure(f"{target.label}: " + "; ".join(found["errors"]))
                results.setdefault((protocol, target.label), []).append(
                    (found["tps"], found["cpu_us"]))
    say("%-9s %-42s %10s %14s" % ("protocol", "", "tps", "us of CPU each"))
    for (protocol, label), runs in sorted(results.items()):
        tps, cpu = sorted(runs)[len(runs) // 2]
        say("%-9s %-42s %10.0f %14.1f" % (protocol, label, tps, cpu))
    for target in made:
        target.stop()


# ---- memory


def message(kind, body=b""):
    return kind + struct.pack("!I", len(body) + 4) + body


STARTUP_BODY = struct.pack("!I", 196608) + b"user\0%s\0database\0%s\0\0" % (USER.encode(),
                                                                            DATABASE.encode())
STARTUP = struct.pack("!I", len(STARTUP_BODY) + 4) + STARTUP_BODY
SYNC = message(b"S")


class Client:
    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port):
        client = cls(*await asyncio.open_connection("127.0.0.1", port, limit=1024))
        client.writer.write(STARTUP)
        await client.until_ready()
        return client

    async def until_ready(self):
        while True:
            head = await self.reader.readexactly(5)
            size, = struct.unpack("!I", head[1:])
            body = await self.reader.readexactly(size - 4)
            if head[:1] == b"E":
                raise Failure(body.replace(b"\0", b" ").decode())
            if head[:1] == b"Z":
                return

    async def send(self, data):
        self.writer.write(data)
        await self.until_ready()


def texts_of(options):
    return [b"SELECT %d, '%s' WHERE $1::int > 0" % (n, b"x" * options.text)
            for n in range(options.statements)]


def preparation(options, name):
    parts = []
    for number, text in enumerate(texts_of(options)):
        own = (name % number if "%" in name else name).encode()
        parts.append(message(b"P", own + b"\0" + text + b"\0\0\0"))
    return b"".join(parts) + SYNC


async def fill(options, target, name):
    """Growth of the process: by the clients, and by what they prepare."""
    batch = preparation(options, NAMES[name])
    first = [await Client.open(target.port) for _ in range(50)]
    for client in first:  # what is needed once: backends, texts, buffers
        await client.send(batch)
    start = measure.own_bytes(target.process.pid)
    clients = [await Client.open(target.port) for _ in range(options.clients)]
    idle = measure.own_bytes(target.process.pid)
    began = time.monotonic()
    for client in clients:
        await client.send(batch)
    seconds = time.monotonic() - began
    full = measure.own_bytes(target.process.pid)
    count = options.clients * options.statements
    say("%-8s %7d clients x %d: %6.0f bytes per idle client, %5.1f per client and statement "
        "(%.0f MB), %.0f Parse/s"
        % (name, options.clients, options.statements, (idle - start) / options.clients,
           (full - idle) / count, (full - start) / 1e6, count / seconds))
    psql = [os.path.join(target.setup.pgbin, "psql"), "-h", "127.0.0.1", "-p", str(target.port),
            "-U", "admin", "pgdoorman", "-x", "-c"]
    for command in ("SHOW INTERNER", "SHOW POOLS_MEMORY"):
        text = targets.run(psql + [command], env={**os.environ, "PGPASSWORD": "bench-admin"})
        rows = [line.split("|") for line in text.splitlines() if "|" in line]
        say("         " + command + ": " +
            ", ".join(f"{k.strip()}={v.strip()}" for k, v in rows))
    for client in first + clients:
        client.writer.close()


def memory(options, setup, postgres):
    options.clients = options.clients or 10000
    for name in options.names:
        target = Doorman(setup, postgres, options)
        target.start()
        try:
            asyncio.run(fill(options, target, name))
        finally:
            target.stop()


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("what", choices=["throughput", "memory"])
    add("--clients", type=int, help="throughput: 40; memory: 10000")
    add("--statements", type=int, default=100)
    add("--text", type=int, default=200, help="bytes that each text is longer (200)")
    add("--names", nargs="+", choices=list(NAMES), default=["short", "long"])
    add("--rounds", type=int, default=3)
    add("--seconds", type=int, default=2)
    add("--engine", choices=["io_uring", "epoll"], default="io_uring")
    add("--pgbouncer", default="/usr/sbin/pgbouncer")
    add("--doorman", default=os.path.join(targets.ROOT, "build", "pg_doorman"))
    options = parser.parse_args(argv)
    targets.raise_descriptor_limit()
    with tempfile.TemporaryDirectory(prefix="doorman-bench-") as directory:
        setup = targets.Setup(directory, targets.find_pgbin(), False, None)
        postgres = targets.Postgres(setup, 300, 1)
        postgres.start()
        try:
            {"throughput": throughput, "memory": memory}[options.what](options, setup, postgres)
        finally:
            postgres.stop()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Failure as failure:
        sys.exit(str(failure))
