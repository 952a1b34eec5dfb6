"""The backends' steps: what the pure rules say, done with the node's tools."""

from __future__ import annotations

from cni_plugins.errors import ExecError
from cni_plugins.host.firewalld import Firewalld
from cni_plugins.host.journal import LIVE
from cni_plugins.host.nftables import NotThere
from cni_plugins.masquerade_rules import Owner
from cni_plugins.scopes import contextmanager
from cni_plugins.undo import Cleanup
from firewall import iptables_rules, nftables_rules
from firewall.conf import FIREWALLD, IPTABLES, NFTABLES, FirewallConf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from cni_plugins.context import Context
    from cni_plugins.protocol.addresses import Network

_TABLE = (nftables_rules.FAMILY, nftables_rules.TABLE)
_ATTEMPTS = 5


def firewalld(ctx: Context) -> Firewalld:
    """The node's firewalld."""
    return Firewalld(ctx.env, ctx.deadline)


def problem(ctx: Context, backend: str) -> str:
    """Why a backend cannot be used, "" when it can."""
    if backend == FIREWALLD:
        return firewalld(ctx).problem()
    if backend == NFTABLES:
        return "" if ctx.tools.nftables.is_installed() else "nft is not installed"
    if not ctx.tools.iptables.is_installed():
        return "iptables-restore is not installed"
    try:
        ctx.tools.iptables.rules(4, iptables_rules.TABLE)
    except ExecError as e:
        return e.msg
    return ""


def apply(ctx: Context, conf: FirewallConf, backend: str) -> None:
    """Rules of the container and policy of its bridge: one transaction for each family."""
    if backend == IPTABLES:
        _change_iptables(ctx, conf, with_addresses=True)
    else:
        commands = [
            *nftables_rules.skeleton(),
            *nftables_rules.elements(conf.ips, owner_of(ctx)),
            *nftables_rules.policy_elements(conf.bridge, conf.ingress_policy),
        ]
        ctx.tools.nftables.apply_text(commands)


def apply_policy(ctx: Context, conf: FirewallConf, backend: str) -> None:
    """The policy of the bridge alone."""
    if backend == IPTABLES:
        _change_iptables(ctx, conf, with_addresses=False)
    else:
        policy = nftables_rules.policy_elements(conf.bridge, conf.ingress_policy)
        ctx.tools.nftables.apply_text([*nftables_rules.skeleton(), *policy])


def apply_firewalld(ctx: Context, conf: FirewallConf) -> None:
    """The container's addresses become sources of the zone."""
    daemon = firewalld(ctx)
    for ip in conf.ips:
        daemon.ensure_source(conf.zone, ip)


def _plans(
    conf: FirewallConf, family: int, *, with_addresses: bool
) -> tuple[iptables_rules.Plan, ...]:
    if with_addresses:
        return iptables_rules.plans(
            conf.ips, family, conf.admin_chain, conf.bridge, conf.ingress_policy
        )
    return (iptables_rules.isolation(conf.bridge, conf.ingress_policy),)


def _change_iptables(ctx: Context, conf: FirewallConf, *, with_addresses: bool) -> None:
    def commands(family: int, present: Sequence[str]) -> list[str]:
        return iptables_rules.commands(present, _plans(conf, family, with_addresses=with_addresses))

    ctx.tools.iptables.revise(iptables_rules.TABLE, _families(conf.ips), commands)


def join_iptables(ctx: Context, conf: FirewallConf) -> bool:
    """Add a container where all that is shared is there and in its place: one transaction a family.

    The transaction shows the chains before it adds anything.  It needs no lock: rules that are
    shared are only looked at, and nobody else adds this container's.

    Returns:
        False: not everything was as it has to be, and nothing was added; :func:`apply` is needed.

    Raises:
        ExecError: what was added in the wrong place cannot be taken back.
    """
    iptables, table = ctx.tools.iptables, iptables_rules.TABLE
    own = {f: iptables_rules.of_addresses(conf.ips, f) for f in _families(conf.ips)}
    plans = {f: _plans(conf, f, with_addresses=True) for f in own}
    shown = iptables.restore(table, {f: iptables_rules.joining(plans[f], own[f]) for f in own})
    wrong = {}
    is_joined = True
    for family, present in shown.items():
        if isinstance(present, ExecError):
            is_joined = False
        elif iptables_rules.commands(present, plans[family]) != list(own[family]):
            wrong[family] = [iptables_rules.deleted(rule) for rule in own[family]]
    for answer in iptables.restore(table, wrong).values():
        if isinstance(answer, ExecError):
            raise answer
    return is_joined and not wrong


def _families(ips: Sequence[Network]) -> list[int]:
    return sorted({ip.family for ip in ips})


def discard(ctx: Context, backend: str, zone: str, ips: tuple[Network, ...]) -> None:
    """Remove a container's rules from one backend; repeatable."""
    if backend == FIREWALLD:
        daemon = firewalld(ctx)
        with Cleanup() as cleanup:
            for ip in ips:
                cleanup.attempt(f"source {ip} of {zone}", daemon.discard_source, zone, ip)
    elif backend == NFTABLES:
        mark = owner_of(ctx).mark
        _discard_marked(ctx, lambda comment: comment.startswith(mark))
    elif backend == IPTABLES:
        _discard_iptables(ctx, ips)


def _discard_iptables(ctx: Context, ips: tuple[Network, ...]) -> None:
    """What the journal knows goes in one transaction a family.

    Where that is refused, because a rule is gone, a look tells what is left.
    """
    families = _families(ips)
    if ctx.record is not None and ctx.record.state == LIVE:
        noted = {
            family: [iptables_rules.deleted(r) for r in iptables_rules.of_addresses(ips, family)]
            for family in families
        }
        done = ctx.tools.iptables.restore(iptables_rules.TABLE, noted)
        families = [family for family, answer in done.items() if isinstance(answer, ExecError)]

    def commands(family: int, present: Sequence[str]) -> list[str]:
        return iptables_rules.removal(present, ips, family)

    ctx.tools.iptables.revise(iptables_rules.TABLE, families, commands)


def collect_nftables(ctx: Context, keep: frozenset[tuple[str, str]]) -> None:
    """Remove a network's elements whose attachments are not to be kept."""
    marks = {Owner(ctx.network, container_id, ifname).mark for container_id, ifname in keep}
    network = owner_of(ctx).mark.split("-", 1)[0]

    def is_doomed(comment: str) -> bool:
        mark = comment.partition(",")[0]
        return mark.startswith(f"{network}-") and mark not in marks

    _discard_marked(ctx, is_doomed)


def _discard_marked(ctx: Context, is_doomed: Any) -> None:
    for attempt in range(_ATTEMPTS):
        doomed = [
            (family, address)
            for family in (4, 6)
            for address, comment in _elements(ctx, nftables_rules.set_of(family))
            if is_doomed(comment)
        ]
        if not doomed:
            return
        commands = [
            f"delete element {' '.join(_TABLE)} {nftables_rules.set_of(family)} {{ {address} }}"
            for family, address in doomed
        ]
        try:
            ctx.tools.nftables.apply_text(commands)
        except NotThere:  # another process removed one of them since the listing
            if attempt == _ATTEMPTS - 1:
                raise
        else:
            return


@contextmanager
def looking(ctx: Context, conf: FirewallConf) -> Iterator[None]:
    """CHECK's look at the rules of iptables is begun, if that is configured."""
    families = _families(conf.ips) if conf.backend == IPTABLES else []
    if not all(ctx.tools.iptables.is_installed(family) for family in families):
        families = []
    chains = {f: iptables_rules.chains(_plans(conf, f, with_addresses=True)) for f in families}
    with ctx.tools.iptables.looking(iptables_rules.TABLE, chains):
        yield


def missing(ctx: Context, conf: FirewallConf, backend: str) -> list[str]:
    """What CHECK finds missing; with firewalld the policy is looked at apart."""
    if backend == FIREWALLD:
        daemon = firewalld(ctx)
        return [
            f"firewalld: zone {conf.zone} does not have source {ip}"
            for ip in conf.ips
            if not daemon.has_source(conf.zone, ip)
        ]
    if backend == IPTABLES:
        return _iptables_missing(ctx, conf, with_addresses=True)
    found = []
    for family in _families(conf.ips):
        name = nftables_rules.set_of(family)
        present = {address for address, _ in _elements(ctx, name)}
        found += [
            f"{ip.address} is missing in set {name} of {nftables_rules.TABLE}"
            for ip in conf.ips
            if ip.family == family and str(ip.address) not in present
        ]
    return found + policy_missing(ctx, conf, NFTABLES)


def policy_missing(ctx: Context, conf: FirewallConf, backend: str) -> list[str]:
    """What CHECK finds wrong with the bridge's policy, and with the rules that all share."""
    if backend == IPTABLES:
        return _iptables_missing(ctx, conf, with_addresses=False)
    bridges, pairs = (_elements(ctx, name) for name in nftables_rules.sets())
    found = nftables_rules.policy_missing(
        conf.bridge,
        conf.ingress_policy,
        [name for name, _ in bridges],
        [pair.split(" . ", 1)[0] for pair, _ in pairs],
    )
    wanted, there = len(nftables_rules.rules()), len(ctx.tools.nftables.rules(*_TABLE, "forward"))
    if wanted != there:
        found.append(f"chain forward of {nftables_rules.TABLE} has {there} rules, not {wanted}")
    return found


def _iptables_missing(ctx: Context, conf: FirewallConf, *, with_addresses: bool) -> list[str]:
    families = _families(conf.ips)
    plans = {f: _plans(conf, f, with_addresses=with_addresses) for f in families}
    chains = {f: iptables_rules.chains(plan) for f, plan in plans.items()}
    return [
        f"expected IPv{family} rule not found in table {iptables_rules.TABLE}: {rule}"
        for family, present in ctx.tools.iptables.chains(iptables_rules.TABLE, chains).items()
        for rule in iptables_rules.missing(present, plans[family])
    ]


def _elements(ctx: Context, name: str) -> list[tuple[str, str]]:
    """The elements of a set of ours with their comments."""
    found = []
    for entry in ctx.tools.nftables.elements(*_TABLE, name):
        body = entry["elem"] if isinstance(entry, dict) and "elem" in entry else {"val": entry}
        value = body["val"]
        parts = value["concat"] if isinstance(value, dict) else [value]
        found.append((" . ".join(map(str, parts)), str(body.get("comment", ""))))
    return found


def owner_of(ctx: Context) -> Owner:
    """Whose elements they are."""
    return Owner(ctx.network, ctx.container_id, ctx.ifname)
