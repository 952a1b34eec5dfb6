"""Network namespaces: opening one by path, and standing in it for a moment.

Source: namespaces(7), setns(2), ioctl_ns(2), socket(7); SO_NETNS_COOKIE in net/core/sock.c.
"""

from __future__ import annotations

import fcntl
import os
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_DGRAM, SOL_SOCKET, socket
from sys import byteorder

from cni_plugins.errors import NetnsError
from cni_plugins.scopes import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

_NS_GET_NSTYPE = 0xB703
_CLONE_NEWNET = 0x40000000
_SO_NETNS_COOKIE = 71
_OWN = "/proc/thread-self/ns/net"
_libc: list[tuple[Callable[[int, int], int], Callable[[], int]]] = []
"""What :func:`_load_libc` found, once it was needed."""


class NetNS:
    """An open network namespace; it lives at least as long as this does."""

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self._fd = fd

    @classmethod
    def open(cls, path: str) -> NetNS:
        """Open the namespace at ``path``.

        Raises:
            NetnsError: ``gone`` when nothing is there, or only a file that a namespace was once
                mounted on (they stay behind when a node goes down).
        """
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError) as e:
            raise NetnsError(
                f"open network namespace {path!r}: it does not exist", gone=True
            ) from e
        except OSError as e:
            raise NetnsError(f"open network namespace {path!r}: {e.strerror}") from e
        try:
            kind = fcntl.ioctl(fd, _NS_GET_NSTYPE)
        except OSError:
            kind = 0
        if kind != _CLONE_NEWNET:
            os.close(fd)
            raise NetnsError(
                f"open network namespace {path!r}: what is there is no network namespace", gone=True
            )
        return cls(path, fd)

    @classmethod
    def current(cls) -> NetNS:
        """The namespace the calling thread stands in."""
        return cls.open(_OWN)

    def fileno(self) -> int:
        """The open descriptor."""
        return self._fd

    @property
    def id(self) -> tuple[int, int]:
        """Device and inode number, by which namespaces are told apart while both live."""
        status = os.fstat(self._fd)
        return status.st_dev, status.st_ino

    def identity(self) -> tuple[int, int, int]:
        """Device and inode number, and the cookie: the number that no other one gets before a boot.

        An inode number is another namespace's as soon as this one has ended.  The cookie is 0 on
        kernels before 5.14 and where the namespace may not be entered.
        """
        try:
            with self.entered():
                probe = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC)
        except NetnsError:
            return *self.id, 0
        try:
            cookie = probe.getsockopt(SOL_SOCKET, _SO_NETNS_COOKIE, 8)
        except OSError:
            cookie = b""
        finally:
            probe.close()
        return *self.id, int.from_bytes(cookie, byteorder)

    def close(self) -> None:
        """Let go of the namespace; repeatable."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread stands in this namespace within the block.

        A thread that could not go back would configure the container instead of the host, so the
        process ends if the way back fails.
        """
        with NetNS.current() as home:
            _setns(self._fd, self.path)
            try:
                yield
            finally:
                try:
                    _setns(home.fileno(), home.path)
                except NetnsError:
                    os.abort()


def current_id() -> tuple[int, int]:
    """Device and inode number of the calling thread's namespace.

    Raises:
        OSError: /proc cannot be read.
    """
    status = os.stat(_OWN)
    return status.st_dev, status.st_ino


def _setns(fd: int, path: str) -> None:
    try:
        if hasattr(os, "setns"):  # from Python 3.12 on
            os.setns(fd, _CLONE_NEWNET)
            return
        if not _libc:
            _libc.append(_load_libc())
        setns, last_error = _libc[0]
        if setns(fd, _CLONE_NEWNET) != 0:
            number = last_error()
            raise OSError(number, os.strerror(number))  # noqa: TRY301 - as os.setns would
    except OSError as e:
        raise NetnsError(f"enter network namespace {path!r}: {e.strerror}") from e


def _load_libc() -> tuple[Callable[[int, int], int], Callable[[], int]]:
    """setns(2), and the errno of its last failure."""
    import ctypes  # noqa: PLC0415 - only where it is needed

    return ctypes.CDLL(None, use_errno=True).setns, ctypes.get_errno
