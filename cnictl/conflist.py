"""Network configuration lists: how libcni finds, reads and merges them.

Source: libcni/conf.go of containernetworking/cni; the error texts are what its callers know.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any

from cni_plugins.errors import CniError
from cni_plugins.host.store import read_file
from cni_plugins.protocol.config import decode_json
from cni_plugins.protocol.spec import CURRENT
from cni_plugins.protocol.versions import parse_version

_LIST = "error parsing configuration list: "
_PLUGIN = "error parsing configuration: "
_TYPES = {bool: "bool", int: "float64", float: "float64", str: "string", list: "[]interface {}"}


class ConfError(CniError):
    """A configuration that cannot be found or read."""

    def __init__(self, msg: str, details: str = "") -> None:
        super().__init__(7, msg, details)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkList:
    """A network: its plugins' objects in order, and the bytes it was read from.

    ``raw`` is what the result cache keeps; plugins of the folder are not in it.
    """

    name: str
    cni_version: str = ""
    disable_check: bool = False
    disable_gc: bool = False
    plugins: tuple[dict[str, Any], ...] = ()
    raw: bytes = b""
    path: str = ""
    plugin_names: tuple[str, ...] = field(default=())


def parse_list(raw: bytes, *, folder: str | None = None, path: str = "") -> NetworkList:
    """Read a configuration list.

    Args:
        raw: its JSON text.
        folder: directory that has a folder of further plugins by the network's name.
        path: where it was read, for people.

    Raises:
        ConfError: with libcni's text.
    """
    document = _object(raw, _LIST)
    name = document.get("name")
    if "name" not in document:
        raise ConfError(f"{_LIST}no name")
    if not isinstance(name, str):
        raise ConfError(f"{_LIST}invalid name type {_type(name)}")
    version = _version(document)
    inlined_only = _flag(document, "loadOnlyInlinedPlugins")
    flags = [_flag(document, key) for key in ("disableCheck", "disableGC")]
    plugins = _inlined(document, required=inlined_only)
    if not inlined_only and folder is not None:
        plugins += _folder_plugins(os.path.join(folder, name))
    if not plugins:
        raise ConfError("no plugin configs found")
    return NetworkList(
        name=name,
        cni_version=version,
        disable_check=flags[0],
        disable_gc=flags[1],
        plugins=tuple(plugins),
        raw=raw,
        path=path,
    )


def parse_plugin(raw: bytes) -> dict[str, Any]:
    """Read a single plugin's object.

    Raises:
        ConfError: with libcni's text.
    """
    document = _object(raw, _PLUGIN)
    return _valid_plugin(document)


def as_list(raw: bytes, path: str = "") -> NetworkList:
    """A file with a single plugin as the list of one that libcni makes of it."""
    plugin = parse_plugin(raw)
    name, version = str(plugin.get("name", "")), str(plugin.get("cniVersion", ""))
    document: dict[str, Any] = {"name": name, "cniVersion": version, "plugins": [plugin]}
    return NetworkList(
        name=name,
        cni_version=version,
        plugins=(plugin,),
        raw=json.dumps(document, sort_keys=True, separators=(",", ":")).encode(),
        path=path,
        plugin_names=(name,),
    )


def load(directory: str, name: str) -> NetworkList:
    """Find a network by name: lists first, then single plugins, each in the order of file names.

    Raises:
        ConfError: it is not there, or a file on the way cannot be read.
    """
    lists, singles = _files(directory, (".conflist",)), _files(directory, (".conf", ".json"))
    for path in lists:
        found = parse_list(_read(path), folder=directory, path=path)
        if found.name == name:
            return found
    for path in singles:
        raw = _read(path)
        if parse_plugin(raw).get("name") == name:
            return as_list(raw, path)
    if not lists and not singles:
        raise ConfError(f"no net configurations found in {directory}")
    raise ConfError(f'no net configuration with name "{name}" in {directory}')


def load_file(path: str) -> NetworkList:
    """A network from one file, whatever its name ends in."""
    raw = _read(path)
    if "plugins" in _object(raw, _LIST) or path.endswith(".conflist"):
        return parse_list(raw, folder=os.path.dirname(os.path.abspath(path)), path=path)
    return as_list(raw, path)


def load_all(directory: str) -> list[tuple[str, NetworkList | ConfError]]:
    """Every file in the order in which containerd and CRI-O look, with its network or its fault."""
    found: list[tuple[str, NetworkList | ConfError]] = []
    for path in _files(directory, (".conf", ".conflist", ".json")):
        try:
            if path.endswith(".conflist"):
                found.append((path, parse_list(_read(path), folder=directory, path=path)))
            else:
                found.append((path, as_list(_read(path), path)))
        except ConfError as e:
            found.append((path, e))
    return found


def _files(directory: str, endings: tuple[str, ...]) -> list[str]:
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except FileNotFoundError:
        return []
    except OSError as e:
        raise ConfError(f"list {directory}: {e.strerror}") from e
    return [
        entry.path
        for entry in entries
        if not entry.is_dir() and os.path.splitext(entry.name)[1] in endings
    ]


def _read(path: str) -> bytes:
    try:
        return read_file(path)
    except CniError as e:
        raise ConfError(f"error reading {path}: {e.msg}") from e


def _object(raw: bytes, prefix: str) -> dict[str, Any]:
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
        raise ConfError(f"{_LIST}invalid type {_type(value)} for {key}")
    word = value.lower()
    if word not in {"true", "false"}:
        raise ConfError(f'{_LIST}invalid value "{word}" for {key}')
    return word == "true"


def _version(document: dict[str, Any]) -> str:
    """The highest version of ``cniVersion`` and ``cniVersions`` that this suite knows."""
    version = document.get("cniVersion", "")
    if not isinstance(version, str):
        raise ConfError(f"{_LIST}invalid cniVersion type {_type(version)}")
    if "cniVersions" not in document:
        return version
    offered = document["cniVersions"]
    if not isinstance(offered, list):
        raise ConfError(f"{_LIST}invalid type for cniVersions: {_type(offered)}")
    candidates = []
    for index, entry in enumerate(offered):
        if not isinstance(entry, str):
            raise ConfError(f"{_LIST}invalid type for cniVersions index {index}: {_type(entry)}")
        try:
            parse_version(entry)
        except CniError as e:
            raise ConfError(
                f"{_LIST}invalid cniVersions entry {entry} at index {index}: {e.msg}"
            ) from e
        candidates.append(entry)
    if version:
        try:
            parse_version(version)
        except CniError as e:
            raise ConfError(f"{_LIST}invalid cniVersion {version}: {e.msg}") from e
        candidates.append(version)
    known = [v for v in candidates if parse_version(v) <= parse_version(CURRENT)]
    return max(known, key=parse_version, default=version)


def _inlined(document: dict[str, Any], *, required: bool) -> list[dict[str, Any]]:
    if "plugins" not in document:
        if required:
            raise ConfError(f"{_LIST}`loadOnlyInlinedPlugins` is true, and no 'plugins' key")
        return []
    entries = document["plugins"]
    if not isinstance(entries, list):
        raise ConfError(f"{_LIST}invalid 'plugins' type {_type(entries)}")
    if not entries:
        raise ConfError(f"{_LIST}no plugins in list")
    plugins = []
    for index, entry in enumerate(entries):
        try:
            plugins.append(_valid_plugin(entry))
        except ConfError as e:
            raise ConfError(f"{_LIST}failed to parse plugin config {index}: {e.msg}") from e
    return plugins


def _valid_plugin(document: Any) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise ConfError(f"{_PLUGIN}expected an object")
    kind = document.get("type")
    if kind is not None and not isinstance(kind, str):
        raise ConfError(f"{_PLUGIN}type: expected a string, got {_type(kind)}")
    if not kind:
        raise ConfError(f"{_PLUGIN}missing 'type'")
    name = document.get("name")
    if name is not None and not isinstance(name, str):
        raise ConfError(f"{_PLUGIN}name: expected a string, got {_type(name)}")
    capabilities = document.get("capabilities")
    if capabilities is not None and (
        not isinstance(capabilities, dict)
        or not all(isinstance(v, bool) for v in capabilities.values())
    ):
        raise ConfError(f"{_PLUGIN}capabilities: expected an object of booleans")
    return document


def _folder_plugins(folder: str) -> list[dict[str, Any]]:
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise ConfError(f"failed to read plugin config files in {folder}: not a directory")
    return [parse_plugin(_read(path)) for path in _files(folder, (".conf",))]
