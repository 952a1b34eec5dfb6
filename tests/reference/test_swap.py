"""Our suite and the reference's on one node, in turns: what one made the other sees and cleans."""

from __future__ import annotations

import json

import pytest

from tests.kit.confs import SUBNET4, SUBNET6, bridge, chained, host_local
from tests.kit.node import REFERENCE
from tests.kit.state import assert_same, snapshot
from tests.kit.waiting import wait_for

pytestmark = [pytest.mark.netns, pytest.mark.reference]

VERSION = "1.0.0"
FAMILIES = {"v4": (SUBNET4,), "v6": (SUBNET6,), "dual": (SUBNET4, SUBNET6)}


def conf(family, **over):
    return bridge(
        VERSION, isDefaultGateway=True, ipMasq=True, ipam=host_local(*FAMILIES[family]), **over
    )


@pytest.fixture(params=["ours", "reference"])
def first(request):
    """Who does ADD; the other does the rest."""
    return None if request.param == "ours" else REFERENCE


def other(first):
    return REFERENCE if first is None else None


def lasting(node, pod):
    """A snapshot without our own records, which only our DEL removes."""
    state = snapshot(node, pod)
    kept = [f for f in state["files"] if "/.cni-plugins/" not in f and "/run/cni-plugins" not in f]
    return {**state, "files": kept}


@pytest.mark.parametrize("family", FAMILIES)
def test_one_adds_the_other_checks_and_deletes(node, pod, first, family):
    before = lasting(node, pod)
    result = node.cni("bridge", "ADD", conf(family), netns=pod, binaries=first).result

    checked = chained(conf(family), result)
    node.cni("bridge", "CHECK", checked, netns=pod, binaries=other(first)).ok()
    node.cni("bridge", "DEL", checked, netns=pod, binaries=other(first)).ok()

    assert_same(before, lasting(node, pod))


@pytest.mark.parametrize("family", FAMILIES)
def test_our_del_cleans_the_references_without_namespace_and_result(node, pod, family):
    before = lasting(node, pod)
    node.cni("bridge", "ADD", conf(family), netns=pod, binaries=REFERENCE).ok()
    pod.delete()

    node.cni("bridge", "DEL", conf(family), netns="").ok()

    # the kernel takes a namespace's links after its name has gone
    wait_for("end of the veth", lambda: not any(n.startswith("veth") for n in node.links()))
    after = lasting(node, node.pod("pod1"))
    assert_same(before, after)


def made(node, pod, binaries, family):
    node.cni("bridge", "ADD", conf(family, mtu=1400), netns=pod, binaries=binaries).ok()
    inside = pod.link()
    return {
        "rules": [sorted(node.iptables(f)) for f in (4, 6)],
        "addresses": [sorted(pod.addresses()), sorted(node.addresses("br0"))],
        "routes": [
            sorted((r["dst"], r.get("gateway", "")) for r in pod.ip(f, "route"))
            for f in ("-4", "-6")
        ],
        "mtu": inside["mtu"],
        "leases": {a: node.read(f"/var/lib/cni/networks/net1/{a}") for a in node.leases()},
        "last": [
            node.read(path)
            for path in node.files("/var/lib/cni/networks/net1")
            if "last_reserved" in path
        ],
        "forwarding": node.sh("sysctl", "-n", "net.ipv4.ip_forward").stdout,
        "sysctls": pod.sh(
            "sysctl", "net.ipv4.conf.eth0.arp_notify", "net.ipv6.conf.eth0.accept_dad",
            check=False,
        ).stdout,
    }  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_both_make_the_same(family):
    from tests.kit.node import Node

    found = []
    for binaries in (REFERENCE, None):
        node = Node()
        found.append(made(node, node.pod("pod1"), binaries, family))
        node.close()
    theirs, ours = found
    for what, value in theirs.items():
        assert ours[what] == value, what


@pytest.mark.parametrize("version", ["0.2.0", "0.3.1", "0.4.0", "1.0.0"])
def test_both_answer_the_same(version):
    """Results agree but for MAC addresses and the veth's name."""
    import re

    from tests.kit.node import Node

    answers = []
    asked = bridge(
        version,
        isDefaultGateway=True,
        ipam=host_local(SUBNET4, SUBNET6, routes=[{"dst": "192.0.2.0/24"}]),
    )
    for binaries in (REFERENCE, None):
        node = Node()
        text = (
            node.cni("bridge", "ADD", asked, netns=node.pod("pod1"), binaries=binaries).ok().stdout
        )
        node.close()
        text = re.sub(r"veth[0-9a-f]{8}", "veth", text)
        answers.append(re.sub(r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}", "MAC", text))
    if version < "1.0.0":
        assert answers[0] == answers[1]
    else:
        # newer releases of the reference sort the keys and leave an empty dns out, as we do
        theirs, ours = map(json.loads, answers)
        assert {k: v for k, v in theirs.items() if v != {}} == ours


BAD = {
    "vlan": {"vlan": 5000},
    "no lease range": {"ipam": {"type": "host-local"}},
    "tiny subnet": {"ipam": host_local("10.1.2.0/31")},
    "unknown version": {"cniVersion": "9.9.9"},
    "no name": {"name": ""},
    "bad name": {"name": "a b"},
    "overlap": {"ipam": host_local("10.1.0.0/16", "10.1.2.0/24")},
}


@pytest.mark.parametrize("name", BAD)
def test_both_refuse_with_the_same_text(node, pod, name):
    asked = {**bridge(VERSION), **BAD[name]}

    ours = node.cni("bridge", "ADD", asked, netns=pod).error
    theirs = node.cni("bridge", "ADD", asked, netns=pod, binaries=REFERENCE).error

    assert theirs["msg"] in ours["msg"]


def ipam(*subnets):
    return {"cniVersion": VERSION, "name": "net1", "type": "bridge", "ipam": host_local(*subnets)}


@pytest.mark.parametrize("family", FAMILIES)
def test_host_local_in_turns(node, first, family):
    asked = ipam(*FAMILIES[family])
    facts = {"netns": "/run/netns/x"}
    result = node.cni("host-local", "ADD", asked, **facts, binaries=first).result
    node.cni("host-local", "CHECK", chained(asked, result), **facts, binaries=other(first)).ok()
    again = node.cni("host-local", "ADD", asked, **facts, binaries=other(first)).error
    assert "duplicate allocation is not allowed" in again["msg"]

    node.cni("host-local", "DEL", asked, **facts, binaries=other(first)).ok()

    assert node.leases() == set()


def test_host_local_of_both_suites_at_once(node):
    """Thirty-two calls, half of each suite: no address twice, and either suite's DEL finds all."""
    from concurrent.futures import ThreadPoolExecutor

    asked = ipam(SUBNET4, SUBNET6)

    def call(command, i, swap):
        who = REFERENCE if (i + swap) % 2 else None
        return node.cni(
            "host-local", command, asked, container_id=f"c{i}", netns="/x", binaries=who
        )

    with ThreadPoolExecutor(8) as pool:
        added = list(pool.map(lambda i: call("ADD", i, 0), range(32)))
        addresses = [ip["address"] for outcome in added for ip in outcome.result["ips"]]
        assert len(set(addresses)) == len(addresses) == 64
        assert [o.exit_code for o in pool.map(lambda i: call("DEL", i, 1), range(32))] == [0] * 32

    assert node.leases() == set()


def test_loopback_in_turns(node, pod, first):
    asked = {"cniVersion": VERSION, "name": "lo", "type": "loopback"}
    node.cni("loopback", "ADD", asked, netns=pod, ifname="lo", binaries=first).ok()
    node.cni("loopback", "CHECK", asked, netns=pod, ifname="lo", binaries=other(first)).ok()
    node.cni("loopback", "DEL", asked, netns=pod, ifname="lo", binaries=other(first)).ok()

    assert "UP" not in pod.link("lo")["flags"]
