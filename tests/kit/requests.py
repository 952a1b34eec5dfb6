"""Building calls of a plugin, and a plugin that only remembers how it was called."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cni_plugins import dispatch
from cni_plugins.deadline import Deadline
from cni_plugins.plugin import Plugin, Verbs
from cni_plugins.protocol.request import Reply, Request
from cni_plugins.protocol.result import Result

if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_plugins.context import Context

ENV = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "some-container-id",
    "CNI_NETNS": "/some/netns/path",
    "CNI_IFNAME": "eth0",
    "CNI_ARGS": "some;extra;args",
    "CNI_PATH": "/some/cni/path",
}


def environment(command: str, **changes: str | None) -> dict[str, str]:
    """The variables of a call; ``None`` leaves one out."""
    env = {**ENV, "CNI_COMMAND": command, **changes}
    return {name: value for name, value in env.items() if value is not None}


def config(version: str | None = "9.8.7", /, **keys: Any) -> bytes:
    """A network configuration as a runtime writes it; version ``None`` leaves cniVersion out."""
    document: dict[str, Any] = {"name": "skel-test", "some": "config"}
    if version is not None:
        document["cniVersion"] = version
    return json.dumps(document | keys).encode()


@dataclass
class Recorder:
    """A plugin that makes nothing.

    Args:
        versions: what it supports.
        about: its line for people who run it by hand.
        answer: given, every verb calls it with the context and ADD returns what it returns.
    """

    versions: tuple[str, ...] = ("9.8.7", "10.0.0")
    about: str = ""
    answer: Callable[[Context], Any] | None = None
    calls: list[tuple[str, Context]] = field(default_factory=list)

    @property
    def plugin(self) -> Plugin:
        """The record that dispatch is given."""
        return Plugin(type="recorder", versions=self.versions, load=self._load, about=self.about)

    @property
    def commands(self) -> list[str]:
        """The verbs' functions that were called, in order."""
        return [command for command, _ in self.calls]

    def run(self, env: dict[str, str], stdin: bytes | Callable[[], bytes] = b"") -> Reply:
        """One call."""
        source = stdin if callable(stdin) else lambda: stdin
        return dispatch.run(self.plugin, Request(env, source, Deadline.after(5)))

    def _load(self) -> Verbs:
        def verb(command: str) -> Callable[[Context, Any], Any]:
            def called(ctx: Context, _conf: object) -> Any:
                self.calls.append((command, ctx))
                answer = self.answer(ctx) if self.answer is not None else None
                return (answer or Result()) if command == "ADD" else None

            return called

        return Verbs(
            parse=lambda _ctx, document: document,
            parse_cleanup=lambda _ctx, document: document,
            add=verb("ADD"),
            delete=verb("DEL"),
            check=verb("CHECK"),
            status=verb("STATUS"),
            gc=verb("GC"),
            journaled=False,
            uses_netns=False,
        )


def error_of(reply: Reply) -> dict[str, Any]:
    """The one error object of a failed call, and nothing else on its stdout."""
    assert reply.exit_code == 1, reply
    document = json.loads(reply.stdout)
    assert isinstance(document, dict)
    assert set(document) <= {"code", "msg", "details"}
    assert type(document["code"]) is int
    assert type(document["msg"]) is str
    return document
