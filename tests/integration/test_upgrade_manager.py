"""What the world around is told of an upgrade: the service manager, by its socket, and the PID file.

test_upgrade_systemd.py has the same with a real systemd."""

import os
import signal
import socket
import threading
import time

import psycopg2
import pytest

import wire
from service_manager import NotifySocket
from test_upgrade_failures import replace, run_from_link
from upgrading import alive, collect, generations, stands
from waiting import PATIENCE, wait_until


# ---- the service manager's socket


@pytest.fixture
def manager(tmp_path):
    made = NotifySocket(str(tmp_path / "notify"))
    yield made
    made.close()


@pytest.fixture
def told(upgrading, manager):
    """Factory of poolers that have told that they are ready."""
    def start(environment=None, **options):
        pooler = upgrading(environment={"NOTIFY_SOCKET": manager.path, **(environment or {})},
                           **options)
        assert manager.receive() == (pooler.pid, ["READY=1"])
        return pooler

    return start


def expect_reloading(manager, pid, status):
    """That, and the clock of this moment."""
    sender, lines = manager.receive()
    assert sender == pid and lines[0] == "RELOADING=1" and lines[2:] == ["STATUS=" + status]
    name, value = lines[1].split("=")
    assert name == "MONOTONIC_USEC"
    assert 0 <= time.monotonic() * 1e6 - int(value) < 60e6 * PATIENCE


def break_configuration(pooler):
    """Returns what was there."""
    with open(pooler.doorman.config_path) as file:
        good = file.read()
    with open(pooler.doorman.config_path, "a") as file:
        file.write('\ngeneral:\n  "a\\nMAINPID=1": [not, this]\n')
    return good


def test_b15_each_step_is_told_by_who_may(told, manager):
    """The successor speaks when it has been named, and the manager has read that."""
    pooler = told()
    first = pooler.pid
    client = pooler.doorman.client()
    client.query("BEGIN")
    for _ in range(2):
        before = pooler.pid
        pooler.request()
        expect_reloading(manager, before, "an upgrade is under way")
        sender, lines = manager.receive()
        successor = int(lines[0].split("=")[1])
        assert (sender, lines) == (before, ["MAINPID=%d" % successor])
        assert manager.receive() == (before, ["BARRIER=1"])
        assert manager.receive() == (successor, ["READY=1", "STATUS=serving"])
        assert pooler.follow() == successor
    assert wire.status(client.query("SELECT 1")) == "T"
    assert manager.is_silent() and pooler.pids[0] == first
    assert "sd_notify" not in pooler.doorman.log()
    client.terminate()


def test_b15_process_that_ends_waits_for_the_manager(told, manager):
    """For a second: a manager that does not read keeps nobody from working."""
    pooler = told()
    before = pooler.pid
    client = pooler.doorman.client()
    pooler.request()
    expect_reloading(manager, before, "an upgrade is under way")
    assert manager.receive()[0] == before
    assert manager.receive(lets_through=False) == (before, ["BARRIER=1"])
    assert client.value("SELECT 1") == "1"
    sender, lines = manager.receive()
    assert sender != before and lines == ["READY=1", "STATUS=serving"]
    assert "sd_notify BARRIER failed" in pooler.doorman.log()
    assert pooler.follow() == sender
    client.terminate()


def test_b15_failed_upgrade_is_told_in_one_line(told, manager):
    pooler = told()
    client = pooler.doorman.client()
    client.query("BEGIN")
    good = break_configuration(pooler)
    pooler.request()
    expect_reloading(manager, pooler.pid, "an upgrade is under way")
    sender, lines = manager.receive()
    assert sender == pooler.pid and lines[0] == "READY=1" and len(lines) == 2
    assert lines[1].startswith("STATUS=upgrade failed: file " + pooler.doorman.config_path)
    assert wire.status(client.query("SELECT 1")) == "T"
    with open(pooler.doorman.config_path, "w") as file:
        file.write(good)
    pooler.request()
    expect_reloading(manager, pooler.pid, "an upgrade is under way")
    assert manager.receive()[1][0].startswith("MAINPID=")
    assert manager.receive()[1] == ["BARRIER=1"]
    assert manager.receive()[1] == ["READY=1", "STATUS=serving"]
    pooler.follow()
    client.terminate()


def test_b15_program_that_cannot_take_over_is_told(told, manager, monkeypatch, tmp_path):
    link = run_from_link(monkeypatch, tmp_path)
    pooler = told()
    replace(link, "#!/bin/sh\n[ \"$1\" = -t ] && exit 0\nexit 3\n")
    pooler.request()
    expect_reloading(manager, pooler.pid, "an upgrade is under way")
    assert manager.receive() == (
        pooler.pid, ["READY=1", "STATUS=upgrade failed: New process exited before readiness"])
    assert manager.is_silent()


def test_b15_hangup_and_its_end_are_told(told, manager):
    """As Type=notify-reload wants it; by signal and from the console."""
    pooler = told()
    for ask in (lambda: os.kill(pooler.pid, signal.SIGHUP), lambda: pooler.doorman.admin("RELOAD")):
        ask()
        expect_reloading(manager, pooler.pid, "reloading the configuration")
        assert manager.receive() == (pooler.pid, ["READY=1", "STATUS=serving"])
    break_configuration(pooler)
    os.kill(pooler.pid, signal.SIGHUP)
    expect_reloading(manager, pooler.pid, "reloading the configuration")
    sender, lines = manager.receive()
    assert sender == pooler.pid and lines[0] == "READY=1" and len(lines) == 2
    assert lines[1].startswith("STATUS=reload failed: ")
    assert manager.is_silent()


def test_b15_manager_that_does_not_read(told, manager):
    """Its socket is full: everything goes on."""
    pooler = told()
    client = pooler.doorman.client()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                other.sendto(b"STATUS=full", manager.path)
    os.kill(pooler.pid, signal.SIGHUP)
    wait_until(lambda: "sd_notify READY failed" in pooler.doorman.log(), 20, "the end of it")
    assert "config unchanged" in pooler.doorman.log()
    pooler.upgrade()
    assert "sd_notify MAINPID failed" in pooler.doorman.log()
    assert client.value("SELECT 1") == "1"
    client.terminate()


# ---- hangup meets an upgrade


def standing_successor(pooler):
    """Asks for an upgrade whose successor has read the configuration, and then stands still."""
    pooler.request()
    return wait_until(pooler.standing, 20, "the successor to stand still")


def change_lifetime(pooler, value):
    config = pooler.doorman.config
    config["general"]["query_wait_timeout"] = value
    pooler.doorman.write_config(config)


def lifetime(pooler):
    return [row["value"] for row in pooler.doorman.admin("SHOW CONFIG")
            if row["key"] == "query_wait_timeout"][0]


@pytest.mark.parametrize("ask", ["signal", "console"])
def test_b15_hangup_amid_an_upgrade_reaches_who_serves(told, manager, ask):
    """The successor has read the file before it was changed."""
    pooler = told({"PG_DOORMAN_UPGRADE_FAULT": "s-ready:stand"})
    before = lifetime(pooler)
    pid = standing_successor(pooler)
    expect_reloading(manager, pooler.pid, "an upgrade is under way")
    change_lifetime(pooler, "7s")
    if ask == "signal":
        os.kill(pooler.pid, signal.SIGHUP)
        wait_until(lambda: "Got SIGHUP" in pooler.doorman.log(), 10, "the signal to be noted")
        assert lifetime(pooler) == before and "Reloading config" not in pooler.doorman.log()
    else:
        pooler.doorman.admin("RELOAD")
        assert lifetime(pooler) != before
    os.kill(pid, signal.SIGCONT)
    assert pooler.follow() == pid
    wait_until(lambda: lifetime(pooler) != before, 20, "the successor to have read it again")
    seen = []
    while not seen or seen[-1] != ["READY=1", "STATUS=serving"]:
        seen.append(manager.receive()[1])
    assert seen[0] == ["MAINPID=%d" % pid]


def test_b15_hangup_amid_a_failed_upgrade_comes_afterwards(told, manager):
    pooler = told({"PG_DOORMAN_UPGRADE_FAULT": "s-ready:stand"})
    before = lifetime(pooler)
    pid = standing_successor(pooler)
    change_lifetime(pooler, "7s")
    os.kill(pooler.pid, signal.SIGHUP)
    wait_until(lambda: "Got SIGHUP" in pooler.doorman.log(), 10, "the signal to be noted")
    assert lifetime(pooler) == before
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: lifetime(pooler) != before, 20, "the file to be read again")
    expect_reloading(manager, pooler.pid, "an upgrade is under way")
    assert manager.receive()[1] == ["READY=1",
                                    "STATUS=upgrade failed: New process exited before readiness"]
    expect_reloading(manager, pooler.pid, "reloading the configuration")
    assert manager.receive() == (pooler.pid, ["READY=1", "STATUS=serving"])


# ---- the PID file


class Background:
    """A pooler that has gone to the background, and whom its PID file names."""

    def __init__(self, doorman, path, fault=None):
        self.path = path
        environment = {"PG_DOORMAN_UPGRADE_FAULT": fault} if fault else None
        self.pooler = doorman(arguments=["--daemon"], general={"daemon_pid_file": str(path)},
                              environment=environment, wait=False)
        assert self.pooler.wait(15) == 0
        self.pids = [self.named()]

    def named(self):
        return int(self.path.read_text())

    def result(self):
        """Of the last upgrade; None from one that ends as it is asked."""
        try:
            return {row["name"]: row["value"]
                    for row in self.pooler.admin("SHOW UPGRADE")}["result"]
        except psycopg2.OperationalError:
            return None

    def end(self):
        for pid in generations(self.pooler.config_path):
            os.kill(pid, signal.SIGCONT)
            os.kill(pid, signal.SIGTERM)
            wait_until(lambda pid=pid: collect(pid), 15, "the pooler to end")


@pytest.fixture
def background(doorman, tmp_path):
    made = []

    def start(fault=None, name="pooler.pid"):
        made.append(Background(doorman, tmp_path / name, fault))
        return made[-1]

    yield start
    for one in made:
        one.end()
        assert not one.path.exists() or one.path.is_symlink()


def test_b15_pid_file_is_whole_at_any_moment(background):
    one = background()
    one.path.chmod(0o644)
    stop, wrong, seen = threading.Event(), [], set()

    def read_all_the_time():
        while not stop.is_set():
            text = one.path.read_text()
            seen.add(text)
            if not text.endswith("\n") or not text.strip().isdigit():
                wrong.append(text)

    reader = threading.Thread(target=read_all_the_time)
    reader.start()
    first = one.pids[0]
    named = [first]
    try:
        for _ in range(3):
            before = one.named()
            os.kill(before, signal.SIGUSR2)
            wait_until(lambda b=before: not alive(b), 20, "the old process to be gone")
            named.append(one.named())
            assert named[-1] != before and alive(named[-1])
            assert one.path.stat().st_mode & 0o777 == 0o644
    finally:
        stop.set()
        reader.join()
    assert not wrong and "%d\n" % first in seen
    assert seen <= {"%d\n" % pid for pid in named}
    assert [name for name in os.listdir(one.path.parent) if name.startswith("pooler.pid")] == \
        ["pooler.pid"]


def test_b15_pid_file_behind_a_link(background, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "pooler.pid").symlink_to(tmp_path / "elsewhere" / "real.pid")
    one = background()
    before = one.named()
    os.kill(before, signal.SIGUSR2)
    wait_until(lambda: not alive(before), 20, "the old process to be gone")
    assert one.path.is_symlink() and one.named() != before and alive(one.named())


@pytest.mark.parametrize("fault", ["spawned:kill-other", "s-prepared:die", "s-adopted:die",
                                   "s-serving:die"])
def test_b15_pid_file_names_who_serves_after_a_failure(background, fault):
    """Also when the successor had written its own before it died."""
    one = background(fault)
    pid = one.pids[0]
    os.kill(pid, signal.SIGUSR2)
    wait_until(lambda: one.result() in ("aborted", "reclaimed", "lost"), 30, "the upgrade to fail")
    wait_until(lambda: one.named() == pid, 10, "the PID file to be its own")
    assert alive(pid) and one.pooler.client().value("SELECT 1") == "1"


def test_b15_pid_file_is_not_written_before_the_commit(background):
    one = background("s-ready:stand")
    pid = one.pids[0]
    inode = one.path.stat().st_ino
    os.kill(pid, signal.SIGUSR2)
    successor = wait_until(
        lambda: [p for p in generations(one.pooler.config_path) if stands(p)], 20,
        "the successor to stand still")[0]
    assert one.named() == pid and one.path.stat().st_ino == inode
    os.kill(successor, signal.SIGCONT)
    wait_until(lambda: not alive(pid), 20, "the old process to be gone")
    assert one.named() == successor
