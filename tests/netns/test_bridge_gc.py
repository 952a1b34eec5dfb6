"""bridge's GC, with a runtime's list and without."""

from __future__ import annotations

import pytest

from tests.kit.confs import bridge
from tests.kit.waiting import wait_for

pytestmark = pytest.mark.netns

VALID, OLD = "cni.dev/valid-attachments", "cni.dev/attachments"


def attach(node, conf, count):
    for i in range(1, count + 1):
        pod = node.pod(f"pod{i}")
        node.cni("bridge", "ADD", conf, netns=pod, container_id=f"c{i}").ok()


def number(node, name):
    return int(node.sh("stat", "-Lc", "%i", f"/run/netns/{name}").stdout)


def entries(*container_ids):
    return [{"containerID": c, "ifname": "eth0"} for c in container_ids]


@pytest.mark.parametrize("backend", ["iptables", "nftables"])
@pytest.mark.parametrize("key", [VALID, OLD])
@pytest.mark.parametrize("journal", ["kept", "lost"])
def test_what_is_not_listed_goes(node, key, backend, journal):
    conf = bridge(ipMasq=True, ipMasqBackend=backend)
    attach(node, conf, 3)
    if journal == "lost":
        node.sh("rm", "-r", "/run/cni-plugins")

    node.cni("bridge", "GC", {**conf, key: entries("c2")}, container_id="", ifname="").ok()

    assert node.leases() == {"10.9.0.3"}
    rules = (
        node.iptables()
        if backend == "iptables"
        else [r["comment"] for r in node.nft_rules("cni_plugins_masquerade", "masq_checks")]
    )
    assert rules
    assert all("c2" in rule for rule in rules)


def test_a_listed_attachment_still_passes_check(node):
    conf = bridge(ipMasq=True)
    pod = node.pod("pod9")
    result = node.cni("bridge", "ADD", conf, netns=pod, container_id="c9").result
    attach(node, conf, 2)

    node.cni("bridge", "GC", {**conf, VALID: entries("c9")}, container_id="", ifname="").ok()

    checked = {**conf, "prevResult": result}
    node.cni("bridge", "CHECK", checked, netns=pod, container_id="c9").ok()
    assert node.leases() == {"10.9.0.2"}


def test_an_empty_list_is_a_list(node):
    conf = bridge(ipMasq=True)
    attach(node, conf, 2)

    node.cni("bridge", "GC", {**conf, VALID: []}, container_id="", ifname="").ok()

    assert node.leases() == set()
    assert node.iptables() == []
    assert node.links() == {"lo", "br0"}


@pytest.mark.parametrize("absent", [{}, {VALID: None}])
def test_without_a_list_only_the_dead_go(node, absent):
    conf = bridge(ipMasq=True)
    attach(node, conf, 2)
    links = len(node.links())
    node.sh("ip", "netns", "del", "pod1")
    wait_for("the kernel to remove the link", lambda: len(node.links()) < links)

    node.cni("bridge", "GC", {**conf, **absent}, container_id="", ifname="").ok()

    assert node.leases() == {"10.9.0.3"}
    assert len(node.iptables()) == 3


def test_a_new_namespace_with_the_number_of_a_dead_one_is_another(node):
    conf = bridge(ipMasq=True)
    attach(node, conf, 2)
    dead = number(node, "pod1")
    links = len(node.links())
    node.sh("ip", "netns", "del", "pod1")
    wait_for("the kernel to remove the link", lambda: len(node.links()) < links)
    # the kernel gives the lowest free number, here or to whoever else makes one at the moment
    any(number(node, node.pod(f"new{i}").name) == dead for i in range(100))

    node.cni("bridge", "GC", conf, container_id="", ifname="").ok()

    assert node.leases() == {"10.9.0.3"}
    assert len(node.iptables()) == 3


def test_other_networks_are_left_alone(node):
    conf, other = bridge(ipMasq=True), bridge(ipMasq=True, name="net2")
    attach(node, conf, 1)
    pod = node.pod("podx")
    node.cni("bridge", "ADD", other, netns=pod, ifname="eth1", container_id="cx").ok()

    node.cni("bridge", "GC", {**conf, VALID: []}, container_id="", ifname="").ok()

    assert node.leases("net2") == {"10.9.0.2"}
    assert len(node.iptables()) == 3


def test_gc_is_repeatable(node):
    conf = bridge(ipMasq=True)
    attach(node, conf, 1)
    for _ in range(2):
        node.cni("bridge", "GC", {**conf, VALID: []}, container_id="", ifname="").ok()


def test_a_malformed_list_is_refused_and_nothing_goes(node):
    conf = bridge(ipMasq=True)
    attach(node, conf, 1)

    error = node.cni("bridge", "GC", {**conf, VALID: ["c1"]}, container_id="", ifname="").error

    assert error["code"] == 7
    assert "valid-attachments" in error["msg"]
    assert node.leases() == {"10.9.0.2"}
