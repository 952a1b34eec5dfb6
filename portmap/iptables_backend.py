"""portmap on iptables: one transaction a family, and a listing where that does not do."""

from __future__ import annotations

from cni_plugins.errors import CniError, ExecError
from cni_plugins.host.journal import LIVE
from cni_plugins.protocol.addresses import parse_address
from portmap import iptables_rules as rules
from portmap.holder import is_alive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cni_plugins.context import Context
    from cni_plugins.host.journal import Record
    from portmap.conf import Mapping, PortmapConf


def join(ctx: Context, conf: PortmapConf) -> bool:
    """Add a container where all that is shared is there and its ports are free: one transaction.

    The transaction shows who has a port before it adds anything.  Until that is read, this
    container's rules may stand behind those of a holder, which lead first.

    To be called under the lock of iptables: nobody of this suite takes a port in between.

    Returns:
        False: not everything was as it has to be, in one of the families at least; then
        :func:`apply` is needed, whatever was done.
    """
    if not ctx.tools.iptables.is_installed():
        return False
    plans = _plans(ctx, conf)
    ctx.undo.push("port mappings", discard, ctx)
    shown = ctx.tools.iptables.restore(rules.TABLE, {f: rules.joining(p) for f, p in plans.items()})
    return not any(
        isinstance(present, ExecError) or rules.may_be_held(present, _mappings(conf, f))
        for f, present in shown.items()
    )


def apply(ctx: Context, conf: PortmapConf) -> None:
    """Make the rules of every family; those of dead containers on the same ports make way.

    To be called under the lock of iptables.

    Raises:
        CniError: a living container has one of the ports; nothing was changed.
        ExecError: iptables refused; nothing was changed in that family.
    """
    plans = _plans(ctx, conf)

    def commands(family: int, present: Sequence[str]) -> list[str]:
        plan = plans[family]
        evictions = _evictions(ctx, _mappings(conf, family), present, plan)
        return [*evictions, *rules.commands(present, plan)]

    ctx.tools.iptables.revise(rules.TABLE, plans, commands)


def _plans(ctx: Context, conf: PortmapConf) -> dict[int, rules.Plan]:
    """What each family needs; DEL finds in the journal what led to the container's chain."""
    plans = {f: rules.plan(ctx.network, ctx.container_id, conf, f) for f in conf.targets}
    ctx.plan["entries"] = [[family, *plan.entries] for family, plan in plans.items()]
    return plans


def _mappings(conf: PortmapConf, family: int) -> list[Mapping]:
    return [mapping for mapping in conf.mappings if mapping.is_of(family)]


def _evictions(
    ctx: Context, own: list[Mapping], present: Sequence[str], plan: rules.Plan
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
    """Remove the container's rules; repeatable.

    What the journal knows goes in one transaction a family.  Where that is refused, because
    something is gone or has come, and without a journal in both families, a look tells what is
    left.  No lock: only this container's own rules are touched.
    """
    iptables, chain = ctx.tools.iptables, rules.chain_name(ctx.network, ctx.container_id)
    families: Iterable[int] = (4, 6)
    if ctx.record is not None and ctx.record.state == LIVE and "entries" in ctx.record.plan:
        noted = {f: rules.noted_removal(chain, own) for f, *own in ctx.record.plan["entries"]}
        done = iptables.restore(rules.TABLE, noted)
        families = [family for family, answer in done.items() if isinstance(answer, ExecError)]

    def commands(_family: int, present: Sequence[str]) -> list[str]:
        return rules.removal(present, ctx.network, ctx.container_id)

    iptables.revise(rules.TABLE, families, commands)


def missing(ctx: Context, conf: PortmapConf) -> list[str]:
    """What CHECK finds missing."""
    tables = ctx.tools.iptables.tables(conf.targets, rules.TABLE)
    return [
        f"could not check ipv{family} dnat: missing in table {rules.TABLE}: {rule}"
        for family, present in tables.items()
        for rule in rules.missing(present, rules.plan(ctx.network, ctx.container_id, conf, family))
    ]


def collect(ctx: Context, keep: frozenset[tuple[str, str]]) -> None:
    """Remove the rules of a network's containers that are not to be kept."""
    kept = {rules.chain_name(ctx.network, container_id) for container_id, _ in keep}

    def commands(_family: int, present: Sequence[str]) -> list[str]:
        doomed = rules.of_network(present, ctx.network).keys() - kept
        return [c for chain in sorted(doomed) for c in rules.removal_of(present, chain)]

    ctx.tools.iptables.revise(rules.TABLE, (4, 6), commands)
