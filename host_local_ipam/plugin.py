"""host-local's verbs: one address from each range set, leased in files."""

from __future__ import annotations

import time

from cni_plugins.errors import AlreadyAttached, CniError, StateError, Unavailable
from cni_plugins.host.store import read_file
from cni_plugins.liveness import Liveness, observe
from cni_plugins.plugin import Verbs
from cni_plugins.protocol.addresses import Network
from cni_plugins.protocol.result import DNS, IP, Result
from cni_plugins.undo import Undo
from host_local_ipam import ranges, reclaim, resolvconf
from host_local_ipam.conf import HostLocalConf, parse, parse_cleanup
from host_local_ipam.index import Owner
from host_local_ipam.leases import Leases

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.context import Context
    from cni_plugins.protocol.addresses import Address
    from host_local_ipam.ranges import Range, RangeSet


def add(ctx: Context, conf: HostLocalConf) -> Result:
    """Lease an address from each set, all under one lock; what is requested must be given."""
    dns = resolvconf.parse(read_text(conf.resolv_conf)) if conf.resolv_conf else DNS()
    choices = choose_requested(conf)
    liveness = Liveness()
    leases = Leases(conf.data_dir, ctx.network, liveness)
    with leases.locked(ctx.deadline):
        preferred = refuse_duplicate(ctx, leases, liveness)
        if leases.is_first_of_boot:
            reclaim.dead(ctx, leases, liveness)
        with Undo(ctx.deadline.release) as undo:
            given = []
            for index, pool in enumerate(conf.sets):
                wanted = choices[index]
                if wanted is None:
                    address, entry = take(ctx, leases, pool, index, preferred)
                else:
                    address, entry = take_requested(ctx, leases, pool, index, wanted)
                undo.push(
                    f"lease {address}", leases.give_back, address, ctx.container_id, ctx.ifname
                )
                leases.note_last(index, address)
                given.append((address, entry))
            owner = Owner(
                container_id=ctx.container_id,
                ifname=ctx.ifname,
                ips=tuple(address for address, _ in given),
                witness=observe(
                    ctx.netns_path,
                    link_index=int(ctx.plan.get("link_index", 0)),
                    link_name=str(ctx.plan.get("link_name", "")),
                    caller=ctx.caller,
                ),
            )
            leases.remember(owner)
    ctx.undo.push("leases", release, ctx, leases, owner)
    ips = tuple(
        IP(address=Network(address, entry.subnet.prefix), gateway=entry.gateway)
        for address, entry in given
    )
    return Result(ips=ips, routes=conf.routes, dns=dns)


def delete(ctx: Context, conf: HostLocalConf) -> None:
    """Give back the attachment's leases; an unknown one has none."""
    leases = Leases(conf.data_dir, ctx.network, Liveness())
    if not leases.exists:
        return
    try:
        with leases.locked(ctx.deadline):
            owner = leases.owner(ctx.container_id, ctx.ifname)
            if owner is not None:
                leases.release(owner)
    except StateError as e:
        # the index cannot be written, the disk is full for one: the lease files are the truth
        ctx.warn(f"looked through all leases, without the index: {e}")
        leases.sweep(ctx.container_id, ctx.ifname, ctx.deadline)


def check(ctx: Context, conf: HostLocalConf) -> None:
    """The attachment has a lease, and one for each of its addresses that is ours to give."""
    leases = Leases(conf.data_dir, ctx.network, Liveness())
    if not leases.exists:
        raise CniError(999, missing_lease(ctx), f"{leases.path} does not exist")
    if conf.chained is None:
        with leases.locked(ctx.deadline):
            owner = leases.owner(ctx.container_id, ctx.ifname)
            ips = owner.ips if owner is not None else ()
        if not any(leases.holds(ip, ctx.container_id, ctx.ifname) for ip in ips):
            raise CniError(999, missing_lease(ctx), f"searched {leases.path}")
        return
    ours = [ip.address.address for ip in conf.chained.ips if is_ours(conf, ip.address.address)]
    lacking = [ip for ip in ours if not leases.holds(ip, ctx.container_id, ctx.ifname)]
    if lacking or not ours:
        what = ", ".join(f"no lease for {ip}" for ip in lacking) or "no address in prevResult"
        raise CniError(999, missing_lease(ctx), f"{what} in {leases.path}")


def status(ctx: Context, conf: HostLocalConf) -> None:
    """Ready unless leases cannot be written; a full set is a matter for logs, unless asked for."""
    leases = Leases(conf.data_dir, ctx.network, Liveness())
    problem = leases.problem()
    if problem:
        raise Unavailable(f"leases in {leases.path} cannot be written: {problem}")
    for index, pool in enumerate(conf.sets):
        if leases.is_full(pool):
            text = f"range set {index} is full: {ranges.describe(pool)}"
            if conf.status_when_full:
                raise Unavailable(
                    text, "give it more addresses, or set statusFailsWhenFull to false"
                )
            ctx.warn(text)


def gc(ctx: Context, conf: HostLocalConf) -> None:
    """Take back leases: by the runtime's list, or without one those of pods provably gone."""
    liveness = Liveness()
    leases = Leases(conf.data_dir, ctx.network, liveness)
    if not leases.exists:
        return
    with leases.locked(ctx.deadline):
        collect = reclaim.dead if ctx.valid is None else reclaim.invalid
        collect(ctx, leases, liveness)


def choose_requested(conf: HostLocalConf) -> list[Address | None]:
    """At most one requested address for each set.

    Raises:
        CniError: an address was requested that no set can give.
    """
    pending = list(conf.requested)
    choices: list[Address | None] = []
    for pool in conf.sets:
        chosen = next((ip for ip in pending if ranges.containing(pool, ip)), None)
        choices.append(chosen)
        if chosen is not None:
            pending.remove(chosen)
    if pending:
        raise CniError(
            999,
            f"failed to allocate all requested IPs: {' '.join(map(str, pending))}",
            "each range set gives one address; sets: "
            + "; ".join(ranges.describe(pool) for pool in conf.sets),
        )
    return choices


def refuse_duplicate(ctx: Context, leases: Leases, liveness: Liveness) -> list[Address]:
    """The addresses of an earlier, dead pod of the same attachment, which it may have again.

    Raises:
        AlreadyAttached: the attachment has its addresses and may be alive.
    """
    owner = leases.owner(ctx.container_id, ctx.ifname)
    if owner is None:
        return []
    if not reclaim.may_be_handed_back(leases, owner, liveness):
        age_s = max(0.0, time.time() - leases.changed_at(owner))
        raise AlreadyAttached(
            f"{owner.ips[0]} has been allocated to {ctx.container_id}, "
            "duplicate allocation is not allowed",
            f"lease {leases.path}/{owner.ips[0]}, {age_s:.0f} s old; DEL this attachment first",
        )
    leases.release(owner)
    return list(owner.ips)


def take(
    ctx: Context, leases: Leases, pool: RangeSet, index: int, preferred: list[Address]
) -> tuple[Address, Range]:
    """The next free address of a set, or one that the attachment had before.

    Raises:
        CniError: the set is full, also after the leases of dead pods were taken back.
    """
    for address in preferred:
        entry = ranges.containing(pool, address)
        if entry and not entry.excludes(address) and lease(ctx, leases, address):
            return address, entry
    for is_last_try in (False, True):
        for address, entry in leases.candidates(pool, index):
            if lease(ctx, leases, address):
                return address, entry
        if not is_last_try:
            reclaim.dead(ctx, leases, Liveness())
    raise CniError(
        999,
        f"failed to allocate for range {index}: no IP addresses available in range set: "
        f"{ranges.describe(pool)}",
        f"leases are in {leases.path}; no pod that holds one is provably gone",
    )


def take_requested(
    ctx: Context, leases: Leases, pool: RangeSet, index: int, address: Address
) -> tuple[Address, Range]:
    """The very address that was asked for.

    Raises:
        CniError: it is the gateway's, excluded or somebody else's.
    """
    entry = ranges.containing(pool, address)
    assert entry is not None
    failed = f"failed to allocate for range {index}: "
    if address == entry.gateway:
        raise CniError(999, f"{failed}requested ip {address} is subnet's gateway")
    excluded = entry.excludes(address)
    if excluded is not None:
        raise CniError(999, f"{failed}requested ip {address} is excluded", f"exclude: {excluded}")
    if not lease(ctx, leases, address):
        raise CniError(
            999,
            f"{failed}requested IP address {address} is not available in range set "
            f"{ranges.describe(pool)}",
            f"its lease is {leases.path}/{address}",
        )
    return address, entry


def lease(ctx: Context, leases: Leases, address: Address) -> bool:
    """Write the lease of an address; False when somebody has it."""
    return leases.take(address, ctx.container_id, ctx.ifname)


def release(ctx: Context, leases: Leases, owner: Owner) -> None:
    """Undo of a whole ADD: exactly what it took."""
    with leases.locked(ctx.deadline):
        leases.release(owner)


def is_ours(conf: HostLocalConf, address: Address) -> bool:
    """Whether an address is of one of our sets."""
    return any(ranges.containing(pool, address) for pool in conf.sets)


def missing_lease(ctx: Context) -> str:
    """The reference's text for a CHECK that fails."""
    return f"host-local: Failed to find address added by container {ctx.container_id}"


def read_text(path: str) -> str:
    """A file of the node as text."""
    return read_file(path).decode("utf-8", "replace")


VERBS = Verbs(
    parse=parse,
    parse_cleanup=parse_cleanup,
    add=add,
    delete=delete,
    check=check,
    status=status,
    gc=gc,
    journaled=False,
    uses_netns=False,
)
