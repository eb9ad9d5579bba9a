"""The two sides of the comparison: a private PostgreSQL, and poolers in front of it.

Each worker of the tool has two databases of its own, alike in everything: `direct_<n>` is spoken to
without a pooler, `pooled_<n>` through one.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "tests", "tools"))

from private_postgres import Failure, PrivatePostgres, free_port, server_user  # noqa: E402

USER = "app"
CLIENTS = "abcdef"
TRUST = "local all all trust\nhost all all 127.0.0.1/32 trust\n"
# What a program that found fault with itself leaves in its log.
FAULTS = re.compile(r"invariant failed|ERROR: \w+Sanitizer|WARNING: \w+Sanitizer|runtime error:"
                    r"|LeakSanitizer|stack smashing", re.IGNORECASE)

# A table for each client, so that what one does never shows in the answers to another.
SCHEMA = "DROP SCHEMA IF EXISTS public CASCADE; CREATE SCHEMA public AUTHORIZATION app;" \
    "SET ROLE app;" + "".join("""
CREATE TABLE t_%(c)s (id int PRIMARY KEY, v text);
INSERT INTO t_%(c)s VALUES (1, 'one'), (2, 'two'), (3, 'three');
CREATE TABLE late_%(c)s (id int UNIQUE DEFERRABLE INITIALLY DEFERRED);
""" % {"c": client} for client in CLIENTS) + """
CREATE FUNCTION noisy(n int) RETURNS int LANGUAGE plpgsql AS
$$ BEGIN FOR i IN 1..n LOOP RAISE NOTICE 'notice %', i; END LOOP; RETURN n; END $$;
CREATE FUNCTION failing(what text) RETURNS int LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION '%', what USING ERRCODE = 'P0042', DETAIL = 'd', HINT = 'h'; END $$;
CREATE TYPE pair AS (x int, y text);
CREATE TYPE mood AS ENUM ('sad', 'happy');
RESET ROLE;
"""
# Cheaper than the above, after a client that changed no more than rows.
RESTORE = """DELETE FROM t_%(c)s; DELETE FROM late_%(c)s;
INSERT INTO t_%(c)s VALUES (1, 'one'), (2, 'two'), (3, 'three');"""

# Kinds of pools: settings of the pool, its size, and which pooler has it.
KINDS = {
    "one": ({"pool_mode": "transaction"}, 1, "cached"),
    "two": ({"pool_mode": "transaction", "server_prepared_statements_cache_size": 2}, 2, "cached"),
    "session": ({"pool_mode": "session"}, 2, "cached"),
    "plain": ({"pool_mode": "transaction"}, 2, "plain"),
}
GENERAL = {"cached": {}, "plain": {"prepared_statements": False}}


class Server(PrivatePostgres):
    """Lets everybody in, and writes no log of errors, of which there are many here."""

    def initdb(self, data):
        super().initdb(data)
        with open(os.path.join(data, "pg_hba.conf"), "w") as file:
            file.write(TRUST)

    def prepare(self, workers):
        self.ask("CREATE ROLE %s LOGIN" % USER)
        for setting in ("synchronous_commit = off", "jit = off", "log_min_messages = fatal",
                        "full_page_writes = off", "autovacuum_naptime = 5"):
            self.ask("ALTER SYSTEM SET " + setting)
        self.ask("SELECT pg_reload_conf()")
        for worker in range(workers):
            for side in ("direct", "pooled"):
                self.ask("CREATE DATABASE %s_%d OWNER app" % (side, worker))

    def socket_path(self):
        return os.path.join(self.folder, ".s.PGSQL.%d" % self.port)


class Pooler:
    """A pg_doorman with the pools of one general setting, for all workers."""

    def __init__(self, name, program, server, workers):
        self.folder = tempfile.mkdtemp(prefix="pg_doorman-differential-")
        self.port = free_port()
        self.log_path = os.path.join(self.folder, "log")
        pools = {}
        for kind, (settings, size, owner) in KINDS.items():
            if owner == name:
                for worker in range(workers):
                    pools["%s_%d" % (kind, worker)] = {
                        "server_host": server.folder, "server_port": server.port,
                        "server_database": "pooled_%d" % worker, **settings,
                        "users": [{"username": USER, "password": "", "pool_size": size}]}
        general = {"host": "127.0.0.1", "port": self.port, "unix_socket_dir": self.folder,
                   "unix_socket_mode": "0666", "worker_threads": 2, "pg_hba": TRUST,
                   "admin_username": "admin", "admin_password": "not used",
                   "query_wait_timeout": "60s", **GENERAL[name]}
        path = os.path.join(self.folder, "pg_doorman.yaml")
        with open(path, "w") as file:
            json.dump({"general": general, "pools": pools}, file, indent=1)
        with open(self.log_path, "wb") as log:
            # It must not outlive a run that is killed.
            self.process = subprocess.Popen(["setpriv", "--pdeathsig=TERM", program, path, "-l",
                                             "warn"], stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, start_new_session=True)
        self.wait()

    def socket_path(self):
        return os.path.join(self.folder, ".s.PGSQL.%d" % self.port)

    def wait(self):
        give_up = time.monotonic() + 30
        while not os.path.exists(self.socket_path()):
            if self.process.poll() is not None or time.monotonic() > give_up:
                raise Failure("pg_doorman did not start:\n" + self.log())
            time.sleep(0.02)

    def log(self):
        with open(self.log_path, errors="replace") as file:
            return file.read()

    def fault(self):
        """What is wrong with the process, if anything."""
        found = FAULTS.search(self.log())
        if self.process.poll() is not None:
            return "pg_doorman ended with status %s:\n%s" % (self.process.returncode,
                                                             self.log()[-4000:])
        return "pg_doorman says:\n" + self.log()[-4000:] if found else None

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class Servers:
    """Everything that runs for a comparison."""

    def __init__(self, program, workers):
        self.postgres = Server()
        self.poolers = {}
        try:
            self.postgres.start()
            self.postgres.prepare(workers)
            for name in GENERAL:
                self.poolers[name] = Pooler(name, program, self.postgres, workers)
        except BaseException:
            self.stop()
            raise

    def faults(self):
        return [fault for fault in (pooler.fault() for pooler in self.poolers.values()) if fault]

    def stop(self):
        for pooler in self.poolers.values():
            pooler.stop()
        self.postgres.stop()


__all__ = ["CLIENTS", "Failure", "KINDS", "RESTORE", "SCHEMA", "Servers", "USER", "server_user"]
