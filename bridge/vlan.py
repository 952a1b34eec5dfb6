"""VLAN ids of a bridge port: which ones a configuration asks for, and giving them to the port.

Source of the rules: the reference suite's bridge plugin; of the kernel's side: bridge(8), "vlan".
"""

from __future__ import annotations

import errno

from cni_plugins.errors import ConfigError, KernelError
from cni_plugins.frozen import Frozen
from cni_plugins.host import port_vlans
from cni_plugins.protocol import names
from cni_plugins.protocol.config import integer, key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.context import Context
    from cni_plugins.host.links import Links
    from cni_plugins.host.snapshots import Link

LOWEST, HIGHEST = 1, 4094
DEFAULT_VID = 1


class TrunkEntry(Frozen):
    """An entry of ``vlanTrunk``: a range, a single id, or both."""

    min_id: int | None = key("minID", integer(), default=None, doc="first VLAN id of a range")
    max_id: int | None = key("maxID", integer(), default=None, doc="last VLAN id of a range")
    id: int | None = key("id", integer(), default=None, doc="a single VLAN id")


class PortVlans(Frozen):
    """What a port is to carry: ``native`` untagged (0 for none), ``tagged`` besides."""

    native: int
    tagged: tuple[int, ...]

    @property
    def is_empty(self) -> bool:
        """Nothing beyond what the kernel gives every port."""
        return not self.native and not self.tagged


NO_VLANS = PortVlans(native=0, tagged=())


def validate_vlan(vlan: int) -> None:
    """Refuse a ``vlan`` outside 0..4094; 0 means none."""
    if not 0 <= vlan <= HIGHEST:
        raise ConfigError(
            "", f"invalid VLAN ID {vlan} (must be between 0 and 4094)", f"vlan: got {vlan}"
        )


def trunk_vids(entries: tuple[TrunkEntry, ...]) -> tuple[int, ...]:
    """The VLAN ids of ``vlanTrunk``, sorted and unique.

    Raises:
        ConfigError: the reference suite's text, with the JSON path in the details.
    """
    vids: set[int] = set()
    for i, entry in enumerate(entries):
        path = f"vlanTrunk[{i}]"
        if entry.min_id is not None or entry.max_id is not None:
            vids |= _range(entry, path)
        if entry.id is not None:
            _require(entry.id, f"{path}.id", "incorrect trunk id parameter")
            vids.add(entry.id)
    return tuple(sorted(vids))


def _range(entry: TrunkEntry, path: str) -> set[int]:
    both = "minID and maxID should be configured simultaneously"
    if entry.max_id is None or entry.min_id is None:
        missing = "maxID" if entry.max_id is None else "minID"
        raise ConfigError("", f"{both}, {missing} is missing", f"{path}.{missing}: is required")
    _require(entry.min_id, f"{path}.minID", "incorrect trunk minID parameter")
    _require(entry.max_id, f"{path}.maxID", "incorrect trunk maxID parameter")
    if entry.min_id > entry.max_id:
        raise ConfigError(
            "",
            "minID is greater than maxID in trunk parameter",
            f"{path}: {entry.min_id} is greater than {entry.max_id}",
        )
    return set(range(entry.min_id, entry.max_id + 1))


def _require(vid: int, path: str, msg: str) -> None:
    if not LOWEST <= vid <= HIGHEST:
        raise ConfigError("", msg, f"{path}: {vid} is outside {LOWEST}..{HIGHEST}")


def wanted(vlan: int, trunk: tuple[int, ...]) -> PortVlans:
    """What a port carries for ``vlan`` and ``vlanTrunk``: a trunk alone keeps VLAN 1 native."""
    native = vlan or (DEFAULT_VID if trunk else 0)
    return PortVlans(native=native, tagged=tuple(vid for vid in trunk if vid != native))


def runs(vids: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Sorted ids as (first, last) runs, so that a whole range is one request to the kernel."""
    found: list[tuple[int, int]] = []
    for vid in vids:
        if found and found[-1][1] == vid - 1:
            found[-1] = (found[-1][0], vid)
        else:
            found.append((vid, vid))
    return tuple(found)


def program(host: Links, port: Link, vlans: PortVlans, *, preserve_default: bool) -> None:
    """Give a bridge port its VLAN ids, and take away those the kernel gave it by default."""
    if vlans.is_empty:
        return
    if not preserve_default:
        for vlan in port_vlans.carried(host.rtnl, port):
            port_vlans.discard(host.rtnl, port, vlan.vid)
    port_vlans.add_native(host.rtnl, port, vlans.native)
    for first, last in runs(vlans.tagged):
        port_vlans.add_tagged(host.rtnl, port, first, last)


def missing(host: Links, port: Link, vlans: PortVlans) -> list[str]:
    """What CHECK finds wrong with a port's VLAN ids."""
    if vlans.is_empty:
        return []
    carried = {vlan.vid: vlan for vlan in port_vlans.carried(host.rtnl, port)}
    problems = [
        f"{port.name} does not carry VLAN {vid}" for vid in vlans.tagged if vid not in carried
    ]
    native = carried.get(vlans.native)
    if native is None or not native.is_pvid or not native.is_untagged:
        problems.append(f"VLAN {vlans.native} is not native on {port.name}")
    return problems


def gateway_name(bridge: str, vlan: int) -> str:
    """Name of the host's interface in a VLAN of the bridge."""
    return f"{bridge}.{vlan}"


def ensure_gateway_link(ctx: Context, bridge: Link, vlan: int, *, preserve_default: bool) -> Link:
    """The host's interface in a VLAN: a veth pair whose other end is a port of the bridge.

    Shared by all attachments of that VLAN, so it is never removed; one that is only half made is.
    """
    host = ctx.host
    name = gateway_name(bridge.name, vlan)
    found = host.find(name)
    if found is not None:
        return found
    port_name = names.veth(bridge.name, name, "gateway")
    try:
        link = host.add_veth(name, peer=port_name, mtu=bridge.mtu)
    except KernelError as e:
        if e.errno != errno.EEXIST:
            raise
        return host.get(name)  # another ADD was faster
    ctx.undo.push(f"veth {name}", _discard_half_made, ctx, link.index)
    port = host.get_index(link.peer)
    host.set(port, master=bridge, up=True)
    native = PortVlans(native=vlan, tagged=())
    program(host, port, native, preserve_default=preserve_default)
    host.set(link, up=True)
    ctx.plan["made_gateway_link"] = True
    return host.get(name)


def _discard_half_made(ctx: Context, index: int) -> None:
    if not ctx.plan.get("made_gateway_link"):
        ctx.host.discard_index(index)
