"""firewall with real pings and connections, on its three backends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.confs import bridge, host_local
from tests.kit.faults import Faults
from tests.kit.firewalld import Firewalld
from tests.kit.state import assert_same, snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.node import Node, Outcome, Pod

pytestmark = pytest.mark.netns
statement = pytest.mark.statement
BACKENDS = ["iptables", "firewalld", "nftables"]
every = pytest.mark.parametrize("backend", BACKENDS)
NETWORKS = {
    "red": bridge(
        "1.0.0",
        name="red",
        bridge="red0",
        isDefaultGateway=True,
        ipam=host_local("10.1.0.0/24", "fd00:1::/64"),
    ),
    "blue": bridge(
        "1.0.0",
        name="blue",
        bridge="blue0",
        isDefaultGateway=True,
        ipam=host_local("10.2.0.0/24", "fd00:2::/64"),
    ),
}


class Walled:
    """Pods on two bridges and something outside."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.results: dict[str, dict[str, Any]] = {}
        self.network: dict[str, str] = {}
        self.daemon: Firewalld | None = None

    def pod(self, name: str, network: str = "red") -> Pod:
        """A pod on a bridge."""
        pod = self.node.pod(name)
        done = self.node.cni("bridge", "ADD", NETWORKS[network], netns=pod, container_id=name)
        self.results[name], self.network[name] = done.result, network
        return pod

    def outside(self) -> Pod:
        """A namespace that pods reach through the host at 192.0.2.2."""
        pod = self.node.pod("outside")
        self.node.sh(
            "ip", "link", "add", "out0", "type", "veth", "peer", "eth0", "netns", "outside"
        )
        self.node.sh("ip", "addr", "add", "192.0.2.1/24", "dev", "out0")
        self.node.sh("ip", "link", "set", "out0", "up")
        pod.sh("ip", "addr", "add", "192.0.2.2/24", "dev", "eth0")
        pod.sh("ip", "link", "set", "eth0", "up")
        pod.sh("ip", "route", "add", "default", "via", "192.0.2.1")
        return pod

    def start_daemon(self) -> Firewalld:
        """firewalld runs."""
        self.daemon = Firewalld(self.node)
        return self.daemon

    def conf(self, name: str, **over: Any) -> dict[str, Any]:
        """firewall's configuration behind a pod's bridge."""
        document = {
            "cniVersion": "1.0.0",
            "name": self.network[name],
            "type": "firewall",
            "prevResult": self.results[name],
            **over,
        }
        return {k: v for k, v in document.items() if v is not None}

    def call(self, command: str, pod: Pod, *, prepare: Any = None, **over: Any) -> Outcome:
        """One call."""
        return self.node.cni(
            "firewall",
            command,
            self.conf(pod.name, **over),
            netns=pod,
            container_id=pod.name,
            prepare=prepare,
        )

    def address(self, name: str, family: int = 4) -> str:
        """A pod's address."""
        ips = [ip["address"].split("/")[0] for ip in self.results[name]["ips"]]
        return next(ip for ip in ips if (":" in ip) == (family == 6))

    def close(self) -> None:
        """firewalld ends."""
        if self.daemon is not None:
            self.daemon.close()


@pytest.fixture
def walled(node: Node) -> Iterator[Walled]:
    """The host."""
    walled = Walled(node)
    yield walled
    walled.close()


def rules(walled: Walled) -> list[str]:
    """What belongs to containers: rules with addresses, elements, sources."""
    found = []
    for family in (4, 6):
        listed = walled.node.iptables(family, "filter")
        found += [r for r in listed if r.startswith("-A CNI-FORWARD -") and "comment" not in r]
    for entry in walled.node.nft():
        body = entry.get("set", {})
        if body.get("name", "").startswith("addresses"):
            found += map(str, body.get("elem", []))
    if walled.daemon is not None:
        found += sorted(walled.daemon.sources())
    return found


# --- packets ------------------------------------------------------------------------------------


@statement("FW01")
@pytest.mark.parametrize("backend", ["iptables", "firewalld"])
def test_traffic_of_a_container_passes_where_the_host_forwards_nothing(walled, backend):
    pod, other, outside = walled.pod("pod1"), walled.pod("pod2", "blue"), walled.outside()
    if backend == "firewalld":
        walled.start_daemon()
    else:
        walled.node.sh("iptables", "-P", "FORWARD", "DROP")
    assert not pod.pings("192.0.2.2")

    walled.call("ADD", pod, backend=backend).ok()

    assert pod.pings("192.0.2.2")
    if backend == "iptables":
        assert not outside.pings(walled.address("pod1")), "only answers come back"
        assert not other.pings(walled.address("pod1"))
    walled.call("CHECK", pod, backend=backend).ok()
    walled.call("DEL", pod, backend=backend).ok()
    assert not pod.pings("192.0.2.2")
    assert rules(walled) == []


@statement("FW02")
@every
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(
    ("policy", "within", "across"),
    [("open", True, True), ("same-bridge", True, False), ("isolated", False, False)],
)
def test_policies_of_bridges(walled, backend, policy, within, across, family):
    one, two, far = walled.pod("one"), walled.pod("two"), walled.pod("far", "blue")
    if backend == "firewalld":
        walled.start_daemon()
    for pod in (one, two, far):
        walled.call("ADD", pod, backend=backend, ingressPolicy=policy).ok()
        walled.call("CHECK", pod, backend=backend, ingressPolicy=policy).ok()
    # what stays within a bridge meets the host's rules only through br_netfilter
    assert one.pings(walled.address("two", family)) is within
    assert two.pings(walled.address("one", family)) is within
    assert one.pings(walled.address("far", family)) is across
    assert far.pings(walled.address("one", family)) is across


@pytest.mark.parametrize("backend", ["iptables", "nftables"])
def test_a_bridge_that_changes_its_policy(walled, backend):
    one, two = walled.pod("one"), walled.pod("two")
    for policy, within in (("isolated", False), ("same-bridge", True), ("isolated", False)):
        for pod in (one, two):
            walled.call("DEL", pod, backend=backend, ingressPolicy=policy).ok()
            walled.call("ADD", pod, backend=backend, ingressPolicy=policy).ok()
            walled.call("CHECK", pod, backend=backend, ingressPolicy=policy).ok()
        assert one.pings(walled.address("two")) is within


def test_isolation_stands_before_what_accepts(walled):
    """Also when CNI-FORWARD is made later."""
    one, far = walled.pod("one"), walled.pod("far", "blue")
    for pod in (one, far):
        walled.call("ADD", pod, backend="iptables", ingressPolicy="same-bridge").ok()
    walled.node.sh("iptables", "-D", "FORWARD", "2")
    assert "CNI-FORWARD" in walled.call("CHECK", one, backend="iptables").error["msg"]
    late = walled.pod("late", "blue")
    walled.call("ADD", late, backend="iptables").ok()
    jumps = [r.split()[-1] for r in walled.node.iptables(4, "filter") if r.startswith("-A FORWARD")]
    assert jumps[0] == "CNI-FORWARD", "an open policy does not know of the other"
    assert (
        "stands behind"
        in walled.call("CHECK", one, backend="iptables", ingressPolicy="same-bridge").error["msg"]
    )
    again = walled.pod("again")
    walled.call("ADD", again, backend="iptables", ingressPolicy="same-bridge").ok()
    assert not one.pings(walled.address("far"))


# --- rules --------------------------------------------------------------------------------------


@statement("FW03")
@pytest.mark.parametrize("version", ["0.4.0", "1.0.0"])
def test_the_rules_of_iptables(walled, version):
    pod = walled.pod("pod1")
    previous = walled.results["pod1"] | {"cniVersion": version}
    if version == "0.4.0":
        ips = [{"version": "46"[":" in ip["address"]], **ip} for ip in previous["ips"]]
        previous |= {"ips": [{**ip, "version": ip["version"]} for ip in ips]}
    over = {"backend": "iptables", "cniVersion": version, "prevResult": previous}
    result = walled.call("ADD", pod, **over).result
    assert result["ips"] == previous["ips"]
    walled.call("CHECK", pod, **over).ok()
    for family, ip in (
        (4, f"{walled.address('pod1')}/32"),
        (6, f"{walled.address('pod1', 6)}/128"),
    ):
        listed = walled.node.iptables(family, "filter")
        assert listed == [
            '-A FORWARD -m comment --comment "CNI firewall plugin rules" -j CNI-FORWARD',
            '-A CNI-FORWARD -m comment --comment "CNI firewall plugin admin overrides" -j CNI-ADMIN',
            f"-A CNI-FORWARD -d {ip} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            f"-A CNI-FORWARD -s {ip} -j ACCEPT",
        ]
    walled.call("DEL", pod, **over).ok()
    assert [len(walled.node.iptables(family, "filter")) for family in (4, 6)] == [2, 2]


@statement("FW04")
def test_an_administrator_s_chain_by_another_name(walled):
    pod = walled.pod("pod1")
    over = {"backend": "iptables", "iptablesAdminChainName": "CNI-foobar"}
    walled.call("ADD", pod, **over).ok()
    for tool in ("iptables-save", "ip6tables-save"):
        assert ":CNI-foobar " in walled.node.sh(tool).stdout
    walled.call("CHECK", pod, **over).ok()
    walled.node.sh("iptables", "-A", "CNI-foobar", "-j", "DROP")
    walled.call("DEL", pod, **over).ok()
    assert "-A CNI-foobar -j DROP" in walled.node.iptables(4, "filter")


@statement("FW05")
def test_firewalld_is_found_and_used(walled):
    pod = walled.pod("pod1")
    daemon = walled.start_daemon()
    result = walled.call("ADD", pod).result
    assert result == walled.results["pod1"]
    wanted = {f"{walled.address('pod1')}/32", f"{walled.address('pod1', 6)}/128"}
    assert daemon.sources() == wanted
    walled.call("CHECK", pod).ok()
    walled.call("DEL", pod).ok()
    assert daemon.sources() == set()
    walled.call("ADD", pod, firewalldZone="internal").ok()
    assert daemon.sources("internal") == wanted


@every
def test_del_without_netns_without_prevresult_and_twice(walled, backend):
    pod = walled.pod("pod1")
    if backend == "firewalld":
        walled.start_daemon()
    walled.call("ADD", pod, backend=backend).ok()
    assert rules(walled)
    pod.delete()
    for _ in range(2):
        bare = walled.conf("pod1", prevResult=None)
        walled.node.cni("firewall", "DEL", bare, container_id="pod1").ok()
        assert rules(walled) == []


@pytest.mark.parametrize("backend", ["iptables", "nftables"])
def test_a_late_del_leaves_the_next_holder_of_the_address_alone(walled, backend):
    pod, other = walled.pod("pod1"), walled.pod("pod2")
    walled.results["pod2"]["ips"] = walled.results["pod1"]["ips"]
    walled.call("ADD", pod, backend=backend).ok()
    walled.call("DEL", pod, backend=backend).ok()
    walled.call("ADD", other, backend=backend).ok()
    before = rules(walled)
    walled.call("DEL", pod, backend=backend).ok()
    assert rules(walled) == before
    walled.call("CHECK", other, backend=backend).ok()


@pytest.mark.parametrize("backend", ["iptables", "nftables"])
def test_no_failure_of_an_adapter_leaves_anything(walled, backend):
    pod = walled.pod("pod1")
    over = {"backend": backend, "ingressPolicy": "same-bridge"}
    walled.call("ADD", pod, **over).ok()
    walled.call("DEL", pod, **over).ok()
    calls = walled.call("ADD", pod, prepare=Faults(), **over).ok().extra
    walled.call("DEL", pod, **over).ok()
    before = snapshot(walled.node, shared_links=("red0", "blue0"))
    for n in range(1, len(calls) + 1):
        if walled.call("ADD", pod, prepare=Faults(n), **over).exit_code == 0:
            walled.call("DEL", pod, **over).ok()
        assert_same(before, snapshot(walled.node, shared_links=("red0", "blue0")), calls[n - 1])


@pytest.mark.parametrize("backend", ["iptables", "nftables"])
def test_kill_9_anywhere_and_del_cleans_up(walled, backend):
    pod = walled.pod("pod1")
    over = {"backend": backend, "ingressPolicy": "same-bridge"}
    walled.call("ADD", pod, **over).ok()
    walled.call("DEL", pod, **over).ok()
    calls = walled.call("ADD", pod, prepare=Faults(), **over).ok().extra
    walled.call("DEL", pod, **over).ok()
    before = snapshot(walled.node, shared_links=("red0", "blue0"))
    for n in range(1, len(calls) + 1):
        with pytest.raises(ChildProcessError):
            walled.call("ADD", pod, prepare=Faults(n, kill=True), **over)
        walled.call("DEL", pod, **over).ok()
        assert_same(before, snapshot(walled.node, shared_links=("red0", "blue0")), calls[n - 1])


def test_12_first_adds_at_once_leave_no_rule_twice(walled):
    from concurrent.futures import ThreadPoolExecutor

    pods = [walled.pod(f"pod{n}") for n in range(12)]
    over = {"backend": "iptables", "ingressPolicy": "same-bridge"}
    with ThreadPoolExecutor(12) as pool:
        for done in pool.map(lambda pod: walled.call("ADD", pod, **over), pods):
            done.ok()
    for family in (4, 6):
        listed = walled.node.iptables(family, "filter")
        assert sorted(listed) == sorted(set(listed))


@pytest.mark.parametrize("journal", [True, False])
def test_gc_takes_elements_of_attachments_that_are_not_valid(walled, journal):
    over = {"backend": "nftables", "cniVersion": "1.1.0"}
    for name in ("pod1", "pod2"):
        walled.call("ADD", walled.pod(name), **over).ok()
    if not journal:
        walled.node.sh("rm", "-r", "/run/cni-plugins/journal")
    valid = {"cni.dev/valid-attachments": [{"containerID": "pod2", "ifname": "eth0"}]}
    walled.node.cni("firewall", "GC", walled.conf("pod1", **over, **valid)).ok()
    left = str(rules(walled))
    assert walled.address("pod2") in left
    assert walled.address("pod1") not in left


DRIFT = [
    ("iptables", "iptables -D FORWARD 1"),
    ("iptables", "iptables -D FORWARD 2"),
    ("iptables", "iptables -D CNI-FORWARD 1"),
    ("iptables", "iptables -D CNI-FORWARD 2"),
    ("iptables", "ip6tables -D CNI-FORWARD 3"),
    ("iptables", "iptables -F CNI-ISOLATION-STAGE-1"),
    ("iptables", "iptables -F CNI-ISOLATION-STAGE-2"),
    ("nftables", "nft flush set inet cni_plugins_firewall addresses4"),
    ("nftables", "nft flush set inet cni_plugins_firewall addresses6"),
    ("nftables", "nft flush set inet cni_plugins_firewall bridges"),
    ("nftables", "nft flush set inet cni_plugins_firewall open_within"),
    ("nftables", "nft flush chain inet cni_plugins_firewall forward"),
    ("nftables", "nft flush ruleset"),
    ("firewalld", "firewall-cmd --zone=trusted --remove-source=10.1.0.2/32"),
    ("firewalld", "firewall-cmd --reload"),
]


@pytest.mark.parametrize(("backend", "drift"), DRIFT)
def test_check_names_what_is_missing(walled, backend, drift):
    pod = walled.pod("pod1")
    if backend == "firewalld":
        walled.start_daemon()
    over = {"backend": backend, "ingressPolicy": "same-bridge"}
    walled.call("ADD", pod, **over).ok()
    walled.call("CHECK", pod, **over).ok()
    walled.node.sh(*drift.split())
    said = walled.call("CHECK", pod, **over).error["msg"]
    assert any(text in said for text in ("missing", "not found", "does not have", "rules, not"))


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"backend": "ipfw"}, "backend: 'ipfw' is not one of iptables, firewalld, nftables"),
        ({"ingressPolicy": "shut"}, 'unknown ingress policy: "shut"'),
        ({"prevResult": None}, "missing prevResult from earlier plugin"),
        ({"iptablesAdminChainName": "x" * 29}, "iptablesAdminChainName"),
        ({"iptablesAdminChainName": "-F x"}, "iptablesAdminChainName"),
        ({"backend": 7}, "backend: expected a string, got integer"),
        ({"cniVersion": "0.3.1"}, "incompatible CNI versions"),
        ({"backend": "firewalld"}, "no backend for the firewall: firewalld cannot be used"),
    ],
)
def test_bad_input_changes_nothing(walled, over, said):
    pod = walled.pod("pod1")
    before = snapshot(walled.node, shared_links=("red0", "blue0"))
    assert said in walled.call("ADD", pod, **over).error["msg"]
    assert_same(before, snapshot(walled.node, shared_links=("red0", "blue0")))


def test_a_policy_needs_a_bridge(walled):
    pod = walled.pod("pod1")
    previous = walled.results["pod1"] | {"interfaces": [], "ips": []}
    over = {"ingressPolicy": "isolated", "prevResult": previous}
    assert "interface name must be set" in walled.call("ADD", pod, **over).error["msg"]
