"""In both modes: every call a Python of its own, and with ``--served`` a fork server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kit.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True, scope="session")
def here(request: pytest.FixtureRequest) -> Iterator[None]:
    """A server also where tests call executables without a node."""
    if not request.config.getoption("--served"):
        yield
        return
    with Server() as server:
        before = server.fallbacks()  # of the tier that ran here without one
        yield
        after = server.fallbacks()
        grown = {reason for reason, count in after.items() if count > before.get(reason, 0)}
        assert grown <= {"too much standard input"}
        calls = server.calls()
        assert calls["answered"] == calls["begun"] > 0
