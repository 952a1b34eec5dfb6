"""rtnetlink: the one place every request goes through, and with rtnl_socket pyroute2's home.

Source: rtnetlink(7).
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import time
from importlib.util import find_spec, module_from_spec
from typing import TYPE_CHECKING, Any, Self

from cni_plugins.errors import KernelError

if TYPE_CHECKING:
    from cni_plugins.deadline import Deadline

GROUP_LINK = 1 << 0
GROUP_IPV6_ADDRESS = 1 << 8
_DUMP_ATTEMPTS = 10
_DUMP_INTERRUPTED = 0x10
"""NLM_F_DUMP_INTR of linux/netlink.h: what is listed changed in between, entries may be missing."""


class Rtnl:
    """One rtnetlink socket, in the network namespace of the thread that opens it."""

    def __init__(self) -> None:
        spare_imports()
        # longer than the rest of a call
        from cni_plugins.host.rtnl_socket import RtnlSocket  # noqa: PLC0415

        self._socket = RtnlSocket()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def request(self, what: str, method: str, *args: Any, **attributes: Any) -> list[Any]:
        """Send one request and read its whole answer; dumps that the kernel interrupted again.

        Args:
            what: "verb object" for the error, such as ``add veth veth0``.
            method: name of an IPRoute method.
            args: its arguments.
            attributes: its attributes.

        Raises:
            KernelError: with the kernel's errno and, where it gives one, its own explanation.
        """
        from pyroute2.netlink.exceptions import (  # noqa: PLC0415 - as above
            NetlinkDumpInterrupted,
            NetlinkError,
        )

        if method == "tc":
            _complete_tbf()
        elif attributes.get("kind") == "macvlan":
            _complete_macvlan()
        for _ in range(_DUMP_ATTEMPTS):
            try:
                answer = list(self._socket.call(method, *args, **attributes) or ())
            except NetlinkDumpInterrupted:  # pyroute2 has the class, and 0.9.7 never raises it
                continue
            except NetlinkError as e:
                raise kernel_error(what, e.code, str(e.args[1] if len(e.args) > 1 else "")) from e
            except OSError as e:
                raise kernel_error(what, e.errno or 0, e.strerror or str(e)) from e
            if not any(message["header"]["flags"] & _DUMP_INTERRUPTED for message in answer):
                return answer
        raise kernel_error(what, errno.EAGAIN, "the kernel interrupted the listing again and again")

    def netns_id(self, fd: int) -> int:
        """The number by which this socket's namespace knows another one; assigned if it has none.

        Args:
            fd: descriptor of the other namespace.

        Raises:
            KernelError: as the kernel answered.
        """
        try:
            self.request("number a network namespace", "set_netnsid", fd=fd)
        except KernelError as e:
            if e.errno != errno.EEXIST:
                raise
        found = self._socket.call("get_netnsid", fd=fd)
        number = found["nsid"] if found else -1
        if number < 0:
            raise kernel_error("number a network namespace", errno.ENOENT, "it has no number")
        return int(number)


def spare_imports() -> None:
    """Stand in for the package's own ``__init__``, which imports all of pyroute2: half its time."""
    if "pyroute2" in sys.modules:
        return
    spec = find_spec("pyroute2")
    assert spec is not None
    sys.modules["pyroute2"] = module_from_spec(spec)


def _complete_tbf() -> None:
    """Teach pyroute2 the whole of tbf: it derives values its own way, and knows no 64-bit rates.

    Attributes are given as ``tbf=[[name, value], …]``.
    Source: linux/pkt_sched.h, TCA_TBF_….
    """
    from pyroute2.netlink.rtnl.tcmsg import plugins, sched_tbf  # noqa: PLC0415 - as above

    if plugins["tbf"] is not sched_tbf:
        return

    class Options(sched_tbf.options):  # type: ignore[misc]
        nla_map = (
            *sched_tbf.options.nla_map,
            ("TCA_TBF_RATE64", "uint64"),
            ("TCA_TBF_PRATE64", "uint64"),
        )

    class Tbf:
        parent = sched_tbf.parent
        options = Options

        @staticmethod
        def get_parameters(given: dict[str, Any]) -> dict[str, Any]:
            return {"attrs": given.get("tbf", [])}

        @staticmethod
        def fix_request(request: dict[str, Any]) -> None:
            request.pop("tbf", None)

    plugins["tbf"] = Tbf


def _complete_macvlan() -> None:
    """Teach pyroute2 macvlan's queue of broadcasts.

    Source: linux/if_link.h, IFLA_MACVLAN_….
    """
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg  # noqa: PLC0415 - as above

    known = ifinfmsg.ifinfo.data_map["macvlan"]
    name = "IFLA_MACVLAN_BC_QUEUE_LEN"
    if any(entry[0] == name for entry in known.nla_map):
        return

    class Macvlan(known):  # type: ignore[misc, valid-type]
        nla_map = (*known.nla_map, (name, "uint32"), ("IFLA_MACVLAN_BC_QUEUE_LEN_USED", "uint32"))

    ifinfmsg.ifinfo.data_map["macvlan"] = Macvlan


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
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        try:
            self._socket.bind((0, groups))
        except OSError:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._socket.close()

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
