"""Bounded waiting."""

import time

# Long enough for a loaded machine: it bounds a failure, no success waits for it.
PATIENCE = 20.0


def until(condition, what, timeout=PATIENCE):
    """Waits until `condition()` is true and gives its value; fails with `what` otherwise."""
    deadline = time.monotonic() + timeout
    pause = 0.002
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:.0f} s in vain until {what}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
