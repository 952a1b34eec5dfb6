"""The ipMasq option of interface plugins: masquerading for an attachment, noted in the journal.

What stands in the kernel is :mod:`.masquerade`'s; this module knows whose it is and where it was
noted.
"""

from __future__ import annotations

from cni_plugins import endpoint, masquerade
from cni_plugins.errors import Unavailable
from cni_plugins.host.journal import LIVE
from cni_plugins.masquerade import Removal
from cni_plugins.masquerade_rules import Owner
from cni_plugins.protocol.addresses import parse_network
from cni_plugins.scopes import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cni_plugins.context import Context
    from cni_plugins.protocol.addresses import Network
    from cni_plugins.protocol.result import Result


def owner(ctx: Context) -> Owner:
    """The attachment as the owner of masquerade rules."""
    return Owner(ctx.network, ctx.container_id, ctx.ifname)


def begin_add(
    ctx: Context, backend: str, lease: Result, *, is_configured: bool
) -> Callable[[], None]:
    """Traffic leaving the subnets takes the host's address, from when what is returned was called.

    Until then the tool runs, and the caller can do something else.  The container's link has its
    addresses by now: without a journal they tell DEL where to look.

    Args:
        ctx: the call.
        backend: as configured, "" to choose one.
        lease: the container's addresses.
        is_configured: whether anything is to be done at all.

    Raises:
        ConfigError: the node has no tool for it.
    """
    ips = tuple(ip.address for ip in lease.ips)
    if not is_configured or not ips:
        return lambda: None
    ctx.plan["ips"] = [str(ip) for ip in ips]
    ctx.undo.push("masquerade", discard, ctx, masquerade.BACKENDS, ips)
    addition = masquerade.Addition(ctx.tools, owner(ctx), ips, backend=backend)
    ctx.undo.push("masquerade that was begun", addition.wait)

    def finish() -> None:
        applied = addition.finish()
        ctx.plan["masquerade"] = applied.backend
        if applied.backend == masquerade.NFTABLES and not backend:
            ctx.warn(f"ipMasq is done by nftables: {applied.reason}")

    return finish


def backends(ctx: Context, *, is_configured: bool) -> tuple[str, ...]:
    """Where DEL has to look for rules: as the journal says, else everywhere."""
    if ctx.record is not None and ctx.record.state == LIVE:
        applied = ctx.record.plan.get("masquerade")
        return (applied,) if applied else ()
    return masquerade.BACKENDS if is_configured else ()


def discard(ctx: Context, which: tuple[str, ...], ips: tuple[Network, ...]) -> None:
    """Remove this attachment's rules; repeatable."""
    begin_discard(ctx, which, ips).finish()


def begin_discard(ctx: Context, which: tuple[str, ...], ips: tuple[Network, ...]) -> Removal:
    """Begin to; its end, for which the kernel takes its time, is :meth:`Removal.finish`."""
    is_noted = ctx.record is not None and ctx.record.state == LIVE
    return Removal(ctx.tools, owner(ctx), backends=which, ips=ips, noted=is_noted)


def addresses(ctx: Context, result: Result | None, *, is_configured: bool) -> tuple[Network, ...]:
    """The attachment's addresses as far as anybody still knows them, for DEL; () when nobody does.

    Asked in turn: the journal, the runtime's result, the container's link.
    """
    if ctx.record is not None and ctx.record.plan.get("ips"):
        return tuple(parse_network(ip) for ip in ctx.record.plan["ips"])
    if result is not None and result.ips:
        ours = endpoint.own_interface(ctx, result)
        return endpoint.own_networks(result, ours) if ours else ()
    if not is_configured or ctx.find_netns() is None:
        return ()
    inside = ctx.container.find(ctx.ifname)
    return tuple(e.network for e in ctx.container.addresses(inside)) if inside else ()


def restore(ctx: Context) -> None:
    """Make the rules again, as they were added: somebody flushed them."""
    backend = str(ctx.plan.get("masquerade") or "")
    ips = tuple(parse_network(ip) for ip in ctx.plan.get("ips", ()))
    if backend and masquerade.missing(ctx.tools, owner(ctx), ips, backend=backend):
        discard(ctx, (backend,), ips)
        masquerade.apply(ctx.tools, owner(ctx), ips, backend=backend)


@contextmanager
def looking(ctx: Context, backend: str, result: Result | None) -> Iterator[None]:
    """CHECK's look at the rules is begun; the block looks at other things before it.

    None as the result says that there is nothing to look at.  What ADD noted is not asked for here,
    as it is for :func:`problems`: it nearly always was the backend that is configured.
    """
    if result is None:
        yield
        return
    families: list[int] = []
    if backend in {"", masquerade.IPTABLES} and ctx.tools.iptables.is_installed():
        families = sorted({ip.address.family for ip in result.ips})
    with masquerade.looking(ctx.tools, owner(ctx), families):
        yield


def problems(ctx: Context, backend: str, ips: tuple[Network, ...]) -> Iterator[str]:
    """What CHECK finds missing."""
    used = str(_noted(ctx) or backend)
    yield from masquerade.missing(ctx.tools, owner(ctx), ips, backend=used)


def _noted(ctx: Context) -> str | None:
    """The backend that the journal knows of."""
    return ctx.record.plan.get("masquerade") if ctx.record is not None else None


def status(ctx: Context, backend: str) -> None:
    """Ready if the node has a tool for it.

    Raises:
        Unavailable: it has none.
    """
    if not masquerade.has_tool(ctx.tools, backend):
        raise Unavailable(
            f"ipMasq: {backend or 'iptables or nft'} is not installed on this node",
            f"searched {ctx.runner.search_path}",
        )


def gc(ctx: Context) -> None:
    """Remove the rules of attachments that neither the list nor the journal knows."""
    if ctx.valid is not None:
        masquerade.gc(ctx.tools, ctx.network, ctx.valid | ctx.journalled)
