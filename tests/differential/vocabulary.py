"""What random scripts say: SQL with values that fit, spelled in many ways.

Client n uses tables, settings and names of its own, and looks at those of others only to see that
it sees nothing of them."""

import re

BEGINS = ["BEGIN", "begin;", "Begin", "begin", "BEGIN;", " begin ;", "START TRANSACTION",
          "BEGIN WORK", "begin transaction;", "/* first */ BEGIN", "BEGIN ISOLATION LEVEL SERIALIZABLE",
          "BEGIN READ WRITE", "-- comment\nbegin", "BEGIN; BEGIN", "BEGIN; SELECT 1"]
ENDS = ["COMMIT", "commit;", "Commit", "END", "end;", "COMMIT WORK", "ROLLBACK", "rollback;",
        "ABORT", "ROLLback /*x*/;", "COMMIT AND CHAIN", "ROLLBACK AND CHAIN", "COMMIT; SELECT 2",
        "PREPARE TRANSACTION 'x'", "commit;;"]
SAVEPOINTS = ["SAVEPOINT sp", "ROLLBACK TO sp", "ROLLBACK TO SAVEPOINT sp", "RELEASE sp",
              "SAVEPOINT other", "ROLLBACK TO other", "SAVEPOINT sp; SELECT 1/0",
              "SAVEPOINT sp; SELECT 1; RELEASE sp"]
EMPTY = ["", ";", " ", ";;", "-- nothing", "/* nothing */"]
ERRORS = ["SELECT 1/0", "SELEC 1", "SELECT * FROM missing", "SELECT missing FROM t_a",
          "SELECT failing('on purpose')", "INSERT INTO t_a VALUES (NULL)", "SELECT 'x'::int",
          "SELECT 1; SELECT 1/0; SELECT 2", "INSERT INTO t_%(c)s VALUES (1, 'again')",
          "SELECT 'unfinished", "COPY missing TO STDOUT", "COPY t_%(c)s (missing) FROM STDIN",
          "FETCH 1 FROM missing", "RELEASE missing", "LOCK TABLE t_%(c)s",
          "INSERT INTO late_%(c)s VALUES (7), (7)"]
QUERIES = ["SELECT 1", "SELECT 1; SELECT 2", "SELECT v FROM t_%(c)s ORDER BY id",
           "SELECT generate_series(1, 5)", "SELECT repeat('x', 20000)", "VALUES (1, 'a'), (2, NULL)",
           "INSERT INTO t_%(c)s VALUES (10, 'ten') ON CONFLICT DO NOTHING",
           "UPDATE t_%(c)s SET v = v || '!' WHERE id = 1 RETURNING v",
           "DELETE FROM t_%(c)s WHERE id = 3", "SELECT count(*) FROM t_%(c)s",
           "SELECT noisy(2)", "DO $$ BEGIN RAISE WARNING 'from a block'; END $$",
           "SELECT generate_series(1, 3000)", "SELECT 1; ; SELECT 2",
           "INSERT INTO late_%(c)s VALUES (1)", "SELECT '{1,2}'::int[], (1, 'x')::pair, NULL::text",
           "COPY (TABLE t_%(c)s ORDER BY id) TO STDOUT", "COPY (SELECT generate_series(1, 2000)) TO STDOUT",
           "COPY (TABLE t_%(c)s ORDER BY id) TO STDOUT (FORMAT binary)", "SELECT 1; COPY (TABLE t_%(c)s ORDER BY id) TO STDOUT; SELECT 2",
           "SET LOCAL DateStyle = 'German'; SELECT date '2020-12-31'",
           "SET LOCAL statement_timeout = '77s'; SHOW statement_timeout",
           "LOCK TABLE t_%(c)s IN SHARE MODE; SELECT 1", "DECLARE cur CURSOR FOR SELECT 1",
           "BEGIN; DECLARE cur CURSOR FOR SELECT generate_series(1, 9); FETCH 2 FROM cur",
           "FETCH 3 FROM cur", "MOVE 1 FROM cur", "CLOSE cur", "FETCH ALL FROM cur", "CLOSE ALL",
           "SELECT 1; BEGIN; SELECT 2; COMMIT; SELECT 3", "SET CONSTRAINTS ALL IMMEDIATE",
           "EXPLAIN (COSTS OFF) SELECT 1", "SET TRANSACTION READ ONLY", "UNLISTEN *",
           "SELECT pg_advisory_xact_lock(%(n)d)", "CHECKPOINT", "VACUUM missing",
           "SELECT pg_advisory_lock(%(n)d); SELECT pg_advisory_unlock(%(n)d)",
           "CREATE TEMP TABLE gone_%(c)s (x int) ON COMMIT DROP; INSERT INTO gone_%(c)s VALUES (1);"
           "SELECT * FROM gone_%(c)s; DROP TABLE gone_%(c)s"]
# By client: a setting that it changes, and that the others look at.
SETTINGS = {"a": "work_mem", "b": "statement_timeout", "c": "lock_timeout",
            "d": "geqo_threshold", "e": "from_collapse_limit", "f": "join_collapse_limit"}
VALUES = {"work_mem": "'77kB'", "statement_timeout": "'78s'", "lock_timeout": "'79s'",
          "geqo_threshold": "80", "from_collapse_limit": "81", "join_collapse_limit": "82"}
# With types of parameters; those without values take none.
STATEMENTS = [
    ("SELECT 1", []), ("SELECT $1::int4", []), ("SELECT $1", [23]), ("SELECT $1 || 'x'", [25]),
    ("SELECT v FROM t_%(c)s WHERE id = $1", []), ("SELECT id, v FROM t_%(c)s ORDER BY id", []),
    ("SELECT generate_series(1, $1)", [23]), ("SELECT repeat('y', $1)", []),
    ("INSERT INTO t_%(c)s VALUES ($1, 'new') ON CONFLICT DO NOTHING", []),
    ("UPDATE t_%(c)s SET v = 'set' WHERE id = $1 RETURNING id", []),
    ("DELETE FROM t_%(c)s WHERE id = $1", []), ("SELECT 10 / $1::int4", []),
    ("SELECT $1::text, $2::text", []), ("SELECT noisy($1)", [23]), ("SELECT failing($1)", [25]),
    ("SELECT $1::int4 AS i, $2::timestamp AS t", []), ("INSERT INTO late_%(c)s VALUES ($1)", []),
    ("SELECT length($1::text)", []), ("SELECT array[$1, 2]", [23]), ("SELECT ($1::int4, 'x')::pair", []),
    ("COPY (TABLE t_%(c)s ORDER BY id) TO STDOUT", []), ("COPY t_%(c)s FROM STDIN", []), ("", []), (";", []),
    ("BEGIN", []), ("COMMIT", []), ("ROLLBACK", []), ("SAVEPOINT sp", []), ("ROLLBACK TO sp", []),
    ("RELEASE sp", []), ("DECLARE cur CURSOR FOR SELECT generate_series(1, 9)", []),
    ("FETCH 2 FROM cur", []), ("CLOSE cur", []), ("SET LOCAL work_mem = '99kB'", []),
    ("SELEC", []), ("SELECT 1; SELECT 2", []), ("SELECT * FROM missing", []), ("SELECT $2", [23]),
    ("SELECT $1::missing", []), ("TABLE t_%(c)s ORDER BY id", []), ("SELECT /* long */ 'z%(long)s'", []),
    ("START TRANSACTION READ ONLY", []), ("begin;", []), ("SELECT 1 WHERE false", []),
    ("VALUES (1), (2), (3), (4)", []), ("DO $$ BEGIN RAISE NOTICE 'hello'; END $$", []),
    ("SELECT $1::text", [0]), ("SHOW server_encoding", []), ("LOCK TABLE t_%(c)s", []),
]


class Vocabulary:
    def __init__(self, chooser, kind):
        self.random = chooser
        self.kind = kind
        self.numbers = 0
        self.made = []  # (client, name) of SQL's prepared statements and temporary tables

    def number(self):
        self.numbers += 1
        return self.numbers

    def fill(self, text, client):
        if "%(" not in text:
            return text
        return text % {"c": client.name, "n": ord(client.name), "long": "z" * 3000}

    def query(self, client):
        """The text of a Query."""
        choice = self.random.random()
        if choice < 0.17:
            return self.random.choice(BEGINS)
        if choice < (0.5 if client.tracker.status != "I" else 0.22):
            return self.random.choice(ENDS)
        if choice < (0.6 if client.tracker.status != "I" else 0.23):
            return self.random.choice(SAVEPOINTS)
        if choice < 0.65:
            return self.random.choice(EMPTY)
        if choice < 0.72:
            return self.fill(self.random.choice(ERRORS), client)
        if choice < 0.82:
            return self.state(client)
        return self.fill(self.random.choice(QUERIES), client)

    def state(self, client):
        """Something that outlives the statement. In transaction mode it must not be looked at in
        another transaction, but the others must not see it."""
        number, name, choice = self.number(), client.name, self.random.randrange(11)
        mine = SETTINGS[name]
        if choice == 0:
            return "SET %s = %s; SHOW %s" % (mine, VALUES[mine], mine)
        if choice == 1:
            return "SET %s = %s" % (mine, VALUES[mine])
        if choice in (2, 3):
            return "SHOW " + SETTINGS[self.random.choice([c for c in SETTINGS if c != name])]
        if choice == 4:
            return "LISTEN c_%d; NOTIFY c_%d, 'x'; NOTIFY c_%d, 'y'" % (number, number, number)
        if choice == 5:
            self.made.append((name, "EXECUTE q_%s_%d" % (name, number)))
            return "PREPARE q_%s_%d AS SELECT %d; EXECUTE q_%s_%d" % (
                name, number, number, name, number)
        if choice == 6:
            self.made.append((name, "SELECT * FROM tmp_%s_%d" % (name, number)))
            return "CREATE TEMP TABLE tmp_%s_%d (x int); SELECT * FROM tmp_%s_%d" % (
                name, number, name, number)
        if choice == 7 and client.rules.in_transaction:
            return "PREPARE q_%s_%d AS SELECT 'in a transaction'" % (name, number)
        if choice == 8 and client.rules.prepared:
            return "EXECUTE " + self.random.choice(client.rules.prepared)
        if choice == 9:
            return self.random.choice(["RESET ALL", "RESET " + mine, "RESET ROLE", "SET ROLE app",
                                       "SELECT set_config('%s', '90', true)" % mine])
        others = [sql for owner, sql in self.made if owner != name]
        return self.random.choice(others) if others else "SELECT 'nobody has made anything'"

    def statement(self, client):
        """Text and types of a Parse."""
        sql, types = self.random.choice(STATEMENTS)
        return self.fill(sql, client), types

    def values(self, sql):
        """Values for the parameters of a text, mostly good ones."""
        count = max([int(n) for n in re.findall(r"\$(\d)", sql)], default=0)
        return [self.value() for _ in range(count)]

    def value(self):
        return self.random.choice(["1", "2", "3", "0", "5", "7", "11", "42", "1", "2", None, "bad",
                                   "2020-02-29", "300", "", "x" * 300,
                                   self.random.choice(["9", "x" * 70000, b"\0\0\0\1", b"\xff"])])

    def function(self):
        """Arguments of a FunctionCall: abs, plus and divide of int4, and one that is not there."""
        return self.random.choice([
            (1397, [b"\xff\xff\xff\xfe"]), (177, [b"\0\0\0\1", b"\0\0\0\2"]),
            (154, [b"\0\0\0\1", b"\0\0\0\0"]), (1397, ["-5"], [0], 0), (4294967, [])])

    def copy_row(self):
        return self.random.choice(["20\ttwenty\n", "21\t\\N\n", "bad\n", "1\tdouble\n", "", "22",
                                   "23\tmany\n24\trows\n", "25\t" + "x" * 9000 + "\n", "\\.\n"])

    def pieces(self):
        return [self.random.choice([1, 2, 3, 5, 7, 50]) for _ in range(3)]
