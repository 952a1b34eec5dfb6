"""The interface plugins, each with a configuration for tests that go over all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.kit.confs import SUBNET4, SUBNET6, host_local

if TYPE_CHECKING:
    from tests.kit.node import Node

PARENT4, PARENT6 = "10.9.0.250", "fd00:9::fa"
OUTSIDE4, OUTSIDE6 = "10.9.0.251", "fd00:9::fb"
ROUTES = [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A plugin, the kind of its link, and its own keys."""

    plugin: str
    kind: str
    own: dict[str, Any] = field(default_factory=dict)
    ipam4: dict[str, Any] = field(default_factory=host_local)

    def conf(self, **over: Any) -> dict[str, Any]:
        """Its configuration, dual stack; ``None`` leaves a key out."""
        document = {
            "cniVersion": "1.1.0",
            "name": "net1",
            "type": self.plugin,
            "ipam": host_local(SUBNET4, SUBNET6, routes=ROUTES),
            **self.own,
            **over,
        }
        return {key: value for key, value in document.items() if value is not None}


INTERFACES = {
    "macvlan": Case(plugin="macvlan", kind="macvlan", own={"master": "parent"}),
    "ptp": Case(plugin="ptp", kind="veth"),
    "tap": Case(plugin="tap", kind="tun"),
    "ipvlan": Case(plugin="ipvlan", kind="ipvlan", own={"master": "parent"}),
    "vlan": Case(plugin="vlan", kind="vlan", own={"master": "parent", "vlanId": 33}),
    "dummy": Case(plugin="dummy", kind="dummy"),
}
EVERYWHERE = {"macvlan", "ptp", "tap"}
"""Those whose links every kernel has; the others are the kernel tier's."""


def space_out(node: Node) -> None:
    """Keep links from having the index of their other end, as no real node's have.

    The kernel tells such ones apart from links that stand on another by the numbers, and takes up
    to a second to call those operational (linkwatch_urgent_event of net/core/link_watch.c).
    """
    for name in ("spare1", "spare2"):
        node.sh("ip", "link", "add", name, "type", "bridge")


def prepare(node: Node) -> None:
    """A parent link with something outside at its other end."""
    node.pod("outside")
    space_out(node)
    script = f"""
    sysctl -qw net.ipv6.conf.default.accept_dad=0
    ip -n outside link set lo up
    ip link add parent type veth peer far netns outside
    ip addr add {PARENT4}/24 dev parent
    ip addr add {PARENT6}/64 dev parent nodad
    ip link set parent up
    ip -n outside addr add {OUTSIDE4}/24 dev far
    ip -n outside addr add {OUTSIDE6}/64 dev far nodad
    ip -n outside link set far up
    """
    node.sh("sh", "-ec", script)
