"""Options of every tier."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--share=1/2`` runs every other test: the shares of a tier run side by side.

    With ``--served`` every node of the e2e tier has a fork server, which must serve every call.
    """
    parser.addoption("--served", action="store_true", help="start a fork server on every node")
    parser.addoption("--share", default="1/1", help="N/M: the N-th of M shares of the tests")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep this run's share of what the other options selected."""
    n, of = map(int, config.getoption("--share").split("/"))
    items[:] = items[n - 1 :: of]
