"""dummy's verbs."""

from __future__ import annotations

from cni_plugins import endpoint
from cni_plugins.host import sublinks
from cni_plugins.plugin import Verbs
from dummy.conf import DummyConf, parse, parse_cleanup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.context import Context
    from cni_plugins.protocol.result import Result

KIND = "dummy"


def add(ctx: Context, conf: DummyConf) -> Result:
    """A dummy link with addresses."""
    endpoint.refuse_taken_ifname(ctx)
    inside = sublinks.add(ctx.container, ctx.ifname, KIND)
    ctx.undo.push(f"dummy {ctx.ifname}", ctx.container.discard_index, inside.index)
    return endpoint.attach(ctx, conf, inside)


def check(ctx: Context, conf: DummyConf) -> None:
    """Link, MAC address, addresses and routes are as they were added."""
    endpoint.check_lease(ctx, conf)
    found, _ = endpoint.problems(ctx, conf.chained, KIND)
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
