"""Configuration of vlan."""

from __future__ import annotations

from cni_plugins import endpoint
from cni_plugins.errors import ConfigError
from cni_plugins.frozen import replace
from cni_plugins.protocol.config import integer, key, read
from cni_plugins.sublink import SublinkConf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_plugins.context import Context

HIGHEST = 4094


class VlanConf(SublinkConf):
    """The keys of vlan beside those of every link on a parent."""

    vlan_id: int = key("vlanId", integer(), default=0, doc="VLAN id, 0 to 4094")


def parse(ctx: Context, document: dict[str, Any]) -> VlanConf:
    """ADD, CHECK, STATUS.

    Raises:
        ConfigError: with the JSON path.
    """
    conf = read(VlanConf, document)
    if not conf.master:
        raise ConfigError("master", "is required: the link whose VLAN it is to be")
    if not 0 <= conf.vlan_id <= HIGHEST:
        raise ConfigError("vlanId", f"{conf.vlan_id} is outside 0 to {HIGHEST}")
    if not conf.ipam.type and ctx.command != "STATUS":
        raise ConfigError("ipam", "is required: a plugin that gives addresses")
    return replace(conf, **endpoint.derived(ctx, conf, document))


def parse_cleanup(ctx: Context, document: dict[str, Any]) -> VlanConf:
    """DEL, GC: only the IPAM plugin matters, neither the parent nor its MTU."""
    return read(VlanConf, document, forgive=ctx.forgive)
