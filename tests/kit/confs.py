"""Network configurations as administrators write them."""

from __future__ import annotations

from typing import Any

SUBNET4 = "10.9.0.0/24"
SUBNET6 = "fd00:9::/64"


def host_local(*subnets: str, **over: Any) -> dict[str, Any]:
    """An ``ipam`` object with a range set for each subnet."""
    return {
        "type": "host-local",
        "ranges": [[{"subnet": subnet}] for subnet in subnets or (SUBNET4,)],
        **over,
    }


def bridge(version: str = "1.1.0", **over: Any) -> dict[str, Any]:
    """A bridge network with addresses and a gateway; ``None`` leaves a key out."""
    conf = {
        "cniVersion": version,
        "name": "net1",
        "type": "bridge",
        "bridge": "br0",
        "isGateway": True,
        "ipam": host_local(),
        **over,
    }
    return {key: value for key, value in conf.items() if value is not None}


def chained(conf: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    """The configuration with a result as ``prevResult``, as a runtime sends it for CHECK, DEL."""
    return {**conf, "prevResult": result}


def full_chain(backend: str = "", host_port: int = 0) -> list[dict[str, Any]]:
    """The plugins of a conflist as clusters use it, without its name and version.

    Args:
        backend: of masquerading, portmap and firewall; "" lets each choose.
        host_port: published from the container's port 80; 0 publishes nothing.
    """
    chosen = {"backend": backend} if backend else {}
    ports = [{"hostPort": host_port, "containerPort": 80, "protocol": "tcp"}] if host_port else []
    rates = {"ingressRate": 80_000_000, "ingressBurst": 8_000_000}
    rates |= {"egressRate": 80_000_000, "egressBurst": 8_000_000}
    interface = bridge(
        isDefaultGateway=True,
        hairpinMode=True,
        ipMasq=True,
        ipMasqBackend=backend or None,
        ipam=host_local(SUBNET4, SUBNET6),
    )
    return [
        {k: v for k, v in interface.items() if k not in {"name", "cniVersion"}},
        {"type": "portmap", "runtimeConfig": {"portMappings": ports}, **chosen},
        {"type": "bandwidth", "runtimeConfig": {"bandwidth": rates}},
        {"type": "tuning", "sysctl": {"net.ipv4.conf.eth0.arp_filter": "1"}, "mtu": 1400},
        {"type": "firewall", "ingressPolicy": "same-bridge", **chosen},
    ]
