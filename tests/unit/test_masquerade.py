"""Plans of masquerading: names, comments and rules, compared with what the reference makes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cni_plugins import masquerade_rules
from cni_plugins.masquerade_rules import Owner
from cni_plugins.protocol.addresses import parse_network

RECORDED = Path(__file__).parent.parent / "reference" / "recorded"


@pytest.mark.statement("UT-01")
def test_chain_names():
    assert masquerade_rules.chain_name("test", "1234") == "CNI-2bbe0c48b91a7d1b8a6753a8"
    assert masquerade_rules.chain_name("test", "1234", "PREFIX-") == "CNI-PREFIX-2bbe0c48b91a7d1b8"
    long_name = "testalongnamethatdoesnotmakesense"
    assert masquerade_rules.chain_name(long_name, "1234") == "CNI-374f33fe84ab0ed84dcdebe3"
    assert masquerade_rules.chain_name("test", "1234") != masquerade_rules.chain_name(
        "test", "1235"
    )
    with pytest.raises(ValueError, match="invalid length"):
        masquerade_rules.chain_name("test", "1234", "a-prefix-as-long-as-a-chain")


@pytest.mark.statement("UT-02")
def test_shortened_names_do_not_collide():
    names = {masquerade_rules.chain_name("net", str(i), "LONGPREFIX-12-") for i in range(1000)}

    assert len(names) == 1000
    assert {len(name) for name in names} == {28}
    assert all(name.startswith("CNI-LONGPREFIX-12-") for name in names)


MARKS = {
    ("unit-test", "eth0", "one"): "6fd94d501e58f0aa-287fc69eff0574a2",
    ("unit-test", "eth0", "two"): "6fd94d501e58f0aa-d750b2c8f0f25d5f",
    ("alternate", "net1", "three"): "82783ef24bdc7036-acb19d111858e348",
}


@pytest.mark.statement("IP-11")
@pytest.mark.parametrize("key", MARKS)
def test_nftables_comments(key):
    network, ifname, container_id = key
    owner = Owner(network, container_id, ifname)

    assert owner.mark == MARKS[key]
    named = f"net: {network}, if: {ifname}, id: {container_id}"
    assert owner.comment == f"{MARKS[key]}, {named}"


def test_a_long_comment_is_cut():
    assert len(Owner("n" * 60, "c" * 64, "eth0").comment.encode()) == 128


def steps(name):
    return json.loads((RECORDED / name).read_text())["steps"]


def owner_of(step):
    env = step["env"]
    return Owner(step["config"]["name"], env["CNI_CONTAINERID"], env["CNI_IFNAME"])


def ips_of(step):
    return tuple(parse_network(ip["address"]) for ip in step["stdout"]["ips"])


def test_iptables_rules_are_the_references():
    step = steps("bridge-masquerade-iptables-dual-stack.json")[0]
    owner, ips = owner_of(step), ips_of(step)

    for family, name in ((4, "iptables-save"), (6, "ip6tables-save")):
        recorded = sorted(line for line in step["after"][name] if line.startswith("-A"))
        assert sorted(masquerade_rules.iptables_plan(owner, ips, family)) == recorded


def test_nftables_rules_are_the_references():
    step = steps("bridge-masquerade-nftables-dual-stack.json")[0]
    owner, ips = owner_of(step), ips_of(step)
    recorded = [e["rule"] for e in step["after"]["nft"] if "rule" in e]
    for rule in recorded:
        del rule["handle"]
        rule["table"] = "cni_plugins_masquerade"

    plan = masquerade_rules.nftables_plan(owner, ips)

    planned = [c["add"]["rule"] for c in plan if "add" in c and "rule" in c["add"]]
    assert sorted(planned, key=str) == sorted(recorded, key=str)
    chains = {e["chain"]["name"]: e["chain"] for e in step["after"]["nft"] if "chain" in e}
    for command in plan:
        chain = command.get("add", {}).get("chain")
        if chain and "hook" in chain:
            assert {"type", "hook", "prio"} <= chain.keys()
            assert all(chains[chain["name"]][k] == chain[k] for k in ("type", "hook", "prio"))


def test_addresses_of_one_subnet_share_their_rules():
    owner = Owner("n", "c", "eth0")
    ips = (parse_network("10.1.2.3/24"), parse_network("10.1.2.4/24"))

    plan = masquerade_rules.iptables_plan(owner, ips, 4)

    assert len(plan) == 4
