#!/usr/bin/python3
"""Plays PgDoorman 3.10 as the new process of an upgrade, from its own description of the handoff.

Run as the program on disk: checks any configuration, takes the listener, says that it is ready, and
receives clients. What it is told of each goes, a line of JSON each, into legacy.json beside the
configuration. It answers queries by itself: a Query with its own text, a Bind of a statement that
came along with that statement's text.
"""

import array
import json
import os
import re
import selectors
import signal
import socket
import struct
import sys

MAGIC, VERSION = 0x50474d47, 2
LOCAL_IN_USE = 71


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def number(self, form):
        value, = struct.unpack_from("!" + form, self.data, self.at)
        self.at += struct.calcsize("!" + form)
        return value

    def raw(self, length):
        assert self.at + length <= len(self.data)
        self.at += length
        return self.data[self.at - length:self.at]

    def text(self, form="H"):
        return self.raw(self.number(form)).decode()


def entry(r):
    named = r.number("B") == 0
    found = {"name": r.text()} if named else {"anonymous": r.number("Q")}
    found["hash"] = r.number("Q")
    found["query"] = r.text("I")
    found["types"] = [r.number("I") for _ in range(r.number("h"))]
    return found


def client_of(state):
    r = Reader(state)
    assert (r.number("I"), r.number("H")) == (MAGIC, VERSION)
    found = {"id": r.number("Q"), "secret": r.number("I"), "transaction": r.number("B"),
             "database": r.text(), "user": r.text(), "port": r.number("H"), "address": r.text("B")}
    found["parameters"] = {r.text(): r.text() for _ in range(r.number("H"))}
    found["prepared"], found["async"] = r.number("B"), r.number("B")
    found["entries"] = [entry(r) for _ in range(r.number("I"))]
    found["tls"], found["auth"] = r.number("B"), r.number("B")
    if found["auth"] in (1, 2):
        found["auth_value"] = r.raw(r.number("H")).hex()
    assert r.at == len(state), "bytes behind the state"
    return found


def receive(link):
    """One frame and its descriptor; None at the end. The kernel ends a read before the next one's
    descriptor."""
    data, ancillary, _, _ = link.recvmsg(65536, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
    if not data:
        return None
    fds = array.array("i")
    for _, _, raw in ancillary:
        fds.frombytes(raw)
    assert len(fds) == 1, "a frame without its one descriptor"

    def need(length):
        nonlocal data
        while len(data) < length:
            more = link.recv(length - len(data))
            assert more, "a frame that ends early"
            data += more

    need(4)
    length, = struct.unpack_from("!I", data)
    need(8 + length)
    blob, = struct.unpack_from("!I", data, 4 + length)
    need(8 + length + blob)
    assert len(data) == 8 + length + blob, "two frames in one read"
    return client_of(data[4:4 + length]), blob, fds[0]


# ---- serving


def message(kind, body=b""):
    return kind + struct.pack("!I", len(body) + 4) + body


def row(text):
    raw = text.encode()
    return message(b"D", struct.pack("!hi", 1, len(raw)) + raw)


class Served:
    def __init__(self, sock, texts):
        self.sock, self.texts, self.data = sock, texts, b""

    def readable(self):
        """False: it has gone."""
        try:
            more = self.sock.recv(65536)
        except ConnectionResetError:
            more = b""
        self.data += more
        while len(self.data) >= 5 and len(self.data) >= 1 + struct.unpack_from("!I", self.data, 1)[0]:
            end = 1 + struct.unpack_from("!I", self.data, 1)[0]
            if not self.one(self.data[:1], self.data[5:end]):
                return False
            self.data = self.data[end:]
        return bool(more)

    def one(self, kind, body):
        ready = message(b"Z", b"I")
        names = (struct.pack("!h", 1) + b"answer\0" + struct.pack("!ihihih", 0, 0, 25, -1, -1, 0))
        done = message(b"C", b"SELECT 1\0")
        if kind == b"Q":
            out = message(b"T", names) + row("3.10: " + body[:-1].decode()) + done + ready
        elif kind == b"B":
            statement = body.split(b"\0")[1].decode()
            out = message(b"2") + row("3.10: " + self.texts[statement]) + done
        elif kind == b"S":
            out = ready
        else:
            return kind != b"X"
        self.sock.sendall(out)
        return True


# ---- the process


def option(name):
    return sys.argv[sys.argv.index(name) + 1]


def local_listener():
    """Like 3.10, which never takes a Unix socket over and shares none."""
    with open(sys.argv[1]) as file:
        text = file.read()
    directory = re.search(r'^ *unix_socket_dir: "(.*)"', text, re.MULTILINE)
    if directory is None:
        return None
    port = re.search(r"^ *port: (\d+)", text, re.MULTILINE)
    path = "%s/.s.PGSQL.%s" % (directory.group(1), port.group(1))
    probe = socket.socket(socket.AF_UNIX)
    if os.environ.get("LEGACY_REFUSES"):
        sys.exit(LOCAL_IN_USE)
    if os.path.exists(path):
        if probe.connect_ex(path) == 0:
            sys.stderr.write("another process is already listening on %s\n" % path)
            sys.exit(LOCAL_IN_USE)
        os.unlink(path)
    probe.close()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()
    return listener


def main():
    if sys.argv[1] == "-t":
        assert os.environ["PG_DOORMAN_CLOSE_INHERITED_FDS"] == "1"
        print("the configuration file %s syntax is ok\nthe configuration file test is successful"
              % sys.argv[2])
        return
    inherited = int(option("--inherit-fd"))
    ready = int(os.environ["PG_DOORMAN_READY_FD"])
    link_fd = int(os.environ["PG_DOORMAN_MIGRATION_FD"])
    if os.environ.get("LEGACY_CLOSES") != "0":
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2 and int(name) not in (inherited, ready, link_fd):
                try:
                    os.close(int(name))
                except OSError:
                    pass  # the directory's own
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    listener = socket.socket(fileno=inherited)
    listener.setblocking(False)
    local = local_listener()
    link = socket.socket(fileno=link_fd)
    wait = selectors.DefaultSelector()
    for one, data in ((listener, "listener"), (link, "link"), (local, "listener")):
        if one is not None and (data != "link" or os.environ.get("LEGACY_READS") != "0"):
            wait.register(one, selectors.EVENT_READ, data)
    os.write(ready, b"\1")
    os.close(ready)
    path = os.path.join(os.path.dirname(os.path.abspath(sys.argv[1])), "legacy.json")
    log = open(path, "a")  # pylint: disable=consider-using-with
    while True:
        for key, _ in wait.select():
            if key.data == "listener":
                sock = key.fileobj.accept()[0]
                sock.sendall(message(b"E", b"SFATAL\0C57P03\0Mthis is 3.10\0\0"))
                sock.close()
            elif key.data == "link":
                frame = receive(link)
                if frame is None:
                    wait.unregister(link)
                    log.write('"end"\n')
                    log.flush()
                    continue
                client, blob, fd = frame
                assert blob == 0
                log.write(json.dumps(client) + "\n")
                log.flush()
                sock = socket.socket(fileno=fd)
                sock.setblocking(True)
                texts = {e.get("name", ""): e["query"] for e in client["entries"]}
                wait.register(sock, selectors.EVENT_READ, Served(sock, texts))
            elif not key.data.readable():
                wait.unregister(key.fileobj)
                key.fileobj.close()


main()
