"""DHCP messages as bytes: IPv4, UDP and the message with its options.

pyroute2 has a DHCP message too; it knows neither overloaded nor split options (RFC 2132 section
9.3, RFC 3396) and sends none by number, which ``provide`` needs.

Source: RFC 2131 section 2, RFC 2132, RFC 3396; RFC 768, RFC 791 and RFC 1071 for the headers.
"""

from __future__ import annotations

import struct

from cni_plugins.frozen import Frozen, fresh
from cni_plugins.protocol.addresses import Address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE = range(1, 8)
SERVER_PORT, CLIENT_PORT = 67, 68
ANY, EVERYBODY = Address(4, 0), Address(4, 0xFFFFFFFF)

SUBNET_MASK, ROUTERS, NAME_SERVERS, HOST_NAME, DOMAIN_NAME = 1, 3, 6, 12, 15
STATIC_ROUTES, REQUESTED_ADDRESS, LEASE_TIME, OVERLOAD, MESSAGE_TYPE = 33, 50, 51, 52, 53
SERVER_ID, PARAMETERS, MESSAGE, LONGEST, RENEWAL_TIME, REBINDING_TIME = 54, 55, 56, 57, 58, 59
VENDOR_CLASS, CLIENT_ID, USER_CLASS, DOMAIN_SEARCH, CLASSLESS_ROUTES = 60, 61, 77, 119, 121

OPTION_BYTES = 255
"""A longer value is split into several options of the same code (RFC 3396)."""
_PAD, _END = 0, 255
_IN_FILE, _IN_SNAME = 1, 2
_COOKIE = bytes((99, 130, 83, 99))
_FIXED = struct.Struct("!BBBBIHH4s4s4s4s16s64s128s4s")
_BOOT_REQUEST, _BOOT_REPLY, _ETHERNET = 1, 2, 1
_MAC_BYTES = 6
_BROADCAST_FLAG = 0x8000
_SMALLEST = 300
"""BOOTP's size: some servers and relays drop what is shorter (RFC 1542 section 2.1)."""
_IPV4 = struct.Struct("!BBHHHBBH4s4s")
_UDP = struct.Struct("!HHHH")
_UDP_PROTOCOL = 17
_TTL = 64
_MORE_OR_OFFSET = 0x3FFF


class Message(Frozen):
    """A DHCP message; ``mac`` is six bytes, ``options`` are raw values by code."""

    type: int
    xid: int
    mac: bytes
    ciaddr: Address = ANY
    yiaddr: Address = ANY
    wants_broadcast: bool = False
    options: Mapping[int, bytes] = fresh(dict)

    def address(self, code: int) -> Address | None:
        """The first address of an option; None when it has none."""
        value = self.options.get(code, b"")
        return Address(4, int.from_bytes(value[:4], "big")) if len(value) >= 4 else None

    def number(self, code: int) -> int | None:
        """An option of four bytes as a number; None when it is not there or another size."""
        value = self.options.get(code, b"")
        return int.from_bytes(value, "big") if len(value) == 4 else None


def encode(message: Message) -> bytes:
    """The message of a client; options in the order of their codes."""
    fixed = _FIXED.pack(
        _BOOT_REQUEST,
        _ETHERNET,
        _MAC_BYTES,
        0,
        message.xid,
        0,
        _BROADCAST_FLAG if message.wants_broadcast else 0,
        message.ciaddr.packed,
        ANY.packed,
        ANY.packed,
        ANY.packed,
        message.mac,
        b"",
        b"",
        _COOKIE,
    )
    options = {MESSAGE_TYPE: bytes((message.type,)), **message.options}
    body = b"".join(_option(code, options[code]) for code in sorted(options)) + bytes((_END,))
    return (fixed + body).ljust(_SMALLEST, b"\0")


def _option(code: int, value: bytes) -> bytes:
    pieces = [value[i : i + OPTION_BYTES] for i in range(0, len(value), OPTION_BYTES)] or [b""]
    return b"".join(bytes((code, len(piece))) + piece for piece in pieces)


def decode(raw: bytes) -> Message:
    """The message of a server.

    Raises:
        ValueError: it is no DHCP reply to an Ethernet client, or it is malformed.
    """
    if len(raw) < _FIXED.size:
        raise ValueError(f"{len(raw)} bytes are too short for a DHCP message")
    op, kind, size, _, xid, _, flags, ciaddr, yiaddr, _, _, mac, sname, file, cookie = (
        _FIXED.unpack_from(raw)
    )
    if (op, kind, size) != (_BOOT_REPLY, _ETHERNET, _MAC_BYTES):
        raise ValueError("it is no reply to an Ethernet client")
    if cookie != _COOKIE:
        raise ValueError("it has no DHCP cookie")
    options = _collect(raw[_FIXED.size :])
    overload = options.get(OVERLOAD, b"\0")
    for bit, field_ in ((_IN_FILE, file), (_IN_SNAME, sname)):
        if len(overload) == 1 and overload[0] & bit:
            for code, value in _collect(field_).items():
                options[code] = options.get(code, b"") + value
    kind_of = options.get(MESSAGE_TYPE, b"")
    if len(kind_of) != 1:
        raise ValueError("it has no message type")
    return Message(
        type=kind_of[0],
        xid=xid,
        mac=mac[:_MAC_BYTES],
        ciaddr=Address(4, int.from_bytes(ciaddr, "big")),
        yiaddr=Address(4, int.from_bytes(yiaddr, "big")),
        wants_broadcast=bool(flags & _BROADCAST_FLAG),
        options=options,
    )


def _collect(raw: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for code, value in _options(raw):
        found[code] = found.get(code, b"") + value
    return found


def _options(raw: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(raw):
        code = raw[at]
        if code == _END:
            return
        if code == _PAD:
            at += 1
            continue
        if at + 1 >= len(raw) or at + 2 + raw[at + 1] > len(raw):
            raise ValueError(f"option {code} goes beyond the end of the message")
        yield code, raw[at + 2 : at + 2 + raw[at + 1]]
        at += 2 + raw[at + 1]


# --- the headers in front of it -----------------------------------------------------------------


def wrap(payload: bytes, source: Address, destination: Address) -> bytes:
    """IPv4 and UDP headers and the payload, from a client's port to a server's."""
    size = _UDP.size + len(payload)
    pseudo = source.packed + destination.packed + struct.pack("!HH", _UDP_PROTOCOL, size)
    head = _UDP.pack(CLIENT_PORT, SERVER_PORT, size, 0)
    checksum = _checksum(pseudo + head + payload) or 0xFFFF
    udp = _UDP.pack(CLIENT_PORT, SERVER_PORT, size, checksum) + payload
    fields = (0x45, 0, _IPV4.size + size, 0, 0, _TTL, _UDP_PROTOCOL)
    addresses = (source.packed, destination.packed)
    return _IPV4.pack(*fields, _checksum(_IPV4.pack(*fields, 0, *addresses)), *addresses) + udp


def unwrap(packet: bytes, *, is_checksum_complete: bool = True) -> bytes:
    """What a UDP packet to a DHCP client carries.

    Args:
        packet: from the IPv4 header on.
        is_checksum_complete: False when the packet never left this machine and its UDP checksum
            is still to be made (packet(7), TP_STATUS_CSUMNOTREADY).

    Raises:
        ValueError: it is another packet, or a damaged one.
    """
    if len(packet) < _IPV4.size:
        raise ValueError("it is too short for an IPv4 packet")
    first, _, total, _, fragment, _, protocol, _, source, destination = _IPV4.unpack_from(packet)
    head = (first & 0xF) * 4
    if first >> 4 != 4 or head < _IPV4.size or not head + _UDP.size <= total <= len(packet):
        raise ValueError("its IPv4 header is wrong")
    if protocol != _UDP_PROTOCOL or fragment & _MORE_OR_OFFSET or _checksum(packet[:head]):
        raise ValueError("it is no whole UDP packet")
    _, port, size, checksum = _UDP.unpack_from(packet, head)
    if port != CLIENT_PORT or not _UDP.size <= size <= total - head:
        raise ValueError("it is not for a DHCP client")
    datagram = packet[head : head + size]
    pseudo = source + destination + struct.pack("!HH", _UDP_PROTOCOL, size)
    if checksum and is_checksum_complete and _checksum(pseudo + datagram):
        raise ValueError("its UDP checksum is wrong")
    return datagram[_UDP.size :]


def _checksum(data: bytes) -> int:
    """The one's complement of the one's complement sum of 16-bit words (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
