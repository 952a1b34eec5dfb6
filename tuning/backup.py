"""The values from before ADD, on disk: for the link as the reference suite writes them.

``<dataDir>/<container id>_<ifname>.json`` has the link's attributes, the same with ``.sysctl``
before the ending the settings, which the reference does not keep.
"""

from __future__ import annotations

from cni_plugins import jsontext
from cni_plugins.host.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_plugins.host.snapshots import Link
    from tuning.conf import Settings

LINK, SYSCTL = "", ".sysctl"


class Backup:
    """The backup of one attachment."""

    def __init__(self, data_dir: str, container_id: str, ifname: str) -> None:
        self._store = Store(data_dir)
        self._stem = f"{container_id}_{ifname}"

    def keep(self, part: str, values: dict[str, Any]) -> None:
        """Write values; those of an earlier ADD whose DEL never came are older, and stay."""
        if values:
            merged = {**values, **self.read(part)}
            self._store.replace(self._name(part), jsontext.dumps(merged, indent=1).encode())

    def read(self, part: str) -> dict[str, Any]:
        """The values; none when there is no file, or none that can be understood."""
        raw = self._store.read(self._name(part))
        try:
            document = jsontext.loads(raw) if raw else {}
        except ValueError:
            return {}
        return document if isinstance(document, dict) else {}

    def discard(self) -> None:
        """Forget everything."""
        for part in (LINK, SYSCTL):
            self._store.discard(self._name(part))

    def _name(self, part: str) -> str:
        return f"{self._stem}{part}.json"


def of_link(link: Link, wanted: Settings) -> dict[str, Any]:
    """What the backup file has of a link: the attributes that are about to change."""
    values: dict[str, Any] = {}
    if wanted.mac:
        values["mac"] = link.mac
    if wanted.promisc:
        values["promisc"] = link.promiscuity != 0
    if wanted.mtu:
        values["mtu"] = link.mtu
    if wanted.allmulti is not None:
        values["allmulti"] = link.is_allmulti
    if wanted.tx_queue_len is not None:
        values["txQLen"] = link.tx_queue_len
    return values
