"""The n-th adapter call fails, or the process is killed before it, for every n."""

from __future__ import annotations

from typing import Any

import pytest

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
CASES = {
    "bridge with iptables": ("bridge", bridge(**FULL)),
    "bridge with nftables": ("bridge", bridge(**{**FULL, "ipMasqBackend": "nftables"})),
    "bridge layer 2": ("bridge", bridge(isGateway=None, ipam=None, macspoofchk=True)),
    "host-local": ("host-local", {**bridge(ipam=host_local(SUBNET4, SUBNET6))}),
}
NEVER_REQUIRED = ("/run/cni-plugins", "/.cni-plugins/net1/header.json")
RESET = """
ip link del br0 2>/dev/null
sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0
rm -rf /var/lib/cni/networks /run/cni-plugins
"""


def reset(node):
    """As on a node where nothing was ever added, so that every run makes the same calls."""
    node.sh("sh", "-c", RESET)


def count(node, pod, plugin, conf, command):
    outcome = node.cni(plugin, command, conf, netns=pod, prepare=Faults())
    outcome.ok()
    return outcome.extra


@pytest.mark.parametrize("case", CASES)
def test_a_failed_add_leaves_nothing(node, pod, case):
    """Where one call fails ADD fails and nothing is left, or goes on and all is there."""
    plugin, conf = CASES[case]
    reset(node)
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


@pytest.mark.parametrize("case", CASES)
def test_del_after_add_was_killed(node, pod, case):
    plugin, conf = CASES[case]
    reset(node)
    before = snapshot(node, pod)
    calls = count(node, pod, plugin, conf, "ADD")
    node.cni(plugin, "DEL", conf, netns=pod).ok()

    for n in range(1, len(calls) + 1):
        reset(node)
        with pytest.raises(ChildProcessError):
            node.cni(plugin, "ADD", conf, netns=pod, prepare=Faults(n, kill=True))
        node.cni(plugin, "DEL", conf, netns=pod).ok()
        assert_same(before, _without_scraps(snapshot(node, pod)), f"killed before {calls[n - 1]}")


@pytest.mark.parametrize("case", CASES)
def test_del_after_del_was_killed(node, pod, case):
    plugin, conf = CASES[case]
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


@pytest.mark.parametrize("case", CASES)
def test_a_del_that_failed_somewhere_did_the_rest(node, pod, case):
    """One failing step is reported, the others are done; the next DEL finishes."""
    plugin, conf = CASES[case]
    before = snapshot(node, pod)
    node.cni(plugin, "ADD", conf, netns=pod).ok()
    calls = count(node, pod, plugin, conf, "DEL")

    for n in range(1, len(calls) + 1):
        reset(node)
        node.cni(plugin, "ADD", conf, netns=pod).ok()
        node.cni(plugin, "DEL", conf, netns=pod, prepare=Faults(n))
        node.cni(plugin, "DEL", conf, netns=pod).ok()
        assert_same(before, snapshot(node, pod), f"failed at {calls[n - 1]}")


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
