"""iptables and ip6tables, by their save and restore tools: one transaction per family and table.

Rules travel as text in the tools' own format and are never interpreted here beyond their chain and
target.  Families are independent of each other, so what is asked of both is done side by side.

Source: iptables-restore(8), iptables-save(8).
"""

from __future__ import annotations

from cni_plugins.errors import Busy, ExecError, Interrupted
from cni_plugins.scopes import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import TypeVar

    from cni_plugins.host.command import Runner, Tool

    T = TypeVar("T")

_PREFIX = {4: "iptables", 6: "ip6tables"}
_LOCK_WAIT_S = 30
_RESOURCE_PROBLEM = 4
"""Exit status for a lock that was not to be had, among others."""


class Iptables:
    """Both families of one node."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._listed: dict[int, str] | None = None
        self._looks: dict[int, Change] = {}

    @contextmanager
    def listed_once(self) -> Iterator[None]:
        """Within the block a family is listed once, until it is changed from here.

        For callers that hold the lock under which this suite changes the rules, or only look.
        """
        self._listed = {}
        try:
            yield
        finally:
            self._listed = None

    @contextmanager
    def looking(self, table: str, wanted: Mapping[int, Sequence[str]]) -> Iterator[None]:
        """The look at some :meth:`chains` is begun; the block does something else before it."""
        self._looks = {f: self._look(f, table, chains) for f, chains in wanted.items()}
        try:
            yield
        finally:
            collect({family: look.finish for family, look in self._looks.items()})
            self._looks = {}

    def chains(self, table: str, wanted: Mapping[int, Sequence[str]]) -> dict[int, tuple[str, ...]]:
        """The rules of some chains; where one of them is missing, those of the whole table.

        In the families side by side, by transactions that change nothing: unlike a listing they
        cost the same whatever else the node's tables hold.

        Args:
            table: which one; it is not made, since chains of a table that is missing are too.
            wanted: chains by family, at least one of them ours.

        Raises:
            ExecError: a tool does not work.
        """
        looks = {
            f: self._looks.pop(f) if f in self._looks else self._look(f, table, chains)
            for f, chains in wanted.items()
        }
        shown = collect({family: look.finish for family, look in looks.items()})
        whole = [family for family, answer in shown.items() if isinstance(answer, ExecError)]
        found = {f: answer for f, answer in shown.items() if not isinstance(answer, ExecError)}
        return found | self.tables(whole, table)

    def _look(self, family: int, table: str, chains: Sequence[str]) -> Change:
        return self.start(family, table, [f"-S {chain}" for chain in dict.fromkeys(chains)])

    def is_installed(self, family: int = 4) -> bool:
        """Whether the family's restore tool is there."""
        return self._runner.which(f"{_PREFIX[family]}-restore") is not None

    def start(self, family: int, table: str, lines: Sequence[str]) -> Change:
        """Begin to apply commands to a table: all of them or none.

        ``-A``, ``-D``, ``-N`` and so on change it.  ``-C`` is a condition: when the rule is not
        there, nothing is done.  ``-S`` shows the table as the commands before it have left it.
        """
        if self._listed is not None:
            self._listed.pop(family, None)
        tool = f"{_PREFIX[family]}-restore"
        text = "\n".join((f"*{table}", *lines, "COMMIT", ""))
        argv = [tool, "--noflush", "--wait", str(_LOCK_WAIT_S)]
        return Change(self._runner.launch(argv, stdin=text.encode()), tool, text)

    def restore(
        self, table: str, wanted: Mapping[int, Sequence[str]]
    ) -> dict[int, tuple[str, ...] | ExecError]:
        """Apply commands to a table, in the families side by side; see :meth:`start`.

        Returns:
            For each family what ``-S`` has shown, or why nothing was changed.

        Raises:
            Busy: another program holds the xtables lock.
        """
        started = {family: self.start(family, table, lines) for family, lines in wanted.items()}
        return collect({family: change.finish for family, change in started.items()})

    def revise(
        self,
        table: str,
        families: Iterable[int],
        commands: Callable[[int, Sequence[str]], Sequence[str]],
    ) -> None:
        """Change a table as a look at it tells to, in the families side by side.

        Args:
            table: which one.
            families: which ones; all are attempted.
            commands: from a family and what is there to what has to be done; asked for every
                family before anything is done, and again where somebody else came in between.

        Raises:
            Busy: another program holds the xtables lock.
            ExecError: the tools of a family do not work, or refuse; that of the first one.
        """
        failures: list[ExecError] = []
        refused: dict[int, tuple[Sequence[str], ExecError]] = {}
        left = set(families)
        while left:
            wanted: dict[int, Sequence[str]] = {}
            for family, listed in self._list(left).items():
                if isinstance(listed, ExecError):
                    failures.append(listed)
                elif lines := commands(family, _rules_of(listed, table)):
                    wanted[family] = lines
            for family, (lines, reason) in refused.items():
                if wanted.get(family) == lines:
                    failures.append(reason)
                    del wanted[family]
            refused = {
                family: (wanted[family], answer)
                for family, answer in self.restore(table, wanted).items()
                if isinstance(answer, ExecError)
            }
            left = set(refused)
        if failures:
            raise failures[0]

    def rules(self, family: int, table: str) -> tuple[str, ...]:
        """The ``-A`` lines of a table; none when the table does not exist or there is no tool."""
        return self.tables((family,), table)[family]

    def tables(self, families: Iterable[int], table: str) -> dict[int, tuple[str, ...]]:
        """The rules of a table in some families, listed side by side.

        Raises:
            ExecError: a tool does not work.
        """
        found = {}
        for family, listed in self._list(families).items():
            if isinstance(listed, ExecError):
                raise listed
            found[family] = _rules_of(listed, table)
        return found

    def _list(self, families: Iterable[int]) -> dict[int, str | ExecError]:
        """Whole rule sets, since asking for one table makes the kernel create it."""
        found: dict[int, str | ExecError] = {}
        tools = {}
        for family in sorted(families):
            if self._listed is not None and family in self._listed:
                found[family] = self._listed[family]
            elif self._runner.which(_save(family)) is None:
                found[family] = ""
            else:
                tools[family] = self._runner.launch([_save(family)]).result
        for family, answer in collect(tools).items():
            if isinstance(answer, ExecError):
                found[family] = answer
                continue
            found[family] = text = answer.stdout.decode("utf-8", "replace")
            if self._listed is not None:
                self._listed[family] = text
        return found


class Change:
    """A transaction that was started."""

    def __init__(self, tool: Tool, name: str, text: str) -> None:
        self._tool = tool
        self._name = name
        self._text = text

    def finish(self) -> tuple[str, ...]:
        """Wait for its end; what ``-S`` has shown, as a listing has it.

        Raises:
            Busy: another program holds the xtables lock.
            ExecError: the tool refused; the offending command is in the message.
        """
        try:
            done = self._tool.result()
        except ExecError as e:
            if e.status == _RESOURCE_PROBLEM and "xtables lock" in e.stderr:
                raise Busy(f"{self._name}: another program holds the xtables lock", e.stderr) from e
            culprit = _culprit(e.stderr, self._text)
            where = f" at {culprit!r}" if culprit else ""
            table = self._text.partition("\n")[0].removeprefix("*")
            raise ExecError(
                f"change table {table} with {self._name}{where}: {e.msg}",
                status=e.status,
                stderr=e.stderr,
            ) from e
        shown = done.stdout.decode("utf-8", "replace").splitlines()
        return tuple(
            f":{line.removeprefix('-N ')} - [0:0]" if line.startswith("-N ") else line
            for line in shown
            if line.startswith(("-A", "-N "))
        )


def collect(started: Mapping[int, Callable[[], T]]) -> dict[int, T | ExecError]:
    """What came of tools that run side by side; all of them have ended when this returns or raises.

    Raises:
        Busy, Interrupted: the first of them.
    """
    found: dict[int, T | ExecError] = {}
    stopped: BaseException | None = None
    for family, result in started.items():
        try:
            found[family] = result()
        except ExecError as e:
            found[family] = e
        except (Busy, Interrupted) as e:
            stopped = stopped or e
    if stopped is not None:
        raise stopped
    return found


def _save(family: int) -> str:
    return f"{_PREFIX[family]}-save"


def _rules_of(listed: str, table: str) -> tuple[str, ...]:
    """Declarations and ``-A`` lines of one table in a listing."""
    found = []
    current = ""
    for line in listed.splitlines():
        if line.startswith("*"):
            current = line[1:].strip()
        elif current == table and line.startswith(("-A", ":")):
            found.append(line)
    return tuple(found)


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
