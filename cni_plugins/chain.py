"""What a chained plugin does with the result of the plugins before it.

Source: CNI spec 1.1.0, section 3 "Add": ``prevResult``.
"""

from __future__ import annotations

from cni_plugins.errors import CniError, ConfigError
from cni_plugins.protocol.versions import decode_prev_result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.context import Context
    from cni_plugins.protocol.addresses import Network
    from cni_plugins.protocol.netconf import NetConf
    from cni_plugins.protocol.result import Result


def previous(ctx: Context, conf: NetConf, missing: str) -> Result:
    """The result that ADD and CHECK stand on.

    Args:
        ctx: the call.
        conf: the configuration.
        missing: the plugin's text for a configuration without one.

    Raises:
        ConfigError: there is none, or it cannot be decoded.
    """
    if conf.prev_result is None:
        raise ConfigError(
            "", missing, "prevResult: put this plugin behind an interface plugin of the list"
        )
    return decode_prev_result(conf.prev_result, ctx.cni_version)


def find_previous(ctx: Context, conf: NetConf) -> Result | None:
    """The result that DEL and GC may have; None also for one that cannot be decoded."""
    if conf.prev_result is None:
        return None
    try:
        return decode_prev_result(conf.prev_result, ctx.cni_version)
    except CniError as fault:
        ctx.forgive(fault)
        return None


def container_networks(result: Result, ifname: str) -> tuple[Network, ...]:
    """The addresses of the container's interface: those on no interface, or on the named one."""
    found = []
    for ip in result.ips:
        if ip.interface is not None and 0 <= ip.interface < len(result.interfaces):
            interface = result.interfaces[ip.interface]
            if interface.name != ifname or not interface.sandbox:
                continue
        found.append(ip.address)
    return tuple(found)
