"""What a server's ACK grants: address, routes, resolver settings, times.

Source: RFC 2131 section 4.4.5, RFC 2132, RFC 3397 (domain search), RFC 3442 (classless routes).
"""

from __future__ import annotations

from cni_plugins.errors import CniError
from cni_plugins.frozen import Frozen
from cni_plugins.protocol.addresses import Address, Network
from cni_plugins.protocol.result import DNS, Route
from dhcp_ipam import message as dhcp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dhcp_ipam.message import Message

FOREVER = 0xFFFFFFFF
DEFAULT_S = 3600
_T1_SHARE, _T2_SHARE = 0.5, 0.875
SCOPE_LINK = 253
_DEFAULT_ROUTE = Network(Address(4, 0), 0)
_POINTER = 0xC0
_MOST_LABELS = 128


class Terms(Frozen):
    """A lease's content; times are seconds from its beginning, ``FOREVER`` never ends."""

    address: Network
    gateway: Address | None
    routes: tuple[Route, ...]
    dns: DNS
    server: Address
    lease_s: int
    renew_s: float
    rebind_s: float


def is_usable_offer(message: Message) -> bool:
    """Whether an OFFER offers an address that a host may have, from a server with a name."""
    server = message.address(dhcp.SERVER_ID)
    return _is_host(message.yiaddr) and server is not None and _is_host(server)


def read(ack: Message) -> Terms:
    """The terms of an ACK.

    Raises:
        CniError: it lacks the subnet mask, or that is none.
    """
    mask = ack.options.get(dhcp.SUBNET_MASK)
    if mask is None:
        raise CniError(999, "DHCP option Subnet Mask not found in DHCPACK")
    prefix = _prefix(mask)
    if prefix is None:
        raise CniError(999, f"DHCP option Subnet Mask in DHCPACK is no mask: {mask.hex()}")
    server = ack.address(dhcp.SERVER_ID)
    assert server is not None
    gateway = ack.address(dhcp.ROUTERS)
    lease_s = ack.number(dhcp.LEASE_TIME) or DEFAULT_S
    renew_s = float(ack.number(dhcp.RENEWAL_TIME) or lease_s * _T1_SHARE)
    rebind_s = float(ack.number(dhcp.REBINDING_TIME) or lease_s * _T2_SHARE)
    if not 0 < renew_s <= rebind_s <= lease_s:
        renew_s, rebind_s = lease_s * _T1_SHARE, lease_s * _T2_SHARE
    return Terms(
        address=Network(ack.yiaddr, prefix),
        gateway=gateway,
        routes=routes(ack, gateway),
        dns=_dns(ack),
        server=server,
        lease_s=lease_s,
        renew_s=renew_s,
        rebind_s=rebind_s,
    )


def of_refused(ack: Message) -> Terms:
    """What it takes to give back an address that was granted and cannot be used."""
    server = ack.address(dhcp.SERVER_ID)
    assert server is not None
    return Terms(
        address=ack.yiaddr.host,
        gateway=None,
        routes=(),
        dns=DNS(),
        server=server,
        lease_s=0,
        renew_s=0,
        rebind_s=0,
    )


def routes(ack: Message, gateway: Address | None) -> tuple[Route, ...]:
    """Classless routes alone where there are any (RFC 3442), else static ones and the default."""
    if dhcp.CLASSLESS_ROUTES in ack.options:
        return classless_routes(ack.options[dhcp.CLASSLESS_ROUTES])
    found = static_routes(ack.options.get(dhcp.STATIC_ROUTES, b""))
    return (*found, Route(dst=_DEFAULT_ROUTE, gw=gateway)) if gateway else found


def classless_routes(value: bytes) -> tuple[Route, ...]:
    """Option 121; a router of 0.0.0.0 means that the destination is on the link.

    Raises:
        CniError: it is malformed.
    """
    found = []
    at = 0
    while at < len(value):
        prefix = value[at]
        size = (prefix + 7) // 8
        end = at + 1 + size + 4
        if prefix > 32 or end > len(value):
            raise CniError(999, f"DHCP option Classless Static Route is malformed: {value.hex()}")
        destination = Address(4, int.from_bytes(value[at + 1 : at + 1 + size].ljust(4, b"\0")))
        router = Address(4, int.from_bytes(value[end - 4 : end]))
        is_on_link = router == dhcp.ANY
        found.append(
            Route(
                dst=Network(destination, prefix).masked,
                gw=router,
                scope=SCOPE_LINK if is_on_link else None,
            )
        )
        at = end
    return tuple(found)


def static_routes(value: bytes) -> tuple[Route, ...]:
    """Option 33: pairs of destination and router; the prefix is that of the address class."""
    found = []
    for at in range(0, len(value) - 7, 8):
        destination = Address(4, int.from_bytes(value[at : at + 4]))
        router = Address(4, int.from_bytes(value[at + 4 : at + 8]))
        prefix = _class_prefix(destination)
        if prefix and destination != dhcp.ANY:  # RFC 2132: the default route is not for here
            found.append(Route(dst=Network(destination, prefix).masked, gw=router))
    return tuple(found)


def _dns(ack: Message) -> DNS:
    servers = ack.options.get(dhcp.NAME_SERVERS, b"")
    return DNS(
        nameservers=tuple(
            str(Address(4, int.from_bytes(servers[at : at + 4])))
            for at in range(0, len(servers) - 3, 4)
        ),
        domain=ack.options.get(dhcp.DOMAIN_NAME, b"").rstrip(b"\0").decode("utf-8", "replace"),
        search=domain_names(ack.options.get(dhcp.DOMAIN_SEARCH, b"")),
    )


def domain_names(value: bytes) -> tuple[str, ...]:
    """Option 119: names in the form of DNS, with its compression; what is malformed ends them."""
    found = []
    at = 0
    while at < len(value):
        name, at = _domain_name(value, at)
        if not name:
            break
        found.append(name)
    return tuple(found)


def _domain_name(value: bytes, at: int) -> tuple[str, int]:
    """A name and where the next one begins; "" when it is malformed."""
    labels: list[str] = []
    behind = 0
    for _ in range(_MOST_LABELS):
        if at >= len(value):
            return "", len(value)
        size = value[at]
        if size == 0:
            return ".".join(labels), behind or at + 1
        if size & _POINTER == _POINTER:
            if at + 1 >= len(value):
                return "", len(value)
            behind = behind or at + 2
            at = (size & ~_POINTER) << 8 | value[at + 1]
            continue
        labels.append(value[at + 1 : at + 1 + size].decode("utf-8", "replace"))
        at += 1 + size
    return "", len(value)


def _prefix(mask: bytes) -> int | None:
    if len(mask) != 4:
        return None
    bits = f"{int.from_bytes(mask):032b}"
    return bits.count("1") if "01" not in bits else None


def _class_prefix(address: Address) -> int:
    """Class A, B or C; 0 for addresses that are no network's."""
    first = address.value >> 24
    if first < 128:
        return 8
    if first < 192:
        return 16
    return 24 if first < 224 else 0


def _is_host(address: Address) -> bool:
    first = address.value >> 24
    return 0 < first < 224 and first != 127
