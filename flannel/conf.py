"""Configuration of flannel."""

from __future__ import annotations

from cni_plugins.errors import ConfigError
from cni_plugins.frozen import Frozen
from cni_plugins.protocol.config import any_object, array_of, find, key, read, record, text
from cni_plugins.protocol.netconf import NetConf
from cni_plugins.protocol.versions import RouteConf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_plugins.context import Context

SUBNET_FILE = "/run/flannel/subnet.env"
DATA_DIR = "/var/lib/cni/flannel"


class _Ipam(Frozen):
    routes: tuple[RouteConf, ...] = key("routes", array_of(record(RouteConf)), default=())


class FlannelConf(NetConf):
    """The keys of flannel."""

    subnet_file: str = key("subnetFile", text, default=SUBNET_FILE, doc="what flanneld writes")
    data_dir: str = key("dataDir", text, default=DATA_DIR, doc="where delegates' requests are kept")
    delegate: dict[str, Any] | None = key(
        "delegate", any_object, default=None, doc="configuration of the plugin behind; bridge"
    )
    runtime_config: dict[str, Any] | None = key("runtimeConfig", any_object, default=None)
    own_ipam: dict[str, Any] | None = key("ipam", any_object, default=None, doc="further ipam keys")


def parse(_ctx: Context, document: dict[str, Any]) -> FlannelConf:
    """ADD, CHECK, STATUS.

    Raises:
        ConfigError: with the JSON path.
    """
    conf = read(FlannelConf, document)
    delegate = conf.delegate or {}
    for name in ("name", "ipam"):
        if find(delegate, name) is not None:
            raise ConfigError(f"delegate.{name}", "is made by flannel and must not be given")
    delegate_type = find(delegate, "type")
    if delegate_type is not None and not isinstance(delegate_type, str):
        raise ConfigError("delegate.type", "expected a string, the type of a plugin")
    read(_Ipam, conf.own_ipam or {}, "ipam")
    return conf


def parse_cleanup(ctx: Context, document: dict[str, Any]) -> FlannelConf:
    """DEL, GC: only where requests are kept matters."""
    return read(FlannelConf, document, forgive=ctx.forgive)
