"""A mixed load for minutes in which every answer is checked, and a look at what is left behind.

Clients send simple and extended queries, named and unnamed statements, COPY both ways,
transactions, errors, pipelines and cancel requests through a pool that is smaller than they are
many. They leave in every way: politely, by closing, by a reset, in the middle of a message or of a
transaction. Meanwhile backends are terminated and the configuration is reloaded. No client may ever
see an answer that is not its own; a client may lose its connection only if a backend was terminated
under it. In the end all counters are at rest, no descriptor and no memory is left over, and the
table holds what was committed and nothing that was not.

    tests/soak/soak.py                        five minutes, half of them on each engine
    tests/soak/soak.py --seconds 3600 --engines io_uring --clients 100

The choices of each client follow from --seed; what the scheduler makes of them does not.
"""

import argparse
import os
import random
import sys
import tempfile
import threading
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--builddir", default="build", help="where pg_doorman is")
    add("--seconds", type=float, default=300, help="of load, over all engines")
    add("--engines", default="io_uring,epoll", type=lambda text: text.split(","))
    add("--clients", type=int, default=24)
    add("--pool-size", type=int, default=5)
    add("--seed", type=int, default=random.randrange(1 << 30))
    return parser.parse_args()


OPTIONS = parse_options()
os.environ.setdefault("DOORMAN_BIN", os.path.join(TOP, OPTIONS.builddir, "pg_doorman"))
sys.path[:0] = [os.path.join(TOP, "tests", name) for name in ("integration", "tools")]

import clients  # noqa: E402
from pooler import SANITIZED, Doorman, configuration, pool, trust_user  # noqa: E402
from postgres import Postgres, free_port  # noqa: E402
from run_tests import io_uring_refusal  # noqa: E402
from waiting import wait_until  # noqa: E402

KILL_PAUSE = (0.1, 0.6)
RELOAD_PAUSE = 3.0
DESCRIPTORS_MORE = 8
MEMORY_MORE = 24 << 20


def say(text):
    print(text, flush=True)


class Load:
    """What the clients share."""

    def __init__(self, pooler, table):
        self.pooler = pooler
        self.table = table
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.problems = []
        self.counts = {}
        self.kills = 0

    def fault(self, problem):
        with self.lock:
            self.problems.append(problem)
        self.stop.set()

    def count(self, what, number=1):
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + number


def start_pooler(postgres, folder, engine):
    port = free_port()
    pools = {"app": pool(postgres, [trust_user(OPTIONS.pool_size)], server_lifetime=5000)}
    config = configuration(port, pools, query_wait_timeout="60s", connect_timeout="20s",
                           server_prepared_statements_cache_size=20,
                           retain_connections_time="500ms")
    return Doorman(folder, port, config, {"PG_DOORMAN_IO": engine}).start()


def killer(load, postgres):
    """Terminates a backend of a client now and then, whatever it is doing."""
    chance = random.Random(OPTIONS.seed)
    while not load.stop.wait(chance.uniform(*KILL_PAUSE)):
        found = postgres.backends(database="app")
        if found:
            victims = postgres.terminate("pid = %d" % chance.choice(found)[0])
            load.kills += len(victims)


def reloader(load):
    """One timing more or less, so that there is something to be put in force."""
    text = load.pooler.config
    while not load.stop.wait(RELOAD_PAUSE):
        text["pools"]["app"]["idle_timeout"] = random.choice([1000, 2000, 3000])
        load.pooler.write_config(text)
        load.pooler.admin("RELOAD")
        load.count("reloads")


def guarded(load, work, *arguments):
    def run():
        try:
            work(*arguments)
        except Exception as problem:  # whatever it is, it ends the run
            load.fault("%s: %s: %r" % (work.__name__, type(problem).__name__, problem))
    return threading.Thread(target=run)


def run_load(load, postgres, seconds, phase):
    workers = [clients.Client(load, number, "%d/%s/%d" % (OPTIONS.seed, phase, number))
               for number in range(OPTIONS.clients)]
    threads = [guarded(load, worker.run) for worker in workers]
    threads += [guarded(load, killer, load, postgres), guarded(load, reloader, load)]
    for thread in threads:
        thread.start()
    load.stop.wait(seconds)
    load.stop.set()
    for thread in threads:
        thread.join(120)
        if thread.is_alive():
            load.problems.append("a client hangs")
            break
    return workers


# ---- the end


def at_rest(pooler):
    """None, or what is not."""
    if len(pooler.admin("SHOW CLIENTS")) != 1:
        return "clients are left"
    row = pooler.pool_row()
    for name in ("cl_idle", "cl_active", "cl_waiting", "sv_active", "sv_login"):
        if row[name] != 0:
            return "%s is %s" % (name, row[name])
    lists = {r["list"]: int(r["items"]) for r in pooler.admin("SHOW LISTS")}
    if lists["used_servers"] or lists["used_clients"]:
        return "SHOW LISTS has %r" % lists
    return None


def wait_at_rest(pooler):
    try:
        wait_until(lambda: at_rest(pooler) is None, 20, "rest", 0.1)
    except AssertionError:
        raise AssertionError("not at rest: %s" % at_rest(pooler)) from None


def check_leaks(pooler, before, after):
    assert after[0] <= before[0] + DESCRIPTORS_MORE, "descriptors: %d, then %d" % (before[0],
                                                                                 after[0])
    if not SANITIZED:
        assert after[1] <= before[1] * 1.25 + MEMORY_MORE, "memory: %d, then %d" % (before[1],
                                                                                   after[1])
    for worker in pooler.admin("SHOW WORKERS"):
        # The one that answers this has a stack, and the one that serves the asker may have.
        assert int(worker["stacks_in_use"]) <= 2, worker


def check_table(load, workers, postgres):
    found = {}
    for number, value in postgres.run("SELECT worker, n FROM " + load.table, database="app"):
        found.setdefault(number, set()).add(value)
    for worker in workers:
        has = found.get(worker.number, set())
        lost = worker.kept - has
        surplus = has - worker.kept - worker.unsure
        assert not lost, "client %d: committed, but not there: %r" % (worker.number, sorted(lost))
        assert not surplus, "client %d: there, but not committed: %r" % (worker.number,
                                                                        sorted(surplus))


def check(load, workers, postgres, before):
    pooler = load.pooler
    assert not load.problems, "\n".join(load.problems[:5])
    wait_at_rest(pooler)
    after = pooler.descriptors(), pooler.own_bytes()
    check_leaks(pooler, before, after)
    wait_until(lambda: not postgres.backends("state <> 'idle'", "app"), 20,
               "all backends to be idle")
    check_table(load, workers, postgres)
    losses = load.counts.get("lost", 0)
    assert losses <= load.kills, "%d connections lost, but %d backends killed" % (losses,
                                                                                  load.kills)
    for kind in clients.KINDS:
        assert load.counts.get(kind, 0) > 0, "nobody has tried " + kind
    return after


def soak(postgres, engine, seconds):
    with tempfile.TemporaryDirectory(prefix="doorman-soak-") as folder:
        pooler = start_pooler(postgres, folder, engine)
        table = "soak_" + engine
        postgres.run("CREATE TABLE %s (worker int, n bigint); ALTER TABLE %s OWNER TO trust_user"
                     % (table, table), database="app")
        try:
            # What it takes to be used at all is no leak: a short load first.
            load = Load(pooler, table)
            workers = run_load(load, postgres, min(seconds / 4, 20), "first")
            assert not load.problems, "\n".join(load.problems[:5])
            wait_at_rest(pooler)
            before = pooler.descriptors(), pooler.own_bytes()

            load.stop.clear()
            more = run_load(load, postgres, seconds * 3 / 4, "then")
            for old, new in zip(workers, more):
                new.kept |= old.kept
                new.unsure |= old.unsure
            after = check(load, more, postgres, before)
            say("  %s, %d backends killed; descriptors %d, then %d; memory %.1f, then %.1f MiB"
                % (", ".join("%d %s" % (n, what) for what, n in sorted(load.counts.items())),
                   load.kills, before[0], after[0], before[1] / 2**20, after[1] / 2**20))
        finally:
            pooler.finish()


def main():
    engines = [e for e in OPTIONS.engines if e != "io_uring" or io_uring_refusal() is None]
    failed = 0
    postgres = Postgres()
    try:
        postgres.create()
        for engine in engines:
            say("soak on %s: %d clients, %d backends, %.0f s, --seed %d"
                % (engine, OPTIONS.clients, OPTIONS.pool_size, OPTIONS.seconds / len(engines),
                   OPTIONS.seed))
            try:
                soak(postgres, engine, OPTIONS.seconds / len(engines))
            except AssertionError as problem:
                failed += 1
                say("FAILED on %s: %s" % (engine, problem))
    finally:
        postgres.remove()
    skipped = len(OPTIONS.engines) - len(engines)
    say("%d passed, %d failed%s" % (len(engines) - failed, failed,
                                    ", %d skipped" % skipped if skipped else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
