"""Results in every version of the spec, both ways."""

from __future__ import annotations

from typing import Any

import pytest

from cni_plugins.errors import CniError, ConfigError
from cni_plugins.protocol import spec
from cni_plugins.protocol.addresses import parse_network
from cni_plugins.protocol.result import DNS, IP, Interface, Result
from cni_plugins.protocol.versions import convert, decode, decode_any, encode

statement = pytest.mark.statement

LEGACY_ROUTES_4 = [{"dst": "15.5.6.0/24", "gw": "15.5.6.8"}]
LEGACY_ROUTES_6 = [{"dst": "1111:dddd::/80", "gw": "1111:dddd::aaaa"}]
FULL_DNS = {
    "nameservers": ["1.2.3.4", "1::cafe"],
    "domain": "acompany.com",
    "search": ["somedomain.com", "otherdomain.net"],
    "options": ["foo", "bar"],
}


def legacy(version: str, *, with_gateways: bool = True) -> dict[str, Any]:
    """A full result of family A."""

    def routes(given: list[dict[str, str]]) -> list[dict[str, str]]:
        return given if with_gateways else [{"dst": route["dst"]} for route in given]

    return {
        "cniVersion": version,
        "ip4": {
            "ip": "1.2.3.30/24",
            "gateway": "1.2.3.1",
            "routes": routes(LEGACY_ROUTES_4),
        },
        "ip6": {
            "ip": "abcd:1234:ffff::cdde/64",
            "gateway": "abcd:1234:ffff::1",
            "routes": routes(LEGACY_ROUTES_6),
        },
        "dns": FULL_DNS,
    }


def modern(version: str, **interface: Any) -> dict[str, Any]:
    """A full result of family B."""
    return {
        "cniVersion": version,
        "interfaces": [{"name": "eth0", "mac": "00:11:22:33:44:55", **interface}],
        "ips": [
            {"version": "4", "interface": 0, "address": "1.2.3.30/24", "gateway": "1.2.3.1"},
            {
                "version": "6",
                "interface": 0,
                "address": "abcd:1234:ffff::cdde/64",
                "gateway": "abcd:1234:ffff::1",
            },
        ],
        "routes": LEGACY_ROUTES_4 + LEGACY_ROUTES_6,
        "dns": FULL_DNS,
    }


def newest(version: str) -> dict[str, Any]:
    """A full result of family C."""
    document = modern(
        version,
        mtu=1500,
        sandbox="/proc/3553/ns/net",
        pciID="8086:9a01",
        socketPath="/path/to/vhost/fd",
    )
    document["ips"] = [{k: v for k, v in ip.items() if k != "version"} for ip in document["ips"]]
    return document


# --- family A -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        pytest.param("0.2.0", "0.2.0", marks=statement("R201")),
        pytest.param("0.1.0", "0.1.0", marks=statement("R202")),
        pytest.param("0.2.0", "0.1.0", marks=statement("R203")),
        pytest.param("0.1.0", "0.2.0", marks=statement("R204")),
    ],
)
def test_within_family_a_only_the_version_differs(given: str, wanted: str) -> None:
    """ip4 and ip6 with their own routes."""
    assert convert(legacy(given), wanted) == legacy(wanted)


@statement("R205")
@pytest.mark.parametrize("version", ["", None])
def test_a_result_without_version_is_0_1_0(version: str | None) -> None:
    """It is read as family A and written as 0.1.0."""
    document = legacy("") | {"cniVersion": version}
    assert convert(document, "") == legacy("0.1.0")


def test_family_a_without_addresses() -> None:
    """A version text is all that is left to change."""
    assert convert({"cniVersion": "0.2.0"}, "0.1.0") == {"cniVersion": "0.1.0", "dns": {}}
    assert convert({}, "0.2.0") == {"cniVersion": "0.2.0", "dns": {}}


# --- family B -----------------------------------------------------------------------------------


@statement("R401")
@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0"])
def test_family_b_is_written_as_it_was_read(version: str) -> None:
    """ips carry version, interface, address and gateway."""
    assert convert(modern("0.3.1"), version) == modern(version)


@statement("R402")
def test_family_b_to_a() -> None:
    """The first address of each family with its family's routes; interfaces are gone."""
    assert convert(modern("0.3.1"), "0.1.0") == legacy("0.1.0")


@pytest.mark.parametrize(
    "with_gateways",
    [pytest.param(True, marks=statement("R403")), pytest.param(False, marks=statement("R404"))],
)
def test_family_a_to_b_and_back(*, with_gateways: bool) -> None:
    """Nothing is lost, and no gateway appears in the routes that was not there."""
    document = legacy("0.2.0", with_gateways=with_gateways)
    between = convert(document, "0.4.0")
    assert [("gw" in route) for route in between["routes"]] == [with_gateways] * 2
    assert "interfaces" not in between
    assert convert(between, "0.2.0") == document


@statement("R407")
@pytest.mark.parametrize("version", ["", "0.1.0", "0.2.0"])
def test_no_addresses_cannot_be_said_in_family_a(version: str) -> None:
    """An L2 bridge's result, say."""
    with pytest.raises(CniError) as caught:
        encode(Result(interfaces=(Interface(name="eth0"),)), version)
    assert str(caught.value) == "cannot convert: no valid IP addresses"
    assert caught.value.code == 999


# --- family C -----------------------------------------------------------------------------------


@statement("R101")
def test_family_c_is_written_as_it_was_read() -> None:
    """With the spellings mtu, pciID and socketPath, and no version in ips."""
    assert convert(newest("1.1.0"), "1.1.0") == newest("1.1.0")


@statement("R102")
def test_family_c_both_versions() -> None:
    """1.0.0 and 1.1.0 say the same."""
    between = convert(newest("1.1.0"), "1.0.0")
    assert between == newest("1.0.0")
    assert convert(between, "1.1.0") == newest("1.1.0")


@statement("R103")
def test_family_c_to_a() -> None:
    """As from family B."""
    assert convert(newest("1.1.0"), "0.1.0") == legacy("0.1.0")


@statement("R104")
def test_family_c_to_b() -> None:
    """The new keys of interfaces are gone, ips say their family."""
    assert convert(newest("1.1.0"), "0.4.0") == modern("0.4.0", sandbox="/proc/3553/ns/net")


def test_keys_of_the_newest_versions_are_sorted() -> None:
    """As the reference writes them."""
    document = convert(newest("1.1.0"), "1.1.0")
    assert list(document) == ["cniVersion", "dns", "interfaces", "ips", "routes"]
    assert list(document["interfaces"][0]) == sorted(document["interfaces"][0])


# --- families B and C ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "version",
    [
        pytest.param("0.4.0", marks=statement("R405")),
        pytest.param("1.1.0", marks=statement("R105")),
    ],
)
def test_interface_index_0_is_kept(version: str) -> None:
    """It is an index, not an empty value."""
    document = {"cniVersion": version, "ips": [{"address": "10.0.0.2/24", "interface": 0}]}
    assert decode_any(document, "").ips[0].interface == 0
    assert convert(document, version)["ips"][0]["interface"] == 0


@pytest.mark.parametrize(
    "version",
    [
        pytest.param("0.4.0", marks=statement("R406")),
        pytest.param("1.1.0", marks=statement("R106")),
    ],
)
@pytest.mark.parametrize("ip", [{}, {"interface": None}])
def test_absent_interface_index_stays_absent(version: str, ip: dict[str, None]) -> None:
    """No index is invented."""
    document: dict[str, Any] = {"cniVersion": version, "ips": [{"address": "10.0.0.2/24", **ip}]}
    assert "interface" not in convert(document, version)["ips"][0]


@pytest.mark.parametrize(
    "version",
    [
        pytest.param("0.4.0", marks=statement("R408")),
        pytest.param("1.1.0", marks=statement("R107")),
    ],
)
def test_an_address_is_a_string(version: str) -> None:
    """Its path is named."""
    document = {"cniVersion": version, "ips": [{"version": "4", "address": 123}]}
    with pytest.raises(ConfigError) as caught:
        decode_any(document, "")
    assert caught.value.msg == "ips[0].address: expected a string, got integer"


@pytest.mark.parametrize(
    ("part", "path"),
    [
        ({"interfaces": [{"name": "a", "mtu": 1500.0}]}, "interfaces[0].mtu"),
        ({"interfaces": [{"name": "a", "mtu": True}]}, "interfaces[0].mtu"),
        ({"interfaces": [{"name": "a", "mtu": "1500"}]}, "interfaces[0].mtu"),
        ({"interfaces": {}}, "interfaces"),
        ({"ips": [{}]}, "ips[0].address"),
        ({"ips": [{"address": "10.0.0.1"}]}, "ips[0].address"),
        ({"ips": [{"address": "10.0.0.1/24", "gateway": "x"}]}, "ips[0].gateway"),
        ({"ips": [{"address": "10.0.0.1/24", "interface": "0"}]}, "ips[0].interface"),
        ({"ips": [5]}, "ips[0]"),
        ({"routes": [{"gw": "10.0.0.1"}]}, "routes[0].dst"),
        ({"routes": [{"dst": "0.0.0.0/0", "scope": 256}]}, "routes[0].scope"),
        ({"dns": []}, "dns"),
        ({"dns": {"nameservers": "8.8.8.8"}}, "dns.nameservers"),
        ({"dns": {"search": [1]}}, "dns.search[0]"),
        ({"cniVersion": 5}, "cniVersion"),
        ({"cniVersion": {}}, "cniVersion"),
    ],
)
def test_faults_are_named_by_their_path(part: dict[str, Any], path: str) -> None:
    """A wrong type or text anywhere."""
    with pytest.raises(ConfigError) as caught:
        decode_any({"cniVersion": "1.1.0", **part}, "")
    assert caught.value.path == path


def test_null_and_unknown_keys_say_nothing() -> None:
    """Nulls are absent, unknown keys are dropped."""
    document: dict[str, Any] = {
        "cniVersion": "1.1.0",
        "interfaces": None,
        "ips": None,
        "routes": [],
        "dns": {"search": []},
        "more": 1,
    }
    assert convert(document, "1.1.0") == {"cniVersion": "1.1.0"}
    assert convert({"cniVersion": "1.1.0", "interfaces": [{"name": None}]}, "1.1.0") == {
        "cniVersion": "1.1.0",
        "interfaces": [{"name": ""}],
    }


@pytest.mark.parametrize("table", [0, 5000])
@pytest.mark.parametrize("version", ["0.3.0", "0.4.0", "1.0.0", "1.1.0"])
def test_numbers_that_may_be_0_are_kept(version: str, table: int) -> None:
    """Table 0 and scope 0 are values; mtu, advmss and priority 0 are not."""
    route = {"dst": "10.0.0.0/8", "table": table, "scope": 0, "mtu": 0, "advmss": 0, "priority": 0}
    document = convert({"cniVersion": version, "routes": [route]}, version)
    assert document["routes"] == [{"dst": "10.0.0.0/8", "table": table, "scope": 0}]


@pytest.mark.parametrize("version", ["5678.456", "0.5.0", "1.0", "x"])
def test_unknown_versions(version: str) -> None:
    """Neither read nor written."""
    with pytest.raises(CniError) as caught:
        decode_any({"cniVersion": version}, "")
    assert caught.value.msg == f'unsupported CNI result version "{version}"'
    with pytest.raises(CniError) as caught:
        encode(Result(), version)
    assert caught.value.msg == f"no converter for CNI result version 1.1.0 to {version}"


def test_a_document_of_another_family_is_refused() -> None:
    """Within a family any version passes."""
    assert decode({"cniVersion": "1.0.0"}, "1.1.0") == Result()
    assert decode({"cniVersion": "0.3.1"}, "0.4.0") == Result()
    with pytest.raises(CniError) as caught:
        decode({"cniVersion": "1.0.0"}, "0.4.0")
    assert caught.value.msg == (
        'result type supports [0.3.0 0.3.1 0.4.0] but unmarshalled CNIVersion is "1.0.0"'
    )


def test_the_version_key_matches_in_any_case_and_the_last_counts() -> None:
    """As every key."""
    assert decode_any({"cniVersion": "9", "CNIVERSION": "0.4.0"}, "") == Result()


def test_addresses_are_put_on_an_interface() -> None:
    """All of them, and nothing else changes."""
    result = Result(ips=(IP(address=parse_network("10.0.0.2/24")),), dns=DNS(domain="a"))
    placed = result.with_interfaces(Interface(name="br0"), Interface(name="eth0"), ips_on=1)
    assert [ip.interface for ip in placed.ips] == [1]
    assert [i.name for i in placed.interfaces] == ["br0", "eth0"]
    assert placed.dns == result.dns


# --- golden vectors -----------------------------------------------------------------------------

C1 = {
    "cniVersion": "1.1.0",
    "interfaces": [
        {"name": "br9", "mac": "02:00:00:00:00:01", "mtu": 1400},
        {
            "name": "eth0",
            "mac": "02:00:00:00:00:02",
            "mtu": 1400,
            "sandbox": "/run/netns/q",
            "pciID": "0000:01:00.1",
            "socketPath": "/run/s",
        },
    ],
    "ips": [
        {"address": "198.51.100.7/28", "gateway": "198.51.100.1", "interface": 1},
        {"address": "198.51.100.8/28", "interface": 1},
        {"address": "2001:DB8::7/64", "interface": 1},
    ],
    "routes": [
        {"dst": "0.0.0.0/0", "gw": "198.51.100.1", "mtu": 1300, "table": 0},
        {"dst": "2001:db8:f::/48", "priority": 5},
    ],
    "dns": {"search": ["q.test"]},
}
C1_AS_040 = {
    "cniVersion": "0.4.0",
    "interfaces": [
        {"name": "br9", "mac": "02:00:00:00:00:01"},
        {"name": "eth0", "mac": "02:00:00:00:00:02", "sandbox": "/run/netns/q"},
    ],
    "ips": [
        {
            "version": "4",
            "interface": 1,
            "address": "198.51.100.7/28",
            "gateway": "198.51.100.1",
        },
        {"version": "4", "interface": 1, "address": "198.51.100.8/28"},
        {"version": "6", "interface": 1, "address": "2001:db8::7/64"},
    ],
    "routes": [
        {"dst": "0.0.0.0/0", "gw": "198.51.100.1", "mtu": 1300, "table": 0},
        {"dst": "2001:db8:f::/48", "priority": 5},
    ],
    "dns": {"search": ["q.test"]},
}
C1_AS_020 = {
    "cniVersion": "0.2.0",
    "ip4": {
        "ip": "198.51.100.7/28",
        "gateway": "198.51.100.1",
        "routes": [{"dst": "0.0.0.0/0", "gw": "198.51.100.1"}],
    },
    "ip6": {"ip": "2001:db8::7/64", "routes": [{"dst": "2001:db8:f::/48"}]},
    "dns": {"search": ["q.test"]},
}


def lower_cased(version: str) -> dict[str, Any]:
    """C1 as family C writes it."""
    ips = [*C1["ips"][:2], {"address": "2001:db8::7/64", "interface": 1}]  # type: ignore[index]
    return {**C1, "cniVersion": version, "ips": ips}


@pytest.mark.parametrize(
    ("given", "version", "expected"),
    [
        (C1, "1.1.0", lower_cased("1.1.0")),
        (C1, "1.0.0", lower_cased("1.0.0")),
        (C1, "0.4.0", C1_AS_040),
        (C1, "0.3.1", C1_AS_040 | {"cniVersion": "0.3.1"}),
        (C1, "0.3.0", C1_AS_040 | {"cniVersion": "0.3.0"}),
        (C1, "0.2.0", C1_AS_020),
        (C1, "0.1.0", C1_AS_020 | {"cniVersion": "0.1.0"}),
        (C1, "", C1_AS_020 | {"cniVersion": "0.1.0"}),
        (
            {
                "cniVersion": "0.2.0",
                "ip4": {
                    "ip": "198.51.100.7/28",
                    "gateway": "198.51.100.1",
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
                "ip6": {"ip": "2001:db8::7/64"},
            },
            "1.1.0",
            {
                "cniVersion": "1.1.0",
                "ips": [
                    {"address": "198.51.100.7/28", "gateway": "198.51.100.1"},
                    {"address": "2001:db8::7/64"},
                ],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        ),
        (
            {
                "cniVersion": "0.3.0",
                "ips": [{"version": "6", "address": "2001:db8::7/64"}],
                "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
            },
            "0.1.0",
            {
                "cniVersion": "0.1.0",
                "ip6": {"ip": "2001:db8::7/64", "routes": [{"dst": "::/0"}]},
                "dns": {},
            },
        ),
        ({"cniVersion": "1.1.0"}, "1.1.0", {"cniVersion": "1.1.0"}),
        ({"cniVersion": "0.4.0"}, "0.4.0", {"cniVersion": "0.4.0", "dns": {}}),
        ({"cniVersion": "0.2.0"}, "0.1.0", {"cniVersion": "0.1.0", "dns": {}}),
        (
            {
                "cniVersion": "1.1.0",
                "ips": [{"address": "::ffff:10.0.0.5/120", "gateway": "::ffff:10.0.0.1"}],
            },
            "0.4.0",
            {
                "cniVersion": "0.4.0",
                "ips": [{"version": "4", "address": "10.0.0.5/24", "gateway": "10.0.0.1"}],
                "dns": {},
            },
        ),
    ],
)
def test_golden_conversions(given: dict[str, Any], version: str, expected: dict[str, Any]) -> None:
    """Recorded from the reference suite."""
    assert convert(given, version) == expected


def test_golden_conversion_that_fails() -> None:
    """Nothing to say in 0.1.0."""
    with pytest.raises(CniError, match="cannot convert: no valid IP addresses"):
        convert({"cniVersion": "1.1.0"}, "0.1.0")


@pytest.mark.parametrize("given", spec.ALL)
@pytest.mark.parametrize("wanted", spec.ALL)
def test_every_version_to_every_other(given: str, wanted: str) -> None:
    """What both can say arrives."""
    document = convert(convert(C1, given), wanted)
    assert document["cniVersion"] == wanted
    assert decode_any(document, "").ips[0].address == parse_network("198.51.100.7/28")
