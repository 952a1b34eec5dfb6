"""Making links in a container's namespace: macvlan, ipvlan, vlan, dummy, vrf.

A link is made by one request in the namespace it is for, also when its parent is in another one.

Source: ip-link(8), rtnetlink(7), IFLA_LINK_NETNSID of linux/if_link.h.
"""

from __future__ import annotations

from cni_plugins.host import messages
from cni_plugins.host.messages import (
    IFLA_LINK,
    IFLA_LINK_NETNSID,
    IFLA_MASTER,
    INFO_VALUE,
    MACVLAN_MODE_NUMBERS,
)
from cni_plugins.host.netlink import u16, u32
from cni_plugins.undo import Undo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cni_plugins.host.links import Links
    from cni_plugins.host.netns import NetNS
    from cni_plugins.host.snapshots import Link

IPVLAN_MODES = messages.IPVLAN_MODES
MACVLAN_MODES = ("private", "vepa", "bridge", "passthru")
_MACVLAN_BC_QUEUE_LEN = 7
_SPECIFIC: dict[str, Callable[[Any], bytes]] = {
    "macvlan_mode": lambda mode: u32(INFO_VALUE, MACVLAN_MODE_NUMBERS[mode]),
    "macvlan_bc_queue_len": lambda length: u32(_MACVLAN_BC_QUEUE_LEN, length),
    "ipvlan_mode": lambda mode: u16(INFO_VALUE, IPVLAN_MODES.index(mode)),
    "vlan_id": lambda vid: u16(INFO_VALUE, vid),
    "vrf_table": lambda table: u32(INFO_VALUE, table),
}
"""What only some kinds have."""


def add(  # noqa: PLR0913 - what one request says
    links: Links,
    name: str,
    kind: str,
    *,
    parent: Link | None = None,
    parent_home: NetNS | None = None,
    mtu: int = 0,
    mac: str = "",
    **specific: Any,
) -> Link:
    """Make a link.

    Args:
        links: of the namespace the link is for.
        name: its name.
        kind: ``macvlan``, ``ipvlan``, ``vlan``, ``dummy``, ``vrf``.
        parent: the link below it.
        parent_home: the namespace of the parent, if it is another one.
        mtu: bytes, 0 for the kernel's choice.
        mac: MAC address, "" for the kernel's choice.
        specific: the kind's own: ``macvlan_mode`` and ``ipvlan_mode`` as ip-link(8) writes them,
            ``macvlan_bc_queue_len`` in packets, ``vlan_id``, ``vrf_table``.

    Raises:
        KernelError: as the kernel answered.
    """
    more = u32(IFLA_LINK, parent.index) if parent else b""
    if parent_home is not None:
        more += u32(IFLA_LINK_NETNSID, links.rtnl.netns_id(parent_home.fileno()))
    data = b"".join(_SPECIFIC[key](value) for key, value in specific.items())
    on = f" on {parent.name}" if parent else ""
    links.add(name, kind, data, more, what=f"add {kind} {name}{on}", mtu=mtu, mac=mac)
    with Undo() as undo:
        # the index, by which everybody else undoes this, is not known yet
        undo.push(f"{kind} {name}", links.discard_name, name)
        return links.get(name)


def members(links: Links, master: Link) -> tuple[int, ...]:
    """The indexes of the links that belong to a VRF or a bridge."""
    found = links.every(f"list members of {master.name}", u32(IFLA_MASTER, master.index))
    return tuple(link.index for link in found if link.master == master.index)


def release(links: Links, member: Link) -> None:
    """Take a link out of its VRF or bridge."""
    links.change(f"release {member.name}", member.index, u32(IFLA_MASTER, 0))
