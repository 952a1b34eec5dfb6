"""Links, their addresses and routes in one network namespace.

Names of verbs: ``find_x`` may return None, ``get_x`` raises, ``ensure_x`` converges, ``discard_x``
succeeds when the object is gone already.

Source: rtnetlink(7), ip-link(8), ip-address(8), ip-route(8).
"""

from __future__ import annotations

import errno
import os

from cni_plugins.errors import KernelError
from cni_plugins.host import messages, rtnl
from cni_plugins.host.link_requests import LinkRequests
from cni_plugins.host.netlink import (
    APPEND,
    CREATE,
    EXCLUSIVE,
    attribute,
    nested,
    text,
    u8,
    u32,
)
from cni_plugins.host.rtnl import GROUP_IPV6_ADDRESS, GROUP_LINK
from cni_plugins.host.snapshots import (
    read_address,
    read_link,
    read_routes,
    route_type,
)
from cni_plugins.protocol.addresses import BITS
from cni_plugins.scopes import suppress
from cni_plugins.undo import Undo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.deadline import Deadline
    from cni_plugins.host.netns import NetNS
    from cni_plugins.host.snapshots import KernelRoute, Link, LinkAddress
    from cni_plugins.protocol.addresses import Address, Network
    from cni_plugins.protocol.result import Route

MAIN_TABLE = 254
CARRIER_LIMIT_S = 2.5
DAD_LIMIT_S = 5.0
GONE_LIMIT_S = 2.0
_VETH_INFO_PEER = 1
_IFF_UP, _IFF_PROMISC, _IFF_ALLMULTI = 0x1, 0x100, 0x200
_IFA_F_NODAD, _IFA_F_NOPREFIXROUTE = 0x02, 0x200
_RTPROT_BOOT, _RT_SCOPE_UNIVERSE = 3, 0
_BROADCAST_PREFIX = 30
"""Longest IPv4 prefix whose network has a broadcast address (RFC 3021)."""


class Links(LinkRequests):
    """What plugins ask of links; every method raises KernelError for what the kernel refuses."""

    def ensure_bridge(self, name: str, *, mtu: int = 0, vlan_filtering: bool = False) -> Link:
        """The link of that name; a bridge with a MAC address of its own is made when missing.

        Without an explicit address a bridge takes the lowest of its ports', which come and go.
        The caller has to look whether what exists is a bridge.
        """
        found = self.find(name)
        if found is not None:
            return found
        data = u8(messages.IFLA_BR_VLAN_FILTERING, 1) if vlan_filtering else b""
        try:
            self.add(name, "bridge", data, mtu=mtu, mac=random_mac())
        except KernelError as e:
            if e.errno != errno.EEXIST:  # another ADD was faster
                raise
        return self.get(name)

    def add_veth(
        self,
        name: str,
        *,
        peer: str,
        peer_netns: NetNS | None = None,
        mtu: int = 0,
        peer_mac: str = "",
    ) -> Link:
        """A veth pair in one request: this end here, ``peer`` in ``peer_netns`` or here too.

        This end gets an explicit MAC address, so that udev leaves it alone.
        """
        far = messages.link_message(
            0, text(messages.IFLA_IFNAME, peer), messages.wanted(mtu=mtu, mac=peer_mac)
        )
        if peer_netns is not None:
            far += u32(messages.IFLA_NET_NS_FD, peer_netns.fileno())
        self.add(
            name,
            "veth",
            attribute(_VETH_INFO_PEER, far),
            what=f"add veth {name} with peer {peer}",
            mtu=mtu,
            mac=random_mac(),
        )
        with Undo() as undo:
            # the index, by which everybody else undoes this, is not known yet
            undo.push(f"veth {name}", self.discard_name, name)
            return self.get(name)

    def set(  # noqa: PLR0913 - one request for all of them
        self,
        link: Link,
        *,
        up: bool | None = None,
        promisc: bool | None = None,
        allmulti: bool | None = None,
        mtu: int = 0,
        mac: str = "",
        tx_queue_len: int | None = None,
        master: Link | None = None,
    ) -> None:
        """Change what is given, in one request."""
        attributes = messages.wanted(mtu=mtu, mac=mac)
        if master is not None:
            attributes += u32(messages.IFLA_MASTER, master.index)
        if tx_queue_len is not None:
            attributes += u32(messages.IFLA_TXQLEN, tx_queue_len)
        flags = change = 0
        for flag, wanted in ((_IFF_UP, up), (_IFF_PROMISC, promisc), (_IFF_ALLMULTI, allmulti)):
            if wanted is not None:
                change |= flag
                flags |= flag if wanted else 0
        what = f"set link {link.name}"
        self.change(what, link.index, attributes, flags=flags, change=change)

    def set_port(self, port: Link, *, hairpin: bool, isolated: bool) -> None:
        """Set the flags of a bridge port."""
        data = nested(
            messages.IFLA_INFO_SLAVE_DATA,
            u8(messages.IFLA_BRPORT_MODE, int(hairpin)),
            u8(messages.IFLA_BRPORT_ISOLATED, int(isolated)),
        )
        kind = text(messages.IFLA_INFO_SLAVE_KIND, "bridge")
        what = f"set bridge port {port.name}"
        self.change(what, port.index, nested(messages.IFLA_LINKINFO, kind, data))

    def pin_mac(self, link: Link) -> None:
        """Make the present MAC address an explicit one; the kernel then no longer changes it."""
        self.set(link, mac=self.get_index(link.index).mac)

    def wait_up(self, link: Link, deadline: Deadline, *, limit_s: float = CARRIER_LIMIT_S) -> None:
        """Wait for the kernel to call a link operational, at most ``limit_s`` seconds."""
        with self.events_of(GROUP_LINK, limit_s) as events:
            while True:
                state = self.get_index(link.index).operstate
                if state == "up":
                    return
                if not events.wait(deadline):
                    raise KernelError(f"wait for link {link.name}: it is {state}, not up")

    def operstates(self, link: Link) -> list[str]:
        """Operational states of a link and, of a veth, of its other end where that may be read.

        A bridge passes packets of a port on from the moment in which the port is "up".
        """
        state = self.get_index(link.index)
        states = [state.operstate]
        if state.kind == "veth":
            number = state.peer_netns
            where = u32(messages.IFLA_TARGET_NETNSID, number) if number >= 0 else b""
            body = messages.link_message(state.peer, where, messages.SKIP_STATISTICS)
            with suppress(KernelError):
                found = self.rtnl.request(f"look at the peer of {link.name}", rtnl.GET_LINK, body)
                states += (read_link(m).operstate for m in found)
        return states

    def wait_gone(self, index: int, deadline: Deadline, *, limit_s: float = GONE_LIMIT_S) -> bool:
        """Wait for the kernel to remove the link of a pod that ended; False when it stays.

        Links go in the background, some time after the namespace of their other end.
        """
        with self.events_of(GROUP_LINK, limit_s) as events:
            while self.find_index(index) is not None:
                if not events.wait(deadline):
                    return False
        return True

    # --- addresses -----------------------------------------------------------------------------

    def addresses(self, link: Link) -> tuple[LinkAddress, ...]:
        """The addresses of a link, IPv4 first."""
        body = messages.ADDRESS_HEADER.pack(0, 0, 0, 0, link.index)
        found = self.rtnl.dump(f"list addresses of {link.name}", rtnl.GET_ADDRESS, body)
        own = (m for m in found if messages.ADDRESS_HEADER.unpack_from(m)[4] == link.index)
        return tuple(sorted(map(read_address, own), key=lambda a: a.network.family))

    def add_address(
        self, link: Link, network: Network, *, nodad: bool = True, prefix_route: bool = True
    ) -> None:
        """Give a link an address; without ``nodad`` IPv6 looks for duplicates first.

        Without ``prefix_route`` the kernel makes no route to the address's subnet.
        """
        flags = 0 if prefix_route else _IFA_F_NOPREFIXROUTE
        if network.family == 6 and nodad:
            flags |= _IFA_F_NODAD
        body = messages.address_message(link.index, network)
        if network.family == 4 and network.prefix <= _BROADCAST_PREFIX:
            body += attribute(messages.IFA_BROADCAST, network.last.packed)
        if flags:
            body += u32(messages.IFA_FLAGS, flags)
        self.rtnl.request(
            f"add address {network} to {link.name}",
            rtnl.NEW_ADDRESS,
            body,
            flags=CREATE | EXCLUSIVE,
        )

    def ensure_address(self, link: Link, network: Network) -> None:
        """Give a link an address unless it has it."""
        try:
            self.add_address(link, network)
        except KernelError as e:
            if e.errno != errno.EEXIST:
                raise

    def discard_address(self, link: Link, network: Network) -> None:
        """Take an address from a link."""
        try:
            self.rtnl.request(
                f"delete address {network} of {link.name}",
                rtnl.DEL_ADDRESS,
                messages.address_message(link.index, network),
            )
        except KernelError as e:
            if e.errno not in {errno.EADDRNOTAVAIL, errno.ENODEV}:
                raise

    def settle_addresses(
        self, link: Link, deadline: Deadline, *, limit_s: float = DAD_LIMIT_S
    ) -> None:
        """Wait until duplicate address detection has judged every IPv6 address of a link."""
        with self.events_of(GROUP_IPV6_ADDRESS, limit_s) as events:
            while True:
                addresses = self.addresses(link)
                failed = [str(a.network) for a in addresses if a.has_failed_dad]
                if failed:
                    raise KernelError(
                        f"settle addresses of {link.name}: {', '.join(failed)} is used by another "
                        "host (duplicate address detection)"
                    )
                if not any(a.is_tentative for a in addresses):
                    return
                if not events.wait(deadline):
                    raise KernelError(
                        f"settle addresses of {link.name}: still tentative after {limit_s} s"
                    )

    # --- routes --------------------------------------------------------------------------------

    def routes(self, *, family: int, table: int | None = MAIN_TABLE) -> tuple[KernelRoute, ...]:
        """The unicast routes of a table, of all tables for None."""
        found = self.list_routes("list routes", family, table)
        unicast = (message for message in found if route_type(message) == messages.RTN_UNICAST)
        return tuple(route for message in unicast for route in read_routes(message, family))

    def find_route(self, address: Address) -> int:
        """The index of the link through which an address is reached; 0 for none."""
        try:
            body = messages.ROUTE_HEADER.pack(
                messages.AF[address.family], BITS[address.family], *(0,) * 7
            )
            body += attribute(messages.RTA_DST, address.packed)
            found = self.rtnl.request(f"find route to {address}", rtnl.GET_ROUTE, body)
        except KernelError as e:
            if e.errno in {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EINVAL}:
                return 0
            raise
        return read_routes(found[0], address.family)[0].oif if found else 0

    def all_addresses(self) -> tuple[Address, ...]:
        """Every address of every link."""
        everything = messages.ADDRESS_HEADER.pack(*(0,) * 5)
        found = self.rtnl.dump("list addresses", rtnl.GET_ADDRESS, everything)
        return tuple(read_address(message).network.address for message in found)

    def add_route(self, link: Link, route: Route) -> None:
        """Add a route through a link; one that is there to the letter is fine.

        Several gateways for one destination stand beside each other: multipath for IPv6, in the
        order of their coming for IPv4.
        """
        via = f" via {route.gw}" if route.gw else ""
        metrics = {messages.RTAX_MTU: route.mtu, messages.RTAX_ADVMSS: route.advmss}
        body = messages.route_message(
            route.dst,
            table=route.table or MAIN_TABLE,
            protocol=_RTPROT_BOOT,
            scope=route.scope or _RT_SCOPE_UNIVERSE,
            oif=link.index,
            gw=route.gw,
            priority=route.priority or 0,
            metrics={number: value for number, value in metrics.items() if value},
        )
        try:
            self.rtnl.request(
                f"add route {route.dst}{via}", rtnl.NEW_ROUTE, body, flags=CREATE | APPEND
            )
        except KernelError as e:
            if e.errno != errno.EEXIST:
                raise


def random_mac() -> str:
    """A locally administered unicast MAC address with 46 random bits (IEEE 802, section 8.2)."""
    octets = bytearray(os.urandom(6))
    octets[0] = octets[0] & 0xFC | 0x02
    return octets.hex(":")
