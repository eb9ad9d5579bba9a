"""A real systemd with one unit: examples/pg_doorman.service, as it is shipped.

It is no part of the machine's own: it runs as a service manager of a user, in namespaces of mounts,
processes and control groups, in a control group that is made for it. When this process ends, all
of that ends.
"""

import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading

from pooler import BINARY, ROOT, Doorman
from upgrading import alive, generations
from waiting import PATIENCE, wait_until

SYSTEMD = "/lib/systemd/systemd"
UNIT = "pg_doorman.service"

# Makes a control group and enters it, so that the new namespace has that as its root.
OUTER = """set -e
mount -t cgroup2 none "$1/groups"
mkdir "$1/groups/$2"
echo $$ >"$1/groups/$2/cgroup.procs"
umount "$1/groups"
exec unshare --cgroup --mount --pid --fork --kill-child --mount-proc sh "$1/inner" "$1" "$3"
"""

# The manager is not the first process: as that it would be the system's, and set up the machine.
INNER = """set -e
mount -t tmpfs none /run
mount -t cgroup2 none /sys/fs/cgroup
mkdir -p /run/systemd/system /run/systemd/journal
ln -s "$1/journal" /run/systemd/journal/socket
[ "$2" = probe ] && exit 0
%s --user --log-target=journal --unit=default.target
""" % SYSTEMD

TARGET = "[Unit]\nDescription=nothing more\nDefaultDependencies=no\n"


def run_in_namespaces(directory, what, **options):
    for name, text in (("outer", OUTER), ("inner", INNER)):
        with open(os.path.join(directory, name), "w") as file:
            file.write(text)
    os.makedirs(os.path.join(directory, "groups"), exist_ok=True)
    return subprocess.Popen(
        ["setpriv", "--pdeathsig=KILL", "unshare", "--mount", "sh",
         os.path.join(directory, "outer"), directory, group_of(directory), what],
        stdin=subprocess.DEVNULL, start_new_session=True, **options)


def group_of(directory):
    return os.path.basename(directory)


def remove_group(directory):
    """Its control group, once the last of those that were killed has gone. False: they stay."""
    script = """mount -t cgroup2 none "$1/groups" && cd "$1/groups" || exit 1
for attempt in $(seq 200); do
    find "$2" -depth -type d -exec rmdir {} ";" 2>/dev/null
    [ -d "$2" ] || exit 0
    sleep 0.1
done
exit 1"""
    return subprocess.run(["unshare", "--mount", "sh", "-c", script, "sh", directory,
                           group_of(directory)], stdin=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL).returncode == 0


def refusal():
    """Why no service manager can be started on this machine; None if one can."""
    for program in (SYSTEMD, "systemctl", "unshare", "nsenter", "setpriv"):
        if shutil.which(program) is None:
            return "there is no " + program
    if os.geteuid() != 0:
        return "namespaces and control groups need root"
    directory = tempfile.mkdtemp(prefix="doorman-systemd-")
    try:
        probe = run_in_namespaces(directory, "probe", stdout=subprocess.DEVNULL,
                                  stderr=subprocess.PIPE, text=True)
        try:
            said = probe.communicate(timeout=30)[1]
        except subprocess.TimeoutExpired:
            os.killpg(probe.pid, signal.SIGKILL)
            said = probe.communicate()[1] + "no end"
        remove_group(directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return None if probe.returncode == 0 else said.strip() or "status %d" % probe.returncode


class NotifySocket:
    """In place of a service manager: what it is told, each with the process that said so."""

    def __init__(self, path):
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.bind(path)
        self.held = []  # descriptors of barriers that were not let through

    def close(self):
        for fd in self.held:
            os.close(fd)
        self.socket.close()

    def receive(self, seconds=20, lets_through=True):
        """The next datagram: who sent it, and its lines."""
        self.socket.settimeout(seconds * PATIENCE)
        fds, sender = [], None
        text, control, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(12)
                                                  + socket.CMSG_SPACE(16))
        for _, kind, value in control:
            if kind == socket.SCM_CREDENTIALS:
                sender = struct.unpack("3i", value)[0]
            elif kind == socket.SCM_RIGHTS:
                fds += struct.unpack("%di" % (len(value) // 4), value)
        lines = text.decode().split("\n")
        assert (lines == ["BARRIER=1"]) == (len(fds) == 1), (lines, fds)
        if lets_through:
            for fd in fds:
                os.close(fd)
        else:
            self.held += fds
        return sender, lines

    def is_silent(self, seconds=0.3):
        try:
            return not self.receive(seconds)
        except TimeoutError:
            return True


class Journal:
    """What the manager says, as long as it runs. It must be read, or the manager would wait."""

    def __init__(self, path):
        self.messages = []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        while True:
            datagram = self.socket.recv(1 << 16)
            if datagram == b"END":
                return
            for line in datagram.decode(errors="replace").split("\n"):
                if line.startswith("MESSAGE="):
                    self.messages.append(line[len("MESSAGE="):])

    def close(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"END", self.socket.getsockname())
        self.thread.join(10)
        self.socket.close()


class ServiceManager:
    """systemd, and the pooler as its only service."""

    def __init__(self, port, config, environment=None, settings=""):
        self.directory = tempfile.mkdtemp(prefix="doorman-systemd-")
        self.units = os.path.join(self.directory, "units")
        # Not started as such: what it knows of its configuration, its log and its clients is used.
        self.doorman = Doorman(self.directory, port, config)
        open(self.doorman.log_path, "w").close()
        self.journal = Journal(os.path.join(self.directory, "journal"))
        self.process = None
        self._write_units(environment or {}, settings)

    def _write_units(self, environment, settings):
        beside = os.path.join(self.units, UNIT + ".d")
        os.makedirs(beside)
        shutil.copy(os.path.join(ROOT, "examples", UNIT), self.units)
        for name in ("default.target", "basic.target", "shutdown.target", "exit.target"):
            with open(os.path.join(self.units, name), "w") as file:
                file.write(TARGET)
        known = {name: value for name, value in os.environ.items()
                 if name.startswith(("PG_DOORMAN_", "ASAN_", "UBSAN_", "TSAN_", "LSAN_"))}
        known.update(environment)
        with open(os.path.join(beside, "here.conf"), "w") as file:
            # The program that is tested, as who runs the tests. The rest is as shipped.
            file.write("[Unit]\nDefaultDependencies=no\n[Service]\nUser=\nGroup=\n"
                       "ExecStart=\nExecStart=%s %s -l info\nStandardOutput=append:%s\n"
                       "StandardError=append:%s\n%s"
                       % (BINARY, self.doorman.config_path, self.doorman.log_path,
                          self.doorman.log_path, settings))
            for name, value in known.items():
                file.write('Environment="%s=%s"\n' % (name, value))

    # ---- the manager

    def start(self):
        with open(os.path.join(self.directory, "said"), "w") as said:
            self.process = run_in_namespaces(
                self.directory, "run", stdout=said, stderr=said,
                env={"PATH": os.environ["PATH"], "HOME": self.directory,
                     "XDG_RUNTIME_DIR": self.directory, "SYSTEMD_UNIT_PATH": self.units})
        wait_until(lambda: [line for line in self.journal.messages if "Startup finished" in line]
                   or self.process.poll() is not None, 30, "the service manager to be up")
        assert self.process.poll() is None, self.said()
        return self

    def said(self):
        with open(os.path.join(self.directory, "said")) as file:
            return file.read() + "\n".join(self.journal.messages)

    def end(self):
        """All of it, whatever it is doing."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            wait_until(lambda: not self.pids(), 30, "the service's processes to be gone")
            assert remove_group(self.directory), "processes of the service manager stay"
        self.journal.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    # ---- its service

    def control(self, *words):
        """systemctl WORD… of the unit, which has to succeed."""
        done = subprocess.run(
            # The manager talks to nobody outside of its namespace.
            ["nsenter", "--target", str(self.innermost()), "--pid", "--mount",
             "systemctl", "--user", *words, UNIT], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60 * PATIENCE,
            env={"PATH": os.environ["PATH"], "XDG_RUNTIME_DIR": self.directory})
        assert done.returncode == 0, "%s\n%s\n%s" % (done.stdout, self.said(),
                                                     self.doorman.log()[-3000:])
        return done.stdout

    def innermost(self):
        """The first process of the namespace."""
        with open("/proc/%d/task/%d/children" % (self.process.pid, self.process.pid)) as file:
            return int(file.read().split()[0])

    def state(self):
        """Properties of the unit, at one moment."""
        lines = self.control("show", "--property=ActiveState,SubState,MainPID,StatusText,Result,"
                             "ExecMainStatus,NRestarts,ReloadResult").splitlines()
        return dict(line.split("=", 1) for line in lines)

    def serves(self):
        """Its main process, as this side of the namespace knows it; None while it is not active."""
        now = self.state()
        if (now["ActiveState"], now["SubState"]) != ("active", "running"):
            return None
        return self.outside(int(now["MainPID"]))

    def outside(self, pid):
        for candidate in self.pids():
            if inside(candidate) == pid:
                return candidate
        return None

    def group_path(self):
        """The service's control group, as seen from within the namespace."""
        return "/proc/%d/root/sys/fs/cgroup/app.slice/%s" % (self.innermost(), UNIT)

    def pids(self):
        """All its processes of the program, oldest first."""
        return [pid for pid in generations(self.doorman.config_path) if alive(pid)]


def inside(pid):
    """The number that a process has in its own namespace."""
    try:
        with open("/proc/%d/status" % pid) as file:
            for line in file:
                if line.startswith("NSpid:"):
                    return int(line.split()[-1])
    except (FileNotFoundError, ProcessLookupError):
        pass
    return None
