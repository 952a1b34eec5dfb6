"""host-device's verbs: a device of the host moves into the container, and back.

While it is away its alias has its own name, as the reference suite writes it; originals.py keeps
what else it was like.

Source: ip-link(8), "netns".
"""

from __future__ import annotations

from cni_plugins import endpoint
from cni_plugins.errors import ConfigError, KernelError
from cni_plugins.frozen import replace
from cni_plugins.host import devices
from cni_plugins.host.netns import NetNS
from cni_plugins.plugin import Verbs
from cni_plugins.protocol.result import Interface, Result
from cni_plugins.undo import Cleanup
from host_device import originals
from host_device.conf import HostDeviceConf, parse, parse_cleanup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.context import Context
    from cni_plugins.host.snapshots import Link


def add(ctx: Context, conf: HostDeviceConf) -> Result:
    """Move the device in, with addresses if there is an IPAM plugin.

    A device that a driver in user space has cannot move: it is only reported.
    """
    if is_in_user_space(conf):
        ctx.plan["userspace"] = True
        found = endpoint.lease(ctx, conf) if conf.ipam.type else Result()
        return found.with_interfaces(Interface(name=ctx.ifname, sandbox=ctx.netns_path), ips_on=0)
    endpoint.refuse_taken_ifname(ctx)
    device = find(ctx, conf)
    move_in(ctx, device)
    return endpoint.attach(ctx, conf, ctx.container.get(ctx.ifname))


def pci_address(conf: HostDeviceConf) -> str:
    """The PCI address, if that is how the device is chosen."""
    if conf.device_id and devices.exists(f"{devices.PCI}/{conf.device_id}"):
        return conf.device_id
    return "" if conf.device_id else conf.pci_bus_id


def is_in_user_space(conf: HostDeviceConf) -> bool:
    """Whether the kernel has no network interface for the device, but a driver like vfio-pci."""
    address = pci_address(conf)
    return bool(address) and devices.driver(address) in devices.USER_SPACE_DRIVERS


def find(ctx: Context, conf: HostDeviceConf) -> Link:
    """The device.

    Raises:
        ConfigError: it is not on the host.
    """
    if conf.device:
        return _named(ctx, "device", conf.device)
    if conf.hwaddr:
        found = [link for link in devices.all_links(ctx.host) if link.mac == conf.hwaddr]
        if not found:
            raise ConfigError("hwaddr", f"no device of the host has {conf.hwaddr}")
        return found[0]
    if conf.kernelpath:
        return _named(ctx, "kernelpath", devices.network_name(conf.kernelpath))
    address = pci_address(conf)
    if address:
        path = "runtimeConfig.deviceID" if conf.device_id else "pciBusID"
        return _named(ctx, path, devices.of_pci(address))
    auxiliary = f"{devices.AUXILIARY}/{conf.device_id}"
    if not devices.exists(auxiliary):
        raise ConfigError("runtimeConfig.deviceID", f"there is no device {conf.device_id}")
    return _named(ctx, "runtimeConfig.deviceID", devices.network_name(auxiliary))


def _named(ctx: Context, path: str, name: str) -> Link:
    found = ctx.host.find(name) if name else None
    if found is None:
        raise ConfigError(path, f"there is no network device {name} on the host")
    return found


def move_in(ctx: Context, device: Link) -> None:
    """The device, under its new name, its own in the alias; an ADD that fails undoes it all."""
    noted = {
        "name": device.name,
        "mac": device.mac,
        "mtu": device.mtu,
        "up": device.is_up,
        # the reference suite's DEL leaves it behind
        "alias": device.alias if device.alias != device.name else "",
    }
    ctx.undo.push("what it was like", originals.forget, ctx)
    originals.keep(ctx, noted)
    ctx.undo.push(f"device {device.name}", give_back, ctx, noted)
    devices.set_alias(ctx.host, device, device.name)
    devices.move(ctx.host, device, ctx.netns, ctx.ifname)


def delete(ctx: Context, conf: HostDeviceConf) -> None:
    """Give the device back; needs neither its configuration nor the namespace; repeatable."""
    is_away = ctx.record is None or not ctx.record.plan.get("userspace")
    with Cleanup() as cleanup:
        if conf.ipam.type:
            cleanup.attempt("lease", ctx.ipam.delete)
        if is_away:
            cleanup.attempt("device", give_back_as_noted, ctx, conf)


def give_back_as_noted(ctx: Context, conf: HostDeviceConf) -> None:
    """Bring the device home, then forget what it was like."""
    noted = originals.find(ctx) or ({"name": conf.device} if conf.device else {})
    give_back(ctx, noted)
    originals.forget(ctx)


def give_back(ctx: Context, noted: dict[str, object]) -> None:
    """Bring the device home from wherever it is, as it was.

    Args:
        ctx: the call.
        noted: ``name``, ``mac``, ``mtu``, ``up``, ``alias`` at ADD, as far as they are known.

    Raises:
        KernelError: the host has another device of that name; nothing was changed.
    """
    inside = ctx.container.find(ctx.ifname) if ctx.find_netns() is not None else None
    if inside is not None and (inside.alias or not noted):
        name = inside.alias
        if not name:
            ctx.warn(f"{ctx.ifname} has no alias and no journal: it was not moved here; it stays")
            return
        refuse_taken_name(ctx, name)
        with NetNS.current() as home:
            devices.move(ctx.container, inside, home, name)
        restore(ctx, ctx.host.get(name), noted)
        return
    for link in lost(ctx, noted):
        name = link.alias
        if link.name != name:
            refuse_taken_name(ctx, name)
            ctx.host.set(link, up=False)
            devices.rename(ctx.host, link, name)
        restore(ctx, ctx.host.get_index(link.index), noted)


def lost(ctx: Context, noted: dict[str, object]) -> list[Link]:
    """The device on the host, under its alias: its namespace went, or a DEL was interrupted."""
    name = noted.get("name")
    return [link for link in devices.all_links(ctx.host) if name and link.alias == name]


def refuse_taken_name(ctx: Context, name: str) -> None:
    """Before a device is moved: its own name must be free on the host."""
    if ctx.host.find(name) is not None:
        raise KernelError(
            f"give {name} back: the host has another device of that name",
            details=f"rename or remove that one; {name} is untouched, then send DEL again",
        )


def restore(ctx: Context, link: Link, noted: dict[str, object]) -> None:
    """MAC address, MTU, state, and last the alias, by which an interrupted DEL finds it again."""
    mac, mtu = str(noted.get("mac") or ""), int(str(noted.get("mtu") or 0))
    ctx.host.set(
        link,
        mac=mac if mac != link.mac else "",
        mtu=mtu if mtu != link.mtu else 0,
        up=bool(noted["up"]) if "up" in noted else None,
    )
    devices.set_alias(ctx.host, link, str(noted.get("alias") or ""))


def gc(ctx: Context, conf: HostDeviceConf) -> None:
    """Leases, and devices of attachments that are not valid and that no journal knows any more."""
    with Cleanup() as cleanup:
        cleanup.attempt("leases", endpoint.gc, ctx, conf)
        for container_id, ifname in originals.invalid(ctx) if ctx.valid is not None else ():
            call = replace(ctx.call, container_id=container_id, ifname=ifname, netns="")
            gone = ctx.with_config(call, ctx.document, ctx.stdin)
            cleanup.attempt(f"device of {container_id}", give_back_lost, gone)


def give_back_lost(ctx: Context) -> None:
    """Put a device in order that is on the host; one that is still away belongs to somebody."""
    noted = originals.find(ctx)
    if lost(ctx, noted):
        give_back(ctx, noted)
        originals.forget(ctx)


def check(ctx: Context, conf: HostDeviceConf) -> None:
    """The device is in the container, with its MAC address, addresses and routes."""
    endpoint.check_lease(ctx, conf)
    if conf.chained is not None and is_in_user_space(conf):
        return
    found, inside = endpoint.problems(ctx, conf.chained, "")
    if inside is not None and not inside.alias:
        found.append(f"{inside.name} has lost its alias, by which DEL knows its own name")
    endpoint.refuse(f"check {ctx.ifname}", found)


VERBS = Verbs(
    parse=parse,
    parse_cleanup=parse_cleanup,
    add=add,
    delete=delete,
    check=check,
    status=endpoint.status,
    gc=gc,
)
