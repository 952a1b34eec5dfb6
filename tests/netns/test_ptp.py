"""ptp: both ends, routes, masquerading, dns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kit.confs import chained, host_local
from tests.kit.interfaces import space_out
from tests.kit.state import assert_same, snapshot

if TYPE_CHECKING:
    from tests.kit.node import Node, Pod

pytestmark = pytest.mark.netns


@pytest.fixture(autouse=True)
def _node(node: Node) -> None:
    space_out(node)


DNS = {
    "nameservers": ["1.1.1.1"],
    "domain": "example.org",
    "search": ["a.example.org"],
    "options": ["ndots:2"],
}
RESOLV_CONF = "nameserver 10.9.0.53\nsearch ipam.example.org\n"


def ptp(version: str = "1.1.0", **over):
    """A configuration; ``None`` leaves a key out."""
    conf = {"cniVersion": version, "name": "net1", "type": "ptp", "ipam": host_local(), **over}
    return {k: v for k, v in conf.items() if v is not None}


@pytest.mark.parametrize(
    "backend",
    [
        pytest.param(None, marks=pytest.mark.statement("PT-01")),
        pytest.param("iptables", marks=pytest.mark.statement("PT-02")),
        pytest.param("nftables", marks=pytest.mark.statement("PT-03")),
    ],
)
@pytest.mark.statement("PT-05")
def test_masquerade_mtu_and_dns(node: Node, pod: Pod, backend):
    conf = ptp(ipMasq=True, ipMasqBackend=backend, mtu=5000, dns=DNS)
    before = snapshot(node, pod)
    result = node.cni("ptp", "ADD", conf, netns=pod).result
    near, far = result["interfaces"]
    assert near["name"].startswith("veth")
    assert "sandbox" not in near
    assert (far["name"], far["sandbox"]) == ("eth0", pod.path)
    assert [ip["interface"] for ip in result["ips"]] == [1]
    assert result["dns"] == DNS
    port = node.link(near["name"])
    assert (port["mtu"], pod.link()["mtu"]) == (5000, 5000)
    assert (port["address"], pod.link()["address"]) == (near["mac"], far["mac"])
    assert pod.pings(result["ips"][0]["gateway"])
    rules = node.nft_rules("cni_plugins_masquerade") if backend == "nftables" else node.iptables()
    assert len(rules) >= 2
    node.cni("ptp", "CHECK", chained(conf, result), netns=pod).ok()
    node.cni("ptp", "DEL", chained(conf, result), netns=pod).ok()
    assert_same(before, snapshot(node, pod))


@pytest.mark.statement("PT-04", "PT-05")
def test_dual_stack(node: Node, pod: Pod):
    routes = [{"dst": d} for d in ("0.0.0.0/0", "192.168.0.0/16", "1.2.3.4/32")]
    conf = ptp(ipam=host_local("10.9.0.0/24", "fd00:9::/66", routes=routes), ipMasq=True)
    result = node.cni("ptp", "ADD", conf, netns=pod).result
    assert [ip["address"].split("/")[1] for ip in result["ips"]] == ["24", "66"]
    assert result["routes"] == routes
    for ip in result["ips"]:
        address = ip["address"].split("/")[0]
        command = ("ping", "-c1", "-W2", "-n", "-I", address, ip["gateway"])
        assert pod.sh(*command, check=False).returncode == 0, ip
    held = {(r["dst"], r.get("gateway")) for r in pod.ip("route")}
    gateway = result["ips"][0]["gateway"]
    assert {(d, gateway) for d in ("default", "192.168.0.0/16", "1.2.3.4")} <= held
    assert ("10.9.0.0/24", gateway) in held
    node.cni("ptp", "CHECK", chained(conf, result), netns=pod).ok()


def test_two_pods_and_the_host_reach_each_other(node: Node):
    conf = ptp(ipam=host_local("10.9.0.0/24", "fd00:9::/64", routes=[{"dst": "0.0.0.0/0"}]))
    pods = [node.pod(name) for name in ("a", "b")]
    ips = [node.cni("ptp", "ADD", conf, netns=p, container_id=p.name).result["ips"] for p in pods]
    for mine, theirs in ((0, 1), (1, 0)):
        for ip in ips[theirs]:
            assert pods[mine].pings(ip["address"].split("/")[0]), ip
    for ip in ips[0]:
        address = ip["address"].split("/")[0]
        assert node.sh("ping", "-c1", "-W2", "-n", address, check=False).returncode == 0


def test_many_pods_have_the_same_gateway(node: Node):
    conf = ptp()
    pods = [node.pod(f"pod{n}") for n in range(3)]
    gateways = {
        node.cni("ptp", "ADD", conf, netns=p, container_id=p.name).result["ips"][0]["gateway"]
        for p in pods
    }
    assert gateways == {"10.9.0.1"}
    node.cni("ptp", "DEL", conf, netns=pods[0], container_id="pod0").ok()
    assert all(p.pings("10.9.0.1") for p in pods[1:])


@pytest.mark.parametrize(
    ("dns", "expected"),
    [
        pytest.param(
            None,
            {"nameservers": ["10.9.0.53"], "search": ["ipam.example.org"]},
            marks=pytest.mark.statement("PT-09"),
        ),
        *(
            pytest.param({k: v}, {k: v}, marks=pytest.mark.statement("PT-10"))
            for k, v in DNS.items()
        ),
        pytest.param(
            {"nameservers": [], "search": [], "options": []},
            {},
            marks=pytest.mark.statement("PT-11"),
        ),
    ],
)
def test_dns(node: Node, pod: Pod, dns, expected):
    node.write("/run/resolv.conf", RESOLV_CONF)
    conf = ptp(ipam=host_local(resolvConf="/run/resolv.conf"), dns=dns)
    assert node.cni("ptp", "ADD", conf, netns=pod).result.get("dns", {}) == expected


def test_an_address_without_a_gateway_is_refused_before_anything_is_made(node: Node, pod: Pod):
    ipam = {"type": "static", "addresses": [{"address": "10.9.0.5/24"}]}
    before = snapshot(node, pod)
    error = node.cni("ptp", "ADD", ptp(ipam=ipam), netns=pod).error
    assert "gateway" in error["msg"]
    assert_same(before, snapshot(node, pod))


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        ("ip link del $V", "eth0 is gone"),
        ("ip link set $V down", "is down"),
        ("ip addr flush dev $V", "gateway 10.9.0.1 is not on"),
        ("ip route del $A", "the host has no route to"),
        ("sysctl -qw net.ipv4.ip_forward=0", "IPv4 forwarding is off"),
        ("nft flush ruleset", "masquerad"),
        ("ip -n pod1 route del 10.9.0.0/24", "has no route to 10.9.0.0/24"),
        ("ip -n pod1 link set eth0 address 02:00:00:00:00:07", "has MAC 02:00:00:00:00:07"),
    ],
)
def test_check_names_what_is_wrong(node: Node, pod: Pod, spoil, text):
    conf = ptp(ipMasq=True, ipMasqBackend="nftables")
    result = node.cni("ptp", "ADD", conf, netns=pod).result
    name, address = result["interfaces"][0]["name"], result["ips"][0]["address"].split("/")[0]
    node.sh("sh", "-ec", f"V={name}; A={address}; {spoil}")
    error = node.cni("ptp", "CHECK", chained(conf, result), netns=pod).error
    assert text in error["msg"] + error.get("details", "")
