"""What is measured: a private PostgreSQL, and the programs that stand in front of it."""

import glob
import os
import pwd
import resource
import shutil
import signal
import socket
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
USER = "bench"
PASSWORD = "bench-secret"
DATABASE = "bench"  # transaction mode on the poolers
SESSION_DATABASE = "bench_session"  # the same database through a session-mode pool
POOL_SIZE = 40
START_SECONDS = 10


class Failure(Exception):
    """Something could not be started; the text says what and why."""


def raise_descriptor_limit():
    """Raises the limit as far as allowed, for this process and its children; returns it."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (65536, max(65536, hard)))
    except (ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def unprivileged():
    """Popen arguments that run a child as `postgres` when this is root, for whom neither
    PostgreSQL nor PgBouncer starts."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam("postgres")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def give_away(path):
    if os.geteuid() == 0:
        entry = pwd.getpwnam("postgres")
        os.chown(path, entry.pw_uid, entry.pw_gid)


def run(argv, **more):
    done = subprocess.run(argv, capture_output=True, text=True, **more)
    if done.returncode != 0:
        raise Failure(f"{os.path.basename(argv[0])}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def find_pgbin():
    places = sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)
    for place in ["/usr/lib/postgresql/15/bin"] + places:
        if os.path.exists(f"{place}/postgres"):
            return place
    raise Failure("no PostgreSQL found; give --pgbin")


class Setup:
    """What all parts of a run share: directory, tools, sockets, CPUs."""

    def __init__(self, directory, pgbin, unix, pin):
        self.directory = directory
        self.pgbin = pgbin
        self.unix = unix
        self.pooler_cpus, self.other_cpus = pin if pin else (None, None)
        os.chmod(directory, 0o755)
        give_away(directory)

    def path(self, name):
        return os.path.join(self.directory, name)

    def on_pooler_cpus(self, argv):
        return ["taskset", "-c", self.pooler_cpus] + argv if self.pooler_cpus else argv

    def on_other_cpus(self, argv):
        return ["taskset", "-c", self.other_cpus] + argv if self.other_cpus else argv

    def client_host(self):
        return self.directory if self.unix else "127.0.0.1"

    def write(self, name, text):
        path = self.path(name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        give_away(path)
        return path


class Postgres:
    """A server of its own in the run's directory, tuned so that it is not what is measured."""

    def __init__(self, setup, max_connections, scale):
        self.setup = setup
        self.port = free_port()
        self.data = setup.path("data")
        self.max_connections = max_connections
        self.scale = scale
        self.verifier = None

    def tool(self, name):
        return os.path.join(self.setup.pgbin, name)

    def start(self):
        who = unprivileged()
        run([self.tool("initdb"), "-D", self.data, "-U", USER, "-A", "trust", "-E", "UTF8",
             "--locale=C", "--no-sync"], cwd="/", **who)
        with open(f"{self.data}/postgresql.conf", "a", encoding="utf-8") as f:
            f.write(f"""
listen_addresses = '127.0.0.1'
port = {self.port}
unix_socket_directories = '{self.setup.directory}'
max_connections = {self.max_connections}
shared_buffers = 256MB
fsync = off
synchronous_commit = off
full_page_writes = off
autovacuum = off
checkpoint_timeout = 1h
max_wal_size = 4GB
password_encryption = 'scram-sha-256'
logging_collector = off
""")
        log = self.setup.write("postgres.log", "")
        try:
            # Not through pipes: the server would keep them open and run() would wait for ever.
            subprocess.run(self.setup.on_other_cpus(
                [self.tool("pg_ctl"), "-D", self.data, "-l", log, "-w", "-t", "60", "start"]),
                cwd="/", check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, **who)
        except subprocess.CalledProcessError:
            raise Failure("PostgreSQL: " + tail(log)) from None
        self.query("postgres", f"ALTER ROLE {USER} PASSWORD '{PASSWORD}'")
        self.query("postgres", f"CREATE DATABASE {DATABASE}")
        run([self.tool("pgbench"), "-i", "-q", "-s", str(self.scale), "-h", "127.0.0.1",
             "-p", str(self.port), "-U", USER, DATABASE], cwd="/")
        self.query(DATABASE, "VACUUM FREEZE ANALYZE")
        self.query("postgres", "CHECKPOINT")
        # Both poolers get the stored verifier, so neither derives keys at a client's login.
        self.verifier = self.query(
            "postgres", f"SELECT rolpassword FROM pg_authid WHERE rolname = '{USER}'").strip()

    def query(self, database, sql):
        return run([self.tool("psql"), "-XAtq", "-h", "127.0.0.1", "-p", str(self.port),
                    "-U", USER, "-d", database, "-c", sql], cwd="/")

    def version(self):
        return run([self.tool("postgres"), "--version"], cwd="/").strip()

    def stop(self):
        if os.path.exists(f"{self.data}/postmaster.pid"):
            subprocess.run([self.tool("pg_ctl"), "-D", self.data, "-m", "immediate", "stop"],
                           cwd="/", capture_output=True, check=False, **unprivileged())


def tail(path, lines=15):
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return "".join(f.readlines()[-lines:]).strip() or "(empty log)"
    except OSError as e:
        return str(e)


class Target:
    """A program between pgbench and PostgreSQL. Subclasses say how it is started."""

    name = "?"
    label = "?"
    is_pooler = True

    def __init__(self, setup, postgres):
        self.setup = setup
        self.postgres = postgres
        self.port = free_port()
        self.process = None
        self.extra_env = {}
        self.log = setup.path(f"{self.name}.log")

    def host(self):
        return self.setup.client_host()

    def backend_host(self):
        return self.setup.client_host()

    def socket_path(self):
        return f"{self.setup.directory}/.s.PGSQL.{self.port}"

    def database(self, session):
        return SESSION_DATABASE if session else DATABASE

    def command(self):
        raise NotImplementedError

    def start(self):
        argv = self.setup.on_pooler_cpus(self.command())
        with open(self.log, "ab") as log:
            # pylint: disable-next=consider-using-with
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, cwd=self.setup.directory,
                                            env={**os.environ, **self.extra_env},
                                            **unprivileged())
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            if self.process.poll() is not None:
                status = self.process.returncode
                self.process = None
                raise Failure(f"{self.label} ended with status {status}: {tail(self.log)}")
            if time.monotonic() > deadline:
                self.stop()
                raise Failure(f"{self.label} does not listen: {tail(self.log)}")
            time.sleep(0.05)

    def connect(self):
        if self.setup.unix:
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(10)
            s.connect(self.socket_path())
        else:
            s = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        return s

    def answers(self):
        try:
            self.connect().close()
            return True
        except OSError:
            return False

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def stop(self):
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def version(self):
        return ""


class Forwarder(Target):
    name = "forwarder"
    label = "forwarder"
    is_pooler = False

    def __init__(self, setup, postgres):
        super().__init__(setup, postgres)
        self.binary = setup.path("forwarder")
        run(["gcc", "-std=gnu17", "-O2", "-g", "-D_GNU_SOURCE", "-o", self.binary,
             f"{HERE}/forwarder.c"])

    def database(self, session):
        return DATABASE  # one connection each, so every mode is session mode

    def command(self):
        if self.setup.unix:
            there = f"{self.setup.directory}/.s.PGSQL.{self.postgres.port}"
            if os.path.exists(self.socket_path()):
                os.unlink(self.socket_path())
            return [self.binary, "--listen", self.socket_path(), "--to", there]
        return [self.binary, "--listen", str(self.port), "--to",
                f"127.0.0.1:{self.postgres.port}"]

    def version(self):
        return "tests/bench/forwarder.c, epoll, gcc -O2"


class PgBouncer(Target):
    name = "pgbouncer"
    label = "PgBouncer"

    def __init__(self, setup, postgres, binary):
        super().__init__(setup, postgres)
        self.binary = binary
        if not os.path.exists(binary):
            raise Failure(f"no PgBouncer at {binary}; give --pgbouncer")

    def command(self):
        users = self.setup.write("pgbouncer.users", f'"{USER}" "{self.postgres.verifier}"\n')
        backend = (f"host={self.backend_host()} port={self.postgres.port} dbname={DATABASE} "
                   f"pool_size={POOL_SIZE}")
        ini = self.setup.write("pgbouncer.ini", f"""
[databases]
{DATABASE} = {backend} pool_mode=transaction
{SESSION_DATABASE} = {backend} pool_mode=session
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir = {self.setup.directory if self.setup.unix else ''}
auth_type = scram-sha-256
auth_file = {users}
max_client_conn = 12000
log_connections = 0
log_disconnections = 0
ignore_startup_parameters = extra_float_digits
""")
        return [self.binary, "-q", ini]

    def version(self):
        return run([self.binary, "--version"]).splitlines()[0]


class Doorman(Target):
    def __init__(self, name, setup, postgres, binary, engine, workers):
        self.name = name
        self.engine = engine
        self.workers = workers
        threads = "1 worker" if workers == 1 else f"{workers} workers"
        self.label = f"PgDoorman, {engine}, {threads}"
        super().__init__(setup, postgres)
        if not os.path.exists(binary):
            raise Failure(f"no pg_doorman at {os.path.relpath(binary, ROOT)}")
        # A copy: readable for the other user, and the same bytes even if it is rebuilt.
        self.binary = setup.path("pg_doorman")
        if not os.path.exists(self.binary):
            shutil.copy2(binary, self.binary)
            os.chmod(self.binary, 0o755)
        self.extra_env = {"PG_DOORMAN_IO": engine}

    def pool(self, name, mode):
        return f"""
  {name}:
    server_host: "{self.backend_host()}"
    server_port: {self.postgres.port}
    server_database: "{DATABASE}"
    pool_mode: {mode}
    users:
      - username: "{USER}"
        password: "{self.postgres.verifier}"
        pool_size: {POOL_SIZE}
"""

    def command(self):
        unix = f'unix_socket_dir: "{self.setup.directory}"' if self.setup.unix else ""
        config = self.setup.write(f"{self.name}.yaml", f"""
general:
  host: "127.0.0.1"
  port: {self.port}
  worker_threads: {self.workers}
  max_connections: 12000
  query_wait_timeout: 30s
  admin_username: admin
  admin_password: "bench-admin"
  {unix}
pools:{self.pool(DATABASE, "transaction")}{self.pool(SESSION_DATABASE, "session")}""")
        return [self.binary, "-l", "warn", config]

    def version(self):
        return run([self.binary, "--version"]).strip()
