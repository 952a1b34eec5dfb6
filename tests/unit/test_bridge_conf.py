"""bridge's configuration and VLAN arithmetic."""

from __future__ import annotations

import pytest

from bridge import gateway, vlan
from bridge.conf import parse, parse_cleanup
from cni_plugins.errors import CniError
from cni_plugins.protocol.addresses import parse_network
from cni_plugins.protocol.result import IP, Result, Route


class Call:
    """The facts of a call that parsing may look at."""

    def __init__(self, cni_args="", cni_version="1.0.0"):
        self.cni_args = cni_args
        self.cni_version = cni_version
        self.said = []

    def forgive(self, fault):
        self.warn(f"ignored in the configuration: {fault.msg}")

    def warn(self, msg):
        self.said.append(msg)


def conf(version="1.0.0", **keys):
    return parse(Call(cni_version=version), {"name": "n", "type": "bridge", **keys})


def refused(**keys):
    with pytest.raises(CniError) as caught:
        conf(**keys)
    return caught.value


TRUNKS = {
    "empty": ([], ()),
    "range": ([{"minID": 100, "maxID": 105}], (100, 101, 102, 103, 104, 105)),
    "id": ([{"id": 10}], (10,)),
    "both": ([{"id": 10}, {"minID": 100, "maxID": 102}], (10, 100, 101, 102)),
    "in one entry": ([{"id": 10, "minID": 9, "maxID": 11}], (9, 10, 11)),
}


@pytest.mark.statement("BR-01", "BR-02", "BR-03", "BR-04")
@pytest.mark.parametrize("name", TRUNKS)
def test_trunk(name):
    written, vids = TRUNKS[name]
    found = conf(vlanTrunk=written)

    assert found.vlans.tagged == vids
    assert found.has_vlans
    assert found.vlans.native == (1 if vids else 0)


BAD_TRUNKS = {
    "BR-05": (
        {"minID": 10},
        "minID and maxID should be configured simultaneously, maxID is missing",
    ),
    "BR-06": (
        {"maxID": 10},
        "minID and maxID should be configured simultaneously, minID is missing",
    ),
    "BR-07": ({"minID": -1, "maxID": 5}, "incorrect trunk minID parameter"),
    "BR-07 zero": ({"minID": 0, "maxID": 5}, "incorrect trunk minID parameter"),
    "BR-07 high": ({"minID": 4095, "maxID": 5}, "incorrect trunk minID parameter"),
    "BR-08": ({"minID": 5, "maxID": 5000}, "incorrect trunk maxID parameter"),
    "BR-09": ({"id": 5000}, "incorrect trunk id parameter"),
    "BR-09 negative": ({"id": -1}, "incorrect trunk id parameter"),
    "BR-10": ({"minID": 1000, "maxID": 100}, "minID is greater than maxID in trunk parameter"),
}


@pytest.mark.statement("BR-05", "BR-06", "BR-07", "BR-08", "BR-09", "BR-10")
@pytest.mark.parametrize("name", BAD_TRUNKS)
def test_bad_trunk(name):
    entry, text = BAD_TRUNKS[name]

    error = refused(vlanTrunk=[entry])

    assert (error.code, error.msg) == (7, text)
    assert error.details.startswith("vlanTrunk[0]")


@pytest.mark.statement("BR-11")
@pytest.mark.parametrize("version", ["0.4.0", "1.0.0"])
def test_vlan(version):
    assert conf(version, vlan=0).vlans.is_empty
    assert conf(version, vlan=100).vlans.native == 100
    for vid in (-100, 5000):
        error = refused(vlan=vid)
        assert error.msg == f"invalid VLAN ID {vid} (must be between 0 and 4094)"


def test_a_native_vlan_is_not_tagged_too():
    assert vlan.wanted(100, (99, 100, 101)) == vlan.PortVlans(native=100, tagged=(99, 101))


def test_runs_of_vlan_ids():
    assert vlan.runs((1, 2, 3, 7, 9, 10)) == ((1, 3), (7, 7), (9, 10))
    assert vlan.runs(()) == ()


BAD = {
    "bridge": ({"bridge": "a/b"}, "bridge: 'a/b'"),
    "bridge name too long": ({"bridge": "a" * 16}, "bridge: "),
    "bridge of another type": ({"bridge": 5}, "bridge: expected a string, got integer"),
    "vlan interface too long": (
        {"bridge": "a-long-bridge", "vlan": 100, "isGateway": True},
        "vlan: 'a-long-bridge.100'",
    ),
    "isGateway": ({"isGateway": "yes"}, "isGateway: expected a boolean, got string"),
    "ipMasq": ({"ipMasq": 1}, "ipMasq: expected a boolean, got integer"),
    "mtu": ({"mtu": -1}, "mtu: -1 is outside 0..65535"),
    "mtu of another type": ({"mtu": 1500.0}, "mtu: expected an integer, got number"),
    "ipMasqBackend": (
        {"ipMasqBackend": "pf"},
        "ipMasqBackend: 'pf' is not one of 'iptables', 'nftables'",
    ),
    "hairpin": ({"hairpinMode": True, "promiscMode": True}, "hairpinMode: cannot be combined"),
    "disableContainerInterface": (
        {"disableContainerInterface": True, "ipam": {"type": "host-local"}},
        "disableContainerInterface: cannot be combined",
    ),
    "vlanTrunk": ({"vlanTrunk": [5]}, "vlanTrunk[0]: expected an object, got integer"),
    "ipam": ({"ipam": {"type": 5}}, "ipam.type: expected a string, got integer"),
    "dns": ({"dns": {"search": "a"}}, "dns.search: expected an array, got string"),
    "args": ({"args": {"cni": {"mac": "zz"}}}, "args.cni.mac: invalid MAC address: zz"),
    "runtimeConfig": (
        {"runtimeConfig": {"mac": "01:00:5e:00:00:01"}},
        "runtimeConfig.mac: invalid MAC address: 01:00:5e:00:00:01 is not a unicast address",
    ),
    "prevResult": (
        {"prevResult": {"ips": [{"address": "10.1.2.3"}]}},
        "prevResult.ips[0].address: invalid CIDR address: 10.1.2.3",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_named_by_its_path(name):
    keys, text = BAD[name]

    error = refused(**keys)

    assert error.code == 7
    assert error.msg.startswith(text)


@pytest.mark.parametrize("name", BAD)
def test_cleanup_takes_what_is_wrong_as_not_set(name):
    call = Call()

    found = parse_cleanup(call, {"name": "n", "ipMasq": True, **BAD[name][0]})

    assert found.name == "n"


def test_is_default_gateway_implies_is_gateway():
    assert conf(isDefaultGateway=True).is_gateway


def lease(*networks, routes=()):
    return Result(ips=tuple(IP(address=parse_network(n)) for n in networks), routes=routes)


def test_gateways_are_the_first_address_of_the_subnet():
    found = gateway.with_gateways(lease("10.1.2.9/24", "fd00::9/64"), conf(isGateway=True))

    assert [str(ip.gateway) for ip in found.ips] == ["10.1.2.1", "fd00::1"]
    assert found.routes == ()


def test_default_routes_once_a_family():
    given = lease("10.1.2.9/24", "10.1.3.9/24", "fd00::9/64")

    found = gateway.with_gateways(given, conf(isDefaultGateway=True))

    assert [(str(r.dst), str(r.gw)) for r in found.routes] == [
        ("0.0.0.0/0", "10.1.2.1"),
        ("::/0", "fd00::1"),
    ]


def test_a_default_route_of_ipam_with_a_gateway_stays_the_only_one():
    own = Route(dst=parse_network("0.0.0.0/0"), gw=parse_network("10.1.2.7/32").address)

    found = gateway.with_gateways(lease("10.1.2.9/24", routes=(own,)), conf(isDefaultGateway=True))

    assert found.routes == (own,)


CONFLICTS = {
    "same": ("10.0.0.1/8", "10.0.0.1/8", False),
    "other v4": ("10.0.0.1/8", "192.168.0.1/24", True),
    "v6 overlapping": ("fd00::1/48", "fd00:0:0:1::1/64", True),
    "v6 disjoint": ("fd00:1::1/64", "fd00:2::1/64", False),
    "other family": ("10.0.0.1/8", "fd00::1/64", False),
}


@pytest.mark.parametrize("name", CONFLICTS)
def test_conflicting_addresses_of_the_bridge(name):
    wanted, present, conflict = CONFLICTS[name]

    found = gateway.conflicts(parse_network(wanted), (parse_network(present),))

    assert bool(found) is conflict
