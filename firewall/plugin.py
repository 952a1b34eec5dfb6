"""firewall's verbs over its backends: iptables, firewalld, nftables."""

from __future__ import annotations

from cni_plugins.errors import CniError, ExecError, Unavailable
from cni_plugins.host.journal import Journal
from cni_plugins.locks import iptables_lock
from cni_plugins.plugin import Verbs
from cni_plugins.protocol.addresses import parse_network
from cni_plugins.undo import Cleanup
from firewall import backends
from firewall.conf import (
    BACKENDS,
    FIREWALLD,
    IPTABLES,
    NFTABLES,
    OPEN,
    FirewallConf,
    parse,
    parse_cleanup,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.context import Context
    from cni_plugins.protocol.addresses import Network
    from cni_plugins.protocol.result import Result

_ORDER = (FIREWALLD, IPTABLES, NFTABLES)
"""In which a node is asked when the configuration names none."""


def add(ctx: Context, conf: FirewallConf) -> Result:
    """Let the container's traffic through, under its bridge's policy."""
    assert conf.chained is not None
    if not is_joined(ctx, conf):
        with iptables_lock(ctx, lock_of(conf, conf.backend)):
            backend = choose(ctx, conf)
            note(ctx, conf, backend)
            apply(ctx, conf, backend)
    return conf.chained


def is_joined(ctx: Context, conf: FirewallConf) -> bool:
    """Whether iptables is what does it, and the container's own rules were all that was missing."""
    if conf.backend not in {"", IPTABLES} or not ctx.tools.iptables.is_installed():
        return False
    if not conf.backend and not backends.problem(ctx, FIREWALLD):
        return False
    note(ctx, conf, IPTABLES)
    return backends.join_iptables(ctx, conf)


def note(ctx: Context, conf: FirewallConf, backend: str) -> None:
    """Whatever is done from here on can be undone: by this call, and by DEL."""
    ctx.plan |= {"backend": backend, "ips": [str(ip) for ip in conf.ips], "zone": conf.zone}
    ctx.undo.push("firewall rules", backends.discard, ctx, backend, conf.zone, conf.ips)


def lock_of(conf: FirewallConf, backend: str) -> str:
    """The backend for the lock: policies beside firewalld may be iptables'."""
    return "" if backend == FIREWALLD and conf.ingress_policy != OPEN else backend


def apply(ctx: Context, conf: FirewallConf, backend: str) -> None:
    """Make the rules of the container and of its bridge's policy, under the lock of iptables."""
    if backend == FIREWALLD:
        backends.apply_firewalld(ctx, conf)
        if conf.ingress_policy != OPEN:
            backends.apply_policy(ctx, conf, policy_backend(ctx, backend))
        return
    backends.apply(ctx, conf, backend)


def restore(ctx: Context, conf: FirewallConf) -> None:
    """Make the rules again, as they were added: somebody flushed them."""
    noted = str(ctx.plan.get("backend") or "")
    with iptables_lock(ctx, lock_of(conf, noted)):
        apply(ctx, conf, noted or choose(ctx, conf))


def delete(ctx: Context, conf: FirewallConf) -> None:
    """Remove the container's rules; chains, jumps and policies of bridges are everybody's."""
    if ctx.record is not None and ctx.record.plan.get("ips") is not None:
        plan = ctx.record.plan
        ips = tuple(parse_network(ip) for ip in plan["ips"])
        backends.discard(ctx, str(plan.get("backend")), str(plan.get("zone")), ips)
        return
    ips = tuple(ip for ip in conf.ips if not is_claimed(ctx, ip))
    with Cleanup() as cleanup:
        for backend in BACKENDS if ips else (NFTABLES,):
            if backend != FIREWALLD or not backends.firewalld(ctx).problem():
                cleanup.attempt(backend, backends.discard, ctx, backend, conf.zone, ips)


def check(ctx: Context, conf: FirewallConf) -> None:
    """Every rule is there and in its place; all that are not are named."""
    with backends.looking(ctx, conf), ctx.tools.iptables.listed_once():
        noted = str(ctx.record.plan.get("backend") or "") if ctx.record is not None else ""
        backend = noted or choose(ctx, conf)
        problems = backends.missing(ctx, conf, backend)
        if backend == FIREWALLD and conf.ingress_policy != OPEN:
            problems += backends.policy_missing(ctx, conf, policy_backend(ctx, backend))
    if problems:
        raise CniError(999, f"check firewall: {'; '.join(problems)}")


def status(ctx: Context, conf: FirewallConf) -> None:
    """Ready unless no backend can be used."""
    try:
        choose(ctx, conf)
    except CniError as e:
        raise Unavailable(e.msg, e.details) from e


def gc(ctx: Context, _conf: FirewallConf) -> None:
    """Remove elements of this network's attachments that neither list nor journal knows.

    Rules of iptables and sources of firewalld do not say whose they are: the journal does.
    """
    if ctx.valid is not None:
        backends.collect_nftables(ctx, ctx.valid | ctx.journalled)


def choose(ctx: Context, conf: FirewallConf) -> str:
    """The backend: the one that is named; else firewalld if it runs, iptables, nftables.

    Raises:
        ExecError: none of those allowed can be used; what was tried is in the message.
    """
    tried: list[str] = []
    for backend in (conf.backend,) if conf.backend else _ORDER:
        problem = backends.problem(ctx, backend)
        if not problem:
            if backend == NFTABLES and tried:
                ctx.warn(f"the firewall is nftables: {'; '.join(tried)}")
            return backend
        tried.append(f"{backend} cannot be used: {problem}")
    raise ExecError(f"no backend for the firewall: {'; '.join(tried)}")


def policy_backend(ctx: Context, backend: str) -> str:
    """What enforces policies of bridges: firewalld has nothing for them."""
    if backend != FIREWALLD:
        return backend
    return IPTABLES if not backends.problem(ctx, IPTABLES) else NFTABLES


def is_claimed(ctx: Context, ip: Network) -> bool:
    """Whether another attachment has the address by now, so that the rules are its own."""
    journal = Journal(ctx.warn)
    text = str(ip)
    return any(
        text in record.plan.get("ips", ())
        and (network, record.container_id, record.ifname)
        != (ctx.network, ctx.container_id, ctx.ifname)
        for network in journal.networks()
        for _, record in journal.entries(network, ctx.plugin)
    )


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
