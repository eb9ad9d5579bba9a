"""Upgrades of the first process of a container: a real namespace of processes, whose end is the end
of its first one. It stays behind, and stands for whoever serves."""

import os
import signal
import subprocess

import pytest

import wire
from pooler import BINARY
from service_manager import inside
from upgrading import alive, generations, stands
from waiting import wait_until


@pytest.fixture(scope="module")
def namespaces():
    done = subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "true"],
                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        pytest.skip("no namespaces of processes on this machine: " + done.stderr.strip())


class Container:
    """The pooler as its first process. Numbers of processes are those outside."""

    def __init__(self, doorman, **options):
        self.pooler = doorman(**options)
        self.first = wait_until(self._first, 10, "the first process")

    def _first(self):
        found = [pid for pid in self.pids() if inside(pid) == 1]
        return found[0] if found else None

    def pids(self):
        return [pid for pid in generations(self.pooler.config_path)
                if pid != self.pooler.pid and "unshare" not in program(pid)]

    def generation(self):
        return int(self.status()["generation"])

    def status(self):
        return {row["name"]: row["value"] for row in self.pooler.admin("SHOW UPGRADE")}

    def upgrade(self):
        """By a signal to the container. Returns the process that serves then."""
        before = self.generation()
        ended = self.pooler.log().count("upgrade: done in")
        os.kill(self.first, signal.SIGUSR2)
        wait_until(lambda: self.generation() == before + 1, 20, "the next generation")
        wait_until(lambda: self.pooler.log().count("upgrade: done in") == ended + 1, 20,
                   "the old process to end")
        wait_until(lambda: len(self.pids()) == 2, 20, "two processes")
        if before == 0:
            wait_until(lambda: len(os.listdir("/proc/%d/task" % self.first)) == 1, 20,
                       "the first process to stand by")
        return self.pids()[-1]

    def run(self, script):
        """A shell in the container, as `docker exec` would start one."""
        subprocess.run(["nsenter", "--target", str(self.first), "--pid", "--mount",
                        "sh", "-c", script], stdin=subprocess.DEVNULL, check=True)

    def orphan(self, seconds):
        """A process whose parent has ended, so that it is the first one's. Returns its number."""
        before = set(self.children())
        self.run("sleep %g & exit 0" % seconds)
        return wait_until(lambda: set(self.children()) - before, 10, "the orphan").pop()

    def children(self):
        with open("/proc/%d/task/%d/children" % (self.first, self.first)) as file:
            return [int(word) for word in file.read().split()]

    def left_over(self):
        """Children that have ended and that nobody has collected."""
        return [pid for pid in self.children() if not alive(pid)]


def program(pid):
    try:
        with open("/proc/%d/cmdline" % pid) as file:
            return file.read().split("\0")[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


@pytest.fixture
def container(namespaces, doorman, monkeypatch, tmp_path):
    script = tmp_path / "contained"
    script.write_text("#!/bin/sh\nexec unshare --pid --fork --kill-child --mount-proc %s \"$@\"\n"
                      % BINARY)
    script.chmod(0o755)
    monkeypatch.setattr("pooler.BINARY", str(script))
    made = []

    def start(**options):
        made.append(Container(doorman, **options))
        return made[-1]

    yield start
    for one in made:
        if one.pooler.running():
            os.kill(one.first, signal.SIGTERM)
            one.pooler.wait(15)
        assert one.pids() == []


def test_b15_first_process_of_a_container_stays(container):
    """With nothing but its standard streams."""
    one = container()
    client = one.pooler.client()
    client.query("BEGIN")
    client.query("SELECT 1")
    for _ in range(3):
        serves = one.upgrade()
        assert one.pids() == [one.first, serves] and one.pooler.running()
        assert wire.status(client.query("SELECT 2")) == "T"
    held = {fd: os.readlink("/proc/%d/fd/%s" % (one.first, fd))
            for fd in os.listdir("/proc/%d/fd" % one.first)}
    assert sorted(held) == ["0", "1", "2"], held
    client.terminate()
    # The console passes the word on; the container ends with its last process.
    one.pooler.admin("SHUTDOWN")
    assert one.pooler.wait(15) == 0


def test_b15_console_of_a_container(container):
    one = container()
    for number in (1, 2):
        assert one.pooler.admin("UPGRADE") == [{"success": "t"}]
        wait_until(lambda n=number: one.generation() == n, 20, "generation %d" % number)
        wait_until(lambda n=number: one.pooler.log().count("upgrade: done in") == n, 10,
                   "the old process to end")
    assert one.pooler.running()


@pytest.mark.parametrize("upgrades", [0, 1, 2])
def test_b15_container_is_stopped(container, upgrades):
    """SIGTERM to it is for who serves; what else runs in it is no reason to stay."""
    one = container()
    for _ in range(upgrades):
        one.upgrade()
    one.orphan(600)
    os.kill(one.first, signal.SIGTERM)
    assert one.pooler.wait(15) == 0


def test_b15_container_is_stopped_while_its_first_process_still_hands_over(container, postgres):
    one = container(general={"shutdown_timeout": "60s"})
    left = one.pooler.client()
    # A Close that is not answered yet keeps a session where it is, as long as the statement runs.
    left.send(wire.parse("s", "SELECT pg_sleep(60)"), wire.bind("", "s"), wire.execute(),
              wire.close("S", "s"), wire.sync())
    wait_until(lambda: postgres.backends("state = 'active'"), 5, "the statement to run")
    os.kill(one.first, signal.SIGUSR2)
    wait_until(lambda: "between two steps" in one.pooler.log(), 20, "the client to be left behind")
    assert len(one.pids()) == 2
    os.kill(one.first, signal.SIGTERM)
    assert one.pooler.wait(15) == 0


def test_b15_container_is_stopped_amid_a_second_upgrade(container, tmp_path):
    """The one that serves ends, and the one that was about to follow does, too."""
    fault = tmp_path / "fault"
    fault.write_text("")
    one = container(environment={"PG_DOORMAN_UPGRADE_FAULT": "@%s" % fault})
    one.upgrade()
    fault.write_text("s-ready:stand")
    os.kill(one.first, signal.SIGUSR2)
    third = wait_until(lambda: [pid for pid in one.pids() if stands(pid)], 20,
                       "the third one to stand still")[0]
    assert len(one.pids()) == 3 and one.generation() == 1
    os.kill(one.first, signal.SIGTERM)
    assert one.pooler.wait(15) == 0
    assert not alive(third)


def test_b15_container_is_stopped_as_another_takes_over(container):
    """The signal waits while the sessions change hands, and both processes end by it."""
    one = container(environment={"PG_DOORMAN_UPGRADE_FAULT": "committed:stop-other"})
    os.kill(one.first, signal.SIGUSR2)
    second = wait_until(lambda: [pid for pid in one.pids() if stands(pid)], 20,
                        "the second one to stand still")[0]
    os.kill(one.first, signal.SIGTERM)
    os.kill(second, signal.SIGCONT)
    one.pooler.wait(15)
    assert not alive(second)


def test_b15_container_is_told_to_read_its_configuration(container):
    one = container()
    one.upgrade()
    config = one.pooler.config
    config["general"]["query_wait_timeout"] = "7s"
    one.pooler.write_config(config)
    os.kill(one.first, signal.SIGHUP)
    wait_until(lambda: "config reloaded" in one.pooler.log(), 20, "the file to be read")
    # The second one has handed over when the third one serves.
    one.upgrade()
    os.kill(one.first, signal.SIGHUP)
    wait_until(lambda: "config unchanged" in one.pooler.log(), 20, "the file to be read again")


def test_b15_container_is_interrupted(container):
    """Without a terminal that is an upgrade; where it means the end, the end is gentle."""
    one = container()
    one.upgrade()
    os.kill(one.first, signal.SIGINT)
    wait_until(lambda: one.generation() == 2, 20, "generation 2")
    gentle = container(environment={"PG_DOORMAN_CI_SHUTDOWN_ONLY": "1"})
    gentle.upgrade()
    client = gentle.pooler.client()
    client.query("BEGIN")
    client.query("SELECT 1")
    os.kill(gentle.first, signal.SIGINT)
    wait_until(lambda: "Got SIGINT (Ctrl+C)" in gentle.pooler.log(), 10, "the drain to begin")
    assert gentle.pooler.running()
    client.send(wire.query("COMMIT"))
    said = client.wait_closed()
    assert wire.tags(said) == ["COMMIT"] and wire.errors(said)[0]["C"] == "58006"
    assert gentle.pooler.wait(15) == 0


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 0), (signal.SIGKILL, 128 + 9)])
def test_b15_container_ends_as_who_serves_does(container, number, status):
    one = container()
    one.upgrade()
    serves = one.upgrade()
    # It learns who serves when it collects the one before.
    wait_until(lambda: one.left_over() == [], 10, "the old process to be collected")
    one.orphan(600)
    one.pooler.expected_status = status
    os.kill(serves, number)
    assert one.pooler.wait(15) == status


@pytest.mark.parametrize("upgrades", [0, 1])
def test_b15_container_collects_who_ends(container, upgrades):
    """Before an upgrade, and afterwards: processes that are left to the first one."""
    one = container()
    for _ in range(upgrades):
        one.upgrade()
    orphans = [one.orphan(0.3) for _ in range(3)]
    wait_until(lambda: not set(orphans) & set(one.children()), 20, "them to be collected")
    assert one.left_over() == []
    assert one.upgrade() in one.children()
    wait_until(lambda: one.left_over() == [], 10, "the old processes to be collected")
