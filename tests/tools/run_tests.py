"""Runs the tests and counts them: the unit programs, then pytest once for each I/O engine.

The last line is `N passed, N failed`, with `, N skipped` when something was skipped; the exit
status is 0 when nothing failed. A program that crashes or hangs counts as one failure.

An integration case that fails is tried once more by itself, if there are few: what others on the
machine do must not decide. One that passes then is listed as UNSTEADY, with what it said first
above: each is a fault to be found, of the program or of the test.
"""

import argparse
import concurrent.futures
import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ENGINES = ["io_uring", "epoll"]
UNIT_SECONDS = 300
SECOND_TRIES = 3
SYS_IO_URING_SETUP = 425
SINGLE_ISSUER_DEFER_TASKRUN = 1 << 12 | 1 << 13  # what the engine asks for (Linux 6.1)


class Counts:
    def __init__(self, passed=0, failed=0, skipped=0):
        self.passed = passed
        self.failed = failed
        self.skipped = skipped

    def add(self, other):
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped

    def __str__(self):
        text = "%d passed, %d failed" % (self.passed, self.failed)
        return text + (", %d skipped" % self.skipped if self.skipped else "")


def say(text):
    print(text, flush=True)


def test_environment(builddir):
    """What both kinds of tests see. Sanitizer options that the caller has set stay."""
    environment = dict(os.environ)
    environment.setdefault("UBSAN_OPTIONS", "print_stacktrace=1:halt_on_error=1")
    environment.setdefault("ASAN_OPTIONS", "detect_leaks=1")
    environment["DOORMAN_BIN"] = os.path.join(TOP, builddir, "pg_doorman")
    if is_sanitized(builddir):
        environment["DOORMAN_SANITIZED"] = "1"
        environment.setdefault("DOORMAN_TEST_PATIENCE", "3")
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    return environment


def is_sanitized(builddir):
    try:
        with open(os.path.join(TOP, builddir, "local.ninja")) as file:
            return "-fsanitize=" in file.read()
    except FileNotFoundError:
        return False


def run_group(command, seconds, **options):
    """Like subprocess.run, but a time-out ends the children of the child, too."""
    with group(command, **options) as child:
        try:
            output, _ = child.communicate(timeout=seconds)
            return child.returncode, output
        except subprocess.TimeoutExpired:
            end_group(child)
            output, _ = child.communicate()
            return None, output


@contextlib.contextmanager
def group(command, **options):
    child = subprocess.Popen(command, cwd=TOP, start_new_session=True, stdin=subprocess.DEVNULL,
                             **options)
    try:
        yield child
    except BaseException:
        end_group(child)
        raise


def run_group_aloud(command, seconds, name, **options):
    """Its lines as they come, each with the name in front. Returns the exit status, or None."""
    with group(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
               errors="replace", **options) as child:
        late = threading.Event()
        timer = threading.Timer(seconds, lambda: (late.set(), end_group(child)))
        timer.start()
        try:
            for line in child.stdout:
                say("%-8s | %s" % (name, line.rstrip()))
            status = child.wait()
        finally:
            timer.cancel()
        return None if late.is_set() else status


def end_group(child):
    """First asks, so that a test suite can stop its servers; then insists."""
    for number in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
            child.wait(timeout=20)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            pass


# ---- unit --------------------------------------------------------------------------------------

def run_unit_program(path, builddir):
    """Returns the counts and what there is to print."""
    name = os.path.basename(path)
    if not os.path.exists(os.path.join(TOP, path)):
        return Counts(failed=1), "%-40s was not built" % name
    started = time.monotonic()
    status, output = run_group([os.path.join(TOP, path)], UNIT_SECONDS, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, env=test_environment(builddir))
    text = output.decode(errors="replace")
    found = re.findall(r"^(\d+) passed, (\d+) failed$", text, re.MULTILINE)
    counts = Counts(*map(int, found[-1])) if found else Counts()
    how = str(counts)
    if status != 0 and counts.failed == 0:
        counts.failed = 1
        how += ", then " + describe_status(status)
    elif not found:
        counts.failed = 1
        how = "ended without saying how many tests passed"
    line = "%-40s %s  (%.1f s)" % (name, how, time.monotonic() - started)
    return counts, text.rstrip() + "\n" + line if counts.failed else line


def describe_status(status):
    if status is None:
        return "no end within %d s" % UNIT_SECONDS
    return "killed by signal %d" % -status if status < 0 else "exit status %d" % status


def run_unit(builddir, select):
    sources = sorted(name for name in os.listdir(os.path.join(TOP, "tests/unit"))
                     if name.startswith("test_") and name.endswith(".c"))
    paths = [os.path.join(builddir, "unit", name[:-2]) for name in sources if select in name]
    say("unit: %d programs" % len(paths))
    total = Counts()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for counts, text in pool.map(lambda path: run_unit_program(path, builddir), paths):
            total.add(counts)
            say(text)
    return total


# ---- integration -------------------------------------------------------------------------------

def io_uring_refusal():
    """None when the kernel lets us have the ring that the engine needs, else its reason."""
    libc = ctypes.CDLL(None, use_errno=True)
    parameters = (ctypes.c_uint32 * 30)()
    parameters[2] = SINGLE_ISSUER_DEFER_TASKRUN
    fd = libc.syscall(SYS_IO_URING_SETUP, 4, parameters)
    if fd < 0:
        return os.strerror(ctypes.get_errno())
    os.close(fd)
    return None


def read_junit(path):
    """Counts from pytest's report and the cases that failed; None for both when it wrote none."""
    try:
        root = xml.etree.ElementTree.parse(path).getroot()
    except (FileNotFoundError, xml.etree.ElementTree.ParseError):
        return None, None
    counts = Counts()
    failed = []
    for case in root.iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            counts.failed += 1
            failed.append("%s.py::%s" % (case.get("classname", "").replace(".", "/"),
                                         case.get("name")))
        elif case.find("skipped") is not None:
            counts.skipped += 1
        else:
            counts.passed += 1
    return counts, failed


def run_pytest(engine, options, cases, jobs=1):
    """Returns the exit status, or None if it took too long, and what read_junit() says. Each job
    has a PostgreSQL of its own, and takes one file after another."""
    environment = test_environment(options.builddir)
    environment["PG_DOORMAN_IO"] = engine
    environment["PYTHONPATH"] = TOP
    with tempfile.TemporaryDirectory() as scratch:
        report = os.path.join(scratch, "report.xml")
        command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider",
                   "--junitxml=" + report, *cases]
        if jobs > 1:
            command += ["-n", str(jobs), "--dist", "loadfile"]
        if options.select:
            command += ["-k", options.select]
        status = run_group_aloud(command, options.seconds, engine, env=environment)
        return status, *read_junit(report)


def run_engine(engine, options):
    status, counts, failed = run_pytest(engine, options, ["tests/integration"], options.jobs)
    if status is None:
        say("integration on %s: no end within %d s" % (engine, options.seconds))
    if counts is None:
        return Counts(failed=1)
    if status != 0 and counts.failed == 0:
        say("integration on %s: pytest ended with status %s" % (engine, status))
        counts.failed = 1
    # A case that fails in its test and again in what comes after it is counted for both.
    options.failed += [(engine, case, failed.count(case)) for case in sorted(set(failed))]
    return counts


def try_again(options, total):
    """Those few that failed, each by itself now that the others are through."""
    failed, options.failed = options.failed, []
    for engine, case, times in failed:
        say("integration on %s: once more, %s" % (engine, case))
        status, counts, _ = run_pytest(engine, options, [case])
        if status == 0 and counts is not None and counts.passed == 1:
            options.unsteady.append((engine, case))
            total.failed -= times
            total.passed += 1
        else:
            options.failed.append((engine, case, times))


def run_integration(options):
    total = Counts()
    if not os.path.exists(os.path.join(TOP, options.builddir, "pg_doorman")):
        say("integration: skipped, there is no %s/pg_doorman" % options.builddir)
        return Counts(skipped=1)
    engines = list(options.engines)
    refusal = io_uring_refusal() if "io_uring" in engines else None
    if refusal is not None:
        say("integration on io_uring: skipped, the kernel refuses the ring: " + refusal)
        total.skipped += 1
        engines.remove("io_uring")
    # Side by side: the tests mostly wait.
    with concurrent.futures.ThreadPoolExecutor(max(len(engines), 1)) as pool:
        for engine, counts in zip(engines, pool.map(lambda e: run_engine(e, options), engines)):
            say("integration on %s: %s" % (engine, counts))
            total.add(counts)
    if 0 < len(options.failed) <= SECOND_TRIES:
        try_again(options, total)
    return total


def main():
    parser = argparse.ArgumentParser(description="Runs the tests and counts them.")
    add = parser.add_argument
    add("--builddir", default="build", help="where the programs are")
    add("--only", choices=["unit", "integration"])
    add("--engines", default=",".join(ENGINES), type=lambda text: text.split(","))
    add("--select", default="", help="unit: part of a file name; integration: pytest -k")
    add("--jobs", default=2, type=int,
        help="integration tests at a time, on each engine (%(default)s)")
    add("--seconds", default=1200, type=int, help="limit for one run of pytest")
    options = parser.parse_args()
    options.failed = []
    options.unsteady = []

    total = Counts()
    if options.only != "integration":
        total.add(run_unit(options.builddir, options.select))
    if options.only != "unit":
        total.add(run_integration(options))
    for engine, case in options.unsteady:
        say("UNSTEADY on %s: %s" % (engine, case))
    for engine, case, _ in options.failed:
        say("FAILED on %s: %s" % (engine, case))
    say(str(total))
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
