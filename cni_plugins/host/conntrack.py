"""Entries of connection tracking, over ctnetlink.

Source: linux/netfilter/nfnetlink_conntrack.h; conntrack(8).
"""

from __future__ import annotations

import errno
import socket
import sys
from importlib.util import find_spec, module_from_spec

from cni_plugins.host.rtnl import kernel_error
from cni_plugins.protocol.addresses import Address, parse_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_AF = {4: socket.AF_INET, 6: socket.AF_INET6}


def flush_udp(family: int, port: int, is_ours: Callable[[Address], bool]) -> int:
    """Forget UDP conversations with a port, so that the next datagram meets the present rules.

    Args:
        family: 4 or 6.
        port: destination port as the client sees it.
        is_ours: whether a destination address as the client sees it is the port's.

    Returns:
        How many entries went.

    Raises:
        KernelError: connection tracking cannot be asked.
    """
    _spare_imports()
    from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415 - heavy
    from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple, NFCTSocket  # noqa: PLC0415

    wanted = NFCTAttrTuple(family=_AF[family], proto=socket.IPPROTO_UDP, dport=port)
    what = f"flush conntrack entries of udp port {port}"
    try:
        table = NFCTSocket(nfgen_family=_AF[family])
        try:
            found = [
                entry
                for entry in (
                    _original(message, _AF[family]) for message in table.dump(tuple_orig=wanted)
                )
                if entry.proto == socket.IPPROTO_UDP
                and entry.dport == port
                and is_ours(parse_address(entry.daddr))
            ]
            for entry in found:
                _delete(table, entry)
        finally:
            table.close()
    except NetlinkError as e:
        raise kernel_error(what, e.code, str(e)) from e
    except OSError as e:
        raise kernel_error(what, e.errno or 0, e.strerror or str(e)) from e
    return len(found)


def _spare_imports() -> None:
    """Stand in for the package's own ``__init__``, which imports all of pyroute2."""
    if "pyroute2" in sys.modules:
        return
    spec = find_spec("pyroute2")
    assert spec is not None
    sys.modules["pyroute2"] = module_from_spec(spec)


def _original(message: Any, family: int) -> Any:
    from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple  # noqa: PLC0415

    return NFCTAttrTuple.from_netlink(family, message.get_attr("CTA_TUPLE_ORIG"))


def _delete(table: Any, entry: Any) -> None:
    from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415

    try:
        table.entry("del", tuple_orig=entry)
    except NetlinkError as e:
        if e.code != errno.ENOENT:  # it ended meanwhile
            raise
