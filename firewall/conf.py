"""Configuration of firewall."""

from __future__ import annotations

from cni_plugins import chain
from cni_plugins.errors import ConfigError
from cni_plugins.frozen import replace
from cni_plugins.protocol.config import key, read, text
from cni_plugins.protocol.netconf import NetConf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_plugins.context import Context
    from cni_plugins.protocol.addresses import Network
    from cni_plugins.protocol.result import Result

IPTABLES, FIREWALLD, NFTABLES = "iptables", "firewalld", "nftables"
BACKENDS = (IPTABLES, FIREWALLD, NFTABLES)
OPEN, SAME_BRIDGE, ISOLATED = "open", "same-bridge", "isolated"
_LONGEST_CHAIN = 28


class FirewallConf(NetConf):
    """The keys of firewall; ``ips`` and ``bridge`` are what prevResult tells."""

    backend: str = key("backend", text, default="", doc="by default found out")
    admin_chain: str = key("iptablesAdminChainName", text, default="CNI-ADMIN")
    zone: str = key("firewalldZone", text, default="trusted")
    ingress_policy: str = key(
        "ingressPolicy", text, default=OPEN, doc="open, same-bridge or isolated"
    )

    ips: tuple[Network, ...] = ()
    bridge: str = ""
    chained: Result | None = None


def parse(ctx: Context, document: dict[str, Any]) -> FirewallConf:
    """ADD, CHECK, STATUS.

    Raises:
        ConfigError: with the JSON path, in the details where the text is the reference's.
    """
    conf = read(FirewallConf, document)
    if conf.backend and conf.backend not in BACKENDS:
        raise ConfigError("backend", f"{conf.backend!r} is not one of {', '.join(BACKENDS)}")
    policy = conf.ingress_policy or OPEN
    if policy not in {OPEN, SAME_BRIDGE, ISOLATED}:
        raise ConfigError(
            "", f'unknown ingress policy: "{policy}"', "ingressPolicy: open, same-bridge, isolated"
        )
    name = conf.admin_chain or "CNI-ADMIN"
    if len(name) > _LONGEST_CHAIN or not name.isprintable() or " " in name or name[0] in "-!":
        raise ConfigError("iptablesAdminChainName", f"{name!r} is no name of a chain")
    conf = replace(conf, ingress_policy=policy, admin_chain=name, zone=conf.zone or "trusted")
    if ctx.command == "STATUS":
        return conf
    chained = chain.previous(ctx, conf, "missing prevResult from earlier plugin")
    bridge = ""
    if policy != OPEN:
        bridge = chained.interfaces[0].name if chained.interfaces else ""
        if not bridge:
            raise ConfigError(
                "prevResult.interfaces",
                f"interface name must be set for ingress policy {policy!r}",
                "put firewall behind bridge: the first interface has to be a bridge",
            )
    return replace(conf, ips=hosts_of(chained), bridge=bridge, chained=chained)


def parse_cleanup(ctx: Context, document: dict[str, Any]) -> FirewallConf:
    """DEL, GC: whatever is faulty counts as not set."""
    conf = read(FirewallConf, document, forgive=ctx.forgive)
    chained = chain.find_previous(ctx, conf)
    zone = conf.zone or "trusted"
    return replace(conf, zone=zone, ips=hosts_of(chained) if chained else (), chained=chained)


def hosts_of(result: Result) -> tuple[Network, ...]:
    """Every address of a result by itself, without its subnet."""
    return tuple(dict.fromkeys(ip.address.address.host for ip in result.ips))
