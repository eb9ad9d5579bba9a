"""What users of PgDoorman 3.10 may expect of an upgrade, case by case (docs/upgrade.md has the
list). Each test carries its number; 15, 26, 27 and 28 are with the failures and the daemon."""

import os
import re
import signal
import socket
import stat

import pytest

import wire
from pooler import BINARY, pool, trust_user
from test_upgrade_failures import replace, run_from_link
from upgrading import alive
from waiting import PATIENCE, wait_until
from wire import query


def works(pooler):
    """Clients that come now are served."""
    with pooler.doorman.client() as client:
        assert client.value("SELECT 'served'") == "served"


def prepare(client, name, sql):
    client.send(wire.parse(name, sql), wire.sync())
    assert not wire.errors(client.until_ready())


def execute(client, name, *values):
    """The only cell of its result, without a Parse."""
    client.send(wire.bind("", name, values), wire.execute(), wire.sync())
    messages = client.until_ready()
    assert not wire.errors(messages), wire.errors(messages)
    return wire.rows(messages)[0][0]


def test_c1_01_sigint_without_a_terminal_is_an_upgrade(upgrading):
    pooler = upgrading()
    os.kill(pooler.pid, signal.SIGINT)
    pooler.follow()
    works(pooler)


def test_c1_03_upgrade_without_clients(upgrading):
    pooler = upgrading()
    pooler.upgrade()
    works(pooler)


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_c1_04_shutdown_only_lets_a_transaction_end(upgrading, mode):
    pooler = upgrading(environment={"PG_DOORMAN_CI_SHUTDOWN_ONLY": "1"}, pool_mode=mode)
    client = pooler.doorman.client()
    client.query("BEGIN")
    client.query("SELECT 1")
    os.kill(pooler.pid, signal.SIGINT)
    wait_until(lambda: "graceful shutdown" in pooler.doorman.log(), 10, "the shutdown to begin")
    assert client.value("SELECT 2") == "2"
    client.send(query("COMMIT"))
    messages = client.wait_closed()
    assert wire.tags(messages) == ["COMMIT"]
    assert [(e["C"], e["M"]) for e in wire.errors(messages)] == [
        ("58006", "pooler is shut down now")]
    assert [m.type for m in messages][-2:] == ["Z", "E"]
    assert pooler.doorman.wait(15) == 0
    log = pooler.doorman.log()
    assert "waiting for 1 client to disconnect (1 in transactions)" in log
    assert "dropping client 127.0.0.1:%d: shutting down" % client.sock.getsockname()[1] in log
    assert "All clients disconnected, shutting down" in log


def test_c1_06_many_queries_afterwards(upgrading):
    pooler = upgrading()
    with pooler.doorman.client() as client:
        client.query("SELECT 0")
        pooler.upgrade()
        for number in range(20):
            assert client.value("SELECT %d" % number) == str(number)


def test_c1_07_named_statement_is_bound_without_a_parse(upgrading):
    pooler = upgrading()
    with pooler.doorman.client() as client:
        prepare(client, "before", "SELECT $1::int + 1")
        pooler.upgrade()
        assert execute(client, "before", "41") == "42"


def test_c1_08_three_statements_with_parameters(upgrading):
    pooler = upgrading()
    with pooler.doorman.client() as client:
        prepare(client, "sum", "SELECT $1::int + $2::int")
        prepare(client, "text", "SELECT $1::text || '!'")
        prepare(client, "both", "SELECT repeat($1::text, $2::int)")
        pooler.upgrade()
        assert execute(client, "both", "ab", "2") == "abab"
        assert execute(client, "sum", "40", "2") == "42"
        assert execute(client, "text", "hey") == "hey!"


def test_c1_09_statement_without_a_name(upgrading):
    pooler = upgrading()
    with pooler.doorman.client() as client:
        prepare(client, "", "SELECT 'first'")
        pooler.upgrade()
        # What 3.10 refuses: it is still there.
        assert execute(client, "") == "first"
        prepare(client, "", "SELECT 'second'")
        assert execute(client, "") == "second"


def test_c1_10_transaction_before_and_after(upgrading):
    pooler = upgrading()
    with pooler.doorman.client() as client:
        client.query("BEGIN")
        assert client.value("SELECT 1") == "1"
        first = pooler.pid
        pooler.upgrade()
        assert client.value("SELECT 2") == "2"
        assert wire.tags(client.query("COMMIT")) == ["COMMIT"]
        assert client.value("SELECT 3") == "3"
        assert not alive(first)


def test_c1_11_three_idle_clients(upgrading):
    pooler = upgrading()
    clients = [pooler.doorman.client() for _ in range(3)]
    for client in clients:
        client.query("SELECT 1")
    pooler.upgrade()
    for number, client in enumerate(clients):
        assert client.value("SELECT %d" % number) == str(number)
        client.terminate()


def test_c1_12_deallocate_all_and_the_same_name_again(upgrading):
    pooler = upgrading()
    with pooler.doorman.client() as client:
        prepare(client, "name", "SELECT 'old'")
        pooler.upgrade()
        assert wire.tags(client.query("DEALLOCATE ALL")) == ["DEALLOCATE ALL"]
        prepare(client, "name", "SELECT 'new'")
        assert execute(client, "name") == "new"


def test_c1_14_two_users_of_a_database(upgrading, postgres):
    users = [trust_user(2), {"username": "plain_user", "password": "plain secret", "pool_size": 2,
                             "server_username": "plain_user", "server_password": "plain secret"}]
    pooler = upgrading(pools={"app": pool(postgres, users)})
    clients = {name: pooler.doorman.client(user=name, password=password)
               for name, password in (("trust_user", ""), ("plain_user", "plain secret"))}
    for name, client in clients.items():
        assert client.value("SELECT current_user") == name
    pooler.upgrade()
    for name, client in clients.items():
        assert client.value("SELECT current_user") == name
        client.terminate()


def test_c1_16_one_client_through_two_generations(upgrading):
    pooler = upgrading()
    with pooler.doorman.client() as client:
        client.query("SELECT 1")
        for number in range(2):
            old = pooler.pid
            pooler.upgrade()
            assert not alive(old)
            assert client.value("SELECT %d" % number) == str(number)


def test_c1_17_idle_client_beside_one_in_a_transaction(upgrading):
    pooler = upgrading()
    idle, busy = pooler.doorman.client(), pooler.doorman.client()
    idle.query("SELECT 1")
    busy.query("BEGIN")
    busy.query("SELECT 1")
    pooler.upgrade()
    assert idle.value("SELECT 'idle'") == "idle"
    assert busy.value("SELECT 'busy'") == "busy"
    busy.query("COMMIT")
    assert busy.value("SELECT 'after'") == "after"
    idle.terminate()
    busy.terminate()


def test_c1_18_transaction_that_waits_for_a_lock(upgrading, postgres):
    """It holds up nothing: the old process goes, and the lock is still waited for."""
    pooler = upgrading(general={"shutdown_timeout": "3s"})
    with postgres.connect("app") as holder, pooler.doorman.client() as client:
        holder.cursor().execute("SELECT pg_advisory_lock(1818)")
        client.query("BEGIN")
        client.send(query("SELECT 'got', pg_advisory_xact_lock(1818)"))
        wait_until(lambda: postgres.backends("wait_event_type = 'Lock'"), 10, "the lock to be awaited")
        old = pooler.pid
        assert pooler.upgrade() < 6 * PATIENCE + 10
        assert not alive(old)
        holder.cursor().execute("SELECT pg_advisory_unlock(1818)")
        assert wire.rows(client.until_ready()) == [["got", ""]]
    holder.close()


def test_c1_19_pools_are_shown_while_a_transaction_is_open(upgrading):
    pooler = upgrading()
    with pooler.doorman.client() as client:
        client.query("BEGIN")
        client.query("SELECT 1")
        pooler.upgrade()
        row = pooler.doorman.pool_row()
        assert row["cl_active"] == 1 and row["sv_active"] == 1


def test_c1_20_named_statements_do_not_count_as_anonymous(upgrading):
    pooler = upgrading(general={"client_anonymous_prepared_cache_size": 3})
    with pooler.doorman.client() as client:
        for number in range(3):
            prepare(client, "s%d" % number, "SELECT %d + $1::int" % number)
        pooler.upgrade()
        prepare(client, "s3", "SELECT 3 + $1::int")
        for number in range(4):
            assert execute(client, "s%d" % number, "10") == str(10 + number)


# ---- descriptors


def wrapped(monkeypatch, tmp_path, text):
    """The first process begins as this script, which is given the program."""
    script = tmp_path / "started"
    script.write_text(text.replace("PROGRAM", BINARY))
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr("pooler.BINARY", str(script))


def limited(monkeypatch, tmp_path, count):
    wrapped(monkeypatch, tmp_path, "#!/bin/sh\nulimit -n %d\nexec PROGRAM \"$@\"\n" % count)


def crowd(pooler, count):
    """That many clients who knock at the same moment."""
    knocking = []
    for _ in range(count):
        one = pooler.doorman.wire()
        one.send(wire.startup("trust_user", "app"))
        knocking.append(one)
    return knocking


def let_in(client, seconds):
    """False: it is refused, or still waits after that time."""
    client.sock.settimeout(seconds)
    try:
        messages = client.until("ZE")
    except (socket.timeout, wire.Closed):
        return False
    finally:
        client.sock.settimeout(15 * PATIENCE)
    return messages[-1].type == "Z"


def test_c1_22_fewer_descriptors_than_clients(upgrading, monkeypatch, tmp_path):
    limited(monkeypatch, tmp_path, 50)
    pooler = upgrading(pool_size=2)
    # With a server connection in place: one more could not be opened when the table is full, and
    # logins that wait for it would be refused.
    with pooler.doorman.client() as first:
        first.query("SELECT 1")
    clients = crowd(pooler, 100)
    accepted = []
    wait_until(lambda: "Failed to accept new connection" in pooler.doorman.log(), 10,
               "descriptors to run out")
    for client in clients:
        # Who has an answer has it by now; the others wait in the backlog.
        if let_in(client, 0.02 if len(accepted) >= 10 else 5):
            accepted.append(client)
    assert len(accepted) >= 10
    first = pooler.pid
    pooler.request()
    wait_until(lambda: "nothing has changed" in pooler.doorman.log() or not alive(first), 30,
               "the upgrade to end")
    for client in clients:
        if client not in accepted:
            client.close()
    if not alive(first):
        pooler.follow()
    for client in accepted:
        assert client.value("SELECT 1") == "1"
        client.terminate()
    works(pooler)
    log = pooler.doorman.log()
    assert log.count("Failed to accept new connection") <= 5
    assert "BINARY UPGRADE ABORTED" not in log and "fallback discovery failed" not in log


def descriptors(pid):
    """What each is: its target, and whether it can be inherited."""
    found = []
    for name in os.listdir("/proc/%d/fd" % pid):
        try:
            target = os.readlink("/proc/%d/fd/%s" % (pid, name))
            with open("/proc/%d/fdinfo/%s" % (pid, name)) as file:
                flags = int(re.search(r"flags:\s+(\d+)", file.read()).group(1), 8)
        except OSError:
            continue
        if int(name) > 2:
            found.append((target, not flags & os.O_CLOEXEC))
    return found


def sockets(pid):
    return sum(target.startswith("socket:") for target, _ in descriptors(pid))


def test_c1_23_two_upgrades_with_few_descriptors(upgrading, monkeypatch, tmp_path):
    limited(monkeypatch, tmp_path, 200)
    pooler = upgrading()
    clients = [pooler.doorman.client() for _ in range(50)]
    for client in clients:
        client.query("SELECT 1")
    counts = []
    for _ in range(2):
        pooler.upgrade()
        counts.append(sockets(pooler.pid))
        assert not [target for target, inheritable in descriptors(pooler.pid)
                    if inheritable and target.startswith("socket:")]
    assert counts[1] <= counts[0] + 5
    assert [client.value("SELECT 1") for client in clients] == ["1"] * 50
    works(pooler)
    assert "Too many open files" not in pooler.doorman.log()
    for client in clients:
        client.terminate()


def test_c1_24_descriptors_that_a_parent_left_open(upgrading, monkeypatch, tmp_path):
    wrapped(monkeypatch, tmp_path, """#!/usr/bin/python3 -S
import os, sys
for _ in range(16):
    for end in os.pipe():
        os.set_inheritable(end, True)
os.execv("PROGRAM", ["PROGRAM"] + sys.argv[1:])
""")
    pooler = upgrading()

    def pipes():
        return sum(target.startswith("pipe:") for target, _ in descriptors(pooler.pid))

    before = pipes()
    assert before >= 30
    with pooler.doorman.client() as client:
        client.query("SELECT 1")
        pooler.upgrade()
        assert client.value("SELECT 1") == "1"
    assert pipes() <= before - 20
    assert "unexpected inherited file descriptor" in pooler.doorman.log()


def test_c1_25_more_clients_than_are_allowed(upgrading):
    pooler = upgrading(general={"max_connections": 50})
    accepted, refused = [], 0
    for _ in range(1000):
        try:
            accepted.append(pooler.doorman.client())
        except wire.LoginFailed:
            refused += 1
    assert len(accepted) >= 50 and refused > 0
    pooler.upgrade()
    for client in accepted:
        assert client.value("SELECT 1") == "1"
        client.terminate()
    log = pooler.doorman.log()
    for words in ("Too many open files", "Failed to accept new connection",
                  "BINARY UPGRADE ABORTED", "fallback discovery failed"):
        assert words not in log


# ---- what its surroundings may be like (H1, H9)


def test_h1_log_that_nobody_reads(upgrading, monkeypatch, tmp_path):
    """A pipe that is full from the start: it may cost lines, and nothing else."""
    wrapped(monkeypatch, tmp_path, """#!/usr/bin/python3 -S
import os, sys
out, to = os.pipe()
os.set_blocking(to, False)
try:
    while True:
        os.write(to, b"x" * 4096)
except BlockingIOError:
    os.set_blocking(to, True)
os.set_inheritable(out, True)
os.dup2(to, 1)
os.dup2(to, 2)
os.execv("PROGRAM", ["PROGRAM"] + sys.argv[1:])
""")
    pooler = upgrading()
    with pooler.doorman.client() as client:
        for _ in range(2):
            for number in range(100):
                assert client.value("SELECT %d" % number) == str(number)
            pooler.upgrade()
        works(pooler)


def test_h9_log_whose_reader_has_gone(upgrading, monkeypatch, tmp_path):
    wrapped(monkeypatch, tmp_path, """#!/usr/bin/python3 -S
import os, sys
out, to = os.pipe()
os.dup2(to, 1)
os.dup2(to, 2)
os.close(out)
os.close(to)
os.execv("PROGRAM", ["PROGRAM"] + sys.argv[1:])
""")
    pooler = upgrading()
    with pooler.doorman.client() as client:
        for _ in range(2):
            assert client.value("SELECT 1") == "1"
            pooler.upgrade()
        works(pooler)


def test_a06_new_process_that_ends_says_how(upgrading, monkeypatch, tmp_path):
    link = run_from_link(monkeypatch, tmp_path)
    pooler = upgrading()
    for end, words in (("exit 71", "exit status: 71"), ("kill -9 $$", "signal: 9")):
        replace(link, "#!/bin/sh\n[ \"$1\" = -t ] && exit 0\n%s\n" % end)
        pooler.request()
        wait_until(lambda w=words: "New process exited before readiness: " + w
                   in pooler.doorman.log(), 20, words)
    works(pooler)


def test_a13_socket_file_of_somebody_else_stays(upgrading, tmp_path):
    """Not removed at the end: after an upgrade neither."""
    pooler = upgrading(general={"unix_socket_dir": str(tmp_path)})
    pooler.upgrade()
    path = tmp_path / (".s.PGSQL.%d" % pooler.doorman.port)
    path.unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        os.kill(pooler.pid, signal.SIGTERM)
        wait_until(lambda: pooler.gone(pooler.pid), 15, "the process to be gone")
        assert path.exists()
    assert "Leaving Unix socket %s in place: inode changed" % path in pooler.doorman.log()


def test_a18_lines_of_single_clients(upgrading, monkeypatch, tmp_path):
    wrapped(monkeypatch, tmp_path, "#!/bin/sh\nexec PROGRAM \"$1\" -l debug\n")
    pooler = upgrading()
    with pooler.doorman.client() as client:
        client.query("SELECT 1")
        pooler.upgrade()
        assert client.value("SELECT 1") == "1"
    log = pooler.doorman.log()
    assert re.search(r"\[trust_user@app #c\d+\] client 127.0.0.1:\d+ migrated to new process", log)
    assert re.search(r"\[trust_user@app #c\d+\] migrated client accepted from 127.0.0.1:\d+", log)


def test_b19_show_upgrade(upgrading):
    """What is told of an upgrade is there, before, amid and afterwards."""
    pooler = upgrading()
    assert pooler.status()["phase"] == "serving" and pooler.status()["result"] == "none"
    busy = pooler.doorman.client()
    busy.query("BEGIN")
    busy.query("SELECT 1")
    first = pooler.pid
    pooler.upgrade()
    status = wait_until(lambda: pooler.status() if pooler.status()["result"] == "ok" else None, 10,
                        "the end of it")
    assert status["phase"] == "serving" and status["generation"] == "1"
    assert status["predecessor_pid"] == str(first) and status["successor_pid"] == "0"
    assert status["clients_moved_in_transaction"] == "1" and int(status["servers_moved"]) >= 1
    assert int(status["clients_moved"]) >= 1 and status["clients_left"] == "0"
    assert 0 < int(status["freeze_us"]) <= int(status["longest_freeze_us"])
    assert status["left_because"] == "" and status["error"] == ""
    busy.terminate()
