"""tuning on a real pod: what ADD changes, what CHECK names, what DEL puts back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.faults import Faults
from tests.kit.state import assert_same, snapshot

if TYPE_CHECKING:
    from tests.kit.node import Node, Outcome, Pod

pytestmark = pytest.mark.netns
statement = pytest.mark.statement
MAC = "02:00:00:00:00:77"
ARP = "net.ipv4.conf.IFNAME.arp_filter"
KEEPALIVE = "net.ipv4.tcp_keepalive_time"
ALLOWLIST = "/etc/cni/tuning/allowlist.conf"
FULL = {
    "sysctl": {ARP: "1", KEEPALIVE: "77"},
    "mac": MAC,
    "mtu": 1454,
    "promisc": True,
    "allmulti": True,
    "txQLen": 20000,
}


@pytest.fixture
def pod(node: Node) -> Pod:
    """A pod whose eth0 is one end of a veth pair."""
    pod = node.pod("pod1")
    node.ip("link", "add", "veth1", "type", "veth", "peer", "name", "eth0", "netns", "pod1")
    return pod


def conf(version: str = "1.0.0", **over: Any) -> dict[str, Any]:
    """A chained configuration."""
    previous = {
        "cniVersion": version,
        "interfaces": [{"name": "eth0", "sandbox": "/run/netns/pod1", "mac": "00:00:00:00:00:01"}],
        "ips": [{"address": "10.0.0.2/24", "interface": 0}],
    }
    if version.startswith("0."):
        previous["ips"][0]["version"] = "4"  # type: ignore[index]
    document = {"cniVersion": version, "name": "net1", "type": "tuning", "prevResult": previous}
    return {k: v for k, v in {**document, **over}.items() if v is not None}


def call(node: Node, command: str, pod: Any, document: dict[str, Any], **more: Any) -> Outcome:
    """One call."""
    return node.cni("tuning", command, document, netns=pod, **more)


def facts(pod: Pod) -> dict[str, Any]:
    """What tuning can change, as the kernel has it."""
    link = pod.link()
    assert link is not None
    read = [
        "cat",
        "/proc/sys/net/ipv4/conf/eth0/arp_filter",
        "/proc/sys/net/ipv4/tcp_keepalive_time",
    ]
    return {
        "sysctl": pod.sh(*read).stdout.split(),
        "mac": link["address"],
        "mtu": link["mtu"],
        "promiscuity": link["promiscuity"],
        "allmulti": "ALLMULTI" in link["flags"],
        "txqlen": link.get("txqlen", 0),
    }


TUNED = {
    "sysctl": ["1", "77"],
    "mac": MAC,
    "mtu": 1454,
    "promiscuity": 1,
    "allmulti": True,
    "txqlen": 20000,
}


@statement("TU01")
def test_settings_alone_pass_the_result_on_and_make_no_backup_of_the_link(node, pod):
    document = conf(sysctl={KEEPALIVE: "77"})
    result = call(node, "ADD", pod, document).result
    assert result == document["prevResult"]
    assert "/run/cni/tuning/c1_eth0.json" not in node.files("/run/cni")
    assert facts(pod)["sysctl"][1] == "77"


@statement("TU02")
@pytest.mark.parametrize("where", ["conf", "args"])
@pytest.mark.parametrize(
    ("key", "value", "fact", "tuned"),
    [
        ("promisc", True, "promiscuity", 1),
        ("mtu", 1454, "mtu", 1454),
        ("txQLen", 20000, "txqlen", 20000),
        ("txQLen", 0, "txqlen", 0),
        ("mac", MAC, "mac", MAC),
        ("mac", MAC.upper(), "mac", MAC),
        ("allmulti", True, "allmulti", True),
    ],
)
def test_an_attribute_is_set_checked_and_put_back(node, pod, where, key, value, fact, tuned):
    before = facts(pod)
    given = {key: value} if where == "conf" else {"args": {"cni": {key: value}}}
    document = conf(**given)
    call(node, "ADD", pod, document).ok()
    assert facts(pod) == before | {fact: tuned}
    call(node, "CHECK", pod, document).ok()
    call(node, "DEL", pod, document).ok()
    assert facts(pod) == before
    assert node.files("/run/cni", "/run/cni-plugins") == []


@statement("TU03")
@pytest.mark.parametrize(
    ("over", "args", "expected"),
    [
        ({}, f"IgnoreUnknown=true;MAC={MAC}", MAC),
        ({"RuntimeConfig": {"mac": MAC}}, "", MAC),
        ({"RuntimeConfig": {"mac": MAC}}, "MAC=02:00:00:00:00:01", MAC),
        ({"mac": "02:00:00:00:00:01"}, f"MAC={MAC}", MAC),
        ({"args": {"cni": {"mac": MAC}}, "runtimeConfig": {"mac": "02:00:00:00:00:02"}}, "", MAC),
    ],
)
def test_where_a_mac_address_may_come_from(node, pod, over, args, expected):
    result = call(node, "ADD", pod, conf(**over), args=args).result
    assert facts(pod)["mac"] == expected
    assert result["interfaces"][0]["mac"] == expected


@statement("TU04")
@statement("TU05")
def test_everything_at_once_in_a_directory_of_its_own(node, pod):
    before = facts(pod)
    document = conf(dataDir="/run/elsewhere", **FULL)
    call(node, "ADD", pod, document).ok()
    assert facts(pod) == TUNED
    kept = json.loads(node.read("/run/elsewhere/c1_eth0.json"))
    assert list(kept) == ["mac", "promisc", "mtu", "allmulti", "txQLen"]
    assert kept["mac"] == before["mac"]
    call(node, "DEL", pod, document).ok()
    assert facts(pod) == before
    assert node.files("/run/elsewhere") == []


@statement("TU06")
@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0", "1.0.0"])
def test_the_allowlist(node, pod, version):
    node.write(ALLOWLIST, "net.core\n\n  ^net\\.ipv4\\.conf\\.IFNAME\\..*$ \n")
    document = conf(version, sysctl={KEEPALIVE: "77"})
    before = facts(pod)
    error = call(node, "ADD", pod, document).error
    assert (
        f"Sysctl {KEEPALIVE} is not allowed. Only the following sysctls are allowed" in error["msg"]
    )
    assert facts(pod) == before
    call(node, "DEL", pod, document).ok()
    call(node, "ADD", pod, conf(version, sysctl={ARP: "1"})).ok()
    assert facts(pod)["sysctl"][0] == "1"


def test_status_tells_of_a_setting_that_no_pod_would_get(node):
    document = conf("1.1.0", sysctl={KEEPALIVE: "77"}, prevResult=None)
    call(node, "STATUS", "", document).ok()
    node.write(ALLOWLIST, "(")
    error = call(node, "STATUS", "", document).error
    assert error["code"] == 50
    assert "no regular expression" in error["msg"]
    node.write(ALLOWLIST, "")
    assert "is not allowed" in call(node, "STATUS", "", document).error["msg"]


@statement("TU07")
def test_a_setting_written_twice(node, pod):
    raw = json.dumps(conf(sysctl={KEEPALIVE: "77"}))
    twice = raw.replace(f'"{KEEPALIVE}": "77"', f'"{KEEPALIVE}": "77", "{KEEPALIVE}": "78"')
    error = node.cni("tuning", "ADD", twice.encode(), netns=pod).error
    assert "duplicated sysctl keys are not allowed" in error["msg"]
    assert KEEPALIVE in error["msg"] + error.get("details", "")
    assert facts(pod)["sysctl"][1] != "77"


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"sysctl": {"kernel.hostname": "x"}}, 'invalid net sysctl key: "kernel/hostname"'),
        ({"sysctl": {"net.ipv4.nonsense": "1"}}, "there is no /proc/sys/net/ipv4/nonsense"),
        ({"sysctl": {"net.ipv4.../../kernel/x": "1"}}, "invalid net sysctl key"),
        ({"sysctl": {KEEPALIVE: 7}}, f"sysctl.{KEEPALIVE}: expected a string, got integer"),
        ({"sysctl": {KEEPALIVE: "many"}}, f"write 'many' to sysctl {KEEPALIVE.replace('.', '/')}"),
        ({"mac": "nonsense"}, "mac: "),
        ({"mtu": -1}, "mtu: -1 is outside"),
        ({"txQLen": "5"}, "txQLen: expected an integer"),
        ({"mtu": 10}, "set link eth0"),
        ({"prevResult": None}, "Required prevResult missing"),
    ],
)
def test_bad_input_changes_nothing(node, pod, over, said):
    before = facts(pod), snapshot(node)
    error = call(node, "ADD", pod, conf(**{"promisc": True, **over})).error
    assert said in error["msg"]
    assert (facts(pod), snapshot(node)) == before


@statement("TU08")
def test_an_ifname_with_a_slash(node, pod):
    error = call(node, "ADD", pod, conf(), ifname="eth/0").error
    assert error["code"] == 4
    assert "invalid character" in error["msg"] or "contains /" in error["msg"]


def test_a_repeated_add_keeps_the_first_backup(node, pod):
    before = facts(pod)
    document = conf(**FULL)
    call(node, "ADD", pod, document).ok()
    assert "already" in call(node, "ADD", pod, document).error["msg"]
    node.sh("rm", "-r", "/run/cni-plugins")
    call(node, "ADD", pod, document).ok()
    call(node, "DEL", pod, document).ok()
    assert facts(pod) == before


def test_del_without_netns_prevresult_and_twice(node, pod):
    document = conf(**FULL)
    call(node, "ADD", pod, document).ok()
    pod.delete()
    call(node, "DEL", "", conf(prevResult=None, **FULL)).ok()
    call(node, "DEL", "", conf(prevResult=None, **FULL)).ok()
    assert node.files("/run/cni", "/run/cni-plugins") == []


@pytest.mark.parametrize(
    ("drift", "named"),
    [
        (["ip", "link", "set", "eth0", "mtu", "1400"], "mtu of eth0 is 1400, not 1454"),
        (["ip", "link", "set", "eth0", "promisc", "off"], "promisc of eth0"),
        (["ip", "link", "set", "eth0", "allmulticast", "off"], "allmulti of eth0"),
        (["ip", "link", "set", "eth0", "txqueuelen", "5"], "txQLen of eth0 is 5, not 20000"),
        (["ip", "link", "set", "eth0", "address", "02:00:00:00:00:01"], "mac of eth0"),
        (["sysctl", "-qw", "net.ipv4.conf.eth0.arp_filter=0"], f"sysctl {ARP} is '0', not '1'"),
    ],
)
def test_check_names_what_drifted(node, pod, drift, named):
    document = conf(**FULL)
    call(node, "ADD", pod, document).ok()
    call(node, "CHECK", pod, document).ok()
    pod.sh(*drift)
    assert named in call(node, "CHECK", pod, document).error["msg"]


def test_gc_puts_back_what_is_not_valid_any_more(node, pod):
    before = facts(pod)
    document = conf("1.1.0", **FULL)
    call(node, "ADD", pod, document).ok()
    call(node, "GC", "", {**document, "cni.dev/valid-attachments": []}).ok()
    assert facts(pod) == before
    assert node.files("/run/cni", "/run/cni-plugins") == []


def test_no_failure_of_an_adapter_leaves_anything(node, pod):
    document = conf(**FULL)
    before = facts(pod), snapshot(node)
    calls = call(node, "ADD", pod, document, prepare=Faults()).ok().extra
    call(node, "DEL", pod, document).ok()
    for n in range(1, len(calls) + 1):
        done = call(node, "ADD", pod, document, prepare=Faults(n))
        if done.exit_code == 0:
            call(node, "DEL", pod, document).ok()
        assert (facts(pod), snapshot(node)) == before, calls[n - 1]


def test_kill_9_anywhere_and_del_puts_everything_back(node, pod):
    document = conf(**FULL)
    before = facts(pod), snapshot(node)
    calls = call(node, "ADD", pod, document, prepare=Faults()).ok().extra
    call(node, "DEL", pod, document).ok()
    for n in range(1, len(calls) + 1):
        with pytest.raises(ChildProcessError):
            call(node, "ADD", pod, document, prepare=Faults(n, kill=True))
        call(node, "DEL", pod, document).ok()
        assert_same({"facts": before[0], **before[1]}, {"facts": facts(pod), **snapshot(node)})
