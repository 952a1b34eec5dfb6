"""Messages of netlink as bytes: packing requests and reading answers.

Pure functions.  A message is its fixed header and attributes behind it; an attribute is a length, a
number and a value, padded to four bytes; integers are in the machine's own byte order.

pyroute2 knows every message there is.  Loading that takes longer than all the other work of a fresh
process, and each of its messages costs some 0.3 ms; the few kinds that every pod needs are packed
here, and tests/unit/test_netlink.py compares them with pyroute2's.

Source: netlink(7), rtnetlink(7); linux/netlink.h, linux/rtnetlink.h.
"""

from __future__ import annotations

import struct
from sys import byteorder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

REQUEST, ACK, ECHO = 0x001, 0x004, 0x008
ROOT_AND_MATCH = 0x300
"""NLM_F_DUMP: list all that fits."""
REPLACE, EXCLUSIVE, CREATE, APPEND = 0x100, 0x200, 0x400, 0x800
DUMP_INTERRUPTED = 0x10
"""NLM_F_DUMP_INTR: what is listed changed in between, entries may be missing."""
ERROR, DONE = 2, 3
_CAPPED, _ACK_TLVS = 0x100, 0x200
_ERROR_MESSAGE = 1
_KIND = 0x3FFF
"""An attribute's number without NLA_F_NESTED and NLA_F_NET_BYTEORDER."""
_NESTED = 0x8000

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_U8 = struct.Struct("=HHBxxx")
_U16 = struct.Struct("=HHHxx")
_U32 = struct.Struct("=HHI")
_U64 = struct.Struct("=HHQ")
_INT = struct.Struct("=i")
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")
HEADER_BYTES = _HEADER.size

Attributes = dict[int, bytes]
"""Values by number; of a number that comes again the last."""


def message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    """A request: ``body`` is the family's own header and attributes."""
    return _HEADER.pack(HEADER_BYTES + len(body), kind, flags, sequence, 0) + body


def attribute(number: int, value: bytes) -> bytes:
    """An attribute of bytes."""
    length = 4 + len(value)
    return _ATTRIBUTE.pack(length, number) + value + _PADDING[length & 3]


def u8(number: int, value: int) -> bytes:
    """An attribute of one byte."""
    return _U8.pack(5, number, value)


def u16(number: int, value: int) -> bytes:
    """An attribute of two bytes."""
    return _U16.pack(6, number, value)


def u32(number: int, value: int) -> bytes:
    """An attribute of four bytes."""
    return _U32.pack(8, number, value & 0xFFFFFFFF)


def u64(number: int, value: int) -> bytes:
    """An attribute of eight bytes."""
    return _U64.pack(12, number, value)


def text(number: int, value: str) -> bytes:
    """An attribute of a string, with its zero at the end."""
    return attribute(number, value.encode("utf-8", "surrogateescape") + b"\0")


def nested(number: int, *parts: bytes) -> bytes:
    """An attribute that consists of attributes."""
    return attribute(number | _NESTED, b"".join(parts))


def each(data: bytes, at: int = 0) -> Iterator[tuple[int, bytes]]:
    """The attributes from an offset on, as (number, value)."""
    end = len(data) - 3
    while at < end:
        length, number = _ATTRIBUTE.unpack_from(data, at)
        if length < 4:
            return
        yield number & _KIND, data[at + 4 : at + length]
        at += length + 3 & ~3


def attributes(data: bytes, at: int = 0) -> Attributes:
    """The attributes from an offset on; as :func:`each`, in half the time."""
    found: Attributes = {}
    end = len(data) - 3
    while at < end:
        length, number = _ATTRIBUTE.unpack_from(data, at)
        if length < 4:
            break
        found[number & _KIND] = data[at + 4 : at + length]
        at += length + 3 & ~3
    return found


def number_of(value: bytes | None) -> int:
    """The unsigned integer of an attribute, of whatever size; 0 when it is missing."""
    return int.from_bytes(value, byteorder) if value else 0


def text_of(value: bytes | None) -> str:
    """The string of an attribute; "" when it is missing."""
    return value.rstrip(b"\0").decode("utf-8", "surrogateescape") if value else ""


def messages(datagram: bytes, sequence: int) -> Iterator[tuple[int, int, bytes]]:
    """The messages of a datagram that answer a request, as (kind, flags, body)."""
    at = 0
    while at + HEADER_BYTES <= len(datagram):
        length, kind, flags, answered, _ = _HEADER.unpack_from(datagram, at)
        if length < HEADER_BYTES:
            return
        if answered == sequence:
            yield kind, flags, datagram[at + HEADER_BYTES : at + length]
        at += length + 3 & ~3


def failure(flags: int, body: bytes) -> tuple[int, str]:
    """What an ERROR or DONE message says: an errno, 0 for success, and the kernel's own words."""
    if len(body) < _INT.size:
        return 0, ""
    (number,) = _INT.unpack_from(body)
    if number >= 0 or not flags & _ACK_TLVS:
        return -number, ""
    at = _INT.size
    if len(body) >= at + HEADER_BYTES:
        length = HEADER_BYTES if flags & _CAPPED else _HEADER.unpack_from(body, at)[0]
        at += length + 3 & ~3
    return -number, text_of(attributes(body, at).get(_ERROR_MESSAGE))
