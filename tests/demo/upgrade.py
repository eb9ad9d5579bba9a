#!/usr/bin/env python3
"""Hot upgrades in a row, with live clients watching.

A private PostgreSQL, a pooler, and clients of several kinds: silent ones, long transactions, some
that query all the time, some that read an endless result, psql, and pgbench at full load. The
pooler is upgraded several times. The terminal shows sessions of each kind, the process that serves
each, and its longest stall; at the end come a report and a picture of latency over time.

    ninja demo-upgrade
    tests/demo/upgrade.py --upgrades 10 --picture docs/upgrade.png
    tests/demo/upgrade.py --clients 10000 --transactions 1000 --plain

Exit status: 0 when nobody was disconnected, nothing failed, PostgreSQL saw no new connection and
throughput was back within a second; 1 when not; 2 when it could not be tried; 130 when interrupted.
"""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "tests", "tools"))
from private_postgres import Failure, PrivatePostgres, find_program  # noqa: E402
from upgrade_pgbench import Pgbench, Throughput  # noqa: E402
from upgrade_pooler import HOST, Pooler, Upgrade, port_or_free_one, raise_open_files  # noqa: E402
from upgrade_probes import OUR_NAME, Probes  # noqa: E402
from upgrade_report import Report, have_matplotlib, picture  # noqa: E402
from upgrade_sessions import Psql, Sessions  # noqa: E402
from upgrade_view import Progress, View, terminal_can, watch  # noqa: E402

POOL_SPARE = 20       # server connections besides those that transactions and streams hold
FILES_SPARE = 1000
LOG_LINE = "connection authorized"
SETTLE_SECONDS = 2.2  # at the end, for what comes after the last upgrade to be seen


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--binary", default=os.path.join(TOP, "build", "pg_doorman"))
    add("--port", type=int, default=0, help="of the pooler; else any that is free")
    add("--clients", type=int, default=200, help="silent clients")
    add("--transactions", type=int, default=20, help="clients inside of a transaction")
    add("--probes", type=int, default=6, help="clients that query all the time")
    add("--streams", type=int, default=2, help="clients that read an endless result")
    add("--psql", type=int, default=1, help="psql processes")
    add("--pgbench", type=int, default=8, metavar="CLIENTS", help="0: none")
    add("--upgrades", type=int, default=5)
    add("--pause", type=float, default=2.0, help="seconds between upgrades")
    add("--picture", default=os.path.join(TOP, "build", "upgrade.png"), help="'': none")
    add("--plain", action="store_true", help="no live view, a line for each thing that happens")
    options = parser.parse_args()
    if options.probes < 1 or options.upgrades < 1:
        parser.error("at least one probe and one upgrade are needed")
    return options


class Scene:
    """Everything that takes part."""

    def __init__(self, options, server, folder):
        self.options = options
        self.server = server
        self.folder = folder
        self.progress = Progress()
        self.pooler = self.people = self.probes = self.pgbench = None
        self.upgrades = []
        self.events = []
        self.phase = "beginning"
        self.over = False
        self.began = self.ended = None
        self.backends_before = self.backends_kept = self.new_connections = 0

    def pool_size(self):
        return self.options.transactions + self.options.streams + POOL_SPARE

    def sessions(self):
        return (self.probes.all if self.probes else []) + (self.people.all if self.people else [])

    def invitation(self):
        return "psql -h %s -p %d -U joe app" % (HOST, self.pooler.port)

    def tell(self, text):
        self.events.append(text)
        self.progress.say(text)

    # ---- PostgreSQL's side

    def backends(self):
        """pid and start of each that serves the pooler."""
        return set(self.server.ask(
            "SELECT pid || ' ' || backend_start FROM pg_stat_activity WHERE client_port IS NOT "
            "NULL AND application_name <> '%s'" % OUR_NAME).splitlines())

    def logins(self):
        """How many connections PostgreSQL has let in so far, our own questions left out."""
        with open(os.path.join(self.server.folder, "postgres.log"), errors="replace") as file:
            return sum(1 for line in file if LOG_LINE in line and OUR_NAME not in line)

    # ---- the acts

    def start(self):
        options, say = self.options, self.progress.say
        say("starting a private PostgreSQL")
        self.server.start()
        self.server.environment["PGAPPNAME"] = OUR_NAME
        if options.pgbench:
            Pgbench.prepare(self.server)
        say("starting the pooler")
        self.pooler = Pooler(options.binary, self.server, self.folder, self.pool_size(),
                             options.port, max_connections=options.clients + 20000)
        self.pooler.await_start()

    async def invite(self):
        options, say = self.options, self.progress.say
        say("logging in: %d silent clients, %d in transactions, %d probes, %d streams, %d psql"
            % (options.clients, options.transactions, options.probes, options.streams,
               options.psql))
        self.probes = Probes(options.probes, self.pooler, self.server)
        people = self.people = Sessions(self.pooler.port)
        silent = await people.make(options.clients, "silent")
        busy = await people.make(options.transactions, "transaction", first=people.begin)
        streams = await people.make(options.streams, "stream", first=people.begin_stream)
        psql = await people.make(options.psql, "psql", maker=Psql)
        for work, group in ((people.stream, streams), (people.beat, busy), (people.talk, psql)):
            people.put_to_work(group, work)
        if options.pgbench:
            say("starting pgbench with %d clients" % options.pgbench)
            self.pgbench = Pgbench(self.folder, self.pooler.port, options.pgbench)
        say("waiting for all %d server connections" % self.pool_size())
        give_up = time.monotonic() + 60
        while len(self.backends()) < self.pool_size():
            if time.monotonic() > give_up:
                raise Failure("server connections do not come up:\n" + self.pooler.log()[-3000:])
            await asyncio.sleep(0.2)
        return self.probes.all[:2] + psql[:1] + streams[:2] + busy[:3] + silent[:2]

    async def upgrade(self, number):
        self.phase = "upgrade %d of %d is under way" % (number, self.options.upgrades)
        for session in self.sessions():
            session.forget_recent()
        upgrade = Upgrade(self.pooler, self.pooler.newest())
        while not upgrade.over():
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.1)  # for the log of the new process
        upgrade.log_end = os.path.getsize(self.pooler.log_path)
        self.upgrades.append(upgrade)
        row = upgrade.figures()
        self.tell("upgrade %d: %d clients, %d server connections moved; frozen %.1f ms" % (
            number, row["clients"], row["servers"], row["frozen_ms"]))

    async def perform(self):
        shown = await self.invite()
        await asyncio.sleep(1)
        for session in self.sessions():
            session.forget_stall()
        before, logins = self.backends(), self.logins()
        self.began = time.time()
        painting = None
        if not self.options.plain and terminal_can():
            self.progress.silent = True
            painting = asyncio.create_task(watch(View(self, shown)))
        for number in range(1, self.options.upgrades + 1):
            self.phase = "%d of %d upgrades done, the next one comes in a moment" % (
                number - 1, self.options.upgrades)
            await asyncio.sleep(self.options.pause)
            await self.upgrade(number)
        self.phase = "all %d upgrades done" % self.options.upgrades
        await asyncio.sleep(SETTLE_SECONDS)
        self.ended = time.time()
        self.new_connections = self.logins() - logins
        self.backends_before, self.backends_kept = len(before), len(before & self.backends())
        self.over = True
        if painting is not None:
            await painting
        self.progress.silent = False

    async def run(self):
        # What ends us ends the coroutines first, and what they have started with them.
        loop, me = asyncio.get_running_loop(), asyncio.current_task()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, me.cancel)
        try:
            await self.perform()
            self.progress.say("asking everybody whether all is as it was")
            self.probes.finish()
            if self.pgbench is not None:
                self.pgbench.finish()
            await self.people.finish()
        finally:
            self.over = True
            if self.people is not None:
                await self.people.end()

    def end(self):
        if self.pgbench is not None:
            self.pgbench.kill()
        if self.probes is not None:
            self.probes.kill()
        if self.pooler is not None:
            self.pooler.end()


def prepare(options):
    """Says early what is missing."""
    for name in ("initdb", "postgres", "psql") + (("pgbench",) if options.pgbench else ()):
        find_program(name)
    if not os.access(options.binary, os.X_OK):
        raise Failure("%s is not there: build it first, with ninja" % options.binary)
    port_or_free_one(options.port)
    if options.picture and not have_matplotlib():
        print("there will be no picture: %s has no matplotlib. Debian: apt-get install "
              "python3-matplotlib, then /usr/bin/python3" % sys.executable)
        options.picture = ""
    limit = raise_open_files(options.clients + 3 * options.transactions + FILES_SPARE)
    room = limit - 3 * options.transactions - FILES_SPARE
    if options.clients > room:
        raise Failure("%d silent clients need more than the %d open files that a process may have "
                      "here (ulimit -Hn): at most --clients %d" % (
                          options.clients, limit, max(0, room)))


def conclude(scene, options):
    """The report and the picture. True: all is well."""
    throughput = Throughput(scene.pgbench.ends(), scene.upgrades) if scene.pgbench else None
    report = Report(scene, throughput)
    print("\n".join(report.lines()), flush=True)
    if options.picture:
        picture(report, options.picture)
        print("picture: " + os.path.relpath(options.picture))
    return report.good()


def demo(options):
    prepare(options)
    server = PrivatePostgres(max_connections=options.transactions + options.streams + 100,
                             log_connections="on")
    try:
        with tempfile.TemporaryDirectory(prefix="pg_doorman-upgrade-") as folder:
            scene = Scene(options, server, folder)
            try:
                scene.start()
                asyncio.run(scene.run())
                catch_signals()  # whose handlers go with the loop
                good = conclude(scene, options)
            finally:
                # From here on to the end, whoever presses the keys again.
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    signal.signal(number, signal.SIG_IGN)
                scene.end()
    finally:
        server.stop()
    return 0 if good else 1


def interrupt(*_):
    raise KeyboardInterrupt


def catch_signals():
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)


def main():
    options = parse_options()
    catch_signals()
    try:
        return demo(options)
    except (Failure, OSError) as failure:
        print("the demo cannot go on: %s" % failure, file=sys.stderr)
        return 2
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("interrupted; everything that was started has been ended", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
