"""vrf's verbs: the interface becomes a member of a VRF, with its addresses and routes.

Source: Documentation/networking/vrf.rst of the Linux kernel.
"""

from __future__ import annotations

from cni_plugins import chain, endpoint
from cni_plugins.errors import KernelError
from cni_plugins.frozen import replace
from cni_plugins.host import routing, sublinks
from cni_plugins.host.routing import HeldRoute
from cni_plugins.locks import tool_lock
from cni_plugins.plugin import Verbs
from cni_plugins.protocol.addresses import parse_network
from vrf.conf import VrfConf, parse, parse_cleanup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Any

    from cni_plugins.context import Context
    from cni_plugins.host.snapshots import Link
    from cni_plugins.protocol.addresses import Network
    from cni_plugins.protocol.result import Result

KIND = "vrf"
FAMILIES = (4, 6)
RESERVED_TABLES = frozenset({0, 253, 254, 255})


def add(ctx: Context, conf: VrfConf) -> Result:
    """Make the VRF if it is missing, and the interface its member."""
    assert conf.chained is not None
    inside = ctx.container.get(ctx.ifname)
    if inside.master:
        master = ctx.container.get_index(inside.master)
        raise KernelError(f"interface {ctx.ifname} has already a master set: {master.name}")
    with _lock(ctx):
        vrf = ensure_vrf(ctx, conf)
        enslave(ctx, inside, vrf)
    return conf.chained


def _lock(ctx: Context) -> AbstractContextManager[None]:
    """One change at a time to the VRFs of a namespace: their tables must differ."""
    return tool_lock(ctx, f"vrf-{ctx.netns.id[1]}")


def ensure_vrf(ctx: Context, conf: VrfConf) -> Link:
    """The VRF, up.

    Raises:
        KernelError: the name is another link's, or the VRF has another table.
    """
    found = ctx.container.find(conf.vrf_name)
    if found is None:
        table = conf.table or free_table(ctx)
        found = sublinks.add(ctx.container, conf.vrf_name, KIND, vrf_table=table)
        ctx.undo.push(f"VRF {found.name}", discard_if_unused, ctx, found)
    elif found.kind != KIND:
        raise KernelError(f"Netlink {conf.vrf_name} is not a VRF", details=found.kind)
    elif conf.table and conf.table != found.detail.table:
        raise KernelError(
            f"VRF {conf.vrf_name} already exist with different routing table {found.detail.table}"
        )
    if not found.is_up:
        ctx.container.set(found, up=True)
    return found


def free_table(ctx: Context) -> int:
    """The lowest table, from 1 on, of which no VRF, no rule and no route knows."""
    taken = {link.detail.table for link in ctx.container.of_kind(KIND)} | RESERVED_TABLES
    taken |= {rule.table for family in FAMILIES for rule in routing.rules(ctx.container, family)}
    tables = (table for table in range(1, 2**32) if table not in taken)
    return next(
        table
        for table in tables
        if not any(routing.held(ctx.container, family, table=table) for family in FAMILIES)
    )


def enslave(ctx: Context, inside: Link, vrf: Link) -> None:
    """Make the interface a member; the kernel drops its routes and IPv6 addresses, so keep them."""
    addresses = addresses_of(ctx, inside)
    held = routes_of(ctx, inside, routing.MAIN_TABLE)
    ctx.plan |= {
        "vrf": vrf.name,
        "addresses": [str(address) for address in addresses],
        "routes": [route.as_json() for route in held],
    }
    ctx.note()
    ctx.undo.push(f"{inside.name} in {vrf.name}", release, ctx, inside, addresses, held)
    ctx.container.set(inside, master=vrf)
    put_back(ctx, inside, addresses, [replace(r, table=vrf.detail.table) for r in held])


def release(
    ctx: Context, inside: Link, addresses: tuple[Network, ...], held: list[HeldRoute]
) -> None:
    """Take the interface out again, with what it had."""
    sublinks.release(ctx.container, inside)
    put_back(ctx, inside, addresses, held)


def addresses_of(ctx: Context, inside: Link) -> tuple[Network, ...]:
    """The interface's global addresses."""
    return tuple(e.network for e in ctx.container.addresses(inside) if e.scope == 0)


def routes_of(ctx: Context, inside: Link, table: int) -> list[HeldRoute]:
    """The interface's routes but for those the kernel makes for its addresses."""
    return [
        route
        for family in FAMILIES
        for route in routing.held(ctx.container, family, table=table)
        if routing.is_on(route, inside) and route.protocol != routing.BY_KERNEL
    ]


def put_back(
    ctx: Context, inside: Link, addresses: tuple[Network, ...], held: list[HeldRoute]
) -> None:
    """Addresses, then the routes that may need them; those without a gateway first."""
    present = addresses_of(ctx, inside)
    for address in addresses:
        if address not in present:
            ctx.container.add_address(inside, address)
    for route in sorted(held, key=lambda r: r.gw is not None or bool(r.hops)):
        routing.put(ctx.container, route)


def delete(ctx: Context, conf: VrfConf) -> None:
    """Take the interface out, and the VRF away with its last member; repeatable."""
    if ctx.find_netns() is None:
        return
    plan = ctx.record.plan if ctx.record is not None else {}
    name = str(plan.get("vrf") or conf.vrf_name)
    vrf = ctx.container.find(name) if name else None
    if vrf is not None and vrf.kind != KIND:
        return
    with _lock(ctx):
        inside = ctx.container.find(ctx.ifname)
        if inside is not None:
            take_out(ctx, inside, vrf, plan)
        if vrf is not None:
            discard_if_unused(ctx, vrf)


def take_out(ctx: Context, inside: Link, vrf: Link | None, plan: dict[str, Any]) -> None:
    """The interface with what it has in the VRF, and what it had before, by the journal.

    A DEL that was killed may have done half of it.
    """
    addresses = tuple(parse_network(text) for text in plan.get("addresses", ()))
    held = [HeldRoute.from_json(document) for document in plan.get("routes", ())]
    if vrf is not None and inside.master == vrf.index:
        addresses += addresses_of(ctx, inside)
        there = routes_of(ctx, inside, vrf.detail.table)
        held += [replace(route, table=routing.MAIN_TABLE) for route in there]
        sublinks.release(ctx.container, inside)
    elif inside.master:
        return
    put_back(ctx, inside, tuple(dict.fromkeys(addresses)), held)


def discard_if_unused(ctx: Context, vrf: Link) -> None:
    """Delete a VRF that has no members."""
    if not sublinks.members(ctx.container, vrf):
        ctx.container.discard_index(vrf.index)


def check(ctx: Context, conf: VrfConf) -> None:
    """The VRF is there, with its table, and the interface and its addresses are in it."""
    assert conf.chained is not None
    vrf = ctx.container.find(conf.vrf_name)
    inside = ctx.container.find(ctx.ifname)
    if vrf is None or vrf.kind != KIND:
        endpoint.refuse("check vrf", [f"there is no VRF {conf.vrf_name}"])
        return
    found = []
    if conf.table and vrf.detail.table != conf.table:
        found.append(f"{vrf.name} has table {vrf.detail.table}, not {conf.table}")
    if not vrf.is_up:
        found.append(f"{vrf.name} is down")
    if inside is None or inside.master != vrf.index:
        found.append(f"failed to find {ctx.ifname} associated to vrf {vrf.name}")
    if inside is not None:
        present = {entry.network for entry in ctx.container.addresses(inside)}
        mine = chain.container_networks(conf.chained, ctx.ifname)
        found += [f"{ctx.ifname} has no address {n}" for n in mine if n not in present]
    endpoint.refuse("check vrf", found)


def status(_ctx: Context, _conf: VrfConf) -> None:
    """Always ready: whether a kernel has VRFs is known when the first one is made."""


def gc(_ctx: Context, _conf: VrfConf) -> None:
    """A VRF goes with its namespace."""


VERBS = Verbs(
    parse=parse,
    parse_cleanup=parse_cleanup,
    add=add,
    delete=delete,
    check=check,
    status=status,
    gc=gc,
)
