"""What each version of the state's schema looked like, as documents that programs of that version
wrote (tests/golden): the program takes their sessions over."""

import os
import socket

import pytest

import golden
from golden import Stage
from handoff import (BACKENDS, POOLS, PREPARED, SESSIONS, Predecessor, Watching, read_document, records,
                     write_document)
from state_compare import comparable, differences, shapes

FILES = golden.files()
# Lists that have as many values as there is to tell: histograms, settings of clients.
OF_ANY_LENGTH = {(POOLS, 70), (SESSIONS, 12), (BACKENDS, 76)}


def document_in(path):
    with open(path, "rb") as file:
        return read_document(file.read())


@pytest.fixture
def successor(doorman, postgres, tmp_path):
    """A process that is about to take over from this one."""
    pooler = doorman(pools=golden.pools(postgres), general=golden.GENERAL)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        played = Predecessor(pooler.config_path, listener, str(tmp_path / "successor.log"))
        yield played.greet()
        played.end()
    assert "invariant failed" not in played.log()


@pytest.mark.parametrize("path", FILES, ids=os.path.basename)
def test_b07_sessions_of_each_version_are_taken_over(successor, postgres, path):
    _, sections = document_in(path)
    stage = Stage(sections, postgres)
    try:
        kind, body = successor.offer(write_document(sections), stage.descriptors)
        assert kind == PREPARED, body
        taken = successor.commit()
        stage.release()
        assert (taken[1], taken.get(2, 0)) == (len(records(sections, SESSIONS)), 0)
        for kind in golden.KINDS:
            if kind.name in stage.clients:
                kind.check(*stage.clients[kind.name])
        assert len(stage.clients) >= 16 and len(records(sections, BACKENDS)) >= 10
    finally:
        stage.close()


def test_b08_sessions_of_each_kind_are_written_the_same(upgrading, postgres, tmp_path):
    """After two processes have built them; and the newest document in tests/golden looks like what is
    written now."""
    now = Watching(upgrading, tmp_path, pools=golden.pools(postgres),
                   general={**golden.GENERAL, "upgrade_inherited_accounting": "strict"})
    clients = golden.take_places(now.pooler.doorman, postgres)
    documents = [now.upgrade() for _ in range(3)]
    now.stop()
    first, second, third = map(comparable, documents)
    assert len(first[SESSIONS]) == len(golden.KINDS)
    assert differences(first, second) == [] and differences(second, third) == []
    with open(FILES[-1], "rb") as file:
        recorded = shapes([file.read()])
    for key, found in shapes(documents).items():
        if key not in OF_ANY_LENGTH and key in recorded:
            assert all(one in recorded[key] or one == "['list']" for one in found), \
                "section %d, key %d: %s, not %s; tests/tools/check_schema.py says what to do when " \
                "the schema changes" % (*key, found, recorded[key])
    for client in clients:
        client.close()
