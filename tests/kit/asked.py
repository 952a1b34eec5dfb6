"""What the unit tests ask of dispatch, written down so that executables can be asked the same."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING

from cni_plugins import catalog, dispatch
from cni_plugins.frozen import replace
from tests.kit.node import Asked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cni_plugins.plugin import Plugin
    from cni_plugins.protocol.request import Reply, Request

_TEMPORARY = re.compile(rb"/tmp/pytest-of-\w+/pytest-\d+/[\w-]+")
_UNREAD = b"nobody reads this"


def record(path: Path) -> None:
    """Have every request that dispatch is given from now on written to a file."""
    real = dispatch.run
    file = path.open("w", encoding="utf-8")

    def run(plugin: Plugin, request: Request) -> Reply:
        read: list[bytes] = []

        def stdin() -> bytes:
            content = request.stdin()
            read.append(content)
            return content

        reply = real(plugin, replace(request, stdin=stdin))
        content = base64.b64encode(read[0] if read else _UNREAD).decode()
        file.write(json.dumps([plugin.type, dict(request.env), content]) + "\n")
        file.flush()
        return reply

    dispatch.run = run


def recorded(path: Path) -> Iterator[Asked]:
    """Those requests, each once, as far as a process can be given them.

    A request of a plugin that only a test has goes to one of ours, to each in its turn.
    """
    seen = set()
    for n, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        plugin, env, stdin = json.loads(line)
        if line in seen or any("\0" in value for value in env.values()):
            continue
        seen.add(line)
        if plugin not in catalog.PLUGINS:
            plugin = list(catalog.PLUGINS)[n % len(catalog.PLUGINS)]
        content = _TEMPORARY.sub(b"/run/replay", base64.b64decode(stdin))
        yield Asked(plugin, env, content)
