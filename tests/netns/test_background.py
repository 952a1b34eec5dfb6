"""Links that are freed in the background: gone when that is said, and the failures are told."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from cni_plugins.background import Background
from cni_plugins.errors import KernelError
from cni_plugins.host.links import Links
from cni_plugins.host.netns import NetNS

if TYPE_CHECKING:
    from tests.kit.node import Node

pytestmark = pytest.mark.netns


def deleting(node: Node, link: str, pod: str = "") -> tuple[str, bool, int]:
    """Delete a link by its index; what is there afterwards, and after the background has ended."""

    def call() -> tuple[str, bool, int]:
        background = Background()
        netns = NetNS.open(pod) if pod else None
        with Links.open(netns, background=background) as links:
            index = int(link) if link.isdigit() else links.get(link).index
            said = ""
            try:
                links.discard_index(index)
            except KernelError as e:
                said = str(e)
            is_there = links.find_index(index) is not None
        background.join()
        return said, is_there, threading.active_count()

    found: tuple[str, bool, int] = node.forked(call)
    return found


def test_a_link_is_gone_when_it_is_said(node):
    for _ in range(20):
        node.sh("ip", "link", "add", "veth1", "type", "veth", "peer", "veth2")
        assert deleting(node, "veth1") == ("", False, 1)
        assert node.links() == {"lo"}


def test_a_link_of_a_pod(node, pod):
    node.sh("ip", "-n", pod.name, "link", "add", "ifb1", "type", "ifb")
    assert deleting(node, "ifb1", pod.path) == ("", False, 1)
    assert pod.link("ifb1") is None


def test_a_link_that_is_gone_already(node):
    assert deleting(node, "4711") == ("", False, 1)


def test_a_link_that_the_kernel_keeps(node):
    said, is_there, threads = deleting(node, "lo")
    assert said.startswith("delete link number 1: Operation not supported")
    assert (is_there, threads) == (True, 1)


def test_where_there_can_be_no_thread_it_is_done_at_once(monkeypatch):
    class Full(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading, "Thread", Full)
    done: list[int] = []
    background = Background()
    job = background.start(lambda: done.append(1))
    assert (job.is_done, job.error, done) == (True, None, [1])
    background.join()
