"""sbr: rules, tables, and the main table's routes, there and back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.state import assert_same, snapshot

if TYPE_CHECKING:
    from tests.kit.node import Node, Pod

pytestmark = pytest.mark.netns


@pytest.fixture(autouse=True)
def _links(node: Node, pod: Pod) -> None:
    """eth0 with the container's default route, net1 as another plugin left it."""
    node.sh(
        "sh",
        "-ec",
        """
    ip link add up0 type veth peer eth0 netns pod1
    ip link add up1 type veth peer net1 netns pod1
    ip link set up0 up; ip link set up1 up
    """,
    )
    pod.sh(
        "sh",
        "-ec",
        """
    sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0
    ip link set eth0 up; ip link set net1 up
    ip addr add 10.0.0.2/24 dev eth0
    ip route add default via 10.0.0.1
    """,
    )


def give(pod: Pod, *addresses: str) -> None:
    """Addresses of net1."""
    for address in addresses:
        pod.sh("ip", "addr", "add", address, "dev", "net1", *(["nodad"] if ":" in address else []))


def sbr(*ips: tuple[str, str | None], version: str = "1.0.0", **over: Any) -> dict[str, Any]:
    """A configuration behind a plugin that gave net1 addresses and gateways."""
    given: list[dict[str, Any]] = [
        {"address": a, "interface": 0} | ({"gateway": g} if g else {}) for a, g in ips
    ]
    if version < "1":
        given = [{**ip, "version": "6" if ":" in ip["address"] else "4"} for ip in given]
    previous = {
        "cniVersion": version,
        "interfaces": [{"name": "net1", "sandbox": "/run/netns/pod1"}],
        "ips": given,
    }
    base: dict[str, Any] = {
        "cniVersion": version,
        "name": "n",
        "type": "sbr",
        "prevResult": previous,
    }
    return {k: v for k, v in {**base, **over}.items() if v is not None}


def call(node: Node, pod: Pod, command: str, conf: dict[str, Any]):
    """One call for net1."""
    return node.cni("sbr", command, conf, netns=pod, ifname="net1")


def rules(pod: Pod) -> list[tuple[str, str]]:
    """Source and table of the rules, as the kernel orders them, both families."""
    found = []
    for family in ("-4", "-6"):
        shown = json.loads(pod.sh("ip", "-j", family, "rule").stdout or "[]")
        found += [(r["src"], r["table"]) for r in shown if r["src"] != "all"]
    return found


def routes(pod: Pod, table: str | int) -> set[tuple[str, str | None, str]]:
    """Destination, gateway and link of a table's routes, both families, fe80 left out."""
    found = set()
    for family in ("-4", "-6"):
        done = pod.sh("ip", "-j", family, "route", "show", "table", str(table), check=False)
        # iproute2 begins a list and breaks it off when there is no such table
        for r in json.loads(done.stdout) if done.returncode == 0 and done.stdout else []:
            if not r["dst"].startswith(("fe80", "ff00", "multicast")):
                found.add((r["dst"], r.get("gateway"), r["dev"]))
    return found


ETH0 = {("default", "10.0.0.1", "eth0"), ("10.0.0.0/24", None, "eth0")}


@pytest.mark.statement("SB01")
@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"])
def test_the_interface_s_routes_move_and_come_back(node: Node, pod: Pod, version):
    give(pod, "192.168.1.209/24")
    pod.sh("ip", "route", "add", "192.168.2.0/24", "via", "192.168.1.5", "metric", "7")
    before = snapshot(node, pod)
    conf = sbr(("192.168.1.209/24", "192.168.1.1"), version=version)
    result = call(node, pod, "ADD", conf).result
    assert result["ips"] == conf["prevResult"]["ips"]
    assert rules(pod) == [("192.168.1.209", "100")]
    assert routes(pod, 100) == {
        ("default", "192.168.1.1", "net1"),
        ("192.168.1.0/24", None, "net1"),
        ("192.168.2.0/24", "192.168.1.5", "net1"),
    }
    assert routes(pod, "main") == ETH0
    if version >= "0.4":
        call(node, pod, "CHECK", conf).ok()
    for _ in range(2):
        call(node, pod, "DEL", {k: v for k, v in conf.items() if k != "prevResult"}).ok()
        assert rules(pod) == []
        assert routes(pod, 100) == set()
        assert_same(before, snapshot(node, pod))


@pytest.mark.statement("SB02")
def test_a_default_route_of_the_interface_moves(node: Node, pod: Pod):
    give(pod, "192.168.1.209/24")
    pod.sh("ip", "route", "add", "default", "via", "192.168.1.1", "dev", "net1", "metric", "9")
    call(node, pod, "ADD", sbr(("192.168.1.209/24", "192.168.1.1"))).ok()
    table = [r for r in routes(pod, 100) if r[0] == "default"]
    assert table == [("default", "192.168.1.1", "net1")]
    assert routes(pod, "main") == ETH0


@pytest.mark.statement("SB03")
def test_two_addresses(node: Node, pod: Pod):
    give(pod, "192.168.1.209/24", "192.168.101.209/24")
    pod.sh("ip", "route", "add", "192.168.3.0/24", "dev", "net1", "scope", "link")
    before = snapshot(node, pod)
    conf = sbr(("192.168.1.209/24", "192.168.1.1"), ("192.168.101.209/24", "192.168.101.1"))
    call(node, pod, "ADD", conf).ok()
    assert rules(pod) == [("192.168.101.209", "101"), ("192.168.1.209", "100")]
    shared = ("192.168.3.0/24", None, "net1")
    assert routes(pod, 100) == {
        ("default", "192.168.1.1", "net1"), ("192.168.1.0/24", None, "net1"), shared,
    }  # fmt: skip
    assert routes(pod, 101) == {
        ("default", "192.168.101.1", "net1"), ("192.168.101.0/24", None, "net1"), shared,
    }  # fmt: skip
    assert routes(pod, "main") == ETH0
    call(node, pod, "CHECK", conf).ok()
    call(node, pod, "DEL", conf).ok()
    assert_same(before, snapshot(node, pod))


@pytest.mark.parametrize("gateway", ["result", "static", "none"])
@pytest.mark.parametrize("family", [4, 6, "both"])
def test_both_families_and_every_source_of_a_gateway(node: Node, pod: Pod, family, gateway):
    """pains row 49: the default route of either family is neither lost nor left in main."""
    addresses = {4: ("192.168.1.209/24", "192.168.1.1"), 6: ("fd01::209/64", "fd01::1")}
    wanted = [addresses[f] for f in ((4, 6) if family == "both" else (family,))]
    give(pod, *(a for a, _ in wanted))
    for _, via in wanted:
        pod.sh("ip", "-6" if ":" in via else "-4", "route", "add", "default", "via", via,
               "dev", "net1", "metric", "2000")  # fmt: skip
    before = snapshot(node, pod)
    ips = [(a, g if gateway == "result" else None) for a, g in wanted]
    over = {"gateways": [g for _, g in wanted]} if gateway == "static" else {}
    conf = sbr(*ips, **over)
    call(node, pod, "ADD", conf).ok()
    tables = dict(rules(pod))
    for address, via in wanted:
        table = tables[address.split("/")[0]]
        defaults = {r for r in routes(pod, table) if r[0] == "default"}
        assert defaults == {("default", via, "net1")}
    assert routes(pod, "main") == ETH0
    call(node, pod, "CHECK", conf).ok()
    call(node, pod, "DEL", conf).ok()
    assert_same(before, snapshot(node, pod))


@pytest.mark.statement("SB04")
@pytest.mark.parametrize("version", ["0.2.0", "0.3.0", "1.1.0"])
def test_without_a_result(node: Node, pod: Pod, version):
    error = call(node, pod, "ADD", sbr(version=version, prevResult=None)).error
    assert "This plugin must be called as chained plugin" in error["msg"]


@pytest.mark.statement("SB05")
def test_a_table_somebody_else_fills(node: Node, pod: Pod):
    give(pod, "192.168.1.209/24", "192.168.101.209/24")
    before = routes(pod, "main")
    conf = sbr(
        ("192.168.1.209/24", "192.168.1.1"), ("192.168.101.209/24", "192.168.101.1"), table=5000
    )
    call(node, pod, "ADD", conf).ok()
    assert rules(pod) == [("192.168.101.209", "5000"), ("192.168.1.209", "5000")]
    assert routes(pod, "main") == before
    assert routes(pod, 5000) == set()
    pod.sh("ip", "route", "add", "default", "via", "192.168.1.1", "table", "5000")
    call(node, pod, "CHECK", conf).ok()
    call(node, pod, "DEL", conf).ok()
    assert rules(pod) == []
    assert routes(pod, 5000) == {("default", "192.168.1.1", "net1")}


@pytest.mark.statement("SB06")
def test_gateways_of_the_configuration(node: Node, pod: Pod):
    give(pod, "192.168.1.209/24", "fd01::209/64")
    conf = sbr(
        ("192.168.1.209/24", "192.168.1.1"),
        ("fd01::209/64", "fd01::1"),
        gateways=["192.168.1.99", "fd01::99"],
    )
    call(node, pod, "ADD", conf).ok()
    tables = dict(rules(pod))
    assert ("default", "192.168.1.99", "net1") in routes(pod, tables["192.168.1.209"])
    assert ("default", "fd01::99", "net1") in routes(pod, tables["fd01::209"])


@pytest.mark.statement("SB06")
@pytest.mark.parametrize(
    ("over", "text"),
    [
        ({"gateways": ["10.0.0.1", "10.0.0.2"]}, "multiple IPv4 addresses: 10.0.0.1 and 10.0.0.2"),
        ({"gateways": ["fd00::1", "fd00::2"]}, "multiple IPv6 addresses"),
        ({"gateways": ["10.0.0.1", "fd00::1", "10.0.0.3"]}, "more than 2 entries"),
        ({"gateways": ["x"]}, "invalid static gateway IP address: x"),
        ({"table": -1}, "table: -1 is outside"),
        ({"table": "main"}, "table: expected an integer"),
    ],
)
def test_wrong_configurations_change_nothing(node: Node, pod: Pod, over, text):
    give(pod, "192.168.1.209/24")
    before = snapshot(node, pod)
    error = call(node, pod, "ADD", sbr(("192.168.1.209/24", "192.168.1.1"), **over)).error
    assert (error["code"], text in error["msg"]) == (7, True), error
    assert_same(before, snapshot(node, pod))
    assert rules(pod) == []
    call(node, pod, "DEL", sbr(("192.168.1.209/24", None), **over)).ok()


@pytest.mark.statement("SB07")
def test_source_hints(node: Node, pod: Pod):
    give(pod, "192.168.1.209/24", "fd01::209/64")
    conf = sbr(
        ("192.168.1.209/24", "192.168.1.1"), ("fd01::209/64", "fd01::1"), addSourceHints=True
    )
    before = snapshot(node, pod)
    call(node, pod, "ADD", conf).ok()
    shown = pod.sh("ip", "route", "show", "192.168.1.0/24").stdout
    assert "dev net1" in shown
    assert "scope link src 192.168.1.209" in shown
    assert ("fd01::/64", None, "net1") in routes(pod, "main")
    assert ("192.168.1.0/24", None, "net1") in routes(pod, 100)
    assert ("default", "192.168.1.1", "net1") in routes(pod, 100)
    assert len(rules(pod)) == 2
    call(node, pod, "DEL", conf).ok()
    assert_same(before, snapshot(node, pod))


def test_an_address_that_is_another_interface_s_is_left_alone(node: Node, pod: Pod):
    give(pod, "192.168.1.209/24")
    conf = sbr(("10.0.0.2/24", "10.0.0.1"), ("192.168.1.209/24", "192.168.1.1"))
    conf["prevResult"]["interfaces"].insert(0, {"name": "eth0", "sandbox": pod.path})
    conf["prevResult"]["ips"][1]["interface"] = 1
    call(node, pod, "ADD", conf).ok()
    assert rules(pod) == [("192.168.1.209", "100")]
    conf["prevResult"]["ips"].pop()
    error = call(node, pod, "ADD", conf | {"name": "other"}).error
    assert "No IP addresses supplied on interface: net1" in error["msg"]


def test_tables_in_use_are_passed_over(node: Node, pod: Pod):
    give(pod, "192.168.1.209/24")
    pod.sh(
        "sh",
        "-ec",
        """
    ip rule add from 10.9.9.9 table 100
    ip route add 10.8.0.0/16 via 10.0.0.1 table 101
    ip -6 rule add from fd09::9 table 102
    """,
    )
    call(node, pod, "ADD", sbr(("192.168.1.209/24", "192.168.1.1"))).ok()
    assert ("192.168.1.209", "103") in rules(pod)


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        ("ip rule del from 192.168.1.209", "there is no rule from 192.168.1.209 to table 100"),
        ("ip route flush table 100", "table 100 has no default via 192.168.1.1"),
    ],
)
def test_check_names_what_is_wrong(node: Node, pod: Pod, spoil, text):
    give(pod, "192.168.1.209/24")
    conf = sbr(("192.168.1.209/24", "192.168.1.1"))
    call(node, pod, "ADD", conf).ok()
    pod.sh("sh", "-ec", spoil)
    assert text in call(node, pod, "CHECK", conf).error["msg"]


@pytest.mark.parametrize("netns", ["/run/netns/nowhere", ""])
def test_del_without_the_namespace_makes_no_file_there(node: Node, netns):
    conf = sbr(("192.168.1.209/24", None))
    node.cni("sbr", "DEL", conf, netns=netns, ifname="net1").ok()
    assert node.files("/run/netns/nowhere") == []


def test_del_when_the_link_is_gone_removes_its_rules(node: Node, pod: Pod):
    give(pod, "192.168.1.209/24")
    conf = sbr(("192.168.1.209/24", "192.168.1.1"))
    call(node, pod, "ADD", conf).ok()
    pod.sh("ip", "link", "del", "net1")
    call(node, pod, "DEL", conf).ok()
    assert rules(pod) == []
