#!/usr/bin/env python3
"""Does the simulation notice mistakes? Makes them one by one, in a copy of the tree, and runs it.

A mutant is a file in tests/simulation/mutants: what it gets wrong, how many seeds may pass before
it is caught (or, of runs with upgrades), a source, and a piece of it before and after. The piece must occur exactly once: a
mutant that no longer applies is a failure, since nobody would notice otherwise that it tests
nothing. `--check` looks at that alone and takes no time.
"""

import argparse
import glob
import os
import re
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MUTANTS = os.path.join(ROOT, "tests", "simulation", "mutants")
FORM = re.compile(r"(?P<what>[^\n]+)\n(?P<kind>seeds|upgrades) (?P<seeds>\d+)\nfile (?P<file>\S+)\n"
                  r"--- was\n(?P<was>.+?)--- is\n(?P<now>.*?)--- end\n", re.DOTALL)
# What the copy needs to build the simulation; the rest only costs time.
PARTS = ["runtime", "proto", "auth", "config", "actors", "web", "tests/simulation", "configure.py"]


class Mutant:
    def __init__(self, path):
        with open(path) as file:
            form = FORM.fullmatch(file.read())
        if form is None:
            sys.exit("%s: not of the form that mutate.py reads" % path)
        self.name = os.path.splitext(os.path.basename(path))[0]
        self.what = form["what"]
        self.seeds = int(form["seeds"])
        self.upgrades = form["kind"] == "upgrades"
        self.file = form["file"]
        # A piece of a line ends where it ends; whole lines keep their ends.
        self.was, self.now = form["was"], form["now"]

    def applied(self, text):
        """The text with the mistake; None when the piece is not there exactly once."""
        for was, now in ((self.was, self.now), (self.was.rstrip("\n"), self.now.rstrip("\n"))):
            if text.count(was) == 1:
                return text.replace(was, now)
        return None


def read(path):
    try:
        with open(path) as file:
            return file.read()
    except FileNotFoundError:
        return ""


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


def copy_tree(tree):
    """Only what differs, so that the next build is short."""
    for part in PARTS:
        source = os.path.join(ROOT, part)
        if os.path.isfile(source):
            os.makedirs(tree, exist_ok=True)
            shutil.copy2(source, os.path.join(tree, part))
            continue
        target = os.path.join(tree, part)
        wanted = set()
        for folder, _, names in os.walk(source):
            there = os.path.join(target, os.path.relpath(folder, source))
            os.makedirs(there, exist_ok=True)
            for name in names:
                one, other = os.path.join(folder, name), os.path.join(there, name)
                wanted.add(os.path.normpath(other))
                with open(one, "rb") as file:
                    wanted_bytes = file.read()
                if not os.path.exists(other) or open(other, "rb").read() != wanted_bytes:
                    shutil.copyfile(one, other)
        for folder, _, names in os.walk(target):
            for name in names:
                if os.path.normpath(os.path.join(folder, name)) not in wanted:
                    os.remove(os.path.join(folder, name))


def build(tree):
    """None, or the compiler's words."""
    done = subprocess.run(["ninja", "build/sim/simulate"], cwd=tree, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return None if done.returncode == 0 else done.stdout


def simulate(tree, seeds, upgrades=False):
    """The number of the seed that failed first, and what was said; None when all passed."""
    words = ["build/sim/simulate", "--stop", "--seeds", str(seeds)]
    done = subprocess.run(words + (["--upgrades"] if upgrades else []), cwd=tree,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace")
    failed = re.findall(r"^FAILED seed (\d+)", done.stdout, re.MULTILINE)
    if not failed:
        return None
    words = re.search(r"VIOLATION.*?: (.*)|invariant.*", done.stdout)
    return min(int(seed) for seed in failed), words.group(0)[:110] if words else "it crashed"


def try_mutant(tree, mutant):
    """None when it was caught, else why not."""
    path = os.path.join(tree, mutant.file)
    whole = read(path)
    write(path, mutant.applied(whole))
    try:
        words = build(tree)
        if words is not None:
            return "does not build:\n" + words[-2000:]
        started = time.monotonic()
        found = simulate(tree, mutant.seeds, mutant.upgrades)
        if found is None:
            return "is not noticed within %d seeds" % mutant.seeds
        print("  seed %d, %.0f s: %s" % (found[0], time.monotonic() - started, found[1]))
        return None
    finally:
        write(path, whole)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="do all of them still apply?")
    parser.add_argument("--only", help="those whose name contains this")
    options = parser.parse_args()
    mutants = [Mutant(path) for path in sorted(glob.glob(MUTANTS + "/*.mutant"))]
    mutants = [m for m in mutants if not options.only or options.only in m.name]
    failed = 0
    for mutant in mutants:
        if mutant.applied(read(os.path.join(ROOT, mutant.file))) is None:
            print("FAILED %s: no longer applies to %s" % (mutant.name, mutant.file))
            failed += 1
            mutant.what = None
    if not options.check:
        tree = os.path.join(ROOT, "build", "mutants")
        copy_tree(tree)
        subprocess.run([sys.executable, "configure.py"], cwd=tree, check=True,
                       stdout=subprocess.DEVNULL)
        words = build(tree) or ("is not in order without a mistake"
                                if simulate(tree, 200) is not None else None)
        if words is not None:
            sys.exit(words)
        for mutant in [m for m in mutants if m.what is not None]:
            print("%s: %s" % (mutant.name, mutant.what), flush=True)
            trouble = try_mutant(tree, mutant)
            if trouble is not None:
                print("FAILED %s %s" % (mutant.name, trouble), flush=True)
                failed += 1
    print("%d passed, %d failed" % (len(mutants) - failed, failed))
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
