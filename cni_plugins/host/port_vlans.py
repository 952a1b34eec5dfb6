"""The VLAN ids of bridge ports.

Source: bridge(8), "bridge vlan"; linux/if_bridge.h.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cni_plugins.errors import KernelError
from cni_plugins.host.rtnl import kernel_error

if TYPE_CHECKING:
    from cni_plugins.host.rtnl import Rtnl
    from cni_plugins.host.snapshots import Link

_PVID, _UNTAGGED = 0x2, 0x4
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Vlan:
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
    listings = (rtnl.request(what, "get_vlans", index=port.index) for _ in range(_ATTEMPTS))
    found = next(filter(None, listings), None)
    if found is None:
        raise kernel_error(what, errno.ENODEV, "it is not among the bridge ports")
    infos = [
        info
        for message in found
        if (spec := message.get("IFLA_AF_SPEC")) is not None
        for info in spec.get_attrs("IFLA_BRIDGE_VLAN_INFO")
    ]
    return tuple(
        Vlan(info["vid"], bool(info["flags"] & _PVID), bool(info["flags"] & _UNTAGGED))
        for info in infos
    )


def add_native(rtnl: Rtnl, port: Link, vid: int) -> None:
    """Let untagged frames of a bridge port belong to a VLAN."""
    _add(rtnl, port, {"vid": vid, "flags": _PVID | _UNTAGGED})


def add_tagged(rtnl: Rtnl, port: Link, first: int, last: int) -> None:
    """Let a bridge port carry the VLANs from ``first`` to ``last``, tagged."""
    info = {"vid": first, "flags": 0} if first == last else {"vid": f"{first}-{last}"}
    _add(rtnl, port, info)


def _add(rtnl: Rtnl, port: Link, info: dict[str, Any]) -> None:
    what = f"add VLAN {info['vid']} to {port.name}"
    rtnl.request(what, "vlan_filter", "add", index=port.index, vlan_info=info)


def discard(rtnl: Rtnl, port: Link, vid: int) -> None:
    """Take a VLAN id from a bridge port."""
    what = f"delete VLAN {vid} of {port.name}"
    try:
        rtnl.request(what, "vlan_filter", "del", index=port.index, vlan_info={"vid": vid})
    except KernelError as e:
        if e.errno != errno.ENOENT:
            raise
