"""The network configuration on every plugin's page works as it is written there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.dhcp import Daemon, Lan
from tests.kit.state import assert_same, snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.node import Node, Pod

pytestmark = pytest.mark.netns
PAGES = sorted((Path(__file__).parents[2] / "docs" / "plugins").glob("*.md"))
ELSEWHERE = {"ipvlan", "vlan", "dummy", "vrf"}
BRIDGES = ("cni0", "lan0")
SUBNET_ENV = """FLANNEL_NETWORK=10.22.0.0/16
FLANNEL_SUBNET=10.22.7.1/24
FLANNEL_MTU=1450
FLANNEL_IPMASQ=true
"""
CAPABILITIES = {
    "bandwidth": {"ingressRate": 8_000_000, "ingressBurst": 800_000},
    "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
    "mac": "c2:11:22:33:44:55",
}


@pytest.fixture
def lan(node: Node) -> Iterator[Lan]:
    """What the pages suppose: two devices, a DHCP server behind the second, flanneld."""
    lan = Lan(node)
    node.sh(
        "sh",
        "-ec",
        """
    ip link add eth0 type veth peer far0; ip link set eth0 up; ip link set far0 up
    ip link add eth1 type veth peer far1; ip link set eth1 up; ip link set far1 master lan0 up
    """,
    )
    node.write("/run/flannel/subnet.env", SUBNET_ENV)
    yield lan
    lan.close()


def written(page: Path) -> dict[str, Any]:
    """The page's first configuration."""
    text = page.read_text(encoding="utf-8")
    return json.loads(text.split("```json\n", 1)[1].split("```", 1)[0])


def chain(conflist: dict[str, Any]) -> list[dict[str, Any]]:
    """Each plugin's configuration, as a runtime makes it."""
    found = []
    for plugin in conflist["plugins"]:
        wanted = {k: CAPABILITIES[k] for k in plugin.get("capabilities", {})}
        runtime = {"runtimeConfig": wanted} if wanted else {}
        about = {"name": conflist["name"], "cniVersion": conflist["cniVersion"]}
        found.append({**plugin, **about, **runtime})
    return found


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(p, id=p.stem, marks=[pytest.mark.kernel] if p.stem in ELSEWHERE else [])
        for p in PAGES
    ],
)
def test_the_configuration_of_the_page(node: Node, pod: Pod, lan: Lan, page: Path):
    daemon = None
    if page.stem == "dhcp":
        lan.dnsmasq()
        daemon = Daemon(node)
    confs = chain(written(page))
    types = [conf["type"] for conf in confs]
    assert page.stem in types or page.stem == confs[0]["ipam"]["type"]
    pod.sh("sh", "-c", "ip link set lo up; ip link set lo down")  # as loopback's DEL leaves it
    before = snapshot(node, pod, shared_links=BRIDGES)
    result: dict[str, Any] = {}
    ifname = "lo" if page.stem == "loopback" else "eth0"
    for conf in confs:
        previous = {"prevResult": result} if result else {}
        result = node.cni(conf["type"], "ADD", conf | previous, netns=pod, ifname=ifname).result
    for conf in confs:
        done = conf | {"prevResult": result}
        node.cni(conf["type"], "CHECK", done, netns=pod, ifname=ifname).ok()
    if confs[0]["cniVersion"] >= "1.1":
        for conf in confs:
            node.cni(conf["type"], "STATUS", conf, container_id="", ifname="").ok()
    for _ in range(2):
        for conf in reversed(confs):
            done = conf | {"prevResult": result}
            node.cni(conf["type"], "DEL", done, netns=pod, ifname=ifname).ok()
        after = snapshot(node, pod, shared_links=BRIDGES)
        for state in (before, after):
            state["files"] = [f for f in state["files"] if is_telling(f)]
            state["rules"] = [r for r in state["rules"] if is_own(r)]
        assert_same(before, after)
    if daemon is not None:
        daemon.close()


def is_telling(path: str) -> bool:
    """Whether a file should be gone: not what a network keeps for its next pod."""
    name = path.rsplit("/", 1)[-1]
    if "/.cni-plugins/" in path:
        return "/owners/" in path
    return name != "lock" and not name.startswith("last_reserved_ip.") and name != "daemon.lock"


def is_own(rule: str) -> bool:
    """Whether a rule should be gone: not the base that all pods share."""
    shared = ("CNI-", "cni_plugins_portmap", "cni_plugins_firewall", '"nat"', '"filter"')
    return not any(word in rule for word in shared) or "10.22." in rule
