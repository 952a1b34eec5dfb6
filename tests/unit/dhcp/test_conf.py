"""dhcp's configuration and the daemon's options."""

from __future__ import annotations

import argparse
from types import SimpleNamespace

import pytest

from cni_plugins.errors import ConfigError
from dhcp_daemon.cli import duration
from dhcp_ipam.conf import lax_args, option_code, parse, parse_cleanup

pytestmark = pytest.mark.unit


def conf(args: str = "", **ipam):
    """The configuration of an ADD."""
    ctx = SimpleNamespace(cni_args=args, cni_version="1.1.0")
    return parse(ctx, {"name": "n", "ipam": {"type": "dhcp", **ipam}})


@pytest.mark.statement("DH07")
@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("host-name", 12), ("12", 12), ("1", 1), ("254", 254), ("subnet-mask", 1), ("routers", 3),
        ("dhcp-client-identifier", 61), ("user-class", 77), ("vendor-class-identifier", 60),
    ],
)  # fmt: skip
def test_option_names(name, code):
    assert option_code("ipam.request[0].option", name) == code


@pytest.mark.statement("DH07")
@pytest.mark.parametrize("name", ["frob", "0", "255", "256", "-1", "1.5", "", "²", "0x0c"])
def test_words_that_are_no_option(name):
    with pytest.raises(ConfigError, match=f'Can not parse option "{name}": expected') as e:
        option_code("ipam.request[0].option", name)
    assert e.value.path == "ipam.request[0].option"


@pytest.mark.statement("DH09")
@pytest.mark.parametrize(
    ("request_", "codes"),
    [
        ([], (3, 1, 6, 15, 119)),
        ([{"option": "121"}, {"option": "routers"}], (121, 3, 1, 6, 15, 119)),
        ([{"option": "121"}, {"skipDefault": True}], (121,)),
        ([{"option": "121", "skipDefault": True}, {"option": "121"}], (121,)),
        ([{"skipDefault": True}], (3, 1, 6, 15, 119)),
    ],
)
def test_what_is_requested(request_, codes):
    assert conf(request=request_).parameters == codes


@pytest.mark.parametrize(
    ("provide", "args", "options"),
    [
        ({"option": "host-name", "value": "a"}, "", {12: b"a"}),
        ({"option": "host-name", "value": "a", "fromArg": "N"}, "N=b;X", {12: b"b"}),
        ({"option": "host-name", "value": "a", "fromArg": "N"}, "M=b", {12: b"a"}),
        ({"option": "host-name", "fromArg": "N"}, "", {}),
        ({"option": "host-name", "fromArg": "N"}, "N=a=b", {12: b"a=b"}),
        ({"option": "60", "value": "x" * 255}, "", {60: b"x" * 255}),
    ],
)
def test_what_is_provided(provide, args, options):
    assert conf(args, provide=[provide]).options == options


@pytest.mark.parametrize(
    ("ipam", "path", "text"),
    [
        ({"provide": [{"option": "12", "value": "x" * 256}]}, "ipam.provide[0].value", "value too long for option 12"),
        ({"provide": [{"option": "53", "value": "x"}]}, "ipam.provide[0].option", "cannot be provided"),
        ({"provide": {}}, "ipam.provide", "expected an array"),
        ({"provide": [{"option": 12}]}, "ipam.provide[0].option", "expected a string"),
        ({"request": [{"option": "x"}]}, "ipam.request[0].option", "Can not parse option"),
        ({"request": [{"skipDefault": "yes"}]}, "ipam.request[0].skipDefault", "expected a boolean"),
        ({"priority": -1}, "ipam.priority", "outside 0"),
        ({"timeout": 0}, "ipam.timeout", "outside 1..600"),
        ({"daemonSocketPath": 7}, "ipam.daemonSocketPath", "expected a string"),
    ],
)  # fmt: skip
def test_wrong_values(ipam, path, text):
    with pytest.raises(ConfigError, match=text) as e:
        conf(**ipam)
    assert e.value.path == path


def test_no_ipam_at_all():
    ctx = SimpleNamespace(cni_args="", cni_version="1.1.0")
    with pytest.raises(ConfigError, match="is required"):
        parse(ctx, {"name": "n"})


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({}, "/run/cni/dhcp.sock"),
        ({"ipam": 7}, "/run/cni/dhcp.sock"),
        ({"ipam": {"daemonSocketPath": "/s", "provide": 3, "request": [{"option": "x"}]}}, "/s"),
        ({"ipam": {"daemonSocketPath": 3}}, "/run/cni/dhcp.sock"),
    ],
)
def test_cleanup_needs_the_socket_only(document, path):
    warned: list[object] = []
    ctx = SimpleNamespace(forgive=warned.append)
    assert parse_cleanup(ctx, document).ipam.socket_path == path


def test_args_are_read_laxly():
    assert lax_args("A=1;;B;=3;A=2;C=") == {"A": "2", "": "3", "C": ""}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10), ("1m2s", 62), ("500ms", 0.5), ("1h", 3600), ("1.5s", 1.5), (".5s", 0.5)],
)
def test_durations(text, seconds):
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "10", "s", "10x", "-1s", "0s", "1s!", "1 s"])
def test_no_durations(text):
    with pytest.raises(argparse.ArgumentTypeError):
        duration(text)
