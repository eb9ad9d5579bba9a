#!/usr/bin/env python3
"""Does everybody wait about as long? Latencies of pgbench clients that share few backends.

    tests/bench/fairness.py [--rounds N] [--seconds N] [--engine io_uring|epoll] [--case WORDS]

Cases: 200 clients on 4 backends, with transactions of one statement and of four; three users with
60 clients each under one cap; a connection per transaction. The server holds each backend for a
few milliseconds (pg_sleep), so that what is measured is the queue and not the machine. Prints
p50, p99 and maximum, and their ratios; fair is p99/p50 <= 1.05 and max/p50 <= 1.2, and, between
users, p50 of the slowest / p50 of the quickest <= 1.1. The second pair of ratios compares each
transaction with the median of those that ended within the same tenth of a second: on a machine
that is busy with other things the first pair tells how its speed changes, the second how fair the
pooler is. The first seconds, in which pools grow and clients log in, are left out. With several
rounds a line with the medians of their ratios follows. Where connections come and go, each client
of pgbench has a thread of its own: PQconnectdb() blocks, and clients that share a thread would wait
for each other's logins.
"""

import argparse
import glob
import os
import statistics
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "integration"))

from pooler import Doorman, configuration, pool  # noqa: E402
from postgres import Postgres, binary, free_port  # noqa: E402

SETTLE_SECONDS = 2
ONE = "SELECT pg_sleep(0.004);\n"
FOUR = "BEGIN;\nSELECT 1;\nSELECT pg_sleep(0.004);\nSELECT 2;\nCOMMIT;\n"
# Name, users, clients of each, pool_size, max_db_connections, script, connection per transaction.
CASES = (
    ("200 clients on 4 backends", 1, 200, 4, 0, ONE, False),
    ("the same, four statements", 1, 200, 4, 0, FOUR, False),
    ("three users, cap of 6", 3, 60, 6, 6, ONE, False),
    ("three users, cap of 6, four statements", 3, 60, 6, 6, FOUR, False),
    ("200 clients on 4 backends, pgbench -C", 1, 200, 4, 0, ONE, True),
)


class Load:
    """pgbench in the background; latencies() when it has ended."""

    def __init__(self, directory, port, user, clients, script, reconnect, seconds):
        self.prefix = os.path.join(directory, "log-" + user)
        path = os.path.join(directory, "script-" + user)
        with open(path, "w", encoding="ascii") as f:
            f.write(script)
        argv = [binary("pgbench"), "-n", "-f", path, "-c", str(clients), "-j", str(clients if reconnect else 1),
                "-T", str(seconds + SETTLE_SECONDS), "-h", "127.0.0.1", "-p", str(port),
                "-U", user, "--log", "--log-prefix=" + self.prefix]
        if reconnect:
            argv.append("-C")
        self.process = subprocess.Popen(argv + ["app"], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                        cwd=directory)

    def latencies(self):
        """Of each transaction when it ended, in seconds, and the milliseconds it took."""
        errors = self.process.communicate()[1].decode()
        if self.process.returncode != 0 or "failed" in errors:
            sys.exit("pgbench: " + errors.strip())
        done = []
        for path in glob.glob(self.prefix + ".*"):
            with open(path, encoding="ascii") as f:
                for line in f:
                    words = line.split()
                    done.append((int(words[4]) + int(words[5]) / 1e6, int(words[2]) / 1000))
            os.unlink(path)
        first = min(at for at, _ in done) + SETTLE_SECONDS
        last = max(at for at, _ in done) - 0.2  # those that end have no company any more
        return [(at, ms) for at, ms in done if first < at < last]


def at(values, fraction):
    """The quantile of sorted values."""
    return values[min(len(values) - 1, int(len(values) * fraction))]


def run_case(postgres, engine, case, seconds):
    name, count, clients, size, cap, script, reconnect = case
    users = [{"username": "user%d" % i, "password": "", "pool_size": size,
              "server_username": "trust_user"} for i in range(count)]
    settings = {"max_db_connections": cap, "min_connection_lifetime": 200} if cap else {}
    with tempfile.TemporaryDirectory(prefix="fairness-") as directory:
        port = free_port()
        config = configuration(port, {"app": pool(postgres, users, **settings)},
                               query_wait_timeout="30s")
        pooler = Doorman(directory, port, config, {"PG_DOORMAN_IO": engine} if engine else None)
        pooler.start()
        try:
            loads = [Load(directory, port, user["username"], clients, script, reconnect, seconds)
                     for user in users]
            return report(name, [load.latencies() for load in loads])
        finally:
            pooler.finish()


def beside_neighbours(done):
    """Each one's time against the median of those that ended with it; sorted."""
    windows = {}
    for when, ms in done:
        windows.setdefault(int(when * 10), []).append(ms)
    ratios = []
    for values in windows.values():
        values.sort()
        ratios += [ms / at(values, 0.5) for ms in values]
    return sorted(ratios)


def report(name, each):
    """Prints a round; returns its ratios."""
    together = sorted(ms for done in each for _, ms in done)
    beside = sorted(ratio for done in each for ratio in beside_neighbours(done))
    p50, p99, most = at(together, 0.5), at(together, 0.99), together[-1]
    ratios = [p99 / p50, most / p50, at(beside, 0.99), beside[-1]]
    if len(each) > 1:
        medians = sorted(at(sorted(ms for _, ms in done), 0.5) for done in each)
        ratios.append(medians[-1] / medians[0])
    print("%-40s %7d %8.1f %8.1f %8.1f   %s"
          % (name, len(together), p50, p99, most, in_columns(ratios)), flush=True)
    return ratios


def in_columns(ratios):
    text = "%5.2f %5.2f   %5.2f %5.2f" % tuple(ratios[:4])
    return text + "".join("   users %.2f" % ratio for ratio in ratios[4:])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--engine", choices=["io_uring", "epoll"])
    parser.add_argument("--case", default="", help="only those whose name contains this")
    options = parser.parse_args()
    postgres = Postgres()
    try:
        postgres.create()
        print("%-40s %7s %8s %8s %8s   %5s %5s   %5s %5s"
              % ("", "done", "p50 ms", "p99 ms", "max ms", "p99", "max", "p99", "max"))
        for case in CASES:
            if options.case not in case[0]:
                continue
            rounds = [run_case(postgres, options.engine, case, int(options.seconds))
                      for _ in range(options.rounds)]
            if options.rounds > 1:
                print("%-75s   %s" % ("  median of %d rounds" % options.rounds, in_columns(
                    [statistics.median(column) for column in zip(*rounds)])))
    finally:
        postgres.remove()


if __name__ == "__main__":
    main()
