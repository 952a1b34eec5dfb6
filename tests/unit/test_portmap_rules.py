"""portmap's pure rules: golden lists for both backends, and what they need of what is there."""

from __future__ import annotations

from typing import Any

import pytest

from cni_plugins.masquerade_rules import Owner
from cni_plugins.protocol.addresses import parse_network
from portmap import iptables_rules, nftables_rules
from portmap.conf import parse, parse_cleanup

statement = pytest.mark.statement
LONG_ID = (
    "icee6giejonei6sohng6ahngee7laquohquee9shiGo7fohferakah3Feiyoolu2"
    "pei7ciPhoh7shaoX6vai3vuf0ahfaeng8yohb9ceu0daez5hashee8ooYai5wa3y"
)
RESULT = {
    "cniVersion": "1.0.0",
    "interfaces": [{"name": "host"}, {"name": "eth0", "sandbox": "/netns"}],
    "ips": [
        {"address": "10.0.0.1/24", "interface": 0},
        {"address": "10.0.0.2/24", "interface": 1},
        {"address": "2001:db8:1::2/64", "interface": 1},
        {"address": "10.0.0.3/24", "interface": 1},
    ],
}
EIGHT = [
    (8080, 80, "tcp", ""),
    (8081, 80, "tcp", ""),
    (8080, 81, "udp", ""),
    (8082, 82, "udp", ""),
    (8083, 83, "tcp", "192.168.0.2"),
    (8084, 84, "tcp", "0.0.0.0"),
    (8085, 85, "tcp", "2001:db8:a::1"),
    (8086, 86, "tcp", "::"),
]


class Call:
    """The facts of a call that parsing may look at."""

    cni_version, command, ifname = "1.0.0", "ADD", "eth0"

    def warn(self, msg):
        raise AssertionError(msg)

    forgive = warn


def conf(mappings=EIGHT, **over: Any):
    """A parsed configuration."""
    listed = [
        {"hostPort": h, "containerPort": c, "protocol": p, "hostIP": ip} for h, c, p, ip in mappings
    ]
    document = {
        "name": "test",
        "type": "portmap",
        "prevResult": RESULT,
        "runtimeConfig": {"portMappings": listed},
        **over,
    }
    return parse(Call(), {k: v for k, v in document.items() if v is not None})


def plan(family=4, **over: Any):
    """The plan of a family."""
    return iptables_rules.plan("test", "icee6giejonei6soh", conf(**over), family)


# --- configuration ------------------------------------------------------------------------------


@statement("PM01")
def test_keys_and_addresses_are_read():
    found = conf(backend="iptables", snat=False, conditionsV4=["-s", "1.2.3.4"])
    assert (found.backend, found.snat, found.conditions(4)) == (
        "iptables",
        False,
        ("-s", "1.2.3.4"),
    )
    assert found.targets == {
        4: parse_network("10.0.0.2/24"),
        6: parse_network("2001:db8:1::2/64"),
    }, "the container's, the first of each family"


@statement("PM01")
def test_del_needs_neither_mappings_nor_a_result():
    assert parse_cleanup(Call(), {"name": "test", "type": "portmap"}).mappings == ()


@statement("PM04")
def test_an_address_without_an_interface_counts():
    bare = {"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.9/24"}]}
    assert conf([(80, 80, "tcp", "")], prevResult=bare).targets == {4: parse_network("10.0.0.9/24")}


@pytest.mark.parametrize(
    ("over", "backend"),
    [
        ({}, ""),
        ({"backend": "nftables", "conditionsV4": ["a", "b"]}, "nftables"),
        ({"conditionsV4": ["a", "b"]}, "nftables"),
        ({"conditionsV6": ["!", "-s", "::1"]}, "iptables"),
        ({"externalSetMarkChain": "X"}, "iptables"),
    ],
)
@statement("PM03")
def test_the_backend_that_the_other_keys_are_written_for(over, backend):
    assert conf(**over).backend == backend


# --- iptables -----------------------------------------------------------------------------------


@statement("PM05")
@pytest.mark.parametrize(
    ("network", "name"),
    [("testNetName", "CNI-DN-bfd599665540dd91d5d28"), ("test", "CNI-DN-67e92b96e692a494b6b85")],
)
def test_the_name_of_a_container_s_chain(network, name):
    assert iptables_rules.chain_name(network, LONG_ID) == name


@statement("PM06")
def test_one_jump_for_each_protocol():
    wanted = plan(conditionsV4=["-s", "1.2.3.4"])
    start = "-A CNI-HOSTPORT-DNAT -p"
    said = r'-m comment --comment "dnat name: \"test\" id: \"icee6giejonei6soh\"" -m multiport'
    assert wanted.entries == (
        f"{start} tcp {said} --dports 8080,8081,8083,8084,8085,8086 -s 1.2.3.4 -j {wanted.chain}",
        f"{start} udp {said} --dports 8080,8082 -s 1.2.3.4 -j {wanted.chain}",
    )


@statement("PM06")
def test_15_ports_a_jump():
    wanted = plan(mappings=[(9000 + n, 80, "tcp", "") for n in range(31)])
    assert [entry.count(",") + 1 for entry in wanted.entries] == [15, 15, 1]


@statement("PM07")
def test_the_rules_of_ipv4():
    wanted = plan()
    chain = f"-A {wanted.chain}"

    def three(match: str, to: str) -> list[str]:
        return [
            f"{chain} -s 10.0.0.0/24 {match} -j CNI-HOSTPORT-SETMARK",
            f"{chain} -s 127.0.0.1/32 {match} -j CNI-HOSTPORT-SETMARK",
            f"{chain} {match} -j DNAT --to-destination {to}",
        ]

    assert list(wanted.rules) == [
        *three("-p tcp -m tcp --dport 8080", "10.0.0.2:80"),
        *three("-p tcp -m tcp --dport 8081", "10.0.0.2:80"),
        *three("-p udp -m udp --dport 8080", "10.0.0.2:81"),
        *three("-p udp -m udp --dport 8082", "10.0.0.2:82"),
        *three("-d 192.168.0.2/32 -p tcp -m tcp --dport 8083", "10.0.0.2:83"),
        *three("-p tcp -m tcp --dport 8084", "10.0.0.2:84"),
    ]


@statement("PM08")
def test_the_rules_of_ipv6():
    wanted = plan(6)
    ports = [rule.split("--dport ")[1].split()[0] for rule in wanted.rules]
    assert ports == [p for port in (8080, 8081, 8080, 8082, 8085, 8086) for p in [str(port)] * 2]
    assert wanted.rules[0].endswith(" -j CNI-HOSTPORT-SETMARK")
    assert wanted.rules[1].endswith("-j DNAT --to-destination [2001:db8:1::2]:80")
    assert "-d 2001:db8:a::1/128 " in wanted.rules[9]
    assert " -d " not in wanted.rules[11]


@statement("PM09")
def test_without_snat_there_are_redirections_only():
    wanted = plan(snat=False)
    assert all("-j DNAT" in rule for rule in wanted.rules)
    assert wanted.shared == ("CNI-HOSTPORT-DNAT",)
    assert wanted.first_jumps == wanted.shared_rules == ()


@statement("PM09")
def test_an_external_chain_sets_the_mark():
    wanted = plan(mappings=[(80, 80, "tcp", "")], externalSetMarkChain="PLZ-SET-MARK")
    assert [rule.split()[-1] for rule in wanted.rules[:2]] == ["PLZ-SET-MARK"] * 2
    assert wanted.shared == ("CNI-HOSTPORT-DNAT",)


@statement("PM10")
@pytest.mark.parametrize(("bit", "mark"), [(None, "0x2000"), (5, "0x20"), (0, "0x1")])
def test_the_shared_chains(bit, mark):
    wanted = plan(markMasqBit=bit)
    assert wanted.shared_rules == (
        (
            '-A CNI-HOSTPORT-SETMARK -m comment --comment "CNI portfwd masquerade mark" '
            f"-j MARK --set-xmark {mark}/{mark}"
        ),
        f"-A CNI-HOSTPORT-MASQ -m mark --mark {mark}/{mark} -j MASQUERADE",
    )
    assert iptables_rules.commands((), wanted)[5] == (
        '-I POSTROUTING 1 -m comment --comment "CNI portfwd requiring masquerade" '
        "-j CNI-HOSTPORT-MASQ"
    )


@statement("PM11")
def test_what_is_there_already_is_not_made_twice():
    wanted = plan()
    lines = iptables_rules.commands((), wanted)
    present = [
        *(f":{line.split()[1]} - [0:0]" for line in lines if line.startswith("-N")),
        "-A CNI-HOSTPORT-DNAT -j foreign",
        *(line.replace("-I POSTROUTING 1", "-A POSTROUTING") for line in lines if line[1] in "AI"),
    ]
    again = iptables_rules.commands(present, wanted)
    shared = ("-N", "-I POSTROUTING", "-A PREROUTING", "-A OUTPUT", "-A CNI-HOSTPORT-S")
    assert [line for line in again if line.startswith(shared)] == []
    removed = iptables_rules.removal(present, "test", "icee6giejonei6soh")
    assert [line for line in removed if "foreign" in line or "HOSTPORT-MASQ" in line] == []
    assert removed[-2:] == [f"-F {wanted.chain}", f"-X {wanted.chain}"]
    assert iptables_rules.removal((), "test", "icee6giejonei6soh") == []


def test_joining_where_all_that_is_shared_is_there():
    wanted = plan(mappings=[(80, 8080, "tcp", "")], masqAll=True)
    chain = wanted.chain
    said = r'-m comment --comment "dnat name: \"test\" id: \"icee6giejonei6soh\""'
    assert iptables_rules.joining(wanted) == [
        (
            "-C CNI-HOSTPORT-SETMARK"
            ' -m comment --comment "CNI portfwd masquerade mark" -j MARK --set-xmark 0x2000/0x2000'
        ),
        "-C CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE",
        (
            "-C POSTROUTING"
            ' -m comment --comment "CNI portfwd requiring masquerade" -j CNI-HOSTPORT-MASQ'
        ),
        "-C PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT",
        "-C OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT",
        "-S CNI-HOSTPORT-DNAT",
        f"-N {chain}",
        f"-A {chain} -p tcp -m tcp --dport 80 -j CNI-HOSTPORT-SETMARK",
        f"-A {chain} -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.2:8080",
        f"-A CNI-HOSTPORT-DNAT -p tcp {said} -m multiport --dports 80 -j {chain}",
    ]
    assert iptables_rules.noted_removal(chain, wanted.entries) == [
        f"-D CNI-HOSTPORT-DNAT -p tcp {said} -m multiport --dports 80 -j {chain}",
        f"-F {chain}",
        f"-X {chain}",
    ]


@pytest.mark.parametrize(
    ("jump", "expected"),
    [
        ("-p tcp {} -m multiport --dports 79,8080,81 -j CNI-DN-x", True),
        ("-p tcp {} -m multiport --dports 79,81 -j CNI-DN-x", False),
        ("-p udp {} -m multiport --dports 8080 -j CNI-DN-x", False),
        ("-d 1.2.3.4/32 -p tcp {} -m multiport --dports 8080 -j CNI-DN-x", True),
        ("-p tcp {} -m multiport --dports 8000:8100 -j CNI-DN-x", True),
        ("-p tcp -m tcp --dport 8080 -j foreign", True),
        ("-p tcp -m tcp --dport 80 -j foreign", False),
        ("-j foreign", False),
    ],
)
def test_a_port_that_a_jump_leads_away(jump, expected):
    said = r'-m comment --comment "dnat name: \"test\" id: \"other\""'
    mapping = conf(mappings=[(8080, 80, "tcp", "")]).mappings
    jumps = [":CNI-HOSTPORT-DNAT - [0:0]", f"-A CNI-HOSTPORT-DNAT {jump.format(said)}"]
    assert iptables_rules.may_be_held(jumps, mapping) is expected


def test_a_comment_that_is_too_long_is_cut():
    said = iptables_rules.comment("n", "i" * 300)
    assert len(said) == 256
    assert said.endswith("...")


# --- nftables -----------------------------------------------------------------------------------


@statement("PM12")
def test_elements_of_both_families():
    found = {(e.place, e.key): e.value for e in nftables_rules.elements(conf())}
    assert found["any4", "tcp . 8080"] == "10.0.0.2 . 80"
    assert found["any4", "udp . 8080"] == "10.0.0.2 . 81"
    assert found["host4", "192.168.0.2 . tcp . 8083"] == "10.0.0.2 . 83"
    assert found["any4", "tcp . 8084"] == "10.0.0.2 . 84"
    assert found["any6", "tcp . 8080"] == "2001:db8:1::2 . 80"
    assert found["host6", "2001:db8:a::1 . tcp . 8085"] == "2001:db8:1::2 . 85"
    assert found["any6", "tcp . 8086"] == "2001:db8:1::2 . 86"
    assert ("any6", "tcp . 8084") not in found
    assert ("any4", "tcp . 8086") not in found


@statement("PM13")
@pytest.mark.parametrize(
    ("over", "expected"),
    [
        (
            {},
            {
                ("hairpin4", "10.0.0.0/24 . 10.0.0.2"),
                ("hairpin4", "127.0.0.1 . 10.0.0.2"),
                ("hairpin6", "2001:db8:1::/64 . 2001:db8:1::2"),
            },
        ),
        ({"masqAll": True}, {("masquerade4", "10.0.0.2"), ("masquerade6", "2001:db8:1::2")}),
        ({"snat": False}, set()),
    ],
)
def test_what_is_masqueraded(over, expected):
    found = nftables_rules.elements(conf(**over))
    assert {(e.place, e.key) for e in found if not e.value} == expected


def test_conditions_make_rules():
    owner = Owner("test", "icee6giejonei6soh", "eth0")
    found = conf([(80, 8080, "tcp", "")], conditionsV4=["ip", "saddr", "1.2.3.4"])
    (rule,) = nftables_rules.conditional_rules(found, owner)
    assert " ip saddr 1.2.3.4 tcp dport 80 dnat ip to 10.0.0.2:8080 comment " in rule
    assert not [e for e in nftables_rules.elements(found) if e.place == "any4"]
    assert [e for e in nftables_rules.elements(found) if e.place == "any6"]
