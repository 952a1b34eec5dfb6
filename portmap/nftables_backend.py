"""portmap on nftables: one transaction for both families; the table is listed only when needed."""

from __future__ import annotations

from cni_plugins.errors import CniError
from cni_plugins.host.nftables import AlreadyThere, NotThere
from cni_plugins.masquerade_rules import Owner
from cni_plugins.protocol.addresses import parse_address
from portmap import nftables_rules as rules
from portmap.holder import is_alive
from portmap.nftables_rules import FAMILY, TABLE, Element

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_plugins.context import Context
    from cni_plugins.host.journal import Record
    from portmap.conf import PortmapConf

_ATTEMPTS = 5


def owner_of(ctx: Context) -> Owner:
    """Whose elements they are."""
    return Owner(ctx.network, ctx.container_id, ctx.ifname)


def apply(ctx: Context, conf: PortmapConf) -> None:
    """Add elements and rules; elements of dead containers on the same ports make way.

    Raises:
        CniError: a living container has one of the ports; nothing was changed.
        ExecError: nft refused; nothing was changed.
    """
    owner, wanted = owner_of(ctx), rules.elements(conf)
    transaction = rules.skeleton()
    if ctx.record is not None:  # a restore
        transaction += _stale(ctx, owner, wanted)
    transaction += _evictions(ctx, _overlapping(ctx, wanted), wanted)
    transaction += rules.additions(wanted, owner) + rules.conditional_rules(conf, owner)
    try:
        ctx.tools.nftables.apply_text(transaction)
    except AlreadyThere:
        listed = rules.marked(ctx.tools.nftables.table(FAMILY, TABLE))
        evictions = _evictions(ctx, listed, wanted)
        if not evictions:
            raise
        ctx.tools.nftables.apply_text([*evictions, *transaction])
    ctx.plan["elements"] = [[e.place, e.key, e.value] for e in wanted]
    ctx.plan["has_rules"] = bool(rules.conditional_rules(conf, owner))


def _overlapping(ctx: Context, wanted: list[Element]) -> list[tuple[str, Element]]:
    """What the maps of other width have, which the kernel does not take for a clash."""
    found: list[tuple[str, Element]] = []
    for element in wanted:
        if element.place.startswith("host"):
            place, key = f"any{element.place[-1]}", element.key.split(" . ", 1)[1]
            if ctx.tools.nftables.has_element(FAMILY, TABLE, place, key):
                found += rules.marked(ctx.tools.nftables.table(FAMILY, TABLE))
    for family in sorted({e.place[-1] for e in wanted if e.place.startswith("any")}):
        place = f"host{family}"
        listed = ctx.tools.nftables.elements(FAMILY, TABLE, place)
        found += rules.marked([{"map": {"name": place, "elem": listed}}])
    return found


def _evictions(ctx: Context, found: list[tuple[str, Element]], wanted: list[Element]) -> list[str]:
    mark = owner_of(ctx).mark
    dead = []
    for comment, present in rules.clashes(found, wanted):
        said = comment.partition(", ")[2] or "somebody"
        target = parse_address(present.value.partition(" . ")[0])

        def is_holder(network: str, record: Record, comment: str = comment) -> bool:
            return comment.startswith(Owner(network, record.container_id, record.ifname).mark)

        if not comment.startswith(mark) and is_alive(ctx, is_holder, target):
            raise CniError(
                999,
                f"host port {present.key} is taken by {said}, which leads it to {present.value}",
                "give this container another host port, or remove that one first",
            )
        ctx.warn(f"took host port {present.key} from {said}: its container is gone")
        dead.append(present)
    return rules.deletions(dict.fromkeys(dead))


def _stale(ctx: Context, owner: Owner, wanted: list[Element]) -> list[str]:
    """What removes this attachment's own elements and rules from the table as it is."""
    objects = ctx.tools.nftables.table(FAMILY, TABLE)
    own = [e for comment, e in rules.marked(objects) if comment.startswith(owner.mark)]
    shared = {(e.place, e.key, e.value) for e in wanted}
    extra = [e for e in own if (e.place, e.key, e.value) not in shared]
    return rules.deletions(extra) + rules.rule_deletions(
        FAMILY, TABLE, _rules_of(objects, owner.mark)
    )


def discard(ctx: Context) -> None:
    """Remove the attachment's elements and rules, and what the reference made; repeatable."""
    plan = ctx.record.plan if ctx.record is not None else {}
    if ctx.record is not None and ctx.record.state == "live" and not plan.get("has_rules"):
        noted = [Element(*entry) for entry in plan.get("elements", [])]
        try:
            _discard_noted(ctx, noted)
        except (NotThere, AlreadyThere):
            pass  # somebody flushed, or has taken over a port: look at what is left
        else:
            return
    mark = owner_of(ctx).mark
    _discard_marked(ctx, lambda comment: comment.startswith(mark))
    _discard_old(ctx)


def _discard_noted(ctx: Context, noted: list[Element]) -> None:
    """Delete elements without listing the maps.

    An element is added before it is deleted: that fails for one that leads somewhere else by now,
    and makes one that is gone.  What has no value to tell it by is looked for by its comment.
    """
    mark = owner_of(ctx).mark
    commands: list[str] = []
    for place in sorted({element.place for element in noted}):
        own = [element for element in noted if element.place == place]
        if own[0].value:
            commands += rules.additions(own, owner_of(ctx)) + rules.deletions(own)
        else:
            listed = ctx.tools.nftables.elements(FAMILY, TABLE, place)
            found = rules.marked([{"set": {"name": place, "elem": listed}}])
            commands += rules.deletions(e for comment, e in found if comment.startswith(mark))
    if commands:
        ctx.tools.nftables.apply_text(commands)


def _discard_marked(ctx: Context, is_doomed: Any) -> None:
    for attempt in range(_ATTEMPTS):
        objects = ctx.tools.nftables.table(FAMILY, TABLE)
        doomed = [e for comment, e in rules.marked(objects) if is_doomed(comment)]
        handles = [r for r in _rules_of(objects, "") if is_doomed(r.get("comment", ""))]
        commands = rules.deletions(doomed) + rules.rule_deletions(FAMILY, TABLE, handles)
        if not commands:
            return
        try:
            ctx.tools.nftables.apply_text(commands)
        except NotThere:  # another process removed one of them since the listing
            if attempt == _ATTEMPTS - 1:
                raise
        else:
            return


def _rules_of(objects: list[dict[str, Any]], mark: str) -> list[dict[str, Any]]:
    """The rules whose comment begins with a mark."""
    found = (entry["rule"] for entry in objects if "rule" in entry)
    return [rule for rule in found if "comment" in rule and rule["comment"].startswith(mark)]


def _discard_old(ctx: Context) -> None:
    """Remove the rules that the reference suite made for this container."""
    for family in ("ip", "ip6"):
        for attempt in range(_ATTEMPTS):
            objects = ctx.tools.nftables.table(family, rules.OLD_TABLE)
            doomed = [
                entry["rule"]
                for entry in objects
                if "rule" in entry
                and entry["rule"]["chain"] in rules.OLD_CHAINS
                and entry["rule"].get("comment") == ctx.container_id
            ]
            if not doomed:
                break
            try:
                ctx.tools.nftables.apply_text(rules.rule_deletions(family, rules.OLD_TABLE, doomed))
            except NotThere:
                if attempt == _ATTEMPTS - 1:
                    raise
            else:
                break


def missing(ctx: Context, conf: PortmapConf) -> list[str]:
    """What CHECK finds missing."""
    objects = ctx.tools.nftables.table(FAMILY, TABLE)
    present = {(e.place, e.key, e.value) for _, e in rules.marked(objects)}
    found = [
        f"missing in {place} of table {TABLE}: {key}{f' : {value}' if value else ''}"
        for place, key, value in ((e.place, e.key, e.value) for e in rules.elements(conf))
        if (place, key, value) not in present
    ]
    own = _rules_of(objects, owner_of(ctx).mark)
    lacking = len(rules.conditional_rules(conf, owner_of(ctx))) - len(own)
    if lacking > 0:
        found.append(f"missing hostport rules in chain {rules.CONDITIONAL}: {lacking}")
    for chain in ("hostports", "prerouting", "output", "postrouting"):
        wanted = sum(f" {chain} " in line for line in rules.skeleton() if "add rule" in line)
        there = sum("rule" in e and e["rule"]["chain"] == chain for e in objects)
        if there != wanted:
            found.append(f"chain {chain} of table {TABLE} has {there} rules, not {wanted}")
    return found


def collect(ctx: Context, keep: frozenset[tuple[str, str]]) -> None:
    """Remove what belongs to a network's attachments that are not to be kept."""
    marks = {Owner(ctx.network, container_id, ifname).mark for container_id, ifname in keep}
    network = owner_of(ctx).mark.split("-")[0]

    def is_doomed(comment: str) -> bool:
        mark = comment.partition(",")[0]
        return mark.startswith(f"{network}-") and mark not in marks

    _discard_marked(ctx, is_doomed)
