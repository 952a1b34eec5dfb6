"""The fork server's children: which of them serves again, and that nothing of a call stays."""

from __future__ import annotations

import concurrent.futures
import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kit.confs import bridge
from tests.kit.fixtures import pod
from tests.kit.node import Node, Pod
from tests.kit.server import DIST, Server
from tests.kit.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["pod"]
pytestmark = pytest.mark.e2e
OURS = str(DIST)
LOOPBACK = {"cniVersion": "1.1.0", "name": "n", "type": "loopback"}
SEATS = 8
ALL_SEATS = SEATS + 4
"""With those of the socket for STATUS."""


@pytest.fixture
def node() -> Iterator[Node]:
    """A host of its own."""
    node = Node()
    yield node
    node.close()


@pytest.fixture
def server(node) -> Iterator[Server]:
    """Its server, with all of its children."""
    with Server(node.enter()) as server:
        wait_for("the children", lambda: len(server.children()) == ALL_SEATS)
        yield server


def served(node: Node, pod: Pod, count: int) -> None:
    """So many calls, one after the other, that succeed."""
    for _ in range(count):
        node.cni("loopback", "ADD", LOOPBACK, netns=pod, binaries=OURS).ok()


def test_a_child_serves_one_call_after_the_other(node, pod, server):
    before = server.children()
    served(node, pod, 3 * SEATS)
    assert server.calls()["answered"] == 3 * SEATS
    assert server.fallbacks() == {}
    assert server.children() == before


def test_a_child_ends_after_a_call_that_failed(node, pod, server):
    before = server.children()
    refused = node.cni("loopback", "ADD", {**LOOPBACK, "cniVersion": "9"}, netns=pod, binaries=OURS)
    assert refused.exit_code == 1
    wait_for("its end", lambda: len(before - server.children()) == 1)
    served(node, pod, SEATS)
    assert len(before & server.children()) == ALL_SEATS - 1
    assert server.fallbacks() == {}


def test_a_child_ends_after_a_call_under_other_limits(node, pod, server):
    before = server.children()
    env = {
        "PATH": os.environ["PATH"],
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": pod.path,
        "CNI_IFNAME": "lo",
        "CNI_PATH": OURS,
    }
    argv = [*node.enter(), "sh", "-c", f"ulimit -n 123; exec {DIST}/loopback"]
    stdin = json.dumps(LOOPBACK).encode()
    subprocess.run(argv, input=stdin, env=env, check=True, capture_output=True)
    wait_for("its end", lambda: len(before - server.children()) == 1)
    assert server.fallbacks() == {}


def test_as_many_wait_as_there_are_seats_also_after_a_burst(node, pod, server):
    with concurrent.futures.ThreadPoolExecutor(40) as threads:
        for call in [threads.submit(served, node, pod, 4) for _ in range(40)]:
            call.result()
    assert server.calls()["answered"] == 160
    wait_for("the surplus to end", lambda: len(server.children()) <= ALL_SEATS)
    served(node, pod, 2 * SEATS)
    assert SEATS // 2 < server.status()["server"]["children"]["waiting"] <= ALL_SEATS


def test_a_child_that_waits_is_replaced_when_it_is_killed(node, pod, server):
    victims = sorted(server.children())
    for pid in victims:
        os.kill(pid, 9)
    wait_for("their successors", lambda: len(server.children() - set(victims)) == ALL_SEATS)
    served(node, pod, SEATS)
    assert server.fallbacks() == {}


def test_on_demand_each_call_has_a_child_of_its_own(node, pod):
    with Server(node.enter(), options=["--calls-per-child", "1"]) as server:
        wait_for("the children", lambda: len(server.children()) == ALL_SEATS)
        before = server.children()
        served(node, pod, SEATS)
        wait_for("their ends", lambda: len(before & server.children()) <= ALL_SEATS - SEATS)
        assert server.calls()["answered"] == SEATS
        assert server.fallbacks() == {}


def test_nothing_of_a_call_stays_in_its_child(node, pod, server):
    """Directory, descriptors, environment and umask, when it waits again."""
    place = Path(node.scratch) / "place"
    place.mkdir()
    env = {
        "PATH": os.environ["PATH"],
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": pod.path,
        "CNI_IFNAME": "eth0",
        "CNI_PATH": OURS,
        "SECRET": "of this call",
    }
    conf = bridge()
    descriptors = {pid: open_files(pid) for pid in server.children()}
    shell = f"cd {place}; umask 077; exec {DIST}/bridge"
    for verb in ("ADD", "DEL") * SEATS:
        subprocess.run(
            [*node.enter(), "sh", "-c", shell],
            input=json.dumps(conf).encode(),
            env={**env, "CNI_COMMAND": verb},
            check=True,
            capture_output=True,
        )
    assert server.fallbacks() == {}
    assert server.children() == set(descriptors)
    for pid, files in descriptors.items():
        wait_for("it to wait", lambda pid=pid: os.readlink(f"/proc/{pid}/cwd") == "/")
        assert open_files(pid) == files
    script = f"{place}/shown"
    Node.install(str(place), "shown", f"umask > {script}.out; env >> {script}.out; exit 1\n")
    clean = {**env, "CNI_COMMAND": "ADD", "CNI_PATH": str(place)}
    del clean["SECRET"]
    subprocess.run(
        [*node.enter(), "sh", "-c", f"umask 022; exec {DIST}/bridge"],
        input=json.dumps(bridge(ipam={"type": "shown"})).encode(),
        env=clean,
        check=False,
        capture_output=True,
    )
    shown = Path(f"{script}.out").read_text(encoding="utf-8")
    assert shown.startswith("0022\n")
    assert "SECRET" not in shown


def open_files(pid: int) -> list[str]:
    """What a process has open."""
    folder = f"/proc/{pid}/fd"
    return sorted(os.readlink(f"{folder}/{number}") for number in os.listdir(folder))
