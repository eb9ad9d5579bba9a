"""A pooler to look at, in one command: PostgreSQL, pg_doorman in front of it, and some load.

Starts a private PostgreSQL in a temporary directory (unless --pg-url, DOORMAN_PG or PGHOST names
one), creates a role and a database, starts pg_doorman on 127.0.0.1:6432 and sends a short pgbench
through it. Then it says how to connect, and stays until Ctrl-C; with --once it ends by itself.
Whatever it started or created is gone at the end, also after a failure.
"""

import argparse
import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from private_postgres import Failure, Postgres, PrivatePostgres, find_program  # noqa: E402

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HOST = "127.0.0.1"
START_SECONDS = 20
STOP_SECONDS = 15


def say(text=""):
    print(text, flush=True)


def step(text):
    say("-- " + text)


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--once", action="store_true", help="end after the load, status 0 when all went well")
    add("--builddir", default="build", help="where pg_doorman is")
    add("--port", type=int, default=6432, help="port that pg_doorman listens on")
    add("--pg-url", help="use this PostgreSQL, as a superuser: postgresql://user:password@host/db")
    add("--name", default="app", help="name of the role and the database that are created")
    add("--pool-size", type=int, default=8, help="PostgreSQL connections of the pool")
    add("--clients", type=int, default=64, help="connections of pgbench to pg_doorman")
    add("--seconds", type=int, default=5, help="length of the load")
    return parser.parse_args()


def check_port(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise Failure("port %d on %s cannot be used (%s). Is another pooler running? "
                          "Choose another port: tests/tools/up.py --port %d"
                          % (port, HOST, error.strerror.lower(), port + 1))


# ---- PostgreSQL --------------------------------------------------------------------------------

def open_postgres(options, stack):
    """The server that we use: a named one, or one of our own."""
    url = options.pg_url or os.environ.get("DOORMAN_PG")
    if url or os.environ.get("PGHOST"):
        server = Postgres(url or "", {})
        where = server.ask(r"\echo :USER@:HOST port :PORT")
        step("using the PostgreSQL that is named: " + where)
        return server
    step("starting a private PostgreSQL")
    server = PrivatePostgres()
    stack.callback(server.stop)
    server.start()
    step("PostgreSQL %s is up, port %d" % (server.ask("SHOW server_version"), server.port))
    return server


def quoted_name(name):
    return '"' + name.replace('"', '""') + '"'


def quoted_text(text):
    return "'" + text.replace("'", "''") + "'"


def create_database(server, name, password, stack):
    """Role and database for the clients. Returns the verifier that PostgreSQL keeps."""
    taken = server.ask("SELECT 'role' FROM pg_roles WHERE rolname = %s UNION ALL "
                       "SELECT 'database' FROM pg_database WHERE datname = %s"
                       % (quoted_text(name), quoted_text(name)))
    if taken:
        raise Failure("that server already has a %s named %s, which is left alone. Choose another "
                      "name: tests/tools/up.py --name NAME" % (" and a ".join(taken.split()), name))
    server.ask("SET password_encryption = 'scram-sha-256'; CREATE ROLE %s LOGIN PASSWORD %s"
               % (quoted_name(name), quoted_text(password)))
    stack.callback(server.try_to, "DROP ROLE IF EXISTS %s" % quoted_name(name))
    server.ask("CREATE DATABASE %s OWNER %s" % (quoted_name(name), quoted_name(name)))
    stack.callback(server.try_to, "DROP DATABASE IF EXISTS %s WITH (FORCE)" % quoted_name(name))
    return server.ask("SELECT rolpassword FROM pg_authid WHERE rolname = " + quoted_text(name))


# ---- pg_doorman --------------------------------------------------------------------------------

CONFIGURATION = """\
# Made by tests/tools/up.py for this run. A JSON string is a YAML string, too.
general:
  host: {host}
  port: {port}
  admin_username: "admin"
  admin_password: {admin_password}
pools:
  {name}:
    server_host: {server_host}
    server_port: {server_port}
    pool_mode: "transaction"
    users:
      # The password is the verifier that PostgreSQL keeps for the role: with it pg_doorman checks
      # its clients, and with what they prove it logs in to PostgreSQL. It stores no password.
      - username: {name}
        password: {verifier}
        pool_size: {pool_size}
"""


def write_configuration(path, options, server, verifier, admin_password):
    host, port = server.address()
    texts = {"host": HOST, "admin_password": admin_password, "name": options.name,
             "server_host": host, "verifier": verifier}
    values = {key: json.dumps(value) for key, value in texts.items()}
    values.update(port=options.port, server_port=int(port), pool_size=options.pool_size)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w") as file:
        file.write(CONFIGURATION.format(**values))


class Doorman:
    """The pooler's process. Its log goes to a file, which is shown when something fails."""

    def __init__(self, program, config, log_path):
        self.log_path = log_path
        with open(log_path, "wb") as log:
            # A session of its own: Ctrl-C is for this script, which then stops the pooler. Should
            # this script be killed, the kernel tells the pooler.
            self.process = subprocess.Popen(
                [find_program("setpriv"), "--pdeathsig", "TERM", program, config],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def check(self):
        status = self.process.poll()
        if status is not None:
            raise Failure("pg_doorman ended with status %d" % status)

    def log_tail(self):
        with open(self.log_path, errors="replace") as file:
            return "".join(file.readlines()[-30:])


def wait_for_doorman(doorman, port):
    give_up = time.monotonic() + START_SECONDS
    while True:
        doorman.check()
        try:
            socket.create_connection((HOST, port), 1).close()
            return
        except OSError as error:
            if time.monotonic() > give_up:
                raise Failure("pg_doorman does not listen on port %d after %d s: %s"
                              % (port, START_SECONDS, error))
            time.sleep(0.05)


# ---- load --------------------------------------------------------------------------------------

class Load:
    """pgbench in the background; its progress lines pass through as they come."""

    def __init__(self, options, password):
        self.environment = {**os.environ, "PGPASSWORD": password, "PGSSLMODE": "disable"}
        self.command = [find_program("pgbench"), "-n", "-S", "-P", "1", "-j", "2",
                        "-c", str(options.clients), "-T", str(options.seconds),
                        "-h", HOST, "-p", str(options.port), "-U", options.name, options.name]
        self.process = None

    def start(self):
        self.process = subprocess.Popen(
            [find_program("setpriv"), "--pdeathsig", "KILL"] + self.command,
            env=self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=None, text=True, start_new_session=True)

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def finish(self, seconds):
        try:
            output, _ = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise Failure("pgbench has not ended after %d s" % seconds)
        if self.process.returncode != 0:
            raise Failure("pgbench ended with status %d\n%s" % (self.process.returncode, output))
        return output


def watch(load, admin, server, name):
    """While the load runs, looks at it twice a second. Returns the busiest row of SHOW POOLS, and
    the largest numbers of clients and of backends seen at once."""
    busiest = {}
    most_clients = 0
    most_backends = 0
    while load.process.poll() is None:
        time.sleep(0.5)
        for row in admin.rows("SHOW POOLS"):
            if row["database"] != name:
                continue
            most_clients = max(most_clients, total(row, "cl_idle", "cl_active", "cl_waiting"))
            if total(row, "sv_active", "cl_waiting") >= total(busiest, "sv_active", "cl_waiting"):
                busiest = row
        most_backends = max(most_backends, int(server.ask(
            "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' "
            "AND datname = " + quoted_text(name))))
    return busiest, most_clients, most_backends


def total(row, *columns):
    return sum(int(row.get(column, 0)) for column in columns)


def run_load(options, server, password, admin, stack):
    step("filling the tables of pgbench, directly in PostgreSQL")
    host, port = server.address()
    filling = subprocess.run(
        [find_program("pgbench"), "-i", "-q", "-s", "1", "-h", host, "-p", port, "-U",
         options.name, options.name],
        env={**os.environ, "PGPASSWORD": password}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if filling.returncode != 0:
        raise Failure("pgbench -i failed:\n" + filling.stdout)

    step("%d clients read through pg_doorman for %d s (pgbench -S)"
         % (options.clients, options.seconds))
    load = Load(options, password)
    stack.callback(load.stop)
    load.start()
    busiest, clients, backends = watch(load, admin, server, options.name)
    output = load.finish(options.seconds + 60)
    say()
    shown = ("cl_active", "cl_idle", "cl_waiting", "sv_active", "sv_idle", "pool_size")
    say("   SHOW POOLS: " + ", ".join("%s %s" % (column, busiest.get(column, "?"))
                                      for column in shown))
    say("   %d clients were served by %d PostgreSQL connections (pg_stat_activity), "
        "pool_size is %d" % (clients, backends, options.pool_size))
    for line in output.splitlines():
        if "actually processed" in line or line.startswith(("latency average", "tps")):
            say("   " + line)


def tell_how_to_connect(options, password, admin_password, config):
    base = "psql 'postgresql://%s:%s@%s:%d/%s'"
    say()
    say("   As a client:   " + base % (options.name, password, HOST, options.port, options.name))
    say("   Admin console: " + base % ("admin", admin_password, HOST, options.port, "pgdoorman"))
    say("                  then SHOW HELP, SHOW POOLS, SHOW CLIENTS, SHOW SERVERS, SHOW STATS")
    say("   Configuration: " + config)
    say()


def stay(doorman):
    say("Ctrl-C ends everything.")
    while True:
        doorman.check()
        time.sleep(0.5)


def run(options, stack):
    program = os.path.join(TOP, options.builddir, "pg_doorman")
    if not os.path.exists(program):
        raise Failure("there is no %s; run ninja first" % program)
    check_port(options.port)
    password = secrets.token_hex(8)
    admin_password = secrets.token_hex(8)

    server = open_postgres(options, stack)
    verifier = create_database(server, options.name, password, stack)
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="pg_doorman-up-"))
    config = os.path.join(folder, "pg_doorman.yaml")
    write_configuration(config, options, server, verifier, admin_password)

    step("starting pg_doorman on %s:%d" % (HOST, options.port))
    doorman = Doorman(program, config, os.path.join(folder, "pg_doorman.log"))
    stack.callback(doorman.stop)
    try:
        wait_for_doorman(doorman, options.port)
        address = "postgresql://%s:%s@%s:%d/%s?sslmode=disable"
        client = Postgres(address % (options.name, password, HOST, options.port, options.name), {})
        if client.ask("SELECT 40 + 2") != "42":
            raise Failure("pg_doorman gave a wrong answer to SELECT 40 + 2")
        step("a client logged in through pg_doorman and got its answer")
        admin = Postgres(address % ("admin", admin_password, HOST, options.port, "pgdoorman"), {})
        run_load(options, server, password, admin, stack)
        tell_how_to_connect(options, password, admin_password, config)
        if not options.once:
            stay(doorman)
    except Failure as failure:
        raise Failure("%s\n\nThe end of pg_doorman's log:\n%s" % (failure, doorman.log_tail()))


def main():
    options = parse_options()
    # Every way to ask for the end takes the same way out, through the clean-up.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    status = 0
    with contextlib.ExitStack() as stack:
        try:
            run(options, stack)
        except Failure as failure:
            say("\nup: " + str(failure))
            status = 1
        except KeyboardInterrupt:
            say()
            status = 130 if options.once else 0
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        step("stopping and removing everything")
    return status


if __name__ == "__main__":
    sys.exit(main())
