"""The pooler that is upgraded: its configuration, its processes one after the other, its log."""

import ctypes
import json
import os
import re
import resource
import signal
import socket
import subprocess
import time
from datetime import datetime, timezone

from private_postgres import Failure, free_port

HOST = "127.0.0.1"
END_SECONDS = 5
START_SECONDS = 30
UPGRADE_SECONDS = 60

# Successors become our children, so that they can be waited for.
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER

CONFIGURATION = """\
general:
  host: {host}
  port: {port}
  admin_username: admin
  admin_password: admin
  worker_threads: 2
  max_connections: {max_connections}
  query_wait_timeout: 60s
  server_lifetime: 1d
  idle_timeout: 1d
  log_client_connections: false
  log_client_disconnections: false
  # No connection is to be opened for those that are in use.
  upgrade_inherited_accounting: strict
  pg_hba: "host all all 127.0.0.0/8 trust"
pools:
  app:
    server_host: {host}
    server_port: {server_port}
    server_database: postgres
    pool_mode: transaction
    users:
      - username: joe
        password: ""
        server_username: postgres
        server_password: {password}
        pool_size: {pool_size}
        # All are open before the first upgrade, so that any new one is an upgrade's doing.
        min_pool_size: {pool_size}
"""


def raise_open_files(wanted):
    """As many descriptors per process as are wanted or may be had, for us and for what we start.
    Returns how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = hard
    if wanted > hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            return wanted
        except (ValueError, OSError):
            pass
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    return limit


def port_or_free_one(port):
    """`port` if it can be had; 0: any that is free."""
    if not port:
        return free_port()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise Failure("port %d of %s cannot be had: %s. Try another one: --port" % (
                port, HOST, error.strerror)) from None
    return port


def alive(pid):
    """Collects it if it has ended."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] != pid
    except ChildProcessError:
        return os.path.exists("/proc/%d" % pid)


class Pooler:
    def __init__(self, binary, server, folder, pool_size, port=0, max_connections=20000):
        self.port = port_or_free_one(port)
        self.config = os.path.join(folder, "pg_doorman.yaml")
        self.log_path = os.path.join(folder, "pg_doorman.log")
        with open(self.config, "w") as file:
            file.write(CONFIGURATION.format(
                host=HOST, port=self.port, server_port=server.port, pool_size=pool_size,
                password=json.dumps(server.password), max_connections=max_connections))
        # A session of its own: an interrupt from the keyboard is for us, it would upgrade.
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([binary, self.config, "-l", "info"],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            start_new_session=True)
        self.pid = self.process.pid

    def log(self, since=0):
        with open(self.log_path, "rb") as file:
            file.seek(since)
            return file.read().decode(errors="replace")

    def await_start(self):
        give_up = time.monotonic() + START_SECONDS
        while "Accepting connections" not in self.log():
            if self.process.poll() is not None or time.monotonic() > give_up:
                raise Failure("the pooler does not start:\n" + self.log()[-3000:])
            time.sleep(0.02)

    def processes(self):
        """Those that are there, the oldest first."""
        mine = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open("/proc/%s/cmdline" % name, "rb") as file:
                    words = file.read().split(b"\0")
                with open("/proc/%s/stat" % name) as file:
                    state = file.read().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if self.config.encode() in words and b"-t" not in words and state[0] != "Z":
                mine.append((int(state[19]), int(name)))
        return [pid for _, pid in sorted(mine)]

    def newest(self):
        """The process that has the listener now; None if there is none."""
        return (self.processes() or [None])[-1]

    def end(self):
        """All of its processes, whatever they are doing."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            give_up = time.monotonic() + END_SECONDS
            for pid in self.processes():
                os.kill(pid, number)
            while self.processes() and time.monotonic() < give_up:
                time.sleep(0.02)
        self.process.poll()


class Upgrade:
    """One of them. Times are of time.time()."""

    def __init__(self, pooler, old):
        self.pooler = pooler
        self.old = old
        self.log_at = os.path.getsize(pooler.log_path)
        self.log_end = None
        self.asked = time.time()
        self.gone = None
        self.new = None
        os.kill(old, signal.SIGUSR2)

    def over(self):
        """True when the old process has gone. Raises Failure if it failed."""
        if alive(self.old):
            if time.time() > self.asked + UPGRADE_SECONDS:
                raise Failure("the old process does not end:\n" + self.log()[-3000:])
            if "upgrade failed" in self.log():
                raise Failure("the upgrade has failed:\n" + self.log()[-3000:])
            return False
        self.gone = time.time()
        self.new = self.pooler.newest()
        if self.new is None or "upgrade: done in" not in self.log():
            raise Failure("the upgrade has failed:\n" + self.log()[-3000:])
        return True

    def log(self):
        text = self.pooler.log(self.log_at)
        return text if self.log_end is None else text[:self.log_end - self.log_at]

    def figures(self):
        """From the log, in milliseconds: start of the successor, the rest, frozen; what moved."""
        log = self.log()
        done = re.search(r"upgrade: done in \d+ ms: (\d+) clients and (\d+) server connections "
                         r"moved in (\d+) rounds, longest freeze (\d+) ms, (\d+) clients left", log)
        served = re.findall(r"(\d+) us after the old process stopped", log)
        frozen = max(map(int, served)) / 1000 if served else int(done.group(4))
        ready = self.stamp(log, "New process signaled readiness")
        ended = self.stamp(log, "upgrade: done in")
        clients, servers, rounds, _, left = map(int, done.groups())
        return {"start_ms": (ready - self.asked) * 1000, "rest_ms": (ended - ready) * 1000,
                "frozen_ms": frozen, "frozen_at": ready, "clients": clients, "servers": servers,
                "rounds": rounds, "left": left}

    @staticmethod
    def stamp(log, text):
        when = re.search(r"^(\S+)Z .*" + re.escape(text), log, re.MULTILINE).group(1)
        return datetime.fromisoformat(when).replace(tzinfo=timezone.utc).timestamp()
