"""Version texts, and prevResult in the version of its configuration."""

from __future__ import annotations

from typing import Any

import pytest

from cni_plugins.errors import ConfigError, DecodeError
from cni_plugins.protocol import spec
from cni_plugins.protocol.addresses import parse_address
from cni_plugins.protocol.config import read
from cni_plugins.protocol.netconf import NetConf
from cni_plugins.protocol.versions import decode_prev_result, family_of, parse_version

statement = pytest.mark.statement


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        pytest.param("1.2.3", (1, 2, 3), marks=statement("VE08")),
        pytest.param("", (0, 1, 0), marks=statement("VE09")),
        ("1", (1, 0, 0)),
        ("1.2", (1, 2, 0)),
        ("01.0.0", (1, 0, 0)),
        ("-1.0.0", (-1, 0, 0)),
        ("1.+2.0", (1, 2, 0)),
    ],
)
def test_version_texts(text: str, numbers: tuple[int, int, int]) -> None:
    """Missing numbers are 0; an empty text is 0.1.0."""
    assert parse_version(text) == numbers


@statement("VE10", "VE13")
@pytest.mark.parametrize(
    "text",
    [
        "asdfasdf",
        "asdf.",
        ".asdfas",
        "asdf.adsf.",
        "0.",
        "..",
        "1.2.3.4.5",
        "1.2.3.4",
        " 1.0.0",
        "1.0.0 ",
        "1..0",
        "v1.0.0",
        "1.0.0-rc1",
        "1_0",
        "--1.0",
        "1.0\n",
        "\u0661.0.0",
        "\u00b2.0",
        "9" * 5000,
    ],
)
def test_texts_that_are_no_version(text: str) -> None:
    """Code 6."""
    with pytest.raises(DecodeError) as caught:
        parse_version(text)
    assert caught.value.code == 6


@pytest.mark.parametrize(
    ("newer", "older"),
    [
        pytest.param("1.2.34", "1.2.14", marks=statement("VE11")),
        pytest.param("2.5.4", "2.4.4", marks=statement("VE11")),
        pytest.param("1.2.3", "0.2.3", marks=statement("VE11")),
        pytest.param("0.4.0", "0.3.1", marks=statement("VE11")),
        pytest.param("1.1.1", "1.1.0", marks=statement("VE14")),
        ("0.10.0", "0.9.0"),
    ],
)
def test_versions_are_ordered_by_number(newer: str, older: str) -> None:
    """Not by text."""
    assert parse_version(newer) > parse_version(older)
    assert not parse_version(older) >= parse_version(newer)


@statement("VE12", "VE14")
def test_equal_versions() -> None:
    """However they are written; none is newer."""
    assert parse_version("1.2") == parse_version("1.2.0")
    assert not parse_version("1.2.0") > parse_version("1.2")


@statement("VE17")
def test_versions_starting_from() -> None:
    """The tail of the list."""
    assert spec.starting_from("0.3.1") == ("0.3.1", "0.4.0", "1.0.0", "1.1.0")
    assert spec.starting_from("0.1.0") == spec.ALL


def test_families() -> None:
    """Every version has one; no version is 0.1.0."""
    assert "".join(family_of(version) for version in ("", *spec.ALL)) == "AAABBBCC"


# --- prevResult ---------------------------------------------------------------------------------


@statement("VE18")
def test_prev_result_of_1_0_0_with_keys_of_other_versions() -> None:
    """The new interface keys are read, a stray "version" in ips is not."""
    result = decode_prev_result(
        {
            "cniVersion": "1.0.0",
            "interfaces": [
                {"name": "eth0", "mac": "00:11:22:33:44:55", "socketPath": "/p", "pciID": "8086:1"}
            ],
            "ips": [
                {
                    "version": "4",
                    "interface": 0,
                    "address": "1.2.3.30/24",
                    "gateway": "1.2.3.1",
                }
            ],
        },
        "1.0.0",
    )
    assert (result.interfaces[0].socket_path, result.interfaces[0].pci_id) == ("/p", "8086:1")
    assert (result.ips[0].interface, result.ips[0].gateway) == (0, parse_address("1.2.3.1"))


@pytest.mark.parametrize(
    "version",
    [
        pytest.param("5678.456", marks=statement("VE19")),
        pytest.param("0.2.0", marks=statement("VE20")),
        "0.4.0",
    ],
)
def test_prev_result_of_another_family(version: str) -> None:
    """The configuration's version decides; code 7."""
    with pytest.raises(ConfigError) as caught:
        decode_prev_result({"cniVersion": version}, "1.1.0")
    assert caught.value.msg == (
        "could not parse prevResult: result type supports [1.0.0 1.1.0] but unmarshalled "
        f'CNIVersion is "{version}"'
    )


@statement("VE21")
@pytest.mark.parametrize("document", [{}, {"prevResult": None}])
def test_no_prev_result(document: dict[str, None]) -> None:
    """Is no error."""
    assert read(NetConf, document).prev_result is None


@pytest.mark.parametrize("version", ["0.4.0", "1.1.0", "", None])
def test_prev_result_without_a_version_has_the_configuration_s(version: str | None) -> None:
    """Also where its own is empty."""
    wanted = version or "0.4.0"
    document: dict[str, Any] = {"ips": [{"address": "10.0.0.2/24"}]}
    if version in {"", None}:
        document["cniVersion"] = version
    assert len(decode_prev_result(document, wanted).ips) == 1


def test_prev_result_of_a_configuration_without_version() -> None:
    """Family A."""
    result = decode_prev_result({"ip4": {"ip": "10.0.0.2/24"}}, "")
    assert len(result.ips) == 1


@pytest.mark.parametrize(
    ("prev_result", "msg"),
    [
        ("x", "prevResult: expected an object, got string"),
        ([], "prevResult: expected an object, got array"),
    ],
)
def test_prev_result_is_an_object(prev_result: object, msg: str) -> None:
    """Its path is named."""
    with pytest.raises(ConfigError) as caught:
        read(NetConf, {"prevResult": prev_result})
    assert caught.value.msg == msg


@pytest.mark.parametrize(
    ("prev_result", "msg"),
    [
        (
            {"ips": [{"address": "10.0.0.2"}]},
            (
                "prevResult.ips[0].address: invalid CIDR address: 10.0.0.2, expected an address "
                "with prefix length such as 10.1.2.0/24"
            ),
        ),
        ({"cniVersion": []}, "prevResult.cniVersion: expected a string, got array"),
    ],
)
def test_faults_of_prev_result_are_named_by_their_path(
    prev_result: dict[str, Any], msg: str
) -> None:
    """From the configuration's root."""
    with pytest.raises(ConfigError) as caught:
        decode_prev_result(prev_result, "1.1.0")
    assert caught.value.msg == msg
