"""rtnetlink: the one place every request goes through.

Source: rtnetlink(7), netlink(7).
"""

from __future__ import annotations

import errno
import os
import select
import time
from _socket import AF_NETLINK, MSG_DONTWAIT, NETLINK_ROUTE, SOCK_CLOEXEC, SOCK_RAW, socket

from cni_plugins.errors import KernelError
from cni_plugins.host import netlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from cni_plugins.background import Job
    from cni_plugins.deadline import Deadline

NEW_LINK, DEL_LINK, GET_LINK, SET_LINK = 16, 17, 18, 19
NEW_ADDRESS, DEL_ADDRESS, GET_ADDRESS = 20, 21, 22
NEW_ROUTE, DEL_ROUTE, GET_ROUTE = 24, 25, 26
NEW_RULE, DEL_RULE, GET_RULE = 32, 33, 34
NEW_QDISC, DEL_QDISC, GET_QDISC = 36, 37, 38
NEW_FILTER, DEL_FILTER, GET_FILTER = 44, 45, 46
NEW_NSID, GET_NSID = 88, 90
"""Kinds of messages, RTM_… of linux/rtnetlink.h."""

GROUP_LINK = 1 << 0
GROUP_IPV6_ADDRESS = 1 << 8
_SOL_NETLINK = 270
_OPTIONS = (10, 11, 12)
"""NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK: short errors, with the kernel's words,
and listings filtered by the kernel."""
_DUMP_ATTEMPTS = 10
_DATAGRAM_BYTES = 1 << 16
"""The kernel's own datagrams have half of that."""
_NETNSA_NSID, _NETNSA_FD = 1, 3
_RTGENMSG = b"\0\0\0\0"


class Rtnl:
    """One rtnetlink socket, in the network namespace of the thread that opens it."""

    def __init__(self) -> None:
        self._sequence = 0
        self._socket = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE)
        try:
            for option in _OPTIONS:
                self._socket.setsockopt(_SOL_NETLINK, option, 1)
            self._socket.bind((0, 0))
        except OSError:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def request(self, what: str, kind: int, body: bytes, *, flags: int = 0) -> list[bytes]:
        """Send one request and read its whole answer; dumps that the kernel interrupted again.

        Args:
            what: "verb object" for the error, such as ``add veth veth0``.
            kind: of the message, ``NEW_…``, ``DEL_…``, ``GET_…``.
            body: the message without netlink's header.
            flags: of netlink, besides REQUEST and ACK.

        Returns:
            The messages of the answer, without netlink's header.

        Raises:
            KernelError: with the kernel's errno and, where it gives one, its own explanation.
        """
        for _ in range(_DUMP_ATTEMPTS):
            try:
                answer = self._ask(what, kind, flags, body)
            except OSError as e:
                raise kernel_error(what, e.errno or 0, e.strerror or str(e)) from e
            if answer is not None:
                return answer
        raise kernel_error(what, errno.EAGAIN, "the kernel interrupted the listing again and again")

    def dump(self, what: str, kind: int, body: bytes) -> list[bytes]:
        """List all that fits; as :meth:`request`."""
        return self.request(what, kind, body, flags=netlink.ROOT_AND_MATCH)

    def _ask(self, what: str, kind: int, flags: int, body: bytes) -> list[bytes] | None:
        """The answer to a request; None when a listing was interrupted."""
        self._sequence += 1
        sequence = self._sequence
        is_one = (
            kind == GET_LINK and not flags
        )  # answered by the link or an error, nothing behind it
        flags |= netlink.REQUEST if is_one else netlink.REQUEST | netlink.ACK
        self._socket.send(netlink.message(kind, flags, sequence, body))
        answer: list[bytes] = []
        is_whole = True
        while True:
            datagram = self._socket.recv(_DATAGRAM_BYTES)
            for said, how, content in netlink.messages(datagram, sequence):
                is_whole = is_whole and not how & netlink.DUMP_INTERRUPTED
                if said not in {netlink.ERROR, netlink.DONE}:
                    if is_one:
                        return [content]
                    answer.append(content)
                    continue
                number, words = netlink.failure(how, content)
                if number:
                    raise kernel_error(what, number, words)
                return answer if is_whole else None

    def netns_id(self, fd: int) -> int:
        """The number by which this socket's namespace knows another one; assigned if it has none.

        Args:
            fd: descriptor of the other namespace.

        Raises:
            KernelError: as the kernel answered.
        """
        what = "number a network namespace"
        by_fd = _RTGENMSG + netlink.u32(_NETNSA_FD, fd)
        try:
            self.request(what, NEW_NSID, by_fd + netlink.u32(_NETNSA_NSID, -1))
        except KernelError as e:
            if e.errno != errno.EEXIST:
                raise
        for found in self.request(what, GET_NSID, by_fd):
            number = netlink.number_of(netlink.attributes(found, len(_RTGENMSG)).get(_NETNSA_NSID))
            if number < 1 << 31:
                return number
        raise kernel_error(what, errno.ENOENT, "it has no number")


def kernel_error(what: str, number: int, said: str) -> KernelError:
    """The error for a refused request: "verb object: reason", with the errno's name in details."""
    number = abs(number)
    reason = said or os.strerror(number)
    return KernelError(f"{what}: {reason}", number, errno.errorcode.get(number, ""))


class Events:
    """Wake-ups when links or addresses of this thread's namespace change.

    To be opened before the state is read, so that no change in between is missed.

    Args:
        groups: which changes, a sum of ``GROUP_…``.
        limit_s: how long all waits together may take; strangers' events do not prolong it.
    """

    def __init__(self, groups: int, limit_s: float) -> None:
        self._until = time.monotonic() + limit_s
        self._socket = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE)
        try:
            self._socket.bind((0, groups))
        except OSError:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._socket.close()

    def wait_for(self, job: Job) -> None:
        """Wait until something changes, or until a job of the background has ended.

        Raises:
            KernelError: the time is up.
        """
        poller = select.poll()
        for fd in (self._socket.fileno(), job.fileno()):
            poller.register(fd, select.POLLIN)
        left_s = max(0.0, self._until - time.monotonic())
        if not poller.poll(left_s * 1000):
            raise KernelError("wait for the kernel: it does not come to an end", errno.ETIMEDOUT)
        try:
            while self._socket.recv(1 << 16, MSG_DONTWAIT):
                continue
        except BlockingIOError:
            return
        except OSError as e:
            if e.errno != errno.ENOBUFS:
                raise

    def wait(self, deadline: Deadline) -> bool:
        """Wait until something changes; False when the time is up."""
        timeout_s = min(deadline.remaining(), self._until - time.monotonic())
        if timeout_s <= 0:
            return False
        self._socket.settimeout(timeout_s)
        try:
            with deadline.waiting():
                self._socket.recv(1 << 16)
        except TimeoutError:
            return False
        except OSError as e:
            if e.errno != errno.ENOBUFS:  # too many events to keep: something surely changed
                raise
        return True
