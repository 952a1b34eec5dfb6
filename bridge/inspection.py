"""Looking at what an attachment has on the node: for CHECK, and for DEL's search."""

from __future__ import annotations

from bridge import gateway, spoofcheck, vlan
from cni_plugins import endpoint, ipmasq
from cni_plugins.errors import ConfigError
from cni_plugins.host import sysctl
from cni_plugins.protocol import names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from bridge.conf import BridgeConf
    from cni_plugins.context import Context
    from cni_plugins.host.snapshots import Link
    from cni_plugins.protocol.result import Interface, Result


def problems(ctx: Context, conf: BridgeConf) -> list[str]:
    """Everything that is not as ADD left it, the most telling first.

    Raises:
        ConfigError: there is no prevResult to compare with.
    """
    if conf.chained is None:
        raise ConfigError("prevResult", endpoint.MISSING_PREVIOUS)
    ours = endpoint.own_interface(ctx, conf.chained)
    if ours is None:
        return [f"prevResult has no interface {ctx.ifname} in sandbox {ctx.netns_path}"]
    bridge = ctx.host.find(conf.bridge)
    if bridge is None or bridge.kind != "bridge":
        return [f"bridge {conf.bridge} is gone"]
    inside = ctx.container.find(ctx.ifname)
    if inside is None:
        return [f"{ctx.ifname} is gone from {ctx.netns_path}"]
    port = ctx.host.find_index(inside.peer) if inside.kind == "veth" else None
    return [
        *_bridge_problems(conf, conf.chained, bridge),
        *_link_problems(conf, ours, inside),
        *_port_problems(ctx, conf, bridge, inside, port),
        *endpoint.address_problems(ctx, conf.chained, ours, inside),
        *_gateway_problems(ctx, conf, bridge),
        *_rule_problems(ctx, conf, ours, port, inside),
    ]


def _bridge_problems(conf: BridgeConf, result: Result, bridge: Link) -> Iterator[str]:
    if not bridge.is_up:
        yield f"bridge {bridge.name} is down"
    reported = next((i for i in result.interfaces if i.name == bridge.name and not i.sandbox), None)
    if reported is None:
        yield f"prevResult has no bridge {bridge.name}"
    elif conf.is_gateway and reported.mac and reported.mac.lower() != bridge.mac:
        # without gateway addresses the reference suite's bridges take their ports' addresses
        yield f"bridge {bridge.name} has MAC {bridge.mac}, it had {reported.mac}"
    if conf.promisc and not bridge.is_promisc:
        yield f"bridge {bridge.name} is not promiscuous"


def _link_problems(conf: BridgeConf, ours: Interface, inside: Link) -> Iterator[str]:
    if inside.kind != "veth":
        yield f"{inside.name} in the container is a {inside.kind or 'device'}, not a veth"
    if ours.mac and ours.mac.lower() != inside.mac:
        yield f"{inside.name} in the container has MAC {inside.mac}, it had {ours.mac}"
    if not inside.is_up and not conf.disable_container_interface:
        yield f"{inside.name} in the container is down"


def _port_problems(
    ctx: Context, conf: BridgeConf, bridge: Link, inside: Link, port: Link | None
) -> Iterator[str]:
    if port is None or port.peer != inside.index:
        yield f"the host's end of {inside.name} is gone"
        return
    if port.master != bridge.index:
        yield f"{port.name} is no port of {bridge.name}"
        return
    if not port.is_up:
        yield f"{port.name} is down"
    if port.port is not None and port.port.hairpin != conf.hairpin:
        yield f"{port.name} has hairpin mode {'on' if port.port.hairpin else 'off'}"
    if port.port is not None and port.port.isolated != conf.port_isolation:
        yield f"{port.name} is {'isolated' if port.port.isolated else 'not isolated'}"
    yield from vlan.missing(ctx.host, port, conf.vlans)


def _gateway_problems(ctx: Context, conf: BridgeConf, bridge: Link) -> Iterator[str]:
    result = conf.chained
    assert result is not None
    if not conf.is_gateway or not result.ips:
        return
    link: Link | None = bridge
    if conf.vlan:
        link = ctx.host.find(vlan.gateway_name(conf.bridge, conf.vlan))
    if link is None:
        yield f"{vlan.gateway_name(conf.bridge, conf.vlan)} is gone"
        return
    present = {entry.network for entry in ctx.host.addresses(link)}
    for network in gateway.gateway_networks(result):
        if network not in present:
            yield f"gateway {network} is not on {link.name}"
    for family in sorted({ip.address.family for ip in result.ips}):
        if not sysctl.is_forwarding(family):
            yield f"IPv{family} forwarding is off on the host"


def _rule_problems(
    ctx: Context, conf: BridgeConf, ours: Interface, port: Link | None, inside: Link
) -> Iterator[str]:
    result = conf.chained
    assert result is not None
    ips = endpoint.own_networks(result, ours)
    if conf.ip_masq and ips:
        yield from ipmasq.problems(ctx, conf.masq_backend, ips)
    if conf.mac_spoof_check and port is not None:
        yield from spoofcheck.missing(
            ctx.tools.nftables,
            container_id=ctx.container_id,
            ifname=ctx.ifname,
            port_name=port.name,
            mac=inside.mac,
        )


def recorded_port(ctx: Context) -> Link | None:
    """The host's end as the journal knows it, if that link is still the same."""
    if ctx.record is None or not ctx.record.witness.link_index:
        return None
    link = ctx.host.find_index(ctx.record.witness.link_index)
    return link if link is not None and link.name == ctx.record.witness.link_name else None


def named_port(ctx: Context) -> Link | None:
    """The host's end under the name ADD gives it."""
    link = ctx.host.find(names.veth(ctx.network, ctx.container_id, ctx.ifname))
    return link if link is not None and link.kind == "veth" else None
