"""bridge's CHECK sees, and names, every drift."""

from __future__ import annotations

import pytest

from tests.kit.confs import SUBNET4, SUBNET6, bridge, chained, host_local

pytestmark = pytest.mark.netns

IN_POD = "ip netns exec pod1"
DRIFTS = {
    "bridge gone": ("ip link del br0", "bridge br0 is gone"),
    "bridge down": ("ip link set br0 down", "bridge br0 is down"),
    "bridge MAC": ("ip link set br0 address 02:00:00:00:00:99", "bridge br0 has MAC"),
    "gateway gone": ("ip addr del 10.9.0.1/24 dev br0", "gateway 10.9.0.1/24 is not on br0"),
    "forwarding off": ("sysctl -q net.ipv4.ip_forward=0", "IPv4 forwarding is off"),
    "v6 forwarding off": (
        "sysctl -q net.ipv6.conf.all.forwarding=0",
        "IPv6 forwarding is off",
    ),
    "link gone": (f"{IN_POD} ip link del eth0", "eth0 is gone"),
    "link down": (f"{IN_POD} ip link set eth0 down", "eth0 in the container is down"),
    "link MAC": (
        f"{IN_POD} ip link set eth0 address 02:00:00:00:00:99",
        "eth0 in the container has MAC",
    ),
    "address gone": (f"{IN_POD} ip addr del 10.9.0.2/24 dev eth0", "no address 10.9.0.2/24"),
    "v6 address gone": (f"{IN_POD} ip addr del fd00:9::2/64 dev eth0", "no address fd00:9::2/64"),
    "default route gone": (f"{IN_POD} ip route del default", "route 0.0.0.0/0 via 10.9.0.1"),
    "default route changed": (
        f"{IN_POD} ip route replace default via 10.9.0.77",
        "route 0.0.0.0/0 via 10.9.0.1",
    ),
    "port taken off": ("ip link set dev PORT nomaster", "is no port of br0"),
    "port down": ("ip link set dev PORT down", "PORT is down"),
    "hairpin on": ("ip link set dev PORT type bridge_slave hairpin on", "has hairpin mode on"),
    "isolated": ("ip link set dev PORT type bridge_slave isolated on", "PORT is isolated"),
    "lease gone": ("rm /var/lib/cni/networks/net1/10.9.0.2", "no lease for 10.9.0.2"),
    "jump gone": ("iptables -t nat -F POSTROUTING", "masquerade rule is missing"),
    "v6 rules gone": ("ip6tables -t nat -F", "masquerade rule is missing"),
    "spoof check gone": ("nft flush chain bridge nat PREROUTING", "spoof check rule"),
}


@pytest.mark.parametrize("drift", DRIFTS)
def test_check_names_the_drift(node, pod, drift):
    conf = bridge(
        isDefaultGateway=True,
        ipMasq=True,
        macspoofchk=True,
        ipam=host_local(SUBNET4, SUBNET6),
    )
    result = node.cni("bridge", "ADD", conf, netns=pod).result
    node.cni("bridge", "CHECK", chained(conf, result), netns=pod).ok()
    command, expected = DRIFTS[drift]
    port = result["interfaces"][1]["name"]
    node.sh(*command.replace("PORT", port).split())

    error = node.cni("bridge", "CHECK", chained(conf, result), netns=pod).error

    assert expected.replace("PORT", port) in f"{error['msg']}\n{error.get('details', '')}"


def test_check_without_a_result(node, pod):
    node.cni("bridge", "ADD", bridge(), netns=pod).ok()

    error = node.cni("bridge", "CHECK", bridge(ipam=None), netns=pod).error

    assert (error["code"], error["msg"]) == (7, "prevResult: Required prevResult missing")


def test_check_with_the_namespace_gone_is_not_code_3(node, pod):
    result = node.cni("bridge", "ADD", bridge(), netns=pod).result
    pod.delete()

    error = node.cni("bridge", "CHECK", chained(bridge(), result), netns=pod).error

    assert error["code"] == 999
    assert "/run/netns/pod1" in error["msg"]


def test_check_lets_later_plugins_add_addresses_and_routes(node, pod):
    result = node.cni("bridge", "ADD", bridge(), netns=pod).result
    pod.sh("ip", "addr", "add", "192.0.2.1/24", "dev", "eth0")
    pod.sh("ip", "route", "add", "198.51.100.0/24", "via", "10.9.0.1")

    node.cni("bridge", "CHECK", chained(bridge(), result), netns=pod).ok()


def test_check_of_layer_2(node, pod):
    conf = bridge(isGateway=None, ipam=None)
    result = node.cni("bridge", "ADD", conf, netns=pod).result

    node.cni("bridge", "CHECK", chained(conf, result), netns=pod).ok()
