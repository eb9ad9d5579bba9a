"""The drivers matrix: programs of many drivers through pg_doorman, and directly for comparison.

Each driver has a program here that runs the scenarios below with several clients at once. It runs
against a private PostgreSQL directly, then through a pooler with fewer backends than clients, in
transaction and in session mode, on each I/O engine; both sides log in with SCRAM. What a program
says it saw (error texts, tags, notices) must be the same everywhere. Afterwards the pooler must be
at rest and its backends without traces of their clients: scenario `clean`.

A driver that is not installed fails. The last line is `N passed, N failed`.
"""

import argparse
import collections
import concurrent.futures
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [os.path.join(TOP, "tests", "integration"), os.path.join(TOP, "tests", "tools")]

USER = "scram_user"
DATABASE = "app"
CLIENTS = 8
BACKENDS = 3
SCENARIOS = ["simple", "prepared", "forced", "unprepared", "pipeline", "copy", "errors", "cancel",
             "cursors", "large", "transactions", "settings", "notices", "listen", "reconnects",
             "pool", "functions"]
CLEAN = "clean"
MODES = ("transaction", "session")
PYTHON = "/usr/bin/python3"
JDBC = "/usr/share/java/postgresql.jar"


class Driver:
    """A program, and what it needs: commands to build it, then the command to run it."""

    def __init__(self, name, command, build=(), environment=None):
        self.name = name
        self.command = command
        self.build = build
        self.environment = environment or {}


def python(name, program, *arguments):
    return Driver(name, [PYTHON, os.path.join(HERE, program), *arguments])


def node(name, program):
    return Driver(name, [shutil.which("node") or "node", os.path.join(HERE, program)])


def drivers(scratch):
    java = os.path.join(scratch, "java")
    go = os.path.join(scratch, "go")
    # Debian's packages are sources in a GOPATH; nothing is fetched.
    go_environment = {"GOPATH": "/usr/share/gocode", "GO111MODULE": "off", "GOFLAGS": "",
                      "GOCACHE": os.path.join(scratch, "go-cache"), "CGO_ENABLED": "0"}
    go_build = [["/usr/bin/go", "build", "-o", go] + sources(HERE, "go", ".go")]
    java_build = [["javac", "-Xlint:-options", "-cp", JDBC, "-d", java]
                  + sources(HERE, "java", ".java")]
    return [
        python("psycopg2", "drive_psycopg2.py"),
        python("psycopg3", "drive_psycopg3.py"),
        python("asyncpg", "drive_asyncpg.py"),
        python("sqlalchemy-psycopg2", "drive_sqlalchemy.py", "psycopg2"),
        python("sqlalchemy-asyncpg", "drive_sqlalchemy.py", "asyncpg"),
        node("node-postgres", "drive_node_postgres.js"),
        node("postgres.js", "drive_postgres_js.js"),
        Driver("pgjdbc", ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto",
                          "-Dfile.encoding=UTF-8", "-cp", JDBC + ":" + java, "DrivePgjdbc"],
               build=java_build),
        Driver("pgx", [go, "pgx", "pgx v4"], go_build, go_environment),
        Driver("lib-pq", [go, "pq", "lib/pq"], go_build, go_environment),
        Driver("pdo", ["php", os.path.join(HERE, "drive_pdo.php")]),
        Driver("dbd-pg", ["/usr/bin/perl", os.path.join(HERE, "drive_dbd_pg.pl")]),
    ]


def sources(*folder_and_ending):
    *folder, ending = folder_and_ending
    folder = os.path.join(*folder)
    return sorted(os.path.join(folder, name) for name in os.listdir(folder)
                  if name.endswith(ending)) if os.path.isdir(folder) else []


# ---- results -----------------------------------------------------------------------------------

class Outcome:
    """What one program did at one target."""

    def __init__(self):
        self.version = ""
        self.cells = {}                                # scenario: (state, text)
        self.seen = collections.defaultdict(list)      # scenario: lines
        self.seconds = 0.0

    def fail(self, scenario, text):
        if self.cells.get(scenario, ("ok", ""))[0] != "fail":
            self.cells[scenario] = ("fail", text)

    def read(self, output, scenarios, trouble):
        for line in output.splitlines():
            kind, _, rest = line.partition(" ")
            name, _, text = rest.partition(" ")
            if kind == "driver":
                self.version = rest
            elif kind == "see":
                self.seen[name].append(text)
            elif kind in ("ok", "n/a", "fail") and name in scenarios:
                self.cells[name] = (kind, text)
        if trouble != "" and self.version == "":
            trouble += " before it began; ./configure.py --deps installs what it needs"
        missing = [name for name in scenarios if name not in self.cells]
        for name in missing:
            self.cells[name] = ("fail", "no result; " + trouble)
        if not missing and trouble != "":
            self.fail(scenarios[-1], trouble)


def run_program(command, environment, seconds):
    """Standard output, the end of standard error, and what was wrong with its end ("": nothing)."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as complaints:
        child = subprocess.Popen(["setpriv", "--pdeathsig=KILL"] + command, env=environment,
                                 cwd=HERE, stdin=subprocess.DEVNULL, stdout=out,
                                 stderr=complaints, start_new_session=True)
        trouble = ""
        try:
            status = child.wait(seconds)
            if status != 0:
                trouble = "the program ended with status %d" % status
        except subprocess.TimeoutExpired:
            trouble = "the program did not end in %d s" % seconds
        finally:
            end_group(child)
        texts = []
        for file in (out, complaints):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "replace"))
    return texts[0], texts[1][-3000:], trouble


def end_group(child):
    try:
        os.killpg(child.pid, 9)
    except ProcessLookupError:
        pass
    child.wait()


# ---- one driver --------------------------------------------------------------------------------

class Matrix:
    def __init__(self, options, postgres):
        self.options = options
        self.postgres = postgres
        self.scenarios = options.scenarios or SCENARIOS
        self.lock = threading.Lock()
        self.build_lock = threading.Lock()

    def pairs(self, driver):
        """Engines and the modes that are tried on each."""
        engines = self.options.engines
        if not self.options.spread or len(engines) != 2:
            return [(engine, MODES) for engine in engines]
        turn = [d.name for d in drivers("")].index(driver.name) % 2
        return [(engines[turn], MODES[:1]), (engines[1 - turn], MODES[1:])]

    def run_driver(self, driver):
        """Outcomes by target. Builds, runs directly, then through a pooler per engine."""
        with self.build_lock:  # two drivers may be one program
            trouble = build_once(tuple(map(tuple, driver.build)),
                                 tuple(driver.environment.items()))
        if trouble:
            outcome = Outcome()
            outcome.read("", self.scenarios, trouble)
            return {"anywhere": outcome}
        outcomes = {"direct": self.run_at(driver, "direct", "direct", self.postgres.port, DATABASE)}
        for engine, modes in self.pairs(driver):
            self.run_engine(driver, engine, modes, outcomes)
        for target, outcome in outcomes.items():
            compare(outcome, outcomes["direct"])
        return outcomes

    def run_engine(self, driver, engine, modes, outcomes):
        with tempfile.TemporaryDirectory(prefix="pg_doorman-drivers-") as folder:
            pooler = self.start_pooler(folder, engine)
            try:
                for mode in modes:
                    target = "%s/%s" % (mode, engine)
                    outcome = self.run_at(driver, target, mode, pooler.port, mode)
                    outcomes[target] = outcome
                    try:
                        self.check_clean(pooler, mode)
                        outcome.cells[CLEAN] = ("ok", "")
                    except Exception as problem:
                        outcome.fail(CLEAN, one_line(problem))
            finally:
                try:
                    pooler.finish()
                except AssertionError as problem:
                    for mode in modes:
                        outcomes["%s/%s" % (mode, engine)].fail(CLEAN, one_line(problem))
            if self.options.keep_logs:
                shutil.copy(pooler.log_path, os.path.join(
                    self.options.keep_logs, "%s-%s.log" % (driver.name, engine)))

    def start_pooler(self, folder, engine):
        from pooler import Doorman, configuration
        from postgres import free_port
        user = {"username": USER, "password": self.postgres.verifier(USER), "pool_size": BACKENDS}
        pools = {mode: {"server_host": "127.0.0.1", "server_port": self.postgres.port,
                        "server_database": DATABASE, "pool_mode": mode,
                        "users": [user]}
                 for mode in MODES}
        with self.lock:  # the port must not be found twice
            port = free_port()
            config = configuration(port, pools, query_wait_timeout=60000,
                                   pg_hba="host all all 127.0.0.1/32 scram-sha-256\n"
                                          "host pgdoorman all 127.0.0.1/32 md5\n")
            return Doorman(folder, port, config, {"PG_DOORMAN_IO": engine}).start()

    def run_at(self, driver, target, mode, port, database):
        from postgres import PASSWORDS
        table = "%s_%s" % (driver.name.replace("-", "_").replace(".", "_"),
                           target.replace("/", "_"))
        self.make_table(table)
        environment = {
            **os.environ, **driver.environment,
            "PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": USER, "PGSSLMODE": "disable",
            "PGPASSWORD": PASSWORDS[USER], "PGDATABASE": database, "DRIVERS_MODE": mode,
            "DRIVERS_CLIENTS": str(CLIENTS), "DRIVERS_BACKENDS": str(BACKENDS),
            "DRIVERS_TABLE": table, "DRIVERS_ONLY": ",".join(self.options.scenarios),
            "PYTHONDONTWRITEBYTECODE": "1"}
        began = time.monotonic()
        out, complaints, trouble = run_program(driver.command, environment, self.options.seconds)
        outcome = Outcome()
        outcome.read(out.replace(table, "TABLE"), self.scenarios, trouble)
        outcome.seconds = time.monotonic() - began
        if complaints and any(state == "fail" for state, _ in outcome.cells.values()):
            say("---- %s, %s:\n%s" % (driver.name, target, complaints))
        return outcome

    def make_table(self, name):
        self.postgres.run(
            "CREATE TABLE {0} (client int, id int, label text NOT NULL, "
            "amount int CHECK (amount >= 0), PRIMARY KEY (client, id)); "
            "GRANT ALL ON {0} TO PUBLIC; ALTER TABLE {0} OWNER TO {1}".format(name, USER),
            database=DATABASE)

    # ---- afterwards

    def check_clean(self, pooler, mode):
        """Nobody holds a backend, there are not too many, and none has traces of a client."""
        import psycopg2
        from postgres import PASSWORDS
        pooler.wait_idle(database=mode, user=USER)
        pids = [int(row["server_process_id"]) for row in pooler.admin("SHOW SERVERS")
                if row["database_name"] == mode]
        found = self.postgres.run("SELECT state FROM pg_stat_activity WHERE pid = ANY(%s)",
                                  (pids,))
        assert len(found) <= BACKENDS, "%d connections to PostgreSQL" % len(found)
        assert all(state == ("idle",) for state in found), found
        connections = [psycopg2.connect(host="127.0.0.1", port=pooler.port, user=USER,
                                        password=PASSWORDS[USER], dbname=mode, sslmode="disable")
                       for _ in range(BACKENDS)]
        try:
            for connection in connections:  # each in a transaction: so they are different backends
                with connection.cursor() as cursor:
                    cursor.execute(TRACES)
                    traces = cursor.fetchall()
                    assert not traces, "left behind: %s" % traces
        finally:
            for connection in connections:
                connection.close()


TRACES = r"""
SELECT 'prepared statement ' || name FROM pg_prepared_statements WHERE name !~ '^DOORMAN_\d+$'
UNION ALL SELECT 'cursor ' || name FROM pg_cursors
UNION ALL SELECT 'listens to ' || c FROM pg_listening_channels() c
UNION ALL SELECT 'advisory lock' FROM pg_locks WHERE locktype = 'advisory'
          AND pid = pg_backend_pid()
UNION ALL SELECT 'temporary table ' || relname FROM pg_class WHERE relkind = 'r'
          AND relnamespace = pg_my_temp_schema()
UNION ALL SELECT 'setting ' || name || ' = ' || setting FROM pg_settings
          WHERE name IN ('work_mem', 'search_path', 'statement_timeout', 'role')
          AND setting IS DISTINCT FROM reset_val
"""


@functools.lru_cache(None)
def build_once(commands, environment):
    """Returns what went wrong, or None."""
    for command in commands:
        try:
            done = subprocess.run(command, env={**os.environ, **dict(environment)}, cwd=HERE,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, timeout=300)
        except FileNotFoundError as problem:
            return "%s; is it installed? ./configure.py --deps" % problem
        if done.returncode != 0:
            say(done.stdout)
            return "cannot be built; is it installed? ./configure.py --deps: " + one_line(
                done.stdout)
    return None


def compare(outcome, direct):
    """A scenario that works must also have seen what is seen without a pooler."""
    for scenario, (state, _) in list(outcome.cells.items()):
        if state != "ok" or direct.cells.get(scenario, ("", ""))[0] != "ok":
            continue
        here, there = outcome.seen[scenario], direct.seen[scenario]
        if here != there:
            at = next((n for n, pair in enumerate(zip(here, there)) if pair[0] != pair[1]),
                      min(len(here), len(there)))
            outcome.fail(scenario, "differs: %s; directly: %s" % (
                here[at] if at < len(here) else "(nothing)",
                there[at] if at < len(there) else "(nothing)"))


# ---- the table ---------------------------------------------------------------------------------

def say(text):
    print(text, flush=True)


def one_line(text):
    return " | ".join(str(text).strip().split("\n"))[:600]


def print_driver(name, outcomes, scenarios):
    """The driver's part of the table; then its reasons and failures. Returns the two sums."""
    columns = list(outcomes)
    version = next((o.version for o in outcomes.values() if o.version), name)
    widths = [max(len(column), 5) for column in columns]
    say("\n%-28s %s" % (version, "  ".join(c.ljust(w) for c, w in zip(columns, widths))))
    sums = collections.Counter()
    notes = []
    for scenario in scenarios + [CLEAN]:
        words = []
        for column in columns:
            state, text = outcomes[column].cells.get(scenario, ("", ""))
            sums[state] += 1
            words.append("FAIL" if state == "fail" else state)
            note = "%s: %s" % (scenario, text)
            if state == "n/a" and note not in notes:
                notes.append(note)
            elif state == "fail":
                notes.append("FAIL %s, %s: %s" % (column, scenario, text))
        say("  %-26s %s" % (scenario, "  ".join(w.ljust(n) for w, n in zip(words, widths))))
    say("  %-26s %s" % ("seconds", "  ".join(("%.1f" % outcomes[c].seconds).ljust(w)
                                             for c, w in zip(columns, widths))))
    for note in notes:
        say("  " + note)
    return sums["ok"], sums["fail"]


def parse_options(names):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("drivers", nargs="*", metavar="DRIVER", help="some of: " + " ".join(names))
    add("--builddir", default="build", help="where pg_doorman is")
    add("--engines", default="io_uring,epoll", type=lambda text: text.split(","))
    add("--spread", action="store_true",
        help="each driver on one engine in one mode, on the other in the other, by turns")
    add("--scenarios", default=[], type=lambda text: text.split(","), help="some, with commas")
    add("--seconds", default=120, type=int, help="limit for one run of one program")
    add("--jobs", default=2, type=int, help="how many drivers at once")
    add("--keep-logs", metavar="DIR", help="copy the poolers' logs there")
    options = parser.parse_args()
    wrong = set(options.drivers) - set(names)
    if wrong:
        parser.error("no such driver: " + " ".join(sorted(wrong)))
    return options


def main():
    scratch = os.path.join(TOP, "build", "drivers")
    os.makedirs(scratch, exist_ok=True)
    found = drivers(scratch)
    options = parse_options([driver.name for driver in found])
    os.environ.setdefault("DOORMAN_BIN", os.path.join(TOP, options.builddir, "pg_doorman"))
    from postgres import Postgres
    chosen = [d for d in found if not options.drivers or d.name in options.drivers]
    passed = failed = 0
    began = time.monotonic()
    server = Postgres()
    try:
        server.create()
        matrix = Matrix(options, server)
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            outcomes = pool.map(matrix.run_driver, chosen)
            for driver, outcome in zip(chosen, outcomes):
                ok, bad = print_driver(driver.name, outcome, matrix.scenarios)
                passed += ok
                failed += bad
    finally:
        server.remove()
    say("\n%d drivers in %.0f s" % (len(chosen), time.monotonic() - began))
    say("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
