"""The checks before a verb that need real namespaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.kit.node import Node, Outcome, Pod

pytestmark = pytest.mark.netns

CONF = {"cniVersion": "1.1.0", "name": "lo", "type": "loopback"}


def call(node: Node, command: str, netns: str | Pod, **env: str) -> Outcome:
    """loopback shows whether anything was done."""
    return node.cni("loopback", command, CONF, netns=netns, ifname="lo", env=env)


def host_lo(node: Node) -> dict[str, Any]:
    """The host's lo."""
    link = node.link("lo")
    assert link is not None
    return link


@pytest.mark.statement("SK72")
@pytest.mark.parametrize("netns", ["/proc/self/ns/net", "/run/netns/host"])
@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_the_host_s_own_namespace_is_refused(node: Node, command: str, netns: str) -> None:
    """Before anything is done, whatever it is called."""
    node.sh("sh", "-c", "mkdir -p /run/netns && touch /run/netns/host")
    node.sh("mount", "--bind", "/proc/self/ns/net", "/run/netns/host")
    before = host_lo(node)
    assert call(node, command, netns).error == {
        "code": 8,
        "msg": "plugin's netns and netns from CNI_NETNS should not be the same",
    }
    assert host_lo(node) == before


@pytest.mark.statement("SK72")
def test_check_may_look_at_the_host_s_own_namespace(node: Node) -> None:
    """It changes nothing."""
    call(node, "CHECK", "/proc/self/ns/net").ok()


@pytest.mark.statement("SK73")
def test_the_override(node: Node) -> None:
    """The caller means it."""
    call(node, "ADD", "/proc/self/ns/net", CNI_NETNS_OVERRIDE="True").ok()


def test_another_pod_s_namespace_is_not_the_host_s(node: Node, pod: Pod) -> None:
    """The usual case."""
    call(node, "ADD", pod).ok()
    call(node, "DEL", pod).ok()
