"""Calling one plugin of a network: its environment, its stdin, and whose fault an error is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from cni_plugins import invoke
from cni_plugins.errors import CniError
from cni_plugins.frozen import Frozen, fresh
from cni_plugins.protocol import args
from cnictl.networks import inject

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cni_plugins.host.command import Runner
    from cnictl.networks import NetworkList


class Container(Frozen):
    """What the plugins are told of the container."""

    id: str = ""
    netns: str = ""
    ifname: str = ""
    args: tuple[tuple[str, str], ...] = ()
    capability_args: dict[str, Any] = fresh(dict)


NOBODY = Container()
"""STATUS and GC are about no container."""


class Step(Frozen, kw_only=False):
    """One plugin's call: its type, the verb, and how long it took in seconds."""

    plugin: str
    verb: str
    seconds: float


class PluginError(CniError):
    """A plugin of a list failed; the text is libcni's, which is the plugin's own for most verbs.

    Args:
        error: as the plugin gave it.
        network: the list.
        index: the plugin's position, from 0 on.
        verb: ``ADD``, ``DEL``, ``CHECK``, ``STATUS``, ``GC``.
    """

    def __init__(self, error: CniError, network: NetworkList, index: int, verb: str) -> None:
        plugin = network.plugins[index]
        named = f' name="{plugin.name}"' if plugin.name else ""
        prefix = {
            "ADD": f'plugin type="{plugin.type}"{named} failed (add): ',
            "DEL": f'plugin type="{plugin.type}"{named} failed (delete): ',
            "GC": f"failed to GC plugin {plugin.type}: ",
        }.get(verb, "")
        super().__init__(error.code, f"{prefix}{error.msg}", error.details)
        self.error = error
        self.plugin = plugin.type
        self.place = (index + 1, len(network.plugins))
        self.verb = verb


class Caller:
    """Finds and executes plugins.

    ``steps`` has every call in order, ``notes`` what successful plugins wrote to stderr.

    Args:
        runner: executes them.
        env: this process's environment, which they inherit.
        path: CNI_PATH.
    """

    def __init__(self, runner: Runner, env: Mapping[str, str], path: str) -> None:
        self._runner = runner
        self._env = env
        self._path = path
        self.steps: list[Step] = []
        self.notes: list[str] = []

    def call(
        self,
        verb: str,
        network: NetworkList,
        index: int,
        *,
        container: Container = NOBODY,
        added: Mapping[str, Any] | None = None,
    ) -> bytes:
        """Execute a plugin of a network; what it printed.

        Args:
            verb: of the CNI spec.
            network: the list.
            index: the plugin's position, from 0 on.
            container: the attachment, for verbs that have one.
            added: further keys of its request.

        Raises:
            PluginError: it cannot be found or executed, or it failed.
        """
        plugin = network.plugins[index]
        identity = {"name": network.name, "cniVersion": network.cni_version}
        try:
            path = invoke.find_plugin(plugin.type, self._path)
            if verb == "ADD":
                _validate(network, container)
            stdin = inject(plugin.document, {**identity, **(added or {})})
            env = environment(self._env, verb, container, self._path)
            began = time.monotonic()
            try:
                done = invoke.invoke(self._runner, path, stdin, env)
            finally:
                self.steps.append(Step(plugin.type, verb, time.monotonic() - began))
        except CniError as e:
            raise PluginError(e, network, index, verb) from e
        self.notes += done.stderr.decode("utf-8", "replace").splitlines()
        return done.stdout

    def versions(self, plugin_type: str) -> tuple[str, ...]:
        """The spec versions that a plugin says it supports.

        Raises:
            CniError: it cannot be found or asked.
        """
        path = invoke.find_plugin(plugin_type, self._path)
        return invoke.probe_versions(self._runner, path, self._env)


def environment(
    own: Mapping[str, str], verb: str, container: Container, path: str
) -> dict[str, str]:
    """A plugin's variables: the six of the protocol over the inherited ones."""
    return {
        **own,
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": container.id,
        "CNI_NETNS": container.netns,
        "CNI_ARGS": ";".join(f"{key}={value}" for key, value in container.args),
        "CNI_IFNAME": container.ifname,
        "CNI_PATH": path,
    }


def _validate(network: NetworkList, container: Container) -> None:
    args.validate_container_id(container.id)
    args.validate_network_name(network.name)
    args.validate_ifname(container.ifname)
