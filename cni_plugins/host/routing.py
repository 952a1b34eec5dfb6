"""Routes with all their attributes, to be moved between tables, and rules that choose a table.

Source: ip-route(8), ip-rule(8), rtnetlink(7).
"""

from __future__ import annotations

import errno
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cni_plugins.errors import KernelError
from cni_plugins.host.snapshots import gateway
from cni_plugins.protocol.addresses import Address, Network, parse_address, parse_network

if TYPE_CHECKING:
    from cni_plugins.host.links import Links
    from cni_plugins.host.snapshots import Link

MAIN_TABLE = 254
SCOPE_UNIVERSE, SCOPE_LINK = 0, 253
_AF = {4: 2, 6: 10}
BY_KERNEL = 2
"""Protocol of the routes that the kernel makes for addresses."""
_UNICAST, _BOOT = 1, 3
_GONE = frozenset({errno.ESRCH, errno.ENOENT, errno.ENODEV, errno.ENETUNREACH, errno.EADDRNOTAVAIL})


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldRoute:
    """A unicast route as the kernel has it.

    ``hops`` are its next hops where it has several: ``hops`` (the weight less 1), ``oif``,
    ``flags`` and ``gateway``.
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
    metrics: dict[str, int] = field(default_factory=dict)
    hops: tuple[dict[str, Any], ...] = ()

    def as_json(self) -> dict[str, Any]:
        """A JSON object of all fields."""
        texts = {
            "dst": str(self.dst),
            "gw": str(self.gw) if self.gw else None,
            "src": str(self.src) if self.src else None,
        }
        return {**asdict(self), **texts}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> HeldRoute:
        """Of the object that :meth:`as_json` makes."""
        gw, src = document["gw"], document["src"]
        parsed = {
            "dst": parse_network(document["dst"]),
            "gw": parse_address(gw) if gw else None,
            "src": parse_address(src) if src else None,
            "hops": tuple(document["hops"]),
        }
        return cls(**{**document, **parsed})

    def __str__(self) -> str:
        via = f" via {self.gw}" if self.gw else ""
        return f"route {self.dst}{via} of table {self.table}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A rule that sends what comes from a network to a table; ``src`` None for everything."""

    family: int
    table: int
    priority: int
    src: Network | None

    def __str__(self) -> str:
        return f"rule from {self.src} to table {self.table}"


_ONLINK = 0x4


def held(links: Links, family: int, *, table: int = MAIN_TABLE) -> tuple[HeldRoute, ...]:
    """The unicast routes of a table, whole."""
    found = links.rtnl.request(
        f"list routes of table {table}", "route", "dump", family=_AF[family], table=table
    )
    return tuple(
        _read(m, family) for m in found if m["type"] == _UNICAST and not m["flags"] & 0x200
    )


def is_on(route: HeldRoute, link: Link) -> bool:
    """Whether a route, or one of its hops, leads through a link."""
    return route.oif == link.index or any(hop["oif"] == link.index for hop in route.hops)


def put(links: Links, route: HeldRoute) -> None:
    """Make a route, in place of another one for the same destination and metric."""
    links.rtnl.request(f"set {route}", "route", "replace", **_attributes(route))


def add(links: Links, route: HeldRoute) -> None:
    """Make a route that is not there yet."""
    links.rtnl.request(f"add {route}", "route", "add", **_attributes(route))


def discard(links: Links, route: HeldRoute) -> None:
    """Delete a route; one that is gone is fine."""
    bare = replace(route, metrics={})
    try:
        links.rtnl.request(f"delete {route}", "route", "del", **_attributes(bare))
    except KernelError as e:
        if e.errno not in _GONE:
            raise


def rules(links: Links, family: int) -> tuple[Rule, ...]:
    """The rules of a family, as the kernel orders them."""
    found = links.rtnl.request("list routing rules", "rule", "dump", family=_AF[family])
    return tuple(
        Rule(
            family=family,
            table=m.get("FRA_TABLE") or m["table"],
            priority=m.get("FRA_PRIORITY") or 0,
            src=Network(parse_address(src), m["src_len"]) if (src := m.get("FRA_SRC")) else None,
        )
        for m in found
    )


def add_rule(links: Links, src: Address, table: int) -> Rule:
    """What comes from an address is routed by a table.

    The rule stands where the kernel would put one without a priority, before all but the first
    (fib_default_rule_pref of net/core/fib_rules.c); pyroute2 would choose 32000 for all.
    """
    _, second, *_ = sorted(rule.priority for rule in rules(links, src.family))
    rule = Rule(family=src.family, table=table, priority=max(1, second - 1), src=src.host)
    links.rtnl.request(f"add {rule}", "rule", "add", **_rule(rule))
    return rule


def discard_rule(links: Links, rule: Rule) -> None:
    """Delete a rule; one that is gone is fine."""
    try:
        links.rtnl.request(f"delete {rule}", "rule", "del", **_rule(rule))
    except KernelError as e:
        if e.errno not in _GONE:
            raise


def _rule(rule: Rule) -> dict[str, Any]:
    assert rule.src is not None
    return {
        "family": _AF[rule.family],
        "src": str(rule.src.address),
        "src_len": rule.src.prefix,
        "table": rule.table,
        "priority": rule.priority,
    }


def _read(message: Any, family: int) -> HeldRoute:
    text = message.get("RTA_DST")
    address = parse_address(text) if text else Address(family, 0)
    metrics = message.get("RTA_METRICS")
    return HeldRoute(
        dst=Network(address, message["dst_len"]),
        table=message.get("RTA_TABLE") or message["table"],
        oif=message.get("RTA_OIF") or 0,
        gw=gateway(message),
        src=parse_address(src) if (src := message.get("RTA_PREFSRC")) else None,
        scope=message["scope"],
        protocol=message["proto"],
        priority=message.get("RTA_PRIORITY") or 0,
        is_onlink=bool(message["flags"] & _ONLINK),
        metrics={
            name.removeprefix("RTAX_").lower(): value
            for name, value in (metrics["attrs"] if metrics else ())
            if isinstance(value, int) and value
        },
        hops=tuple(map(_hop, message.get("RTA_MULTIPATH") or ())),
    )


def _attributes(route: HeldRoute) -> dict[str, Any]:
    given: dict[str, Any] = {
        "gateway": str(route.gw) if route.gw else "",
        "prefsrc": str(route.src) if route.src else "",
        "priority": route.priority,
        "oif": route.oif,
        "flags": _ONLINK if route.is_onlink else 0,
        "metrics": dict(route.metrics),
        "multipath": list(route.hops),
    }
    return {
        "family": _AF[route.dst.family],
        "dst": str(route.dst.masked),
        "table": route.table,
        "scope": route.scope,
        "proto": route.protocol,
        "type": _UNICAST,
        **{name: value for name, value in given.items() if value},
    }


def _hop(hop: Any) -> dict[str, Any]:
    via = gateway(hop)
    hops = {"hops": hop["hops"], "oif": hop["oif"], "flags": hop["flags"] & _ONLINK}
    return {**hops, "gateway": str(via)} if via else hops
