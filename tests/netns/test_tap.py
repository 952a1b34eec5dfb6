"""tap: owners, queues, bridge, MAC address and MTU on every path; packets through its queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kit.confs import chained, host_local
from tests.kit.interfaces import INTERFACES
from tests.kit.state import assert_same, snapshot

if TYPE_CHECKING:
    from tests.kit.node import Node, Pod

pytestmark = pytest.mark.netns
MAC = "c2:11:22:33:44:55"


def tap(**over):
    """A configuration; ``None`` leaves a key out."""
    return INTERFACES["tap"].conf(**over)


@pytest.mark.statement("TA-01")
@pytest.mark.parametrize("version", ["0.4.0", "1.0.0", "1.1.0"])
def test_add_check_del(node: Node, pod: Pod, version):
    conf = tap(cniVersion=version, owner=0, group=0, ipam=host_local())
    result = node.cni("tap", "ADD", conf, netns=pod).result
    link = pod.link()
    assert link["linkinfo"]["info_kind"] == "tun"
    assert link["address"] == result["interfaces"][0]["mac"]
    data = link["linkinfo"]["info_data"]
    assert (data["type"], data["user"], data["group"]) == ("tap", "root", "root")
    assert len(pod.addresses()) == 1
    node.cni("tap", "CHECK", chained(conf, result), netns=pod).ok()
    for _ in range(2):
        node.cni("tap", "DEL", conf, netns=pod).ok()
    assert pod.link() is None


@pytest.mark.parametrize("multi_queue", [False, True])
@pytest.mark.parametrize(
    "owners", [{}, {"owner": 7}, {"group": 8}, {"owner": 7, "group": 8}, {"owner": 0, "group": 0}]
)
def test_mac_mtu_owner_and_queues_on_every_path(node: Node, pod: Pod, multi_queue, owners):
    conf = tap(mtu=1400, mac=MAC, multiQueue=multi_queue, ipam=None, **owners)
    result = node.cni("tap", "ADD", conf, netns=pod).result
    details = pod.link()
    data = details["linkinfo"]["info_data"]
    assert (details["mtu"], details["address"]) == (1400, MAC)
    assert result["interfaces"][0]["mac"] == MAC
    assert data["multi_queue"] is multi_queue
    assert data["pi"] is False
    assert data["persist"] is True
    numeric = pod.sh("ip", "-d", "tuntap", "show").stdout
    for key, flag in (("owner", "user"), ("group", "group")):
        assert (f"{flag} {owners.get(key)}" in numeric) is (key in owners), numeric
    node.cni("tap", "CHECK", chained(conf, result), netns=pod).ok()
    pod.sh("ip", "link", "set", "eth0", "mtu", "1300")
    error = node.cni("tap", "CHECK", chained(conf, result), netns=pod).error
    assert "eth0 has MTU 1300, not 1400" in error["msg"]


@pytest.mark.statement("TA-02")
def test_a_port_of_the_container_s_bridge(node: Node, pod: Pod):
    pod.sh("ip", "link", "add", "br1", "type", "bridge")
    conf = tap(bridge="br1")
    result = node.cni("tap", "ADD", conf, netns=pod).result
    assert pod.link()["master"] == "br1"
    node.cni("tap", "CHECK", chained(conf, result), netns=pod).ok()
    pod.sh("ip", "link", "set", "eth0", "nomaster")
    error = node.cni("tap", "CHECK", chained(conf, result), netns=pod).error
    assert "eth0 is no port of br1" in error["msg"]
    for _ in range(2):
        node.cni("tap", "DEL", conf, netns=pod).ok()


READ = """
import fcntl, os, struct, sys
fd = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", b"eth0", 0x1002))
sys.stdout.write("open\\n"); sys.stdout.flush()
while True:
    frame = os.read(fd, 2000)
    if frame[12:14] == b"\\x08\\x06":
        print(frame[:6].hex(), frame[38:42].hex())
        break
"""


def test_a_process_that_opens_it_gets_frames_without_a_header(node: Node, pod: Pod):
    """What a virtual machine's process does; an ARP request for a neighbour arrives whole."""
    node.cni("tap", "ADD", tap(ipam=host_local()), netns=pod).ok()
    script = f"""
python3 -c '{READ}' > /run/frames & reader=$!
for _ in $(seq 100); do grep -q open /run/frames && break; sleep 0.02; done
ping -c1 -W1 -n 10.9.0.99 > /dev/null || true
wait $reader
"""
    pod.sh("bash", "-c", script)
    lines = pod.sh("cat", "/run/frames").stdout.split()
    assert lines == ["open", "ffffffffffff", "0a090063"]


@pytest.mark.parametrize(
    ("over", "code", "text"),
    [
        ({"bridge": "br9"}, 7, "bridge: there is no bridge br9 in the container"),
        ({"owner": -1}, 7, "owner: -1 is outside"),
        ({"group": "root"}, 7, "group: expected an integer"),
        ({"mac": "xyz"}, 7, "mac: invalid MAC address: xyz"),
        ({"mtu": 70000}, 7, "mtu: 70000 is outside"),
        ({"selinuxContext": "system_u:object_r:x_t:s0"}, 999, "set SELinux label"),
    ],
)
def test_wrong_configurations_change_nothing(node: Node, pod: Pod, over, code, text):
    before = snapshot(node, pod)
    error = node.cni("tap", "ADD", tap(**over), netns=pod).error
    assert error["code"] == code
    assert text in error["msg"]
    assert_same(before, snapshot(node, pod))
    node.cni("tap", "DEL", tap(**over), netns=pod).ok()
