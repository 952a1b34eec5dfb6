"""The delegate's configuration of each attachment, from ADD to its DEL.

Where the reference has it, ``<dataDir>/<container id>``, and in a file for each attachment, since a
container may have several: ``<dataDir>/.cni-plugins/<attachment>``.
"""

from __future__ import annotations

from cni_plugins import jsontext
from cni_plugins.host.store import Store
from cni_plugins.protocol import names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_plugins.context import Context

_OWN = ".cni-plugins"


class State:
    """What is kept for one attachment.

    Args:
        ctx: the call.
        data_dir: where.
    """

    def __init__(self, ctx: Context, data_dir: str) -> None:
        self._store = Store(data_dir)
        self._shared = ctx.container_id
        self._own = f"{_OWN}/{ctx.attachment}"
        self._ctx = ctx

    def read(self) -> dict[str, Any] | None:
        """The delegate's configuration; None when there is none that can be understood."""
        for name in (self._own, self._shared):
            raw = self._store.read(name)
            if raw is None:
                continue
            try:
                document = jsontext.loads(raw)
            except ValueError as e:
                self._ctx.warn(f"{self._store.path(name)} is ignored: {e}")
                continue
            if isinstance(document, dict):
                return document
        return None

    def keep(self, document: dict[str, Any]) -> None:
        """Keep a delegate's configuration; another attachment's of the container stays."""
        content = jsontext.dumps(document, sort_keys=True, separators=(",", ":")).encode()
        earlier = self._store.read(self._own)
        self._store.replace(self._own, content, durable=True)
        made = self._store.create(self._shared, content)
        if not made and earlier is not None and self._store.read(self._shared) == earlier:
            self._store.replace(self._shared, content, durable=True)

    def discard(self) -> None:
        """Forget the attachment."""
        own = self._store.read(self._own)
        shared = self._store.read(self._shared)
        if own is None or shared == own:
            self._store.discard(self._shared)
        self._store.discard(self._own)


def collect(ctx: Context, data_dir: str) -> None:
    """Forget the attachments of this network that are not valid any more."""
    assert ctx.valid is not None
    store = Store(data_dir)
    ids = {container_id for container_id, _ in ctx.valid}
    for name in store.names():
        if name not in ids and not name.startswith(".") and _network(store, name) == ctx.network:
            store.discard(name)
    keep = {names.attachment(ctx.network, *attachment) for attachment in ctx.valid}
    for name in store.names(_OWN):
        if name not in keep and _network(store, f"{_OWN}/{name}") == ctx.network:
            store.discard(f"{_OWN}/{name}")


def _network(store: Store, name: str) -> str:
    try:
        document = jsontext.loads(store.read(name) or b"")
    except ValueError:
        return ""
    return str(document.get("name")) if isinstance(document, dict) else ""
