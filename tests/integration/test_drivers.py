"""Programs and drivers as users have them, with every kind of password on both sides. What drivers
do in all its breadth is in tests/drivers/."""

import asyncio
import os
import subprocess
import threading
import time

import asyncpg
import psycopg2
import psycopg2.extras
import pytest

from pooler import TRUST, pool, trust_user
from postgres import PASSWORDS, binary
from waiting import PATIENCE

PASSWORD_HBA = "host all all 127.0.0.1/32 md5\n"
SECRETS = ["scram", "md5", "server_password", "trust"]


class Setup:
    """A pooler for one kind of secret, and how a client gets in."""

    def __init__(self, pooler, user, password):
        self.pooler = pooler
        self.user = user
        self.password = password
        self.environment = {
            **os.environ, "PGHOST": "127.0.0.1", "PGPORT": str(pooler.port), "PGUSER": user,
            "PGPASSWORD": password, "PGDATABASE": "app", "PGSSLMODE": "disable",
            "PGCONNECT_TIMEOUT": "10"}

    def run(self, *command, **options):
        done = subprocess.run(command, env=self.environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              timeout=60 * PATIENCE, **options)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def connect(self):
        return psycopg2.connect(host="127.0.0.1", port=self.pooler.port, user=self.user,
                                password=self.password, dbname="app", sslmode="disable")


@pytest.fixture(params=[(s, m) for s in SECRETS for m in ("transaction", "session")],
                ids=lambda p: "%s-%s" % p)
def setup(request, doorman, postgres):
    secret, mode = request.param
    if secret == "trust":
        user, password = trust_user(4), ""
    elif secret == "server_password":
        user = {"username": "front", "password": postgres.verifier("scram_user"), "pool_size": 4,
                "server_username": "plain_user", "server_password": PASSWORDS["plain_user"]}
        password = PASSWORDS["scram_user"]
    else:
        name = secret + "_user"
        user = {"username": name, "password": postgres.verifier(name), "pool_size": 4}
        password = PASSWORDS[name]
    pooler = doorman(pools={"app": pool(postgres, [user], pool_mode=mode)},
                     general={"pg_hba": TRUST if secret == "trust" else
                              PASSWORD_HBA if secret != "scram" else
                              PASSWORD_HBA.replace("md5", "scram-sha-256")
                              + "host pgdoorman all 127.0.0.1/32 md5\n"})
    made = Setup(pooler, user["username"], password)
    yield made
    pooler.wait_idle(user=user["username"])


@pytest.fixture(scope="module")
def pgbench_tables(postgres):
    subprocess.run([binary("pgbench"), "-h", postgres.directory, "-p", str(postgres.port), "-U",
                    "postgres", "-i", "-q", "app"], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    postgres.run("GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC", database="app")
    yield
    postgres.run("DROP TABLE pgbench_accounts, pgbench_branches, pgbench_history, pgbench_tellers",
                 database="app")


def test_psql(setup):
    done = setup.run(binary("psql"), "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1",
                     "-c", "SELECT 1; SELECT 'two'", "-c", "\\d pg_class",
                     "-c", "BEGIN", "-c", "SELECT 3", "-c", "COMMIT",
                     "-c", "COPY (VALUES (4)) TO stdout")
    lines = done.stdout.splitlines()
    assert lines[0] == "1" and lines[1] == "two" and lines[-1] == "4"
    assert "relname" in done.stdout and done.stderr == ""


@pytest.mark.parametrize("protocol", ["simple", "extended", "prepared"])
def test_pgbench(setup, pgbench_tables, protocol):
    done = setup.run(binary("pgbench"), "-n", "-M", protocol, "-c", "4", "-j", "2", "-t", "40")
    assert "number of transactions actually processed: 160/160" in done.stdout
    assert "number of failed transactions: 0" in done.stdout


def test_pgbench_with_a_connection_for_each_transaction(setup, pgbench_tables):
    done = setup.run(binary("pgbench"), "-n", "-C", "-S", "-c", "4", "-j", "2", "-t", "20")
    assert "number of transactions actually processed: 80/80" in done.stdout


def test_psycopg2(setup):
    connection = setup.connect()
    with connection, connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE p (x int, y text) ON COMMIT DROP")
        psycopg2.extras.execute_values(cursor, "INSERT INTO p VALUES %s",
                                       [(n, "row %d" % n) for n in range(1000)])
        cursor.execute("SELECT count(*), sum(x) FROM p WHERE y LIKE %s", ("row %",))
        assert cursor.fetchone() == (1000, 499500)
    with pytest.raises(psycopg2.errors.DivisionByZero):
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT 1/0")
    with connection, connection.cursor("server_side") as cursor:
        cursor.execute("SELECT generate_series(1, 5000)")
        assert sum(row[0] for row in cursor) == 12502500
    connection.close()


def test_psycopg2_cursor_with_hold_is_gone_for_the_next_connection(setup):
    first = setup.connect()
    with first, first.cursor() as cursor:
        cursor.execute("DECLARE kept CURSOR WITH HOLD FOR SELECT 1")
    first.close()
    second = setup.connect()
    with second, second.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_cursors WHERE name = 'kept'")
        assert cursor.fetchone() == (0,)
    second.close()


def run_asyncio(talk, seconds=15):
    """In a thread that can be left behind: asyncpg waits for its server even when cancelled."""
    outcome = []

    def run():
        try:
            asyncio.run(talk())
            outcome.append(None)
        except BaseException as problem:
            outcome.append(problem)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds * PATIENCE)
    assert outcome, "no end within %g s" % (seconds * PATIENCE)
    if outcome[0] is not None:
        raise outcome[0]


def test_asyncpg(setup):
    async def talk():
        connection = await asyncpg.connect(host="127.0.0.1", port=setup.pooler.port,
                                           user=setup.user, password=setup.password,
                                           database="app", ssl=False, timeout=10)
        for number in range(20):
            assert await connection.fetchval("SELECT $1::int + 1", number) == number + 1
        async with connection.transaction():
            pid = await connection.fetchval("SELECT pg_backend_pid()")
            with pytest.raises(asyncpg.DivisionByZeroError):
                async with connection.transaction():
                    await connection.fetchval("SELECT 1/0")
            assert await connection.fetchval("SELECT pg_backend_pid()") == pid
            rows = [row[0] async for row in connection.cursor("SELECT generate_series(1, 500)")]
            assert rows == list(range(1, 501))
        async with connection.transaction():
            await connection.execute("CREATE TEMP TABLE a (x int, y text) ON COMMIT DROP")
            await connection.executemany("INSERT INTO a VALUES ($1, $2)",
                                         [(n, str(n)) for n in range(500)])
            await connection.copy_records_to_table("a", records=[(1, "copy")] * 500)
            assert await connection.fetchval("SELECT count(*) FROM a") == 1000
        await connection.close()

    run_asyncio(talk)


def test_asyncpg_pool_with_concurrent_statements(setup):
    async def talk():
        connections = await asyncpg.create_pool(
            host="127.0.0.1", port=setup.pooler.port, user=setup.user, password=setup.password,
            database="app", ssl=False, min_size=4, max_size=4)

        async def one(number):
            for turn in range(20):
                text = "SELECT $1::int * %d" % (number % 5)
                assert await connections.fetchval(text, turn) == turn * (number % 5)

        await asyncio.gather(*(one(n) for n in range(12)))
        # Its own reset between users is a simple query of several statements.
        await connections.close()

    run_asyncio(talk)


def test_login_through_the_pooler_is_quick(setup):
    """A login is a few round trips; a timer hidden in it would show."""
    setup.connect().close()
    began = time.monotonic()
    for _ in range(10):
        setup.connect().close()
    assert time.monotonic() - began < 3 * PATIENCE
