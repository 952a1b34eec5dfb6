"""Fixtures: a throw-away node and its pods."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kit.node import Node, Pod

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def node() -> Iterator[Node]:
    """A host of its own."""
    node = Node()
    yield node
    node.close()


@pytest.fixture
def pod(node: Node) -> Pod:
    """A pod on it."""
    return node.pod("pod1")
