"""What clients are told when no backend can be had, word by word; and what the log has of pools."""

import re
import resource
import socket
import threading

import pytest

import wire
from pooler import pool, trust_user
from postgres import PASSWORDS
from test_auth_query import MD5_HBA, lookup_pool, parameters_query
from waiting import wait_until

TROUBLE = ("Could not get a database connection from the pool. All servers may be busy or down. "
           "Error details: %s. Please try again later.")
LOGIN_ERROR = ("Error occurred while creating a new connection to postgresql "
               "(postgresql_login_error): %s")
UNKNOWN = ("Unable to retrieve server parameters for database: %s, user: %s. The database server "
           "may be unavailable or misconfigured. Please try again later or contact your database "
           "administrator.")


def told(client):
    """The only answer is a FATAL error, and then the client is on its own."""
    messages = client.query("SELECT 1")
    assert wire.types(messages) == "EZ"
    error, = wire.errors(messages)
    assert error["S"] == error["V"] == "FATAL"
    assert client.wait_closed() == []
    return error["C"], error["M"]


def told_at_login(pooler, database, user="trust_user"):
    with pytest.raises(wire.LoginFailed) as refusal:
        pooler.client(database, user, PASSWORDS.get(user, ""))
    return refusal.value.error["C"], refusal.value.error["M"]


@pytest.fixture
def deaf():
    """A port where connections are taken and nothing is ever said."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        yield listener.getsockname()[1]


@pytest.fixture
def moved(doorman, postgres):
    """A client that has logged in, whose database is at another place now."""
    def start(**where):
        pooler = doorman(general={"connect_timeout": 1000, "query_wait_timeout": 30000})
        client = pooler.client()
        client.value("SELECT 1")
        config = pooler.config
        config["pools"]["app"].update(where)
        pooler.write_config(config)
        pooler.admin("RELOAD")
        wait_until(lambda: not postgres.backends(), 8, "the old backends to be closed")
        return client
    return start


def test_server_that_is_not_there(moved):
    with moved(server_port=1) as client:
        code, text = told(client)
        assert code == "53300"
        pattern = TROUBLE % (LOGIN_ERROR % "Backend connect error: Could not connect to %s")
        start, end = pattern.split("%s")
        assert text.startswith(start + "127.0.0.1:1: Connection refused") and text.endswith(end)


def test_server_that_does_not_speak(moved, deaf):
    with moved(server_port=deaf) as client:
        assert told(client) == ("53300", TROUBLE % (
            LOGIN_ERROR % ("Backend connect error: server startup timed out to 127.0.0.1:%d "
                           "after 1000ms" % deaf)))


def test_server_that_refuses_the_login(moved):
    with moved(server_database="no_such_database") as client:
        assert told(client) == ("53300", TROUBLE % (LOGIN_ERROR % (
            'Error reading 3D000: database "no_such_database" does not exist on server startup '
            "{ username: trust_user, database: no_such_database }")))


def test_server_that_starts(moved):
    """57P03: it will be there soon."""
    def serve(listener):
        for _ in range(20):
            link, _ = listener.accept()
            link.recv(10000)
            link.sendall(wire.message("E", b"SFATAL\0VFATAL\0C57P03\0Mthe database system is "
                                      b"starting up\0\0"))
            link.close()

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        with moved(server_port=listener.getsockname()[1]) as client:
            assert told(client) == ("53300", TROUBLE % (LOGIN_ERROR % (
                "Backend unavailable: the database system is starting up for "
                "{ username: trust_user, database: app }")))


def test_parameter_that_postgresql_refuses(moved):
    with moved(startup_parameters={"work_mem": "much"}) as client:
        assert told(client) == ("22023", 'invalid value for parameter "work_mem": "much"')


def test_pool_that_is_closed_under_those_who_wait(doorman, postgres):
    pooler = doorman(pool_size=1)
    with pooler.client() as holder, pooler.client() as waiter:
        holder.query("BEGIN; SELECT 1")
        waiter.send(wire.query("SELECT 1"))
        wait_until(lambda: pooler.pool_row()["cl_waiting"] == 1, 8, "one that waits")
        config = pooler.config
        config["pools"] = {"other": pool(postgres)}
        pooler.write_config(config)
        pooler.admin("RELOAD")
        messages = waiter.until_ready()
        error, = wire.errors(messages)
        assert (error["S"], error["C"]) == ("FATAL", "53300")
        assert error["M"] == TROUBLE % "Pool has been closed"
        assert holder.value("SELECT 'goes on'") == "goes on"


def test_out_of_descriptors(doorman, postgres):
    """An error of its own, and no more than that: when there are some again, all is well."""
    pooler = doorman(pool_size=2)
    with pooler.client() as first, pooler.client() as second:
        first.query("BEGIN; SELECT 1")
        limits = resource.prlimit(pooler.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(pooler.pid, resource.RLIMIT_NOFILE, (pooler.descriptors(), limits[1]))
        code, text = told(second)
        resource.prlimit(pooler.pid, resource.RLIMIT_NOFILE, limits)
        assert code == "53000"
        assert re.fullmatch("Connection pooler local resource exhausted: Could not connect to "
                            r"127\.0\.0\.1:%d: .*\. Please try again later\." % postgres.port, text)
        with pooler.client() as third:
            assert third.value("SELECT 1") == "1"


def test_login_without_a_first_backend(doorman, postgres):
    """Whoever is written down, found, or found and served by another role."""
    row = "'{\"a.b\": \"' || repeat('x', %d) || '\"}'"
    pooler = doorman(
        pools={"written": pool(postgres, server_port=1),
               "shared": lookup_pool(postgres, server_user="nobody", server_password="x"),
               "found": lookup_pool(postgres, query="SELECT 'md5' || md5('md5 secretmd5_user') "
                                                    "|| substr($1, 1, 0)"),
               "refused": pool(postgres, server_database="app",
                               startup_parameters={"work_mem": "much"}),
               "large": lookup_pool(postgres, query=parameters_query(row % 9000),
                                    pool_settings={"startup_parameters": {"c.d": "y" * 900}})},
        general={"pg_hba": "host all trust_user 127.0.0.1/32 trust\n" + MD5_HBA})
    assert told_at_login(pooler, "written") == ("3D000", UNKNOWN % ("written", "trust_user"))
    assert told_at_login(pooler, "shared", "md5_user") == (
        "58000", "Unable to retrieve server parameters. Please try again later.")
    # As itself it would have to go to a database of that name, which is not there.
    assert told_at_login(pooler, "found", "md5_user") == (
        "58000", "Unable to connect to database server. Please try again later.")
    assert told_at_login(pooler, "refused") == (
        "22023", 'invalid value for parameter "work_mem": "much"')
    code, text = told_at_login(pooler, "large", "md5_user")
    assert code == "53400"
    numbers = re.search(r"pool 'large' do not fit: body (\d+) bytes, packet (\d+) bytes \(limits "
                        r"9488 and 10000\): those of the user's auth_query row", text)
    assert numbers, text
    assert 9488 < int(numbers[1]) < int(numbers[2])
    assert told_at_login(pooler, "nowhere") == (
        "3D000", "No connection pool configured for database: nowhere, user: trust_user. "
                 "Please check your connection parameters.")


def test_log_tells_what_pools_do(doorman, postgres):
    """Backends that come and go, and why; the reserve, and waits for a permit in vain."""
    users = [trust_user(3, username=name, server_username="trust_user") for name in ("one", "two")]
    pooler = doorman(pools={"app": pool(postgres, users, max_db_connections=2,
                                        reserve_pool_size=1, reserve_pool_timeout=300,
                                        min_connection_lifetime=50, server_lifetime=200)},
                     general={"retain_connections_time": 200})

    def wait_for_line(pattern):
        wait_until(lambda: re.search(pattern, pooler.log()), 8, pattern)

    with pooler.client(user="one") as first, pooler.client(user="one") as second:
        wait_for_line(r"INFO .*\[one@app\] new server connection #\d+ to 127\.0\.0\.1:%d pid=\d+"
                      % postgres.port)
        wait_for_line(r"INFO .*\[one@app\] server closed pid=\d+: lifetime exceeded, "
                      r"session=\d+ms lifetime=(1[6-9]\d|2[0-4]\d)ms")
        for client in (first, second):
            client.query("BEGIN; SELECT 1")
        with pooler.client(user="two") as third, pooler.client(user="one") as fourth:
            third.query("BEGIN; SELECT 1")
            wait_for_line(r"INFO .*\[two@app\] gets a connection from the reserve, 1 of 1 in use")
            assert told(fourth)[0] == "53300"
            wait_for_line(r"WARN .*\[one@app\] phase=coordinator timeout after \d+ms: all server "
                          r"connections to database 'app' are in use \(max=2, reserve=1/1, "
                          r"user='one'\), size=2 waiting=1")


def test_log_tells_of_waits(doorman, postgres):
    pooler = doorman(pool_size=1, general={"query_wait_timeout": 1500})
    with pooler.client() as holder, pooler.client() as late, pooler.client() as slow:
        holder.query("BEGIN; SELECT 1")
        told(late)
        wait_until(lambda: re.search(r"WARN .*\[trust_user@app\] phase=wait timeout after "
                                     r"\d{4,}ms, size=1 waiting=\d", pooler.log()), 8, "a line")
        slow.send(wire.query("SELECT 1"))
        wait_until(lambda: pooler.pool_row()["cl_waiting"] == 1, 8, "one that waits")
        threading.Event().wait(0.6)
        holder.query("COMMIT")
        slow.until_ready()
        wait_until(lambda: re.search(r"WARN .*\[trust_user@app #c\d+\] slow checkout: waited "
                                     r"\d+ms, pid=\d+", pooler.log()), 8, "a line")
        config = pooler.config
        config["pools"]["app"]["server_port"] = 1
        pooler.write_config(config)
        pooler.admin("RELOAD")
        told(slow)
        wait_until(lambda: re.search(r"WARN .*\[trust_user@app\] phase=create failed \d+ times in "
                                     r"a row, size=\d+ waiting=\d+", pooler.log()), 8, "a line")


def test_errors_are_counted_where_they_are_told(doorman):
    """Once each, as a total and per second; those of PostgreSQL and those of the pool."""
    pooler = doorman(pool_size=1, general={"query_wait_timeout": 100})
    with pooler.client() as holder, pooler.client() as late:
        holder.query("SELECT 1/0")
        holder.query("BEGIN; SELECT 1")
        assert told(late)[0] == "53300"
        assert [row["error_count"] for row in pooler.admin("SHOW CLIENTS")
                if row["database"] == "app"] == [1]
        row, = pooler.admin("SHOW STATS")
        assert row["total_errors"] == 2 and row["avg_errors"] <= 1
