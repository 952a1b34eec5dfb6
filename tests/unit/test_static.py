"""static: where addresses come from, in every version."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from cni_plugins import catalog, dispatch
from cni_plugins.deadline import Deadline
from cni_plugins.protocol.request import Request

pytestmark = pytest.mark.unit
VERSIONS = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]
NEW = VERSIONS[2:]
ADDRESSES = [
    {"address": "10.10.0.1/24", "gateway": "10.10.0.254"},
    {"address": "3ffe:ffff:0:01ff::1/64", "gateway": "3ffe:ffff:0::1"},
]
ROUTES = [
    {"dst": "0.0.0.0/0"},
    {"dst": "192.168.0.0/16", "gw": "10.10.5.1"},
    {"dst": "3ffe:ffff:0:01ff::1/64"},
]
DNS = {"nameservers": ["8.8.8.8"], "domain": "example.com", "search": ["example.com"]}


def static(version: str = "1.1.0", *, ipam: Any = ..., **over: Any) -> dict[str, Any]:
    """A configuration; ``ipam`` beside its type, None for none at all."""
    document = {"cniVersion": version, "name": "mynet", "type": "bridge", **over}
    if ipam is not None:
        document["ipam"] = {"type": "static", **({} if ipam is ... else ipam)}
    return document


def call(command: str, document: dict[str, Any], args: str = "") -> tuple[int, Any]:
    """Exit code and what was printed."""
    env = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": "c1",
        "CNI_IFNAME": "eth0",
        "CNI_NETNS": "/some/where",
        "CNI_PATH": "/x",
        "CNI_ARGS": args,
    }
    plugin = catalog.find("static")
    assert plugin is not None
    raw = json.dumps(document).encode()
    reply = dispatch.run(plugin, Request(env, lambda: raw, Deadline(time.monotonic() + 10)))
    return reply.exit_code, json.loads(reply.stdout) if reply.stdout else None


def add(document: dict[str, Any], args: str = "") -> Any:
    """The result of an ADD."""
    code, result = call("ADD", document, args)
    assert code == 0, result
    return result


def refused(document: dict[str, Any], args: str = "") -> Any:
    """The error of an ADD."""
    code, error = call("ADD", document, args)
    assert code == 1
    return error


@pytest.mark.statement("ST01")
@pytest.mark.parametrize("version", VERSIONS)
def test_addresses_routes_dns(version):
    conf = static(version, ipam={"addresses": ADDRESSES, "routes": ROUTES, "dns": DNS})
    result = add(conf)
    if version < "0.3":
        assert result["ip4"]["ip"] == "10.10.0.1/24"
        assert result["ip4"]["gateway"] == "10.10.0.254"
        assert result["ip6"]["ip"] == "3ffe:ffff:0:1ff::1/64"
    else:
        found = [(ip["address"], ip["gateway"]) for ip in result["ips"]]
        assert found == [
            ("10.10.0.1/24", "10.10.0.254"),
            ("3ffe:ffff:0:1ff::1/64", "3ffe:ffff::1"),
        ]
        assert [(r["dst"], r.get("gw")) for r in result["routes"]] == [
            ("0.0.0.0/0", None),
            ("192.168.0.0/16", "10.10.5.1"),
            ("3ffe:ffff:0:1ff::1/64", None),
        ]
    assert result["dns"] == DNS
    assert call("DEL", conf) == (0, None)


@pytest.mark.statement("ST02")
@pytest.mark.parametrize("version", NEW)
def test_two_default_routes(version):
    routes = [{"dst": "0.0.0.0/0", "gw": g} for g in ("10.10.5.1", "10.10.5.2")]
    result = add(static(version, ipam={"addresses": ADDRESSES[:1], "routes": routes}))
    assert result["routes"] == routes


@pytest.mark.statement("ST03")
@pytest.mark.parametrize("document", [static(), static(ipam=None), static(ipam={"addresses": 7})])
def test_del_of_what_was_never_added(document):
    assert call("DEL", document) == (0, None)
    assert call("GC", document) == (0, None)


@pytest.mark.statement("ST04")
@pytest.mark.parametrize("version", VERSIONS)
def test_cni_args(version):
    result = add(static(version), "IP=10.10.0.1/24;GATEWAY=10.10.0.254")
    given = result["ip4"] if version < "0.3" else result["ips"][0]
    assert given["gateway"] == "10.10.0.254"
    assert (given.get("ip") or given["address"]) == "10.10.0.1/24"
    two = "IP=10.10.0.1/24,11.11.0.1/24;GATEWAY=10.10.0.254"
    if version < "0.3":
        text = f"CNI version {version} does not support more than 1 address per family"
        assert text in refused(static(version), two)["msg"]
        return
    found = [(ip["address"], ip.get("gateway")) for ip in add(static(version), two)["ips"]]
    assert found == [("10.10.0.1/24", "10.10.0.254"), ("11.11.0.1/24", None)]


def test_cni_args_add_to_the_configuration():
    found = add(static(ipam={"addresses": ADDRESSES[:1]}), "IP= 10.11.0.1/24 ;GATEWAY=10.11.0.9")
    assert [(ip["address"], ip.get("gateway")) for ip in found["ips"]] == [
        ("10.10.0.1/24", "10.10.0.254"),
        ("10.11.0.1/24", "10.11.0.9"),
    ]


@pytest.mark.statement("ST05", "ST06")
@pytest.mark.parametrize("version", NEW)
def test_what_replaces_what(version):
    ips = ["172.16.0.1/24", "fd00::1/64"]
    for over in ({"RuntimeConfig": {"ips": ips}}, {"args": {"cni": {"ips": ips}}}):
        result = add(static(version, **over))
        assert [(ip["address"], "gateway" in ip) for ip in result["ips"]] == [
            (i, False) for i in ips
        ]
    conf = static(
        version,
        ipam={"addresses": ADDRESSES},
        args={"cni": {"ips": ["10.1.1.1/24"]}},
        runtimeConfig={"ips": ips},
    )
    assert [ip["address"] for ip in add(conf, "IP=10.2.2.2/24")["ips"]] == ips
    conf.pop("runtimeConfig")
    assert [ip["address"] for ip in add(conf, "IP=10.2.2.2/24")["ips"]] == ["10.1.1.1/24"]


@pytest.mark.statement("ST07")
@pytest.mark.parametrize(
    ("over", "args"),
    [({}, "IP=10.10.0.1/24"), ({"runtimeConfig": {"ips": ["10.10.0.1/24"]}}, ""), ({}, "")],
)
def test_without_ipam(over, args):
    assert refused(static(ipam=None, **over), args)["msg"] == "IPAM config missing 'ipam' key"


@pytest.mark.statement("ST08")
@pytest.mark.parametrize(
    ("document", "args", "msg", "where"),
    [
        (
            static(ipam={"addresses": [{"address": "10.10.0.1"}]}),
            "",
            "the 'address' field is expected to be in CIDR notation, got: '10.10.0.1'",
            "ipam.addresses[0].address",
        ),
        (
            static(ipam={"addresses": [*ADDRESSES, {}]}),
            "",
            "the 'address' field is expected to be in CIDR notation, got: ''",
            "ipam.addresses[2].address",
        ),
        (
            static(),
            "IP=10.10.0.1",
            "the 'ip' field is expected to be in CIDR notation, got: '10.10.0.1'",
            "CNI_ARGS",
        ),
        (
            static(args={"cni": {"ips": ["10.10.0.1"]}}),
            "",
            "an entry in the 'ips' field is NOT in CIDR notation, got: '10.10.0.1'",
            "args.cni.ips[0]",
        ),
        (
            static(runtimeConfig={"ips": ["10.10.0.1/24", "10.10.0.2"]}),
            "",
            "an entry in the 'ips' field is NOT in CIDR notation, got: '10.10.0.2'",
            "runtimeConfig.ips[1]",
        ),
    ],
)
def test_an_address_without_a_prefix(document, args, msg, where):
    error = refused(document, args)
    assert error["msg"] == msg
    assert where in error["details"]


def test_check():
    conf = static(ipam={"addresses": ADDRESSES})
    result = add(conf)
    assert call("CHECK", conf | {"prevResult": result}) == (0, None)
    code, error = call("CHECK", conf)
    assert (code, error["msg"]) == (1, "prevResult: Required prevResult missing")
    other = json.loads(json.dumps(result))
    other["ips"][0]["gateway"] = "10.10.0.9"
    code, error = call("CHECK", conf | {"prevResult": other})
    assert "static: Failed to match addr 10.10.0.1/24" in error["msg"]
    other["ips"].pop(1)
    other["ips"][0]["gateway"] = "10.10.0.254"
    code, error = call("CHECK", conf | {"prevResult": other})
    assert "static: 3ffe:ffff:0:1ff::1/64 is not in prevResult" in error["msg"]
