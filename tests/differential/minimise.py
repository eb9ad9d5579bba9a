"""Drops from a script what its difference does not need."""

import time

from rules import permitted
from script import Script

PLAYS = 400  # at most
SECONDS = 25


def alike(one, other):
    return one is not None and one.kind() == other.kind()


def smaller(script):
    """Scripts with a part less, larger parts first."""
    for client in script.clients():
        yield [step for step in script.steps if step.client != client]
    size = len(script.steps) // 2
    while size >= 1:
        for at in range(0, len(script.steps), size):
            yield script.steps[:at] + script.steps[at + size:]
        size //= 2
    for at, step in enumerate(script.steps):
        for n in range(len(step.messages)):
            if len(step.messages) > 1:
                rest = step._replace(messages=step.messages[:n] + step.messages[n + 1:])
                yield script.steps[:at] + [rest] + script.steps[at + 1:]
        if step.pieces:
            yield script.steps[:at] + [step._replace(pieces=())] + script.steps[at + 1:]


def minimise(arena, script, kind, difference):
    """(script, (difference, direct, pooled)), or (None, None) when it does not happen again.

    A pooler keeps what earlier scripts did to it, so each try is made twice."""
    def differs(steps):
        one = Script(script.name, steps, [kind])
        one.differs, one.unsettled = script.differs, script.unsettled
        if not permitted(one, kind, arena.direct):
            return None
        for _ in range(2):
            found = arena.play(one, kind)
            if alike(found[0], difference):
                return one, found
        return None

    best = differs(script.steps)
    plays = 1
    progress = best is not None
    end = time.monotonic() + SECONDS
    while progress and plays < PLAYS:
        progress = False
        for steps in smaller(best[0]):
            if not steps or plays >= PLAYS or time.monotonic() > end:
                continue
            plays += 1
            found = differs(steps)
            if found is not None:
                best = found
                progress = True
                break
    return best or (None, None)
