"""The chained plugins of both suites on one node, in turns.

Debian's 1.1.1 has neither masqAll, nor ``isolated``, nor txQLen, and its CHECK of a port never
succeeds, not after its own ADD either: it looks for IPv4's rules in IPv6's table.
"""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.kit.node import REFERENCE, Node, Pod
from tests.kit.published import BRIDGE, HOST4, Published, mapping
from tests.kit.state import load_nft, restore

pytestmark = [pytest.mark.netns, pytest.mark.reference]

CHAINED: dict[str, dict[str, Any]] = {
    "portmap": {"type": "portmap", "backend": None},
    "portmap without snat": {"type": "portmap", "snat": False},
    "portmap with conditions": {"type": "portmap", "conditionsV4": ["-s", "192.0.2.0/24"]},
    "bandwidth": {
        "type": "bandwidth",
        "ingressRate": 8_000_000,
        "ingressBurst": 800_000,
        "egressRate": 16_000_000,
        "egressBurst": 1_600_000,
    },
    "firewall": {"type": "firewall", "backend": "iptables"},
    "tuning": {
        "type": "tuning",
        "sysctl": {"net.ipv4.conf.eth0.arp_filter": "1"},
        "mac": "02:00:00:00:00:77",
        "mtu": 1400,
        "promisc": True,
    },
}
PORTS = [mapping(8080, 80), mapping(8080, 80, "udp"), mapping(81, 81, ip=HOST4), mapping(82, 82)]


def conf(host: Published, case: str) -> dict[str, Any]:
    """A case's configuration behind the pod's bridge."""
    mappings = PORTS if "portmap" in case else []
    return host.conf("pod1", mappings, **CHAINED[case])


def call(host: Published, command: str, document: dict[str, Any], binaries: str | None):
    """One call by either suite."""
    return host.node.cni(
        document["type"],
        command,
        document,
        netns="/run/netns/pod1",
        container_id="pod1",
        binaries=binaries,
    )


def kernel(node: Node) -> dict[str, Any]:
    """What the chained plugins make, without identities that differ between two nodes."""
    listed: dict[str, Any] = {
        f"{table} {family}": node.iptables(family, table)
        for table in ("nat", "filter")
        for family in (4, 6)
    }
    qdiscs = json.loads(node.sh("tc", "-j", "qdisc", "show").stdout)
    listed["qdiscs"] = sorted(
        f"{q['kind']} {q['handle']} {q.get('options')}" for q in qdiscs if q["kind"] != "noqueue"
    )
    links = {link["ifname"]: link for link in node.ip("-d", "link")}
    listed["ifb"] = sorted(
        (name, link["mtu"], link.get("txqlen", 0), "UP" in link["flags"])
        for name, link in links.items()
        if name.startswith("bwp")
    )
    redirects = [
        node.sh("tc", "filter", "show", "dev", name, "parent", "ffff:", check=False).stdout
        for name in sorted(links)
    ]
    first_actions = [re.search(r"Egress Redirect to device (\S+)\)", text) for text in redirects]
    listed["redirects"] = [found[1] for found in first_actions if found]
    inside = node.ip("-d", "link", "show", "dev", "eth0", pod=_Named("pod1"))[0]
    listed["pod"] = {k: inside.get(k) for k in ("mtu", "txqlen", "promiscuity")}
    localnet = "net.ipv4.conf.br0.route_localnet"
    listed["route_localnet"] = node.sh("sysctl", "-n", localnet).stdout
    return listed


def mac(pod: Pod) -> str:
    """The address of the pod's interface."""
    link = pod.link()
    assert link is not None
    return str(link["address"])


class _Named:
    def __init__(self, name: str) -> None:
        self.name = name


@pytest.mark.parametrize("case", CHAINED)
def test_both_make_the_same(case):
    found = []
    for binaries in (REFERENCE, None):
        node = Node()
        host = Published(node)
        host.pod("pod1")
        call(host, "ADD", conf(host, case), binaries).ok()
        found.append(kernel(node))
        host.close()
        node.close()
    theirs, ours = found
    for what, value in theirs.items():
        assert ours[what] == value, what


@pytest.mark.parametrize("case", CHAINED)
@pytest.mark.parametrize("first", [None, REFERENCE], ids=["ours", "reference"])
def test_one_adds_the_other_checks_and_deletes(node, case, first):
    host = Published(node)
    pod = host.pod("pod1")
    other = REFERENCE if first is None else None
    before = kernel(node)
    address = mac(pod)
    document = conf(host, case)
    result = call(host, "ADD", document, first).result
    checked = document if "bandwidth" in case else {**document, "prevResult": result}

    if other is None or "portmap" not in case:
        call(host, "CHECK", checked, other).ok()
    call(host, "DEL", checked, other).ok()

    after = kernel(node)
    shared = ("CNI-HOSTPORT-", "CNI-ADMIN", "-A FORWARD", "CNI-ISOLATION", "-j RETURN")
    for table in ("nat 4", "nat 6", "filter 4", "filter 6"):
        own = [rule for rule in after[table] if not any(text in rule for text in shared)]
        assert own == before[table]
        assert not any("CNI-DN-" in rule for rule in after[table])
    assert after["ifb"] == []
    assert after["pod"] == before["pod"]
    assert mac(pod) == address
    if other is None:
        assert after["qdiscs"] == before["qdiscs"]
        assert after["redirects"] == before["redirects"]


def test_the_reference_s_check_of_ports_fails_after_its_own_add(node):
    """When this fails the exception above can go."""
    host = Published(node)
    host.pod("pod1")
    document = conf(host, "portmap")
    call(host, "ADD", document, REFERENCE).ok()
    assert "could not check ipv6 dnat" in call(host, "CHECK", document, REFERENCE).error["msg"]


# --- nftables, which Debian's reference lacks: what newer releases were recorded to do ------------

RECORDED = Path(__file__).parent / "recorded" / "portmap-nftables-dual-stack.json"


@pytest.fixture
def recorded(node: Node) -> dict[str, Any]:
    """The rule set after the reference's ADD, loaded into the kernel, with the call that made it."""
    step = next(
        s for s in json.loads(RECORDED.read_text())["steps"] if s["config"]["type"] != "bridge"
    )
    assert step["verb"] == "ADD"
    load_nft(node, step["after"]["nft"])
    assert commented(node)
    return step


def commented(node: Node) -> list[dict[str, Any]]:
    """The rules of the reference that belong to a container."""
    rules = [
        r
        for family in ("ip", "ip6")
        for r in node.nft_rules("cni_hostport")
        if r["family"] == family
    ]
    return [r for r in rules if "comment" in r]


def test_our_del_removes_the_reference_s_nftables_rules(node, recorded):
    other = 'add rule ip cni_hostport hostports tcp dport 9999 dnat to 10.9.0.9:80 comment "other"'
    node.sh("nft", "-f", "-", stdin=other)
    container_id = recorded["env"]["CNI_CONTAINERID"]
    for _ in range(2):
        node.cni("portmap", "DEL", recorded["config"], netns="", container_id=container_id).ok()
        assert {r["comment"] for r in commented(node)} == {"other"}


def test_restore_makes_the_reference_s_nftables_ports_ours(node):
    """They ADD, the runtime caches, we restore: from then on the ports are ours."""
    host = Published(node)
    pod = host.pod("abc123")
    host.serve(pod, 4, "tcp", 80, "pod1")
    step = next(
        s for s in json.loads(RECORDED.read_text())["steps"] if s["config"]["type"] != "bridge"
    )
    load_nft(node, step["after"]["nft"])
    mappings = step["config"]["runtimeConfig"]["portMappings"]
    plugin = {"type": "portmap", "backend": "nftables", "capabilities": {"portMappings": True}}
    conflist = {"cniVersion": "1.0.0", "name": "net1", "plugins": [BRIDGE, plugin]}
    cached = {
        "kind": "cniCacheV1",
        "containerId": "abc123",
        "config": base64.b64encode(json.dumps(conflist).encode()).decode(),
        "ifName": "eth0",
        "networkName": "net1",
        "capabilityArgs": {"portMappings": mappings[:2]},
        "result": host.results["abc123"],
    }
    node.write("/var/lib/cni/results/net1-abc123-eth0", json.dumps(cached))
    gone = {**cached, "containerId": "gone", "netns": "/run/netns/gone"}
    node.write("/var/lib/cni/results/net1-gone-eth0", json.dumps(gone))

    for _ in range(2):
        status, out, err = restore(node)
        assert status == 0, out + err
        done = {(e["plugin"], e["container_id"], e["problem"]) for e in json.loads(out)}
        assert done == {("bridge", "abc123", ""), ("portmap", "abc123", "")}
        assert commented(node) == []
        assert node.nft_rules("cni_plugins_portmap")
        assert host.ask(host.outside, HOST4, "tcp", 8080).startswith("pod1 ")
    host.close()
