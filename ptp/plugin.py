"""ptp's verbs: the container and the host, each at one end of a veth pair.

The container reaches everything, its own subnet too, through the gateway address that the host's
end has; the host has a route to each of the container's addresses.
"""

from __future__ import annotations

import errno

from cni_plugins import endpoint, ipmasq
from cni_plugins.errors import CniError, KernelError
from cni_plugins.frozen import replace
from cni_plugins.host import routing, sysctl
from cni_plugins.host.routing import HeldRoute
from cni_plugins.plugin import Verbs
from cni_plugins.protocol import names
from cni_plugins.protocol.result import Interface
from cni_plugins.undo import Cleanup
from ptp.conf import PtpConf, parse, parse_cleanup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_plugins.context import Context
    from cni_plugins.host.snapshots import Link
    from cni_plugins.protocol.result import Result

KIND = "veth"
SCOPE_HOST = 254
_NAME_ATTEMPTS = 4


def add(ctx: Context, conf: PtpConf) -> Result:
    """The pair, addresses at both ends, routes between them."""
    endpoint.refuse_taken_ifname(ctx)
    port = add_veth(ctx, conf)
    ctx.undo.push(f"veth {port.name}", ctx.host.discard_index, port.index)
    ctx.plan |= {"link_index": port.index, "link_name": port.name}
    inside = ctx.container.get(ctx.ifname)
    lease = endpoint.lease(ctx, conf)
    for ip in lease.ips:
        if ip.gateway is None:
            raise CniError(
                999, f"{conf.ipam.type}: {ip.address} has no gateway", "ptp's host end needs one"
            )
    configure_container(ctx, inside, lease)
    finish_masquerade = ipmasq.begin_add(ctx, conf.masq_backend, lease, is_configured=conf.ip_masq)
    configure_host(ctx, port, lease)
    finish_masquerade()
    interfaces = (
        Interface(name=port.name, mac=port.mac),
        Interface(name=ctx.ifname, mac=inside.mac, sandbox=ctx.netns_path),
    )
    result = lease.with_interfaces(*interfaces, ips_on=1)
    return replace(result, dns=conf.dns.as_dns()) if conf.has_own_dns else result


def add_veth(ctx: Context, conf: PtpConf) -> Link:
    """The pair under its deterministic name, or a further candidate if a stranger has that."""
    for attempt in range(_NAME_ATTEMPTS):
        name = names.veth(ctx.network, ctx.container_id, ctx.ifname, attempt)
        try:
            return ctx.host.add_veth(name, peer=ctx.ifname, peer_netns=ctx.netns, mtu=conf.mtu)
        except KernelError as e:
            if e.errno != errno.EEXIST or attempt == _NAME_ATTEMPTS - 1:
                raise
    raise AssertionError  # the last attempt returned or raised


def configure_container(ctx: Context, inside: Link, lease: Result) -> None:
    """Addresses; each one's subnet is behind its gateway, which is on the link."""
    endpoint.prepare(ctx, lease)
    for ip in lease.ips:
        ctx.container.add_address(inside, ip.address, prefix_route=False)
    ctx.container.set(inside, up=True)
    for ip in lease.ips:
        assert ip.gateway is not None
        source = ip.address.address
        on_link = HeldRoute(
            dst=ip.gateway.host, oif=inside.index, src=source, scope=routing.SCOPE_LINK
        )
        routing.put(ctx.container, on_link)
        if ip.address.masked != ip.gateway.host:
            subnet = HeldRoute(dst=ip.address, oif=inside.index, gw=ip.gateway, src=source)
            routing.put(ctx.container, subnet)
    for route in lease.routes:
        ctx.container.add_route(inside, endpoint.with_gateway(route, lease))


def configure_host(ctx: Context, port: Link, lease: Result) -> None:
    """The gateway addresses, routes to the container's, forwarding."""
    sysctl.refuse_router_advertisements(port.name)
    sysctl.set_dad(port.name, enabled=False)
    for gateway in dict.fromkeys(ip.gateway for ip in lease.ips):
        assert gateway is not None
        ctx.host.ensure_address(port, gateway.host)
    ctx.host.set(port, up=True)
    for ip in lease.ips:
        scope = SCOPE_HOST if ip.address.family == 4 else routing.SCOPE_UNIVERSE
        to_container = HeldRoute(dst=ip.address.address.host, oif=port.index, scope=scope)
        routing.put(ctx.host, to_container)
    for family in sorted({ip.address.family for ip in lease.ips}):
        sysctl.enable_forwarding(family)


def delete(ctx: Context, conf: PtpConf) -> None:
    """Detach the container; needs neither its namespace nor a result."""
    addresses = ipmasq.addresses(ctx, conf.chained, is_configured=conf.ip_masq)
    backends = ipmasq.backends(ctx, is_configured=conf.ip_masq)
    with Cleanup() as cleanup:
        masquerade = ipmasq.begin_discard(ctx, backends, addresses)
        if conf.ipam.type:
            cleanup.attempt("lease", ctx.ipam.delete)
        cleanup.attempt("link", discard_link, ctx)
        cleanup.attempt("masquerade", masquerade.finish)


def discard_link(ctx: Context) -> None:
    """Delete the container's link; the host's end goes with it, or else by its own name."""
    endpoint.discard(ctx)
    port = find_port(ctx)
    if port is not None:
        ctx.host.discard_index(port.index)


def find_port(ctx: Context) -> Link | None:
    """The host's end: as the journal knows it, else under the name ADD gives it."""
    if ctx.record is not None and ctx.record.witness.link_index:
        link = ctx.host.find_index(ctx.record.witness.link_index)
        if link is not None and link.name == ctx.record.witness.link_name:
            return link
    link = ctx.host.find(names.veth(ctx.network, ctx.container_id, ctx.ifname))
    return link if link is not None and link.kind == KIND else None


def check(ctx: Context, conf: PtpConf) -> None:
    """Both ends, addresses, routes and masquerading are as they were added."""
    with ipmasq.looking(ctx, conf.masq_backend, conf.chained if conf.ip_masq else None):
        endpoint.check_lease(ctx, conf)
        found, inside = endpoint.problems(ctx, conf.chained, KIND)
        if inside is not None and inside.kind == KIND:
            found += host_problems(ctx, conf, inside)
        endpoint.refuse(f"check {ctx.ifname}", found)


def host_problems(ctx: Context, conf: PtpConf, inside: Link) -> Iterator[str]:
    """What is missing on the host, and between the two."""
    port = ctx.host.find_index(inside.peer)
    if port is None or port.peer != inside.index:
        yield f"the host's end of {inside.name} is gone"
        return
    if not port.is_up:
        yield f"{port.name} is down"
    assert conf.chained is not None
    ours = endpoint.own_interface(ctx, conf.chained)
    assert ours is not None
    ips = [ip for ip in conf.chained.ips if ip.gateway is not None]
    present = {entry.network for entry in ctx.host.addresses(port)}
    for ip in ips:
        assert ip.gateway is not None
        if ip.gateway.host not in present:
            yield f"gateway {ip.gateway} is not on {port.name}"
        family = ip.address.family
        if not any(
            route.dst == ip.address.address.host and route.oif == port.index
            for route in ctx.host.routes(family=family)
        ):
            yield f"the host has no route to {ip.address.address} through {port.name}"
        if not any(
            ip.address.masked in {route.dst, ip.gateway.host}
            for route in ctx.container.routes(family=family, table=None)
            if route.oif == inside.index
        ):
            yield f"{inside.name} has no route to {ip.address.masked}"
        if not sysctl.is_forwarding(family):
            yield f"IPv{family} forwarding is off on the host"
    if conf.ip_masq:
        networks = endpoint.own_networks(conf.chained, ours)
        yield from ipmasq.problems(ctx, conf.masq_backend, networks)


def status(ctx: Context, conf: PtpConf) -> None:
    """Ready unless the IPAM plugin is not, or masquerading has no tool at all."""
    if conf.ip_masq:
        ipmasq.status(ctx, conf.masq_backend)
    endpoint.status(ctx, conf)


def gc(ctx: Context, conf: PtpConf) -> None:
    """Leases, and rules that name attachments which are neither valid nor in the journal."""
    with Cleanup() as cleanup:
        cleanup.attempt("leases", endpoint.gc, ctx, conf)
        if conf.ip_masq:
            cleanup.attempt("masquerade", ipmasq.gc, ctx)


def restore(ctx: Context, _conf: PtpConf) -> None:
    """Make the rules again, as they were added: somebody flushed them."""
    ipmasq.restore(ctx)


VERBS = Verbs(
    parse=parse,
    parse_cleanup=parse_cleanup,
    add=add,
    delete=delete,
    check=check,
    status=status,
    gc=gc,
    restore=restore,
)
