"""Which build this is."""

from __future__ import annotations

import os
import sys

VERSION = "0.1.0"
_found: list[str] = []


def build_id() -> str:
    """The name of the bundle's folder, ``cni-plugins-runtime/<build id>``; "dev" in a checkout."""
    if not _found:  # what functools.cache does; functools takes as long to import as VERSION's rest
        _found.append(_find_build_id())
    return _found[0]


def _find_build_id() -> str:
    if not hasattr(sys, "_MEIPASS"):
        return "dev"
    return os.path.basename(os.path.dirname(os.path.realpath(sys.executable)))
