"""Configuration of host-local."""

from __future__ import annotations

from cni_plugins.errors import ConfigError
from cni_plugins.frozen import Frozen
from cni_plugins.protocol import args
from cni_plugins.protocol.addresses import Address, Network, parse_address, parse_network
from cni_plugins.protocol.config import (
    any_object,
    array_of,
    flag,
    ip_address,
    ip_network,
    key,
    optional,
    parsed,
    read,
    record,
    text,
)
from cni_plugins.protocol.versions import RouteConf, decode_prev_result, parse_version
from host_local_ipam import ranges
from host_local_ipam.ranges import Range, RangeSet, Span, parse_exclusion

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cni_plugins.context import Context
    from cni_plugins.protocol.result import Result, Route

DATA_DIR = "/var/lib/cni/networks"
_SEVERAL_PER_FAMILY = (0, 3, 0)

_exclusions = array_of(parsed(parse_exclusion, "an address, a network or first-last"))


def parse_requested(text: str) -> Address:
    """A requested address, with or without a prefix length, which does not matter.

    Raises:
        ValueError: ``invalid IP address <text>``.
    """
    try:
        return parse_network(text).address if "/" in text else parse_address(text)
    except ValueError:
        raise ValueError(f"invalid IP address {text}") from None


_requests = array_of(parsed(parse_requested, "an IP address"))


class RangeConf(Frozen):
    """A range; what is left out follows from the subnet."""

    subnet: Network | None = key("subnet", ip_network, default=None, doc="subnet of the range")
    range_start: Address | None = key("rangeStart", optional(ip_address), default=None)
    range_end: Address | None = key("rangeEnd", optional(ip_address), default=None)
    gateway: Address | None = key("gateway", optional(ip_address), default=None)
    exclude: tuple[Span, ...] = key("exclude", _exclusions, default=(), doc="never given out")


_sets = array_of(array_of(record(RangeConf)))


class IpamConf(RangeConf):
    """The ``ipam`` object; the keys of a range are the old way of writing a single one."""

    data_dir: str = key("dataDir", text, default=DATA_DIR, doc="where leases are kept")
    resolv_conf: str = key("resolvConf", text, default="", doc="file to take dns from")
    routes: tuple[RouteConf, ...] = key("routes", array_of(record(RouteConf)), default=())
    ranges: tuple[tuple[RangeConf, ...], ...] = key("ranges", _sets, default=())
    status_when_full: bool = key(
        "statusFailsWhenFull", flag, default=False, doc="STATUS answers 50 when a range set is full"
    )


class _Requests(Frozen):
    ips: tuple[Address, ...] = key("ips", _requests, default=())


class _Args(Frozen):
    cni: _Requests = key("cni", record(_Requests), default=_Requests())


class _Runtime(_Requests):
    ip_ranges: tuple[tuple[RangeConf, ...], ...] = key("ipRanges", _sets, default=())


class _Document(Frozen):
    ipam: IpamConf | None = key("ipam", record(IpamConf), default=None)
    args: _Args = key("args", record(_Args), default=_Args())
    runtime_config: _Runtime = key("runtimeConfig", record(_Runtime), default=_Runtime())
    prev_result: dict[str, Any] | None = key("prevResult", any_object, default=None)


class HostLocalConf(Frozen):
    """What the verbs need: ``sets`` in the order of their index on disk."""

    data_dir: str
    sets: tuple[RangeSet, ...] = ()
    requested: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    resolv_conf: str = ""
    status_when_full: bool = False
    chained: Result | None = None


def parse(ctx: Context, document: dict[str, Any]) -> HostLocalConf:
    """ADD, CHECK, STATUS.

    Raises:
        ConfigError: with the JSON path, in the details where the text is the reference's.
        RequestError: CNI_ARGS.
    """
    found = read(_Document, document)
    if found.ipam is None:
        raise ConfigError("", "IPAM config missing 'ipam' key", "ipam: is required")
    sets = _canonical_sets(found.ipam, found.runtime_config)
    _validate_families(sets, ctx.cni_version)
    ranges.validate_sets(sets)
    chained = None
    if found.prev_result is not None:
        chained = decode_prev_result(found.prev_result, ctx.cni_version)
    return HostLocalConf(
        data_dir=found.ipam.data_dir,
        sets=sets,
        requested=_requested(found, ctx.cni_args),
        routes=tuple(route.as_route() for route in found.ipam.routes),
        resolv_conf=found.ipam.resolv_conf,
        status_when_full=found.ipam.status_when_full,
        chained=chained,
    )


def parse_cleanup(ctx: Context, document: dict[str, Any]) -> HostLocalConf:
    """DEL, GC: only where the leases are matters."""
    found = read(_Document, {"ipam": _ipam(document)}, forgive=ctx.forgive)
    data_dir = _data_dir(document, ctx.forgive) if found.ipam is None else found.ipam.data_dir
    return HostLocalConf(data_dir=data_dir)


def _ipam(document: dict[str, Any]) -> Any:
    return next((v for k, v in reversed(document.items()) if k.lower() == "ipam"), None)


class _DataDir(Frozen):
    data_dir: str = key("dataDir", text, default=DATA_DIR)


def _data_dir(document: dict[str, Any], forgive: Callable[[ConfigError], None]) -> str:
    """``dataDir`` alone, when something else in ``ipam`` is beyond reading."""
    ipam = _ipam(document)
    return read(_DataDir, ipam if isinstance(ipam, dict) else {}, "ipam", forgive=forgive).data_dir


def _canonical_sets(ipam: IpamConf, runtime: _Runtime) -> tuple[RangeSet, ...]:
    """The runtime's sets, the old way's single range, the configuration's sets: in this order."""
    written = [(s, f"runtimeConfig.ipRanges[{i}]") for i, s in enumerate(runtime.ip_ranges)]
    if ipam.subnet is not None:
        written.append(((ipam,), "ipam"))
    written += [(s, f"ipam.ranges[{i}]") for i, s in enumerate(ipam.ranges)]
    if not written:
        raise ConfigError("", "no IP ranges specified", "ipam.ranges: at least one is required")
    sets: list[RangeSet] = []
    for index, (confs, path) in enumerate(written):
        own: list[Range] = []
        for i, conf in enumerate(confs):
            entry_path = path if path == "ipam" else f"{path}[{i}]"
            own.append(ranges.canonical(conf, index, entry_path, ipam.exclude))
        ranges.validate_set(tuple(own), index, path)
        sets.append(tuple(own))
    return tuple(sets)


def _validate_families(sets: tuple[RangeSet, ...], version: str) -> None:
    families = [s[0].subnet.family for s in sets]
    if parse_version(version) < _SEVERAL_PER_FAMILY and len(families) != len(set(families)):
        raise ConfigError(
            "",
            f"CNI version {version or '0.1.0'} does not support more than 1 address per family",
            "ipam.ranges: one set for each family, or cniVersion 0.3.0 and later",
        )


def _requested(found: _Document, cni_args: str) -> tuple[Address, ...]:
    """The union of all sources, in their order."""
    given = args.parse_args(cni_args, {"IP": lambda ip: parse_requested(ip) if ip else None})
    sources = [given.get("IP"), *found.args.cni.ips, *found.runtime_config.ips]
    return tuple(dict.fromkeys(ip for ip in sources if ip is not None))
