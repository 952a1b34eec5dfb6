"""portmap on iptables: one listing and at most one restore for each family."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cni_plugins.errors import CniError
from cni_plugins.locks import iptables_lock
from cni_plugins.protocol.addresses import parse_address
from portmap import iptables_rules as rules
from portmap.holder import is_alive

if TYPE_CHECKING:
    from cni_plugins.context import Context
    from cni_plugins.host.journal import Record
    from portmap.conf import Mapping, PortmapConf


def apply(ctx: Context, conf: PortmapConf) -> None:
    """Make the rules of every family; those of dead containers on the same ports make way.

    To be called under the lock of iptables.

    Raises:
        CniError: a living container has one of the ports; nothing was changed.
        ExecError: iptables refused; nothing was changed in that family.
    """
    iptables = ctx.tools.iptables
    pending = []
    for family in conf.targets:
        plan = rules.plan(ctx.network, ctx.container_id, conf, family)
        present = iptables.rules(family, rules.TABLE)
        own = [mapping for mapping in conf.mappings if mapping.is_of(family)]
        evictions = _evictions(ctx, own, present, plan)
        pending.append((family, [*evictions, *rules.commands(present, plan)]))
    for family, commands in pending:
        iptables.restore(family, rules.TABLE, commands)


def _evictions(
    ctx: Context, own: list[Mapping], present: tuple[str, ...], plan: rules.Plan
) -> list[str]:
    dead: dict[str, None] = {}
    for holder in rules.holders(present, plan, own):
        address = parse_address(holder.target.rpartition(":")[0].strip("[]"))

        def is_holder(network: str, record: Record, chain: str = holder.chain) -> bool:
            return rules.chain_name(network, record.container_id) == chain

        if is_alive(ctx, is_holder, address):
            raise CniError(
                999,
                f"host port {holder.port} is taken by {holder.comment}, which leads it to "
                f"{holder.target}",
                "give this container another host port, or remove that one first",
            )
        ctx.warn(f"took host port {holder.port} from {holder.comment}: its container is gone")
        dead[holder.chain] = None
    return [command for chain in dead for command in rules.removal_of(present, chain)]


def discard(ctx: Context) -> None:
    """Remove the container's rules in both families; repeatable."""
    iptables = ctx.tools.iptables
    with iptables_lock(ctx):
        for family in (4, 6):
            present = iptables.rules(family, rules.TABLE)
            commands = rules.removal(present, ctx.network, ctx.container_id)
            if commands:
                iptables.restore(family, rules.TABLE, commands)


def missing(ctx: Context, conf: PortmapConf) -> list[str]:
    """What CHECK finds missing."""
    found = []
    for family in conf.targets:
        plan = rules.plan(ctx.network, ctx.container_id, conf, family)
        present = ctx.tools.iptables.rules(family, rules.TABLE)
        found += [
            f"could not check ipv{family} dnat: missing in table {rules.TABLE}: {rule}"
            for rule in rules.missing(present, plan)
        ]
    return found


def collect(ctx: Context, keep: frozenset[tuple[str, str]]) -> None:
    """Remove the rules of a network's containers that are not to be kept."""
    kept = {rules.chain_name(ctx.network, container_id) for container_id, _ in keep}
    with iptables_lock(ctx):
        for family in (4, 6):
            present = ctx.tools.iptables.rules(family, rules.TABLE)
            doomed = rules.of_network(present, ctx.network).keys() - kept
            commands = [c for chain in sorted(doomed) for c in rules.removal_of(present, chain)]
            if commands:
                ctx.tools.iptables.restore(family, rules.TABLE, commands)
