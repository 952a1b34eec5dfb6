"""static's verbs: what is written is given; nothing is kept."""

from __future__ import annotations

from cni_plugins.errors import CniError, ConfigError
from cni_plugins.plugin import Verbs
from cni_plugins.protocol.result import DNS, Result
from static_ipam.conf import StaticConf, parse, parse_cleanup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.context import Context


def add(_ctx: Context, conf: StaticConf) -> Result:
    """The addresses in their order, the routes and the resolver settings."""
    ipam = conf.ipam
    routes = tuple(route.as_route() for route in ipam.routes) if ipam else ()
    return Result(ips=conf.ips, routes=routes, dns=ipam.dns.as_dns() if ipam else DNS())


def delete(_ctx: Context, _conf: StaticConf) -> None:
    """Nothing to give back."""


def check(_ctx: Context, conf: StaticConf) -> None:
    """Every configured address is in the result, with its gateway.

    Raises:
        ConfigError: there is no prevResult.
        CniError: an address is not in it, or its gateway is another.
    """
    if conf.chained is None:
        raise ConfigError("prevResult", "Required prevResult missing")
    for ip in conf.ips:
        found = [given for given in conf.chained.ips if given.address == ip.address]
        if not found:
            raise CniError(999, f"static: {ip.address} is not in prevResult")
        if ip.gateway is not None and found[0].gateway != ip.gateway:
            raise CniError(
                999,
                f"static: Failed to match addr {ip.address}: its gateway is {ip.gateway}, "
                f"prevResult has {found[0].gateway}",
            )


def status(_ctx: Context, _conf: StaticConf) -> None:
    """Always ready."""


def gc(_ctx: Context, _conf: StaticConf) -> None:
    """Nothing is kept."""


VERBS = Verbs(
    parse=parse,
    parse_cleanup=parse_cleanup,
    add=add,
    delete=delete,
    check=check,
    status=status,
    gc=gc,
    journaled=False,
    uses_netns=False,
)
