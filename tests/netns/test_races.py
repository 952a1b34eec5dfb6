"""Many calls at once on a clean node."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.kit.confs import SUBNET4, SUBNET6, bridge, host_local
from tests.kit.state import assert_same, snapshot

pytestmark = [pytest.mark.netns, pytest.mark.storm]

PODS, AT_ONCE = 64, 16


def in_parallel(count, call):
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(call, range(count)))


@pytest.mark.parametrize("backend", ["iptables", "nftables"])
def test_64_pods_of_one_network_16_at_a_time(node, backend):
    conf = bridge(
        isDefaultGateway=True,
        ipMasq=True,
        ipMasqBackend=backend,
        ipam=host_local(SUBNET4, SUBNET6),
    )
    before = snapshot(node)
    pods = [node.pod(f"pod{i}") for i in range(PODS)]

    def add(i):
        return node.cni("bridge", "ADD", conf, netns=pods[i], container_id=f"c{i}", timeout_s=120)

    outcomes = in_parallel(PODS, add)

    assert [o.stdout for o in outcomes if o.exit_code] == []
    addresses = [ip["address"] for o in outcomes for ip in o.result["ips"]]
    assert len(set(addresses)) == len(addresses) == 2 * PODS
    assert len([name for name in node.links() if name.startswith("veth")]) == PODS
    assert len(node.leases()) == 2 * PODS
    if backend == "iptables":
        rules = node.iptables() + node.iptables(6)
        assert len(set(rules)) == len(rules) == 2 * 3 * PODS
    else:
        assert len(node.nft_rules("cni_plugins_masquerade", "masq_checks")) == 2 * PODS
    assert pods[0].pings(outcomes[-1].result["ips"][0]["address"].partition("/")[0])

    def delete(i):
        return node.cni("bridge", "DEL", conf, netns=pods[i], container_id=f"c{i}", timeout_s=120)

    assert [o.stdout for o in in_parallel(PODS, delete) if o.exit_code] == []
    assert_same(before, snapshot(node))


def test_the_same_add_16_times_at_once(node, pod):
    """One wins; the others are refused and harm nothing."""
    conf = bridge(ipMasq=True)

    outcomes = in_parallel(16, lambda _: node.cni("bridge", "ADD", conf, netns=pod, timeout_s=60))

    assert sorted(o.exit_code for o in outcomes) == [0] + [1] * 15
    assert all("already" in o.error["msg"] for o in outcomes if o.exit_code)
    assert len(node.leases()) == 1
    assert len(node.iptables()) == 3
    assert pod.pings("10.9.0.1")


def test_add_and_del_of_one_attachment_in_any_order(node, pod):
    """Whatever order they come in, the last DEL leaves nothing."""
    conf = bridge(ipMasq=True)
    before = snapshot(node, pod)

    def call(i):
        return node.cni("bridge", "DEL" if i % 2 else "ADD", conf, netns=pod, timeout_s=60)

    in_parallel(16, call)
    node.cni("bridge", "DEL", conf, netns=pod).ok()

    assert_same(before, snapshot(node, pod))


def test_a_held_lock_ends_with_the_deadline(node, pod):
    """Code 11, and the holder is named."""
    import subprocess

    conf = bridge()
    node.cni("bridge", "ADD", conf, netns=pod).ok()
    node.cni("bridge", "DEL", conf, netns=pod).ok()
    holder = subprocess.Popen(
        [
            *node.enter(),
            *("flock", "/var/lib/cni/networks/net1/lock", "sh", "-c", "echo held; exec sleep 60"),
        ],
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    before = snapshot(node, pod)

    error = node.cni("bridge", "ADD", conf, netns=pod, timeout_s=1.2).error

    holder.kill()
    holder.wait()
    holder.stdout.close()
    assert error["code"] == 11
    assert "held by pid" in error["msg"]
    assert_same(before, snapshot(node, pod))
