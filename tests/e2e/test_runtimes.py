"""Two containers of a real runtime talk to each other; nothing of them stays."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.runtimes import Containerd, Podman
from tests.kit.confs import host_local
from tests.kit.fixtures import node

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.node import Node

__all__ = ["node"]
pytestmark = pytest.mark.e2e
Runtime = Podman | Containerd


def conflist(version: str) -> dict[str, Any]:
    """A dual-stack bridge network."""
    routes = [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
    bridge = {
        "type": "bridge",
        "bridge": "cni-pods",
        "isGateway": True,
        "ipMasq": True,
        "ipam": host_local("10.91.0.0/24", "fd00:91::/64", routes=routes),
    }
    return {"cniVersion": version, "name": "pods", "plugins": [bridge]}


@pytest.fixture(params=[Podman, Containerd])
def runtime(request, node: Node) -> Iterator[Runtime]:
    """A runtime with one network."""
    runtime: Runtime = request.param(node, conflist(request.param.version))
    yield runtime
    runtime.close()


def traces(node: Node) -> dict[str, Any]:
    """Links, rules and files of the node, but what the runtime has of its own."""
    rules = node.sh("nft", "list", "ruleset").stdout
    files = node.files("/var/lib/cni", "/run/cni-plugins")
    return {
        "links": node.links(),
        "rules": rules,
        "files": [
            f for f in files if not re.search(r"/(used/|last_reserved_ip\.|header\.json)", f)
        ],
    }


def addresses(runtime: Runtime, name: str) -> list[str]:
    """The global addresses of a container's eth0, IPv4 first."""
    shown = runtime.execute(name, "ip", "addr", "show", "dev", "eth0")
    return re.findall(r"inet6? ([0-9a-f.:]+)/\d+ .*scope global", shown)


def test_two_containers_talk_and_leave_nothing(node, runtime):
    runtime.start("warm")
    runtime.remove("warm")
    before = traces(node)

    runtime.start("blue")
    runtime.start("green")

    blue, green = addresses(runtime, "blue"), addresses(runtime, "green")
    assert len({*blue, *green}) == 4
    assert all(ip.startswith(("10.91.0.", "fd00:91::")) for ip in blue + green)
    for ip in (*green, "10.91.0.1", "fd00:91::1"):
        assert "1 packets received" in runtime.execute("blue", "ping", "-c1", "-W2", ip)
    assert "default via 10.91.0.1" in runtime.execute("blue", "ip", "route")
    journal = [f for f in node.files("/run/cni-plugins") if "/journal/" in f]
    assert len(journal) == 2, "our executables did it"
    cached = json.loads(node.read(next(f for f in node.files("/var/lib/cni/results"))))
    assert cached["networkName"] == "pods"

    runtime.remove("blue")
    runtime.remove("green")
    assert traces(node) == before
