"""The container's end of an attachment: addresses, routes and what CHECK compares of them.

Every plugin that makes an interface in a container's namespace stands on this.

Source: the reference suite's ConfigureIface for the order; docs/compatibility.md for what differs:
duplicate address detection is skipped, route metrics are set, a route may be there already.
"""

from __future__ import annotations

import errno

from cni_plugins.errors import CniError, ConfigError, KernelError
from cni_plugins.frozen import replace
from cni_plugins.host import sysctl
from cni_plugins.protocol import names
from cni_plugins.protocol.netconf import NetConf
from cni_plugins.protocol.result import Interface, Result
from cni_plugins.protocol.versions import decode_prev_result
from cni_plugins.undo import Cleanup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from cni_plugins.context import Context
    from cni_plugins.host.snapshots import KernelRoute, Link
    from cni_plugins.protocol.addresses import Network
    from cni_plugins.protocol.result import Route

MAIN_TABLE = 254
SCOPE_LINK = 253
MISSING_PREVIOUS = "Required prevResult missing"


class EndpointConf(NetConf):
    """Base of the configuration of plugins that make an interface; both fields are derived."""

    has_own_dns: bool = False
    chained: Result | None = None


def derived(ctx: Context, conf: NetConf, document: dict[str, Any]) -> dict[str, Any]:
    """The fields of EndpointConf.

    Raises:
        ConfigError: prevResult cannot be decoded.
    """
    previous = conf.prev_result
    chained = None if previous is None else decode_prev_result(previous, ctx.cni_version)
    return {"has_own_dns": has_own_dns(document), "chained": chained}


def refuse_taken_ifname(ctx: Context) -> None:
    """Before anything is touched: the name the container's link is to have must be free.

    Raises:
        KernelError: it is not.
    """
    taken = ctx.container.find(ctx.ifname)
    if taken is not None:
        raise KernelError(
            f"{ctx.netns_path} has a {taken.kind or 'link'} {ctx.ifname} already",
            errno.EEXIST,
            "send DEL before another ADD",
        )


def lease(ctx: Context, conf: NetConf) -> Result:
    """What the IPAM plugin gives.

    Raises:
        DelegateError: as it answered.
        CniError: it gave no address.
    """
    found = ctx.ipam.add()
    if not found.ips:
        raise CniError(999, f"{conf.ipam.type}: IPAM plugin returned missing IP config")
    return found


def attach(ctx: Context, conf: EndpointConf, inside: Link, given: Result | None = None) -> Result:
    """Lease, configure and report a link that is alone in its result.

    Args:
        ctx: the call.
        conf: without an IPAM plugin the link only comes up.
        inside: the container's link.
        given: addresses that somebody else leased.

    Raises:
        CniError: IPAM or the kernel refused.
    """
    found = given or (lease(ctx, conf) if conf.ipam.type else Result())
    if found.ips:
        configure(ctx, inside, found)
    else:
        ctx.container.set(inside, up=True)
    made = Interface(name=ctx.ifname, mac=inside.mac, sandbox=ctx.netns_path)
    result = found.with_interfaces(made, ips_on=0)
    return replace(result, dns=conf.dns.as_dns()) if conf.has_own_dns else result


def delete(ctx: Context, conf: NetConf) -> None:
    """DEL: the container's link and its lease; repeatable, needs no namespace."""
    with Cleanup() as cleanup:
        # the lease first: a DHCP server is told through the link
        if conf.ipam.type:
            cleanup.attempt("lease", ctx.ipam.delete)
        cleanup.attempt("link", discard, ctx)


def status(ctx: Context, conf: NetConf) -> None:
    """STATUS: ready unless the IPAM plugin is not."""
    if conf.ipam.type:
        ctx.ipam.status()


def gc(ctx: Context, conf: NetConf) -> None:
    """GC: leases of attachments that are not valid any more."""
    if conf.ipam.type:
        ctx.ipam.gc()


def configure(ctx: Context, inside: Link, result: Result, *, dad: bool = False) -> None:
    """Give the container's link its addresses and routes; it comes up and announces them.

    Args:
        ctx: the call.
        inside: the container's link.
        result: addresses, all of them on that link, and routes.
        dad: IPv6 addresses are looked for on the network first, and waited for.
    """
    prepare(ctx, result, dad=dad)
    for ip in result.ips:
        ctx.container.add_address(inside, ip.address, nodad=not dad)
    ctx.container.set(inside, up=True)
    if dad:
        ctx.container.settle_addresses(inside, ctx.deadline)
    for route in result.routes:
        ctx.container.add_route(inside, with_gateway(route, result))


def prepare(ctx: Context, result: Result, *, dad: bool = False) -> None:
    """The settings that a container's link needs before it gets addresses."""
    with ctx.netns.entered():
        sysctl.set_dad(ctx.ifname, enabled=dad)
        sysctl.announce_addresses(ctx.ifname)
        if any(ip.address.family == 6 for ip in result.ips):
            sysctl.enable_ipv6(ctx.ifname)


def with_gateway(route: Route, result: Result) -> Route:
    """A route without a gateway goes through the first one of its family, unless its scope says
    that the destination is on the link.
    """
    if route.gw is not None or (route.scope or 0) >= SCOPE_LINK:
        return route
    family = route.dst.family
    gws = (ip.gateway for ip in result.ips if ip.address.family == family and ip.gateway)
    return replace(route, gw=next(gws, None))


def discard(ctx: Context) -> None:
    """Delete the container's link, or what a killed ADD had begun; fine when there is nothing."""
    if ctx.find_netns() is None:
        return
    for name in (ctx.ifname, names.draft(ctx.network, ctx.container_id, ctx.ifname)):
        inside = ctx.container.find(name)
        if inside is not None:
            ctx.container.discard_index(inside.index)


# --- what CHECK compares ------------------------------------------------------------------------


def own_interface(ctx: Context, result: Result) -> Interface | None:
    """The last interface of the result that is this attachment's link."""
    mine = [i for i in result.interfaces if (i.name, i.sandbox) == (ctx.ifname, ctx.netns_path)]
    return mine[-1] if mine else None


def own_networks(result: Result, ours: Interface) -> tuple[Network, ...]:
    """The addresses of the result that are on this attachment's link."""
    index = max(i for i, interface in enumerate(result.interfaces) if interface is ours)
    return tuple(ip.address for ip in result.ips if ip.interface in {None, index})


def link_problems(ours: Interface, inside: Link, kind: str) -> Iterator[str]:
    """Kind (unless it is ""), MAC and state of the container's link."""
    if kind and inside.kind != kind:
        yield f"{inside.name} in the container is a {inside.kind or 'device'}, not a {kind}"
    if ours.mac and ours.mac.lower() != inside.mac:
        yield f"{inside.name} in the container has MAC {inside.mac}, it had {ours.mac}"
    if not inside.is_up:
        yield f"{inside.name} in the container is down"


def address_problems(ctx: Context, result: Result, ours: Interface, inside: Link) -> Iterator[str]:
    """Addresses and routes of the container.

    A route for which no table was named may be in any: sbr and vrf move them.
    """
    present = {entry.network for entry in ctx.container.addresses(inside)}
    for network in own_networks(result, ours):
        if network not in present:
            yield f"{inside.name} has no address {network}"
    tables: dict[tuple[int, int], tuple[KernelRoute, ...]] = {}
    for route in result.routes:
        place = (route.dst.family, route.table or MAIN_TABLE)
        if place not in tables:
            tables[place] = ctx.container.routes(family=place[0], table=place[1])
        if any(_is_route(route, found) for found in tables[place]):
            continue
        if route.table or not _was_moved(ctx, route, inside):
            via = f" via {route.gw}" if route.gw else ""
            yield f"route {route.dst}{via} is missing in table {place[1]}"


def _was_moved(ctx: Context, wanted: Route, inside: Link) -> bool:
    found = ctx.container.routes(family=wanted.dst.family, table=None)
    return any(_is_route(wanted, route) for route in found if route.oif == inside.index)


def _is_route(wanted: Route, found: KernelRoute) -> bool:
    # dhcp writes 0.0.0.0 for "on the link", as the reference suite does
    gw = wanted.gw if wanted.gw and wanted.gw.value else None
    return found.dst == wanted.dst.masked and gw in {None, found.gw}


def problems(ctx: Context, result: Result | None, kind: str) -> tuple[list[str], Link | None]:
    """Everything about the container's end that is not as ADD left it, and the link.

    Raises:
        ConfigError: there is no prevResult to compare with.
    """
    if result is None:
        raise ConfigError("prevResult", MISSING_PREVIOUS)
    ours = own_interface(ctx, result)
    if ours is None:
        return [f"prevResult has no interface {ctx.ifname} in sandbox {ctx.netns_path}"], None
    inside = ctx.container.find(ctx.ifname)
    if inside is None:
        return [f"{ctx.ifname} is gone from {ctx.netns_path}"], None
    found = [
        *link_problems(ours, inside, kind),
        *address_problems(ctx, result, ours, inside),
    ]
    return found, inside


def check_lease(ctx: Context, conf: NetConf) -> None:
    """CHECK of the IPAM plugin, if there is one."""
    if conf.ipam.type:
        ctx.ipam.check()


def refuse(what: str, found: list[str]) -> None:
    """Fail a CHECK that found something, the most telling first.

    Raises:
        KernelError: ``found`` is not empty.
    """
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise KernelError(f"{what}: {found[0]}{more}", details="\n".join(found[1:]))


def has_own_dns(document: dict[str, Any]) -> bool:
    """Whether the configuration sets any resolver setting, which then replace the lease's."""
    dns = next((v for k, v in reversed(document.items()) if k.lower() == "dns"), None)
    return isinstance(dns, dict) and any(value is not None for value in dns.values())
