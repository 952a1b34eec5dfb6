"""The server's sockets: made here, or given by systemd or by the server's predecessor.

Source: sd_listen_fds(3).
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from typing import TYPE_CHECKING

from cni_plugins.errors import CniError
from forkserver import wire

if TYPE_CHECKING:
    from collections.abc import Mapping

_FIRST_FD = 3
_BACKLOG = 128
_LOCK_WAIT_S = 2.0
_NAMES = (wire.CALL, wire.QUICK, wire.STATUS)
_LOCK = f"{wire.SOCKETS}/lock"


class Sockets:
    """The listening sockets by name once they are open, and the lock that one server holds.

    Args:
        env: LISTEN_PID and LISTEN_FDS say what was given.

    Raises:
        CniError: another server runs, or not the right sockets were given.
        OSError: they cannot be made.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        os.makedirs(wire.SOCKETS, 0o700, exist_ok=True)
        given = _given(env)
        self._lock = os.open(_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        if not self._take_lock():
            os.close(self._lock)
            raise CniError(999, "another fork server serves this node", "`cnictl status`")
        self._are_given = bool(given)
        self.listeners = given

    def _take_lock(self) -> bool:
        """A child of a server that is no more may hold it for the moment until it looks."""
        until = time.monotonic() + _LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() > until:
                    return False
                time.sleep(0.02)
            else:
                return True

    def open(self) -> None:
        """Listen, where nobody gave sockets.

        Raises:
            OSError: as for the constructor.
        """
        if not self._are_given:
            self.listeners = {name: _listen(name) for name in _NAMES}

    def close(self) -> None:
        """Listen no longer; sockets that others gave stay theirs."""
        for name, listener in self.listeners.items():
            listener.close()
            if not self._are_given:
                os.unlink(path_of(name))

    def leave(self, kept: socket.socket) -> None:
        """In a child: hold one socket and no more, above all not the lock."""
        os.close(self._lock)
        for listener in self.listeners.values():
            if listener is not kept:
                listener.close()

    def hand_over(self) -> dict[str, str]:
        """Make a program that is executed next the one that listens; its variables.

        Its process is this one.
        """
        kept = [os.dup(listener.fileno()) for listener in self.listeners.values()]
        while min(kept) < _FIRST_FD + len(kept):  # out of the way of the numbers they shall have
            kept = [fcntl.fcntl(fd, fcntl.F_DUPFD, _FIRST_FD + len(kept)) for fd in kept]
        for n, fd in enumerate(kept):
            os.dup2(fd, _FIRST_FD + n, inheritable=True)
            os.close(fd)
        return {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(kept))}


def path_of(name: str) -> str:
    """Where a socket is."""
    return f"{wire.SOCKETS}/{name}.sock"


def _given(env: Mapping[str, str]) -> dict[str, socket.socket]:
    if env.get("LISTEN_PID") != str(os.getpid()):
        return {}
    found = {}
    for fd in range(_FIRST_FD, _FIRST_FD + int(env.get("LISTEN_FDS", "0"))):
        os.set_inheritable(fd, False)  # noqa: FBT003 - takes no name
        listener = socket.socket(fileno=fd)
        found[str(listener.getsockname())] = listener
    if not found:
        return {}
    wanted = {name: path_of(name) for name in _NAMES}
    missing = sorted(path for path in wanted.values() if path not in found)
    if missing:
        raise CniError(999, f"was given no socket {', '.join(missing)}", "see cni-plugins.socket")
    return {name: found[path] for name, path in wanted.items()}


def _listen(name: str) -> socket.socket:
    """Listen at a path; the lock is held, so a file there is nobody's."""
    path = path_of(name)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    mask = os.umask(0o177)
    try:
        if os.path.lexists(path):
            os.unlink(path)
        listener.bind(path)
    finally:
        os.umask(mask)
    listener.listen(_BACKLOG)
    return listener
