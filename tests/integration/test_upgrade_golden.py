"""What each version of the state's schema looked like, as documents that programs of that version
wrote (tests/golden): the program takes their sessions over."""

import glob
import os
import re
import socket

import pytest

import golden
from golden import Stage
from handoff import (BACKENDS, PREPARED, SESSIONS, Predecessor, read_document, records,
                     write_document)
from pooler import ROOT

FILES = sorted(glob.glob(os.path.join(ROOT, "tests", "golden", "state-*.bin")),
               key=lambda path: [int(n) for n in re.findall(r"\d+", os.path.basename(path))])


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
