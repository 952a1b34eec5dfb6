"""What the dhcp daemon says to servers and believes of them; leases over time and restarts."""

from __future__ import annotations

import os
import re
import signal
import time
from typing import TYPE_CHECKING

import pytest

from tests.kit.confs import bridge, chained
from tests.kit.dhcp import SERVER, STATE, Daemon, Lan, cable, dhcp
from tests.kit.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.node import Node, Pod

pytestmark = pytest.mark.netns
ADDRESS = "192.168.1.5"
NOISE = [
    "foreign_transaction",
    "foreign_station",
    "foreign_server",
    "truncated",
    "endless_option",
    "no_cookie",
    "a_request",
    "no_host",
    "garbage",
]
OWN_ID = (b"\0c1/net1/eth0").hex()


@pytest.fixture
def lan(node: Node) -> Iterator[Lan]:
    """A network; the test starts its server."""
    lan = Lan(node)
    yield lan
    lan.close()


@pytest.fixture
def daemon(node: Node) -> Iterator[Daemon]:
    """The daemon, quick to try again."""
    daemon = Daemon(node, "-timeout", "1s", "-resendmax", "1s")
    yield daemon
    daemon.close()


@pytest.fixture
def wired(lan: Lan, pod: Pod) -> Pod:
    """A pod with a link into the network."""
    assert lan.server
    cable(pod)
    return pod


def lease_files(node: Node) -> list[str]:
    """The leases that the daemon keeps."""
    return [f for f in node.files(STATE) if f.endswith(".json")]


# --- messages -----------------------------------------------------------------------------------


@pytest.mark.statement("DH08", "DH09")
def test_what_discover_and_request_carry(node, lan, daemon, wired):
    server = lan.scripted()
    conf = dhcp(
        request=[{"option": "121"}, {"option": "routers"}],
        provide=[{"option": "host-name", "value": "web"}, {"option": "77", "value": "class"}],
    )
    node.cni("dhcp", "ADD", conf, netns=wired).ok()
    (discover,), (request,) = server.heard("DISCOVER"), server.heard("REQUEST")
    for message in (discover, request):
        assert (message["source"], message["destination"]) == ("0.0.0.0", "255.255.255.255")
        assert message["to"] == "ff:ff:ff:ff:ff:ff"
        assert message["ciaddr"] == "0.0.0.0"
        assert message["codes"] == sorted(message["codes"])
        options = message["options"]
        assert options["12"] == b"web".hex()
        assert options["77"] == b"class".hex()
        assert options["55"] == bytes([121, 3, 1, 6, 15, 119]).hex()
        assert options["57"] == (1500).to_bytes(2, "big").hex()
        assert options["61"] == OWN_ID
    assert discover["codes"] == [12, 53, 55, 57, 61, 77]
    assert request["codes"] == [12, 50, 53, 54, 55, 57, 61, 77]
    assert discover["xid"] == request["xid"]
    assert request["options"]["50"] == bytes(map(int, ADDRESS.split("."))).hex()


def test_a_client_id_and_a_list_of_ones_own(node, lan, daemon, wired):
    server = lan.scripted()
    conf = dhcp(
        request=[{"skipDefault": True}, {"option": "1"}],
        provide=[{"option": "dhcp-client-identifier", "value": "me"}],
    )
    node.cni("dhcp", "ADD", conf, netns=wired).ok()
    node.cni("dhcp", "DEL", conf, netns=wired).ok()
    assert server.heard("DISCOVER")[0]["options"]["55"] == "01"
    for kind in ("DISCOVER", "REQUEST", "RELEASE"):
        assert server.wait(kind)[0]["options"]["61"] == b"me".hex()


def test_release_is_unicast_from_the_leased_address(node, lan, daemon, wired):
    server = lan.scripted()
    node.cni("dhcp", "ADD", dhcp(), netns=wired).ok()
    node.cni("dhcp", "DEL", dhcp(), netns=wired).ok()
    (release,) = server.wait("RELEASE")
    assert (release["source"], release["destination"]) == (ADDRESS, SERVER)
    assert release["to"] == lan.server.link()["address"]
    assert release["ciaddr"] == ADDRESS
    assert release["codes"] == [53, 54, 61]


def test_every_other_try_asks_for_broadcast(node, lan, daemon, wired):
    server = lan.scripted(offers=False)
    node.cni("dhcp", "ADD", dhcp(timeout=4), netns=wired).error  # noqa: B018 - asserts
    tries = server.heard("DISCOVER")
    assert [message["broadcast"] for message in tries[:3]] == [False, True, False]
    assert len({message["xid"] for message in tries}) == 1


def test_no_first_try_is_lost_on_a_link_that_just_came_up(node, lan, daemon):
    server = lan.scripted()
    pods = [node.pod(f"q{i}") for i in range(20)]
    for i, pod in enumerate(pods):
        cable(pod, port=f"q{i}")
        node.cni("dhcp", "ADD", dhcp(), netns=pod, container_id=f"c{i}").ok()
    assert len(server.heard("DISCOVER")) == len(pods)
    assert not any(message["broadcast"] for message in server.heard("DISCOVER"))


def test_broadcast_from_the_first_try_on_when_asked_for(node, lan, wired):
    daemon = Daemon(node, "-broadcast")
    server = lan.scripted()
    node.cni("dhcp", "ADD", dhcp(), netns=wired).ok()
    server.wait("REQUEST")
    assert [m["broadcast"] for m in server.messages[1:]] == [True, True]
    daemon.close()


# --- what servers say ---------------------------------------------------------------------------


@pytest.mark.statement("DH12")
@pytest.mark.parametrize(
    "noise", [*([n] for n in NOISE), NOISE], ids=lambda n: n[0] if len(n) == 1 else "all"
)
def test_malformed_and_foreign_answers_are_ignored(node, lan, daemon, wired, noise):
    lan.scripted(noise=noise)
    result = node.cni("dhcp", "ADD", dhcp(), netns=wired).result
    assert [ip["address"] for ip in result["ips"]] == [f"{ADDRESS}/24"]
    assert "Traceback" not in daemon.log


@pytest.mark.statement("DH11")
@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"1": None}, "DHCP option Subnet Mask not found in DHCPACK"),
        ({"1": "ff00ff00"}, "DHCP option Subnet Mask in DHCPACK is no mask: ff00ff00"),
        ({"121": "21c0a801"}, "DHCP option Classless Static Route is malformed: 21c0a801"),
    ],
)
def test_terms_that_make_no_sense_fail_the_add_and_are_given_back(
    node, lan, daemon, wired, options, text
):
    server = lan.scripted(options=options)
    error = node.cni("dhcp", "ADD", dhcp(), netns=wired).error
    assert error["msg"] == f"error calling DHCP.Allocate: {text}"
    (release,) = server.wait("RELEASE")
    assert release["ciaddr"] == ADDRESS
    assert lease_files(node) == []
    assert "Traceback" not in daemon.log


@pytest.mark.statement("DH06", "DH10", "DH14")
@pytest.mark.parametrize(
    ("options", "routes"),
    [
        (
            {"33": "0a0000000a010203" + "c0a80100c0a80203"},
            [("10.0.0.0/8", "10.1.2.3"), ("192.168.1.0/24", "192.168.2.3"), ("0.0.0.0/0", SERVER)],
        ),
        (
            {"33": "0a0000000a010203", "121": "18c0a807c0a80104" + "00c0a80109"},
            [("192.168.7.0/24", "192.168.1.4"), ("0.0.0.0/0", "192.168.1.9")],
        ),
        ({"3": None}, []),
    ],
    ids=["static", "classless", "none"],
)
def test_routes(node, lan, daemon, wired, options, routes):
    assert daemon.pid
    lan.scripted(options=options)
    result = node.cni("dhcp", "ADD", dhcp(priority=5), netns=wired).result
    found = [(r["dst"], r["gw"]) for r in result.get("routes", [])]
    assert found == routes
    assert {r["priority"] for r in result.get("routes", [])} <= {5}
    assert result["ips"][0].get("gateway") == (None if "3" in options else SERVER)


def test_a_destination_on_the_link(node, lan, daemon, pod):
    """A classless route whose router is 0.0.0.0, and a default route behind it."""
    assert daemon.pid
    lan.scripted(options={"3": None, "121": "20ac100001" + "00000000" + "00ac100001"})
    request = [{"option": "121"}]
    conf = bridge(bridge="lan0", isGateway=False, ipam={"type": "dhcp", "request": request})
    result = node.cni("bridge", "ADD", conf, netns=pod).result
    assert result["routes"] == [
        {"dst": "172.16.0.1/32", "gw": "0.0.0.0", "scope": 253},
        {"dst": "0.0.0.0/0", "gw": "172.16.0.1"},
    ]
    routes = {(r["dst"], r.get("gateway"), r.get("scope")) for r in pod.ip("route")}
    assert {("172.16.0.1", None, "link"), ("default", "172.16.0.1", None)} <= routes
    node.cni("bridge", "CHECK", chained(conf, result), netns=pod).ok()


# --- over time ----------------------------------------------------------------------------------


def up(pod: Pod, address: str = ADDRESS) -> None:
    """The interface plugin's part."""
    pod.sh("ip", "addr", "add", f"{address}/24", "dev", "eth0")


def test_renewal_is_unicast_and_goes_on(node, lan, daemon, wired):
    server = lan.scripted(lease_s=4)
    node.cni("dhcp", "ADD", dhcp(), netns=wired).ok()
    up(wired)
    renewals = server.wait("REQUEST", 3)[1:]
    for request in renewals:
        assert (request["source"], request["destination"]) == (ADDRESS, SERVER)
        assert request["to"] == lan.server.link()["address"]
        assert request["ciaddr"] == ADDRESS
        assert not {50, 54} & set(request["codes"])
    assert len(server.heard("DISCOVER")) == 1
    assert wired.link()["flags"].count("UP") == 1
    assert lease_files(node) != []


def test_without_an_answer_it_rebinds_by_broadcast_and_then_sets_the_link_down(
    node, lan, daemon, wired
):
    server = lan.scripted(lease_s=6, acks=1)
    result = node.cni("dhcp", "ADD", dhcp(), netns=wired).result
    up(wired)
    wait_for("expiry", lambda: "expired" in daemon.log)
    unicast = [m for m in server.heard("REQUEST")[1:] if m["destination"] == SERVER]
    broadcast = [m for m in server.heard("REQUEST")[1:] if m["destination"] != SERVER]
    assert unicast
    assert broadcast
    assert server.messages.index(unicast[-1]) < server.messages.index(broadcast[0])
    assert {m["ciaddr"] for m in broadcast} == {ADDRESS}
    assert "UP" not in wired.link()["flags"]
    error = node.cni("dhcp", "CHECK", chained(dhcp(), result), netns=wired).error
    assert f"the lease of {ADDRESS} expired" in error["msg"]
    assert "delete and add the container again" in error["details"]
    daemon.signal(signal.SIGKILL)
    daemon.start()
    assert "expired" in node.cni("dhcp", "CHECK", chained(dhcp(), result), netns=wired).error["msg"]
    node.cni("dhcp", "DEL", dhcp(), netns=wired).ok()
    assert lease_files(node) == []
    assert server.heard("RELEASE") == []


def test_a_refusal_leads_to_a_new_lease_of_the_same_address(node, lan, daemon, wired):
    server = lan.scripted(lease_s=8, nak_from=2)
    node.cni("dhcp", "ADD", dhcp(), netns=wired).ok()
    up(wired)
    wait_for("refusal", lambda: "refused to renew" in daemon.log)
    server.stop()
    again = lan.scripted(lease_s=3600)
    again.wait("REQUEST")
    assert again.heard("DISCOVER")[-1]["options"]["50"] == "c0a80105"
    time.sleep(1)
    assert "UP" in wired.link()["flags"]
    assert "expired" not in daemon.log


def test_an_offer_of_another_address_is_given_back_and_the_pod_keeps_its_own(
    node, lan, daemon, wired
):
    server = lan.scripted(lease_s=8, nak_from=2)
    node.cni("dhcp", "ADD", dhcp(), netns=wired).ok()
    up(wired)
    wait_for("refusal", lambda: "refused to renew" in daemon.log)
    server.stop()
    other = lan.scripted(address="192.168.1.44")
    assert other.wait("RELEASE")[0]["ciaddr"] == "192.168.1.44"
    assert f"the server gives 192.168.1.44, not {ADDRESS}" in daemon.log
    wait_for("expiry", lambda: "expired" in daemon.log)


def test_a_pod_that_vanished_is_dropped_at_its_renewal(node, lan, daemon, wired):
    lan.scripted(lease_s=4)
    node.cni("dhcp", "ADD", dhcp(), netns=wired).ok()
    wired.delete()
    wait_for("the end of the lease", lambda: lease_files(node) == [])
    assert "expired" not in daemon.log
    assert "forgotten" in daemon.log


def test_a_resting_lease_keeps_no_namespace_alive(node, lan, daemon, wired):
    assert lan.scripted()
    node.cni("dhcp", "ADD", dhcp(), netns=wired).ok()
    assert "p1" in node.links()
    wired.delete()
    wait_for("the kernel", lambda: "p1" not in node.links())
    own = os.stat(f"/proc/{daemon.pid}/ns/net").st_ino
    fds = [
        os.readlink(f"/proc/{daemon.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{daemon.pid}/fd")
    ]
    assert [fd for fd in fds if fd.startswith("net:")] == []
    assert own


def test_a_link_that_an_operator_set_down_does_not_end_the_lease(node, lan, daemon, wired):
    server = lan.scripted(lease_s=8)
    node.cni("dhcp", "ADD", dhcp(), netns=wired).ok()
    wired.sh("ip", "link", "set", "eth0", "down")
    wait_for("a complaint", lambda: "Network is down" in daemon.log)
    wired.sh("ip", "link", "set", "eth0", "up")
    server.wait("REQUEST", 2)
    assert len(lease_files(node)) == 1
    assert "forgotten" not in daemon.log


# --- restarts -----------------------------------------------------------------------------------


def test_a_lease_survives_the_death_of_the_daemon(node, lan, daemon, wired):
    """Killed at half of a lease of 60 s; the server would give the address to the next client."""
    lan.udhcpd(60)
    result = node.cni("dhcp", "ADD", dhcp(), netns=wired).result
    assert result["ips"][0]["address"] == f"{ADDRESS}/24"
    began = time.monotonic()
    up(wired)
    time.sleep(28)
    daemon.signal(signal.SIGKILL)
    time.sleep(2)
    daemon.start()
    assert "holds 1 leases" in daemon.log
    cable(node.pod("thief"), port="p2")
    while time.monotonic() < began + 66:
        assert wired.pings(SERVER)
        assert "UP" in wired.link()["flags"]
        time.sleep(4)
    error = node.cni(
        "dhcp", "ADD", dhcp(timeout=3), netns="/run/netns/thief", container_id="c2"
    ).error
    assert "no more tries" in error["msg"]
    node.cni("dhcp", "CHECK", chained(dhcp(), result), netns=wired).ok()
    node.cni("dhcp", "DEL", dhcp(), netns=wired).ok()
    wired.sh("ip", "addr", "flush", "dev", "eth0")  # udhcpd looks whether somebody has it
    given = node.cni("dhcp", "ADD", dhcp(), netns="/run/netns/thief", container_id="c2").result
    assert given["ips"] == result["ips"]


def test_a_restart_drops_those_whose_pod_is_gone_and_keeps_the_others(node, lan, daemon):
    assert lan.dnsmasq()
    pods = {name: node.pod(name) for name in ("a", "b", "c")}
    for name, pod in pods.items():
        cable(pod, port=f"p-{name}")
        node.cni("dhcp", "ADD", dhcp(), netns=pod, container_id=name).ok()
    daemon.signal(signal.SIGKILL)
    pods["a"].delete()
    pods["b"].sh("ip", "link", "del", "eth0")
    cable(pods["b"], port="p-b2")  # another link under the same name
    daemon.start()
    wait_for("the others' end", lambda: len(lease_files(node)) == 1)
    assert b'"c"' in node.read(lease_files(node)[0])


def test_a_lease_that_ran_out_meanwhile_is_asked_for_again(node, lan, daemon, wired):
    server = lan.scripted(lease_s=3)
    result = node.cni("dhcp", "ADD", dhcp(), netns=wired).result
    up(wired)
    daemon.signal(signal.SIGKILL)
    time.sleep(4)
    before = len(server.heard("REQUEST"))
    daemon.start()
    reboot = server.wait("REQUEST", before + 1)[before]
    assert reboot["options"]["50"] == "c0a80105"
    assert (reboot["ciaddr"], 54 in reboot["codes"]) == ("0.0.0.0", False)
    node.cni("dhcp", "CHECK", chained(dhcp(), result), netns=wired).ok()
    assert "UP" in wired.link()["flags"]
    assert "expired" not in daemon.log


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"schema": 2}', b'{"schema": 1, "boot_id": "x"}', b"\xff\xfe"],
    ids=["empty", "torn", "list", "schema", "boot", "bytes"],
)
def test_a_damaged_lease_file_stops_nobody(node, lan, daemon, wired, content):
    lan.scripted()
    result = node.cni("dhcp", "ADD", dhcp(), netns=wired).result
    (file,) = lease_files(node)
    daemon.signal(signal.SIGKILL)
    node.write(file, content)
    daemon.start()
    assert "Traceback" not in daemon.log
    node.cni("dhcp", "CHECK", chained(dhcp(), result), netns=wired).ok()
    node.cni("dhcp", "DEL", dhcp(), netns=wired).ok()
    assert lease_files(node) == []
    assert re.search(r"holds 0 leases", daemon.log)
