"""Waiting for a condition with a deadline, in place of sleeping for a guessed time."""

import os
import time

# A sanitizer build or a busy machine may need more; every deadline of the suite scales with this.
PATIENCE = float(os.environ.get("DOORMAN_TEST_PATIENCE", "1"))


def wait_until(condition, seconds=10, what="the condition", pause=0.02):
    """Polls until condition() is true and returns its value. Fails with what was awaited."""
    seconds *= PATIENCE
    give_up = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > give_up:
            raise AssertionError("waited %g s in vain for %s; last value: %r"
                                 % (seconds, what, value))
        time.sleep(pause)


def stays(condition, seconds, what="the condition", pause=0.05):
    """Watches for a while that something does not change: condition() must hold all the time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert condition(), "%s did not last %g s" % (what, seconds)
        time.sleep(pause)
