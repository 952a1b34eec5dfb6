"""The few requests about links that everything else consists of, in one network namespace.

Names of verbs: ``find_x`` may return None, ``get_x`` raises, ``discard_x`` succeeds when the object
is gone already.

Source: rtnetlink(7).
"""

from __future__ import annotations

import errno

from cni_plugins.errors import KernelError
from cni_plugins.host import messages, rtnl
from cni_plugins.host.netlink import CREATE, EXCLUSIVE, nested, text, u32
from cni_plugins.host.rtnl import GROUP_LINK, Events, Rtnl, kernel_error
from cni_plugins.host.snapshots import read_link, route_table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self, TypeVar

    from cni_plugins.background import Background
    from cni_plugins.host.netns import NetNS
    from cni_plugins.host.snapshots import Link

    T = TypeVar("T")

DELETE_LIMIT_S = 60.0
"""As long as a call may take."""


class LinkRequests:
    """One rtnetlink handle; every method raises KernelError for what the kernel refuses.

    ``rtnl`` is the handle, for the adapters beside this one that work in the same namespace.
    """

    def __init__(self, rtnl: Rtnl) -> None:
        self.rtnl = rtnl
        self._netns: NetNS | None = None
        self._background: Background | None = None

    @classmethod
    def open(cls, netns: NetNS | None = None, *, background: Background | None = None) -> Self:
        """A handle in the namespace of the calling thread, or in ``netns``.

        With ``background`` the memory of links that are deleted is freed there.
        """
        links = cls(_in_namespace(netns, Rtnl))
        links._netns = netns
        links._background = background
        return links

    def close(self) -> None:
        """Close the handle."""
        self.rtnl.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    # --- links ---------------------------------------------------------------------------------

    def find(self, name: str) -> Link | None:
        """The link of that name."""
        return self._find(f"find link {name}", 0, name)

    def find_index(self, index: int) -> Link | None:
        """The link of that index."""
        return self._find(f"find link {index}", index)

    def get(self, name: str) -> Link:
        """The link of that name, which must exist."""
        link = self.find(name)
        if link is None:
            raise kernel_error(f"find link {name}", errno.ENODEV, "no such link")
        return link

    def get_index(self, index: int) -> Link:
        """The link of that index, which must exist."""
        link = self.find_index(index)
        if link is None:
            raise kernel_error(f"find link number {index}", errno.ENODEV, "no such link")
        return link

    def _find(self, what: str, index: int, name: str = "") -> Link | None:
        named = text(messages.IFLA_IFNAME, name) if name else b""
        try:
            found = self.rtnl.request(
                what, rtnl.GET_LINK, messages.link_message(index, named, messages.SKIP_STATISTICS)
            )
        except KernelError as e:
            if e.errno == errno.ENODEV:
                return None
            raise
        return read_link(found[0]) if found else None

    def add(  # noqa: PLR0913 - what one request says
        self,
        name: str,
        kind: str,
        data: bytes = b"",
        *more: bytes,
        what: str = "",
        mtu: int = 0,
        mac: str = "",
        flags: int = 0,
    ) -> None:
        """Make a link.

        Args:
            name: its name.
            kind: as ip-link(8) calls it.
            data: the kind's own attributes.
            more: further attributes of the link.
            what: "verb object" for the error.
            mtu: bytes, 0 for the kernel's choice.
            mac: MAC address, "" for the kernel's choice.
            flags: IFF_… to be set.
        """
        own = nested(messages.IFLA_INFO_DATA, data) if data else b""
        info = nested(messages.IFLA_LINKINFO, text(messages.IFLA_INFO_KIND, kind), own)
        body = messages.link_message(
            0,
            text(messages.IFLA_IFNAME, name),
            messages.wanted(mtu=mtu, mac=mac),
            info,
            *more,
            flags=flags,
            change=flags,
        )
        self.rtnl.request(
            what or f"add {kind} {name}", rtnl.NEW_LINK, body, flags=CREATE | EXCLUSIVE
        )

    def change(
        self, what: str, index: int, *attributes: bytes, flags: int = 0, change: int = 0
    ) -> None:
        """Change what is given of a link, in one request."""
        body = messages.link_message(index, *attributes, flags=flags, change=change)
        self.rtnl.request(what, rtnl.NEW_LINK, body)

    def of_kind(self, kind: str) -> tuple[Link, ...]:
        """Every link of a kind."""
        which = nested(messages.IFLA_LINKINFO, text(messages.IFLA_INFO_KIND, kind))
        found = self.every(f"list links of kind {kind}", which)
        return tuple(link for link in found if link.kind == kind)

    def every(self, what: str, which: bytes = b"") -> tuple[Link, ...]:
        """Every link; attributes that the kernel is to choose by may be given."""
        body = messages.link_message(0, which, messages.SKIP_STATISTICS)
        return tuple(map(read_link, self.rtnl.dump(what, rtnl.GET_LINK, body)))

    def discard_index(self, index: int) -> None:
        """Delete a link; it is gone from its namespace when this returns."""
        if self._background is None:
            _delete(self.rtnl, index)
            return
        with self.events_of(GROUP_LINK, DELETE_LIMIT_S) as events:
            handle = _in_namespace(self._netns, Rtnl)  # this one is closed with the call

            def delete() -> None:
                with handle:
                    _delete(handle, index)

            job = self._background.start(delete)
            while not job.is_done and self.find_index(index) is not None:
                events.wait_for(job)
        if job.error is not None:
            raise job.error

    def discard_name(self, name: str) -> None:
        """Delete a link that was just made and whose index is not known yet."""
        body = messages.link_message(0, text(messages.IFLA_IFNAME, name))
        self.rtnl.request(f"delete link {name}", rtnl.DEL_LINK, body)

    def events_of(self, groups: int, limit_s: float) -> Events:
        """Wake-ups for changes in this handle's namespace."""
        return _in_namespace(self._netns, lambda: Events(groups, limit_s))

    def list_routes(self, what: str, family: int, table: int | None) -> list[bytes]:
        """The routes of a table as the kernel tells them; none where there is no such table."""
        body = messages.ROUTE_HEADER.pack(messages.AF[family], *(0,) * 8)
        if table is not None:
            body += u32(messages.RTA_TABLE, table)
        try:
            found = self.rtnl.dump(what, rtnl.GET_ROUTE, body)
        except KernelError as e:
            if e.errno == errno.ENOENT:
                return []
            raise
        return [m for m in found if table is None or route_table(m) == table]


def _in_namespace(netns: NetNS | None, make: Callable[[], T]) -> T:
    """Something that belongs to the namespace in which it is made."""
    if netns is None:
        return make()
    with netns.entered():
        return make()


def _delete(handle: Rtnl, index: int) -> None:
    try:
        handle.request(f"delete link number {index}", rtnl.DEL_LINK, messages.link_message(index))
    except KernelError as e:
        if e.errno != errno.ENODEV:
            raise
