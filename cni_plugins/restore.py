"""Making the rules of living attachments again, after somebody flushed them.

``nft flush ruleset``, ``iptables -F``, a reload of firewalld: published ports, masquerading and
firewall rules are gone, and no runtime notices.  The journal knows what they were.
"""

from __future__ import annotations

from cni_plugins import catalog, jsontext
from cni_plugins.context import Context
from cni_plugins.errors import CniError
from cni_plugins.frozen import Frozen
from cni_plugins.host.journal import LIVE, Journal
from cni_plugins.liveness import Liveness, Verdict
from cni_plugins.locks import attachment_lock
from cni_plugins.protocol.config import find
from cni_plugins.protocol.request import Call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cni_plugins.deadline import Deadline
    from cni_plugins.host.journal import Record
    from cni_plugins.plugin import Verbs

_GONE = frozenset({Verdict.DEAD, Verdict.SUSPECT})


class Restored(Frozen, kw_only=False):
    """What came of one plugin's rules for one attachment; ``problem`` is "" for success."""

    network: str
    container_id: str
    ifname: str
    plugin: str
    problem: str
    notes: tuple[str, ...]


def restore(env: Mapping[str, str], deadline: Deadline) -> Iterator[Restored]:
    """Make the rules of every living attachment of this node again; repeatable.

    Args:
        env: the caller's environment, for the node's tools.
        deadline: bounds everything that waits.

    Yields:
        One entry for each attachment and plugin that has rules; failures do not stop the rest.
    """
    log: list[str] = []
    journal, liveness = Journal(log.append), Liveness()
    for plugin_type in catalog.PLUGINS:
        plugin = catalog.find(plugin_type)
        assert plugin is not None
        verbs = plugin.load()
        if verbs.restore is None:
            continue
        for network in journal.networks():
            for _, record in journal.entries(network, plugin_type):
                if record.state != LIVE or liveness.verdict(record.witness) in _GONE:
                    continue
                log.clear()
                problem = ""
                if liveness.is_elsewhere(record.witness):
                    problem = "it was added in other namespaces than this process stands in"
                else:
                    problem = _restore(plugin_type, verbs, network, record, env, deadline, log)
                yield Restored(
                    network, record.container_id, record.ifname, plugin_type, problem, tuple(log)
                )


def _restore(  # noqa: PLR0913 - one call
    plugin_type: str,
    verbs: Verbs,
    network: str,
    record: Record,
    env: Mapping[str, str],
    deadline: Deadline,
    log: list[str],
) -> str:
    """Restore one entry; what went wrong, "" for nothing."""
    assert verbs.restore is not None
    with context(plugin_type, network, record, env, deadline, log) as ctx:
        try:
            conf = verbs.parse(ctx, ctx.document)
            with attachment_lock(ctx):
                verbs.restore(ctx, conf)
        except CniError as e:
            return e.msg
    return ""


def context(  # noqa: PLR0913 - the facts of a call, all of them needed
    plugin_type: str,
    network: str,
    record: Record,
    env: Mapping[str, str],
    deadline: Deadline,
    log: list[str],
) -> Context:
    """The context of the ADD that made an entry, as far as it can be had again."""
    call = Call(
        command="ADD",
        container_id=record.container_id,
        netns=record.env.get("CNI_NETNS", ""),
        ifname=record.ifname,
        args=record.env.get("CNI_ARGS", ""),
        path=record.env.get("CNI_PATH", ""),
        netns_override=False,
    )
    ctx = Context(
        plugin=plugin_type,
        call=call,
        network=network,
        cni_version=str(find(record.config, "cniVersion") or ""),
        document=record.config,
        stdin=jsontext.dumps(record.config).encode(),
        env=env,
        deadline=deadline,
        log=log,
    )
    ctx.record = record
    ctx.plan = dict(record.plan)
    return ctx
