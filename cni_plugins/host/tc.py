"""Queueing disciplines and redirections of links.

Source: tc(8), tc-tbf(8), tc-u32(8), tc-mirred(8); linux/pkt_sched.h.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cni_plugins.errors import KernelError
from cni_plugins.host.links import random_mac
from cni_plugins.undo import Undo

if TYPE_CHECKING:
    from cni_plugins.host.links import Links
    from cni_plugins.host.rtnl import Rtnl
    from cni_plugins.host.snapshots import Link

ROOT_HANDLE = 0x10000
_IFF_UP = 0x1
INGRESS_HANDLE = 0xFFFF0000
_INGRESS_PARENT = 0xFFFFFFF1
_CLSACT_INGRESS = 0xFFFFFFF2
_ROOT = 0xFFFFFFFF
_CLASSID = 0x10001
_ALL_PROTOCOLS = 3
_BIGGEST_U32 = 2**32 - 1
_EVERY_PACKET = "0x0/0x0+0"


@dataclass(frozen=True, slots=True)
class Tbf:
    """A token bucket as the kernel takes it.

    ``rate`` in bytes a second, ``limit`` in bytes, ``buffer`` in ticks of :func:`ticks`.
    """

    rate: int
    limit: int
    buffer: int


@dataclass(frozen=True, slots=True)
class Qdisc:
    """A queueing discipline of a link; ``tbf`` for token buckets only."""

    kind: str
    handle: int
    parent: int
    tbf: Tbf | None = None

    @property
    def is_root(self) -> bool:
        """Whether it is the link's root."""
        return self.parent == _ROOT

    @property
    def is_ours(self) -> bool:
        """Whether it is a root as this suite and the reference make it."""
        return self.is_root and self.kind == "tbf" and self.handle == ROOT_HANDLE


@dataclass(frozen=True, slots=True)
class Redirect:
    """A filter that sends every incoming packet to another link; ``target`` is its index."""

    parent: int
    info: int
    handle: int
    target: int


def ticks(microseconds: int) -> int:
    """Microseconds in the scheduler's unit.

    Source: /proc/net/psched: ticks a microsecond, as ns per µs over ns per tick, and the clock.
    """
    with open("/proc/net/psched", encoding="ascii") as file:
        us_in_ns, tick_in_ns, resolution = (int(word, 16) for word in file.read().split()[:3])
    return microseconds * us_in_ns * resolution // (tick_in_ns * 1_000_000)


def add_ifb(host: Links, name: str, *, mtu: int, alias: str) -> Link:
    """An intermediate functional block device, up: what is redirected to it can be shaped.

    Source: tc-mirred(8).
    """
    host.rtnl.request(
        f"add ifb {name}",
        "link",
        "add",
        ifname=name,
        kind="ifb",
        mtu=mtu,
        txqlen=0,
        address=random_mac(),
        flags=_IFF_UP,
        change=_IFF_UP,
    )
    with Undo() as undo:
        undo.push(f"ifb {name}", host.discard_name, name)
        ifb = host.get(name)
        what = f"name the owner of {name}"  # the kernel takes no alias at creation
        host.rtnl.request(what, "link", "set", index=ifb.index, IFLA_IFALIAS=alias)
        return host.get_index(ifb.index)


def qdiscs(rtnl: Rtnl, link: Link) -> tuple[Qdisc, ...]:
    """Every queueing discipline of a link."""
    found = rtnl.request(f"list qdiscs of {link.name}", "get_qdiscs", index=link.index)
    return tuple(_qdisc(message) for message in found if message["index"] == link.index)


def _qdisc(message: Any) -> Qdisc:
    kind = message.get("TCA_KIND")
    options = message.get("TCA_OPTIONS") if kind == "tbf" else None
    tbf = None
    if options is not None:
        parameters = options.get("TCA_TBF_PARMS")
        rate = options.get("TCA_TBF_RATE64") or parameters["rate"]
        tbf = Tbf(rate, parameters["limit"], parameters["buffer"])
    return Qdisc(kind, message["handle"], message["parent"], tbf)


def set_tbf(rtnl: Rtnl, link: Link, tbf: Tbf) -> None:
    """Limit what leaves through a link; its root of this kind is changed if there is one."""
    parameters = {
        "rate": min(tbf.rate, _BIGGEST_U32),
        "limit": tbf.limit,
        "buffer": tbf.buffer,
    }
    attributes: list[list[Any]] = [["TCA_TBF_PARMS", parameters]]
    if tbf.rate > _BIGGEST_U32:
        attributes.append(["TCA_TBF_RATE64", tbf.rate])
    rtnl.request(
        f"set tbf of {link.name}",
        "tc",
        "replace",
        "tbf",
        index=link.index,
        handle=ROOT_HANDLE,
        tbf=attributes,
    )


def discard_tbf(rtnl: Rtnl, link: Link) -> None:
    """Take away a root that this suite or the reference made; others' stay."""
    if any(qdisc.is_ours for qdisc in qdiscs(rtnl, link)):
        _discard(rtnl, f"tbf of {link.name}", "del", index=link.index, parent=_ROOT)


def ensure_ingress(rtnl: Rtnl, link: Link) -> tuple[int, bool]:
    """Where filters for incoming packets go: a parent's handle, and whether it was made here.

    Another program's ingress or clsact discipline serves as well; there can only be one.
    """
    found = _ingress(rtnl, link)
    if found:
        return found, False
    rtnl.request(
        f"add ingress qdisc to {link.name}",
        "tc",
        "add",
        "ingress",
        index=link.index,
        handle=INGRESS_HANDLE,
        parent=_INGRESS_PARENT,
    )
    return INGRESS_HANDLE, True


def _ingress(rtnl: Rtnl, link: Link) -> int:
    kinds = {qdisc.kind for qdisc in qdiscs(rtnl, link)}
    if "clsact" in kinds:
        return _CLSACT_INGRESS
    return INGRESS_HANDLE if "ingress" in kinds else 0


def redirect(rtnl: Rtnl, link: Link, parent: int, target: Link, *, priority: int) -> None:
    """Send every packet that comes in on a link out through another one.

    Args:
        rtnl: the handle.
        link: where packets come in.
        parent: of :func:`ensure_ingress`.
        target: where they go out.
        priority: of the filter; 0 leaves it to the kernel.
    """
    rtnl.request(
        f"redirect {link.name} to {target.name}",
        "tc",
        "add-filter",
        "u32",
        index=link.index,
        parent=parent,
        prio=priority,
        protocol=_ALL_PROTOCOLS,
        target=_CLASSID,
        keys=[_EVERY_PACKET],
        action=[
            {"kind": "mirred", "direction": "egress", "action": "redirect", "ifindex": target.index}
        ],
    )


def redirects(rtnl: Rtnl, link: Link) -> tuple[Redirect, ...]:
    """The redirections of a link's incoming packets."""
    parent = _ingress(rtnl, link)
    if not parent:
        return ()
    what = f"list filters of {link.name}"
    found = []
    for message in rtnl.request(what, "get_filters", index=link.index, parent=parent):
        target = _target(message)
        if target is not None:
            found.append(Redirect(parent, message["info"], message["handle"], target))
    return tuple(found)


def _target(message: Any) -> int | None:
    options = message.get("TCA_OPTIONS") if message.get("TCA_KIND") == "u32" else None
    actions = options.get("TCA_U32_ACT") if options is not None else None
    if actions is None:
        return None
    for _, action in actions["attrs"]:
        if action.get("TCA_ACT_KIND") == "mirred":
            return int(action.get("TCA_ACT_OPTIONS").get("TCA_MIRRED_PARMS")["ifindex"])
    return None


def discard_redirect(rtnl: Rtnl, link: Link, entry: Redirect) -> None:
    """Take a redirection away."""
    _discard(
        rtnl,
        f"redirection of {link.name}",
        "del-filter",
        "u32",
        index=link.index,
        parent=entry.parent,
        handle=entry.handle,
        prio=entry.info >> 16,
        protocol=_ALL_PROTOCOLS,
        target=_CLASSID,
    )


def discard_ingress(rtnl: Rtnl, link: Link) -> None:
    """Take an ingress discipline away that has no filters left; a clsact is somebody else's."""
    if _ingress(rtnl, link) != INGRESS_HANDLE:
        return
    what = f"list filters of {link.name}"
    if not rtnl.request(what, "get_filters", index=link.index, parent=INGRESS_HANDLE):
        _discard(
            rtnl,
            f"ingress qdisc of {link.name}",
            "del",
            "ingress",
            index=link.index,
            handle=INGRESS_HANDLE,
            parent=_INGRESS_PARENT,
        )


def _discard(rtnl: Rtnl, what: str, *args: Any, **attributes: Any) -> None:
    try:
        rtnl.request(f"delete {what}", "tc", *args, **attributes)
    except KernelError as e:
        if e.errno not in {errno.ENOENT, errno.ENODEV, errno.EINVAL}:
            raise
