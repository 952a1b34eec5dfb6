"""The versions of the CNI spec this suite knows, oldest first."""

from __future__ import annotations

ALL = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
CURRENT = ALL[-1]
VERBS = ("ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION")
CHECK_SINCE = (0, 4, 0)
GC_AND_STATUS_SINCE = (1, 1, 0)


def starting_from(version: str) -> tuple[str, ...]:
    """The versions from ``version`` on, which must be one of :data:`ALL`."""
    return ALL[ALL.index(version) :]
