"""Configuration of dummy."""

from __future__ import annotations

from cni_plugins import endpoint
from cni_plugins.endpoint import EndpointConf
from cni_plugins.errors import CniError
from cni_plugins.frozen import replace
from cni_plugins.protocol.config import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_plugins.context import Context


class DummyConf(EndpointConf):
    """No keys but those of every plugin that makes an interface."""


def parse(ctx: Context, document: dict[str, Any]) -> DummyConf:
    """ADD, CHECK, STATUS.

    Raises:
        CniError: there is no IPAM plugin.
        ConfigError: with the JSON path.
    """
    conf = read(DummyConf, document)
    if not conf.ipam.type and ctx.command != "STATUS":
        raise CniError(
            999, "dummy interface requires an IPAM configuration", "ipam.type: not given"
        )
    return replace(conf, **endpoint.derived(ctx, conf, document))


def parse_cleanup(ctx: Context, document: dict[str, Any]) -> DummyConf:
    """DEL, GC: only the IPAM plugin matters."""
    return read(DummyConf, document, forgive=ctx.forgive)
