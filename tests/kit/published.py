"""A host with pods on a bridge, an outside client and something behind the host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.kit.confs import bridge, host_local
from tests.kit.traffic import ask, serve

if TYPE_CHECKING:
    import subprocess

    from tests.kit.node import Node, Outcome, Pod

HOST4, HOST6, OUTSIDE4, OUTSIDE6 = "192.0.2.1", "fd00:2::1", "192.0.2.2", "fd00:2::2"
BEHIND4 = "198.51.100.2"
BRIDGE = bridge(
    "1.0.0",
    isDefaultGateway=True,
    hairpinMode=True,
    ipam=host_local("10.9.0.0/24", "fd00:9::/64"),
)


class Published:
    """The host; servers it started end with it."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.servers: list[subprocess.Popen[bytes]] = []
        self.results: dict[str, dict[str, Any]] = {}
        self.outside = node.pod("outside")
        self._wire(self.outside, "out0", (f"{HOST4}/24", f"{HOST6}/64"))
        for address, family in ((f"{OUTSIDE4}/24", "-4"), (f"{OUTSIDE6}/64", "-6")):
            self.outside.sh("ip", "addr", "add", address, "dev", "eth0", "nodad")
            via = HOST4 if family == "-4" else HOST6
            self.outside.sh("ip", family, "route", "add", "default", "via", via)

    def _wire(self, pod: Pod, name: str, addresses: tuple[str, ...]) -> None:
        for where in (self.node.sh, pod.sh):  # addresses serve at once
            where("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
        self.node.sh("ip", "link", "add", name, "type", "veth", "peer", "eth0", "netns", pod.name)
        for address in addresses:
            nodad = ["nodad"] if ":" in address else []
            self.node.sh("ip", "addr", "add", address, "dev", name, *nodad)
        self.node.sh("ip", "link", "set", name, "up")
        pod.sh("ip", "link", "set", "eth0", "up")
        pod.sh("ip", "link", "set", "lo", "up")

    def behind(self) -> Pod:
        """A namespace that the outside reaches through the host."""
        pod = self.node.pod("behind")
        self._wire(pod, "behind0", ("198.51.100.1/24",))
        pod.sh("ip", "addr", "add", f"{BEHIND4}/24", "dev", "eth0")
        pod.sh("ip", "route", "add", "default", "via", "198.51.100.1")
        return pod

    def pod(self, name: str, container_id: str = "") -> Pod:
        """A pod on the bridge."""
        pod = self.node.pod(name)
        pod.sh("ip", "link", "set", "lo", "up")
        self.results[name] = self.node.cni(
            "bridge", "ADD", BRIDGE, netns=pod, container_id=container_id or name
        ).result
        return pod

    def serve(self, pod: Pod | None, family: int, protocol: str, port: int, says: str) -> None:
        """Answer with a line and the client's address."""
        self.servers.append(serve(self.node, pod, family, protocol, port, says))

    def ask(self, pod: Pod | None, address: str, protocol: str, port: int, **more: Any) -> str:
        """The answer of whoever is there."""
        return ask(self.node, pod, address, protocol, port, **more)

    def conf(self, name: str, mappings: list[dict[str, Any]], **over: Any) -> dict[str, Any]:
        """portmap's configuration behind a pod's bridge."""
        document = {
            "cniVersion": "1.0.0",
            "name": "net1",
            "type": "portmap",
            "capabilities": {"portMappings": True},
            "runtimeConfig": {"portMappings": mappings},
            "prevResult": self.results[name],
            **over,
        }
        return {k: v for k, v in document.items() if v is not None}

    def call(self, command: str, pod: Pod, document: dict[str, Any], **more: Any) -> Outcome:
        """One call of portmap."""
        more.setdefault("container_id", pod.name)
        return self.node.cni("portmap", command, document, netns=pod, **more)

    def close(self) -> None:
        """The servers end."""
        for server in self.servers:
            server.kill()
            server.wait()


def mapping(host_port: int, container_port: int, protocol: str = "tcp", ip: str = "") -> dict:
    """An entry of ``portMappings``."""
    entry = {"hostPort": host_port, "containerPort": container_port, "protocol": protocol}
    return {**entry, "hostIP": ip} if ip else entry
