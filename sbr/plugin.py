"""sbr's verbs: what comes from an address of the interface is routed by a table of its own.

For each address a rule and a table: the default route through its gateway, and the interface's
routes, which leave the main table.  With ``table`` only the rules are made.

Source: ip-rule(8); RFC 1812, section 5.3.
"""

from __future__ import annotations

from cni_plugins import endpoint
from cni_plugins.frozen import replace
from cni_plugins.host import routing
from cni_plugins.host.routing import HeldRoute
from cni_plugins.locks import tool_lock
from cni_plugins.plugin import Verbs
from cni_plugins.protocol.addresses import Address, Network, parse_network
from cni_plugins.undo import Cleanup
from sbr.conf import SbrConf, Source, parse, parse_cleanup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from cni_plugins.context import Context
    from cni_plugins.host.snapshots import Link
    from cni_plugins.protocol.result import Result

FIRST_TABLE = 100
FAMILIES = (4, 6)
_OF_THE_LINK = (parse_network("fe80::/64"), parse_network("ff00::/8"))


def add(ctx: Context, conf: SbrConf) -> Result:
    """Rules and tables; the routes of the interface move there."""
    assert conf.chained is not None
    with _lock(ctx):
        if conf.table:
            for source in conf.sources:
                add_rule(ctx, source.network.address, conf.table)
        else:
            inside = ctx.container.get(ctx.ifname)
            held = routes_of(ctx, inside)
            tables = allot(ctx, conf.sources)
            ctx.plan["tables"] = tables
            # in its table a default route stands beside the one made here: which was whose?
            ctx.plan["defaults"] = [r.as_json() for r in held if r.dst.is_default]
            ctx.note()
            for source, table in zip(conf.sources, tables, strict=True):
                fill(ctx, inside, source, table, held)
            clear_main(ctx, inside, conf, held)
    return conf.chained


def _lock(ctx: Context) -> AbstractContextManager[None]:
    """One change at a time to the tables of a namespace."""
    return tool_lock(ctx, f"sbr-{ctx.netns.id[1]}")


def allot(ctx: Context, sources: tuple[Source, ...]) -> list[int]:
    """A table for each address: the lowest from 100 on without rules or routes."""
    used = {rule.table for family in FAMILIES for rule in routing.rules(ctx.container, family)}
    found: list[int] = []
    table = FIRST_TABLE
    while len(found) < len(sources):
        if table not in used and not any(
            routing.held(ctx.container, family, table=table) for family in FAMILIES
        ):
            found.append(table)
        table += 1
    return found


def routes_of(ctx: Context, inside: Link, table: int = routing.MAIN_TABLE) -> list[HeldRoute]:
    """The unicast routes of a table through the interface; those without a gateway first.

    IPv6's routes to the link's own neighbours stay where they are: neighbour discovery needs them.
    """
    found = [
        route
        for family in FAMILIES
        for route in routing.held(ctx.container, family, table=table)
        if routing.is_on(route, inside) and route.dst.masked not in _OF_THE_LINK
    ]
    return sorted(found, key=lambda route: route.gw is not None or bool(route.hops))


def fill(ctx: Context, inside: Link, source: Source, table: int, held: list[HeldRoute]) -> None:
    """A rule for one address, its default route, and the routes that can serve it."""
    mine = source.network
    add_rule(ctx, mine.address, table)  # first: by it DEL finds a table that is half filled
    for route in held:
        if route.dst.family == mine.family and concerns(route, mine):
            copy = replace(route, table=table)
            routing.put(ctx.container, copy)
            ctx.undo.push(str(copy), routing.discard, ctx.container, copy)
    if source.gateway is not None:
        default = HeldRoute(
            dst=Network(Address(mine.family, 0), 0),
            gw=source.gateway,
            oif=inside.index,
            table=table,
        )
        routing.put(ctx.container, default)
        ctx.undo.push(str(default), routing.discard, ctx.container, default)


def concerns(route: HeldRoute, mine: Network) -> bool:
    """Whether a route is of use to what comes from an address: it names its subnet, or none."""
    named = [address for address in (route.src, route.gw) if address is not None]
    return not named or any(address in mine.masked for address in named)


def add_rule(ctx: Context, address: Address, table: int) -> None:
    """A rule that an ADD which fails later takes back."""
    rule = routing.add_rule(ctx.container, address, table)
    ctx.undo.push(str(rule), routing.discard_rule, ctx.container, rule)


def clear_main(ctx: Context, inside: Link, conf: SbrConf, held: list[HeldRoute]) -> None:
    """Take the interface's routes from the main table; with hints their subnets stay."""
    for route in reversed(held):
        routing.discard(ctx.container, route)
        ctx.undo.push(f"{route} back", routing.put, ctx.container, route)
    if not conf.add_source_hints:
        return
    for source in conf.sources:
        hint = hint_of(source, inside)
        routing.put(ctx.container, hint)
        ctx.undo.push(str(hint), routing.discard, ctx.container, hint)


def hint_of(source: Source, inside: Link) -> HeldRoute:
    """The main table's route to the subnet of an address, with that address as the source."""
    return HeldRoute(
        dst=source.network,
        oif=inside.index,
        src=source.network.address,
        scope=routing.SCOPE_LINK if source.network.family == 4 else routing.SCOPE_UNIVERSE,
    )


def delete(ctx: Context, conf: SbrConf) -> None:
    """Remove rules and tables, and give the main table its routes back; repeatable.

    Without a journal the addresses are the result's or the interface's.
    """
    if ctx.find_netns() is None:
        return
    inside = ctx.container.find(ctx.ifname)
    with _lock(ctx), Cleanup() as cleanup:
        addresses = {source.network.address for source in conf.sources}
        if inside is not None:
            addresses |= {e.network.address for e in ctx.container.addresses(inside)}
        own = [
            rule
            for family in FAMILIES
            for rule in routing.rules(ctx.container, family)
            if rule.src is not None
            and rule.src.address in addresses
            and rule.src == rule.src.address.host
        ]
        for rule in own:
            cleanup.attempt(str(rule), routing.discard_rule, ctx.container, rule)
        if inside is not None and not conf.table:
            tables = {rule.table for rule in own if rule.table not in {0, 253, 254, 255}}
            plan = ctx.record.plan if ctx.record is not None else {}
            tables |= set(plan.get("tables", ()))
            for hint in (hint_of(s, inside) for s in conf.sources if conf.add_source_hints):
                cleanup.attempt(f"hint {hint}", routing.discard, ctx.container, hint)
            for table in sorted(tables):
                cleanup.attempt(f"table {table}", empty, ctx, inside, table)
            for noted in plan.get("defaults", ()):
                route = HeldRoute.from_json(noted)
                cleanup.attempt(str(route), routing.put, ctx.container, route)


def empty(ctx: Context, inside: Link, table: int) -> None:
    """Move a table's routes back to the main table, but for default routes: one of them is ours."""
    for route in routes_of(ctx, inside, table):
        if not route.dst.is_default:
            routing.put(ctx.container, replace(route, table=routing.MAIN_TABLE))
        routing.discard(ctx.container, route)


def check(ctx: Context, conf: SbrConf) -> None:
    """Each address has its rule, and its table the default route."""
    noted = ctx.record.plan.get("tables") if ctx.record is not None else None
    found = []
    for i, source in enumerate(conf.sources):
        address = source.network.address
        tables = [
            rule.table
            for rule in routing.rules(ctx.container, address.family)
            if rule.src == address.host
        ]
        table = conf.table or (noted[i] if noted and i < len(noted) else 0)
        if not tables or (table and table not in tables):
            found.append(
                f"there is no rule from {address}" + (f" to table {table}" if table else "")
            )
            continue
        if conf.table or source.gateway is None:
            continue
        routes = routing.held(ctx.container, address.family, table=table or tables[0])
        if not any(r.dst.is_default and r.gw == source.gateway for r in routes):
            found.append(f"table {table or tables[0]} has no default via {source.gateway}")
    endpoint.refuse(f"check source routing of {ctx.ifname}", found)


def status(_ctx: Context, _conf: SbrConf) -> None:
    """Always ready."""


def gc(_ctx: Context, _conf: SbrConf) -> None:
    """Rules and tables go with their namespace."""


VERBS = Verbs(
    parse=parse,
    parse_cleanup=parse_cleanup,
    add=add,
    delete=delete,
    check=check,
    status=status,
    gc=gc,
)
