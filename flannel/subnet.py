"""What flanneld writes for its node, and the delegate's configuration that follows from it.

Source: flannel's documentation, "subnet.env"; the CNI plugin of flannel-io.
"""

from __future__ import annotations

from cni_plugins.frozen import Frozen
from cni_plugins.protocol.addresses import Network, parse_network
from cni_plugins.protocol.config import find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from flannel.conf import FlannelConf


class Subnet(Frozen):
    """The node's share of the cluster's networks.

    ``networks`` are the cluster's, ``subnets`` the node's, IPv4 first; ``mtu`` in bytes.
    """

    networks: tuple[Network, ...]
    subnets: tuple[Network, ...]
    mtu: int
    ip_masq: bool


_REQUIRED = (
    ("FLANNEL_NETWORK", "FLANNEL_IPV6_NETWORK"),
    ("FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET"),
    ("FLANNEL_MTU",),
    ("FLANNEL_IPMASQ",),
)


def parse(text: str) -> Subnet:
    """Read the file.

    Raises:
        ValueError: a key is missing or makes no sense.
    """
    values: dict[str, str] = {}
    for line in text.splitlines():
        name, found, value = line.partition("=")
        if found:
            values[name] = value
    missing = [n for names in _REQUIRED if not any(n in values for n in names) for n in names]
    if missing:
        raise ValueError(f"missing {', '.join(missing)}")
    networks: dict[Network, None] = {}
    for name in ("FLANNEL_NETWORK", "FLANNEL_IPV6_NETWORK"):
        for entry in values[name].split(",") if name in values else ():
            networks[_network(name, entry)] = None
    subnets = [
        _network(name, values[name])
        for name in ("FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET")
        if name in values
    ]
    mtu = values["FLANNEL_MTU"]
    if not (mtu.isascii() and mtu.isdigit()):
        raise ValueError(f"FLANNEL_MTU: {mtu!r} is not a number of bytes")
    return Subnet(
        networks=tuple(networks),
        subnets=tuple(subnets),
        mtu=int(mtu),
        ip_masq=values["FLANNEL_IPMASQ"] == "true",
    )


def _network(name: str, text: str) -> Network:
    try:
        network = parse_network(text)
    except ValueError as e:
        raise ValueError(f"{name}: {e}") from None
    return Network(network.first, network.prefix)


def delegate_config(conf: FlannelConf, subnet: Subnet, document: dict[str, Any]) -> dict[str, Any]:
    """The configuration of the plugin behind.

    Args:
        conf: flannel's own.
        subnet: of this node.
        document: flannel's own, for the keys that are passed on.
    """
    found = {"type": "bridge", **(conf.delegate or {})}
    found.setdefault("ipMasq", not subnet.ip_masq)
    found.setdefault("mtu", subnet.mtu)
    if found["type"] == "bridge":
        found.setdefault("isGateway", True)
    found["name"] = conf.name
    version = find(document, "cniVersion")
    if version:
        found["cniVersion"] = version
    if conf.runtime_config is not None:
        found["runtimeConfig"] = conf.runtime_config
    ipam = {"type": "host-local", **(conf.own_ipam or {})}
    ipam["ranges"] = [[{"subnet": str(network)}] for network in subnet.subnets]
    routes = list(find(ipam, "routes") or ())
    ipam["routes"] = [*routes, *({"dst": str(network)} for network in subnet.networks)]
    found["ipam"] = ipam
    return found
