"""portmap's verbs: rules in the backend, and the UDP conversations that must not outlive them."""

from __future__ import annotations

from cni_plugins.errors import CniError, ExecError, KernelError, Unavailable
from cni_plugins.host import sysctl
from cni_plugins.locks import iptables_lock
from cni_plugins.plugin import Verbs
from cni_plugins.undo import Cleanup
from portmap import iptables_backend, nftables_backend
from portmap.conf import BACKENDS, IPTABLES, NFTABLES, PortmapConf, parse, parse_cleanup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.context import Context
    from cni_plugins.protocol.result import Result
    from portmap.conf import Mapping

_MODULES = {IPTABLES: iptables_backend, NFTABLES: nftables_backend}


def add(ctx: Context, conf: PortmapConf) -> Result:
    """Lead the ports to the container; nothing at all happens when there are none."""
    assert conf.chained is not None
    ctx.plan["backend"] = ""
    if conf.mappings and conf.targets:
        with iptables_lock(ctx, conf.backend):
            ctx.plan["backend"] = lead(ctx, conf)
        allow_loopback(ctx, conf)
        forget_conversations(ctx, conf.mappings)
    return conf.chained


def lead(ctx: Context, conf: PortmapConf) -> str:
    """Make the rules; the backend that does it."""
    if conf.backend != NFTABLES and iptables_backend.join(ctx, conf):
        return IPTABLES
    backend = choose(ctx, conf)
    ctx.undo.push("port mappings", _MODULES[backend].discard, ctx)
    _MODULES[backend].apply(ctx, conf)
    return backend


def restore(ctx: Context, conf: PortmapConf) -> None:
    """Make the rules again, as they were added: somebody flushed them."""
    backend = str(ctx.plan.get("backend") or "")
    if backend:
        with iptables_lock(ctx, backend):
            _MODULES[backend].apply(ctx, conf)
        allow_loopback(ctx, conf)


def delete(ctx: Context, conf: PortmapConf) -> None:
    """Remove the rules where the journal says they are, or without one wherever they may be."""
    backends: tuple[str, ...] = BACKENDS
    if ctx.record is not None and ctx.record.state == "live":
        noted = str(ctx.record.plan.get("backend") or "")
        backends = (noted,) if noted else ()
    with Cleanup() as cleanup:
        for backend in backends:
            cleanup.attempt(f"rules of {backend}", _MODULES[backend].discard, ctx)
    if backends:
        forget_conversations(ctx, conf.mappings)


def check(ctx: Context, conf: PortmapConf) -> None:
    """Every rule and element is there; all that are not are named."""
    if not conf.mappings or not conf.targets:
        return
    noted = str(ctx.record.plan.get("backend") or "") if ctx.record is not None else ""
    with ctx.tools.iptables.listed_once():
        problems = _MODULES[noted or choose(ctx, conf)].missing(ctx, conf)
    if problems:
        raise CniError(999, f"check port mappings: {'; '.join(problems)}")


def status(ctx: Context, conf: PortmapConf) -> None:
    """Ready unless no backend can be used."""
    try:
        choose(ctx, conf)
    except CniError as e:
        raise Unavailable(e.msg, e.details) from e


def gc(ctx: Context, _conf: PortmapConf) -> None:
    """Remove the rules of this network's attachments that neither list nor journal knows."""
    if ctx.valid is None:
        return
    keep = ctx.valid | ctx.journalled
    with Cleanup() as cleanup:
        for backend in BACKENDS:
            cleanup.attempt(f"rules of {backend}", _MODULES[backend].collect, ctx, keep)


def choose(ctx: Context, conf: PortmapConf) -> str:
    """The backend: the one that is named; else iptables if it works on this node, else nftables.

    Raises:
        ExecError: none of those allowed can be used; what was tried is in the message.
    """
    tried: list[str] = []
    for backend in (conf.backend,) if conf.backend else BACKENDS:
        problem = _problem(ctx, backend)
        if not problem:
            if tried:
                ctx.warn(f"port mappings are done by {backend}: {'; '.join(tried)}")
            return backend
        tried.append(f"{backend} cannot be used: {problem}")
    raise ExecError(f"no backend for port mappings: {'; '.join(tried)}")


def _problem(ctx: Context, backend: str) -> str:
    tools = ctx.tools
    if backend == NFTABLES:
        return "" if tools.nftables.is_installed() else "nft is not installed"
    if not tools.iptables.is_installed():
        return "iptables-restore is not installed"
    try:
        tools.iptables.rules(4, "nat")
    except ExecError as e:
        return e.msg
    return ""


def allow_loopback(ctx: Context, conf: PortmapConf) -> None:
    """The host may reach the container from 127.0.0.1; never undone, others may need it."""
    if not conf.snat or 4 not in conf.targets:
        return
    index = ctx.host.find_route(conf.targets[4].address)
    link = ctx.host.find_index(index) if index else None
    if link is not None:
        sysctl.ensure(f"net/ipv4/conf/{link.name}/route_localnet", "1")


def forget_conversations(ctx: Context, mappings: tuple[Mapping, ...]) -> None:
    """Conversations over UDP would go on with the rules they began under."""
    udp = [mapping for mapping in mappings if mapping.protocol == "udp"]
    if not udp:
        return
    from cni_plugins.host.conntrack import flush_udp  # noqa: PLC0415 - loads pyroute2

    try:
        local = frozenset(ctx.host.all_addresses())
        for mapping in udp:
            ours = frozenset({mapping.only_on}) if mapping.only_on else local
            for family in (4, 6):
                if mapping.is_of(family):
                    flush_udp(family, mapping.host_port, ours.__contains__)
    except KernelError as e:
        ctx.warn(f"conversations over UDP may go on with earlier rules: {e}")


VERBS = Verbs(
    parse=parse,
    parse_cleanup=parse_cleanup,
    add=add,
    delete=delete,
    check=check,
    status=status,
    gc=gc,
    restore=restore,
    uses_netns=False,
)
