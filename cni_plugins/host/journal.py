"""What each attachment owns on this node, one file per attachment and plugin.

``<root>/<network>/<hash of id and ifname>/<plugin>.json``, mode 0600, on tmpfs: written before a
plugin's first side effect, completed after success, removed by DEL.  It makes garbage collection
without a runtime, crash recovery and inspection possible and is never required: what cannot be
read or written is reported through ``warn`` and the call goes on.
"""

from __future__ import annotations

from cni_plugins import jsontext
from cni_plugins.errors import StateError
from cni_plugins.frozen import Frozen, fresh
from cni_plugins.host.store import Store
from cni_plugins.witness import Witness

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

ROOT = "/run/cni-plugins/journal"
SCHEMA = 1
ADDING, LIVE = "adding", "live"


class Record(Frozen):
    """One plugin's entry for one attachment.

    ``env`` holds the CNI_* variables and ``config`` the configuration of the ADD; ``plan`` is what
    the plugin noted about the objects it made, in its own words.
    """

    state: str
    build: str
    witness: Witness
    env: dict[str, str]
    config: dict[str, Any]
    plan: dict[str, Any] = fresh(dict)

    @property
    def container_id(self) -> str:
        """The attachment's container id."""
        return self.env.get("CNI_CONTAINERID", "")

    @property
    def ifname(self) -> str:
        """The attachment's interface name."""
        return self.env.get("CNI_IFNAME", "")


class Journal:
    """The journal of the node.

    Args:
        warn: told of everything that could not be read or written.
        root: directory of the journal.
    """

    def __init__(self, warn: Callable[[str], None], root: str = ROOT) -> None:
        self._store = Store(root)
        self._warn = warn

    def read(self, network: str, attachment: str, plugin: str) -> Record | None:
        """An entry; None when there is none or it cannot be understood."""
        name = _name(network, attachment, plugin)
        try:
            raw = self._store.read(name)
            return None if raw is None else _decode(raw)
        except (StateError, ValueError, RecursionError) as e:
            self._warn(f"journal entry {self._store.path(name)} is ignored: {e}")
            return None

    def write(self, network: str, attachment: str, plugin: str, record: Record) -> None:
        """Write an entry at once."""
        try:
            self._store.replace(_name(network, attachment, plugin), _encode(record))
        except StateError as e:
            self._warn(f"no journal entry was kept: {e}")

    def discard(self, network: str, attachment: str, plugin: str) -> None:
        """Remove an entry, and the folders that it leaves empty."""
        try:
            if self._store.discard(_name(network, attachment, plugin)):
                self._store.discard_directory(f"{network}/{attachment}")
                self._store.discard_directory(network)
        except StateError as e:
            self._warn(f"journal entry stays: {e}")

    def entries(self, network: str, plugin: str) -> Iterator[tuple[str, Record]]:
        """Every entry of a plugin in a network, with the attachment's folder name."""
        for attachment in self._names(network):
            record = self.read(network, attachment, plugin)
            if record is not None:
                yield attachment, record

    def networks(self) -> tuple[str, ...]:
        """The networks that have entries."""
        return self._names("")

    def _names(self, directory: str) -> tuple[str, ...]:
        try:
            return self._store.names(directory)
        except StateError as e:
            self._warn(f"journal: {e}")
            return ()


def _name(network: str, attachment: str, plugin: str) -> str:
    return f"{network}/{attachment}/{plugin}.json"


def _encode(record: Record) -> bytes:
    document = {
        "schema": SCHEMA,
        "build": record.build,
        "state": record.state,
        "witness": record.witness.as_json(),
        "env": record.env,
        "config": record.config,
        "plan": record.plan,
    }
    return jsontext.dumps(document).encode("utf-8", "surrogateescape")


def _decode(raw: bytes) -> Record:
    document = jsontext.loads(raw)
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise ValueError(f"its schema is not {SCHEMA}")
    parts = [document.get(name) for name in ("env", "config", "plan")]
    if not all(isinstance(part, dict) for part in parts):
        raise ValueError("it is incomplete")
    env, config, plan = parts
    return Record(
        state=str(document.get("state")),
        build=str(document.get("build")),
        witness=Witness.from_json(document.get("witness")),
        env={str(k): str(v) for k, v in env.items()},  # type: ignore[union-attr]
        config=config,  # type: ignore[arg-type]
        plan=plan,  # type: ignore[arg-type]
    )
