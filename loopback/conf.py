"""Configuration of loopback: only the keys that every plugin has."""

from __future__ import annotations

from cni_plugins.protocol.config import read
from cni_plugins.protocol.netconf import NetConf
from cni_plugins.protocol.versions import decode_prev_result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_plugins.context import Context
    from cni_plugins.protocol.result import Result


class LoopbackConf(NetConf):
    """No keys of its own; ``chained`` is the result of the plugin before, if any."""

    chained: Result | None = None


def parse(ctx: Context, document: dict[str, Any]) -> LoopbackConf:
    """ADD, CHECK, STATUS."""
    conf = read(LoopbackConf, document)
    if conf.prev_result is None:
        return conf
    chained = decode_prev_result(conf.prev_result, ctx.cni_version)
    return LoopbackConf(prev_result=conf.prev_result, chained=chained)


def parse_cleanup(_ctx: Context, _document: dict[str, Any]) -> LoopbackConf:
    """DEL, GC: nothing in the configuration matters."""
    return LoopbackConf()
