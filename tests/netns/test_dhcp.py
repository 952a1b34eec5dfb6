"""dhcp with Debian's dnsmasq: leases given, given back, checked, collected."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from tests.kit.confs import bridge, chained
from tests.kit.dhcp import ROOT, SERVER, SOCKET, STATE, Daemon, Lan, cable, dhcp
from tests.kit.state import assert_same, snapshot
from tests.kit.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kit.node import Node, Pod

pytestmark = pytest.mark.netns
VERSIONS = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]


@pytest.fixture
def lan(node: Node) -> Iterator[Lan]:
    """A network; the test starts its server."""
    lan = Lan(node)
    yield lan
    lan.close()


@pytest.fixture
def daemon(node: Node) -> Iterator[Daemon]:
    """The daemon."""
    daemon = Daemon(node)
    yield daemon
    daemon.close()


@pytest.fixture
def wired(lan: Lan, pod: Pod) -> Pod:
    """A pod with a link into the network."""
    assert lan.server
    cable(pod)
    return pod


def leased(leases) -> list[str]:
    """The addresses that dnsmasq has given out."""
    return [line.split()[2] for line in leases.read_text().splitlines()]


# --- ADD, DEL -----------------------------------------------------------------------------------


@pytest.mark.statement("DH01")
@pytest.mark.parametrize("version", VERSIONS)
def test_add_and_del_in_every_version(node, lan, wired, version):
    daemon = Daemon(node, "-socketpath", "/run/own/dhcp.sock")
    leases = lan.dnsmasq("192.168.1.5,192.168.1.5")
    conf = dhcp(version, daemonSocketPath="/run/own/dhcp.sock")
    result = node.cni("dhcp", "ADD", conf, netns=wired).result
    if version < "0.3":
        assert result["ip4"]["ip"] == "192.168.1.5/24"
        assert result["ip4"]["gateway"] == SERVER
    else:
        (ip,) = result["ips"]
        assert (ip["address"], ip["gateway"]) == ("192.168.1.5/24", SERVER)
        assert result["routes"] == [{"dst": "0.0.0.0/0", "gw": SERVER}]
    assert leased(leases) == ["192.168.1.5"]
    node.cni("dhcp", "DEL", conf, netns=wired).ok()
    wait_for("release", lambda: leased(leases) == [])
    assert node.files("/var/lib/cni/dhcp/run-own-dhcp.sock") == [
        "/var/lib/cni/dhcp/run-own-dhcp.sock/daemon.lock"
    ]
    daemon.close()


@pytest.mark.statement("DH02")
def test_dels_at_a_time_and_again(node, lan, daemon, wired):
    leases = lan.dnsmasq()
    node.cni("dhcp", "ADD", dhcp(), netns=wired).ok()
    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(node.cni, "dhcp", "DEL", dhcp(), netns=wired) for _ in range(3)]
        assert [call.result().exit_code for call in calls] == [0, 0, 0]
    node.cni("dhcp", "DEL", dhcp(), netns=wired).ok()
    assert leased(leases) == []
    assert daemon.log.count("released") == 1


@pytest.mark.statement("DH03")
def test_an_empty_pool_ends_in_no_more_tries(node, lan, wired):
    options = ("-timeout", "2s", "-resendmax", "8s", "-resendtimeout", "3s")
    daemon = Daemon(node, *options)
    lan.dnsmasq("192.168.1.5,192.168.1.5")
    cable(wired, "eth1", "p2")
    node.cni("dhcp", "ADD", dhcp(), netns=wired).ok()
    error = node.cni("dhcp", "ADD", dhcp(), netns=wired, ifname="eth1").error
    assert error["msg"] == "error calling DHCP.Allocate: no more tries"
    assert error["code"] == 11
    assert "0 usable offers" in error["details"]
    for ifname in ("eth0", "eth1"):
        node.cni("dhcp", "DEL", dhcp(), netns=wired, ifname=ifname).ok()
    daemon.close()


@pytest.mark.statement("DH04")
def test_two_links_of_a_container(node, lan, daemon, wired):
    leases = lan.dnsmasq("192.168.1.5,192.168.1.6")
    cable(wired, "eth1", "p2")
    conf = dhcp("0.3.1")
    given = {
        node.cni("dhcp", "ADD", conf, netns=wired, ifname=i).result["ips"][0]["address"]
        for i in ("eth0", "eth1")
    }
    assert given == {"192.168.1.5/24", "192.168.1.6/24"}
    for ifname in ("eth1", "eth0"):
        node.cni("dhcp", "DEL", conf, netns=wired, ifname=ifname).ok()
    wait_for("release", lambda: leased(leases) == [])
    assert daemon.log.count("released") == 2


@pytest.mark.storm
def test_twenty_containers_at_a_time(node, lan, daemon):
    leases = lan.dnsmasq()
    pods = [node.pod(f"pod{n}") for n in range(20)]
    conf = bridge(bridge="lan0", isGateway=False, ipam={"type": "dhcp"})
    with ThreadPoolExecutor(20) as pool:
        calls = [
            pool.submit(node.cni, "bridge", "ADD", conf, netns=p, container_id=p.name) for p in pods
        ]
        results = [call.result().result for call in calls]
    addresses = [result["ips"][0]["address"] for result in results]
    assert len(set(addresses)) == 20
    assert sorted(f"{address}/24" for address in leased(leases)) == sorted(addresses)
    for pod, address in zip(pods, addresses, strict=True):
        assert pod.addresses() == [address]
        assert pod.pings(SERVER)
    with ThreadPoolExecutor(20) as pool:
        calls = [
            pool.submit(node.cni, "bridge", "DEL", conf, netns=p, container_id=p.name) for p in pods
        ]
        assert {call.result().exit_code for call in calls} == {0}
    wait_for("release", lambda: leased(leases) == [])
    assert "daemon failed" not in daemon.log


@pytest.mark.parametrize("plugin", ["bridge", "macvlan", "host-device"])
def test_pods_of_interface_plugins_reach_the_network_and_release_on_del(
    node, lan, daemon, pod, plugin
):
    leases = lan.dnsmasq()
    node.sh("sh", "-ec", "ip link add up0 type veth peer up1; ip link set up1 master lan0 up")
    node.sh("ip", "link", "set", "up0", "up")
    own = {"bridge": {"bridge": "lan0"}, "macvlan": {"master": "up0"}}
    conf = {"cniVersion": "1.1.0", "name": "net1", "type": plugin, "ipam": {"type": "dhcp"}}
    conf |= own.get(plugin, {"device": "up0"})
    result = node.cni(plugin, "ADD", conf, netns=pod).result
    assert pod.addresses() == [result["ips"][0]["address"]]
    assert pod.pings(SERVER)
    node.cni(plugin, "CHECK", chained(conf, result), netns=pod).ok()
    node.cni(plugin, "STATUS", conf).ok()
    node.cni(plugin, "DEL", chained(conf, result), netns=pod).ok()
    wait_for("release", lambda: leased(leases) == [])
    assert "was not released" not in daemon.log


def test_an_add_whose_interface_cannot_be_finished_gives_the_lease_back(node, lan, daemon, pod):
    leases = lan.dnsmasq(
        "192.168.1.5,192.168.1.99",
        "--dhcp-option=option:classless-static-route,10.0.0.0/8,172.16.0.1",
    )
    request = [{"option": "121"}]
    conf = bridge(bridge="lan0", isGateway=False, ipam={"type": "dhcp", "request": request})
    before = snapshot(node, pod, shared_links=("lan0",))
    error = node.cni("bridge", "ADD", conf, netns=pod).error
    assert "add route 10.0.0.0/8 via 172.16.0.1" in error["msg"]
    assert_same(before, snapshot(node, pod, shared_links=("lan0",)))
    wait_for("release", lambda: leased(leases) == [])
    assert daemon.log.count("released") == 1


def test_names_dns_and_classless_routes_of_the_server_are_in_the_result(node, lan, daemon, wired):
    leases = lan.dnsmasq(
        "192.168.1.5,192.168.1.99",
        "--dhcp-option=option:dns-server,192.168.1.2,192.168.1.3",
        "--dhcp-option=option:domain-name,example.org",
        "--dhcp-option=option:domain-search,a.example.org,b.example.org",
        "--dhcp-option=option:classless-static-route,10.0.0.0/8,192.168.1.4,0.0.0.0/0,192.168.1.9",
    )
    conf = dhcp(
        request=[{"option": "121"}],
        provide=[
            {"option": "host-name", "value": "unused", "fromArg": "K8S_POD_NAME"},
            {"option": "vendor-class-identifier", "value": "cni"},
        ],
        priority=7,
    )
    args = "IgnoreUnknown=1;K8S_POD_NAME=web-1"
    result = node.cni("dhcp", "ADD", conf, netns=wired, args=args).result
    assert result["dns"] == {
        "nameservers": ["192.168.1.2", "192.168.1.3"],
        "domain": "example.org",
        "search": ["a.example.org", "b.example.org"],
    }
    assert result["routes"] == [
        {"dst": "10.0.0.0/8", "gw": "192.168.1.4", "priority": 7},
        {"dst": "0.0.0.0/0", "gw": "192.168.1.9", "priority": 7},
    ]
    assert result["ips"][0]["gateway"] == SERVER
    assert leases.read_text().split()[3] == "web-1"
    assert daemon.log.count("192.168.1.") == 2


# --- refusals -----------------------------------------------------------------------------------


def test_a_second_add_does_not_take_the_first_one_s_lease(node, lan, daemon, wired):
    leases = lan.dnsmasq()
    result = node.cni("dhcp", "ADD", dhcp(), netns=wired).result
    error = node.cni("dhcp", "ADD", dhcp(), netns=wired).error
    assert error["code"] == 999
    assert "duplicate allocation is not allowed" in error["msg"]
    assert len(leased(leases)) == 1
    node.cni("dhcp", "CHECK", chained(dhcp(), result), netns=wired).ok()
    assert "released" not in daemon.log


def test_an_add_after_the_pod_was_replaced_has_the_same_address(node, lan, daemon, pod):
    leases = lan.dnsmasq()
    cable(pod)
    first = node.cni("dhcp", "ADD", dhcp(), netns=pod).result["ips"]
    pod.delete()
    again = node.pod("pod2")
    cable(again, port="p2")
    assert node.cni("dhcp", "ADD", dhcp(), netns=again).result["ips"] == first
    assert len(leased(leases)) == 1
    assert len([f for f in node.files(STATE) if f.endswith(".json")]) == 1
    assert "forgotten" in daemon.log


@pytest.mark.parametrize(
    ("netns", "text"),
    [
        ("pod1", 'error calling DHCP.Allocate: error looking up "eth7": Link not found'),
        ("nowhere", "does not exist"),
    ],
)
def test_no_link_or_no_pod(node, lan, daemon, wired, netns, text):
    assert lan.server
    assert wired.name == "pod1"
    error = node.cni("dhcp", "ADD", dhcp(), netns=f"/run/netns/{netns}", ifname="eth7").error
    assert error["code"] == 999
    assert text in error["msg"]
    assert node.files(STATE) == [f"{STATE}/daemon.lock"]
    assert daemon.log.count("\n") == 1


def test_without_a_daemon_add_and_status_say_how_to_start_it(node, wired):
    for command, code in (("ADD", 11), ("STATUS", 50)):
        error = node.cni("dhcp", command, dhcp(), netns=wired).error
        assert error["code"] == code
        assert SOCKET in error["msg"]
        assert "systemctl start cni-dhcp.socket" in error["details"]
    assert (
        "error dialing DHCP daemon: " in node.cni("dhcp", "ADD", dhcp(), netns=wired).error["msg"]
    )


def test_an_add_ends_at_its_own_deadline(node, lan, daemon, wired):
    lan.scripted(offers=False)
    error = node.cni("dhcp", "ADD", dhcp(timeout=2), netns=wired).error
    assert (error["code"], "in 2 s" in error["details"]) == (11, True), error
    error = node.cni("dhcp", "ADD", dhcp(), netns=wired, timeout_s=3).error
    assert (error["code"], "no more tries" in error["msg"]) == (11, True), error
    assert node.files(STATE) == [f"{STATE}/daemon.lock"]
    assert "failed" not in daemon.log


def test_a_plugin_that_is_killed_while_it_waits_leaves_nothing(node, lan, daemon, wired):
    server = lan.scripted(offers=False)

    def killed() -> None:
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGKILL)).start()

    with pytest.raises(ChildProcessError):
        node.cni("dhcp", "ADD", dhcp(), netns=wired, prepare=killed)
    server.stop()
    leases = lan.dnsmasq()
    assert leased(leases) == []
    assert node.files(STATE) == [f"{STATE}/daemon.lock"]
    node.cni("dhcp", "ADD", dhcp(), netns=wired).ok()
    assert len(leased(leases)) == 1
    assert "failed" not in daemon.log


def test_a_del_ends_an_add_that_waits(node, lan, daemon, wired):
    server = lan.scripted(offers=False)
    with ThreadPoolExecutor(1) as pool:
        add = pool.submit(node.cni, "dhcp", "ADD", dhcp(), netns=wired)
        server.wait("DISCOVER")
        node.cni("dhcp", "DEL", dhcp(), netns=wired).ok()
        error = add.result(timeout=5).error
    assert error["code"] == 11
    assert "the acquisition was ended" in error["msg"]
    assert "failed" not in daemon.log


def test_a_full_disk_refuses_the_add_and_gives_the_lease_back(node, lan, daemon, wired):
    leases = lan.dnsmasq()
    node.sh("mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=2", "tmpfs", "/var/lib/cni/dhcp")
    error = node.cni("dhcp", "ADD", dhcp(), netns=wired).error
    assert error["code"] == 999
    assert "No space left on device" in error["msg"]
    wait_for("release", lambda: leased(leases) == [])
    node.sh("umount", "/var/lib/cni/dhcp")
    node.cni("dhcp", "ADD", dhcp(), netns=wired).ok()
    assert "failed" not in daemon.log


# --- without a daemon ---------------------------------------------------------------------------


def test_del_without_a_daemon_releases_the_lease_itself(node, lan, daemon, wired):
    leases = lan.dnsmasq()
    node.cni("dhcp", "ADD", dhcp(), netns=wired).ok()
    daemon.signal(signal.SIGKILL)
    node.cni("dhcp", "DEL", dhcp(), netns=wired).ok()
    wait_for("release", lambda: leased(leases) == [])
    assert node.files(STATE) == [f"{STATE}/daemon.lock"]
    node.cni("dhcp", "DEL", dhcp(), netns=wired).ok()


def test_del_without_a_daemon_and_without_the_pod(node, lan, daemon, wired):
    lan.dnsmasq()
    node.cni("dhcp", "ADD", dhcp(), netns=wired).ok()
    daemon.signal(signal.SIGKILL)
    wired.delete()
    done = node.cni("dhcp", "DEL", dhcp(), netns=wired).ok()
    assert "was not released, it expires" in done.stderr
    assert node.files(STATE) == [f"{STATE}/daemon.lock"]


def test_del_while_the_daemon_hangs_is_told_to_come_again(node, lan, daemon, wired):
    lan.dnsmasq()
    node.cni("dhcp", "ADD", dhcp(), netns=wired).ok()
    os.kill(daemon.pid, signal.SIGSTOP)
    error = node.cni("dhcp", "DEL", dhcp(), netns=wired, timeout_s=3).error
    assert error["code"] == 11
    os.kill(daemon.pid, signal.SIGCONT)
    node.cni("dhcp", "DEL", dhcp(), netns=wired).ok()


def test_gc_with_and_without_a_daemon(node, lan, daemon):
    leases = lan.dnsmasq()
    pods = {name: node.pod(name) for name in ("a", "b", "c", "d")}
    for name, pod in pods.items():
        cable(pod, port=f"p-{name}")
        node.cni("dhcp", "ADD", dhcp(), netns=pod, container_id=name).ok()
    other = dhcp() | {"name": "net2"}
    cable(pods["a"], "eth1", "p-a1")
    node.cni("dhcp", "ADD", other, netns=pods["a"], container_id="a", ifname="eth1").ok()
    valid = [{"containerID": name, "ifname": "eth0"} for name in ("b", "c", "d")]
    node.cni("dhcp", "GC", dhcp() | {"cni.dev/valid-attachments": valid}).ok()
    wait_for("release of one", lambda: len(leased(leases)) == 4)
    pods["b"].delete()
    node.cni("dhcp", "GC", dhcp()).ok()
    assert len([f for f in node.files(STATE) if f.endswith(".json")]) == 3
    daemon.signal(signal.SIGKILL)
    node.cni("dhcp", "GC", dhcp() | {"cni.dev/valid-attachments": valid[:2]}).ok()
    pods["c"].delete()
    node.cni("dhcp", "GC", dhcp()).ok()
    (left,) = [f for f in node.files(STATE) if f.endswith(".json")]
    assert json.loads(node.read(left))["wish"]["network"] == "net2"


# --- CHECK --------------------------------------------------------------------------------------


def test_check_adopts_the_lease_of_an_earlier_daemon_that_kept_no_files(node, lan, daemon, wired):
    leases = lan.dnsmasq()
    result = node.cni("dhcp", "ADD", dhcp(), netns=wired).result
    daemon.signal(signal.SIGKILL)
    node.sh("sh", "-c", f"rm {STATE}/*.json")
    daemon.start()
    node.cni("dhcp", "CHECK", chained(dhcp(), result), netns=wired).ok()
    assert [f"{a}/24" for a in leased(leases)] == [result["ips"][0]["address"]]
    assert len([f for f in node.files(STATE) if f.endswith(".json")]) == 1


def test_check_says_when_the_server_gives_another_address(node, lan, daemon, wired):
    lan.dnsmasq("192.168.1.5,192.168.1.5")
    result = node.cni("dhcp", "ADD", dhcp(), netns=wired).result
    result["ips"][0]["address"] = "192.168.1.77/24"
    error = node.cni("dhcp", "CHECK", chained(dhcp(), result), netns=wired).error
    assert "the lease is for 192.168.1.5/24, prevResult has 192.168.1.77/24" in error["msg"]
    node.cni("dhcp", "DEL", dhcp(), netns=wired).ok()
    error = node.cni("dhcp", "CHECK", chained(dhcp(), result), netns=wired).error
    assert "the server gives 192.168.1.5, not 192.168.1.77" in error["msg"]
    assert node.files(STATE) == [f"{STATE}/daemon.lock"]
    assert daemon.log.count("released") == 2


# --- the daemon's process -----------------------------------------------------------------------


@pytest.mark.statement("DH05")
def test_options_with_two_dashes_and_the_end_of_the_daemon(node, lan, wired):
    options = ("--pidfile=/run/dhcp.pid", "--timeout=2s", "-resendmax=1m2s", "-broadcast=false")
    daemon = Daemon(node, *options)
    leases = lan.dnsmasq()
    assert node.read("/run/dhcp.pid") == str(daemon.pid).encode()
    assert node.sh("stat", "-c%a", "/run/dhcp.pid", SOCKET).stdout.split() == ["644", "660"]
    node.cni("dhcp", "ADD", dhcp(), netns=wired).ok()
    assert daemon.signal(signal.SIGTERM) == 0
    assert node.files("/run/dhcp.pid", "/run/cni") == []
    assert len(leased(leases)) == 1
    assert "1 leases stay" in daemon.log


def test_the_socket_of_a_killed_daemon_is_replaced_but_not_that_of_a_running_one(node, daemon):
    daemon.signal(signal.SIGKILL)
    daemon.start()
    second = node.sh(
        *("env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "dhcp_ipam", "daemon"), check=False
    )
    assert second.returncode == 1
    assert f"held by pid {daemon.pid}" in second.stderr
    node.cni("dhcp", "STATUS", dhcp()).ok()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["-timeout", "soon"], "'soon' is no duration"),
        (["-timeout", "-1s"], "expected one argument"),
        (["-pidfile", "dhcp.pid"], "'dhcp.pid' is not an absolute path"),
        (["-frob"], "unrecognized arguments: -frob"),
    ],
)
def test_wrong_options_are_refused(node, options, text):
    argv = ("env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "dhcp_ipam", "daemon", *options)
    done = node.sh(*argv, check=False)
    assert done.returncode == 2
    assert text in done.stderr


ACTIVATE = """
import os, socket, sys
for n in range(int(sys.argv[1])):
    s = socket.socket(socket.AF_UNIX)
    s.bind(sys.argv[2] + (str(n) if n else ""))
    s.listen(8)
    if s.fileno() != 3 + n:
        os.dup2(s.fileno(), 3 + n)
    os.set_inheritable(3 + n, True)
    s.detach()
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": sys.argv[1]}
os.execv(sys.executable, [sys.executable, "-m", "dhcp_ipam", *sys.argv[3:]])
"""


@pytest.mark.statement("DH13")
def test_a_socket_that_systemd_made(node, lan, wired):
    node.sh("mkdir", "-p", "/run/cni")
    daemon = Daemon(node, command=(sys.executable, "-c", ACTIVATE, "1", SOCKET))
    lan.dnsmasq()
    node.cni("dhcp", "ADD", dhcp(), netns=wired).ok()
    assert daemon.signal(signal.SIGTERM) == 0
    assert node.sh("stat", "-c%F", SOCKET).stdout == "socket\n"
    argv = (sys.executable, "-c", ACTIVATE, "2", "/run/cni/two.sock", "daemon")
    done = node.sh("env", f"PYTHONPATH={ROOT}", *argv, check=False)
    assert done.returncode == 1
    assert "systemd gave 2 sockets, expected one" in done.stderr


def test_the_host_s_files_may_be_seen_elsewhere(node, lan, wired):
    """As in a container that has the host's file system under /host."""
    node.sh("sh", "-ec", "mkdir -p /run/host && mount --rbind / /run/host")
    daemon = Daemon(node, "-hostprefix", "/run/host")
    leases = lan.dnsmasq()
    result = node.cni("dhcp", "ADD", dhcp(), netns=wired).result
    node.cni("dhcp", "CHECK", chained(dhcp(), result), netns=wired).ok()
    (file,) = [f for f in node.files(STATE) if f.endswith(".json")]
    assert json.loads(node.read(file))["wish"]["netns"] == "/run/netns/pod1"
    node.cni("dhcp", "DEL", dhcp(), netns=wired).ok()
    wait_for("release", lambda: leased(leases) == [])
    daemon.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\n",
        b"{}\n",
        b"[1]\n",
        b'{"method": "frob", "wish": {}, "limit_s": 1}\n',
        b'{"method": "acquire", "wish": {"network": 1}, "limit_s": 1}\n',
        b"x" * 2_000_000,
        b"CONNECT /_goRPC_ HTTP/1.0\n\n",
    ],
    ids=["nothing", "empty", "no method", "list", "unknown", "no wish", "too long", "Go's RPC"],
)
def test_what_makes_no_sense_on_the_socket_is_answered_and_harms_nothing(node, daemon, sent):
    talk = f"""
import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(10)
s.connect({SOCKET!r})
try:
    s.sendall(sys.stdin.buffer.read())
    s.shutdown(socket.SHUT_WR)
except BrokenPipeError:
    pass
sys.stdout.write(s.recv(65536).decode())
"""
    done = node.sh(sys.executable, "-c", talk, stdin=sent.decode())
    assert json.loads(done.stdout)["error"]["code"] == 6
    assert "makes no sense" in done.stdout
    node.cni("dhcp", "STATUS", dhcp()).ok()
    assert "Traceback" not in daemon.log


def test_another_suite_s_daemon_on_the_socket_is_recognised(node, wired):
    listen = f"""
import os, socket
os.makedirs("/run/cni", exist_ok=True)
s = socket.socket(socket.AF_UNIX)
s.bind({SOCKET!r}); s.listen(8)
if os.fork():
    os._exit(0)
os.close(1); os.close(2)
for _ in range(2):
    c, _ = s.accept()
    c.recv(65536)
    c.sendall(b"HTTP/1.0 405 Method Not Allowed\\n405 must CONNECT\\n")
    c.close()
"""
    node.sh(sys.executable, "-c", listen)
    for command in ("ADD", "DEL"):
        error = node.cni("dhcp", command, dhcp(), netns=wired).error
        assert error["code"] == 11
        assert "HTTP/1.0 405" in error["msg"]
        assert "another suite's daemon" in error["details"]
