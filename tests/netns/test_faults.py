"""The n-th adapter call fails, or the process is killed before it, for every n."""

from __future__ import annotations

from typing import Any

import pytest

from cni_plugins import catalog
from tests.kit.confs import SUBNET4, SUBNET6, bridge, host_local
from tests.kit.faults import Faults
from tests.kit.state import assert_same, snapshot

pytestmark = [pytest.mark.netns, pytest.mark.faults]

FULL: dict[str, Any] = {
    "isDefaultGateway": True,
    "macspoofchk": True,
    "ipMasq": True,
    "ipMasqBackend": "iptables",
    "ipam": host_local(SUBNET4, SUBNET6),
}
CHAINED = {
    "cniVersion": "1.1.0",
    "interfaces": [{"name": "eth0", "sandbox": "/run/netns/pod1"}],
    "ips": [
        {"address": "10.7.0.2/24", "gateway": "10.7.0.1", "interface": 0},
        {"address": "fd00:7::2/64", "gateway": "fd00:7::1", "interface": 0},
    ],
}
SUBNET_ENV = """FLANNEL_NETWORK=10.9.0.0/16
FLANNEL_SUBNET=10.9.1.1/24
FLANNEL_MTU=1400
FLANNEL_IPMASQ=true
"""


def alone(node, pod):
    """Nothing is needed."""


def with_parent(node, pod):
    """A link to stand on, or to be given away."""
    node.sh("ip", "link", "add", "parent", "type", "veth", "peer", "far")
    node.sh("ip", "link", "set", "parent", "up")
    node.sh("ip", "link", "set", "far", "up")


def with_subnet(node, pod):
    """flanneld ran."""
    node.write("/run/flannel/subnet.env", SUBNET_ENV)


def with_interface(node, pod):
    """Another plugin made the container's interface."""
    node.sh("ip", "link", "add", "up0", "type", "veth", "peer", "eth0", "netns", "pod1")
    node.sh("ip", "link", "set", "up0", "up")
    pod.sh(
        "sh",
        "-ec",
        """
    sysctl -qw net.ipv6.conf.eth0.accept_dad=0
    ip link set eth0 up
    ip addr add 10.7.0.2/24 dev eth0
    ip addr add fd00:7::2/64 dev eth0 nodad
    ip route add 10.8.0.0/16 via 10.7.0.1
    until ip -6 addr show dev eth0 | grep -q fe80; do sleep 0.05; done
    while ip -6 addr show dev eth0 | grep -q tentative; do sleep 0.05; done
    """,
    )


def net1(plugin, **over):
    """A dual stack network."""
    base = {"cniVersion": "1.1.0", "name": "net1", "type": plugin}
    return {**base, "ipam": host_local(SUBNET4, SUBNET6), **over}


CASES = {
    "bridge with iptables": ("bridge", bridge(**FULL), alone),
    "bridge with nftables": ("bridge", bridge(**{**FULL, "ipMasqBackend": "nftables"}), alone),
    "bridge layer 2": ("bridge", bridge(isGateway=None, ipam=None, macspoofchk=True), alone),
    "host-local": ("host-local", {**bridge(ipam=host_local(SUBNET4, SUBNET6))}, alone),
    "ptp": ("ptp", net1("ptp", ipMasq=True, ipMasqBackend="nftables"), alone),
    "macvlan": ("macvlan", net1("macvlan", master="parent"), with_parent),
    "tap": ("tap", net1("tap", mtu=1400), alone),
    "host-device": ("host-device", net1("host-device", device="parent"), with_parent),
    "flannel": ("flannel", net1("flannel", delegate={"bridge": "br0"}, ipam={}), with_subnet),
    "sbr": ("sbr", net1("sbr", ipam={}, prevResult=CHAINED), with_interface),
    "ipvlan": ("ipvlan", net1("ipvlan", master="parent"), with_parent),
    "vlan": ("vlan", net1("vlan", master="parent", vlanId=7), with_parent),
    "dummy": ("dummy", net1("dummy"), alone),
    "vrf": ("vrf", net1("vrf", vrfname="blue", ipam={}, prevResult=CHAINED), with_interface),
}
ELSEWHERE = {"ipvlan", "vlan", "dummy", "vrf"}
SAME_DEL = {"ipvlan", "vlan", "dummy"}
"""Their DEL is macvlan's function, and a guest takes its time."""


def cases(names):
    """A test for each of them."""
    marked = [pytest.param(c, marks=[pytest.mark.kernel] if c in ELSEWHERE else []) for c in names]
    return pytest.mark.parametrize("case", marked)


every_case = cases(CASES)
every_del = cases([name for name in CASES if name not in SAME_DEL])
NEVER_REQUIRED = ("/run/cni-plugins", "/.cni-plugins/net1/header.json")
LOCKS = "/run/cni-plugins/lock/net1"
JOURNAL_DISCARD = "store discard /run/cni-plugins/journal/"
RESET = """
ip link del br0 2>/dev/null
sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0
rm -rf /var/lib/cni/networks /var/lib/cni/flannel /run/cni-plugins
"""


def begin(node, pod, case):
    """What the case needs; the plugin and its configuration."""
    plugin, conf, prepare = CASES[case]
    prepare(node, pod)
    reset(node)
    return plugin, conf


def reset(node):
    """As on a node where nothing was ever added, so that every run makes the same calls."""
    node.sh("sh", "-c", RESET)


def count(node, pod, plugin, conf, command):
    outcome = node.cni(plugin, command, conf, netns=pod, prepare=Faults())
    outcome.ok()
    return outcome.extra


@every_case
def test_a_failed_add_leaves_nothing(node, pod, case):
    """Where one call fails ADD fails and nothing is left, or goes on and all is there."""
    plugin, conf = begin(node, pod, case)
    before = snapshot(node, pod)
    calls = count(node, pod, plugin, conf, "ADD")
    added = snapshot(node, pod)
    node.cni(plugin, "DEL", conf, netns=pod).ok()
    assert_same(before, snapshot(node, pod))
    assert len(calls) >= 5

    for n in range(1, len(calls) + 1):
        reset(node)
        outcome = node.cni(plugin, "ADD", conf, netns=pod, prepare=Faults(n))
        said = f"call {n} of {len(calls)}, {calls[n - 1]}: {outcome.stdout}"
        if outcome.exit_code == 0:
            # only what the suite never requires may fail silently
            assert any(where in calls[n - 1] for where in NEVER_REQUIRED), said
            assert outcome.stderr or "header.json" in calls[n - 1], said
            node.cni(plugin, "DEL", conf, netns=pod).ok()
        else:
            assert outcome.error["msg"], said
        assert_same(before, _without_scraps(snapshot(node, pod)), said)
    assert added != before


@every_case
def test_del_after_add_was_killed(node, pod, case):
    plugin, conf = begin(node, pod, case)
    before = snapshot(node, pod)
    calls = count(node, pod, plugin, conf, "ADD")
    node.cni(plugin, "DEL", conf, netns=pod).ok()

    for n in range(1, len(calls) + 1):
        reset(node)
        with pytest.raises(ChildProcessError):
            node.cni(plugin, "ADD", conf, netns=pod, prepare=Faults(n, kill=True))
        node.cni(plugin, "DEL", conf, netns=pod).ok()
        assert_same(before, _without_scraps(snapshot(node, pod)), f"killed before {calls[n - 1]}")


@every_del
def test_del_after_del_was_killed(node, pod, case):
    plugin, conf = begin(node, pod, case)
    before = snapshot(node, pod)
    node.cni(plugin, "ADD", conf, netns=pod).ok()
    calls = count(node, pod, plugin, conf, "DEL")

    for n in range(1, len(calls) + 1):
        reset(node)
        node.cni(plugin, "ADD", conf, netns=pod).ok()
        with pytest.raises(ChildProcessError):
            node.cni(plugin, "DEL", conf, netns=pod, prepare=Faults(n, kill=True))
        node.cni(plugin, "DEL", conf, netns=pod).ok()
        assert_same(before, _without_scraps(snapshot(node, pod)), f"killed before {calls[n - 1]}")


@every_del
def test_a_del_that_failed_somewhere_did_the_rest(node, pod, case):
    """One failing step is reported, the others are done; the next DEL finishes.

    flannel forgets its delegate once that has succeeded, which the delegate has although its journal
    entry or its empty lock file stays; GC sweeps the entry.
    """
    plugin, conf = begin(node, pod, case)
    before = snapshot(node, pod)
    node.cni(plugin, "ADD", conf, netns=pod).ok()
    calls = count(node, pod, plugin, conf, "DEL")

    for n in range(1, len(calls) + 1):
        reset(node)
        node.cni(plugin, "ADD", conf, netns=pod).ok()
        node.cni(plugin, "DEL", conf, netns=pod, prepare=Faults(n))
        node.cni(plugin, "DEL", conf, netns=pod).ok()
        if plugin == "flannel" and calls[n - 1].startswith(JOURNAL_DISCARD):
            collect = {**conf, "cni.dev/valid-attachments": []}
            node.cni(plugin, "GC", collect, container_id="", ifname="").ok()
        after = snapshot(node, pod)
        after = _without_scraps(after) if plugin == "flannel" else after
        assert_same(before, after, f"failed at {calls[n - 1]}")


def test_those_whose_del_is_not_swept_share_macvlan_s():
    found = [catalog.find(name) for name in ("macvlan", *SAME_DEL)]
    assert len({plugin.load().delete for plugin in found if plugin is not None}) == 1


def test_gc_after_add_was_killed(node, pod):
    """Without a DEL: an empty list takes whatever the killed ADD had made."""
    conf = bridge(**FULL)
    before = snapshot(node, pod)
    calls = count(node, pod, "bridge", conf, "ADD")
    node.cni("bridge", "DEL", conf, netns=pod).ok()
    collect = {**conf, "cni.dev/valid-attachments": []}

    for n in range(1, len(calls) + 1):
        reset(node)
        with pytest.raises(ChildProcessError):
            node.cni("bridge", "ADD", conf, netns=pod, prepare=Faults(n, kill=True))
        # a tool of the killed call is a verb that runs
        node.sh(
            "sh",
            "-c",
            'for lock in "$0"/*; do test ! -e "$lock" || flock "$lock" true; done',
            LOCKS,
        )
        node.cni("bridge", "GC", collect, container_id="", ifname="").ok()
        after = _without_scraps(snapshot(node, pod))
        assert_same(before, after, f"killed before {calls[n - 1]}")


def _without_scraps(state):
    """A process that is killed leaves its lock file, and what it was about to put in place.

    Both are empty of meaning: the next lock of that name takes the file over, and nothing ever
    reads a file that has its process's number in its name.
    """
    kept = [
        path
        for path in state["files"]
        if not path.startswith("/run/cni-plugins/lock/")
        and not path.rpartition("/")[2].startswith(".")
    ]
    return {**state, "files": kept}
