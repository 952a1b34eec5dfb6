"""Leases as they are kept: one file each, written by the daemon, read by it after a restart.

``/var/lib/cni/dhcp/<socket>/<attachment>.json``, where ``<socket>`` is the daemon's socket path
with ``-`` for ``/``.  Times are those of CLOCK_BOOTTIME, which nobody sets and which goes on while
the machine sleeps; with another boot id the lease's pod is gone.
"""

from __future__ import annotations

import errno
import time

from cni_plugins import jsontext
from cni_plugins.errors import KernelError, NetnsError, StateError
from cni_plugins.frozen import Frozen, as_dict
from cni_plugins.host.netns import NetNS
from cni_plugins.host.store import Store
from cni_plugins.protocol import names
from cni_plugins.protocol.addresses import parse_address, parse_network
from cni_plugins.protocol.result import DNS, IP, Result, Route
from dhcp_ipam import message as dhcp
from dhcp_ipam.terms import FOREVER, Terms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from cni_plugins.host.packets import PacketSocket

ROOT = "/var/lib/cni/dhcp"
SOCKET = "/run/cni/dhcp.sock"
LOCK = "daemon.lock"
SCHEMA = 1
_SUFFIX = ".json"


def now() -> float:
    """Seconds since the boot, those asleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Wish(Frozen):
    """What an attachment asks a server for.

    ``options`` are raw values by code, ``parameters`` the codes it wants to be told.
    """

    network: str
    container_id: str
    ifname: str
    netns: str
    options: dict[int, bytes]
    parameters: tuple[int, ...]

    @property
    def name(self) -> str:
        """Name of the attachment's files."""
        return names.attachment(self.network, self.container_id, self.ifname)

    def __str__(self) -> str:
        return f"{self.container_id}/{self.network}/{self.ifname}"

    def as_json(self) -> dict[str, Any]:
        """A JSON object."""
        options = {str(code): value.hex() for code, value in self.options.items()}
        return {**as_dict(self), "options": options}

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Wish:
        """Of the object that :meth:`as_json` makes; KeyError, TypeError, ValueError for others."""
        options = {int(c): bytes.fromhex(v) for c, v in document["options"].items()}
        parameters = tuple(map(int, document["parameters"]))
        texts = {k: str(document[k]) for k in ("network", "container_id", "ifname", "netns")}
        return cls(options=options, parameters=parameters, **texts)


class Lease(Frozen):
    """A lease: whose, from whom, on which link, since when.

    ``netns_id`` is device and inode number of the namespace, ``mac`` the hardware address it was
    asked for with, ``server_mac`` the station that the ACK came from, both six bytes; ``began`` is
    on :func:`now`'s clock.
    """

    wish: Wish
    terms: Terms
    netns_id: tuple[int, int]
    link_index: int
    mac: bytes
    server_mac: bytes
    began: float
    expired: bool = False

    @property
    def renew_at(self) -> float:
        """T1."""
        return self._at(self.terms.renew_s)

    @property
    def rebind_at(self) -> float:
        """T2."""
        return self._at(self.terms.rebind_s)

    @property
    def ends_at(self) -> float:
        """When the address may no longer be used."""
        return self._at(self.terms.lease_s)

    def _at(self, seconds: float) -> float:
        return float("inf") if self.terms.lease_s == FOREVER else self.began + seconds

    @property
    def result(self) -> Result:
        """The lease as an IPAM plugin's result."""
        terms = self.terms
        ips = (IP(address=terms.address, gateway=terms.gateway),)
        return Result(ips=ips, routes=terms.routes, dns=terms.dns)

    def open_link(self, prefix: str = "") -> PacketSocket:
        """A socket on the lease's link; ``prefix`` is where the host's file system is seen.

        Raises:
            NetnsError, KernelError: ``gone`` and ENODEV when the pod or its link is not there.
        """
        from cni_plugins.host.packets import PacketSocket  # noqa: PLC0415 - calls need no socket

        with NetNS.open(prefix + self.wish.netns) as netns:
            if netns.id != self.netns_id:
                text = f"{self.wish.netns} is another namespace than the lease's"
                raise NetnsError(text, gone=True)
            link = PacketSocket.open(netns, self.wish.ifname, dhcp.CLIENT_PORT)
        if link.link_index() != self.link_index:
            link.close()
            text = f"{self.wish.ifname} in {self.wish.netns} is another link than the lease's"
            raise KernelError(text, errno.ENODEV)
        return link


def client_id(wish: Wish) -> bytes:
    """Option 61: the attachment, unless ``provide`` has another."""
    own = b"\0" + f"{wish.container_id}/{wish.network}/{wish.ifname}".encode()[:254]
    return wish.options.get(dhcp.CLIENT_ID, own)


def release(lease: Lease, xid: int, prefix: str = "") -> None:
    """Tell the server that the address is free: unicast, no answer expected (RFC 2131, 4.4.6).

    Raises:
        NetnsError, KernelError: there is no link to send it through any more.
    """
    options = {
        dhcp.SERVER_ID: lease.terms.server.packed,
        dhcp.CLIENT_ID: client_id(lease.wish),
    }
    address = lease.terms.address.address
    message = dhcp.Message(
        type=dhcp.RELEASE, xid=xid, mac=lease.mac, ciaddr=address, options=options
    )
    with lease.open_link(prefix) as link:
        packet = dhcp.wrap(dhcp.encode(message), address, lease.terms.server)
        link.send(packet, lease.server_mac)


class LeaseFiles:
    """The leases of one daemon.

    Args:
        socket_path: the daemon's, as plugins know it.
        prefix: where the daemon sees the host's file system.
    """

    def __init__(self, socket_path: str, prefix: str = "") -> None:
        folder = socket_path.strip("/").replace("/", "-")
        self.store = Store(f"{prefix}{ROOT}/{folder}")

    def all(self) -> Iterator[Lease | StateError]:
        """Every lease; a file that cannot be read is an error that says so."""
        for name in self.store.names():
            if name.endswith(_SUFFIX) and not name.startswith("."):
                try:
                    lease = self.read(name.removesuffix(_SUFFIX))
                except StateError as e:
                    yield e
                else:
                    if lease is not None:
                        yield lease

    def read(self, name: str) -> Lease | None:
        """The lease of an attachment, None when there is none or it is of another boot.

        Raises:
            StateError: it cannot be read.
        """
        raw = self.store.read(name + _SUFFIX)
        if raw is None:
            return None
        try:
            document = jsontext.loads(raw)
            if document["schema"] != SCHEMA:
                raise ValueError(f"it is of schema {document['schema']}")  # noqa: TRY301
            return decode(document) if document["boot_id"] == boot_id() else None
        except (ValueError, KeyError, TypeError, IndexError) as e:
            raise StateError(f"read lease {self.store.path(name)}{_SUFFIX}: {e!r}") from e

    def write(self, lease: Lease) -> None:
        """Keep a lease, also over a power failure.

        Raises:
            StateError: the file system refuses.
        """
        document = {"schema": SCHEMA, "boot_id": boot_id(), **encode(lease)}
        raw = jsontext.dumps(document, indent=1).encode()
        self.store.replace(lease.wish.name + _SUFFIX, raw, durable=True)

    def discard(self, name: str) -> None:
        """Forget a lease; repeatable."""
        self.store.discard(name + _SUFFIX)


def boot_id() -> str:
    """The kernel's name of this boot."""
    return (Store("/proc/sys/kernel/random").read("boot_id") or b"").decode().strip()


def is_gone(fault: NetnsError | KernelError) -> bool:
    """Whether the pod or its link is not there any more."""
    if isinstance(fault, NetnsError):
        return fault.gone
    return fault.errno in {errno.ENODEV, errno.ENXIO}


def is_garbage(lease: Lease, valid: frozenset[tuple[str, str]] | None, prefix: str = "") -> bool:
    """Whether a collector takes a lease: by the runtime's list, or when its pod is gone."""
    if valid is not None:
        return (lease.wish.container_id, lease.wish.ifname) not in valid
    try:
        lease.open_link(prefix).close()
    except (NetnsError, KernelError) as e:
        return is_gone(e)
    return False


def encode(lease: Lease) -> dict[str, Any]:
    """A JSON object."""
    terms = lease.terms
    return {
        "wish": lease.wish.as_json(),
        "address": str(terms.address),
        "gateway": str(terms.gateway) if terms.gateway else None,
        "routes": [
            {
                "dst": str(route.dst),
                "gw": str(route.gw),
                "scope": route.scope,
                "priority": route.priority,
            }
            for route in terms.routes
        ],
        "dns": as_dict(terms.dns),
        "server": str(terms.server),
        "lease_s": terms.lease_s,
        "renew_s": terms.renew_s,
        "rebind_s": terms.rebind_s,
        "netns_id": list(lease.netns_id),
        "link_index": lease.link_index,
        "mac": lease.mac.hex(":"),
        "server_mac": lease.server_mac.hex(":"),
        "began": lease.began,
        "expired": lease.expired,
    }


def decode(document: dict[str, Any]) -> Lease:
    """Of the object that :func:`encode` makes; KeyError, TypeError, ValueError for others."""
    dns = document["dns"]
    gateway = document["gateway"]
    terms = Terms(
        address=parse_network(document["address"]),
        gateway=parse_address(gateway) if gateway else None,
        routes=tuple(
            Route(
                dst=parse_network(route["dst"]),
                gw=parse_address(route["gw"]),
                scope=route["scope"],
                priority=int(route["priority"]),
            )
            for route in document["routes"]
        ),
        dns=DNS(
            nameservers=tuple(dns["nameservers"]),
            domain=str(dns["domain"]),
            search=tuple(dns["search"]),
        ),
        server=parse_address(document["server"]),
        lease_s=int(document["lease_s"]),
        renew_s=float(document["renew_s"]),
        rebind_s=float(document["rebind_s"]),
    )
    device, inode = document["netns_id"]
    return Lease(
        wish=Wish.from_json(document["wish"]),
        terms=terms,
        netns_id=(int(device), int(inode)),
        link_index=int(document["link_index"]),
        mac=_mac(document["mac"]),
        server_mac=_mac(document["server_mac"]),
        began=float(document["began"]),
        expired=bool(document["expired"]),
    )


def _mac(text: str) -> bytes:
    found = bytes.fromhex(text.replace(":", ""))
    if len(found) != 6:
        raise ValueError(f"{text} is no MAC address")
    return found
