"""Configurations that differ before and after an upgrade, one difference at a time."""

import os
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
