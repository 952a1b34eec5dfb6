"""What a running server says of itself, and what launchers say of it."""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

from forkserver import wire
from forkserver.sockets import path_of

_TIMEOUT_S = 10.0
"""Longer than a server of systemd's sockets takes to start."""


def ask() -> dict[str, Any] | None:
    """The server's own description; None when none answers.

    Raises:
        OSError: something is wrong with its socket.
        ValueError: it is no such server.
    """
    content = b""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
        connection.settimeout(_TIMEOUT_S)
        try:
            connection.connect(path_of(wire.STATUS))
            while chunk := connection.recv(65536):
                content += chunk
        except (FileNotFoundError, ConnectionRefusedError, ConnectionResetError):
            return None
    found: dict[str, Any] = json.loads(content)
    return found


def fallbacks() -> dict[str, int]:
    """Calls that launchers ran themselves since the boot, by reason."""
    try:
        with open(wire.FALLBACKS, "rb") as file:
            raw = file.read(8 * len(wire.REASONS))
    except FileNotFoundError:
        raw = b""
    counters = struct.unpack(f"={len(wire.REASONS)}Q", raw.ljust(8 * len(wire.REASONS), b"\0"))
    return dict(zip(wire.REASONS, counters, strict=True))
