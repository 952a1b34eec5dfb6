"""Our own records beside the lease folders: who has what, and which addresses are free.

``<dataDir>/.cni-plugins/<network>/``:

- ``header.json``: the boot in which it was last used, and the lease folder's time of change;
- ``owners/<attachment>.json``: the addresses and the witness of an attachment;
- ``foreign``: a line for each attachment that another suite added, as the last rebuild found it;
- ``used/<family>-<block>``: a bit for each of 65,536 addresses, set when the address is leased.

An index, never the truth: that is the lease files.  It may call a leased address free (a crash
between the two), which the lease file then corrects, and it is rebuilt when the lease folder was
changed by anybody else.  So ADD and DEL cost the same with ten leases and with sixty thousand.
"""

from __future__ import annotations

from cni_plugins import jsontext
from cni_plugins.frozen import Frozen, fresh
from cni_plugins.protocol import names
from cni_plugins.protocol.addresses import Address, parse_address
from cni_plugins.witness import Witness

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_plugins.host.store import Store
    from host_local_ipam.ranges import Span

SCHEMA = 1
_HEADER = "header.json"
_FOREIGN = "foreign"
_BLOCK_BITS = 16
_BLOCK_BYTES = (1 << _BLOCK_BITS) // 8


class Owner(Frozen):
    """An attachment with leases; ``suspected`` is when its namespace was first not found.

    Leases that the reference suite wrote have an empty witness; its oldest ones know no ifname.
    """

    container_id: str
    ifname: str
    ips: tuple[Address, ...] = ()
    witness: Witness = fresh(Witness)
    suspected: float = 0.0


class Header(Frozen, kw_only=False):
    """When the index was last known to agree with the lease folder."""

    boot_id: str
    mtime_ns: int


class Index:
    """The index of one network; to be used under the network's lock."""

    def __init__(self, store: Store, network: str) -> None:
        self._store = store
        self._network = network
        self._blocks: dict[str, bytes | None] = {}

    def header(self) -> Header | None:
        """The header; None when there is no usable index."""
        document = self._read_json(_HEADER)
        if document.get("schema") != SCHEMA:
            return None
        return Header(str(document.get("boot_id")), int(document.get("mtime_ns", 0)))

    def write_header(self, header: Header) -> None:
        """Note that the index agrees with the lease folder."""
        document = {"schema": SCHEMA, "boot_id": header.boot_id, "mtime_ns": header.mtime_ns}
        self._store.replace(_HEADER, jsontext.dumps(document).encode())

    def invalidate(self) -> None:
        """Have it rebuilt the next time."""
        self._store.discard(_HEADER)

    def clear(self) -> None:
        """Forget everything but the witnesses, which a rebuild cannot find anywhere else."""
        self.invalidate()
        self._store.discard_files("used")
        self._blocks.clear()

    # --- owners --------------------------------------------------------------------------------

    def owner(self, container_id: str, ifname: str) -> Owner | None:
        """The record of an attachment, its own one or a line among the foreign ones."""
        own = self._read_owner(self._owner_name(container_id, ifname))
        return own or self._find_foreign(names.attachment(self._network, container_id, ifname))

    def owners(self) -> list[Owner]:
        """All records of our own."""
        found = (self._read_owner(f"owners/{name}") for name in self._store.names("owners"))
        return [owner for owner in found if owner is not None]

    def foreign(self) -> list[Owner]:
        """All lines; what they tell of may have gone since."""
        content = self._store.read(_FOREIGN) or b""
        return [_parse_foreign(line) for line in content.splitlines()]

    def write_foreign(self, owners: list[Owner]) -> None:
        """Write all lines; one file, because writing sixty thousand takes ten seconds."""
        lines = [
            jsontext.dumps(
                [
                    names.attachment(self._network, owner.container_id, owner.ifname),
                    owner.container_id,
                    owner.ifname,
                    [str(ip) for ip in owner.ips],
                ]
            )
            for owner in owners
        ]
        if lines:
            self._store.replace(_FOREIGN, "\n".join(lines).encode())
        else:
            self._store.discard(_FOREIGN)

    def _find_foreign(self, attachment: str) -> Owner | None:
        content = self._store.read(_FOREIGN) or b""
        start = content.find(f'["{attachment}", '.encode())
        return _parse_foreign(content[start:].split(b"\n", 1)[0]) if start >= 0 else None

    def write_owner(self, owner: Owner) -> None:
        """Write a record."""
        document = {
            "id": owner.container_id,
            "ifname": owner.ifname,
            "ips": [str(ip) for ip in owner.ips],
            "witness": owner.witness.as_json(),
            "suspected": owner.suspected,
        }
        name = self._owner_name(owner.container_id, owner.ifname)
        self._store.replace(name, jsontext.dumps(document).encode())

    def discard_owner(self, container_id: str, ifname: str) -> None:
        """Remove a record."""
        self._store.discard(self._owner_name(container_id, ifname))

    def _owner_name(self, container_id: str, ifname: str) -> str:
        return f"owners/{names.attachment(self._network, container_id, ifname)}.json"

    def _read_owner(self, name: str) -> Owner | None:
        document = self._read_json(name)
        try:
            return Owner(
                container_id=str(document["id"]),
                ifname=str(document["ifname"]),
                ips=tuple(parse_address(ip) for ip in document["ips"]),
                witness=Witness.from_json(document.get("witness")),
                suspected=float(document.get("suspected", 0.0)),
            )
        except (KeyError, TypeError, ValueError):
            return None

    def _read_json(self, name: str) -> dict[str, Any]:
        """A file's object; {} for whatever cannot be understood."""
        raw = self._store.read(name)
        try:
            document = jsontext.loads(raw) if raw else {}
        except ValueError:
            return {}
        return document if isinstance(document, dict) else {}

    # --- used addresses ------------------------------------------------------------------------

    def mark(self, address: Address, *, used: bool) -> None:
        """Note that an address is leased, or no longer."""
        name, bit = _place(address)
        block = self._block(name) or bytes(_BLOCK_BYTES)
        old = block[bit // 8]
        new = old | 1 << bit % 8 if used else old & ~(1 << bit % 8)
        if new != old:
            self._store.patch(name, bit // 8, bytes([new]))
            self._blocks[name] = block[: bit // 8] + bytes([new]) + block[bit // 8 + 1 :]

    def mark_all(self, addresses: list[Address]) -> None:
        """Note many addresses at once as leased, in an index that was cleared."""
        blocks: dict[str, bytearray] = {}
        for address in addresses:
            name, bit = _place(address)
            blocks.setdefault(name, bytearray(_BLOCK_BYTES))[bit // 8] |= 1 << bit % 8
        for name, content in blocks.items():
            self._store.replace(name, bytes(content))
        self._blocks.clear()

    def first_free(self, span: Span) -> Address | None:
        """The lowest address of a span that is not noted as leased."""
        family, value, last = span.first.family, span.first.value, span.last.value
        while value <= last:
            name, bit = _place(Address(family, value))
            block = self._block(name)
            if block is None:
                return Address(family, value)
            free = ~int.from_bytes(block, "little") >> bit
            room = (1 << _BLOCK_BITS) - bit
            free &= (1 << min(room, last - value + 1)) - 1
            if free:
                return Address(family, value + (free & -free).bit_length() - 1)
            value += room
        return None

    def _block(self, name: str) -> bytes | None:
        if name not in self._blocks:
            content = self._store.read(name)
            self._blocks[name] = content.ljust(_BLOCK_BYTES, b"\0") if content else None
        return self._blocks[name]


def _parse_foreign(line: bytes) -> Owner:
    _, container_id, ifname, ips = jsontext.loads(line)
    return Owner(
        container_id=container_id, ifname=ifname, ips=tuple(parse_address(ip) for ip in ips)
    )


def _place(address: Address) -> tuple[str, int]:
    """The file and the bit of an address."""
    block = address.value >> _BLOCK_BITS
    return f"used/{address.family}-{block:x}", address.value & ((1 << _BLOCK_BITS) - 1)
