"""What rtnetlink's messages consist of: their headers, the numbers of attributes, and requests.

Pure.  Names of constants are the kernel's.

Source: linux/if_link.h, linux/if_addr.h, linux/rtnetlink.h.
"""

from __future__ import annotations

import struct

from cni_plugins.host.netlink import attribute, nested, u32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from cni_plugins.protocol.addresses import Address, Network

LINK_HEADER = struct.Struct("=BxHiII")
"""struct ifinfomsg: family, type, index, flags, mask of the flags to be changed."""
ADDRESS_HEADER = struct.Struct("=BBBBI")
"""struct ifaddrmsg: family, prefix length, flags, scope, index."""
ROUTE_HEADER = struct.Struct("=8BI")
"""struct rtmsg: family, prefix of destination and source, TOS, table, protocol, scope, type,
flags."""
HOP_HEADER = struct.Struct("=HBBi")
"""struct rtnexthop: length, flags, weight less 1, index."""
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER, IFLA_TXQLEN = 1, 3, 4, 5, 10, 13
IFLA_LINKINFO, IFLA_IFALIAS, IFLA_AF_SPEC, IFLA_NET_NS_FD, IFLA_LINK_NETNSID = 18, 20, 26, 28, 37
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
IFLA_TARGET_NETNSID = 46
IFLA_BR_VLAN_FILTERING, IFLA_BRPORT_MODE, IFLA_BRPORT_ISOLATED = 7, 4, 33
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST, IFA_FLAGS = 1, 2, 4, 8
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_PREFSRC = 1, 4, 5, 6, 7
RTA_METRICS, RTA_MULTIPATH, RTA_TABLE = 8, 9, 15
RTAX_MTU, RTAX_ADVMSS = 2, 8
MACVLAN_MODE_NUMBERS = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8, "source": 16}
IPVLAN_MODES = ("l2", "l3", "l3s")
INFO_VALUE = 1
"""IFLA_MACVLAN_MODE, IFLA_IPVLAN_MODE, IFLA_VLAN_ID and IFLA_VRF_TABLE alike."""
SKIP_STATISTICS = u32(29, 8)
"""IFLA_EXT_MASK: RTEXT_FILTER_SKIP_STATS."""
AF = {4: 2, 6: 10}
"""AF_INET and AF_INET6 by family."""
RTN_UNICAST = 1


def link_message(index: int, *attributes: bytes, flags: int = 0, change: int = 0) -> bytes:
    """A message about a link, by its index or with 0 by an attribute of its name."""
    return LINK_HEADER.pack(0, 0, index, flags, change) + b"".join(attributes)


def wanted(*, mtu: int = 0, mac: str = "") -> bytes:
    """Attributes of a link that are given, 0 and "" for those that are not."""
    found = u32(IFLA_MTU, mtu) if mtu else b""
    return found + (attribute(IFLA_ADDRESS, mac_bytes(mac)) if mac else b"")


def mac_bytes(mac: str) -> bytes:
    """A hardware address of any length, as pairs of digits with colons or hyphens between."""
    return bytes.fromhex(mac.replace(":", "").replace("-", ""))


def address_message(index: int, network: Network) -> bytes:
    """A message about an address of a link, by its index."""
    packed = network.address.packed
    header = ADDRESS_HEADER.pack(AF[network.family], network.prefix, 0, 0, index)
    own = attribute(IFA_LOCAL, packed)
    return header + own + attribute(IFA_ADDRESS, packed)


def route_message(  # noqa: PLR0913 - a route has that many facts
    dst: Network,
    *,
    table: int,
    protocol: int,
    scope: int,
    oif: int = 0,
    gw: Address | None = None,
    src: Address | None = None,
    priority: int = 0,
    flags: int = 0,
    metrics: Mapping[int, int] | None = None,
    more: bytes = b"",
) -> bytes:
    """A message about a unicast route; 0 and None stand for "not given".

    Args:
        dst: the destination; host bits do not count.
        table: its table.
        protocol: RTPROT_…, who made it.
        scope: RT_SCOPE_….
        oif: index of the link it leads through.
        gw: the gateway.
        src: the preferred source address.
        priority: its metric.
        flags: RTNH_F_….
        metrics: by RTAX_… number.
        more: further attributes.
    """
    short = table if table < 256 else 0
    header = (AF[dst.family], dst.prefix, 0, 0, short, protocol, scope, RTN_UNICAST, flags)
    parts = [ROUTE_HEADER.pack(*header), u32(RTA_TABLE, table)]
    if dst.prefix:
        parts.append(attribute(RTA_DST, dst.first.packed))
    for number, address in ((RTA_GATEWAY, gw), (RTA_PREFSRC, src)):
        if address is not None:
            parts.append(attribute(number, address.packed))
    for number, value in ((RTA_OIF, oif), (RTA_PRIORITY, priority)):
        if value:
            parts.append(u32(number, value))
    if metrics:
        listed = (u32(number, value) for number, value in metrics.items())
        parts.append(nested(RTA_METRICS, *listed))
    return b"".join([*parts, more])
