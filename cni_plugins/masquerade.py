"""ipMasq: traffic that leaves a container's subnet takes the host's address.

What stands in the kernel is the reference suite's to the letter, so that either suite cleans up
what the other one made.  Plans are pure; applying one is one transaction per family.

iptables, table nat, one chain per network and container (attachments of one container share it)::

    -A CNI-<hash> -d <subnet> -j ACCEPT
    -A CNI-<hash> ! -d 224.0.0.0/4 -j MASQUERADE
    -A POSTROUTING -s <address> -j CNI-<hash>

nftables, one table for everything, one rule per address, told apart by its comment::

    table inet cni_plugins_masquerade { chain masq_checks { … } chain postrouting { … } }
"""

from __future__ import annotations

from functools import cached_property

from cni_plugins import json_text as json
from cni_plugins.errors import ConfigError, ExecError
from cni_plugins.frozen import Frozen
from cni_plugins.host.iptables import Iptables
from cni_plugins.host.nftables import Nftables, NotThere
from cni_plugins.protocol.digests import sha512

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cni_plugins.host.command import Runner
    from cni_plugins.protocol.addresses import Network

IPTABLES, NFTABLES = "iptables", "nftables"
BACKENDS = (IPTABLES, NFTABLES)
CHAIN_LENGTH = 28
"""The longest chain name that iptables takes."""
_MULTICAST = {4: "224.0.0.0/4", 6: "ff00::/8"}
_IP = {4: "ip", 6: "ip6"}

TABLE = "cni_plugins_masquerade"
CHECKS, POSTROUTING = "masq_checks", "postrouting"
COMMENT_BYTES = 128
"""The longest comment that nftables takes."""
_LIST_ATTEMPTS = 5


class Tools:
    """The firewall tools of the node."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner

    @cached_property
    def iptables(self) -> Iptables:
        """Iptables and ip6tables."""
        return Iptables(self.runner)

    @cached_property
    def nftables(self) -> Nftables:
        """Nft."""
        return Nftables(self.runner)


class Applied(Frozen, kw_only=False):
    """The backend that was used, and why."""

    backend: str
    reason: str


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
        return f"{_hash16(self.network)}-{_hash16(f'{self.ifname}:{self.container_id}')}"

    @property
    def comment(self) -> str:
        """The comment of its nftables rules."""
        named = f"net: {self.network}, if: {self.ifname}, id: {self.container_id}".replace('"', "")
        return f"{self.mark}, {named}"[:COMMENT_BYTES]


# --- plans --------------------------------------------------------------------------------------


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
    return json.dumps(text)


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
        *({"add": {"rule": rule}} for rule in _postrouting_rules()),
        *({"add": {"rule": nftables_rule(owner, ip)}} for ip in ips),
    )


def _postrouting_rules() -> tuple[dict[str, Any], ...]:
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


def _hash16(text: str) -> str:
    return sha512(text.encode()).hexdigest()[:16]


# --- verbs --------------------------------------------------------------------------------------


def has_tool(tools: Tools, backend: str) -> bool:
    """Whether the node has the tool of a backend; of any for ""."""
    installed = {IPTABLES: tools.iptables.is_installed(), NFTABLES: tools.nftables.is_installed()}
    return installed[backend] if backend else any(installed.values())


def choose(tools: Tools, backend: str) -> Applied:
    """The backend for a configuration that may leave it open.

    Raises:
        ConfigError: the node has none of those allowed.
    """
    if backend:
        if not has_tool(tools, backend):
            raise ConfigError(
                "ipMasqBackend",
                f"{backend}: its tool is not installed",
                f"searched {tools.runner.search_path}",
            )
        return Applied(backend, "the configuration names it")
    if tools.iptables.is_installed():
        return Applied(IPTABLES, "iptables-restore is installed")
    if tools.nftables.is_installed():
        return Applied(NFTABLES, "iptables-restore is not installed, nft is")
    raise ConfigError(
        "ipMasq",
        "neither iptables-restore nor nft is installed",
        f"searched {tools.runner.search_path}",
    )


def apply(tools: Tools, owner: Owner, ips: tuple[Network, ...], *, backend: str) -> Applied:
    """Masquerade what comes from ``ips``.

    Without a backend in the configuration nftables steps in for an iptables that does not work.

    Raises:
        CniError: nothing was changed in the family or table that failed.
    """
    chosen = choose(tools, backend)
    if chosen.backend == NFTABLES:
        tools.nftables.apply(nftables_plan(owner, ips))
        return chosen
    try:
        for family in _families(ips):
            _apply_iptables(tools.iptables, owner, ips, family)
    except ExecError as e:
        if backend or not tools.nftables.is_installed():
            raise
        discard(tools, owner, backends=(IPTABLES,), ips=ips)
        tools.nftables.apply(nftables_plan(owner, ips))
        return Applied(NFTABLES, f"iptables does not work: {e}")
    return chosen


def _apply_iptables(
    iptables: Iptables, owner: Owner, ips: tuple[Network, ...], family: int
) -> None:
    plan = iptables_plan(owner, ips, family)
    try:
        iptables.restore(family, "nat", (f"-N {owner.chain}", *plan))
    except ExecError as first:
        # the chain is there: of another attachment of this container, or of an ADD that died
        present = set(iptables.rules(family, "nat"))
        if not any(_declares(line, owner.chain) for line in present):
            raise
        lacking = [rule for rule in plan if rule not in present]
        try:
            iptables.restore(family, "nat", lacking)
        except ExecError as second:
            raise second from first


def discard(
    tools: Tools,
    owner: Owner,
    *,
    backends: tuple[str, ...] = BACKENDS,
    ips: tuple[Network, ...] = (),
) -> None:
    """Remove an attachment's rules; repeatable, and without knowing its addresses.

    Args:
        tools: the firewall tools.
        owner: the attachment.
        backends: where to look.
        ips: its addresses; without them every jump to the container's chain goes, also that of
            another attachment of the same container to the same network.
    """
    if IPTABLES in backends:
        for family in _families(ips) or (4, 6):
            _discard_iptables(tools.iptables, owner, ips, family)
    if NFTABLES in backends:
        _discard_nftables(tools.nftables, lambda comment: comment.startswith(owner.mark))


def _discard_iptables(
    iptables: Iptables, owner: Owner, ips: tuple[Network, ...], family: int
) -> None:
    present = iptables.rules(family, "nat")
    jumps = [rule for rule in present if rule.endswith(f" -j {owner.chain}")]
    sources = {f" -s {form} " for ip in ips for form in (ip.address.host, ip.masked)}
    own = [rule for rule in jumps if not sources or any(source in rule for source in sources)]
    commands = [f"-D{rule.removeprefix('-A')}" for rule in own]
    if len(own) == len(jumps) and any(_declares(line, owner.chain) for line in present):
        commands += [f"-F {owner.chain}", f"-X {owner.chain}"]
    if commands:
        iptables.restore(family, "nat", commands)


def _declares(line: str, chain: str) -> bool:
    return line.startswith(f":{chain} ")


def _discard_nftables(nftables: Nftables, is_doomed: Callable[[str], bool]) -> None:
    for attempt in range(_LIST_ATTEMPTS):
        handles = [
            rule["handle"]
            for rule in nftables.rules("inet", TABLE, CHECKS)
            if is_doomed(rule.get("comment", ""))
        ]
        if not handles:
            return
        chain = {"family": "inet", "table": TABLE, "chain": CHECKS}
        try:
            nftables.apply([{"delete": {"rule": {**chain, "handle": h}}} for h in handles])
        except NotThere:  # another process removed one of them since the listing
            if attempt == _LIST_ATTEMPTS - 1:
                raise
        else:
            return


def missing(tools: Tools, owner: Owner, ips: tuple[Network, ...], *, backend: str) -> list[str]:
    """What CHECK finds missing, one line for each rule."""
    if choose(tools, backend).backend == NFTABLES:
        return _missing_nftables(tools.nftables, owner, ips)
    lacking = []
    for family in _families(ips):
        present = set(tools.iptables.rules(family, "nat"))
        lacking += [
            f"masquerade rule is missing in table nat: {rule}"
            for rule in iptables_plan(owner, ips, family)
            if rule not in present
        ]
    return lacking


def _missing_nftables(nftables: Nftables, owner: Owner, ips: tuple[Network, ...]) -> list[str]:
    own = [
        rule["expr"]
        for rule in nftables.rules("inet", TABLE, CHECKS)
        if rule.get("comment", "").startswith(owner.mark)
    ]
    lacking = [
        f"masquerade rule for {ip} is missing in {TABLE} {CHECKS}"
        for ip in ips
        if nftables_rule(owner, ip)["expr"] not in own
    ]
    present = [rule["expr"] for rule in nftables.rules("inet", TABLE, POSTROUTING)]
    if [rule["expr"] for rule in _postrouting_rules()] != present:
        lacking.append(f"the rules of {TABLE} {POSTROUTING} were changed")
    return lacking


def gc(tools: Tools, network: str, keep: frozenset[tuple[str, str]]) -> None:
    """Remove the rules of a network's attachments that are not to be kept.

    Args:
        tools: the firewall tools.
        network: only rules that name it are looked at.
        keep: pairs of container id and ifname.
    """
    marks = {Owner(network, container_id, ifname).mark for container_id, ifname in keep}
    ours = f"{_hash16(network)}-"
    _discard_nftables(
        tools.nftables,
        lambda comment: comment.startswith(ours) and comment.partition(",")[0] not in marks,
    )
    chains = {Owner(network, container_id, "").chain for container_id, _ in keep}
    for family in (4, 6):
        _collect_iptables(tools.iptables, network, chains, family)


def _collect_iptables(iptables: Iptables, network: str, keep: set[str], family: int) -> None:
    """Chains whose rules carry this network's comment and that nobody to be kept owns."""
    named = json.dumps(f'name: "{network}" id: "')[1:-1]
    present = iptables.rules(family, "nat")
    doomed = {
        rule.split()[1]
        for rule in present
        if rule.startswith("-A CNI-") and named in rule and _is_masquerade_chain(rule.split()[1])
    } - keep
    commands = []
    for chain in sorted(doomed):
        commands += [
            f"-D{rule.removeprefix('-A')}" for rule in present if rule.endswith(f" -j {chain}")
        ]
        commands += [f"-F {chain}", f"-X {chain}"]
    if commands:
        iptables.restore(family, "nat", commands)


def _is_masquerade_chain(chain: str) -> bool:
    """Other plugins' chains have a prefix within, as in ``CNI-DN-…``."""
    digest = chain.removeprefix("CNI-")
    return len(chain) == CHAIN_LENGTH and all(c in "0123456789abcdef" for c in digest)


def _families(ips: tuple[Network, ...]) -> tuple[int, ...]:
    return tuple(sorted({ip.family for ip in ips}))
