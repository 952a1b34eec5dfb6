"""The host's addresses on the bridge, by which containers reach the world."""

from __future__ import annotations

from cni_plugins.errors import KernelError
from cni_plugins.frozen import replace
from cni_plugins.protocol.addresses import Address, Network
from cni_plugins.protocol.result import Result, Route

TYPE_CHECKING = False
if TYPE_CHECKING:
    from bridge.conf import BridgeConf
    from cni_plugins.host.links import Links
    from cni_plugins.host.snapshots import Link

ANYWHERE = {4: Network(Address(4, 0), 0), 6: Network(Address(6, 0), 0)}


def with_gateways(lease: Result, conf: BridgeConf) -> Result:
    """A gateway for every address that lacks one, and the default routes asked for."""
    if not conf.is_gateway:
        return lease
    ips = tuple(replace(ip, gateway=ip.gateway or ip.address.first + 1) for ip in lease.ips)
    routes = list(lease.routes)
    if conf.is_default_gateway:
        for ip in ips:
            if not _has_default(routes, ip.address.family):
                routes.append(Route(dst=ANYWHERE[ip.address.family], gw=ip.gateway))
    return replace(lease, ips=ips, routes=tuple(routes))


def _has_default(routes: list[Route], family: int) -> bool:
    return any(
        route.dst.family == family and route.dst.is_default and route.gw is not None
        for route in routes
    )


def gateway_networks(lease: Result) -> tuple[Network, ...]:
    """The host's addresses, with the prefix of the containers'."""
    found = [Network(ip.gateway, ip.address.prefix) for ip in lease.ips if ip.gateway is not None]
    return tuple(dict.fromkeys(found))


def conflicts(wanted: Network, present: tuple[Network, ...]) -> tuple[Network, ...]:
    """Addresses of the bridge that cannot stand beside ``wanted``: another IPv4 one, or an
    overlapping IPv6 one.
    """
    return tuple(
        other
        for other in present
        if other != wanted
        and other.family == wanted.family
        and (wanted.family == 4 or other.overlaps(wanted))
    )


def ensure_address(host: Links, link: Link, wanted: Network, *, force: bool) -> None:
    """Give the bridge a gateway address; conflicting ones make way only if ``force``.

    Raises:
        KernelError: the bridge has a conflicting address.
    """
    present = tuple(entry.network for entry in host.addresses(link))
    if wanted in present:
        return
    in_the_way = conflicts(wanted, present)
    if in_the_way and not force:
        listed = ", ".join(map(str, in_the_way))
        raise KernelError(
            f'add {wanted} to {link.name}: "{link.name}" already has an IP address different '
            f"from {wanted}: {listed}",
            details=f"if no pod uses {listed} any more, remove it (ip addr del … dev {link.name}) "
            "or set forceAddress; else give this network another bridge",
        )
    for other in in_the_way:
        host.discard_address(link, other)
    host.ensure_address(link, wanted)
