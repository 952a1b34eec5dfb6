"""bandwidth's verbs: token buckets on the host's end of the container's veth pair.

What the container receives is limited where it leaves the host: on the host's end.  What it sends
comes in there, is redirected to an ifb device of its own and limited where it leaves that.
"""

from __future__ import annotations

from bandwidth.conf import BandwidthConf, parse, parse_cleanup
from cni_plugins.errors import CniError, KernelError
from cni_plugins.frozen import replace
from cni_plugins.host import tc
from cni_plugins.plugin import Verbs
from cni_plugins.protocol.digests import sha512
from cni_plugins.protocol.result import Interface, Result
from cni_plugins.undo import Cleanup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bandwidth.rates import Limit
    from cni_plugins.context import Context
    from cni_plugins.host.snapshots import Link
    from cni_plugins.host.tc import Tbf

PREFIX, LENGTH = "bwp", 15
_PRIORITY = 1


def add(ctx: Context, conf: BandwidthConf) -> Result:
    """Limit both directions; the ifb device, if there is one, joins the result."""
    assert conf.chained is not None
    if conf.ingress is None and conf.egress is None:
        return conf.chained
    host = host_end(ctx, conf.chained)
    refuse_foreign_root(ctx, host)
    ctx.plan |= {"link_index": host.index, "link_name": host.name}
    if conf.ingress is not None:
        ctx.undo.push("limit", tc.discard_tbf, ctx.host.rtnl, host)
        tc.set_tbf(ctx.host.rtnl, host, bucket(conf.ingress))
    if conf.egress is None:
        return conf.chained
    ifb = add_ifb(ctx, host)
    ctx.undo.push("redirection", discard_redirection, ctx, host, ifb)
    parent, is_own = tc.ensure_ingress(ctx.host.rtnl, host)
    priority = _PRIORITY if is_own else 0
    tc.redirect(ctx.host.rtnl, host, parent, ifb, priority=priority)
    tc.set_tbf(ctx.host.rtnl, ifb, bucket(conf.egress))
    interface = Interface(name=ifb.name, mac=ifb.mac)
    return replace(conf.chained, interfaces=(*conf.chained.interfaces, interface))


def delete(ctx: Context, _conf: BandwidthConf) -> None:
    """Take the limits away from whatever of the veth pair and the ifb device is still there."""
    with Cleanup() as cleanup:
        host = find_host_end(ctx)
        ifb = find_ifb(ctx)
        if host is not None:
            cleanup.attempt("limit", tc.discard_tbf, ctx.host.rtnl, host)
            if ifb is not None:
                cleanup.attempt("redirection", discard_redirection, ctx, host, ifb)
        if ifb is not None:
            cleanup.attempt("ifb device", ctx.host.discard_index, ifb.index)


def check(ctx: Context, conf: BandwidthConf) -> None:
    """Limits and redirection are in the kernel with the values asked for."""
    assert conf.chained is not None
    host = host_end(ctx, conf.chained)
    problems = []
    if conf.ingress is not None:
        problems += compare(ctx, host, bucket(conf.ingress))
    if conf.egress is not None:
        ifb = find_ifb(ctx)
        if ifb is None:
            problems.append("get ifb device: Link not found")
        else:
            problems += compare(ctx, ifb, bucket(conf.egress))
            if not ifb.is_up:
                problems.append(f"{ifb.name} is down")
            targets = [entry.target for entry in tc.redirects(ctx.host.rtnl, host)]
            if ifb.index not in targets:
                problems.append(f"what comes in on {host.name} is not redirected to {ifb.name}")
    if problems:
        raise CniError(999, f"check {ctx.ifname}: {'; '.join(problems)}")


def status(_ctx: Context, _conf: BandwidthConf) -> None:
    """Ready: the kernel says at ADD what it lacks."""


def gc(ctx: Context, _conf: BandwidthConf) -> None:
    """Remove ifb devices of this network's attachments that neither list nor journal knows."""
    keep = (ctx.valid or frozenset()) | ctx.journalled
    if ctx.valid is None:
        return
    with Cleanup() as cleanup:
        for ifb in ctx.host.of_kind("ifb"):
            owner = ifb.alias.split(" ")
            if owner[:2] == ["cni-bandwidth", ctx.network] and tuple(owner[2:]) not in keep:
                cleanup.attempt(f"ifb device {ifb.name}", ctx.host.discard_index, ifb.index)


def bucket(limit: Limit) -> Tbf:
    """The token bucket on this node."""
    return limit.tbf(tc.ticks)


def alias(ctx: Context) -> str:
    """Whose an ifb device is."""
    return f"cni-bandwidth {ctx.network} {ctx.container_id} {ctx.ifname}"


def ifb_names(network: str, container_id: str, ifname: str) -> tuple[str, str]:
    """The reference's name, without the ifname; and one for a container's further attachment."""
    texts = (f"{network}{container_id}", f"{network}{container_id}{ifname}")
    first, second = (sha512(text.encode()).hexdigest() for text in texts)
    return (PREFIX + first)[:LENGTH], (PREFIX + second)[:LENGTH]


def add_ifb(ctx: Context, host: Link) -> Link:
    """The attachment's ifb device; a leftover of its own makes way.

    Raises:
        KernelError: the kernel makes none.
    """
    stale = find_ifb(ctx)
    if stale is not None:
        ctx.host.discard_index(stale.index)
    first, second = ifb_names(ctx.network, ctx.container_id, ctx.ifname)
    name = second if ctx.host.find(first) else first
    ifb = tc.add_ifb(ctx.host, name, mtu=host.mtu, alias=alias(ctx))
    ctx.undo.push(f"ifb {name}", ctx.host.discard_index, ifb.index)
    return ifb


def find_ifb(ctx: Context) -> Link | None:
    """The attachment's ifb device: its alias says so, or it has none and the reference's name."""
    first, second = ifb_names(ctx.network, ctx.container_id, ctx.ifname)
    for name in (first, second):
        found = ctx.host.find(name)
        if found is None or found.kind != "ifb":
            continue
        if found.alias == alias(ctx) or (name == first and not found.alias):
            return found
    return None


def discard_redirection(ctx: Context, host: Link, ifb: Link) -> None:
    """Take away the redirection to the ifb device, and the qdisc that is empty without it."""
    for entry in tc.redirects(ctx.host.rtnl, host):
        if entry.target == ifb.index:
            tc.discard_redirect(ctx.host.rtnl, host, entry)
    tc.discard_ingress(ctx.host.rtnl, host)


def refuse_foreign_root(ctx: Context, host: Link) -> None:
    """A root qdisc that somebody put there on purpose is not replaced.

    Raises:
        KernelError: there is one; nothing was changed.
    """
    found = tc.root(ctx.host.rtnl, host)
    if found is not None and found.handle and not found.is_ours:
        raise KernelError(
            f"limit {host.name}: its root qdisc {found.kind} {found.handle >> 16:x}: "
            "was made by somebody else"
        )


def compare(ctx: Context, link: Link, wanted: Tbf) -> list[str]:
    """What is wrong with a link's token bucket."""
    qdisc = tc.root(ctx.host.rtnl, link)
    found = qdisc.tbf if qdisc is not None else None
    if found is None:
        return [f"{link.name} has no tbf qdisc"]
    return [
        f"{name} of {link.name} is {is_now}, not {wanted_now}: {name} doesn't match"
        for name, is_now, wanted_now in (
            ("Rate", found.rate, wanted.rate),
            ("Limit", found.limit, wanted.limit),
            ("Buffer", found.buffer, wanted.buffer),
        )
        if is_now != wanted_now
    ]


def host_end(ctx: Context, result: Result) -> Link:
    """The host's end of the container's veth pair.

    Raises:
        CniError: the container's interface is no veth, or its peer is not in prevResult.
    """
    if not result.interfaces:
        raise CniError(999, "no interfaces provided", "prevResult.interfaces")
    inside = ctx.container.get(ctx.ifname)
    if inside.kind != "veth" or not inside.peer:
        raise CniError(
            999,
            f"container interface {ctx.ifname} has no veth peer: it is {inside.kind or 'a device'}",
            "bandwidth limits veth pairs, as bridge and ptp make them",
        )
    outside = peer_of(ctx, inside)
    if outside is None:
        raise CniError(999, f"veth peer with index {inside.peer} is not in host ns")
    named = {i.name for i in result.interfaces if not i.sandbox}
    if outside.name not in named:
        raise CniError(
            999,
            "no veth peer of container interface found in host ns",
            f"prevResult.interfaces does not have {outside.name}",
        )
    return outside


def peer_of(ctx: Context, inside: Link) -> Link | None:
    """The other end of a veth pair, if it is in the host's namespace."""
    outside = ctx.host.find_index(inside.peer) if inside.peer else None
    is_pair = outside is not None and outside.kind == "veth" and outside.peer == inside.index
    return outside if is_pair else None


def find_host_end(ctx: Context) -> Link | None:
    """The host's end, as the namespace or the journal tells; None when it is gone."""
    if ctx.find_netns() is not None:
        inside = ctx.container.find(ctx.ifname)
        outside = peer_of(ctx, inside) if inside else None
        if outside is not None:
            return outside
    if ctx.record is not None:
        noted = ctx.record.witness
        link = ctx.host.find_index(noted.link_index) if noted.link_index else None
        return link if link is not None and link.name == noted.link_name else None
    return None


VERBS = Verbs(
    parse=parse,
    parse_cleanup=parse_cleanup,
    add=add,
    delete=delete,
    check=check,
    status=status,
    gc=gc,
)
