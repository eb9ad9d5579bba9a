#!/usr/bin/python3
"""What the clean-up of sessions costs those who leave nothing behind.

    tests/bench/cleanup.py [--rounds N] [--seconds N] [--clients N] [--engine io_uring|epoll]

pgbench -S through two poolers side by side, one with `cleanup_server_connections` on and one with
it off (and, with --verify, a third with `cleanup_check: verify`). They take turns, in changing
order, so that a busy machine disturbs both alike; the ratio is that of the medians, and the CPU
time per transaction tells more than the throughput where processors are shared.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile

import measure
import targets


class Cleaning(targets.Doorman):
    """A pooler whose transaction pool has one more line of configuration."""

    def __init__(self, name, line, setup, postgres, options):
        super().__init__(name, setup, postgres, options.doorman, options.engine, 1)
        self.line = line

    def pool(self, name, mode):
        return super().pool(name, mode).replace(
            "    pool_mode:", f"    {self.line}\n    pool_mode:")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6, help="runs of each kind (6)")
    parser.add_argument("--seconds", type=int, default=3, help="measured seconds of a run (3)")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--engine", choices=["io_uring", "epoll"], default="io_uring")
    parser.add_argument("--protocols", default="simple,extended,prepared")
    parser.add_argument("--verify", action="store_true", help="measure cleanup_check: verify too")
    parser.add_argument("--doorman", default=os.path.join(targets.ROOT, "build", "pg_doorman"))
    options = parser.parse_args()
    lines = {"off": "cleanup_server_connections: false", "on": "cleanup_server_connections: true"}
    if options.verify:
        lines["verify"] = "cleanup_check: verify"
    directory = tempfile.mkdtemp(prefix="cleanup-")
    targets.give_away(directory)
    setup = targets.Setup(directory, targets.find_pgbin(), False, None)
    postgres = targets.Postgres(setup, 250, 1)
    kinds = {}
    try:
        postgres.start()
        for name, line in lines.items():
            kinds[name] = Cleaning(name, line, setup, postgres, options)
            kinds[name].start()
        print(f"{options.clients} clients, {options.engine}, 1 worker, {options.rounds} rounds of "
              f"{options.seconds} s, {os.cpu_count()} processors; medians")
        print(f"{'protocol':<10} {'clean-up':<8} {'tps':>9} {'ratio':>6} {'CPU µs':>7} {'ratio':>6}")
        for protocol in options.protocols.split(","):
            figures = measure.rounds_of(kinds, protocol, options)
            tps, cpu = ({name: [run[what] for run in runs] for name, runs in figures.items()}
                        for what in ("tps", "cpu_us"))
            base = statistics.median(tps["off"]), statistics.median(cpu["off"])
            for name in kinds:
                mine = statistics.median(tps[name]), statistics.median(cpu[name])
                print(f"{protocol:<10} {name:<8} {mine[0]:>9.0f} {mine[0] / base[0]:>6.3f} "
                      f"{mine[1]:>7.2f} {mine[1] / base[1]:>6.3f}", flush=True)
    finally:
        for target in kinds.values():
            target.stop()
        postgres.stop()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
