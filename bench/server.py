"""The fork server during a measurement, and the proof that it served every call."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

SOCKETS = "/run/cni-plugins/server"


class Server:
    """A running ``cnictl serve``.

    Args:
        directory: the executables.
    """

    def __init__(self, directory: str) -> None:
        self._cnictl = os.path.join(directory, "cnictl")
        self._log = open("/run/server.log", "wb")  # noqa: SIM115 - closed with the server
        self._process = subprocess.Popen(
            [self._cnictl, "serve"], stdout=self._log, stderr=self._log
        )
        while not (self.status()["server"] or {}).get("children", {}).get("waiting"):
            time.sleep(0.05)

    def status(self) -> dict[str, Any]:
        """What ``cnictl status --json`` says."""
        argv = [self._cnictl, "status", "--json"]
        found: dict[str, Any] = json.loads(
            subprocess.run(argv, capture_output=True, check=False).stdout
        )
        return found

    def close(self) -> None:
        """Stop it."""
        self._process.terminate()
        self._process.wait()
        self._log.close()

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Its sockets are elsewhere: launchers run every call themselves."""
        os.rename(SOCKETS, f"{SOCKETS}.away")
        try:
            yield
        finally:
            os.rename(f"{SOCKETS}.away", SOCKETS)


def served(before: dict[str, Any], after: dict[str, Any]) -> tuple[int, int]:
    """Calls that were served, and fallbacks, between two looks."""
    calls = after["server"]["calls"]["answered"] - before["server"]["calls"]["answered"]
    fallbacks = sum(after["fallbacks"].values()) - sum(before["fallbacks"].values())
    return calls, fallbacks
