"""What tests of upgrades share: generations of one pooler, and how to tell them apart."""

import ctypes
import os
import re
import signal
import time

from waiting import PATIENCE, wait_until

# Successors of a process that has ended become this process's children, so that they can be waited
# for, and do not outlive the test by much.
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def alive(pid):
    """Is it there, and not only a remainder that nobody has collected?"""
    try:
        with open("/proc/%d/stat" % pid) as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def stands(pid):
    """It has been stopped by a signal."""
    try:
        with open("/proc/%d/stat" % pid) as file:
            return file.read().rsplit(")", 1)[1].split()[0] == "T"
    except (FileNotFoundError, ProcessLookupError):
        return False


def collect(pid):
    """Takes note of a child that has ended."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return not alive(pid)


def generations(config_path):
    """Processes that serve this configuration, oldest first."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open("/proc/%s/cmdline" % name, "rb") as file:
                words = file.read().split(b"\0")
            since = os.stat("/proc/%s" % name).st_ctime
        except OSError:
            continue
        if config_path.encode() in words and b"-t" not in words and alive(int(name)) \
                and not words[0].endswith(b"setpriv"):
            found.append((since, int(name)))
    return [pid for _, pid in sorted(found)]


def inventory(pid):
    """How many descriptors of which kind, numbers of sockets and the like left out."""
    found = {}
    for name in os.listdir("/proc/%d/fd" % pid):
        try:
            target = os.readlink("/proc/%d/fd/%s" % (pid, name))
        except OSError:
            continue
        kind = re.sub(r"[0-9]+", "", target)
        found[kind] = found.get(kind, 0) + 1
    return found


class Upgrading:
    """A pooler that is upgraded; `pid` is the process that serves now."""

    def __init__(self, doorman):
        self.doorman = doorman
        self.pid = doorman.pid
        self.pids = [self.pid]
        self.signal = signal.SIGUSR2

    def request(self):
        os.kill(self.pid, self.signal)

    def upgrade(self, seconds=20):
        """Asks for it and waits until the old process has gone. Returns how long that took."""
        began = time.monotonic()
        self.request()
        self.follow(seconds)
        return time.monotonic() - began

    def follow(self, seconds=20):
        """Until the old process is gone and a successor serves."""
        old = self.pid
        wait_until(lambda: self.gone(old), seconds, "process %d to be gone\n%s"
                   % (old, self.doorman.log()[-3000:]))
        self.pid = wait_until(self.successor, seconds, "a successor")
        self.pids.append(self.pid)
        return self.pid

    def gone(self, pid):
        if pid == self.doorman.pid:
            return self.doorman.process.poll() is not None
        return collect(pid)

    def successor(self):
        running = [pid for pid in generations(self.doorman.config_path) if pid not in self.pids]
        return running[-1] if running else None

    def standing(self):
        """One of the processes that stands still, as a test has told it to."""
        for pid in generations(self.doorman.config_path):
            if stands(pid):
                return pid
        return None

    def status(self):
        """SHOW UPGRADE, as a dictionary."""
        return {row["name"]: row["value"] for row in self.doorman.admin("SHOW UPGRADE")}

    def finish(self):
        """The last generation ends, too, and none has complained."""
        for pid in generations(self.doorman.config_path):
            if pid != self.doorman.pid:
                os.kill(pid, signal.SIGCONT)
                os.kill(pid, signal.SIGTERM)
                wait_until(lambda pid=pid: collect(pid), 15 * PATIENCE, "a successor to end")


def generations_of(start_pooler):
    """What a fixture yields: a factory of poolers that are upgraded, and ended at the end."""
    made = []

    def start(**settings):
        made.append(Upgrading(start_pooler(**settings)))
        return made[-1]

    yield start
    for one in made:
        one.finish()
