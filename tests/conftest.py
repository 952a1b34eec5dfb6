"""What all tiers share."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Every reference statement (tests/statements) is carried by a test as its marker."""
    config.addinivalue_line("markers", "statement(*ids): ids of the statements the test holds")
