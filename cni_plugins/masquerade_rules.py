"""The rules of ipMasq, by pure functions: names, plans, and what removes them.

What stands in the kernel is the reference suite's to the letter, so that either suite cleans up
what the other one made.

iptables, table nat, one chain per network and container (attachments of one container share it)::

    -A CNI-<hash> -d <subnet> -j ACCEPT
    -A CNI-<hash> ! -d 224.0.0.0/4 -j MASQUERADE
    -A POSTROUTING -s <address> -j CNI-<hash>

nftables, one table for everything, one rule per address, told apart by its comment::

    table inet cni_plugins_masquerade { chain masq_checks { … } chain postrouting { … } }
"""

from __future__ import annotations

from cni_plugins import jsontext
from cni_plugins.frozen import Frozen
from cni_plugins.protocol.digests import sha512

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from cni_plugins.protocol.addresses import Network

CHAIN_LENGTH = 28
"""The longest chain name that iptables takes."""
_MULTICAST = {4: "224.0.0.0/4", 6: "ff00::/8"}
_IP = {4: "ip", 6: "ip6"}

TABLE = "cni_plugins_masquerade"
CHECKS, POSTROUTING = "masq_checks", "postrouting"
COMMENT_BYTES = 128
"""The longest comment that nftables takes."""


class Owner(Frozen, kw_only=False):
    """The attachment that rules belong to."""

    network: str
    container_id: str
    ifname: str

    @property
    def chain(self) -> str:
        """Its iptables chain."""
        return chain_name(self.network, self.container_id)

    @property
    def mark(self) -> str:
        """The start of its nftables comment."""
        return f"{hash16(self.network)}-{hash16(f'{self.ifname}:{self.container_id}')}"

    @property
    def comment(self) -> str:
        """The comment of its nftables rules."""
        named = f"net: {self.network}, if: {self.ifname}, id: {self.container_id}".replace('"', "")
        return f"{self.mark}, {named}"[:COMMENT_BYTES]


def chain_name(network: str, container_id: str, prefix: str = "") -> str:
    """The reference suite's name for a container's chain: 28 characters.

    Raises:
        ValueError: the prefix leaves no room for a hash.
    """
    start = f"CNI-{prefix}"
    if len(start) >= CHAIN_LENGTH:
        raise ValueError(f"invalid length of prefix {prefix!r}")
    digest = sha512(f"{network}{container_id}".encode()).hexdigest()
    return (start + digest)[:CHAIN_LENGTH]


def iptables_comment(network: str, container_id: str) -> str:
    """The comment of every iptables rule, as it stands in a rule file."""
    text = f'name: "{network}" id: "{container_id}"'
    return jsontext.dumps(text)


def iptables_plan(owner: Owner, ips: tuple[Network, ...], family: int) -> tuple[str, ...]:
    """The rules of one family, in order: chain first, then the jumps to it."""
    own = [ip for ip in ips if ip.family == family]
    comment = f"-m comment --comment {iptables_comment(owner.network, owner.container_id)}"
    rules = []
    for ip in own:
        rules.append(f"-A {owner.chain} -d {ip.masked} {comment} -j ACCEPT")
        rules.append(f"-A {owner.chain} ! -d {_MULTICAST[family]} {comment} -j MASQUERADE")
    rules += [f"-A POSTROUTING -s {ip.address.host} {comment} -j {owner.chain}" for ip in own]
    return tuple(dict.fromkeys(rules))


def nftables_plan(owner: Owner, ips: tuple[Network, ...]) -> tuple[dict[str, Any], ...]:
    """The whole transaction: table and chains as they have to be, and this attachment's rules."""
    table = {"family": "inet", "table": TABLE}
    hook = {"type": "nat", "hook": "postrouting", "prio": 100}
    return (
        {"add": {"table": {"family": "inet", "name": TABLE}}},
        {"add": {"chain": {**table, "name": CHECKS}}},
        {"add": {"chain": {**table, "name": POSTROUTING, **hook}}},
        {"flush": {"chain": {**table, "name": POSTROUTING}}},
        *({"add": {"rule": rule}} for rule in postrouting_rules()),
        *({"add": {"rule": nftables_rule(owner, ip)}} for ip in ips),
    )


def postrouting_rules() -> tuple[dict[str, Any], ...]:
    """The rules of the chain that the kernel calls: no multicast, then everybody's addresses."""
    chain = {"family": "inet", "table": TABLE, "chain": POSTROUTING}
    exempt = [
        _match(_IP[family], "daddr", "==", _prefix(network), {"return": None})
        for family, network in _MULTICAST.items()
    ]
    return tuple({**chain, "expr": e} for e in (*exempt, [{"goto": {"target": CHECKS}}]))


def nftables_rule(owner: Owner, ip: Network) -> dict[str, Any]:
    """The rule of one address."""
    protocol = _IP[ip.family]
    elsewhere = _match(protocol, "daddr", "!=", _prefix(str(ip.masked)), {"masquerade": None})
    return {
        "family": "inet",
        "table": TABLE,
        "chain": CHECKS,
        "expr": [*_match(protocol, "saddr", "==", str(ip.address)), *elsewhere],
        "comment": owner.comment,
    }


def _match(
    protocol: str, field: str, op: str, right: Any, *then: dict[str, Any]
) -> list[dict[str, Any]]:
    left = {"payload": {"protocol": protocol, "field": field}}
    return [{"match": {"op": op, "left": left, "right": right}}, *then]


def _prefix(network: str) -> dict[str, Any]:
    address, _, length = network.partition("/")
    return {"prefix": {"addr": address, "len": int(length)}}


def hash16(text: str) -> str:
    """The hash by which rules name networks and attachments."""
    return sha512(text.encode()).hexdigest()[:16]


def noted_removal(owner: Owner, ips: tuple[Network, ...], family: int) -> list[str]:
    """What removes a chain that nobody else has a jump to."""
    jumps = [r for r in iptables_plan(owner, ips, family) if r.endswith(f" -j {owner.chain}")]
    return [*map(_deleted, jumps), f"-F {owner.chain}", f"-X {owner.chain}"]


def removal(present: Sequence[str], owner: Owner, ips: tuple[Network, ...]) -> list[str]:
    """What removes the jumps of some addresses, or all of them, and a chain that then has none."""
    jumps = [rule for rule in present if rule.endswith(f" -j {owner.chain}")]
    sources = {f" -s {form} " for ip in ips for form in (ip.address.host, ip.masked)}
    own = [rule for rule in jumps if not sources or any(source in rule for source in sources)]
    commands = [_deleted(rule) for rule in own]
    if len(own) == len(jumps) and any(declares(line, owner.chain) for line in present):
        commands += [f"-F {owner.chain}", f"-X {owner.chain}"]
    return commands


def _deleted(rule: str) -> str:
    return f"-D{rule.removeprefix('-A')}"


def declares(line: str, chain: str) -> bool:
    """Whether a line of a listing declares a chain."""
    return line.startswith(f":{chain} ")


def collection(present: Sequence[str], network: str, keep: set[str]) -> list[str]:
    """Remove chains with this network's comment that nobody to be kept owns."""
    named = jsontext.dumps(f'name: "{network}" id: "')[1:-1]
    doomed = {
        rule.split()[1]
        for rule in present
        if rule.startswith("-A CNI-") and named in rule and _is_masquerade_chain(rule.split()[1])
    } - keep
    commands = []
    for chain in sorted(doomed):
        commands += [_deleted(rule) for rule in present if rule.endswith(f" -j {chain}")]
        commands += [f"-F {chain}", f"-X {chain}"]
    return commands


def _is_masquerade_chain(chain: str) -> bool:
    """Other plugins' chains have a prefix within, as in ``CNI-DN-…``."""
    digest = chain.removeprefix("CNI-")
    return len(chain) == CHAIN_LENGTH and all(c in "0123456789abcdef" for c in digest)
