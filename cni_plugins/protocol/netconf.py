"""The keys every network configuration has.

Source: CNI spec 1.1.0, section 1 "Network configuration format".
"""

from __future__ import annotations

from cni_plugins.errors import ConfigError
from cni_plugins.frozen import Frozen
from cni_plugins.protocol import args
from cni_plugins.protocol.config import (
    any_object,
    array_of,
    find,
    flag,
    key,
    map_of,
    optional,
    parsed,
    read,
    record,
    text,
)
from cni_plugins.protocol.versions import DnsConf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Ipam(Frozen):
    """The only key of ``ipam`` that is not the IPAM plugin's own."""

    type: str = key("type", text, default="", doc="IPAM plugin to delegate to; empty for none")


class NetConf(Frozen):
    """Base of every plugin's configuration type."""

    cni_version: str = key("cniVersion", text, default="", doc="spec version, 0.1.0 when absent")
    name: str = key("name", text, default="", doc="network name, unique on the node")
    type: str = key("type", text, default="", doc="file name of the plugin")
    capabilities: dict[str, bool] | None = key("capabilities", map_of(flag), default=None)
    ipam: Ipam = key("ipam", record(Ipam), default=Ipam(), doc="address management")
    dns: DnsConf = key("dns", record(DnsConf), default=DnsConf(), doc="resolver settings")
    prev_result: dict[str, Any] | None = key("prevResult", any_object, default=None)


class Attachment(Frozen):
    """An entry of GC's list of valid attachments."""

    container_id: str = key("containerID", text)
    ifname: str = key("ifname", text)


_attachments = array_of(record(Attachment))


def valid_attachments(document: dict[str, Any]) -> frozenset[tuple[str, str]] | None:
    """What a runtime says is alive: pairs of container id and ifname; None when it gave no list.

    ``cni.dev/attachments`` is the key's name in the first spec text of 1.1.0.
    An empty list is a list: nothing is alive.

    Raises:
        ConfigError: the list is malformed.
    """
    for name in ("cni.dev/valid-attachments", "cni.dev/attachments"):
        given = find(document, name)
        if given is not None:
            entries = _attachments.read(given, f'["{name}"]')
            return frozenset((entry.container_id, entry.ifname) for entry in entries)
    return None


class _MacArgs(Frozen):
    mac: str | None = key("mac", optional(parsed(args.parse_mac, "a MAC address")), default=None)


class _CniArgs(Frozen):
    cni: _MacArgs = key("cni", record(_MacArgs), default=_MacArgs())


class _MacSources(Frozen):
    args: _CniArgs = key("args", record(_CniArgs), default=_CniArgs())
    runtime_config: _MacArgs = key("runtimeConfig", record(_MacArgs), default=_MacArgs())


def requested_mac(document: dict[str, Any], cni_args: str) -> str:
    """The MAC address asked for: CNI_ARGS < args.cni.mac < runtimeConfig.mac; "" for none.

    Raises:
        RequestError: CNI_ARGS is malformed or has an unknown key.
        ConfigError: a MAC address in the configuration is malformed.
    """
    from_args = args.parse_args(cni_args, {"MAC": lambda t: args.parse_mac(t) if t else ""})
    sources = read(_MacSources, document)
    return sources.runtime_config.mac or sources.args.cni.mac or str(from_args.get("MAC", ""))


def parse_name(document: Any) -> str:
    """The network name of a decoded configuration, checked as the first thing of every call.

    Raises:
        ConfigError: the document or its name is missing, or the name has foreign characters.
    """
    name = find(document, "name") if isinstance(document, dict) else None
    if not name:
        raise ConfigError("", "missing network name")
    args.validate_network_name(name)
    return str(name)
