"""firewall's rules for iptables: pure functions from what is there to the commands needed.

Chains, rules and comments are the reference suite's; all of them are in table filter.  Rules are
written as iptables-save prints them.
"""

from __future__ import annotations

from cni_plugins import jsontext
from cni_plugins.frozen import Frozen
from firewall.conf import ISOLATED, OPEN, SAME_BRIDGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni_plugins.protocol.addresses import Network

TABLE = "filter"
FORWARD = "CNI-FORWARD"
STAGE1, STAGE2 = "CNI-ISOLATION-STAGE-1", "CNI-ISOLATION-STAGE-2"
_JUMP = f'-A FORWARD -m comment --comment "CNI firewall plugin rules" -j {FORWARD}'
_RULES = "CNI firewall plugin rules (ingressPolicy: {})"


class Plan(Frozen, kw_only=False):
    """What a family needs: chains, and rules that come first or last in their chains."""

    chains: tuple[str, ...]
    first: tuple[str, ...]
    last: tuple[str, ...]
    unwanted: tuple[str, ...] = ()


def _said(policy: str) -> str:
    return f"-m comment --comment {jsontext.dumps(_RULES.format(policy))}"


def _admin_jump(admin: str) -> str:
    return f'-A {FORWARD} -m comment --comment "CNI firewall plugin admin overrides" -j {admin}'


def of_addresses(ips: Sequence[Network], family: int) -> tuple[str, ...]:
    """The two rules of each address: answers to it, and whatever comes from it."""
    found: list[str] = []
    for ip in ips:
        if ip.family == family:
            answers = "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
            found += [f"-A {FORWARD} -d {ip} {answers}", f"-A {FORWARD} -s {ip} -j ACCEPT"]
    return tuple(found)


def traffic(ips: Sequence[Network], family: int, admin: str) -> Plan:
    """Let a container's traffic through; the administrator's chain is asked before."""
    return Plan(
        chains=(FORWARD, admin),
        first=(_JUMP, _admin_jump(admin)),
        last=of_addresses(ips, family),
    )


def isolation(bridge: str, policy: str) -> Plan:
    """Keep a bridge's containers from other bridges', and under ``isolated`` from each other."""
    both = _said(f"{SAME_BRIDGE}|{ISOLATED}")
    leaving = {
        name: f"-A {STAGE1} -i {bridge} ! -o {bridge} {_said(name)} -j {STAGE2}"
        for name in (SAME_BRIDGE, ISOLATED)
    }
    within = f"-A {STAGE1} -i {bridge} -o {bridge} {_said(ISOLATED)} -j DROP"
    other = SAME_BRIDGE if policy == ISOLATED else ISOLATED
    return Plan(
        chains=(STAGE1, STAGE2),
        first=(
            f"-A FORWARD {both} -j {STAGE1}",
            leaving[policy],
            *((within,) if policy == ISOLATED else ()),
            f"-A {STAGE2} -o {bridge} {both} -j DROP",
        ),
        last=(f"-A {STAGE1} {both} -j RETURN", f"-A {STAGE2} {both} -j RETURN"),
        unwanted=(leaving[other], *(() if policy == ISOLATED else (within,))),
    )


def plans(
    ips: Sequence[Network], family: int, admin: str, bridge: str, policy: str
) -> tuple[Plan, ...]:
    """Everything of a family, the isolation last: what comes last goes first into FORWARD."""
    found = (traffic(ips, family, admin),)
    return found if policy == OPEN else (*found, isolation(bridge, policy))


def commands(present: Sequence[str], wanted: Sequence[Plan]) -> list[str]:
    """What makes the table as it is wanted.

    The isolation has to stand before the jump that accepts: where it does not, it is moved.
    """
    declared = {line[1:].split(" ", 1)[0] for line in present if line.startswith(":")}
    rules = [line for line in present if line.startswith("-A")]
    found: list[str] = []
    for plan in wanted:
        found += [f"-N {chain}" for chain in plan.chains if chain not in declared]
        declared |= set(plan.chains)
    for plan in wanted:
        found += [deleted(rule) for rule in plan.unwanted if rule in rules]
        for rule in plan.first:
            if rule in rules and not _is_behind_its_rival(rule, rules, found):
                continue
            if rule in rules:
                found.append(deleted(rule))
            found.append(_inserted(rule))
        found += [rule for rule in plan.last if rule not in rules]
    return found


def joining(wanted: Sequence[Plan], own: Sequence[str]) -> list[str]:
    """What adds a container's own rules where all others are there, and shows the chains before.

    It does nothing at all where one of the others, or a chain, is missing.
    """
    others = [rule for plan in wanted for rule in (*plan.first, *plan.last) if rule not in own]
    conditions = [f"-C{rule.removeprefix('-A')}" for rule in others]
    return [*conditions, *(f"-S {chain}" for chain in chains(wanted)), *own]


def chains(wanted: Sequence[Plan]) -> list[str]:
    """The chains in which plans have rules."""
    return ["FORWARD", *(chain for plan in wanted for chain in plan.chains)]


def _is_behind_its_rival(rule: str, rules: Sequence[str], done: Sequence[str]) -> bool:
    """Whether FORWARD accepts before this rule of FORWARD can drop."""
    if not rule.endswith(f" -j {STAGE1}"):
        return False
    return _inserted(_JUMP) in done or (_JUMP in rules and rules.index(_JUMP) < rules.index(rule))


def _inserted(rule: str) -> str:
    chain, _, rest = rule.removeprefix("-A ").partition(" ")
    return f"-I {chain} 1 {rest}"


def deleted(rule: str) -> str:
    """What deletes a rule."""
    return f"-D{rule.removeprefix('-A')}"


def removal(present: Sequence[str], ips: Sequence[Network], family: int) -> list[str]:
    """What removes the rules of addresses; chains and jumps are everybody's."""
    return [deleted(rule) for rule in of_addresses(ips, family) if rule in present]


def missing(present: Sequence[str], wanted: Sequence[Plan]) -> list[str]:
    """What CHECK finds missing or in the wrong order."""
    rules = [line for line in present if line.startswith("-A")]
    found = []
    for plan in wanted:
        found += [rule for rule in (*plan.first, *plan.last) if rule not in rules]
        found += [
            f"{rule} (it stands behind {FORWARD})"
            for rule in plan.first
            if rule in rules and _is_behind_its_rival(rule, rules, ())
        ]
    return found
