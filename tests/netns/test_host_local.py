"""host-local on file systems that refuse, and under kill -9."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.confs import host_local
from tests.kit.faults import Faults
from tests.kit.state import assert_same, snapshot

if TYPE_CHECKING:
    from tests.kit.node import Node

pytestmark = pytest.mark.netns
CONF: dict[str, Any] = {
    "cniVersion": "1.1.0",
    "name": "net1",
    "type": "host-local",
    "ipam": host_local("10.9.0.0/24", "fd00:9::/64"),
}
DATA = "/var/lib/cni"


def call(node: Node, command: str, container_id: str = "c1", **over: Any):
    """One call, as an interface plugin makes it."""
    conf = CONF | {"ipam": CONF["ipam"] | over}
    return node.cni("host-local", command, conf, netns="/run/netns/x", container_id=container_id)


def small_disk(node: Node) -> None:
    """A file system of 64 KiB for the leases."""
    node.sh("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", DATA)


def fill(node: Node) -> None:
    """No block is free any more."""
    node.sh("sh", "-c", f"cat /dev/zero > {DATA}/filler; true", check=False)
    assert node.sh("sh", "-c", f"echo x > {DATA}/probe", check=False).returncode != 0
    node.sh("rm", f"{DATA}/probe")


def test_a_full_disk_fails_add_and_loses_nothing(node):
    small_disk(node)
    first = call(node, "ADD").result
    fill(node)
    before = snapshot(node)

    error = call(node, "ADD", "c2").error
    assert error["code"] == 999
    assert "No space left on device" in error["msg"]
    assert_same(before, snapshot(node))
    assert "is full" in call(node, "STATUS").error["msg"]

    node.sh("rm", f"{DATA}/filler")
    second = call(node, "ADD", "c2").result
    given = [ip["address"] for result in (first, second) for ip in result["ips"]]
    assert len(set(given)) == 4
    call(node, "STATUS").ok()


@pytest.mark.parametrize("index", ["good", "stale", "gone"])
def test_a_full_disk_does_not_stop_del(node, index):
    small_disk(node)
    call(node, "ADD").ok()
    if index == "stale":  # somebody else's lease: the index has to be rebuilt
        node.write(f"{DATA}/networks/net1/10.9.0.77", b"other\r\neth0")
    if index == "gone":
        node.sh("rm", "-r", f"{DATA}/networks/.cni-plugins")
    fill(node)

    call(node, "DEL").ok()

    assert node.leases() == ({"10.9.0.77"} if index == "stale" else set())
    node.sh("rm", f"{DATA}/filler")
    assert call(node, "ADD", "c2").result["ips"][0]["address"] == "10.9.0.3/24"


def test_a_read_only_file_system_is_named(node):
    call(node, "ADD").ok()
    node.sh("mount", "-o", "remount,ro", DATA)
    error = call(node, "ADD", "c2").error
    assert error["code"] == 999
    assert "Read-only file system" in error["msg"]
    assert "read-only" in call(node, "STATUS").error["msg"]


def test_kill_9_anywhere_in_add_blocks_no_address(node):
    """DEL frees whatever was taken, and a new pod's ADD never meets a torn lease."""
    killed = 0
    for at in range(1, 100):
        try:
            node.cni("host-local", "ADD", CONF, netns="/run/netns/x", prepare=Faults(at, kill=True))
        except ChildProcessError:
            killed = at
        for path in node.files(f"{DATA}/networks/net1"):
            assert node.read(path) or path.endswith("/lock"), f"{path} is torn, step {at}"
        call(node, "ADD", "c2").ok()
        call(node, "DEL").ok()
        assert len(node.leases()) == 2, f"step {at}"
        call(node, "DEL", "c2").ok()
        assert node.leases() == set()
        if killed < at:
            break
    assert killed >= 8, "lease, index, owner and last address, for two families"
