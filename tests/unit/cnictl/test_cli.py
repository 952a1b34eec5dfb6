"""cnictl as an operator types it: what it runs, prints and keeps."""

from __future__ import annotations

import io
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from cni_plugins import invoke
from cni_plugins.deadline import Deadline
from cni_plugins.host.command import Runner
from cnictl import cli, identity, runtime
from cnictl.cache import Cache

if TYPE_CHECKING:
    from pathlib import Path

statement = pytest.mark.statement
RESULT = {"cniVersion": "1.0.0", "ips": [{"address": "10.1.2.3/24"}]}
VERSIONS = {"cniVersion": "1.1.0", "supportedVersions": ["1.0.0", "1.1.0"]}


class Operator:
    """A directory of networks, one of plugins that log their calls, and a result cache."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bin = root / "bin"
        self.nets = root / "net.d"
        self.results = root / "results"
        for directory in (self.bin, self.nets):
            directory.mkdir()
        self.network("pods", "one", "two")
        for name in ("one", "two"):
            self.plugin(name)

    def plugin(self, name: str, *, fails: str = "", error: dict[str, Any] | None = None) -> None:
        """A plugin; of the verbs in ``fails`` it answers with ``error``."""
        answer = json.dumps(error or {"code": 50, "msg": "it is broken", "details": "badly"})
        script = (
            "#!/bin/sh\n"
            "stdin=$(cat)\n"
            f'echo "$CNI_COMMAND {name} $CNI_CONTAINERID $CNI_IFNAME $CNI_ARGS $stdin" '
            f">> {self.root}/log\n"
            f'case "{fails}" in *$CNI_COMMAND*) printf %s {_quoted(answer)}; exit 1;; esac\n'
            f"case $CNI_COMMAND in ADD) printf %s {_quoted(json.dumps(RESULT))};;\n"
            f"VERSION) printf %s {_quoted(json.dumps(VERSIONS))};; esac\n"
        )
        (self.bin / name).write_text(script)
        (self.bin / name).chmod(0o755)

    def network(self, name: str, *plugins: str, version: str = "1.1.0") -> None:
        """A list of plugins that take ``bandwidth``."""
        entries = [{"type": p, "capabilities": {"bandwidth": True}} for p in plugins]
        document = {"cniVersion": version, "name": name, "plugins": entries}
        (self.nets / f"{name}.conflist").write_text(json.dumps(document))

    def __call__(self, *argv: str, **env: str) -> tuple[int, str, str]:
        """Exit status, standard output and standard error of a command."""
        out, err = io.StringIO(), io.StringIO()
        given = {"PATH": "/usr/bin:/bin", "CNI_PATH": str(self.bin), "NETCONFPATH": str(self.nets)}
        status = cli.main(argv, given | env, out, err)
        return status, out.getvalue(), err.getvalue()

    @property
    def calls(self) -> list[str]:
        """Verb and plugin of every call."""
        return [" ".join(line.split()[:2]) for line in self.lines]

    @property
    def lines(self) -> list[str]:
        """The whole log."""
        log = self.root / "log"
        return log.read_text().splitlines() if log.exists() else []

    @property
    def cached(self) -> list[str]:
        """The files of the result cache."""
        return sorted(os.listdir(self.results)) if self.results.exists() else []


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


@pytest.fixture
def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Operator:
    """Somebody at a terminal."""
    monkeypatch.setattr(runtime, "LOCKS", str(tmp_path / "locks"))
    monkeypatch.setattr(cli, "Cache", lambda: Cache(str(tmp_path / "results")))
    return Operator(tmp_path)


# --- whom it is about ---------------------------------------------------------------------------


@statement("CT01")
@pytest.mark.parametrize(
    ("path", "id_"),
    [
        ("/nsx", "cnitool-ff8012644fa6cf64b9e7"),
        ("/var/run/netns/testing", "cnitool-77383ca0a0715733ca6f"),
    ],
)
def test_the_container_id_follows_from_the_path(path, id_):
    assert identity.container_id(path) == id_


@pytest.mark.parametrize(
    ("container", "path"),
    [
        ("/a/../b//c", "/b/c"),
        ("blue", "/run/netns/blue"),
        ("4711", "/proc/4711/ns/net"),
        ("./x", f"{os.getcwd()}/x"),
    ],
)
def test_a_container_is_a_path_a_process_or_a_name(container, path):
    assert identity.netns_path(container) == path


@statement("CT02")
@pytest.mark.parametrize(
    ("argv", "env", "expected"),
    [
        (["-i", "net7"], {"CNI_IFNAME": "net8"}, "net7"),
        ([], {"CNI_IFNAME": "net8"}, "net8"),
        ([], {"CNI_IFNAME": ""}, "eth0"),
        ([], {}, "eth0"),
    ],
)
def test_the_interface_is_the_flags_or_the_variables_or_eth0(operator, argv, env, expected):
    assert operator("add", "pods", "/nsx", *argv, **env)[0] == 0
    assert {line.split()[3] for line in operator.lines} == {expected}


@statement("CT03")
def test_networks_are_looked_for_where_cnitool_does():
    assert cli.CONF_DIR == "/etc/cni/net.d"
    status, out, _ = _bare("list")
    assert "networks of /etc/cni/net.d" in out
    assert status in {0, 1}


def _bare(*argv: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    return cli.main(argv, {"PATH": "/bin"}, out, err), out.getvalue(), err.getvalue()


def test_an_option_beats_the_variable(operator, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    status, _, err = operator("status", "pods", "--conf-dir", str(elsewhere))
    assert status == 1
    assert f"no net configurations found in {elsewhere}" in err


@statement("CT04")
@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"CNI_ARGS": "a=b=c"}, 'invalid CNI_ARGS pair "a=b=c"'),
        ({"CNI_ARGS": "IgnoreUnknown"}, 'invalid CNI_ARGS pair "IgnoreUnknown"'),
        ({"CNI_ARGS": "=b"}, 'invalid CNI_ARGS pair "=b"'),
        ({"CAP_ARGS": "{"}, "CAP_ARGS: "),
        ({"CAP_ARGS": "[]"}, "CAP_ARGS: expected a JSON object"),
    ],
)
def test_arguments_that_make_no_sense_stop_it_before_any_plugin(operator, env, said):
    status, out, err = operator("add", "pods", "/nsx", **env)
    assert status != 0
    assert (out, operator.calls) == ("", [])
    assert said in err


def test_arguments_reach_the_plugins(operator):
    cap = '{"bandwidth": {"ingressRate": 1}, "aliases": ["x"]}'
    operator("add", "pods", "/nsx", "--args", "IgnoreUnknown=1;MAC=02:00:00:00:00:01", "--cap", cap)
    assert all(" IgnoreUnknown=1;MAC=02:00:00:00:00:01 " in line for line in operator.lines)
    assert all('"runtimeConfig":{"bandwidth":{"ingressRate":1}}' in o for o in operator.lines)


def test_a_file_may_be_named_and_must_have_the_network(operator, tmp_path):
    file = tmp_path / "other.txt"
    file.write_text('{"cniVersion": "1.0.0", "name": "solo", "type": "one"}')
    assert operator("add", "solo", "/nsx", "--conf", str(file))[0] == 0
    assert operator.calls == ["ADD one"]
    status, _, err = operator("add", "pods", "/nsx", "--conf", str(file))
    assert status == 2
    assert "has the network 'solo', not 'pods'" in err


# --- what it prints -----------------------------------------------------------------------------


@statement("CT05")
def test_json_is_the_result_of_add_and_nothing_of_the_other_verbs(operator):
    status, out, _ = operator("add", "pods", "/nsx", "--json")
    assert (status, json.loads(out)) == (0, RESULT)
    for verb in (["check", "pods", "/nsx"], ["status", "pods"], ["del", "pods", "/nsx"]):
        assert operator(*verb, "--json") == (0, "", "")


def test_a_summary_has_addresses_and_the_time_of_each_plugin(operator):
    _, out, _ = operator("add", "pods", "/nsx")
    assert "is attached to pods as eth0" in out
    assert "10.1.2.3/24" in out
    assert out.count(" ms") == 3, "one, two, and the sum"


def test_a_failure_names_plugin_step_code_message_details_and_what_to_do(operator):
    operator.plugin("two", fails="ADD")
    status, out, err = operator("add", "pods", "/nsx")
    assert (status, out) == (1, "")
    for part in ("ADD failed in two, plugin 2 of 2", "50", "it is broken", "badly", "next"):
        assert part in err


@statement("CT12")
def test_help_without_arguments_and_2_for_a_command_that_is_none(capsys):
    status, out, _ = _bare()
    assert status == 0
    assert "attach a container to a network" in out
    assert _bare("frobnicate")[0] == 2
    assert "frobnicate" in capsys.readouterr().err


def test_version_lists_what_every_plugin_supports(operator):
    status, out, _ = operator("version", "--json")
    assert status == 0
    assert json.loads(out)["plugins"] == {"one": ["1.0.0", "1.1.0"], "two": ["1.0.0", "1.1.0"]}


def test_list_tells_the_chosen_network_and_every_problem(operator):
    operator.network("absent", "three")
    (operator.nets / "zz.conf").write_text("{")
    operator("add", "pods", "/nsx")
    status, out, _ = operator("list", "--json")
    found = json.loads(out)
    assert status == 1
    assert [(n["name"], n["chosen"]) for n in found["networks"]] == [
        ("absent", True),
        ("pods", False),
    ]
    assert any('failed to find plugin "three"' in p for p in found["problems"])
    assert any("zz.conf" in p for p in found["problems"])
    assert [a["network"] for a in found["attachments"]] == ["pods"]


# --- what it keeps ------------------------------------------------------------------------------


@statement("CT06")
def test_a_failed_add_is_taken_back_and_leaves_no_cache_file(operator):
    operator.plugin("two", fails="ADD")
    assert operator("add", "pods", "/nsx")[0] == 1
    assert operator.calls == ["ADD one", "ADD two", "DEL two", "DEL one"]
    assert operator.cached == []


@statement("CT07")
def test_a_failed_del_keeps_the_cache_file_for_the_next(operator):
    operator("add", "pods", "/nsx")
    operator.plugin("two", fails="DEL")
    assert operator("del", "pods", "/nsx")[0] == 1
    assert len(operator.cached) == 1
    operator.plugin("two")
    assert operator("del", "pods", "/nsx")[0] == 0
    assert operator.cached == []


@statement("CT08")
def test_del_without_a_cached_result_runs_every_plugin(operator):
    assert operator("del", "pods", "/nsx")[0] == 0
    assert operator.calls == ["DEL two", "DEL one"]
    assert not any("prevResult" in line for line in operator.lines)


# --- gc and status ------------------------------------------------------------------------------


def _attached(operator: Operator) -> None:
    cap = '{"bandwidth":{"ingressRate":1}}'
    operator("add", "pods", "/nsx", "--args", "A=1", "--cap", cap)
    (operator.root / "log").unlink()


def test_gc_only_shows_what_it_would_do(operator):
    _attached(operator)
    status, out, _ = operator("gc", "pods")
    assert status == 0
    assert "1 attachments of pods would go, 0 stay" in out
    assert "--apply" in out
    assert (operator.calls, len(operator.cached)) == ([], 1)


@statement("CT09")
def test_gc_detaches_with_what_was_cached_and_then_collects(operator):
    _attached(operator)
    assert operator("gc", "pods", "--apply")[0] == 0
    assert operator.calls == ["DEL two", "DEL one", "GC one", "GC two"]
    assert all(" A=1 " in line and '"ingressRate":1' in line for line in operator.lines[:2])
    assert operator.cached == []


def test_gc_keeps_what_it_is_told_to(operator):
    _attached(operator)
    kept = f"{identity.container_id('/nsx')}:eth0"
    assert operator("gc", "pods", "--apply", "--keep", kept)[0] == 0
    assert operator.calls == ["GC one", "GC two"]
    pair = {"containerID": identity.container_id("/nsx"), "ifname": "eth0"}
    for line in operator.lines:
        sent = json.loads(line[line.index("{") :])
        assert sent["cni.dev/valid-attachments"] == sent["cni.dev/attachments"] == [pair]


def test_gc_keeps_containers_whose_namespace_is_there(operator, tmp_path):
    netns = tmp_path / "netns"
    netns.touch()
    operator("add", "pods", str(netns))
    _, out, _ = operator("gc", "pods")
    assert "0 attachments of pods would go, 1 stay" in out


@statement("CT10")
def test_gc_goes_on_after_a_failure_and_tells_each(operator):
    _attached(operator)
    operator.plugin("one", fails="GC")
    operator.plugin("two", fails="GC")
    status, _, err = operator("gc", "pods", "--apply")
    assert status == 1
    assert err.count("it is broken") == 2
    assert operator.calls == ["DEL two", "DEL one", "GC one", "GC two"]


@statement("CT11")
def test_status_stops_at_the_first_plugin_that_is_not_ready(operator):
    operator.plugin("one", fails="STATUS")
    status, _, err = operator("status", "pods")
    assert status == 1
    assert "it is broken" in err
    assert operator.calls == ["STATUS one"]


@statement("CT11")
def test_status_asks_nobody_below_1_1_0(operator):
    operator.network("pods", "one", version="1.0.0")
    status, out, _ = operator("status", "pods")
    assert (status, operator.calls) == (0, [])
    assert "has no STATUS" in out


@statement("NP12")
def test_a_plugin_of_0_1_0_knows_no_version(operator):
    said = {"code": 4, "msg": "unknown CNI_COMMAND: VERSION"}
    operator.plugin("one", fails="VERSION", error=said)
    runner = Runner({"PATH": "/bin"}, Deadline.after(5.0))
    path = invoke.find_plugin("one", str(operator.bin))
    assert invoke.probe_versions(runner, path, {}) == ("0.1.0",)
