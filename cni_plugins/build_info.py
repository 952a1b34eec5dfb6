"""Which build this is."""

from __future__ import annotations

import os
import sys
from functools import cache

VERSION = "0.1.0"


@cache
def build_id() -> str:
    """The name of the bundle's folder, ``cni-plugins-runtime/<build id>``; "dev" in a checkout."""
    if not hasattr(sys, "_MEIPASS"):
        return "dev"
    return os.path.basename(os.path.dirname(os.path.realpath(sys.executable)))
