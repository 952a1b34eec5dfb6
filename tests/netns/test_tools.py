"""Which tools each verb executes, and that shortcuts end where something is not as it should be."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.confs import bridge, host_local
from tests.kit.faults import Faults

if TYPE_CHECKING:
    from tests.kit.node import Node, Outcome, Pod

pytestmark = pytest.mark.netns

TOOLS = [f"{prefix}-{tool}" for prefix in ("iptables", "ip6tables") for tool in ("save", "restore")]
SUBNETS = {"IPv4": ["10.9.0.0/24"], "dual stack": ["10.9.0.0/24", "fd00:9::/64"]}
PORTS = [{"hostPort": 80, "containerPort": 80, "protocol": "tcp"}]
CASES: dict[str, dict[str, Any]] = {
    "portmap": {"backend": "iptables", "runtimeConfig": {"portMappings": PORTS}},
    "portmap, backend found out": {"runtimeConfig": {"portMappings": PORTS}},
    "firewall": {"backend": "iptables"},
    "firewall, backend found out": {},
    "firewall, isolated": {"backend": "iptables", "ingressPolicy": "isolated"},
    "bridge": {},
}
every_case = pytest.mark.parametrize("case", CASES)


class Recorded:
    """A node whose tools write down that they were executed.

    Args:
        node: the host.
        case: the plugin with its keys.
        subnets: of every pod.
    """

    def __init__(self, node: Node, case: str, subnets: list[str]) -> None:
        self.node = node
        self.plugin, self._keys = case.partition(",")[0], CASES[case]
        self._log = f"{node.scratch}/executed"
        self._directory = f"{node.scratch}/tools"
        self._bridge = bridge(
            "1.0.0",
            ipMasq=self.plugin == "bridge",
            ipMasqBackend="iptables",
            ipam=host_local(*subnets),
        )
        node.sh("mkdir", self._directory)
        for tool in (*TOOLS, "nft"):
            real = f"/usr/sbin/{tool}"
            node.install(self._directory, tool, f'echo {tool} >> {self._log}; exec {real} "$@"\n')
        self._results: dict[str, Any] = {}

    def pod(self, name: str) -> Pod:
        """A pod, on the bridge if that is not the plugin that is looked at."""
        pod = self.node.pod(name)
        if self.plugin != "bridge":
            done = self.node.cni("bridge", "ADD", self._bridge, netns=pod, container_id=name)
            self._results[name] = done.result
        return pod

    def call(self, command: str, pod: Pod, **over: Any) -> Outcome:
        """One call."""
        document = self._bridge
        if self.plugin != "bridge":
            document = {"cniVersion": "1.0.0", "name": "net1", "type": self.plugin, **self._keys}
        if pod.name in self._results:
            document = {**document, "prevResult": self._results[pod.name]}
        self.node.sh("rm", "-f", self._log)
        env = {"PATH": f"{self._directory}:/usr/sbin:/usr/bin:/sbin:/bin"}
        done = self.node.cni(
            self.plugin, command, {**document, **over}, netns=pod, container_id=pod.name, env=env
        )
        if self.plugin == "bridge" and command == "ADD" and done.exit_code == 0:
            self._results[pod.name] = done.result
        return done

    def executed(self) -> Counter[str]:
        """The tools of the latest call."""
        return Counter(self.node.sh("cat", self._log, check=False).stdout.split())

    def rules(self) -> list[str]:
        """All rules."""
        return [
            rule
            for table in ("nat", "filter")
            for family in (4, 6)
            for rule in self.node.iptables(family, table)
        ]


@pytest.mark.once
@pytest.mark.parametrize("family", SUBNETS)
@every_case
def test_what_a_verb_executes(node, case, family):
    """One tool a family, and none for a family that the pod does not have."""
    recorded = Recorded(node, case, SUBNETS[family])
    prefixes = ["iptables"] if family == "IPv4" else ["iptables", "ip6tables"]
    restores = Counter(f"{prefix}-restore" for prefix in prefixes)
    saves = Counter(f"{prefix}-save" for prefix in prefixes)
    pods = [recorded.pod(f"pod{n}") for n in range(2)]
    port = {"hostPort": 81, "containerPort": 80, "protocol": "tcp"}
    over = {"runtimeConfig": {"portMappings": [port]}}

    recorded.call("ADD", pods[0]).ok()
    first = Counter() if recorded.plugin == "bridge" else saves
    again = Counter() if recorded.plugin == "bridge" else restores
    assert recorded.executed() == restores + first + again, "shared rules are made"
    recorded.call("ADD", pods[1], **over).ok()
    assert recorded.executed() == restores
    for pod, more in zip(pods, ({}, over), strict=True):
        recorded.call("CHECK", pod, **more).ok()
        assert recorded.executed() == (saves if recorded.plugin == "portmap" else restores)
        recorded.call("DEL", pod, **more).ok()
        assert recorded.executed() == restores
    assert not [rule for rule in recorded.rules() if "10.9.0" in rule or "fd00:9" in rule]


DRIFT = {
    "portmap": [
        "iptables -t nat -F CNI-HOSTPORT-SETMARK",
        "iptables -t nat -F CNI-HOSTPORT-MASQ",
        "iptables -t nat -D PREROUTING 1",
        "iptables -t nat -D OUTPUT 1",
        "iptables -t nat -D POSTROUTING 1",
        "nft flush ruleset",
    ],
    "firewall, isolated": [
        "iptables -F FORWARD",
        "iptables -D FORWARD 1",
        "iptables -D FORWARD 2",
        "iptables -F CNI-FORWARD",
        "iptables -F CNI-ISOLATION-STAGE-1",
        "iptables -D CNI-ISOLATION-STAGE-1 1",
        "iptables -F CNI-ISOLATION-STAGE-2",
        (
            "iptables -D FORWARD 2; iptables -I FORWARD 1 -m comment --comment "
            "'CNI firewall plugin rules' -j CNI-FORWARD"
        ),
        "nft flush ruleset",
    ],
}


@pytest.mark.parametrize(("case", "drift"), [(c, d) for c, found in DRIFT.items() for d in found])
def test_an_add_makes_what_is_shared_again(node, case, drift):
    """And no rule twice."""
    recorded = Recorded(node, case, SUBNETS["IPv4"])
    one, two = recorded.pod("pod1"), recorded.pod("pod2")
    recorded.call("ADD", one).ok()
    node.sh("sh", "-c", drift)
    port = {"hostPort": 81, "containerPort": 80, "protocol": "tcp"}
    over = {"runtimeConfig": {"portMappings": [port]}}
    recorded.call("ADD", two, **over).ok()
    assert recorded.executed()["iptables-save"] == 1
    recorded.call("CHECK", two, **over).ok()
    assert len(recorded.rules()) == len(set(recorded.rules()))


@every_case
def test_an_add_whose_journal_was_lost_makes_no_rule_twice(node, case):
    """What is there already is seen in the same transaction."""
    recorded = Recorded(node, case, SUBNETS["dual stack"])
    pod = recorded.pod("pod1")
    recorded.call("ADD", pod).ok()
    before = sorted(recorded.rules())
    node.sh("rm", "-r", "/run/cni-plugins/journal")
    if recorded.plugin == "bridge":
        node.sh("rm", "-r", "/var/lib/cni/networks")
        pod.sh("ip", "link", "del", "eth0")
    recorded.call("ADD", pod).ok()
    assert sorted(recorded.rules()) == before
    recorded.call("DEL", pod).ok()
    assert not [rule for rule in recorded.rules() if "10.9.0" in rule or "fd00:9" in rule]


@every_case
@pytest.mark.parametrize("gone", ["one", "all"])
def test_a_del_where_rules_are_gone_removes_the_rest(node, case, gone):
    """A look tells what is left, in both families."""
    recorded = Recorded(node, case, SUBNETS["dual stack"])
    pod = recorded.pod("pod1")
    recorded.call("ADD", pod).ok()
    if gone == "all":
        node.sh("nft", "flush", "ruleset")
    else:
        table = "filter" if recorded.plugin == "firewall" else "nat"
        own = next(
            rule
            for rule in node.iptables(4, table)
            if "10.9.0" in rule and "-A POSTROUTING" not in rule
        )
        node.sh("sh", "-c", f"iptables -t {table} -D{own.removeprefix('-A')}")
    recorded.call("DEL", pod).ok()
    left = recorded.rules()
    assert not [rule for rule in left if "10.9.0" in rule or "fd00:9" in rule]
    listed = node.sh("iptables-save").stdout + node.sh("ip6tables-save").stdout
    assert not [line for line in listed.splitlines() if line.startswith((":CNI-DN-", ":CNI-5"))]


def test_two_attachments_share_a_chain_and_the_last_one_takes_it_along(node, pod):
    conf = bridge("1.0.0", ipMasq=True, ipMasqBackend="iptables", ipam=host_local("10.9.0.0/24"))
    results = {
        ifname: node.cni("bridge", "ADD", conf, netns=pod, ifname=ifname).result
        for ifname in ("eth0", "net1")
    }
    assert len(node.iptables()) == 4
    node.cni("bridge", "DEL", conf, netns=pod, ifname="eth0").ok()
    kept = results["net1"]["ips"][0]["address"].split("/")[0]
    jumps = [rule for rule in node.iptables() if rule.startswith("-A POSTROUTING")]
    assert [kept in rule for rule in jumps] == [True]
    node.cni(
        "bridge", "CHECK", {**conf, "prevResult": results["net1"]}, netns=pod, ifname="net1"
    ).ok()
    node.cni("bridge", "DEL", conf, netns=pod, ifname="net1").ok()
    assert node.iptables() == []


@pytest.mark.parametrize("case", ["portmap", "firewall", "bridge"])
def test_a_tool_that_does_not_know_how_to_show(node, case):
    """The long way does it, and nobody is told of the first attempt."""
    recorded = Recorded(node, case, SUBNETS["IPv4"])
    refuse = 'text=$(cat); echo "$text" | grep -q "^-S" && { echo no such command >&2; exit 2; }\n'
    real = 'printf "%s\\n" "$text" | /usr/sbin/iptables-restore "$@"\n'
    node.install(f"{node.scratch}/tools", "iptables-restore", refuse + real)
    for n in (1, 2):
        pod = recorded.pod(f"pod{n}")
        port = {"hostPort": 80 + n, "containerPort": 80, "protocol": "tcp"}
        over = {"runtimeConfig": {"portMappings": [port]}}
        assert recorded.call("ADD", pod, **over).ok().stderr == ""
        recorded.call("CHECK", pod, **over).ok()


def test_a_tool_that_outlives_its_call_is_waited_for_by_the_next_verb(node, pod):
    """The ADD was killed while it ran; DEL must not look before it has done its work."""
    conf = bridge("1.0.0", ipMasq=True, ipMasqBackend="iptables", ipam=host_local("10.9.0.0/24"))
    slow = f"{node.scratch}/slow"
    node.sh("mkdir", slow)
    script = f'sleep 1; /usr/sbin/iptables-restore "$@"; touch {slow}/done\n'
    node.install(slow, "iptables-restore", script)
    env = {"PATH": f"{slow}:/usr/sbin:/usr/bin:/sbin:/bin"}
    calls: list[str] = []
    for _ in range(2):  # the first one makes the bridge
        calls = node.cni("bridge", "ADD", conf, netns=pod, env=env, prepare=Faults()).ok().extra
        node.cni("bridge", "DEL", conf, netns=pod).ok()
    begun = next(n for n, call in enumerate(calls, 1) if call.startswith("exec"))
    node.sh("rm", f"{slow}/done")
    with pytest.raises(ChildProcessError):
        node.cni("bridge", "ADD", conf, netns=pod, env=env, prepare=Faults(begun + 1, kill=True))
    node.cni("bridge", "DEL", conf, netns=pod).ok()
    node.sh("test", "-e", f"{slow}/done")
    assert node.iptables() == []
