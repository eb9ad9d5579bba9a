"""The clients of the soak test. Each action checks its own answer; a nonce in it tells whose it is."""

import random

import wire
from wire import bind, close, copy_data, copy_done, describe, execute, flush, parse, query, sync

# What a client whose backend was terminated is told.
LOSSES = {"57P01", "08006", "08003", "57P02", "57P03"}


class Lost(Exception):
    """The connection ended, as it does when the backend was terminated."""


class Client:
    """One after the other: connections, each with some actions, ended in some way."""

    def __init__(self, load, number, seed):
        self.load = load
        self.number = number
        self.random = random.Random(seed)
        self.serial = 0
        self.wire = None
        self.named = {}
        self.unsure = set()  # numbers whose COMMIT or DELETE was not confirmed
        self.kept = set()    # numbers that are in the table for good

    def nonce(self):
        self.serial += 1
        return "c%d-%d-%08x" % (self.number, self.serial, self.random.getrandbits(32))

    def fresh(self):
        return self.random.getrandbits(40)

    # ---- conversation

    def ask(self, *parts, ready=1, errors=()):
        """Sends, and reads up to ReadyForQuery; no other errors than those. A lost connection, or
        the words that announce it, is Lost."""
        try:
            self.wire.send(*parts)
            messages = self.wire.until_ready(ready)
        except (wire.Closed, ConnectionError) as problem:
            raise Lost(str(problem)) from None
        found = wire.sqlstates(messages)
        if set(found) & LOSSES and "57P01" not in errors:
            raise Lost(str(found))
        assert found == list(errors), "client %d: %r instead of %r: %s" % (
            self.number, found, list(errors), wire.errors(messages))
        return messages

    def expect(self, messages, rows):
        assert wire.rows(messages) == rows, "client %d: %r instead of %r" % (
            self.number, wire.rows(messages)[:3], rows[:3])

    # ---- life

    def run(self):
        while not self.load.stop.is_set():
            try:
                self.session()
                self.load.count("sessions")
            except Lost:
                self.load.count("lost")
                self.wire.close()
            except wire.LoginFailed as refusal:
                # It was told so at the moment in which its first backend was terminated.
                assert refusal.error.get("C") in LOSSES | {"3D000", None}, refusal
                self.load.count("lost")

    def session(self):
        self.wire = wire.Wire(self.load.pooler.address, timeout=90)
        self.wire.login()
        self.named = {}
        for _ in range(self.random.choice([1, 5, 20, 60])):
            if self.load.stop.is_set():
                break
            name = self.random.choices(list(KINDS), list(KINDS.values()))[0]
            getattr(self, name)()
            self.load.count(name)
        self.leave()

    def leave(self):
        r = self.random
        how = r.choice(["terminate", "close", "reset", "torn message", "open transaction",
                        "running query", "torn copy", "unread result"])
        table = self.load.table
        try:
            if how == "torn message":
                self.wire.send(query("SELECT 'never complete'")[:r.randint(1, 20)])
            elif how == "open transaction":
                # Not in `kept`, nor in `unsure`: it must not be there in the end.
                self.ask(query("BEGIN"))
                self.ask(query("INSERT INTO %s VALUES (%d, %d)" % (table, self.number,
                                                                 self.fresh())))
            elif how == "running query":
                self.wire.send(query("SELECT pg_sleep(%s)" % r.choice([0.01, 0.1, 5])))
            elif how == "torn copy":
                self.ask_copy("COPY %s FROM STDIN" % table)
                self.wire.send(copy_data(b"%d\t%d\n" % (self.number, self.fresh())))
            elif how == "unread result":
                self.wire.send(query("SELECT repeat('x', 1000) FROM generate_series(1, 3000)"))
        except ConnectionError:
            raise Lost(how) from None
        {"terminate": self.wire.terminate, "reset": self.wire.reset}.get(
            how, r.choice([self.wire.close, self.wire.reset]))()

    # ---- actions

    def simple(self):
        nonce = self.nonce()
        self.expect(self.ask(query("SELECT '%s', 6 * 7" % nonce)), [[nonce, "42"]])

    def several(self):
        a, b = self.nonce(), self.nonce()
        self.expect(self.ask(query("SELECT '%s'; SELECT '%s'" % (a, b))), [[a], [b]])

    def unnamed(self):
        nonce, mark = self.nonce(), str(self.random.randrange(200))
        messages = self.ask(wire.extended("SELECT $1::text || '%s'" % mark, [nonce]), sync())
        self.expect(messages, [[nonce + mark]])

    def prepared(self):
        """Named statements, used again and again, on whatever backend it is."""
        name = "s%d" % self.random.randrange(12)
        nonce = self.nonce()
        parts = []
        if name in self.named and self.random.random() < 0.1:
            parts.append(close("S", name))
            del self.named[name]
        if name not in self.named:
            mark = "mark %d" % self.random.randrange(60)
            parts.append(parse(name, "SELECT $1::text, '%s'" % mark))
            self.named[name] = mark
        if self.random.random() < 0.3:
            parts.append(describe("S", name))
        messages = self.ask(*parts, bind("", name, [nonce]), execute(), sync())
        self.expect(messages, [[nonce, self.named[name]]])

    def pipeline(self):
        nonces = [self.nonce() for _ in range(self.random.choice([2, 5, 30]))]
        parts = [wire.extended("SELECT $1::text", [n]) + sync() for n in nonces]
        self.expect(self.ask(*parts, ready=len(nonces)), [[n] for n in nonces])

    def flushed(self):
        nonce = self.nonce()
        try:
            self.wire.send(parse("", "SELECT '%s'" % nonce), describe("S"), flush())
            self.wire.until("T")
        except wire.Closed as problem:
            raise Lost(str(problem)) from None
        except ConnectionError as problem:
            raise Lost(str(problem)) from None
        self.expect(self.ask(bind(), execute(), sync()), [[nonce]])

    def portions(self):
        first = self.random.randrange(1000)
        messages = self.ask(parse("", "SELECT generate_series(%d, %d)" % (first, first + 9)),
                            bind(), execute("", 4), execute("", 4), execute("", 4), sync())
        self.expect(messages, [[str(first + i)] for i in range(10)])

    def large(self):
        size = self.random.choice([10000, 70000, 400000])
        nonce = self.nonce()
        messages = self.ask(query("SELECT repeat('%s', %d)" % (nonce, size // len(nonce))))
        self.expect(messages, [[nonce * (size // len(nonce))]])
        text = "q" * size
        self.expect(self.ask(query("SELECT length('%s'), '%s'" % (text, nonce))),
                    [[str(size), nonce]])

    def mistake(self):
        nonce = self.nonce()
        wrong, code = self.random.choice([("SELECT 1/0", "22012"), ("SELEC 1", "42601"),
                                          ("SELECT * FROM nowhere", "42P01"),
                                          ("SELECT 'x'::int", "22P02")])
        self.ask(query(wrong), errors=[code])
        self.ask(wire.extended(wrong), wire.extended("SELECT 'skipped'"), sync(), errors=[code])
        self.expect(self.ask(query("SELECT '%s'" % nonce)), [[nonce]])

    def transaction(self):
        """Its rows are there if it commits, and not if it does not."""
        number, nonce, commit = self.fresh(), self.nonce(), self.random.random() < 0.6
        where = "%s WHERE worker = %d AND n = %d" % (self.load.table, self.number, number)
        self.ask(query("BEGIN"))
        self.ask(query("INSERT INTO %s VALUES (%d, %d)" % (self.load.table, self.number, number)))
        self.expect(self.ask(query("SELECT count(*), '%s' FROM %s" % (nonce, where))),
                    [["1", nonce]])
        if self.random.random() < 0.2:
            self.ask(query("SELECT 1/0"), errors=["22012"])
            self.ask(query("SELECT 1"), errors=["25P02"])
            commit = False
        self.unsure.add(number)
        self.ask(query("COMMIT" if commit else "ROLLBACK"))
        self.expect(self.ask(query("SELECT count(*) FROM " + where)), [["1" if commit else "0"]])
        if commit and self.random.random() < 0.9:
            self.ask(query("DELETE FROM " + where))
        elif commit:
            self.kept.add(number)
        self.unsure.discard(number)

    def settings(self):
        """SET LOCAL is gone with its transaction, and nobody else sees it."""
        size = "%dMB" % self.random.randint(100, 900)
        self.ask(query("BEGIN"))
        self.ask(query("SET LOCAL work_mem = '%s'" % size))
        self.expect(self.ask(query("SHOW work_mem")), [[size]])
        self.ask(query("COMMIT"))
        self.expect(self.ask(query("SHOW work_mem")), [["4MB"]])

    def ask_copy(self, sql):
        try:
            self.wire.send(query(sql))
            messages = self.wire.until("GZ")
        except (wire.Closed, ConnectionError) as problem:
            raise Lost(str(problem)) from None
        if set(wire.sqlstates(messages)) & LOSSES:
            raise Lost(sql)
        assert not wire.errors(messages), wire.errors(messages)

    def copy_in(self):
        numbers = [self.fresh() for _ in range(self.random.choice([1, 10, 300]))]
        self.ask(query("BEGIN"))
        self.ask_copy("COPY %s FROM STDIN" % self.load.table)
        data = b"".join(b"%d\t%d\n" % (self.number, n) for n in numbers)
        half = self.random.randrange(len(data))
        self.ask(copy_data(data[:half]), copy_data(data[half:]), copy_done())
        messages = self.ask(query("SELECT count(*), sum(n) FROM %s WHERE worker = %d AND n = "
                                  "ANY('{%s}')" % (self.load.table, self.number,
                                                   ",".join(map(str, numbers)))))
        self.expect(messages, [[str(len(numbers)), str(sum(numbers))]])
        self.ask(query("ROLLBACK"))

    def copy_out(self):
        count, nonce = self.random.choice([3, 2000]), self.nonce()
        messages = self.ask(query("COPY (SELECT '%s', generate_series(1, %d)) TO STDOUT"
                                  % (nonce, count)))
        data = b"".join(m.body for m in messages if m.type == "d")
        assert data == b"".join(b"%s\t%d\n" % (nonce.encode(), i + 1) for i in range(count))

    def cancelled(self):
        """One's own statement; whatever comes next is not hit by it."""
        nonce = self.nonce()
        try:
            self.wire.send(query("SELECT pg_sleep(60)"))
            if self.wire.quiet(0.2):
                self.wire.cancel()
        except ConnectionError as problem:
            raise Lost(str(problem)) from None
        self.ask(errors=["57014"])
        self.expect(self.ask(query("SELECT '%s'" % nonce)), [[nonce]])


# What there is, and how often.
KINDS = {"simple": 20, "several": 3, "unnamed": 15, "prepared": 25, "pipeline": 6, "flushed": 3,
         "portions": 3, "large": 2, "mistake": 5, "transaction": 12, "settings": 3, "copy_in": 3,
         "copy_out": 3, "cancelled": 1}
