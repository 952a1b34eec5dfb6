"""Configuration of portmap."""

from __future__ import annotations

from cni_plugins import chain
from cni_plugins.errors import ConfigError
from cni_plugins.frozen import Frozen, fresh, replace
from cni_plugins.protocol.config import (
    array_of,
    flag,
    integer,
    ip_address,
    key,
    optional,
    read,
    record,
    text,
)
from cni_plugins.protocol.netconf import NetConf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_plugins.context import Context
    from cni_plugins.protocol.addresses import Address, Network
    from cni_plugins.protocol.result import Result

IPTABLES, NFTABLES = "iptables", "nftables"
BACKENDS = (IPTABLES, NFTABLES)
PROTOCOLS = ("tcp", "udp", "sctp")
MARK_BIT = 13
_LAST_PORT = 65535


class Mapping(Frozen):
    """A port of the host and where it leads; ``host_ip`` None or unspecified: any address."""

    host_port: int = key("hostPort", integer(), default=0)
    container_port: int = key("containerPort", integer(), default=0)
    protocol: str = key("protocol", text, default="tcp")
    host_ip: Address | None = key("hostIP", optional(ip_address), default=None)

    def is_of(self, family: int) -> bool:
        """Whether it is about a family."""
        return self.host_ip is None or self.host_ip.family == family

    @property
    def only_on(self) -> Address | None:
        """The one address of the host that it is about, None for any."""
        return self.host_ip if self.host_ip is not None and self.host_ip.value else None


class _Runtime(Frozen):
    port_mappings: tuple[Mapping, ...] = key("portMappings", array_of(record(Mapping)), default=())


class PortmapConf(NetConf):
    """The keys of portmap; ``mappings`` and ``targets`` are what they come to."""

    backend: str = key(
        "backend", text, default="", doc="iptables or nftables; by default found out"
    )
    snat: bool = key("snat", flag, default=True, doc="the container and the host may use the ports")
    masq_all: bool = key("masqAll", flag, default=False, doc="hide every client's address")
    mark_masq_bit: int | None = key("markMasqBit", integer(), default=None, doc="bit of the mark")
    external_set_mark_chain: str = key("externalSetMarkChain", text, default="")
    conditions_v4: tuple[str, ...] = key("conditionsV4", array_of(text), default=())
    conditions_v6: tuple[str, ...] = key("conditionsV6", array_of(text), default=())
    runtime_config: _Runtime = key("runtimeConfig", record(_Runtime), default=_Runtime())

    mappings: tuple[Mapping, ...] = ()
    targets: dict[int, Network] = fresh(dict)
    chained: Result | None = None

    @property
    def mark(self) -> int:
        """The mark of what is to be masqueraded."""
        return 1 << (MARK_BIT if self.mark_masq_bit is None else self.mark_masq_bit)

    def conditions(self, family: int) -> tuple[str, ...]:
        """Further conditions, in the backend's own words."""
        return self.conditions_v4 if family == 4 else self.conditions_v6


def parse(ctx: Context, document: dict[str, Any]) -> PortmapConf:
    """ADD, CHECK, STATUS.

    Raises:
        ConfigError: with the JSON path, in the details where the text is the reference's.
    """
    conf = read(PortmapConf, document)
    _validate_marks(conf)
    conf = replace(conf, backend=_backend(conf))
    if ctx.command == "STATUS":
        return conf
    missing = "must be called as chained plugin"
    if ctx.command == "CHECK":
        missing = "Required prevResult missing"
    chained = chain.previous(ctx, conf, missing)
    mappings = tuple(
        _mapping(given, f"runtimeConfig.portMappings[{i}]")
        for i, given in enumerate(conf.runtime_config.port_mappings)
    )
    _refuse_contradictions(mappings)
    targets: dict[int, Network] = {}
    for network in chain.container_networks(chained, ctx.ifname):
        targets.setdefault(network.family, network)
    for i, mapping in enumerate(mappings):
        if mapping.only_on is not None and mapping.only_on.family not in targets:
            raise ConfigError(
                f"runtimeConfig.portMappings[{i}].hostIP",
                f"{mapping.only_on}: the container has no IPv{mapping.only_on.family} address",
            )
    return replace(conf, mappings=mappings, targets=targets, chained=chained)


def parse_cleanup(ctx: Context, document: dict[str, Any]) -> PortmapConf:
    """DEL, GC: the mappings only tell whose conversations to forget."""
    conf = read(PortmapConf, document, forgive=ctx.forgive)
    sound = tuple(
        mapping
        for mapping in conf.runtime_config.port_mappings
        if 0 < mapping.host_port <= _LAST_PORT
    )
    return replace(conf, mappings=sound)


def _mapping(given: Mapping, path: str) -> Mapping:
    for name, port in (("container", given.container_port), ("host", given.host_port)):
        if not 0 < port <= _LAST_PORT:
            raise ConfigError(
                "", f"Invalid {name} port number: {port}", f"{path}.{name}Port: expected 1..65535"
            )
    protocol = given.protocol.lower()
    if protocol not in PROTOCOLS:
        raise ConfigError(
            f"{path}.protocol", f"{given.protocol!r} is not one of {', '.join(PROTOCOLS)}"
        )
    return replace(given, protocol=protocol)


def _refuse_contradictions(mappings: tuple[Mapping, ...]) -> None:
    seen: dict[tuple[str, int, Address | None], int] = {}
    for i, mapping in enumerate(mappings):
        place = (mapping.protocol, mapping.host_port, mapping.host_ip)
        if seen.setdefault(place, mapping.container_port) != mapping.container_port:
            raise ConfigError(
                f"runtimeConfig.portMappings[{i}]",
                f"host port {mapping.host_port}/{mapping.protocol} is mapped twice, "
                f"to {seen[place]} and to {mapping.container_port}",
            )


def _validate_marks(conf: PortmapConf) -> None:
    if conf.external_set_mark_chain and conf.mark_masq_bit is not None:
        raise ConfigError(
            "", "Cannot specify externalSetMarkChain and markMasqBit", "leave one out"
        )
    if conf.mark_masq_bit is not None and not 0 <= conf.mark_masq_bit < 32:
        raise ConfigError(
            "", "MasqMarkBit must be between 0 and 31", f"markMasqBit: {conf.mark_masq_bit}"
        )


def _backend(conf: PortmapConf) -> str:
    """The backend that is named, or that the other keys are written for; "" for either.

    Raises:
        ConfigError: it does not exist, or other keys are written for the other one.
    """
    if conf.backend and conf.backend not in BACKENDS:
        raise ConfigError(
            "", f'unrecognized backend "{conf.backend}"', "backend: iptables, nftables"
        )
    written_for: dict[str, list[str]] = {IPTABLES: [], NFTABLES: []}
    if conf.external_set_mark_chain:
        written_for[IPTABLES].append("externalSetMarkChain")
    for name, tokens in (
        ("conditionsV4", conf.conditions_v4),
        ("conditionsV6", conf.conditions_v6),
    ):
        if tokens:
            written_for[IPTABLES if tokens[0][:1] in {"-", "!"} else NFTABLES].append(name)
    backend = conf.backend or next((name for name in BACKENDS if written_for[name]), "")
    for other in BACKENDS:
        if backend and other != backend and written_for[other]:
            raise ConfigError(
                "",
                f"{backend} backend was requested but configuration contains {other}-specific "
                f"options [{' '.join(written_for[other])}]",
                "backend: name the other one, or leave these keys out",
            )
    return backend
