"""macvlan's verbs.

Source: ip-link(8), "MACVLAN and MACVTAP Type Support".
"""

from __future__ import annotations

from cni_plugins import endpoint, sublink
from cni_plugins.plugin import Verbs
from macvlan.conf import MacvlanConf, parse, parse_cleanup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.context import Context
    from cni_plugins.protocol.result import Result

KIND = "macvlan"


def add(ctx: Context, conf: MacvlanConf) -> Result:
    """A link on the parent, with addresses if there is an IPAM plugin."""
    below = sublink.parent(ctx, conf)
    queue = {"macvlan_bc_queue_len": conf.bc_queue_len} if conf.bc_queue_len else {}
    own = {"macvlan_mode": conf.mode, **queue}
    inside = sublink.make(ctx, conf, below, KIND, mac=conf.mac or "", **own)
    return endpoint.attach(ctx, conf, inside)


def check(ctx: Context, conf: MacvlanConf) -> None:
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
