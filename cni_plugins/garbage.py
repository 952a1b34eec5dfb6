"""Which journalled attachments GC may take.

A collector that frees a living attachment is worse than a leak: see docs/design.md, "Who is dead".
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager

from cni_plugins.deadline import Deadline
from cni_plugins.errors import Busy
from cni_plugins.liveness import LIVING, Liveness, Verdict, observe
from cni_plugins.locks import attachment_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_plugins.context import Context
    from cni_plugins.host.journal import Journal, Record


def find(ctx: Context, journal: Journal) -> tuple[Record, ...]:
    """The entries of this plugin and network whose attachments are to go."""
    liveness = Liveness()
    runtime = observe("", caller=ctx.caller).runtime
    return tuple(
        record
        for _, record in journal.entries(ctx.network, ctx.plugin)
        if _is_garbage(ctx, record, liveness, runtime)
    )


def _is_garbage(ctx: Context, record: Record, liveness: Liveness, runtime: str) -> bool:
    if ctx.valid is None:
        return liveness.verdict(record.witness) is Verdict.DEAD
    if (record.container_id, record.ifname) in ctx.valid or record.witness.created > ctx.began:
        return False
    made_by_another = record.witness.runtime != runtime
    if made_by_another and liveness.verdict(record.witness) in LIVING:
        ctx.warn(
            f"left attachment {record.container_id} {record.ifname}: it is not in the list of "
            f"valid attachments, but it is alive and {record.witness.runtime or 'another runtime'} "
            "made it"
        )
        return False
    return True


@contextmanager
def lock_if_idle(ctx: Context) -> Iterator[bool]:
    """The attachment's lock, or False at once when another verb holds it."""
    with ExitStack() as stack:
        try:
            stack.enter_context(attachment_lock(ctx, deadline=Deadline(0.0)))
            is_idle = True
        except Busy:
            is_idle = False
        yield is_idle
