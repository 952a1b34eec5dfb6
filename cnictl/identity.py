"""Which container an operator means: a namespace's path, an ``ip netns`` name, or a process."""

from __future__ import annotations

import hashlib
import os

_NAMED = "/run/netns"


def netns_path(container: str) -> str:
    """The path of the container's network namespace.

    With a ``/`` it is a path, made absolute; digits alone are a process's number; anything else is
    a name that ``ip netns`` gave.
    """
    if "/" in container:
        return os.path.normpath(os.path.join(os.getcwd(), container))
    if container.isascii() and container.isdigit():
        return f"/proc/{container}/ns/net"
    return f"{_NAMED}/{container}"


def container_id(path: str) -> str:
    """The id that cnitool derives from the namespace's path."""
    return f"cnitool-{hashlib.sha512(path.encode()).hexdigest()[:20]}"
