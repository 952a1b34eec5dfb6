"""The fork server during a measurement, and the proof that it served every call."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from typing import TYPE_CHECKING, Any

from bench.node import STATE_DIR

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.node import Host

SOCKETS = f"{STATE_DIR}/server"


class Server:
    """A running ``cnictl serve``.

    Args:
        directory: the executables.
        host: where; None for this process's host.
        options: of ``cnictl serve``.
    """

    def __init__(
        self, directory: str, host: Host | None = None, options: tuple[str, ...] = ()
    ) -> None:
        self._enter = host.enter if host else ()
        self._cnictl = os.path.join(directory, "cnictl")
        self._log = open("/run/server.log", "ab")  # noqa: SIM115 - closed with the server
        self._process = subprocess.Popen(
            [*self._enter, self._cnictl, "serve", *options], stdout=self._log, stderr=self._log
        )
        while not (self.status()["server"] or {}).get("children", {}).get("waiting"):
            time.sleep(0.05)
        self._before = self.status()
        self._standalone = 0

    def status(self) -> dict[str, Any]:
        """What ``cnictl status --json`` says."""
        argv = [*self._enter, self._cnictl, "status", "--json"]
        found: dict[str, Any] = json.loads(
            subprocess.run(argv, capture_output=True, check=False).stdout
        )
        return found

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Its sockets are elsewhere: launchers run every call themselves."""
        before = sum(self.status()["fallbacks"].values())
        self._move(SOCKETS, f"{SOCKETS}.away")
        try:
            yield
        finally:
            self._move(f"{SOCKETS}.away", SOCKETS)
        self._standalone += sum(self.status()["fallbacks"].values()) - before

    def _move(self, source: str, target: str) -> None:
        subprocess.run([*self._enter, "mv", source, target], check=True)

    def close(self) -> tuple[int, dict[str, int]]:
        """Stop it; how many calls it served, and its memory in KiB.

        Raises:
            SystemExit: a call that should have been served was not.
        """
        after = self.status()
        self._process.terminate()
        self._process.wait()
        self._log.close()
        counts = [s["server"]["calls"]["answered"] for s in (self._before, after)]
        fallbacks = [sum(s["fallbacks"].values()) for s in (self._before, after)]
        if fallbacks[1] - fallbacks[0] != self._standalone:
            raise SystemExit(f"not every call was served: {after}")
        return counts[1] - counts[0], after["server"]["memoryKiB"]
