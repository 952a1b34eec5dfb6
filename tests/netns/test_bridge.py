"""bridge on a real kernel."""

from __future__ import annotations

import re
from typing import Any

import pytest

from cni_plugins.protocol import spec
from tests.kit.confs import SUBNET4, SUBNET6, bridge, chained, host_local
from tests.kit.state import assert_same, snapshot

pytestmark = pytest.mark.netns

OTHER6 = "fd00:a::/64"
MIXES = {
    "v4": ((SUBNET4,), ["10.9.0.1/24"]),
    "v6": ((SUBNET6,), ["fd00:9::1/64"]),
    "dual": ((SUBNET4, SUBNET6), ["10.9.0.1/24", "fd00:9::1/64"]),
    "v4 and two v6": (
        (SUBNET4, SUBNET6, OTHER6),
        ["10.9.0.1/24", "fd00:9::1/64", "fd00:a::1/64"],
    ),
}
MODERN = [v for v in spec.ALL if v >= "0.3.0"]
LEGACY = [v for v in spec.ALL if v < "0.3.0"]


@pytest.mark.statement("BR-12")
@pytest.mark.parametrize("version", MODERN)
def test_a_fresh_bridge_has_the_name_and_is_not_promiscuous(node, pod, version):
    node.cni("bridge", "ADD", bridge(version), netns=pod).ok()

    link = node.link("br0")
    assert link["linkinfo"]["info_kind"] == "bridge"
    assert link["promiscuity"] == 0
    assert link["operstate"] == "UP"


@pytest.mark.statement("BR-13")
def test_an_existing_bridge_is_used(node, pod):
    node.sh("ip", "link", "add", "br0", "type", "bridge")
    index = node.link("br0")["ifindex"]

    node.cni("bridge", "ADD", bridge(), netns=pod).ok()

    assert node.link("br0")["ifindex"] == index


@pytest.mark.statement("BR-14", "BR-15", "BR-16", "BR-17", "BR-18", "BR-19", "BR-20", "BR-21")
@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("version", MODERN)
def test_layer_3_with_a_default_gateway(node, pod, version, mix):
    subnets, gateways = MIXES[mix]
    conf = bridge(version, isDefaultGateway=True, ipam=host_local(*subnets))

    outcome = node.cni("bridge", "ADD", conf, netns=pod).ok()

    assert '"interfaces":' in outcome.stdout
    first, port, inside = outcome.result["interfaces"]
    assert [first["name"], inside["name"]] == ["br0", "eth0"]
    assert re.fullmatch("veth[0-9a-f]{8}", port["name"])
    assert all(len(i["mac"]) == 17 for i in (first, port, inside))
    assert inside["sandbox"] == pod.path
    assert "sandbox" not in first
    link, host_end = node.link("br0"), node.link(port["name"])
    assert first["mac"] == link["address"]
    assert link["linkinfo"]["info_data"]["vlan_filtering"] == 0
    assert host_end["linkinfo"]["info_kind"] == "veth"
    assert host_end["address"] != link["address"]
    assert node.links() == {"lo", "br0", port["name"]}
    assert sorted(node.addresses("br0")) == sorted(gateways)
    container = pod.link()
    assert container["operstate"] == "UP"
    assert len([a for a in pod.addresses() if ":" not in a]) == len(
        [s for s in subnets if ":" not in s]
    )
    assert len([a for a in pod.addresses() if ":" in a]) == len([s for s in subnets if ":" in s])
    assert len(pod.addresses(scope="link")) == 1
    for family, gateway in (("-4", "10.9.0.1"), ("-6", "fd00:9::1")):
        wanted = any((":" in s) == (family == "-6") for s in subnets)
        defaults = [r for r in pod.ip(family, "route") if r["dst"] == "default"]
        assert [(r["gateway"], r.get("prefsrc")) for r in defaults] == (
            [(gateway, None)] if wanted else []
        )

    node.cni("bridge", "DEL", conf, netns=pod).ok()

    assert pod.link() is None
    assert node.links() == {"lo", "br0"}
    assert node.leases() == set()


@pytest.mark.statement("BR-22")
def test_dns_of_ipam_is_in_the_result(node, pod):
    node.write("/etc/cni/resolv.conf", "nameserver 192.0.2.7\n")
    conf = bridge(ipam=host_local(resolvConf="/etc/cni/resolv.conf"))

    result = node.cni("bridge", "ADD", conf, netns=pod).result

    assert result["dns"] == {"nameservers": ["192.0.2.7"]}


def test_dns_of_the_configuration_wins_as_a_whole(node, pod):
    node.write("/etc/cni/resolv.conf", "nameserver 192.0.2.7\nsearch a.test\n")
    conf = bridge(
        ipam=host_local(resolvConf="/etc/cni/resolv.conf"), dns={"nameservers": ["192.0.2.9"]}
    )

    result = node.cni("bridge", "ADD", conf, netns=pod).result

    assert result["dns"] == {"nameservers": ["192.0.2.9"]}


@pytest.mark.statement("BR-23")
@pytest.mark.parametrize("version", LEGACY)
def test_old_versions_have_one_address_a_family(node, pod, version):
    outcome = node.cni("bridge", "ADD", bridge(version), netns=pod).ok()
    assert '"ip":' in outcome.stdout
    node.cni("bridge", "DEL", bridge(version), netns=pod).ok()

    conf = bridge(version, ipam=host_local(SUBNET4, SUBNET6, OTHER6))
    before = snapshot(node, pod)
    error = node.cni("bridge", "ADD", conf, netns=pod).error

    said = f"CNI version {version} does not support more than 1 address per family"
    assert said in error["msg"]
    assert_same(before, snapshot(node, pod))
    # the reference's DEL fails here too; ours must not leave a pod in Terminating
    node.cni("bridge", "DEL", conf, netns=pod).ok()


@pytest.mark.statement("BR-24")
@pytest.mark.parametrize("version", spec.ALL)
def test_layer_2(node, pod, version):
    conf = bridge(version, isGateway=None, ipam={})
    before = snapshot(node, pod)

    outcome = node.cni("bridge", "ADD", conf, netns=pod)

    if version in LEGACY:
        assert outcome.error["msg"] == "cannot convert: no valid IP addresses"
        assert_same(before, snapshot(node, pod))
    else:
        assert "ips" not in outcome.result
        assert pod.link()["operstate"] == "UP"
    node.cni("bridge", "DEL", conf, netns=pod).ok()
    assert_same(before, snapshot(node, pod))


@pytest.mark.statement("BR-30")
@pytest.mark.parametrize("version", spec.ALL)
def test_del_of_what_was_never_added(node, pod, version):
    node.cni("bridge", "DEL", bridge(version), netns=pod).ok()


@pytest.mark.statement("BR-31")
@pytest.mark.parametrize("force", [False, True])
def test_another_ipv4_address_of_the_bridge(node, pod, force):
    node.sh("ip", "link", "add", "br0", "type", "bridge")
    node.sh("ip", "addr", "add", "10.0.0.1/8", "dev", "br0")
    conf = bridge(forceAddress=force, ipam=host_local("10.1.0.0/16"))

    outcome = node.cni("bridge", "ADD", conf, netns=pod)

    if force:
        outcome.ok()
        assert node.addresses("br0") == ["10.1.0.1/16"]
    else:
        assert "10.0.0.1/8" in outcome.error["msg"]
        assert "forceAddress" in outcome.error["details"]
        assert node.addresses("br0") == ["10.0.0.1/8"]
        assert pod.link() is None
        assert node.leases() == set()


@pytest.mark.statement("BR-32")
@pytest.mark.parametrize("force", [False, True])
def test_an_overlapping_ipv6_address_of_the_bridge(node, pod, force):
    node.sh("ip", "link", "add", "br0", "type", "bridge")
    node.sh("ip", "link", "set", "br0", "up")
    node.sh("ip", "addr", "add", "2001:db8:1::1/48", "dev", "br0")
    conf = bridge(forceAddress=force, ipam=host_local("2001:db8:1:2::/64"))

    outcome = node.cni("bridge", "ADD", conf, netns=pod)

    assert outcome.exit_code == (0 if force else 1)
    assert node.addresses("br0") == (["2001:db8:1:2::1/64"] if force else ["2001:db8:1::1/48"])
    assert len(node.addresses("br0", "link")) == 1


@pytest.mark.statement("BR-33")
@pytest.mark.parametrize("force", [False, True])
def test_a_disjoint_ipv6_address_of_the_bridge_stays(node, pod, force):
    node.sh("ip", "link", "add", "br0", "type", "bridge")
    node.sh("ip", "addr", "add", "fd00:1234::1/64", "dev", "br0")
    conf = bridge(forceAddress=force, ipam=host_local(SUBNET6))

    node.cni("bridge", "ADD", conf, netns=pod).ok()

    assert sorted(node.addresses("br0")) == ["fd00:1234::1/64", "fd00:9::1/64"]


@pytest.mark.statement("BR-34")
def test_promiscuous_bridge(node, pod):
    node.cni("bridge", "ADD", bridge(promiscMode=True), netns=pod).ok()

    assert node.link("br0")["promiscuity"] == 1


@pytest.mark.statement("BR-35")
@pytest.mark.parametrize("subnet", [SUBNET4, SUBNET6, None])
def test_the_bridges_mac_address_stays(node, pod, subnet):
    conf = bridge(isGateway=bool(subnet), ipam=host_local(subnet) if subnet else None)
    seen = set()
    for i in range(4):
        other = node.pod(f"other{i}")
        node.cni("bridge", "ADD", conf, netns=other, container_id=f"o{i}").ok()
        seen.add(node.link("br0")["address"])
    for i in range(4):
        node.cni("bridge", "DEL", conf, netns=f"/run/netns/other{i}", container_id=f"o{i}").ok()
        seen.add(node.link("br0")["address"])

    assert len(seen) == 1


@pytest.mark.statement("BR-36")
def test_mac_of_cni_args(node, pod):
    outcome = node.cni(
        "bridge", "ADD", bridge(), netns=pod, args="IgnoreUnknown=1;MAC=02:00:00:00:00:01"
    ).ok()

    assert outcome.result["interfaces"][2]["mac"] == pod.link()["address"] == "02:00:00:00:00:01"


@pytest.mark.statement("BR-37")
def test_mac_of_args_beats_cni_args(node, pod):
    conf = bridge(args={"cni": {"mac": "02:00:00:00:00:02"}})

    node.cni("bridge", "ADD", conf, netns=pod, args="IgnoreUnknown=1;MAC=02:00:00:00:00:01").ok()

    assert pod.link()["address"] == "02:00:00:00:00:02"


@pytest.mark.statement("BR-38")
def test_mac_of_runtime_config_beats_both(node, pod):
    conf = bridge(
        args={"cni": {"mac": "02:00:00:00:00:02"}}, RuntimeConfig={"mac": "02:00:00:00:00:03"}
    )

    node.cni("bridge", "ADD", conf, netns=pod, args="IgnoreUnknown=1;MAC=02:00:00:00:00:01").ok()

    assert pod.link()["address"] == "02:00:00:00:00:03"


@pytest.mark.statement("BR-39")
def test_no_lease_stays_when_add_fails_after_ipam(node, pod):
    conf = bridge(ipam=host_local(routes=[{"dst": "192.0.2.0/24", "gw": "198.51.100.1"}]))
    before = snapshot(node, pod)

    error = node.cni("bridge", "ADD", conf, netns=pod).error

    assert error["msg"] == "add route 192.0.2.0/24 via 198.51.100.1: Nexthop has invalid gateway"
    assert_same(before, snapshot(node, pod))


@pytest.mark.statement("BR-40")
@pytest.mark.parametrize("backend", [None, "iptables"])
@pytest.mark.parametrize("version", MODERN)
def test_masquerade_on_iptables(node, pod, version, backend):
    conf = bridge(version, ipMasq=True, ipMasqBackend=backend)

    node.cni("bridge", "ADD", conf, netns=pod).ok()

    rules = node.iptables()
    assert len([r for r in rules if r.startswith("-A POSTROUTING -s 10.9.0.2/32 ")]) == 1
    assert len(rules) == 3

    node.cni("bridge", "DEL", conf, netns=pod).ok()
    assert node.iptables() == []


@pytest.mark.statement("BR-40")
def test_masquerade_on_nftables(node, pod):
    conf = bridge(ipMasq=True, ipMasqBackend="nftables", ipam=host_local(SUBNET4, SUBNET6))

    node.cni("bridge", "ADD", conf, netns=pod).ok()

    rules = node.nft_rules("cni_plugins_masquerade", "masq_checks")
    assert len(rules) == 2
    assert all("net: net1, if: eth0, id: c1" in rule["comment"] for rule in rules)
    assert node.iptables() == []

    node.cni("bridge", "DEL", conf, netns=pod).ok()
    assert node.nft_rules("cni_plugins_masquerade", "masq_checks") == []
    assert len(node.nft_rules("cni_plugins_masquerade", "postrouting")) == 3


@pytest.mark.statement("BR-41")
@pytest.mark.parametrize("mix", MIXES)
@pytest.mark.parametrize("version", ["0.4.0", "1.0.0", "1.1.0"])
def test_check_after_add(node, pod, version, mix):
    conf = bridge(version, isDefaultGateway=True, ipMasq=True, ipam=host_local(*MIXES[mix][0]))
    result = node.cni("bridge", "ADD", conf, netns=pod).result

    node.cni("bridge", "CHECK", chained(conf, result), netns=pod).ok()

    assert len(pod.addresses(scope="link")) == 1


@pytest.mark.statement("BR-42")
def test_spoof_check(node, pod):
    conf = bridge(macspoofchk=True)
    result = node.cni("bridge", "ADD", conf, netns=pod, container_id="dummy-0").result

    comments = [
        (rule["chain"], rule["comment"]) for rule in node.nft_rules("nat") if "comment" in rule
    ]
    said, chain = "macspoofchk-dummy-0-eth0", "cni-br-iface-dummy-0-eth0"
    expected = [("PREROUTING", said), (chain, said), (f"{chain}-mac", said), (f"{chain}-mac", said)]
    assert sorted(comments) == sorted(expected)

    checked = chained(conf, result)
    node.cni("bridge", "CHECK", checked, netns=pod, container_id="dummy-0").ok()
    node.cni("bridge", "DEL", conf, netns=pod, container_id="dummy-0").ok()
    assert node.nft_rules("nat") == []
    assert not [e for e in node.nft() if "cni-br-iface" in str(e)]


def test_spoof_check_drops_foreign_frames(node, pod):
    other = node.pod("pod2")
    node.cni("bridge", "ADD", bridge(macspoofchk=True), netns=pod).ok()
    node.cni("bridge", "ADD", bridge(), netns=other, container_id="c2").ok()
    assert pod.pings("10.9.0.3")

    pod.sh("ip", "link", "set", "eth0", "address", "02:00:00:00:00:66")

    assert not pod.pings("10.9.0.3")


@pytest.mark.statement("BR-43")
def test_addresses_and_a_disabled_interface_exclude_each_other(node, pod):
    before = snapshot(node, pod, shared_links=())

    error = node.cni("bridge", "ADD", bridge(disableContainerInterface=True), netns=pod).error

    assert (error["code"], error["msg"].split(":")[0]) == (7, "disableContainerInterface")
    assert_same(before, snapshot(node, pod, shared_links=()))


@pytest.mark.statement("BR-44")
def test_disabled_container_interface(node, pod):
    conf = bridge(isGateway=None, ipam=None, disableContainerInterface=True)

    result = node.cni("bridge", "ADD", conf, netns=pod).result

    assert "UP" not in pod.link()["flags"]
    assert pod.addresses(scope="link") == []
    node.cni("bridge", "CHECK", chained(conf, result), netns=pod).ok()


@pytest.mark.statement("BR-45")
@pytest.mark.parametrize("isolated", [False, True])
@pytest.mark.parametrize("version", ["1.0.0", "1.1.0"])
def test_port_isolation(node, pod, version, isolated):
    conf = bridge(version, portIsolation=isolated)

    port = node.cni("bridge", "ADD", conf, netns=pod).result["interfaces"][1]["name"]

    assert node.link(port)["linkinfo"]["info_slave_data"]["isolated"] is isolated


def test_hairpin(node, pod):
    port = node.cni("bridge", "ADD", bridge(hairpinMode=True), netns=pod).result["interfaces"][1]

    assert node.link(port["name"])["linkinfo"]["info_slave_data"]["hairpin"] is True


def test_mtu_of_bridge_and_both_ends(node, pod):
    port = node.cni("bridge", "ADD", bridge(mtu=1400), netns=pod).result["interfaces"][1]["name"]

    assert {node.link("br0")["mtu"], node.link(port)["mtu"], pod.link()["mtu"]} == {1400}


@pytest.mark.statement("BR-46")
def test_status_before_any_add(node):
    node.cni("bridge", "STATUS", bridge()).ok()


def test_enabledad_waits_for_the_detection(node, pod):
    conf = bridge(enabledad=True, ipam=host_local(SUBNET6))

    node.cni("bridge", "ADD", conf, netns=pod).ok()

    infos = pod.ip("addr", "show", "eth0")[0]["addr_info"]
    assert not any(info.get("tentative") or info.get("nodad") for info in infos)


def test_pods_reach_each_other_and_the_gateway(node, pod):
    other = node.pod("pod2")
    conf = bridge(isDefaultGateway=True, ipam=host_local(SUBNET4, SUBNET6))
    node.cni("bridge", "ADD", conf, netns=pod).ok()
    node.cni("bridge", "ADD", conf, netns=other, container_id="c2").ok()

    for address in ("10.9.0.3", "fd00:9::3", "10.9.0.1", "fd00:9::1"):
        assert pod.pings(address), address


@pytest.mark.parametrize("backend", ["iptables", "nftables"])
def test_masqueraded_traffic_has_the_hosts_address(node, pod, backend):
    """A host outside that has no route to the pods answers them."""
    outside = node.pod("outside")
    node.sh("ip", "link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", "outside")
    node.sh("ip", "addr", "add", "198.51.100.1/24", "dev", "up0")
    node.sh("ip", "link", "set", "up0", "up")
    outside.sh("ip", "addr", "add", "198.51.100.2/24", "dev", "eth0")
    outside.sh("ip", "link", "set", "eth0", "up")
    conf = bridge(isDefaultGateway=True, ipMasq=True, ipMasqBackend=backend)

    node.cni("bridge", "ADD", conf, netns=pod).ok()

    assert pod.pings("198.51.100.2")


def test_a_second_add_changes_nothing_and_the_pod_goes_on(node, pod):
    conf = bridge(ipMasq=True)
    node.cni("bridge", "ADD", conf, netns=pod).ok()
    before = snapshot(node, pod)

    error = node.cni("bridge", "ADD", conf, netns=pod).error

    assert "already" in error["msg"]
    assert_same(before, snapshot(node, pod))
    assert pod.pings("10.9.0.1")


def test_a_second_add_without_the_journal(node, pod):
    conf = bridge(ipMasq=True)
    node.cni("bridge", "ADD", conf, netns=pod).ok()
    node.sh("rm", "-r", "/run/cni-plugins")
    before = snapshot(node, pod)

    error = node.cni("bridge", "ADD", conf, netns=pod).error

    assert re.fullmatch(
        r'container veth name \("eth0"\) peer provided \("veth[0-9a-f]{8}"\) already exists',
        error["msg"],
    )
    assert_same(before, snapshot(node, pod))
    assert pod.pings("10.9.0.1")


EDITS: dict[str, dict[str, Any]] = {
    "ipMasq off": {"ipMasq": False},
    "other backend": {"ipMasqBackend": "nftables"},
    "spoof check off": {"macspoofchk": False},
    "other subnet": {"ipam": host_local("10.77.0.0/24")},
    "other dataDir": {"ipam": host_local(dataDir="/var/lib/cni/elsewhere")},
    "no ipam": {"ipam": {}},
    "invalid vlan": {"vlan": 9999},
    "wrong types": {"mtu": "big", "isGateway": "yes", "ipam": 5},
    "unknown backend": {"ipMasqBackend": "carrier pigeon"},
    "invalid range": {"ipam": host_local("10.9.0.5/31")},
    "other bridge": {"bridge": "other0"},
}


@pytest.mark.parametrize("edit", EDITS)
def test_del_after_the_configuration_was_edited(node, pod, edit):
    conf = bridge(ipMasq=True, macspoofchk=True, ipam=host_local(SUBNET4, SUBNET6))
    before = snapshot(node, pod)
    node.cni("bridge", "ADD", conf, netns=pod).ok()

    node.cni("bridge", "DEL", {**conf, **EDITS[edit]}, netns=pod).ok()

    assert_same(before, snapshot(node, pod))


@pytest.mark.parametrize("backend", ["iptables", "nftables"])
@pytest.mark.parametrize("journal", ["kept", "lost", "torn"])
@pytest.mark.parametrize("way", ["no netns", "netns gone", "a file in its place", "twice"])
def test_del_needs_neither_netns_nor_result_nor_journal(node, pod, way, journal, backend):
    conf = bridge(ipMasq=True, ipMasqBackend=backend, macspoofchk=True)
    before = snapshot(node)
    node.cni("bridge", "ADD", conf, netns=pod).ok()
    if journal == "lost":
        node.sh("rm", "-r", "/run/cni-plugins/journal")
    elif journal == "torn":
        node.sh("sh", "-c", "for f in /run/cni-plugins/journal/net1/*/*; do : > $f; done")
    netns = pod.path
    if way == "no netns":
        netns = ""
    elif way != "twice":
        pod.delete()
        if way == "a file in its place":
            node.sh("touch", pod.path)

    node.cni("bridge", "DEL", conf, netns=netns).ok()
    if way == "twice":
        node.cni("bridge", "DEL", conf, netns=netns).ok()

    assert_same(before, snapshot(node))


def test_two_attachments_of_one_container_share_a_chain(node, pod):
    conf = bridge(ipMasq=True)
    node.cni("bridge", "ADD", conf, netns=pod).ok()
    node.cni("bridge", "ADD", conf, netns=pod, ifname="eth1").ok()
    assert len([r for r in node.iptables() if r.startswith("-A POSTROUTING")]) == 2
    assert len(node.iptables()) == 4

    node.cni("bridge", "DEL", conf, netns=pod).ok()

    rules = node.iptables()
    assert len(rules) == 3
    assert rules[0].startswith("-A POSTROUTING -s 10.9.0.3/32")

    node.cni("bridge", "DEL", conf, netns=pod, ifname="eth1").ok()
    assert node.iptables() == []


def test_add_after_a_crashed_one_sweeps_what_that_left(node, pod):
    from tests.kit.faults import Faults

    conf = bridge(ipMasq=True)
    with pytest.raises(ChildProcessError):
        node.cni("bridge", "ADD", conf, netns=pod, prepare=Faults(14, kill=True))

    node.cni("bridge", "ADD", conf, netns=pod).ok()

    assert len(node.iptables()) == 3
    assert len(node.leases()) == 1


def test_an_attachment_of_a_dead_pod_makes_way(node, pod):
    conf = bridge(ipMasq=True)
    node.cni("bridge", "ADD", conf, netns=pod).ok()
    pod.delete()
    again = node.pod("pod1b")

    result = node.cni("bridge", "ADD", conf, netns=again).result

    assert len(node.iptables()) == 3
    assert {f"{lease}/24" for lease in node.leases()} == {result["ips"][0]["address"]}


def test_routes_with_metrics_tables_and_scopes(node, pod):
    routes = [
        {"dst": "192.0.2.0/24", "gw": "10.9.0.1", "mtu": 1300, "advmss": 1200, "priority": 7},
        {"dst": "198.51.100.0/24", "table": 5000},
        {"dst": "203.0.113.0/24", "scope": 253},
    ]
    conf = bridge(ipam=host_local(routes=routes))

    result = node.cni("bridge", "ADD", conf, netns=pod).result

    route = pod.ip("-4", "route", "show", "192.0.2.0/24")[0]
    assert route["metric"] == 7
    assert {"mtu": 1300, "advmss": 1200}.items() <= route["metrics"][0].items()
    assert pod.ip("-4", "route", "show", "table", "5000")[0]["gateway"] == "10.9.0.1"
    node.cni("bridge", "CHECK", chained(conf, result), netns=pod).ok()
