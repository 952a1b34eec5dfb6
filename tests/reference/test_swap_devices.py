"""host-device and sbr: what one suite moved the other brings back."""

from __future__ import annotations

import json

import pytest

from tests.kit.confs import chained
from tests.kit.node import REFERENCE

pytestmark = [pytest.mark.netns, pytest.mark.reference]

MAC = "c2:11:22:33:44:55"
STATIC = {"type": "static", "addresses": [{"address": "10.10.0.1/24"}]}
BOTH = pytest.mark.parametrize("ours_first", [True, False], ids=["ours first", "reference first"])


def device(node):
    """A device of the host."""
    node.sh(
        "sh",
        "-ec",
        f"""
    ip link add spare type bridge
    ip link add dev0 address {MAC} type veth peer dev0-far
    ip link set dev0 up; ip link set dev0-far up
    """,
    )


def host_device(**over):
    """A configuration."""
    base = {"cniVersion": "1.0.0", "name": "net1", "type": "host-device", "device": "dev0"}
    return {**base, **over}


@BOTH
@pytest.mark.parametrize("ipam", [None, STATIC], ids=["layer 2", "static"])
def test_one_moves_a_device_the_other_checks_and_brings_it_back(node, pod, ours_first, ipam):
    device(node)
    first, second = (None, REFERENCE) if ours_first else (REFERENCE, None)
    conf = host_device(**({"ipam": ipam} if ipam else {}))
    result = node.cni("host-device", "ADD", conf, netns=pod, binaries=first).result
    assert pod.link()["ifalias"] == "dev0"
    node.cni("host-device", "CHECK", chained(conf, result), netns=pod, binaries=second).ok()
    node.cni("host-device", "DEL", chained(conf, result), netns=pod, binaries=second).ok()
    home = node.link("dev0")
    assert home["address"] == MAC
    assert "ifalias" not in home or second == REFERENCE, "Debian's leaves it"
    assert pod.link() is None


def test_our_second_del_after_theirs(node, pod):
    """A runtime that was upgraded between two DELs of one pod."""
    device(node)
    node.cni("host-device", "ADD", host_device(), netns=pod).ok()
    node.cni("host-device", "DEL", host_device(), netns=pod, binaries=REFERENCE).ok()
    node.cni("host-device", "DEL", host_device(), netns=pod).ok()
    assert node.link("dev0")["address"] == MAC
    assert node.files("/var/lib/cni/host-device") == []


@BOTH
def test_one_s_source_routing_rules_are_removed_by_the_other(node, pod, ours_first):
    node.sh("ip", "link", "add", "up0", "type", "veth", "peer", "eth0", "netns", "pod1")
    node.sh("ip", "link", "set", "up0", "up")
    pod.sh("sh", "-ec", "ip link set eth0 up; ip addr add 10.7.0.2/24 dev eth0")
    first, second = (None, REFERENCE) if ours_first else (REFERENCE, None)
    previous = {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "eth0", "sandbox": pod.path}],
        "ips": [{"address": "10.7.0.2/24", "gateway": "10.7.0.1", "interface": 0}],
    }
    conf = {"cniVersion": "1.0.0", "name": "net1", "type": "sbr", "prevResult": previous}

    def rules():
        return [r for r in json.loads(pod.sh("ip", "-j", "rule").stdout) if r["src"] != "all"]

    node.cni("sbr", "ADD", conf, netns=pod, binaries=first).ok()
    (rule,) = rules()
    assert (rule["src"], rule["table"], rule["priority"]) == ("10.7.0.2", "100", 32765)
    node.cni("sbr", "DEL", conf, netns=pod, binaries=second).ok()
    assert rules() == []
