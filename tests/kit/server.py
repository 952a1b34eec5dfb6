"""The built fork server on a node."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

DIST = Path(__file__).parents[2] / "dist" / "bin"
LIMIT_S = 20.0


class Server:
    """A running ``cnictl serve``.

    Args:
        enter: what to put before a command that shall run on its node.
        bin_dir: the executables.
        options: of ``cnictl serve``.
    """

    def __init__(
        self, enter: Sequence[str] = (), bin_dir: Path = DIST, options: Sequence[str] = ()
    ) -> None:
        self._enter = list(enter)
        self._options = list(options)
        self._cnictl = str(bin_dir / "cnictl")
        self._scratch = tempfile.TemporaryDirectory(prefix="cni-server-")
        self._log = Path(self._scratch.name) / "log"
        self.start()

    def start(self) -> None:
        """Start it, and wait until it serves."""
        with self._log.open("ab") as log:
            argv = [*self._enter, self._cnictl, "serve", *self._options]
            self.process = subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self.wait(self.is_serving)

    def is_serving(self) -> bool:
        """Whether children wait."""
        found = self.status()["server"]
        return bool(found) and found["children"]["waiting"] >= 1

    def wait(self, is_so: Callable[[], Any], limit_s: float = LIMIT_S) -> None:
        """Wait for something of the server."""
        until = time.monotonic() + limit_s
        while not is_so():
            assert time.monotonic() < until, self.log()
            assert self.process.poll() is None, self.log()
            time.sleep(0.02)

    def log(self) -> str:
        """What it said."""
        return self._log.read_text(encoding="utf-8")

    def status(self) -> dict[str, Any]:
        """What ``cnictl status --json`` says."""
        argv = [*self._enter, self._cnictl, "status", "--json"]
        found: dict[str, Any] = json.loads(
            subprocess.run(argv, capture_output=True, check=False).stdout
        )
        return found

    def children(self) -> set[int]:
        """The pids of its children, those that wait and those that serve."""
        pid = self.status()["server"]["pid"]
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
        return {int(word) for word in listed.split()}

    def calls(self) -> dict[str, int]:
        """Its counters of calls."""
        found: dict[str, int] = self.status()["server"]["calls"]
        return found

    def fallbacks(self) -> dict[str, int]:
        """The calls that launchers ran themselves, by reason."""
        return {reason: n for reason, n in self.status()["fallbacks"].items() if n}

    def close(self) -> None:
        """Stop it; it must end well."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            assert self.process.wait(LIMIT_S) == 0, self.log()
        with contextlib.suppress(FileNotFoundError):
            self._scratch.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            self.close()
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
