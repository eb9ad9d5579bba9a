"""Upgrades under a real systemd, by the unit that is shipped (service_manager.py)."""

import os
import signal

import pytest

import service_manager
import wire
from pooler import configuration, pool
from postgres import free_port
from service_manager import ServiceManager, inside
from upgrading import stands
from waiting import wait_until


@pytest.fixture(scope="module")
def systemd_here():
    reason = service_manager.refusal()
    if reason is not None:
        pytest.skip("no systemd can be started on this machine: " + reason)


@pytest.fixture
def service(systemd_here, postgres):
    """Factory of the pooler as a service that is up."""
    made = []

    def start(general=None, **options):
        port = free_port()
        config = configuration(port, {"app": pool(postgres)}, **(general or {}))
        made.append(ServiceManager(port, config, **options))
        made[-1].start().control("start")
        return made[-1]

    yield start
    for one in made:
        one.end()


def replaced(manager, before):
    """Another process is the main one, and the only one."""
    after = wait_until(lambda: (manager.serves() or before) != before and manager.serves(), 30,
                       "another main process\n" + manager.said())
    wait_until(lambda: manager.pids() == [after], 30, "the old process to be gone")
    return after


def nobody_complained(manager):
    """The manager took every word from the process that said it."""
    problems = [line for line in manager.journal.messages
                if "notification" in line or "Reload operation" in line or "Killing" in line
                or "Failed with result" in line or "timed out" in line]
    assert not problems, problems
    assert any("Started pg_doorman" in line for line in manager.journal.messages)


def test_b15_service_is_replaced_three_times(service):
    manager = service()
    first = manager.serves()
    assert first is not None and manager.pids() == [first]
    client = manager.doorman.client()
    client.query("BEGIN")
    backend = client.value("SELECT pg_backend_pid()")
    seen = [first]
    for _ in range(3):
        manager.control("reload")
        seen.append(replaced(manager, seen[-1]))
        assert client.value("SELECT pg_backend_pid()") == backend
        now = manager.state()
        assert now["StatusText"] == "serving" and now["Result"] == "success"
        assert now["NRestarts"] == "0"
    assert len(set(seen)) == 4
    assert wire.tags(client.query("COMMIT")) == ["COMMIT"]
    client.terminate()
    manager.control("stop")
    now = manager.state()
    assert (now["ActiveState"], now["Result"], now["ExecMainStatus"]) == ("inactive", "success", "0")
    assert manager.pids() == [] and not os.path.exists(manager.group_path())
    nobody_complained(manager)


def test_b15_service_with_a_broken_configuration_goes_on(service):
    manager = service()
    first = manager.serves()
    client = manager.doorman.client()
    client.query("BEGIN")
    backend = client.value("SELECT pg_backend_pid()")
    with open(manager.doorman.config_path) as file:
        good = file.read()
    with open(manager.doorman.config_path, "a") as file:
        file.write("\ngeneral: [not, this]\n")
    manager.control("reload")
    wait_until(lambda: manager.state()["StatusText"].startswith("upgrade failed: file "), 30,
               "the manager to know")
    assert wait_until(manager.serves, 30, "it to be active") == first
    assert manager.pids() == [first]
    assert client.value("SELECT pg_backend_pid()") == backend
    with open(manager.doorman.config_path, "w") as file:
        file.write(good)
    manager.control("reload")
    replaced(manager, first)
    assert manager.state()["StatusText"] == "serving"
    assert client.value("SELECT pg_backend_pid()") == backend
    client.terminate()
    nobody_complained(manager)


def test_b15_service_is_being_replaced_until_the_old_process_has_gone(service, postgres):
    """Or for five seconds, if that takes longer; and it can be stopped meanwhile."""
    manager = service({"shutdown_timeout": "60s"})
    first = manager.serves()
    left = manager.doorman.client()
    # A Close that is not answered yet keeps a session where it is, as long as the statement runs.
    left.send(wire.parse("s", "SELECT pg_sleep(60)"), wire.bind("", "s"), wire.execute(),
              wire.close("S", "s"), wire.sync())
    wait_until(lambda: postgres.backends("state = 'active'"), 5, "the statement to run")
    manager.control("reload", "--no-block")
    wait_until(lambda: "between two steps" in manager.doorman.log(), 20, "the client to be left")
    now = wait_until(lambda: manager.state()["MainPID"] != str(inside(first)) and manager.state(),
                     10, "another main process")
    assert len(manager.pids()) == 2
    assert now["ActiveState"] == "reloading" and now["StatusText"] == "an upgrade is under way"
    second = wait_until(manager.serves, 30, "it to be active")
    assert second == manager.pids()[1] and first in manager.pids()
    assert manager.doorman.client().value("SELECT 1") == "1"
    manager.control("stop")
    assert manager.state()["ActiveState"] == "inactive" and manager.pids() == []


def test_b15_service_is_stopped_amid_an_upgrade(service):
    manager = service(environment={"PG_DOORMAN_UPGRADE_FAULT": "s-ready:stand"})
    manager.control("reload", "--no-block")
    wait_until(lambda: [pid for pid in manager.pids() if stands(pid)], 20,
               "the successor to stand still\n" + manager.doorman.log())
    manager.control("stop")
    now = manager.state()
    assert (now["ActiveState"], now["Result"], now["ExecMainStatus"]) == ("inactive", "success", "0")
    assert manager.pids() == []


def test_b15_service_is_restarted_when_the_successor_crashes(service):
    """The manager watches it, though it did not start it."""
    manager = service()
    first = manager.serves()
    manager.control("reload")
    second = replaced(manager, first)
    os.kill(second, signal.SIGKILL)
    wait_until(lambda: manager.state()["NRestarts"] == "1" and manager.serves(), 30,
               "the service to be up again")
    assert manager.serves() not in (first, second, None)
    assert manager.doorman.client().value("SELECT 1") == "1"
