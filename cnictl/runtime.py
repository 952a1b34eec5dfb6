"""What a container runtime does with a network: libcni's part of the protocol.

Source: CNI spec 1.1.0, section 3 "Execution of Network Configurations"; libcni/api.go.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cni_plugins import invoke
from cni_plugins.errors import CniError, ConfigError, VersionError
from cni_plugins.host.store import Store
from cni_plugins.protocol import spec
from cni_plugins.protocol.versions import convert, parse_version
from cnictl.cache import Attachment, Cache
from cnictl.calls import Container, PluginError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Set as AbstractSet

    from cni_plugins.deadline import Deadline
    from cnictl.calls import Caller
    from cnictl.networks import NetworkList, PluginConf

LOCKS = "/run/cni-plugins/cnictl"
_EVERYBODY = "all"


class Runtime:
    """Runs the plugins of networks.

    Args:
        caller: executes one of them.
        cache: where results are kept.
    """

    def __init__(self, caller: Caller, cache: Cache) -> None:
        self._caller = caller
        self._cache = cache

    def add(self, network: NetworkList, container: Container) -> dict[str, Any]:
        """ADD along the list; the last result, which is cached.

        Raises:
            CniError: the caller has to :meth:`sweep`.
        """
        result: dict[str, Any] | None = None
        for index, plugin in enumerate(network.plugins):
            added = added_keys(plugin, container, result)
            stdout = self._caller.call("ADD", network, index, container=container, added=added)
            try:
                result = read_result(stdout, network.cni_version)
            except CniError as e:
                raise PluginError(e, network, index, "ADD") from e
        try:
            self._cache.write(_entry(network, container, result))
        except CniError as e:
            raise CniError(
                e.code, f'failed to set network "{network.name}" cached result: {e.msg}', e.details
            ) from e
        assert result is not None  # a list has at least one plugin
        return result

    def delete(self, network: NetworkList, container: Container) -> None:
        """DEL, last plugin first; the first failure stops it and the cache stays for a retry."""
        result = None
        if parse_version(network.cni_version) >= spec.CHECK_SINCE:
            result = self._result_or_nothing(network, container)
        for index, plugin in reversed(list(enumerate(network.plugins))):
            added = added_keys(plugin, container, result)
            self._caller.call("DEL", network, index, container=container, added=added)
        self._cache.discard(network.name, container.id, container.ifname)

    def sweep(self, network: NetworkList, container: Container) -> list[CniError]:
        """DEL over all plugins whatever fails, as it has to follow a failed ADD."""
        failures: list[CniError] = []
        for index, plugin in reversed(list(enumerate(network.plugins))):
            added = added_keys(plugin, container, None)
            try:
                self._caller.call("DEL", network, index, container=container, added=added)
            except CniError as e:
                failures.append(e)
        return failures

    def check(self, network: NetworkList, container: Container) -> bool:
        """CHECK along the list; False when the list disables it."""
        if parse_version(network.cni_version) < spec.CHECK_SINCE:
            raise VersionError(
                f'configuration version "{network.cni_version}" does not support the CHECK command'
            )
        if network.disable_check:
            return False
        place = (network.name, container.id, container.ifname)
        try:
            result = self._cache.result(*place, network.cni_version)
        except CniError as e:
            raise CniError(
                e.code, f'failed to get network "{network.name}" cached result: {e.msg}', e.details
            ) from e
        if result is None:
            self._caller.notes.append("no result is cached for it: was it attached, by this id?")
        for index, plugin in enumerate(network.plugins):
            added = added_keys(plugin, container, result)
            self._caller.call("CHECK", network, index, container=container, added=added)
        return True

    def status(self, network: NetworkList) -> bool:
        """STATUS along the list; False when its version has none."""
        if not _has_status(network):
            return False
        for index in range(len(network.plugins)):
            self._caller.call("STATUS", network, index)
        return True

    def gc(self, network: NetworkList, valid: AbstractSet[tuple[str, str]]) -> list[CniError]:
        """DEL for cached attachments that are not valid, then GC along the list; what failed.

        Args:
            network: the list.
            valid: container id and ifname of the attachments that stay.
        """
        if network.disable_gc:
            return []
        failures: list[CniError] = []
        for entry in self.stale(network, valid):
            try:
                self.delete(network, container_of(entry))
            except CniError as e:
                text = f"failed to delete stale attachment {entry.container_id} {entry.ifname}"
                failures.append(CniError(e.code, f"{text}: {e.msg}", e.details))
        if not _has_status(network):
            return failures
        listed = [{"containerID": c, "ifname": i} for c, i in sorted(valid)]
        added = {"cni.dev/valid-attachments": listed, "cni.dev/attachments": listed}
        for index in range(len(network.plugins)):
            try:
                self._caller.call("GC", network, index, added=added)
            except CniError as e:
                failures.append(e)
        return failures

    def stale(self, network: NetworkList, valid: AbstractSet[tuple[str, str]]) -> list[Attachment]:
        """Cached attachments of the network that are not valid."""
        return [
            entry
            for entry in self._cache.attachments()
            if entry.network == network.name and (entry.container_id, entry.ifname) not in valid
        ]

    def problems(self, network: NetworkList) -> list[CniError]:
        """Plugins of the list that are missing or do not know its version."""
        version = network.cni_version or "0.1.0"
        found: list[CniError] = []
        for plugin in network.plugins:
            try:
                if version not in self._caller.versions(plugin.type):
                    text = f'plugin {plugin.type} does not support config version "{version}"'
                    found.append(VersionError(text))
            except CniError as e:
                found.append(e)
        return found

    def validate(self, network: NetworkList) -> frozenset[str]:
        """The capabilities a sound network has enabled.

        Raises:
            CniError: with all its problems.
        """
        found = self.problems(network)
        if found:
            raise CniError(found[0].code, f"[{' '.join(map(str, found))}]")
        return network.capabilities

    def _result_or_nothing(
        self, network: NetworkList, container: Container
    ) -> dict[str, Any] | None:
        """The cached result; one that cannot be used is thrown away, DEL goes on without."""
        place = (network.name, container.id, container.ifname)
        try:
            return self._cache.result(*place, network.cni_version)
        except CniError as e:
            self._caller.notes.append(f"the cached result is thrown away: {e}")
            self._cache.discard(*place)
            return None


@contextmanager
def container_lock(container_id: str, deadline: Deadline) -> Iterator[None]:
    """The spec's rule: never two operations on one container at once, and none during GC.

    Raises:
        Busy: the time is up; the message names the holder.
    """
    store = Store(LOCKS)
    name = hashlib.sha256(container_id.encode("utf-8", "surrogateescape")).hexdigest()[:20]
    with store.locked(_EVERYBODY, deadline, shared=True), store.locked(name, deadline):
        try:
            yield
        finally:
            store.discard(name)


@contextmanager
def everybody_lock(deadline: Deadline) -> Iterator[None]:
    """No operation on any container runs within the block."""
    with Store(LOCKS).locked(_EVERYBODY, deadline):
        yield


def read_result(stdout: bytes, config_version: str) -> dict[str, Any]:
    """What an ADD printed, as it is kept and passed on: in its own version, unknown keys gone.

    Raises:
        CniError: it is no result, or of an unknown version.
    """
    document = invoke.added_document(stdout, config_version)
    try:
        return convert(document, document["cniVersion"])
    except ConfigError as e:
        raise CniError(999, f"its result is faulty: {e.msg}", e.details) from e


def container_of(entry: Attachment) -> Container:
    """The container of a cached attachment."""
    return Container(
        id=entry.container_id,
        netns=entry.netns,
        ifname=entry.ifname,
        args=entry.args,
        capability_args=entry.capability_args or {},
    )


def added_keys(
    plugin: PluginConf, container: Container, result: dict[str, Any] | None
) -> dict[str, Any]:
    """What a request has beside the plugin's own object: previous result, enabled capabilities."""
    offered = container.capability_args.items()
    enabled = {key: value for key, value in offered if plugin.capabilities.get(key)}
    added: dict[str, Any] = {} if result is None else {"prevResult": result}
    return {**added, "runtimeConfig": enabled} if enabled else added


def _entry(network: NetworkList, container: Container, result: dict[str, Any] | None) -> Attachment:
    return Attachment(
        network=network.name,
        container_id=container.id,
        ifname=container.ifname,
        netns=container.netns,
        args=container.args,
        capability_args=container.capability_args,
        config=network.raw,
        result=result,
    )


def _has_status(network: NetworkList) -> bool:
    try:
        return parse_version(network.cni_version) >= spec.GC_AND_STATUS_SINCE
    except CniError:
        return False
