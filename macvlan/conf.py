"""Configuration of macvlan."""

from __future__ import annotations

from cni_plugins import endpoint
from cni_plugins.frozen import replace
from cni_plugins.host.sublinks import MACVLAN_MODES
from cni_plugins.protocol import args
from cni_plugins.protocol.config import choice, integer, key, optional, parsed, read
from cni_plugins.protocol.netconf import requested_mac
from cni_plugins.sublink import SublinkConf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_plugins.context import Context

_mac = optional(parsed(args.parse_mac, "a MAC address"))


class MacvlanConf(SublinkConf):
    """The keys of macvlan beside those of every link on a parent."""

    mode: str = key("mode", choice("", *MACVLAN_MODES), default="", doc="bridge when not given")
    mac: str | None = key("mac", _mac, default=None, doc="MAC address")
    bc_queue_len: int = key(
        "bcqueuelen", integer(0, 2**32 - 1), default=0, doc="broadcasts that may wait; 0: kernel's"
    )


def parse(ctx: Context, document: dict[str, Any]) -> MacvlanConf:
    """ADD, CHECK, STATUS.  The MAC address: ``mac`` < CNI_ARGS < args.cni < runtimeConfig.

    Raises:
        ConfigError: with the JSON path.
        RequestError: CNI_ARGS.
    """
    conf = read(MacvlanConf, document)
    mac = requested_mac(document, ctx.cni_args) or conf.mac
    return replace(
        conf,
        mode=conf.mode or "bridge",
        mac=mac,
        **endpoint.derived(ctx, conf, document),
    )


def parse_cleanup(ctx: Context, document: dict[str, Any]) -> MacvlanConf:
    """DEL, GC: only the IPAM plugin matters."""
    return read(MacvlanConf, document, forgive=ctx.forgive)
