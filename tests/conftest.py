"""Options of every tier."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

WAY = pytest.StashKey[Any]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--share=1/2`` runs every other test: the shares of a tier run side by side.

    With ``--served`` every node of the e2e tier has a fork server, which must serve every call.
    ``--record-calls`` and ``--compare-calls`` are for the netns tier, see tests/kit/modes.py;
    ``--record-requests`` is for the unit tier, see tests/kit/asked.py.
    """
    parser.addoption("--served", action="store_true", help="start a fork server on every node")
    parser.addoption("--record-calls", type=Path, help="write down what calls answer in DIR")
    parser.addoption("--compare-calls", type=Path, help="serve calls and compare with DIR's")
    parser.addoption("--record-requests", type=Path, help="write down what dispatch is asked")
    parser.addoption("--share", default="1/1", help="N/M: the N-th of M shares of the tests")


def pytest_configure(config: pytest.Config) -> None:
    """How the nodes of this run make their calls."""
    if requests := config.getoption("--record-requests"):
        from tests.kit.asked import record as record_requests

        record_requests(requests)
    record, compare = config.getoption("--record-calls"), config.getoption("--compare-calls")
    if record or compare:
        from tests.kit.modes import Comparison, Recording
        from tests.kit.node import Node

        Node.way = config.stash[WAY] = Recording(record) if record else Comparison(compare)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Whether the test counts what its calls do."""
    if way := item.config.stash.get(WAY, None):
        way.is_once = item.get_closest_marker("once") is not None


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """What became of the calls."""
    if way := config.stash.get(WAY, None):
        terminalreporter.write_line(f"calls: {way.close()}")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep this run's share of what the other options selected."""
    n, of = map(int, config.getoption("--share").split("/"))
    items[:] = items[n - 1 :: of]
