"""ipvlan's verbs.

Source: Documentation/networking/ipvlan.rst of the Linux kernel.
"""

from __future__ import annotations

from cni_plugins import endpoint, sublink
from cni_plugins.plugin import Verbs
from ipvlan.conf import IpvlanConf, parse, parse_cleanup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.context import Context
    from cni_plugins.protocol.result import Result

KIND = "ipvlan"


def add(ctx: Context, conf: IpvlanConf) -> Result:
    """A link on the parent, with leased addresses or those of the plugin before."""
    below = sublink.parent(ctx, conf)
    inside = sublink.make(ctx, conf, below, KIND, ipvlan_mode=conf.mode)
    return endpoint.attach(ctx, conf, inside, None if conf.ipam.type else conf.chained)


def check(ctx: Context, conf: IpvlanConf) -> None:
    """Link, parent, mode, MAC address, addresses and routes are as they were added."""
    endpoint.check_lease(ctx, conf)
    found, inside = endpoint.problems(ctx, conf.chained, KIND)
    if inside is not None and inside.kind == KIND:
        if inside.detail.mode != conf.mode:
            found.append(f"{inside.name} is in mode {inside.detail.mode}, not {conf.mode}")
        found += sublink.parent_problems(ctx, conf, inside)
    endpoint.refuse(f"check {ctx.ifname}", found)


VERBS = Verbs(
    parse=parse,
    parse_cleanup=parse_cleanup,
    add=add,
    delete=endpoint.delete,
    check=check,
    status=endpoint.status,
    gc=endpoint.gc,
)
