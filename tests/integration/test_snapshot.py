"""The snapshot of a running pooler, and the command that prints it for people."""

import json
import os
import threading

import pytest
import yaml

import wire
from pooler import ADMIN, pool, run_program
from postgres import PASSWORDS


def snapshot(pooler):
    """The document: one row, one column, bytes in PostgreSQL's hexadecimal form."""
    with pooler.client("pgdoorman", ADMIN["user"], ADMIN["password"]) as admin:
        (text,), = admin.rows("SNAPSHOT")
    assert text.startswith("\\x")
    return bytes.fromhex(text[2:])


def test_snapshot_of_the_console_is_readable_by_inspect(doorman, tmp_path):
    pooler = doorman(pool_size=2)
    with pooler.client(application_name="in the picture") as busy, pooler.client() as idle:
        busy.query("BEGIN; SELECT 1")
        idle.value("SELECT 1")
        path = tmp_path / "snapshot"
        path.write_bytes(snapshot(pooler))
        done = run_program("inspect", str(path))
        assert done.returncode == 0, done.stderr
        assert yaml.safe_load(done.stdout), "YAML of something"
        for word in ("trust_user", "app"):
            assert word in done.stdout, word
        assert wire.status(busy.query("COMMIT")) == "I"


def test_snapshot_command_writes_a_file(doorman, tmp_path):
    pooler = doorman()
    pooler.client().terminate()
    path = str(tmp_path / "snapshot")
    done = run_program("snapshot", "-c", pooler.config_path, path,
                       env={**os.environ, "PG_DOORMAN_ADMIN_PASSWORD": ADMIN["password"]})
    assert done.returncode == 0, done.stderr
    done = run_program("inspect", "--json", path)
    assert done.returncode == 0 and json.loads(done.stdout)


def test_snapshot_keeps_no_secrets(doorman, postgres):
    users = [{"username": "front", "password": "", "pool_size": 1, "server_username": "plain_user",
              "server_password": PASSWORDS["plain_user"]}]
    pooler = doorman(pools={"app": pool(postgres, users)})
    with pooler.client("app", "front") as client:
        client.value("SELECT 1")
        document = snapshot(pooler)
    for secret in (PASSWORDS["plain_user"], ADMIN["password"]):
        assert secret.encode() not in document


@pytest.mark.slow
def test_snapshots_under_load_disturb_nobody(doorman):
    pooler = doorman(pool_size=3)
    stop, problems = threading.Event(), []

    def work():
        try:
            with pooler.client() as client:
                while not stop.is_set():
                    client.query("BEGIN")
                    assert client.value("SELECT 1") == "1"
                    client.query("COMMIT")
        except Exception as problem:
            problems.append(problem)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        assert pooler.admin("SNAPSHOT")
    stop.set()
    for thread in threads:
        thread.join(20)
    assert problems == []


def test_inspect_refuses_what_is_no_msgpack(program, tmp_path):
    path = tmp_path / "junk"
    path.write_bytes(b"\xc1\xc1\xc1")
    done = run_program("inspect", str(path))
    assert done.returncode == 1 and done.stderr
    assert run_program("inspect", str(tmp_path / "missing")).returncode == 1
