"""Upgrades under the feet of real drivers, and what each kind of session has before and after."""

import asyncio
import os
import re
import signal
import subprocess
import threading
import time

import asyncpg
import psycopg2
import pytest

import wire
from postgres import binary
from upgrading import alive
from waiting import wait_until
from wire import query


def run_asyncpg(pooler, work):
    async def go():
        connection = await asyncpg.connect(host="127.0.0.1", port=pooler.doorman.port,
                                           user="trust_user", database="app", ssl=False)
        try:
            await work(connection)
        finally:
            await connection.close(timeout=5)

    asyncio.run(asyncio.wait_for(go(), 60))


def test_asyncpg_prepared_statements_cursors_and_transactions(upgrading):
    pooler = upgrading()

    async def work(connection):
        loop = asyncio.get_running_loop()
        statement = await connection.prepare("SELECT $1::int * 2")
        async with connection.transaction():
            cursor = await connection.cursor("SELECT generate_series(1, 100)")
            assert len(await cursor.fetch(10)) == 10
            await loop.run_in_executor(None, pooler.upgrade)
            rows = await cursor.fetch(90)
            assert [row[0] for row in rows] == list(range(11, 101))
            assert await statement.fetchval(21) == 42
        await loop.run_in_executor(None, pooler.upgrade)
        assert await statement.fetchval(4) == 8
        assert await connection.fetchval("SELECT $1::text", "text") == "text"

    run_asyncpg(pooler, work)


def test_asyncpg_notifications_in_session_mode(upgrading):
    pooler = upgrading(pool_mode="session")

    async def work(connection):
        loop = asyncio.get_running_loop()
        heard = asyncio.Queue()
        await connection.add_listener("news", lambda *args: heard.put_nowait(args[-1]))
        await loop.run_in_executor(None, pooler.upgrade)
        speaker = pooler.doorman.client()
        speaker.query("NOTIFY news, 'from another'")
        assert await asyncio.wait_for(heard.get(), 15) == "from another"
        speaker.terminate()

    run_asyncpg(pooler, work)


def test_psycopg2_copies_and_queries_in_threads(upgrading, table):
    """Eight threads at work, three upgrades: nothing fails, nothing is lost or doubled."""
    name = table("worker int, n int")
    pooler = upgrading(pool_size=4)
    stop = threading.Event()
    failures, counts = [], {}

    def work(number):
        try:
            connection = pooler.doorman.connect()
            connection.autocommit = False
            n = 0
            while not stop.is_set():
                with connection.cursor() as cursor:
                    cursor.execute("INSERT INTO %s VALUES (%%s, %%s)" % name, (number, n))
                    cursor.execute("SELECT count(*) FROM %s WHERE worker = %%s" % name, (number,))
                    assert cursor.fetchone()[0] == n + 1
                connection.commit()
                n += 1
            counts[number] = n
            connection.close()
        except Exception as error:  # counted, whatever it is
            failures.append(repr(error))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        pooler.upgrade()
    stop.set()
    for thread in threads:
        thread.join(30)
    assert not failures, failures[:3]
    with pooler.doorman.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT worker, count(*) FROM %s GROUP BY worker" % name)
        assert dict(cursor.fetchall()) == {k: v for k, v in counts.items() if v}


@pytest.mark.slow
def test_pgbench_does_not_notice(upgrading, postgres):
    pooler = upgrading(pool_size=8, general={"upgrade_inherited_accounting": "strict"})
    environment = {**os.environ, "PGHOST": "127.0.0.1", "PGPORT": str(pooler.doorman.port),
                   "PGUSER": "trust_user", "PGDATABASE": "app", "PGSSLMODE": "disable"}
    subprocess.run([binary("pgbench"), "-i", "-q"], env=environment, check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    load = subprocess.Popen([binary("pgbench"), "-n", "-M", "extended", "-c", "16", "-j", "2",
                             "-T", "8"], env=environment, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True)
    try:
        wait_until(lambda: pooler.doorman.pool_row()["sv_active"] > 0, 10, "the load")
        before = {row[0] for row in postgres.backends()}
        while load.poll() is None and len(pooler.pids) < 5:
            pooler.upgrade()
        said = load.communicate(timeout=60)[0]
    finally:
        load.kill()
    assert load.returncode == 0, said
    assert "number of failed transactions: 0" in said, said
    assert len(pooler.pids) > 2 and before <= {row[0] for row in postgres.backends()}


def test_b11_cancel_keys_work_before_and_after(upgrading, postgres):
    pooler = upgrading()
    client = pooler.doorman.client()
    for _ in range(2):
        client.send(query("SELECT pg_sleep(60)"))
        wait_until(lambda: postgres.backends("state = 'active'"), 5, "the statement to run")
        pooler.upgrade()
        client.cancel()
        assert wire.errors(client.until_ready())[0]["C"] == "57014"
        assert client.value("SELECT 1") == "1"
    client.terminate()


def test_settings_of_a_client_follow_it(upgrading):
    """What it asked for at its login, and what it has SET since."""
    pooler = upgrading(pool_size=2)
    client = pooler.doorman.client(application_name="mine", TimeZone="Asia/Tokyo")
    client.query("SET DateStyle = 'German'")
    holders = []
    for _ in range(2):
        pooler.upgrade()
        assert client.value("SHOW TimeZone") == "Asia/Tokyo"
        assert client.value("SHOW application_name") == "mine"
        assert client.value("SHOW DateStyle").startswith("German")
        other = pooler.doorman.client()
        assert other.value("SHOW TimeZone") != "Asia/Tokyo"
        holders.append(other)
    client.query("RESET DateStyle")
    assert not client.value("SHOW DateStyle").startswith("German")
    for one in holders + [client]:
        one.terminate()


def test_pipelined_batches_are_answered_in_order(upgrading):
    pooler = upgrading()
    client = pooler.doorman.client()
    count = 300
    def send():
        for number in range(count):
            client.send(wire.parse("s%d" % (number % 5), "SELECT $1::int + %d" % (number % 5)),
                        wire.bind("", "s%d" % (number % 5), [str(number)]), wire.execute(),
                        wire.close("S", "s%d" % (number % 5)), wire.sync())
            time.sleep(0.002)
    sender = threading.Thread(target=send)
    sender.start()
    upgrades = threading.Thread(target=lambda: [pooler.upgrade() for _ in range(2)])
    upgrades.start()
    rows = []
    for _ in range(count):
        messages = client.until_ready()
        assert not wire.errors(messages), wire.errors(messages)
        rows += wire.rows(messages)
    sender.join()
    upgrades.join()
    assert rows == [[str(number + number % 5)] for number in range(count)]
    client.terminate()


def test_portal_that_is_half_read(upgrading):
    pooler = upgrading()
    client = pooler.doorman.client()
    client.query("BEGIN")
    client.send(wire.parse("", "SELECT generate_series(1, 10)"), wire.bind("p"),
                wire.execute("p", 4), wire.flush())
    first = client.until("s")
    pooler.upgrade()
    client.send(wire.execute("p"), wire.sync())
    rows = wire.rows(first) + wire.rows(client.until_ready())
    assert rows == [[str(n)] for n in range(1, 11)]
    client.query("COMMIT")
    client.terminate()


def test_client_that_does_not_read(upgrading):
    """Its output waits in the old process, in the socket, then in the new process: all of it comes."""
    pooler = upgrading()
    client = pooler.doorman.wire(receive_buffer=4096).login("trust_user", "app", "")
    client.send(query("SELECT repeat('z', 1000) FROM generate_series(1, 20000)"))
    wait_until(lambda: [row for row in pooler.doorman.admin("SHOW CLIENTS")
                        if row.get("wait") == "write"], 10, "the client to be waited for")
    pooler.upgrade()
    pooler.upgrade()
    assert len(wire.rows(client.until_ready())) == 20000
    client.terminate()


def test_b17_configuration_that_changes_with_it(upgrading, postgres):
    """A pool that points elsewhere: its old connections serve who has them, and no more."""
    pooler = upgrading()
    holder = pooler.doorman.client()
    holder.query("BEGIN")
    pid = holder.value("SELECT pg_backend_pid()")
    config = pooler.doorman.config
    config["pools"]["app"]["application_name"] = "changed"
    pooler.doorman.write_config(config)
    pooler.upgrade()
    assert holder.value("SELECT pg_backend_pid()") == pid
    holder.query("COMMIT")
    assert holder.value("SELECT pg_backend_pid()") != pid
    holder.terminate()


def test_b17_pool_that_is_gone(upgrading, postgres):
    pooler = upgrading(pools={
        "app": {"server_host": "127.0.0.1", "server_port": postgres.port,
                "users": [{"username": "trust_user", "password": "", "pool_size": 2}]},
        "other": {"server_host": "127.0.0.1", "server_port": postgres.port,
                  "users": [{"username": "trust_user", "password": "", "pool_size": 2}]}})
    orphan = pooler.doorman.client(database="other")
    orphan.query("SELECT 1")
    stays = pooler.doorman.client()
    config = pooler.doorman.config
    del config["pools"]["other"]
    pooler.doorman.write_config(config)
    pooler.upgrade()
    assert [e["C"] for e in wire.errors(orphan.wait_closed())] == ["3D000"]
    assert stays.value("SELECT 1") == "1"
    stays.terminate()


def test_c1_26_daemon_keeps_its_pid_file(doorman, tmp_path):
    pid_file = tmp_path / "pooler.pid"
    pooler = doorman(arguments=["--daemon"], general={"daemon_pid_file": str(pid_file)}, wait=False)
    assert pooler.wait(15) == 0
    first = int(pid_file.read_text())
    client = pooler.client()
    client.query("BEGIN")
    client.query("SELECT 1")
    os.kill(first, signal.SIGINT)  # in the background that is an upgrade
    wait_until(lambda: pid_file.read_text().strip() not in ("", str(first)), 20, "another PID")
    wait_until(lambda: not alive(first), 20, "the old process to be gone")
    second = int(pid_file.read_text())
    try:
        assert wire.status(client.query("SELECT 2")) == "T"
        with pooler.client() as new:
            assert new.value("SELECT 'new'") == "new"
        client.query("COMMIT")
        client.terminate()
    finally:
        os.kill(second, signal.SIGTERM)
    wait_until(lambda: not alive(second), 15, "the new process to be gone")
    assert not pid_file.exists()


def test_c1_26_daemon_that_only_shuts_down(doorman, tmp_path):
    pid_file = tmp_path / "pooler.pid"
    pooler = doorman(arguments=["--daemon"], general={"daemon_pid_file": str(pid_file)}, wait=False,
                     environment={"PG_DOORMAN_CI_SHUTDOWN_ONLY": "1"})
    assert pooler.wait(15) == 0
    pid = int(pid_file.read_text())
    client = pooler.client()
    client.query("BEGIN")
    client.query("SELECT 1")
    os.kill(pid, signal.SIGINT)
    assert client.value("SELECT 2") == "2"
    client.send(wire.query("COMMIT"))
    messages = client.wait_closed()
    assert wire.tags(messages) == ["COMMIT"]
    assert [e["C"] for e in wire.errors(messages)] == ["58006"]
    wait_until(lambda: not alive(pid), 15, "the process to be gone")
    assert not pid_file.exists()


def test_b13_no_descriptor_is_inherited_or_leaked(upgrading):
    """Chain of generations: as many descriptors as in the first, all close-on-exec."""
    pooler = upgrading()
    clients = [pooler.doorman.client() for _ in range(10)]
    for client in clients:
        client.query("SELECT 1")

    def sockets():
        found = 0
        for name in os.listdir("/proc/%d/fd" % pooler.pid):
            if int(name) < 3:
                continue
            try:
                target = os.readlink("/proc/%d/fd/%s" % (pooler.pid, name))
                with open("/proc/%d/fdinfo/%s" % (pooler.pid, name)) as file:
                    flags = int(re.search(r"flags:\s+(\d+)", file.read()).group(1), 8)
            except OSError:
                continue
            assert flags & os.O_CLOEXEC, "%s can be inherited" % target
            found += target.startswith("socket:")
        return found

    first = sockets()
    for _ in range(4):
        pooler.upgrade()
    wait_until(lambda: sockets() <= first + 1, 5, "descriptors to be back")
    for client in clients:
        assert client.value("SELECT 1") == "1"
        client.terminate()


def test_client_that_is_logging_in_moves_afterwards(upgrading):
    """The old process waits for its proof, and hands it over when it is in."""
    pooler = upgrading(user={"username": "plain_user", "password": "plain secret"},
                       general={"pg_hba": "host all all 127.0.0.1/32 scram-sha-256\n"})
    slow = pooler.doorman.wire()
    slow.send(wire.startup("plain_user", "app"))
    asked = slow.receive()
    assert asked.type == "R"
    first = pooler.pid
    pooler.request()
    wait_until(lambda: "upgrade: took over" in pooler.doorman.log(), 20, "the successor to serve")
    assert alive(first)
    login = wire.Login("plain_user", "plain secret")
    m = asked
    while m.type != "Z":
        assert m.type != "E", wire.fields(m)
        if m.type == "R" and (answer := login.answer(m)):
            slow.send(answer)
        m = slow.receive()
    pooler.follow()
    assert slow.value("SELECT 'in'") == "in"
    slow.terminate()


def test_silent_connection_moves_before_it_says_anything(upgrading):
    pooler = upgrading()
    # A request for encryption is its first word, and nothing follows for now.
    silent = pooler.doorman.wire()
    silent.send(wire.untyped(wire.SSL_REQUEST))
    assert silent.take(1) == b"N"
    pooler.upgrade()
    silent.login("trust_user", "app", "")
    assert silent.value("SELECT 1") == "1"
    silent.terminate()


def test_b11_cancel_request_for_a_session_that_stayed_behind(upgrading, postgres):
    """Its client is still in the old process; the request comes to the new one."""
    pooler = upgrading(general={"shutdown_timeout": "30s"})
    console = pooler.doorman.connect_admin()
    console.autocommit = True
    left = pooler.doorman.client()
    # A Close that is not answered yet keeps a session where it is, as long as the statement runs.
    left.send(wire.parse("s", "SELECT pg_sleep(60)"), wire.bind("", "s"), wire.execute(),
              wire.close("S", "s"), wire.sync())
    wait_until(lambda: postgres.backends("state = 'active'"), 5, "the statement to run")
    first = pooler.pid
    pooler.request()
    wait_until(lambda: "upgrade: took over" in pooler.doorman.log(), 20, "the successor to serve")
    assert alive(first)
    wait_until(lambda: "between two steps" in pooler.doorman.log(), 10, "the reason in the log")
    left.cancel()
    assert wire.errors(left.until_ready())[0]["C"] == "57014"
    pooler.follow()
    assert left.value("SELECT 1") == "1"
    left.terminate()
    console.close()
