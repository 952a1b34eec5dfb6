"""bandwidth on real pods: qdiscs, measured rates, drift, leftovers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.confs import bridge
from tests.kit.faults import Faults
from tests.kit.traffic import blast

if TYPE_CHECKING:
    from tests.kit.node import Node, Outcome

pytestmark = pytest.mark.netns
statement = pytest.mark.statement
BRIDGE = bridge("1.0.0", name="net1")
BOTH = {"ingressRate": 8_000, "ingressBurst": 8_000, "egressRate": 16_000, "egressBurst": 8_000}
FAST = {"ingressRate": 8_000_000, "ingressBurst": 800_000}
FAST |= {"egressRate": 16_000_000, "egressBurst": 800_000}


class Shaped:
    """A pod on a bridge, to which bandwidth is then called."""

    def __init__(self, node: Node, name: str = "pod1", container_id: str = "c1") -> None:
        self.node = node
        self.pod = node.pod(name)
        self.id = container_id
        self.result = node.cni(
            "bridge", "ADD", BRIDGE, netns=self.pod, container_id=container_id
        ).result
        self.veth = next(i["name"] for i in self.result["interfaces"] if "veth" in i["name"])

    def conf(self, version: str = "1.0.0", **over: Any) -> Any:
        """A chained configuration."""
        document: dict[str, Any] = {"cniVersion": version, "name": "net1", "type": "bandwidth"}
        previous = self.result | {"cniVersion": version}
        if version.startswith("0."):
            previous["ips"] = [{"version": "4", **ip} for ip in previous["ips"]]
        document |= {"prevResult": previous, **over}
        return {k: v for k, v in document.items() if v is not None}  # None leaves a key out

    def call(self, command: str, *, netns: Any = None, **over: Any) -> Outcome:
        """One call."""
        more = {"prepare": over.pop("prepare")} if "prepare" in over else {}
        where: Any = self.pod if netns is None else netns
        conf = self.conf(**over)
        return self.node.cni("bandwidth", command, conf, netns=where, container_id=self.id, **more)

    def ifb(self) -> Any:
        """The ifb device."""
        links = self.node.ip("-d", "link", "show", "type", "ifb")
        return links[0] if links else None


def qdiscs(node: Node, link: str) -> list[dict[str, Any]]:
    """``tc -j qdisc`` of a link, but for what htb counts."""
    found = json.loads(node.sh("tc", "-j", "qdisc", "show", "dev", link).stdout)
    for qdisc in found:
        qdisc.get("options", {}).pop("direct_packets_stat", None)
    return found


def tbf(node: Node, link: str) -> Any:
    """The options of the link's root, if that is a tbf."""
    roots = [q for q in qdiscs(node, link) if q.get("root") and q["kind"] == "tbf"]
    return roots[0]["options"] if roots else None


def filters(node: Node, link: str, parent: str = "ffff:") -> list[dict[str, Any]]:
    """The u32 filters that do something."""
    shown = node.sh("tc", "-j", "filter", "show", "dev", link, "parent", parent, check=False)
    listed = json.loads(shown.stdout or "[]")
    return [f["options"] for f in listed if "actions" in f.get("options", {})]


def traces(node: Node) -> dict[str, Any]:
    """What bandwidth may leave."""
    return {
        "links": {
            link["ifname"]: link.get("linkinfo", {}).get("info_kind")
            for link in node.ip("-d", "link")
        },
        "qdiscs": {name: qdiscs(node, name) for name in node.links()},
        "files": [f for f in node.files("/run/cni-plugins") if "bandwidth" in f],
    }


@pytest.fixture
def shaped(node: Node) -> Shaped:
    """The usual pod."""
    return Shaped(node)


@statement("BW03")
@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0", "1.0.0"])
def test_both_directions(shaped, node, version):
    host_mtu = node.link(shaped.veth)["mtu"]
    result = shaped.call("ADD", version=version, **BOTH).result
    name = "bwp" + "0123456789ab"
    added = result["interfaces"][-1]
    assert len(result["interfaces"]) == len(shaped.result["interfaces"]) + 1
    assert added["name"].startswith("bwp")
    assert len(added["name"]) == len(name)
    assert not added.get("sandbox")
    ifb = shaped.ifb()
    assert (ifb["ifname"], ifb["mtu"], ifb.get("txqlen", 0)) == (added["name"], host_mtu, 0)
    assert tbf(node, shaped.veth)["rate"] == 1000
    assert tbf(node, ifb["ifname"])["rate"] == 2000
    assert [q["kind"] for q in qdiscs(node, shaped.veth)] == ["tbf", "ingress"]
    (redirect,) = filters(node, shaped.veth)
    assert redirect["actions"][0]["to_dev"] == ifb["ifname"]


@statement("BW04")
def test_the_name_of_the_ifb_device():
    from bandwidth.plugin import ifb_names

    assert ifb_names("cni-plugin-bandwidth-test", "dummy", "eth0")[0] == "bwpa8eda89404b7"


@statement("BW05")
def test_one_direction_alone(shaped, node):
    shaped.call("ADD", egressRate=16_000, egressBurst=8_000).ok()
    assert tbf(node, shaped.veth) is None
    assert shaped.ifb() is not None
    shaped.call("DEL").ok()
    result = shaped.call("ADD", ingressRate=8_000, ingressBurst=80).result
    assert shaped.ifb() is None
    assert tbf(node, shaped.veth)["rate"] == 1000
    assert result["interfaces"] == shaped.result["interfaces"]


@statement("BW06")
def test_limits_of_the_runtime(shaped, node):
    shaped.call("ADD", runtimeConfig={"bandWidth": {k.title(): v for k, v in BOTH.items()}}).ok()
    assert tbf(node, shaped.veth)["rate"] == 1000


@statement("BW07")
def test_limits_of_the_list_hide_those_of_the_runtime(shaped):
    error = shaped.call("ADD", ingressRate=0, ingressBurst=8, runtimeConfig={"bandwidth": BOTH})
    assert error.error["msg"] == "if burst is set, rate must also be set"


@statement("BW08")
@pytest.mark.parametrize("gone", [False, True])
def test_del_takes_everything_away(shaped, node, gone):
    before = traces(node)
    shaped.call("ADD", **BOTH).ok()
    if gone:
        shaped.pod.delete()
    shaped.call("DEL", netns="" if gone else None, prevResult=None).ok()
    shaped.call("DEL", netns="" if gone else None, ingressRate="nonsense").ok()
    assert shaped.ifb() is None
    if not gone:
        assert traces(node) == before


def test_add_again_after_del(shaped, node):
    for _ in range(2):
        shaped.call("ADD", **BOTH).ok()
        shaped.call("CHECK", **BOTH).ok()
        shaped.call("DEL").ok()


@statement("BW09")
def test_the_real_peer_is_found_among_several(shaped, node):
    node.sh("ip", "link", "add", "vethother", "type", "veth", "peer", "name", "vethpeer")
    interfaces = [{"name": "vethother"}, {"name": "vethpeer"}, *shaped.result["interfaces"]]
    previous = shaped.result | {"interfaces": interfaces, "ips": []}
    result = shaped.call("ADD", prevResult=previous, **BOTH).result
    assert tbf(node, shaped.veth)["rate"] == 1000
    assert len(result["interfaces"]) == len(interfaces) + 1


@statement("BW10")
@pytest.mark.parametrize(
    ("interfaces", "said"),
    [
        ([], "no interfaces provided"),
        ([{"name": "nosuch"}], "no veth peer of container interface found in host ns"),
    ],
)
def test_prevresult_does_not_have_the_peer(shaped, node, interfaces, said):
    before = traces(node)
    previous = {"cniVersion": "1.0.0", "interfaces": interfaces, "ips": []}
    assert said in shaped.call("ADD", prevResult=previous, **BOTH).error["msg"]
    assert traces(node) == before


@statement("BW10")
def test_a_macvlan_cannot_be_limited(node):
    pod = node.pod("pod1")
    node.sh("ip", "link", "add", "p0", "type", "veth", "peer", "name", "p1")
    node.sh("ip", "link", "add", "eth0", "link", "p0", "netns", "pod1", "type", "macvlan")
    previous = {"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": pod.path}]}
    conf = {"cniVersion": "1.0.0", "name": "n", "type": "bandwidth", "prevResult": previous}
    error = node.cni("bandwidth", "ADD", conf | BOTH, netns=pod).error
    assert "container interface eth0 has no veth peer: it is macvlan" in error["msg"]


@statement("BW11")
def test_check_with_and_without_limits(shaped):
    shaped.call("CHECK").ok()
    shaped.call("ADD", **BOTH).ok()
    shaped.call("CHECK", **BOTH).ok()


@pytest.mark.parametrize(
    ("drift", "named"),
    [
        ("tc qdisc del dev VETH root", "VETH has no tbf qdisc"),
        (
            "tc qdisc replace dev VETH root handle 1: tbf rate 9kbit burst 1k limit 1k",
            "Rate of VETH",
        ),
        ("tc qdisc del dev VETH ingress", "what comes in on VETH is not redirected to IFB"),
        ("tc filter del dev VETH parent ffff:", "is not redirected"),
        ("ip link del IFB", "get ifb device: Link not found"),
        ("ip link set IFB down", "IFB is down"),
        ("tc qdisc del dev IFB root", "IFB has no tbf qdisc"),
        ("tc qdisc replace dev IFB root handle 1: tbf rate 16kbit burst 9k limit 9k", "of IFB is"),
    ],
)
def test_check_names_what_drifted(shaped, node, drift, named):
    shaped.call("ADD", **BOTH).ok()
    names = {"VETH": shaped.veth, "IFB": shaped.ifb()["ifname"]}
    for name, real in names.items():
        drift, named = drift.replace(name, real), named.replace(name, real)
    node.sh(*drift.split())
    assert named in shaped.call("CHECK", **BOTH).error["msg"]


@pytest.mark.parametrize("kind", ["ingress", "clsact"])
def test_another_program_s_ingress_qdisc_is_used_and_left(shaped, node, kind):
    node.sh("tc", "qdisc", "add", "dev", shaped.veth, kind)
    parent = "ffff:" if kind == "ingress" else "ffff:fff2"
    match = [
        "protocol",
        "ip",
        "u32",
        "match",
        "u32",
        "0",
        "0",
        "action",
        "mirred",
        "egress",
        "mirror",
        "dev",
        "lo",
    ]
    node.sh("tc", "filter", "add", "dev", shaped.veth, "parent", parent, "prio", "7", *match)
    before = filters(node, shaped.veth, parent)
    shaped.call("ADD", **BOTH).ok()
    shaped.call("CHECK", **BOTH).ok()
    assert len(filters(node, shaped.veth, parent)) == 2
    shaped.call("DEL").ok()
    assert filters(node, shaped.veth, parent) == before
    assert kind in [q["kind"] for q in qdiscs(node, shaped.veth)]


def test_a_root_qdisc_of_somebody_else_is_not_replaced(shaped, node):
    node.sh("tc", "qdisc", "add", "dev", shaped.veth, "root", "handle", "5:", "htb")
    before = traces(node)
    assert "htb 5: was made by somebody else" in shaped.call("ADD", **BOTH).error["msg"]
    assert traces(node) == before


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"ingressRate": 8000}, "if rate is set, burst must also be set"),
        ({"ingressRate": -1, "ingressBurst": 8}, "ingressRate: -1 is outside"),
        ({"egressRate": 2**64, "egressBurst": 8}, "egressRate: 18446744073709551616 is outside"),
        ({"egressRate": 7, "egressBurst": 8}, "less than a byte a second"),
        ({"egressRate": "1M", "egressBurst": 8}, "egressRate: expected an integer, got string"),
        ({"ingressRate": 8, "ingressBurst": 2**36}, "burst cannot be more than 4GB"),
        ({"prevResult": None, **BOTH}, "must be called as chained plugin"),
        ({"prevResult": None}, "must be called as chained plugin"),
    ],
)
def test_bad_input_changes_nothing(shaped, node, over, said):
    before = traces(node)
    assert said in shaped.call("ADD", **over).error["msg"]
    assert traces(node) == before


def test_no_failure_of_an_adapter_leaves_anything(shaped, node):
    before = traces(node)
    calls = shaped.call("ADD", prepare=Faults(), **BOTH).ok().extra
    shaped.call("DEL").ok()
    for n in range(1, len(calls) + 1):
        done = shaped.call("ADD", prepare=Faults(n), **BOTH)
        if done.exit_code == 0:
            shaped.call("DEL").ok()
        assert traces(node) == before, calls[n - 1]


def test_kill_9_anywhere_and_del_takes_everything_away(shaped, node):
    before = traces(node)
    calls = shaped.call("ADD", prepare=Faults(), **BOTH).ok().extra
    shaped.call("DEL").ok()
    for n in range(1, len(calls) + 1):
        with pytest.raises(ChildProcessError):
            shaped.call("ADD", prepare=Faults(n, kill=True), **BOTH)
        shaped.call("DEL").ok()
        assert traces(node) == before, calls[n - 1]


@pytest.mark.parametrize("journal", [True, False])
def test_gc_takes_devices_of_attachments_that_are_not_valid(shaped, node, journal):
    shaped.call("ADD", version="1.1.0", **BOTH).ok()
    other = Shaped(node, "pod2", "c2")
    other.call("ADD", version="1.1.0", **BOTH).ok()
    if not journal:
        node.sh("rm", "-r", "/run/cni-plugins/journal")
    valid = {"cni.dev/valid-attachments": [{"containerID": "c2", "ifname": "eth0"}]}
    shaped.call("GC", version="1.1.0", netns="", **valid).ok()
    left = node.ip("-d", "link", "show", "type", "ifb")
    assert [link["ifalias"] for link in left] == ["cni-bandwidth net1 c2 eth0"]


@statement("BW12")
@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_the_measured_rate_is_the_limit(shaped, node, direction):
    other = Shaped(node, "pod2", "c2")
    shaped.call("ADD", **FAST).ok()
    source, target = (other, shaped) if direction == "ingress" else (shaped, other)
    address = target.result["ips"][0]["address"].split("/")[0]
    assert source.pod.pings(address)
    rate, burst = FAST[f"{direction}Rate"], FAST[f"{direction}Burst"]
    quarters = blast(source.pod, target.pod, address, 5.0)
    first, steady = sum(quarters[:4]) / 4, sum(quarters[4:-1]) / len(quarters[4:-1])
    assert first <= 1.2 * rate + burst
    assert 0.95 * rate <= steady <= 1.05 * rate


@statement("BW12")
def test_only_the_limited_pod_is_limited(shaped, node):
    free, other = Shaped(node, "pod2", "c2"), Shaped(node, "pod3", "c3")
    shaped.call("ADD", **FAST).ok()
    address = other.result["ips"][0]["address"].split("/")[0]
    assert free.pod.pings(address)
    quarters = blast(free.pod, other.pod, address, 1.5)
    assert max(quarters) > 3 * FAST["egressRate"]
