"""host-device: every way of naming a device, its way in and back, whatever happened meanwhile.

sysfs is what the kernel has not: devices are invented in tmpfs directories over ``/sys/bus``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.kit.confs import chained
from tests.kit.state import assert_same, snapshot
from tests.kit.waiting import wait_for

if TYPE_CHECKING:
    from tests.kit.node import Node, Pod

pytestmark = pytest.mark.netns
MAC = "c2:11:22:33:44:55"
STATIC = {"type": "static", "addresses": [{"address": "10.10.0.1/24"}]}
VERSIONS = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]
PCI = "0000:00:00.1"


def conf(version: str = "1.1.0", **over):
    """A configuration; ``None`` leaves a key out."""
    document = {
        "cniVersion": version,
        "name": "net1",
        "type": "host-device",
        "device": "dev0",
        **over,
    }
    return {k: v for k, v in document.items() if v is not None}


@pytest.fixture(autouse=True)
def _device(node: Node) -> None:
    """A device of the host, with a far end."""
    node.sh(
        "sh",
        "-ec",
        f"""
    ip link add spare type bridge
    ip link add dev0 address {MAC} mtu 1450 type veth peer dev0-far
    ip link set dev0 up
    ip link set dev0-far up
    """,
    )


def sysfs(node: Node, *commands: str) -> None:
    """Invented devices: tmpfs over the buses, then the commands."""
    node.sh("sh", "-ec", "\n".join(["mount -t tmpfs tmpfs /sys/bus", *commands]))


@pytest.mark.statement("HD-01", "HD-08")
@pytest.mark.parametrize("version", VERSIONS)
def test_a_device_without_ipam(node: Node, pod: Pod, version):
    before = snapshot(node, pod)
    result = node.cni("host-device", "ADD", conf(version), netns=pod).result
    assert result["interfaces"] == [{"name": "eth0", "mac": MAC, "sandbox": pod.path}]
    link = pod.link()
    assert (link["address"], link["mtu"], "UP" in link["flags"]) == (MAC, 1450, True)
    assert node.link("dev0") is None
    if version >= "0.4":
        node.cni("host-device", "CHECK", chained(conf(version), result), netns=pod).ok()
    for _ in range(2):
        node.cni("host-device", "DEL", conf(version), netns=pod).ok()
        assert_same(before, snapshot(node, pod))
    home = node.link("dev0")
    assert (home["address"], home["mtu"], "UP" in home["flags"]) == (MAC, 1450, True)
    assert "ifalias" not in home


@pytest.mark.statement("HD-02")
@pytest.mark.parametrize("version", ["0.3.0", "1.0.0", "1.1.0"])
def test_the_name_is_taken_on_the_host(node: Node, pod: Pod, version):
    node.cni("host-device", "ADD", conf(version), netns=pod).ok()
    node.sh("ip", "link", "add", "dev0", "type", "bridge")
    error = node.cni("host-device", "DEL", conf(version), netns=pod).error
    assert "give dev0 back: the host has another device of that name" in error["msg"]
    assert "send DEL again" in error["details"]
    link = pod.link()
    assert (link["address"], "UP" in link["flags"]) == (MAC, True)
    node.sh("ip", "link", "del", "dev0")
    node.cni("host-device", "DEL", conf(version), netns=pod).ok()
    assert node.link("dev0")["address"] == MAC


@pytest.mark.statement("HD-03")
@pytest.mark.parametrize("driver", ["vfio-pci", "uio_pci_generic", "igb_uio"])
@pytest.mark.parametrize("how", ["pciBusID", "deviceID"])
def test_a_device_that_a_driver_in_user_space_has(node: Node, pod: Pod, driver, how):
    sysfs(node, f"mkdir -p /sys/bus/pci/devices/{PCI} /sys/bus/pci/drivers/{driver}",
          f"ln -s ../../drivers/{driver} /sys/bus/pci/devices/{PCI}/driver")  # fmt: skip
    chosen = {"pciBusID": PCI} if how == "pciBusID" else {"runtimeConfig": {"deviceID": PCI}}
    document = conf(device=None, ipam=STATIC, **chosen)
    before = snapshot(node, pod)
    result = node.cni("host-device", "ADD", document, netns=pod).result
    assert result["interfaces"] == [{"name": "eth0", "sandbox": pod.path}]
    assert [ip["address"] for ip in result["ips"]] == ["10.10.0.1/24"]
    assert pod.link() is None
    node.cni("host-device", "CHECK", chained(document, result), netns=pod).ok()
    node.sh("rm", "-r", f"/sys/bus/pci/devices/{PCI}")  # the card was pulled
    node.cni("host-device", "DEL", document, netns=pod).ok()
    assert_same(before, snapshot(node, pod))


@pytest.mark.statement("HD-04")
def test_a_device_with_addresses(node: Node, pod: Pod):
    document = conf(ipam=STATIC)
    result = node.cni("host-device", "ADD", document, netns=pod).result
    assert pod.addresses() == ["10.10.0.1/24"]
    node.cni("host-device", "CHECK", chained(document, result), netns=pod).ok()
    node.cni("host-device", "DEL", document, netns=pod).ok()
    assert node.link("dev0") is not None
    assert node.addresses("dev0") == []


@pytest.mark.statement("HD-07")
def test_a_link_of_the_container_with_the_device_s_name(node: Node, pod: Pod):
    pod.sh("sh", "-ec", "ip link add dev0 type bridge; ip link set dev0 up")

    def theirs() -> tuple[str, str, list[str]]:
        link = pod.link("dev0")
        return link["address"], link["linkinfo"]["info_kind"], link["flags"]

    before = theirs()
    node.cni("host-device", "ADD", conf(), netns=pod, ifname="net1").ok()
    assert theirs() == before
    node.cni("host-device", "DEL", conf(), netns=pod, ifname="net1").ok()
    assert theirs() == before
    assert node.link("dev0")["address"] == MAC


@pytest.mark.parametrize(
    ("chosen", "commands"),
    [
        ({"hwaddr": MAC.upper()}, []),
        ({"pciBusID": PCI}, [f"mkdir -p /sys/bus/pci/devices/{PCI}/net/dev0", "{driver}"]),
        ({"pciBusID": PCI}, [f"mkdir -p /sys/bus/pci/devices/{PCI}/virtio3/net/dev0", "{driver}"]),
        (
            {"runtimeConfig": {"deviceID": PCI}, "pciBusID": "0000:00:00.9"},
            [f"mkdir -p /sys/bus/pci/devices/{PCI}/net/dev0", "{driver}"],
        ),
        pytest.param(
            {"runtimeConfig": {"deviceID": "mlx5_core.sf.4"}},
            ["mkdir -p /sys/bus/auxiliary/devices/mlx5_core.sf.4/net/dev0"],
            marks=pytest.mark.statement("HD-06"),
        ),
        ({"device": "dev0", "hwaddr": "c2:00:00:00:00:09"}, []),
        ({"device": "dev0", "runtimeConfig": {"deviceID": "nobody"}}, []),
    ],
    ids=["hwaddr", "pci", "virtio", "deviceID", "auxiliary", "device first", "device before ID"],
)
def test_ways_of_naming_a_device(node: Node, pod: Pod, chosen, commands):
    driver = f"mkdir /sys/bus/d; ln -s /sys/bus/d /sys/bus/pci/devices/{PCI}/driver"
    sysfs(node, *(driver if c == "{driver}" else c for c in commands))
    document = conf(**{"device": None, **chosen})
    result = node.cni("host-device", "ADD", document, netns=pod, ifname="net1").result
    assert result["interfaces"] == [{"name": "net1", "mac": MAC, "sandbox": pod.path}]
    node.cni("host-device", "CHECK", chained(document, result), netns=pod, ifname="net1").ok()
    node.cni("host-device", "DEL", document, netns=pod, ifname="net1").ok()
    assert node.link("dev0")["address"] == MAC


def test_a_path_in_sysfs(node: Node, pod: Pod):
    document = conf(device=None, kernelpath="/sys/devices/x/y")
    node.sh("sh", "-ec", "mount -t tmpfs tmpfs /sys/devices; mkdir -p /sys/devices/x/y/net/dev0")
    node.cni("host-device", "ADD", document, netns=pod).ok()
    assert pod.link()["address"] == MAC
    node.cni("host-device", "DEL", document, netns=pod).ok()


@pytest.mark.parametrize(
    ("chosen", "text"),
    [
        pytest.param(
            {},
            'specify either "device", "hwaddr", "kernelpath" or "pciBusID"',
            marks=pytest.mark.statement("HD-05"),
        ),
        ({"device": "nobody"}, "device: there is no network device nobody on the host"),
        ({"hwaddr": "c2:00:00:00:00:09"}, "hwaddr: no device of the host has c2:00:00:00:00:09"),
        ({"hwaddr": "x"}, "hwaddr: invalid MAC address"),
        (
            {"kernelpath": "/sys/devices/../../etc"},
            "kernelpath: '/sys/devices/../../etc' is not below",
        ),
        ({"kernelpath": "/sys/devices/none"}, "kernelpath: there is no network device"),
        ({"pciBusID": "../x"}, "pciBusID: '../x' is not the name of a device"),
        ({"runtimeConfig": {"deviceID": "nobody"}}, "deviceID: there is no device nobody"),
    ],
)
def test_wrong_configurations_change_nothing(node: Node, pod: Pod, chosen, text):
    document = conf(**{"device": None, **chosen})
    before = snapshot(node, pod)
    error = node.cni("host-device", "ADD", document, netns=pod).error
    assert (error["code"], text in error["msg"]) == (7, True), error
    assert_same(before, snapshot(node, pod))
    node.cni("host-device", "DEL", document, netns=pod).ok()
    assert_same(before, snapshot(node, pod))


def test_a_pci_device_without_a_driver(node: Node, pod: Pod):
    sysfs(node, f"mkdir -p /sys/bus/pci/devices/{PCI}/net/dev0")
    error = node.cni("host-device", "ADD", conf(device=None, pciBusID=PCI), netns=pod).error
    assert f"find the driver of PCI device {PCI}" in error["msg"]
    assert node.link("dev0") is not None


# --- the way back -------------------------------------------------------------------------------


def home(node: Node) -> tuple[str, int, bool]:
    """MAC address, MTU and state of the device on the host."""
    link = node.link("dev0")
    return link["address"], link["mtu"], "UP" in link["flags"]


def test_what_the_container_changed_is_undone(node: Node, pod: Pod):
    node.cni("host-device", "ADD", conf(ipam=STATIC), netns=pod).ok()
    pod.sh(
        "sh",
        "-ec",
        """
    ip link set eth0 down address 02:00:00:00:00:07 mtu 1300
    ip addr add 10.10.0.9/24 dev eth0
    """,
    )
    node.cni("host-device", "DEL", conf(ipam=STATIC), netns=pod).ok()
    assert home(node) == (MAC, 1450, True)
    assert node.addresses("dev0") == []


def test_a_device_that_was_down_comes_back_down(node: Node, pod: Pod):
    node.sh("ip", "link", "set", "dev0", "down")
    node.cni("host-device", "ADD", conf(), netns=pod).ok()
    assert "UP" in pod.link()["flags"]
    node.cni("host-device", "DEL", conf(), netns=pod).ok()
    assert home(node) == (MAC, 1450, False)


def test_an_alias_of_its_own_comes_back(node: Node, pod: Pod):
    node.sh("ip", "link", "set", "dev0", "alias", "uplink to the lab")
    node.cni("host-device", "ADD", conf(), netns=pod).ok()
    assert pod.link()["ifalias"] == "dev0"
    node.cni("host-device", "DEL", conf(), netns=pod).ok()
    assert node.link("dev0")["ifalias"] == "uplink to the lab"


def test_without_the_journal_the_alias_is_enough(node: Node, pod: Pod):
    node.cni("host-device", "ADD", conf(), netns=pod).ok()
    node.sh("rm", "-r", "/run/cni-plugins")
    node.cni("host-device", "DEL", conf(device=None), netns=pod).ok()
    assert home(node)[:2] == (MAC, 1450)


def test_a_renamed_device_is_not_taken_for_another(node: Node, pod: Pod):
    """The container's link of that name was never moved here."""
    node.cni("host-device", "ADD", conf(), netns=pod).ok()
    pod.sh(
        "sh",
        "-ec",
        "ip link set eth0 down; ip link set eth0 name other; ip link add eth0 type bridge",
    )
    done = node.cni("host-device", "DEL", conf(), netns=pod)
    assert pod.link() is not None
    assert done.exit_code in {0, 1}
    assert node.link("eth0") is None


def test_a_device_whose_container_was_killed_is_found_on_the_host(node: Node, pod: Pod):
    """As the kernel leaves a physical one: under the container's name, with its alias, down."""
    node.cni("host-device", "ADD", conf(), netns=pod).ok()
    node.sh("ip", "netns", "attach", "here", str(node.holder_pid))
    pod.sh("ip", "link", "set", "eth0", "down")
    pod.sh("ip", "link", "set", "eth0", "netns", "here", "name", "net7")
    pod.delete()
    for _ in range(2):
        node.cni("host-device", "DEL", conf(), netns=pod).ok()
        assert home(node) == (MAC, 1450, True)
    assert "ifalias" not in node.link("dev0")


@pytest.mark.kernel
def test_a_physical_device_comes_back_when_its_namespace_goes(node: Node, pod: Pod):
    """A guest's own network card, which the kernel returns to the first namespace."""
    # the node's namespace is not the first one: the test carries the card there and back
    first = "nsenter --net=/proc/1/ns/net"
    node.sh("sh", "-c", f"{first} ip link set eth0 netns {node.holder_pid}")
    node.sh("ip", "link", "set", "eth0", "up")
    before = node.link("eth0")
    document = conf(device="eth0", ipam=STATIC)
    node.cni("host-device", "ADD", document, netns=pod, ifname="net1").ok()
    assert pod.link("net1")["address"] == before["address"]
    pod.delete()

    def returned() -> str:
        return node.sh("sh", "-c", f"{first} ip -o link show net1", check=False).stdout

    assert "alias eth0" in wait_for("the device", returned)
    node.sh("sh", "-c", f"{first} ip link set net1 netns {node.holder_pid}")
    node.cni("host-device", "DEL", document, netns=pod, ifname="net1").ok()
    home_again = node.link("eth0")
    assert home_again["address"] == before["address"]
    assert "UP" in home_again["flags"]
