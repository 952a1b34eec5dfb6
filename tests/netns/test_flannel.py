"""flannel: what the delegate is given, what is kept, and what happens without a subnet."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.confs import chained
from tests.kit.node import REFERENCE
from tests.kit.state import assert_same, snapshot

if TYPE_CHECKING:
    from tests.kit.node import Node, Pod

pytestmark = pytest.mark.netns
ENV4 = """FLANNEL_NETWORK=10.1.0.0/16
FLANNEL_SUBNET=10.1.17.1/24
FLANNEL_MTU=1472
FLANNEL_IPMASQ=true
"""
ENV6 = """FLANNEL_IPV6_NETWORK=fc00::/48
FLANNEL_IPV6_SUBNET=fc00::1/64
FLANNEL_MTU=1472
FLANNEL_IPMASQ=true
"""
ENVS = {
    "4": ENV4,
    "two": ENV4.replace("10.1.0.0/16", "10.1.0.0/16,192.168.0.0/16"),
    "6": ENV6,
    "dual": ENV4 + "\n".join(ENV6.splitlines()[:2]) + "\n",
}
STATE = "/var/lib/cni/flannel/c1"


def flannel(**over: Any) -> dict[str, Any]:
    """A configuration; ``None`` leaves a key out."""
    base = {"cniVersion": "1.1.0", "name": "cbr0", "type": "flannel", "delegate": {"bridge": "br0"}}
    return {k: v for k, v in {**base, **over}.items() if v is not None}


def subnet(node: Node, text: str = ENV4, path: str = "/run/flannel/subnet.env") -> None:
    """What flanneld writes."""
    node.write(path, text)


def kept(node: Node, path: str = STATE) -> dict[str, Any]:
    """The state file."""
    return json.loads(node.read(path))


@pytest.mark.statement("FL-01", "FL-05")
def test_the_state_file_to_the_letter(node: Node, pod: Pod):
    subnet(node)
    conf = flannel(cniVersion=None, delegate=None)
    before = snapshot(node, pod, shared_links=("cni0",))
    result = node.cni("flannel", "ADD", conf, netns=pod).result
    assert kept(node) == {
        "ipMasq": False,
        "ipam": {
            "routes": [{"dst": "10.1.0.0/16"}],
            "ranges": [[{"subnet": "10.1.17.0/24"}]],
            "type": "host-local",
        },
        "isGateway": True,
        "mtu": 1472,
        "name": "cbr0",
        "type": "bridge",
    }
    assert result["ip4"]["ip"] == pod.addresses()[0] == "10.1.17.2/24"
    assert pod.link()["mtu"] == 1472
    assert node.sh("stat", "-c%a", STATE).stdout == "600\n"
    for _ in range(2):
        node.cni("flannel", "DEL", conf, netns=pod).ok()
        after = snapshot(node, pod, shared_links=("cni0",))
        after["files"] = [
            f for f in after["files"] if "/networks/cbr0/" not in f and "cni-plugins/cbr0" not in f
        ]
        assert_same(before, after)
    assert node.files("/var/lib/cni/flannel") == []


@pytest.mark.statement("FL-02", "FL-03", "FL-04")
@pytest.mark.parametrize(
    ("env", "ranges", "networks"),
    [
        ("4", ["10.1.17.0/24"], ["10.1.0.0/16"]),
        ("two", ["10.1.17.0/24"], ["10.1.0.0/16", "192.168.0.0/16"]),
        ("6", ["fc00::/64"], ["fc00::/48"]),
        ("dual", ["10.1.17.0/24", "fc00::/64"], ["10.1.0.0/16", "fc00::/48"]),
    ],
)
def test_families_and_networks(node: Node, pod: Pod, env, ranges, networks):
    subnet(node, ENVS[env])
    conf = flannel()
    result = node.cni("flannel", "ADD", conf, netns=pod).result
    assert kept(node)["ipam"]["ranges"] == [[{"subnet": s}] for s in ranges]
    assert [r["dst"] for r in kept(node)["ipam"]["routes"]] == networks
    assert len(result["ips"]) == len(ranges)
    held = {r["dst"] for f in ("-4", "-6") for r in pod.ip(f, "route")}
    assert set(networks) <= held
    node.cni("flannel", "CHECK", chained(conf, result), netns=pod).ok()
    node.cni("flannel", "DEL", conf, netns=pod).ok()
    assert pod.link() is None


@pytest.mark.statement("FL-06")
def test_places_of_ones_own(node: Node, pod: Pod):
    subnet(node, path="/run/own/env")
    conf = flannel(subnetFile="/run/own/env", dataDir="/var/lib/cni/own")
    node.cni("flannel", "ADD", conf, netns=pod).ok()
    assert kept(node, "/var/lib/cni/own/c1")["name"] == "cbr0"
    assert node.files("/var/lib/cni/flannel") == []
    node.sh("rm", "/run/own/env")  # not read by DEL
    node.cni("flannel", "DEL", conf, netns=pod).ok()
    assert node.files("/var/lib/cni/own") == []
    assert pod.link() is None


MISSING = (
    "missing FLANNEL_NETWORK, FLANNEL_IPV6_NETWORK, FLANNEL_SUBNET, FLANNEL_IPV6_SUBNET, "
    "FLANNEL_MTU, FLANNEL_IPMASQ"
)


@pytest.mark.statement("FL-07")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no such file or directory"),
        ("", MISSING),
        ("foo=bar\n", MISSING),
        ("FLANNEL_NETWORK\nFLANNEL_MTU\n", MISSING),
        (ENV4.rsplit("\n", 2)[0], "missing FLANNEL_IPMASQ"),
        (ENV4.replace("1472", "x"), "FLANNEL_MTU: 'x' is not a number of bytes"),
        (ENV4.replace("10.1.17.1/24", "10.1.17"), "FLANNEL_SUBNET: invalid CIDR address: 10.1.17"),
        (ENV4[: len(ENV4) // 3], "missing"),
    ],
    ids=["no file", "empty", "other", "no values", "half", "mtu", "subnet", "torn"],
)
def test_without_a_subnet_add_says_try_later_and_status_not_ready(node: Node, pod: Pod, text, said):
    if text is not None:
        subnet(node, text)
    before = snapshot(node, pod)
    error = node.cni("flannel", "ADD", flannel(), netns=pod).error
    assert error["code"] == 11
    assert "flannel has no subnet for this node yet: /run/flannel/subnet.env" in error["msg"]
    assert said in error["msg"]
    assert "flanneld" in error["details"]
    status = node.cni("flannel", "STATUS", flannel(), container_id="", ifname="").error
    assert (status["code"], said in status["msg"]) == (50, True)
    assert_same(before, snapshot(node, pod))
    node.cni("flannel", "DEL", flannel(), netns=pod).ok()
    subnet(node)
    node.cni("flannel", "STATUS", flannel(), container_id="", ifname="").ok()


@pytest.mark.statement("FL-08", "FL-09")
@pytest.mark.parametrize("env", ["4", "6", "dual"])
@pytest.mark.parametrize("named", [True, False])
def test_ipam_of_ones_own(node: Node, pod: Pod, env, named):
    subnet(node, ENVS[env])
    own: dict[str, Any] = {"dataDir": "/var/lib/cni/other", "unknown": {"key": [1]}}
    own["routes"] = [{"dst": "172.16.0.0/12", "gw": "10.1.17.9"}, {"dst": "0.0.0.0/0"}]
    if env == "6":
        own["routes"] = [{"dst": "fd09::/64", "gw": "fc00::9"}]
    if named:
        own["type"] = "host-local"
    node.cni("flannel", "ADD", flannel(ipam=own), netns=pod).ok()
    ipam = kept(node)["ipam"]
    assert ipam["type"] == "host-local"
    assert ipam["unknown"] == {"key": [1]}
    assert ipam["routes"][: len(own["routes"])] == own["routes"]
    behind = [r["dst"] for r in ipam["routes"][len(own["routes"]) :]]
    assert behind == {"4": ["10.1.0.0/16"], "6": ["fc00::/48"]}.get(
        env, ["10.1.0.0/16", "fc00::/48"]
    )
    assert node.files("/var/lib/cni/other") != []


def test_keys_of_the_delegate_and_of_the_runtime(node: Node, pod: Pod):
    subnet(node, ENV4.replace("=true", "=false"))
    delegate = {"bridge": "br7", "mtu": 1300, "isGateway": False, "runtimeConfig": {"x": 1}}
    runtime = {"mac": "c2:11:22:33:44:55"}
    conf = flannel(delegate=delegate, runtimeConfig=runtime)
    node.cni("flannel", "ADD", conf, netns=pod).ok()
    document = kept(node)
    assert document["ipMasq"] is True
    assert (document["mtu"], document["isGateway"]) == (1300, False)
    assert document["runtimeConfig"] == runtime
    assert document["cniVersion"] == "1.1.0"
    assert pod.link()["address"] == "c2:11:22:33:44:55"


@pytest.mark.parametrize(
    ("over", "text"),
    [
        ({"delegate": {"name": "x"}}, "delegate.name: is made by flannel"),
        ({"delegate": {"ipam": {}}}, "delegate.ipam: is made by flannel"),
        ({"delegate": {"type": 7}}, "delegate.type: expected a string"),
        ({"delegate": 7}, "delegate: expected an object"),
        ({"ipam": {"routes": "x"}}, "ipam.routes: expected an array"),
        ({"ipam": {"routes": [{"dst": "x"}]}}, "ipam.routes[0].dst: invalid CIDR address"),
    ],
)
def test_wrong_configurations(node: Node, pod: Pod, over, text):
    subnet(node)
    before = snapshot(node, pod)
    error = node.cni("flannel", "ADD", flannel(**over), netns=pod).error
    assert (error["code"], text in error["msg"]) == (7, True), error
    assert_same(before, snapshot(node, pod))
    node.cni("flannel", "DEL", flannel(**over), netns=pod).ok()


# --- state --------------------------------------------------------------------------------------


def failing_delegate(node: Node) -> str:
    """A directory whose bridge refuses every DEL."""
    path = f"{node.scratch}/broken"
    node.sh("mkdir", "-p", path)
    error = json.dumps({"code": 999, "msg": "the disk is on fire"})
    node.install(path, "bridge", f"cat > /dev/null; echo '{error}'; exit 1\n")
    return path


def test_nothing_is_lost_when_the_delegate_s_del_fails(node: Node, pod: Pod):
    subnet(node)
    node.cni("flannel", "ADD", flannel(), netns=pod).ok()
    state = kept(node)
    error = node.cni("flannel", "DEL", flannel(), netns=pod, path=failing_delegate(node)).error
    assert "the disk is on fire" in error["msg"]
    assert kept(node) == state
    assert pod.link() is not None
    node.cni("flannel", "DEL", flannel(), netns=pod).ok()
    assert pod.link() is None
    assert node.files("/var/lib/cni/flannel") == []


def test_two_attachments_of_a_container_do_not_share_what_is_kept(node: Node, pod: Pod):
    subnet(node)
    first, second = flannel(), flannel(name="cbr1", delegate={"bridge": "br1"})
    node.cni("flannel", "ADD", first, netns=pod).ok()
    node.cni("flannel", "ADD", second, netns=pod, ifname="net1").ok()
    assert kept(node)["name"] == "cbr0"
    node.cni("flannel", "DEL", second, netns=pod, ifname="net1").ok()
    assert pod.link("net1") is None
    assert kept(node)["name"] == "cbr0"
    node.cni("flannel", "DEL", first, netns=pod).ok()
    assert pod.link() is None
    assert node.files("/var/lib/cni/flannel") == []
    assert node.leases("cbr0") == node.leases("cbr1") == set()


def test_an_add_that_fails_keeps_nothing(node: Node, pod: Pod):
    subnet(node)
    pod.sh("ip", "link", "add", "eth0", "type", "bridge")
    before = snapshot(node, pod)
    node.cni("flannel", "ADD", flannel(), netns=pod).error  # noqa: B018 - asserts
    assert_same(before, snapshot(node, pod))


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "7"])
def test_a_damaged_state_file_does_not_hold_a_del_up(node: Node, pod: Pod, content):
    node.write(STATE, content)
    done = node.cni("flannel", "DEL", flannel(), netns=pod).ok()
    assert STATE in done.stderr or content in {"[]", "null", "7"}


def test_the_reference_s_state_file_is_honoured(node: Node, pod: Pod):
    """Its flannel kept the delegate's configuration, its bridge made the pod's link."""
    document = {
        "cniVersion": "1.0.0", "hairpinMode": True, "ipMasq": False, "isGateway": True, "mtu": 1472,
        "ipam": {"ranges": [[{"subnet": "10.1.17.0/24"}]], "routes": [{"dst": "10.1.0.0/16"}],
                 "type": "host-local"},
        "name": "cbr0", "type": "bridge", "bridge": "br0",
    }  # fmt: skip
    result = node.cni("bridge", "ADD", document, netns=pod, binaries=REFERENCE).result
    node.write(STATE, json.dumps(document))
    conf = flannel(cniVersion="1.0.0")
    node.cni("flannel", "CHECK", chained(conf, result), netns=pod).ok()
    assert node.leases("cbr0") == {"10.1.17.2"}
    node.cni("flannel", "DEL", conf, netns=pod).ok()
    assert pod.link() is None
    assert node.leases("cbr0") == set()
    assert node.files("/var/lib/cni/flannel") == []


def test_the_reference_can_undo_what_our_flannel_kept(node: Node, pod: Pod):
    """Its DEL runs the kept type with the kept bytes."""
    subnet(node)
    node.cni("flannel", "ADD", flannel(cniVersion="1.0.0"), netns=pod).ok()
    raw = node.read(STATE)
    node.cni(json.loads(raw)["type"], "DEL", raw, netns=pod, binaries=REFERENCE).ok()
    assert pod.link() is None
    assert node.leases("cbr0") == set()


def test_check_of_what_is_not_known(node: Node, pod: Pod):
    error = node.cni(
        "flannel", "CHECK", chained(flannel(), {"cniVersion": "1.1.0"}), netns=pod
    ).error
    assert "no ADD is known" in error["msg"]


def test_gc(node: Node):
    subnet(node)
    pods = {name: node.pod(name) for name in ("a", "b")}
    for name, pod in pods.items():
        node.cni("flannel", "ADD", flannel(), netns=pod, container_id=name).ok()
    valid = [{"containerID": "b", "ifname": "eth0"}]
    conf = flannel(**{"cni.dev/valid-attachments": valid})
    node.cni("flannel", "GC", conf, container_id="", ifname="").ok()
    assert len(node.leases("cbr0")) == 1
    assert [f.rsplit("/", 1)[1] for f in node.files("/var/lib/cni/flannel")][-1] == "b"
    assert pods["a"].link() is None
    assert pods["b"].link() is not None
