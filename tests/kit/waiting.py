"""Waiting for what announces itself to nobody."""

from __future__ import annotations

import time
from typing import Any

LIMIT_S = 20.0


def wait_for(what: str, condition: Any, limit_s: float = LIMIT_S) -> Any:
    """Poll until a condition holds; what it answered."""
    until = time.monotonic() + limit_s
    while not (found := condition()):
        assert time.monotonic() < until, f"no {what} within {limit_s} s"
        time.sleep(0.05)
    return found
