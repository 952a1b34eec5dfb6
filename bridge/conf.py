"""Configuration of the bridge plugin."""

from __future__ import annotations

from bridge.vlan import (
    NO_VLANS,
    PortVlans,
    TrunkEntry,
    gateway_name,
    trunk_vids,
    validate_vlan,
    wanted,
)
from cni_plugins.endpoint import has_own_dns
from cni_plugins.errors import CniError, ConfigError
from cni_plugins.frozen import replace
from cni_plugins.protocol import args
from cni_plugins.protocol.config import (
    array_of,
    choice,
    flag,
    integer,
    key,
    read,
    record,
    text,
)
from cni_plugins.protocol.netconf import NetConf, requested_mac
from cni_plugins.protocol.versions import decode_prev_result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_plugins.context import Context
    from cni_plugins.protocol.result import Result

LARGEST_MTU = 65535


class BridgeConf(NetConf):
    """The keys of the bridge plugin; the last four fields are derived from them."""

    bridge: str = key("bridge", text, default="cni0", doc="bridge, created when missing")
    is_gateway: bool = key("isGateway", flag, default=False, doc="gateway addresses on the bridge")
    is_default_gateway: bool = key(
        "isDefaultGateway", flag, default=False, doc="isGateway, and default routes through it"
    )
    force_address: bool = key(
        "forceAddress", flag, default=False, doc="replace conflicting addresses of the bridge"
    )
    ip_masq: bool = key("ipMasq", flag, default=False, doc="masquerade traffic leaving the subnet")
    masq_backend: str = key(
        "ipMasqBackend",
        choice("", "iptables", "nftables"),
        default="",
        doc="firewall for ipMasq; by default iptables if the node has it",
    )
    mtu: int = key("mtu", integer(0, LARGEST_MTU), default=0, doc="bytes; 0 for the kernel's")
    hairpin: bool = key("hairpinMode", flag, default=False, doc="send frames back where they came")
    promisc: bool = key("promiscMode", flag, default=False, doc="promiscuous bridge")
    vlan: int = key("vlan", integer(), default=0, doc="native VLAN id of the port, 0 for none")
    vlan_trunk: tuple[TrunkEntry, ...] | None = key(
        "vlanTrunk", array_of(record(TrunkEntry)), default=None, doc="tagged VLAN ids of the port"
    )
    preserve_default_vlan: bool = key(
        "preserveDefaultVlan", flag, default=False, doc="keep the VLAN id the kernel gives a port"
    )
    mac_spoof_check: bool = key(
        "macspoofchk", flag, default=False, doc="drop frames with a foreign source address"
    )
    enable_dad: bool = key("enabledad", flag, default=False, doc="duplicate address detection")
    disable_container_interface: bool = key(
        "disableContainerInterface", flag, default=False, doc="leave the container's link down"
    )
    port_isolation: bool = key(
        "portIsolation", flag, default=False, doc="no traffic between isolated ports"
    )

    mac: str = ""
    vlans: PortVlans = NO_VLANS
    has_own_dns: bool = False
    chained: Result | None = None

    @property
    def has_vlans(self) -> bool:
        """The bridge filters VLANs; an empty trunk asks for that too."""
        return bool(self.vlan) or self.vlan_trunk is not None


def parse(ctx: Context, document: dict[str, Any]) -> BridgeConf:
    """ADD, CHECK, STATUS.

    Raises:
        ConfigError: with the JSON path.
        RequestError: CNI_ARGS.
    """
    conf = read(BridgeConf, document)
    validate_vlan(conf.vlan)
    vlans = wanted(conf.vlan, trunk_vids(conf.vlan_trunk or ()))
    _validate_names(conf)
    if conf.ipam.type and conf.disable_container_interface:
        raise ConfigError(
            "disableContainerInterface", "cannot be combined with ipam: addresses need the link up"
        )
    if conf.hairpin and conf.promisc:
        raise ConfigError("hairpinMode", "cannot be combined with promiscMode")
    if conf.is_default_gateway:
        conf = replace(conf, is_gateway=True)
    chained = None
    if conf.prev_result is not None:
        chained = decode_prev_result(conf.prev_result, ctx.cni_version)
    return replace(
        conf,
        mac=requested_mac(document, ctx.cni_args),
        vlans=vlans,
        has_own_dns=has_own_dns(document),
        chained=chained,
    )


def parse_cleanup(ctx: Context, document: dict[str, Any]) -> BridgeConf:
    """DEL, GC: whatever is faulty counts as not set."""
    conf = read(BridgeConf, document, forgive=ctx.forgive)
    if conf.prev_result is None:
        return conf
    try:
        return replace(conf, chained=decode_prev_result(conf.prev_result, ctx.cni_version))
    except CniError as fault:
        ctx.forgive(fault)
        return conf


def _validate_names(conf: BridgeConf) -> None:
    names = {"bridge": conf.bridge}
    if conf.vlan and (conf.is_gateway or conf.is_default_gateway):
        names["vlan"] = gateway_name(conf.bridge, conf.vlan)
    for path, name in names.items():
        try:
            args.validate_ifname(name)
        except CniError as e:
            raise ConfigError(path, f"{name!r}: {e.msg}", e.details) from None
