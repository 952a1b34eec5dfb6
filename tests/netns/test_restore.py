"""``cnictl restore`` after a flush: the rules are as before, connections work again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.confs import bridge, host_local
from tests.kit.firewalld import Firewalld
from tests.kit.published import HOST4, OUTSIDE4, Published, mapping
from tests.kit.state import restore

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.node import Node, Pod

pytestmark = pytest.mark.netns


class Chain(Published):
    """Pods behind bridge with ipMasq, portmap and firewall."""

    def __init__(self, node: Node, backend: str, firewall: str = "") -> None:
        super().__init__(node)
        self.backend, self.firewall = backend, firewall or backend

    def add(self, name: str, port: int) -> Pod:
        """Through the whole chain."""
        pod = self.node.pod(name)
        pod.sh("ip", "link", "set", "lo", "up")
        conf = bridge(
            "1.0.0",
            isDefaultGateway=True,
            hairpinMode=True,
            ipMasq=True,
            ipMasqBackend=self.backend,
            macspoofchk=True,
            ipam=host_local("10.9.0.0/24", "fd00:9::/64"),
        )
        self.results[name] = self.node.cni(
            "bridge", "ADD", conf, netns=pod, container_id=name
        ).result
        given = [mapping(port, 80), mapping(port, 80, "udp")]
        self.call("ADD", pod, self.conf(name, given, backend=self.backend)).ok()
        wall = self.conf(name, [], type="firewall", backend=self.firewall)
        wall["ingressPolicy"] = "same-bridge"
        self.node.cni("firewall", "ADD", wall, netns=pod, container_id=name).ok()
        return pod

    def restore(self) -> Any:
        """``cnictl restore --json``."""
        return restore(self.node)

    def rules(self) -> list[str]:
        """The whole rule set, without counters, handles and order of elements."""
        found = []
        for entry in self.node.nft():
            for kind, body in entry.items():
                if kind == "metainfo":
                    continue
                kept = {k: v for k, v in body.items() if k not in {"handle", "elem"}}
                if "expr" in kept:
                    kept["expr"] = [e for e in kept["expr"] if "counter" not in e]
                found.append(f"{kind} {json.dumps(kept, sort_keys=True)}")
                found += [f"{body['name']} {json.dumps(e)}" for e in body.get("elem", [])]
        return sorted(found)


@pytest.fixture
def chain(request, node: Node) -> Iterator[Chain]:
    """The host with two pods."""
    chain = Chain(node, request.param)
    chain.serve(chain.add("pod1", 8080), 4, "tcp", 80, "pod1")
    chain.add("pod2", 8081)
    yield chain
    chain.close()


FLUSHES: dict[str, list[list[str]]] = {
    "nft": [["nft", "flush", "ruleset"]],
    "iptables": [
        [tool, "-t", table, flag]
        for tool in ("iptables", "ip6tables")
        for table in ("nat", "filter")
        for flag in ("-F", "-X")
    ],
}


@pytest.mark.parametrize(
    ("chain", "flush"),
    [("iptables", "nft"), ("iptables", "iptables"), ("nftables", "nft")],
    indirect=["chain"],
)
def test_everything_is_as_before(chain, flush):
    before = chain.rules()
    assert chain.ask(chain.outside, HOST4, "tcp", 8080).startswith("pod1 ")
    for command in FLUSHES[flush]:
        chain.node.sh(*command)
    assert chain.ask(chain.outside, HOST4, "tcp", 8080, timeout_s=0.5).startswith("!")

    status, out, err = chain.restore()

    assert status == 0, out + err
    done = [(e["plugin"], e["container_id"], e["problem"]) for e in json.loads(out)]
    assert sorted(done) == sorted(
        (plugin, pod, "")
        for plugin in ("bridge", "portmap", "firewall")
        for pod in ("pod1", "pod2")
    )
    assert chain.rules() == before
    assert chain.ask(chain.outside, HOST4, "tcp", 8080) == f"pod1 {OUTSIDE4}"
    chain.restore()
    assert chain.rules() == before, "a second time changes nothing"


@pytest.mark.parametrize("chain", ["nftables"], indirect=True)
def test_the_dead_and_the_lost_are_left_out(chain, node):
    chain.node.pod("other")
    node.sh("ip", "netns", "del", "pod2")
    node.sh("nft", "flush", "ruleset")
    for _ in range(100):  # the kernel removes the link of a dead pod a moment later
        if sum("veth" in name for name in node.links()) == 1:
            break
    _, out, _ = chain.restore()
    assert {e["container_id"] for e in json.loads(out)} == {"pod1"}
    assert not any("pod2" in rule for rule in chain.rules())


def test_after_firewalld_reloads(node):
    chain = Chain(node, "nftables", "firewalld")
    daemon = Firewalld(node)
    try:
        chain.add("pod1", 8080)
        before = daemon.sources()
        assert before
        daemon.command("--reload")
        assert daemon.sources() == set()
        assert chain.restore()[0] == 0
        assert daemon.sources() == before
    finally:
        daemon.close()
        chain.close()


@pytest.mark.parametrize("chain", ["nftables"], indirect=True)
def test_what_fails_is_told_and_the_rest_goes_on(chain, node):
    node.sh("nft", "flush", "ruleset")
    name = "/run/cni-plugins/journal/net1"
    path: Any = next(p for p in node.files(name) if p.endswith("portmap.json"))
    document = json.loads(node.read(path))
    document["config"]["runtimeConfig"]["portMappings"][0]["hostPort"] = 70000
    node.write(path, json.dumps(document))
    status, out, _ = chain.restore()
    problems = [e["problem"] for e in json.loads(out)]
    assert status == 1
    assert [p for p in problems if p] == ["Invalid host port number: 70000"]
