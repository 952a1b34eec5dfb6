"""Routes with all their attributes, to be moved between tables, and rules that choose a table.

Source: ip-route(8), ip-rule(8), rtnetlink(7).
"""

from __future__ import annotations

import errno
import struct

from cni_plugins.errors import KernelError
from cni_plugins.frozen import Frozen, as_dict, fresh, replace
from cni_plugins.host import messages
from cni_plugins.host.messages import AF, ROUTE_HEADER, RTN_UNICAST
from cni_plugins.host.netlink import (
    CREATE,
    EXCLUSIVE,
    REPLACE,
    attribute,
    attributes,
    number_of,
    u32,
)
from cni_plugins.host.rtnl import DEL_ROUTE, DEL_RULE, GET_RULE, NEW_ROUTE, NEW_RULE
from cni_plugins.host.snapshots import Hop, read_hops, read_ip
from cni_plugins.protocol.addresses import Address, Network, parse_address, parse_network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_plugins.host.links import Links
    from cni_plugins.host.snapshots import Link

MAIN_TABLE = 254
SCOPE_UNIVERSE, SCOPE_LINK = 0, 253
BY_KERNEL = 2
"""Protocol of the routes that the kernel makes for addresses."""
_BOOT = 3
_CLONED, _ONLINK = 0x200, 0x4
_METRICS = (
    *("", "lock", "mtu", "window", "rtt", "rttvar", "ssthresh", "cwnd", "advmss", "reordering"),
    *("hoplimit", "initcwnd", "features", "rto_min", "initrwnd", "quickack", ""),
    "fastopen_no_cookie",
)
"""RTAX_… by number; the one that is a name, cc_algo, is left out."""
_RULE_HEADER = struct.Struct("=8BI")
"""struct fib_rule_hdr: family, prefix of destination and source, TOS, table, two unused, action,
flags."""
_FRA_SRC, _FRA_PRIORITY, _FRA_TABLE = 2, 6, 15
_TO_TABLE = 1
_GONE = frozenset({errno.ESRCH, errno.ENOENT, errno.ENODEV, errno.ENETUNREACH, errno.EADDRNOTAVAIL})


class HeldRoute(Frozen):
    """A unicast route as the kernel has it.

    ``metrics`` by the kernel's names for them, RTAX_…; ``hops`` are its next hops where it has
    several.
    """

    dst: Network
    table: int = MAIN_TABLE
    oif: int = 0
    gw: Address | None = None
    src: Address | None = None
    scope: int = SCOPE_UNIVERSE
    protocol: int = _BOOT
    priority: int = 0
    is_onlink: bool = False
    metrics: dict[str, int] = fresh(dict)
    hops: tuple[Hop, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """A JSON object of all fields."""
        texts = {
            "dst": str(self.dst),
            "gw": str(self.gw) if self.gw else None,
            "src": str(self.src) if self.src else None,
            "metrics": dict(self.metrics),
            "hops": [_hop_as_json(hop) for hop in self.hops],
        }
        return {**as_dict(self), **texts}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> HeldRoute:
        """Of the object that :meth:`as_json` makes."""
        gw, src = document["gw"], document["src"]
        parsed = {
            "dst": parse_network(document["dst"]),
            "gw": parse_address(gw) if gw else None,
            "src": parse_address(src) if src else None,
            "hops": tuple(_hop_from_json(hop) for hop in document["hops"]),
        }
        return cls(**{**document, **parsed})

    def __str__(self) -> str:
        via = f" via {self.gw}" if self.gw else ""
        return f"route {self.dst}{via} of table {self.table}"


class Rule(Frozen):
    """A rule that sends what comes from a network to a table; ``src`` None for everything."""

    family: int
    table: int
    priority: int
    src: Network | None

    def __str__(self) -> str:
        return f"rule from {self.src} to table {self.table}"


def held(links: Links, family: int, *, table: int = MAIN_TABLE) -> tuple[HeldRoute, ...]:
    """The unicast routes of a table, whole."""
    found = links.list_routes(f"list routes of table {table}", family, table)
    headers = ((m, ROUTE_HEADER.unpack_from(m)) for m in found)
    return tuple(
        _read(m, family)
        for m, (*_, kind, flags) in headers
        if kind == RTN_UNICAST and not flags & _CLONED
    )


def is_on(route: HeldRoute, link: Link) -> bool:
    """Whether a route, or one of its hops, leads through a link."""
    return route.oif == link.index or any(hop.oif == link.index for hop in route.hops)


def put(links: Links, route: HeldRoute) -> None:
    """Make a route, in place of another one for the same destination and metric."""
    links.rtnl.request(f"set {route}", NEW_ROUTE, _message(route), flags=CREATE | REPLACE)


def add(links: Links, route: HeldRoute) -> None:
    """Make a route that is not there yet."""
    links.rtnl.request(f"add {route}", NEW_ROUTE, _message(route), flags=CREATE | EXCLUSIVE)


def discard(links: Links, route: HeldRoute) -> None:
    """Delete a route; one that is gone is fine."""
    bare = replace(route, metrics={})
    try:
        links.rtnl.request(f"delete {route}", DEL_ROUTE, _message(bare))
    except KernelError as e:
        if e.errno not in _GONE:
            raise


def rules(links: Links, family: int) -> tuple[Rule, ...]:
    """The rules of a family, as the kernel orders them."""
    body = _RULE_HEADER.pack(AF[family], *(0,) * 8)
    found = links.rtnl.dump("list routing rules", GET_RULE, body)
    return tuple(_read_rule(message, family) for message in found)


def _read_rule(message: bytes, family: int) -> Rule:
    header = _RULE_HEADER.unpack_from(message)
    given = attributes(message, _RULE_HEADER.size)
    src = given.get(_FRA_SRC)
    return Rule(
        family=family,
        table=number_of(given.get(_FRA_TABLE)) or header[4],
        priority=number_of(given.get(_FRA_PRIORITY)),
        src=Network(read_ip(src), header[2]) if src else None,
    )


def add_rule(links: Links, src: Address, table: int) -> Rule:
    """What comes from an address is routed by a table.

    The rule stands where the kernel would put one without a priority, before all but the first
    (fib_default_rule_pref of net/core/fib_rules.c).
    """
    _, second, *_ = sorted(rule.priority for rule in rules(links, src.family))
    rule = Rule(family=src.family, table=table, priority=max(1, second - 1), src=src.host)
    links.rtnl.request(f"add {rule}", NEW_RULE, _rule(rule), flags=CREATE | EXCLUSIVE)
    return rule


def discard_rule(links: Links, rule: Rule) -> None:
    """Delete a rule; one that is gone is fine."""
    try:
        links.rtnl.request(f"delete {rule}", DEL_RULE, _rule(rule))
    except KernelError as e:
        if e.errno not in _GONE:
            raise


def _rule(rule: Rule) -> bytes:
    assert rule.src is not None
    short = rule.table if rule.table < 256 else 0
    header = (AF[rule.family], 0, rule.src.prefix, 0, short, 0, 0, _TO_TABLE, 0)
    return b"".join(
        (
            _RULE_HEADER.pack(*header),
            attribute(_FRA_SRC, rule.src.address.packed),
            u32(_FRA_TABLE, rule.table),
            u32(_FRA_PRIORITY, rule.priority),
        )
    )


def _read(message: bytes, family: int) -> HeldRoute:
    _, prefix, _, _, table, protocol, scope, _, flags = ROUTE_HEADER.unpack_from(message)
    found = attributes(message, ROUTE_HEADER.size)
    dst, gw, src = (
        read_ip(found[number]) if number in found else None
        for number in (messages.RTA_DST, messages.RTA_GATEWAY, messages.RTA_PREFSRC)
    )
    metrics = attributes(found.get(messages.RTA_METRICS, b""))
    return HeldRoute(
        dst=Network(dst or Address(family, 0), prefix),
        table=number_of(found.get(messages.RTA_TABLE)) or table,
        oif=number_of(found.get(messages.RTA_OIF)),
        gw=gw,
        src=src,
        scope=scope,
        protocol=protocol,
        priority=number_of(found.get(messages.RTA_PRIORITY)),
        is_onlink=bool(flags & _ONLINK),
        metrics={
            _METRICS[number]: number_of(value)
            for number, value in metrics.items()
            if number < len(_METRICS) and _METRICS[number] and number_of(value)
        },
        hops=tuple(read_hops(found.get(messages.RTA_MULTIPATH, b""))),
    )


def _message(route: HeldRoute) -> bytes:
    hops = b"".join(map(_hop, route.hops))
    return messages.route_message(
        route.dst,
        table=route.table,
        protocol=route.protocol,
        scope=route.scope,
        oif=route.oif,
        gw=route.gw,
        src=route.src,
        priority=route.priority,
        flags=_ONLINK if route.is_onlink else 0,
        metrics={_METRICS.index(name): value for name, value in route.metrics.items()},
        more=attribute(messages.RTA_MULTIPATH, hops) if hops else b"",
    )


def _hop(hop: Hop) -> bytes:
    gateway = attribute(messages.RTA_GATEWAY, hop.gw.packed) if hop.gw else b""
    length = messages.HOP_HEADER.size + len(gateway)
    return messages.HOP_HEADER.pack(length, hop.flags & _ONLINK, hop.hops, hop.oif) + gateway


def _hop_as_json(hop: Hop) -> dict[str, Any]:
    gateway = {"gateway": str(hop.gw)} if hop.gw else {}
    return {"hops": hop.hops, "oif": hop.oif, "flags": hop.flags & _ONLINK, **gateway}


def _hop_from_json(hop: dict[str, Any]) -> Hop:
    via = hop.get("gateway")
    return Hop(hop["hops"], hop["oif"], hop["flags"], parse_address(via) if via else None)
