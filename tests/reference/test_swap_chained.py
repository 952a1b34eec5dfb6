"""The chained plugins of both suites on one node, in turns.

Debian's 1.1.1 has neither masqAll, nor ``isolated``, nor txQLen, and its CHECK of a port never
succeeds, not after its own ADD either: it looks for IPv4's rules in IPv6's table.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.kit.node import REFERENCE, Node, Pod
from tests.kit.published import HOST4, Published, mapping

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


RECORDED_NFT = """
table ip cni_hostport {
    comment "CNI portmap plugin"
    chain hostports {
        tcp dport 8080 dnat to 10.9.0.2:80 comment "pod1"
        ip daddr 192.0.2.1 tcp dport 81 dnat to 10.9.0.2:81 comment "pod1"
        tcp dport 9090 dnat to 10.9.0.9:80 comment "other"
    }
    chain hostip_hostports { }
    chain hostports_all { jump hostip_hostports; jump hostports; }
    chain prerouting {
        type nat hook prerouting priority -100; policy accept;
        fib daddr type local jump hostports_all
    }
    chain output {
        type nat hook output priority -100; policy accept;
        fib daddr type local jump hostports_all
    }
    chain masquerading {
        type nat hook postrouting priority 100; policy accept;
        ip saddr 10.9.0.2 ip daddr 10.9.0.2 masquerade comment "pod1"
        ip saddr 127.0.0.1 ip daddr 10.9.0.2 masquerade comment "pod1"
    }
}
table ip6 cni_hostport {
    chain hostports { tcp dport 8080 dnat to [fd00:9::2]:80 comment "pod1"; }
}
"""
"""What releases of the reference with an nftables backend leave in the kernel."""


def test_our_del_removes_the_reference_s_nftables_rules(node):
    host = Published(node)
    host.pod("pod1")
    node.sh("nft", "-f", "-", stdin=RECORDED_NFT)
    call(host, "DEL", host.conf("pod1", PORTS), None).ok()
    left = [e["rule"].get("comment") for e in node.nft() if "rule" in e]
    assert "pod1" not in left
    assert "other" in left


def test_an_nftables_port_can_be_taken_over_by_restore(node):
    """They ADD, we DEL and add again: from then on the port is ours."""
    host = Published(node)
    pod = host.pod("pod1")
    host.serve(pod, 4, "tcp", 80, "pod1")
    node.sh("nft", "-f", "-", stdin=RECORDED_NFT)
    document = host.conf("pod1", [mapping(8080, 80)], backend="nftables")
    call(host, "DEL", document, None).ok()
    call(host, "ADD", document, None).ok()
    assert host.ask(host.outside, HOST4, "tcp", 8080).startswith("pod1 ")
    host.close()
