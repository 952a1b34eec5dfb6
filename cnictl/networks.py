"""Network configurations: what libcni reads of their text.

Source: libcni/conf.go of containernetworking/cni; the error texts are what its callers know.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from cni_plugins.errors import CniError, ConfigError
from cni_plugins.frozen import Frozen
from cni_plugins.protocol.config import (
    any_object,
    array_of,
    decode_json,
    flag,
    key,
    map_of,
    read,
    record,
    text,
)
from cni_plugins.protocol.spec import CURRENT
from cni_plugins.protocol.versions import DnsConf, parse_version

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    More = Callable[[str], list["PluginConf"]]

LIST = "error parsing configuration list: "
_PLUGIN = "error parsing configuration: "
_TYPES = {bool: "bool", int: "float64", float: "float64", str: "string", list: "[]interface {}"}


class ConfError(CniError):
    """A configuration that cannot be found or read."""

    def __init__(self, msg: str, details: str = "") -> None:
        super().__init__(7, msg, details)


class PluginConf(Frozen):
    """A plugin's object of a network: what the runtime reads of it, and the whole."""

    type: str
    name: str
    capabilities: dict[str, bool]
    document: dict[str, Any]


class NetworkList(Frozen):
    """A network: its plugins in order, and the bytes it was read from.

    ``raw`` is what the result cache keeps; plugins of the folder are not in it.
    """

    name: str
    cni_version: str = ""
    disable_check: bool = False
    disable_gc: bool = False
    inlined_only: bool = False
    plugins: tuple[PluginConf, ...] = ()
    raw: bytes = b""
    path: str = ""

    @property
    def capabilities(self) -> frozenset[str]:
        """The capabilities that any of the plugins has enabled."""
        return frozenset(k for p in self.plugins for k, v in p.capabilities.items() if v)


def parse_list(raw: bytes, *, path: str = "", more: More | None = None) -> NetworkList:
    """Read a configuration list.

    Args:
        raw: its JSON text.
        path: where it was read, for people.
        more: given, it is asked for the further plugins of the network by that name.

    Raises:
        ConfError: with libcni's text.
    """
    document = read_object(raw)
    name = document.get("name")
    if "name" not in document:
        raise ConfError(f"{LIST}no name")
    if not isinstance(name, str):
        raise ConfError(f"{LIST}invalid name type {_type(name)}")
    version = _version(document)
    inlined_only = _flag(document, "loadOnlyInlinedPlugins")
    flags = [_flag(document, key) for key in ("disableCheck", "disableGC")]
    plugins = _inlined(document, required=inlined_only)
    if not inlined_only and more is not None:
        plugins += more(name)
    if not plugins:
        raise ConfError("no plugin configs found")
    return NetworkList(
        name=name,
        cni_version=version,
        disable_check=flags[0],
        disable_gc=flags[1],
        inlined_only=inlined_only,
        plugins=tuple(plugins),
        raw=raw,
        path=path,
    )


def parse_plugin(raw: bytes) -> PluginConf:
    """Read a single plugin's object.

    Raises:
        ConfError: with libcni's text.
    """
    return _plugin(read_object(raw, _PLUGIN))


def as_list(raw: bytes, path: str = "") -> NetworkList:
    """A file with a single plugin as the list of one that libcni makes of it."""
    plugin = parse_plugin(raw)
    known = read(_Known, plugin.document)
    document: dict[str, Any] = {
        "name": plugin.name,
        "cniVersion": known.cni_version,
        "plugins": [plugin.document],
    }
    return NetworkList(
        name=plugin.name,
        cni_version=known.cni_version,
        plugins=(plugin,),
        raw=json.dumps(document, sort_keys=True, separators=(",", ":")).encode(),
        path=path,
    )


def inject(document: Mapping[str, Any], added: Mapping[str, Any]) -> bytes:
    """A plugin's object with further keys, as it is sent: keys sorted, added ones win.

    Raises:
        ConfError: a key is empty or has no value.
    """
    for key_, value in added.items():
        if not key_:
            raise ConfError("keys cannot be empty")
        if value is None:
            raise ConfError(f"key '{key_}' value must not be nil")
    return json.dumps({**document, **added}, sort_keys=True, separators=(",", ":")).encode()


def read_object(raw: bytes, prefix: str = LIST) -> dict[str, Any]:
    """The JSON object of a text; ``prefix`` begins the complaint."""
    try:
        document = decode_json(raw)
    except ValueError as e:
        raise ConfError(f"{prefix}{e}") from None
    if not isinstance(document, dict):
        raise ConfError(f"{prefix}expected an object")
    return document


def _type(value: object) -> str:
    return _TYPES.get(type(value), "map[string]interface {}" if value is not None else "<nil>")


def _flag(document: dict[str, Any], key: str) -> bool:
    if key not in document:
        return False
    value = document[key]
    if isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise ConfError(f"{LIST}invalid type {_type(value)} for {key}")
    word = value.lower()
    if word not in {"true", "false"}:
        raise ConfError(f'{LIST}invalid value "{word}" for {key}')
    return word == "true"


def _version(document: dict[str, Any]) -> str:
    """The highest version of ``cniVersion`` and ``cniVersions`` that this suite knows."""
    version = document.get("cniVersion", "")
    if not isinstance(version, str):
        raise ConfError(f"{LIST}invalid cniVersion type {_type(version)}")
    if "cniVersions" not in document:
        return version
    offered = document["cniVersions"]
    if not isinstance(offered, list):
        raise ConfError(f"{LIST}invalid type for cniVersions: {_type(offered)}")
    candidates = []
    for index, entry in enumerate(offered):
        if not isinstance(entry, str):
            raise ConfError(f"{LIST}invalid type for cniVersions index {index}: {_type(entry)}")
        try:
            parse_version(entry)
        except CniError as e:
            raise ConfError(
                f"{LIST}invalid cniVersions entry {entry} at index {index}: {e.msg}"
            ) from e
        candidates.append(entry)
    if version:
        try:
            parse_version(version)
        except CniError as e:
            raise ConfError(f"{LIST}invalid cniVersion {version}: {e.msg}") from e
        candidates.append(version)
    known = [v for v in candidates if parse_version(v) <= parse_version(CURRENT)]
    return max(known, key=parse_version, default=version)


def _inlined(document: dict[str, Any], *, required: bool) -> list[PluginConf]:
    if "plugins" not in document:
        if required:
            raise ConfError(f"{LIST}`loadOnlyInlinedPlugins` is true, and no 'plugins' key")
        return []
    entries = document["plugins"]
    if not isinstance(entries, list):
        raise ConfError(f"{LIST}invalid 'plugins' type {_type(entries)}")
    if not entries:
        raise ConfError(f"{LIST}no plugins in list")
    plugins = []
    for index, entry in enumerate(entries):
        try:
            plugins.append(_plugin(entry))
        except ConfError as e:
            raise ConfError(f"{LIST}failed to parse plugin config {index}: {e.msg}") from e
    return plugins


class _Ipam(Frozen):
    type: str = key("type", text, default="")


class _Pair(Frozen):
    container_id: str = key("containerID", text, default="")
    ifname: str = key("ifname", text, default="")


class _Known(Frozen):
    """What libcni decodes of every plugin's object, whatever its type."""

    cni_version: str = key("cniVersion", text, default="")
    name: str = key("name", text, default="")
    type: str = key("type", text, default="")
    capabilities: dict[str, bool] | None = key("capabilities", map_of(flag), default=None)
    ipam: _Ipam = key("ipam", record(_Ipam), default=_Ipam())
    dns: DnsConf = key("dns", record(DnsConf), default=DnsConf())
    prev_result: dict[str, Any] | None = key("prevResult", any_object, default=None)
    valid: tuple[_Pair, ...] = key("cni.dev/valid-attachments", array_of(record(_Pair)), default=())


def _plugin(document: Any) -> PluginConf:
    if not isinstance(document, dict):
        raise ConfError(f"{_PLUGIN}expected an object")
    try:
        known = read(_Known, document)
    except ConfigError as e:
        raise ConfError(f"{_PLUGIN}{e.msg}") from e
    if not known.type:
        raise ConfError(f"{_PLUGIN}missing 'type'")
    return PluginConf(
        type=known.type,
        name=known.name,
        capabilities=known.capabilities or {},
        document=document,
    )
