"""What all interface plugins do alike: ADD, CHECK, DEL, and what must not depend on anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.confs import chained
from tests.kit.interfaces import EVERYWHERE, INTERFACES, Case, prepare
from tests.kit.state import assert_same, snapshot
from tests.kit.waiting import wait_for

if TYPE_CHECKING:
    from tests.kit.node import Node, Pod

pytestmark = pytest.mark.netns
VERSIONS = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]


ALL = [
    pytest.param(name, marks=[] if name in EVERYWHERE else pytest.mark.kernel)
    for name in INTERFACES
]


@pytest.fixture(params=ALL)
def case(request, node: Node) -> Case:
    """A plugin with its configuration; what it stands on is there."""
    prepare(node)
    return INTERFACES[request.param]


@pytest.mark.statement(
    "MV-02", "MV-05", "IV-01", "IV-02", "VL-03", "DU-01", "DU-03", "PT-06", "PT-08"
)
def test_add_check_del(node: Node, pod: Pod, case: Case):
    before = snapshot(node, pod)
    result = node.cni(case.plugin, "ADD", case.conf(), netns=pod).result

    ours = [i for i in result["interfaces"] if i.get("sandbox")]
    assert [(i["name"], i["sandbox"]) for i in ours] == [("eth0", pod.path)]
    link = pod.link()
    assert link is not None
    assert link["address"] == ours[0]["mac"]
    assert "UP" in link["flags"]
    assert link.get("linkinfo", {}).get("info_kind") == case.kind
    assert pod.addresses() == [ip["address"] for ip in result["ips"]]
    index = result["interfaces"].index(ours[0])
    assert {ip["interface"] for ip in result["ips"]} == {index}
    node.cni(case.plugin, "CHECK", chained(case.conf(), result), netns=pod).ok()

    for _ in range(2):
        node.cni(case.plugin, "DEL", chained(case.conf(), result), netns=pod).ok()
        assert_same(before, snapshot(node, pod))


@pytest.mark.statement("PT-07", "MV-05", "VL-03", "DU-03")
@pytest.mark.parametrize("version", VERSIONS)
def test_every_version(node: Node, pod: Pod, case: Case, version: str):
    conf = case.conf(cniVersion=version)
    result = node.cni(case.plugin, "ADD", conf, netns=pod).result
    assert result["cniVersion"] == version
    outcome = node.cni(case.plugin, "CHECK", chained(conf, result), netns=pod)
    if version < "0.4.0":
        assert outcome.error["msg"] == "config version does not allow CHECK"
    else:
        outcome.ok()
    node.cni(case.plugin, "DEL", conf, netns=pod).ok()


@pytest.mark.statement("IV-06")
@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
def test_the_oldest_versions(node: Node, pod: Pod, case: Case, version: str):
    conf = case.conf(cniVersion=version, ipam=case.ipam4)
    result = node.cni(case.plugin, "ADD", conf, netns=pod).result
    assert result["ip4"]["ip"] == pod.addresses()[0]
    node.cni(case.plugin, "DEL", conf, netns=pod).ok()


@pytest.mark.parametrize("how", ["gone", "no path", "a file"])
def test_del_without_the_namespace(node: Node, pod: Pod, case: Case, how: str):
    before = node.leases()
    node.cni(case.plugin, "ADD", case.conf(), netns=pod).ok()
    pod.delete()
    path = {"gone": pod.path, "no path": "", "a file": f"{node.scratch}/file"}[how]
    if how == "a file":
        node.write(path, "")
    for _ in range(2):
        node.cni(case.plugin, "DEL", case.conf(), netns=path).ok()
    assert node.leases() == before
    assert not [n for n in node.links() if n.startswith("veth") and n not in {"parent", "far"}]


@pytest.mark.parametrize("dns", [None, {"nameservers": ["9.9.9.9"]}])
def test_dns_is_the_configuration_s_else_the_ipam_plugin_s(
    node: Node, pod: Pod, case: Case, dns: dict[str, Any] | None
):
    own = {"nameservers": ["10.9.0.53"], "search": ["example.org"]}
    ipam = {"type": "static", "addresses": [{"address": "10.9.0.77/24", "gateway": "10.9.0.1"}]}
    conf = case.conf(ipam=ipam | {"dns": own}, dns=dns)
    assert node.cni(case.plugin, "ADD", conf, netns=pod).result["dns"] == (dns or own)


def test_announcements_heal_a_neighbour_s_stale_entry(node: Node, pod: Pod, case: Case):
    """An address that another MAC had before: gratuitous ARP, unsolicited neighbour advertisement."""
    if case.plugin not in {"macvlan", "vlan"}:
        return  # nobody else is on that link, or all have the same MAC address
    far = "far"
    if case.plugin == "vlan":
        node.sh(
            "ip",
            "-n",
            "outside",
            "link",
            "add",
            "far.33",
            "link",
            "far",
            "type",
            "vlan",
            "id",
            "33",
        )
        node.sh("ip", "-n", "outside", "link", "set", "far.33", "up")
        far = "far.33"
    addresses = ("10.9.0.77", "fd00:9::77")
    for address in addresses:
        node.sh(
            *("ip", "-n", "outside", "neigh", "replace", address, "dev", far),
            *("lladdr", "02:00:00:00:00:99", "nud", "stale"),
        )
    ipam = {
        "type": "static",
        "addresses": [{"address": "10.9.0.77/24"}, {"address": "fd00:9::77/64"}],
    }
    node.cni(case.plugin, "ADD", case.conf(ipam=ipam), netns=pod).ok()
    mac = pod.link()["address"]

    def known() -> set[str]:
        found = node.ip("-n", "outside", "neigh", "show", "dev", far)
        return {n.get("lladdr", "") for n in found if n["dst"] in addresses}

    wait_for("announcements", lambda: known() == {mac}, 5.0)


@pytest.mark.statement("PT-12", "MV-03", "IV-04")
def test_del_of_what_was_never_added(node: Node, pod: Pod, case: Case):
    node.cni(case.plugin, "DEL", case.conf(), netns=pod).ok()


def test_a_taken_name_is_refused_and_untouched(node: Node, pod: Pod, case: Case):
    pod.sh("ip", "link", "add", "eth0", "type", "bridge")
    before = snapshot(node, pod)
    error = node.cni(case.plugin, "ADD", case.conf(), netns=pod).error
    assert "eth0 already" in error["msg"]
    assert_same(before, snapshot(node, pod))


def test_a_second_add_is_refused(node: Node, pod: Pod, case: Case):
    node.cni(case.plugin, "ADD", case.conf(), netns=pod).ok()
    before = snapshot(node, pod)
    assert "already" in node.cni(case.plugin, "ADD", case.conf(), netns=pod).error["msg"]
    assert_same(before, snapshot(node, pod))


def test_check_names_what_is_missing(node: Node, pod: Pod, case: Case):
    result = node.cni(case.plugin, "ADD", case.conf(), netns=pod).result
    conf = chained(case.conf(), result)
    for command, named in (
        (["ip", "addr", "del", result["ips"][0]["address"], "dev", "eth0"], "has no address"),
        (["ip", "link", "set", "eth0", "down"], "is down"),
        (["ip", "link", "set", "eth0", "name", "other"], "is gone"),
    ):
        pod.sh(*command)
        error = node.cni(case.plugin, "CHECK", conf, netns=pod).error
        assert named in error["msg"] + error.get("details", "")


def test_gc_takes_what_is_not_valid(node: Node, pod: Pod, case: Case):
    before = snapshot(node, pod)
    conf = case.conf()
    node.cni(case.plugin, "ADD", conf, netns=pod).ok()
    valid: dict[str, Any] = {"containerID": "c1", "ifname": "eth0"}
    collect = {**conf, "cni.dev/valid-attachments": [valid]}
    added = snapshot(node, pod)
    node.cni(case.plugin, "GC", collect, container_id="", ifname="").ok()
    assert_same(added, snapshot(node, pod))
    collect = {**conf, "cni.dev/valid-attachments": []}
    node.cni(case.plugin, "GC", collect, container_id="", ifname="").ok()
    assert_same(before, snapshot(node, pod))


@pytest.mark.statement("PT-13", "MV-09", "VL-06", "DU-05", "TA-03")
def test_status(node: Node, case: Case):
    node.cni(case.plugin, "STATUS", case.conf(), container_id="", ifname="").ok()
    broken = case.conf(ipam={"type": "host-local"})
    outcome = node.cni(case.plugin, "STATUS", broken, container_id="", ifname="")
    assert outcome.error["code"] == 50
