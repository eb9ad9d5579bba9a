"""Much at once from those who mean harm: requests to cancel, connections that say nothing, clients
that do not read, packets of all that fits. The others must be served, and afterwards nothing may be
left of it."""

import socket
import struct
import threading

import pytest

import wire
from pooler import ADMIN, SANITIZED
from waiting import wait_until
from wire import bind, close, execute, message, parse, query, sync

CROWD = 300


@pytest.fixture
def pooler(doorman):
    started = doorman(pool_size=2, general={"client_login_timeout": "20s"})
    witness = started.client()
    assert witness.value("SELECT 'before'") == "before"
    before = started.descriptors()
    yield started
    assert started.running(), started.log()[-3000:]
    assert witness.value("SELECT 'after'") == "after"
    witness.terminate()
    started.wait_no_clients(20)
    wait_until(lambda: started.descriptors() <= before, 10, "descriptors to be closed")


def crowd(pooler, data, count=CROWD):
    """That many connections that have sent this, at once."""
    clients = []
    for _ in range(count):
        client = pooler.wire()
        clients.append(client)
        client.send(data)
    return clients


def ends(client):
    try:
        return client.wait_closed()
    except OSError:
        return []


def test_requests_to_cancel_by_guess(pooler):
    with pooler.client() as victim:
        victim.send(query("SELECT pg_sleep(1), 'done'"))
        guesses = crowd(pooler, wire.cancel_request(victim.pid, (victim.key + 1) & 0xffffffff))
        guesses += crowd(pooler, wire.cancel_request(victim.pid + 1, victim.key), 50)
        for guess in guesses:
            assert ends(guess) == []
        assert wire.rows(victim.until_ready())[0][1] == "done"


def test_requests_to_cancel_that_are_right(pooler, postgres):
    """All but one of them too many, and late for what follows."""
    with pooler.client() as victim:
        for _ in range(3):
            victim.send(query("SELECT pg_sleep(60)"))
            wait_until(lambda: postgres.backends("wait_event = 'PgSleep'"), 10, "the sleep")
            requests = crowd(pooler, wire.cancel_request(victim.pid, victim.key))
            assert wire.sqlstates(victim.until_ready()) == ["57014"]
            for request in requests:
                assert ends(request) == []
            # They may still be under way, and are not for this.
            with pooler.client() as other:
                assert other.value("SELECT 'other'") == "other"


@pytest.mark.parametrize("sent", [b"", b"\0\0\0", wire.startup("trust_user", "app")[:20],
                                  wire.startup("md5_user", "app")],
                         ids=["nothing", "a part of the length", "a part", "no such user"])
def test_connections_that_go_no_further(pooler, sent):
    clients = crowd(pooler, sent)
    with pooler.client() as other:
        assert other.value("SELECT 'other'") == "other"
    for client in clients:
        client.reset()


@pytest.mark.slow
def test_hundred_clients_that_do_not_read(doorman):
    """Each is owed 50 MB: what waits for it in the pooler is bounded."""
    pooler = doorman(pool_size=40)
    before = pooler.own_bytes()
    slow = []
    for _ in range(100):
        client = pooler.wire(receive_buffer=4096).login()
        client.send(query("SELECT repeat('x', 10000) FROM generate_series(1, 5000)"))
        slow.append(client)
    wait_until(lambda: [row["wait"] for row in pooler.admin("SHOW CLIENTS")].count("write") >= 40,
               20, "forty of them to be owed something")
    if not SANITIZED:
        assert pooler.own_bytes() < before + (40 << 20)
    for client in slow:
        client.reset()
    with pooler.client() as other:
        assert other.value("SELECT 'other'") == "other"
    pooler.wait_idle(20)


PACKETS = {
    "hundreds of parameters": {"p%d" % n: "x" for n in range(500)},
    "options of hundreds": {"options": "-c a.b=c " * 800},
    "options of blanks": {"options": " " * 8000},
    "options of backslashes": {"options": "\\" * 8000},
    "options of dashes": {"options": "-" * 8000},
    "options without values": {"options": "-c " * 2500},
    "long name": {"x" * 8000: "y"},
    "long value": {"application_name": "\xff" * 3900},
    "extensions": {"_pq_.x%d" % n: "y" for n in range(400)},
}


@pytest.mark.parametrize("name", PACKETS)
def test_startup_packets_of_all_that_fits(pooler, name):
    for _ in range(20):
        with pooler.wire() as client:
            client.send(wire.startup("trust_user", "app", **PACKETS[name]))
            client.half_close()
            first = wire.types(ends(client))
            assert first[-1:] in ("E", "Z") and "\0" not in first


@pytest.mark.slow
def test_statements_and_portals_under_ever_new_names(pooler):
    """Each with a name of its own, none ever used: memory follows what is held, not what was said."""
    with pooler.client() as client:
        for base in range(0, 50000, 5000):
            client.send(b"".join(parse("s%d" % n, "SELECT 1") + bind("p%d" % n, "s%d" % n)
                                 + close("S", "s%d" % n) for n in range(base, base + 5000)), sync())
            client.until_ready()
        middle = pooler.own_bytes()
        for base in range(0, 50000, 5000):
            client.send(b"".join(parse("t%d" % n, "SELECT 1") + bind("q%d" % n, "t%d" % n)
                                 + close("S", "t%d" % n) for n in range(base, base + 5000)), sync())
            client.until_ready()
        if not SANITIZED:
            assert pooler.own_bytes() < middle + (4 << 20)


@pytest.mark.parametrize("asked, told", [(parse("a", "SELECT 1") + close("S", "a"), "13"),
                                         (parse("", "SELECT 1"), "1"), (close("S", "never"), "3")],
                         ids=["parse and close", "parse", "close"])
def test_batch_that_the_pooler_answers(pooler, asked, told):
    """All but its first request; so the server says nothing of that unless it is asked to, while
    the batch is larger than what is read ahead of replies, and what was read ends anywhere."""
    client = pooler.client()
    count = 30000
    sender = threading.Thread(target=client.send,
                              args=(parse("b", "SELECT 2"), asked * count, sync()))
    sender.start()
    answers = wire.types(client.until_ready())
    sender.join()
    assert answers == "1" + told * count + "Z"
    client.terminate()


CONSOLE = {
    "many commands": query("SHOW VERSION;" * 4000),
    "many nothings": query(";" * 60000),
    "many quotes": query("'" * 60001),
    "many words": query("SHOW " * 12000),
    "comments": query("/*" * 30000),
    "types": message("P", b"a\0SHOW VERSION\0" + struct.pack("!H", 65535)),
    "values": parse("a", "SHOW VERSION") + message("B", b"\0a\0" + struct.pack("!HH", 0, 65535)),
    "formats": parse("a", "SHOW VERSION")
    + message("B", b"\0a\0" + struct.pack("!HHH", 0, 0, 65535) + b"\0\1" * 65535),
    "parameters": parse("a", "PAUSE " + ",".join("$%d" % n for n in range(5000))),
    "names": b"".join(parse("n%d" % n, "SHOW VERSION") for n in range(3000)) + sync(),
    "portals": parse("a", "SHOW VERSION")
    + b"".join(bind("p%d" % n, "a") + execute("p%d" % n) for n in range(1500)) + sync(),
}


@pytest.mark.parametrize("name", CONSOLE)
def test_console(pooler, name):
    client = pooler.client("pgdoorman", ADMIN["user"], ADMIN["password"])
    client.push(CONSOLE[name])
    client.half_close()
    ends(client)
    client.close()
    assert len(pooler.admin("SHOW VERSION")) == 1


def test_urgent_bytes_and_half_closed_sockets(pooler):
    """Bytes out of band mean nothing in the protocol, and are no reason to fall behind."""
    for _ in range(20):
        client = pooler.client()
        client.sock.send(b"!", socket.MSG_OOB)
        client.send(query("SELECT 'x'"))
        client.half_close()
        ends(client)
        client.close()
