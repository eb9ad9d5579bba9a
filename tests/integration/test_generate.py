"""`pg_doorman generate` against a real PostgreSQL: what it asks, what it writes, how it fails."""

import os
import queue
import re
import shutil
import signal
import socket
import ssl
import stat
import struct
import subprocess
import threading

import pytest
import yaml

import wire
from pooler import BINARY, run_program
from postgres import PASSWORDS, free_port, quote
from waiting import wait_until

SUPER = {"name": "generate super", "password": "a 'b' \\c\" d"}


@pytest.fixture(scope="module")
def superuser(postgres):
    """A role that logs in over TCP, with a password that wants quoting."""
    postgres.run('CREATE ROLE "%s" SUPERUSER LOGIN PASSWORD %s'
                 % (SUPER["name"], quote(SUPER["password"])))
    yield SUPER
    postgres.run('DROP ROLE "%s"' % SUPER["name"])


def generate(postgres, *arguments, host="127.0.0.1", user=SUPER["name"],
             password=SUPER["password"], database="app", **environment):
    words = ["generate", "--host", host, "--port", str(postgres.port), "-u", user, "-d", database]
    if password is not None:
        words += ["--password", password]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return run_program(*words, *arguments, env={**clean, **environment})


@pytest.mark.parametrize("form", ["yaml", "toml", "plain yaml", "plain toml"])
def test_generated_file_serves_the_servers_users(postgres, superuser, tmp_path, doorman, form):
    path = tmp_path / ("made." + form.split()[-1])
    done = generate(postgres, "-o", str(path), "--pool-size", "3",
                    *(["--no-comments"] if "plain" in form else []))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600, "it holds secrets"
    assert run_program("-t", str(path)).returncode == 0

    # As people and the suite of 3.10 do: another port, and rules of access put in.
    text = path.read_text()
    port = free_port()
    if form.endswith("yaml"):
        text = re.sub(r"(?m)^(  port: )6432$",
                      '\\g<1>%d\n  pg_hba:\n    content: "host all all all md5"' % port, text)
    else:
        text = re.sub(r"(?m)^(port = )6432$", "\\g<1>%d" % port, text)
        text = text.replace("\n[pools]\n", '\n[general.pg_hba]\ncontent = '
                            '"host all all all md5"\n[pools]\n', 1)
    path.write_text(text)
    log = open(tmp_path / "log", "wb")
    process = subprocess.Popen([os.environ.get("DOORMAN_BIN", "build/pg_doorman"), str(path)],
                               stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        def served():
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return True
            except OSError:
                return False
        wait_until(served, 10, "the pooler to listen")
        for user, database in (("scram_user", "app"), ("md5_user", "other")):
            with wire.Wire(("127.0.0.1", port)).login(user, database,
                                                      PASSWORDS[user]) as client:
                assert client.value("SELECT current_user || '@' || current_database()") \
                    == "%s@%s" % (user, database)
    finally:
        process.terminate()
        assert process.wait(20) == 0


def test_every_database_gets_a_pool_and_every_login_role_is_in_it(postgres, superuser):
    done = generate(postgres, "-s")
    made = yaml.safe_load(done.stdout)
    databases = postgres.run("SELECT datname FROM pg_database WHERE NOT datistemplate")
    secrets = dict(postgres.run("SELECT usename, coalesce(passwd, '') FROM pg_shadow"))
    assert list(made["pools"]) == sorted(row[0] for row in databases)
    for name, pool in made["pools"].items():
        assert pool["server_host"] == "127.0.0.1" and pool["server_port"] == postgres.port
        assert pool["server_database"] == name and pool["pool_mode"] == "session"
        assert pool["cleanup_server_connections"] is True
        assert {u["username"]: u["password"] for u in pool["users"]} == secrets
        assert {u["pool_size"] for u in pool["users"]} == {40}
    general = made["general"]
    assert (general["host"], general["port"]) == ("0.0.0.0", 6432)
    assert (general["admin_username"], general["admin_password"]) == ("admin", "admin")
    assert "pg_hba" not in general and general["server_tls_mode"] == "allow"


def test_format_follows_option_name_and_destination(postgres, superuser, tmp_path):
    def form(*arguments):
        done = run_program("generate", "--reference", *arguments)
        assert done.returncode == 0 and done.stderr == ""
        text = done.stdout or next(tmp_path.iterdir()).read_text()
        for path in tmp_path.iterdir():
            path.unlink()
        return "toml" if "\n[general]\n" in text else "yaml"
    assert form() == "yaml"
    assert form("-f", "toml") == "toml"
    assert form("-o", str(tmp_path / "x.yml")) == "yaml"
    assert form("-o", str(tmp_path / "x.YAML")) == "yaml"
    assert form("-o", str(tmp_path / "x.conf")) == "toml"
    assert form("-o", str(tmp_path / "x")) == "toml"
    assert form("-o", str(tmp_path / "x.toml"), "--format=yaml") == "yaml"


def test_environment_and_unix_socket(postgres):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    done = run_program("generate", "--server-host", "db.example", env={
        **clean, "PGHOST": postgres.directory, "PGPORT": str(postgres.port),
        "PGUSER": "postgres", "PGDATABASE": "other"})
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)["pools"]["app"]["server_host"] == "db.example"
    done = run_program("generate", env={**clean, "PGHOST": postgres.directory,
                                        "PGPORT": str(postgres.port)})
    assert yaml.safe_load(done.stdout)["pools"]["app"]["server_host"] == postgres.directory


@pytest.mark.parametrize("what, options, text", [
    ("wrong password", {"password": "wrong"},
     'db error: FATAL: password authentication failed for user "generate super"'),
    ("no password", {"password": None}, "invalid configuration: password missing"),
    ("no permission", {"user": "scram_user", "password": PASSWORDS["scram_user"]},
     "db error: ERROR: permission denied for view pg_shadow"),
    ("no database", {"database": "nowhere"}, 'db error: FATAL: database "nowhere" does not exist'),
], ids=lambda value: value if isinstance(value, str) and " " in value and ":" not in value else "")
def test_server_refuses(postgres, superuser, what, options, text):
    done = generate(postgres, **options)
    assert (done.returncode, done.stdout) == (1, ""), what
    assert done.stderr.startswith("Error: " + text), done.stderr


def test_what_else_goes_wrong_is_told(postgres, superuser, tmp_path):
    done = run_program("generate", "--host", "127.0.0.1", "--port", str(free_port()))
    assert done.returncode == 1
    assert done.stderr.startswith(
        "Error: error connecting to server: Connection refused (os error 111)")
    target = tmp_path / "absent" / "x.yaml"
    done = run_program("generate", "--reference", "-o", str(target))
    assert done.returncode == 1 and str(target) in done.stderr
    for wrong in (["--format", "json"], ["--port", "70000"], ["surplus"], ["--pool-size", "0"],
                  ["-o"], ["--bogus"]):
        done = run_program("generate", *wrong)
        assert done.returncode == 2 and done.stderr.startswith("error: "), wrong


def test_help_does_not_show_the_password_of_the_environment():
    done = run_program("generate", "--help", env={**os.environ, "PGPASSWORD": "hush hush"})
    assert done.returncode == 0 and "PGPASSWORD" in done.stdout and "hush" not in done.stdout


def test_ssl_is_demanded_and_verified(postgres, superuser, tmp_path):
    done = generate(postgres, "--ssl")
    assert done.returncode == 1 and "server does not support TLS" in done.stderr

    certificate, key = (os.path.join(postgres.data, "generate." + end) for end in ("crt", "key"))
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
                    "-keyout", key, "-out", certificate, "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=IP:127.0.0.1"], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for path in (certificate, key):
        if os.geteuid() == 0:
            shutil.chown(path, "postgres", "postgres")
        os.chmod(path, 0o600)
    trusted = tmp_path / "ca.crt"
    shutil.copyfile(certificate, trusted)
    try:
        for name, value in (("ssl_cert_file", certificate), ("ssl_key_file", key), ("ssl", "on")):
            postgres.run("ALTER SYSTEM SET %s = %s" % (name, quote(value)))
        postgres.run("SELECT pg_reload_conf()")
        wait_until(lambda: answers_tls(postgres.port), 10, "PostgreSQL to offer TLS")
        done = generate(postgres, "--ssl", "--no-comments", SSL_CERT_FILE=str(trusted))
        assert done.returncode == 0, done.stderr
        assert yaml.safe_load(done.stdout)["general"]["server_tls_mode"] == "require"
        done = generate(postgres, "--ssl", SSL_CERT_FILE="/etc/ssl/certs/ca-certificates.crt")
        assert done.returncode == 1 and "error performing TLS handshake" in done.stderr
        done = generate(postgres, "--ssl", host="localhost", SSL_CERT_FILE=str(trusted))
        assert done.returncode == 1, "the certificate is not for that name"
        assert "error performing TLS handshake" in done.stderr
    finally:
        for name in ("ssl", "ssl_cert_file", "ssl_key_file"):
            postgres.run("ALTER SYSTEM RESET " + name)
        postgres.run("SELECT pg_reload_conf()")
        wait_until(lambda: not answers_tls(postgres.port), 10, "PostgreSQL to be without TLS")


class Stranger:
    """Listens, takes one connection, and does with it what `behave` says."""

    def __init__(self, behave):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.behave = behave

    def __enter__(self):
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.thread.join(10)
        self.listener.close()

    def serve(self):
        self.listener.settimeout(10)
        sock, _ = self.listener.accept()
        with sock:
            self.behave(sock)


def test_message_of_a_stranger_may_promise_only_so_much():
    def promise(sock):
        sock.recv(4096)
        sock.sendall(b"R" + struct.pack("!I", 1 << 29))

    with Stranger(promise) as stranger:
        done = run_program("generate", "--host", "127.0.0.1", "--port", str(stranger.port),
                           "-u", "x", "--password", "y", "-d", "z")
    assert done.returncode == 1 and "does not speak PostgreSQL" in done.stderr


def test_tls_server_that_resets_the_connection_is_told_of(tmp_path):
    certificate, key = tmp_path / "server.crt", tmp_path / "server.key"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
                    "-keyout", key, "-out", certificate, "-subj", "/CN=localhost",
                    "-addext", "subjectAltName=IP:127.0.0.1"], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def reset(sock):
        assert len(sock.recv(8)) == 8
        sock.sendall(b"S")
        with context.wrap_socket(sock, server_side=True) as secure:
            assert secure.recv(4096)
            # The client finds the request for a password, and nobody there to be sent it.
            os.kill(pids.get(), signal.SIGSTOP)
            secure.sendall(b"R" + struct.pack("!II4s", 12, 5, b"salt"))
            secure.shutdown(socket.SHUT_WR)
            secure.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    pids = queue.Queue()
    with Stranger(reset) as stranger:
        process = subprocess.Popen(
            [BINARY, "generate", "--ssl", "--host", "127.0.0.1", "--port", str(stranger.port),
             "-u", "x", "--password", "y", "-d", "z"], stderr=subprocess.PIPE, text=True,
            env={**os.environ, "SSL_CERT_FILE": str(certificate)})
        pids.put(process.pid)
    process.send_signal(signal.SIGCONT)
    told = process.communicate(timeout=30)[1]
    assert process.returncode == 1 and told.startswith("Error: "), (process.returncode, told)


def answers_tls(port):
    with socket.create_connection(("127.0.0.1", port), 5) as probe:
        probe.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f")
        return probe.recv(1) == b"S"


def test_docs_are_written_or_printed(tmp_path):
    folder = tmp_path / "a" / "b"
    done = run_program("generate-docs", "-o", str(folder))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    names = ["general.md", "pool.md", "prometheus.md"]
    assert sorted(os.listdir(folder)) == names
    printed = run_program("generate-docs").stdout
    assert [line for line in printed.splitlines() if line.startswith("--- ")] == \
        ["--- %s ---" % name for name in names]
    for name in names:
        text = (folder / name).read_text()
        assert text.startswith("# ") and text in printed
    assert "### `query_wait_timeout`" in (folder / "general.md").read_text()
    assert run_program("generate-docs", "-o", "/proc/nowhere").returncode == 1
