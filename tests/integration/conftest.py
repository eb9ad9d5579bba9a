"""Fixtures of the integration tests: a private PostgreSQL and poolers in front of it.

    DOORMAN_BIN              program under test (build/pg_doorman)
    PG_DOORMAN_IO            I/O engine, handed through to it
    DOORMAN_SANITIZED=1      a sanitizer build: no assertions about memory
    DOORMAN_TEST_PATIENCE    factor on all deadlines
"""

import os

import pytest

from pooler import BINARY, Doorman, configuration, pool, trust_user
from postgres import Postgres, free_port
from upgrading import generations_of
from waiting import wait_until


def pytest_configure(config):
    config.addinivalue_line("markers", "slow: takes more than about five seconds")


@pytest.fixture(scope="session", autouse=True)
def program():
    if not os.access(BINARY, os.X_OK):
        pytest.exit("there is no program to test at " + BINARY, returncode=5)
    return BINARY


@pytest.fixture(scope="session")
def postgres():
    """One server for the whole session. A test that stops it must start it again."""
    server = Postgres(os.environ.get("DOORMAN_TEST_LOG_STATEMENT", "none"))
    try:
        server.create()
        yield server
    finally:
        server.remove()


@pytest.fixture
def doorman(postgres, tmp_path):
    """Factory of running poolers. doorman() serves database `app` for trust_user.

    pools        dictionary of pools (default: one called app)
    config       whole configuration, dictionary or text; {port} in a text is replaced
    pool_size, pool_mode, …  settings of the default pool or its user
    general      settings of the section general
    Afterwards each is told to end, and must end with status 0 and without complaint.
    """
    started = []

    def start(pools=None, config=None, general=None, pool_size=10, user=None, environment=None,
              arguments=(), wait=True, **pool_settings):
        port = free_port()
        directory = tmp_path / ("doorman%d" % len(started))
        directory.mkdir()
        if config is None:
            if pools is None:
                users = [trust_user(pool_size, **(user or {}))]
                pools = {"app": pool(postgres, users, **pool_settings)}
            config = configuration(port, pools, **(general or {}))
        elif isinstance(config, str):
            config = config.replace("{port}", str(port))
        else:
            config["general"]["port"] = port
        process = Doorman(str(directory), port, config, environment, arguments)
        started.append(process)
        return process.start(wait)

    yield start
    problems = []
    for process in started:
        try:
            if process.process is not None:
                process.finish()
        except AssertionError as problem:
            problems.append(str(problem))
    # A test about a broken server must not leave its wreckage to the next one.
    if postgres.process is None:
        postgres.start()
    wait_until(postgres.answers, 30, "PostgreSQL to be up again")
    if postgres.backends():
        postgres.terminate()
        wait_until(lambda: not postgres.backends(), 10, "PostgreSQL to be without clients")
    assert not problems, "\n".join(problems)


@pytest.fixture
def upgrading(doorman):
    """Factory of poolers that will be upgraded."""
    yield from generations_of(doorman)


@pytest.fixture
def table(postgres):
    """Factory of empty tables in database `app`, dropped afterwards."""
    made = []

    def create(columns, database="app"):
        name = "t%d_%d" % (os.getpid(), next(_numbers))
        made.append((name, database))
        postgres.run("CREATE TABLE %s (%s); ALTER TABLE %s OWNER TO trust_user"
                     % (name, columns, name), database=database)
        return name

    yield create
    for name, database in made:
        postgres.run("SET lock_timeout = '5s'; DROP TABLE IF EXISTS " + name, database=database)


_numbers = iter(range(1, 1 << 30))
