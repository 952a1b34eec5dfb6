"""Ranges of addresses and their order; pure.

A range set is a list of ranges of one family, out of which an attachment gets one address.

Source of rules and texts: the reference suite's host-local.
"""

from __future__ import annotations

from itertools import pairwise

from cni_plugins.errors import ConfigError
from cni_plugins.frozen import Frozen
from cni_plugins.protocol.addresses import BITS, Address, Network, parse_address, parse_network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TypeVar

    from host_local_ipam.conf import RangeConf

    L = TypeVar("L")

_SMALLEST_HOST_BITS = 2


class Span(Frozen, kw_only=False):
    """The addresses from ``first`` to ``last``, both included."""

    first: Address
    last: Address

    def __contains__(self, address: Address) -> bool:
        return address.family == self.first.family and self.first <= address <= self.last

    def overlaps(self, other: Span) -> bool:
        """Whether the two share an address."""
        return self.first in other or other.first in self

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


class Range(Frozen, kw_only=False):
    """Addresses of one subnet; ``gateway`` and ``excluded`` are never given."""

    subnet: Network
    span: Span
    gateway: Address
    excluded: tuple[Span, ...] = ()

    def excludes(self, address: Address) -> Span | None:
        """The exclusion an address falls under, if any."""
        return next((span for span in self.excluded if address in span), None)


RangeSet = tuple[Range, ...]


def describe(ranges: RangeSet) -> str:
    """A set as the reference writes it: ``S-E,S-E``."""
    return ",".join(str(entry.span) for entry in ranges)


def containing(ranges: RangeSet, address: Address) -> Range | None:
    """The range of a set that has the address."""
    return next((entry for entry in ranges if address in entry.span), None)


def parse_exclusion(text: str) -> Span:
    """An address, a network or ``first-last``.

    Raises:
        ValueError: it is none of them.
    """
    if "-" in text:
        first, _, last = text.partition("-")
        span = Span(parse_address(first.strip()), parse_address(last.strip()))
        if span.first.family != span.last.family or span.first > span.last:
            raise ValueError(f"invalid range of addresses: {text}")
        return span
    if "/" in text:
        network = parse_network(text)
        return Span(network.first, network.last)
    address = parse_address(text)
    return Span(address, address)


def canonical(conf: RangeConf, index: int, path: str, excluded: tuple[Span, ...]) -> Range:
    """A range with its defaults filled in.

    Args:
        conf: the range as it is configured.
        index: of its set, for the reference's texts.
        path: JSON path of the range.
        excluded: exclusions of all ranges.

    Raises:
        ConfigError: with the reference's text; the path is in the details.
    """

    def refuse(key: str, text: str, expected: str) -> ConfigError:
        return ConfigError("", f"invalid range set {index}: {text}", f"{path}.{key}: {expected}")

    subnet = conf.subnet
    if subnet is None:
        raise refuse("subnet", "IP <nil> not v4 nor v6", "expected a subnet such as 10.1.2.0/24")
    if subnet.prefix > BITS[subnet.family] - _SMALLEST_HOST_BITS:
        raise refuse(
            "subnet",
            f"Network {subnet} too small to allocate from",
            f"expected a prefix of at most {BITS[subnet.family] - _SMALLEST_HOST_BITS}",
        )
    if subnet.address != subnet.first:
        raise refuse(
            "subnet",
            f"Network has host bits set. For a subnet mask of length {subnet.prefix} "
            f"the network address is {subnet.first}",
            f"expected {subnet.masked}",
        )
    first = conf.range_start or subnet.first + 1
    last = conf.range_end or (subnet.last - 1 if subnet.family == 4 else subnet.last)
    if first not in subnet or (conf.range_end is not None and first > conf.range_end):
        raise refuse(
            "rangeStart",
            f"RangeStart {first} not in network {subnet}",
            f"expected an address of {subnet} that is not above rangeEnd",
        )
    if last not in subnet or last < first:
        raise refuse(
            "rangeEnd",
            f"RangeEnd {last} not in network {subnet}",
            f"expected an address of {subnet} that is not below rangeStart",
        )
    own = tuple(span for span in (*excluded, *conf.exclude) if span.overlaps(Span(first, last)))
    return Range(subnet, Span(first, last), conf.gateway or subnet.first + 1, own)


def validate_set(ranges: RangeSet, index: int, path: str) -> None:
    """One family, at least one range, no overlaps.

    Raises:
        ConfigError: with the reference's text.
    """
    if not ranges:
        raise ConfigError("", f"invalid range set {index}: empty range set", f"{path}: is empty")
    if len({entry.subnet.family for entry in ranges}) > 1:
        raise ConfigError(
            "",
            f"invalid range set {index}: mixed address families",
            f"{path}: give IPv4 and IPv6 a range set each",
        )
    clash = _first_overlap([(entry.span, entry.span) for entry in ranges])
    if clash:
        a, b = clash
        raise ConfigError(
            "", f"invalid range set {index}: subnets {a} and {b} overlap", f"{path}: overlaps"
        )


def validate_sets(sets: tuple[RangeSet, ...]) -> None:
    """No address may belong to two sets.

    Raises:
        ConfigError: with the reference's text.
    """
    labelled = [(entry.span, i) for i, ranges in enumerate(sets) for entry in ranges]
    clash = _first_overlap(labelled)
    if clash:
        i, j = sorted(clash)
        raise ConfigError("", f"range set {i} overlaps with {j}", f"ipam.ranges: sets {i} and {j}")


def _first_overlap(labelled: list[tuple[Span, L]]) -> tuple[L, L] | None:
    """The labels of two spans that overlap; by sorting, so that many ranges cost no square."""
    ordered = sorted(labelled, key=lambda entry: (entry[0].first, entry[0].last))
    for (span, label), (following, other) in pairwise(ordered):
        if span.overlaps(following):
            return label, other
    return None


def pieces(ranges: RangeSet, last: Address | None) -> Iterator[tuple[Range, Span]]:
    """The stretches of a set in the order of trying: behind ``last``, then around to it.

    ``last`` is the address given before; one that is in no range counts as none.
    """
    current = containing(ranges, last) if last is not None else None
    if last is None or current is None:
        for entry in ranges:
            yield entry, entry.span
        return
    i = ranges.index(current)
    if last < current.span.last:
        yield current, Span(last + 1, current.span.last)
    for entry in (*ranges[i + 1 :], *ranges[:i]):
        yield entry, entry.span
    yield current, Span(current.span.first, last)


def allowed(entry: Range, span: Span) -> Iterator[Span]:
    """What is left of a stretch without the range's gateway and exclusions, in order."""
    holes = [Span(entry.gateway, entry.gateway), *entry.excluded]
    start = span.first
    for hole in sorted(holes, key=lambda h: h.first):
        if not hole.overlaps(Span(start, span.last)):
            continue
        if start < hole.first:
            yield Span(start, hole.first - 1)
        start = hole.last + 1
        if start > span.last:
            return
    yield Span(start, span.last)
