"""Configuration of ptp."""

from __future__ import annotations

from cni_plugins import chain, endpoint
from cni_plugins.endpoint import EndpointConf
from cni_plugins.errors import ConfigError
from cni_plugins.frozen import replace
from cni_plugins.protocol.config import choice, flag, integer, key, read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_plugins.context import Context

LARGEST_MTU = 65535


class PtpConf(EndpointConf):
    """The keys of ptp."""

    ip_masq: bool = key("ipMasq", flag, default=False, doc="masquerade traffic leaving the subnet")
    masq_backend: str = key(
        "ipMasqBackend",
        choice("", "iptables", "nftables"),
        default="",
        doc="firewall for ipMasq; by default iptables if the node has it",
    )
    mtu: int = key("mtu", integer(0, LARGEST_MTU), default=0, doc="bytes; 0 for the kernel's")


def parse(ctx: Context, document: dict[str, Any]) -> PtpConf:
    """ADD, CHECK, STATUS.

    Raises:
        ConfigError: with the JSON path.
    """
    conf = read(PtpConf, document)
    if not conf.ipam.type and ctx.command != "STATUS":
        raise ConfigError("ipam", "is required: a plugin that gives addresses")
    return replace(conf, **endpoint.derived(ctx, conf, document))


def parse_cleanup(ctx: Context, document: dict[str, Any]) -> PtpConf:
    """DEL, GC: whatever is faulty counts as not set."""
    conf = read(PtpConf, document, forgive=ctx.forgive)
    return replace(conf, chained=chain.find_previous(ctx, conf))
