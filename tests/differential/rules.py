"""What a generated script must not do, because its reply differs on purpose.

These are entries of docs/differences.md: duplicate-statement, unnamed-statement, skipped-parse,
unchecked-parse, deallocate-unknown, discard-statements, session-state and session-end. Few of them hold in session mode
or within a transaction. The rules follow a script while it is played directly: what exists on
PostgreSQL's side is known from the replies.
"""

import re

UNSURE = object()  # a statement that one side may have and the other not
PREPARES = re.compile(r"^PREPARE (q_\w+)[^;]*$")
EXECUTES = re.compile(r"^EXECUTE (q_(\w)_\w+)")
FORGETS = re.compile(r"(?i)^(discard all|deallocate all)")
ISOLATES = re.compile(r"(?i)isolation level")


def must_wait(messages):
    """What is sent behind it counts on statements that it takes away."""
    return any(m.name == "Query" and FORGETS.match(m.args[0]) for m in messages)


class Rules:
    """For one client."""

    def __init__(self, client, kind, tracker):
        self.client = client
        self.kind = kind        # of the pool
        self.tracker = tracker  # of the direct connection
        self.remapped = {}      # by statement name, what the pooler stands for: a Parse, UNSURE
        self.touched = set()    # names whose fate an unsettled segment decides
        self.unsettled = []     # messages since all was answered
        self.prepared = []      # names of SQL's PREPARE in this transaction
        self.unwaited = False   # the last step
        self.copies = False     # a COPY may be in what is unsettled

    @property
    def in_transaction(self):
        return self.tracker.status == "T" and self.tracker.synced

    def same(self, name, touched):
        """Do both sides mean the same by this name, or nothing at all?"""
        native = self.tracker.statements.get(name)
        if name in touched or (self.kind == "plain" and name == "" and native is None):
            return False  # in a plain pool its own of before may be there
        return native is self.remapped.get(name)

    def allow(self, messages):
        """May the client go on with these?"""
        if not self.allow_portals(messages):
            return False
        if any(m.name == "Raw" for m in messages) and \
                (self.copies or not self.tracker.synced or
                 "FROM STDIN" in str([m.args for m in messages])):
            return False  # session-end: the pooler speaks first, and drops what is not synced
        if self.kind == "session":
            return True
        touched, here, closed = set(self.touched), set(), set()
        ended = any(m.name in ("Sync", "Query") for m in self.unsettled)
        # Whether a transaction has failed is known where all was answered only.
        may_fail = bool(self.touched) or (self.unwaited and self.tracker.status == "E")
        for message in messages:
            if message.name == "Parse" and may_fail:
                return False
            # What the backend lacks cannot be brought to it then.
            if (may_fail or self.tracker.status == "E") and message.args[1:2] and \
                    (message.name == "Bind" or message.args[0] == "S") and \
                    message.name in ("Bind", "Describe") and message.args[1] not in here:
                return False
            if message.name in ("Sync", "Query"):
                may_fail = may_fail or self.tracker.status != "I" or self.may_begin(messages)
            if not self.allow_one(message, touched, here, closed):
                return False
            if ended and message.name == "Query" and self.executes_own(message.args[0]):
                return False  # the transaction may be over by then
            ended = ended or message.name in ("Sync", "Query")
            if message.name in ("Sync", "Query"):
                touched |= here | closed
                if self.kind == "plain":  # the next one may meet another backend
                    touched.update(self.tracker.statements)
                here.clear()
                closed.clear()
        return True

    def may_begin(self, messages):
        """A transaction, by one of these or of what was parsed before."""
        text = str(messages) + str(self.tracker.statements.values()) + str(self.unsettled)
        return "BEGIN" in text.upper() or "START" in text

    def allow_portals(self, messages):
        """A Query that fails in a transaction leaves the unnamed portal behind, with a text whose
        memory is free. To execute or describe that may even end PostgreSQL."""
        left = self.tracker.status == "E" or not self.tracker.settled()
        bound = False
        for message in messages:
            if message.name in ("Sync", "Query"):
                left = left or self.tracker.status != "I" or self.may_begin(messages)
                bound = False
            elif message.name == "Bind" and message.args[0] == "":
                bound = True
            elif left and not bound and uses_unnamed_portal(message):
                return False
        return True

    def allow_one(self, message, touched, here, closed):
        name, args = message.name, message.args
        if name == "Query":
            return self.allow_query(args[0], touched)
        if name == "Parse":
            free = args[0] in closed or (args[0] not in touched and
                                         args[0] not in self.tracker.statements)
            if args[0] != "" and (args[0] in here or not free):
                return False
            here.add(args[0])
            closed.discard(args[0])
        elif name == "Bind" or (name == "Describe" and args[0] == "S"):
            if args[1] in here:
                return True
            if args[1] in closed:
                return not (self.kind == "plain" and args[1] == "")
            return self.same(args[1], touched)
        elif name == "Close" and args[0] == "S":
            if args[1] in touched:
                return False
            here.discard(args[1])
            closed.add(args[1])
        return True

    def allow_query(self, sql, touched):
        touched.add("")
        if FORGETS.match(sql):
            touched.update(self.tracker.statements)
        if PREPARES.match(sql):
            return self.in_transaction
        if ISOLATES.search(sql) and self.tracker.status == "T":
            return False  # deallocate-unknown: the first of the transaction on one side only
        return not self.executes_own(sql) or EXECUTES.match(sql).group(1) in self.prepared

    def executes_own(self, sql):
        found = EXECUTES.match(sql)
        return found is not None and found.group(2) == self.client

    def played(self, messages, waited):
        """They were sent; the tracker has seen the replies that came. The pooler may not have,
        where they were not waited for."""
        self.unwaited = not waited
        self.unsettled += messages
        for message in messages:
            if message.name == "Query" and PREPARES.match(message.args[0]):
                self.prepared.append(PREPARES.match(message.args[0]).group(1))
        if not self.tracker.settled() or self.tracker.current is not None:
            self.touched.update(n for m in messages for n in names_in(m))
            if self.kind == "plain" and any(m.name in ("Sync", "Query") for m in self.unsettled):
                self.touched.update(self.tracker.statements)
            self.copies = any("FROM STDIN" in str(m) for m in self.unsettled)
            return
        self.copies = self.tracker.copying
        native = self.tracker.statements
        self.forget_leases()
        for message in self.unsettled:
            self.settle(message, native)
        self.unsettled = []
        self.tracker.answered.clear()
        self.touched.clear()

    def forget_leases(self):
        """A lease may have ended wherever no transaction was open, even in the middle of what was
        sent at once. What SQL prepared goes with it, and in a plain pool all statements."""
        for at, message in enumerate(self.unsettled):
            if message is self.tracker.idle_behind:
                self.prepared = []
                if self.kind == "plain":
                    self.remapped = {}
                    del self.unsettled[:at + 1]
                break

    def settle(self, message, native):
        for name in names_in(message):
            if message.name == "Parse":
                self.remapped[name] = message if native.get(name) is message else UNSURE
            elif message.name == "Close":
                if any(m is message for m in self.tracker.answered):
                    self.remapped.pop(name, None)
                else:
                    self.remapped[name] = UNSURE
            elif name in self.remapped:
                self.remapped[name] = UNSURE
        if message.name == "Query" and FORGETS.match(message.args[0]):
            for name in set(native) | set(self.remapped):
                self.remapped[name] = UNSURE


def uses_unnamed_portal(message):
    return message.name == "Execute" and message.args[0] == "" or \
        message.name == "Describe" and message.args == ("P", "")


def names_in(message):
    """Statement names whose meaning a message changes."""
    if message.name == "Parse":
        return [message.args[0]]
    if message.name == "Close" and message.args[0] == "S":
        return [message.args[1]]
    return [""] if message.name == "Query" else []


def permitted(script, kind, direct):
    """Does a script keep to the rules? Plays it directly."""
    direct.begin(script.unsettled)
    rules, good = {}, True
    for step in script.steps:
        tracker = direct.tracker(step.client)
        one = rules.setdefault(step.client, Rules(step.client, kind, tracker))
        good = good and (not step.messages or one.allow(step.messages))
        if not good:
            break
        direct.step(step)
        one.played(list(step.messages), step.wait)
    for step in direct.endings():
        direct.step(step)
    direct.finish()
    return good
