"""Links, their addresses and routes in one network namespace.

Names of verbs: ``find_x`` may return None, ``get_x`` raises, ``ensure_x`` converges, ``discard_x``
succeeds when the object is gone already.

Source: rtnetlink(7), ip-link(8), ip-address(8), ip-route(8).
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Any, Self

from cni_plugins.errors import KernelError
from cni_plugins.host.rtnl import GROUP_IPV6_ADDRESS, GROUP_LINK, Events, Rtnl, kernel_error
from cni_plugins.host.snapshots import read_address, read_link, read_routes
from cni_plugins.undo import Undo

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
_AF = {4: socket.AF_INET, 6: socket.AF_INET6}
_IFF_UP, _IFF_PROMISC, _IFF_ALLMULTI = 0x1, 0x100, 0x200
_IFA_F_NODAD, _IFA_F_NOPREFIXROUTE = 0x02, 0x200
_RTN_UNICAST, _RTPROT_BOOT, _RT_SCOPE_UNIVERSE = 1, 3, 0
_BROADCAST_PREFIX = 30
"""Longest IPv4 prefix whose network has a broadcast address (RFC 3021)."""


class Links:
    """One rtnetlink handle; every method raises KernelError for what the kernel refuses.

    ``rtnl`` is the handle, for the adapters beside this one that work in the same namespace.
    """

    def __init__(self, rtnl: Rtnl) -> None:
        self.rtnl = rtnl
        self._netns: NetNS | None = None

    @classmethod
    def open(cls, netns: NetNS | None = None) -> Links:
        """A handle in the namespace of the calling thread, or in ``netns``."""
        if netns is None:
            return cls(Rtnl())
        with netns.entered():
            links = cls(Rtnl())
        links._netns = netns
        return links

    def close(self) -> None:
        """Close the handle."""
        self.rtnl.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # --- links ---------------------------------------------------------------------------------

    def find(self, name: str) -> Link | None:
        """The link of that name."""
        return self._find(f"find link {name}", ifname=name)

    def find_index(self, index: int) -> Link | None:
        """The link of that index."""
        return self._find(f"find link {index}", index=index)

    def get(self, name: str) -> Link:
        """The link of that name, which must exist."""
        link = self.find(name)
        if link is None:
            raise kernel_error(f"find link {name}", errno.ENODEV, "no such link")
        return link

    def get_index(self, index: int) -> Link:
        """The link of that index, which must exist."""
        link = self.find_index(index)
        if link is None:
            raise kernel_error(f"find link number {index}", errno.ENODEV, "no such link")
        return link

    def _find(self, what: str, **wanted: Any) -> Link | None:
        try:
            found = self.rtnl.request(what, "link", "get", **wanted)
        except KernelError as e:
            if e.errno == errno.ENODEV:
                return None
            raise
        return read_link(found[0]) if found else None

    def ensure_bridge(self, name: str, *, mtu: int = 0, vlan_filtering: bool = False) -> Link:
        """The link of that name; a bridge with a MAC address of its own is made when missing.

        Without an explicit address a bridge takes the lowest of its ports', which come and go.
        The caller has to look whether what exists is a bridge.
        """
        found = self.find(name)
        if found is not None:
            return found
        attributes = _given(mtu=mtu, address=random_mac())
        if vlan_filtering:
            attributes["br_vlan_filtering"] = 1
        try:
            self.rtnl.request(
                f"add bridge {name}", "link", "add", ifname=name, kind="bridge", **attributes
            )
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
        far = _given(ifname=peer, mtu=mtu, address=peer_mac)
        if peer_netns is not None:
            far["net_ns_fd"] = peer_netns.fileno()
        near = _given(mtu=mtu, address=random_mac())
        self.rtnl.request(
            f"add veth {name} with peer {peer}",
            "link",
            "add",
            ifname=name,
            kind="veth",
            peer=far,
            **near,
        )
        with Undo() as undo:
            # the index, by which everybody else undoes this, is not known yet
            undo.push(f"veth {name}", self.discard_name, name)
            return self.get(name)

    def of_kind(self, kind: str) -> tuple[Link, ...]:
        """Every link of a kind."""
        found = self.rtnl.request(f"list links of kind {kind}", "get_links", kind=kind)
        return tuple(link for link in map(read_link, found) if link.kind == kind)

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
        attributes = _given(mtu=mtu, address=mac, master=master.index if master else 0)
        if tx_queue_len is not None:
            attributes["txqlen"] = tx_queue_len
        flags = change = 0
        for flag, wanted in ((_IFF_UP, up), (_IFF_PROMISC, promisc), (_IFF_ALLMULTI, allmulti)):
            if wanted is not None:
                change |= flag
                flags |= flag if wanted else 0
        self.rtnl.request(
            f"set link {link.name}",
            "link",
            "set",
            index=link.index,
            flags=flags,
            change=change,
            **attributes,
        )

    def set_port(self, port: Link, *, hairpin: bool, isolated: bool) -> None:
        """Set the flags of a bridge port."""
        self.rtnl.request(
            f"set bridge port {port.name}",
            "link",
            "set",
            index=port.index,
            kind="bridge_slave",
            IFLA_BRPORT_MODE=int(hairpin),
            IFLA_BRPORT_ISOLATED=int(isolated),
        )

    def pin_mac(self, link: Link) -> None:
        """Make the present MAC address an explicit one; the kernel then no longer changes it."""
        self.set(link, mac=self.get_index(link.index).mac)

    def discard_index(self, index: int) -> None:
        """Delete a link."""
        try:
            self.rtnl.request(f"delete link number {index}", "link", "del", index=index)
        except KernelError as e:
            if e.errno != errno.ENODEV:
                raise

    def discard_name(self, name: str) -> None:
        """Delete a link that was just made and whose index is not known yet."""
        self.rtnl.request(f"delete link {name}", "link", "del", ifname=name)

    def wait_up(self, link: Link, deadline: Deadline, *, limit_s: float = CARRIER_LIMIT_S) -> None:
        """Wait for the kernel to call a link operational, at most ``limit_s`` seconds."""
        with self._events(GROUP_LINK, limit_s) as events:
            while True:
                state = self.get_index(link.index).operstate
                if state == "up":
                    return
                if not events.wait(deadline):
                    raise KernelError(f"wait for link {link.name}: it is {state}, not up")

    def wait_gone(self, index: int, deadline: Deadline, *, limit_s: float = GONE_LIMIT_S) -> bool:
        """Wait for the kernel to remove the link of a pod that ended; False when it stays.

        Links go in the background, some time after the namespace of their other end.
        """
        with self._events(GROUP_LINK, limit_s) as events:
            while self.find_index(index) is not None:
                if not events.wait(deadline):
                    return False
        return True

    def _events(self, groups: int, limit_s: float) -> Events:
        if self._netns is None:
            return Events(groups, limit_s)
        with self._netns.entered():
            return Events(groups, limit_s)

    # --- addresses -----------------------------------------------------------------------------

    def addresses(self, link: Link) -> tuple[LinkAddress, ...]:
        """The addresses of a link, IPv4 first."""
        found = self.rtnl.request(
            f"list addresses of {link.name}", "addr", "dump", index=link.index
        )
        return tuple(sorted(map(read_address, found), key=lambda a: a.network.family))

    def add_address(
        self, link: Link, network: Network, *, nodad: bool = True, prefix_route: bool = True
    ) -> None:
        """Give a link an address; without ``nodad`` IPv6 looks for duplicates first.

        Without ``prefix_route`` the kernel makes no route to the address's subnet.
        """
        attributes: dict[str, Any] = {}
        flags = 0 if prefix_route else _IFA_F_NOPREFIXROUTE
        if network.family == 4 and network.prefix <= _BROADCAST_PREFIX:
            attributes["broadcast"] = str(network.last)
        if network.family == 6 and nodad:
            flags |= _IFA_F_NODAD
        if flags:
            attributes["flags"] = flags
        self.rtnl.request(
            f"add address {network} to {link.name}",
            "addr",
            "add",
            index=link.index,
            family=_AF[network.family],
            address=str(network.address),
            prefixlen=network.prefix,
            **attributes,
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
                "addr",
                "del",
                index=link.index,
                family=_AF[network.family],
                address=str(network.address),
                prefixlen=network.prefix,
            )
        except KernelError as e:
            if e.errno not in {errno.EADDRNOTAVAIL, errno.ENODEV}:
                raise

    def settle_addresses(
        self, link: Link, deadline: Deadline, *, limit_s: float = DAD_LIMIT_S
    ) -> None:
        """Wait until duplicate address detection has judged every IPv6 address of a link."""
        with self._events(GROUP_IPV6_ADDRESS, limit_s) as events:
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
        which = {} if table is None else {"table": table}
        found = self.rtnl.request("list routes", "route", "dump", family=_AF[family], **which)
        return tuple(
            route
            for message in found
            if message["type"] == _RTN_UNICAST
            for route in read_routes(message, family)
        )

    def find_route(self, address: Address) -> int:
        """The index of the link through which an address is reached; 0 for none."""
        try:
            found = self.rtnl.request(
                f"find route to {address}",
                "route",
                "get",
                dst=str(address),
                family=_AF[address.family],
            )
        except KernelError as e:
            if e.errno in {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EINVAL}:
                return 0
            raise
        return int(found[0].get("RTA_OIF") or 0) if found else 0

    def all_addresses(self) -> tuple[Address, ...]:
        """Every address of every link."""
        found = self.rtnl.request("list addresses", "get_addr")
        return tuple(read_address(message).network.address for message in found)

    def add_route(self, link: Link, route: Route) -> None:
        """Add a route through a link; one that is there to the letter is fine.

        Several gateways for one destination stand beside each other: multipath for IPv6, in the
        order of their coming for IPv4.
        """
        via = f" via {route.gw}" if route.gw else ""
        metrics = _given(mtu=route.mtu, advmss=route.advmss)
        attributes = _given(priority=route.priority, gateway=str(route.gw) if route.gw else "")
        if metrics:
            attributes["metrics"] = metrics
        try:
            self.rtnl.request(
                f"add route {route.dst}{via}",
                "route",
                "append",
                family=_AF[route.dst.family],
                dst=str(route.dst.masked),
                oif=link.index,
                table=route.table or MAIN_TABLE,
                scope=route.scope or _RT_SCOPE_UNIVERSE,
                proto=_RTPROT_BOOT,
                type=_RTN_UNICAST,
                **attributes,
            )
        except KernelError as e:
            if e.errno != errno.EEXIST:
                raise


def random_mac() -> str:
    """A locally administered unicast MAC address with 46 random bits (IEEE 802, section 8.2)."""
    octets = bytearray(os.urandom(6))
    octets[0] = octets[0] & 0xFC | 0x02
    return octets.hex(":")


def _given(**attributes: Any) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value}
