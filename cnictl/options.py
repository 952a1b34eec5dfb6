"""Options and variables whose value is more than a word."""

from __future__ import annotations

import json
from typing import Any


class UsageError(Exception):
    """The command line or a variable of the environment makes no sense."""


def parse_args(text: str) -> tuple[tuple[str, str], ...]:
    """CNI_ARGS as cnitool reads them."""
    pairs = []
    for pair in text.split(";") if text else ():
        parts = pair.split("=")
        if len(parts) != 2 or not all(parts):
            raise UsageError(f'invalid CNI_ARGS pair "{pair}"')
        pairs.append((parts[0], parts[1]))
    return tuple(pairs)


def parse_capabilities(text: str) -> dict[str, Any]:
    """Capability arguments as cnitool reads them."""
    try:
        document = json.loads(text) if text else {}
    except ValueError as e:
        raise UsageError(f"CAP_ARGS: {e}") from None
    if not isinstance(document, dict):
        raise UsageError("CAP_ARGS: expected a JSON object")
    return document
