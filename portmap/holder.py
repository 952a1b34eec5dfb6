"""Whether whoever has a host port already is still alive."""

from __future__ import annotations

from cni_plugins.host.journal import Journal
from cni_plugins.liveness import Liveness, Verdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cni_plugins.context import Context
    from cni_plugins.host.journal import Record
    from cni_plugins.protocol.addresses import Address

GONE = frozenset({Verdict.DEAD, Verdict.SUSPECT})


def is_alive(ctx: Context, is_holder: Callable[[str, Record], bool], address: Address) -> bool:
    """Whether the holder's pod is there: by its journal entry, without one by its address.

    Args:
        ctx: the call.
        is_holder: tells the holder's entry from its network and the entry.
        address: where the holder's rule leads.
    """
    journal, liveness = Journal(ctx.warn), Liveness()
    for network in journal.networks():
        for _, record in journal.entries(network, ctx.plugin):
            if is_holder(network, record):
                return liveness.verdict(record.witness) not in GONE
    return address in liveness.addresses
