"""What rtnetlink's messages say, as values: links, addresses, routes.

Snapshots, not live objects: read again before reporting.

Source: rtnetlink(7), linux/if_link.h, linux/if_addr.h.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cni_plugins.protocol.addresses import BITS, Address, Network, parse_address

_IFF_UP, _IFF_PROMISC, _IFF_ALLMULTI = 0x1, 0x100, 0x200
_IPVLAN_MODES = {0: "l2", 1: "l3", 2: "l3s"}
_IFA_F_DADFAILED, _IFA_F_TENTATIVE = 0x08, 0x40
_ATTRIBUTE_HEADER = 4


@dataclass(frozen=True, slots=True)
class Port:
    """What a link is as a port of a bridge."""

    hairpin: bool
    isolated: bool


@dataclass(frozen=True, slots=True)
class Detail:
    """What only some kinds of links have; ``mode`` as ip-link(8) writes it.

    ``table`` is a VRF's routing table.
    """

    mode: str = ""
    vlan_id: int = -1
    table: int = 0


@dataclass(frozen=True, slots=True)
class Link:
    """A link as the kernel described it; 0, "" and None stand for "none".

    ``peer`` is the index of a veth's other end (IFLA_LINK), ``promiscuity`` the kernel's count,
    ``is_promisc`` the flag an administrator set.
    """

    index: int
    name: str
    kind: str
    mac: str
    mtu: int
    is_up: bool
    operstate: str
    master: int
    peer: int
    promiscuity: int
    is_promisc: bool
    is_allmulti: bool
    tx_queue_len: int
    alias: str
    vlan_filtering: bool | None
    port: Port | None
    detail: Detail


@dataclass(frozen=True, slots=True)
class LinkAddress:
    """An address of a link."""

    network: Network
    scope: int
    is_tentative: bool
    has_failed_dad: bool


@dataclass(frozen=True, slots=True)
class KernelRoute:
    """A route of the kernel; one for each next hop of a multipath route."""

    dst: Network
    gw: Address | None
    oif: int
    table: int
    priority: int
    scope: int
    mtu: int
    advmss: int


def read_link(message: Any) -> Link:
    """The link of an RTM_NEWLINK message."""
    info = message.get("IFLA_LINKINFO")
    kind = info.get("IFLA_INFO_KIND") if info else None
    data = info.get("IFLA_INFO_DATA") if info and kind == "bridge" else None
    is_port = info is not None and info.get("IFLA_INFO_SLAVE_KIND") == "bridge"
    slave = info.get("IFLA_INFO_SLAVE_DATA") if is_port else None
    filtering = data.get("IFLA_BR_VLAN_FILTERING") if data else None
    return Link(
        index=message["index"],
        name=message.get("IFLA_IFNAME"),
        kind=kind or "",
        mac=message.get("IFLA_ADDRESS") or "",
        mtu=message.get("IFLA_MTU") or 0,
        is_up=bool(message["flags"] & _IFF_UP),
        operstate=(message.get("IFLA_OPERSTATE") or "unknown").lower(),
        master=message.get("IFLA_MASTER") or 0,
        peer=message.get("IFLA_LINK") or 0,
        promiscuity=message.get("IFLA_PROMISCUITY") or 0,
        is_promisc=bool(message["flags"] & _IFF_PROMISC),
        is_allmulti=bool(message["flags"] & _IFF_ALLMULTI),
        tx_queue_len=message.get("IFLA_TXQLEN") or 0,
        alias=message.get("IFLA_IFALIAS") or "",
        vlan_filtering=None if filtering is None else bool(filtering),
        port=_port(slave) if slave else None,
        detail=_detail(kind, info.get("IFLA_INFO_DATA")) if info else Detail(),
    )


def _detail(kind: str | None, data: Any) -> Detail:
    if not data:
        return Detail()
    if kind == "macvlan":
        return Detail(mode=str(data.get("IFLA_MACVLAN_MODE")))
    if kind == "ipvlan":
        return Detail(mode=_IPVLAN_MODES.get(data.get("IFLA_IPVLAN_MODE"), "?"))
    if kind == "vlan":
        return Detail(vlan_id=int(data.get("IFLA_VLAN_ID")))
    if kind == "vrf":
        return Detail(table=int(data.get("IFLA_VRF_TABLE")))
    return Detail()


def _port(slave: Any) -> Port:
    return Port(
        hairpin=bool(slave.get("IFLA_BRPORT_MODE")),
        isolated=bool(slave.get("IFLA_BRPORT_ISOLATED")),
    )


def read_address(message: Any) -> LinkAddress:
    """The address of an RTM_NEWADDR message."""
    flags = message.get("IFA_FLAGS") or message["flags"]
    text = message.get("IFA_LOCAL") or message.get("IFA_ADDRESS")
    return LinkAddress(
        network=Network(parse_address(text), message["prefixlen"]),
        scope=message["scope"],
        is_tentative=bool(flags & _IFA_F_TENTATIVE),
        has_failed_dad=bool(flags & _IFA_F_DADFAILED),
    )


def gateway(hop: Any) -> Address | None:
    """The gateway of a route or of one of its next hops.

    pyroute2 0.9.7 leaves those of hops undecoded at times: an attribute's header and the address.
    """
    found = hop.get("RTA_GATEWAY")
    if isinstance(found, bytes):
        packed = found[_ATTRIBUTE_HEADER:]
        return Address(4 if len(packed) == 4 else 6, int.from_bytes(packed))
    return parse_address(found) if found else None


def read_routes(message: Any, family: int) -> list[KernelRoute]:
    """The routes of an RTM_NEWROUTE message, one for each next hop."""
    text = message.get("RTA_DST")
    address = parse_address(text) if text else Address(family, 0)
    assert 0 <= message["dst_len"] <= BITS[family]
    metrics = message.get("RTA_METRICS")
    hops = message.get("RTA_MULTIPATH") or [message]
    return [
        KernelRoute(
            dst=Network(address, message["dst_len"]),
            gw=gateway(hop),
            oif=(hop.get("RTA_OIF") if hop is message else hop["oif"]) or 0,
            table=message.get("RTA_TABLE") or message["table"],
            priority=message.get("RTA_PRIORITY") or 0,
            scope=message["scope"],
            mtu=(metrics.get("RTAX_MTU") or 0) if metrics else 0,
            advmss=(metrics.get("RTAX_ADVMSS") or 0) if metrics else 0,
        )
        for hop in hops
    ]
