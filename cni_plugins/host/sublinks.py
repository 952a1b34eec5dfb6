"""Making links in a container's namespace: macvlan, ipvlan, vlan, dummy, vrf.

A link is made by one request in the namespace it is for, also when its parent is in another one.

Source: ip-link(8), rtnetlink(7), IFLA_LINK_NETNSID of linux/if_link.h.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cni_plugins.undo import Undo

if TYPE_CHECKING:
    from cni_plugins.host.links import Links
    from cni_plugins.host.netns import NetNS
    from cni_plugins.host.snapshots import Link

MACVLAN_MODES = ("private", "vepa", "bridge", "passthru")
IPVLAN_MODES = ("l2", "l3", "l3s")


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
        specific: the kind's own attributes under pyroute2's names.

    Raises:
        KernelError: as the kernel answered.
    """
    given: dict[str, Any] = {"mtu": mtu, "address": mac, "link": parent.index if parent else 0}
    attributes = {key: value for key, value in given.items() if value} | specific
    if parent_home is not None:
        attributes["link_netnsid"] = links.rtnl.netns_id(parent_home.fileno())
    on = f" on {parent.name}" if parent else ""
    links.rtnl.request(
        f"add {kind} {name}{on}", "link", "add", ifname=name, kind=kind, **attributes
    )
    with Undo() as undo:
        # the index, by which everybody else undoes this, is not known yet
        undo.push(f"{kind} {name}", links.discard_name, name)
        return links.get(name)


def members(links: Links, master: Link) -> tuple[int, ...]:
    """The indexes of the links that belong to a VRF or a bridge."""
    found = links.rtnl.request(f"list members of {master.name}", "get_links", master=master.index)
    return tuple(m["index"] for m in found if m.get("IFLA_MASTER") == master.index)


def release(links: Links, member: Link) -> None:
    """Take a link out of its VRF or bridge."""
    links.rtnl.request(f"release {member.name}", "link", "set", index=member.index, master=0)
