"""What ``make demo`` shows, on a node that this test can look at afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.fixtures import node

__all__ = ["node"]
pytestmark = pytest.mark.e2e
DEMO = Path(__file__).parents[2] / "tools" / "demo"


def test_the_demo_succeeds_and_leaves_only_the_bridge(node):
    shown = node.sh(str(DEMO)).stdout
    assert shown.count("2 packets transmitted, 2 received, 0% packet loss") == 4
    assert shown.count("is as it was added") == 2
    assert "leases: none; rules: 0; cached results: none; veth links: 0" in shown
    assert node.links() == {"lo", "cni0"}
