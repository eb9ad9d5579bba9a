"""Plays scripts, directly or through a pooler, and keeps every message that comes back.

Directly, each step is waited for: the reply to one client does not depend on when it is asked for.
What was learned there (how many replies a step has, and whether the client then holds a backend)
makes the second play exact: it waits for as many messages, where the script waits at all, and never
for a client that cannot be served because others hold the whole pool.
"""

import select
import socket
import struct
import time
from collections import namedtuple

from script import Step, cstring, frame, make
from tracker import UNANSWERED, Tracker

PATIENCE_SECONDS = 5
PLAYED, WAITS, KEPT = "played", "waits for its replies", "not sent"
VAGUE_SECONDS = 0.3  # for scripts in which replies may not come
COPY_SECONDS = 0.1   # for the answers to Syncs during a COPY that has failed

Message = namedtuple("Message", "letter body")
# replies: all messages of the client's stream that must have come after this step; None: that is
# not known. holds: a backend may be held after it. ended: the server has hung up.
Learned = namedtuple("Learned", "replies holds ended")


class Link:
    """A connection; never blocks."""

    def __init__(self, path, database, user, player):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(path)
        self.sock.setblocking(False)
        self.player = player
        self.out = []
        self.inp = bytearray()
        self.messages = []
        self.eof = None
        self.on_message = None
        self.fd = self.sock.fileno()
        player.add(self)
        body = b"".join(map(cstring, ("user", user, "database", database, "application_name",
                                      "differential"))) + b"\0"
        self.send([struct.pack("!II", len(body) + 8, 196608) + body])
        player.wait(lambda: self.eof or (self.messages and self.messages[-1].letter in "ZE"),
                    PATIENCE_SECONDS)
        self.login, self.messages = self.messages, []
        if not self.login or self.login[-1].letter != "Z":
            raise ConnectionError("login to %s failed: %r" % (database, self.login[-1:]))

    def send(self, pieces):
        if self.eof is None:
            self.out += pieces
            self.write()

    def write(self):
        try:
            while self.out:
                count = self.sock.send(self.out[0])
                if count < len(self.out[0]):
                    self.out[0] = self.out[0][count:]
                    break
                del self.out[0]
        except BlockingIOError:
            pass
        except OSError:
            self.out.clear()  # what came before the end is still to be read
        self.player.watch(self)

    def read(self):
        try:
            data = self.sock.recv(262144)
        except BlockingIOError:
            return
        except OSError as error:
            self.ended(type(error).__name__)
            return
        if not data:
            self.ended("eof")
            return
        self.inp += data
        self.split()

    def split(self):
        at, inp = 0, self.inp
        while len(inp) - at >= 5:
            size, = struct.unpack_from("!I", inp, at + 1)
            if len(inp) - at < size + 1:
                break
            message = Message(chr(inp[at]), bytes(inp[at + 5:at + size + 1]))
            self.messages.append(message)
            if self.on_message is not None:
                self.on_message(message.letter, message.body)
            at += size + 1
        del inp[:at]

    def ended(self, how):
        if self.eof is None:
            self.eof = how + (" within a message" if self.inp else "")
            self.player.remove(self)

    def close(self, abruptly=False):
        if abruptly:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.player.remove(self)
        self.sock.close()
        if self.eof is None:
            self.eof = "closed"


class Player:
    """Moves the bytes of any number of links."""

    def __init__(self):
        self.poll = select.poll()
        self.links = {}

    def add(self, link):
        self.links[link.fd] = link
        self.poll.register(link.fd, select.POLLIN)

    def remove(self, link):
        if self.links.get(link.fd) is link:  # numbers are used again
            del self.links[link.fd]
            self.poll.unregister(link.fd)

    def watch(self, link):
        if self.links.get(link.fd) is link:
            self.poll.modify(link.fd, select.POLLIN | (select.POLLOUT if link.out else 0))

    def wait(self, condition, seconds):
        """True when the condition holds; it can change through messages only."""
        give_up = None
        while not condition():
            now = time.monotonic()
            give_up = give_up or now + seconds
            if now >= give_up:
                return False
            for fd, event in self.poll.poll((give_up - now) * 1000 + 1):
                link = self.links.get(fd)
                if link is not None and event & select.POLLOUT:
                    link.write()
                if link is not None and event & ~select.POLLOUT:
                    link.read()
        return True


def in_pieces(data, sizes):
    if not sizes:
        return [data]
    pieces, at, turn = [], 0, 0
    while at < len(data):
        pieces.append(data[at:at + sizes[turn % len(sizes)]])
        at += sizes[turn % len(sizes)]
        turn += 1
    return pieces


END = "SELECT 'the end' AS \"the end\""


def ending(client, copying):
    """The last steps of a client: whatever it was in, and whatever still comes, shows in them."""
    steps = [Step(client, "send", (make("CopyFail", "the end"),))] if copying else []
    return steps + [Step(client, "send", (make("Sync"),)),
                    Step(client, "send", (make("Query", "ROLLBACK"),)),
                    Step(client, "send", (make("Query", END),))]


class Direct:
    """Plays against PostgreSQL. Its connections are kept from script to script, and cleared."""

    def __init__(self, path, database, user):
        self.player = Player()
        self.where = (path, database, user)
        self.spare = []
        self.links = {}
        self.trackers = {}
        self.learned = []
        self.unsettled = False

    def begin(self, unsettled=False):
        self.links, self.trackers, self.learned = {}, {}, []
        self.unsettled = unsettled

    def tracker(self, client):
        """The client's; it logs in with its first use."""
        if client not in self.trackers:
            link = self.spare.pop() if self.spare else Link(*self.where, self.player)
            link.messages = []
            self.links[client] = link
            self.trackers[client] = Tracker()
            link.on_message = self.trackers[client].receive
        return self.trackers[client]

    def step(self, step):
        """Plays it to its end, and returns what was learned."""
        tracker = self.tracker(step.client)
        link = self.links[step.client]
        if step.action != "send":
            link.close(step.action == "reset")
            learned = Learned(None, False, True)
        else:
            # What nobody asked to be flushed may come at any time, and through a pooler only
            # when something behind it has: it is not waited for.
            tail = max((n + 1 for n, m in enumerate(step.messages)
                        if self.unsettled or m.letter not in UNANSWERED or m.letter in "cf"),
                       default=0)
            replies = self.send(link, tracker, step.messages[:tail]) if tail else None
            ended = link.eof is not None
            if ended:
                replies = list(link.messages)
            elif tail < len(step.messages):
                self.send(link, tracker, step.messages[tail:])
            # What the tail has ended may go on in a pooler, until it sees the tail.
            holds = not ended and (tracker.holds() or link.eof is not None)
            learned = Learned(replies, holds, ended)
        self.learned.append(learned)
        return learned

    def send(self, link, tracker, messages):
        """All replies so far, if no more can come."""
        for message in messages:
            tracker.send(message)
        link.send([b"".join(m.bytes() for m in messages)])
        if self.unsettled:
            self.player.wait(lambda: link.eof, VAGUE_SECONDS)
            return list(link.messages)
        done = self.player.wait(lambda: link.eof or tracker.settled(), PATIENCE_SECONDS)
        if tracker.vague:
            self.player.wait(lambda: link.eof, COPY_SECONDS)
            tracker.vague = False
        if not done or (not tracker.copying and (tracker.current is not None or tracker.pending)):
            return None
        return list(link.messages)

    def endings(self):
        """The steps that end all clients, to be played as any other."""
        steps = []
        for client, link in self.links.items():
            if link.eof is None:
                steps += ending(client, self.trackers[client].copying)
            elif link.eof != "closed":
                # PostgreSQL ended it for something that a pooler may hold back until then.
                steps.append(Step(client, "send", (make("Sync"),)))
        return steps

    def finish(self):
        """The streams of all clients; connections that can serve again are kept."""
        streams = {client: Stream(link.messages, link.eof) for client, link in self.links.items()}
        for client, link in self.links.items():
            if link.eof is not None or self.trackers[client].status != "I" or \
                    not self.trackers[client].settled() or len(self.spare) > 8:
                link.close()
                continue
            link.on_message = None
            link.messages = []
            link.send([frame("Q", b"DISCARD ALL\0")])
            if not self.player.wait(lambda link=link: link.eof or
                                    (link.messages and link.messages[-1].letter == "Z"),
                                    PATIENCE_SECONDS) or link.eof or \
                    any(m.letter == "E" for m in link.messages):  # begun without a Sync
                link.close()
            else:
                self.spare.append(link)
        self.links = {}
        return streams

    def play(self, script):
        """A script that was written before; its endings are appended to it."""
        self.begin(script.unsettled)
        for step in script.steps:
            self.step(step)
        for step in self.endings():
            script.steps.append(step)
            self.step(step)
        return self.finish()


class Stream:
    """What one client got."""

    def __init__(self, messages, eof):
        self.messages = messages
        self.eof = eof if eof != "closed" else None
        self.late = None  # the number of the step whose replies did not come


class Pooled:
    """Plays a script through a pooler."""

    def __init__(self, path, database, user, size, keeps):
        self.where = (path, database, user)
        self.size = size    # of the pool
        self.keeps = keeps  # a client keeps its backend to its end

    def play(self, script, learned, skips=""):
        """`skips`: letters of messages that do not count."""
        play = _Play(self, script, learned, skips)
        try:
            play.run()
        finally:
            for link in play.links.values():
                link.close()
        return {client: play.stream(client) for client in play.links}


class _Play:
    def __init__(self, pooled, script, learned, skips):
        self.pooled = pooled
        self.script = script
        self.learned = learned
        self.skips = skips
        self.player = Player()
        self.links = {}
        self.last = {c: max(i for i, s in enumerate(script.steps) if s.client == c)
                     for c in script.clients()}
        self.holders = set()
        self.sent = {}      # by client, its last step that is not known to be complete
        self.postponed = {}  # by client, numbers of steps that wait for an earlier one
        self.late = {}

    def stream(self, client):
        link = self.links[client]
        stream = Stream(link.messages, link.eof)
        stream.late = self.late.get(client)
        return stream

    def run(self):
        for number in range(len(self.script.steps)):
            client = self.script.steps[number].client
            if self.late:
                return  # what follows would only wait, too
            if client in self.postponed:
                self.postponed[client].append(number)
            else:
                self.postpone(client, [number])
            self.catch_up()
        while self.postponed and not self.late:
            before = dict.fromkeys(self.postponed)
            self.catch_up()
            if list(before) == list(self.postponed):
                # Nobody can be served: tell of those who wait, as replies that did not come.
                for client in self.postponed:
                    self.complete(client)
                break

    def catch_up(self):
        """Goes on with clients that had to wait, as long as there is room in the pool."""
        while self.postponed and not self.late:
            ready = [c for c in self.postponed if self.has_room(c)]
            waiting = [c for c in ready if c in self.sent]
            if waiting:
                self.player.wait(lambda: any(map(self.is_complete, waiting)), PATIENCE_SECONDS)
                for client in waiting:
                    if self.is_complete(client):
                        self.complete(client)
                        break
                else:
                    self.complete(waiting[0])
            elif ready:
                client = ready[0]
                self.postpone(client, self.postponed.pop(client))
            else:
                return

    def postpone(self, client, numbers):
        """Plays these steps, as far as it gets."""
        while numbers:
            how = self.step(numbers[0])
            if how != KEPT:
                numbers = numbers[1:]
            if how != PLAYED:
                self.postponed[client] = numbers
                return

    def has_room(self, client):
        return client in self.holders or len(self.holders - {client}) < self.pooled.size

    def link(self, client):
        if client not in self.links:
            self.links[client] = Link(*self.pooled.where, self.player)
        return self.links[client]

    def step(self, number):
        """If others hold the whole pool, the client must wait for its replies. What will hold a
        backend itself is not even sent then: a holder may not have its own yet (a lone BEGIN)."""
        step, learned = self.script.steps[number], self.learned[number]
        link = self.link(step.client)
        if step.client not in self.holders:
            # Whoever will hold a backend must have it, or two might wait for each other.
            for other in list(self.sent):
                if other in self.holders and other not in self.postponed:
                    self.complete(other)
        room = self.has_room(step.client)
        if step.action != "send":
            link.close(step.action == "reset")
            self.holders.discard(step.client)
            self.sent.pop(step.client, None)
            return PLAYED
        will_hold = learned.holds or self.pooled.keeps
        if not room and will_hold:
            return KEPT
        link.send(in_pieces(b"".join(m.bytes() for m in step.messages), step.pieces))
        self.sent[step.client] = number
        if not room:
            return WAITS
        if will_hold:
            self.holders.add(step.client)
        if step.wait or number == self.last[step.client]:
            self.complete(step.client)
        return PLAYED

    def count(self, messages):
        if not self.skips:
            return len(messages)
        return sum(m.letter not in self.skips for m in messages)

    def is_complete(self, client):
        wanted, _, ended = self.learned[self.sent[client]]
        link = self.links[client]
        return link.eof is not None or \
            not ended and (wanted is None or self.count(link.messages) >= self.count(wanted))

    def complete(self, client):
        """Waits for the replies to what it has sent; from then on it holds what it holds."""
        number = self.sent.pop(client)
        self.sent[client] = number
        if not self.player.wait(lambda: self.is_complete(client), PATIENCE_SECONDS):
            self.late.setdefault(client, number)
        del self.sent[client]
        link = self.links[client]
        if number == self.last[client] and link.eof is None:
            link.send([frame("X")])
            link.close()
        ended = link.eof is not None
        if not ended and (self.learned[number].holds or self.pooled.keeps):
            self.holders.add(client)
        else:
            self.holders.discard(client)
