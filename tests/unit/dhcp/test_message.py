"""DHCP messages and their headers, against bytes written out by hand."""

from __future__ import annotations

import random
import struct

import pytest

from cni_plugins.protocol.addresses import parse_address
from dhcp_ipam import message as dhcp
from dhcp_ipam.message import Message, decode, encode, unwrap, wrap

pytestmark = pytest.mark.unit
MAC = bytes.fromhex("02a1b2c3d4e5")
COOKIE = bytes.fromhex("63825363")


def reply(options: bytes, *, sname: bytes = b"", file: bytes = b"", op: int = 2) -> bytes:
    """A server's message to 192.168.1.5."""
    head = bytes([op, 1, 6, 0]) + bytes.fromhex("01020304") + bytes(8)
    head += bytes([192, 168, 1, 5]) + bytes(8) + MAC + bytes(10)
    return head + sname.ljust(64, b"\0") + file.ljust(128, b"\0") + COOKIE + options


def test_a_discover_byte_by_byte():
    raw = encode(
        Message(
            type=dhcp.DISCOVER,
            xid=0x01020304,
            mac=MAC,
            wants_broadcast=True,
            options={61: b"\0me", 55: b"\3\1"},
        )
    )
    assert raw[:12] == bytes.fromhex("010106000102030400008000")
    assert raw[12:28] == bytes(16)
    assert raw[28:44] == MAC + bytes(10)
    assert raw[44:236] == bytes(192)
    assert raw[236:] == (COOKIE + b"\x35\1\1" + b"\x37\2\3\1" + b"\x3d\3\0me" + b"\xff").ljust(
        64, b"\0"
    )
    assert len(raw) == 300


def test_a_long_option_is_split_and_joined():
    raw = encode(Message(type=3, xid=1, mac=MAC, options={77: b"x" * 300}))
    body = raw[240:]
    assert body == b"\x35\1\3" + b"\x4d\xff" + b"x" * 255 + b"\x4d\x2d" + b"x" * 45 + b"\xff"
    assert decode(reply(body)).options[77] == b"x" * 300


def test_an_ack():
    found = decode(
        reply(b"\x35\1\5" + b"\0\0" + b"\x36\4\xc0\xa8\1\1" + b"\x33\4\0\0\0\x3c" + b"\xff\x01")
    )
    assert (found.type, found.xid, found.mac) == (dhcp.ACK, 0x01020304, MAC)
    assert found.yiaddr == parse_address("192.168.1.5")
    assert found.address(dhcp.SERVER_ID) == parse_address("192.168.1.1")
    assert found.number(dhcp.LEASE_TIME) == 60
    assert found.address(dhcp.ROUTERS) is None
    assert found.number(dhcp.RENEWAL_TIME) is None
    assert set(found.options) == {53, 54, 51}


def test_options_in_the_fields_of_names():
    raw = reply(b"\x35\1\5\x34\1\3\xff", sname=b"\x0f\3org\xff", file=b"\x0c\2ab\xff")
    assert {**decode(raw).options, 52: b""} == {53: b"\5", 52: b"", 12: b"ab", 15: b"org"}
    without = reply(b"\x35\1\5\xff", sname=b"\x0f\3org\xff", file=b"boot")
    assert set(decode(without).options) == {53}


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", "too short"),
        (bytes(239), "too short"),
        (reply(b"\x35\1\5\xff", op=1), "no reply"),
        (reply(b"\x35\1\5\xff").replace(COOKIE, bytes(4)), "no DHCP cookie"),
        (reply(b""), "no message type"),
        (reply(b"\x35\0\xff"), "no message type"),
        (reply(b"\x35\1\5\x0c"), "option 12 goes beyond the end"),
        (reply(b"\x35\1\5\x0c\x05abc"), "option 12 goes beyond the end"),
        (reply(b"\x35\1\5\x34\1\1\xff", file=b"\x0c\xff"), "option 12 goes beyond the end"),
    ],
)
def test_malformed_messages(raw, text):
    with pytest.raises(ValueError, match=text):
        decode(raw)


def test_any_bytes_are_a_message_or_a_value_error():
    rng = random.Random(4)
    whole = reply(b"\x35\1\5\x34\1\3" + b"\x36\4\xc0\xa8\1\1\xff", sname=b"\x0f\3org\xff")
    for _ in range(3000):
        raw = bytearray(whole)
        for _ in range(rng.randrange(1, 8)):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
        del raw[rng.randrange(len(raw)) :]
        try:
            decode(bytes(raw))
        except ValueError:
            continue


# --- headers ------------------------------------------------------------------------------------


def to_client(payload: bytes, *, port: int = 68, checksum: int = 0, **over: int) -> bytes:
    """An IPv4 packet from a server."""
    size = 8 + len(payload)
    fields = {"first": 0x45, "fragment": 0, "protocol": 17, "total": 20 + size} | over
    head = struct.pack(
        "!BBHHHBBH4s4s",
        *(fields["first"], 0, fields["total"], 7, fields["fragment"], 64, fields["protocol"], 0),
        *(bytes([192, 168, 1, 1]), b"\xff" * 4),
    )
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + struct.pack("!H", ~total & 0xFFFF) + head[12:]
    return head + struct.pack("!HHHH", 67, port, size, checksum) + payload


def ones_sum(data: bytes) -> int:
    """The sum of a receiver, 0xffff when all is well (RFC 1071)."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    return (total & 0xFFFF) + (total >> 16)


def test_headers_byte_by_byte():
    packet = wrap(b"payload!", parse_address("192.168.1.5"), parse_address("192.168.1.1"))
    head, datagram = packet[:20], packet[20:]
    addresses = bytes([192, 168, 1, 5, 192, 168, 1, 1])
    assert head[:10] + head[12:] == bytes.fromhex("45000024000000004011") + addresses
    assert datagram[:6] + datagram[8:] == bytes.fromhex("004400430010") + b"payload!"
    assert ones_sum(head) == 0xFFFF
    assert ones_sum(addresses + bytes.fromhex("00110010") + datagram) == 0xFFFF


@pytest.mark.parametrize("padding", [0, 18])
def test_what_a_packet_carries(padding):
    assert unwrap(to_client(b"hello") + bytes(padding)) == b"hello"


@pytest.mark.parametrize(
    ("packet", "text"),
    [
        (b"", "too short"),
        (to_client(b"x")[:27], "header is wrong"),
        (to_client(b"x", first=0x65), "header is wrong"),
        (to_client(b"x", first=0x44), "header is wrong"),
        (to_client(b"x", total=1000), "header is wrong"),
        (to_client(b"x", protocol=6), "no whole UDP packet"),
        (to_client(b"x", fragment=0x2000), "no whole UDP packet"),
        (to_client(b"x", fragment=3), "no whole UDP packet"),
        (to_client(b"x").replace(b"\xc0\xa8", b"\xc0\xa9"), "no whole UDP packet"),
        (to_client(b"x", port=69), "not for a DHCP client"),
        (to_client(b"x", checksum=7), "UDP checksum is wrong"),
    ],
)
def test_other_and_damaged_packets(packet, text):
    with pytest.raises(ValueError, match=text):
        unwrap(packet)


def test_a_checksum_that_the_kernel_left_undone_does_not_count():
    assert unwrap(to_client(b"x", checksum=7), is_checksum_complete=False) == b"x"
