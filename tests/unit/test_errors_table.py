"""What may arrive from outside, and the one error object it is answered with."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cni_plugins import catalog, dispatch
from cni_plugins.deadline import Deadline
from cni_plugins.errors import (
    AlreadyAttached,
    Busy,
    CniError,
    ConfigError,
    DecodeError,
    DelegateError,
    ExecError,
    KernelError,
    NetnsError,
    RequestError,
    StateError,
    Unavailable,
    VersionError,
)
from cni_plugins.protocol.request import Reply, Request
from tests.kit.requests import Recorder, config, environment, error_of

ROOT = Path(__file__).parents[2]
UNMARSHAL = "error unmarshall network config: "
MEGABYTE = 1 << 20


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RequestError("x"), 4),
        (DecodeError("x"), 6),
        (ConfigError("a.b", "x"), 7),
        (VersionError("x"), 1),
        (NetnsError("x"), 999),
        (NetnsError("x", code=8), 8),
        (KernelError("x", 17), 999),
        (ExecError("x", status=1, stderr=" tail \n"), 999),
        (StateError("x"), 999),
        (Busy("x"), 11),
        (Unavailable("x"), 50),
        (Unavailable("x", code=51), 51),
        (AlreadyAttached("x"), 999),
        (DelegateError("static", Busy("x")), 11),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, CniError) else None,
)
def test_the_code_of_each_class(error: CniError, code: int) -> None:
    """As the tree in the module says; all of them are CniError."""
    assert error.code == code
    assert isinstance(error, CniError)
    assert json.loads(dispatch.error_object(error))["code"] == code


def test_messages_of_the_classes_that_build_one() -> None:
    """A path before the reason, a plugin before its error, the tail of stderr behind."""
    assert ConfigError("a.b", "is required").msg == "a.b: is required"
    assert ConfigError("", "missing").msg == "missing"
    assert DelegateError("static", Busy("held", "by 7")).msg == "static: held"
    assert DelegateError("static", Busy("held", "by 7")).details == "by 7"
    assert ExecError("run nft: exit status 1", stderr=" tail \n").details == "tail"
    assert "details" not in json.loads(dispatch.error_object(Busy("x")))


ADD = environment("ADD")


@pytest.mark.parametrize(
    ("env", "stdin", "expected"),
    [
        pytest.param(
            environment("ADD", CNI_CONTAINERID="a b", CNI_NETNS=None),
            config("1.1.0"),
            {"code": 4, "msg": "invalid characters in containerID", "details": "a b"},
            id="bad id hides a missing variable",
        ),
        pytest.param(ADD, b"", {"code": 6, "msg": UNMARSHAL + "unexpected end of JSON input"}),
        pytest.param(
            environment("NOPE"),
            b"",
            {"code": 6, "msg": UNMARSHAL + "unexpected end of JSON input"},
            id="unknown verb, empty stdin",
        ),
        pytest.param(
            environment("NOPE"), config("1.1.0"), {"code": 4, "msg": "unknown CNI_COMMAND: NOPE"}
        ),
        pytest.param(ADD, b'{"name":"ab"} x', {"code": 6, "msg": UNMARSHAL}),
        pytest.param(
            ADD, b'{"name": 5}', {"code": 6, "msg": UNMARSHAL + "name: expected a string"}
        ),
        pytest.param(
            ADD,
            config(1),
            {
                "code": 6,
                "msg": "decoding version from network config: cniVersion: expected a string",
            },
        ),
        pytest.param(
            environment("CHECK"),
            config("1.2.0"),
            {"code": 1, "msg": "plugin version does not allow CHECK"},
        ),
        pytest.param(
            environment("GC"), config(None), {"code": 1, "msg": "config version does not allow GC"}
        ),
        pytest.param(
            environment("STATUS", CNI_PATH=None),
            config("1.1.0"),
            {"code": 4, "msg": "required env variables [CNI_PATH] missing"},
        ),
        pytest.param(
            ADD,
            config("1.1.0", name=""),
            {"code": 7, "msg": "missing network name"},
        ),
        pytest.param(
            environment("ADD", CNI_IFNAME="é" * 8),
            config("1.1.0"),
            {
                "code": 4,
                "msg": "interface name is too long",
                "details": "interface name should be less than 16 characters",
            },
        ),
    ],
)
@pytest.mark.parametrize("plugin_type", ["loopback"])
def test_error_objects(
    env: dict[str, str], stdin: bytes, expected: dict[str, Any], plugin_type: str
) -> None:
    """Code, message and details; where a JSON decoder speaks, only its prefix is fixed."""
    error = error_of(call(plugin_type, env, stdin))
    if expected["msg"] == UNMARSHAL:
        assert error["msg"].startswith(UNMARSHAL)
        error["msg"] = UNMARSHAL
    assert error == expected


def call(plugin_type: str, env: dict[str, str], stdin: bytes) -> Reply:
    """One call of a plugin of the catalog, in this process."""
    plugin = catalog.find(plugin_type)
    assert plugin is not None
    return dispatch.run(plugin, Request(env, lambda: stdin, Deadline.after(5)))


# --- bad inputs, to every plugin ----------------------------------------------------------------

GOOD = b'{"cniVersion":"1.1.0","name":"net","type":"t"}'
BAD_INPUTS = {
    "ten megabytes of blanks": (b" " * 10 * MEGABYTE, 6),
    "ten megabytes of text": (b'{"name":"' + b"a" * 10 * MEGABYTE + b'"}', 6),
    "a good document and ten megabytes": (GOOD + b" " * 10 * MEGABYTE, 6),
    "truncated": (GOOD[:-5], 6),
    "two documents": (GOOD + GOOD, 6),
    "array": (b"[]", 6),
    "string": (b'"net"', 6),
    "number": (b"5", 6),
    "true": (b"true", 6),
    "null": (b"null", 7),
    "empty object": (b"{}", 7),
    "NUL between tokens": (b"{\0}", 6),
    "NUL in a string": (b'{"name":"a\0b"}', 6),
    "escaped NUL in the name": (b'{"name":"a\\u0000b"}', 7),
    "NUL behind": (GOOD + b"\0", 6),
    "all NUL": (b"\0" * 100, 6),
    "nested arrays": (b'{"name":"net","a":' + b"[" * 100_000, 6),
    "nested objects": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 6),
    "NaN": (b'{"name":"net","a":NaN}', 6),
    "Infinity": (b'{"name":"net","a":-Infinity}', 6),
    "number too large": (b'{"name":"net","a":1e999}', 6),
    "integer too long": (b'{"name":"net","a":' + b"9" * 5000 + b"}", 6),
    "byte order mark": (b"\xef\xbb\xbf" + GOOD, 6),
    "UTF-16": (GOOD.decode().encode("utf-16"), 6),
    "name that is a path": (b'{"name":"../../etc"}', 7),
    "name with a slash": (b'{"name":"a/b"}', 7),
    "name of dots": (b'{"name":".."}', 7),
    "name that is no UTF-8": (b'{"name":"\xff"}', 7),
    "half a surrogate pair": (b'{"name":"\\ud800"}', 7),
    "name that is no string": (b'{"name":{}}', 6),
    "last name counts": (b'{"name":"net","name":"%"}', 7),
    "last name counts in any case": (b'{"name":"net","NAME":"%"}', 7),
    "version that is no string": (b'{"name":"net","cniVersion":{}}', 6),
    "version nobody knows": (b'{"name":"net","cniVersion":"../1"}', None),
}


@pytest.mark.parametrize("verb", ["ADD", "DEL", "CHECK", "GC", "STATUS"])
@pytest.mark.parametrize("what", BAD_INPUTS)
def test_bad_input(what: str, verb: str) -> None:
    """Exit status 1, one error object, no traceback, and no verb is run."""
    stdin, code = BAD_INPUTS[what]
    recorder = Recorder(versions=("0.1.0", "1.1.0"))
    reply = recorder.run(environment(verb), stdin)
    error = error_of(reply)
    assert error["code"] == (code if code is not None else 1 if verb in {"ADD", "DEL"} else 6)
    assert "\n" not in error["msg"]
    assert reply.stderr == b""
    assert recorder.commands == []


@pytest.mark.parametrize("plugin_type", catalog.PLUGINS)
@pytest.mark.parametrize(
    ("keys", "code"),
    [
        ({"type": "../../bin/sh"}, None),
        ({"ipam": {"type": "../../bin/sh"}}, None),
        ({"ipam": {"type": ".."}}, None),
        ({"ipam": {"type": 5}}, 7),
        ({"ipam": []}, 7),
        ({"dns": "8.8.8.8"}, 7),
        ({"prevResult": "x"}, 7),
        ({"cniVersion": "1.1.0", "prevResult": {"ips": [{}]}}, None),
    ],
)
def test_bad_keys(plugin_type: str, keys: dict[str, Any], code: int | None) -> None:
    """CHECK of what was never added fails in an orderly way whatever else is wrong."""
    document = {"cniVersion": "1.1.0", "name": "net", "type": plugin_type, "ipam": {}, **keys}
    env = environment(
        "CHECK", CNI_ARGS=None, CNI_NETNS="/nonexistent/netns", CNI_PATH="/nonexistent"
    )
    reply = call(plugin_type, env, json.dumps(document).encode())
    error = error_of(reply)
    assert b"Traceback" not in reply.stderr
    if code is not None:
        assert error["code"] == code


@pytest.mark.parametrize("value", ["../x", "a/b", "..", "a b", "a\nb", "\udcff", "$(id)"])
def test_bad_container_ids(value: str) -> None:
    """Code 4 before anything else happens."""
    reply = Recorder().run(environment("DEL", CNI_CONTAINERID=value), config())
    error = error_of(reply)
    assert (error["code"], error["msg"]) == (4, "invalid characters in containerID")


def test_the_largest_configuration_that_is_read() -> None:
    """Eight megabytes pass, one byte more does not."""
    stdin = GOOD + b" " * (dispatch.STDIN_BYTES - len(GOOD))
    recorder = Recorder(versions=("1.1.0",))
    assert recorder.run(environment("DEL"), stdin).exit_code == 0
    assert error_of(recorder.run(environment("DEL"), stdin + b" "))["code"] == 6


# --- the same as processes ----------------------------------------------------------------------


def process(module: str, stdin: bytes, **env: str) -> subprocess.CompletedProcess[bytes]:
    """A plugin as runtimes run it."""
    return subprocess.run(
        [sys.executable, "-m", module],
        input=stdin,
        env={"PATH": "/usr/bin:/bin", **env},
        capture_output=True,
        cwd=ROOT,
        timeout=30,
        check=False,
    )


@pytest.mark.statement("NP02", "NP07", "NP08")
@pytest.mark.parametrize(
    ("stdin", "code"), [(b"", 6), (b" " * 10 * MEGABYTE, 6), (b"null", 7), (GOOD + b"x", 6)]
)
def test_a_process_given_bad_input(stdin: bytes, code: int) -> None:
    """There is no other exit status than 0 and 1, and never an empty stdout with 1."""
    done = process("loopback", stdin, **environment("DEL"))
    assert done.returncode == 1
    assert json.loads(done.stdout)["code"] == code
    assert not done.stdout.endswith(b"\n")
    assert done.stderr == b""


def test_a_process_asked_for_its_version() -> None:
    """Without any other variable, and with stdin closed."""
    done = subprocess.run(
        [sys.executable, "-m", "loopback"],
        stdin=subprocess.DEVNULL,
        env={"CNI_COMMAND": "VERSION"},
        capture_output=True,
        cwd=ROOT,
        timeout=30,
        check=True,
    )
    assert json.loads(done.stdout)["cniVersion"] == "1.1.0"
    assert done.stderr == b""


def test_a_process_run_by_hand() -> None:
    """It introduces itself on stderr."""
    done = process("loopback", b"")
    assert (done.returncode, done.stdout) == (0, b"")
    assert done.stderr.startswith(b"CNI loopback plugin v")
    assert done.stderr.count(b"\n") == 2


def test_a_process_whose_reader_has_gone() -> None:
    """It ends quietly."""
    with subprocess.Popen(
        [sys.executable, "-m", "loopback"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment("DEL"),
        cwd=ROOT,
    ) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        running.stdin.close()
        assert running.stderr.read() == b""
        assert running.wait(timeout=30) == 1
