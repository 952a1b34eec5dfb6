"""What a delegate's result may leave out or get wrong, before the kernel is asked."""

from __future__ import annotations

import pytest

from cni_plugins import invoke
from cni_plugins.errors import CniError
from cni_plugins.protocol.addresses import parse_address, parse_network
from cni_plugins.protocol.config import ip_address, ip_network, optional
from cni_plugins.protocol.result import Interface


@pytest.mark.statement("IP-04")
def test_addresses_are_read_and_written():
    assert str(parse_network("10.1.2.3/24")) == "10.1.2.3/24"
    assert str(parse_address("2001:DB8::7")) == "2001:db8::7"
    assert ip_network.read("fd00::1/64", "a") == parse_network("fd00::1/64")
    assert optional(ip_address).read("", "a") is None
    with pytest.raises(CniError, match="a: invalid IP address: 10.1.2"):
        ip_address.read("10.1.2", "a")


def answer(*ips, **more):
    import json

    return json.dumps({"cniVersion": "1.0.0", "ips": list(ips), **more}).encode()


@pytest.mark.statement("IPM-05", "IPM-06", "IPM-08")
@pytest.mark.parametrize("index", [None, -1, 7])
def test_the_delegates_interface_index_does_not_matter(index):
    """IPAM knows no interfaces: all its addresses are for the container's link."""
    ip = {"address": "10.1.2.3/24"} | ({} if index is None else {"interface": index})

    result = invoke.parse_result(answer(ip), "1.0.0")

    named = result.with_interfaces(Interface(name="br0"), Interface(name="eth0"), ips_on=1)
    assert [entry.interface for entry in named.ips] == [1]


@pytest.mark.statement("IPM-07")
@pytest.mark.parametrize("ip", [{}, {"address": ""}, {"address": "10.1.2.3"}, {"address": 5}])
def test_a_faulty_address_is_named(ip):
    with pytest.raises(CniError, match=r"ips\[0\].address"):
        invoke.parse_result(answer(ip), "1.0.0")
