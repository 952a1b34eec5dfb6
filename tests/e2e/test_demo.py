"""What ``make demo`` shows, on a node that this test can look at afterwards."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.kit.fixtures import node

__all__ = ["node"]
pytestmark = pytest.mark.e2e
DEMO = Path(__file__).parents[2] / "tools" / "demo"
REACHED = "2 packets transmitted, 2 received, 0% packet loss"


def test_the_demo_shows_the_full_chain_and_leaves_only_what_is_shared(node):
    shown = node.sh(str(DEMO)).stdout
    firewall, _, rest = shown.partition("The firewall:")[2].partition("The published port")
    talks = shown.partition("blue talks to green")[2].partition("The firewall:")[0]
    assert talks.count(REACHED) == 4
    allowed, _, blocked = firewall.partition("exec red")
    assert REACHED in allowed
    assert "2 packets transmitted, 0 received" in blocked
    found = re.search(r"port 8080: ([0-9.]+) Mbit/s; the limit is 20", rest)
    assert found is not None
    assert 15 < float(found[1]) < 21
    assert rest.count("is as it was added") == 3
    assert "leases: none; rules: 0; cached results: none; pods' links: 0" in shown
    assert node.links() == {"lo", "cni0", "cni1", "uplink"}
