"""Messages of rtnetlink: pyroute2, which knows them all, reads ours, and ours reads its."""

from __future__ import annotations

import errno
import socket
import struct
from typing import Any

import pytest
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.nsidmsg import nsidmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from cni_plugins.errors import KernelError
from cni_plugins.host import messages, netlink, port_vlans, routing, rtnl, sublinks, tc
from cni_plugins.host.links import Links
from cni_plugins.host.routing import HeldRoute, Rule
from cni_plugins.host.rtnl import Rtnl
from cni_plugins.host.snapshots import (
    Detail,
    Hop,
    Link,
    Port,
    read_address,
    read_hops,
    read_link,
    read_routes,
)
from cni_plugins.protocol.addresses import parse_address, parse_network
from cni_plugins.protocol.result import Route


class Recorder(Rtnl):
    """Answers from a list instead of the kernel."""

    def __init__(self, *answers: list[bytes]) -> None:
        self.sent: list[tuple[int, int, bytes]] = []
        self._answers = list(answers)

    def request(self, what: str, kind: int, body: bytes, *, flags: int = 0) -> list[bytes]:
        self.sent.append((kind, flags, body))
        return self._answers.pop(0) if self._answers else []

    def close(self) -> None:
        """Nothing is open."""


def decoded(message_class: Any, body: bytes, kind: int = 0) -> Any:
    """A message of ours as pyroute2 reads it."""
    message = message_class(netlink.message(kind, 0, 1, body))
    message.decode()
    return message


def encoded(message_class: Any, fields: dict[str, Any], *attrs: tuple[str, Any]) -> bytes:
    """A message of pyroute2's, without netlink's header."""
    message = message_class()
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = list(attrs)
    message.encode()
    return bytes(message.data)[netlink.HEADER_BYTES :]


def link(**over: Any) -> Link:
    """A link."""
    given = {
        "index": 7,
        "name": "eth0",
        "kind": "veth",
        "mac": "02:00:00:00:00:01",
        "mtu": 1500,
        "is_up": True,
        "operstate": "up",
        "master": 0,
        "peer": 0,
        "peer_netns": -1,
        "promiscuity": 0,
        "is_promisc": False,
        "is_allmulti": False,
        "tx_queue_len": 0,
        "alias": "",
        "vlan_filtering": None,
        "port": None,
        "detail": Detail(),
    }
    return Link(**{**given, **over})


FOUND = encoded(ifinfmsg, {"index": 9}, ("IFLA_IFNAME", "found"))


class NamespaceOf:
    """Of a descriptor."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd


def test_a_veth_pair_is_one_request():
    recorder = Recorder([], [FOUND])
    Links(recorder).add_veth(
        "veth1",
        peer="eth0",
        peer_netns=NamespaceOf(5),
        mtu=1400,
        peer_mac="02:00:00:00:00:09",
    )
    kind, flags, body = recorder.sent[0]
    message = decoded(ifinfmsg, body)
    info = message.get_attr("IFLA_LINKINFO")
    peer = info.get_attr("IFLA_INFO_DATA").get_attr("VETH_INFO_PEER")
    assert (kind, flags) == (16, 0x600)
    assert message.get_attr("IFLA_IFNAME") == "veth1"
    assert message.get_attr("IFLA_MTU") == 1400
    assert info.get_attr("IFLA_INFO_KIND") == "veth"
    assert peer.get_attr("IFLA_IFNAME") == "eth0"
    assert peer.get_attr("IFLA_MTU") == 1400
    assert peer.get_attr("IFLA_ADDRESS") == "02:00:00:00:00:09"
    assert peer.get_attr("IFLA_NET_NS_FD") == 5


def test_a_bridge_that_filters_vlans():
    gone = KernelError("find link br0", errno.ENODEV)

    class Missing(Recorder):
        def request(self, what: str, kind: int, body: bytes, *, flags: int = 0) -> list[bytes]:
            super().request(what, kind, body, flags=flags)
            if len(self.sent) == 1:
                raise gone
            return [FOUND] if kind == rtnl.GET_LINK else []

    recorder = Missing()
    Links(recorder).ensure_bridge("br0", mtu=9000, vlan_filtering=True)
    message = decoded(ifinfmsg, recorder.sent[1][2])
    info = message.get_attr("IFLA_LINKINFO")
    assert info.get_attr("IFLA_INFO_KIND") == "bridge"
    assert info.get_attr("IFLA_INFO_DATA").get_attr("IFLA_BR_VLAN_FILTERING") == 1
    assert message.get_attr("IFLA_MTU") == 9000
    assert int(message.get_attr("IFLA_ADDRESS")[:2], 16) & 3 == 2


@pytest.mark.parametrize(
    ("kind", "specific", "name", "value"),
    [
        ("macvlan", {"macvlan_mode": "bridge"}, "IFLA_MACVLAN_MODE", "bridge"),
        ("macvlan", {"macvlan_mode": "passthru"}, "IFLA_MACVLAN_MODE", "passthru"),
        ("ipvlan", {"ipvlan_mode": "l3s"}, "IFLA_IPVLAN_MODE", 2),
        ("vlan", {"vlan_id": 4094}, "IFLA_VLAN_ID", 4094),
        ("vrf", {"vrf_table": 70000}, "IFLA_VRF_TABLE", 70000),
    ],
)
def test_a_link_of_a_kind(kind, specific, name, value):
    recorder = Recorder([], [FOUND])
    sublinks.add(Links(recorder), "eth0", kind, parent=link(index=3), mtu=1300, **specific)
    message = decoded(ifinfmsg, recorder.sent[0][2])
    info = message.get_attr("IFLA_LINKINFO")
    assert message.get_attr("IFLA_LINK") == 3
    assert info.get_attr("IFLA_INFO_KIND") == kind
    assert info.get_attr("IFLA_INFO_DATA").get_attr(name) == value


def test_what_changes_of_a_link():
    recorder = Recorder()
    Links(recorder).set(
        link(),
        up=True,
        promisc=False,
        mtu=1280,
        mac="02:00:00:00:00:07",
        tx_queue_len=0,
        master=link(index=4),
    )
    message = decoded(ifinfmsg, recorder.sent[0][2])
    assert (message["index"], message["flags"], message["change"]) == (7, 0x1, 0x101)
    assert message.get_attr("IFLA_MTU") == 1280
    assert message.get_attr("IFLA_ADDRESS") == "02:00:00:00:00:07"
    assert message.get_attr("IFLA_TXQLEN") == 0
    assert message.get_attr("IFLA_MASTER") == 4


def test_the_flags_of_a_bridge_port():
    recorder = Recorder()
    Links(recorder).set_port(link(), hairpin=True, isolated=False)
    info = decoded(ifinfmsg, recorder.sent[0][2]).get_attr("IFLA_LINKINFO")
    assert info.get_attr("IFLA_INFO_SLAVE_KIND") == "bridge"
    slave = info.get_attr("IFLA_INFO_SLAVE_DATA")
    assert slave.get_attr("IFLA_BRPORT_MODE") == 1
    assert slave.get_attr("IFLA_BRPORT_ISOLATED") == 0


@pytest.mark.parametrize(
    ("text", "broadcast", "flags"),
    [
        ("10.1.2.3/24", "10.1.2.255", None),
        ("10.1.2.3/31", None, None),
        ("fd00::5/64", None, 0x02),
    ],
)
def test_an_address(text, broadcast, flags):
    network = parse_network(text)
    recorder = Recorder()
    Links(recorder).add_address(link(), network)
    message = decoded(ifaddrmsg, recorder.sent[0][2])
    assert recorder.sent[0][:2] == (20, 0x600)
    assert (message["index"], message["prefixlen"]) == (7, network.prefix)
    assert message["family"] == {4: socket.AF_INET, 6: socket.AF_INET6}[network.family]
    assert message.get_attr("IFA_ADDRESS") == str(network.address)
    assert message.get_attr("IFA_LOCAL") == str(network.address)
    assert message.get_attr("IFA_BROADCAST") == broadcast
    assert message.get_attr("IFA_FLAGS") == flags


def test_a_route_with_metrics_in_a_table_of_a_large_number():
    recorder = Recorder()
    route = Route(
        dst=parse_network("10.5.0.9/16"),
        gw=parse_address("10.1.2.1"),
        mtu=1400,
        advmss=1360,
        priority=50,
        table=1000,
    )
    Links(recorder).add_route(link(), route)
    kind, flags, body = recorder.sent[0]
    message = decoded(rtmsg, body)
    assert (kind, flags) == (24, 0xC00)
    assert (message["dst_len"], message["table"], message["type"]) == (16, 0, 1)
    assert (message["scope"], message["proto"]) == (0, 3)
    assert message.get_attr("RTA_DST") == "10.5.0.0"
    assert message.get_attr("RTA_GATEWAY") == "10.1.2.1"
    assert message.get_attr("RTA_TABLE") == 1000
    assert message.get_attr("RTA_PRIORITY") == 50
    assert message.get_attr("RTA_OIF") == 7
    assert message.get_attr("RTA_METRICS").get_attr("RTAX_MTU") == 1400
    assert message.get_attr("RTA_METRICS").get_attr("RTAX_ADVMSS") == 1360


def test_a_default_route_has_no_destination():
    recorder = Recorder()
    Links(recorder).add_route(link(), Route(dst=parse_network("::/0"), gw=parse_address("fd00::1")))
    message = decoded(rtmsg, recorder.sent[0][2])
    assert (message["family"], message["dst_len"], message["table"]) == (10, 0, 254)
    assert message.get_attr("RTA_DST") is None
    assert message.get_attr("RTA_GATEWAY") == "fd00::1"


HELD = HeldRoute(
    dst=parse_network("10.5.0.0/16"),
    table=300,
    src=parse_address("10.1.2.3"),
    protocol=2,
    is_onlink=True,
    metrics={"mtu": 1400, "initcwnd": 20},
    hops=(
        Hop(0, 7, 0, parse_address("10.1.2.1")),
        Hop(4, 8, 4, parse_address("10.1.3.1")),
    ),
)


def test_a_route_of_several_hops_comes_back_as_it_went():
    recorder = Recorder()
    routing.put(Links(recorder), HELD)
    body = recorder.sent[0][2]
    message = decoded(rtmsg, body)
    hops = message.get_attr("RTA_MULTIPATH")
    assert [(hop["oif"], hop["hops"]) for hop in hops] == [(7, 0), (8, 4)]
    again = routing.held(Links(Recorder([body])), 4, table=300)
    assert again == (HELD,)
    assert HeldRoute.from_json(HELD.as_json()) == HELD


def test_a_rule():
    recorder = Recorder()
    rule = Rule(family=4, table=1000, priority=40, src=parse_network("10.1.2.3/32"))
    routing.discard_rule(Links(recorder), rule)
    message = decoded(fibmsg, recorder.sent[0][2])
    assert (message["family"], message["src_len"], message["action"]) == (2, 32, 1)
    assert message.get_attr("FRA_SRC") == "10.1.2.3"
    assert message.get_attr("FRA_TABLE") == 1000
    assert message.get_attr("FRA_PRIORITY") == 40
    answer = encoded(
        fibmsg,
        {"family": 2, "src_len": 32, "table": 252, "action": 1},
        ("FRA_SRC", "10.1.2.3"),
        ("FRA_TABLE", 1000),
        ("FRA_PRIORITY", 40),
    )
    assert routing.rules(Links(Recorder([answer])), 4) == (rule,)


@pytest.mark.parametrize("rate", [125_000, 2**32 + 7])
def test_a_token_bucket(rate):
    recorder = Recorder()
    wanted = tc.Tbf(rate=rate, limit=4000, buffer=9000)
    tc.set_tbf(recorder, link(), wanted)
    kind, flags, body = recorder.sent[0]
    message = decoded(tcmsg, body)
    assert (kind, flags) == (36, 0x500)
    assert (message["index"], message["handle"], message["parent"]) == (7, 0x10000, 0xFFFFFFFF)
    assert message.get_attr("TCA_KIND") == "tbf"
    parameters = message.get_attr("TCA_OPTIONS").get_attr("TCA_TBF_PARMS")
    assert parameters["rate"] == min(rate, 2**32 - 1)
    assert (parameters["limit"], parameters["buffer"]) == (4000, 9000)
    found = tc.root(Recorder([body]), link())
    assert found is not None
    assert found.is_ours
    assert found.tbf == wanted


def test_a_redirection():
    recorder = Recorder()
    tc.redirect(recorder, link(), 0xFFFF0000, link(index=12), priority=5)
    _, _, body = recorder.sent[0]
    message = decoded(tcmsg, body)
    assert message["info"] == 5 << 16 | socket.htons(3)
    assert message.get_attr("TCA_KIND") == "u32"
    options = message.get_attr("TCA_OPTIONS")
    keys = options.get_attr("TCA_U32_SEL")
    assert keys["nkeys"] == 1
    assert options.get_attr("TCA_U32_CLASSID") == 0x10001
    ingress = encoded(
        tcmsg, {"index": 7, "handle": 0xFFFF0000, "parent": 0xFFFFFFF1}, ("TCA_KIND", "ingress")
    )
    (found,) = tc.redirects(Recorder([ingress], [body]), link())
    assert (found.target, found.info) == (12, message["info"])


def test_vlans_of_a_port():
    recorder = Recorder()
    port_vlans.add_tagged(recorder, link(), 100, 104)
    port_vlans.add_native(recorder, link(), 5)
    infos = []
    for _, _, body in recorder.sent:
        message = decoded(ifinfmsg, body, kind=rtnl.SET_LINK)
        assert (message["family"], message["index"]) == (7, 7)
        spec = message.get_attr("IFLA_AF_SPEC")
        infos.append([(i["vid"], i["flags"]) for i in spec.get_attrs("IFLA_BRIDGE_VLAN_INFO")])
    assert infos == [[(100, 0x8), (104, 0x10)], [(5, 0x6)]]


def test_the_number_of_a_namespace():
    answer = encoded(nsidmsg, {}, ("NETNSA_NSID", 3))
    recorder = Recorder([], [answer])
    assert recorder.netns_id(9) == 3
    message = decoded(nsidmsg, recorder.sent[0][2])
    assert message.get_attr("NETNSA_FD") == 9


def test_a_link_as_the_kernel_tells_it():
    message = encoded(
        ifinfmsg,
        {"index": 5, "flags": 0x1 | 0x100},
        ("IFLA_IFNAME", "br0"),
        ("IFLA_MTU", 1500),
        ("IFLA_ADDRESS", "02:00:00:00:00:07"),
        ("IFLA_OPERSTATE", "LOWERLAYERDOWN"),
        ("IFLA_MASTER", 3),
        ("IFLA_LINK", 4),
        ("IFLA_PROMISCUITY", 2),
        ("IFLA_TXQLEN", 1000),
        ("IFLA_IFALIAS", "ünter"),
        (
            "IFLA_LINKINFO",
            {
                "attrs": [
                    ("IFLA_INFO_KIND", "bridge"),
                    ("IFLA_INFO_DATA", {"attrs": [("IFLA_BR_VLAN_FILTERING", 1)]}),
                ]
            },
        ),
    )
    assert read_link(message) == link(
        index=5,
        name="br0",
        kind="bridge",
        mac="02:00:00:00:00:07",
        operstate="lowerlayerdown",
        is_promisc=True,
        master=3,
        peer=4,
        promiscuity=2,
        tx_queue_len=1000,
        alias="ünter",
        vlan_filtering=True,
    )


def test_a_bridge_port_as_the_kernel_tells_it():
    slave = [("IFLA_BRPORT_MODE", 1), ("IFLA_BRPORT_ISOLATED", 0)]
    message = encoded(
        ifinfmsg,
        {"index": 7, "flags": 1},
        ("IFLA_IFNAME", "eth0"),
        (
            "IFLA_LINKINFO",
            {
                "attrs": [
                    ("IFLA_INFO_KIND", "veth"),
                    ("IFLA_INFO_SLAVE_KIND", "bridge"),
                    ("IFLA_INFO_SLAVE_DATA", {"attrs": slave}),
                ]
            },
        ),
    )
    assert read_link(message).port == Port(hairpin=True, isolated=False)


def test_an_address_as_the_kernel_tells_it():
    message = encoded(
        ifaddrmsg,
        {"family": 10, "prefixlen": 64, "flags": 0x80, "scope": 253, "index": 2},
        ("IFA_ADDRESS", "fe80::1"),
        ("IFA_FLAGS", 0x40 | 0x80),
    )
    found = read_address(message)
    assert (str(found.network), found.scope) == ("fe80::1/64", 253)
    assert (found.is_tentative, found.has_failed_dad) == (True, False)


def test_the_local_end_of_a_point_to_point_address():
    message = encoded(
        ifaddrmsg,
        {"family": 2, "prefixlen": 32, "index": 2},
        ("IFA_ADDRESS", "10.0.0.2"),
        ("IFA_LOCAL", "10.0.0.1"),
    )
    assert str(read_address(message).network) == "10.0.0.1/32"


def test_a_route_as_the_kernel_tells_it():
    message = encoded(
        rtmsg,
        {"family": 2, "dst_len": 24, "table": 254, "scope": 253, "type": 1},
        ("RTA_DST", "10.7.0.0"),
        ("RTA_OIF", 4),
        ("RTA_PRIORITY", 30),
        ("RTA_METRICS", {"attrs": [("RTAX_MTU", 1400), ("RTAX_ADVMSS", 1300)]}),
    )
    (route,) = read_routes(message, 4)
    assert (str(route.dst), route.gw, route.oif) == ("10.7.0.0/24", None, 4)
    assert (route.table, route.priority, route.scope) == (254, 30, 253)
    assert (route.mtu, route.advmss) == (1400, 1300)


# --- netlink itself -----------------------------------------------------------------------------


@pytest.mark.parametrize("length", range(9))
def test_attributes_are_padded_and_read_back(length):
    value = bytes(range(length))
    packed = netlink.attribute(3, value) + netlink.u8(4, 7) + netlink.u16(5, 8)
    assert len(packed) % 4 == 0
    assert netlink.attributes(packed) == {3: value, 4: b"\7", 5: struct.pack("=H", 8)}


def test_attributes_that_end_too_early():
    assert netlink.attributes(b"\x10\0\x01\0abc") == {1: b"abc"}
    assert netlink.attributes(b"\0\0\x01\0abcd") == {}
    assert netlink.attributes(b"abc") == {}
    assert read_hops(b"\0\0") == []


def test_an_answer_is_told_from_another_request_s():
    mine = netlink.message(16, 2, 5, b"mine")
    other = netlink.message(16, 2, 4, b"other!")
    assert list(netlink.messages(other + b"\0\0" + mine, 5)) == [(16, 2, b"mine")]


@pytest.mark.parametrize("flags", [0x200, 0x300], ids=["whole", "capped"])
def test_the_kernel_s_own_words(flags):
    request = netlink.message(16, 5, 1, b"abcdefgh")
    echoed = request[: netlink.HEADER_BYTES] if flags & 0x100 else request
    words = netlink.text(1, "Nexthop has invalid gateway")
    body = struct.pack("=i", -22) + echoed + words
    assert netlink.failure(flags, body) == (22, "Nexthop has invalid gateway")
    assert netlink.failure(0, body) == (22, "")
    assert netlink.failure(0, struct.pack("=i", 0)) == (0, "")


def test_lengths_of_the_kernel_s_structures():
    assert messages.LINK_HEADER.size == 16
    assert messages.ADDRESS_HEADER.size == 8
    assert messages.ROUTE_HEADER.size == 12
    assert messages.HOP_HEADER.size == 8
