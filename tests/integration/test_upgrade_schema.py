"""What one process writes for the next: that it comes back as it was, and that damage is refused."""

import os
import random
import socket
import struct

import pytest

import handoff
import wire
from handoff import (BACKENDS, CRITICAL, ERROR, HEADER, IS_PREPARED, OPEN, POOLS, PREPARED, SESSIONS,
                     STATEMENTS, Predecessor, Watching, read_document, records, write_document)
from state_compare import comparable, differences
from waiting import wait_until
from wire import query

HALVES = query("SELECT 'half'")
CASES = int(os.environ.get("DOORMAN_TEST_DOCUMENTS", "300"))


class Watched(Watching):
    """With sessions of several kinds."""

    def __init__(self, upgrading, tmp_path):
        # Else the waiter gets a connection of its own as soon as it has moved.
        super().__init__(upgrading, tmp_path, pool_size=2,
                         general={"query_wait_timeout": "60s",
                                  "upgrade_inherited_accounting": "strict"})
        doorman = self.pooler.doorman
        self.idle = doorman.client(application_name="idle", TimeZone="Asia/Tokyo")
        self.idle.send(wire.parse("named", "SELECT $1::int"), wire.parse("", "SELECT 'nameless'"),
                       wire.sync())
        self.idle.until_ready()
        self.busy, self.other = doorman.client(), doorman.client()
        for client in (self.busy, self.other):
            client.query("BEGIN")
            client.query("SELECT 1; DECLARE walk CURSOR FOR SELECT 1")
        self.busy.send(HALVES[:9])
        self.waiter = doorman.client()
        self.waiter.send(query("SELECT 'waited'"))
        wait_until(lambda: doorman.pool_row()["cl_waiting"] == 1, 10, "the client to wait")

    def check(self):
        self.busy.send(HALVES[9:])
        assert wire.rows(self.busy.until_ready()) == [["half"]]
        for client in (self.busy, self.other):
            client.query("COMMIT")
        assert wire.rows(self.waiter.until_ready()) == [["waited"]]
        self.idle.send(wire.bind("", "named", ["7"]), wire.execute(), wire.sync())
        assert wire.rows(self.idle.until_ready()) == [["7"]]
        for client in (self.busy, self.other, self.waiter, self.idle):
            client.terminate()


def test_b08_what_was_built_is_written_the_same(upgrading, tmp_path):
    now = Watched(upgrading, tmp_path)
    documents = [now.upgrade() for _ in range(3)]
    first, second, third = map(comparable, documents)
    assert len(first[SESSIONS]) >= 4 and len(first[BACKENDS]) == 2 and first[STATEMENTS]
    assert differences(second, third) == []
    # Nor between one that came to all that by itself, and one that was told.
    assert differences(first, second) == []
    now.stop()
    now.check()


@pytest.fixture
def successor(doorman, tmp_path):
    """Factory of processes that are about to take over from this one; with their pool."""
    made = []
    listener = socket.create_server(("127.0.0.1", 0))
    pooler = doorman()

    def start():
        made.append(Predecessor(pooler.config_path, listener, str(tmp_path / "successor.log")))
        return made[-1].greet()

    yield start
    for one in made:
        one.end()
    listener.close()


@pytest.fixture
def document(upgrading, tmp_path):
    """A real one."""
    now = Watched(upgrading, tmp_path)
    found = now.upgrade()
    now.stop()
    now.check()
    return found


def count_of(document):
    return records(read_document(document)[1], HEADER)[0].get(10, 0)


def refused(played, document, fds, words=b""):
    """It says so, takes nothing, and waits for another."""
    kind, body = played.offer(document, fds)
    assert kind == ERROR and body[handoff.TEXT] and played.word == OPEN and played.running()
    text = body[handoff.TEXT]
    assert words in (text.encode() if isinstance(text, str) else text), text


def test_b07_damaged_documents_are_refused(successor, document):
    """Cut short, and with bytes that were changed: by their checksums, if by nothing else."""
    draw = random.Random(7)
    played = successor()
    fds = count_of(document)
    for at in [0, 4, 7, 8, 12, 20] + [draw.randrange(len(document)) for _ in range(CASES // 3)]:
        refused(played, document[:at] if at else b"\0", fds)
    for _ in range(CASES // 3):
        damaged = bytearray(document)
        at = draw.randrange(len(damaged))
        damaged[at] ^= 1 << draw.randrange(8)
        kind, _ = played.offer(bytes(damaged), fds)
        assert played.running()
        # Not covered by a checksum: the minor version, and a section's flags.
        assert kind == ERROR or read_minor(damaged) != read_minor(document) or at >= 8
    for length in (0, 1, 7, 100, 5000):
        refused(played, bytes(draw.randrange(256) for _ in range(length)) or b"\0", fds)
    refused(played, document, fds - 1)
    # And after all that it takes a good one.
    kind, _ = played.offer(document, fds)
    assert kind == PREPARED and played.word == IS_PREPARED


def read_minor(document):
    return struct.unpack_from("!H", document, 6)[0]


def mutated(draw, sections):
    """With something else in the place of one value, and right checksums."""
    strange = [0, 1, 255, 65536, 2 ** 32, 2 ** 64 - 1, -1, "", "text", b"", b"\0" * 7, [], [[]],
               [1, 2, 3], [[2 ** 40, 1]], None, True, {}, {1: 1}]
    copy = [[kind, flags, [dict(record) for record in group]] for kind, flags, group in sections]
    group = draw.choice([section[2] for section in copy if section[2]])
    record = draw.choice(group)
    key = draw.choice(sorted(record))
    action = draw.randrange(4)
    if action == 0:
        del record[key]
    elif action == 1:
        group.append(dict(record))
    elif action == 2:
        group.remove(record)
    else:
        record[key] = draw.choice(strange)
    return write_document(copy)


def test_b07_strange_values_do_not_end_it(successor, document):
    """Whatever the records say: it answers, and nothing is taken before it is asked to."""
    draw = random.Random(77)
    played = successor()
    _, sections = read_document(document)
    answers = {ERROR: 0, PREPARED: 0}
    for _ in range(CASES):
        kind, _ = played.offer(mutated(draw, sections), count_of(document))
        answers[kind] += 1
        assert played.running() and played.word in (OPEN, IS_PREPARED)
        played.word = handoff.ABORTED
    assert answers[ERROR] > CASES / 10, answers


def changed(sections, kind, values):
    """With these in one record of that section; of sessions in that which is idle."""
    copy = [[found, flags, [dict(record) for record in group]] for found, flags, group in sections]
    some = [record for record in records(copy, kind) if kind != SESSIONS or record[8] == 2]
    some[0].update(values)
    return write_document(copy)


def test_b07_what_a_later_version_adds_is_skipped(successor, document):
    """Unknown keys, unknown sections, a higher minor version; but not what is marked as critical."""
    played = successor()
    fds = count_of(document)
    _, sections = read_document(document)
    more = [[kind, flags, [dict(record, **{}) | {99: "later", 100: [1, [2, b"3"]], 101: {1: None}}
                           for record in group]] for kind, flags, group in sections]
    more += [[77, 0, [{1: 2}]], [78, 0, b"\xc1 not even msgpack"]]
    assert played.offer(write_document(more, (handoff.MAJOR, 9)), fds)[0] == PREPARED
    played.word = handoff.ABORTED
    refused(played, write_document(sections + [[79, CRITICAL, []]]), fds, b"section 79")
    refused(played, write_document(sections, (handoff.MAJOR + 1, 0)), fds, b"version 2")
    for kind, known in ((HEADER, 3), (STATEMENTS, 1), (POOLS, 1), (BACKENDS, 1), (SESSIONS, 1)):
        assert played.offer(changed(sections, kind, {0: [known]}), fds)[0] == PREPARED
        played.word = handoff.ABORTED
        refused(played, changed(sections, kind, {0: [known, 250]}), fds, b"key 250 must be known")
    refused(played, changed(sections, SESSIONS, {8: 9}), fds, b"phase 9")
    refused(played, changed(sections, SESSIONS, {13: 2}), fds, b"pool mode 2")
    refused(played, changed(sections, BACKENDS, {11: 1}), fds, b"status 1")
    # What it can do without.
    optional = {BACKENDS: (28, 29, 66, 74, 78, 79, 80, 81, 82), SESSIONS: (38, 64, 65, 68, 70, 71),
                POOLS: (9, 15, 17, 64, 66, 67, 70), STATEMENTS: (9, 68, 69, 70)}
    less = [[kind, flags, [{key: value for key, value in record.items()
                            if key not in optional.get(kind, ())} for record in group]]
            for kind, flags, group in sections]
    assert played.offer(write_document(less), fds)[0] == PREPARED
