"""The demonstration of hot upgrades (tests/demo/upgrade.py), as its users run it."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

import pytest
from pooler import BINARY
from waiting import PATIENCE

DEMO = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "demo",
                    "upgrade.py")
SMALL = ["--plain", "--clients", "20", "--transactions", "3", "--probes", "2", "--streams", "1",
         "--pgbench", "0", "--upgrades", "2", "--pause", "0.2"]


def command(folder, *more):
    return [sys.executable, DEMO, "--binary", BINARY, "--picture",
            os.path.join(folder, "picture.png"), *SMALL, *more]


@pytest.fixture
def folder():
    """Where the demo may leave nothing behind. PostgreSQL's user must get in, so not tmp_path."""
    path = tempfile.mkdtemp(prefix="demo-")
    os.chmod(path, 0o755)
    os.mkdir(os.path.join(path, "temporary"))
    os.chmod(os.path.join(path, "temporary"), 0o777)
    yield path
    shutil.rmtree(path)


def environment(folder):
    return {**os.environ, "TMPDIR": os.path.join(folder, "temporary")}


def running(folder):
    """Processes that name the directory in their command line."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/cmdline" % pid, "rb") as file:
                words = file.read().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if os.path.join(folder, "temporary") in words:
            found.append(words)
    return found


def test_report_passes_and_nothing_is_left_over(folder):
    done = subprocess.run(command(folder), env=environment(folder), stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=240 * PATIENCE)
    assert done.returncode == 0, done.stdout
    assert done.stdout.rstrip().splitlines()[-2] == "PASS", done.stdout
    # 20 silent, 3 in transactions, 2 probes, a stream and psql, twice.
    assert re.search(r"^sessions +27; moved 54 times in all$", done.stdout, re.MULTILINE)
    for fact in ("2 of 2 upgrades done", "0 of 27 sessions failed", "0 sessions left behind",
                 "0 PostgreSQL connections opened by the upgrades",
                 "24 of 24 PostgreSQL backends are those from before"):
        assert re.search(r"^ok +%s$" % fact, done.stdout, re.MULTILINE), done.stdout
    assert "\033" not in done.stdout
    with open(os.path.join(folder, "picture.png"), "rb") as file:
        assert file.read(8) == b"\x89PNG\r\n\x1a\n"
    assert os.listdir(os.path.join(folder, "temporary")) == []
    assert running(folder) == []


@pytest.mark.parametrize("number, line, upgrades, statuses", [
    (signal.SIGINT, "upgrade 1:", 1000, [130]),
    (signal.SIGTERM, "start of", 1, [0, 130])])  # amid the report, which may end first
def test_interrupt_ends_everything(folder, number, line, upgrades, statuses):
    demo = subprocess.Popen(command(folder, "--upgrades", str(upgrades)), env=environment(folder),
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, start_new_session=True)
    try:
        said = ""
        while line not in said:
            said += demo.stdout.readline() or pytest.fail("it has ended early:\n" + said)
        os.killpg(demo.pid, number)  # as the terminal does
        said += demo.communicate(timeout=240 * PATIENCE)[0]
    finally:
        demo.kill()
    assert demo.returncode in statuses, said
    assert "Traceback" not in said, said
    assert os.listdir(os.path.join(folder, "temporary")) == []
    assert running(folder) == []
