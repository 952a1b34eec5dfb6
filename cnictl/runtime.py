"""What a container runtime does with a network: libcni's part of the protocol.

Source: CNI spec 1.1.0, section 3 "Execution of Network Configurations"; libcni/api.go.
"""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cni_plugins import invoke
from cni_plugins.errors import CniError
from cni_plugins.host.store import Store
from cni_plugins.protocol import args, spec
from cni_plugins.protocol.versions import parse_version
from cnictl.cache import Attachment, Cache

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cni_plugins.deadline import Deadline
    from cni_plugins.host.command import Runner
    from cnictl.conflist import NetworkList

LOCKS = "/run/cni-plugins/cnictl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """What the plugins are told of the container."""

    id: str
    netns: str
    ifname: str
    args: tuple[tuple[str, str], ...] = ()
    capability_args: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """One plugin's call: its type, the verb, and how long it took in seconds."""

    plugin: str
    verb: str
    seconds: float


class PluginError(CniError):
    """A plugin of a list failed.

    Args:
        error: as the plugin gave it.
        plugin: its object in the list.
        place: its position, from 1 on, and the length of the list.
        verb: ``add``, ``delete``, ``check``, ``status``, ``gc``.
        name: the name in the plugin's own object, "" for none.
    """

    def __init__(  # noqa: PLR0913 - all of it is for the operator
        self, error: CniError, *, plugin: str, place: tuple[int, int], verb: str, name: str = ""
    ) -> None:
        named = f' name="{name}"' if name else ""
        prefix = f'plugin type="{plugin}"{named} failed ({verb}): '
        super().__init__(error.code, f"{prefix}{error.msg}", error.details)
        self.error = error
        self.plugin = plugin
        self.place = place
        self.verb = verb


class Runtime:
    """Runs the plugins of networks.

    Args:
        runner: executes them.
        env: this process's environment, which they inherit.
        path: CNI_PATH.
        cache: where results are kept.
    """

    def __init__(self, runner: Runner, env: Mapping[str, str], path: str, cache: Cache) -> None:
        self._runner = runner
        self._env = env
        self._path = path
        self._cache = cache
        self.steps: list[Step] = []
        self.warnings: list[str] = []

    def add(self, network: NetworkList, container: Container) -> dict[str, Any]:
        """ADD along the list; the last result, which is cached.

        Raises:
            PluginError: the caller has to send DEL.
        """
        result: dict[str, Any] | None = None
        for index, plugin in enumerate(network.plugins):
            path = self._find(network, index, "add")
            with _blaming(network, index, "add"):
                _validate(network, container)
                request = self._request(network, plugin, container, result)
                stdout = self._call(path, "ADD", request, container)
                result = invoke.added_document(stdout, network.cni_version)
        assert result is not None
        entry = self._entry(network, container, result)
        try:
            self._cache.write(entry)
        except CniError as e:
            raise CniError(
                e.code, f'failed to set network "{network.name}" cached result: {e.msg}', e.details
            ) from e
        return result

    def delete(self, network: NetworkList, container: Container) -> None:
        """DEL, last plugin first; the first failure stops it and the cache stays for a retry."""
        result = None
        if parse_version(network.cni_version) >= spec.CHECK_SINCE:
            result = self._result_or_nothing(network, container)
        for index, plugin in reversed(list(enumerate(network.plugins))):
            path = self._find(network, index, "delete")
            with _blaming(network, index, "delete"):
                self._call(
                    path, "DEL", self._request(network, plugin, container, result), container
                )
        self._cache.discard(network.name, container.id, container.ifname)

    def sweep(self, network: NetworkList, container: Container) -> list[CniError]:
        """DEL over all plugins whatever fails, as it has to follow a failed ADD."""
        failures: list[CniError] = []
        for index, plugin in reversed(list(enumerate(network.plugins))):
            try:
                path = self._find(network, index, "delete")
                with _blaming(network, index, "delete"):
                    request = self._request(network, plugin, container, None)
                    self._call(path, "DEL", request, container)
            except CniError as e:
                failures.append(e)
        return failures

    def check(self, network: NetworkList, container: Container) -> bool:
        """CHECK along the list; False when the list disables it."""
        if parse_version(network.cni_version) < spec.CHECK_SINCE:
            raise CniError(
                1,
                f'configuration version "{network.cni_version}" does not support the CHECK command',
            )
        if network.disable_check:
            return False
        try:
            result = self._cache.result(
                network.name, container.id, container.ifname, network.cni_version
            )
        except CniError as e:
            raise CniError(
                e.code, f'failed to get network "{network.name}" cached result: {e.msg}', e.details
            ) from e
        for index, plugin in enumerate(network.plugins):
            path = self._find(network, index, "check")
            request = self._request(network, plugin, container, result)
            self._blamed(network, index, "check", path, "CHECK", request, container)
        return True

    def status(self, network: NetworkList) -> bool:
        """STATUS along the list; False when its version has none."""
        if not _has_status(network):
            return False
        for index, plugin in enumerate(network.plugins):
            path = self._find(network, index, "status")
            request = _with_identity(network, plugin)
            self._blamed(network, index, "status", path, "STATUS", request, None)
        return True

    def gc(self, network: NetworkList, valid: set[tuple[str, str]]) -> list[CniError]:
        """DEL for cached attachments that are not valid, then GC along the list."""
        if network.disable_gc:
            return []
        failures: list[CniError] = []
        for entry in self.stale(network, valid):
            try:
                self.delete(network, _container(entry))
            except CniError as e:
                failures.append(
                    CniError(
                        e.code,
                        f"failed to delete stale attachment {entry.container_id} "
                        f"{entry.ifname}: {e.msg}",
                        e.details,
                    )
                )
        if not _has_status(network):
            return failures
        listed = [{"containerID": c, "ifname": i} for c, i in sorted(valid)]
        extra = {"cni.dev/valid-attachments": listed, "cni.dev/attachments": listed}
        for index, plugin in enumerate(network.plugins):
            try:
                path = self._find(network, index, "gc")
                self._call(path, "GC", {**_with_identity(network, plugin), **extra}, None)
            except CniError as e:
                failures.append(
                    CniError(e.code, f"failed to GC plugin {plugin['type']}: {e.msg}", e.details)
                )
        return failures

    def stale(self, network: NetworkList, valid: set[tuple[str, str]]) -> list[Attachment]:
        """Cached attachments of the network that are not valid."""
        return [
            entry
            for entry in self._cache.attachments()
            if entry.network == network.name and (entry.container_id, entry.ifname) not in valid
        ]

    def versions(self, plugin_type: str) -> tuple[str, ...]:
        """The versions a plugin says it supports.

        Raises:
            CniError: it cannot be found or asked.
        """
        path = invoke.find_plugin(plugin_type, self._path)
        return invoke.probe_versions(self._runner, path, self._env)

    def _blamed(  # noqa: PLR0913 - one call
        self,
        network: NetworkList,
        index: int,
        verb: str,
        path: str,
        command: str,
        request: dict[str, Any],
        container: Container | None,
    ) -> None:
        with _blaming(network, index, verb):
            self._call(path, command, request, container)

    def _find(self, network: NetworkList, index: int, verb: str) -> str:
        with _blaming(network, index, verb):
            return invoke.find_plugin(network.plugins[index]["type"], self._path)

    def _request(
        self,
        network: NetworkList,
        plugin: dict[str, Any],
        container: Container,
        result: dict[str, Any] | None,
    ) -> dict[str, Any]:
        """The plugin's object as it is sent: identity, previous result, enabled capabilities."""
        request = _with_identity(network, plugin)
        if result is not None:
            request["prevResult"] = result
        enabled = plugin.get("capabilities") or {}
        offered = {k: v for k, v in container.capability_args.items() if enabled.get(k)}
        if offered:
            request["runtimeConfig"] = offered
        return request

    def _call(
        self, path: str, command: str, request: dict[str, Any], container: Container | None
    ) -> bytes:
        env = {
            **self._env,
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container.id if container else "",
            "CNI_NETNS": container.netns if container else "",
            "CNI_IFNAME": container.ifname if container else "",
            "CNI_ARGS": ";".join("=".join(pair) for pair in container.args) if container else "",
            "CNI_PATH": self._path,
        }
        stdin = json.dumps(request, sort_keys=True).encode()
        began = time.monotonic()
        try:
            done = invoke.invoke(self._runner, path, stdin, env)
        finally:
            self.steps.append(Step(request["type"], command, time.monotonic() - began))
        if done.stderr:
            self.warnings += done.stderr.decode("utf-8", "replace").splitlines()
        return done.stdout

    def _result_or_nothing(
        self, network: NetworkList, container: Container
    ) -> dict[str, Any] | None:
        """The cached result; one that cannot be used is thrown away, DEL goes on without."""
        try:
            return self._cache.result(
                network.name, container.id, container.ifname, network.cni_version
            )
        except CniError as e:
            self.warnings.append(f"the cached result is thrown away: {e}")
            self._cache.discard(network.name, container.id, container.ifname)
            return None

    def _entry(
        self, network: NetworkList, container: Container, result: dict[str, Any]
    ) -> Attachment:
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


@contextmanager
def container_lock(container_id: str, deadline: Deadline) -> Iterator[None]:
    """The spec's rule: never two operations on one container at once."""
    store = Store(LOCKS)
    with store.locked(container_id, deadline):
        try:
            yield
        finally:
            store.discard(container_id)


@contextmanager
def _blaming(network: NetworkList, index: int, verb: str) -> Iterator[None]:
    plugin = network.plugins[index]
    name = network.plugin_names[index] if network.plugin_names else plugin.get("name", "")
    try:
        yield
    except CniError as e:
        raise PluginError(
            e,
            plugin=plugin["type"],
            place=(index + 1, len(network.plugins)),
            verb=verb,
            name=str(name or ""),
        ) from e


def _validate(network: NetworkList, container: Container) -> None:
    args.validate_container_id(container.id)
    args.validate_network_name(network.name)
    args.validate_ifname(container.ifname)


def _with_identity(network: NetworkList, plugin: dict[str, Any]) -> dict[str, Any]:
    return {**plugin, "name": network.name, "cniVersion": network.cni_version}


def _has_status(network: NetworkList) -> bool:
    try:
        return parse_version(network.cni_version) >= spec.GC_AND_STATUS_SINCE
    except CniError:
        return False


def _container(entry: Attachment) -> Container:
    return Container(
        id=entry.container_id,
        netns=entry.netns,
        ifname=entry.ifname,
        args=entry.args,
        capability_args=entry.capability_args or {},
    )
