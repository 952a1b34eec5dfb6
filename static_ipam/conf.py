"""Configuration of static."""

from __future__ import annotations

from cni_plugins.errors import CniError, ConfigError, RequestError
from cni_plugins.frozen import Frozen, replace
from cni_plugins.protocol import args
from cni_plugins.protocol.addresses import Address, Network, parse_address, parse_network
from cni_plugins.protocol.config import (
    any_object,
    array_of,
    find,
    ip_address,
    key,
    optional,
    read,
    record,
    text,
)
from cni_plugins.protocol.result import IP
from cni_plugins.protocol.versions import DnsConf, RouteConf, decode_prev_result, parse_version

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_plugins.context import Context
    from cni_plugins.protocol.result import Result

_SEVERAL_PER_FAMILY = (0, 3, 0)


class AddressConf(Frozen):
    """An entry of ``addresses``."""

    address: str = key("address", text, default="", doc="address with prefix length")
    gateway: Address | None = key("gateway", optional(ip_address), default=None)


class IpamConf(Frozen):
    """The ``ipam`` object."""

    addresses: tuple[AddressConf, ...] = key("addresses", array_of(record(AddressConf)), default=())
    routes: tuple[RouteConf, ...] = key("routes", array_of(record(RouteConf)), default=())
    dns: DnsConf = key("dns", record(DnsConf), default=DnsConf())


class _Requested(Frozen):
    ips: tuple[str, ...] = key("ips", array_of(text), default=())


class _Args(Frozen):
    cni: _Requested = key("cni", record(_Requested), default=_Requested())


class StaticConf(Frozen):
    """The keys of static; ``ips`` are the addresses in the end."""

    ipam: IpamConf | None = key("ipam", record(IpamConf), default=None)
    args: _Args = key("args", record(_Args), default=_Args())
    runtime_config: _Requested = key("runtimeConfig", record(_Requested), default=_Requested())
    prev_result: dict[str, Any] | None = key("prevResult", any_object, default=None)

    ips: tuple[IP, ...] = ()
    chained: Result | None = None


def parse(ctx: Context, document: dict[str, Any]) -> StaticConf:
    """ADD, CHECK, STATUS.

    CNI_ARGS adds to ``addresses``; ``args.cni.ips`` replaces them all, ``runtimeConfig.ips`` again.

    Raises:
        ConfigError: with the JSON path.
        RequestError: CNI_ARGS.
    """
    if find(document, "ipam") is None:
        raise ConfigError("", "IPAM config missing 'ipam' key", "ipam: expected an object")
    conf = read(StaticConf, document)
    assert conf.ipam is not None
    from_args = _from_args(ctx.cni_args)
    wanted = _requested("args.cni.ips", conf.args.cni.ips)
    runtime = _requested("runtimeConfig.ips", conf.runtime_config.ips)
    ips = runtime or wanted
    if not ips:
        ips = (*_written(conf.ipam.addresses), *from_args)
    _refuse_several(ips, ctx.cni_version)
    chained = None
    if conf.prev_result is not None:
        chained = decode_prev_result(conf.prev_result, ctx.cni_version)
    return replace(conf, ips=ips, chained=chained)


def parse_cleanup(_ctx: Context, _document: dict[str, Any]) -> StaticConf:
    """DEL, GC: nothing is kept anywhere."""
    return StaticConf()


def _written(entries: tuple[AddressConf, ...]) -> tuple[IP, ...]:
    found = []
    for i, entry in enumerate(entries):
        try:
            network = parse_network(entry.address)
        except ValueError:
            text = f"the 'address' field is expected to be in CIDR notation, got: '{entry.address}'"
            raise CniError(999, text, f"ipam.addresses[{i}].address: as 10.1.2.3/24") from None
        found.append(IP(address=network, gateway=entry.gateway))
    return tuple(found)


def _requested(path: str, entries: tuple[str, ...]) -> tuple[IP, ...]:
    found = []
    for i, entry in enumerate(entries):
        try:
            found.append(IP(address=parse_network(entry)))
        except ValueError:
            text = f"an entry in the 'ips' field is NOT in CIDR notation, got: '{entry}'"
            raise CniError(999, text, f"{path}[{i}]: as 10.1.2.3/24") from None
    return tuple(found)


def _from_args(cni_args: str) -> tuple[IP, ...]:
    given = args.parse_args(cni_args, {"IP": _split, "GATEWAY": _split})
    networks: list[Network] = []
    for entry in given.get("IP", ()):
        try:
            networks.append(parse_network(entry))
        except ValueError:
            text = f"the 'ip' field is expected to be in CIDR notation, got: '{entry}'"
            raise RequestError(text, "CNI_ARGS: IP=10.1.2.3/24,…") from None
    gateways: list[Address] = []
    for entry in given.get("GATEWAY", ()):
        try:
            gateways.append(parse_address(entry))
        except ValueError:
            raise RequestError(f"invalid gateway address: {entry}", "CNI_ARGS: GATEWAY=…") from None
    return tuple(
        IP(address=n, gateway=next((g for g in reversed(gateways) if g in n), None))
        for n in networks
    )


def _split(text: str) -> tuple[str, ...]:
    return tuple(entry.strip() for entry in text.split(",")) if text else ()


def _refuse_several(ips: tuple[IP, ...], version: str) -> None:
    families = [ip.address.family for ip in ips]
    if parse_version(version) < _SEVERAL_PER_FAMILY and len(set(families)) < len(families):
        raise ConfigError(
            "", f"CNI version {version} does not support more than 1 address per family"
        )
