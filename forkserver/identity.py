"""Who and where this process is, as launchers compare it with their own."""

from __future__ import annotations

import os

from cni_plugins.build_info import build_id
from forkserver.wire import Identity

_PLACES = (*(f"/proc/self/ns/{kind}" for kind in ("mnt", "net", "pid", "user")), "/")


def observe() -> Identity:
    """This process's build, namespaces, root, capabilities and label."""
    status = [os.stat(place) for place in _PLACES]
    return Identity(
        build=build_id(),
        places=tuple((found.st_dev, found.st_ino) for found in status),
        capabilities=_capabilities(),
        label=_label(),
    )


def _capabilities() -> int:
    with open("/proc/self/status", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("CapEff:"):
                return int(line.split()[1], 16)
    return 0


def _label() -> bytes:
    try:
        with open("/proc/self/attr/current", "rb") as file:
            return file.read(255)
    except OSError:
        return b""
