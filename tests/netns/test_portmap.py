"""portmap with real packets, on both backends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.kit.faults import Faults
from tests.kit.published import BEHIND4, HOST4, HOST6, OUTSIDE4, OUTSIDE6, Published, mapping
from tests.kit.state import assert_same, snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.node import Node

pytestmark = pytest.mark.netns
statement = pytest.mark.statement
both = pytest.mark.parametrize("backend", ["iptables", "nftables"])


@pytest.fixture
def host(node: Node) -> Iterator[Published]:
    """The host."""
    host = Published(node)
    yield host
    host.close()


def rules(node: Node) -> list[str]:
    """Everything of portmap in the kernel that is not shared."""
    found = []
    for family in (4, 6):
        found += [r for r in node.iptables(family) if "CNI-DN-" in r or "CNI-SN-" in r]
    for entry in node.nft():
        for kind in ("map", "set"):
            body = entry.get(kind, {})
            if "portmap" in body.get("table", ""):
                found += [f"{body['name']} {element}" for element in body.get("elem", [])]
        rule = entry.get("rule", {})
        if "comment" in rule and ("portmap" in rule["table"] or "cni_hostport" in rule["table"]):
            found.append(str(rule))
    return found


def state(node: Node) -> dict[str, Any]:
    """Everything; an empty lock file stays where the call that made it could not remove it."""
    found = snapshot(node)
    found["files"] = [path for path in found["files"] if "/cni-plugins/lock/" not in path]
    return found


# --- packets ------------------------------------------------------------------------------------


@statement("PM20")
@both
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("family", [4, 6])
def test_who_reaches_a_published_port(host, backend, protocol, family):
    pod, neighbour = host.pod("pod1"), host.pod("pod2")
    host.serve(pod, family, protocol, 80, "pod1")
    address = HOST4 if family == 4 else HOST6
    own = host.results["pod1"]["ips"][0 if family == 4 else 1]["address"].split("/")[0]
    gateway = host.results["pod1"]["ips"][0 if family == 4 else 1]["gateway"]
    host.call("ADD", pod, host.conf("pod1", [mapping(8080, 80, protocol)], backend=backend)).ok()

    seen = host.ask(host.outside, address, protocol, 8080)
    assert seen == f"pod1 {OUTSIDE4 if family == 4 else OUTSIDE6}", "the client's address stays"
    assert host.ask(None, address, protocol, 8080).startswith("pod1 ")
    assert host.ask(pod, address, protocol, 8080).startswith("pod1 "), "hairpin"
    assert host.ask(neighbour, address, protocol, 8080).startswith("pod1 ")
    assert host.ask(neighbour, gateway, protocol, 8080).startswith("pod1 ")
    assert host.ask(neighbour, own, protocol, 80).startswith("pod1 "), "without the host port"
    if family == 4:
        assert host.ask(None, "127.0.0.1", protocol, 8080).startswith("pod1 ")
    else:  # the kernel routes ::1 nowhere else: docs/plugins/portmap.md
        assert host.ask(None, "::1", protocol, 8080, timeout_s=0.5).startswith("!")

    host.call("DEL", pod, host.conf("pod1", [mapping(8080, 80, protocol)], backend=backend)).ok()
    assert host.ask(host.outside, address, protocol, 8080, timeout_s=0.5).startswith("!")
    assert rules(host.node) == []


@both
def test_traffic_through_the_host_is_left_alone(host, backend):
    pod, behind = host.pod("pod1"), host.behind()
    host.serve(pod, 4, "tcp", 80, "pod1")
    host.serve(behind, 4, "tcp", 8080, "behind")
    host.call("ADD", pod, host.conf("pod1", [mapping(8080, 80)], backend=backend)).ok()
    assert host.ask(host.outside, HOST4, "tcp", 8080).startswith("pod1 ")
    assert host.ask(host.outside, BEHIND4, "tcp", 8080).startswith("behind ")
    assert host.ask(pod, BEHIND4, "tcp", 8080).startswith("behind ")


@both
def test_a_port_on_one_address_of_the_host(host, backend):
    host.node.sh("ip", "addr", "add", "192.0.2.9/24", "dev", "out0")
    one, two = host.pod("pod1"), host.pod("pod2")
    host.serve(one, 4, "tcp", 80, "pod1")
    host.serve(two, 4, "tcp", 80, "pod2")
    host.call("ADD", one, host.conf("pod1", [mapping(80, 80, ip=HOST4)], backend=backend)).ok()
    host.call(
        "ADD", two, host.conf("pod2", [mapping(80, 80, ip="192.0.2.9")], backend=backend)
    ).ok()
    assert host.ask(host.outside, HOST4, "tcp", 80).startswith("pod1 ")
    assert host.ask(host.outside, "192.0.2.9", "tcp", 80).startswith("pod2 ")
    assert host.ask(None, "127.0.0.1", "tcp", 80).startswith("!")


@both
def test_masq_all_hides_the_client(host, backend):
    pod = host.pod("pod1")
    host.serve(pod, 4, "tcp", 80, "pod1")
    conf = host.conf("pod1", [mapping(8080, 80)], backend=backend, masqAll=True)
    host.call("ADD", pod, conf).ok()
    assert host.ask(host.outside, HOST4, "tcp", 8080) == "pod1 10.9.0.1"


@both
def test_without_snat_the_pod_does_not_reach_itself(host, backend):
    pod = host.pod("pod1")
    host.serve(pod, 4, "tcp", 80, "pod1")
    host.call("ADD", pod, host.conf("pod1", [mapping(8080, 80)], backend=backend, snat=False)).ok()
    assert host.ask(host.outside, HOST4, "tcp", 8080).startswith("pod1 ")
    assert host.ask(pod, HOST4, "tcp", 8080, timeout_s=0.5).startswith("!")


@pytest.mark.parametrize(
    ("backend", "conditions"),
    [
        ("iptables", ["-s", OUTSIDE4]),
        ("iptables", ["!", "-s", "10.9.0.0/24"]),
        ("nftables", ["ip", "saddr", OUTSIDE4]),
        ("nftables", ["ip saddr != 10.9.0.0/24"]),
    ],
)
def test_conditions_hold_for_their_own_container_only(host, backend, conditions):
    one, two = host.pod("pod1"), host.pod("pod2")
    host.serve(one, 4, "tcp", 80, "pod1")
    host.serve(two, 4, "tcp", 80, "pod2")
    limited = host.conf("pod1", [mapping(8080, 80)], backend=backend, conditionsV4=conditions)
    host.call("ADD", one, limited).ok()
    host.call("ADD", two, host.conf("pod2", [mapping(8081, 80)], backend=backend)).ok()
    host.call("CHECK", one, limited).ok()
    assert host.ask(host.outside, HOST4, "tcp", 8080).startswith("pod1 ")
    assert host.ask(two, HOST4, "tcp", 8080, timeout_s=0.5).startswith("!")
    assert host.ask(one, HOST4, "tcp", 8081).startswith("pod2 ")
    host.call("DEL", one, limited).ok()
    assert host.ask(host.outside, HOST4, "tcp", 8080, timeout_s=0.5).startswith("!")
    assert host.ask(one, HOST4, "tcp", 8081).startswith("pod2 ")


@statement("PM21")
@both
def test_a_conversation_over_udp_follows_the_pods(host, backend):
    one, two = host.pod("pod1"), host.pod("pod2")
    for pod in (one, two):
        host.serve(pod, 4, "udp", 53, pod.name)
    host.serve(None, 4, "udp", 5353, "host")
    keep = {"source_port": 40000}
    before = host.conf("pod1", [mapping(5353, 53, "udp")], backend=backend)
    after = host.conf("pod2", [mapping(5353, 53, "udp")], backend=backend)
    host.call("ADD", one, before).ok()
    host.call("ADD", two, host.conf("pod2", [mapping(6363, 53, "udp")], backend=backend)).ok()
    assert host.ask(host.outside, HOST4, "udp", 5353, **keep).startswith("pod1 ")
    assert host.ask(host.outside, HOST4, "udp", 6363, source_port=40001).startswith("pod2 ")
    host.call("DEL", one, before).ok()
    assert host.ask(host.outside, HOST4, "udp", 5353, **keep).startswith("host ")
    tracked = host.node.read("/proc/net/nf_conntrack").decode()
    assert "dport=6363" in tracked, "unrelated entries stay"
    host.call("DEL", two, host.conf("pod2", [mapping(6363, 53, "udp")], backend=backend)).ok()
    host.call("ADD", two, after).ok()
    assert host.ask(host.outside, HOST4, "udp", 5353, **keep).startswith("pod2 ")


@both
def test_sctp_by_its_rules(host, backend):
    pod = host.pod("pod1")
    conf = host.conf("pod1", [mapping(8080, 80, "sctp")], backend=backend)
    host.call("ADD", pod, conf).ok()
    host.call("CHECK", pod, conf).ok()
    assert any("sctp" in rule for rule in rules(host.node))
    host.call("DEL", pod, conf).ok()
    assert rules(host.node) == []


@pytest.mark.kernel
@pytest.mark.parametrize("family", [4, 6])
def test_sctp_packets(host, family):
    """A guest has no NAT for nftables, and this kernel no SCTP."""
    pod = host.pod("pod1")
    host.serve(pod, family, "sctp", 80, "pod1")
    conf = host.conf("pod1", [mapping(8080, 80, "sctp")], backend="iptables")
    address = HOST4 if family == 4 else HOST6
    host.call("ADD", pod, conf).ok()
    outside = OUTSIDE4 if family == 4 else OUTSIDE6
    assert host.ask(host.outside, address, "sctp", 8080, timeout_s=5.0) == f"pod1 {outside}"
    assert host.ask(host.outside, address, "tcp", 8080).startswith("!")
    host.call("CHECK", pod, conf).ok()
    host.call("DEL", pod, conf).ok()
    assert host.ask(host.outside, address, "sctp", 8080).startswith("!")


# --- who has a port -----------------------------------------------------------------------------

OVERLAPS = [
    (mapping(80, 80), mapping(80, 80), True),
    (mapping(80, 80), mapping(80, 80, "udp"), False),
    (mapping(80, 80), mapping(81, 80), False),
    (mapping(80, 80), mapping(80, 80, ip=HOST4), True),
    (mapping(80, 80, ip=HOST4), mapping(80, 80), True),
    (mapping(80, 80, ip=HOST4), mapping(80, 80, ip="192.0.2.9"), False),
    (mapping(80, 80, ip=HOST4), mapping(80, 80, ip=HOST4), True),
    (mapping(80, 80, ip="0.0.0.0"), mapping(80, 80, ip="::"), False),
    (mapping(80, 80, ip=HOST6), mapping(80, 80, ip="::"), True),
    (mapping(80, 80), mapping(80, 80, ip="::"), True),
]


@both
@pytest.mark.parametrize(("first", "second", "clash"), OVERLAPS)
def test_a_port_that_a_living_container_has(host, backend, first, second, clash):
    one, two = host.pod("pod1"), host.pod("pod2")
    host.call("ADD", one, host.conf("pod1", [first], backend=backend)).ok()
    before = rules(host.node)
    conf = host.conf("pod2", [mapping(9999, 1), second], backend=backend)
    done = host.call("ADD", two, conf)
    if not clash:
        done.ok()
        return
    assert "is taken by" in done.error["msg"]
    assert "pod1" in done.error["msg"], "the holder is named"
    assert "another host port" in done.error["details"]
    assert rules(host.node) == before


@both
def test_a_dead_container_s_port_is_taken_over(host, backend):
    one, two = host.pod("pod1"), host.pod("pod2")
    host.serve(two, 4, "tcp", 80, "pod2")
    host.call("ADD", one, host.conf("pod1", [mapping(80, 80)], backend=backend)).ok()
    one.delete()
    conf = host.conf("pod2", [mapping(80, 80)], backend=backend)
    done = host.call("ADD", two, conf).ok()
    assert "took host port" in done.stderr
    assert host.ask(host.outside, HOST4, "tcp", 80).startswith("pod2 ")
    late = host.conf("pod1", [mapping(80, 80)], backend=backend)
    host.node.cni("portmap", "DEL", late, container_id="pod1").ok()
    assert host.ask(host.outside, HOST4, "tcp", 80).startswith("pod2 ")
    host.call("CHECK", two, conf).ok()


@both
def test_a_second_add_is_refused_and_the_port_goes_on(host, backend):
    pod = host.pod("pod1")
    host.serve(pod, 4, "tcp", 80, "pod1")
    conf = host.conf("pod1", [mapping(80, 80)], backend=backend)
    host.call("ADD", pod, conf).ok()
    before = rules(host.node)
    assert "already" in host.call("ADD", pod, conf).error["msg"]
    host.node.sh("rm", "-r", "/run/cni-plugins/journal")
    host.call("ADD", pod, conf).ok()
    assert rules(host.node) == before
    assert host.ask(host.outside, HOST4, "tcp", 80).startswith("pod1 ")


# --- cleaning up --------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("journal", [True, False])
def test_del_without_netns_without_prevresult_and_twice(host, backend, journal):
    pod = host.pod("pod1")
    conf = host.conf("pod1", [mapping(80, 80), mapping(81, 80, ip=HOST4)], backend=backend)
    host.call("ADD", pod, conf).ok()
    pod.delete()
    if not journal:
        host.node.sh("rm", "-r", "/run/cni-plugins/journal")
    bare = {k: v for k, v in conf.items() if k not in {"prevResult", "runtimeConfig", "backend"}}
    for _ in range(2):
        host.node.cni("portmap", "DEL", bare, container_id="pod1").ok()
        assert rules(host.node) == []


@both
def test_no_failure_of_an_adapter_leaves_anything(host, backend):
    pod = host.pod("pod1")
    conf = host.conf("pod1", [mapping(80, 80), mapping(53, 53, "udp")], backend=backend)
    host.call("ADD", pod, conf).ok()
    host.call("DEL", pod, conf).ok()
    calls = host.call("ADD", pod, conf, prepare=Faults()).ok().extra
    host.call("DEL", pod, conf).ok()
    before = state(host.node)
    assert rules(host.node) == []
    for n in range(1, len(calls) + 1):
        if host.call("ADD", pod, conf, prepare=Faults(n)).exit_code == 0:
            host.call("CHECK", pod, conf).ok()
            host.call("DEL", pod, conf).ok()
        assert_same(before, state(host.node), calls[n - 1])


@both
def test_kill_9_anywhere_and_del_cleans_up(host, backend):
    pod = host.pod("pod1")
    conf = host.conf("pod1", [mapping(80, 80), mapping(53, 53, "udp")], backend=backend)
    calls = host.call("ADD", pod, conf, prepare=Faults()).ok().extra
    host.call("DEL", pod, conf).ok()
    before = state(host.node)
    for n in range(1, len(calls) + 1):
        try:
            host.call("ADD", pod, conf, prepare=Faults(n, kill=True))
        except ChildProcessError:
            host.call("DEL", pod, conf).ok()
            assert_same(before, state(host.node), calls[n - 1])


@both
@pytest.mark.parametrize("journal", [True, False])
def test_gc_removes_what_is_not_valid(host, backend, journal):
    one, two = host.pod("pod1"), host.pod("pod2")
    over: dict[str, Any] = {"backend": backend, "cniVersion": "1.1.0"}
    for pod, port in ((one, 80), (two, 81)):
        host.call("ADD", pod, host.conf(pod.name, [mapping(port, 80)], **over)).ok()
    if not journal:
        host.node.sh("rm", "-r", "/run/cni-plugins/journal")
    valid = [{"containerID": "pod2", "ifname": "eth0"}]
    conf = host.conf("pod2", [], **over, **{"cni.dev/valid-attachments": valid})
    host.node.cni("portmap", "GC", conf).ok()
    left = rules(host.node)
    assert left
    assert not any("pod1" in rule for rule in left)
    host.call("CHECK", two, host.conf("pod2", [mapping(81, 80)], **over)).ok()


@pytest.mark.storm
@both
def test_64_containers_at_once(host, backend):
    """Shared chains, jumps and maps are made once, whoever is first."""
    from concurrent.futures import ThreadPoolExecutor

    result = {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "eth0", "sandbox": "/x"}],
        "ips": [{"address": "10.9.0.9/24", "interface": 0}],
    }
    host.results["many"] = result

    def call(command: str, n: int):
        conf = host.conf("many", [mapping(9000 + n, 80), mapping(9000 + n, 80, "udp")])
        conf |= {"backend": backend}
        return host.node.cni(
            "portmap", command, conf, netns="/run/netns/x", container_id=f"m{n}", timeout_s=60.0
        ).ok()

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: call("ADD", n), range(64)))
        if backend == "iptables":
            jumps = [r for r in host.node.iptables() if r.endswith("-j CNI-HOSTPORT-DNAT")]
            assert len(jumps) == 2
            assert len({r for r in host.node.iptables() if "--dports" in r}) == 128
        else:
            listed = host.node.sh("nft", "list", "table", "inet", "cni_plugins_portmap").stdout
            assert listed.count("jump hostports") == 2
            assert listed.count(" : 10.9.0.9 . 80") == 128
        list(pool.map(lambda n: call("DEL", n), range(64)))
    assert rules(host.node) == []


# --- CHECK --------------------------------------------------------------------------------------

IPTABLES_DRIFT = [
    "iptables -t nat -F CNI-HOSTPORT-DNAT",
    "iptables -t nat -F CNI-HOSTPORT-SETMARK",
    "iptables -t nat -F CNI-HOSTPORT-MASQ",
    "iptables -t nat -D PREROUTING 1",
    "iptables -t nat -D OUTPUT 1",
    "iptables -t nat -D POSTROUTING 1",
    "iptables -t nat -F OWN",
    "iptables -t nat -D OWN 1",
    "ip6tables -t nat -D OWN 2",
]
NFTABLES_DRIFT = [
    "nft delete table inet cni_plugins_portmap",
    "nft flush map inet cni_plugins_portmap any4",
    "nft flush map inet cni_plugins_portmap any6",
    "nft flush map inet cni_plugins_portmap host4",
    "nft flush set inet cni_plugins_portmap hairpin4",
    "nft flush chain inet cni_plugins_portmap hostports",
    "nft flush chain inet cni_plugins_portmap prerouting",
    "nft flush chain inet cni_plugins_portmap postrouting",
    "nft flush ruleset",
]


@pytest.mark.parametrize(
    ("backend", "drift"),
    [("iptables", d) for d in IPTABLES_DRIFT] + [("nftables", d) for d in NFTABLES_DRIFT],
)
def test_check_names_what_is_missing(host, backend, drift):
    pod = host.pod("pod1")
    conf = host.conf("pod1", [mapping(80, 80), mapping(81, 80, ip=HOST4)], backend=backend)
    host.call("ADD", pod, conf).ok()
    host.call("CHECK", pod, conf).ok()
    own = next((r.split()[-1] for r in host.node.iptables() if "--dports" in r), "")
    host.node.sh(*drift.replace("OWN", own).split())
    said = host.call("CHECK", pod, conf).error["msg"]
    assert "missing" in said or "has 0 rules" in said


# --- what is asked for --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "over", "said"),
    [
        ([mapping(0, 80)], {}, "Invalid host port number: 0"),
        ([mapping(65536, 80)], {}, "Invalid host port number: 65536"),
        ([mapping(80, -1)], {}, "Invalid container port number: -1"),
        ([mapping(80, 65536)], {}, "Invalid container port number: 65536"),
        ([mapping(80, 80, "icmp")], {}, "portMappings[0].protocol: 'icmp' is not one of tcp, udp"),
        ([mapping(80, 80, ip="nonsense")], {}, "portMappings[0].hostIP"),
        (
            [{"hostPort": "80", "containerPort": 80}],
            {},
            "hostPort: expected an integer, got string",
        ),
        ([mapping(80, 80), mapping(80, 81)], {}, "host port 80/tcp is mapped twice"),
        ([], {"backend": "ebpf"}, 'unrecognized backend "ebpf"'),
        ([], {"markMasqBit": 32}, "MasqMarkBit must be between 0 and 31"),
        (
            [],
            {"markMasqBit": 5, "externalSetMarkChain": "X"},
            "Cannot specify externalSetMarkChain and markMasqBit",
        ),
        (
            [],
            {"backend": "iptables", "conditionsV4": ["ip saddr 1.1.1.1"], "conditionsV6": ["a"]},
            (
                "iptables backend was requested but configuration contains nftables-specific options "
                "[conditionsV4 conditionsV6]"
            ),
        ),
        (
            [],
            {
                "backend": "nftables",
                "externalSetMarkChain": "X",
                "conditionsV4": ["-s", "1.1.1.1"],
                "conditionsV6": ["!", "-s", "::1"],
            },
            "[externalSetMarkChain conditionsV4 conditionsV6]",
        ),
        ([mapping(80, 80)], {"prevResult": None}, "must be called as chained plugin"),
    ],
)
@statement("PM01")
def test_bad_input_changes_nothing(host, given, over, said):
    pod = host.pod("pod1")
    before = snapshot(host.node)
    assert said in host.call("ADD", pod, host.conf("pod1", given, **over)).error["msg"]
    assert_same(before, snapshot(host.node))


def test_an_address_of_a_family_the_container_does_not_have(host):
    pod = host.pod("pod1")
    only4 = host.results["pod1"] | {"ips": host.results["pod1"]["ips"][:1]}
    conf = host.conf("pod1", [mapping(80, 80, ip=HOST6)], prevResult=only4)
    said = host.call("ADD", pod, conf).error["msg"]
    assert f"hostIP: {HOST6}: the container has no IPv6 address" in said


def test_keys_in_the_case_of_containerd(host):
    pod = host.pod("pod1")
    host.serve(pod, 4, "tcp", 80, "pod1")
    given = [{"HostPort": 80, "ContainerPort": 80, "Protocol": "TCP", "HostIP": ""}]
    host.call("ADD", pod, host.conf("pod1", given)).ok()
    assert host.ask(host.outside, HOST4, "tcp", 80).startswith("pod1 ")


@statement("PM02")
def test_no_mappings_and_nothing_happens(host):
    pod = host.pod("pod1")
    before = snapshot(host.node)
    done = host.call("ADD", pod, host.conf("pod1", []), prepare=Faults())
    assert done.result == host.results["pod1"]
    assert [c for c in done.extra if not c.startswith("store")] == []
    deleted = host.call("DEL", pod, host.conf("pod1", []), prepare=Faults()).ok()
    assert [c for c in deleted.extra if not c.startswith("store")] == []
    assert_same(before, snapshot(host.node))


@statement("PM03")
@pytest.mark.parametrize("broken", ["iptables-save", "iptables-restore"])
def test_the_backend_is_found_out(host, broken):
    pod = host.pod("pod1")
    host.serve(pod, 4, "tcp", 80, "pod1")
    tools = f"{host.node.scratch}/tools"
    host.node.sh("mkdir", tools)
    host.node.install(tools, broken, "echo no such table >&2; exit 3\n")
    env = {"PATH": f"{tools}:/usr/sbin:/usr/bin:/sbin:/bin"}
    conf = host.conf("pod1", [mapping(80, 80)])
    if broken == "iptables-restore":
        host.call("ADD", pod, conf).ok()
        assert any("CNI-DN-" in rule for rule in host.node.iptables())
        return
    done = host.call("ADD", pod, conf, env=env).ok()
    assert "port mappings are done by nftables: iptables cannot be used" in done.stderr
    assert host.ask(host.outside, HOST4, "tcp", 80).startswith("pod1 ")
    host.call("CHECK", pod, conf, env=env).ok()
    status = host.conf("pod1", [], cniVersion="1.1.0", prevResult=None, backend="iptables")
    assert host.call("STATUS", pod, status, env=env).error["code"] == 50
