"""Ranges: their defaults, faults, overlaps and the order of trying; and resolv.conf."""

from __future__ import annotations

import pytest

from cni_plugins.errors import CniError
from cni_plugins.protocol.addresses import parse_address
from cni_plugins.protocol.config import read
from cni_plugins.protocol.result import DNS
from host_local_ipam import ranges, resolvconf
from host_local_ipam.conf import HostLocalConf, RangeConf, parse
from host_local_ipam.ranges import Span


class Call:
    """The facts of a call that parsing may look at."""

    def __init__(self, version="1.0.0", args=""):
        self.cni_version = version
        self.cni_args = args


def conf(ipam, version="1.0.0", args="", **more) -> HostLocalConf:
    document = {"name": "n", "ipam": {"type": "host-local", **ipam}, **more}
    return parse(Call(version, args), document)


def one(**keys):
    return ranges.canonical(read(RangeConf, keys), 0, "ipam.ranges[0][0]", ())


def sets(found: HostLocalConf):
    return [[str(entry.span) for entry in pool] for pool in found.sets]


def refused(ipam, **more):
    with pytest.raises(CniError) as caught:
        conf(ipam, **more)
    assert caught.value.code in {4, 7}
    return caught.value


@pytest.mark.statement("HL-24")
@pytest.mark.parametrize(
    ("subnet", "span", "gateway"),
    [
        ("192.0.2.0/24", "192.0.2.1-192.0.2.254", "192.0.2.1"),
        ("192.0.2.0/25", "192.0.2.1-192.0.2.126", "192.0.2.1"),
        ("192.0.2.128/25", "192.0.2.129-192.0.2.254", "192.0.2.129"),
        ("2001:db8:1::/64", "2001:db8:1::1-2001:db8:1:0:ffff:ffff:ffff:ffff", "2001:db8:1::1"),
    ],
)
def test_defaults(subnet, span, gateway):
    found = one(subnet=subnet)

    assert (str(found.span), str(found.gateway)) == (span, gateway)


@pytest.mark.statement("HL-25")
@pytest.mark.parametrize(
    ("subnet", "length", "network"),
    [
        ("192.0.2.12/24", 24, "192.0.2.0"),
        ("2001:db8:1::1/64", 64, "2001:db8:1::"),
        ("2001:db8:1:1::/63", 63, "2001:db8:1::"),
        ("192.0.3.0/23", 23, "192.0.2.0"),
    ],
)
def test_host_bits(subnet, length, network):
    error = refused({"ranges": [[{"subnet": subnet}]]})

    assert error.msg == (
        "invalid range set 0: Network has host bits set. For a subnet mask of length "
        f"{length} the network address is {network}"
    )
    assert error.details.startswith("ipam.ranges[0][0].subnet: ")


BAD = {
    "/31": ({"subnet": "192.0.2.0/31"}, "Network 192.0.2.0/31 too small to allocate from"),
    "/127": ({"subnet": "fd00::/127"}, "Network fd00::/127 too small to allocate from"),
    "start outside": (
        {"subnet": "192.0.2.0/24", "rangeStart": "192.0.3.0"},
        "RangeStart 192.0.3.0 not in network 192.0.2.0/24",
    ),
    "end outside": (
        {"subnet": "192.0.2.0/24", "rangeEnd": "192.0.4.0"},
        "RangeEnd 192.0.4.0 not in network 192.0.2.0/24",
    ),
    "start behind end": (
        {"subnet": "192.0.2.0/24", "rangeStart": "192.0.2.50", "rangeEnd": "192.0.2.40"},
        "RangeStart 192.0.2.50 not in network 192.0.2.0/24",
    ),
    "no subnet": ({"rangeStart": "192.0.2.50"}, "IP <nil> not v4 nor v6"),
}


@pytest.mark.statement("HL-26")
@pytest.mark.parametrize("name", BAD)
def test_bad_ranges(name):
    entry, text = BAD[name]

    error = refused({"ranges": [[entry]]})

    assert error.msg == f"invalid range set 0: {text}"
    assert error.details.startswith("ipam.ranges[0][0].")


@pytest.mark.statement("HL-26")
def test_all_four_fields_are_kept():
    found = one(
        subnet="192.0.2.0/24", rangeStart="192.0.2.40", rangeEnd="192.0.2.50", gateway="192.0.2.254"
    )

    assert (str(found.span), str(found.gateway)) == ("192.0.2.40-192.0.2.50", "192.0.2.254")


@pytest.mark.statement("HL-27")
@pytest.mark.parametrize(
    ("entry", "inside", "outside"),
    [
        (
            {"subnet": "192.0.2.0/24", "rangeStart": "192.0.2.40", "rangeEnd": "192.0.2.50"},
            ("192.0.2.40", "192.0.2.45", "192.0.2.50"),
            ("192.0.2.39", "192.0.2.51", "192.0.3.45", "fd00::1"),
        ),
        (
            {"subnet": "2001:db8::/64", "rangeStart": "2001:db8::40", "rangeEnd": "2001:db8::50"},
            ("2001:db8::40", "2001:db8::50"),
            ("2001:db8::39", "2001:db8::51", "2001:db9::45"),
        ),
    ],
)
def test_contains(entry, inside, outside):
    pool = (one(**entry),)

    assert all(ranges.containing(pool, parse_address(a)) for a in inside)
    assert not any(ranges.containing(pool, parse_address(a)) for a in outside)


def span(text):
    first, _, last = text.partition("-")
    return Span(parse_address(first), parse_address(last))


@pytest.mark.statement("HL-28")
@pytest.mark.parametrize(
    ("a", "b", "overlap"),
    [
        ("10.0.0.1-10.0.0.254", "10.0.1.1-10.0.1.254", False),
        ("0.0.0.1-0.0.0.9", "::1-::9", False),
        ("10.0.0.1-10.0.0.254", "10.0.0.1-10.0.0.254", True),
        ("10.0.0.1-10.0.3.254", "10.0.1.1-10.0.1.9", True),
        ("10.0.0.1-10.0.0.100", "10.0.0.101-10.0.0.254", False),
        ("10.0.0.1-10.0.0.100", "10.0.0.100-10.0.0.254", True),
    ],
)
def test_overlap(a, b, overlap):
    assert span(a).overlaps(span(b)) is overlap
    assert span(b).overlaps(span(a)) is overlap


@pytest.mark.statement("HL-29")
def test_overlaps_within_a_set_and_between_sets():
    within = refused({"ranges": [[{"subnet": "10.1.0.0/22"}, {"subnet": "10.1.2.0/24"}]]})
    between = refused({"ranges": [[{"subnet": "10.1.0.0/22"}], [{"subnet": "10.1.2.0/24"}]]})
    mixed = refused({"ranges": [[{"subnet": "10.1.0.0/22"}, {"subnet": "fd00::/64"}]]})
    empty = refused({"ranges": [[]]})

    assert within.msg == (
        "invalid range set 0: subnets 10.1.0.1-10.1.3.254 and 10.1.2.1-10.1.2.254 overlap"
    )
    assert between.msg == "range set 0 overlaps with 1"
    assert mixed.msg == "invalid range set 0: mixed address families"
    assert empty.msg == "invalid range set 0: empty range set"


@pytest.mark.statement("HL-29")
def test_an_address_of_no_range_of_the_set():
    pool = conf({"ranges": [[{"subnet": "10.1.2.0/24"}, {"subnet": "10.2.2.0/24"}]]}).sets[0]

    assert ranges.containing(pool, parse_address("10.9.0.1")) is None
    found = ranges.containing(pool, parse_address("10.2.2.9"))
    assert found is not None
    assert str(found.subnet) == "10.2.2.0/24"
    assert ranges.describe(pool) == "10.1.2.1-10.1.2.254,10.2.2.1-10.2.2.254"


@pytest.mark.statement("HL-30")
def test_order_of_range_sets():
    found = conf(
        {"subnet": "10.1.0.0/24", "ranges": [[{"subnet": "10.2.0.0/24"}]]},
        runtimeConfig={"ipRanges": [[{"subnet": "10.3.0.0/24"}]]},
    )

    assert [s[0].split("-")[0] for s in sets(found)] == ["10.3.0.1", "10.1.0.1", "10.2.0.1"]


@pytest.mark.statement("HL-30")
@pytest.mark.parametrize("prefix", ["", "/24"])
def test_a_requested_address_of_cni_args(prefix):
    found = conf({"ranges": [[{"subnet": "10.1.0.0/16"}]]}, args=f"IP=10.1.0.5{prefix}")

    assert [str(ip) for ip in found.requested] == ["10.1.0.5"]


@pytest.mark.statement("HL-30")
def test_requested_addresses_of_every_source_in_order():
    document = {
        "name": "n",
        "ipam": {"ranges": [[{"subnet": "10.1.0.0/16"}]]},
        "args": {"cni": {"ips": ["10.1.0.6/24", "10.1.0.5"]}},
        "RuntimeConfig": {"ips": ["10.1.0.7", "10.1.0.8/16"]},
    }

    found = parse(Call(args="IP=10.1.0.5"), document)

    assert [str(ip).rpartition(".")[2] for ip in found.requested] == ["5", "6", "7", "8"]


@pytest.mark.statement("HL-30")
def test_versions_before_0_3_0_have_one_set_a_family():
    two = {"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.2.0.0/24"}]]}
    error = refused(two, version="0.2.0")
    assert error.msg == "CNI version 0.2.0 does not support more than 1 address per family"

    dual = {"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00::/64"}]]}
    assert len(conf(dual, version="0.2.0").sets) == 2


FAULTS = {
    "no ipam": ({"name": "n"}, "IPAM config missing 'ipam' key"),
    "no ranges": ({"ipam": {}}, "no IP ranges specified"),
    "subnet": ({"ipam": {"subnet": "10.1"}}, "ipam.subnet: invalid CIDR address: 10.1"),
    "nested subnet": (
        {"ipam": {"ranges": [[{"subnet": "10.1/33"}]]}},
        "ipam.ranges[0][0].subnet: invalid CIDR address: 10.1/33",
    ),
    "ranges": ({"ipam": {"ranges": {}}}, "ipam.ranges: expected an array, got object"),
    "gateway": (
        {"ipam": {"subnet": "10.1.0.0/24", "gateway": "x"}},
        "ipam.gateway: invalid IP address: x",
    ),
    "route": (
        {"ipam": {"subnet": "10.1.0.0/24", "routes": [{"dst": "1.2.3.4"}]}},
        "ipam.routes[0].dst: invalid CIDR address: 1.2.3.4",
    ),
    "exclude": (
        {"ipam": {"subnet": "10.1.0.0/24", "exclude": ["10.1.0.9-10.1.0.3"]}},
        "ipam.exclude[0]: invalid range of addresses: 10.1.0.9-10.1.0.3",
    ),
    "dataDir": ({"ipam": {"subnet": "10.1.0.0/24", "dataDir": 5}}, "ipam.dataDir: expected a"),
    "requested": (
        {"ipam": {"subnet": "10.1.0.0/24"}, "args": {"cni": {"ips": ["10.1"]}}},
        "args.cni.ips[0]: invalid IP address 10.1",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_wrong_is_named(name):
    document, text = FAULTS[name]

    with pytest.raises(CniError) as caught:
        parse(Call(), {"name": "n", **document})

    assert caught.value.code == 7
    assert caught.value.msg.startswith(text)


def order(pool, last=None, used=()):
    """The addresses in the order of trying, without an index."""
    found = []
    for entry, stretch in ranges.pieces(pool, last and parse_address(last)):
        for part in ranges.allowed(entry, stretch):
            address = part.first
            while address <= part.last:
                if str(address) not in used:
                    found.append(str(address))
                address += 1
    return found


def tail(addresses):
    return [a.rpartition(".")[2] for a in addresses]


@pytest.mark.statement("HL-17")
@pytest.mark.parametrize(
    ("last", "expected"),
    [(None, "23456"), ("192.168.1.6", "23456"), ("192.168.1.3", "45623")],
)
def test_a_walk_over_a_29(last, expected):
    pool = conf({"subnet": "192.168.1.0/29"}).sets[0]

    assert tail(order(pool, last)) == list(expected)


@pytest.mark.statement("HL-23")
def test_a_walk_over_two_ranges():
    two = {"ranges": [[{"subnet": "192.168.1.0/30"}, {"subnet": "192.168.2.0/30"}]]}
    pool = conf(two).sets[0]

    assert order(pool) == ["192.168.1.2", "192.168.2.2"]
    assert order(pool, "192.168.1.2") == ["192.168.2.2", "192.168.1.2"]
    assert order(pool, "192.168.2.2") == ["192.168.1.2", "192.168.2.2"]
    assert order(pool, "10.0.0.1") == ["192.168.1.2", "192.168.2.2"]


def test_exclusions_and_gateway_are_holes():
    pool = conf(
        {
            "ranges": [[{"subnet": "10.0.0.0/28", "gateway": "10.0.0.7"}]],
            "exclude": ["10.0.0.1-10.0.0.4", "10.0.0.12/30", "10.0.0.9"],
        }
    ).sets[0]

    assert tail(order(pool)) == ["5", "6", "8", "10", "11"]


@pytest.mark.statement("HL-15")
def test_resolv_conf():
    found = resolvconf.parse(
        """
; comment
# comment
nameserver 192.0.2.1
  nameserver 192.0.2.2
domain a.test
domain b.test
search one.test two.test
search three.test
options ndots:2
options debug rotate
sortlist 1.2.3.4
nameserver
"""
    )

    assert found == DNS(
        nameservers=("192.0.2.1", "192.0.2.2"),
        domain="b.test",
        search=("one.test", "two.test", "three.test"),
        options=("ndots:2", "debug", "rotate"),
    )
