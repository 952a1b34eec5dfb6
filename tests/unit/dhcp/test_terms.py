"""What an ACK grants."""

from __future__ import annotations

import pytest

from cni_plugins.errors import CniError
from cni_plugins.protocol.addresses import parse_address
from dhcp_ipam import leases, terms
from dhcp_ipam.leases import Lease, Wish
from dhcp_ipam.message import ACK, Message

pytestmark = pytest.mark.unit
SERVER = bytes([192, 168, 1, 1])


def ack(**options: str | bytes | None) -> Message:
    """An ACK for 192.168.1.5/24; options as ``o51=b"…"``."""
    given: dict[int, bytes] = {
        53: bytes([ACK]),
        54: SERVER,
        1: b"\xff\xff\xff\0",
        51: b"\0\0\0\x3c",
    }
    for name, value in options.items():
        if value is None:
            del given[int(name[1:])]
        else:
            given[int(name[1:])] = value if isinstance(value, bytes) else bytes.fromhex(value)
    return Message(
        type=ACK, xid=1, mac=bytes(6), yiaddr=parse_address("192.168.1.5"), options=given
    )


def number(value: int) -> bytes:
    """Four bytes."""
    return value.to_bytes(4, "big")


def routes(message: Message) -> list[tuple[str, str, int | None]]:
    """Destination, gateway, scope."""
    return [(str(r.dst), str(r.gw), r.scope) for r in terms.read(message).routes]


@pytest.mark.parametrize(
    ("options", "times"),
    [
        ({}, (60, 30, 52.5)),
        ({"o51": None}, (3600, 1800, 3150)),
        ({"o58": number(10), "o59": number(20)}, (60, 10, 20)),
        ({"o58": number(50), "o59": number(40)}, (60, 30, 52.5)),
        ({"o58": number(10), "o59": number(61)}, (60, 30, 52.5)),
        ({"o58": number(0)}, (60, 30, 52.5)),
        ({"o51": b"\0\0"}, (3600, 1800, 3150)),
    ],
)
def test_times(options, times):
    found = terms.read(ack(**options))
    assert (found.lease_s, found.renew_s, found.rebind_s) == times


def lease(message: Message) -> Lease:
    """A lease of it, begun at 1000."""
    wish = Wish(
        network="n",
        container_id="c",
        ifname="e",
        netns="/ns",
        options={12: b"h"},
        parameters=(3, 1),
    )
    return Lease(
        wish=wish,
        terms=terms.read(message),
        netns_id=(4, 5),
        link_index=6,
        mac=b"\2abcde",
        server_mac=b"\2vwxyz",
        began=1000.0,
    )


def test_when_a_lease_is_renewed_and_ends():
    found = lease(ack())
    assert (found.renew_at, found.rebind_at, found.ends_at) == (1030, 1052.5, 1060)
    forever = lease(ack(o51=b"\xff" * 4))
    assert (forever.renew_at, forever.ends_at) == (float("inf"), float("inf"))


def test_a_lease_as_json_and_back():
    found = lease(
        ack(
            o3=SERVER,
            o6=SERVER * 2,
            o15=b"example.org\0",
            o33="0a000000c0a80109",
            o119="016101620000",
        )
    )
    assert leases.decode(leases.encode(found)) == found


@pytest.mark.statement("DH06")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"o33": "0a0000000a010203c0a80100c0a80203", "o3": SERVER},
            [
                ("10.0.0.0/8", "10.1.2.3", None),
                ("192.168.1.0/24", "192.168.2.3", None),
                ("0.0.0.0/0", "192.168.1.1", None),
            ],
        ),
        ({"o33": "ac100000c0a80109"}, [("172.16.0.0/16", "192.168.1.9", None)]),
        ({"o33": "e0000001c0a80109" + "00000000c0a80109" + "0a00"}, []),
        ({"o3": SERVER * 2}, [("0.0.0.0/0", "192.168.1.1", None)]),
        ({}, []),
        (
            {"o121": "200a0000010000000000c0a80109", "o3": SERVER, "o33": "0a000000c0a80109"},
            [("10.0.0.1/32", "0.0.0.0", 253), ("0.0.0.0/0", "192.168.1.9", None)],
        ),
        ({"o121": "0c0affc0a80101"}, [("10.240.0.0/12", "192.168.1.1", None)]),
        ({"o121": ""}, []),
    ],
)
def test_routes(options, expected):
    assert routes(ack(**options)) == expected


@pytest.mark.statement("DH11")
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"o1": None}, "DHCP option Subnet Mask not found in DHCPACK"),
        ({"o1": "ffff"}, "is no mask: ffff"),
        ({"o1": "00ffffff"}, "is no mask: 00ffffff"),
        ({"o121": "21c0a80101"}, "Classless Static Route is malformed"),
        ({"o121": "180a0000c0a801"}, "Classless Static Route is malformed"),
    ],
)
def test_terms_that_make_no_sense(options, text):
    with pytest.raises(CniError, match=text):
        terms.read(ack(**options))


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("016103636f6d00" + "0162c002", ("a.com", "b.com")),
        ("0161" + "c000", ()),
        ("016103636f6d00" + "05", ("a.com",)),
        ("c0", ()),
        ("", ()),
    ],
    ids=["compressed", "loop", "cut", "half a pointer", "nothing"],
)
def test_search_domains(value, names):
    assert terms.domain_names(bytes.fromhex(value)) == names


@pytest.mark.parametrize(
    ("address", "server", "is_usable"),
    [
        ("192.168.1.5", SERVER, True),
        ("0.0.0.0", SERVER, False),
        ("127.0.0.1", SERVER, False),
        ("224.0.0.1", SERVER, False),
        ("255.255.255.255", SERVER, False),
        ("192.168.1.5", None, False),
        ("192.168.1.5", b"\xc0\xa8", False),
        ("192.168.1.5", bytes(4), False),
    ],
)
def test_usable_offers(address, server, is_usable):
    options = {54: server} if server is not None else {}
    offer = Message(type=2, xid=1, mac=bytes(6), yiaddr=parse_address(address), options=options)
    assert terms.is_usable_offer(offer) is is_usable
