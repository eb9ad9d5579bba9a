"""The program under test: writes its configuration, runs it, asks it, and judges its end."""

import json
import os
import re
import signal
import socket
import subprocess

import psycopg2

from waiting import PATIENCE, wait_until
from wire import Wire

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BINARY = os.path.abspath(os.environ.get("DOORMAN_BIN", os.path.join(ROOT, "build", "pg_doorman")))
SANITIZED = os.environ.get("DOORMAN_SANITIZED") == "1"
ADMIN = {"user": "admin", "password": "admin secret"}
# Both names are served; another pooler, to which the suite may be held for comparison, has one.
ADMIN_DATABASE = os.environ.get("DOORMAN_ADMIN_DATABASE", "pgdoorman")
TRUST = "local all all trust\nhost all all 127.0.0.1/32 trust\n"
# What a program that found fault with itself leaves in its log.
FAULTS = re.compile(r"invariant failed|ERROR: \w+Sanitizer|WARNING: \w+Sanitizer|runtime error:"
                    r"|LeakSanitizer|Assertion .* failed|stack smashing", re.IGNORECASE)


# ---- configuration


def yaml_of(value, indent=""):
    """Block YAML of dictionaries, lists and scalars; strings always in double quotes."""
    if isinstance(value, dict):
        lines = []
        for key, item in value.items():
            name = key if re.fullmatch(r"[a-z_][a-z0-9_]*", key) else json.dumps(key)
            if isinstance(item, (dict, list)) and item:
                lines.append("%s%s:\n%s" % (indent, name, yaml_of(item, indent + "  ")))
            else:
                lines.append("%s%s: %s\n" % (indent, name, json.dumps(item)))
        return "".join(lines)
    lines = []
    for item in value:
        if isinstance(item, dict):
            block = yaml_of(item, indent + "  ")
            lines.append(indent + "- " + block[len(indent) + 2:])
        else:
            lines.append("%s- %s\n" % (indent, json.dumps(item)))
    return "".join(lines)


def trust_user(pool_size=10, **more):
    """A user without passwords on either side: most tests are about something else."""
    return {"username": "trust_user", "password": "", "pool_size": pool_size, **more}


def pool(postgres, users=None, unix=False, **more):
    """One entry of `pools`, for the private PostgreSQL."""
    return {"server_host": postgres.directory if unix else "127.0.0.1",
            "server_port": postgres.port,
            **more,
            "users": users if users is not None else [trust_user()]}


def configuration(port, pools, **general):
    merged = {
        "host": "127.0.0.1", "port": port,
        "admin_username": ADMIN["user"], "admin_password": ADMIN["password"],
        "worker_threads": 2, "pg_hba": TRUST,
        "log_client_connections": False, "log_client_disconnections": False,
        **general,
    }
    return {"general": {k: v for k, v in merged.items() if v is not None}, "pools": pools}


# ---- the process


class Doorman:
    def __init__(self, directory, port, config, environment=None, arguments=()):
        self.directory = directory
        self.port = port
        self.address = ("127.0.0.1", port)
        self.config_path = os.path.join(directory, "pg_doorman.yaml")
        self.log_path = os.path.join(directory, "stderr.log")
        self.environment = {**os.environ, **(environment or {})}
        self.arguments = list(arguments)
        self.pass_fds = ()
        self.process = None
        self.expected_status = 0
        self.write_config(config)

    def write_config(self, config):
        self.config = config
        with open(self.config_path, "w") as file:
            file.write(config if isinstance(config, str) else yaml_of(config))

    # ---- start and end

    def start(self, wait=True):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                # It must not outlive a test run that is killed.
                ["setpriv", "--pdeathsig=TERM", BINARY, self.config_path, "-l", "info"]
                + self.arguments,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory,
                env=self.environment, start_new_session=True, pass_fds=self.pass_fds)
        if wait:
            wait_until(self._listens, 15, "the pooler to listen")
        return self

    def _listens(self):
        assert self.process.poll() is None, (
            "the pooler ended with status %s at start:\n%s"
            % (self.process.returncode, self.log()))
        with socket.socket() as probe:
            if probe.connect_ex(self.address) != 0:
                return False
        # The Unix socket comes after the port.
        general = self.config["general"] if isinstance(self.config, dict) else {}
        folder = general.get("unix_socket_dir")
        return not folder or os.path.exists("%s/.s.PGSQL.%d" % (folder, self.port))

    @property
    def pid(self):
        return self.process.pid

    def running(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, seconds=15):
        """Exit status of a process that was told to end."""
        try:
            return self.process.wait(seconds * PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError("the pooler did not end in %g s:\n%s"
                                 % (seconds, self.log()[-4000:])) from None

    def finish(self):
        """SIGTERM if it still runs; then it must have ended well and must not have complained."""
        try:
            if self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
            status = self.wait()
        except AssertionError:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            raise
        fault = FAULTS.search(self.log())
        assert fault is None, "%s\n%s" % (fault.group(), self.log()[-6000:])
        assert status == self.expected_status, "status %s\n%s" % (status, self.log()[-4000:])

    # ---- what it says

    def log(self):
        with open(self.log_path, errors="replace") as file:
            return file.read()

    def connect_admin(self, database=ADMIN_DATABASE):
        connection = psycopg2.connect(host="127.0.0.1", port=self.port, dbname=database,
                                      sslmode="disable", connect_timeout=10, **ADMIN)
        connection.autocommit = True
        return connection

    def admin(self, command):
        """Rows of an admin command as dictionaries; None when it has no rows."""
        connection = self.connect_admin()
        try:
            with connection.cursor() as cursor:
                cursor.execute(command)
                if cursor.description is None:
                    return None
                names = [column.name for column in cursor.description]
                return [dict(zip(names, values)) for values in cursor.fetchall()]
        finally:
            connection.close()

    def pool_row(self, database="app", user="trust_user"):
        """The row of SHOW POOLS, numbers as int."""
        for found in self.admin("SHOW POOLS"):
            if (found["database"], found["user"]) == (database, user):
                return {name: int(value) if re.fullmatch(r"\d+", str(value)) else value
                        for name, value in found.items()}
        raise AssertionError("SHOW POOLS has no row for %s@%s" % (user, database))

    def wait_idle(self, seconds=10, database="app", user="trust_user"):
        """Every lease is home."""
        def home():
            found = self.pool_row(database, user)
            return found["cl_active"] == found["sv_active"] == found["cl_waiting"] == 0
        wait_until(home, seconds, "cl_active = sv_active = cl_waiting = 0", 0.05)

    def wait_no_clients(self, seconds=10):
        """Only the asking admin session is left."""
        wait_until(lambda: len(self.admin("SHOW CLIENTS")) == 1, seconds,
                   "all clients to be gone", 0.05)

    def snapshot(self):
        """The document of SNAPSHOT, as `inspect --json` prints it."""
        with Wire(self.address).login(ADMIN["user"], ADMIN_DATABASE, ADMIN["password"]) as admin:
            document = bytes.fromhex(admin.value("SNAPSHOT")[2:])
        path = os.path.join(self.directory, "snapshot")
        with open(path, "wb") as file:
            file.write(document)
        done = run_program("inspect", "--json", path)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    # ---- what it uses

    def descriptors(self):
        return len(os.listdir("/proc/%d/fd" % self.pid))

    def own_bytes(self):
        """Memory that is its own. What it has of the program's and the libraries' pages depends on
        who else runs them."""
        total = 0
        with open("/proc/%d/smaps_rollup" % self.pid) as file:
            for line in file:
                if line.startswith(("Pss_Anon:", "Pss_Shmem:")):
                    total += int(line.split()[1]) * 1024
        assert total > 0
        return total

    # ---- clients

    def wire(self, **options):
        return Wire(self.address, **options)

    def client(self, database="app", user="trust_user", password="", **parameters):
        """A raw client that is logged in."""
        return Wire(self.address).login(user, database, password, **parameters)

    def connect(self, user="trust_user", database="app", password=None, host="127.0.0.1", **more):
        """A psycopg2 connection in autocommit."""
        connection = psycopg2.connect(host=host, port=self.port, user=user, dbname=database,
                                      password=password, sslmode="disable", **more)
        connection.autocommit = True
        return connection


def run_program(*arguments, timeout=30, **options):
    """The program as a command; for options that print and exit."""
    return subprocess.run([BINARY, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          stdin=subprocess.DEVNULL, text=True, timeout=timeout * PATIENCE,
                          **options)
