"""Work that goes on after the answer of a call: what the kernel still does, seen by nobody.

A link is gone from its namespace at once, but the request that deletes it returns 20 to 30 ms
later, when the kernel has freed its memory (netdev_run_todo of net/core/dev.c waits for an RCU
barrier).  Whoever serves several calls need not keep a caller waiting for that; a process of one
call cannot end before.
"""

from __future__ import annotations

import os
import signal
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGIO, signal.SIGCHLD}
"""Which are for the thread of the call."""


class Job:
    """A function that runs in a thread of its own.

    Attributes:
        is_done: whether it has ended.
        error: what it raised; None when it has not, or not yet.
    """

    def __init__(self, function: Callable[[], object]) -> None:
        self.is_done = False
        self.error: Exception | None = None
        self._function = function
        self._end = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run_apart)

    def start(self) -> None:
        """Begin; where there can be no further thread it is done here and now."""
        try:
            self._thread.start()
        except RuntimeError:
            self._run()

    def _run_apart(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        self._run()

    def _run(self) -> None:
        try:
            self._function()
        except Exception as e:  # noqa: BLE001 - raised where it is waited for
            self.error = e
        self.is_done = True
        os.eventfd_write(self._end, 1)

    def fileno(self) -> int:
        """A descriptor that can be read from when it has ended."""
        return self._end

    def join(self) -> None:
        """Wait for its end."""
        if self._thread.ident is not None:
            self._thread.join()
        os.close(self._end)


class Background:
    """The jobs of one call."""

    def __init__(self) -> None:
        self._jobs: list[Job] = []

    def start(self, function: Callable[[], object]) -> Job:
        """Have something done meanwhile."""
        job = Job(function)
        self._jobs.append(job)
        job.start()
        return job

    def join(self) -> None:
        """Wait until nothing goes on any more."""
        while self._jobs:
            self._jobs.pop().join()
