"""Network configuration files: how libcni finds and merges them.

Source: libcni/conf.go of containernetworking/cni; the error texts are what its callers know.
"""

from __future__ import annotations

import os

from cni_plugins.errors import CniError
from cni_plugins.host.store import read_file
from cnictl.networks import (
    ConfError,
    NetworkList,
    PluginConf,
    as_list,
    parse_list,
    parse_plugin,
    read_object,
)


def load(directory: str, name: str) -> NetworkList:
    """Find a network by name: lists first, then single plugins, each in the order of file names.

    Raises:
        ConfError: it is not there, or a file on the way cannot be read.
    """
    lists, singles = _files(directory, (".conflist",)), _files(directory, (".conf", ".json"))
    for path in lists:
        found = _list(path)
        if found.name == name:
            return found
    for path in singles:
        raw = _read(path)
        if parse_plugin(raw).name == name:
            return as_list(raw, path)
    if not lists and not singles:
        raise ConfError(f"no net configurations found in {directory}")
    raise ConfError(f'no net configuration with name "{name}" in {directory}')


def load_file(path: str) -> NetworkList:
    """A network from one file, whatever its name ends in."""
    raw = _read(path)
    if "plugins" in read_object(raw) or path.endswith(".conflist"):
        return _list(path, raw)
    return as_list(raw, path)


def load_all(directory: str) -> list[tuple[str, NetworkList | ConfError]]:
    """Every file in the order in which containerd and CRI-O look, with its network or its fault."""
    found: list[tuple[str, NetworkList | ConfError]] = []
    for path in _files(directory, (".conf", ".conflist", ".json")):
        try:
            if path.endswith(".conflist"):
                found.append((path, _list(path)))
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


def _list(path: str, raw: bytes | None = None) -> NetworkList:
    def more(name: str) -> list[PluginConf]:
        return _folder_plugins(os.path.join(os.path.dirname(path), name))

    return parse_list(_read(path) if raw is None else raw, path=path, more=more)


def _folder_plugins(folder: str) -> list[PluginConf]:
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise ConfError(f"failed to read plugin config files in {folder}: not a directory")
    return [parse_plugin(_read(path)) for path in _files(folder, (".conf",))]
