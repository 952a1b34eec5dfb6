"""Attachments that another suite's plugins made, as far as the runtime's cache knows them.

The journal has nothing of them, so their rules are made again from what the runtime cached: its
configuration, its capability arguments and its result.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from cni_plugins import catalog, dispatch
from cni_plugins.errors import CniError
from cni_plugins.frozen import replace
from cni_plugins.host.journal import Journal
from cni_plugins.host.links import Links
from cni_plugins.host.netns import NetNS
from cni_plugins.protocol.request import Request
from cni_plugins.restore import Restored
from cnictl import networks
from cnictl.calls import environment
from cnictl.networks import inject
from cnictl.runtime import added_keys, container_lock, container_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cni_plugins.deadline import Deadline
    from cnictl.cache import Attachment, Cache
    from cnictl.networks import NetworkList, PluginConf

_NO_DELEGATES = "/nowhere"
ADOPTED = ("portmap", "firewall")
"""Plugins whose DEL and ADD make everything they own, and nothing that a pod would lose."""


def adopt(cache: Cache, env: Mapping[str, str], deadline: Deadline) -> Iterator[Restored]:
    """Make the rules of living attachments that the journal does not know; repeatable.

    DEL removes what the other suite left, ADD makes it as ours, from then on in the journal.

    Args:
        cache: the runtime's.
        env: the caller's environment, for the node's tools.
        deadline: bounds everything that waits.

    Yields:
        One entry for each attachment and plugin; failures do not stop the rest.
    """
    for entry in cache.attachments():
        if not entry.config or entry.result is None:
            continue
        try:
            network = networks.parse_list(entry.config)
        except CniError:
            continue
        wanted = [p for p in network.plugins if p.type in ADOPTED and not _is_known(entry, p.type)]
        if not wanted or not _is_alive(entry):
            continue
        for plugin in wanted:
            with container_lock(entry.container_id, deadline):
                problem, notes = _make_again(network, plugin, entry, env, deadline)
            yield Restored(
                entry.network, entry.container_id, entry.ifname, plugin.type, problem, notes
            )


def _is_known(entry: Attachment, plugin_type: str) -> bool:
    """Whether the journal has the attachment, so that it was restored already."""
    found = Journal(lambda _: None).entries(entry.network, plugin_type)
    return (entry.container_id, entry.ifname) in {(r.container_id, r.ifname) for _, r in found}


def _sandbox(entry: Attachment) -> str:
    """Path of the container's namespace; runtimes before libcni 1.2 cache it in the result only."""
    interfaces = (entry.result or {}).get("interfaces") or [{}]
    return entry.netns or str(interfaces[-1].get("sandbox") or "")


def _is_alive(entry: Attachment) -> bool:
    """Whether the namespace is there and still has the link with the MAC that was cached."""
    macs = {
        interface.get("mac")
        for interface in (entry.result or {}).get("interfaces") or ()
        if interface.get("name") == entry.ifname
    }
    try:
        with NetNS.open(_sandbox(entry)) as netns, Links.open(netns) as links:
            link = links.find(entry.ifname)
    except CniError:
        return False
    return link is not None and link.mac in macs


def _make_again(
    network: NetworkList,
    plugin: PluginConf,
    entry: Attachment,
    env: Mapping[str, str],
    deadline: Deadline,
) -> tuple[str, tuple[str, ...]]:
    """DEL and ADD of one plugin; what went wrong, "" for nothing, and what it said."""
    ours = catalog.find(plugin.type)
    assert ours is not None
    container = replace(container_of(entry), netns=_sandbox(entry))
    identity = {"name": network.name, "cniVersion": network.cni_version}
    stdin = inject(plugin.document, {**identity, **added_keys(plugin, container, entry.result)})
    notes: list[str] = []
    for verb in ("DEL", "ADD"):
        variables = environment(env, verb, container, _NO_DELEGATES)
        reply = dispatch.run(ours, Request(variables, lambda: stdin, deadline))
        notes += reply.stderr.decode("utf-8", "replace").splitlines()
        if reply.exit_code:
            error = json.loads(reply.stdout)
            return f"{error['msg']}: {error['details']}".removesuffix(": "), tuple(notes)
    return "", tuple(notes)
