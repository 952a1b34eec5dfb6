"""The result cache of libcni: one file per attachment, in its place and format.

What containerd or podman cached can be checked and deleted by hand, and the reverse.

Source: libcni/api.go of containernetworking/cni, kind ``cniCacheV1``.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from cni_plugins.errors import CniError, StateError
from cni_plugins.frozen import Frozen
from cni_plugins.host.store import Store
from cni_plugins.protocol.versions import convert

RESULTS = "/var/lib/cni/results"
KIND = "cniCacheV1"


class Attachment(Frozen):
    """One attachment as the cache has it; ``result`` None when there is none."""

    network: str
    container_id: str
    ifname: str
    netns: str = ""
    args: tuple[tuple[str, str], ...] = ()
    capability_args: dict[str, Any] | None = None
    config: bytes = b""
    result: dict[str, Any] | None = None


class Cache:
    """The cache below a directory."""

    def __init__(self, root: str = RESULTS) -> None:
        self._store = Store(root)

    def write(self, entry: Attachment) -> None:
        """Keep an attachment and its result."""
        document: dict[str, Any] = {
            "kind": KIND,
            "containerId": entry.container_id,
            "config": base64.b64encode(entry.config).decode() if entry.config else None,
            "ifName": entry.ifname,
            "networkName": entry.network,
        }
        if entry.netns:
            document["netns"] = entry.netns
        if entry.args:
            document["cniArgs"] = [list(pair) for pair in entry.args]
        if entry.capability_args:
            document["capabilityArgs"] = entry.capability_args
        if entry.result is not None:
            document["result"] = entry.result
        text = json.dumps(document, separators=(",", ":"))
        name = file_name(entry.network, entry.container_id, entry.ifname)
        self._store.replace(name, text.encode(), durable=True)

    def discard(self, network: str, container_id: str, ifname: str) -> None:
        """Forget an attachment."""
        self._store.discard(f"{network}-{container_id}-{ifname}")

    def find(self, network: str, container_id: str, ifname: str) -> Attachment | None:
        """An attachment; None when nothing was cached.

        Raises:
            CniError: the file cannot be understood.
        """
        raw = self._store.read(file_name(network, container_id, ifname))
        if raw is None:
            return None
        document = _object(raw)
        if document.get("kind") != KIND:  # before libcni 0.7.0 the file was the result itself
            return Attachment(
                network=network, container_id=container_id, ifname=ifname, result=document
            )
        return _attachment(document)

    def result(
        self, network: str, container_id: str, ifname: str, version: str
    ) -> dict[str, Any] | None:
        """The cached result in another version.

        Raises:
            CniError: it cannot be understood or converted.
        """
        entry = self.find(network, container_id, ifname)
        if entry is None or entry.result is None:
            return None
        try:
            return convert(entry.result, version)
        except CniError as e:
            raise CniError(
                e.code,
                f'failed to convert cached result to config version "{version}": {e.msg}',
                e.details,
            ) from e

    def attachments(self) -> list[Attachment]:
        """All attachments, by file name; files that cannot be understood are passed over."""
        found = []
        for name in self._store.names():
            try:
                document = _object(self._store.read(name) or b"")
                entry = _attachment(document)
            except (CniError, StateError):
                continue
            if document.get("kind") == KIND and entry.ifname and entry.network:
                found.append(entry)
        return found


def file_name(network: str, container_id: str, ifname: str) -> str:
    """The name of an attachment's file.

    Raises:
        CniError: a part is empty.
    """
    if not (network and container_id and ifname):
        raise CniError(
            999,
            f'cache file path requires network name ("{network}"), container ID '
            f'("{container_id}"), and interface name ("{ifname}")',
        )
    return f"{network}-{container_id}-{ifname}"


def _object(raw: bytes) -> dict[str, Any]:
    try:
        document = json.loads(raw)
    except ValueError as e:
        raise CniError(6, f"decoding version from network config: {e}") from None
    if not isinstance(document, dict):
        raise CniError(6, "decoding version from network config: expected an object")
    return document


def _attachment(document: dict[str, Any]) -> Attachment:
    args = document.get("cniArgs") or ()
    try:
        config = base64.b64decode(document.get("config") or "")
        pairs = tuple((str(key), str(value)) for key, value in args)
    except (ValueError, TypeError) as e:
        raise CniError(6, f"cached attachment: {e}") from None
    result = document.get("result")
    return Attachment(
        network=str(document.get("networkName") or ""),
        container_id=str(document.get("containerId") or ""),
        ifname=str(document.get("ifName") or ""),
        netns=str(document.get("netns") or ""),
        args=pairs,
        capability_args=document.get("capabilityArgs") or None,
        config=config,
        result=result if isinstance(result, dict) else None,
    )
