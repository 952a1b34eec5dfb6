"""How long a call may still take.

A share of the time is kept back for rollback: until :meth:`Deadline.release` it is not offered, so
an ADD that ran out of time can still undo what it did.
"""

from __future__ import annotations

import time

DEFAULT_S = 60.0
ROLLBACK_SHARE = 1 / 6


class Deadline:
    """Bounds every lock, wait, exec and delegate of one call.

    Args:
        until: end of the call on the clock of :func:`time.monotonic`, seconds.
        reserve_s: seconds before ``until`` that only rollback may use.
    """

    def __init__(self, until: float, *, reserve_s: float = 0.0) -> None:
        self._until = until
        self._reserve_s = reserve_s

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """A deadline ``seconds`` from now, with the usual share reserved for rollback."""
        return cls(time.monotonic() + seconds, reserve_s=seconds * ROLLBACK_SHARE)

    def release(self) -> None:
        """Offer the reserved share too: called when a rollback begins."""
        self._reserve_s = 0.0

    def remaining(self) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self._until - self._reserve_s - time.monotonic())
