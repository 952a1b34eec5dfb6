"""bridge with VLANs: what ports carry, the VLAN's gateway, who reaches whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.confs import SUBNET4, SUBNET6, bridge, chained, host_local

if TYPE_CHECKING:
    from tests.kit.node import Node, Pod

pytestmark = [pytest.mark.netns, pytest.mark.kernel]
TRUNK = [{"minID": 200, "maxID": 210}, {"id": 101}]
TRUNKED = {101, *range(200, 211)}


def carried(node: Node, port: str) -> tuple[set[int], set[int]]:
    """The VLANs of a port, and the native one."""
    import json

    shown = json.loads(node.sh("bridge", "-j", "vlan", "show", "dev", port).stdout)
    vlans = shown[0]["vlans"] if shown else []
    every: set[int] = set()
    for entry in vlans:
        every |= set(range(entry["vlan"], entry.get("vlanEnd", entry["vlan"]) + 1))
    return every, {e["vlan"] for e in vlans if "PVID" in e.get("flags", [])}


def l2(**over: Any) -> dict[str, Any]:
    """Without addresses."""
    return bridge(isGateway=False, ipam=None, **over)


@pytest.mark.statement("BR-16", "BR-25", "BR-26", "BR-27", "BR-28")
@pytest.mark.parametrize(
    ("over", "vids", "native"),
    [
        ({}, {1}, {1}),
        ({"vlan": 100}, {100}, {100}),
        ({"vlan": 100, "preserveDefaultVlan": True}, {1, 100}, {100}),
        ({"vlanTrunk": TRUNK}, {1} | TRUNKED, {1}),
        ({"vlan": 100, "vlanTrunk": TRUNK}, {100} | TRUNKED, {100}),
        ({"vlan": 101, "vlanTrunk": TRUNK}, TRUNKED, {101}),
    ],
    ids=["none", "vlan", "and the default", "trunk", "vlan and trunk", "vlan in the trunk"],
)
def test_what_a_port_carries(node: Node, pod: Pod, over, vids, native):
    result = node.cni("bridge", "ADD", l2(**over), netns=pod).result
    port = result["interfaces"][1]["name"]
    filtering = node.link("br0")["linkinfo"]["info_data"]["vlan_filtering"]
    assert bool(filtering) is bool(over)
    if not over:
        return
    assert carried(node, port) == (vids, native)
    node.cni("bridge", "CHECK", chained(l2(**over), result), netns=pod).ok()
    node.sh("bridge", "vlan", "del", "dev", port, "vid", str(max(native)))
    error = node.cni("bridge", "CHECK", chained(l2(**over), result), netns=pod).error
    assert f"VLAN {max(native)} is not native on {port}" in error["msg"] + error.get("details", "")


@pytest.mark.statement("BR-29")
@pytest.mark.parametrize("preserve", [False, True])
def test_a_gateway_in_a_vlan(node: Node, pod: Pod, preserve):
    ipam = host_local(SUBNET4, SUBNET6)
    conf = bridge(vlan=100, isDefaultGateway=True, preserveDefaultVlan=preserve, ipam=ipam)
    result = node.cni("bridge", "ADD", conf, netns=pod).result
    assert len(result["interfaces"]) == 4
    gateway = node.link("br0.100")
    assert gateway["linkinfo"]["info_kind"] == "veth"
    assert node.addresses("br0.100") == ["10.9.0.1/24", "fd00:9::1/64"]
    (port,) = [link for link in node.ip("-d", "link") if link.get("link") == "br0.100"]
    assert carried(node, port["ifname"]) == ({1, 100} if preserve else {100}, {100})
    for ip in result["ips"]:
        assert pod.pings(ip["gateway"]) or pod.pings(ip["gateway"])
    node.cni("bridge", "CHECK", chained(conf, result), netns=pod).ok()
    node.cni("bridge", "DEL", chained(conf, result), netns=pod).ok()
    assert node.links() == {"lo", "br0", "br0.100", port["ifname"]}


def test_pods_of_a_vlan_reach_each_other_and_no_others(node: Node):
    pods = {}
    for name, vlan in (("a", 100), ("b", 100), ("c", 101)):
        pods[name] = node.pod(name)
        conf = bridge(vlan=vlan, isGateway=False, name=f"net{vlan}")
        node.cni("bridge", "ADD", conf, netns=pods[name], container_id=name).ok()
    address = {name: pod.addresses()[0].split("/")[0] for name, pod in pods.items()}
    # c has an address of its own network's pool, the same subnet
    pods["c"].sh("ip", "addr", "add", "10.9.0.77/24", "dev", "eth0")
    assert pods["a"].pings(address["b"])
    assert not pods["a"].pings("10.9.0.77")
