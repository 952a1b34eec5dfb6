"""firewall's pure rules for iptables: what a container adds where the others are there."""

from __future__ import annotations

import pytest

from cni_plugins.protocol.addresses import parse_network
from firewall import iptables_rules as rules

IPS = (parse_network("10.1.0.2/32"), parse_network("fd00::2/128"))
OWN = (
    "-A CNI-FORWARD -d 10.1.0.2/32 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "-A CNI-FORWARD -s 10.1.0.2/32 -j ACCEPT",
)
OPEN = [
    '-C FORWARD -m comment --comment "CNI firewall plugin rules" -j CNI-FORWARD',
    '-C CNI-FORWARD -m comment --comment "CNI firewall plugin admin overrides" -j CNI-ADMIN',
]
BOTH = '-m comment --comment "CNI firewall plugin rules (ingressPolicy: same-bridge|isolated)"'
SAME = '-m comment --comment "CNI firewall plugin rules (ingressPolicy: same-bridge)"'
ONE, TWO = "CNI-ISOLATION-STAGE-1", "CNI-ISOLATION-STAGE-2"


def test_joining_under_an_open_policy():
    """Conditions, the chains as they are, then the container's own rules."""
    plans = rules.plans(IPS, 4, "CNI-ADMIN", "", "open")
    assert rules.joining(plans, rules.of_addresses(IPS, 4)) == [
        *OPEN,
        "-S FORWARD",
        "-S CNI-FORWARD",
        "-S CNI-ADMIN",
        *OWN,
    ]


def test_joining_under_a_policy_of_the_bridge():
    """Its rules, and those that all policies share, are conditions too."""
    plans = rules.plans(IPS, 4, "CNI-ADMIN", "br0", "same-bridge")
    assert rules.joining(plans, rules.of_addresses(IPS, 4)) == [
        *OPEN,
        f"-C FORWARD {BOTH} -j {ONE}",
        f"-C {ONE} -i br0 ! -o br0 {SAME} -j {TWO}",
        f"-C {TWO} -o br0 {BOTH} -j DROP",
        f"-C {ONE} {BOTH} -j RETURN",
        f"-C {TWO} {BOTH} -j RETURN",
        "-S FORWARD",
        "-S CNI-FORWARD",
        "-S CNI-ADMIN",
        f"-S {ONE}",
        f"-S {TWO}",
        *OWN,
    ]


@pytest.mark.parametrize("policy", ["open", "same-bridge", "isolated"])
def test_own_rules_are_all_that_is_needed_where_the_others_are_in_place(policy):
    """And not where one is there already, or the isolation stands behind what accepts."""
    plans = rules.plans(IPS, 4, "CNI-ADMIN", "br0", policy)
    chains = [f":{chain} - [0:0]" for plan in plans for chain in plan.chains]
    shared = [rule for plan in reversed(plans) for rule in (*plan.first, *plan.last)]
    present = [*chains, *(rule for rule in shared if rule not in OWN)]
    assert rules.commands(present, plans) == list(OWN)
    assert rules.commands([*present, OWN[1]], plans) == [OWN[0]]
    if policy != "open":
        jump = next(rule for rule in present if rule.startswith(f"-A FORWARD {BOTH}"))
        behind = [*(line for line in present if line != jump), jump]
        assert rules.commands(behind, plans)[: len(OWN)] == list(OWN)
        assert len(rules.commands(behind, plans)) > len(OWN)
