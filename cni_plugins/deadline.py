"""How long a call may still take, and whether it was told to stop.

A share of the time is kept back for rollback: until :meth:`Deadline.release` it is not offered, so
an ADD that ran out of time can still undo what it did.

A signal ends a call between two steps, never inside one, so that every step's inverse is known
when the rollback begins; only where the call merely waits does it end at once.
"""

from __future__ import annotations

import time

from cni_plugins.errors import Interrupted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

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
        self._stop = ""
        self._is_waiting = False
        self._is_rolling_back = False

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """A deadline ``seconds`` from now, with the usual share reserved for rollback."""
        return cls(time.monotonic() + seconds, reserve_s=seconds * ROLLBACK_SHARE)

    def release(self) -> None:
        """A rollback begins: offer the reserved share too, and hear no more signals."""
        self._reserve_s = 0.0
        self._is_rolling_back = True
        self._stop = ""

    def remaining(self) -> float:
        """Seconds left, never below 0.

        Raises:
            Interrupted: the call was told to stop.
        """
        self.check()
        return max(0.0, self._until - self._reserve_s - time.monotonic())

    def check(self) -> None:
        """Raise Interrupted if the call was told to stop."""
        if self._stop:
            raise Interrupted(self._stop)

    def interrupt(self, reason: str) -> None:
        """Tell the call to stop: at once where it waits, else at its next step."""
        if self._is_rolling_back:
            return
        self._stop = reason
        if self._is_waiting:
            self._is_waiting = False
            raise Interrupted(reason)

    def waiting(self) -> Self:
        """A stretch of pure waiting, a ``with`` block, which an interruption may end at once."""
        return self

    def __enter__(self) -> None:
        self._is_waiting = True
        if self._stop:
            self.interrupt(self._stop)

    def __exit__(self, *exc_info: object) -> None:
        self._is_waiting = False
