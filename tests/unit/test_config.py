"""Typed reading of JSON: paths, case, nulls, wrong types, and the schemas."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cni_plugins.errors import ConfigError
from cni_plugins.frozen import Frozen
from cni_plugins.protocol.addresses import Address, Network, parse_address, parse_network
from cni_plugins.protocol.config import (
    any_object,
    anything,
    array_of,
    choice,
    decode_json,
    find,
    flag,
    integer,
    ip_address,
    ip_network,
    key,
    map_of,
    optional,
    read,
    record,
    schema,
    text,
)
from cni_plugins.protocol.netconf import NetConf, parse_name, valid_attachments


class Pool(Frozen):
    """A nested object."""

    subnet: Network = key("subnet", ip_network, doc="addresses to give out")
    gateway: Address | None = key("gateway", optional(ip_address), default=None)


class Conf(Frozen):
    """One key of each kind."""

    name: str = key("name", text)
    is_gateway: bool = key("isGateway", flag, default=False, doc="the bridge is the gateway")
    vlan: int = key("vlan", integer(0, 4094), default=0)
    mtu: int = key("mtu", integer(0), default=1500)
    backend: str = key("backend", choice("", "iptables", "nftables"), default="")
    pools: tuple[tuple[Pool, ...], ...] = key("pools", array_of(array_of(record(Pool))), default=())
    labels: dict[str, str] | None = key("labels", map_of(text), default=None)
    args: dict[str, Any] | None = key("args", any_object, default=None)
    whatever: object = key("whatever", anything, default=None)
    derived: int = 7


def conf(**keys: Any) -> Conf:
    """A configuration with a name and these keys."""
    return read(Conf, {"name": "n", **keys})


def test_defaults() -> None:
    """Of everything that is not required; fields that are no keys keep theirs."""
    assert conf() == Conf(name="n")
    assert conf().derived == 7


def test_every_kind_of_value() -> None:
    """Arrays become tuples."""
    found = conf(
        isGateway=True,
        vlan=4094,
        backend="nftables",
        pools=[[{"subnet": "10.1.2.3/24"}], [{"subnet": "::/64", "gateway": "::1"}]],
        labels={"Key": "value"},
        args={"cni": {}},
        whatever=[1, None],
    )
    assert found == Conf(
        name="n",
        is_gateway=True,
        vlan=4094,
        backend="nftables",
        pools=(
            (Pool(subnet=parse_network("10.1.2.3/24")),),
            (Pool(subnet=parse_network("::/64"), gateway=parse_address("::1")),),
        ),
        labels={"Key": "value"},
        args={"cni": {}},
        whatever=[1, None],
    )


@pytest.mark.parametrize("name", ["isGateway", "isgateway", "IsGateway", "ISGATEWAY"])
def test_keys_match_in_any_case(name: str) -> None:
    """containerd and nerdctl capitalise some of them."""
    assert conf(**{name: True}).is_gateway


def test_the_last_of_repeated_keys_counts() -> None:
    """Whether they are spelled alike or differ in case."""
    assert read(Conf, decode_json(b'{"name":"a","name":"b"}')).name == "b"
    assert read(Conf, decode_json(b'{"name":"a","NAME":"b"}')).name == "b"
    assert read(Conf, decode_json(b'{"name":"a","NAME":"b","name":"c"}')).name == "c"
    assert find(decode_json(b'{"name":"a","NAME":"b"}'), "name") == "b"
    assert find({}, "name") is None


@pytest.mark.parametrize("name", ["isGateway", "vlan", "backend", "pools", "labels", "args"])
def test_null_is_not_set(name: str) -> None:
    """The default stands."""
    assert conf(**{name: None}) == conf()


def test_an_empty_address_is_not_set() -> None:
    """Where the reader says so."""
    assert conf(pools=[[{"subnet": "::/64", "gateway": ""}]]).pools[0][0].gateway is None


def test_unknown_keys_are_accepted() -> None:
    """A newer runtime may send them."""
    assert conf(unheardOf={"deep": [1]}) == conf()


@pytest.mark.parametrize(
    ("keys", "msg"),
    [
        ({"name": None}, "name: is required"),
        ({"name": 5}, "name: expected a string, got integer"),
        ({"isGateway": "yes"}, "isGateway: expected a boolean, got string"),
        ({"isGateway": 1}, "isGateway: expected a boolean, got integer"),
        ({"ISGATEWAY": 0}, "isGateway: expected a boolean, got integer"),
        ({"vlan": True}, "vlan: expected an integer, got boolean"),
        ({"vlan": 7.0}, "vlan: expected an integer, got number"),
        ({"vlan": "7"}, "vlan: expected an integer, got string"),
        ({"vlan": 4095}, "vlan: 4095 is outside 0..4094"),
        ({"vlan": -1}, "vlan: -1 is outside 0..4094"),
        ({"mtu": -1}, "mtu: -1 is below 0"),
        ({"backend": "ipset"}, "backend: 'ipset' is not one of 'iptables', 'nftables'"),
        ({"pools": {}}, "pools: expected an array, got object"),
        ({"pools": [{}]}, "pools[0]: expected an array, got object"),
        ({"pools": [[], [1]]}, "pools[1][0]: expected an object, got integer"),
        ({"pools": [[{}]]}, "pools[0][0].subnet: is required"),
        (
            {"pools": [[{"subnet": "10.1/33"}]]},
            (
                "pools[0][0].subnet: invalid CIDR address: 10.1/33, expected an address with "
                "prefix length such as 10.1.2.0/24"
            ),
        ),
        (
            {"pools": [[{"subnet": "::/0", "gateway": "x"}]]},
            "pools[0][0].gateway: invalid IP address: x, expected an IP address such as 10.1.2.1",
        ),
        ({"labels": {"a": "b", "c": 5}}, "labels.c: expected a string, got integer"),
        ({"labels": []}, "labels: expected an object, got array"),
        ({"args": "x"}, "args: expected an object, got string"),
    ],
)
def test_faults_are_named_by_their_path(keys: dict[str, Any], msg: str) -> None:
    """Code 7; the path is spelled as the documentation spells it."""
    with pytest.raises(ConfigError) as caught:
        conf(**keys)
    assert (caught.value.code, caught.value.msg) == (7, msg)


def test_the_document_is_an_object() -> None:
    """Which has no path."""
    with pytest.raises(ConfigError) as caught:
        read(Conf, [])
    assert caught.value.msg == "expected an object, got array"


def test_forgiving_every_fault_but_of_required_keys() -> None:
    """DEL and GC tell the fault and take the key as not set."""
    faults: list[str] = []
    found = read(
        Conf,
        {"name": "n", "vlan": "x", "pools": [[{}]], "mtu": 9000},
        forgive=lambda fault: faults.append(fault.path),
    )
    assert found == Conf(name="n", mtu=9000)
    assert faults == ["vlan", "pools[0][0].subnet"]
    with pytest.raises(ConfigError, match="^name: "):
        read(Conf, {"name": 5}, forgive=lambda _fault: None)


def test_schema() -> None:
    """The same declaration as a JSON Schema."""
    assert schema(Conf) == {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"type": "string"},
            "isGateway": {
                "type": "boolean",
                "description": "the bridge is the gateway",
                "default": False,
            },
            "vlan": {"type": "integer", "minimum": 0, "maximum": 4094, "default": 0},
            "mtu": {"type": "integer", "minimum": 0, "default": 1500},
            "backend": {"type": "string", "enum": ["", "iptables", "nftables"]},
            "pools": {
                "type": "array",
                "items": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["subnet"],
                        "properties": {
                            "subnet": {"type": "string", "description": "addresses to give out"},
                            "gateway": {
                                "type": "string",
                                "description": "an IP address such as 10.1.2.1",
                            },
                        },
                    },
                },
            },
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "args": {"type": "object"},
            "whatever": {},
        },
    }


# --- JSON itself --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"null", None),
        (b' \n{"a": [1, 2.5, "x", true, null]}\t', {"a": [1, 2.5, "x", True, None]}),
        (b'"\xff"', "\ufffd"),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'{"a\\ud800": "\\udc00b"}', {"a\ufffd": "\ufffdb"}),
        (b'"\\\\ud800"', "\\ud800"),
        (b"12345678901234567890", 12345678901234567890),
        (b"[" * 150 + b"]" * 150, json.loads("[" * 150 + "]" * 150)),
    ],
)
def test_json_that_is_read(raw: bytes, value: object) -> None:
    """UTF-8, its faults replaced."""
    assert decode_json(raw) == value


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"  \n",
        b"{",
        b'{"a":',
        b'{"a":1,}',
        b"{} x",
        b"{}{}",
        b"{'a': 1}",
        b'"a\nb"',
        b'"a\0b"',
        b'\0{"a":1}',
        b'{"a":1}\0',
        b"NaN",
        b"[Infinity]",
        b"[-Infinity]",
        b"1e999",
        b"-1e999",
        b"[" * 250 + b"]" * 250,
        b"[" * 200_000,
        b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
        b"9" * 5000,
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        "{}".encode("utf-32"),
        b"\x80\x04}.",
    ],
    ids=lambda raw: repr(raw[:12]),
)
def test_json_that_is_refused(raw: bytes) -> None:
    """With one line that says why."""
    with pytest.raises(ValueError, match=".") as caught:
        decode_json(raw)
    assert "\n" not in str(caught.value)


# --- the keys every configuration has -----------------------------------------------------------


def test_common_keys() -> None:
    """As libcni sends them, capabilities included."""
    found = read(
        NetConf,
        {
            "cniVersion": "1.1.0",
            "name": "net",
            "type": "bridge",
            "capabilities": {"portMappings": True, "mac": False},
            "ipam": {"type": "host-local", "ranges": []},
            "dns": {"nameservers": ["10.1.0.1"], "search": None},
            "prevResult": {},
            "cni.dev/valid-attachments": [],
        },
    )
    assert (found.cni_version, found.name, found.type) == ("1.1.0", "net", "bridge")
    assert found.ipam.type == "host-local"
    assert found.dns.as_dns().nameservers == ("10.1.0.1",)
    assert (found.capabilities, found.prev_result) == ({"portMappings": True, "mac": False}, {})


ONE = {"containerID": "a", "ifname": "eth0"}


@pytest.mark.parametrize(
    ("document", "valid"),
    [
        ({}, None),
        ({"cni.dev/valid-attachments": None}, None),
        ({"cni.dev/valid-attachments": []}, frozenset()),
        ({"cni.dev/valid-attachments": [ONE]}, frozenset({("a", "eth0")})),
        ({"cni.dev/attachments": [ONE]}, frozenset({("a", "eth0")})),
        ({"cni.dev/Valid-Attachments": [ONE]}, frozenset({("a", "eth0")})),
        ({"cni.dev/valid-attachments": [], "cni.dev/attachments": [ONE]}, frozenset()),
        ({"cni.dev/valid-attachments": None, "cni.dev/attachments": []}, frozenset()),
    ],
)
def test_list_of_valid_attachments(
    document: dict[str, Any], valid: frozenset[tuple[str, str]] | None
) -> None:
    """An empty list is a list; a missing one is none."""
    assert valid_attachments(document) == valid


@pytest.mark.parametrize(
    ("given", "path"),
    [
        ({}, '["cni.dev/valid-attachments"]'),
        ([5], '["cni.dev/valid-attachments"][0]'),
        ([{"containerID": "a"}], '["cni.dev/valid-attachments"][0].ifname'),
        ([{"containerID": 1, "ifname": "a"}], '["cni.dev/valid-attachments"][0].containerID'),
    ],
)
def test_malformed_list_of_valid_attachments(given: object, path: str) -> None:
    """Never taken for an empty one, which would free everything."""
    with pytest.raises(ConfigError) as caught:
        valid_attachments({"cni.dev/valid-attachments": given})
    assert caught.value.path == path


@pytest.mark.parametrize("document", [None, [], "x", {}, {"name": None}, {"name": ""}])
def test_documents_without_a_name(document: object) -> None:
    """Code 7."""
    with pytest.raises(ConfigError, match="^missing network name$"):
        parse_name(document)
