"""bridge's verbs: connect the container to a Linux bridge on the host.

Source: the reference suite's bridge plugin, for names, order and result; docs/plugins/bridge.md
lists what differs and why.
"""

from __future__ import annotations

import errno

from bridge import gateway, inspection, spoofcheck, vlan
from bridge.conf import BridgeConf, parse, parse_cleanup
from cni_plugins import endpoint, ipmasq
from cni_plugins.errors import ConfigError, KernelError
from cni_plugins.frozen import replace
from cni_plugins.host import sysctl
from cni_plugins.plugin import Verbs
from cni_plugins.protocol import names
from cni_plugins.protocol.result import Interface, Result
from cni_plugins.undo import Cleanup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.context import Context
    from cni_plugins.host.links import Links
    from cni_plugins.host.snapshots import Link

_NAME_ATTEMPTS = 4


def add(ctx: Context, conf: BridgeConf) -> Result:
    """Attach the container; see docs/plugins/bridge.md for each step."""
    refuse_taken_ifname(ctx)
    bridge = ensure_bridge(ctx.host, conf)
    port = plug(ctx, conf, bridge)
    inside = ctx.container.get(ctx.ifname)
    guard_mac(ctx, conf, port, inside)
    lease = gateway.with_gateways(lease_addresses(ctx, conf), conf)
    configure(ctx, conf, inside, lease)
    finish_masquerade = ipmasq.begin_add(ctx, conf.masq_backend, lease, is_configured=conf.ip_masq)
    if conf.is_gateway:
        serve_gateways(ctx, conf, bridge, lease)
    if not conf.disable_container_interface:
        ctx.host.wait_up(port, ctx.deadline)
    finish_masquerade()
    return report(ctx, conf, port, inside, lease)


def delete(ctx: Context, conf: BridgeConf) -> None:
    """Detach the container; needs neither its namespace nor a result."""
    addresses = ipmasq.addresses(ctx, conf.chained, is_configured=conf.ip_masq)
    backends = ipmasq.backends(ctx, is_configured=conf.ip_masq)
    with Cleanup() as cleanup:
        masquerade = ipmasq.begin_discard(ctx, backends, addresses)
        if conf.ipam.type:
            cleanup.attempt("lease", ctx.ipam.delete)
        cleanup.attempt("link", discard_link, ctx)
        cleanup.attempt("masquerade", masquerade.finish)
        if conf.mac_spoof_check or (ctx.record and ctx.record.plan.get("macspoofchk")):
            cleanup.attempt("spoof check", discard_guard, ctx)


def check(ctx: Context, conf: BridgeConf) -> None:
    """Everything ADD made is there and as it was made."""
    with ipmasq.looking(ctx, conf.masq_backend, conf.chained if conf.ip_masq else None):
        if conf.ipam.type:
            ctx.ipam.check()
        endpoint.refuse(f"check {ctx.ifname} on {conf.bridge}", inspection.problems(ctx, conf))


def status(ctx: Context, conf: BridgeConf) -> None:
    """Ready unless the IPAM plugin is not, or masquerading has no tool at all."""
    if conf.ip_masq:
        ipmasq.status(ctx, conf.masq_backend)
    if conf.ipam.type:
        ctx.ipam.status()


def gc(ctx: Context, conf: BridgeConf) -> None:
    """Leases, and rules that name attachments which are neither valid nor in the journal."""
    with Cleanup() as cleanup:
        if conf.ipam.type:
            cleanup.attempt("leases", ctx.ipam.gc)
        if conf.ip_masq:
            cleanup.attempt("masquerade", ipmasq.gc, ctx)


def refuse_taken_ifname(ctx: Context) -> None:
    """Before anything is touched: the name the container's link is to have must be free."""
    taken = ctx.container.find(ctx.ifname)
    if taken is not None:
        peer = names.veth(ctx.network, ctx.container_id, ctx.ifname)
        raise KernelError(
            f'container veth name ("{ctx.ifname}") peer provided ("{peer}") already exists',
            errno.EEXIST,
            f"{ctx.netns_path} has a {taken.kind or 'link'} {ctx.ifname} already; "
            "send DEL before another ADD",
        )


def ensure_bridge(host: Links, conf: BridgeConf) -> Link:
    """The bridge, up; settings of one that exists are left alone but for promiscuity."""
    bridge = host.ensure_bridge(conf.bridge, mtu=conf.mtu, vlan_filtering=conf.has_vlans)
    if bridge.kind != "bridge":
        raise ConfigError(
            "bridge", f"{conf.bridge} exists and is no bridge but {bridge.kind or 'a device'}"
        )
    if not bridge.is_up or (conf.promisc and not bridge.is_promisc):
        sysctl.refuse_router_advertisements(conf.bridge)
        if not bridge.is_up:
            # until it has its link-local address the host cannot ask for a pod's
            sysctl.set_dad(conf.bridge, enabled=conf.enable_dad)
        host.set(bridge, up=True, promisc=True if conf.promisc else None)
    return bridge


def plug(ctx: Context, conf: BridgeConf, bridge: Link) -> Link:
    """The veth pair, its host end a port of the bridge."""
    port = add_veth(ctx, conf)
    ctx.undo.push(f"veth {port.name}", ctx.host.discard_index, port.index)
    ctx.plan |= {"link_index": port.index, "link_name": port.name}
    sysctl.refuse_router_advertisements(port.name)
    ctx.host.set(port, master=bridge, up=True)
    ctx.host.set_port(port, hairpin=conf.hairpin, isolated=conf.port_isolation)
    vlan.program(ctx.host, port, conf.vlans, preserve_default=conf.preserve_default_vlan)
    return port


def add_veth(ctx: Context, conf: BridgeConf) -> Link:
    """The pair under its deterministic name, or a further candidate if a stranger has that."""
    for attempt in range(_NAME_ATTEMPTS):
        name = names.veth(ctx.network, ctx.container_id, ctx.ifname, attempt)
        try:
            return ctx.host.add_veth(
                name, peer=ctx.ifname, peer_netns=ctx.netns, mtu=conf.mtu, peer_mac=conf.mac
            )
        except KernelError as e:
            if e.errno != errno.EEXIST or attempt == _NAME_ATTEMPTS - 1:
                raise
    raise AssertionError  # the last attempt returned or raised


def guard_mac(ctx: Context, conf: BridgeConf, port: Link, inside: Link) -> None:
    """Drop frames with a foreign source address; set up while the container's link is down."""
    if not conf.mac_spoof_check:
        return
    ctx.undo.push("spoof check", discard_guard, ctx)
    ctx.plan["macspoofchk"] = True
    spoofcheck.ensure(
        ctx.tools.nftables,
        container_id=ctx.container_id,
        ifname=ctx.ifname,
        port_name=port.name,
        mac=inside.mac,
    )


def restore(ctx: Context, _conf: BridgeConf) -> None:
    """Make the rules again, as they were added: somebody flushed them."""
    ipmasq.restore(ctx)
    port = ctx.host.find(str(ctx.plan.get("link_name")))
    inside = ctx.container.find(ctx.ifname)
    if not ctx.plan.get("macspoofchk") or port is None or inside is None:
        return
    guarded = {
        "container_id": ctx.container_id,
        "ifname": ctx.ifname,
        "port_name": port.name,
        "mac": inside.mac,
    }
    if any(spoofcheck.missing(ctx.tools.nftables, **guarded)):
        discard_guard(ctx)
        spoofcheck.ensure(ctx.tools.nftables, **guarded)


def discard_guard(ctx: Context) -> None:
    """Remove the spoof check's rules; repeatable."""
    spoofcheck.discard(ctx.tools.nftables, container_id=ctx.container_id, ifname=ctx.ifname)


def lease_addresses(ctx: Context, conf: BridgeConf) -> Result:
    """What IPAM gives; nothing for a pure layer 2 network."""
    if not conf.ipam.type:
        return Result()
    return endpoint.lease(ctx, conf)


def configure(ctx: Context, conf: BridgeConf, inside: Link, lease: Result) -> None:
    """Addresses and routes of the container's link, which comes up here."""
    if not lease.ips:
        if not conf.disable_container_interface:
            ctx.container.set(inside, up=True)
        return
    endpoint.configure(ctx, inside, lease, dad=conf.enable_dad)


def serve_gateways(ctx: Context, conf: BridgeConf, bridge: Link, lease: Result) -> None:
    """The host answers for the gateways and forwards; the bridge keeps its MAC address."""
    link = bridge
    if conf.vlan:
        link = vlan.ensure_gateway_link(
            ctx, bridge, conf.vlan, preserve_default=conf.preserve_default_vlan
        )
    networks = gateway.gateway_networks(lease)
    for network in networks:
        gateway.ensure_address(ctx.host, link, network, force=conf.force_address)
    ctx.host.pin_mac(link)
    for family in sorted({network.family for network in networks}):
        sysctl.enable_forwarding(family)


def discard_link(ctx: Context) -> None:
    """Delete the container's link; the host's end goes with it, or else by its own name."""
    endpoint.discard(ctx)
    for port in filter(None, (inspection.recorded_port(ctx), inspection.named_port(ctx))):
        ctx.host.discard_index(port.index)


def report(ctx: Context, conf: BridgeConf, port: Link, inside: Link, lease: Result) -> Result:
    """The result: bridge, host end, container's end and, in a VLAN, the gateway's interface."""
    bridge = ctx.host.get(conf.bridge)
    interfaces = [
        Interface(name=bridge.name, mac=bridge.mac),
        Interface(name=port.name, mac=port.mac),
        Interface(name=ctx.ifname, mac=inside.mac, sandbox=ctx.netns_path),
    ]
    if conf.vlan and conf.is_gateway and lease.ips:
        link = ctx.host.get(vlan.gateway_name(conf.bridge, conf.vlan))
        interfaces.append(Interface(name=link.name, mac=link.mac))
    result = lease.with_interfaces(*interfaces, ips_on=2)
    return replace(result, dns=conf.dns.as_dns()) if conf.has_own_dns else result


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
