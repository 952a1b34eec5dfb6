"""tap's verbs: a TAP device in the container, which a virtual machine's process opens."""

from __future__ import annotations

from cni_plugins import endpoint
from cni_plugins.errors import ConfigError
from cni_plugins.host import tap
from cni_plugins.plugin import Verbs
from tap.conf import TapConf, parse, parse_cleanup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.context import Context
    from cni_plugins.host.snapshots import Link
    from cni_plugins.protocol.result import Result

KIND = "tun"


def add(ctx: Context, conf: TapConf) -> Result:
    """The device, a port of a bridge if wanted, with addresses if there is an IPAM plugin."""
    endpoint.refuse_taken_ifname(ctx)
    bridge = find_bridge(ctx, conf)
    make(ctx, conf)
    inside = ctx.container.get(ctx.ifname)
    if conf.mtu or conf.mac or bridge:
        ctx.container.set(inside, mtu=conf.mtu, mac=conf.mac or "", master=bridge)
        inside = ctx.container.get_index(inside.index)
    return endpoint.attach(ctx, conf, inside)


def find_bridge(ctx: Context, conf: TapConf) -> Link | None:
    """The bridge of the configuration, None when it wants none.

    Raises:
        ConfigError: there is no such bridge in the container.
    """
    if not conf.bridge:
        return None
    bridge = ctx.container.find(conf.bridge)
    if bridge is None or bridge.kind != "bridge":
        raise ConfigError("bridge", f"there is no bridge {conf.bridge} in the container")
    return bridge


def make(ctx: Context, conf: TapConf) -> None:
    """The device; by the ip tool, under the label, where SELinux is to know it by one."""
    ctx.undo.push(f"tap {ctx.ifname}", endpoint.discard, ctx)
    with ctx.netns.entered():
        if not conf.selinux_context:
            tap.add(ctx.ifname, multi_queue=conf.multi_queue, owner=conf.owner, group=conf.group)
            return
        argv = ["ip", "tuntap", "add", "dev", ctx.ifname, "mode", "tap"]
        argv += ["multi_queue"] if conf.multi_queue else []
        argv += ["user", str(conf.owner)] if conf.owner is not None else []
        argv += ["group", str(conf.group)] if conf.group is not None else []
        tap.set_exec_label(conf.selinux_context)
        try:
            ctx.runner.run(argv)
        finally:
            tap.set_exec_label("")


def check(ctx: Context, conf: TapConf) -> None:
    """Device, MTU, bridge, MAC address, addresses and routes are as they were added."""
    endpoint.check_lease(ctx, conf)
    found, inside = endpoint.problems(ctx, conf.chained, KIND)
    if inside is not None:
        if conf.mtu and inside.mtu != conf.mtu:
            found.append(f"{inside.name} has MTU {inside.mtu}, not {conf.mtu}")
        bridge = ctx.container.find(conf.bridge) if conf.bridge else None
        if conf.bridge and (bridge is None or inside.master != bridge.index):
            found.append(f"{inside.name} is no port of {conf.bridge}")
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
