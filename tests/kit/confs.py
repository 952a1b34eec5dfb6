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
