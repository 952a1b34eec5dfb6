"""What the devices that are away were like at home: name, MAC address, MTU, state, alias.

``/var/lib/cni/host-device/<attachment>.json``, written before a device moves and kept until it is
back as it was, over a power failure too: the journal may be lost, this may not.
"""

from __future__ import annotations

from cni_plugins import jsontext
from cni_plugins.errors import StateError
from cni_plugins.host.store import Store
from cni_plugins.protocol import names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_plugins.context import Context

ROOT = "/var/lib/cni/host-device"
_SUFFIX = ".json"


def keep(ctx: Context, noted: dict[str, Any]) -> None:
    """Write down what a device is like.

    Raises:
        StateError: the file system refuses.
    """
    whose = {"network": ctx.network, "container_id": ctx.container_id, "ifname": ctx.ifname}
    content = jsontext.dumps({**whose, "device": noted}).encode()
    Store(ROOT).replace(ctx.attachment + _SUFFIX, content, durable=True)


def find(ctx: Context) -> dict[str, Any]:
    """What is written of this attachment's device; empty when nothing is."""
    found = _read(ctx, ctx.attachment + _SUFFIX).get("device")
    return found if isinstance(found, dict) else {}


def forget(ctx: Context) -> None:
    """The device is home."""
    Store(ROOT).discard(ctx.attachment + _SUFFIX)
    Store(ROOT).discard_directory()


def invalid(ctx: Context) -> list[tuple[str, str]]:
    """Container id and ifname of this network's attachments that GC takes."""
    assert ctx.valid is not None
    keep_ = ctx.valid | ctx.journalled
    kept = {names.attachment(ctx.network, *attachment) for attachment in keep_}
    found = []
    for name in Store(ROOT).names():
        entry = _read(ctx, name)
        is_ours = entry.get("network") == ctx.network
        if is_ours and name.removesuffix(_SUFFIX) not in kept:
            found.append((str(entry.get("container_id")), str(entry.get("ifname"))))
    return found


def _read(ctx: Context, name: str) -> dict[str, Any]:
    try:
        raw = Store(ROOT).read(name)
        entry = jsontext.loads(raw) if raw else {}
    except (StateError, ValueError) as e:
        ctx.warn(f"{ROOT}/{name} is ignored: {e}")
        return {}
    return entry if isinstance(entry, dict) else {}
