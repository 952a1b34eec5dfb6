"""Options of every tier."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--share=1/2`` runs every other test: a guest of the kernel tier has one processor."""
    parser.addoption("--share", default="1/1", help="N/M: the N-th of M shares of the tests")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep this run's share, of what the other options selected."""
    n, of = map(int, config.getoption("--share").split("/"))
    if of > 1:
        marked = [i for i in items if i.get_closest_marker(config.getoption("-m"))]
        items[:] = marked[n - 1 :: of]
