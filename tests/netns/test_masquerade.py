"""Masquerading on real iptables and nftables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cni_plugins import masquerade
from cni_plugins.deadline import Deadline
from cni_plugins.errors import CniError, ExecError
from cni_plugins.host.command import Runner
from cni_plugins.masquerade import Removal, Tools
from cni_plugins.masquerade_rules import Owner
from cni_plugins.protocol.addresses import parse_network
from tests.kit.confs import bridge
from tests.kit.state import load_nft

pytestmark = pytest.mark.netns

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
RECORDED = Path(__file__).parent.parent / "reference" / "recorded"


def with_tools(node, work, path=PATH):
    def call():
        return work(Tools(Runner({"PATH": path}, Deadline.after(20))))

    return node.forked(call)


def ips(*texts):
    return tuple(map(parse_network, texts))


@pytest.mark.statement("UT-03")
@pytest.mark.parametrize("backend", masquerade.BACKENDS)
def test_applying_and_discarding_twice(node, backend):
    owner = Owner("net1", "c1", "eth0")

    def work(tools):
        seen = []
        for _ in range(2):
            masquerade.apply(tools, owner, ips("10.1.2.3/24", "fd00::3/64"), backend=backend)
            seen.append(masquerade.missing(tools, owner, ips("10.1.2.3/24"), backend=backend))
        return seen

    assert with_tools(node, work) == [[], []]
    if backend == "iptables":
        assert (len(node.iptables()), len(node.iptables(6))) == (3, 3)

    def clean(tools):
        for _ in range(2):
            Removal(tools, owner).finish()

    with_tools(node, clean)
    assert node.iptables() == node.iptables(6) == []
    assert node.nft_rules("cni_plugins_masquerade", "masq_checks") == []


@pytest.mark.statement("UT-04")
def test_backends_are_there_when_their_tool_is(node, tmp_path):
    def work(tools):
        return [masquerade.has_tool(tools, backend) for backend in masquerade.BACKENDS]

    assert with_tools(node, work) == [True, True]


def test_nftables_steps_in_for_an_iptables_that_does_not_work(node):
    node.install(node.scratch, "iptables-restore", "echo 'no kernel support' >&2; exit 3\n")
    owner = Owner("net1", "c1", "eth0")

    def work(tools):
        return masquerade.apply(tools, owner, ips("10.1.2.3/24"), backend="")

    applied = with_tools(node, work, path=f"{node.scratch}:{PATH}")

    assert applied.backend == "nftables"
    assert "no kernel support" in applied.reason
    assert len(node.nft_rules("cni_plugins_masquerade", "masq_checks")) == 1


def test_a_backend_that_is_asked_for_is_not_replaced(node):
    node.install(node.scratch, "iptables-restore", "echo 'line 2 failed' >&2; exit 1\n")
    owner = Owner("net1", "c1", "eth0")

    def work(tools):
        with pytest.raises(ExecError) as caught:
            masquerade.apply(tools, owner, ips("10.1.2.3/24"), backend="iptables")
        return str(caught.value)

    said = with_tools(node, work, path=f"{node.scratch}:{PATH}")

    assert said.startswith(f"change table nat with iptables-restore at '-N {owner.chain}'")
    assert node.nft_rules("cni_plugins_masquerade") == []


@pytest.mark.statement("IP-11")
def test_nftables_rules_of_several_attachments(node):
    """As the reference's own test: four attachments, one with six addresses, one address reused."""
    one, two = Owner("unit-test", "one", "eth0"), Owner("unit-test", "two", "eth0")
    three, other = Owner("unit-test", "three", "eth0"), Owner("alternate", "three", "net1")
    many = tuple(f"10.0.0.{i}/24" for i in range(10, 16))

    def work(tools):
        masquerade.apply(tools, one, ips("192.168.1.1/24"), backend="nftables")
        masquerade.apply(tools, two, ips("192.168.1.2/24", "2001:db8::2/64"), backend="nftables")
        masquerade.apply(tools, three, ips(*many), backend="nftables")
        masquerade.apply(tools, other, ips("192.168.9.1/24"), backend="nftables")
        masquerade.apply(
            tools, Owner("unit-test", "four", "eth0"), ips("192.168.1.1/24"), backend="nftables"
        )
        Removal(tools, one, backends=("nftables",)).finish()

    with_tools(node, work)
    comments = [r["comment"] for r in node.nft_rules("cni_plugins_masquerade", "masq_checks")]
    assert sorted(c.rpartition("id: ")[2] for c in comments) == sorted(
        ["two", "two", *["three"] * 6, "three", "four"]
    )

    with_tools(node, lambda t: masquerade.gc(t, "unit-test", frozenset({("two", "eth0")})))
    comments = [r["comment"] for r in node.nft_rules("cni_plugins_masquerade", "masq_checks")]
    assert sorted(c.partition("net: ")[2] for c in comments) == [
        "alternate, if: net1, id: three",
        "unit-test, if: eth0, id: two",
        "unit-test, if: eth0, id: two",
    ]

    with_tools(node, lambda t: masquerade.gc(t, "unit-test", frozenset()))
    assert len(node.nft_rules("cni_plugins_masquerade", "masq_checks")) == 1
    assert len(node.nft_rules("cni_plugins_masquerade", "postrouting")) == 3


def replayed(step):
    return step["config"], step["env"]["CNI_CONTAINERID"]


@pytest.mark.parametrize(
    "name", ["bridge-masquerade-nftables-dual-stack.json", "bridge-l2-macspoofchk.json"]
)
def test_del_cleans_what_the_reference_was_recorded_to_make(node, pod, name):
    step = json.loads((RECORDED / name).read_text())["steps"][0]
    load_nft(node, step["after"]["nft"])
    assert [e for e in node.nft() if "rule" in e and "comment" in e["rule"]]
    conf, container_id = replayed(step)

    node.cni("bridge", "DEL", conf, netns=pod, container_id=container_id).ok()

    left = [e["rule"] for e in node.nft() if "rule" in e]
    assert [rule for rule in left if "comment" in rule] == []
    assert not [e for e in node.nft() if "cni-br-iface" in str(e)]


def test_del_cleans_what_the_reference_was_recorded_to_make_on_iptables(node, pod):
    name = "bridge-masquerade-iptables-dual-stack.json"
    step = json.loads((RECORDED / name).read_text())["steps"][0]
    for tool in ("iptables", "ip6tables"):
        node.sh(f"{tool}-restore", stdin="\n".join([*step["after"][f"{tool}-save"], ""]))
    assert node.iptables()
    assert node.iptables(6)
    conf, container_id = replayed(step)

    node.cni("bridge", "DEL", conf, netns=pod, container_id=container_id).ok()

    assert node.iptables() == node.iptables(6) == []


def test_foreign_rules_and_chains_stay(node, pod):
    node.sh("iptables", "-t", "nat", "-N", "CNI-DN-0123456789abcdef01234")
    node.sh("iptables", "-t", "nat", "-A", "POSTROUTING", "-s", "10.9.0.2", "-j", "ACCEPT")
    before = node.iptables()
    conf = bridge(ipMasq=True)
    node.cni("bridge", "ADD", conf, netns=pod).ok()
    node.cni("bridge", "DEL", conf, netns=pod).ok()
    listed = {**conf, "cni.dev/valid-attachments": []}
    node.cni("bridge", "GC", listed, container_id="", ifname="").ok()

    assert node.iptables() == before
    assert "CNI-DN-" in node.sh("iptables-save", "-t", "nat").stdout


def test_no_tool_at_all(node):
    def work(tools):
        with pytest.raises(CniError) as caught:
            masquerade.choose(tools, "")
        return caught.value.msg

    def call():
        tools = Tools(Runner({"PATH": "/nowhere"}, Deadline.after(5)))
        tools.runner._path = ("/nowhere",)
        return work(tools)

    assert node.forked(call) == "ipMasq: neither iptables-restore nor nft is installed"
