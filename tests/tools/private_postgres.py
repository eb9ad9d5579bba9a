"""A PostgreSQL server in a temporary directory, and a thin hand on any PostgreSQL through psql."""

import glob
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time

START_SECONDS = 60
STOP_SECONDS = 30


class Failure(Exception):
    """What went wrong, for people."""


def find_program(name):
    """From Debian's directory of server programs (newest first), else from PATH."""
    folders = glob.glob("/usr/lib/postgresql/*/bin")
    folders.sort(key=lambda path: float(path.split("/")[4]), reverse=True)
    for folder in folders:
        if os.access(os.path.join(folder, name), os.X_OK):
            return os.path.join(folder, name)
    path = shutil.which(name)
    if path is None:
        raise Failure("the program %s is missing. Debian: apt-get install postgresql "
                      "postgresql-contrib util-linux" % name)
    return path


class Postgres:
    """A server that somebody else runs. `url` may be empty: then the PG* environment decides."""

    def __init__(self, url, environment):
        self.url = url
        self.environment = {**os.environ, "PGCONNECT_TIMEOUT": "10", **environment}

    def psql(self, command, *options):
        arguments = [find_program("psql"), "-X", "-q", "-A", "-w", "-v", "ON_ERROR_STOP=1"]
        arguments += list(options) + (["-d", self.url] if self.url else []) + ["-f", "-"]
        done = subprocess.run(arguments, input=command + "\n", env=self.environment, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
        if done.returncode != 0:
            raise Failure("psql says: " + done.stderr.strip())
        return done.stdout

    def ask(self, command):
        """What the commands answer, without the last newline."""
        return self.psql(command, "-t").rstrip("\n")

    def try_to(self, command):
        """For clean-up: says what failed, and goes on."""
        try:
            self.ask(command)
        except Failure as failure:
            print("up: %s: %s" % (command, failure), flush=True)

    def rows(self, command):
        """The rows as dictionaries by column name."""
        lines = self.psql(command, "-F", "\t", "-P", "footer=off").splitlines()
        names = lines[0].split("\t") if lines else []
        return [dict(zip(names, line.split("\t"))) for line in lines[1:]]

    def address(self):
        """Host (or directory of the socket) and port, as libpq resolved them."""
        return self.ask(r"\echo :HOST :PORT").rsplit(" ", 1)


class PrivatePostgres(Postgres):
    """A server of our own, on 127.0.0.1 and a free port. PostgreSQL refuses to run as root, so
    then it runs as the user postgres."""

    def __init__(self, **settings):
        self.settings = settings
        self.password = secrets.token_hex(16)
        super().__init__("", {"PGPASSWORD": self.password, "PGUSER": "postgres",
                              "PGDATABASE": "postgres", "PGSSLMODE": "disable"})
        self.folder = None
        self.process = None
        self.port = None

    def as_server_user(self, command):
        """Runs as an unprivileged user, and ends when this process does."""
        prefix = [find_program("setpriv")]
        if os.geteuid() == 0:
            user = server_user()
            prefix += ["--reuid", user, "--regid", str(pwd.getpwnam(user).pw_gid), "--init-groups"]
        return prefix + ["--pdeathsig", "INT"] + command

    def start(self):
        self.folder = tempfile.mkdtemp(prefix="pg_doorman-postgres-")
        if os.geteuid() == 0:
            shutil.chown(self.folder, server_user())
        data = os.path.join(self.folder, "data")
        self.initdb(data)
        self.port = free_port()
        self.environment.update(PGHOST="127.0.0.1", PGPORT=str(self.port))
        settings = {
            "listen_addresses": "127.0.0.1", "port": self.port,
            "unix_socket_directories": self.folder, "max_connections": 100, "fsync": "off",
            "logging_collector": "off", **self.settings,
        }
        command = [find_program("postgres"), "-D", data]
        for name, value in settings.items():
            command += ["-c", "%s=%s" % (name, value)]
        with open(os.path.join(self.folder, "postgres.log"), "wb") as log:
            self.process = subprocess.Popen(
                self.as_server_user(command), cwd=self.folder, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True)
        self.wait_until_up()

    def initdb(self, data):
        secret = os.path.join(self.folder, "password")
        with open(secret, "w") as file:
            file.write(self.password)
        if os.geteuid() == 0:
            shutil.chown(secret, server_user())
        command = [find_program("initdb"), "-D", data, "-U", "postgres", "-A", "scram-sha-256",
                   "--pwfile=" + secret, "-E", "UTF8", "--locale=C", "-N"]
        done = subprocess.run(self.as_server_user(command), cwd=self.folder,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        os.unlink(secret)
        if done.returncode != 0:
            raise Failure("initdb failed:\n" + done.stdout)

    def wait_until_up(self):
        give_up = time.monotonic() + START_SECONDS
        while True:
            try:
                self.ask("SELECT 1")
                return
            except Failure as failure:
                if self.process.poll() is not None or time.monotonic() > give_up:
                    with open(os.path.join(self.folder, "postgres.log"), errors="replace") as log:
                        raise Failure("PostgreSQL did not start: %s\n%s" % (failure, log.read()))
            time.sleep(0.1)

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):  # fast, immediate
                self.process.send_signal(number)
                try:
                    self.process.wait(STOP_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    pass
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def server_user():
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
            return name
        except KeyError:
            pass
    raise Failure("PostgreSQL does not run as root, and there is no user postgres to run it as. "
                  "Debian: apt-get install postgresql")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
