"""Configuration of sbr."""

from __future__ import annotations

from cni_plugins import chain
from cni_plugins.errors import ConfigError
from cni_plugins.frozen import Frozen, replace
from cni_plugins.protocol.addresses import Address, Network, parse_address
from cni_plugins.protocol.config import array_of, flag, integer, key, read, text
from cni_plugins.protocol.netconf import NetConf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_plugins.context import Context
    from cni_plugins.protocol.result import Result


class Source(Frozen):
    """An address of the interface, and the gateway through which it answers."""

    network: Network
    gateway: Address | None


class SbrConf(NetConf):
    """The keys of sbr; ``sources`` are the interface's addresses with their gateways."""

    table: int = key(
        "table", integer(0, 2**32 - 1), default=0, doc="table somebody else fills; 0 to make some"
    )
    gateways: tuple[str, ...] = key(
        "gateways", array_of(text), default=(), doc="at most one of each family"
    )
    add_source_hints: bool = key(
        "addSourceHints", flag, default=False, doc="leave subnets in the main table, with sources"
    )

    sources: tuple[Source, ...] = ()
    chained: Result | None = None


def parse(ctx: Context, document: dict[str, Any]) -> SbrConf:
    """ADD, CHECK, STATUS.

    Raises:
        ConfigError: with the JSON path.
    """
    conf = read(SbrConf, document)
    gateways = _gateways(conf.gateways)
    if ctx.command == "STATUS":
        return conf
    chained = chain.previous(ctx, conf, "This plugin must be called as chained plugin")
    sources = _sources(chained, ctx.ifname, gateways)
    if not sources:
        raise ConfigError("", f"No IP addresses supplied on interface: {ctx.ifname}", "prevResult")
    return replace(conf, chained=chained, sources=sources)


def parse_cleanup(ctx: Context, document: dict[str, Any]) -> SbrConf:
    """DEL, GC: addresses come from the result, if there is one."""
    conf = read(SbrConf, document, forgive=ctx.forgive)
    chained = chain.find_previous(ctx, conf)
    sources = _sources(chained, ctx.ifname, {}) if chained else ()
    return replace(conf, chained=chained, sources=sources)


def _sources(result: Result, ifname: str, gateways: dict[int, Address]) -> tuple[Source, ...]:
    mine = set(chain.container_networks(result, ifname))
    return tuple(
        Source(network=ip.address, gateway=gateways.get(ip.address.family, ip.gateway))
        for ip in result.ips
        if ip.address in mine
    )


def _gateways(texts: tuple[str, ...]) -> dict[int, Address]:
    """The gateways by family."""
    if len(texts) > 2:
        raise ConfigError(
            "gateways",
            "gateways list cannot contain more than 2 entries (one IPv4, one IPv6)",
        )
    found: dict[int, Address] = {}
    for i, text_ in enumerate(texts):
        try:
            address = parse_address(text_)
        except ValueError:
            raise ConfigError(
                f"gateways[{i}]", f"invalid static gateway IP address: {text_}"
            ) from None
        if address.family in found:
            raise ConfigError(
                "gateways",
                f"gateways list contains multiple IPv{address.family} addresses: "
                f"{found[address.family]} and {address}",
            )
        found[address.family] = address
    return found
