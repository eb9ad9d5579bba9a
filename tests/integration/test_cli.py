"""The command line, exit statuses, the daemon, systemd, signals and shutdown."""

import json
import os
import re
import signal
import socket
import subprocess
import tempfile

import pytest

import wire
from pooler import BINARY, configuration, pool, run_program, yaml_of
from postgres import free_port
from waiting import wait_until
from wire import query

SHUTDOWN_ONLY = {"PG_DOORMAN_CI_SHUTDOWN_ONLY": "1"}


# ---- commands that print and end


def test_version(program):
    for option in ("--version", "-V"):
        done = run_program(option)
        assert done.returncode == 0 and done.stderr == ""
        name, version = done.stdout.split()
        assert name == "pg_doorman" and version[0].isdigit()


def test_help_lists_every_option_and_its_variable(program):
    for option in ("--help", "-h", "help"):
        done = run_program(option)
        assert done.returncode == 0 and done.stderr == ""
        for word in ("--log-level", "--log-format", "--no-color", "--daemon", "--inherit-fd",
                     "--test-config", "--version", "CONFIG_FILE", "LOG_LEVEL", "LOG_FORMAT",
                     "DAEMON", "INHERIT_FD"):
            assert word in done.stdout, word


@pytest.mark.parametrize("arguments", [
    ["--nonsense"], ["-x"], ["-l", "loud", "f"], ["-l"], ["-l", "info", "-l", "info", "f"],
    ["--inherit-fd", "x"], ["one.yaml", "two.yaml"],
], ids=" ".join)
def test_usage_errors_end_with_2(program, arguments):
    done = run_program(*arguments)
    assert done.returncode == 2 and done.stderr and done.stdout == ""


def test_bad_environment_is_a_usage_error(program):
    done = run_program("x.yaml", env={**os.environ, "LOG_LEVEL": "loud"})
    assert done.returncode == 2


@pytest.fixture
def config_file(postgres, tmp_path):
    path = tmp_path / "pooler.yaml"
    path.write_text(yaml_of(configuration(free_port(), {"app": pool(postgres)})))
    return str(path)


@pytest.mark.parametrize("arguments", [["-t", "{}"], ["{}", "-t"], ["--test-config", "{}"],
                                       ["-l", "warn", "-t", "{}"]], ids=" ".join)
def test_configuration_test_succeeds(config_file, arguments):
    done = run_program(*[a.format(config_file) for a in arguments])
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "pg_doorman: the configuration file %s syntax is ok" % config_file,
        "pg_doorman: configuration file %s test is successful" % config_file]


@pytest.mark.parametrize("text", ["general: [", "general:\n  port: 1\n", "pools: {}\n"])
def test_configuration_test_fails_with_78(program, tmp_path, text):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    done = run_program("-t", str(path))
    assert done.returncode == 78 and "Config parse error" in done.stderr
    assert "successful" not in done.stdout


def test_missing_configuration_ends_with_78(program, tmp_path):
    for arguments in ([str(tmp_path / "none.yaml")], ["-t", str(tmp_path / "none.yaml")]):
        done = run_program(*arguments)
        assert done.returncode == 78 and "Config parse error" in done.stderr


def test_configuration_test_beside_a_running_instance(doorman):
    pooler = doorman()
    assert run_program("-t", pooler.config_path).returncode == 0
    pooler.client().terminate()


def test_taken_port_ends_the_start(config_file, postgres):
    """Taken by a stranger: a second instance may share it, for upgrades need that."""
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        with open(config_file, "w") as file:
            file.write(yaml_of(configuration(stranger.getsockname()[1], {"app": pool(postgres)})))
        done = run_program(config_file, "-l", "info")
        assert done.returncode in (1, 78) and "ddress" in done.stderr


def test_unix_socket_of_a_live_process_is_not_taken_over(doorman):
    with tempfile.TemporaryDirectory(prefix="dm-") as directory:
        pooler = doorman(general={"unix_socket_dir": directory})
        done = run_program(pooler.config_path, "-l", "info")
        assert done.returncode == 71
        assert "another process is already listening" in done.stderr
        with wire.Wire("%s/.s.PGSQL.%d" % (directory, pooler.port)).login() as client:
            assert client.value("SELECT 1") == "1"


def test_dead_unix_socket_file_is_replaced(doorman):
    with tempfile.TemporaryDirectory(prefix="dm-") as directory:
        pooler = doorman(general={"unix_socket_dir": directory})
        path = "%s/.s.PGSQL.%d" % (directory, pooler.port)
        pooler.expected_status = -signal.SIGKILL
        pooler.signal(signal.SIGKILL)
        pooler.wait()
        assert os.path.exists(path)
        pooler.start()
        pooler.expected_status = 0

        # The kernel may keep the killed process's sockets a little longer than the process.
        def answered():
            try:
                with wire.Wire(path).login() as client:
                    return client.value("SELECT 1") == "1"
            except (OSError, wire.Closed, wire.LoginFailed):
                return False
        wait_until(answered, 10, "the new process to answer on its socket")


def test_toml_configuration(doorman, postgres):
    text = """
[general]
host = "127.0.0.1"
port = {port}
admin_username = "admin"
admin_password = "admin secret"
pg_hba.content = "host all all 127.0.0.1/32 trust"
[pools.app]
server_host = "127.0.0.1"
server_port = %d
[[pools.app.users]]
username = "trust_user"
password = ""
pool_size = 2
""" % postgres.port
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "pg_doorman.conf")
        with open(path, "w") as file:
            file.write(text.replace("{port}", str(port)))
        assert run_program("-t", path).returncode == 0
        process = subprocess.Popen([BINARY, path], stdin=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        try:
            wait_until(lambda: answers(port), 10, "the pooler to serve", 0.1)
        finally:
            process.terminate()
            assert process.wait(15) == 0


def answers(port):
    try:
        with wire.Wire(("127.0.0.1", port)).login() as client:
            return client.value("SELECT 1") == "1"
    except (OSError, wire.LoginFailed, wire.Closed):
        return False


def test_log_goes_to_stderr_in_its_form(doorman):
    log = doorman().log()
    for text in ("Welcome to PgDoorman!", "Running on", "Accepting connections"):
        assert text in log, text
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z  INFO \S+:\d+: ", log)
    assert "\x1b[" not in log


def test_structured_log_is_json(doorman):
    pooler = doorman(arguments=["-F", "structured"])
    pooler.client().terminate()
    lines = pooler.log().splitlines()
    assert lines
    for line in lines:
        assert list(json.loads(line)) == ["timestamp", "level", "file", "line", "message"]


def test_client_connections_are_logged_on_demand(doorman):
    pooler = doorman(general={"log_client_connections": True, "log_client_disconnections": True})
    with pooler.client() as client:
        peer = "%s:%d" % client.sock.getsockname()
        client.terminate()
    wait_until(lambda: "client disconnected from %s, session=" % peer in pooler.log(), 5, "the log")
    assert "client connected from %s (plain)" % peer in pooler.log()
    assert "[trust_user@app #c" in pooler.log()


# ---- systemd and the daemon


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_ready_is_told_to_systemd(doorman, abstract):
    with tempfile.TemporaryDirectory(prefix="dm-") as directory, \
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        name = "@doorman-test-%d" % os.getpid() if abstract else directory + "/notify"
        notify.bind(name.replace("@", "\0") if abstract else name)
        notify.settimeout(10)
        pooler = doorman(environment={"NOTIFY_SOCKET": name}, wait=False)
        assert b"READY=1" in notify.recv(4096).split(b"\n")
        pooler.client().terminate()


def test_ready_descriptor_gets_its_byte(postgres, tmp_path):
    port = free_port()
    path = tmp_path / "pooler.yaml"
    path.write_text(yaml_of(configuration(port, {"app": pool(postgres)})))
    reading, writing = os.pipe()
    process = subprocess.Popen([BINARY, str(path)], stdin=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, pass_fds=[writing],
                               env={**os.environ, "PG_DOORMAN_READY_FD": str(writing)})
    os.close(writing)
    try:
        assert os.read(reading, 10) == b"\x01"
        assert os.read(reading, 10) == b"", "the descriptor is closed behind it"
        assert answers(port)
    finally:
        os.close(reading)
        process.terminate()
        assert process.wait(15) == 0


def test_daemon_writes_its_pid_file_and_returns(postgres, tmp_path):
    port, pid_file = free_port(), tmp_path / "doorman.pid"
    path = tmp_path / "pooler.yaml"
    path.write_text(yaml_of(configuration(port, {"app": pool(postgres)},
                                          daemon_pid_file=str(pid_file))))
    done = subprocess.run([BINARY, str(path), "--daemon", "-l", "info"], stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=30,
                          env={**os.environ, **SHUTDOWN_ONLY})
    assert done.returncode == 0
    text = pid_file.read_text()
    pid = int(text)
    assert text == "%d\n" % pid
    try:
        os.kill(pid, 0)
        wait_until(lambda: answers(port), 5, "the daemon to serve")
        assert os.getsid(pid) != os.getsid(0)
        assert os.readlink("/proc/%d/fd/0" % pid) == "/dev/null"
    finally:
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not is_running(pid), 15, "the daemon to end")


def is_running(pid):
    try:
        with open("/proc/%d/stat" % pid) as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_daemon_that_cannot_listen_tells_its_caller(config_file, postgres, tmp_path):
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        with open(config_file, "w") as file:
            file.write(yaml_of(configuration(stranger.getsockname()[1], {"app": pool(postgres)},
                                             daemon_pid_file=str(tmp_path / "pid"))))
        done = run_program(config_file, "--daemon")
        assert done.returncode in (1, 71, 78) and done.stderr


def test_daemon_whose_pid_file_cannot_be_written_tells_its_caller(config_file, postgres, tmp_path):
    with open(config_file, "w") as file:
        file.write(yaml_of(configuration(free_port(), {"app": pool(postgres)},
                                         daemon_pid_file=str(tmp_path / "no" / "such" / "pid"))))
    done = run_program(config_file, "--daemon")
    assert done.returncode == 71 and "unable to open pid file" in done.stderr


# ---- the end


def test_sigterm_ends_at_once_with_0(doorman):
    pooler = doorman()
    with pooler.client() as busy, pooler.client() as idle:
        busy.query("BEGIN; SELECT 1")
        pooler.signal(signal.SIGTERM)
        assert pooler.wait(5) == 0
        for client in (busy, idle):
            client.drain()
    assert "Got SIGTERM, closing with 1 clients in transactions" in pooler.log()


def test_sigterm_closes_the_backends(doorman, postgres):
    pooler = doorman()
    with pooler.client() as client:
        client.value("SELECT 1")
        pooler.signal(signal.SIGTERM)
        pooler.wait(5)
    wait_until(lambda: not postgres.backends(), 5, "the backends to be gone")


def shutdown_told(messages):
    return [(e["S"], e["C"], e["M"]) for e in wire.errors(messages)] == [
        ("FATAL", "58006", "pooler is shut down now")]


@pytest.mark.parametrize("how", ["SIGINT", "SHUTDOWN"])
def test_drain_lets_transactions_finish_and_tells_the_others(doorman, how):
    pooler = doorman(environment=SHUTDOWN_ONLY, general={"shutdown_timeout": "20s"})
    with pooler.client() as busy, pooler.client() as idle:
        busy.query("BEGIN")
        busy.query("SELECT 1")
        idle.query("SELECT 1")
        if how == "SIGINT":
            pooler.signal(signal.SIGINT)
        else:
            assert pooler.admin("SHUTDOWN") == [{"success": "t"}]
        wait_until(lambda: "to disconnect" in pooler.log(), 5, "the drain")
        idle.push(query("SELECT 'too late'"))
        assert shutdown_told(idle.wait_closed())
        assert busy.value("SELECT 'goes on'") == "goes on"
        busy.send(query("COMMIT"))
        messages = busy.until_ready()
        assert wire.tags(messages) == ["COMMIT"] and wire.status(messages) == "I"
        assert shutdown_told(busy.wait_closed())
    assert pooler.wait(10) == 0
    if how == "SIGINT":
        assert "Got SIGINT (Ctrl+C), starting graceful shutdown" in pooler.log()
    assert "All clients disconnected, shutting down" in pooler.log()


def test_drain_idle_clients(doorman):
    """drain_idle_clients: silent ones are told, but not in a transaction."""
    pooler = doorman(environment=SHUTDOWN_ONLY,
                     general={"shutdown_timeout": "20s", "drain_idle_clients": True})
    with pooler.client() as busy, pooler.client() as begun, pooler.client() as idle, \
            pooler.client() as fresh:
        busy.query("BEGIN; SELECT 1")
        begun.query("begin;")
        idle.query("SELECT 1")
        pooler.signal(signal.SIGINT)
        assert shutdown_told(idle.wait_closed())
        assert shutdown_told(fresh.wait_closed())
        busy.send(query("COMMIT"))
        messages = busy.until_ready()
        assert wire.tags(messages) == ["COMMIT"]
        assert shutdown_told(busy.wait_closed())
        begun.push(query("SELECT 'too late'"))
        assert shutdown_told(begun.wait_closed())
    assert pooler.wait(10) == 0


def test_drain_tells_a_client_whose_begin_is_owed(doorman):
    pooler = doorman(environment=SHUTDOWN_ONLY, general={"shutdown_timeout": "3s"})
    with pooler.client() as client:
        client.query("begin;")
        pooler.signal(signal.SIGINT)
        wait_until(lambda: "to disconnect" in pooler.log(), 5, "the drain")
        client.push(query("SELECT 'too late'"))
        assert shutdown_told(client.wait_closed())
    assert pooler.wait(10) == 0


def test_drain_in_the_middle_of_a_statement_delivers_its_reply(doorman, postgres):
    pooler = doorman(environment=SHUTDOWN_ONLY)
    with pooler.client() as client:
        client.send(query("SELECT pg_sleep(1), 'whole'"))
        wait_until(lambda: postgres.backends("state = 'active'"), 5, "the statement to run")
        pooler.signal(signal.SIGINT)
        messages = client.wait_closed()
        assert wire.rows(messages) == [["", "whole"]]
        assert wire.essence(messages) == "TDCZE" and shutdown_told(messages)
    assert pooler.wait(10) == 0


def test_drain_refuses_new_clients(doorman):
    pooler = doorman(environment=SHUTDOWN_ONLY)
    with pooler.client() as busy:
        busy.query("BEGIN; SELECT 1")
        pooler.signal(signal.SIGINT)
        wait_until(lambda: "to disconnect" in pooler.log(), 5, "the drain")
        try:
            with pooler.wire() as late:
                late.push(wire.startup("trust_user", "app"))
                assert "Z" not in wire.types(late.wait_closed())
        except OSError:
            pass  # refused or reset, at whatever step
        busy.query("COMMIT")
    assert pooler.wait(10) == 0


def test_drain_ends_after_its_time_limit(doorman):
    pooler = doorman(environment=SHUTDOWN_ONLY, general={"shutdown_timeout": "700ms"})
    with pooler.client() as busy, pooler.client() as silent:
        busy.query("BEGIN; SELECT 1")
        pooler.signal(signal.SIGINT)
        assert pooler.wait(10) == 0
        busy.drain()
        silent.drain()
    assert "Graceful shutdown timed out" in pooler.log()


def test_sigterm_during_a_drain_ends_at_once(doorman):
    pooler = doorman(environment=SHUTDOWN_ONLY, general={"shutdown_timeout": "60s"})
    with pooler.client() as busy:
        busy.query("BEGIN; SELECT 1")
        pooler.signal(signal.SIGINT)
        wait_until(lambda: "to disconnect" in pooler.log(), 5, "the drain")
        pooler.signal(signal.SIGINT)
        pooler.signal(signal.SIGTERM)
        assert pooler.wait(5) == 0


def test_session_mode_client_stays_till_it_leaves(doorman):
    pooler = doorman(environment=SHUTDOWN_ONLY, pool_mode="session",
                     general={"shutdown_timeout": "20s"})
    with pooler.client() as client:
        client.value("SELECT 1")
        pooler.signal(signal.SIGINT)
        wait_until(lambda: "to disconnect" in pooler.log(), 5, "the drain")
        assert client.value("SELECT 'still mine'") == "still mine"
        client.terminate()
    assert pooler.wait(10) == 0


def test_sigpipe_is_ignored(doorman):
    pooler = doorman()
    pooler.signal(signal.SIGPIPE)
    pooler.client().terminate()


def test_idle_pooler_ends_on_sigint_without_waiting(doorman):
    pooler = doorman(environment=SHUTDOWN_ONLY, general={"shutdown_timeout": "60s"})
    pooler.client().terminate()
    pooler.signal(signal.SIGINT)
    assert pooler.wait(8) == 0
