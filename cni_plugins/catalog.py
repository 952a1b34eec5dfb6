"""Every plugin of the suite by its type: the only place of the library that knows them by name."""

from __future__ import annotations

from cni_plugins import build_info
from cni_plugins.plugin import Plugin
from cni_plugins.protocol import spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.plugin import Verbs

PLUGINS = {
    "bandwidth": "bandwidth.plugin",
    "bridge": "bridge.plugin",
    "dhcp": "dhcp_ipam.plugin",
    "dummy": "dummy.plugin",
    "firewall": "firewall.plugin",
    "flannel": "flannel.plugin",
    "host-device": "host_device.plugin",
    "host-local": "host_local_ipam.plugin",
    "ipvlan": "ipvlan.plugin",
    "loopback": "loopback.plugin",
    "macvlan": "macvlan.plugin",
    "portmap": "portmap.plugin",
    "ptp": "ptp.plugin",
    "sbr": "sbr.plugin",
    "static": "static_ipam.plugin",
    "tap": "tap.plugin",
    "tuning": "tuning.plugin",
    "vlan": "vlan.plugin",
    "vrf": "vrf.plugin",
}
"""Module of each type; it has ``VERBS``."""

SINCE = {"bandwidth": "0.3.0", "firewall": "0.4.0", "vrf": "0.3.1"}
"""The oldest spec version of the types that do not take all of them."""


def find(plugin_type: str) -> Plugin | None:
    """The plugin of that type, None when the suite has none."""
    module = PLUGINS.get(plugin_type)
    if module is None:
        return None
    return Plugin(
        type=plugin_type,
        versions=spec.starting_from(SINCE.get(plugin_type, spec.ALL[0])),
        load=lambda: load(module),
        about=f"CNI {plugin_type} plugin v{build_info.VERSION}",
    )


def load(module: str) -> Verbs:
    """Import a plugin's verbs."""
    verbs: Verbs = __import__(module, fromlist=["VERBS"]).VERBS  # importlib is a module more
    return verbs
