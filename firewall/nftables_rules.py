"""firewall's rules for nftables, in a table of our own: nft's language, from pure functions.

Addresses, bridges and pairs of bridges are elements of sets, so the rules stay the same however
many containers there are.
"""

from __future__ import annotations

from firewall.conf import OPEN, SAME_BRIDGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni_plugins.masquerade_rules import Owner
    from cni_plugins.protocol.addresses import Network

FAMILY, TABLE = "inet", "cni_plugins_firewall"
ADMIN = "admin"
_T = f"{FAMILY} {TABLE}"
_ADDRESSES = {4: "addresses4", 6: "addresses6"}
_BRIDGES, _OPEN_WITHIN = "bridges", "open_within"


def skeleton() -> list[str]:
    """Table, sets, chains and their rules as they have to be; the administrator's chain stays.

    Order: the administrator, then isolation, then what containers may.
    """
    lines = [f"add table {_T}"]
    lines += [f"add set {_T} {name} {{ type ipv{f}_addr; }}" for f, name in _ADDRESSES.items()]
    lines += [
        f"add set {_T} {_BRIDGES} {{ type ifname; }}",
        f"add set {_T} {_OPEN_WITHIN} {{ type ifname . ifname; }}",
        f"add chain {_T} {ADMIN}",
        f"add chain {_T} forward {{ type filter hook forward priority 0; }}",
        f"flush chain {_T} forward",
    ]
    return [*lines, *(f"add rule {_T} forward {rule}" for rule in rules())]


def rules() -> list[str]:
    """The rules of the forward chain."""
    found = [
        f"jump {ADMIN}",
        f"iifname . oifname @{_OPEN_WITHIN} accept",
        f"iifname @{_BRIDGES} oifname @{_BRIDGES} drop",
    ]
    for family, name in _ADDRESSES.items():
        word = "ip" if family == 4 else "ip6"
        found += [
            f"{word} daddr @{name} ct state related,established accept",
            f"{word} saddr @{name} accept",
        ]
    return found


def elements(ips: Sequence[Network], owner: Owner) -> list[str]:
    """Commands that put a container's addresses into the sets, whoever had them before."""
    lines = []
    for ip in ips:
        name = _ADDRESSES[ip.family]
        lines += [
            f"add element {_T} {name} {{ {ip.address} }}",
            f"delete element {_T} {name} {{ {ip.address} }}",
            f'add element {_T} {name} {{ {ip.address} comment "{owner.comment}" }}',
        ]
    return lines


def policy_elements(bridge: str, policy: str) -> list[str]:
    """Commands that give a bridge its policy, whichever it had before."""
    if policy == OPEN:
        return []
    pair = f'{{ "{bridge}" . "{bridge}" }}'
    lines = [
        f'add element {_T} {_BRIDGES} {{ "{bridge}" }}',
        f"add element {_T} {_OPEN_WITHIN} {pair}",
    ]
    return (
        lines if policy == SAME_BRIDGE else [*lines, f"delete element {_T} {_OPEN_WITHIN} {pair}"]
    )


def deletions(ips: Sequence[Network]) -> list[str]:
    """Commands that take addresses out of the sets."""
    return [f"delete element {_T} {_ADDRESSES[ip.family]} {{ {ip.address} }}" for ip in ips]


def set_of(family: int) -> str:
    """The name of a family's set."""
    return _ADDRESSES[family]


def policy_missing(
    bridge: str, policy: str, bridges: Sequence[str], open_within: Sequence[str]
) -> list[str]:
    """What CHECK finds wrong with a bridge's policy.

    Args:
        bridge: its name.
        policy: what it should have.
        bridges: the elements of that set.
        open_within: the first bridges of the pairs in that set.
    """
    if policy == OPEN:
        return []
    found = [] if bridge in bridges else [f"{bridge} is missing in set {_BRIDGES} of {TABLE}"]
    is_open = bridge in open_within
    if is_open != (policy == SAME_BRIDGE):
        state = "present in" if is_open else "missing in"
        found.append(f"{bridge} is {state} set {_OPEN_WITHIN} of {TABLE}, its policy is {policy}")
    return found


def sets() -> tuple[str, str]:
    """The names of the sets of bridges and of pairs."""
    return _BRIDGES, _OPEN_WITHIN
