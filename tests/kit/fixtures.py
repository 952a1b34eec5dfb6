"""Fixtures: a throw-away node and its pods."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kit.node import Node, Pod
from tests.kit.server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def node(request: pytest.FixtureRequest) -> Iterator[Node]:
    """A host of its own."""
    node = Node()
    if request.config.getoption("--served"):
        with Server(node.enter()) as server:
            yield node
            assert server.fallbacks() == {}
    else:
        yield node
    node.close()


@pytest.fixture
def pod(node: Node) -> Pod:
    """A pod on it."""
    return node.pod("pod1")
