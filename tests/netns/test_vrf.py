"""vrf: members keep addresses and routes; tables do not collide."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.state import assert_same, snapshot

if TYPE_CHECKING:
    from tests.kit.node import Node, Pod

pytestmark = [pytest.mark.netns, pytest.mark.kernel]


def attach(pod: Pod, ifname: str, *addresses: str) -> dict[str, Any]:
    """A link of the container as a plugin before made it; its result."""
    lines = [f"ip link add {ifname} type dummy", f"ip link set {ifname} up"]
    lines += [f"ip addr add {a} dev {ifname} {'nodad' if ':' in a else ''}" for a in addresses]
    pod.sh("sh", "-ec", "\n".join(lines))
    return {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": ifname, "sandbox": pod.path}],
        "ips": [{"address": a, "interface": 0} for a in addresses],
    }


def vrf(result: dict[str, Any], version: str = "1.0.0", **over: Any) -> dict[str, Any]:
    """A configuration behind it."""
    previous = result | {"cniVersion": version}
    base = {"cniVersion": version, "name": "net1", "type": "vrf", "vrfname": "blue"}
    return {**base, "prevResult": previous, **over}


def table_of(pod: Pod, name: str) -> int:
    """The table of a VRF."""
    return pod.link(name)["linkinfo"]["info_data"]["table"]


def routes(pod: Pod, table: str | int) -> set[tuple[str, str, str]]:
    """Destination, gateway and link of a table's routes, but for the kernel's own."""
    found = set()
    for family in ("-4", "-6"):
        shown = pod.sh("ip", "-j", family, "route", "show", "table", str(table), check=False).stdout
        for r in json.loads(shown or "[]"):
            if r.get("protocol") != "kernel" and r.get("type", "unicast") == "unicast":
                found.add((r["dst"], r.get("gateway", ""), r.get("dev", "")))
    return found


@pytest.mark.statement("VR01", "VR07")
@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0", "1.1.0"])
def test_add_check_del(node: Node, pod: Pod, version):
    result = attach(pod, "eth0", "10.0.0.2/24", "fd00::2/64")
    if version < "1":
        for ip in result["ips"]:
            ip["version"] = "6" if ":" in ip["address"] else "4"
    before = snapshot(node, pod)
    conf = vrf(result, version)
    answer = node.cni("vrf", "ADD", conf, netns=pod).result
    assert answer["ips"] == conf["prevResult"]["ips"]
    assert pod.link()["master"] == "blue"
    assert "UP" in pod.link("blue")["flags"]
    assert set(pod.addresses()) == {"10.0.0.2/24", "fd00::2/64"}
    if version >= "0.4":
        node.cni("vrf", "CHECK", conf, netns=pod).ok()
    for _ in range(2):
        node.cni("vrf", "DEL", conf, netns=pod).ok()
        assert_same(before, snapshot(node, pod))


def test_del_where_nothing_is(node: Node, pod: Pod):
    conf = vrf({"interfaces": [], "ips": []})
    for netns in (pod.path, "/run/netns/nowhere", ""):
        node.cni("vrf", "DEL", conf, netns=netns).ok()


@pytest.mark.statement("VR02")
def test_the_interface_s_own_routes_move_and_come_back(node: Node, pod: Pod):
    result = attach(pod, "eth0", "10.0.0.2/24", "fd00::2/64")
    attach(pod, "eth1", "10.1.0.2/24")
    pod.sh(
        "sh",
        "-ec",
        """
    ip route add 172.16.0.0/16 via 10.0.0.1 metric 7
    ip route add default via 10.0.0.1
    ip route add 172.17.0.0/16 via 10.1.0.1
    ip route add 172.18.0.0/16 nexthop via 10.0.0.1 weight 3 nexthop via 10.0.0.9
    ip -6 route add fd01::/64 via fd00::1
    ip -6 route add fd02::/64 nexthop via fd00::1 nexthop via fd00::9
    """,
    )
    before = snapshot(node, pod)
    node.cni("vrf", "ADD", vrf(result), netns=pod).ok()
    table = table_of(pod, "blue")
    moved = routes(pod, table)
    expected = {
        ("172.16.0.0/16", "10.0.0.1", "eth0"),
        ("default", "10.0.0.1", "eth0"),
        ("fd01::/64", "fd00::1", "eth0"),
    }
    assert expected <= moved
    assert {d for d, _, _ in moved} >= {"172.18.0.0/16", "fd02::/64"}
    assert routes(pod, "main") == {("172.17.0.0/16", "10.1.0.1", "eth1")}
    shown = pod.sh("ip", "route", "show", "172.18.0.0/16", "table", str(table)).stdout
    assert "via 10.0.0.1 dev eth0 weight 3" in shown
    node.cni("vrf", "DEL", vrf(result), netns=pod).ok()
    assert_same(before, snapshot(node, pod))


@pytest.mark.statement("VR03")
def test_an_interface_with_a_master_is_refused(node: Node, pod: Pod):
    result = attach(pod, "eth0", "10.0.0.2/24")
    pod.sh("sh", "-ec", "ip link add br7 type bridge; ip link set eth0 master br7")
    before = snapshot(node, pod)
    error = node.cni("vrf", "ADD", vrf(result), netns=pod).error
    assert "interface eth0 has already a master set: br7" in error["msg"]
    assert_same(before, snapshot(node, pod))


@pytest.mark.statement("VR04", "VR06")
@pytest.mark.parametrize(
    ("second", "addresses"),
    [
        ("blue", ("10.0.0.2/24", "10.0.1.2/24")),
        ("red", ("10.0.0.2/24", "10.0.1.2/24")),
        ("red", ("10.0.0.2/24", "10.0.0.2/24")),
        ("blue", ("fd00::2/64", "fd01::2/64")),
        ("red", ("fd00::2/64", "fd00::2/64")),
    ],
)
def test_two_interfaces(node: Node, pod: Pod, second, addresses):
    confs = {}
    for ifname, name, address in zip(("eth0", "eth1"), ("blue", second), addresses, strict=True):
        confs[ifname] = vrf(attach(pod, ifname, address), vrfname=name)
        node.cni("vrf", "ADD", confs[ifname], netns=pod, ifname=ifname).ok()
    assert (pod.link("eth0")["master"], pod.link("eth1")["master"]) == ("blue", second)
    for ifname, address in zip(confs, addresses, strict=True):
        assert pod.addresses(ifname) == [address]
        node.cni("vrf", "CHECK", confs[ifname], netns=pod, ifname=ifname).ok()
    if second != "blue":
        assert table_of(pod, "blue") != table_of(pod, "red")
    node.cni("vrf", "DEL", confs["eth0"], netns=pod, ifname="eth0").ok()
    assert (pod.link("blue") is None) is (second != "blue")
    assert pod.link("eth1")["master"] == second
    node.cni("vrf", "DEL", confs["eth1"], netns=pod, ifname="eth1").ok()
    assert pod.link(second) is None


@pytest.mark.statement("VR05")
def test_given_tables(node: Node, pod: Pod):
    results = {n: attach(pod, n, f"10.0.{i}.2/24") for i, n in enumerate(("eth0", "eth1", "eth2"))}

    def add(ifname: str, **over: Any):
        return node.cni("vrf", "ADD", vrf(results[ifname], **over), netns=pod, ifname=ifname)

    add("eth0", table=1001).ok()
    add("eth1", table=1001).ok()
    add("eth2", vrfname="red", table=1001).ok()
    assert table_of(pod, "blue") == table_of(pod, "red") == 1001
    node.cni("vrf", "DEL", vrf(results["eth1"]), netns=pod, ifname="eth1").ok()
    error = add("eth1", table=1002).error
    assert "already exist with different routing table 1001" in error["msg"]
    assert pod.link("eth1").get("master") is None


def test_the_name_is_another_link_s(node: Node, pod: Pod):
    result = attach(pod, "eth0", "10.0.0.2/24")
    pod.sh("ip", "link", "add", "blue", "type", "dummy")
    error = node.cni("vrf", "ADD", vrf(result), netns=pod).error
    assert "Netlink blue is not a VRF" in error["msg"]
    node.cni("vrf", "DEL", vrf(result), netns=pod).ok()
    assert pod.link("blue") is not None


@pytest.mark.statement("VR08")
def test_the_lowest_table_that_nobody_uses(node: Node, pod: Pod):
    result = attach(pod, "eth0", "10.0.0.2/24")
    pod.sh(
        "sh",
        "-ec",
        """
    ip link add v1 type vrf table 1
    ip link add v3 type vrf table 3
    ip route add 172.16.0.0/16 via 10.0.0.1 table 2
    ip rule add from 10.9.9.9 table 4
    """,
    )
    node.cni("vrf", "ADD", vrf(result), netns=pod).ok()
    assert table_of(pod, "blue") == 5


def test_tables_of_vrfs_made_at_a_time_differ(node: Node, pod: Pod):
    names = [f"eth{n}" for n in range(4)]
    confs = {n: vrf(attach(pod, n, f"10.0.{i}.2/24"), vrfname=f"v{n}") for i, n in enumerate(names)}
    with ThreadPoolExecutor(4) as pool:
        calls = [
            pool.submit(node.cni, "vrf", "ADD", c, netns=pod, ifname=n) for n, c in confs.items()
        ]
        assert {call.result().exit_code for call in calls} == {0}
    assert len({table_of(pod, f"v{n}") for n in names}) == 4


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        ("ip link set eth0 nomaster", "failed to find eth0 associated to vrf blue"),
        ("ip link del blue", "there is no VRF blue"),
        ("ip link set blue down", "blue is down"),
        ("ip addr flush dev eth0", "eth0 has no address 10.0.0.2/24"),
    ],
)
def test_check_names_what_is_wrong(node: Node, pod: Pod, spoil, text):
    conf = vrf(attach(pod, "eth0", "10.0.0.2/24"))
    node.cni("vrf", "ADD", conf, netns=pod).ok()
    pod.sh("sh", "-ec", spoil)
    error = node.cni("vrf", "CHECK", conf, netns=pod).error
    assert text in error["msg"] + error.get("details", "")


@pytest.mark.parametrize(
    ("over", "text"),
    [
        ({"vrfname": ""}, "configuration is expected to have a valid vrf name"),
        ({"vrfname": "a/b"}, "vrfname: 'a/b'"),
        ({"prevResult": None}, "missing prevResult from earlier plugin"),
        ({"table": -1}, "table: -1 is outside"),
    ],
)
def test_wrong_configurations(node: Node, pod: Pod, over, text):
    result = attach(pod, "eth0", "10.0.0.2/24")
    error = node.cni("vrf", "ADD", vrf(result, **over), netns=pod).error
    assert (error["code"], text in error["msg"]) == (7, True), error
    assert pod.link().get("master") is None
