"""The handoff as it goes over the wire (actors/handoff.h, docs/state-schema.md), for tests that read
what one process gives to the next, or that play one of the two."""

import mmap
import os
import signal
import socket
import struct
import subprocess

from pooler import BINARY
from state_document import (  # noqa: F401: users of this module have them from here
    BACKENDS, CRITICAL, HEADER, MAJOR, POOLS, SESSIONS, STATEMENTS, Unpacker, pack, read_document,
    records, write_document)
from waiting import PATIENCE, wait_until

HELLO, HELLO_ACK, LISTENERS, READY = 1, 3, 5, 9
BEGIN, FDS, FDS_OK, END, PREPARED, COMMIT, COMMITTED = 11, 15, 17, 19, 21, 23, 25
CANCEL, ERROR, BYE = 32, 33, 36
OPEN, IS_PREPARED, IS_COMMITTED, ABORTED, RECLAIMED, ADOPTED = range(6)
TEXT = 15  # the key of a packet's text

def document_of(pid):
    """What a process that stands still in the middle of a round has written."""
    for name in os.listdir("/proc/%d/fd" % pid):
        path = "/proc/%d/fd/%s" % (pid, name)
        if os.readlink(path).startswith("/memfd:pg_doorman-state"):
            with open(path, "rb") as file:
                return file.read()
    return None


class Watching:
    """A pooler whose documents are read on their way."""

    def __init__(self, upgrading, tmp_path, **settings):
        self.fault = tmp_path / "fault"
        self.fault.write_text("fds:stand\n")
        self.pooler = upgrading(environment={"PG_DOORMAN_UPGRADE_FAULT": "@%s" % self.fault},
                                **settings)

    def stop(self):
        """Upgrades go on undisturbed."""
        self.fault.write_text("none\n")

    def upgrade(self):
        """One, whose document is returned. On a busy machine the old process may stand for too long
        and give up; then it is tried again."""
        for _ in range(5):
            document = self.try_upgrade()
            if document is not None:
                self.pooler.follow()
                return document
        raise AssertionError("no upgrade waited for its document to be read:\n"
                             + self.pooler.doorman.log()[-3000:])

    def try_upgrade(self):
        first = self.pooler.pid
        failed = self.pooler.doorman.log().count("nothing has changed")
        self.pooler.request()
        wait_until(lambda: self.pooler.standing() == first, 20, "the old process to stand still")
        document = document_of(first)
        os.kill(first, signal.SIGCONT)
        wait_until(lambda: self.pooler.gone(first) or
                   self.pooler.doorman.log().count("nothing has changed") > failed, 30,
                   "the upgrade to end")
        return document if self.pooler.gone(first) else None


# ---- the old process, played

def memory_file(name, content):
    fd = os.memfd_create(name)
    os.write(fd, content)
    return fd


class Predecessor:
    """Starts the program as the successor of this process, which has a listening socket and a
    configuration, and nothing else."""

    def __init__(self, config_path, listener, log_path, binary=BINARY):
        self.link, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.link.settimeout(15 * PATIENCE)
        self.listener = listener
        self.sequence = 0
        self.log_path = log_path
        self.page = self.page_fd = None
        environment = dict(os.environ, PG_DOORMAN_HANDOFF_FD=str(theirs.fileno()))
        environment.pop("PG_DOORMAN_UPGRADE_FAULT", None)
        with open(log_path, "ab") as log:
            self.process = subprocess.Popen(
                [binary, config_path, "-l", "info", "--inherit-fd", str(listener.fileno())],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                pass_fds=[theirs.fileno(), listener.fileno()])
        theirs.close()

    def send(self, kind, *numbers, text=b"", fds=()):
        self.sequence += 1
        body = {at + 1: number for at, number in enumerate(numbers)}
        if text:
            body[TEXT] = text
        socket.send_fds(self.link, [pack([kind, self.sequence, body])], list(fds))

    def receive(self):
        """(kind, body) of the next packet; its descriptors are closed. None: it has gone."""
        data, fds, _, _ = socket.recv_fds(self.link, 65536, 253)
        for fd in fds:
            os.close(fd)
        if not data:
            return None
        kind, _, body = Unpacker(data).value()
        return kind, body

    def expect(self, kind):
        got = self.receive()
        assert got is not None and got[0] == kind, "%r in the place of %d\n%s" % (
            got, kind, self.log()[-3000:])
        return got[1]

    def greet(self):
        """Up to the successor's word that it waits."""
        hello = self.expect(HELLO)
        assert hello[3] == self.process.pid
        self.send(HELLO_ACK, 1, MAJOR, 1, os.getpid())
        self.send(LISTENERS, 1, 0, fds=[self.listener.fileno()])
        self.expect(READY)
        return self

    def offer(self, document, descriptors):
        """A round with this document and these descriptors; or so many that lead nowhere. Returns
        the answer: PREPARED or ERROR, and its body."""
        self.forget()
        self.page_fd = memory_file("page", struct.pack("=III", 0x50474443, 1, OPEN))
        self.page = mmap.mmap(self.page_fd, 12)
        state = memory_file("state", document)
        # An empty file cannot be mapped, and is refused for that.
        self.send(BEGIN, 1, len(document), fds=[self.page_fd, state])
        os.close(state)
        made = []
        if isinstance(descriptors, int):
            descriptors = made = [os.memfd_create("descriptor") for _ in range(descriptors)]
        for first in range(0, len(descriptors), 250):
            group = descriptors[first:first + 250]
            self.send(FDS, first, len(group), fds=group)
        self.send(END, len(descriptors))
        for fd in made:
            os.close(fd)
        while True:
            got = self.receive()
            assert got is not None, "it has gone:\n" + self.log()[-3000:]
            if got[0] in (PREPARED, ERROR):
                return got

    def commit(self):
        """What is prepared becomes the successor's. Returns its answer."""
        self.word = IS_COMMITTED
        self.send(COMMIT)
        body = self.expect(COMMITTED)
        assert self.word == ADOPTED
        return body

    @property
    def word(self):
        return struct.unpack_from("=I", self.page, 8)[0]

    @word.setter
    def word(self, value):
        struct.pack_into("=I", self.page, 8, value)

    def forget(self):
        if self.page is not None:
            self.page.close()
            os.close(self.page_fd)
        self.page = None

    def running(self):
        return self.process.poll() is None

    def log(self):
        with open(self.log_path, errors="replace") as file:
            return file.read()

    def end(self):
        self.forget()
        self.link.close()
        if self.running():
            self.process.kill()
        wait_until(lambda: self.process.poll() is not None, 10, "it to end")
