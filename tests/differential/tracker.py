"""What one PostgreSQL connection still owes its client, and what the client may count on.

A model of the server's side of the protocol, fed with what is sent and what comes: it tells when
every reply has come that will come without another message. The player needs no time-outs thanks
to it, and the generator knows what exists.
"""

from collections import deque

ENDS = {"1": "P", "2": "B", "3": "C", "T": "D", "n": "D", "C": "E", "s": "E", "I": "E"}
UNANSWERED = set("PBDECdcf")  # until something behind them flushes


class Tracker:
    def __init__(self):
        self.pending = deque()
        self.current = None   # the message at work
        self.copying = False  # the server reads CopyData
        self.skipping = False  # it ignores everything up to Sync
        self.ignored = False   # a Sync was sent during the COPY, or right before it
        self.vague = False     # that COPY has failed: nobody knows which Syncs are answered
        self.synced = True     # nothing was sent since the last ReadyForQuery
        self.status = "I"
        self.dead = False
        self.answered = []     # messages; whoever reads it empties it
        self.idle_behind = None  # the last message behind which no transaction was open
        self.statements = {}   # by name, what was parsed and not closed: the Parse message

    def send(self, message):
        self.synced = False
        self.pending.append(message)
        self._advance()

    def _advance(self):
        """Takes up the next message, or drops what the server ignores."""
        while self.pending:
            letter = self.pending[0].letter
            if self.copying:
                if letter not in "dcfHS":
                    return  # the end: the server gives up
                self.pending.popleft()
                self.ignored = self.ignored or letter == "S"
                self.copying = letter not in "cf"
            elif self.current is not None:
                return
            elif (self.skipping and letter not in "SX") or letter in "Hdcf":
                self.pending.popleft()
            else:
                self.skipping = False
                self.current = self.pending.popleft()
                self._begun(self.current)

    def _begun(self, message):
        if message.name == "Query" or (message.name == "Parse" and message.args[0] == ""):
            self.statements.pop("", None)

    def _done(self):
        done, self.current = self.current, None
        if done is None:
            return
        self.answered.append(done)
        if done.name == "Parse":
            self.statements[done.args[0]] = done
        elif done.name == "Close" and done.args[0] == "S":
            self.statements.pop(done.args[1], None)

    def receive(self, letter, body):
        """A message of the server."""
        kind = self.current.letter if self.current is not None else ""
        if letter == "Z":
            self.status = body.decode()
            self.copying = self.skipping = self.ignored = False
            if self.status == "I":
                self.idle_behind = self.current
            self._done()
            self.synced = self.current is None and not self.pending
        elif letter == "G":
            self.copying = True
            self.ignored = False
        elif letter == "E":
            self.copying = False
            self.vague = self.vague or self.ignored
            # In the middle of a message the server cannot go on: a FATAL follows.
            if b"\0VFATAL\0" in body or b"\0Munexpected message type 0x" in body:
                self.dead = True
            elif kind not in ("Q", "F", "S"):
                self.current = None
                self.skipping = True
        elif ENDS.get(letter) == kind and kind:
            self._done()
        self._advance()
        if letter == "Z":
            self.synced = self.current is None and not self.pending

    def settled(self):
        """Nothing comes by itself any more. Replies that nobody asked to be flushed may."""
        if self.dead:
            return False  # until the end of the connection is seen
        if self.copying:
            return not self.pending
        left = [self.current] if self.current is not None else []
        return all(m.letter in UNANSWERED for m in left + list(self.pending))

    def holds(self):
        """A pooler may have to keep a backend for it."""
        return not self.dead and (self.status != "I" or self.copying or not self.synced)
