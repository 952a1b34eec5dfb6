"""Everything a call may import, imported once."""

from __future__ import annotations

from importlib import import_module

from cni_plugins import catalog

_LIBRARY = """
background build_info chain context deadline delegate dispatch endpoint errors frozen garbage
invoke ipmasq liveness locks main masquerade plugin restore sublink undo verbs
witness
host.command host.conntrack host.devices host.firewalld host.iptables host.journal
host.link_requests host.links host.messages host.netlink host.netns host.nftables host.packets
host.port_vlans host.routing host.rtnl host.snapshots host.store host.sublinks host.sysctl host.tap
host.tc host.unix_call
protocol.addresses protocol.args protocol.config protocol.digests protocol.names protocol.netconf
protocol.request protocol.result protocol.spec protocol.versions
"""
_LAZY = """
ctypes errno fcntl ipaddress json json.decoder json.encoder resource select socket stat struct time
traceback
"""
"""Modules of others that are loaded when first needed."""


def everything() -> None:
    """Import it."""
    for name in _LIBRARY.split():
        import_module(f"cni_plugins.{name}")
    for name in _LAZY.split():
        import_module(name)
    for module in catalog.PLUGINS.values():
        import_module(module)
