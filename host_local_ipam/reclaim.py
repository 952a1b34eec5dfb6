"""Leases whose pod is gone: which ones a node may take back.

The rules are those of docs/design.md, "Who is dead".
"""

from __future__ import annotations

import time

from cni_plugins.frozen import replace
from cni_plugins.liveness import GRACE_S, LIVING, Liveness, Verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.context import Context
    from host_local_ipam.index import Owner
    from host_local_ipam.leases import Leases


def dead(ctx: Context, leases: Leases, liveness: Liveness) -> None:
    """Take back the leases of attachments that are provably dead; under the network's lock."""
    for owner in leases.owners():
        if _is_dead(ctx, leases, owner, liveness):
            leases.release(owner)
            ctx.warn(f"took back {_describe(owner)}: its pod is gone")


def invalid(ctx: Context, leases: Leases, liveness: Liveness) -> None:
    """Take back what a runtime's list does not have; under the network's lock."""
    assert ctx.valid is not None
    containers = {container_id for container_id, _ in ctx.valid}
    for owner in leases.owners():
        holder = (owner.container_id, owner.ifname)
        is_valid = holder in ctx.valid or (not owner.ifname and owner.container_id in containers)
        if is_valid or leases.changed_at(owner) > ctx.began:
            continue
        if (
            owner.witness.boot_id
            and owner.witness.runtime != liveness.runtime
            and liveness.verdict(owner.witness) in LIVING
        ):
            ctx.warn(
                f"left {_describe(owner)}: it is not in the list of valid attachments, but alive, "
                f"and {owner.witness.runtime or 'another runtime'} made it"
            )
            continue
        leases.release(owner)


def may_be_handed_back(leases: Leases, owner: Owner, liveness: Liveness) -> bool:
    """Whether the pod that an attachment's leases were for is gone, so that a new ADD of the same
    attachment may have them.
    """
    if not owner.witness.boot_id:
        return _is_stale(leases, owner, liveness)
    verdict = liveness.verdict(owner.witness)
    return verdict in {Verdict.DEAD, Verdict.SUSPECT} and not _is_in_use(owner, liveness)


def _is_dead(ctx: Context, leases: Leases, owner: Owner, liveness: Liveness) -> bool:
    if not owner.witness.boot_id:
        return _is_stale(leases, owner, liveness)
    match liveness.verdict(owner.witness):
        case Verdict.DEAD:
            return not _is_in_use(owner, liveness)
        case Verdict.SUSPECT:
            if not owner.suspected:
                leases.remember(replace(owner, suspected=time.time()))
                return False
            return time.time() - owner.suspected >= GRACE_S and not _is_in_use(owner, liveness)
        case Verdict.UNKNOWN:
            if liveness.is_elsewhere(owner.witness):
                ctx.warn(f"left {_describe(owner)}: it was given out in other namespaces than ours")
            return False
        case Verdict.ALIVE | Verdict.LINGERING:
            if owner.suspected:
                leases.remember(replace(owner, suspected=0.0))
            return False


def _is_stale(leases: Leases, owner: Owner, liveness: Liveness) -> bool:
    """A lease without a witness, as the reference writes it: older than this boot and unused."""
    is_older = leases.changed_at(owner) < liveness.boot_time
    return is_older and not _is_in_use(owner, liveness)


def _is_in_use(owner: Owner, liveness: Liveness) -> bool:
    return any(ip in liveness.addresses for ip in owner.ips)


def _describe(owner: Owner) -> str:
    listed = ", ".join(map(str, owner.ips))
    return f"{listed} of {owner.container_id} {owner.ifname}".rstrip()
