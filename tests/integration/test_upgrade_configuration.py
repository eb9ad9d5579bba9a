"""Configurations that differ before and after an upgrade, one difference at a time."""

import os
import signal
import socket

import pytest

import wire
from pooler import TRUST, pool, trust_user
from postgres import free_port
from waiting import wait_until


def upgrade_with(pooler, change):
    """With what change() makes of the configuration."""
    config = pooler.doorman.config
    change(config)
    pooler.doorman.write_config(config)
    pooler.upgrade()


def listens(address):
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as probe:
        return probe.connect_ex(address) == 0


def test_b17_port_and_unix_socket_change(upgrading, tmp_path):
    """New ones are open before old ones are given up; who has come to an old one is served."""
    pooler = upgrading(general={"unix_socket_dir": str(tmp_path)})
    old = pooler.doorman.address
    old_path = "%s/.s.PGSQL.%d" % (tmp_path, old[1])
    here = pooler.doorman.client()
    local = wire.Wire(old_path).login()
    assert here.value("SELECT 1") == local.value("SELECT 1") == "1"
    port = free_port()
    config = pooler.doorman.config
    config["general"]["port"] = port
    pooler.doorman.write_config(config)
    # They stand in the old sockets' backlogs, and are not accepted before the upgrade.
    os.kill(pooler.pid, 19)
    waiting = [wire.Wire(address) for address in (old, old_path)]
    pooler.request()
    os.kill(pooler.pid, 18)
    pooler.follow()
    pooler.doorman.port, pooler.doorman.address = port, ("127.0.0.1", port)
    for client in [here, local] + [one.login() for one in waiting]:
        assert client.value("SELECT 'still here'") == "still here"
        client.terminate()
    with pooler.doorman.client() as new, wire.Wire("%s/.s.PGSQL.%d" % (tmp_path, port)).login():
        assert new.value("SELECT 'new'") == "new"
    wait_until(lambda: not listens(old) and not os.path.exists(old_path), 20,
               "the old sockets to be closed")
    # The next one begins from there.
    with pooler.doorman.client() as client:
        pooler.upgrade()
        assert client.value("SELECT 2") == "2"


def test_b17_port_that_is_taken(upgrading):
    """The new process cannot have it: nothing changes."""
    pooler = upgrading()
    first = pooler.pid
    with socket.create_server(("127.0.0.1", 0)) as other, pooler.doorman.client() as client:
        config = pooler.doorman.config
        port = config["general"]["port"]
        config["general"]["port"] = other.getsockname()[1]
        pooler.doorman.write_config(config)
        pooler.request()
        wait_until(lambda: "nothing has changed" in pooler.doorman.log(), 20, "the failure")
        assert client.value("SELECT 1") == "1"
        config["general"]["port"] = port
        pooler.doorman.write_config(config)
    assert pooler.pid == first and pooler.doorman.running()
    with pooler.doorman.client() as client:
        assert client.value("SELECT 1") == "1"


def test_b17_unix_socket_goes(upgrading, tmp_path):
    pooler = upgrading(general={"unix_socket_dir": str(tmp_path)})
    path = "%s/.s.PGSQL.%d" % (tmp_path, pooler.doorman.port)
    local = wire.Wire(path).login()
    local.query("SELECT 1")
    upgrade_with(pooler, lambda config: config["general"].pop("unix_socket_dir"))
    assert local.value("SELECT 2") == "2"
    wait_until(lambda: not os.path.exists(path), 20, "the socket to be removed")
    local.terminate()


def test_b17_mode_of_a_pool_changes(upgrading):
    """Sessions keep the mode they logged in with."""
    pooler = upgrading(pool_mode="session")
    with pooler.doorman.client() as old:
        old.query("SET work_mem = '5MB'; CREATE TEMP TABLE mine AS SELECT 1 AS a")
        pid = old.value("SELECT pg_backend_pid()")
        upgrade_with(pooler, lambda config: config["pools"]["app"].update(pool_mode="transaction"))
        assert old.value("SELECT pg_backend_pid()") == pid
        assert old.value("SELECT a FROM mine") == "1" and old.value("SHOW work_mem") == "5MB"
        with pooler.doorman.client() as new:
            new.query("SELECT 1")
            wait_until(lambda: pooler.doorman.pool_row()["sv_idle"] >= 1, 10,
                       "its connection to be given back")
            assert old.value("SELECT pg_backend_pid()") == pid


def test_b17_access_and_passwords_change(upgrading, postgres):
    """Who is in is not asked again; who comes is."""
    users = [trust_user(2), {"username": "plain_user", "password": "plain secret", "pool_size": 2,
                             "server_username": "plain_user", "server_password": "plain secret"}]
    pooler = upgrading(pools={"app": pool(postgres, users)}, general={"pg_hba": TRUST})
    inside = pooler.doorman.client(user="plain_user")
    inside.query("SELECT 1")

    def change(config):
        config["general"]["pg_hba"] = TRUST.replace("trust", "scram-sha-256")
        config["pools"]["app"]["users"][1]["password"] = "another secret"

    upgrade_with(pooler, change)
    assert inside.value("SELECT current_user") == "plain_user"
    with pytest.raises(wire.LoginFailed):
        pooler.doorman.client(user="plain_user", password="plain secret")
    with pooler.doorman.client(user="plain_user", password="another secret") as new:
        assert new.value("SELECT 1") == "1"
    inside.terminate()


def test_b17_limits_and_workers_change(upgrading):
    """Fewer clients than there are: those stay. Another number of workers: all are served."""
    pooler = upgrading(general={"worker_threads": 4})
    clients = [pooler.doorman.client() for _ in range(6)]
    for client in clients:
        client.query("SELECT 1")
    clients[0].query("BEGIN")

    def change(config):
        config["general"].update(max_connections=3, worker_threads=1, tcp_keepalives_idle=7)

    upgrade_with(pooler, change)
    for client in clients:
        assert client.value("SELECT 2") == "2"
    with pytest.raises(wire.LoginFailed) as refused:
        pooler.doorman.client()
    assert wire.sqlstates(refused.value.messages) == ["53300"]
    for client in clients:
        client.terminate()


def keepalive_seconds(client):
    """Until the kernel asks the other end of the pooler's socket whether it is still there."""
    ours, theirs = client.sock.getsockname()[1], client.sock.getpeername()[1]
    with open("/proc/net/tcp") as file:
        for line in file:
            fields = line.split()
            if fields[1].endswith(":%04X" % theirs) and fields[2].endswith(":%04X" % ours):
                timer, left = fields[5].split(":")
                return int(left, 16) / 100 if timer == "02" else None
    return None


def test_b17_socket_options_change(upgrading):
    pooler = upgrading(general={"tcp_keepalives_idle": 100})
    with pooler.doorman.client() as idle, pooler.doorman.client() as busy:
        idle.query("SELECT 1")
        busy.query("BEGIN")
        busy.query("SELECT 1")
        upgrade_with(pooler, lambda config: config["general"].update(tcp_keepalives_idle=20000))
        for client in (idle, busy):
            wait_until(lambda c=client: (keepalive_seconds(c) or 0) > 10000, 10, "the new value")


def test_b15_sighup_waits_for_the_outcome(upgrading, postgres):
    """The new process has read the file before it changed, and is told; or the old one is."""
    pooler = upgrading(general={"upgrade_ready_timeout": "1h"},
                       environment={"PG_DOORMAN_UPGRADE_FAULT": "s-ready:stand"})

    def configure(name):
        pooler.doorman.config["pools"][name] = {**pool(postgres), "server_database": "app"}
        pooler.doorman.write_config(pooler.doorman.config)
        os.kill(pooler.pid, signal.SIGHUP)
        wait_until(lambda: pooler.doorman.log().count("the configuration is reloaded by whoever") == len(seen) + 1,
                   10, "the signal to be seen")
        seen.append(name)

    def serves(name):
        try:
            with pooler.doorman.client(database=name) as client:
                return client.value("SELECT 1") == "1"
        except wire.LoginFailed:
            return False

    seen = []
    pooler.request()
    standing = wait_until(lambda: pooler.standing(), 20, "the new process to stand still")
    configure("first")
    assert not serves("first")
    os.kill(standing, signal.SIGKILL)
    wait_until(lambda: serves("first"), 10, "the old process to follow")
    pooler.request()
    standing = wait_until(lambda: pooler.standing(), 20, "another one to stand still")
    configure("second")
    os.kill(standing, signal.SIGCONT)
    pooler.follow()
    wait_until(lambda: serves("second"), 10, "the new process to follow")


def told_that_it_is_gone(client, database):
    """Behind what it was answered before: why it ends."""
    messages = client.wait_closed()
    assert [(e["S"], e["C"], e["M"]) for e in wire.errors(messages)] == [
        ("FATAL", "3D000", "No pool configured for database: %s, user: trust_user" % database)]
    return messages


def two_databases(upgrading, postgres, **other):
    """PostgreSQL's database `other` by two names, of which one will be gone."""
    pools = {name: {**pool(postgres, [trust_user(4)]), "server_database": "other"}
             for name in ("stays", "goes")}
    pools["goes"].update(other)
    return upgrading(pools=pools)


def without(name):
    return lambda config: config["pools"].pop(name)


def test_b17_transaction_of_a_pool_that_is_gone_comes_to_its_end(upgrading, postgres):
    pooler = two_databases(upgrading, postgres)
    client, running, idle, begun, stays = (
        pooler.doorman.client(database=name) for name in ["goes"] * 4 + ["stays"])
    idle.query("SELECT 1")
    client.send(wire.parse("before", "SELECT $1::int + 1"), wire.sync())
    client.until_ready()
    client.query("BEGIN; CREATE TEMP TABLE mine AS SELECT 7 AS a")
    pid = client.value("SELECT pg_backend_pid()")
    running.send(wire.query("SELECT 'to its end', pg_sleep(2)"))
    wait_until(lambda: postgres.backends("wait_event = 'PgSleep'"), 10, "it to run")
    begun.query("BEGIN")  # of which PostgreSQL has not heard
    upgrade_with(pooler, without("goes"))
    told_that_it_is_gone(idle, "goes")
    told_that_it_is_gone(begun, "goes")
    assert wire.rows(told_that_it_is_gone(running, "goes")) == [["to its end", ""]]
    with pytest.raises(wire.LoginFailed) as refused:
        pooler.doorman.client(database="goes")
    assert wire.sqlstates(refused.value.messages) == ["3D000"]
    # It goes on as if nothing had been, through another upgrade as well.
    for _ in range(2):
        assert client.value("SELECT pg_backend_pid()") == pid
        assert client.value("SELECT a FROM mine") == "7"
        client.send(wire.bind("", "before", ["41"]), wire.execute(), wire.sync())
        assert wire.rows(client.until_ready()) == [["42"]]
        client.send(wire.parse("new", "SELECT 'parsed here'"), wire.bind("", "new"),
                    wire.execute(), wire.sync())
        assert wire.rows(client.until_ready()) == [["parsed here"]]
        client.send(wire.close("S", "new"), wire.sync())
        client.until_ready()
        pooler.upgrade()
    client.send(wire.query("COMMIT"))
    messages = told_that_it_is_gone(client, "goes")
    assert wire.tags(messages) == ["COMMIT"]
    assert [m.type for m in messages][-2:] == ["Z", "E"]
    wait_until(lambda: not postgres.backends("pid = %s" % pid), 10, "its connection to be closed")
    assert stays.value("SELECT 1") == "1"
    stays.terminate()


def test_b17_session_of_a_pool_that_is_gone(upgrading, postgres):
    """In session mode as well: at once, or when its transaction ends, however it does."""
    pooler = two_databases(upgrading, postgres, pool_mode="session")
    idle, client = (pooler.doorman.client(database="goes") for _ in range(2))
    idle.query("CREATE TEMP TABLE mine AS SELECT 1 AS a")
    client.query("BEGIN")
    assert wire.errors(client.query("SELECT 1 / 0"))[0]["C"] == "22012"
    upgrade_with(pooler, without("goes"))
    told_that_it_is_gone(idle, "goes")
    assert wire.errors(client.query("SELECT 1"))[0]["C"] == "25P02"
    client.send(wire.query("ROLLBACK"))
    assert wire.tags(told_that_it_is_gone(client, "goes")) == ["ROLLBACK"]
    wait_until(lambda: not postgres.backends("datname = 'other'"), 10,
               "their connections to be closed")


def test_b17_statement_of_a_pool_that_is_gone_is_cancelled(upgrading, postgres):
    pooler = two_databases(upgrading, postgres)
    client = pooler.doorman.client(database="goes")
    client.send(wire.query("SELECT pg_sleep(60)"))
    wait_until(lambda: postgres.backends("wait_event = 'PgSleep'"), 10, "it to run")
    upgrade_with(pooler, without("goes"))
    with wire.Wire(client.address) as request:
        request.send(wire.cancel_request(client.pid, client.key))
        request.wait_closed()
    messages = client.wait_closed()
    assert [e["C"] for e in wire.errors(messages)] == ["57014", "3D000"]


def test_b17_user_that_is_gone_holds_its_permits(upgrading, postgres):
    """What is left of a pool counts against max_db_connections until it is closed."""
    users = [trust_user(4), {"username": "plain_user", "password": "plain secret", "pool_size": 4,
                             "server_username": "plain_user", "server_password": "plain secret"}]
    pooler = upgrading(pools={"app": {**pool(postgres, users), "max_db_connections": 2}},
                       general={"query_wait_timeout": "30s"})
    going = pooler.doorman.client(user="plain_user", password="plain secret")
    going.query("BEGIN")
    going.query("SELECT 1")
    upgrade_with(pooler, lambda config: config["pools"]["app"]["users"].pop(1))
    first, second = pooler.doorman.client(), pooler.doorman.client()
    first.query("BEGIN")
    first.query("SELECT 1")
    second.send(wire.query("SELECT 'later'"))
    wait_until(lambda: pooler.doorman.pool_row()["cl_waiting"] == 1, 10, "the second to wait")
    assert len(postgres.backends("datname = 'app'")) == 2
    going.send(wire.query("COMMIT"))
    assert [e["C"] for e in wire.errors(going.wait_closed())] == ["3D000"]
    assert wire.rows(second.until_ready()) == [["later"]]
    for client in (first, second):
        client.terminate()


def test_b17_pool_that_a_reload_took_away(upgrading, postgres):
    """It stands in no one's way; where it is configured again, its clients are served again."""
    pooler = two_databases(upgrading, postgres)
    idle, busy = (pooler.doorman.client(database="goes") for _ in range(2))
    idle.query("SELECT 1")
    busy.query("BEGIN")
    busy.query("SELECT 1")
    config = pooler.doorman.config
    gone = config["pools"].pop("goes")
    pooler.doorman.write_config(config)
    pooler.doorman.admin("RELOAD")
    config["pools"]["goes"] = gone
    pooler.doorman.write_config(config)
    pooler.upgrade()
    assert idle.value("SELECT 2") == busy.value("SELECT 2") == "2"
    busy.query("COMMIT")
    assert busy.value("SELECT 3") == "3"
    config["pools"].pop("goes")
    pooler.doorman.write_config(config)
    pooler.doorman.admin("RELOAD")
    pooler.upgrade()
    told_that_it_is_gone(idle, "goes")
    told_that_it_is_gone(busy, "goes")


def test_b17_size_of_a_pool_changes(upgrading, postgres):
    """Smaller: what is idle and too much goes; what is in use is used to its end."""
    pooler = upgrading(pool_size=4)
    clients = [pooler.doorman.client() for _ in range(4)]
    for client in clients:
        client.query("BEGIN")
        client.query("SELECT 1")
    upgrade_with(pooler, lambda config: config["pools"]["app"]["users"][0].update(pool_size=1))
    for client in clients:
        assert client.value("SELECT 2") == "2"
        client.query("COMMIT")
    wait_until(lambda: len(postgres.backends()) == 1, 20, "one connection to be left")
    assert clients[3].value("SELECT 3") == "3"
    for client in clients:
        client.terminate()
