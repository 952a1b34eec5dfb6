"""Queueing disciplines and redirections of links.

Source: tc(8), tc-tbf(8), tc-u32(8), tc-mirred(8); linux/pkt_sched.h.
"""

from __future__ import annotations

import errno
import struct
from _socket import htons

from cni_plugins.errors import KernelError
from cni_plugins.frozen import Frozen, replace
from cni_plugins.host import files
from cni_plugins.host.links import random_mac
from cni_plugins.host.messages import IFLA_IFALIAS, IFLA_TXQLEN
from cni_plugins.host.netlink import (
    CREATE,
    ECHO,
    EXCLUSIVE,
    REPLACE,
    attribute,
    attributes,
    each,
    nested,
    number_of,
    text,
    text_of,
    u32,
    u64,
)
from cni_plugins.host.rtnl import (
    DEL_FILTER,
    DEL_QDISC,
    GET_FILTER,
    GET_QDISC,
    NEW_FILTER,
    NEW_QDISC,
)
from cni_plugins.undo import Undo

TYPE_CHECKING = False
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
_ALL_PROTOCOLS = htons(0x0003)
"""ETH_P_ALL."""
_BIGGEST_U32 = 2**32 - 1

_HEADER = struct.Struct("=BxxxiIII")
"""struct tcmsg: family, index, handle, parent, info."""
_TBF = struct.Struct("=8xI12xIII")
"""struct tc_tbf_qopt: rate, limit, buffer, mtu; neither peak rate nor link layer."""
_U32_SELECTOR = struct.Struct("=BBBxHHhhI")
"""struct tc_u32_sel: flags, …, number of keys, …"""
_U32_KEY = struct.Struct("=IIii")
"""struct tc_u32_key: mask, value, offset, mask of the offset."""
_MIRRED = struct.Struct("=IIiiiiI")
"""struct tc_mirred: …, action, …, action of mirred, index of the target."""
_KIND, _OPTIONS = 1, 2
_TBF_PARAMETERS, _TBF_RATE64 = 1, 4
_U32_CLASSID, _U32_SEL, _U32_ACTIONS = 1, 5, 7
_ACTION_KIND, _ACTION_OPTIONS, _MIRRED_PARAMETERS = 1, 2, 2
_TERMINAL, _STOLEN, _EGRESS_REDIRECT = 1, 4, 1


class Tbf(Frozen, kw_only=False):
    """A token bucket as the kernel takes it.

    ``rate`` in bytes a second, ``limit`` in bytes, ``buffer`` in ticks of :func:`ticks`.
    """

    rate: int
    limit: int
    buffer: int


class Qdisc(Frozen, kw_only=False):
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


class Redirect(Frozen, kw_only=False):
    """A filter that sends every incoming packet to another link; ``target`` is its index."""

    parent: int
    info: int
    handle: int
    target: int


def ticks(microseconds: int) -> int:
    """Microseconds in the scheduler's unit.

    Source: /proc/net/psched: ticks a microsecond, as ns per µs over ns per tick, and the clock.
    """
    words = files.read("/proc/net/psched").split()
    us_in_ns, tick_in_ns, resolution = (int(word, 16) for word in words[:3])
    return microseconds * us_in_ns * resolution // (tick_in_ns * 1_000_000)


def add_ifb(host: Links, name: str, *, mtu: int, alias: str) -> Link:
    """An intermediate functional block device, up: what is redirected to it can be shaped.

    Source: tc-mirred(8).
    """
    queue = u32(IFLA_TXQLEN, 0)
    host.add(name, "ifb", b"", queue, mtu=mtu, mac=random_mac(), flags=_IFF_UP)
    with Undo() as undo:
        undo.push(f"ifb {name}", host.discard_name, name)
        ifb = host.get(name)
        what = f"name the owner of {name}"  # the kernel takes no alias at creation
        host.change(what, ifb.index, attribute(IFLA_IFALIAS, alias.encode()))
        return replace(ifb, alias=alias)


def root(rtnl: Rtnl, link: Link) -> Qdisc | None:
    """The queueing discipline through which a link's packets leave; None for none."""
    return _qdisc_at(rtnl, link, _ROOT)


def _qdisc_at(rtnl: Rtnl, link: Link, parent: int) -> Qdisc | None:
    """The one at a place of a link: asked for alone, since a listing has those of all links."""
    body = _HEADER.pack(0, link.index, 0, parent, 0)
    try:
        # the kernel tells its listeners; ECHO makes us one
        found = rtnl.request(f"find qdisc of {link.name}", GET_QDISC, body, flags=ECHO)
    except KernelError as e:
        if e.errno in {errno.ENOENT, errno.ENODEV}:  # the link may have gone meanwhile
            return None
        raise
    return _qdisc(found[0]) if found else None


def _qdisc(message: bytes) -> Qdisc:
    _, _, handle, parent, _ = _HEADER.unpack_from(message)
    found = attributes(message, _HEADER.size)
    kind = text_of(found.get(_KIND))
    tbf = None
    if kind == "tbf":
        options = attributes(found.get(_OPTIONS, b""))
        rate, limit, buffer, _ = _TBF.unpack(options[_TBF_PARAMETERS])
        tbf = Tbf(number_of(options.get(_TBF_RATE64)) or rate, limit, buffer)
    return Qdisc(kind, handle, parent, tbf)


def set_tbf(rtnl: Rtnl, link: Link, tbf: Tbf) -> None:
    """Limit what leaves through a link; its root of this kind is changed if there is one."""
    options = attribute(
        _TBF_PARAMETERS, _TBF.pack(min(tbf.rate, _BIGGEST_U32), tbf.limit, tbf.buffer, 0)
    )
    if tbf.rate > _BIGGEST_U32:
        options += u64(_TBF_RATE64, tbf.rate)
    rtnl.request(
        f"set tbf of {link.name}",
        NEW_QDISC,
        _HEADER.pack(0, link.index, ROOT_HANDLE, _ROOT, 0)
        + text(_KIND, "tbf")
        + nested(_OPTIONS, options),
        flags=CREATE | REPLACE,
    )


def discard_tbf(rtnl: Rtnl, link: Link) -> None:
    """Take away a root that this suite or the reference made; others' stay."""
    found = root(rtnl, link)
    if found is not None and found.is_ours:
        _discard(rtnl, f"tbf of {link.name}", DEL_QDISC, _HEADER.pack(0, link.index, 0, _ROOT, 0))


def ensure_ingress(rtnl: Rtnl, link: Link) -> tuple[int, bool]:
    """Where filters for incoming packets go: a parent's handle, and whether it was made here.

    Another program's ingress or clsact discipline serves as well; there can only be one.
    """
    found = _ingress(rtnl, link)
    if found:
        return found, False
    rtnl.request(
        f"add ingress qdisc to {link.name}",
        NEW_QDISC,
        _ingress_message(link),
        flags=CREATE | EXCLUSIVE,
    )
    return INGRESS_HANDLE, True


def _ingress(rtnl: Rtnl, link: Link) -> int:
    found = _qdisc_at(rtnl, link, _INGRESS_PARENT)
    if found is None:
        return 0
    return _CLSACT_INGRESS if found.kind == "clsact" else INGRESS_HANDLE


def _ingress_message(link: Link) -> bytes:
    header = _HEADER.pack(0, link.index, INGRESS_HANDLE, _INGRESS_PARENT, 0)
    return header + text(_KIND, "ingress")


def redirect(rtnl: Rtnl, link: Link, parent: int, target: Link, *, priority: int) -> None:
    """Send every packet that comes in on a link out through another one.

    Args:
        rtnl: the handle.
        link: where packets come in.
        parent: of :func:`ensure_ingress`.
        target: where they go out.
        priority: of the filter; 0 leaves it to the kernel.
    """
    parameters = _MIRRED.pack(0, 0, _STOLEN, 0, 0, _EGRESS_REDIRECT, target.index)
    action = nested(
        1,
        text(_ACTION_KIND, "mirred"),
        nested(_ACTION_OPTIONS, attribute(_MIRRED_PARAMETERS, parameters)),
    )
    every_packet = _U32_SELECTOR.pack(_TERMINAL, 0, 1, 0, 0, 0, 0, 0) + _U32_KEY.pack(0, 0, 0, 0)
    options = nested(
        _OPTIONS,
        u32(_U32_CLASSID, _CLASSID),
        attribute(_U32_SEL, every_packet),
        nested(_U32_ACTIONS, action),
    )
    header = _HEADER.pack(0, link.index, 0, parent, priority << 16 | _ALL_PROTOCOLS)
    rtnl.request(
        f"redirect {link.name} to {target.name}",
        NEW_FILTER,
        header + text(_KIND, "u32") + options,
        flags=CREATE | EXCLUSIVE,
    )


def redirects(rtnl: Rtnl, link: Link) -> tuple[Redirect, ...]:
    """The redirections of a link's incoming packets."""
    parent = _ingress(rtnl, link)
    if not parent:
        return ()
    found = []
    for message in _filters(rtnl, link, parent):
        _, _, handle, _, info = _HEADER.unpack_from(message)
        target = _target(message)
        if target is not None:
            found.append(Redirect(parent, info, handle, target))
    return tuple(found)


def _filters(rtnl: Rtnl, link: Link, parent: int) -> list[bytes]:
    body = _HEADER.pack(0, link.index, 0, parent, 0)
    return rtnl.dump(f"list filters of {link.name}", GET_FILTER, body)


def _target(message: bytes) -> int | None:
    found = attributes(message, _HEADER.size)
    if text_of(found.get(_KIND)) != "u32":
        return None
    actions = attributes(found.get(_OPTIONS, b"")).get(_U32_ACTIONS, b"")
    for _, value in each(actions):
        action = attributes(value)
        if text_of(action.get(_ACTION_KIND)) == "mirred":
            parameters = attributes(action.get(_ACTION_OPTIONS, b"")).get(_MIRRED_PARAMETERS, b"")
            return int(_MIRRED.unpack_from(parameters)[-1])
    return None


def discard_redirect(rtnl: Rtnl, link: Link, entry: Redirect) -> None:
    """Take a redirection away."""
    header = _HEADER.pack(0, link.index, entry.handle, entry.parent, entry.info)
    _discard(rtnl, f"redirection of {link.name}", DEL_FILTER, header + text(_KIND, "u32"))


def discard_ingress(rtnl: Rtnl, link: Link) -> None:
    """Take an ingress discipline away that has no filters left; a clsact is somebody else's."""
    if _ingress(rtnl, link) != INGRESS_HANDLE:
        return
    if not _filters(rtnl, link, INGRESS_HANDLE):
        _discard(rtnl, f"ingress qdisc of {link.name}", DEL_QDISC, _ingress_message(link))


def _discard(rtnl: Rtnl, what: str, kind: int, body: bytes) -> None:
    try:
        rtnl.request(f"delete {what}", kind, body)
    except KernelError as e:
        if e.errno not in {errno.ENOENT, errno.ENODEV, errno.EINVAL}:
            raise
