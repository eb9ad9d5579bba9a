#!/usr/bin/python3
"""Records the document of the state that a program writes: sessions of many kinds (golden.py), stopped
in the middle of an upgrade.

    tests/integration/record_golden.py               build/pg_doorman; its own version of the schema
    DOORMAN_BIN=... record_golden.py --minor N       another one, from before the versions were told

The file goes to tests/golden/state-MAJOR.MINOR.bin. docs/state-schema.md tells when one is due.
"""

import argparse
import os
import signal
import sys
import tempfile

import golden
from handoff import BACKENDS, POOLS, SESSIONS, document_of, read_document, records
from pooler import BINARY, ROOT, Doorman, configuration
from postgres import Postgres, free_port
from upgrading import generations, stands
from waiting import wait_until


def document(doorman):
    os.kill(doorman.pid, signal.SIGUSR2)
    wait_until(lambda: stands(doorman.pid) or not doorman.running(), 20,
               "the process to stand still:\n" + doorman.log())
    return document_of(doorman.pid)


def look_at(found, minor):
    """What the tests count on."""
    _, sections = read_document(found)
    names = {golden.name_of(record) for record in records(sections, SESSIONS)}
    wanted = {kind.name for kind in golden.KINDS if kind.since <= minor}
    assert names == wanted, "%r did not move" % sorted(wanted - names)
    by_name = {golden.name_of(record): record for record in records(sections, SESSIONS)}
    assert by_name["busy"].get(19) == golden.HALVES[:9], "half of a message had not been read"
    assert any(record.get(12) for record in records(sections, POOLS)), "nobody waits"
    assert any(not record.get(26) for record in records(sections, BACKENDS)), "none is idle"
    assert len(found) < 50000, "%d bytes are too many for the tree" % len(found)


def record(minor):
    postgres = Postgres()
    with tempfile.TemporaryDirectory() as folder:
        try:
            postgres.create()
            config = configuration(free_port(), golden.pools(postgres, minor is None or minor >= 10),
                                   **golden.GENERAL)
            doorman = Doorman(folder, config["general"]["port"], config,
                              {"PG_DOORMAN_UPGRADE_FAULT": "fds:stand"}).start()
            try:
                clients = golden.take_places(doorman, postgres, 999 if minor is None else minor)
                found = document(doorman)
                for client in clients:
                    client.close()
            finally:
                for pid in generations(doorman.config_path):
                    os.kill(pid, signal.SIGKILL)
                doorman.process.wait()
        finally:
            postgres.remove()
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minor", type=int)
    options = parser.parse_args()
    found = record(options.minor)
    major, minor = read_document(found)[0]
    minor = minor if options.minor is None else options.minor
    look_at(found, minor)
    path = os.path.join(ROOT, "tests", "golden", "state-%d.%d.bin" % (major, minor))
    with open(path, "wb") as file:
        file.write(found)
    print("%s: %d bytes, written by %s" % (os.path.relpath(path, ROOT), len(found), BINARY))
    return 0


if __name__ == "__main__":
    sys.exit(main())
