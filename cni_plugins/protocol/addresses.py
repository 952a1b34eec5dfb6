"""Addresses, networks and their arithmetic, with the text forms that the CNI types accept.

Stricter than :mod:`ipaddress`: a network needs ``/prefix``, and netmasks,
zone ids, blanks and octets with leading zeros are refused; an IPv4-mapped IPv6 address is the IPv4
address.  Host bits are kept (``10.0.0.5/8`` stays what it is).

Source: Go's net.ParseIP and net.ParseCIDR as used by containernetworking/cni pkg/types.
"""

from __future__ import annotations

import _socket as socket  # the module around it takes 5 ms to import

from cni_plugins.frozen import Frozen

BITS = {4: 32, 6: 128}
_AF = {4: socket.AF_INET, 6: socket.AF_INET6}


class Address(Frozen, kw_only=False):
    """One IP address: ``family`` is 4 or 6, ``value`` the address as an integer."""

    family: int
    value: int

    def __init__(self, family: int, value: int) -> None:  # there are many, so quicker than others
        object.__setattr__(self, "family", family)
        object.__setattr__(self, "value", value)

    def __eq__(self, other: object) -> bool:
        if type(other) is not Address:
            return NotImplemented
        return self.value == other.value and self.family == other.family

    def __hash__(self) -> int:
        return hash((self.family, self.value))

    def __str__(self) -> str:
        if self.family == 6 and 1 << 16 <= self.value < 1 << 32:
            # the C library would end these in dotted decimals, "::0.1.0.2", Go does not
            return f"::{self.value >> 16:x}:{self.value & 0xFFFF:x}"
        return socket.inet_ntop(_AF[self.family], self.packed)

    def __lt__(self, other: Address) -> bool:
        return (self.family, self.value) < (other.family, other.value)

    def __le__(self, other: Address) -> bool:
        return (self.family, self.value) <= (other.family, other.value)

    def __add__(self, steps: int) -> Address:
        return Address(self.family, self.value + steps)

    def __sub__(self, steps: int) -> Address:
        return Address(self.family, self.value - steps)

    @property
    def packed(self) -> bytes:
        """Network byte order, 4 or 16 bytes."""
        return self.value.to_bytes(BITS[self.family] // 8, "big")

    @property
    def host(self) -> Network:
        """The address alone, as a /32 or /128."""
        return Network(self, BITS[self.family])


class Network(Frozen, kw_only=False):
    """An address with a prefix length; the address may have host bits (an interface address)."""

    address: Address
    prefix: int

    def __str__(self) -> str:
        return f"{self.address}/{self.prefix}"

    @property
    def family(self) -> int:
        """4 or 6."""
        return self.address.family

    @property
    def first(self) -> Address:
        """The network's own address."""
        host_bits = BITS[self.family] - self.prefix
        return Address(self.family, self.address.value >> host_bits << host_bits)

    @property
    def last(self) -> Address:
        """IPv4 broadcast, IPv6 all ones."""
        host_bits = BITS[self.family] - self.prefix
        return Address(self.family, self.address.value | ((1 << host_bits) - 1))

    @property
    def masked(self) -> Network:
        """The same network without host bits."""
        return Network(self.first, self.prefix)

    @property
    def is_default(self) -> bool:
        """0.0.0.0/0 or ::/0, whatever the host bits."""
        return self.prefix == 0

    def __contains__(self, address: Address) -> bool:
        return address.family == self.family and self.first <= address <= self.last

    def overlaps(self, other: Network) -> bool:
        """Whether the two networks share an address."""
        return self.first in other or other.first in self


def parse_address(text: str) -> Address:
    """Read a bare IP address.

    Raises:
        ValueError: ``invalid IP address: <text>``.
    """
    for family, af in _AF.items():
        try:
            packed = socket.inet_pton(af, text)
        except (OSError, ValueError):
            continue
        if family == 6 and packed.startswith(b"\0" * 10 + b"\xff\xff"):
            return Address(4, int.from_bytes(packed[12:], "big"))
        return Address(family, int.from_bytes(packed, "big"))
    raise ValueError(f"invalid IP address: {text}")


def parse_network(text: str) -> Network:
    """Read an address with a prefix length, such as ``10.1.2.3/24``; host bits are kept.

    Raises:
        ValueError: ``invalid CIDR address: <text>``.
    """
    head, slash, tail = text.partition("/")
    if not slash or not tail.isascii() or not tail.isdigit():
        raise ValueError(f"invalid CIDR address: {text}")
    try:
        address = parse_address(head)
    except ValueError:
        raise ValueError(f"invalid CIDR address: {text}") from None
    written_as_v6 = ":" in head
    prefix = int(tail) - (96 if written_as_v6 and address.family == 4 else 0)
    if not 0 <= prefix <= BITS[address.family]:
        raise ValueError(f"invalid CIDR address: {text}")
    return Network(address, prefix)
