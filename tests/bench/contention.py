#!/usr/bin/python3
"""What many workers cost on one hot pool: the counters of SHOW WORKERS per transaction.

    tests/bench/contention.py [--workers 1,2,4,8] [--engine io_uring|epoll] [--seconds N]

One database, one user, few backends and many clients, so that every worker wants the same pool.
Claims won are actors run inline; claims lost went through a mailbox instead; wakes are system
calls that woke another worker; steals are actors taken from another worker's queue. Counters do
not depend on how fast the machine is. With more workers than processors they still tell how often
workers meet, not how much that delays them.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile

import measure
import targets

COUNTERS = ["claims_won", "claims_lost", "wakes_sent", "steals", "messages", "submissions", "waits"]
CLIENTS = 64


def counters_of(target):
    """The sum over all workers, by name."""
    argv = ["psql", "-h", target.host(), "-p", str(target.port), "-U", "admin", "-XAt", "-F", ",",
            "-P", "tuples_only=off", "-P", "footer=off", "-c", "SHOW WORKERS", "pgdoorman"]
    out = subprocess.run(argv, env={**os.environ, "PGPASSWORD": "bench-admin"}, check=True,
                         capture_output=True, text=True).stdout
    head, *rows = [line.split(",") for line in out.splitlines() if line]
    return {name: sum(int(row[head.index(name)]) for row in rows) for name in COUNTERS}


def run_one(setup, postgres, options, workers):
    target = targets.Doorman(f"doorman-{workers}", setup, postgres, options.doorman,
                             options.engine, workers)
    target.start()
    try:
        # Backends open and clients log in before the first reading.
        measure.Pgbench(target, "simple", CLIENTS, 1).wait()
        before = counters_of(target)
        load = measure.Pgbench(target, "simple", CLIENTS, options.seconds)
        load.wait()
        after = counters_of(target)
        return len(load.done), {name: after[name] - before[name] for name in COUNTERS}
    finally:
        target.stop()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", default="1,2,4,8", help="numbers of workers (1,2,4,8)")
    parser.add_argument("--engine", choices=["io_uring", "epoll"], default="io_uring")
    parser.add_argument("--seconds", type=int, default=4, help="measured seconds of a run (4)")
    parser.add_argument("--backends", type=int, default=8, help="size of the pool (8)")
    parser.add_argument("--doorman", default=os.path.join(targets.ROOT, "build", "pg_doorman"))
    options = parser.parse_args()
    targets.POOL_SIZE = options.backends
    directory = tempfile.mkdtemp(prefix="contention-")
    targets.give_away(directory)
    setup = targets.Setup(directory, targets.find_pgbin(), False, None)
    postgres = targets.Postgres(setup, 200, 1)
    try:
        postgres.start()
        print(f"{CLIENTS} clients on {options.backends} backends, {options.engine}, "
              f"{os.cpu_count()} processors; counts per transaction")
        print(f"{'workers':>7} {'transactions':>12} " + " ".join(f"{n:>11}" for n in COUNTERS))
        for workers in [int(word) for word in options.workers.split(",")]:
            total, counts = run_one(setup, postgres, options, workers)
            if total == 0:
                sys.exit(f"no transaction with {workers} workers")
            print(f"{workers:>7} {total:>12} " +
                  " ".join(f"{counts[n] / total:>11.3f}" for n in COUNTERS), flush=True)
    finally:
        postgres.stop()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
