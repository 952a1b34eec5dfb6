"""loopback's verbs.

The interface is always ``lo``, whatever CNI_IFNAME says; the kernel gives it its addresses when it
comes up.
"""

from __future__ import annotations

from cni_plugins.errors import KernelError
from cni_plugins.plugin import Verbs
from cni_plugins.protocol.addresses import Network, parse_network
from cni_plugins.protocol.result import IP, Interface, Result
from loopback.conf import LoopbackConf, parse, parse_cleanup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.context import Context

LO = "lo"
_LOOPBACK = (parse_network("127.0.0.0/8"), parse_network("::1/128"))


def add(ctx: Context, conf: LoopbackConf) -> Result:
    """Bring lo up and report its addresses, or pass on the result of the plugin before."""
    lo = ctx.container.get(LO)
    ctx.container.set(lo, up=True)
    networks = [entry.network for entry in ctx.container.addresses(lo)]
    for network in networks:
        if not _is_loopback(network):
            raise KernelError(f"bring up {LO}: it has {network}, which is no loopback address")
    if conf.chained is not None:
        return conf.chained
    firsts = [next((n for n in networks if n.family == family), None) for family in (4, 6)]
    return Result(
        interfaces=(Interface(name=LO, mac=lo.mac, sandbox=ctx.netns_path),),
        ips=tuple(IP(address=network, interface=0) for network in firsts if network is not None),
    )


def delete(ctx: Context, _conf: LoopbackConf) -> None:
    """Take lo down; nothing to do when the namespace is gone."""
    if ctx.find_netns() is None:
        return
    ctx.container.set(ctx.container.get(LO), up=False)


def check(ctx: Context, _conf: LoopbackConf) -> None:
    """Lo is up."""
    if not ctx.container.get(LO).is_up:
        raise KernelError(f"check {LO} in {ctx.netns_path}: it is down")


def status(_ctx: Context, _conf: LoopbackConf) -> None:
    """Always ready: every namespace has its lo."""


def gc(_ctx: Context, _conf: LoopbackConf) -> None:
    """Nothing outlives the namespace."""


def _is_loopback(network: Network) -> bool:
    return any(network.address in loopback for loopback in _LOOPBACK)


VERBS = Verbs(
    parse=parse,
    parse_cleanup=parse_cleanup,
    add=add,
    delete=delete,
    check=check,
    status=status,
    gc=gc,
    journaled=False,
)
