"""bridge, portmap, bandwidth, tuning and firewall in one chain, as a runtime calls it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.confs import full_chain
from tests.kit.state import assert_same, snapshot

if TYPE_CHECKING:
    from tests.kit.node import Node, Outcome, Pod

pytestmark = pytest.mark.netns

PODS, AT_ONCE = 64, 16
LIMIT_S = 200.0


class Runtime:
    """Calls the plugins of each container in order, DEL in reverse order."""

    def __init__(self, node: Node, backend: str) -> None:
        self.node = node
        self.backend = backend
        self.results: dict[str, dict[str, Any]] = {}

    def chain(self, port: int) -> list[dict[str, Any]]:
        """A container's requests, without ``prevResult``."""
        identity = {"name": "net1", "cniVersion": "1.1.0"}
        return [{**identity, **plugin} for plugin in full_chain(self.backend, port)]

    def add(self, pod: Pod, port: int) -> list[str]:
        """What the plugins that failed said: at most one, since it ends the chain."""
        result: dict[str, Any] = {}
        for conf in self.chain(port):
            request = {**conf, "prevResult": result} if result else conf
            done = self.call("ADD", pod, request)
            if done.exit_code:
                return [done.stdout]
            result = done.result
        self.results[pod.name] = result
        return []

    def check(self, pod: Pod, port: int) -> list[str]:
        """What the plugins that failed said."""
        chain = [{**c, "prevResult": self.results[pod.name]} for c in self.chain(port)]
        outcomes = [self.call("CHECK", pod, conf) for conf in chain]
        return [o.stdout for o in outcomes if o.exit_code]

    def delete(self, pod: Pod, port: int, *, prev_result: bool = True, gone: bool = False):
        """What the plugins that failed said."""
        added = {"prevResult": self.results[pod.name]} if prev_result else {}
        chain = [{**c, **added} for c in reversed(self.chain(port))]
        outcomes = [self.call("DEL", pod, c, netns="" if gone else pod.path) for c in chain]
        return [o.stdout for o in outcomes if o.exit_code]

    def call(self, verb: str, pod: Pod, conf: dict[str, Any], **over: str) -> Outcome:
        """One call of one plugin."""
        facts: dict[str, Any] = {"netns": pod.path, "container_id": pod.name, **over}
        return self.node.cni(conf["type"], verb, conf, timeout_s=LIMIT_S, **facts)


@pytest.mark.storm
@pytest.mark.parametrize("backend", ["iptables", "nftables"])
def test_64_pods_16_at_a_time(node, backend):
    """Each fourth is removed with its namespace gone, without prevResult, or twice."""
    runtime = Runtime(node, backend)
    warm = node.pod("warm")
    runtime.add(warm, 7999)
    runtime.delete(warm, 7999)
    runtime.results.clear()
    pods = [node.pod(f"pod{i}") for i in range(PODS)]
    before = snapshot(node)

    def in_parallel(call):
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return [said for found in pool.map(call, range(PODS)) for said in found]

    assert in_parallel(lambda i: runtime.add(pods[i], 8000 + i)) == []

    ips = [ip["address"] for r in runtime.results.values() for ip in r["ips"]]
    assert len(set(ips)) == len(ips) == 2 * PODS
    names = node.links()
    assert sum(name.startswith("veth") for name in names) == PODS
    assert sum(name.startswith("bwp") for name in names) == PODS
    assert in_parallel(lambda i: runtime.check(pods[i], 8000 + i)) == []

    def delete(i):
        kind = i % 4
        if kind == 1:
            pods[i].delete()
        said = runtime.delete(pods[i], 8000 + i, prev_result=kind != 2, gone=kind == 1)
        return said + (runtime.delete(pods[i], 8000 + i) if kind == 3 else [])

    assert in_parallel(delete) == []
    assert_same(before, snapshot(node))
