#!/usr/bin/python3
"""What the statistics cost: counters and histograms of pools, per transaction.

    ./configure.py && ninja && ./configure.py --uncounted && ninja -f build/uncounted/build.ninja
    tests/bench/counting.py [--rounds N] [--seconds N] [--clients N] [--engine io_uring|epoll]
    tests/bench/counting.py --instructions

pgbench -S through two poolers side by side, one as it is and one that was built without statistics.
They take turns, in changing order, so that a busy machine disturbs both alike. Each round gives a
ratio of CPU time per transaction; their median is the figure, wanted: at most 1.02. With
--instructions valgrind counts what both execute in user space, which does not depend on the
machine's load; one run of each, many times slower.
"""

import argparse
import os
import re
import shutil
import statistics
import sys
import tempfile

import measure
import targets

PROTOCOLS = "simple,extended,prepared"


class Counting(targets.Doorman):
    """Under valgrind, when a file for its counts is given."""

    counts = None

    def command(self):
        argv = super().command()
        if self.counts is None:
            return argv
        return ["valgrind", "--tool=callgrind", "--callgrind-out-file=" + self.counts,
                "--collect-atstart=yes"] + argv


def compare(setup, postgres, binaries, options):
    kinds = {name: Counting(name, setup, postgres, binary, options.engine, 1)
             for name, binary in binaries.items()}
    try:
        for target in kinds.values():
            target.start()
        print(f"{options.clients} clients, {options.engine}, 1 worker, {options.rounds} rounds of "
              f"{options.seconds} s, {os.cpu_count()} processors; medians")
        print(f"{'protocol':<10} {'without':>8} {'with':>8} {'ratio':>7} {'least':>7} {'most':>7}")
        for protocol in options.protocols.split(","):
            cpu = {name: [run["cpu_us"] for run in runs] for name, runs in
                   measure.rounds_of(kinds, protocol, options).items()}
            ratios = sorted(a / b for a, b in zip(cpu["with"], cpu["without"]))
            print(f"{protocol:<10} {statistics.median(cpu['without']):>8.2f} "
                  f"{statistics.median(cpu['with']):>8.2f} {statistics.median(ratios):>7.3f} "
                  f"{ratios[0]:>7.3f} {ratios[-1]:>7.3f}", flush=True)
    finally:
        for target in kinds.values():
            target.stop()


def instructions(setup, postgres, binary, protocol, options):
    """Per transaction: the difference between a short run and a longer one."""
    found = []
    for seconds in (options.seconds, options.seconds * 3):
        target = Counting("counting", setup, postgres, binary, options.engine, 1)
        target.counts = setup.path("callgrind.out")
        target.start()
        try:
            load = measure.Pgbench(target, protocol, options.clients, seconds)
            load.wait()
        finally:
            target.stop()
        with open(target.counts, encoding="utf-8") as file:
            total = int(re.search(r"^(?:totals|summary): (\d+)", file.read(), re.M).group(1))
        found.append((total, len(load.done)))
    (total, done), (more_total, more_done) = found
    return (more_total - total) / (more_done - done)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="runs of each kind (15)")
    parser.add_argument("--seconds", type=int, default=3, help="measured seconds of a run (3)")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--engine", choices=["io_uring", "epoll"], default="io_uring")
    parser.add_argument("--protocols", default=PROTOCOLS)
    parser.add_argument("--instructions", action="store_true", help="count with valgrind instead")
    build = os.path.join(targets.ROOT, "build")
    parser.add_argument("--doorman", default=os.path.join(build, "pg_doorman"))
    parser.add_argument("--uncounted", default=os.path.join(build, "uncounted", "pg_doorman"))
    options = parser.parse_args()
    binaries = {"without": options.uncounted, "with": options.doorman}
    directory = tempfile.mkdtemp(prefix="counting-")
    targets.give_away(directory)
    setup = targets.Setup(directory, targets.find_pgbin(), False, None)
    postgres = targets.Postgres(setup, 250, 1)
    try:
        postgres.start()
        if not options.instructions:
            compare(setup, postgres, binaries, options)
            return
        print(f"{options.clients} clients, {options.engine}: instructions per transaction")
        for protocol in options.protocols.split(","):
            counted = {name: instructions(setup, postgres, binary, protocol, options)
                       for name, binary in binaries.items()}
            print(f"{protocol:<10} without {counted['without']:.0f}, with {counted['with']:.0f}, "
                  f"ratio {counted['with'] / counted['without']:.4f}", flush=True)
    finally:
        postgres.stop()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
