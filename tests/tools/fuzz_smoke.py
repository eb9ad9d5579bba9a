"""Runs each fuzz target for a few seconds, from its seeds. The long runs are for the night.

Seeds are read from fuzz/corpus_NAME (or fuzz/corpus/NAME) and a dictionary from fuzz/NAME.dict (or
fuzz/dict/NAME.dict), where NAME is the target without `fuzz_`. New inputs go to a temporary directory, so the tree
stays as it is; an input that crashes is kept in BUILDDIR/crashes. The last line is
`N passed, N failed`.
"""

import argparse
import glob
import os
import re
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
EXTRA_SECONDS = 60  # reading the seeds, and reporting


def run_target(name, options):
    subject = name[len("fuzz_"):]
    crashes = os.path.join(TOP, options.builddir, "crashes", name)
    os.makedirs(crashes, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        command = [os.path.join(TOP, options.builddir, name), scratch]
        for seeds in ("fuzz/corpus_" + subject, "fuzz/corpus/" + subject):
            if os.path.isdir(os.path.join(TOP, seeds)):
                command.append(os.path.join(TOP, seeds))
        for words in ("fuzz/", "fuzz/dict/"):
            path = os.path.join(TOP, words, subject + ".dict")
            if os.path.exists(path):
                command.append("-dict=" + path)
        command += ["-max_total_time=%d" % options.seconds, "-timeout=10", "-rss_limit_mb=2048",
                    "-print_final_stats=1", "-artifact_prefix=" + crashes + "/"]
        try:
            done = subprocess.run(command, cwd=TOP, stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  timeout=options.seconds + EXTRA_SECONDS)
            output, status = done.stdout, done.returncode
        except subprocess.TimeoutExpired as expired:
            output, status = expired.stdout or b"", None
    return status, output.decode(errors="replace")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--builddir", default="build/fuzz")
    parser.add_argument("--seconds", type=int, default=5, help="for each target")
    parser.add_argument("targets", nargs="*", help="names such as fuzz_frame; default: all")
    options = parser.parse_args()

    targets = options.targets or sorted(
        os.path.basename(path)[:-2] for path in glob.glob(os.path.join(TOP, "fuzz/fuzz_*.c")))
    failed = 0
    for name in targets:
        status, output = run_target(name, options)
        runs = re.search(r"number_of_executed_units: (\d+)", output)
        if status == 0:
            print("%-32s %s inputs" % (name, runs.group(1) if runs else "?"), flush=True)
            continue
        failed += 1
        print(output)
        print("%-32s failed; the input is in %s/crashes/%s" % (name, options.builddir, name),
              flush=True)
    print("%d passed, %d failed" % (len(targets) - failed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
