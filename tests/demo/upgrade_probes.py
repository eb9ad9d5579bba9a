"""Clients that ask all the time, in a process of their own so that nothing else delays them: the
sharpest eye that the demo has. One of them asks PostgreSQL itself: what it waits is the machine's
doing, not the pooler's."""

import multiprocessing
import os
import selectors
import signal
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "tests", "integration"))
import wire  # noqa: E402
from upgrade_pooler import HOST  # noqa: E402

PAUSE_SECONDS = 0.005
LAST_SECONDS = 20  # for answers that are due at the end
START_SECONDS = 30
OUR_NAME = "upgrade-demo"  # application_name of what asks PostgreSQL itself

FIELDS = 4  # of a probe in the shared numbers
ANSWERS, LONGEST, RECENT, PORT = range(FIELDS)


class Probe:
    def __init__(self, address, login, numbers, at):
        self.wire = wire.Wire(address).login(**login)
        self.socket = self.wire.sock
        self.socket.setblocking(False)
        self.numbers, self.at = numbers, at
        self.samples = []  # when, seconds
        self.value = 0
        self.asked = None
        self.due = time.time()
        self.buffer = b""
        self.failed = None
        numbers[at + PORT] = self.socket.getsockname()[1]

    def ask(self):
        self.asked = time.time()
        self.value += 1
        self.socket.send(wire.query("SELECT %d" % self.value))

    def hear(self):
        self.buffer += self.socket.recv(65536)
        if self.buffer[-6:-1] != b"Z\0\0\0\5":
            if not self.buffer or self.buffer[:1] == b"E":
                raise RuntimeError("told %r" % self.buffer if self.buffer else "hung up on")
            return
        if b"\0" + b"%c%d" % (len(str(self.value)), self.value) not in self.buffer:
            raise RuntimeError("answered %r to SELECT %d" % (self.buffer, self.value))
        self.buffer = b""
        now = time.time()
        took = now - self.asked
        self.samples.append((self.asked, took))
        self.asked, self.due = None, now + PAUSE_SECONDS
        self.numbers[self.at + ANSWERS] += 1
        self.numbers[self.at + LONGEST] = max(self.numbers[self.at + LONGEST], took)
        self.numbers[self.at + RECENT] = max(self.numbers[self.at + RECENT], took)


def attempt(probe, step, selector):
    try:
        step()
    except Exception as error:  # whatever it is, it is what we count
        probe.failed = str(error) or repr(error)
        probe.asked, probe.due = None, float("inf")
        selector.unregister(probe.socket)


def ask_and_hear(probes, pipe):
    """Until it is told to end, and all have their answers."""
    selector = selectors.DefaultSelector()
    selector.register(pipe, selectors.EVENT_READ)
    for probe in probes:
        selector.register(probe.socket, selectors.EVENT_READ, probe)
    give_up = float("inf")
    while True:
        now = time.time()
        if give_up < float("inf") and (now > give_up or not any(p.asked for p in probes)):
            break
        due = [p for p in probes if p.asked is None and p.due <= now and give_up == float("inf")]
        for probe in due:
            attempt(probe, probe.ask, selector)
        following = min((p.due for p in probes if p.asked is None), default=now + 1)
        for key, _ in selector.select(max(0.0, min(following - now, 1.0))):
            if key.data is not None:
                attempt(key.data, key.data.hear, selector)
            else:
                pipe.recv()  # EOFError, if who started us has gone: we end, too
                give_up = time.time() + LAST_SECONDS
    for probe in probes:
        if probe.asked is not None:
            probe.failed = "no answer for %d s" % LAST_SECONDS


def work(arguments, numbers, pipe):
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        probes = [Probe(*given, numbers, FIELDS * number)
                  for number, given in enumerate(arguments)]
        pipe.send("ready")
        ask_and_hear(probes, pipe)
        pipe.send([(probe.samples, probe.failed) for probe in probes])
    except EOFError:
        pass
    except Exception as error:
        pipe.send(repr(error))


class Handle:
    """What the rest of the demo sees of a probe; like a Session of upgrade_sessions.py."""

    def __init__(self, kind, number, numbers, at):
        self.kind, self.number = kind, number
        self.numbers, self.at = numbers, at
        self.failed = None
        self.samples = []

    done = property(lambda self: int(self.numbers[self.at + ANSWERS]))
    stall = property(lambda self: self.numbers[self.at + LONGEST])
    recent = property(lambda self: self.numbers[self.at + RECENT])
    local_port = property(lambda self: int(self.numbers[self.at + PORT]))

    def forget_stall(self):
        self.numbers[self.at + LONGEST] = 0

    def forget_recent(self):
        self.numbers[self.at + RECENT] = 0


class Probes:
    def __init__(self, count, pooler, server):
        """`count` of them at the pooler, and the control."""
        self.numbers = multiprocessing.Array("d", FIELDS * (count + 1), lock=False)
        arguments = [((HOST, pooler.port), {"user": "joe", "database": "app"})] * count
        arguments.append(((HOST, server.port), {
            "user": "postgres", "database": "postgres", "password": server.password,
            "application_name": OUR_NAME}))
        self.pipe, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=work, daemon=True,
                                               args=(arguments, self.numbers, theirs))
        self.process.start()
        theirs.close()
        said = self.pipe.recv() if self.pipe.poll(START_SECONDS) else "nothing"
        if said != "ready":
            raise RuntimeError("the probes do not come up: %s" % said)
        self.all = [Handle("probe", number, self.numbers, FIELDS * number)
                    for number in range(count)]
        self.control = Handle("control", 0, self.numbers, FIELDS * count)

    def finish(self):
        """They end, and tell what they have seen."""
        self.pipe.send("end")
        told = self.pipe.recv() if self.pipe.poll(LAST_SECONDS + 10) else []
        for number, probe in enumerate(self.all + [self.control]):
            probe.samples, probe.failed = told[number] if told else ([], "the probes are silent")
        self.process.join()

    def kill(self):
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
