"""What the Python programs of the drivers matrix share: clients at once, and how results are told.

A program runs its scenarios one after another, each with several clients at once, and prints a
line for each: `ok NAME`, `n/a NAME REASON` or `fail NAME WHY`. `see NAME TEXT` is something that
must read the same through the pooler as without one. The same in other languages beside it.
"""

import asyncio
import os
import sys
import threading
import traceback

MODE = os.environ["DRIVERS_MODE"]  # direct, transaction or session
CLIENTS = int(os.environ["DRIVERS_CLIENTS"])
BACKENDS = int(os.environ["DRIVERS_BACKENDS"])
ONLY = os.environ.get("DRIVERS_ONLY", "")
KEEPS_STATE = MODE != "transaction"
# How many connections one client may hold at once: in session mode each has a backend.
CONNECTIONS = BACKENDS if MODE == "session" else CLIENTS
DSN = {"host": os.environ["PGHOST"], "port": int(os.environ["PGPORT"]),
       "user": os.environ["PGUSER"], "password": os.environ["PGPASSWORD"]}
DATABASE = os.environ["PGDATABASE"]


class NotApplicable(Exception):
    """The driver has no such thing, or the mode cannot have it."""


class Client:
    """One of those that run a scenario at once; has some rows of the table for itself."""

    def __init__(self, scenario, number):
        self.scenario = scenario
        self.number = number
        self.table = os.environ["DRIVERS_TABLE"]
        self.channel = "%s_%d" % (self.table, number)

    def see(self, *words):
        if self.number == 0:
            text = " ".join(str(word) for word in words).replace("\n", " ")
            print("see %s %s" % (self.scenario, text), flush=True)


def once(function):
    """For scenarios that have clients of their own."""
    function.once = True
    return function


def clients_of(name, function):
    return [Client(name, n) for n in range(1 if getattr(function, "once", False) else CLIENTS)]


def wanted(scenarios):
    for function in scenarios:
        name = function.__name__
        if not ONLY or name in ONLY.split(","):
            yield name, function


def tell(name, problem):
    if problem is None:
        print("ok", name, flush=True)
    elif isinstance(problem, NotApplicable):
        print("n/a", name, problem, flush=True)
    else:
        text = "%s: %s" % (type(problem).__name__, problem)
        print("fail", name, text.strip().replace("\n", " | "), flush=True)


def failed(problem):
    """Frees what the failed client held: others may wait for its backend."""
    if not isinstance(problem, NotApplicable):
        traceback.print_exception(type(problem), problem, problem.__traceback__, file=sys.stderr)
    traceback.clear_frames(problem.__traceback__)
    return problem


def run(driver, version, scenarios):
    """Each client is a thread."""
    print("driver", driver, version, flush=True)
    for name, function in wanted(scenarios):
        problems = []

        def one(client):
            try:
                function(client)
            except BaseException as problem:
                problems.append(failed(problem))

        threads = [threading.Thread(target=one, args=(client,), daemon=True)
                   for client in clients_of(name, function)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        tell(name, problems[0] if problems else None)


def run_asyncio(driver, version, scenarios):
    """Each client is a task."""
    async def one(function, client):
        try:
            await function(client)
        except Exception as problem:
            return failed(problem)

    async def all_of_them():
        for name, function in wanted(scenarios):
            outcomes = await asyncio.gather(
                *(one(function, client) for client in clients_of(name, function)))
            problems = [outcome for outcome in outcomes if outcome is not None]
            tell(name, problems[0] if problems else None)

    print("driver", driver, version, flush=True)
    asyncio.run(all_of_them())


# Statements that fail, and how; {table} and {client} are the client's.
WRONG = [
    ("SELEC 1", "42601"), ("SELECT nonsense", "42703"), ("SELECT * FROM nowhere", "42P01"),
    ("SELECT 1/0", "22012"), ("SELECT 'x'::int", "22P02"), ("SELECT nothing()", "42883"),
    ("INSERT INTO {table} VALUES ({client}, 1, 'a', -1)", "23514"),
    ("INSERT INTO {table} VALUES ({client}, 1, NULL, 1)", "23502"),
    ("INSERT INTO {table} VALUES ({client}, 2, 'a', 1), ({client}, 2, 'a', 1)", "23505"),
    ("DO $$ BEGIN RAISE 'own words' USING ERRCODE = 'ZZ001', DETAIL = 'd', HINT = 'h'; END $$",
     "ZZ001"),
]


def wrong_statements(client):
    for text, code in WRONG:
        yield text.format(table=client.table, client=client.number), code


class Repeated:
    """Calls something every 50 ms, in a thread, until the block is left: a request to cancel that
    comes before the statement runs is lost."""

    def __init__(self, action):
        self.action = action
        self.end = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        while not self.end.wait(0.05):
            self.action()

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.end.set()
        self.thread.join()
