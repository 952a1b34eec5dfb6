"""vlan's verbs.

Source: ip-link(8), "VLAN Type Support"; IEEE 802.1Q.
"""

from __future__ import annotations

from cni_plugins import endpoint, sublink
from cni_plugins.plugin import Verbs
from vlan.conf import VlanConf, parse, parse_cleanup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.context import Context
    from cni_plugins.protocol.result import Result

KIND = "vlan"


def add(ctx: Context, conf: VlanConf) -> Result:
    """A VLAN of the parent, with addresses."""
    below = sublink.parent(ctx, conf)
    inside = sublink.make(ctx, conf, below, KIND, vlan_id=conf.vlan_id)
    return endpoint.attach(ctx, conf, inside)


def check(ctx: Context, conf: VlanConf) -> None:
    """Link, parent, VLAN id, MTU, MAC address, addresses and routes are as they were added."""
    endpoint.check_lease(ctx, conf)
    found, inside = endpoint.problems(ctx, conf.chained, KIND)
    if inside is not None and inside.kind == KIND:
        if inside.detail.vlan_id != conf.vlan_id:
            found.append(f"{inside.name} has VLAN id {inside.detail.vlan_id}, not {conf.vlan_id}")
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
