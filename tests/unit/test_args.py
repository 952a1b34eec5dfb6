"""CNI_ARGS: K=V;K2=V2, read strictly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cni_plugins.errors import CniError, ConfigError, RequestError
from cni_plugins.protocol.addresses import parse_address
from cni_plugins.protocol.args import parse_args
from cni_plugins.protocol.netconf import requested_mac

if TYPE_CHECKING:
    from collections.abc import Callable

statement = pytest.mark.statement


def refuse(_text: str) -> str:
    """A parser that never understands."""
    raise ValueError("it is no such thing")


KNOWN: dict[str, Callable[[str], Any]] = {"NAME": str, "IP": parse_address, "NEVER": refuse}


@statement("AR01", "AR09")
@pytest.mark.parametrize("word", ["1", "true", "True", "TRUE"])
def test_ignore_unknown_switched_on(word: str) -> None:
    """In any case, and wherever it stands."""
    assert parse_args(f"Unk=nown;IgnoreUnknown={word}", KNOWN) == {}


@statement("AR01")
@pytest.mark.parametrize("word", ["0", "false", "False"])
def test_ignore_unknown_switched_off(word: str) -> None:
    """As if it were not there."""
    with pytest.raises(RequestError, match="unknown args"):
        parse_args(f"IgnoreUnknown={word};Unk=nown", KNOWN)


@statement("AR02")
@pytest.mark.parametrize("word", ["invalid", "", "yes", "t"])
def test_ignore_unknown_is_a_boolean(word: str) -> None:
    """Anything else is an error, even without unknown keys."""
    with pytest.raises(RequestError) as caught:
        parse_args(f"IgnoreUnknown={word}", KNOWN)
    assert caught.value.msg == f'ARGS: error parsing value of pair "IgnoreUnknown={word}"'


@statement("AR03")
@pytest.mark.parametrize("value", ["", "some text", "ünï"])
def test_text_values(value: str) -> None:
    """May be empty."""
    assert parse_args(f"NAME={value}", KNOWN) == {"NAME": value}


@statement("AR04")
def test_keys_are_told_apart_by_case() -> None:
    """NAME is known, name is not."""
    with pytest.raises(RequestError) as caught:
        parse_args("name=x", KNOWN)
    assert caught.value.msg == 'ARGS: unknown args ["name=x"]'


@statement("AR05")
@pytest.mark.parametrize("known", [{}, KNOWN])
def test_no_args(known: dict[str, type]) -> None:
    """An empty text is no arguments, whatever is known."""
    assert parse_args("", known) == {}


@statement("AR06")
def test_unknown_keys_that_are_ignored() -> None:
    """Nothing is found."""
    assert parse_args("IgnoreUnknown=True;Unk=nown", {}) == {}


@statement("AR07")
def test_unknown_keys_are_refused() -> None:
    """All of them are named."""
    with pytest.raises(RequestError) as caught:
        parse_args("Unk=nown;NAME=x;b=", KNOWN)
    assert (caught.value.code, caught.value.msg) == (4, 'ARGS: unknown args ["Unk=nown" "b="]')
    assert "IP, NAME, NEVER" in caught.value.details


@statement("AR08")
@pytest.mark.parametrize("text", ["IgnoreUnknown=0, Unk=nown", "IgnoreUnknown=0;Unk=nown"])
def test_unknown_keys_with_ignoring_switched_off(text: str) -> None:
    """A comma separates nothing, so the first is one malformed pair."""
    with pytest.raises(RequestError, match="ARGS: "):
        parse_args(text, KNOWN)


@statement("AR10")
def test_a_known_key_whose_value_is_not_understood() -> None:
    """An error even when unknown keys are ignored."""
    with pytest.raises(RequestError) as caught:
        parse_args("IgnoreUnknown=1;NEVER=x", KNOWN)
    assert caught.value.msg == ('ARGS: error parsing value of pair "NEVER=x": it is no such thing')


@statement("AR11", "AR12")
def test_values_are_parsed() -> None:
    """By the key's own parser; a key that was not given is not there."""
    assert parse_args("IP=10.0.0.2", KNOWN) == {"IP": parse_address("10.0.0.2")}


@statement("AR13")
def test_every_known_key_has_a_parser() -> None:
    """There are no fields without one, and so no such failure at run time."""
    assert parse_args("NAME=a", {"NAME": str, "OTHER": refuse}) == {"NAME": "a"}


@pytest.mark.parametrize("text", ["a", "a=b;", ";", "a=b=c", "a=b;;c=d", "a;b=c"])
def test_malformed_pairs(text: str) -> None:
    """A pair is a key, one equals sign and a value."""
    with pytest.raises(RequestError, match='ARGS: invalid pair "'):
        parse_args(text, KNOWN)


def test_the_last_of_repeated_keys_counts() -> None:
    """Multus appends its caller's arguments to its own."""
    assert parse_args("NAME=a;NAME=b", KNOWN) == {"NAME": "b"}


@pytest.mark.parametrize(
    ("document", "cni_args", "mac"),
    [
        ({}, "", ""),
        ({}, "IgnoreUnknown=1;K8S_POD_NAME=a;MAC=c2:11:22:33:44:51", "c2:11:22:33:44:51"),
        (
            {"args": {"cni": {"mac": "c2:11:22:33:44:52"}}},
            "MAC=c2:11:22:33:44:51",
            "c2:11:22:33:44:52",
        ),
        (
            {
                "RuntimeConfig": {"MAC": "c2:11:22:33:44:53"},
                "args": {"cni": {"mac": "c2:11:22:33:44:52"}},
            },
            "MAC=c2:11:22:33:44:51",
            "c2:11:22:33:44:53",
        ),
        ({"runtimeConfig": {"mac": ""}, "args": None}, "MAC=", ""),
    ],
)
def test_requested_mac(document: dict[str, object], cni_args: str, mac: str) -> None:
    """runtimeConfig beats args, which beats CNI_ARGS; an empty one is none."""
    assert requested_mac(document, cni_args) == mac


@pytest.mark.parametrize(
    ("document", "cni_args", "error"),
    [
        ({}, "FOO=1", RequestError),
        ({}, "MAC=xy", RequestError),
        ({"runtimeConfig": {"mac": "xy"}}, "", ConfigError),
        ({"args": {"cni": {"mac": 5}}}, "", ConfigError),
    ],
)
def test_requested_mac_that_is_none(
    document: dict[str, object], cni_args: str, error: type[CniError]
) -> None:
    """Wherever it was asked for, it is not passed over."""
    with pytest.raises(error):
        requested_mac(document, cni_args)
