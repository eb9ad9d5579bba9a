"""Upgrades that fail, at each step: the old process goes on as if nothing had been. And deaths: of
either process, on either side of the commit."""

import os
import signal
import stat

import pytest

import wire
from pooler import BINARY
from upgrading import Upgrading, alive, generations, inventory, stands
from waiting import wait_until
from wire import query


class Scene:
    """A pooler with one of each: idle, in a transaction, waiting; all must be as before."""

    def __init__(self, doorman, fault=None, binary=None, general=None, **settings):
        environment = {"PG_DOORMAN_UPGRADE_FAULT": fault} if fault else None
        self.upgrading = Upgrading(doorman(
            pool_size=1, environment=environment,
            # Who waits does so on a slow machine as well.
            general={"upgrade_inherited_accounting": "strict", "query_wait_timeout": "60s",
                     **(general or {})}, **settings))
        self.doorman = self.upgrading.doorman
        self.idle = self.doorman.client()
        self.idle.query("SELECT 1")
        self.holder = self.doorman.client()
        self.holder.query("BEGIN")
        self.pid = self.holder.value("SELECT pg_backend_pid()")
        self.waiter = self.doorman.client()
        self.waiter.send(query("SELECT pg_backend_pid()"))
        wait_until(lambda: self.doorman.pool_row()["cl_waiting"] == 1, 5, "the client to wait")

    def all_is_well(self):
        assert self.holder.value("SELECT pg_backend_pid()") == self.pid
        assert wire.tags(self.holder.query("COMMIT")) == ["COMMIT"]
        assert wire.rows(self.waiter.until_ready()) == [[self.pid]]
        assert self.idle.value("SELECT pg_backend_pid()") == self.pid
        new = self.doorman.client()
        assert new.value("SELECT pg_backend_pid()") == self.pid
        for client in (self.idle, self.holder, self.waiter, new):
            client.terminate()

    def wait_for(self, words, seconds):
        try:
            wait_until(lambda: words in self.doorman.log(), seconds, words)
        except AssertionError as error:
            raise AssertionError("%s; the log ends:\n%s" % (error, self.doorman.log()[-3000:]))

    def fails(self, words):
        """It does, with these words in the log, and nothing has changed."""
        self.upgrading.request()
        self.failed(words)

    def failed(self, words):
        first = self.upgrading.pid
        self.wait_for(words, 30)
        self.wait_for("nothing has changed", 10)
        assert alive(first) and self.doorman.running()
        status = self.upgrading.status()
        assert status["phase"] == "serving" and status["result"] in ("aborted", "reclaimed")
        assert status["error"]
        self.all_is_well()
        wait_until(lambda: self.upgrading.successor() is None, 10, "no second process")
        assert not self.doorman.running() or alive(first)

    def ends_around_the_commit(self):
        """The successor meets its fate: before it goes on, amid that, or when it serves already."""
        outcomes = ("nothing has changed", "that had moved are lost", "took over",
                    "upgrade: moved")
        said = wait_until(lambda: [words for words in outcomes if words in self.doorman.log()], 30,
                          "the end of it")
        if said == [outcomes[3]]:
            # It stopped behind the point of no return: the sessions are its own, and wait with it.
            for pid in generations(self.doorman.config_path):
                os.kill(pid, signal.SIGCONT)
            self.wait_for(outcomes[2], 30)
        if outcomes[0] in said:
            assert self.upgrading.status()["result"] == "reclaimed"
            self.all_is_well()
        elif outcomes[1] in said:
            with self.doorman.client() as new:
                assert new.value("SELECT 1") == "1"

    def succeeds(self):
        self.upgrading.follow()
        self.all_is_well()


@pytest.fixture
def scene(doorman):
    made = []

    def start(*arguments, **settings):
        made.append(Scene(doorman, *arguments, **settings))
        return made[-1]

    yield start
    for one in made:
        one.upgrading.finish()


def test_c1_27_28_invalid_configuration_then_a_valid_one(scene):
    now = scene()
    now.upgrading.signal = signal.SIGINT
    path = now.doorman.config_path
    with open(path) as file:
        good = file.read()
    with open(path, "a") as file:
        file.write("\ngeneral: [not, this]\n")
    def stdin():
        with open("/proc/%d/fdinfo/0" % now.upgrading.pid) as file:
            return [line for line in file if line.startswith("flags")]

    before = stdin()
    now.fails("CONFIGURATION VALIDATION FAILED")
    assert "BINARY UPGRADE ABORTED" in now.doorman.log()
    assert stdin() == before
    with open(path, "w") as file:
        file.write(good)
    client = now.doorman.client()
    now.upgrading.upgrade()
    assert client.value("SELECT 1") == "1"
    assert stdin() == before
    client.terminate()


def test_b18_ends_of_children_are_ignored_by_who_starts_it(scene, monkeypatch, tmp_path):
    """Such a disposition is inherited, and then no child could be waited for."""
    script = tmp_path / "start"
    script.write_text("#!/bin/sh\ntrap '' CHLD\nexec %s \"$@\"\n" % BINARY)
    script.chmod(0o755)
    monkeypatch.setattr("pooler.BINARY", str(script))
    now = scene()
    now.upgrading.upgrade()
    now.all_is_well()


def test_b15_sigterm_as_the_successor_takes_over(scene):
    """The sessions have changed hands when it is heard of: it is the old process's end alone."""
    now = scene("committed:stop-other")
    now.upgrading.request()
    successor = wait_until(now.upgrading.standing, 20, "the successor to stand still")
    os.kill(now.upgrading.pid, signal.SIGTERM)
    os.kill(successor, signal.SIGCONT)
    wait_until(lambda: not now.doorman.running(), 20, "the old process to end")
    # On a machine that is too slow for it, it was given up before it could go on.
    if "it is killed" not in now.doorman.log():
        now.succeeds()


def run_from_link(monkeypatch, tmp_path, target=BINARY):
    """The program under test is a link, so that another can take its place."""
    link = tmp_path / "pg_doorman"
    link.symlink_to(target)
    monkeypatch.setattr("pooler.BINARY", str(link))
    return link


def replace(link, text):
    script = link.parent / "other"
    script.write_text(text)
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    link.unlink()
    link.symlink_to(script)


def test_b02_program_that_is_gone(scene, monkeypatch, tmp_path):
    link = run_from_link(monkeypatch, tmp_path)
    now = scene()
    link.unlink()
    now.fails("FAILED TO VALIDATE CONFIGURATION")


def test_b02_program_that_ends_at_once(scene, monkeypatch, tmp_path):
    link = run_from_link(monkeypatch, tmp_path)
    now = scene()
    replace(link, "#!/bin/sh\n[ \"$1\" = -t ] && exit 0\nexit 3\n")
    now.fails("New process exited before readiness")


@pytest.mark.slow
def test_b02_program_that_hangs(scene, monkeypatch, tmp_path):
    """As it starts, and as it checks the configuration: at the same time, for either takes long."""
    ends = {"starts": ("[ \"$1\" = -t ] && exit 0", "did not signal readiness"),
            "checks": ("", "did not end in time")}
    scenes = []
    for name, (line, words) in ends.items():
        place = tmp_path / name
        place.mkdir()
        link = run_from_link(monkeypatch, place)
        scenes.append((scene(), words))
        replace(link, "#!/bin/sh\n%s\nexec sleep 60\n" % line)
    for now, _ in scenes:
        now.upgrading.request()
    for now, words in scenes:
        now.failed(words)


def test_b18_no_room_for_descriptors(scene):
    """The successor cannot take them all: it says so, and the old process goes on."""
    import resource
    now = scene()
    most = max(int(name) for name in os.listdir("/proc/%d/fd" % now.upgrading.pid))
    resource.prlimit(now.upgrading.pid, resource.RLIMIT_NOFILE, (most + 2, 4096))
    try:
        now.upgrading.request()
        wait_until(lambda: "nothing has changed" in now.doorman.log()
                   or not alive(now.upgrading.pid), 30, "the end of it")
    finally:
        if alive(now.upgrading.pid):
            resource.prlimit(now.upgrading.pid, resource.RLIMIT_NOFILE, (4096, 4096))
    if not alive(now.upgrading.pid):
        now.upgrading.follow()
    now.all_is_well()


def test_b18_no_memory_for_the_successor(scene, monkeypatch, tmp_path):
    """It cannot even start."""
    link = run_from_link(monkeypatch, tmp_path)
    now = scene()
    replace(link, "#!/bin/sh\n[ \"$1\" = -t ] && exit 0\nulimit -v 20000\nexec %s \"$@\"\n" % BINARY)
    now.fails("nothing has changed")


def test_b18_no_descriptors_for_the_successor(scene, monkeypatch, tmp_path):
    """It gets as far as to its listener, and no further."""
    link = run_from_link(monkeypatch, tmp_path)
    now = scene()
    replace(link, "#!/bin/sh\n[ \"$1\" = -t ] && exit 0\nulimit -n 16\nexec %s \"$@\"\n" % BINARY)
    now.fails("nothing has changed")


def test_b18_table_of_the_old_process_is_full(scene):
    """What it keeps back is enough for the upgrade: the configuration is checked, too."""
    import resource
    now = scene()
    pid = now.upgrading.pid
    most = max(int(name) for name in os.listdir("/proc/%d/fd" % pid))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most + 1, 4096))
    now.upgrading.request()
    wait_until(lambda: "nothing has changed" in now.doorman.log() or not alive(pid), 30,
               "the end of it")
    assert "Skipping pre-flight" not in now.doorman.log()
    if not alive(pid):
        now.upgrading.follow()
        resource.prlimit(now.upgrading.pid, resource.RLIMIT_NOFILE, (4096, 4096))
    else:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (4096, 4096))
    now.all_is_well()


# What the kernel can refuse the old process; then the new one.
REFUSED = [
    "check:ENOMEM", "check-pipe:ENOMEM", "link:EMFILE", "ready-pipe:EMFILE", "spawn:EAGAIN",
    "spawn:ENOMEM", "send-ack:ENOMEM", "send-listeners:ETOOMANYREFS", "document:ENOMEM",
    "memory:ENOMEM", "memory:EMFILE", "make-page:ENOMEM", "send-begin:ETOOMANYREFS",
    "send-fds:ETOOMANYREFS", "send-fds:ENOMEM", "send-end:ENOMEM",
    "send-hello:ENOMEM", "map-page:ENOMEM", "map-document:ENOMEM", "send-fds-ok:ENOMEM",
]


def test_b18_kernel_refuses(scene, tmp_path):
    """One thing after another: the upgrade is given up, nobody notices, and the next succeeds."""
    fault = tmp_path / "fault"
    fault.write_text("none\n")
    now = scene("@%s" % fault)
    first = now.upgrading.pid
    before = inventory(first)
    for number, what in enumerate(REFUSED):
        fault.write_text(what + "\n")
        now.upgrading.request()
        wait_until(lambda n=number: now.doorman.log().count("nothing has changed") == n + 1, 30,
                   "the end of it, %s" % what)
        status = now.upgrading.status()
        assert status["phase"] == "serving" and status["result"] == "aborted", (what, status)
        assert now.holder.value("SELECT pg_backend_pid()") == now.pid, what
    # The console's own connection may have been there at first.
    wait_until(lambda: all(count <= before.get(kind, 0)
                           for kind, count in inventory(first).items()), 10,
               "no more descriptors than at first, %r" % before)
    # Whoever reads the configuration next is the new process itself.
    for what in ("check:EMFILE", "check-pipe:EMFILE"):
        fault.write_text(what + "\n")
        now.upgrading.upgrade()
        assert now.holder.value("SELECT pg_backend_pid()") == now.pid, what
    assert now.doorman.log().count("Skipping pre-flight configuration validation") == 2
    # Of the decision the new one has to be told; if that fails, it is tried again.
    fault.write_text("send-commit:ENOMEM*3\n")
    now.upgrading.upgrade()
    assert now.upgrading.status()["generation"] == "3"
    now.all_is_well()


def test_b18_descriptors_run_out_as_they_come(scene, monkeypatch, tmp_path):
    """The new process has started, and cannot have all that is handed over."""
    link = run_from_link(monkeypatch, tmp_path)
    now = scene()
    many = [now.doorman.client() for _ in range(60)]
    replace(link, "#!/bin/sh\n[ \"$1\" = -t ] && exit 0\nulimit -n 70\nexec %s \"$@\"\n" % BINARY)
    now.fails("too many files are open")
    for client in many:
        assert client.value("SELECT 1") == "1"
        client.terminate()


# The steps on either side, in their order. The old process: spawned, greeted, ready, freeze, begin,
# fds, prepared, committed, adopted, moved, bye. The new one: s-hello, s-greeted, s-ready, s-begin,
# s-fds, s-end, s-prepared, s-commit, s-adopted.

@pytest.mark.parametrize("point", ["spawned", "greeted", "ready", "freeze", "begin", "fds",
                                   "prepared"])
def test_b02_successor_dies_before_the_commit(scene, point):
    scene(point + ":kill-other").fails("nothing has changed")


@pytest.mark.parametrize("point", ["s-hello", "s-greeted", "s-ready", "s-begin", "s-fds", "s-end"])
def test_b02_successor_dies_at_a_step_of_its_own(scene, point):
    scene(point + ":die").fails("nothing has changed")


@pytest.mark.parametrize("point", ["s-begin", "s-fds", "s-end", "s-prepared"])
def test_b02_successor_refuses(scene, point):
    scene(point + ":refuse").fails("as asked")


def test_b02_successor_dies_when_it_is_prepared(scene):
    """Before or after the old process has decided: it has touched nothing."""
    scene("s-prepared:die").fails("nothing has changed")


def test_b02_successor_dies_before_it_goes_on(scene):
    now = scene("s-commit:die")
    now.fails("nothing has changed")
    assert now.upgrading.status()["result"] == "reclaimed"


def test_b02_successor_dies_as_it_begins_to_serve(scene):
    """What it had taken over ends with it; the old process serves who comes."""
    now = scene("s-adopted:die")
    now.upgrading.request()
    now.wait_for("the clients that had moved are lost", 20)
    for client in (now.idle, now.holder, now.waiter):
        client.wait_closed()
    assert now.upgrading.status()["result"] == "lost"
    with now.doorman.client() as new:
        assert new.value("SELECT 1") == "1"


def test_b02_successor_stands_still_before_the_commit(scene):
    """At each step of the freeze, and no longer than that may last."""
    scenes = [scene(point + ":" + action) for point, action in (
        ("fds", "stop-other"), ("begin", "stop-other"), ("s-begin", "stand"), ("s-fds", "stand"),
        ("s-end", "stand"), ("s-prepared", "stand"))]
    for now in scenes:
        now.upgrading.request()
    for now in scenes:
        now.failed("did not answer in time")


def test_b02_successor_stands_still_as_it_starts(scene):
    scenes = [scene(point, general={"upgrade_ready_timeout": "500ms"})
              for point in ("spawned:stop-other", "greeted:stop-other", "s-hello:stand",
                            "s-greeted:stand", "s-ready:stand")]
    for now in scenes:
        now.upgrading.request()
    for now in scenes:
        now.failed("did not signal readiness")


def test_b02_successor_stands_still_before_it_goes_on(scene):
    """It has touched nothing: it is ended, and everything taken back."""
    now = scene("s-commit:stand")
    now.fails("it is killed")
    assert now.upgrading.status()["result"] == "reclaimed"


def test_b02_successor_stands_still_as_it_begins_to_serve(scene):
    """What is its own stays its own; all is served when it goes on."""
    now = scene("s-adopted:stand")
    now.upgrading.request()
    standing = wait_until(lambda: now.upgrading.standing(), 20, "the new process to stand still")
    assert standing != now.upgrading.pid
    now.wait_for("upgrade: moved", 20)
    os.kill(standing, signal.SIGCONT)
    now.succeeds()


@pytest.mark.parametrize("point", ["spawned", "greeted", "ready", "freeze", "begin", "fds",
                                   "prepared", "committed", "adopted", "moved", "bye"])
def test_b02_old_process_stands_still_for_a_while(scene, point):
    """Nobody can tell that it will go on; so nobody takes anything, and nothing is lost."""
    now = scene(point + ":stand")
    first = now.upgrading.pid
    now.upgrading.request()
    wait_until(lambda: stands(first), 20, "the old process to stand still")
    os.kill(first, signal.SIGCONT)
    wait_until(lambda: not alive(first) or "nothing has changed" in now.doorman.log(), 20,
               "the upgrade to end")
    if not alive(first):
        now.upgrading.follow()
    now.all_is_well()


def test_b02_successor_dies_right_after_the_commit(scene):
    """It has touched nothing yet: the old process takes everything back."""
    now = scene("committed:kill-other")
    now.upgrading.request()
    now.ends_around_the_commit()


def test_b02_successor_stands_still_after_the_commit(scene):
    now = scene("committed:stop-other")
    now.upgrading.request()
    now.ends_around_the_commit()


@pytest.mark.parametrize("point", ["prepared", "committed", "adopted", "moved", "bye"])
def test_b02_old_process_dies_when_all_is_there(scene, point):
    """The successor has everything, and goes on with it."""
    now = scene(point + ":die")
    now.doorman.expected_status = -signal.SIGKILL
    now.upgrading.request()
    now.succeeds()
    assert now.upgrading.status()["result"] == "adopted"


@pytest.mark.parametrize("point", ["spawned", "greeted", "ready", "freeze", "begin", "fds"])
def test_b02_old_process_dies_before_all_is_there(scene, point):
    """Its clients go with it; the successor serves new ones."""
    now = scene(point + ":die")
    now.doorman.expected_status = -signal.SIGKILL
    now.upgrading.request()
    now.upgrading.follow()
    client = now.doorman.client()
    assert client.value("SELECT 1") == "1"
    client.terminate()


def test_b02_sigterm_while_the_successor_starts(scene, monkeypatch, tmp_path):
    """The end of the process is the end of the upgrade."""
    link = run_from_link(monkeypatch, tmp_path)
    now = scene()
    replace(link, "#!/bin/sh\n[ \"$1\" = -t ] && exit 0\nexec sleep 60\n")
    now.upgrading.request()
    wait_until(lambda: "Starting new process" in now.doorman.log(), 10, "the successor to start")
    now.doorman.signal(signal.SIGTERM)
    assert now.doorman.wait(10) == 0
    wait_until(lambda: now.upgrading.successor() is None, 10, "the successor to be gone")


def test_c1_15_two_requests_are_one_upgrade(scene):
    now = scene()
    now.upgrading.request()
    now.upgrading.request()
    now.succeeds()
    assert now.upgrading.status()["generation"] == "1"
