"""What the tests of prepared statements share: scripts run through the pooler and straight against
PostgreSQL, whose answers must agree byte by byte; and PostgreSQL's own count of Parse messages."""

import re

import wire

# Messages that may come at any time.
ANYTIME = "SNA"


def settled(client, seconds=0.15):
    """All messages up to a pause."""
    messages = []
    while client.buffer or not client.quiet(seconds):
        messages.append(client.receive())
    return messages


class Pair:
    """One client through the pooler and one of a private session."""

    def __init__(self, pooler, postgres, **options):
        self.through = pooler.client(**options)
        self.direct = wire.Wire(("127.0.0.1", postgres.port)).login(**options)

    def close(self):
        self.through.close()
        self.direct.close()

    def same(self, *parts, ready=None):
        """Sends the parts to both; every answer must agree. Without Sync or Query among the parts
        the direct session's pause tells what to expect. Returns the letters."""
        if ready is None:
            ready = sum(part[:1] in (b"S", b"Q") or part[-5:] == b"S\0\0\0\4" for part in parts)
        self.direct.send(*parts)
        self.through.send(*parts)
        if ready:
            theirs = wanted(self.direct.until_ready(ready))
            ours = wanted(self.through.until_ready(ready))
        else:
            # Silence is worth a second look: the machine may be busy.
            theirs = wanted(settled(self.direct) or settled(self.direct, 0.6))
            ours = [self.through.receive() for _ in theirs]
        assert wire.types(ours) == wire.types(theirs)
        for mine, other in zip(ours, theirs):
            if mine.type == "E":
                alike = b"DOORMAN_" in mine.body
                assert masked(mine, alike) == masked(other, alike)
            else:
                assert mine == other
        return wire.types(ours)

    def calm(self):
        """Nothing more comes, and both are in step."""
        assert self.through.quiet(0.05)
        self.same(wire.query("SELECT 'in step'"))


def wanted(messages):
    return [m for m in messages if m.type not in ANYTIME]


def masked(error, alike=False):
    """Where in PostgreSQL's source an error comes from does not matter here; nor, if told, what it
    calls the statement, which the pooler shares under a name of its own."""
    found = wire.fields(error)
    if alike:
        found["M"] = re.sub(r'prepared statement "[^"]*"', "prepared statement", found["M"])
    return {k: v for k, v in found.items() if k in "SVCM"}


class ParseCount:
    """Parse messages that PostgreSQL received in a database, by its own log."""

    def __init__(self, postgres, database="app"):
        self.postgres = postgres
        self.mark = postgres.log_position()
        postgres.run("ALTER DATABASE %s SET log_min_duration_statement = 0" % database)
        self.database = database

    def lines(self):
        return re.findall(r"duration: [0-9.]+ ms  parse (\S+): (.*)",
                          self.postgres.log_since(self.mark))

    def restart(self):
        self.mark = self.postgres.log_position()

    def end(self):
        self.postgres.run("ALTER DATABASE %s RESET log_min_duration_statement" % self.database)
