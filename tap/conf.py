"""Configuration of tap."""

from __future__ import annotations

from cni_plugins import endpoint
from cni_plugins.endpoint import EndpointConf
from cni_plugins.frozen import replace
from cni_plugins.protocol import args
from cni_plugins.protocol.config import flag, integer, key, optional, parsed, read, text
from cni_plugins.protocol.netconf import requested_mac

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_plugins.context import Context

LARGEST_MTU = 65535
_mac = optional(parsed(args.parse_mac, "a MAC address"))
_id = optional(integer(0, 2**32 - 2))


class TapConf(EndpointConf):
    """The keys of tap."""

    multi_queue: bool = key("multiQueue", flag, default=False, doc="several queues")
    mtu: int = key("mtu", integer(0, LARGEST_MTU), default=0, doc="bytes; 0 for the kernel's")
    mac: str | None = key("mac", _mac, default=None, doc="MAC address")
    owner: int | None = key("owner", _id, default=None, doc="id of the user that may open it")
    group: int | None = key("group", _id, default=None, doc="id of the group that may open it")
    selinux_context: str = key("selinuxContext", text, default="", doc="SELinux label")
    bridge: str = key("bridge", text, default="", doc="bridge in the container to be a port of")


def parse(ctx: Context, document: dict[str, Any]) -> TapConf:
    """ADD, CHECK, STATUS.  The MAC address: ``mac`` < CNI_ARGS < args.cni < runtimeConfig.

    Raises:
        ConfigError: with the JSON path.
        RequestError: CNI_ARGS.
    """
    conf = read(TapConf, document)
    mac = requested_mac(document, ctx.cni_args) or conf.mac
    return replace(conf, mac=mac, **endpoint.derived(ctx, conf, document))


def parse_cleanup(ctx: Context, document: dict[str, Any]) -> TapConf:
    """DEL, GC: only the IPAM plugin matters."""
    return read(TapConf, document, forgive=ctx.forgive)
