"""Random scripts, the same for the same seed.

A script is made while it is played directly, so that each step may depend on what the server has
said: what exists, whether a transaction is open, whether it waits for CopyData. Rules (rules.py)
keep out what differs on purpose.
"""

import random

import vocabulary
from rules import Rules, must_wait
from script import Script, Step, make

CLIENTS = "abcd"
PORTALS = ["", "", "", "p1", "p2"]
STATEMENTS = ["", "", "s1", "s2", "s3", "s4"]


class Client:
    """What the generator remembers of one."""

    def __init__(self, name, rules):
        self.name = name
        self.rules = rules
        self.tracker = rules.tracker
        self.open = False  # a segment without its Sync
        self.gone = False


class Generator:
    def __init__(self, seed, direct, endings=True):
        self.random = random.Random(seed)
        self.direct = direct
        self.kind = self.random.choice(["one", "one", "two", "two", "two", "session", "plain"])
        self.script = Script("seed %d" % seed, pools=[self.kind])
        self.clients = {}
        self.names = 0
        self.words = vocabulary.Vocabulary(self.random, self.kind)
        direct.begin()
        self.generate()
        if endings:
            for step in direct.endings():
                self.play(step)

    def play(self, step):
        self.script.steps.append(step)
        return self.direct.step(step)

    def chance(self, probability):
        return self.random.random() < probability

    def generate(self):
        count = self.random.choice([1, 2, 2, 3, 3, 4])
        live = list(CLIENTS[:count])
        fresh = list("ef")
        for _ in range(self.random.randint(3, 16)):
            name = self.random.choice(live)
            client = self.client(name)
            self.turn(client)
            if client.gone or self.direct.links[name].eof is not None:
                live.remove(name)
                if fresh and self.chance(0.7):
                    live.append(fresh.pop())
                if not live:
                    break

    def client(self, name):
        if name not in self.clients:
            self.clients[name] = Client(name, Rules(name, self.kind, self.direct.tracker(name)))
        return self.clients[name]

    # ---- a step

    def turn(self, client):
        if self.chance(0.015):
            client.gone = True
            self.play(Step(client.name, self.random.choice(["close", "reset"])))
            return
        if client.tracker.copying:
            messages = self.copy_in(client)
        elif client.tracker.settled() and not client.open and self.chance(0.35):
            messages = self.simple(client)
        else:
            messages = self.segments(client)
        flushed = messages[-1].name in ("Sync", "Flush", "Query", "FunctionCall", "CopyDone",
                                        "CopyFail")
        size = sum(len(m.bytes()) for m in messages)
        pieces = ()
        if self.chance(0.3):
            pieces = tuple(self.random.choice([1, 2, 3, 4, 5, 6, 7, 13, 50, 1000])
                           for _ in range(self.random.randint(1, 4)))
            if sum(pieces) * 200 < size * len(pieces):
                pieces = (size // 7 + 1, 1)
        wait = flushed and (self.chance(0.75) or must_wait(messages))
        if client.rules.allow(messages):
            self.play(Step(client.name, "send", tuple(messages), wait, pieces))
            client.rules.played(messages, wait)

    def copy_in(self, client):
        """The server waits for CopyData."""
        choice = self.random.random()
        if choice < 0.4:
            rows = [self.words.copy_row() for _ in range(self.random.randint(1, 4))]
            if self.chance(0.5):  # none that fails
                rows = ["%d\tgood\n" % (1000 + self.words.number()) for _ in rows]
            messages = []
            for row in rows:
                messages += [make("Sync")] * self.chance(0.3) + [make("CopyData", row)]
            return messages + [make("Sync")] * self.random.choice([0, 0, 1, 2])
        if choice < 0.5:
            return [make(self.random.choice(["Sync", "Flush"]))]
        data = [make("CopyData", self.words.copy_row())
                for _ in range(self.random.choice([0, 0, 1, 30]))]
        if choice < 0.53:
            return data + [make("Query", "SELECT 'in the middle of a copy'")]
        if choice < 0.56:
            return data + self.segments(client)
        end = make("CopyFail", "changed my mind") if choice < 0.65 else make("CopyDone")
        # Without a Sync the end of a COPY of the extended protocol is not told.
        behind = [make("Sync")] if self.chance(0.8) else []
        client.open = False
        return data + [end] + behind

    def simple(self, client):
        """One or several messages that are answered by themselves."""
        messages = []
        for _ in range(self.random.choice([1, 1, 1, 1, 2, 3])):
            choice = self.random.random()
            if choice < 0.08:
                messages.append(make("FunctionCall", *self.words.function()))
            elif choice < 0.12:
                messages.append(make("Sync"))
            elif choice < 0.14:
                messages += [make("CopyData", "stray\n"), make("CopyDone"), make("Sync")]
            elif choice < 0.145:
                messages.append(make("Raw", b"y\0\0\0\4"))
            elif choice < 0.16:
                messages.append(make("Query", self.random.choice(
                    ["DISCARD ALL", "DEALLOCATE ALL", "DISCARD PLANS", "discard all;"])))
                break
            elif choice < 0.24:
                messages += self.copy(client)
            else:
                messages.append(make("Query", self.words.query(client)))
        return messages

    def copy(self, client):
        """A COPY FROM with its data behind it, whether or not it is wanted then."""
        rows = [make("CopyData", self.words.copy_row())
                for _ in range(self.random.choice([0, 1, 2, 50]))]
        end = make("CopyDone") if self.chance(0.8) else make("CopyFail", "no")
        sql = "COPY t_%s FROM STDIN" % client.name
        if self.chance(0.3):
            sql = "SELECT 'before'; " + sql
        if self.chance(0.3):
            sql += "; SELECT 'behind'"
        if self.chance(0.5):
            return [make("Query", sql)]
        return [make("Query", sql)] + rows + [end]

    def segments(self, client):
        """Extended protocol: pipelined segments, the last one perhaps without its Sync."""
        messages = []
        for _ in range(self.random.choice([1, 1, 1, 2, 2, 3, 5])):
            messages += self.segment(client)
            if self.chance(0.1):
                messages.append(make("Flush"))
            client.open = False
            messages.append(make("Sync"))
        if self.chance(0.25):
            messages.pop()
            client.open = True
            if self.chance(0.6) and (not messages or messages[-1].name != "Flush"):
                messages.append(make("Flush"))
        return messages or [make("Sync")]

    def segment(self, client):
        """Requests up to a Sync."""
        messages = []
        here = {}  # parsed in this segment
        for _ in range(self.random.choice([1, 1, 2, 2, 3, 4, 8])):
            more = self.request(client, here)
            if client.rules.allow(messages + more):
                messages += more
                here.update((m.args[0], m) for m in more if m.name == "Parse")
        return messages

    def request(self, client, here):
        choice = self.random.random()
        if choice < 0.6:
            return self.statement(client, here)
        if choice < 0.7:
            return [make("Describe", "P", self.random.choice(PORTALS))]
        if choice < 0.78:
            return [make("Execute", self.random.choice(PORTALS), self.random.choice([0, 0, 1, 2]))]
        if choice < 0.86:
            return [make("Close", "P", self.random.choice(PORTALS))]
        if choice < 0.93:
            return [make("Close", "S", self.random.choice(STATEMENTS))]
        return [make("Flush")] if choice < 0.97 else [make("CopyData", "stray")]

    def statement(self, client, here):
        """Parse, Bind, Describe, Execute, or some of them."""
        name = self.random.choice(STATEMENTS)
        known = here.get(name, client.tracker.statements.get(name))
        messages = []
        if self.chance(0.5 if known is not None else 0.9):
            sql, types = self.words.statement(client)
            known = make("Parse", name, sql, types)
            messages.append(known)
        portal = self.random.choice(PORTALS)
        if self.chance(0.25):
            messages.append(make("Describe", "S", name))
        if self.chance(0.15):
            return messages
        values = self.words.values(known.args[1] if known is not None else "")
        if self.chance(0.03):
            values = values + ["surplus"]
        formats = [0] if values and self.chance(0.2) else []
        results = self.random.choice([[], [], [], [0], [1]])
        messages.append(make("Bind", portal, name, values, formats, results))
        if self.chance(0.3):
            messages.append(make("Describe", "P", portal))
        if self.chance(0.9):
            messages.append(make("Execute", portal, self.random.choice([0, 0, 0, 1, 3])))
            if self.chance(0.1):
                messages.append(make("Execute", portal, self.random.choice([0, 1])))
        return messages
