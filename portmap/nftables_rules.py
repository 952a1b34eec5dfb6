"""portmap's rules for nftables, in a table of our own: pure functions that give nft's language.

A packet to one of the host's addresses is looked up once in a map by address, protocol and port and
once by protocol and port, so ten thousand ports cost what ten do.  Every element's comment begins
with the mark of its attachment.
"""

from __future__ import annotations

from cni_plugins.frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from cni_plugins.masquerade_rules import Owner
    from portmap.conf import PortmapConf

FAMILY, TABLE = "inet", "cni_plugins_portmap"
CONDITIONAL = "conditional"
OLD_TABLE = "cni_hostport"
"""The reference's table, in the families ip and ip6; its rules' comments are container ids."""
OLD_CHAINS = ("hostports", "hostip_hostports", "masquerading")
_T = f"{FAMILY} {TABLE}"
_WORD = {4: "ip", 6: "ip6"}


class Element(Frozen, kw_only=False):
    """An element of a map or set; ``value`` is "" in sets."""

    place: str
    key: str
    value: str = ""

    def text(self, comment: str = "") -> str:
        """In nft's language."""
        said = f' comment "{comment}"' if comment else ""
        return f"{{ {self.key}{said}{f' : {self.value}' if self.value else ''} }}"


def skeleton() -> list[str]:
    """Table, maps, chains and their rules as they have to be; what is there already stays."""
    lines = [f"add table {_T}"]
    for family in (4, 6):
        address = f"ipv{family}_addr"
        to = f"{address} . inet_service"
        port = "inet_proto . inet_service"
        lines += [
            f"add map {_T} host{family} {{ type {address} . {port} : {to}; }}",
            f"add map {_T} any{family} {{ type {port} : {to}; }}",
            f"add set {_T} hairpin{family} {{ type {address} . {address}; flags interval; }}",
            f"add set {_T} masquerade{family} {{ type {address}; }}",
        ]
    hooks = (("prerouting", -100), ("output", -100), ("postrouting", 100))
    lines += [f"add chain {_T} {name}" for name in (CONDITIONAL, "hostports")]
    lines += [
        f"add chain {_T} {name} {{ type nat hook {name} priority {priority}; }}"
        for name, priority in hooks
    ]
    lines += [f"flush chain {_T} {name}" for name in ("hostports", *(hook for hook, _ in hooks))]
    lines.append(f"add rule {_T} hostports jump {CONDITIONAL}")
    for family, word in _WORD.items():
        port = "meta l4proto . th dport map"
        lines += [
            f"add rule {_T} hostports dnat {word} to {word} daddr . {port} @host{family}",
            f"add rule {_T} hostports meta nfproto ipv{family} dnat {word} to {port} @any{family}",
        ]
    lines += [
        f"add rule {_T} {hook} fib daddr type local jump hostports"
        for hook in ("prerouting", "output")
    ]
    for family, word in _WORD.items():
        pair = f"{word} saddr . {word} daddr @hairpin{family}"
        lines += [
            f"add rule {_T} postrouting ct status dnat {pair} masquerade",
            f"add rule {_T} postrouting ct status dnat {word} daddr @masquerade{family} masquerade",
        ]
    return lines


def elements(conf: PortmapConf) -> list[Element]:
    """What an attachment puts into maps and sets."""
    found = []
    for family, ip in conf.targets.items():
        for mapping in conf.mappings:
            if not mapping.is_of(family) or conf.conditions(family):
                continue
            port = f"{mapping.protocol} . {mapping.host_port}"
            to = f"{ip.address} . {mapping.container_port}"
            if mapping.only_on is None:
                found.append(Element(f"any{family}", port, to))
            else:
                found.append(Element(f"host{family}", f"{mapping.only_on} . {port}", to))
        if conf.snat and conf.masq_all:
            found.append(Element(f"masquerade{family}", str(ip.address)))
        elif conf.snat:
            found.append(Element(f"hairpin{family}", f"{ip.masked} . {ip.address}"))
            if family == 4:
                found.append(Element("hairpin4", f"127.0.0.1 . {ip.address}"))
    return list(dict.fromkeys(found))


def conditional_rules(conf: PortmapConf, owner: Owner) -> list[str]:
    """Rules instead of elements for mappings that have conditions."""
    found = []
    for family, ip in conf.targets.items():
        conditions = " ".join(conf.conditions(family))
        word = _WORD[family]
        for mapping in conf.mappings if conditions else ():
            if not mapping.is_of(family):
                continue
            only_on = f"{word} daddr {mapping.only_on} " if mapping.only_on else ""
            address = str(ip.address) if family == 4 else f"[{ip.address}]"
            found.append(
                f"add rule {_T} {CONDITIONAL} meta nfproto ipv{family} {conditions} {only_on}"
                f"{mapping.protocol} dport {mapping.host_port} "
                f'dnat {word} to {address}:{mapping.container_port} comment "{owner.comment}"'
            )
    return found


def additions(found: Iterable[Element], owner: Owner) -> list[str]:
    """Commands that add elements."""
    return [f"add element {_T} {e.place} {e.text(owner.comment)}" for e in found]


def deletions(found: Iterable[Element]) -> list[str]:
    """Commands that delete elements."""
    return [f"delete element {_T} {e.place} {e.text()}" for e in found]


def rule_deletions(family: str, table: str, objects: Sequence[dict[str, Any]]) -> list[str]:
    """Commands that delete rules by their handles."""
    return [
        f"delete rule {family} {table} {rule['chain']} handle {rule['handle']}" for rule in objects
    ]


def marked(objects: Sequence[dict[str, Any]]) -> list[tuple[str, Element]]:
    """Every element of a listed table with its comment."""
    found = []
    for entry in objects:
        for kind in ("map", "set"):
            if kind in entry:
                body = entry[kind]
                found += [_element(body["name"], kind, e) for e in body.get("elem", [])]
    return found


def _element(place: str, kind: str, listed: Any) -> tuple[str, Element]:
    key, value = listed if kind == "map" else (listed, None)
    comment = ""
    if isinstance(key, dict) and "elem" in key:
        comment, key = key["elem"].get("comment", ""), key["elem"]["val"]
    return comment, Element(place, _text(key), "" if value is None else _text(value))


def _text(value: Any) -> str:
    if isinstance(value, dict) and "concat" in value:
        return " . ".join(_text(part) for part in value["concat"])
    if isinstance(value, dict) and "prefix" in value:
        return f"{value['prefix']['addr']}/{value['prefix']['len']}"
    return str(value)


def clashes(
    found: Sequence[tuple[str, Element]], wanted: Sequence[Element]
) -> list[tuple[str, Element]]:
    """Elements of others that have one of the ports already, on an address that overlaps."""
    clashing = []
    for comment, present in found:
        if present.place[:-1] not in {"any", "host"}:
            continue
        for element in wanted:
            if element.place[:-1] not in {"any", "host"} or element.place[-1] != present.place[-1]:
                continue
            is_same = element.place == present.place and element.key == present.key
            wide, narrow = sorted((element, present), key=lambda e: e.place)
            overlaps = wide.place != narrow.place and narrow.key.endswith(f" . {wide.key}")
            if (is_same and element.value != present.value) or overlaps:
                clashing.append((comment, present))
    return clashing
