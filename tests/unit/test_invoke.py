"""Finding plugins, running them, and delegating to them."""

from __future__ import annotations

import json
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from cni_plugins import build_info, invoke
from cni_plugins.deadline import Deadline
from cni_plugins.delegate import MARK
from cni_plugins.errors import CniError, DelegateError
from cni_plugins.host.command import Runner
from cni_plugins.protocol import spec
from cni_plugins.protocol.addresses import parse_network
from tests.kit.requests import Recorder, config, environment, error_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cni_plugins.context import Context

statement = pytest.mark.statement
RESULT = '{"cniVersion":"0.3.1","ips":[{"version":"4","address":"10.1.2.3/24"}],"dns":{}}'


class Fake:
    """An executable that writes down how it was called, and answers what it was told."""

    def __init__(self, directory: Path, name: str = "fake") -> None:
        self.directory = directory
        self.path = str(directory / name)
        self.answers(stdout=RESULT)

    def answers(self, *, stdout: str = "", stderr: str = "", status: int = 0) -> None:
        """What it does from now on."""
        (self.directory / "stdout").write_text(stdout)
        (self.directory / "stderr").write_text(stderr)
        script = (
            "#!/bin/sh\n"
            f"cd {self.directory}\n"
            'echo "$CNI_COMMAND" >> commands\n'
            "env > env\n"
            "cat > stdin\n"
            "cat stdout\n"
            "cat stderr >&2\n"
            f"exit {status}\n"
        )
        with open(self.path, "w", encoding="utf-8") as file:
            file.write(script)
        os.chmod(self.path, 0o755)

    @property
    def commands(self) -> list[str]:
        """The verbs it was called with."""
        file = self.directory / "commands"
        return file.read_text().split() if file.exists() else []

    @property
    def env(self) -> dict[str, str]:
        """The environment of its last call."""
        lines = (self.directory / "env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)

    @property
    def stdin(self) -> bytes:
        """What it read at its last call."""
        return (self.directory / "stdin").read_bytes()


@pytest.fixture
def fake(tmp_path: Path) -> Fake:
    """A plugin that succeeds."""
    return Fake(tmp_path)


ENV = {"CNI_COMMAND": "ADD", "CNI_IFNAME": "eth7", "PATH": "/usr/bin:/bin"}


def run(path: str, stdin: bytes = b"{}", env: dict[str, str] | None = None) -> Any:
    """One execution."""
    runner = Runner(ENV, Deadline.after(10))
    return invoke.invoke(runner, path, stdin, ENV if env is None else env)


# --- finding ------------------------------------------------------------------------------------


@statement("IN33")
def test_the_first_directory_with_a_file_of_that_name_wins(tmp_path: Path) -> None:
    """Its full path is found; a directory of that name is passed over, a link is followed."""
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "plug").mkdir()
    (tmp_path / "real").write_text("")
    (tmp_path / "b" / "plug").symlink_to(tmp_path / "real")
    (tmp_path / "c" / "plug").write_text("")
    path = f"{tmp_path}/none:{tmp_path}/a:{tmp_path}/b:{tmp_path}/c"
    assert invoke.find_plugin("plug", path) == f"{tmp_path}/b/plug"


@statement("IN34")
def test_a_name_is_taken_as_it_is(tmp_path: Path) -> None:
    """No extension is tried."""
    (tmp_path / "plug.exe").write_text("")
    with pytest.raises(CniError, match="failed to find plugin"):
        invoke.find_plugin("plug", str(tmp_path))


@pytest.mark.parametrize(
    ("name", "path", "msg"),
    [
        pytest.param("plug", "", "no paths provided", marks=statement("IN35")),
        pytest.param("", "/bin", "no plugin name provided", marks=statement("IN36")),
        pytest.param(
            "plug", "/x:/y", 'failed to find plugin "plug" in path [/x /y]', marks=statement("IN37")
        ),
        pytest.param(
            "../pluginname", "/x", "invalid plugin name: ../pluginname", marks=statement("IN38")
        ),
        ("..", "/x", "invalid plugin name: .."),
        ("a\0b", "/x", "invalid plugin name: a\0b"),
    ],
)
def test_plugins_that_are_not_found(name: str, path: str, msg: str) -> None:
    """With the texts that runtimes know."""
    with pytest.raises(CniError) as caught:
        invoke.find_plugin(name, path)
    assert caught.value.msg == msg


# --- running ------------------------------------------------------------------------------------


@statement("IN18", "IN24", "IN39", "IN40")
def test_stdin_environment_and_stdout_are_passed_as_they_are(fake: Fake) -> None:
    """Byte for byte, nothing added to the environment but what a shell adds."""
    fake.answers(stdout=" some\nbytes\n\n")
    stdin = b' {"a":1}\n' * 20_000
    done = run(fake.path, stdin, {"ONE": "1", "CNI_COMMAND": "DEL"})
    assert done.stdout == b" some\nbytes\n\n"
    assert fake.stdin == stdin
    assert {k: v for k, v in fake.env.items() if k not in {"PWD", "OLDPWD", "SHLVL", "_"}} == {
        "ONE": "1",
        "CNI_COMMAND": "DEL",
    }


@statement("IN04", "IN47")
def test_the_caller_s_environment_is_inherited(fake: Fake) -> None:
    """A tracing context is in it or it is not; none is made."""
    env = {**ENV, "TRACEPARENT": "00-aa-bb-01"}
    Runner(env, Deadline.after(10)).execute([fake.path])
    assert fake.env["TRACEPARENT"] == "00-aa-bb-01"
    Runner(ENV, Deadline.after(10)).execute([fake.path])
    assert not {"TRACEPARENT", "TRACESTATE", "BAGGAGE"} & set(fake.env)


@pytest.mark.parametrize(
    ("stdout", "stderr", "status", "text"),
    [
        pytest.param(
            '{"code":11,"msg":"banana"}', "some stderr", 1, "banana", marks=statement("IN42")
        ),
        ('{"code":11,"msg":"try","details":"later"}', "", 1, "try; later"),
        pytest.param(
            "",
            "some stderr message",
            1,
            'netplugin failed: "some stderr message": exit status 1',
            marks=statement("IN43"),
        ),
        ("", "oops line\n", 1, 'netplugin failed: "oops line\\n": exit status 1'),
        pytest.param(
            "",
            "",
            1,
            "netplugin failed with no error message: exit status 1",
            marks=statement("IN44"),
        ),
        ('{"foo":1}', "", 1, ""),
        ("{}", "", 3, ""),
    ],
)
def test_plugins_that_fail(fake: Fake, stdout: str, stderr: str, status: int, text: str) -> None:
    """What they say, else how they ended."""
    fake.answers(stdout=stdout, stderr=stderr, status=status)
    with pytest.raises(CniError) as caught:
        run(fake.path)
    assert str(caught.value) == text


@pytest.mark.parametrize("stdout", ["not json", "[]", '{"code":"7"}', '{"code":-1}', "5"])
def test_plugins_that_fail_with_something_else_on_stdout(fake: Fake, stdout: str) -> None:
    """It is quoted."""
    fake.answers(stdout=stdout, status=1)
    with pytest.raises(CniError) as caught:
        run(fake.path)
    assert caught.value.msg.startswith(
        f"netplugin failed but error parsing its diagnostic message {json.dumps(stdout)}: "
    )


def test_a_plugin_that_is_killed(fake: Fake) -> None:
    """By the signal's name."""
    with open(fake.path, "w", encoding="utf-8") as file:
        file.write("#!/bin/sh\nkill -9 $$\n")
    with pytest.raises(CniError) as caught:
        run(fake.path)
    assert caught.value.msg == "netplugin failed with no error message: signal: killed"


@statement("IN20", "IN26")
def test_a_path_that_does_not_exist() -> None:
    """Is an error that names it."""
    with pytest.raises(CniError, match="/nonexistent/plug"):
        run("/nonexistent/plug")


@statement("IN45")
def test_a_file_that_cannot_be_executed(tmp_path: Path) -> None:
    """Is an error that names its path."""
    (tmp_path / "plug").write_text("")
    with pytest.raises(CniError) as caught:
        run(f"{tmp_path}/plug")
    assert caught.value.msg == (
        f"netplugin failed with no error message: fork/exec {tmp_path}/plug: permission denied"
    )


@statement("IN46")
def test_an_executable_that_is_being_written_is_tried_again(fake: Fake) -> None:
    """Until its writer has closed it."""
    writer = os.open(fake.path, os.O_WRONLY)
    threading.Timer(0.06, os.close, (writer,)).start()
    assert run(fake.path).stdout == RESULT.encode()


@statement("IN46")
def test_an_executable_that_stays_open_for_writing(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Is reported in the end, not taken for a success."""
    monkeypatch.setattr(invoke, "_BUSY_LIMIT_S", 0.05)
    writer = os.open(fake.path, os.O_WRONLY)
    try:
        with pytest.raises(CniError, match="text file busy"):
            run(fake.path)
    finally:
        os.close(writer)


def test_a_plugin_that_hangs_ends_at_the_deadline(fake: Fake) -> None:
    """It is killed, and what it started with it."""
    with open(fake.path, "w", encoding="utf-8") as file:
        file.write("#!/bin/sh\nsleep 60 & sleep 60\n")
    begin = time.monotonic()
    runner = Runner(ENV, Deadline(begin + 0.2))
    with pytest.raises(CniError, match="netplugin failed with no error message: .* took too long"):
        invoke.invoke(runner, fake.path, b"", ENV)
    assert time.monotonic() - begin < 5


def test_what_a_plugin_leaves_running_holds_nobody_up(fake: Fake) -> None:
    """Although it inherited the plugin's stdout."""
    with open(fake.path, "w", encoding="utf-8") as file:
        file.write("#!/bin/sh\nsleep 3 &\necho '{}'\n")
    begin = time.monotonic()
    assert run(fake.path).stdout == b"{}\n"
    assert time.monotonic() - begin < 2


# --- what ADD printed ---------------------------------------------------------------------------


@statement("IN17")
def test_an_added_result_is_read_in_its_own_version() -> None:
    """Whatever the configuration's."""
    result = invoke.parse_result(RESULT.encode(), "1.1.0")
    assert result.ips[0].address == parse_network("10.1.2.3/24")


@pytest.mark.parametrize(
    ("stdout", "version", "expected"),
    [
        pytest.param("{}", "0.3.1", "0.3.1", marks=statement("IN21")),
        pytest.param('{"cniVersion":""}', "0.3.1", "0.3.1", marks=statement("IN22")),
        pytest.param("{}", "", "0.1.0", marks=statement("IN23")),
        ("null", "1.1.0", "1.1.0"),
        ('{"cniVersion":5}', "1.1.0", "1.1.0"),
        ('{"cniVersion":"0.4.0"}', "1.1.0", "0.4.0"),
    ],
)
def test_the_version_of_an_added_result(stdout: str, version: str, expected: str) -> None:
    """Its own, else the configuration's, else 0.1.0."""
    assert invoke.added_document(stdout.encode(), version)["cniVersion"] == expected


@pytest.mark.parametrize("stdout", ["", " \n", "[]", "5", "{"])
def test_results_that_are_none(stdout: str) -> None:
    """Code 0, as a runtime says it."""
    with pytest.raises(CniError, match="^failed to unmarshal raw result: "):
        invoke.parse_result(stdout.encode(), "1.1.0")


@pytest.mark.parametrize(
    ("stdout", "msg"),
    [
        ('{"cniVersion":"3.0.0"}', 'unsupported CNI result version "3.0.0"'),
        ('{"ips":[{"address":5}]}', "its result is faulty: ips[0].address: "),
    ],
)
def test_results_that_are_faulty(stdout: str, msg: str) -> None:
    """It is not our configuration that is wrong: code 999."""
    with pytest.raises(CniError) as caught:
        invoke.parse_result(stdout.encode(), "1.1.0")
    assert caught.value.code == 999
    assert caught.value.msg.startswith(msg)


# --- delegating ---------------------------------------------------------------------------------

VERBS: dict[str, Callable[[Context], object]] = {
    "ADD": lambda ctx: ctx.delegate("fake").add(),
    "CHECK": lambda ctx: ctx.delegate("fake").check(),
    "DEL": lambda ctx: ctx.delegate("fake").delete(),
    "STATUS": lambda ctx: ctx.delegate("fake").status(),
    "GC": lambda ctx: ctx.delegate("fake").gc(),
}


def delegating(
    directory: Path | str, delegated: str, own: str | None = None, **keys: Any
) -> tuple[Recorder, Any]:
    """A plugin whose verb ``own`` calls a delegate's verb; its reply."""
    recorder = Recorder(versions=spec.ALL, answer=VERBS[delegated])
    env = environment(own or delegated, CNI_PATH=str(directory), EXTRA="kept")
    return recorder, recorder.run(env, config("1.1.0", **keys))


@statement("IN02", "IN05", "IN08", "IN11", "IN14")
@pytest.mark.parametrize("command", VERBS)
def test_a_delegate_is_found_and_sees_the_call(fake: Fake, command: str) -> None:
    """With the caller's variables and its stdin, byte for byte."""
    recorder, reply = delegating(fake.directory, command)
    assert reply.exit_code == 0, reply
    assert fake.commands == [command]
    assert (fake.env["CNI_IFNAME"], fake.env["EXTRA"]) == ("eth0", "kept")
    assert fake.env["CNI_CONTAINERID"] == "some-container-id"
    assert fake.stdin == recorder.calls[0][1].stdin
    if command == "ADD":
        assert json.loads(reply.stdout)["ips"] == [{"address": "10.1.2.3/24"}]


@statement("IN03", "IN06", "IN09", "IN12", "IN15")
@pytest.mark.parametrize("command", [verb for verb in VERBS if verb != "ADD"])
def test_a_delegate_s_verb_is_not_the_caller_s(fake: Fake, command: str) -> None:
    """The caller's own variables stay as they were."""
    own = "DEL" if command != "DEL" else "CHECK"
    recorder, reply = delegating(fake.directory, command, own)
    assert reply.exit_code == 0, reply
    assert fake.env["CNI_COMMAND"] == command
    assert recorder.calls[0][1].env["CNI_COMMAND"] == own


@statement("IN07", "IN10", "IN13", "IN16")
@pytest.mark.parametrize("command", VERBS)
def test_a_delegate_that_is_not_there(tmp_path: Path, command: str) -> None:
    """The plugin and the directories are named."""
    _, reply = delegating(tmp_path, command)
    error = error_of(reply)
    prefix = "clean up leftovers: " if command == "GC" else ""
    assert error["msg"] == f'{prefix}failed to find plugin "fake" in path [{tmp_path}]'
    assert "details" not in error


@statement("IN19", "IN25")
@pytest.mark.parametrize("command", [verb for verb in VERBS if verb != "GC"])
def test_a_delegate_s_error_keeps_its_code_and_details(fake: Fake, command: str) -> None:
    """Its type stands before its message."""
    fake.answers(stdout='{"code":51,"msg":"no addresses","details":"10.1.2.0/24"}', status=1)
    _, reply = delegating(fake.directory, command)
    error = error_of(reply)
    assert error["code"] == 51
    assert error["msg"] == "fake: no addresses"
    assert error["details"].startswith("10.1.2.0/24")


@statement("IN41")
def test_a_delegate_s_stderr_is_passed_on(fake: Fake) -> None:
    """When it succeeds."""
    fake.answers(stderr="some stderr message\n")
    _, reply = delegating(fake.directory, "DEL")
    assert reply.stderr == b"some stderr message\n"


@statement("BC01")
def test_a_delegate_of_the_time_of_0_1_0(fake: Fake) -> None:
    """No version in the configuration, none in its answer: ip4 with its route and dns."""
    answer = {
        "ip4": {
            "ip": "10.1.2.3/24",
            "gateway": "10.1.2.1",
            "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.2.1"}],
        },
        "dns": {"nameservers": ["1.2.3.4"]},
    }
    fake.answers(stdout=json.dumps(answer))
    for command, printed in (("ADD", {"cniVersion": "0.1.0", **answer}), ("DEL", None)):
        recorder = Recorder(versions=spec.ALL, answer=VERBS[command])
        env = environment(command, CNI_PATH=str(fake.directory))
        reply = recorder.run(env, config(None))
        assert reply.exit_code == 0
        assert (json.loads(reply.stdout) if reply.stdout else None) == printed
    assert fake.commands == ["ADD", "DEL"]


def test_a_delegate_s_failed_add_is_followed_by_its_del(fake: Fake) -> None:
    """It may have got half way."""
    fake.answers(stdout='{"code":7,"msg":"no"}', status=1)
    delegating(fake.directory, "ADD")
    assert fake.commands == ["ADD", "DEL"]


def test_a_delegate_s_add_is_undone_when_the_caller_s_fails(fake: Fake) -> None:
    """Here because 0.2.0 cannot say the result."""
    fake.answers(stdout='{"cniVersion":"0.3.1"}')
    recorder = Recorder(versions=spec.ALL, answer=VERBS["ADD"])
    reply = recorder.run(environment("ADD", CNI_PATH=str(fake.directory)), config("0.2.0"))
    assert error_of(reply)["msg"] == "cannot convert: no valid IP addresses"
    assert fake.commands == ["ADD", "DEL"]


def test_a_delegate_that_refuses_a_second_allocation_gets_no_del(fake: Fake) -> None:
    """It would free a running pod's address."""
    msg = "requested IP address 10.1.2.3 ... duplicate allocation is not allowed"
    fake.answers(stdout=json.dumps({"code": 999, "msg": msg}), status=1)
    delegating(fake.directory, "ADD")
    assert fake.commands == ["ADD"]


def ours(directory: Path, build: str) -> str:
    """A directory with an executable called host-local that bears a build's mark."""
    path = directory / "host-local"
    path.write_bytes(b"#!/bin/sh\nexit 9\n# " + MARK + build.encode() + b"\n")
    path.chmod(0o755)
    return str(directory)


def leasing(directory: str, leases: Path) -> tuple[list[str], Any]:
    """An ADD that takes a lease and fails; the leases while it had it, and the reply."""
    seen: list[str] = []

    def answer(ctx: Context) -> object:
        ctx.delegate("host-local").add()
        seen.extend(sorted(path.name for path in (leases / "skel-test").glob("10.*")))
        raise CniError(100, "no luck")

    ipam = {
        "type": "host-local",
        "dataDir": str(leases),
        "ranges": [[{"subnet": "10.1.2.0/24"}]],
    }
    env = environment("ADD", CNI_PATH=directory, CNI_ARGS=None)
    reply = Recorder(versions=spec.ALL, answer=answer).run(env, config("1.1.0", ipam=ipam))
    return seen, reply


def test_a_delegate_of_this_build_is_called_in_process(tmp_path: Path) -> None:
    """Its ADD is undone in process too."""
    directory = ours(tmp_path, build_info.build_id())
    seen, reply = leasing(directory, tmp_path / "leases")
    assert error_of(reply) == {"code": 100, "msg": "no luck"}
    assert seen == ["10.1.2.2"]
    assert list((tmp_path / "leases" / "skel-test").glob("10.*")) == []


def test_a_delegate_of_another_build_is_executed(tmp_path: Path) -> None:
    """It may have been exchanged while this one runs."""
    directory = ours(tmp_path, "another")
    seen, reply = leasing(directory, tmp_path / "leases")
    assert seen == []
    assert "exit status 9" in error_of(reply)["msg"]


@pytest.mark.parametrize(
    ("ipam", "plugin_type"),
    [
        ({"ipam": {"type": "static"}}, "static"),
        ({"IPAM": {"Type": "static"}}, "static"),
        ({"ipam": {"type": "a"}, "Ipam": {"type": "b", "TYPE": "c"}}, "c"),
        ({}, ""),
        ({"ipam": None}, ""),
        ({"ipam": []}, ""),
        ({"ipam": {"type": 5}}, ""),
    ],
)
def test_which_ipam_plugin_is_meant(ipam: dict[str, Any], plugin_type: str) -> None:
    """Keys match in any case and the last counts, as where the configuration is parsed."""
    recorder = Recorder(versions=spec.ALL)
    recorder.run(environment("DEL"), config("1.1.0", **ipam))
    assert recorder.calls[0][1].document_ipam_type == plugin_type


def test_delegate_error_says_whose_it_is() -> None:
    """And whether a DEL would do harm."""
    error = DelegateError("static", CniError(7, "x"), already_allocated=True)
    assert (error.code, error.msg, error.already_allocated) == (7, "static: x", True)
