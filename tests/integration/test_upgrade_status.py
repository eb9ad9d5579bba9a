"""SHOW UPGRADE before, during and after an upgrade, asked of whoever answers at that moment."""

import os
import signal

import wire
from upgrading import Upgrading
from waiting import wait_until


def moved(status):
    return [int(status[name]) for name in ("clients_moved", "clients_moved_in_transaction",
                                           "clients_moved_waiting", "servers_moved")]


def left(status):
    return status["clients_left"], status["servers_left"], status["left_because"]


def show(console):
    with console.cursor() as cursor:
        cursor.execute("SHOW UPGRADE")
        return dict(cursor.fetchall())


def test_numbers_begin_anew_with_each_upgrade(doorman, tmp_path):
    """Asked in the old process while the new one starts, and in the new one after that."""
    fault = tmp_path / "fault"
    fault.write_text("s-ready:stand")
    pooler = Upgrading(doorman(environment={"PG_DOORMAN_UPGRADE_FAULT": "@%s" % fault}))
    console = pooler.doorman.connect_admin()
    console.autocommit = True
    clients = [pooler.doorman.client() for _ in range(3)]
    clients[0].query("BEGIN")
    clients[0].query("SELECT 1")
    status = show(console)
    assert (status["phase"], status["result"], status["generation"]) == ("serving", "none", "0")
    for generation in (1, 2):
        pooler.request()
        new = wait_until(pooler.standing, 20, "the new process to stand still")
        status = show(console)
        assert (status["phase"], status["result"]) == ("starting", "running")
        assert status["generation"] == str(generation - 1)
        assert status["successor_pid"] == str(new)
        assert moved(status) == [0, 0, 0, 0] and left(status) == ("0", "0", "")
        assert status["longest_freeze_us"] == status["total_us"] == "0"
        os.kill(new, signal.SIGCONT)
        old = pooler.pid
        pooler.follow()
        status = wait_until(lambda: show(console)["phase"] == "serving" and show(console), 10,
                            "the new process to have heard the end")
        assert (status["result"], status["error"]) == ("ok", "")
        assert status["generation"] == str(generation)
        assert status["predecessor_pid"] == str(old) and status["successor_pid"] == "0"
        assert moved(status) == [4, 1, 0, 1] and left(status) == ("0", "0", "")
        assert int(status["rounds"]) >= 1
        assert 0 < int(status["longest_freeze_us"]) <= int(status["total_us"])
    # One that comes to nothing says so, instead of what the last one did.
    with open(pooler.doorman.config_path, "a") as file:
        file.write("\nnonsense: [")
    pooler.request()
    status = wait_until(lambda: show(console)["result"] == "aborted" and show(console), 20,
                        "the upgrade to fail")
    assert status["phase"] == "serving" and status["error"]
    assert moved(status) == [0, 0, 0, 0] and status["longest_freeze_us"] == "0"
    for client in clients:
        client.terminate()
    console.close()
    pooler.finish()


def test_new_process_tells_who_is_left_and_why(upgrading, postgres):
    pooler = upgrading(user={"username": "plain_user", "password": "plain secret"},
                       general={"pg_hba": "host all all 127.0.0.1/32 scram-sha-256\n",
                                "shutdown_timeout": "60s"})
    console = pooler.doorman.connect_admin()
    console.autocommit = True
    logging_in = pooler.doorman.wire()
    logging_in.send(wire.startup("plain_user", "app"))
    asked = logging_in.receive()
    assert asked.type == "R"
    busy = pooler.doorman.wire().login("plain_user", "app", "plain secret")
    # A Close that is not answered yet keeps a session where it is, as long as the statement runs.
    busy.send(wire.parse("s", "SELECT pg_sleep(600)"), wire.bind("", "s"), wire.execute(),
              wire.close("S", "s"), wire.sync())
    wait_until(lambda: postgres.backends("state = 'active'"), 10, "the statement to run")
    pooler.request()
    status = wait_until(lambda: left(show(console))[0] == "2" and show(console), 20,
                        "the new process to tell of two")
    assert (status["phase"], status["result"]) == ("taking over", "running")
    assert status["generation"] == "1"
    assert left(status) == ("2", "1", "1 logging in; 1 between two steps")
    assert moved(status)[0] == 1 and int(status["longest_freeze_us"]) > 0
    login, m = wire.Login("plain_user", "plain secret"), asked
    while m.type != "Z":
        assert m.type != "E", wire.fields(m)
        if m.type == "R" and (answer := login.answer(m)):
            logging_in.send(answer)
        m = logging_in.receive()
    status = wait_until(lambda: left(show(console))[0] == "1" and show(console), 20,
                        "one of them to have moved")
    assert left(status) == ("1", "1", "1 between two steps")
    assert status["phase"] == "taking over" and moved(status)[0] == 2
    busy.cancel()
    assert wire.errors(busy.until_ready())[0]["C"] == "57014"
    pooler.follow()
    status = wait_until(lambda: show(console)["phase"] == "serving" and show(console), 10,
                        "the new process to have heard the end")
    assert status["result"] == "ok" and left(status) == ("0", "0", "")
    assert moved(status)[0] == 3 and int(status["rounds"]) >= 3
    assert logging_in.value("SELECT 1") == busy.value("SELECT 1") == "1"
    for client in (logging_in, busy):
        client.terminate()
    console.close()
