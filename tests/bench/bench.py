#!/usr/bin/python3
"""Measures PgDoorman beside PgBouncer and a bare forwarder, in one run, rounds interleaved.

Examples:
  bench.py                          everything, about ten minutes
  bench.py --quick                  under three minutes
  bench.py --record                 also writes docs/benchmarks.md and docs/bench.png
  bench.py --parts loops --protocols simple --clients 40 --targets pgbouncer,doorman
  bench.py --allocations            heap calls per transaction
  bench.py --profile doorman --protocols extended --clients 40
"""

import argparse
import importlib.util
import json
import os
import shutil
import signal
import sys
import tempfile
import time

import measure
import report
import targets
from targets import ROOT, Failure

SESSION_CLIENTS_MAX = targets.POOL_SIZE
DOORMAN_TARGETS = {  # name: engine, one worker or all cores
    "doorman": ("io_uring", False),
    "doorman-epoll": ("epoll", False),
    "doorman-all": ("io_uring", True),
    "doorman-epoll-all": ("epoll", True),
}
TARGETS = ["pgbouncer", "forwarder"] + list(DOORMAN_TARGETS)
PARTS = ["loops", "connect", "memory"]
PROTOCOLS = ["simple", "extended", "prepared"]


def words(allowed):
    def parse(text):
        found = [w for w in text.split(",") if w]
        for w in found:
            if w not in allowed:
                raise argparse.ArgumentTypeError(f"{w!r} is not one of {', '.join(allowed)}")
        return found
    return parse


def numbers(text):
    return [int(w) for w in text.split(",") if w]


def cpu_sets(text):
    sets = text.split(":")
    if len(sets) != 2 or not all(sets):
        raise argparse.ArgumentTypeError("want POOLER_CPUS:OTHER_CPUS, for example 0:1-3")
    return sets


def parse_arguments(argv):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--quick", action="store_true", help="fewer and shorter rounds, 1,000 idle clients")
    add("--rounds", type=int, help="rounds of each case (3; quick: 2)")
    add("--seconds", type=int, help="measured seconds of a run (2; quick: 1)")
    add("--parts", type=words(PARTS), default=PARTS, help=",".join(PARTS))
    add("--protocols", type=words(PROTOCOLS), default=PROTOCOLS, help=",".join(PROTOCOLS))
    add("--clients", type=numbers, help="client counts (8,40,200)")
    add("--idle", type=numbers, help="counts of idle clients (1000,5000,10000; quick: 1000)")
    add("--targets", type=words(TARGETS), help="(all but doorman-epoll-all) of " +
        ",".join(TARGETS))
    add("--unix", action="store_true", help="Unix sockets instead of TCP, on both sides")
    add("--pin", type=cpu_sets, metavar="POOLER:OTHERS",
        help="CPUs of the poolers, and of PostgreSQL and pgbench, as taskset takes them")
    add("--scale", type=int, default=10, help="pgbench scale (10)")
    add("--record", action="store_true", help="write docs/benchmarks.md and docs/bench.png")
    add("--picture", metavar="FILE", help="write the picture here")
    add("--markdown", action="store_true", help="print the tables as Markdown too")
    add("--json", metavar="FILE", help="write every run's figures here")
    add("--allocations", action="store_true",
        help="only count heap calls per transaction (with --record: in addition)")
    add("--profile", choices=TARGETS, metavar="TARGET", help="only run perf on this target")
    add("--pgbin", help="directory of PostgreSQL's programs")
    add("--pgbouncer", default="/usr/sbin/pgbouncer", help="PgBouncer's program")
    add("--doorman", default=os.path.join(ROOT, "build", "pg_doorman"), help="PgDoorman's")
    add("--keep", action="store_true", help="keep the directory with logs and configurations")
    options = parser.parse_args(argv)
    if (options.record or options.picture) and importlib.util.find_spec("matplotlib") is None:
        parser.error(f"{sys.executable} has no matplotlib for the picture; /usr/bin/python3 has, "
                     "with python3-matplotlib")
    quick = options.quick
    options.rounds = options.rounds or (2 if quick else 3)
    options.seconds = options.seconds or (1 if quick else 2)
    options.idle = sorted(options.idle or ([1000] if quick else [1000, 5000, 10000]))
    if options.targets is None:
        options.targets = [t for t in TARGETS if t != "doorman-epoll-all"]
        if os.cpu_count() == 1:
            options.targets.remove("doorman-all")
    return options


def say(text):
    print(text, file=sys.stderr, flush=True)


class Bench:
    """One run of the whole: what is set up, what was found, what went wrong."""

    def __init__(self, options, directory):
        self.options = options
        self.targets = {}
        self.skipped = []
        self.errors = []
        self.started = time.time()
        self.load_before = os.getloadavg()[0]
        self.descriptors = targets.raise_descriptor_limit()
        pgbin = options.pgbin or targets.find_pgbin()
        self.setup = targets.Setup(directory, pgbin, options.unix, options.pin)
        clients = max(options.clients or [200])
        backends = clients + len(options.targets) * 2 * targets.POOL_SIZE + 20
        self.postgres = targets.Postgres(self.setup, max(300, backends), options.scale)

    def note_error(self, text):
        self.errors.append(text)
        say("  ERROR: " + text)

    def make_target(self, name):
        if name == "pgbouncer":
            return targets.PgBouncer(self.setup, self.postgres, self.options.pgbouncer)
        if name == "forwarder":
            return targets.Forwarder(self.setup, self.postgres)
        engine, all_cores = DOORMAN_TARGETS[name]
        return targets.Doorman(name, self.setup, self.postgres, self.options.doorman, engine,
                               (os.cpu_count() or 1) if all_cores else 1)

    def start(self):
        say("starting PostgreSQL …")
        self.postgres.start()
        for name in self.options.targets:
            try:
                target = self.make_target(name)
                target.start()
                self.targets[name] = target
            except Failure as e:
                self.skipped.append(f"{name}: {e}")
                say(f"  NOT MEASURED: {name}: {e}")

    def stop(self):
        for target in self.targets.values():
            target.stop()
        self.postgres.stop()

    def poolers(self):
        return {n: t for n, t in self.targets.items() if t.is_pooler}

    def run_once(self, target, what, protocol, clients, **more):
        if not target.alive():
            try:
                target.start()
            except Failure as e:
                self.note_error(f"{what}: restart: {e}")
                return None
        figures = measure.Pgbench(target, protocol, clients, self.options.seconds,
                                  **more).wait()
        for e in figures["errors"]:
            self.note_error(f"{what}: {e}")
        say(f"  {what}: {report.show(figures['tps'])} tps, "
            f"{report.show(figures['cpu_us'], 1)} µs CPU, "
            f"p99 {report.show(figures['p99_ms'], 2)} ms")
        return figures

    def interleave(self, case, names, protocol, clients, **more):
        """{target: [figures of round 1, …]}, each round beginning with another target."""
        found = {name: [] for name in names}
        for i in range(self.options.rounds):
            turn = i % len(names)
            for name in names[turn:] + names[:turn]:
                what = f"{case}, {clients} clients, {name}, round {i + 1}"
                found[name].append(self.run_once(self.targets[name], what, protocol, clients,
                                                 **more))
        return found

    def loop_cases(self):
        """(case, protocol, clients, session mode, targets)."""
        everyone = list(self.targets)
        doormen = [n for n in everyone if n in DOORMAN_TARGETS]
        quick = self.options.quick and not self.options.clients
        counts = self.options.clients or [8, 40, 200]
        for protocol in self.options.protocols:
            if protocol != "prepared":
                for n in counts if not quick else [8, 40] if protocol == "simple" else [40]:
                    yield protocol, protocol, n, False, everyone
                continue
            for n in counts if not quick else [40]:
                if n <= SESSION_CLIENTS_MAX:
                    yield "prepared-session", protocol, n, True, everyone
            for n in counts if not quick else [40]:
                if doormen:
                    yield "prepared", protocol, n, False, doormen

    def warm_up(self):
        """The first touch of every backend, cache and page is in nobody's figures."""
        for name, target in self.targets.items():
            figures = measure.Pgbench(target, "simple", targets.POOL_SIZE, 1).wait()
            for e in figures["errors"]:
                self.note_error(f"warm-up, {name}: {e}")

    def loops(self):
        self.warm_up()
        return {(case, clients): self.interleave(case, names, protocol, clients, session=session)
                for case, protocol, clients, session, names in self.loop_cases() if names}

    def connect(self):
        names = list(self.targets)
        return {("connect", 8): self.interleave("connect", names, "simple", 8, reconnect=True)}

    def memory(self):
        room = self.descriptors - 600
        counts = sorted({min(n, room) for n in self.options.idle})
        if counts != self.options.idle:
            say(f"  {self.descriptors} descriptors allow {room} idle clients")
        found = {}
        for target in self.targets.values():
            target.stop()
        for name, target in self.poolers().items():
            try:
                target.start()
                base, points = measure.memory_of_idle(target, counts)
                found[name] = {"base": base, "points": points}
                say(f"  memory, {name}: " +
                    ", ".join(f"{n}: {each:,.0f} bytes" for n, each in points))
            except (Failure, OSError) as e:
                self.note_error(f"memory, {name}: {e}: {targets.tail(target.log, 3)}")
            finally:
                target.stop()
        return found

    def heap(self):
        found = []
        counter = measure.HeapCounter(self.setup)
        counts = self.options.clients or [40]
        for name, target in self.poolers().items():
            target.stop()
            counter.reset()
            target.extra_env.update(counter.environment())
            try:
                target.start()
                for protocol in self.options.protocols:
                    for clients in counts:
                        found += self.heap_case(counter, name, protocol, clients)
            except (Failure, OSError) as e:
                self.note_error(f"heap calls, {name}: {e}")
            finally:
                target.stop()
                for key in counter.environment():
                    del target.extra_env[key]
        return found

    def heap_case(self, counter, name, protocol, clients):
        session = protocol == "prepared" and name == "pgbouncer"
        if session and clients > SESSION_CLIENTS_MAX:
            return []
        case = "prepared-session" if session else protocol
        row = measure.heap_calls(self.targets[name], counter, protocol, clients,
                                 self.options.seconds, session)
        for e in row["errors"]:
            self.note_error(f"heap calls, {case}, {name}: {e}")
        say(f"  heap calls, {case}, {clients} clients, {name}: {row['calls']:,} in "
            f"{row['transactions']:,} transactions")
        return [{"case": case, "target": name, "clients": clients, **row}]

    def about(self):
        """What the figures depend on, for the reader of the page."""
        rows = report.machine() + [("PostgreSQL", f"{self.postgres.version()}, scale "
                                    f"{self.options.scale}")]
        seen = set()
        for target in self.targets.values():
            kind = "PgDoorman" if target.name in DOORMAN_TARGETS else target.label
            if kind not in seen:
                rows.append((kind, target.version()))
            seen.add(kind)
        rows += [("Sockets", "Unix" if self.options.unix else "TCP, 127.0.0.1"),
                 ("Pinning", f"poolers on CPU {self.options.pin[0]}, the rest on "
                             f"{self.options.pin[1]}" if self.options.pin else "none"),
                 ("Rounds", f"{self.options.rounds} of {self.options.seconds} s"),
                 ("Load before the run", f"{self.load_before:.2f}")]
        return rows

    def results(self):
        found = {"started": self.started, "skipped": self.skipped, "errors": self.errors,
                 "labels": {n: t.label for n, t in self.targets.items()},
                 "arguments": " ".join(sys.argv[1:]), "about": self.about()}
        parts = list(self.options.parts)
        if self.options.allocations:
            parts = parts + ["heap"] if self.options.record else ["heap"]
        # Memory stops the poolers; what needs all of them together comes first.
        for part in ["loops", "connect", "memory", "heap"]:
            if part in parts:
                say(f"{part} …")
                found[part] = getattr(self, part)()
        return found


def emit(options, results):
    for table in report.tables(results):
        print(table.markdown() if options.markdown else table.text())
    for line in report.heap_places(results):
        print("  " + line)
    for line in results["skipped"]:
        print(f"NOT MEASURED: {line}")
    print("Errors:\n" + report.errors_text(results))
    print(f"The run took {(time.time() - results['started']) / 60:.1f} minutes.")
    if options.json:
        plain = {k: {f"{c}/{n}": v for (c, n), v in r.items()} if k in ("loops", "connect") else r
                 for k, r in results.items()}
        with open(options.json, "w", encoding="utf-8") as f:
            json.dump(plain, f, indent=1)
    if options.picture:
        report.picture(results, options.picture)
    if options.record:
        docs = os.path.join(ROOT, "docs")
        report.picture(results, os.path.join(docs, "bench.png"))
        with open(os.path.join(docs, "benchmarks.md"), "w", encoding="utf-8") as f:
            f.write(report.page(results, "bench.png"))


def run_profile(bench, options):
    target = bench.targets.get(options.profile)
    if target is None:
        raise Failure(f"{options.profile} cannot be profiled: it did not start")
    protocol = options.protocols[0]
    clients = (options.clients or [40])[0]
    session = protocol == "prepared" and options.profile not in DOORMAN_TARGETS
    figures, lines = measure.profile(target, protocol, clients, max(options.seconds, 3), session)
    print(f"{target.label}, {protocol}, {clients} clients: {report.show(figures['tps'])} tps, "
          f"{report.show(figures['cpu_us'], 1)} µs CPU per transaction (with perf)")
    print("\n".join(lines[:70]))
    for e in figures["errors"]:
        print("ERROR: " + e)


def on_terminate(_signal, _frame):
    sys.exit(143)


def main():
    options = parse_arguments(sys.argv[1:])
    if options.profile:
        options.targets = [options.profile]
    signal.signal(signal.SIGTERM, on_terminate)
    directory = tempfile.mkdtemp(prefix="pooler-bench-")
    bench = None
    try:
        bench = Bench(options, directory)
        bench.start()
        if not bench.targets:
            raise Failure("nothing to measure")
        if options.profile:
            run_profile(bench, options)
            return 0
        results = bench.results()
        emit(options, results)
        return 1 if results["errors"] else 0
    except Failure as e:
        say(f"bench: {e}")
        return 2
    finally:
        if bench is not None:
            bench.stop()
        if options.keep:
            say(f"logs and configurations: {directory}")
        else:
            shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
