"""The backends' steps: what the pure rules say, done with the node's tools."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cni_plugins.errors import ExecError
from cni_plugins.host.firewalld import Firewalld
from cni_plugins.host.nftables import NotThere
from cni_plugins.locks import iptables_lock
from cni_plugins.masquerade import Owner
from cni_plugins.undo import Cleanup
from firewall import iptables_rules, nftables_rules
from firewall.conf import FIREWALLD, IPTABLES, NFTABLES, FirewallConf

if TYPE_CHECKING:
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
    iptables = ctx.tools.iptables
    for family in sorted({ip.family for ip in conf.ips}):
        present = iptables.rules(family, iptables_rules.TABLE)
        plans = _plans(conf, family, with_addresses=with_addresses)
        commands = iptables_rules.commands(present, plans)
        if commands:
            iptables.restore(family, iptables_rules.TABLE, commands)


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
        with iptables_lock(ctx):
            for family in sorted({ip.family for ip in ips}):
                present = ctx.tools.iptables.rules(family, iptables_rules.TABLE)
                commands = iptables_rules.removal(present, ips, family)
                if commands:
                    ctx.tools.iptables.restore(family, iptables_rules.TABLE, commands)


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
    for family in sorted({ip.family for ip in conf.ips}):
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
    found = []
    for family in sorted({ip.family for ip in conf.ips}):
        present = ctx.tools.iptables.rules(family, iptables_rules.TABLE)
        plans = _plans(conf, family, with_addresses=with_addresses)
        found += [
            f"expected IPv{family} rule not found in table {iptables_rules.TABLE}: {rule}"
            for rule in iptables_rules.missing(present, plans)
        ]
    return found


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
