"""Spec versions: which verbs they allow, and their forms of a result.

Three families of result exist (CNI spec 0.2.0, 0.4.0 and 1.1.0, section "Result"; conversions as
pkg/types of containernetworking/cni makes them):

====== ==================== =======================================================
family versions             form
====== ==================== =======================================================
A      0.1.0 0.2.0          ip4, ip6: one address each with its routes
B      0.3.0 0.3.1 0.4.0    interfaces, ips with a "version", routes
C      1.0.0 1.1.0          as B without that; interfaces gain mtu, socketPath, pciID
====== ==================== =======================================================
"""

from __future__ import annotations

from cni_plugins.errors import CniError, ConfigError, DecodeError
from cni_plugins.frozen import Frozen
from cni_plugins.protocol.config import (
    array_of,
    find,
    integer,
    ip_address,
    ip_network,
    join,
    key,
    optional,
    read,
    record,
    text,
)
from cni_plugins.protocol.result import DNS, IP, Interface, Result, Route
from cni_plugins.protocol.spec import ALL, CURRENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal

    from cni_plugins.protocol.addresses import Address, Network

FAMILIES = {"A": ("0.1.0", "0.2.0"), "B": ("0.3.0", "0.3.1", "0.4.0"), "C": ("1.0.0", "1.1.0")}
_FAMILY = {version: family for family, versions in FAMILIES.items() for version in versions}


def parse_version(version: str) -> tuple[int, int, int]:
    """Read a version for comparison: up to three decimal numbers, missing ones are 0.

    Raises:
        DecodeError: the text is no version.
    """
    parts = (version or "0.1.0").split(".")
    try:
        if len(parts) > 3 or not all(p.isascii() and p.strip("+-").isdigit() for p in parts):
            raise ValueError  # noqa: TRY301 - one message for every fault
        numbers = [int(p) for p in parts]
    except ValueError:
        raise DecodeError(
            f"invalid version {version!r}", "expected up to three numbers, such as 1.1.0"
        ) from None
    major, minor, micro = (*numbers, 0, 0)[:3]
    return major, minor, micro


def family_of(version: str) -> Literal["A", "B", "C"]:
    """The result family of a version.

    Raises:
        CniError: 999, ``unsupported CNI result version "<v>"``.
    """
    family = _FAMILY.get(version or "0.1.0")
    if family is None:
        raise CniError(999, f'unsupported CNI result version "{version}"')
    return family  # type: ignore[return-value]


# --- what is read -------------------------------------------------------------------------------


class _Interface(Frozen):
    name: str = key("name", text, default="")
    mac: str = key("mac", text, default="")
    mtu: int = key("mtu", integer(), default=0)
    sandbox: str = key("sandbox", text, default="")
    socket_path: str = key("socketPath", text, default="")
    pci_id: str = key("pciID", text, default="")


class _IP(Frozen):
    address: Network = key("address", ip_network)
    gateway: Address | None = key("gateway", optional(ip_address), default=None)
    interface: int | None = key("interface", integer(), default=None)
    version: str = key("version", text, default="")


class RouteConf(Frozen):
    """A route as configurations and results write it."""

    dst: Network = key("dst", ip_network, doc="destination, host bits are kept")
    gw: Address | None = key("gw", optional(ip_address), default=None, doc="gateway")
    mtu: int = key("mtu", integer(0), default=0, doc="path MTU in bytes")
    advmss: int = key("advmss", integer(0), default=0, doc="advertised MSS in bytes")
    priority: int = key("priority", integer(0), default=0, doc="metric, lower wins")
    table: int | None = key("table", integer(0), default=None, doc="routing table")
    scope: int | None = key("scope", integer(0, 255), default=None, doc="0, 253 link, 254 host")

    def as_route(self) -> Route:
        """The value a result carries."""
        return Route(
            dst=self.dst,
            gw=self.gw,
            mtu=self.mtu,
            advmss=self.advmss,
            priority=self.priority,
            table=self.table,
            scope=self.scope,
        )


class DnsConf(Frozen):
    """Resolver settings as configurations and results write them."""

    nameservers: tuple[str, ...] = key("nameservers", array_of(text), default=())
    domain: str = key("domain", text, default="")
    search: tuple[str, ...] = key("search", array_of(text), default=())
    options: tuple[str, ...] = key("options", array_of(text), default=())

    def as_dns(self) -> DNS:
        """The value a result carries."""
        return DNS(
            nameservers=self.nameservers,
            domain=self.domain,
            search=self.search,
            options=self.options,
        )


class _Modern(Frozen):
    interfaces: tuple[_Interface, ...] = key("interfaces", array_of(record(_Interface)), default=())
    ips: tuple[_IP, ...] = key("ips", array_of(record(_IP)), default=())
    routes: tuple[RouteConf, ...] = key("routes", array_of(record(RouteConf)), default=())
    dns: DnsConf = key("dns", record(DnsConf), default=DnsConf())


class _FamilyConfig(Frozen):
    ip: Network = key("ip", ip_network)
    gateway: Address | None = key("gateway", optional(ip_address), default=None)
    routes: tuple[RouteConf, ...] = key("routes", array_of(record(RouteConf)), default=())


class _Legacy(Frozen):
    ip4: _FamilyConfig | None = key("ip4", record(_FamilyConfig), default=None)
    ip6: _FamilyConfig | None = key("ip6", record(_FamilyConfig), default=None)
    dns: DnsConf = key("dns", record(DnsConf), default=DnsConf())


def decode(document: dict[str, Any], config_version: str, path: str = "") -> Result:
    """Read a result object of the family of ``config_version``.

    A version inside the document may be missing or empty: it is then the configuration's.

    Args:
        document: the decoded JSON object.
        config_version: version of the network configuration; "" is 0.1.0.
        path: JSON path of the document, for complaints.

    Raises:
        CniError: 999, the version is unknown or of another family.
        ConfigError: a key of the document is faulty.
    """
    family = family_of(config_version)
    version = _own_version(document, path) or config_version
    if version not in FAMILIES[family] and not (family == "A" and version == ""):
        supported = " ".join(FAMILIES[family])
        raise CniError(
            999, f'result type supports [{supported}] but unmarshalled CNIVersion is "{version}"'
        )
    if family == "A":
        return _from_legacy(read(_Legacy, document, path))
    return _from_modern(read(_Modern, document, path))


def decode_any(document: dict[str, Any], config_version: str) -> Result:
    """Read a result a delegate printed: in the version it names, else in the configuration's.

    Raises:
        CniError: 999, the version is unknown.
        ConfigError: a key of the document is faulty.
    """
    return decode(document, _own_version(document) or config_version)


def _own_version(document: dict[str, Any], path: str = "") -> str:
    own = find(document, "cniVersion")
    return "" if own is None else str(text.read(own, join(path, "cniVersion")))


def decode_prev_result(document: dict[str, Any], config_version: str) -> Result:
    """Read ``prevResult`` of a configuration.

    Raises:
        ConfigError: with the JSON path, or ``could not parse prevResult: …`` for its version.
    """
    try:
        return decode(document, config_version, "prevResult")
    except ConfigError:
        raise
    except CniError as e:
        raise ConfigError("", f"could not parse prevResult: {e.msg}") from e


def _from_modern(found: _Modern) -> Result:
    return Result(
        interfaces=tuple(
            Interface(
                name=i.name,
                mac=i.mac,
                mtu=i.mtu,
                sandbox=i.sandbox,
                socket_path=i.socket_path,
                pci_id=i.pci_id,
            )
            for i in found.interfaces
        ),
        ips=tuple(
            IP(address=ip.address, gateway=ip.gateway, interface=ip.interface) for ip in found.ips
        ),
        routes=tuple(route.as_route() for route in found.routes),
        dns=found.dns.as_dns(),
    )


def _from_legacy(found: _Legacy) -> Result:
    families = [entry for entry in (found.ip4, found.ip6) if entry is not None]
    return Result(
        ips=tuple(IP(address=entry.ip, gateway=entry.gateway) for entry in families),
        routes=tuple(route.as_route() for entry in families for route in entry.routes),
        dns=found.dns.as_dns(),
    )


# --- what is printed ----------------------------------------------------------------------------


def encode(result: Result, version: str) -> dict[str, Any]:
    """The JSON object of a result in ``version`` ("" is 0.1.0).

    Key order and omissions are the reference suite's: sorted from 1.0.0 on, where an empty ``dns``
    is left out; before that in the order of the spec, and ``dns`` always there.

    Raises:
        CniError: 999, ``cannot convert: no valid IP addresses`` when 0.1.0 or 0.2.0 is asked of a
            result without any, or ``no converter …`` for an unknown version.
    """
    version = version or "0.1.0"
    if version not in ALL:
        raise CniError(999, f"no converter for CNI result version {CURRENT} to {version}")
    family = family_of(version)
    if family == "A":
        return _legacy(result, version)
    document: dict[str, Any] = {"cniVersion": version}
    if result.interfaces:
        document["interfaces"] = [_interface(i, full=family == "C") for i in result.interfaces]
    if result.ips:
        document["ips"] = [_ip(ip, labelled=family == "B") for ip in result.ips]
    if result.routes:
        document["routes"] = [_route(route) for route in result.routes]
    if result.dns or family == "B":
        document["dns"] = _dns(result.dns)
    return _sorted(document) if family == "C" else document


def _interface(interface: Interface, *, full: bool) -> dict[str, Any]:
    document: dict[str, Any] = {"name": interface.name, "mac": interface.mac}
    if full:
        document |= {
            "mtu": interface.mtu,
            "socketPath": interface.socket_path,
            "pciID": interface.pci_id,
        }
    document["sandbox"] = interface.sandbox
    return {k: v for k, v in document.items() if v or k == "name"}


def _ip(ip: IP, *, labelled: bool) -> dict[str, Any]:
    document: dict[str, Any] = {"version": str(ip.address.family)} if labelled else {}
    if ip.interface is not None:
        document["interface"] = ip.interface
    document["address"] = str(ip.address)
    if ip.gateway is not None:
        document["gateway"] = str(ip.gateway)
    return document


def _route(route: Route) -> dict[str, Any]:
    document: dict[str, Any] = {"dst": str(route.dst)}
    if route.gw is not None:
        document["gw"] = str(route.gw)
    for name in ("mtu", "advmss", "priority"):
        if getattr(route, name):
            document[name] = getattr(route, name)
    for name in ("table", "scope"):  # 0 is a value of its own here
        if getattr(route, name) is not None:
            document[name] = getattr(route, name)
    return document


def _dns(dns: DNS) -> dict[str, Any]:
    document: dict[str, Any] = {
        "nameservers": list(dns.nameservers),
        "domain": dns.domain,
        "search": list(dns.search),
        "options": list(dns.options),
    }
    return {k: v for k, v in document.items() if v}


def _legacy(result: Result, version: str) -> dict[str, Any]:
    """Family A: the first address of each family and the routes of that family."""
    document: dict[str, Any] = {"cniVersion": version}
    for family in (4, 6):
        ip = next((ip for ip in result.ips if ip.address.family == family), None)
        if ip is None:
            continue
        entry: dict[str, Any] = {"ip": str(ip.address)}
        if ip.gateway is not None:
            entry["gateway"] = str(ip.gateway)
        routes = [
            _route(Route(dst=route.dst, gw=route.gw))
            for route in result.routes
            if route.dst.family == family
        ]
        if routes:
            entry["routes"] = routes
        document[f"ip{family}"] = entry
    if len(document) == 1:
        raise CniError(999, "cannot convert: no valid IP addresses")
    document["dns"] = _dns(result.dns)
    return document


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _sorted(value[k]) for k in sorted(value)}
    if isinstance(value, list):
        return [_sorted(entry) for entry in value]
    return value


def convert(document: dict[str, Any], version: str) -> dict[str, Any]:
    """A result document in another version; within family A only the version text changes.

    Raises:
        CniError: as :func:`decode_any` and :func:`encode`.
        ConfigError: a key of the document is faulty.
    """
    result = decode_any(document, "")
    own_family = family_of(_own_version(document))
    if not result.ips and own_family == "A" and (version or "0.1.0") in FAMILIES["A"]:
        return {"cniVersion": version or "0.1.0", "dns": _dns(result.dns)}
    return encode(result, version)
