"""ipvlan, vlan and dummy beside what all interface plugins have in common; on a kernel with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.confs import chained
from tests.kit.interfaces import INTERFACES, OUTSIDE4, OUTSIDE6, prepare
from tests.kit.state import assert_same, snapshot

if TYPE_CHECKING:
    from tests.kit.node import Node, Pod

pytestmark = [pytest.mark.netns, pytest.mark.kernel]
STATIC = {"type": "static", "addresses": [{"address": "10.9.0.5/24"}]}


def conf(plugin: str, **over):
    """A configuration; ``None`` leaves a key out."""
    return INTERFACES[plugin].conf(**over)


def tag_outside(node: Node) -> None:
    """What is outside is in VLAN 33."""
    script = """
    ip link add far.33 link far type vlan id 33
    for a in $(ip -o addr show dev far scope global | awk '{print $4}'); do
        ip addr del $a dev far; ip addr add $a dev far.33 nodad
    done
    ip link set far.33 up
    """
    node.sh("ip", "netns", "exec", "outside", "sh", "-ec", script)


@pytest.mark.parametrize("plugin", ["ipvlan", "vlan"])
def test_pods_reach_each_other_and_the_outside(node: Node, plugin):
    """VLAN links of one parent and one id cannot be two in a kernel: each pod has its own parent."""
    prepare(node)
    over: list[dict[str, str]] = [{}, {}]
    if plugin == "vlan":
        tag_outside(node)
        node.sh(
            "sh",
            "-ec",
            """
        ip link add sw type bridge; ip link set sw up
        ip link add parent2 type veth peer port2; ip link set parent2 up
        ip link set port2 master sw up
        ip addr flush dev parent; ip link set parent master sw
        ip link add parent1 type veth peer port1; ip link set parent1 up
        ip link set port1 master sw up
        """,
        )
        over = [{"master": "parent1"}, {"master": "parent2"}]
    pods = [node.pod(name) for name in ("a", "b")]
    ips = [
        node.cni(plugin, "ADD", conf(plugin, **o), netns=p, container_id=p.name).result["ips"]
        for p, o in zip(pods, over, strict=True)
    ]
    for mine, theirs in ((0, 1), (1, 0)):
        for address in [ip["address"].split("/")[0] for ip in ips[theirs]] + [OUTSIDE4, OUTSIDE6]:
            assert pods[mine].pings(address) or pods[mine].pings(address), address


# --- ipvlan -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["l2", "l3", "l3s"])
def test_ipvlan_modes(node: Node, pod: Pod, mode):
    prepare(node)
    document = conf("ipvlan", mode=mode)
    result = node.cni("ipvlan", "ADD", document, netns=pod).result
    assert pod.link()["linkinfo"]["info_data"]["mode"] == mode
    assert pod.link()["address"] == node.link("parent")["address"]
    node.cni("ipvlan", "CHECK", chained(document, result), netns=pod).ok()
    other = {"l2": "l3", "l3": "l3s", "l3s": "l2"}[mode]
    error = node.cni(
        "ipvlan", "CHECK", chained(document | {"mode": other}, result), netns=pod
    ).error
    assert f"is in mode {mode}, not {other}" in error["msg"]


@pytest.mark.statement("IV-03")
def test_ipvlan_behind_another_plugin(node: Node, pod: Pod):
    prepare(node)
    previous: dict[str, Any] = {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "parent", "mac": "02:00:00:00:00:01"}],
        "ips": [{"version": "4", "address": "10.1.2.2/24", "interface": 0}],
        "routes": [],
    }
    document = conf("ipvlan", cniVersion="1.0.0", master=None, ipam=None, prevResult=previous)
    result = node.cni("ipvlan", "ADD", document, netns=pod).result
    assert [i["name"] for i in result["interfaces"]] == ["eth0"]
    assert [ip["address"] for ip in result["ips"]] == pod.addresses() == ["10.1.2.2/24"]
    assert pod.link()["link_index"] == node.link("parent")["ifindex"]
    for master in ("parent", None):
        checked = conf("ipvlan", cniVersion="1.0.0", master=master, ipam=None, prevResult=result)
        node.cni("ipvlan", "CHECK", checked, netns=pod).ok()
    node.cni("ipvlan", "DEL", document, netns=pod).ok()
    assert pod.link() is None
    previous["interfaces"] *= 2
    error = node.cni("ipvlan", "ADD", document, netns=pod).error
    assert "chained master failure" in error["msg"]


@pytest.mark.statement("IV-05")
@pytest.mark.parametrize("in_container", [False, True])
def test_ipvlan_on_the_link_of_the_default_route(node: Node, pod: Pod, in_container):
    prepare(node)
    if in_container:
        pod.sh(
            "sh",
            "-ec",
            """
        ip link add inner type dummy; ip link set inner up
        ip addr add 172.16.0.2/24 dev inner; ip route add default via 172.16.0.1
        """,
        )
    else:
        node.sh("ip", "route", "add", "default", "via", OUTSIDE4)
    document = conf("ipvlan", master=None, linkInContainer=in_container, ipam=STATIC)
    result = node.cni("ipvlan", "ADD", document, netns=pod).result
    link = pod.link()
    if in_container:
        assert link["link"] == "inner"
    else:
        assert link["link_index"] == node.link("parent")["ifindex"]
    node.cni("ipvlan", "CHECK", chained(document, result), netns=pod).ok()
    for _ in range(2):  # no default route is needed any more
        node.sh("ip", "route", "flush", "scope", "global")
        node.cni("ipvlan", "DEL", document, netns=pod).ok()


@pytest.mark.parametrize(
    ("over", "text"),
    [
        ({"mode": "l4"}, "mode: 'l4' is not one of 'l2', 'l3', 'l3s'"),
        ({"ipam": None}, "ipam: is required unless prevResult has addresses"),
        ({"mtu": 9000}, "invalid MTU 9000, must be [0, master MTU(1500)]"),
    ],
)
def test_ipvlan_wrong_configurations_change_nothing(node: Node, pod: Pod, over, text):
    prepare(node)
    before = snapshot(node, pod)
    error = node.cni("ipvlan", "ADD", conf("ipvlan", **over), netns=pod).error
    assert (error["code"], text in error["msg"]) == (7, True), error
    assert_same(before, snapshot(node, pod))
    node.cni("ipvlan", "DEL", conf("ipvlan", **over), netns=pod).ok()


# --- vlan ---------------------------------------------------------------------------------------


@pytest.mark.statement("VL-01", "VL-02")
@pytest.mark.parametrize(
    ("parent_mtu", "over", "mtu"), [(1500, {"mtu": 1500}, 1500), (1200, {}, 1200)]
)
def test_vlan_id_and_mtu(node: Node, pod: Pod, parent_mtu, over, mtu):
    prepare(node)
    node.sh("ip", "link", "set", "parent", "mtu", str(parent_mtu))
    document = conf("vlan", ipam=STATIC, **over)
    result = node.cni("vlan", "ADD", document, netns=pod).result
    link = pod.link()
    assert (link["mtu"], link["linkinfo"]["info_data"]["id"]) == (mtu, 33)
    other = chained(document | {"vlanId": 34}, result)
    error = node.cni("vlan", "CHECK", other, netns=pod).error
    assert "eth0 has VLAN id 33, not 34" in error["msg"]


@pytest.mark.statement("VL-03")
def test_vlan_in_the_container(node: Node, pod: Pod):
    prepare(node)
    pod.sh("sh", "-ec", "ip link add inner type dummy; ip link set inner up")
    document = conf("vlan", master="inner", vlanId=1234, linkInContainer=True, ipam=STATIC)
    result = node.cni("vlan", "ADD", document, netns=pod).result
    assert len(result["interfaces"]) == len(result["ips"]) == 1
    assert pod.link()["link"] == "inner"
    node.cni("vlan", "CHECK", chained(document, result), netns=pod).ok()
    for _ in range(2):
        node.cni("vlan", "DEL", document, netns=pod).ok()
    assert pod.link() is None


@pytest.mark.statement("VL-04", "VL-05")
@pytest.mark.parametrize(
    ("over", "text"),
    [
        ({"mtu": 1600}, "invalid MTU 1600, must be [0, master MTU(1500)]"),
        ({"mtu": -100}, "invalid MTU -100, must be [0, master MTU(1500)]"),
        ({"vlanId": 4095}, "vlanId: 4095 is outside 0 to 4094"),
        ({"vlanId": -1}, "vlanId: -1 is outside 0 to 4094"),
        ({"master": None}, "master: is required"),
        ({"ipam": None}, "ipam: is required"),
    ],
)
def test_vlan_wrong_configurations_change_nothing(node: Node, pod: Pod, over, text):
    prepare(node)
    before = snapshot(node, pod)
    error = node.cni("vlan", "ADD", conf("vlan", **over), netns=pod).error
    assert (error["code"], text in error["msg"]) == (7, True), error
    assert_same(before, snapshot(node, pod))
    node.cni("vlan", "DEL", conf("vlan", **over), netns=pod).ok()


@pytest.mark.parametrize("plugin", ["ipvlan", "vlan"])
def test_del_when_the_parent_is_gone(node: Node, pod: Pod, plugin):
    prepare(node)
    node.cni(plugin, "ADD", conf(plugin), netns=pod).ok()
    node.sh("ip", "link", "del", "parent")
    for _ in range(2):
        node.cni(plugin, "DEL", conf(plugin), netns=pod).ok()
    assert node.leases() == set()


# --- dummy --------------------------------------------------------------------------------------


@pytest.mark.statement("DU-02")
def test_dummy_beside_a_link_of_that_name_on_the_host(node: Node, pod: Pod):
    node.sh("ip", "link", "add", "eth0", "type", "dummy")
    node.cni("dummy", "ADD", conf("dummy"), netns=pod).ok()
    assert pod.link()["linkinfo"]["info_kind"] == "dummy"


@pytest.mark.statement("DU-04")
def test_dummy_without_ipam(node: Node):
    error = node.cni("dummy", "ADD", conf("dummy", ipam=None), netns="/run/netns/nowhere").error
    assert error["msg"] == "dummy interface requires an IPAM configuration"
