"""What launcher and server say to each other; launcher/launcher.c is the other end.

Over a stream socket of the same machine, integers in its own byte order:

1. server: READY, who and where it is; a launcher elsewhere or of another build says BYE and goes
2. launcher: GO, the call
3. server: BEGUN, before it acts; without that the launcher runs the call itself
4. server: REPLY, once

While the call runs the launcher passes on a signal it was sent as one byte, its number; when it
goes away the stream ends.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

STATE_DIR = "/run/cni-plugins"
SOCKETS = f"{STATE_DIR}/server"
CALL, QUICK, STATUS = "call", "quick", "status"
"""Sockets: for calls, for those of STATUS, for questions about the server."""
FALLBACKS = f"{STATE_DIR}/fallbacks"
REASONS = (
    "no server",
    "no free slot in time",
    "server of another build",
    "server in other namespaces",
    "server with other rights",
    "too much standard input",
    "ended before it began",
    "ended without an answer",
    "call could not be described",
)
"""Why launchers did not have a call served, in the order of the counters of FALLBACKS."""

MAGIC_BYTES = 8
BEGUN = b"CNI-BGN1"
GO_BYTES_MAX = 16 << 20
_READY = struct.Struct("=8s64s10QQ256s")
_GO = struct.Struct("=8s16s6I32Q")
_REPLY = struct.Struct("=8s4I")
_READY_MAGIC, _GO_MAGIC, _BYE_MAGIC, _REPLY_MAGIC = (
    b"CNI-RDY1",
    b"CNI-GO-1",
    b"CNI-BYE1",
    b"CNI-RPL1",
)
GO_HEADER_BYTES = _GO.size
LIMITS = 16
"""RLIM_NLIMITS of Linux."""
BYE_BYTES = MAGIC_BYTES + 64


class WireError(Exception):
    """What came is no message of the protocol."""


class Identity(NamedTuple):
    """Who and where a process is.

    ``places`` are device and inode of its mount, net, pid and user namespaces and of its root;
    ``capabilities`` the effective ones, ``label`` that of a security module.
    """

    build: str
    places: tuple[tuple[int, int], ...]
    capabilities: int
    label: bytes


class Header(NamedTuple):
    """The fixed part of GO: ``limits`` are soft and hard ones by the number of the resource."""

    id: str
    caller: int
    umask: int
    argv_length: int
    env_length: int
    cwd_length: int
    stdin_length: int
    limits: tuple[tuple[int, int], ...]

    @property
    def rest(self) -> int:
        """Bytes that follow."""
        return self.argv_length + self.env_length + self.cwd_length + self.stdin_length


class Go(NamedTuple):
    """A call as the launcher was given it."""

    header: Header
    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: bytes
    stdin: bytes


def ready(identity: Identity) -> bytes:
    """The message READY."""
    numbers = [number for place in identity.places for number in place]
    build = identity.build.encode()
    return _READY.pack(_READY_MAGIC, build, *numbers, identity.capabilities, identity.label)


def reply(status: int, stdout: bytes, stderr: bytes) -> bytes:
    """The message REPLY."""
    return _REPLY.pack(_REPLY_MAGIC, status, len(stdout), len(stderr), 0) + stdout + stderr


def is_bye(start: bytes | bytearray) -> bool:
    """Whether a message that begins so is BYE."""
    return start.startswith(_BYE_MAGIC)


def parse_header(raw: bytes) -> Header:
    """The fixed part of GO.

    Raises:
        WireError: it is none, or announces more than is allowed.
    """
    magic, call_id, caller, umask, argv, env, cwd, stdin, *limits = _GO.unpack(raw)
    if magic != _GO_MAGIC:
        raise WireError("expected GO")
    pairs = tuple(zip(limits[::2], limits[1::2], strict=True))
    name = call_id.decode("ascii", "replace")
    header = Header(name, caller, umask, argv, env, cwd, stdin, pairs)
    if header.rest > GO_BYTES_MAX:
        raise WireError(f"a call of {header.rest} bytes")
    return header


def parse_go(header: Header, rest: bytes) -> Go:
    """The call.

    Raises:
        WireError: the strings do not end where they should.
    """
    env_at = header.argv_length
    cwd_at = env_at + header.env_length
    stdin_at = cwd_at + header.cwd_length
    pairs = (entry.partition("=") for entry in _strings(rest[env_at:cwd_at]))
    argv = _strings(rest[:env_at])
    if not argv:
        raise WireError("a call without a name")
    env: dict[str, str] = {}
    for name, found, value in pairs:
        if found:
            env.setdefault(name, value)  # as getenv(3) finds it
    return Go(header, argv, env, rest[cwd_at:stdin_at], rest[stdin_at:])


def _strings(raw: bytes) -> tuple[str, ...]:
    if not raw:
        return ()
    if raw[-1:] != b"\0":
        raise WireError("a string without an end")
    return tuple(raw[:-1].decode("utf-8", "surrogateescape").split("\0"))
