"""Two containers of a real runtime talk to each other; nothing of them stays."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.runtimes import Containerd, Podman
from tests.kit.confs import full_chain, host_local
from tests.kit.fixtures import node
from tests.kit.published import HOST4, HOST6, Published
from tests.kit.traffic import PYTHON

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


@pytest.fixture(params=[Podman, Containerd])
def publishing(request, node: Node) -> Iterator[Runtime]:
    """A runtime with the full chain: podman passes its ports on, ctr has no option for them."""
    chain = full_chain(host_port=8080)
    if request.param is Podman:
        chain[1] = {"type": "portmap", "capabilities": {"portMappings": True}}
    document = {"cniVersion": request.param.version, "name": "pods", "plugins": chain}
    runtime: Runtime = request.param(node, document)
    yield runtime
    runtime.close()


def traces(node: Node) -> dict[str, Any]:
    """Links, rules and files of the node, but what the runtime has of its own."""
    rules = node.sh("nft", "--stateless", "list", "ruleset").stdout
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


def fetch(host: Published, address: str) -> str:
    """A page over HTTP from outside; "" when nobody answers."""
    place = f"[{address}]" if ":" in address else address
    code = f"import urllib.request as u; print(u.urlopen('http://{place}:8080/', timeout=3).read())"
    return host.outside.sh(PYTHON, "-c", code, check=False).stdout


def test_a_published_port_is_reached_from_outside(node, publishing):
    host = Published(node)
    options = ["-p", "8080:80"] if isinstance(publishing, Podman) else []
    publishing.start("warm", *options)
    publishing.remove("warm")
    before = traces(node)

    publishing.start("blue", *options)
    publishing.execute("blue", "sh", "-c", "echo blue > /tmp/index.html; httpd -p 80 -h /tmp")

    assert "blue" in fetch(host, HOST4)
    assert "blue" in fetch(host, HOST6)
    assert publishing.execute("blue", "cat", "/sys/class/net/eth0/mtu").strip() == "1400"
    rates = [q["options"]["rate"] * 8 for q in qdiscs(node) if q["kind"] == "tbf"]
    assert rates == [80_000_000, 80_000_000]
    journal = {f.rpartition("/")[2] for f in node.files("/run/cni-plugins") if "/journal/" in f}
    chained = {"portmap", "bandwidth", "tuning", "firewall"}
    assert journal == {f"{plugin}.json" for plugin in (*chained, "bridge")}

    publishing.remove("blue")
    assert fetch(host, HOST4) == ""
    assert traces(node) == before


def qdiscs(node: Node) -> list[dict[str, Any]]:
    """Every qdisc of the host."""
    found: list[dict[str, Any]] = json.loads(node.sh("tc", "-j", "qdisc", "show").stdout)
    return found
