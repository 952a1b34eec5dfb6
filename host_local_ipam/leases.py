"""The leases of one network on disk, in the reference suite's format to the byte.

``<dataDir>/<network>/``: ``lock`` (always empty, flock), ``<ip>`` (container id, CR LF, ifname),
``last_reserved_ip.<set>`` (the address given last).  Either suite may work in the same folder at
the same time.
"""

from __future__ import annotations

from cni_plugins.errors import StateError
from cni_plugins.frozen import replace
from cni_plugins.host.store import Store
from cni_plugins.protocol.addresses import Address, parse_address
from cni_plugins.scopes import contextmanager, suppress
from cni_plugins.undo import Undo
from host_local_ipam import ranges
from host_local_ipam.index import Header, Index, Owner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_plugins.deadline import Deadline
    from cni_plugins.liveness import Liveness
    from host_local_ipam.ranges import Range, RangeSet

LOCK = "lock"
_LOCK_MODE = 0o750
_SEPARATOR = "\r\n"
_LAST = "last_reserved_ip."


class Leases:
    """The leases of a network; all but ``holds``, ``exists`` and ``problem`` need the lock."""

    def __init__(self, data_dir: str, network: str, liveness: Liveness) -> None:
        own = f"{data_dir}/.cni-plugins/{network}"
        self._store = Store(f"{data_dir}/{network}", scratch=own)
        self._index = Index(Store(own), network)
        self._liveness = liveness
        self.is_first_of_boot = False
        """Within the lock: nobody of ours has been here since the node started."""

    @property
    def path(self) -> str:
        """The lease folder."""
        return self._store.root

    @property
    def exists(self) -> bool:
        """Whether anything was ever leased in this network."""
        return self._store.mtime_ns() is not None

    def problem(self) -> str:
        """Why no lease could be written, "" when it could."""
        return self._store.problem()

    def holds(self, address: Address, container_id: str, ifname: str) -> bool:
        """Whether the lease file of an address names the attachment, or its container alone."""
        return self._content(address) in {_content(container_id, ifname), _content(container_id)}

    @contextmanager
    def locked(self, deadline: Deadline) -> Iterator[None]:
        """Hold the network's lock; the index agrees with the folder within and behind the block.

        Raises:
            Busy: the deadline passed; the message names the holder.
        """
        with self._store.locked(LOCK, deadline, mode=_LOCK_MODE):
            header = self._index.header()
            self.is_first_of_boot = header is None or header.boot_id != self._liveness.boot_id
            if header is None or header.mtime_ns != self._store.mtime_ns():
                self._rebuild()
            try:
                yield
            finally:
                self._settle(header)

    def _settle(self, header: Header | None) -> None:
        """Note that the index agrees with the folder; where that fails, it is rebuilt next time."""
        now = Header(self._liveness.boot_id, self._store.mtime_ns() or 0)
        if now != header:
            with suppress(StateError):
                self._index.write_header(now)

    # --- who has what --------------------------------------------------------------------------

    def owner(self, container_id: str, ifname: str) -> Owner | None:
        """An attachment with leases; else one that only its container's id names."""
        for name in dict.fromkeys((ifname, "")):
            found = self._index.owner(container_id, name)
            if found is not None and (found.witness.boot_id or self._has_any(found)):
                return found
        return None

    def owners(self) -> list[Owner]:
        """Every attachment with leases."""
        return self._index.owners() + list(filter(self._has_any, self._index.foreign()))

    def _has_any(self, owner: Owner) -> bool:
        return any(self.holds(ip, owner.container_id, owner.ifname) for ip in owner.ips)

    def remember(self, owner: Owner) -> None:
        """Write down who has what."""
        self._index.write_owner(owner)

    def changed_at(self, owner: Owner) -> float:
        """When the newest lease of an attachment was written, seconds since the epoch."""
        return max((self._store.mtime_ns(str(ip)) or 0 for ip in owner.ips), default=0) / 1e9

    def release(self, owner: Owner) -> None:
        """Give back every lease that is still the attachment's."""
        for address in owner.ips:
            self.give_back(address, owner.container_id, owner.ifname)
        self._index.discard_owner(owner.container_id, owner.ifname)

    def sweep(self, container_id: str, ifname: str, deadline: Deadline) -> None:
        """Give back an attachment's leases without the index, which is rebuilt next time."""
        with self._store.locked(LOCK, deadline, mode=_LOCK_MODE):
            self._index.invalidate()
            for name in self._store.names():
                address = _address(name)
                if address is not None and self.holds(address, container_id, ifname):
                    self._store.discard(name)
            self._index.discard_owner(container_id, ifname)

    # --- addresses -----------------------------------------------------------------------------

    def take(self, address: Address, container_id: str, ifname: str) -> bool:
        """Lease an address; False when somebody has it.

        A lease file without content is what a crash of the reference leaves; it counts as free
        unless a namespace has its address.
        """
        content = _content(container_id, ifname)
        for _ in range(2):
            if self._store.create(str(address), content):
                with Undo() as undo:
                    undo.push(f"lease {address}", self._store.discard, str(address))
                    self._index.mark(address, used=True)
                return True
            if self._content(address) or address in self._liveness.addresses:
                break
            self._store.discard(str(address))
        self._index.mark(address, used=True)
        return False

    def give_back(self, address: Address, container_id: str, ifname: str) -> None:
        """End a lease if it is this attachment's."""
        if self.holds(address, container_id, ifname):
            self._index.mark(address, used=False)  # before: see the index's crash rule
            self._store.discard(str(address))

    def candidates(self, pool: RangeSet, index: int) -> Iterator[tuple[Address, Range]]:
        """Free addresses of a range set, round robin from the one given last."""
        for entry, stretch in ranges.pieces(pool, self._last(index)):
            for span in ranges.allowed(entry, stretch):
                while (address := self._index.first_free(span)) is not None:
                    yield address, entry
                    if address == span.last:
                        break
                    span = ranges.Span(address + 1, span.last)  # noqa: PLW2901

    def is_full(self, pool: RangeSet) -> bool:
        """Whether a set has no free address, as far as the index knows; needs no lock."""
        spans = (span for entry in pool for span in ranges.allowed(entry, entry.span))
        return all(self._index.first_free(span) is None for span in spans)

    def note_last(self, index: int, address: Address) -> None:
        """Remember the address given last from a set."""
        self._store.replace(f"{_LAST}{index}", str(address).encode())

    def _last(self, index: int) -> Address | None:
        content = self._store.read(f"{_LAST}{index}") or b""
        try:
            return parse_address(content.decode("ascii", "replace"))
        except ValueError:
            return None

    def _content(self, address: Address) -> bytes:
        return (self._store.read(str(address)) or b"").strip()

    # --- the index -----------------------------------------------------------------------------

    def _rebuild(self) -> None:
        """Read every lease once: another suite wrote here, or the index was lost."""
        self._index.clear()
        found: dict[tuple[str, str], tuple[Address, ...]] = {}
        for name in self._store.names():
            address = _address(name)
            content = self._content(address) if address is not None else b""
            if address is not None and content:
                holder = _parse(content)
                found[holder] = (*found.get(holder, ()), address)
        known = {(owner.container_id, owner.ifname): owner for owner in self._index.owners()}
        for holder in known.keys() - found.keys():
            owner = known[holder]
            self._index.discard_owner(owner.container_id, owner.ifname)
        for holder in known.keys() & found.keys():
            if known[holder].ips != found[holder]:
                self._index.write_owner(replace(known[holder], ips=found[holder]))
        foreign = found.keys() - known.keys()
        self._index.write_foreign(
            [Owner(container_id=h[0], ifname=h[1], ips=found[h]) for h in foreign]
        )
        self._index.mark_all([ip for ips in found.values() for ip in ips])


def _content(container_id: str, ifname: str = "") -> bytes:
    """A lease file's content; the oldest releases of the reference wrote the id alone."""
    text = f"{container_id.strip()}{_SEPARATOR}{ifname}" if ifname else container_id.strip()
    return text.encode("utf-8", "surrogateescape")


def _parse(content: bytes) -> tuple[str, str]:
    container_id, _, ifname = content.decode("utf-8", "surrogateescape").partition(_SEPARATOR)
    return container_id, ifname


def _address(name: str) -> Address | None:
    try:
        return parse_address(name)
    except ValueError:
        return None
