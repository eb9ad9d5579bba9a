"""A private PostgreSQL: temporary directory, free port, Unix socket, roles for every secret."""

import glob
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import tempfile

import psycopg2

from waiting import wait_until

# Role and password. PostgreSQL stores the secret of md5_user as MD5, the others as SCRAM; it lets
# trust_user in without one.
PASSWORDS = {
    "scram_user": "scram secret ä",
    "md5_user": "md5 secret",
    "trust_user": "",
    "plain_user": "plain secret",
}
DATABASES = ("app", "other", "logged")

HBA = """
local all postgres trust
local all trust_user trust
local all md5_user md5
local all all scram-sha-256
host all trust_user 127.0.0.1/32 trust
host all md5_user 127.0.0.1/32 md5
host all all 127.0.0.1/32 scram-sha-256
"""

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "150",
    "superuser_reserved_connections": "10",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "autovacuum": "off",
    "log_line_prefix": "'%m [%p] %u@%d '",
    "log_connections": "on",
    "lc_messages": "C",
    "timezone": "UTC",
}


def binary(name):
    """The newest installed PostgreSQL server program of that name."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/" + name),
                   key=lambda path: float(path.split("/")[4]))
    return found[-1] if found else shutil.which(name)


def free_port():
    """A TCP port nobody listens on, below the range the kernel gives to outgoing connections."""
    low = int(open("/proc/sys/net/ipv4/ip_local_port_range").read().split()[0])
    start = 10000 + (os.getpid() * 37 + free_port.calls * 101) % max(low - 10500, 1000)
    free_port.calls += 1
    for port in range(start, start + 400):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise RuntimeError("no free port from %d on" % start)


free_port.calls = 0


class Postgres:
    """One server. `log_statement` goes into the configuration of all databases but `logged`,
    where every statement is always logged."""

    def __init__(self, log_statement="none"):
        self.directory = tempfile.mkdtemp(prefix="doorman-pg-")
        os.chmod(self.directory, 0o755)
        self.data = os.path.join(self.directory, "data")
        self.log_path = os.path.join(self.directory, "postgres.log")
        self.port = free_port()
        self.log_statement = log_statement
        self.process = None

    # ---- running it

    def _unprivileged(self):
        if os.geteuid() != 0:
            return ["setpriv", "--pdeathsig=INT"]
        user = pwd.getpwnam("postgres")
        return ["setpriv", "--pdeathsig=INT", "--reuid=%d" % user.pw_uid,
                "--regid=%d" % user.pw_gid, "--clear-groups"]

    def create(self):
        if os.geteuid() == 0:
            shutil.chown(self.directory, "postgres", "postgres")
        subprocess.run(self._unprivileged() +
                       [binary("initdb"), "-D", self.data, "-U", "postgres", "-A", "trust",
                        "-E", "UTF8", "--locale=C", "-N"],
                       check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        with open(os.path.join(self.data, "pg_hba.conf"), "w") as hba:
            hba.write(HBA)
        with open(os.path.join(self.data, "postgresql.conf"), "a") as conf:
            for key, value in SETTINGS.items():
                conf.write("%s = %s\n" % (key, value if value.startswith("'") else "'%s'" % value))
            conf.write("unix_socket_directories = '%s'\n" % self.directory)
            conf.write("log_statement = '%s'\nport = %d\n" % (self.log_statement, self.port))
        self.start()
        self._populate()

    def start(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self._unprivileged() +
                                            [binary("postgres"), "-D", self.data],
                                            stdout=log, stderr=log, start_new_session=True)
        wait_until(self.answers, 60, "PostgreSQL to accept connections", 0.05)

    def stop(self, mode=signal.SIGINT):
        """SIGINT is the fast mode, SIGQUIT the immediate one."""
        if self.process is None:
            return
        self.process.send_signal(mode)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def restart(self, mode=signal.SIGINT):
        self.stop(mode)
        self.start()

    def remove(self):
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.directory, ignore_errors=True)

    def answers(self):
        assert self.process.poll() is None, open(self.log_path).read()[-2000:]
        try:
            self.connect().close()
            return True
        except psycopg2.OperationalError:
            return False

    def _populate(self):
        for name in ("scram_user", "plain_user", "trust_user"):
            self.run("CREATE ROLE %s LOGIN PASSWORD %s" % (name, quote(PASSWORDS[name] or "none")))
        self.run("SET password_encryption = 'md5'; CREATE ROLE md5_user LOGIN PASSWORD %s"
                 % quote(PASSWORDS["md5_user"]))
        for name in DATABASES:
            self.run("CREATE DATABASE " + name)
            self.run("GRANT ALL ON SCHEMA public TO PUBLIC", database=name)
        self.run("ALTER DATABASE logged SET log_statement = 'all'")

    # ---- asking it directly, as its superuser

    def connect(self, database="postgres"):
        connection = psycopg2.connect(host=self.directory, port=self.port, user="postgres",
                                      dbname=database, application_name="test superuser")
        connection.autocommit = True
        return connection

    def run(self, sql, args=None, database="postgres"):
        """Rows of one statement (or None) from a connection of its own."""
        connection = self.connect(database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql, args)
                return cursor.fetchall() if cursor.description else None
        finally:
            connection.close()

    def value(self, sql, args=None, database="postgres"):
        return self.run(sql, args, database)[0][0]

    def backends(self, where="true", database=None):
        """Server processes of ordinary roles: list of (pid, user, state, application_name)."""
        return self.run("SELECT pid, usename, state, application_name FROM pg_stat_activity "
                        "WHERE backend_type = 'client backend' AND usename <> 'postgres' "
                        "AND (%s IS NULL OR datname = %s) AND (" + where + ") ORDER BY pid",
                        (database, database))

    def terminate(self, where="true"):
        """Ends ordinary server processes; returns their pids."""
        # Materialized: otherwise the planner may call the function before it looks at the role.
        return [row[0] for row in self.run(
            "WITH victims AS MATERIALIZED (SELECT pid FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND usename <> 'postgres' AND (" + where + "))"
            " SELECT pid FROM victims WHERE pg_terminate_backend(pid)")]

    def verifier(self, role):
        """What pg_authid stores for the role: the text a pooler is configured with."""
        return self.value("SELECT rolpassword FROM pg_authid WHERE rolname = %s", (role,))

    # ---- its log

    def log_position(self):
        return os.path.getsize(self.log_path)

    def statements_since(self, position):
        """Texts of the statements logged since, in order; only `logged` has them by default."""
        with open(self.log_path, "rb") as log:
            log.seek(position)
            text = log.read().decode("utf-8", "replace")
        return re.findall(r"@\S+ LOG:  (?:statement|execute [^:]*): (.*(?:\n\t.*)*)", text)

    def log_since(self, position):
        with open(self.log_path, "rb") as log:
            log.seek(position)
            return log.read().decode("utf-8", "replace")


def quote(text):
    return "'" + text.replace("'", "''") + "'"
