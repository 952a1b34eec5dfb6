"""The VLAN ids of bridge ports.

Source: bridge(8), "bridge vlan"; linux/if_bridge.h.
"""

from __future__ import annotations

import errno
import struct

from cni_plugins.errors import KernelError
from cni_plugins.frozen import Frozen
from cni_plugins.host.messages import IFLA_AF_SPEC, LINK_HEADER
from cni_plugins.host.netlink import attribute, attributes, each, nested, u32
from cni_plugins.host.rtnl import DEL_LINK, GET_LINK, SET_LINK, kernel_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.host.rtnl import Rtnl
    from cni_plugins.host.snapshots import Link

_PVID, _UNTAGGED, _RANGE_BEGIN, _RANGE_END = 0x2, 0x4, 0x8, 0x10
_AF_BRIDGE = 7
_WITH_VLANS = u32(29, 2)
"""IFLA_EXT_MASK: RTEXT_FILTER_BRVLAN."""
_INFO = struct.Struct("=HH")
"""struct bridge_vlan_info: flags, VLAN id."""
_BRIDGE_VLAN_INFO = 2
_ATTEMPTS = 5


class Vlan(Frozen, kw_only=False):
    """A VLAN id that a bridge port carries."""

    vid: int
    is_pvid: bool
    is_untagged: bool


def carried(rtnl: Rtnl, port: Link) -> tuple[Vlan, ...]:
    """The VLAN ids a bridge port carries.

    The kernel lists all ports and skips some without a word when others go meanwhile: a port that
    is not listed is looked for again, or it would pass for one without VLANs.
    """
    what = f"list VLANs of {port.name}"
    body = LINK_HEADER.pack(_AF_BRIDGE, 0, 0, 0, 0) + _WITH_VLANS
    listings = (_own(rtnl.dump(what, GET_LINK, body), port) for _ in range(_ATTEMPTS))
    found = next(filter(None, listings), None)
    if found is None:
        raise kernel_error(what, errno.ENODEV, "it is not among the bridge ports")
    return tuple(
        Vlan(vid, bool(flags & _PVID), bool(flags & _UNTAGGED))
        for message in found
        for number, value in each(attributes(message, LINK_HEADER.size).get(IFLA_AF_SPEC, b""))
        if number == _BRIDGE_VLAN_INFO
        for flags, vid in (_INFO.unpack(value),)
    )


def _own(found: list[bytes], port: Link) -> list[bytes]:
    return [m for m in found if LINK_HEADER.unpack_from(m)[2] == port.index]


def add_native(rtnl: Rtnl, port: Link, vid: int) -> None:
    """Let untagged frames of a bridge port belong to a VLAN."""
    rtnl.request(
        f"add VLAN {vid} to {port.name}", SET_LINK, _message(port, (_PVID | _UNTAGGED, vid))
    )


def add_tagged(rtnl: Rtnl, port: Link, first: int, last: int) -> None:
    """Let a bridge port carry the VLANs from ``first`` to ``last``, tagged."""
    which = f"{first}" if first == last else f"{first}-{last}"
    ends = ((0, first),) if first == last else ((_RANGE_BEGIN, first), (_RANGE_END, last))
    rtnl.request(f"add VLAN {which} to {port.name}", SET_LINK, _message(port, *ends))


def _message(port: Link, *infos: tuple[int, int]) -> bytes:
    """A message about VLANs of a port, each as its flags and id."""
    listed = (attribute(_BRIDGE_VLAN_INFO, _INFO.pack(*info)) for info in infos)
    return LINK_HEADER.pack(_AF_BRIDGE, 0, port.index, 0, 0) + nested(IFLA_AF_SPEC, *listed)


def discard(rtnl: Rtnl, port: Link, vid: int) -> None:
    """Take a VLAN id from a bridge port."""
    what = f"delete VLAN {vid} of {port.name}"
    try:
        rtnl.request(what, DEL_LINK, _message(port, (0, vid)))
    except KernelError as e:
        if e.errno != errno.ENOENT:
            raise
