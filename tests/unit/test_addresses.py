"""Address types: their text forms and arithmetic."""

from __future__ import annotations

import pytest

from cni_plugins.errors import CniError, ConfigError
from cni_plugins.protocol.addresses import Address, Network, parse_address, parse_network
from cni_plugins.protocol.config import ip_network, read
from cni_plugins.protocol.result import IP, Interface, Result, Route
from cni_plugins.protocol.versions import RouteConf, encode

statement = pytest.mark.statement


@statement("TY01", "TY03")
@pytest.mark.parametrize(
    ("text", "address", "prefix"),
    [
        ("1.2.3.4/24", "1.2.3.4", 24),
        ("2001:db8::/32", "2001:db8::", 32),
        ("10.0.0.5/8", "10.0.0.5", 8),
        ("0.0.0.0/0", "0.0.0.0", 0),
        ("255.255.255.255/32", "255.255.255.255", 32),
        ("::/0", "::", 0),
        ("fe80::1/128", "fe80::1", 128),
    ],
)
def test_networks_keep_their_host_bits(text: str, address: str, prefix: int) -> None:
    """What is read is what is written."""
    network = parse_network(text)
    assert (str(network.address), network.prefix) == (address, prefix)
    assert str(network) == text
    assert ip_network.read(str(network), "dst") == network


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("2001:DB8:0:0::7/64", "2001:db8::7/64"),
        ("10.0.0.1/024", "10.0.0.1/24"),
        ("::ffff:10.0.0.5/120", "10.0.0.5/24"),
        ("::ffff:a00:5/96", "10.0.0.5/0"),
        ("::1:2/64", "::1:2/64"),
        ("::1.2.3.4/96", "::102:304/96"),
        ("1:0:0:2:0:0:0:3/64", "1:0:0:2::3/64"),
        ("1:0:2:3:4:5:6:7/64", "1:0:2:3:4:5:6:7/64"),
        ("::123/64", "::123/64"),
        ("64:ff9b::1.2.3.4/96", "64:ff9b::102:304/96"),
    ],
)
def test_one_form_is_written(text: str, written: str) -> None:
    """Lower case and compressed; an IPv4-mapped address is the IPv4 address."""
    assert str(parse_network(text)) == written


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("1.2.3/45", marks=statement("TY02")),
        pytest.param("1.2.3.4/99", marks=statement("TY05")),
        "",
        "/",
        "1.2.3.4",
        "1.2.3.4/",
        "/24",
        "1.2.3.4/-1",
        "1.2.3.4/+1",
        "1.2.3.4/ 24",
        "1.2.3.4/24 ",
        " 1.2.3.4/24",
        "1.2.3.4/255.255.255.0",
        "01.2.3.4/24",
        "1.2.3.4/33",
        "2001:db8::/129",
        "fe80::1%eth0/64",
        "::ffff:10.0.0.5/95",
        "1.2.3.4/24/24",
        "1.2.3.4/\u0662",
        "1.2.3.4/\u00b2",
        "<nil>",
        "a\0b/1",
    ],
)
def test_texts_that_are_no_network(text: str) -> None:
    """The text is named."""
    with pytest.raises(ValueError, match="invalid CIDR address: ") as caught:
        parse_network(text)
    assert str(caught.value) == f"invalid CIDR address: {text}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1.2.3",
        "1.2.3.x",
        "1.2.3.4/24",
        "1.2.3.04",
        "256.1.1.1",
        "::g",
        ":::",
        "fe80::1%lo",
        "\0",
    ],
)
def test_texts_that_are_no_address(text: str) -> None:
    """The text is named."""
    with pytest.raises(ValueError, match="invalid IP address: ") as caught:
        parse_address(text)
    assert str(caught.value) == f"invalid IP address: {text}"


@statement("TY04")
@pytest.mark.parametrize("value", [1, 1.5, True, [], {}])
def test_a_network_is_a_string(value: object) -> None:
    """Another JSON type is an error with its path."""
    with pytest.raises(ConfigError, match="^dst: expected a string, got "):
        ip_network.read(value, "dst")


@statement("TY06", "TY08")
def test_a_full_route_goes_through_unharmed() -> None:
    """All seven keys, both ways."""
    document = {
        "dst": "1.2.3.0/24",
        "gw": "1.2.3.1",
        "mtu": 1500,
        "advmss": 1340,
        "priority": 100,
        "table": 50,
        "scope": 253,
    }
    route = read(RouteConf, document).as_route()
    assert encode(Result(routes=(route,)), "1.1.0")["routes"] == [document]
    for name in document:
        assert f"{name}=" in repr(route)


@statement("TY07")
def test_a_route_s_gateway_is_an_address() -> None:
    """The path and the text are named."""
    with pytest.raises(ConfigError, match=r"^gw: invalid IP address: 1\.2\.3\.x"):
        read(RouteConf, {"dst": "1.2.3.0/24", "gw": "1.2.3.x"})


@pytest.mark.parametrize("gw", ["", None])
def test_an_empty_gateway_is_none(gw: str | None) -> None:
    """As an absent one."""
    assert read(RouteConf, {"dst": "1.2.3.0/24", "gw": gw}).gw is None


@pytest.mark.parametrize("document", [{}, {"dst": None}, {"dst": ""}, {"dst": "<nil>"}])
def test_a_route_needs_a_destination(document: dict[str, object]) -> None:
    """The reference prints such routes as <nil>, which nobody can read."""
    with pytest.raises(ConfigError, match="^dst: "):
        read(RouteConf, document)


@statement("TY09", "TY10", "TY11")
def test_errors_as_text() -> None:
    """The message, and behind a semicolon the details when there are any."""
    full = CniError(1234, "some message", "some details")
    assert (full.code, full.msg, full.details) == (1234, "some message", "some details")
    assert str(full) == "some message; some details"
    assert str(CniError(1234, "some message")) == "some message"


@statement("TY12")
def test_a_dual_stack_result_for_a_configuration_without_version() -> None:
    """Is written in 0.1.0."""
    result = Result(
        interfaces=(Interface(name="eth0"),),
        ips=(
            IP(address=parse_network("1.2.3.30/24"), gateway=parse_address("1.2.3.1")),
            IP(address=parse_network("abcd:1234:ffff::cdde/64")),
        ),
        routes=(Route(dst=parse_network("15.5.6.0/24"), gw=parse_address("15.5.6.8")),),
    )
    assert encode(result, "") == {
        "cniVersion": "0.1.0",
        "ip4": {
            "ip": "1.2.3.30/24",
            "gateway": "1.2.3.1",
            "routes": [{"dst": "15.5.6.0/24", "gw": "15.5.6.8"}],
        },
        "ip6": {"ip": "abcd:1234:ffff::cdde/64"},
        "dns": {},
    }


# --- arithmetic ---------------------------------------------------------------------------------


@statement("IP-01")
@pytest.mark.parametrize(
    ("address", "after"),
    [
        ("192.168.0.1", "192.168.0.2"),
        ("192.168.0.255", "192.168.1.0"),
        ("0.1.0.4", "0.1.0.5"),
        ("ab12::123", "ab12::124"),
        ("ab12::ffff", "ab12::1:0"),
        ("::122", "::123"),
    ],
)
def test_next_and_previous_address(address: str, after: str) -> None:
    """Across octets and groups, keeping leading zero bytes."""
    assert str(parse_address(address) + 1) == after
    assert str(parse_address(after) - 1) == address


@statement("IP-02")
def test_addresses_are_ordered() -> None:
    """By value within a family, IPv4 first; a mapped one is its IPv4 address."""
    texts = ["192.168.1.200", "192.168.1.4", "::1", "fe80::1", "10.0.0.1"]
    ordered = sorted(parse_address(text) for text in texts)
    assert [str(a) for a in ordered] == [
        "10.0.0.1",
        "192.168.1.4",
        "192.168.1.200",
        "::1",
        "fe80::1",
    ]
    assert parse_address("::ffff:10.0.0.1") == parse_address("10.0.0.1")


@statement("IP-03")
@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("192.168.0.19/24", "192.168.0.0", "192.168.0.255"),
        ("10.1.2.3/32", "10.1.2.3", "10.1.2.3"),
        ("10.1.2.3/31", "10.1.2.2", "10.1.2.3"),
        ("10.1.2.3/0", "0.0.0.0", "255.255.255.255"),
        ("ab12::123/64", "ab12::", "ab12::ffff:ffff:ffff:ffff"),
        ("::ffff:192.168.0.19/120", "192.168.0.0", "192.168.0.255"),
    ],
)
def test_ends_of_a_network(text: str, first: str, last: str) -> None:
    """Host bits masked, and all set."""
    network = parse_network(text)
    assert (str(network.first), str(network.last)) == (first, last)
    assert network.masked == Network(network.first, network.prefix)


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("10.0.0.0/8", "10.1.0.0/16", True),
        ("10.1.0.0/16", "10.0.0.0/8", True),
        ("10.0.0.0/24", "10.0.1.0/24", False),
        ("10.0.0.0/24", "::/0", False),
        ("2001:db8:1::1/48", "2001:db8:1:2::1/64", True),
    ],
)
def test_overlap(one: str, other: str, *, overlap: bool) -> None:
    """Networks that share an address."""
    assert parse_network(one).overlaps(parse_network(other)) is overlap


def test_membership() -> None:
    """Of the same family only."""
    network = parse_network("10.1.2.3/24")
    assert parse_address("10.1.2.255") in network
    assert parse_address("10.1.3.0") not in network
    assert parse_address("::1") not in network
    assert not parse_network("10.1.2.3/24").is_default
    assert parse_network("::/0").is_default
    assert str(Address(4, 1).host) == "0.0.0.1/32"
