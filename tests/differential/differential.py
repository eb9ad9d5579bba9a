"""Plays scripts of protocol messages against PostgreSQL, directly and through pg_doorman, and says
where the replies differ.

    differential.py                       the corpus, then generated scripts (--scripts, --minutes)
    differential.py --corpus copy         only scripts whose file or name contains `copy`
    differential.py --seed 4711           one generated script, with both streams side by side
    differential.py --play FILE           the scripts of a file, with both streams

The engine is that of PG_DOORMAN_IO, or those of --engines, one after the other. A difference is printed with its seed and, made as small as it
gets, as a script. The last line is `N passed, N failed`; a script counts as one.
"""

import argparse
import faulthandler
import glob
import multiprocessing
import os
import queue
import random
import re
import signal
import sys
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import compare  # noqa: E402
from generator import Generator  # noqa: E402
from minimise import minimise  # noqa: E402
from player import Direct, Link, Player, Pooled  # noqa: E402
from script import Invalid, Script, read_scripts  # noqa: E402
from servers import CLIENTS, KINDS, RESTORE, SCHEMA, TOP, USER, Failure, Servers  # noqa: E402

sys.path.insert(0, os.path.join(TOP, "tests", "tools"))
from run_tests import io_uring_refusal  # noqa: E402

CORPUS = os.path.join(TOP, "tests", "differential", "corpus")
PROGRESS_SECONDS = 5
FAILURES_SHOWN = 20


def say(text):
    print(text, flush=True)


class Arena:
    """What one worker plays in: its databases, reset after each script."""

    def __init__(self, worker, postgres_path, pooler_paths):
        self.worker = worker
        self.direct = Direct(postgres_path, "direct_%d" % worker, USER)
        self.pooler_paths = pooler_paths
        self.player = Player()
        self.resets = [Link(postgres_path, "%s_%d" % (side, worker), "postgres", self.player)
                       for side in ("direct", "pooled")]
        self.used = {}
        self.plays = 0
        self.reset(SCHEMA)

    def pooled(self, kind):
        settings, size, owner = KINDS[kind]
        return Pooled(self.pooler_paths[owner], "%s_%d" % (kind, self.worker), USER, size,
                      settings["pool_mode"] == "session")

    def reset(self, sql):
        """In both databases, as if nothing had happened."""
        data = b"SET client_min_messages = error; SET lock_timeout = '20s';" + sql.encode()
        for link in self.resets:
            link.messages = []
            link.send([b"Q" + (len(data) + 5).to_bytes(4, "big") + data + b"\0"])
        self.player.wait(lambda: all(k.eof or (k.messages and k.messages[-1].letter == "Z")
                                     for k in self.resets), 60)
        for link in self.resets:
            wrong = [m for m in link.messages if m.letter == "E"]
            if wrong or link.eof or not link.messages:
                raise Failure("reset failed: %r %s" % (wrong, link.eof))

    def clean_after(self, script):
        """Tables are as before; scripts drop what they create."""
        if re.search(r"(?i)insert|update|delete|copy|truncate|merge", script.sql()):
            self.reset("".join(RESTORE % {"c": client} for client in script.clients()))

    def play(self, script, kind):
        """Directly and pooled: (Difference or None, both streams)."""
        script = copied(script)
        direct = self.direct.play(script)
        return self.play_pooled(script, kind, direct)

    def play_pooled(self, script, kind, direct):
        self.plays += 1
        pooled = self.pooled(kind).play(script, self.direct.learned,
                                        compare.skipped_letters(script, kind))
        self.clean_after(script)
        return compare.compare(script, kind, direct, pooled, self.used), direct, pooled

    def play_seed(self, seed):
        """A generated script: (script, kind, difference, streams)."""
        generator = Generator(seed, self.direct)
        script = generator.script
        direct = self.direct.finish()
        return (script, generator.kind) + self.play_pooled(script, generator.kind, direct)


def copied(script):
    """To which the player may append."""
    copy = Script(script.name, script.steps, script.pools)
    copy.differs, copy.unsettled = script.differs, script.unsettled
    return copy


def generated(arena, seed):
    """The script of a seed without its endings."""
    script = Generator(seed, arena.direct, endings=False).script
    kind = script.pools[0]
    arena.direct.finish()
    arena.clean_after(script)
    return script, kind


# ---- jobs --------------------------------------------------------------------------------------

def streams(script, kind, direct, pooled):
    """As text."""
    return compare.side_by_side(direct, pooled, compare.skipped_letters(script, kind))


class Result:
    """What a worker reports of one job."""

    def __init__(self, worker, plays):
        self.worker = worker
        self.plays = plays
        self.failures = []  # texts
        self.used = {}


SPLITS = ((1, 4, 2), (9, 1, 64))


def variants(script, number):
    """The same script, whole and in pieces."""
    yield script
    split = copied(script)
    sizes = SPLITS[number % len(SPLITS)]
    split.steps = [step._replace(pieces=sizes if volume(step) < 20000 else (8192, 1, 7))
                   if step.action == "send" and not step.pieces else step
                   for step in script.steps]
    yield split


def volume(step):
    return sum(len(m.bytes()) for m in step.messages)


def run_corpus_job(arena, script, result):
    for number, kind in enumerate(script.pools or KINDS):
        for variant in variants(script, number):
            result.plays += 1
            difference, direct, pooled = arena.play(variant, kind)
            if difference is not None:
                result.failures.append("%s, pool `%s`, %s\n%s\n%s" % (
                    script.name, kind, difference, variant, streams(variant, kind, direct, pooled)))
                break


def run_seeds_job(arena, seeds, result, small):
    for seed in seeds:
        result.plays += 1
        script, kind, difference, direct, pooled = arena.play_seed(seed)
        if difference is None:
            continue
        text = "seed %d, pool `%s`, %s" % (seed, kind, difference)
        small_script = None
        if small:
            script, _ = generated(arena, seed)
            small_script, found = minimise(arena, script, kind, difference)
        if small_script is None:
            text += "\nonce only: alone, it shows no difference. Its neighbours: --first %d\n%s\n%s" \
                % (seeds[0], script, streams(script, kind, direct, pooled))
        else:
            text += "\nsmallest: %s\n%s\n%s" % (found[0], small_script,
                                                streams(small_script, kind, *found[1:]))
        result.failures.append(text)


def work(worker, options, paths, jobs, results):
    """A process of its own."""
    faulthandler.register(signal.SIGUSR1)
    try:
        arena = Arena(worker, *paths)
        while True:
            job = jobs.get()
            if job is None:
                break
            result = Result(worker, 0)
            arena.used = {}
            try:
                if isinstance(job, Script):
                    run_corpus_job(arena, job, result)
                else:
                    run_seeds_job(arena, job, result, options.minimise)
            except (ConnectionError, Failure) as error:
                result.failures.append("%s: %s" % (job, error))
                arena = Arena(worker, *paths)
            result.used = arena.used
            results.put(result)
    except KeyboardInterrupt:
        pass
    except BaseException:
        results.put(traceback.format_exc())
    finally:
        results.put(None)


# ---- the whole ---------------------------------------------------------------------------------

class Run:
    """All workers, and what they have reported."""

    def __init__(self, options, servers):
        self.options = options
        self.servers = servers
        self.jobs = multiprocessing.Queue()
        self.results = multiprocessing.Queue()
        paths = (servers.postgres.socket_path(),
                 {name: pooler.socket_path() for name, pooler in servers.poolers.items()})
        self.workers = [multiprocessing.Process(target=work, args=(
            n, options, paths, self.jobs, self.results), daemon=True)
            for n in range(options.workers)]
        self.plays = self.failed = 0
        self.used = {}
        self.open = 0
        self.began = self.told = time.monotonic()

    def put(self, job):
        self.jobs.put(job)
        self.open += 1

    def take(self):
        """One report."""
        try:
            result = self.results.get(timeout=60)
        except queue.Empty:
            for worker in self.workers:  # they print where they are
                os.kill(worker.pid, signal.SIGUSR1)
            time.sleep(1)
            raise Failure("no worker has reported anything for a minute") from None
        if not isinstance(result, Result):
            raise Failure("a worker ended:\n%s" % result)
        self.open -= 1
        self.plays += result.plays
        self.failed += len(result.failures)
        for name, count in result.used.items():
            self.used[name] = self.used.get(name, 0) + count
        for text in result.failures:
            say("\n=== " + text + "\n")
        faults = self.servers.faults()
        if faults:
            raise Failure("\n".join(faults))
        if self.failed >= self.options.failures:
            raise Failure("too many differences; the rest is not tried")
        self.progress()

    def progress(self, last=False):
        now = time.monotonic()
        if last or now - self.told >= PROGRESS_SECONDS:
            self.told = now
            spent = now - self.began
            say("%6d scripts played, %d differences, %.0f s, %.0f a second"
                % (self.plays, self.failed, spent, self.plays / max(spent, 0.001)))

    def corpus(self, scripts):
        say("corpus: %d scripts" % len(scripts))
        for script in scripts:
            self.put(script)
        while self.open:
            self.take()

    def seeds(self, first, count, minutes):
        """Blocks of neighbouring seeds, so that a block can be repeated."""
        end = time.monotonic() + minutes * 60 if minutes else None
        say("generated scripts from seed %d on%s" % (
            first, ", for %g minutes" % minutes if minutes else ": %d" % count))
        at = first
        while self.open or (at < first + count if not end else time.monotonic() < end):
            more = at < first + count if not end else time.monotonic() < end
            if more and self.open < 2 * self.options.workers:
                size = 25 if end else min(25, first + count - at)
                self.put(range(at, at + size))
                at += size
            else:
                self.take()

    def stop(self):
        for _ in self.workers:
            self.jobs.put(None)
        for worker in self.workers:
            worker.join(5)
            if worker.is_alive():
                worker.terminate()


def find_scripts(wanted):
    scripts = []
    for path in sorted(glob.glob(os.path.join(CORPUS, "*.script"))):
        base = os.path.basename(path)[:-7]
        for script in read_scripts(path):
            script.name = base + ": " + script.name
            if wanted in script.name:
                scripts.append(script)
    return scripts


def check(scripts):
    """What can be wrong without any server."""
    wrong = ["docs/differences.md and compare.py do not both name `%s`" % name
             for name in compare.check_document()]
    for script in scripts:
        wrong += ["%s: no entry `%s`" % (script.name, entry) for entry, _, _ in script.differs
                  if entry not in compare.names()]
        wrong += ["%s: no client %s" % (script.name, client) for client in script.clients()
                  if client not in CLIENTS]
        wrong += ["%s: no pool %s" % (script.name, kind) for kind in script.pools or ()
                  if kind not in KINDS]
    if len({script.name for script in scripts}) < len(scripts):
        wrong.append("two scripts have the same name")
    if wrong:
        raise Failure("\n".join(wrong))


def show(options, servers):
    """--seed and --play: everything about a few scripts. The number that differ."""
    arena = Arena(0, servers.postgres.socket_path(),
                  {name: pooler.socket_path() for name, pooler in servers.poolers.items()})
    plays = []
    if options.seed is not None:
        script, kind = generated(arena, options.seed)
        plays.append((script, [options.kind or kind]))
    else:
        plays = [(script, [options.kind] if options.kind else script.pools or list(KINDS))
                 for script in read_scripts(options.play)]
    differ = 0
    for script, kinds in plays:
        for kind in kinds:
            difference, direct, pooled = arena.play(script, kind)
            say("%s\npool `%s`\n%s\n%s\n" % (script, kind, streams(script, kind, direct, pooled),
                                            difference or "no difference"))
            differ += difference is not None
            if difference is not None and options.minimise:
                small, found = minimise(arena, script, kind, difference)
                if small is not None:
                    say("smallest: %s\n%s\n%s" % (found[0], small,
                                                  streams(small, kind, *found[1:])))
    faults = servers.faults()
    say("\n".join(faults))
    return len(plays), differ + len(faults)


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0],
                                     epilog=__doc__.split("\n\n")[1],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--program", default=os.environ.get("DOORMAN_BIN",
                                            os.path.join(TOP, "build", "pg_doorman")))
    add("--corpus", default="", help="only scripts whose name contains this; `none`: no corpus")
    add("--scripts", type=int, default=500, help="generated scripts")
    add("--minutes", type=float, help="generate for this long instead")
    add("--first", type=int, default=1, help="the first seed; 0 chooses one at random")
    add("--seed", type=int, help="play one generated script, and show everything")
    add("--play", help="play the scripts of a file, and show everything")
    add("--engines", default=os.environ.get("PG_DOORMAN_IO", ""),
        help="io_uring, epoll or both with a comma")
    add("--kind", choices=list(KINDS), help="with --seed and --play: this pool")
    add("--workers", type=int, default=max(2, os.cpu_count() or 2))
    add("--failures", type=int, default=FAILURES_SHOWN, help="stop after so many differences")
    add("--no-minimise", dest="minimise", action="store_false")
    return parser.parse_args()


def main():
    options = parse_options()
    try:
        scripts = [] if options.corpus == "none" else find_scripts(options.corpus)
        check(scripts)
    except (Failure, Invalid) as failure:
        say("%s\n0 passed, 1 failed" % failure)
        return 1
    passed = failed = 0
    for engine in options.engines.split(","):
        refusal = io_uring_refusal() if engine == "io_uring" else None
        if refusal is not None:
            say("skipped, the kernel refuses a ring: " + refusal)
            continue
        if engine:
            say("engine %s" % engine)
            os.environ["PG_DOORMAN_IO"] = engine
        good, bad = run_engine(options, scripts)
        passed, failed = passed + good, failed + bad
    say("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


def run_engine(options, scripts):
    """How many scripts were alike, and how many were not."""
    alone = options.seed is not None or options.play
    servers = Servers(options.program, 1 if alone else options.workers)
    try:
        if alone:
            played, failed = show(options, servers)
            return max(played - failed, 0), failed
        run = Run(options, servers)
        for worker in run.workers:
            worker.start()
        try:
            if scripts:
                run.corpus(scripts)
            if not options.corpus or options.corpus == "none":
                run.seeds(options.first or random.randrange(1 << 31), options.scripts,
                          options.minutes)
        except (Failure, KeyboardInterrupt) as failure:
            say(str(failure) or "stopped")
            run.failed += 1
        run.stop()
        run.progress(last=True)
        say("differences on purpose, by their names in docs/differences.md: " +
            (", ".join("%s %d" % item for item in sorted(run.used.items())) or "none"))
        return max(run.plays - run.failed, 0), run.failed
    finally:
        servers.stop()


if __name__ == "__main__":
    sys.exit(main())
