"""Samples of the suites in turns."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from bench.server import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OURS = os.path.abspath("dist/bin")
SERVED, STANDALONE, REFERENCE = "ours", "standalone", "reference"
"""The suites: our executables are served, or run while no server is there."""

Found = dict[str, dict[str, list[float]]]
"""Seconds by step and suite."""


class Bench:
    """The suites, and the servers that serve the calls of ours.

    Args:
        reference: the other suite's executables.
        rounds: how many samples of everything.
        options: of ``cnictl serve``.
    """

    def __init__(self, reference: str, rounds: int, options: tuple[str, ...] = ()) -> None:
        self.suites = {SERVED: OURS, STANDALONE: OURS, REFERENCE: reference}
        self.rounds = rounds
        self.server = Server(OURS, options=options)
        self.served = 0
        self.memory: dict[str, int] = {}
        self.notes: list[str] = []
        self.tables: dict[str, list[str]] = {}

    def compare(
        self,
        sample: Callable[[str], dict[str, float]],
        suites: dict[str, str] | None = None,
        *,
        rounds: int = 0,
        servers: tuple[Server, ...] = (),
    ) -> Found:
        """Seconds of each step by suite; they take turns, the first round only warms up.

        Args:
            sample: takes a sample.
            suites: which; all of them by default.
            rounds: how many samples, others than usual.
            servers: those that serve the calls, when it is not the first host's.
        """
        found: Found = {}
        for n in range((rounds or self.rounds) + 1):
            for suite, directory in (suites or self.suites).items():
                with self._with_servers_or_not(suite, servers or (self.server,)):
                    for step, seconds in sample(directory).items():
                        if n:
                            found.setdefault(step, {}).setdefault(suite, []).append(seconds)
        return found

    @contextlib.contextmanager
    def _with_servers_or_not(self, suite: str, servers: tuple[Server, ...]) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            if suite == STANDALONE:
                for server in servers:
                    stack.enter_context(server.away())
            yield

    def end(self, server: Server) -> None:
        """Stop a server, which must have served every call that was its.

        Raises:
            SystemExit: it has not.
        """
        calls, memory = server.close()
        self.served += calls
        if server is self.server:
            self.memory = memory


class Limit:
    """Time for something of which nobody knows whether it ends."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._until = time.monotonic() + seconds

    @property
    def is_over(self) -> bool:
        """Whether it is used up."""
        return time.monotonic() > self._until
