"""Configuration of ipvlan."""

from __future__ import annotations

from cni_plugins import endpoint
from cni_plugins.errors import ConfigError
from cni_plugins.frozen import replace
from cni_plugins.host.sublinks import IPVLAN_MODES
from cni_plugins.protocol.config import choice, key, read
from cni_plugins.sublink import SublinkConf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_plugins.context import Context


class IpvlanConf(SublinkConf):
    """The keys of ipvlan beside those of every link on a parent.

    Behind another plugin the only interface of its result is the parent, and its addresses are
    taken when there is no IPAM plugin.
    """

    mode: str = key("mode", choice("", *IPVLAN_MODES), default="", doc="l2 when not given")


def parse(ctx: Context, document: dict[str, Any]) -> IpvlanConf:
    """ADD, CHECK, STATUS.

    Raises:
        ConfigError: with the JSON path.
    """
    conf = read(IpvlanConf, document)
    conf = replace(conf, mode=conf.mode or "l2", **endpoint.derived(ctx, conf, document))
    if ctx.command != "ADD":
        return conf
    if conf.chained is not None and not conf.master:
        names = [interface.name for interface in conf.chained.interfaces if interface.name]
        if len(names) != 1:
            raise ConfigError(
                "prevResult",
                f"chained master failure: {len(names)} interfaces, one is needed as the parent",
                "or name the parent as master",
            )
        conf = replace(conf, master=names[0])
    if not conf.ipam.type and not (conf.chained and conf.chained.ips):
        raise ConfigError("ipam", "is required unless prevResult has addresses")
    return conf


def parse_cleanup(ctx: Context, document: dict[str, Any]) -> IpvlanConf:
    """DEL, GC: only the IPAM plugin matters."""
    return read(IpvlanConf, document, forgive=ctx.forgive)
