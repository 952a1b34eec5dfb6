"""iptables and ip6tables, by their save and restore tools: one transaction per family and table.

Rules travel as text in the tools' own format and are never interpreted here beyond their chain and
target.

Source: iptables-restore(8), iptables-save(8).
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from cni_plugins.errors import Busy, ExecError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cni_plugins.host.command import Runner

_PREFIX = {4: "iptables", 6: "ip6tables"}
_LOCK_WAIT_S = 30
_RESOURCE_PROBLEM = 4
"""Exit status for a lock that was not to be had, among others."""


class Iptables:
    """Both families of one node."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._listed: dict[int, str] | None = None

    @contextmanager
    def listed_once(self) -> Iterator[None]:
        """Within the block a family is listed once, until it is changed from here.

        For callers that hold the lock under which this suite changes the rules.
        """
        self._listed = {}
        try:
            yield
        finally:
            self._listed = None

    def is_installed(self, family: int = 4) -> bool:
        """Whether the family's restore tool is there."""
        return self._runner.which(f"{_PREFIX[family]}-restore") is not None

    def restore(self, family: int, table: str, lines: Sequence[str]) -> None:
        """Apply commands (``-A``, ``-D``, ``-N``, …) to a table at once: all of them or none.

        Raises:
            Busy: another program holds the xtables lock.
            ExecError: the tool refused; the offending command is in the message.
        """
        if self._listed is not None:
            self._listed.pop(family, None)
        tool = f"{_PREFIX[family]}-restore"
        text = "\n".join((f"*{table}", *lines, "COMMIT", ""))
        argv = [tool, "--noflush", "--wait", str(_LOCK_WAIT_S)]
        try:
            self._runner.run(argv, stdin=text.encode())
        except ExecError as e:
            if e.status == _RESOURCE_PROBLEM and "xtables lock" in e.stderr:
                raise Busy(f"{tool}: another program holds the xtables lock", e.stderr) from e
            culprit = _culprit(e.stderr, text)
            where = f" at {culprit!r}" if culprit else ""
            raise ExecError(
                f"change table {table} with {tool}{where}: {e.msg}",
                status=e.status,
                stderr=e.stderr,
            ) from e

    def rules(self, family: int, table: str) -> tuple[str, ...]:
        """The ``-A`` lines of a table; none when the table does not exist or there is no tool.

        The whole rule set is listed, since asking for one table makes the kernel create it.
        """
        found = []
        current = ""
        for line in self._list(family).splitlines():
            if line.startswith("*"):
                current = line[1:].strip()
            elif current == table and line.startswith(("-A", ":")):
                found.append(line)
        return tuple(found)

    def _list(self, family: int) -> str:
        if self._listed is not None and family in self._listed:
            return self._listed[family]
        tool = f"{_PREFIX[family]}-save"
        if self._runner.which(tool) is None:
            return ""
        listed = self._runner.run([tool]).stdout.decode("utf-8", "replace")
        if self._listed is not None:
            self._listed[family] = listed
        return listed


def _culprit(stderr: str, text: str) -> str:
    """The command behind "line N failed"."""
    words = stderr.replace(":", " ").split()
    for i, word in enumerate(words[:-1]):
        if word == "line" and words[i + 1].isdigit():
            lines = text.splitlines()
            number = int(words[i + 1])
            if 0 < number <= len(lines):
                return lines[number - 1]
    return ""
