"""What rtnetlink's messages say, as values: links, addresses, routes.

Snapshots, not live objects: read again before reporting.

Source: rtnetlink(7), linux/if_link.h, linux/if_addr.h.
"""

from __future__ import annotations

from cni_plugins.frozen import Frozen
from cni_plugins.host.messages import (
    ADDRESS_HEADER,
    HOP_HEADER,
    IFA_ADDRESS,
    IFA_FLAGS,
    IFA_LOCAL,
    IFLA_ADDRESS,
    IFLA_BR_VLAN_FILTERING,
    IFLA_BRPORT_ISOLATED,
    IFLA_BRPORT_MODE,
    IFLA_IFALIAS,
    IFLA_IFNAME,
    IFLA_INFO_DATA,
    IFLA_INFO_KIND,
    IFLA_INFO_SLAVE_DATA,
    IFLA_INFO_SLAVE_KIND,
    IFLA_LINK,
    IFLA_LINK_NETNSID,
    IFLA_LINKINFO,
    IFLA_MASTER,
    IFLA_MTU,
    IFLA_TXQLEN,
    INFO_VALUE,
    IPVLAN_MODES,
    LINK_HEADER,
    MACVLAN_MODE_NUMBERS,
    ROUTE_HEADER,
    RTA_DST,
    RTA_GATEWAY,
    RTA_METRICS,
    RTA_MULTIPATH,
    RTA_OIF,
    RTA_PRIORITY,
    RTA_TABLE,
    RTAX_ADVMSS,
    RTAX_MTU,
)
from cni_plugins.host.netlink import attributes, number_of, text_of
from cni_plugins.protocol.addresses import BITS, Address, Network

_IFLA_OPERSTATE, _IFLA_PROMISCUITY = 16, 30
_OPERSTATES = ("unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up")
_NO_NUMBER = 0x7FFFFFFF
_IFF_UP, _IFF_PROMISC, _IFF_ALLMULTI = 0x1, 0x100, 0x200
_IFA_F_DADFAILED, _IFA_F_TENTATIVE = 0x08, 0x40


class Port(Frozen, kw_only=False):
    """What a link is as a port of a bridge."""

    hairpin: bool
    isolated: bool


class Detail(Frozen, kw_only=False):
    """What only some kinds of links have; ``mode`` as ip-link(8) writes it.

    ``table`` is a VRF's routing table.
    """

    mode: str = ""
    vlan_id: int = -1
    table: int = 0


class Link(Frozen):
    """A link as the kernel described it; 0, "" and None stand for "none".

    ``peer`` is the index of a veth's other end (IFLA_LINK) and ``peer_netns`` the number by which
    this namespace knows that one's, -1 for its own; ``promiscuity`` the kernel's count,
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
    peer_netns: int
    promiscuity: int
    is_promisc: bool
    is_allmulti: bool
    tx_queue_len: int
    alias: str
    vlan_filtering: bool | None
    port: Port | None
    detail: Detail


class LinkAddress(Frozen, kw_only=False):
    """An address of a link."""

    network: Network
    scope: int
    is_tentative: bool
    has_failed_dad: bool


class KernelRoute(Frozen):
    """A route of the kernel; one for each next hop of a multipath route."""

    dst: Network
    gw: Address | None
    oif: int
    table: int
    priority: int
    scope: int
    mtu: int
    advmss: int


def read_link(message: bytes) -> Link:
    """The link of an RTM_NEWLINK message."""
    _, _, index, flags, _ = LINK_HEADER.unpack_from(message)
    found = attributes(message, LINK_HEADER.size)
    info = attributes(found.get(IFLA_LINKINFO, b""))
    kind = text_of(info.get(IFLA_INFO_KIND))
    data = attributes(info.get(IFLA_INFO_DATA, b""))
    filtering = data.get(IFLA_BR_VLAN_FILTERING) if kind == "bridge" else None
    is_port = text_of(info.get(IFLA_INFO_SLAVE_KIND)) == "bridge"
    state = number_of(found.get(_IFLA_OPERSTATE))
    return Link(
        index=index,
        name=text_of(found.get(IFLA_IFNAME)),
        kind=kind,
        mac=found.get(IFLA_ADDRESS, b"").hex(":"),
        mtu=number_of(found.get(IFLA_MTU)),
        is_up=bool(flags & _IFF_UP),
        operstate=_OPERSTATES[state] if state < len(_OPERSTATES) else "unknown",
        master=number_of(found.get(IFLA_MASTER)),
        peer=number_of(found.get(IFLA_LINK)),
        peer_netns=_netns_number(found.get(IFLA_LINK_NETNSID)),
        promiscuity=number_of(found.get(_IFLA_PROMISCUITY)),
        is_promisc=bool(flags & _IFF_PROMISC),
        is_allmulti=bool(flags & _IFF_ALLMULTI),
        tx_queue_len=number_of(found.get(IFLA_TXQLEN)),
        alias=text_of(found.get(IFLA_IFALIAS)),
        vlan_filtering=None if filtering is None else bool(number_of(filtering)),
        port=_port(info.get(IFLA_INFO_SLAVE_DATA, b"")) if is_port else None,
        detail=_detail(kind, number_of(data.get(INFO_VALUE))) if data else Detail(),
    )


def _netns_number(value: bytes | None) -> int:
    number = number_of(value) if value else _NO_NUMBER
    return number if number < _NO_NUMBER else -1


def _detail(kind: str, value: int) -> Detail:
    if kind == "macvlan":
        return Detail(mode=next((m for m, n in MACVLAN_MODE_NUMBERS.items() if n == value), "?"))
    if kind == "ipvlan":
        return Detail(mode=IPVLAN_MODES[value] if value < len(IPVLAN_MODES) else "?")
    if kind == "vlan":
        return Detail(vlan_id=value)
    if kind == "vrf":
        return Detail(table=value)
    return Detail()


def _port(slave: bytes) -> Port:
    found = attributes(slave)
    return Port(
        hairpin=bool(number_of(found.get(IFLA_BRPORT_MODE))),
        isolated=bool(number_of(found.get(IFLA_BRPORT_ISOLATED))),
    )


def read_ip(value: bytes) -> Address:
    """The address of an attribute, 4 or 16 bytes."""
    return Address(4 if len(value) == 4 else 6, int.from_bytes(value, "big"))


def read_address(message: bytes) -> LinkAddress:
    """The address of an RTM_NEWADDR message."""
    _, prefix, flags, scope, _ = ADDRESS_HEADER.unpack_from(message)
    found = attributes(message, ADDRESS_HEADER.size)
    flags = number_of(found.get(IFA_FLAGS)) or flags
    return LinkAddress(
        network=Network(read_ip(found.get(IFA_LOCAL) or found[IFA_ADDRESS]), prefix),
        scope=scope,
        is_tentative=bool(flags & _IFA_F_TENTATIVE),
        has_failed_dad=bool(flags & _IFA_F_DADFAILED),
    )


class Hop(Frozen, kw_only=False):
    """A next hop of a route; ``hops`` is its weight less 1."""

    hops: int
    oif: int
    flags: int
    gw: Address | None


def read_hops(value: bytes) -> list[Hop]:
    """The next hops of RTA_MULTIPATH."""
    found, at = [], 0
    while at + HOP_HEADER.size <= len(value):
        length, flags, weight, oif = HOP_HEADER.unpack_from(value, at)
        if length < HOP_HEADER.size:
            break
        gateway = attributes(value[at : at + length], HOP_HEADER.size).get(RTA_GATEWAY)
        found.append(Hop(weight, oif, flags, read_ip(gateway) if gateway else None))
        at += length + 3 & ~3
    return found


def read_routes(message: bytes, family: int) -> list[KernelRoute]:
    """The routes of an RTM_NEWROUTE message, one for each next hop."""
    header = ROUTE_HEADER.unpack_from(message)
    found = attributes(message, ROUTE_HEADER.size)
    assert 0 <= header[1] <= BITS[family]
    dst = found.get(RTA_DST)
    metrics = attributes(found.get(RTA_METRICS, b""))
    gateway = found.get(RTA_GATEWAY)
    alone = Hop(0, number_of(found.get(RTA_OIF)), 0, read_ip(gateway) if gateway else None)
    return [
        KernelRoute(
            dst=Network(read_ip(dst) if dst else Address(family, 0), header[1]),
            gw=hop.gw,
            oif=hop.oif,
            table=number_of(found.get(RTA_TABLE)) or header[4],
            priority=number_of(found.get(RTA_PRIORITY)),
            scope=header[6],
            mtu=number_of(metrics.get(RTAX_MTU)),
            advmss=number_of(metrics.get(RTAX_ADVMSS)),
        )
        for hop in read_hops(found.get(RTA_MULTIPATH, b"")) or [alone]
    ]


def route_type(message: bytes) -> int:
    """RTN_… of an RTM_NEWROUTE message."""
    return int(ROUTE_HEADER.unpack_from(message)[7])


def route_table(message: bytes) -> int:
    """The table of an RTM_NEWROUTE message."""
    found = attributes(message, ROUTE_HEADER.size).get(RTA_TABLE)
    return number_of(found) or int(ROUTE_HEADER.unpack_from(message)[4])
