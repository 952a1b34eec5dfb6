"""Configuration of vrf."""

from __future__ import annotations

from cni_plugins import chain
from cni_plugins.errors import CniError, ConfigError
from cni_plugins.frozen import replace
from cni_plugins.protocol import args
from cni_plugins.protocol.config import integer, key, read, text
from cni_plugins.protocol.netconf import NetConf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_plugins.context import Context
    from cni_plugins.protocol.result import Result


class VrfConf(NetConf):
    """The keys of vrf."""

    vrf_name: str = key("vrfname", text, default="", doc="name of the VRF, made when missing")
    table: int = key("table", integer(0, 2**32 - 1), default=0, doc="its table; 0 to choose one")

    chained: Result | None = None


def parse(ctx: Context, document: dict[str, Any]) -> VrfConf:
    """ADD, CHECK, STATUS.

    Raises:
        ConfigError: with the JSON path.
    """
    conf = read(VrfConf, document)
    if not conf.vrf_name:
        raise ConfigError("", "configuration is expected to have a valid vrf name", "vrfname")
    try:
        args.validate_ifname(conf.vrf_name)
    except CniError as e:
        raise ConfigError("vrfname", f"{conf.vrf_name!r}: {e.msg}", e.details) from None
    if ctx.command == "STATUS":
        return conf
    return replace(
        conf, chained=chain.previous(ctx, conf, "missing prevResult from earlier plugin")
    )


def parse_cleanup(ctx: Context, document: dict[str, Any]) -> VrfConf:
    """DEL, GC: only the VRF's name matters."""
    return read(VrfConf, document, forgive=ctx.forgive)
