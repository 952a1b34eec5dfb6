"""Every request that the unit tests give to dispatch, to the built executables in both modes."""

from __future__ import annotations

import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.kit.asked import recorded
from tests.kit.node import Asked, Node
from tests.kit.server import DIST, Server

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
LEAST = 700
"""Requests there are at least; a recording that lost them would prove nothing."""
AGE = re.compile(rb"\b\d+ s old\b")
"""Of a lease, in the only answer that tells of time."""
USERS = ("dispatch.run(", "Recorder")


def answers(node: Node, requests: list[Asked]) -> list[tuple[int, bytes, bytes]]:
    """Status, standard output and error of each, one after the other on the same node."""
    found = []
    for request in requests:
        done = subprocess.run(
            [*node.enter(), str(DIST / request.plugin)],
            input=request.stdin,
            env=request.env,
            capture_output=True,
            timeout=90,
            check=False,
        )
        found.append((done.returncode, AGE.sub(b"AGE", done.stdout), done.stderr))
    return found


def test_a_served_call_and_a_fresh_process_answer_the_same_bytes(tmp_path):
    """Two nodes get the same requests in the same order, so each finds what the other finds."""
    files = [
        str(path)
        for path in sorted((ROOT / "tests" / "unit").rglob("test_*.py"))
        if any(user in path.read_text(encoding="utf-8") for user in USERS)
    ]
    record = tmp_path / "requests"
    argv = [sys.executable, "-m", "pytest", "-q", f"--record-requests={record}", *files]
    subprocess.run(argv, check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    requests = list(recorded(record))
    assert len(requests) >= LEAST

    alone, other = Node(), Node()
    try:
        with Server(other.enter()) as server, ThreadPoolExecutor(2) as pool:
            fresh, served = pool.map(answers, (alone, other), (requests, requests))
            assert set(server.fallbacks()) <= {"too much standard input"}
            calls = server.calls()
    finally:
        alone.close()
        other.close()

    differing = [
        (request, *pair)
        for request, *pair in zip(requests, fresh, served, strict=True)
        if pair[0] != pair[1]
    ]
    assert differing == []
    assert calls["answered"] == calls["begun"] >= LEAST - 100
