"""macvlan: modes, parents, MAC addresses, MTU; pods reach each other and the outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kit.confs import chained
from tests.kit.interfaces import INTERFACES, OUTSIDE4, OUTSIDE6, PARENT4, prepare
from tests.kit.state import assert_same, snapshot

if TYPE_CHECKING:
    from tests.kit.node import Node, Pod

pytestmark = pytest.mark.netns
MAC = "c2:11:22:33:44:55"


@pytest.fixture(autouse=True)
def _parent(node: Node) -> None:
    prepare(node)


def macvlan(**over):
    """A configuration; ``None`` leaves a key out."""
    return INTERFACES["macvlan"].conf(**over)


@pytest.mark.statement("MV-01")
def test_the_link_is_a_macvlan_of_the_parent(node: Node, pod: Pod):
    node.cni("macvlan", "ADD", macvlan(), netns=pod).ok()
    link = pod.link()
    assert (link["mtu"], link["linkinfo"]["info_data"]["mode"]) == (1500, "bridge")
    assert link["link_index"] == node.link("parent")["ifindex"]


@pytest.mark.parametrize("mode", ["bridge", "private", "vepa", "passthru"])
def test_modes(node: Node, pod: Pod, mode):
    conf = macvlan(mode=mode, bcqueuelen=250)
    result = node.cni("macvlan", "ADD", conf, netns=pod).result
    data = pod.link()["linkinfo"]["info_data"]
    assert data["mode"] == mode
    assert data["bcqueuelen"] == 250
    assert pod.pings(OUTSIDE4)
    node.cni("macvlan", "CHECK", chained(conf, result), netns=pod).ok()
    other = chained(conf | {"mode": "private" if mode != "private" else "vepa"}, result)
    error = node.cni("macvlan", "CHECK", other, netns=pod).error
    assert f"eth0 is in mode {mode}" in error["msg"]


def test_pods_reach_each_other_and_the_outside(node: Node):
    pods = [node.pod(name) for name in ("a", "b")]
    ips = [
        node.cni("macvlan", "ADD", macvlan(), netns=p, container_id=p.name).result["ips"]
        for p in pods
    ]
    for mine, theirs in ((0, 1), (1, 0)):
        for address in [ip["address"].split("/")[0] for ip in ips[theirs]] + [OUTSIDE4, OUTSIDE6]:
            assert pods[mine].pings(address), address


@pytest.mark.statement("MV-04")
def test_without_ipam(node: Node, pod: Pod):
    conf = macvlan(ipam={})
    result = node.cni("macvlan", "ADD", conf, netns=pod).result
    assert result.get("ips", []) == []
    assert pod.addresses() == []
    assert "UP" in pod.link()["flags"]
    node.cni("macvlan", "CHECK", chained(conf, result), netns=pod).ok()
    node.cni("macvlan", "DEL", conf, netns=pod).ok()
    assert pod.link() is None


@pytest.mark.statement("MV-04")
@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
def test_without_ipam_the_oldest_versions_have_no_result_and_leave_nothing(
    node: Node, pod: Pod, version
):
    error = node.cni("macvlan", "ADD", macvlan(ipam={}, cniVersion=version), netns=pod).error
    assert "cannot convert: no valid IP addresses" in error["msg"]
    assert pod.link() is None
    node.cni("macvlan", "DEL", macvlan(ipam={}, cniVersion=version), netns=pod).ok()


@pytest.mark.statement("MV-06")
@pytest.mark.parametrize("family", [4, 6])
def test_the_link_of_the_default_route(node: Node, pod: Pod, family):
    gateway = {4: OUTSIDE4, 6: OUTSIDE6}[family]
    node.sh("ip", f"-{family}", "route", "add", "default", "via", gateway)
    node.cni("macvlan", "ADD", macvlan(master=None), netns=pod).ok()
    assert pod.link()["link_index"] == node.link("parent")["ifindex"]


@pytest.mark.statement("MV-06")
@pytest.mark.parametrize("master", ["inner", None])
def test_a_parent_in_the_container(node: Node, pod: Pod, master):
    node.sh("sh", "-ec", "ip link add inner netns pod1 type veth peer name inner-far")
    node.sh("ip", "link", "set", "inner-far", "up")
    pod.sh("sh", "-ec", "ip link set inner up; ip addr add 172.16.0.2/24 dev inner")
    pod.sh("ip", "route", "add", "default", "via", "172.16.0.1")
    ipam = {"type": "static", "addresses": [{"address": "10.9.0.5/24"}]}
    conf = macvlan(master=master, linkInContainer=True, ipam=ipam)
    result = node.cni("macvlan", "ADD", conf, netns=pod).result
    assert pod.link()["link"] == "inner"
    node.cni("macvlan", "CHECK", chained(conf, result), netns=pod).ok()
    node.cni("macvlan", "DEL", conf, netns=pod).ok()
    assert pod.link() is None
    assert pod.link("inner") is not None


@pytest.mark.parametrize(
    ("over", "args", "mac"),
    [
        pytest.param(
            {}, f"IgnoreUnknown=true;MAC={MAC}", MAC, marks=pytest.mark.statement("MV-07")
        ),
        pytest.param(
            {"RuntimeConfig": {"mac": MAC}}, "", MAC, marks=pytest.mark.statement("MV-08")
        ),
        ({"mac": MAC}, "", MAC),
        ({"mac": "c2:00:00:00:00:01"}, f"MAC={MAC}", MAC),
        ({"runtimeConfig": {"mac": MAC}}, "MAC=c2:00:00:00:00:01", MAC),
        ({"args": {"cni": {"mac": MAC}}}, "MAC=c2:00:00:00:00:01", MAC),
    ],
)
def test_mac_addresses(node: Node, pod: Pod, over, args, mac):
    result = node.cni("macvlan", "ADD", macvlan(ipam=None, **over), netns=pod, args=args).result
    assert pod.link()["address"] == result["interfaces"][0]["mac"] == mac


@pytest.mark.parametrize("mtu", [0, 1400, 1500])
def test_mtu(node: Node, pod: Pod, mtu):
    conf = macvlan(mtu=mtu)
    result = node.cni("macvlan", "ADD", conf, netns=pod).result
    assert pod.link()["mtu"] == (mtu or 1500)
    pod.sh("ip", "link", "set", "eth0", "mtu", "1300")
    outcome = node.cni("macvlan", "CHECK", chained(conf, result), netns=pod)
    assert outcome.exit_code == (1 if mtu else 0)


@pytest.mark.parametrize(
    ("over", "code", "text"),
    [
        ({"mtu": 1600}, 7, "invalid MTU 1600, must be [0, master MTU(1500)]"),
        ({"mtu": -100}, 7, "invalid MTU -100, must be [0, master MTU(1500)]"),
        ({"master": "nobody"}, 7, "master: there is no link nobody on the host"),
        ({"master": None}, 7, "master: not given, and there is no default route on the host"),
        ({"master": None, "linkInContainer": True}, 7, "no default route in the container"),
        ({"mode": "source"}, 7, "mode: 'source' is not one of"),
        ({"mac": "xyz"}, 7, "mac: invalid MAC address: xyz"),
        ({"bcqueuelen": -1}, 7, "bcqueuelen: -1 is outside"),
    ],
)
def test_wrong_configurations_change_nothing(node: Node, pod: Pod, over, code, text):
    before = snapshot(node, pod)
    error = node.cni("macvlan", "ADD", macvlan(**over), netns=pod).error
    assert error["code"] == code
    assert text in error["msg"]
    assert_same(before, snapshot(node, pod))
    node.cni("macvlan", "DEL", macvlan(**over), netns=pod).ok()


def test_check_sees_another_parent(node: Node, pod: Pod):
    conf = macvlan()
    result = node.cni("macvlan", "ADD", conf, netns=pod).result
    node.sh("sh", "-ec", "ip link add other type veth peer other-far; ip link set other up")
    error = node.cni(
        "macvlan", "CHECK", chained(conf | {"master": "other"}, result), netns=pod
    ).error
    assert "eth0 does not stand on other" in error["msg"]
    assert PARENT4 in node.addresses("parent")[0]


def test_del_when_the_parent_is_gone(node: Node, pod: Pod):
    node.cni("macvlan", "ADD", macvlan(), netns=pod).ok()
    node.sh("ip", "link", "del", "parent")
    for _ in range(2):
        node.cni("macvlan", "DEL", macvlan(), netns=pod).ok()
    assert node.leases() == set()
