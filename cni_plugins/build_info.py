"""Which build this is."""

from __future__ import annotations

from functools import cache

VERSION = "0.1.0"


@cache
def build_id() -> str:
    """The id that the build wrote into its bundle; "dev" in a checkout."""
    try:
        from cni_plugins import _build  # type: ignore[attr-defined]  # noqa: PLC0415
    except ImportError:
        return "dev"
    return str(_build.BUILD_ID)
