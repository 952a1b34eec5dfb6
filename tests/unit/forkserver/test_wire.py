"""Messages between launcher and server."""

from __future__ import annotations

import struct

import pytest

from forkserver import wire
from forkserver.wire import Identity, WireError

HERE = Identity("0.1.0-abc", ((1, 2), (3, 4), (5, 6), (7, 8), (9, 10)), 0x1FF, b"label\n")
LIMITS = tuple((n, n + 1) for n in range(wire.LIMITS))


def go(argv: bytes, env: bytes, cwd: bytes, stdin: bytes) -> tuple[bytes, bytes]:
    """Header and rest of a GO."""
    numbers = [n for pair in LIMITS for n in pair]
    lengths = [len(part) for part in (argv, env, cwd, stdin)]
    header = struct.pack(
        "=8s16s6I32Q", b"CNI-GO-1", b"0123456789abcdef", 77, 0o27, *lengths, *numbers
    )
    return header, argv + env + cwd + stdin


def test_ready_is_as_long_as_the_launcher_s_struct():
    message = wire.ready(HERE)
    assert len(message) == 8 + 64 + 5 * 16 + 8 + 256
    assert message[:8] == b"CNI-RDY1"
    assert message[8:72].rstrip(b"\0") == b"0.1.0-abc"


def test_a_call_is_read_as_it_was_sent():
    header, rest = go(
        b"/opt/cni/bin/bridge\0", b"A=1\0B=x=y\0A=2\0nothing\0C=\xff\0", b"/w d", b"{}"
    )
    assert len(header) == wire.GO_HEADER_BYTES
    parsed = wire.parse_header(header)
    assert (parsed.id, parsed.caller, parsed.umask) == ("0123456789abcdef", 77, 0o27)
    assert parsed.limits == LIMITS
    call = wire.parse_go(parsed, rest)
    assert call.argv == ("/opt/cni/bin/bridge",)
    assert call.env == {"A": "1", "B": "x=y", "C": "\udcff"}
    assert (call.cwd, call.stdin) == (b"/w d", b"{}")


@pytest.mark.parametrize(
    ("argv", "env"),
    [(b"", b""), (b"bridge", b""), (b"bridge\0", b"A=1")],
    ids=["no name", "name without end", "variable without end"],
)
def test_a_call_that_makes_no_sense_is_refused(argv, env):
    header, rest = go(argv, env, b"/", b"")
    with pytest.raises(WireError):
        wire.parse_go(wire.parse_header(header), rest)


def test_a_header_that_is_none_is_refused():
    header, _ = go(b"bridge\0", b"", b"/", b"")
    with pytest.raises(WireError, match="expected GO"):
        wire.parse_header(b"X" + header[1:])
    large = struct.pack("=4I", 2**31, 2**31, 2**31, 2**31)
    with pytest.raises(WireError, match="8589934592 bytes"):
        wire.parse_header(header[:32] + large + header[48:])


def test_a_reply_carries_both_streams():
    assert (
        wire.reply(3, b"out", b"error")
        == struct.pack("=8s4I", b"CNI-RPL1", 3, 3, 5, 0) + b"outerror"
    )
