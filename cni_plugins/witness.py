"""What is written down about an attachment so that somebody can later tell whether it is alive.

A pure value; :mod:`cni_plugins.liveness` takes it at ADD and judges it later.
"""

from __future__ import annotations

from cni_plugins.frozen import Frozen, as_dict, fields_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Witness(Frozen):
    """The circumstances of an ADD.

    ``boot_id`` and ``boot_time`` (seconds since the epoch) name the boot; ``netns``, ``netns_dev``,
    ``netns_ino`` and ``netns_cookie`` (0 where the kernel has none) the container's namespace;
    ``net``, ``mnt``, ``pid_ns`` and ``user`` the
    inode numbers of the namespaces the plugin itself stood in; ``link_index`` and ``link_name``
    the host's end, 0 and "" for kinds without one; ``runtime`` the executable that called;
    ``pid`` and ``start`` (clock ticks since boot) the plugin's process; ``created`` seconds since
    the epoch.
    """

    boot_id: str = ""
    boot_time: int = 0
    netns: str = ""
    netns_dev: int = 0
    netns_ino: int = 0
    netns_cookie: int = 0
    net: int = 0
    mnt: int = 0
    pid_ns: int = 0
    user: int = 0
    link_index: int = 0
    link_name: str = ""
    runtime: str = ""
    pid: int = 0
    start: int = 0
    created: float = 0.0

    def is_of(self, dev: int, ino: int, cookie: int) -> bool:
        """Whether a namespace is the container's; cookies count where both are known."""
        is_another = self.netns_cookie and cookie and cookie != self.netns_cookie
        return (dev, ino) == (self.netns_dev, self.netns_ino) and not is_another

    def as_json(self) -> dict[str, Any]:
        """A JSON object of all fields."""
        return as_dict(self)

    @classmethod
    def from_json(cls, document: Any) -> Witness:
        """The witness in a JSON object; what is missing or of another type counts as unknown."""
        known = document if isinstance(document, dict) else {}
        given: dict[str, Any] = {}
        for name, field in fields_of(cls).items():
            value = known.get(name)
            if isinstance(value, type(field.default)) and not isinstance(value, bool):
                given[name] = value
        return cls(**given)
