"""Sessions of many kinds, as the documents in tests/golden have them: how each got where it was, and
what it must be able to do when it has been taken over.

A document is recorded from a real process (record_golden.py). It is given to another one
(test_upgrade_golden.py) with fresh sockets in the place of those it names: `Stage` brings
connections to PostgreSQL to where the recorded ones were.
"""

import glob
import os
import re
import socket
import struct
import time

import wire
from handoff import BACKENDS, HEADER, POOLS, SESSIONS, STATEMENTS, records
from pooler import ADMIN, ADMIN_DATABASE, ROOT, pool, trust_user
from waiting import wait_until
from wire import Wire, query

HALVES = query("SELECT 'half'")
STARTUP = wire.startup("trust_user", "app")
LOOKED_UP, LOOKED_UP_SECRET = "plain_user", "plain secret"
LARGE = query("SELECT length('%s')" % ("x" * 100000))
SLEEP_RECORDED = 600  # nobody waits for its end


def pools(postgres, lookup=True):
    """A pool for transactions, one of a single connection, one for whole sessions, and one whose
    users are looked up."""
    single = {"username": "plain_user", "password": "", "server_username": "plain_user",
              "server_password": "plain secret", "pool_size": 1}
    found = {"app": pool(postgres, [trust_user(12), single]),
             "other": pool(postgres, [trust_user(2)], pool_mode="session")}
    if lookup:
        statement = "SELECT $1::text AS usename, '%s' AS passwd" % LOOKED_UP_SECRET
        found["looked"] = pool(postgres, [], server_database="app", auth_query={
            "query": statement, "user": "trust_user", "password": "", "database": "app"})
    return found


GENERAL = {"query_wait_timeout": "60s", "pg_hba": "host all all 127.0.0.1/32 trust\n"}


class Kind:
    """`steps` are statements that are answered; what is `sent` then is answered up to `until`, or
    not yet. What did not get as far as PostgreSQL is not `passed`."""

    def __init__(self, name, check, since=0, database="app", user="trust_user", password="",
                 steps=(), sent=(), passed=True):
        self.name, self.check, self.since = name, check, since
        self.database, self.user, self.password = database, user, password
        self.steps, self.sent, self.passed = steps, sent, passed

    def play(self, connection, sent=True):
        for step in self.steps:
            connection.query(step)
        for data, until in self.sent if sent else ():
            connection.send(data)
            if until:
                connection.until(until)


# ---- what each can do


def answers(client, sql, value):
    assert client.value(sql) == value


def check_busy(client, record):
    client.send(HALVES[len(record.get(19, b"")):])
    assert wire.rows(client.until_ready()) == [["half"]]
    assert wire.rows(client.query("FETCH 1 FROM walk")) == [["1"]]
    assert wire.tags(client.query("COMMIT")) == ["COMMIT"]


def check_running(client, record):
    assert wire.rows(client.until_ready()) == [["ran", ""]]
    assert wire.status(client.query("COMMIT")) == "I"


def check_large(client, record):
    client.send(LARGE[len(LARGE) - record[33] + len(record.get(19, b"")):])
    assert wire.rows(client.until_ready()) == [["100000"]]


def check_changing(client, record):
    answers(client, "SHOW DateStyle", "German, DMY")
    assert wire.status(client.query("ROLLBACK")) == "I"
    answers(client, "SHOW DateStyle", "ISO, MDY")


def check_failed(client, record):
    assert wire.sqlstates(client.query("SELECT 1")) == ["25P02"]
    assert wire.status(client.query("ROLLBACK")) == "I"
    answers(client, "SELECT 'works'", "works")


def check_copying(client, record):
    client.send(wire.copy_data(b"2\n"), wire.copy_done())
    assert wire.tags(client.until_ready()) == ["COPY 2"]
    answers(client, "SELECT sum(n) FROM kept", "3")
    assert wire.status(client.query("COMMIT")) == "I"


def check_batch(client, record):
    """Of a batch the Sync is due."""
    client.send(wire.sync())
    assert wire.status(client.until_ready()) == "I"
    answers(client, "SELECT 'works'", "works")


def check_listening(client, record):
    answers(client, "SHOW work_mem", "5MB")
    assert [m.body[4:] for m in client.query("NOTIFY news, 'heard'") if m.type == "A"] \
        == [b"news\0heard\0"]


def check_holding(client, record):
    assert wire.status(client.query("COMMIT")) == "I"


def check_waiting(client, record):
    assert wire.rows(client.until_ready()) == [["waited"]]


def check_deferred(client, record):
    messages = client.query("SELECT 1")
    assert (wire.rows(messages), wire.status(messages)) == ([["1"]], "T")
    assert wire.status(client.query("COMMIT")) == "I"


def check_settings(client, record):
    answers(client, "SHOW TimeZone", "Asia/Tokyo")


def check_idle(client, record):
    for name, values, result in (("named", ["7"], "7"), ("", [], "nameless")):
        client.send(wire.bind("", name, values), wire.execute(), wire.sync())
        assert wire.rows(client.until_ready()) == [[result]]


def check_works(client, record):
    answers(client, "SELECT 'works'", "works")


def check_console(client, record):
    if 72 in record:
        client.send(wire.bind("", "version"), wire.execute(), wire.sync())
        assert len(wire.rows(client.until_ready())) == 1
    assert not wire.errors(client.query("SHOW VERSION"))


def check_beginner(client, record):
    client.send(STARTUP[len(record.get(19, b"")):])
    client.authenticate("trust_user")
    check_works(client, record)


NAMED = wire.parse("named", "SELECT $1::int") + wire.parse("", "SELECT 'nameless'") + wire.sync()
# The order is that in which they come, and in which they are asked afterwards: who says nothing
# first, so that it has been let in; who waits after whom it waits for; those that leave connections
# behind after those that hold some.
KINDS = [
    Kind("beginner", check_beginner, sent=[(STARTUP[:11], None)]),
    Kind("busy", check_busy, passed=False, sent=[(HALVES[:9], None)],
         steps=["BEGIN", "SELECT 1; DECLARE walk CURSOR FOR SELECT generate_series(1, 9)"]),
    Kind("running", check_running, steps=["BEGIN", "SELECT 1"],
         sent=[(query("SELECT 'ran', pg_sleep(%d)" % SLEEP_RECORDED), None)]),
    Kind("large", check_large, sent=[(LARGE[:70000], None)]),
    Kind("changing", check_changing, steps=["BEGIN", "SET DateStyle = 'German'"]),
    Kind("failed", check_failed, steps=["BEGIN", "SELECT 1/0"]),
    Kind("copying", check_copying, steps=["BEGIN", "CREATE TEMP TABLE kept (n int)"],
         sent=[(query("COPY kept FROM STDIN"), "G"), (wire.copy_data(b"1\n"), None)]),
    Kind("skipping", check_batch,
         sent=[(wire.extended("SELECT 1/0 AS nothing") + wire.flush(), "E")]),
    Kind("flushed", check_batch, sent=[(wire.extended("SELECT 'flushed'") + wire.flush(), "C")]),
    Kind("listening", check_listening, database="other",
         steps=["LISTEN news; SET work_mem = '5MB'"]),
    Kind("holding", check_holding, user="plain_user", steps=["BEGIN", "SELECT 1"]),
    Kind("waiting", check_waiting, user="plain_user", passed=False,
         sent=[(query("SELECT 'waited'"), None)]),
    Kind("deferred", check_deferred, steps=["BEGIN"]),
    Kind("settings", check_settings, sent=[(NAMED, "Z")],
         steps=["SET TimeZone = 'Asia/Tokyo'", "DROP TABLE IF EXISTS nothing"]),
    Kind("idle", check_idle, sent=[(NAMED, "Z"), (wire.bind("", "named", ["1"]) + wire.execute()
                                                  + wire.sync(), "Z")]),
    Kind("temporary", check_works, steps=["CREATE TEMP TABLE mine (n int)"],
         sent=[(NAMED, "Z")]),
    Kind("console", check_console, database=ADMIN_DATABASE, user=ADMIN["user"],
         password=ADMIN["password"], steps=["SHOW VERSION"]),
    Kind("prepared", check_console, since=11, database=ADMIN_DATABASE, user=ADMIN["user"],
         password=ADMIN["password"],
         sent=[(wire.parse("version", "SHOW VERSION") + wire.sync(), "Z")]),
    Kind("looked up", check_works, since=10, database="looked", user=LOOKED_UP,
         password=LOOKED_UP_SECRET, steps=["SELECT 1"]),
]
BY_NAME = {kind.name: kind for kind in KINDS}


def take_places(doorman, postgres, minor=999):
    """Brings clients of each kind that there was in this version to where they are recorded."""
    clients = []
    doorman.admin("RECONNECT")
    for kind in KINDS:
        if kind.since > minor:
            continue
        client = doorman.wire(timeout=30)
        clients.append(client)
        if kind.name != "beginner":
            client.login(kind.user, kind.database, kind.password, application_name=kind.name)
        kind.play(client)
    wait_until(lambda: doorman.pool_row("app", "plain_user")["cl_waiting"] == 1, 10, "the waiter")
    wait_until(lambda: postgres.backends("strpos(query, 'ran') > 0 AND state = 'active'"), 10,
               "the statement to run")
    return clients


def files():
    """The documents of all versions, the newest last."""
    return sorted(glob.glob(os.path.join(ROOT, "tests", "golden", "state-*.bin")),
                  key=lambda path: [int(n) for n in re.findall(r"\d+", os.path.basename(path))])


# ---- times

TIMES = {BACKENDS: (12, 15, 74, 79, 81), SESSIONS: (28, 29, 30)}


def shift_times(sections):
    """As if the recorded process had stopped just now."""
    header = records(sections, HEADER)[0]
    by = time.monotonic_ns() // 1000 - header[6]
    header[6] += by
    for kind, keys in TIMES.items():
        for record in records(sections, kind):
            record.update({key: max(record[key] + by, 1) for key in keys if record.get(key)})
    for record in records(sections, POOLS):
        record[12] = [[session, max(since + by, 1), deadline + by, *more]
                      for session, since, deadline, *more in record.get(12, [])]
    for record in records(sections, SESSIONS):
        if 27 in record:
            record[27] = [max(record[27][0] + by, 1)] + record[27][1:]


# ---- sockets in the place of those that are gone


class Stage:
    """`sections` of a document, changed so that they speak of the sockets in `descriptors`; the
    other ends are `clients` by name, and connections of PostgreSQL."""

    # What PostgreSQL is told, where that is something else than what was recorded.
    SENT = {"running": lambda session: query("SELECT 'ran', pg_sleep(0.5)"),
            "large": lambda session: LARGE[:len(LARGE) - session[33]]}

    def __init__(self, sections, postgres):
        self.sections, self.postgres = sections, postgres
        self.descriptors = [None] * records(sections, HEADER)[0].get(10, 0)
        self.clients, self.servers = {}, []
        self.ends = []
        for record in records(sections, SESSIONS):
            self.add_client(record)
        for record in records(sections, BACKENDS):
            self.add_server(record)
        shift_times(sections)

    def put(self, number, sock):
        self.descriptors[number - 1] = sock.fileno()
        self.ends.append(sock)

    def add_client(self, record):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = Wire(listener.getsockname(), timeout=30)
            self.put(record[4], listener.accept()[0])
        self.clients[name_of(record)] = client, record

    def add_server(self, record):
        owner = records(self.sections, POOLS)[record[2] - 1]
        user, database = owner[3], owner[2]
        server = Wire(("127.0.0.1", self.postgres.port), timeout=30)
        server.login(user, "app" if database == "looked" else database,
                     "plain secret" if user == "plain_user" else "")
        self.prepare(server, record)
        if record.get(26):
            session = records(self.sections, SESSIONS)[record[26] - 1]
            kind = BY_NAME[name_of(session)]
            kind.play(server, kind.passed and kind.name not in self.SENT)
            if kind.name in self.SENT:
                server.send(self.SENT[kind.name](session))
        record[4], record[5] = server.pid, key_bytes(server.key)
        record[64] = struct.pack("=H", socket.AF_INET) + struct.pack("!H", self.postgres.port) \
            + socket.inet_aton("127.0.0.1") + bytes(8)
        self.put(record[3], server.sock)
        self.servers.append(server)

    def prepare(self, server, record):
        """Statements that the recorded one had."""
        for number, *_ in record.get(18, []):
            statement = records(self.sections, STATEMENTS)[number - 1]
            name = b"DOORMAN_%d\0" % statement.get(6, 0)
            server.send(wire.message("P", name + statement[64]), wire.sync())
            assert not wire.errors(server.until_ready())

    def release(self):
        """The descriptors are another process's."""
        for end in self.ends:
            end.close()
        self.ends = []

    def close(self):
        self.release()
        for client, _ in self.clients.values():
            client.close()


def name_of(session):
    return session[64] if session.get(8, 0) != 0 else "beginner"


def key_bytes(key):
    return key if isinstance(key, bytes) else struct.pack("!I", key)
