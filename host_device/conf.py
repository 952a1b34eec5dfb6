"""Configuration of host-device."""

from __future__ import annotations

import os

from cni_plugins import endpoint
from cni_plugins.endpoint import EndpointConf
from cni_plugins.errors import ConfigError
from cni_plugins.frozen import Frozen, replace
from cni_plugins.protocol import args
from cni_plugins.protocol.config import key, optional, parsed, read, record, text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_plugins.context import Context

_mac = optional(parsed(args.parse_mac, "a MAC address"))


class _Runtime(Frozen):
    device_id: str = key("deviceID", text, default="", doc="PCI address or auxiliary device")


class HostDeviceConf(EndpointConf):
    """The keys of host-device; what comes first in this order counts."""

    device: str = key("device", text, default="", doc="name of the device")
    hwaddr: str | None = key("hwaddr", _mac, default=None, doc="its MAC address")
    kernelpath: str = key("kernelpath", text, default="", doc="its path below /sys/devices")
    pci_bus_id: str = key("pciBusID", text, default="", doc="its PCI address")
    runtime_config: _Runtime = key("runtimeConfig", record(_Runtime), default=_Runtime())

    @property
    def device_id(self) -> str:
        """What the runtime allotted."""
        return self.runtime_config.device_id


def parse(ctx: Context, document: dict[str, Any]) -> HostDeviceConf:
    """ADD, CHECK, STATUS.

    Raises:
        ConfigError: with the JSON path.
    """
    conf = read(HostDeviceConf, document)
    conf = replace(conf, **endpoint.derived(ctx, conf, document))
    if ctx.command == "STATUS":
        return conf
    chosen = (conf.device, conf.hwaddr, conf.kernelpath, conf.pci_bus_id, conf.device_id)
    if not any(chosen):
        raise ConfigError("", 'specify either "device", "hwaddr", "kernelpath" or "pciBusID"')
    if conf.kernelpath and not os.path.normpath(conf.kernelpath).startswith("/sys/devices/"):
        raise ConfigError("kernelpath", f"{conf.kernelpath!r} is not below /sys/devices/")
    for path, value in (("pciBusID", conf.pci_bus_id), ("runtimeConfig.deviceID", conf.device_id)):
        if "/" in value or value in {".", ".."}:
            raise ConfigError(path, f"{value!r} is not the name of a device")
    return conf


def parse_cleanup(ctx: Context, document: dict[str, Any]) -> HostDeviceConf:
    """DEL, GC: neither the device nor its driver need be there any more."""
    return read(HostDeviceConf, document, forgive=ctx.forgive)
