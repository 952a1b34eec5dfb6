"""rtnetlink on a real kernel, seen with ip."""

from __future__ import annotations

import errno
import time

import pytest

from cni_plugins.deadline import Deadline
from cni_plugins.errors import KernelError
from cni_plugins.host.links import Links
from cni_plugins.host.netns import NetNS
from cni_plugins.protocol.addresses import parse_address, parse_network
from cni_plugins.protocol.result import Route

pytestmark = pytest.mark.netns


def on_host(node, work):
    """What ``work(host)`` returns, in the node's namespace."""

    def call():
        with Links.open() as host:
            return work(host)

    return node.forked(call)


def with_pod(node, pod, work):
    """What ``work(host, container, netns)`` returns."""

    def call():
        with (
            NetNS.open(pod.path) as netns,
            Links.open() as host,
            Links.open(netns) as container,
        ):
            return work(host, container, netns)

    return node.forked(call)


@pytest.mark.statement("IP-06", "IP-09")
def test_a_veth_pair_is_one_request_with_everything_final(node, pod):
    def work(host, container, netns):
        link = host.add_veth(
            "veth1", peer="eth0", peer_netns=netns, mtu=1400, peer_mac="02:00:00:00:00:09"
        )
        return link, container.get("eth0")

    near, far = with_pod(node, pod, work)

    host_end, inside = node.link("veth1"), pod.link("eth0")
    assert (near.index, near.peer) == (host_end["ifindex"], inside["ifindex"])
    assert (far.index, far.peer) == (inside["ifindex"], host_end["ifindex"])
    assert near.peer_netns == host_end["link_netnsid"]
    assert far.peer_netns == inside["link_netnsid"]
    assert host_end["mtu"] == inside["mtu"] == 1400
    assert inside["address"] == "02:00:00:00:00:09" != host_end["address"]


@pytest.mark.statement("IP-07")
@pytest.mark.parametrize("names", [("veth9", "eth0"), ("veth1", "eth9")])
def test_a_name_that_is_taken(node, pod, names):
    def work(host, _container, netns):
        host.add_veth("veth1", peer="eth0", peer_netns=netns)
        with pytest.raises(KernelError) as caught:
            host.add_veth(names[0], peer=names[1], peer_netns=netns)
        return caught.value.errno

    assert with_pod(node, pod, work) == errno.EEXIST
    assert node.links() == {"lo", "veth1"}


@pytest.mark.statement("IP-08")
def test_a_second_pair(node, pod):
    def work(host, _container, netns):
        host.add_veth("veth1", peer="eth0", peer_netns=netns)
        host.add_veth("veth2", peer="eth1", peer_netns=netns)

    with_pod(node, pod, work)

    assert node.links() == {"lo", "veth1", "veth2"}


@pytest.mark.statement("IP-10")
def test_removing_one_end_removes_the_other(node, pod):
    def work(host, container, netns):
        link = host.add_veth("veth1", peer="eth0", peer_netns=netns)
        inside = container.get("eth0")
        container.discard_index(inside.index)
        host.discard_index(link.index)
        return host.find("veth1"), host.addresses(host.get("lo"))

    assert with_pod(node, pod, work)[0] is None
    assert pod.link("eth0") is None


def test_a_missing_link_is_told_apart(node):
    def work(host):
        with pytest.raises(KernelError) as caught:
            host.get("nope")
        return str(caught.value), caught.value.errno

    assert on_host(node, work) == ("find link nope: no such link; ENODEV", errno.ENODEV)


def attached(work):
    """A container's link with an address of each family, up; then ``work``."""

    def call(host, container, netns):
        near = host.add_veth("veth1", peer="eth0", peer_netns=netns)
        host.set(near, up=True)
        inside = container.get("eth0")
        container.add_address(inside, parse_network("10.1.2.3/24"))
        container.add_address(inside, parse_network("fd00::3/64"))
        container.set(inside, up=True)
        return work(host, container, inside, near)

    return call


def route(dst, gw=None, **more):
    return Route(dst=parse_network(dst), gw=parse_address(gw) if gw else None, **more)


@pytest.mark.statement("IPM-01", "IPM-04")
def test_routes_with_gateway_table_and_scope(node, pod):
    def work(_host, container, inside, _near):
        container.add_route(inside, route("192.0.2.0/24", "10.1.2.1"))
        container.add_route(inside, route("2001:db8:1::/64", "fd00::1"))
        container.add_route(inside, route("198.51.100.0/24", "10.1.2.1", table=5000))
        container.add_route(inside, route("203.0.113.0/24", scope=200))
        container.add_route(inside, route("203.0.113.9/24", scope=200))

    with_pod(node, pod, attached(work))

    assert pod.ip("-4", "route", "show", "192.0.2.0/24")[0]["gateway"] == "10.1.2.1"
    assert pod.ip("-6", "route", "show", "2001:db8:1::/64")[0]["gateway"] == "fd00::1"
    assert pod.ip("route", "show", "table", "5000")[0]["gateway"] == "10.1.2.1"
    assert pod.ip("-d", "route", "show", "203.0.113.0/24")[0]["scope"] in {"site", "200"}
    assert pod.addresses() == ["10.1.2.3/24", "fd00::3/64"]
    assert len(pod.addresses(scope="link")) == 1


@pytest.mark.statement("IPM-02")
@pytest.mark.parametrize(
    ("dst", "gateways"),
    [("192.0.2.0/24", ("10.1.2.1", "10.1.2.2")), ("2001:db8::/64", ("fd00::1", "fd00::2"))],
)
def test_two_gateways_of_one_destination(node, pod, dst, gateways):
    def work(_host, container, inside, _near):
        for gw in gateways:
            container.add_route(inside, route(dst, gw))
        return container.routes(family=6 if ":" in dst else 4)

    found = with_pod(node, pod, attached(work))

    assert [str(r.gw) for r in found if str(r.dst) == dst] == list(gateways)
    listed = str(pod.ip("-6" if ":" in dst else "-4", "route", "show", dst))
    assert all(gw in listed for gw in gateways)


@pytest.mark.statement("IPM-03")
def test_an_ipv6_address_stays_when_the_link_goes_down(node, pod):
    from tests.kit.confs import SUBNET6, bridge, host_local

    node.cni("bridge", "ADD", bridge(ipam=host_local(SUBNET6)), netns=pod).ok()

    pod.sh("ip", "link", "set", "eth0", "down")

    assert pod.addresses() == ["fd00:9::2/64"]
    assert pod.addresses(scope="link") == []


def test_a_refused_route_says_what_the_kernel_said(node, pod):
    def work(_host, container, inside, _near):
        with pytest.raises(KernelError) as caught:
            container.add_route(inside, route("192.0.2.0/24", "198.51.100.1"))
        return caught.value.msg, caught.value.details

    assert with_pod(node, pod, attached(work)) == (
        "add route 192.0.2.0/24 via 198.51.100.1: Nexthop has invalid gateway",
        "ENETUNREACH",
    )


@pytest.mark.parametrize("delay_s", [0.0, 0.2])
def test_waiting_for_a_link_takes_as_long_as_the_link(node, pod, delay_s):
    """The other end comes up later; the wait ends by the kernel's event."""
    import subprocess

    def work(host, _container, netns):
        near = host.add_veth("veth1", peer="eth0", peer_netns=netns)
        host.set(near, up=True)
        command = f"sleep {delay_s}; ip -n pod1 link set eth0 up"
        with subprocess.Popen(["sh", "-c", command]):
            host.wait_up(near, Deadline.after(10))
        return host.get("veth1").operstate

    assert with_pod(node, pod, work) == "up"


@pytest.mark.parametrize("is_far", [True, False], ids=["two_namespaces", "one_namespace"])
def test_how_operational_both_ends_of_a_pair_are(node, pod, is_far):
    def work(host, container, netns):
        near = host.add_veth("veth1", peer="eth0", peer_netns=netns if is_far else None)
        far = container if is_far else host
        far.set(far.get("eth0"), up=True)
        before = far.operstates(far.get("eth0"))
        host.set(near, up=True)
        while far.operstates(far.get("eth0")) != ["up", "up"]:
            time.sleep(0.001)
        return before

    assert "up" not in with_pod(node, pod, work)


def test_a_link_that_never_comes_up(node, pod):
    def work(host, _container, netns):
        near = host.add_veth("veth1", peer="eth0", peer_netns=netns)
        host.set(near, up=True)
        with pytest.raises(KernelError) as caught:
            host.wait_up(near, Deadline.after(10), limit_s=0.1)
        return caught.value.msg

    said = with_pod(node, pod, work)
    assert said in {f"wait for link veth1: it is {s}, not up" for s in ("down", "lowerlayerdown")}


def test_a_failed_duplicate_address_detection_is_told(node, pod):
    """Two ends of a veth pair with the same address: the second one's detection fails."""
    node.sh("ip", "link", "add", "veth1", "type", "veth", "peer", "name", "eth0", "netns", "pod1")
    node.sh("ip", "link", "set", "veth1", "up")
    pod.sh("ip", "link", "set", "eth0", "up")
    node.sh("ip", "addr", "add", "fd00::7/64", "dev", "veth1", "nodad")

    def work(_host, container, _netns):
        inside = container.get("eth0")
        container.add_address(inside, parse_network("fd00::7/64"), nodad=False)
        with pytest.raises(KernelError) as caught:
            container.settle_addresses(inside, Deadline.after(10))
        return caught.value.msg

    assert "fd00::7/64 is used by another host" in with_pod(node, pod, work)


def test_ensure_bridge_is_the_same_for_everybody(node):
    node.sh("ip", "link", "add", "br7", "type", "bridge")

    def work(host):
        return host.ensure_bridge("br7"), host.ensure_bridge("br8", mtu=1400)

    old, new = on_host(node, work)

    assert old.mac == node.link("br7")["address"]
    assert (new.mtu, new.kind) == (1400, "bridge")
    assert int(new.mac[:2], 16) & 3 == 2
