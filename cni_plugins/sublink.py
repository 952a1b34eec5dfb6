"""What macvlan, ipvlan and vlan share: a link in the container that stands on a parent link.

The parent is on the host, or with ``linkInContainer`` in the container.
"""

from __future__ import annotations

from cni_plugins import endpoint
from cni_plugins.errors import ConfigError
from cni_plugins.frozen import replace
from cni_plugins.host import devices, sublinks
from cni_plugins.protocol import names
from cni_plugins.protocol.config import flag, integer, key, text
from cni_plugins.undo import Undo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_plugins.context import Context
    from cni_plugins.host.links import Links
    from cni_plugins.host.snapshots import Link


class SublinkConf(endpoint.EndpointConf):
    """The keys that the three plugins have in common."""

    master: str = key("master", text, default="", doc="the parent link")
    mtu: int = key("mtu", integer(), default=0, doc="bytes; 0 for the parent's")
    link_in_container: bool = key(
        "linkInContainer", flag, default=False, doc="the parent is in the container"
    )


def home(ctx: Context, conf: SublinkConf) -> Links:
    """Where the parent is."""
    return ctx.container if conf.link_in_container else ctx.host


def parent(ctx: Context, conf: SublinkConf) -> Link:
    """The parent: the one that is named, else the link of the first default route.

    Raises:
        ConfigError: it is missing, there is no default route, or it cannot carry the MTU.
    """
    links = home(ctx, conf)
    where = "in the container" if conf.link_in_container else "on the host"
    if conf.master:
        found = links.find(conf.master)
        if found is None:
            raise ConfigError("master", f"there is no link {conf.master} {where}")
    else:
        found = _of_default_route(links)
        if found is None:
            raise ConfigError("master", f"not given, and there is no default route {where}")
    if not 0 <= conf.mtu <= found.mtu:
        raise ConfigError("mtu", f"invalid MTU {conf.mtu}, must be [0, master MTU({found.mtu})]")
    return found


def _of_default_route(links: Links) -> Link | None:
    for family in (4, 6):
        for route in links.routes(family=family):
            if route.dst.is_default and route.oif:
                return links.get_index(route.oif)
    return None


def make(
    ctx: Context, conf: SublinkConf, below: Link, kind: str, *, mac: str = "", **specific: Any
) -> Link:
    """The container's link on its parent; an ADD that fails later removes it.

    Kernels before 6.14 make a link whose parent is in another namespace there first, where its
    name may be taken: it is made under another name and renamed.
    """
    from cni_plugins.host.netns import NetNS  # noqa: PLC0415 - loads ctypes

    endpoint.refuse_taken_ifname(ctx)
    own = {"kind": kind, "parent": below, "mtu": conf.mtu, "mac": mac, **specific}
    if conf.link_in_container:
        inside = sublinks.add(ctx.container, ctx.ifname, **own)
    else:
        draft = names.draft(ctx.network, ctx.container_id, ctx.ifname)
        with NetNS.current() as here:
            inside = sublinks.add(ctx.container, draft, parent_home=here, **own)
        with Undo() as undo:
            undo.push(draft, ctx.container.discard_index, inside.index)
            devices.rename(ctx.container, inside, ctx.ifname)
        inside = replace(inside, name=ctx.ifname)
    ctx.undo.push(f"{kind} {ctx.ifname}", ctx.container.discard_index, inside.index)
    return inside


def parent_problems(ctx: Context, conf: SublinkConf, inside: Link) -> list[str]:
    """Whether the link still stands on its parent, and has the MTU that was asked for."""
    found = []
    below = home(ctx, conf).find(conf.master) if conf.master else None
    if conf.master and below is None:
        found.append(f"its parent {conf.master} is gone")
    elif below is not None and inside.peer != below.index:
        found.append(f"{inside.name} does not stand on {conf.master}")
    if conf.mtu and inside.mtu != conf.mtu:
        found.append(f"{inside.name} has MTU {inside.mtu}, not {conf.mtu}")
    return found
