"""The text rules of identifiers and interface names."""

from __future__ import annotations

import pytest

from cni_plugins.errors import CniError
from cni_plugins.protocol.args import (
    parse_mac,
    validate_container_id,
    validate_ifname,
    validate_network_name,
)

statement = pytest.mark.statement

FOREIGN = "invalid characters in containerID"
FOREIGN_NAME = "invalid characters found in network name"
BAD_CHARACTER = "interface name contains / or : or whitespace characters"
TOO_LONG = "interface name is too long"


@pytest.mark.parametrize(
    ("container_id", "code", "msg"),
    [
        pytest.param("", 3, "missing containerID", marks=statement("UT01")),
        pytest.param("1234%%%", 4, FOREIGN, marks=statement("UT02")),
        ("_a", 4, FOREIGN),
        (".a", 4, FOREIGN),
        ("-a", 4, FOREIGN),
        ("..", 4, FOREIGN),
        ("a/b", 4, FOREIGN),
        ("../../etc/passwd", 4, FOREIGN),
        ("a b", 4, FOREIGN),
        ("a\n", 4, FOREIGN),
        ("a\0", 4, FOREIGN),
        ("é", 4, FOREIGN),
        ("\udcff", 4, FOREIGN),
    ],
)
def test_container_ids_that_are_refused(container_id: str, code: int, msg: str) -> None:
    """The details have the id when there is one."""
    with pytest.raises(CniError) as caught:
        validate_container_id(container_id)
    assert (caught.value.code, caught.value.msg) == (code, msg)
    assert caught.value.details == container_id


@statement("UT03")
@pytest.mark.parametrize("text", ["a51debf7e1eb", "a", "0", "A_b.c-d", "a..b", "x" * 300])
def test_container_ids_that_pass(text: str) -> None:
    """One character is enough, and there is no limit."""
    validate_container_id(text)


@pytest.mark.parametrize(
    ("name", "msg"),
    [
        pytest.param("", "missing network name:", marks=statement("UT04")),
        pytest.param("1234%%%", FOREIGN_NAME, marks=statement("UT05")),
        ("../x", FOREIGN_NAME),
        ("net\n", FOREIGN_NAME),
    ],
)
def test_network_names_that_are_refused(name: str, msg: str) -> None:
    """Code 7 with the name in the details."""
    with pytest.raises(CniError) as caught:
        validate_network_name(name)
    assert (caught.value.code, caught.value.msg, caught.value.details) == (7, msg, name)


@statement("UT06")
def test_network_name_that_passes() -> None:
    """Like a container id."""
    validate_network_name("eth0")


@pytest.mark.parametrize(
    ("name", "msg"),
    [
        pytest.param("", "interface name is empty", marks=statement("UT07")),
        pytest.param("testname1testname2", TOO_LONG, marks=statement("UT08")),
        ("é" * 8, TOO_LONG),
        ("a" * 15 + "/", TOO_LONG),
        pytest.param(".", "interface name is . or ..", marks=statement("UT09")),
        ("..", "interface name is . or .."),
        pytest.param("/testname", BAD_CHARACTER, marks=statement("UT10")),
        pytest.param("test name", BAD_CHARACTER, marks=statement("UT11")),
        ("a:b", BAD_CHARACTER),
        ("a\tb", BAD_CHARACTER),
        ("a\n", BAD_CHARACTER),
        ("a\u00a0b", BAD_CHARACTER),
        ("a\u2003b", BAD_CHARACTER),
        ("a\u0085", BAD_CHARACTER),
    ],
)
def test_interface_names_that_are_refused(name: str, msg: str) -> None:
    """Code 4; length counts in bytes and comes before the characters."""
    with pytest.raises(CniError) as caught:
        validate_ifname(name)
    assert (caught.value.code, caught.value.msg) == (4, msg)


@statement("UT12")
@pytest.mark.parametrize(
    "name", ["testname", "a" * 15, "é" * 7, "...", "eth0.100", "a\x1cb", "%d", "\udcff"]
)
def test_interface_names_that_pass(name: str) -> None:
    """The separators U+001C to U+001F are no white space to Unicode."""
    validate_ifname(name)


@pytest.mark.parametrize(
    "text",
    ["c2:11:22:33:44:55", "C2:11:22:33:44:55", "c2-11-22-33-44-55", "c211.2233.4455"],
)
def test_mac_addresses(text: str) -> None:
    """Three notations, one form."""
    assert parse_mac(text) == "c2:11:22:33:44:55"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "c2:11:22:33:44",
        "c2:11-22:33:44:55",
        "c2:11:22:33:44:55:66:77",
        "c2:11:22:33:44:5g",
        "c2:11:22:33:44:55\n",
        "01:00:5e:00:00:01",
        "ff:ff:ff:ff:ff:ff",
        "00:00:00:00:00:00",
    ],
)
def test_mac_addresses_no_interface_can_have(text: str) -> None:
    """Malformed, another length, a group's, or all zeros."""
    with pytest.raises(ValueError, match="invalid MAC address: "):
        parse_mac(text)
