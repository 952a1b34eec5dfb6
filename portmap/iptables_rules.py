"""portmap's rules for iptables: pure functions from what is there to the commands that are needed.

Chains, rules and comments are the reference suite's, so that either suite's DEL cleans up; all of
them are in table nat.  Rules are written as iptables-save prints them.
"""

from __future__ import annotations

from cni_plugins import jsontext
from cni_plugins.frozen import Frozen
from cni_plugins.protocol.digests import sha512

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from collections.abc import Iterable, Iterator, Sequence

    from cni_plugins.protocol.addresses import Network
    from portmap.conf import Mapping, PortmapConf

TABLE = "nat"
ENTRY, SETMARK, MASQ = "CNI-HOSTPORT-DNAT", "CNI-HOSTPORT-SETMARK", "CNI-HOSTPORT-MASQ"
_LENGTH, _COMMENT_BYTES, _PORTS_A_RULE = 28, 255, 15
_TO_SETMARK = '-m comment --comment "CNI portfwd masquerade mark" -j MARK --set-xmark'
_TO_MASQ = f'-m comment --comment "CNI portfwd requiring masquerade" -j {MASQ}'
_LOCAL = f"-m addrtype --dst-type LOCAL -j {ENTRY}"
_DNAT = (
    r"-A (?P<chain>CNI-DN-\w+) (?:-d (?P<ip>\S+)/\d+ )?-p (?P<protocol>\w+) "
    r"-m \w+ --dport (?P<port>\d+) -j DNAT --to-destination (?P<to>\S+)"
)
_JUMP = rf'-A {ENTRY} .*--comment "(?P<comment>.*)" -m .* -j (?P<chain>CNI-DN-\w+)'


class Plan(Frozen, kw_only=False):
    """What one family needs: shared chains with their rules and jumps, and the container's own."""

    chain: str
    shared: tuple[str, ...]
    shared_rules: tuple[str, ...]
    first_jumps: tuple[str, ...]
    jumps: tuple[str, ...]
    rules: tuple[str, ...]
    entries: tuple[str, ...]


class Holder(Frozen, kw_only=False):
    """Who has a host port already: its chain, the container's address and port, its comment."""

    chain: str
    port: str
    target: str
    comment: str


def chain_name(network: str, container_id: str, prefix: str = "DN-") -> str:
    """The name of a container's chain."""
    digest = sha512(f"{network}{container_id}".encode()).hexdigest()
    return f"CNI-{prefix}{digest}"[:_LENGTH]


def comment(network: str, container_id: str) -> str:
    """The comment of the jumps to a container's chain."""
    text = f'dnat name: "{network}" id: "{container_id}"'
    return text if len(text) <= _COMMENT_BYTES else f"{text[:253]}..."


def plan(network: str, container_id: str, conf: PortmapConf, family: int) -> Plan:
    """The rules of one family."""
    chain = chain_name(network, container_id)
    own = [mapping for mapping in conf.mappings if mapping.is_of(family)]
    setmark = conf.external_set_mark_chain or SETMARK
    marks_here = conf.snat and not conf.external_set_mark_chain
    mark = f"{conf.mark:#x}/{conf.mark:#x}"
    rules: list[str] = []
    for mapping in own:
        rules += _rules(chain, mapping, conf, conf.targets[family], setmark)
    return Plan(
        chain=chain,
        shared=(SETMARK, MASQ, ENTRY) if marks_here else (ENTRY,),
        shared_rules=(
            (f"-A {SETMARK} {_TO_SETMARK} {mark}", f"-A {MASQ} -m mark --mark {mark} -j MASQUERADE")
            if marks_here
            else ()
        ),
        first_jumps=(f"-A POSTROUTING {_TO_MASQ}",) if marks_here else (),
        jumps=(f"-A PREROUTING {_LOCAL}", f"-A OUTPUT {_LOCAL}"),
        rules=tuple(dict.fromkeys(rules)),
        entries=tuple(_entries(chain, comment(network, container_id), conf, family)),
    )


def _rules(chain: str, mapping: Mapping, conf: PortmapConf, ip: Network, setmark: str) -> list[str]:
    port = f"-p {mapping.protocol} -m {mapping.protocol} --dport {mapping.host_port}"
    only_on = mapping.only_on
    match = f"-d {only_on}/{32 if only_on.family == 4 else 128} {port}" if only_on else port
    found = []
    if conf.snat:
        source = "" if conf.masq_all else f"-s {ip.masked} "
        found.append(f"-A {chain} {source}{match} -j {setmark}")
        if ip.family == 4 and not conf.masq_all:
            found.append(f"-A {chain} -s 127.0.0.1/32 {match} -j {setmark}")
    address = str(ip.address) if ip.family == 4 else f"[{ip.address}]"
    to = f"{address}:{mapping.container_port}"
    found.append(f"-A {chain} {match} -j DNAT --to-destination {to}")
    return found


def _entries(chain: str, said: str, conf: PortmapConf, family: int) -> Iterable[str]:
    """The jumps to a container's chain: one for each protocol and 15 ports."""
    conditions = "".join(f" {_quoted(token)}" for token in conf.conditions(family))
    for protocol in sorted({mapping.protocol for mapping in conf.mappings}):
        ports = [str(m.host_port) for m in conf.mappings if m.protocol == protocol]
        ports = list(dict.fromkeys(ports))
        for i in range(0, len(ports), _PORTS_A_RULE):
            listed = ",".join(ports[i : i + _PORTS_A_RULE])
            yield (
                f"-A {ENTRY} -p {protocol} -m comment --comment {jsontext.dumps(said)} "
                f"-m multiport --dports {listed}{conditions} -j {chain}"
            )


def commands(present: Sequence[str], wanted: Plan) -> list[str]:
    """What makes the table as it is wanted; the container's own chain is made anew."""
    declared, rules = _declared(present), set(present)
    found = [f"-N {chain}" for chain in wanted.shared if chain not in declared]
    found += [rule for rule in wanted.shared_rules if rule not in rules]
    for jump in wanted.first_jumps:
        if jump not in rules:
            chain, _, rest = jump.removeprefix("-A ").partition(" ")
            found.append(f"-I {chain} 1 {rest}")
    found += [jump for jump in wanted.jumps if jump not in rules]
    stale = _jumps_to(present, wanted.chain)
    found += [f"-D{jump.removeprefix('-A')}" for jump in stale]
    found.append(f"{'-F' if wanted.chain in declared else '-N'} {wanted.chain}")
    return [*found, *wanted.rules, *wanted.entries]


def joining(wanted: Plan) -> list[str]:
    """What adds a container where all that is shared is there, and shows the jumps before it does.

    It does nothing at all where something shared is missing, or where the container's own chain is
    there already.
    """
    shared = (*wanted.shared_rules, *wanted.first_jumps, *wanted.jumps)
    conditions = [f"-C{rule.removeprefix('-A')}" for rule in shared]
    shown = f"-S {ENTRY}"  # and not what the jumps lead to: a table may have ten thousand ports
    return [*conditions, shown, f"-N {wanted.chain}", *wanted.rules, *wanted.entries]


def noted_removal(chain: str, entries: Sequence[str]) -> list[str]:
    """What removes a chain with those jumps to it, and does nothing if they are not all."""
    return [*(f"-D{entry.removeprefix('-A')}" for entry in entries), f"-F {chain}", f"-X {chain}"]


def removal(present: Sequence[str], network: str, container_id: str) -> list[str]:
    """What removes a container's chain, and the one that older releases made."""
    chains = (chain_name(network, container_id), chain_name(network, container_id, "SN-"))
    return [command for chain in chains for command in removal_of(present, chain)]


def removal_of(present: Sequence[str], chain: str) -> list[str]:
    """What removes a chain with the jumps to it."""
    found = [f"-D{jump.removeprefix('-A')}" for jump in _jumps_to(present, chain)]
    if chain in _declared(present):
        found += [f"-F {chain}", f"-X {chain}"]
    return found


def missing(present: Sequence[str], wanted: Plan) -> list[str]:
    """What CHECK finds missing; conditions do not count, the kernel may print them otherwise."""
    lacking = [
        rule
        for rule in (*wanted.shared_rules, *wanted.first_jumps, *wanted.jumps, *wanted.rules)
        if rule not in present
    ]
    jumps = _jumps_to(present, wanted.chain)
    lacking += [
        entry
        for entry in wanted.entries
        if not any(all(part in jump for part in _places(entry)) for jump in jumps)
    ]
    return lacking


def _places(entry: str) -> list[str]:
    """Protocol and ports of a jump: what conditions do not change."""
    words = entry.split(" ")
    return [f"{name} {words[words.index(name) + 1]} " for name in ("-p", "--dports")]


def may_be_held(jumps: Sequence[str], mappings: Iterable[Mapping]) -> bool:
    """Whether somebody may have one of the ports already: jumps do not tell on which address."""
    asked = {(m.protocol, m.host_port) for m in mappings}
    return any(
        f" -p {protocol} " in jump and _is_among(port, jump)
        for jump in jumps
        if jump.startswith(f"-A {ENTRY} ")
        for protocol, port in asked
    )


def _is_among(port: int, jump: str) -> bool:
    """Whether a jump is taken for a port: those behind its ``--dport`` or ``--dports``."""
    _, found, behind = jump.rpartition(" --dport")
    listed = behind.removeprefix("s").split()[0] if found else ""
    ranges = (entry.partition(":") for entry in listed.split(","))
    return any(
        first.isdigit() and int(first) <= port <= int(last or first) for first, _, last in ranges
    )


def holders(present: Sequence[str], wanted: Plan, mappings: Iterable[Mapping]) -> list[Holder]:
    """Other containers that have one of the ports already, on an address that overlaps."""
    asked = {(m.protocol, str(m.host_port)): [] for m in mappings}  # type: ignore[var-annotated]
    for m in mappings:
        asked[m.protocol, str(m.host_port)].append(str(m.only_on) if m.only_on else None)
    matches = _matches(_DNAT, (line for line in present if " -j DNAT " in line))
    rules = [
        rule
        for rule in matches
        if rule["chain"] != wanted.chain and (rule["protocol"], rule["port"]) in asked
    ]
    if not rules:  # as nearly always
        return []
    comments = {match["chain"]: match["comment"] for match in _matches(_JUMP, present)}
    found = []
    for rule in rules:
        if rule["chain"] not in comments:
            continue
        for ip in asked[rule["protocol"], rule["port"]]:
            if ip is None or rule["ip"] is None or ip == rule["ip"]:
                place = f"{rule['ip'] or '*'}:{rule['port']}/{rule['protocol']}"
                text = comments[rule["chain"]].replace('\\"', '"').removeprefix("dnat ")
                found.append(Holder(rule["chain"], place, rule["to"], text))
    return found


def of_network(present: Sequence[str], network: str) -> dict[str, str]:
    """The chains of a network's containers, with their comments."""
    start = comment(network, "")[:-1].replace('"', '\\"')
    return {
        match["chain"]: match["comment"].replace('\\"', '"')
        for match in _matches(_JUMP, present)
        if match["comment"].startswith(start)
    }


def _matches(pattern: str, lines: Iterable[str]) -> Iterator[re.Match[str]]:
    for line in lines:
        import re  # noqa: PLC0415 - few calls have lines to look at

        match = re.match(pattern, line)
        if match:
            yield match


def _quoted(token: str) -> str:
    """A token as iptables-restore reads it: it knows double quotes only."""
    is_plain = not any(c.isspace() or c in "\"'" for c in token)
    return token if is_plain else jsontext.dumps(token)


def _declared(present: Sequence[str]) -> set[str]:
    return {line[1:].split(" ", 1)[0] for line in present if line.startswith(":")}


def _jumps_to(present: Sequence[str], chain: str) -> list[str]:
    return [line for line in present if line.startswith("-A") and line.endswith(f" -j {chain}")]
