"""From a request to a reply: the checks before a verb, in their order, and the answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NoReturn

import pytest

from cni_plugins import catalog
from cni_plugins.errors import AlreadyAttached, CniError, DelegateError
from cni_plugins.frozen import replace
from cni_plugins.protocol import spec
from cni_plugins.protocol.addresses import parse_network
from cni_plugins.protocol.result import DNS, IP, Interface, Result
from cni_plugins.protocol.versions import decode_prev_result
from tests.kit.requests import Recorder, config, environment, error_of

if TYPE_CHECKING:
    from cni_plugins.context import Context

OWN_NETNS = "/proc/self/ns/net"
statement = pytest.mark.statement


def unread() -> NoReturn:
    """A stdin that nobody may touch."""
    raise AssertionError("stdin was read")


def broken() -> NoReturn:
    """A stdin that cannot be read."""
    raise OSError(5, "Input/output error")


# --- what a verb is given -----------------------------------------------------------------------


def given(ctx: Context) -> tuple[str, ...]:
    """The facts of a call as its function sees them."""
    return (ctx.container_id, ctx.netns_path, ctx.ifname, ctx.cni_args, ctx.call.path)


@statement("SK01", "NP06")
def test_add_is_given_everything_once() -> None:
    """ADD's function sees the variables and the raw bytes of stdin."""
    recorder = Recorder(versions=spec.ALL)
    stdin = config("1.1.0")
    reply = recorder.run(environment("ADD"), stdin)
    assert (reply.exit_code, reply.stderr) == (0, b"")
    assert recorder.commands == ["ADD"]
    ctx = recorder.calls[0][1]
    assert given(ctx) == (
        "some-container-id",
        "/some/netns/path",
        "eth0",
        "some;extra;args",
        "/some/cni/path",
    )
    assert ctx.stdin == stdin


@statement("SK19")
def test_check_is_given_everything_once() -> None:
    """CHECK's function sees the same facts, and no other function is called."""
    recorder = Recorder()
    stdin = config()
    reply = recorder.run(environment("CHECK"), stdin)
    assert (reply.exit_code, reply.stdout) == (0, b"")
    assert recorder.commands == ["CHECK"]
    ctx = recorder.calls[0][1]
    assert given(ctx)[:3] == ("some-container-id", "/some/netns/path", "eth0")
    assert ctx.stdin == stdin


@statement("SK45")
def test_del_is_given_args_and_stdin_once() -> None:
    """DEL's function sees CNI_ARGS and stdin, and ADD's is not called."""
    recorder = Recorder()
    stdin = config()
    reply = recorder.run(environment("DEL"), stdin)
    assert (reply.exit_code, reply.stdout) == (0, b"")
    assert recorder.commands == ["DEL"]
    ctx = recorder.calls[0][1]
    assert (ctx.cni_args, ctx.stdin) == ("some;extra;args", stdin)


NODE_WIDE = {
    "CNI_CONTAINERID": None,
    "CNI_NETNS": None,
    "CNI_IFNAME": None,
    "CNI_ARGS": None,
}


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("GC", marks=statement("SK32")),
        pytest.param("STATUS", marks=statement("SK67")),
    ],
)
def test_node_wide_verbs_are_given_path_and_stdin(command: str) -> None:
    """GC and STATUS know no attachment."""
    recorder = Recorder()
    stdin = config()
    reply = recorder.run(environment(command, **NODE_WIDE), stdin)
    assert (reply.exit_code, reply.stdout) == (0, b"")
    assert recorder.commands == [command]
    ctx = recorder.calls[0][1]
    assert given(ctx) == ("", "", "", "", "/some/cni/path")
    assert ctx.stdin == stdin


@pytest.mark.parametrize(
    ("version", "key"),
    [
        (version, key)
        for version in ("0.4.0", "1.1.0")
        for key in ("prevResult", "runtimeConfig", "capabilities", "unheardOf")
    ],
)
def test_keys_of_the_runtime_reach_the_plugin(version: str, key: str) -> None:
    """Nothing is stripped from the configuration, known or not."""
    recorder = Recorder(versions=spec.ALL)
    recorder.run(environment("DEL"), config(version, **{key: {}}))
    assert recorder.calls[0][1].document[key] == {}


# --- the environment ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ifname", "msg", "details"),
    [
        pytest.param(
            "1234567890123456",
            "interface name is too long",
            "interface name should be less than 16 characters",
            marks=statement("SK03"),
        ),
        pytest.param(".", "interface name is . or ..", None, marks=statement("SK04")),
        pytest.param("..", "interface name is . or ..", None, marks=statement("SK05")),
        pytest.param(
            "test/test",
            "interface name contains / or : or whitespace characters",
            None,
            marks=statement("SK06"),
        ),
        pytest.param(
            "test:test",
            "interface name contains / or : or whitespace characters",
            None,
            marks=statement("SK07"),
        ),
        pytest.param(
            "test test",
            "interface name contains / or : or whitespace characters",
            None,
            marks=statement("SK08"),
        ),
    ],
)
def test_add_refuses_an_ifname_the_kernel_would_not_take(
    ifname: str, msg: str, details: str | None
) -> None:
    """Code 4, and the plugin is not called."""
    recorder = Recorder(versions=spec.ALL)
    reply = recorder.run(environment("ADD", CNI_IFNAME=ifname), config("1.1.0"))
    expected = {"code": 4, "msg": msg} | ({"details": details} if details else {})
    assert error_of(reply) == expected
    assert recorder.commands == []


@statement("SK02")
def test_add_refuses_foreign_characters_in_the_container_id() -> None:
    """Code 4, with the id in the details."""
    reply = Recorder().run(environment("ADD", CNI_CONTAINERID="some-%%container-id"), config())
    assert error_of(reply) == {
        "code": 4,
        "msg": "invalid characters in containerID",
        "details": "some-%%container-id",
    }


REQUIRED = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"),
    "GC": ("CNI_PATH",),
    "STATUS": ("CNI_PATH",),
    "VERSION": (),
}
VARIABLES = (
    "CNI_COMMAND",
    "CNI_CONTAINERID",
    "CNI_NETNS",
    "CNI_IFNAME",
    "CNI_ARGS",
    "CNI_PATH",
)


@statement("SK09", "SK10", "SK11", "SK12", "SK13", "SK14")
@statement("SK20", "SK21", "SK22", "SK23", "SK24", "SK25")
@statement("SK33", "SK34", "SK35", "SK36", "SK37", "SK38", "SK39")
@statement("SK46", "SK47", "SK48", "SK49", "SK50", "SK51")
@statement("SK53", "SK54", "SK55", "SK56", "SK57", "SK58")
@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize("command", REQUIRED)
@pytest.mark.parametrize("is_empty", [False, True], ids=["unset", "empty"])
def test_each_variable_left_out(command: str, variable: str, *, is_empty: bool) -> None:
    """What a verb needs is named; what it does not need may be missing."""
    recorder = Recorder(versions=spec.ALL)
    env = environment(command, **{variable: "" if is_empty else None})
    reply = recorder.run(env, config("1.1.0"))
    if variable == "CNI_COMMAND" or variable in REQUIRED[command]:
        assert error_of(reply) == {"code": 4, "msg": f"required env variables [{variable}] missing"}
        assert recorder.commands == []
    else:
        assert reply.exit_code == 0
        assert recorder.commands == ([] if command == "VERSION" else [command])


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("ADD", marks=statement("SK15")),
        pytest.param("CHECK", marks=statement("SK26")),
    ],
)
def test_all_missing_variables_are_named_in_one_message(command: str) -> None:
    """In the order of the spec."""
    env = environment(command, CNI_NETNS=None, CNI_IFNAME=None, CNI_PATH=None)
    assert error_of(Recorder().run(env, config())) == {
        "code": 4,
        "msg": "required env variables [CNI_NETNS,CNI_IFNAME,CNI_PATH] missing",
    }


@statement("SK68")
def test_an_invalid_variable_hides_the_missing_ones() -> None:
    """The first thing that is wrong is told."""
    env = environment("ADD", CNI_CONTAINERID="a b", CNI_NETNS=None)
    assert error_of(Recorder().run(env, config())) == {
        "code": 4,
        "msg": "invalid characters in containerID",
        "details": "a b",
    }


def test_gc_does_not_look_at_variables_it_does_not_need() -> None:
    """Rubbish in CNI_CONTAINERID and CNI_IFNAME is no reason to fail."""
    env = environment("GC", CNI_CONTAINERID="%%", CNI_IFNAME="a/b")
    assert Recorder().run(env, config()).exit_code == 0


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("NOPE", marks=statement("SK60")),
        pytest.param("add", marks=statement("SK69")),
        "..",
        "version",
    ],
)
def test_unknown_verb(command: str) -> None:
    """Code 4; verbs are told apart by exact upper-case words."""
    recorder = Recorder()
    reply = recorder.run(environment(command), config())
    assert error_of(reply) == {"code": 4, "msg": f"unknown CNI_COMMAND: {command}"}
    assert recorder.commands == []


@statement("SK70")
def test_bad_stdin_is_told_before_an_unknown_verb() -> None:
    """The configuration is looked at before the verb."""
    error = error_of(Recorder().run(environment("NOPE"), b""))
    assert error == {
        "code": 6,
        "msg": "error unmarshall network config: unexpected end of JSON input",
    }


# --- stdin and the versions ---------------------------------------------------------------------


@statement("SK64")
def test_unreadable_stdin() -> None:
    """Code 5 with the reason; the plugin is not called."""
    recorder = Recorder()
    error = error_of(recorder.run(environment("ADD"), broken))
    assert error == {"code": 5, "msg": "error reading from stdin: Input/output error"}
    assert recorder.commands == []


@pytest.mark.parametrize(
    ("stdin", "msg"),
    [
        pytest.param(b"null", "missing network name", marks=statement("SK71")),
        pytest.param(b"{}", "missing network name"),
        pytest.param(b'{"name": null}', "missing network name"),
        pytest.param(b'{"name": ""}', "missing network name"),
    ],
)
def test_configuration_without_a_name(stdin: bytes, msg: str) -> None:
    """Code 7, whatever the verb."""
    for command in ("ADD", "DEL", "CHECK", "GC", "STATUS", "NOPE"):
        assert error_of(Recorder().run(environment(command), stdin)) == {"code": 7, "msg": msg}


@statement("SK76")
@pytest.mark.parametrize("stdin", [b'{"NAME": "ab"}', b'{"name": "%", "NAME": "ab"}'])
def test_the_name_key_matches_in_any_case_and_the_last_counts(stdin: bytes) -> None:
    """As Go's decoder reads it."""
    recorder = Recorder(versions=spec.ALL)
    assert recorder.run(environment("DEL"), stdin).exit_code == 0
    assert recorder.calls[0][1].network == "ab"


@statement("SK16", "VE02")
@pytest.mark.parametrize("stdin", [config(None), config(""), b'{"name":"a","cniVersion":null}'])
def test_configuration_without_a_version_is_0_1_0(stdin: bytes) -> None:
    """The function runs when the plugin supports 0.1.0, with stdin as it was."""
    recorder = Recorder(
        versions=("0.1.0",),
        answer=lambda _ctx: Result(ips=(IP(address=parse_network("10.0.0.2/24")),)),
    )
    reply = recorder.run(environment("ADD"), stdin)
    assert json.loads(reply.stdout)["cniVersion"] == "0.1.0"
    assert recorder.calls[0][1].stdin == stdin


@statement("SK17", "SK18")
@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_configuration_without_a_version_and_a_plugin_without_0_1_0(command: str) -> None:
    """Code 1 with both sides in the details; nothing is called."""
    recorder = Recorder(versions=("4.3.2",))
    assert error_of(recorder.run(environment(command), config(None))) == {
        "code": 1,
        "msg": "incompatible CNI versions",
        "details": 'config is "0.1.0", plugin supports ["4.3.2"]',
    }
    assert recorder.commands == []


@statement("VE01", "VE15")
def test_a_supported_version_passes() -> None:
    """The version of the configuration is the call's."""
    recorder = Recorder(versions=("1.2.3", "4.3.2"))
    assert recorder.run(environment("DEL"), config("4.3.2")).exit_code == 0
    assert recorder.calls[0][1].cni_version == "4.3.2"


@statement("VE16")
def test_all_supported_versions_are_listed() -> None:
    """Each in quotes, separated by blanks."""
    recorder = Recorder(versions=("1.2.3", "4.3.2"))
    error = error_of(recorder.run(environment("DEL"), config("0.1.0")))
    assert error["details"] == 'config is "0.1.0", plugin supports ["1.2.3" "4.3.2"]'


OLD = ("0.1.0", "0.2.0", "0.3.0")


@pytest.mark.parametrize(
    ("command", "version", "versions", "code", "msg"),
    [
        pytest.param(
            "CHECK",
            "0.3.0",
            spec.ALL,
            1,
            "config version does not allow CHECK",
            marks=statement("SK27"),
        ),
        pytest.param(
            "CHECK",
            "0.4.0",
            OLD,
            1,
            "plugin version does not allow CHECK",
            marks=statement("SK28"),
        ),
        pytest.param("CHECK", "1.2.0", spec.ALL, 1, "plugin version does not allow CHECK"),
        pytest.param(
            "CHECK", "adsfsadf", spec.ALL, 6, "invalid version 'adsfsadf'", marks=statement("SK29")
        ),
        pytest.param(
            "CHECK",
            "0.4.0",
            ("0.1.0", "0.2.0", "bogus"),
            6,
            "invalid version 'bogus'",
            marks=statement("SK31"),
        ),
        pytest.param(
            "GC",
            "0.3.0",
            spec.ALL,
            1,
            "config version does not allow GC",
            marks=statement("SK40"),
        ),
        pytest.param("GC", None, spec.ALL, 1, "config version does not allow GC"),
        pytest.param(
            "GC", "1.1.0", OLD, 1, "plugin version does not allow GC", marks=statement("SK41")
        ),
        pytest.param(
            "GC", "adsfsadf", spec.ALL, 6, "invalid version 'adsfsadf'", marks=statement("SK42")
        ),
        pytest.param(
            "GC",
            "1.1.0",
            ("0.1.0", "bogus"),
            6,
            "invalid version 'bogus'",
            marks=statement("SK44"),
        ),
        pytest.param(
            "STATUS",
            "1.0.0",
            spec.ALL,
            1,
            "config version does not allow STATUS",
            marks=statement("SK67"),
        ),
        pytest.param("STATUS", "1.1.0", OLD, 1, "plugin version does not allow STATUS"),
        pytest.param("STATUS", "x", spec.ALL, 6, "invalid version 'x'"),
        pytest.param("STATUS", "1.1.0", ("x",), 6, "invalid version 'x'"),
        pytest.param("CHECK", "1.0.5", spec.ALL, 1, "incompatible CNI versions"),
        pytest.param("ADD", "x", spec.ALL, 1, "incompatible CNI versions"),
        pytest.param("DEL", "1.0", spec.ALL, 1, "incompatible CNI versions"),
        pytest.param("ADD", 1, spec.ALL, 6, "decoding version from network config: "),
        pytest.param("CHECK", 1.1, spec.ALL, 6, "decoding version from network config: "),
        pytest.param("GC", ["1.1.0"], spec.ALL, 6, "decoding version from network config: "),
    ],
)
def test_what_the_versions_do_not_allow(
    command: str, version: str | None, versions: tuple[str, ...], code: int, msg: str
) -> None:
    """The verb's function is not called."""
    recorder = Recorder(versions=versions)
    error = error_of(recorder.run(environment(command), config(version)))
    assert error["code"] == code
    assert error["msg"].startswith(msg)
    assert recorder.commands == []


@pytest.mark.parametrize(
    ("command", "version"),
    [
        pytest.param("CHECK", "0.4.0", marks=statement("SK30")),
        pytest.param("GC", "0.4.0", marks=statement("SK43")),
        ("STATUS", "0.4.0"),
        ("ADD", "x"),
        ("DEL", "x"),
    ],
)
def test_a_bad_name_is_told_before_a_bad_version(command: str, version: str) -> None:
    """Code 7 with the name in the details."""
    error = error_of(Recorder().run(environment(command), config(version, name="te%%st")))
    assert error == {
        "code": 7,
        "msg": "invalid characters found in network name",
        "details": "te%%st",
    }


@statement("VE03")
def test_malformed_json_is_told_as_such_before_any_version() -> None:
    """One message for JSON that cannot be read, whatever was to be read from it."""
    for command in ("ADD", "CHECK", "GC"):
        error = error_of(Recorder().run(environment(command), b'{"cniVersion": z}'))
        assert error["code"] == 6
        assert error["msg"].startswith("error unmarshall network config: ")


# --- VERSION and people -------------------------------------------------------------------------


@statement("SK52", "NP11")
def test_version_names_the_library_s_version_and_the_plugin_s_list() -> None:
    """One compact line."""
    recorder = Recorder()
    reply = recorder.run(environment("VERSION"), unread)
    assert reply.stdout == b'{"cniVersion":"1.1.0","supportedVersions":["9.8.7","10.0.0"]}\n'
    assert (reply.stderr, reply.exit_code, recorder.commands) == (b"", 0, [])


@statement("SK59")
@pytest.mark.parametrize("stdin", [unread, broken])
def test_version_does_not_touch_stdin(stdin: object) -> None:
    """A runtime may leave it closed."""
    assert callable(stdin)
    assert Recorder().run({"CNI_COMMAND": "VERSION"}, stdin).exit_code == 0


@statement("SK61")
@pytest.mark.parametrize("env", [environment(""), environment("ADD", CNI_COMMAND=None)])
def test_without_a_verb_the_plugin_introduces_itself(env: dict[str, str]) -> None:
    """On stderr, and that is no error."""
    recorder = Recorder(about="AWESOME PLUGIN")
    reply = recorder.run(env, unread)
    assert (reply.exit_code, reply.stdout) == (0, b"")
    assert reply.stderr.startswith(b"AWESOME PLUGIN\n")
    assert recorder.commands == []


@statement("SK62")
def test_run_by_hand() -> None:
    """Exactly two lines."""
    reply = Recorder(about="AWESOME PLUGIN").run({}, unread)
    assert reply.stderr == (b"AWESOME PLUGIN\nCNI protocol versions supported: 9.8.7, 10.0.0\n")


@statement("SK63")
def test_without_a_verb_and_without_an_introduction() -> None:
    """Only the verb is missing as far as anybody can tell."""
    error = error_of(Recorder().run({}, unread))
    assert error == {"code": 4, "msg": "required env variables [CNI_COMMAND] missing"}


@pytest.mark.parametrize("plugin_type", catalog.PLUGINS)
def test_the_plugins_introduce_themselves_as_the_reference_does(plugin_type: str) -> None:
    """nerdctl reads a version behind this prefix."""
    plugin = catalog.find(plugin_type)
    assert plugin is not None
    prefix, _, version = plugin.about.rpartition(" v")
    assert prefix == f"CNI {plugin_type} plugin"
    assert all(part.isdigit() for part in version.split("."))


# --- the answers --------------------------------------------------------------------------------


def answering(error: Exception) -> Recorder:
    """A plugin whose verbs all end in ``error``."""

    def fail(_ctx: Context) -> NoReturn:
        raise error

    return Recorder(versions=spec.ALL, answer=fail)


@statement("SK65")
@pytest.mark.parametrize("command", ["ADD", "CHECK", "DEL", "STATUS"])
def test_a_structured_error_is_printed_as_it_is(command: str) -> None:
    """Code, message and details."""
    reply = answering(CniError(1234, "insufficient keyword", 'for <this> & "that"')).run(
        environment(command), config("1.1.0")
    )
    assert error_of(reply) == {
        "code": 1234,
        "msg": "insufficient keyword",
        "details": 'for <this> & "that"',
    }
    assert reply.stderr == b""


@statement("SK66", "NP09")
def test_an_unexpected_error_is_999_with_its_class() -> None:
    """The traceback goes to stderr, where it breaks nothing."""
    reply = answering(RuntimeError("potato")).run(environment("ADD"), config("1.1.0"))
    assert error_of(reply) == {
        "code": 999,
        "msg": "RuntimeError: potato",
        "details": "a bug; its traceback is on stderr",
    }
    assert b"Traceback" in reply.stderr


@statement("SK75")
def test_a_wrapped_error_keeps_its_code_and_details() -> None:
    """Wrapping says whose error it is, and loses nothing."""
    inner = CniError(11, "try again", "the lease is locked")
    reply = answering(DelegateError("host-local", inner)).run(environment("ADD"), config("1.1.0"))
    assert error_of(reply) == {
        "code": 11,
        "msg": "host-local: try again",
        "details": "the lease is locked",
    }


@pytest.mark.parametrize("error", [RecursionError("deep"), MemoryError(), AlreadyAttached("two")])
def test_whatever_happens_stdout_has_one_error_object(error: Exception) -> None:
    """Never a traceback."""
    reply = answering(error).run(environment("ADD"), config("1.1.0"))
    assert error_of(reply)["code"] == 999


@statement("SK74")
@pytest.mark.parametrize("command", ["DEL", "CHECK", "GC", "STATUS"])
def test_a_verb_with_nothing_to_do_is_a_silent_success(command: str) -> None:
    """Nothing on either stream."""
    reply = Recorder(versions=spec.ALL).run(environment(command), config("1.1.0"))
    assert (reply.exit_code, reply.stdout, reply.stderr) == (0, b"", b"")


def test_the_result_is_printed_in_the_configuration_s_version() -> None:
    """Indented by four, without a newline behind it."""
    recorder = Recorder(
        versions=spec.ALL,
        answer=lambda _ctx: Result(
            interfaces=(Interface(name="eth0", sandbox="/n"),),
            ips=(IP(address=parse_network("10.0.0.2/24"), interface=0),),
        ),
    )
    reply = recorder.run(environment("ADD"), config("0.4.0"))
    assert reply.stdout.startswith(b'{\n    "cniVersion": "0.4.0"')
    assert reply.stdout.endswith(b"}")
    assert json.loads(reply.stdout) == {
        "cniVersion": "0.4.0",
        "interfaces": [{"name": "eth0", "sandbox": "/n"}],
        "ips": [{"version": "4", "interface": 0, "address": "10.0.0.2/24"}],
        "dns": {},
    }


def passing_on(ctx: Context) -> Result:
    """A chained plugin that changes nothing."""
    return decode_prev_result(ctx.document["prevResult"], ctx.cni_version)


@pytest.mark.parametrize(
    "version",
    [
        pytest.param("0.3.1", marks=statement("NP03")),
        pytest.param("0.4.0", marks=statement("NP04")),
    ],
)
def test_a_chained_plugin_passes_the_result_on(version: str) -> None:
    """Read and written again it is the same, with its empty dns."""
    prev_result = {
        "cniVersion": version,
        "interfaces": [{"name": "eth0", "sandbox": "/n"}],
        "ips": [{"version": "4", "address": "10.1.2.3/24", "interface": 0}],
        "dns": {},
    }
    reply = Recorder(versions=spec.ALL, answer=passing_on).run(
        environment("ADD"), config(version, prevResult=prev_result)
    )
    assert json.loads(reply.stdout) == prev_result


@statement("NP05")
def test_a_chained_plugin_changes_the_result() -> None:
    """One thing, and the rest stays."""

    def answer(ctx: Context) -> Result:
        return replace(passing_on(ctx), dns=DNS(nameservers=("1.2.3.4",)))

    ips = [{"version": "4", "address": "10.1.2.3/24"}]
    reply = Recorder(versions=spec.ALL, answer=answer).run(
        environment("ADD"),
        config("0.4.0", prevResult={"cniVersion": "0.3.1", "ips": ips, "dns": {}}),
    )
    assert json.loads(reply.stdout) == {
        "cniVersion": "0.4.0",
        "ips": ips,
        "dns": {"nameservers": ["1.2.3.4"]},
    }


@statement("NP01", "NP10")
@pytest.mark.parametrize(("command", "prints"), [("ADD", True), ("DEL", False)])
def test_only_add_prints_on_success(command: str, *, prints: bool) -> None:
    """Whatever a verb's function returns."""
    reply = Recorder(versions=spec.ALL, answer=lambda _ctx: Result()).run(
        environment(command), config("1.1.0")
    )
    assert reply.exit_code == 0
    assert bool(reply.stdout) is prints


def test_a_result_that_cannot_be_printed_rolls_back() -> None:
    """0.2.0 has no form for a result without addresses."""
    undone: list[str] = []
    recorder = Recorder(
        versions=spec.ALL, answer=lambda ctx: ctx.undo.push("port", undone.append, "port")
    )
    error = error_of(recorder.run(environment("ADD"), config("0.2.0")))
    assert error == {"code": 999, "msg": "cannot convert: no valid IP addresses"}
    assert undone == ["port"]


def test_rollback_trouble_ends_in_the_details() -> None:
    """Behind the original error, which it does not replace."""

    def inverse() -> NoReturn:
        raise CniError(999, "remove link veth1: device busy")

    def answer(ctx: Context) -> NoReturn:
        ctx.undo.push("port", inverse)
        raise CniError(7, "bridge: too long", "at most 15 bytes")

    error = error_of(
        Recorder(versions=spec.ALL, answer=answer).run(environment("ADD"), config("1.1.0"))
    )
    assert error == {
        "code": 7,
        "msg": "bridge: too long",
        "details": "at most 15 bytes\nrollback of port: remove link veth1: device busy",
    }


def test_warnings_are_lines_on_stderr() -> None:
    """And change neither the answer nor the exit status."""

    def warn(ctx: Context) -> None:
        ctx.warn("went on without a lock\n")

    reply = Recorder(versions=spec.ALL, answer=warn).run(environment("DEL"), config("1.1.0"))
    assert (reply.exit_code, reply.stdout) == (0, b"")
    assert reply.stderr == b"went on without a lock\n"


def test_markup_is_escaped_as_go_does() -> None:
    """Angle brackets and ampersands, inside an error object."""
    reply = answering(CniError(7, "<&>")).run(environment("ADD"), config("1.1.0"))
    assert b"\\u003c\\u0026\\u003e" in reply.stdout
    assert error_of(reply)["msg"] == "<&>"


# --- the namespace of the plugin itself ---------------------------------------------------------


@statement("SK72")
@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_add_and_del_refuse_the_plugin_s_own_namespace(command: str) -> None:
    """Code 8 before anything is done, and nothing but that on stdout."""
    recorder = Recorder(versions=spec.ALL)
    reply = recorder.run(environment(command, CNI_NETNS=OWN_NETNS), config("1.1.0"))
    assert error_of(reply) == {
        "code": 8,
        "msg": "plugin's netns and netns from CNI_NETNS should not be the same",
    }
    assert recorder.commands == []


@statement("SK72")
def test_check_may_stand_in_the_container_s_namespace() -> None:
    """Only ADD and DEL could do harm."""
    recorder = Recorder(versions=spec.ALL)
    reply = recorder.run(environment("CHECK", CNI_NETNS=OWN_NETNS), config("1.1.0"))
    assert (reply.exit_code, recorder.commands) == (0, ["CHECK"])


@statement("SK73")
@pytest.mark.parametrize(
    ("override", "is_let_through"),
    [("1", True), ("true", True), ("TRUE", True), ("True", True), ("yes", False), ("0", False)],
)
def test_the_override_lets_the_own_namespace_through(
    override: str, *, is_let_through: bool
) -> None:
    """For plugins that are meant for the host."""
    env = environment("ADD", CNI_NETNS=OWN_NETNS, CNI_NETNS_OVERRIDE=override)
    recorder = Recorder(versions=spec.ALL)
    assert (recorder.run(env, config("1.1.0")).exit_code == 0) is is_let_through
    assert recorder.commands == (["ADD"] if is_let_through else [])
