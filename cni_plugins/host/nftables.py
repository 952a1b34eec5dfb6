"""nftables by nft(8): one transaction per change, listings as JSON (libnftables-json(5))."""

from __future__ import annotations

from cni_plugins import jsontext
from cni_plugins.errors import ExecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from cni_plugins.host.command import Runner, Tool

_PRESENT = ("File exists",)
_ABSENT = ("No such file or directory", "does not exist")


class Nftables:
    """The node's nftables."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def is_installed(self) -> bool:
        """Whether nft is there."""
        return self._runner.which("nft") is not None

    def apply(self, commands: Sequence[dict[str, Any]]) -> None:
        """Apply JSON commands at once: all of them or none.

        Raises:
            NotThere: an object that a command names does not exist.
            ExecError: nft refused for another reason.
        """
        self.start(commands).finish()

    def start(self, commands: Sequence[dict[str, Any]]) -> Change:
        """Begin to apply JSON commands at once: all of them or none."""
        document = jsontext.dumps({"nftables": list(commands)}).encode()
        return Change(self._runner.launch(["nft", "-j", "-f", "-"], stdin=document))

    def apply_text(self, lines: Sequence[str]) -> None:
        """Apply commands of the nft language at once, for users' own expressions and for maps.

        Raises:
            NotThere: an object that a command names does not exist.
            AlreadyThere: an element that a command adds exists with another value.
            ExecError: nft refused for another reason.
        """
        try:
            self._runner.run(["nft", "-f", "-"], stdin="\n".join((*lines, "")).encode())
        except ExecError as e:
            for kind, texts in ((NotThere, _ABSENT), (AlreadyThere, _PRESENT)):
                if any(text in e.stderr for text in texts):
                    raise kind(f"change rules: {e.msg}", status=e.status, stderr=e.stderr) from e
            raise

    def table(self, family: str, table: str) -> list[dict[str, Any]]:
        """Every object of a table; none when it does not exist or there is no nft."""
        return self._list("table", family, table)

    def elements(self, family: str, table: str, name: str) -> list[Any]:
        """The elements of a map or set, as nft lists them."""
        for kind in ("map", "set"):
            for entry in self._list(kind, family, table, name):
                if kind in entry:
                    return list(entry[kind].get("elem", []))
        return []

    def has_element(self, family: str, table: str, place: str, key: str) -> bool:
        """Whether a map or set has an element."""
        argv = ["nft", "get", "element", family, table, place, f"{{ {key} }}"]
        try:
            self._runner.run(argv)
        except ExecError as e:
            if any(text in e.stderr for text in _ABSENT):
                return False
            raise
        return True

    def rules(self, family: str, table: str, chain: str) -> tuple[dict[str, Any], ...]:
        """The rules of a chain; none when the chain does not exist or there is no nft."""
        objects = self._list_chain(family, table, chain)
        return tuple(entry["rule"] for entry in objects if "rule" in entry)

    def has_chain(self, family: str, table: str, chain: str) -> bool:
        """Whether the chain exists."""
        return any("chain" in entry for entry in self._list_chain(family, table, chain))

    def _list_chain(self, family: str, table: str, chain: str) -> list[dict[str, Any]]:
        return self._list("chain", family, table, chain)

    def _list(self, *what: str) -> list[dict[str, Any]]:
        if not self.is_installed():
            return []
        try:
            done = self._runner.run(["nft", "-j", "list", *what])
        except ExecError as e:
            if any(text in e.stderr for text in _ABSENT):
                return []
            raise
        objects: list[dict[str, Any]] = jsontext.loads(done.stdout)["nftables"]
        return objects


class Change:
    """A transaction that was started."""

    def __init__(self, tool: Tool) -> None:
        self._tool = tool

    def finish(self) -> None:
        """Wait for its end.

        Raises:
            NotThere: an object that a command names does not exist.
            ExecError: nft refused for another reason.
        """
        try:
            self._tool.result()
        except ExecError as e:
            if any(text in e.stderr for text in _ABSENT):
                raise NotThere(f"change rules: {e.msg}", status=e.status, stderr=e.stderr) from e
            raise


class AlreadyThere(ExecError):
    """nft adds what exists with another value."""


class NotThere(ExecError):
    """nft names an object that does not exist (any more)."""
