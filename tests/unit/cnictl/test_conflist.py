"""Network configuration files: what is found, read, merged and injected."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from cni_plugins import invoke
from cni_plugins.deadline import Deadline
from cni_plugins.errors import CniError
from cni_plugins.host.command import Runner
from cnictl import conflist
from cnictl.networks import ConfError, inject, parse_list, parse_plugin, read_object

if TYPE_CHECKING:
    from pathlib import Path

statement = pytest.mark.statement
SINGLE = '{"name": "some-plugin", "type": "foobar", "some-key": ["some-value"]}'
CAPABLE = (
    '{"name": "a", "type": "b", "capabilities": {"portMappings": true, "somethingElse": false}}'
)
LIST = """{
  "name": "some-list", "cniVersion": "0.2.0", "disableCheck": true,
  "plugins": [
    {"type": "host-local", "subnet": "10.0.0.1/24"},
    {"type": "bridge", "mtu": 1400},
    {"type": "port-forwarding", "ports": {"20.0.0.1:8080": "80"}}
  ]
}"""


def put(directory: Path, name: str, content: str | dict[str, Any]) -> Path:
    """A file of a configuration directory."""
    path = directory / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def network(**over: Any) -> dict[str, Any]:
    """A list with one plugin; None leaves a key out."""
    document = {"name": "n", "cniVersion": "1.0.0", "plugins": [{"type": "one"}], **over}
    return {key: value for key, value in document.items() if value is not None}


def fails(call, *args: Any) -> str:
    """The text of the error."""
    with pytest.raises(ConfError) as caught:
        call(*args)
    return caught.value.msg


def load(directory: Path, name: str):
    """From a directory."""
    return conflist.load(str(directory), name)


# --- single plugins -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("50-whatever.conf", marks=statement("CF01")),
        pytest.param("50-whatever.json", marks=statement("CF02")),
    ],
)
def test_a_single_plugin_is_found_by_name(tmp_path, name):
    put(tmp_path, name, SINGLE)
    found = load(tmp_path, "some-plugin")
    assert [p.type for p in found.plugins] == ["foobar"]
    assert found.plugins[0].document == json.loads(SINGLE)
    assert json.loads(found.raw)["plugins"] == [json.loads(SINGLE)]


@pytest.mark.parametrize("name", [pytest.param("x", marks=[statement("CF03"), statement("CF14")])])
def test_a_missing_directory_is_named(tmp_path, name):
    absent = tmp_path / "absent"
    assert fails(load, absent, name) == f"no net configurations found in {absent}"


@pytest.mark.parametrize(
    ("file", "content"),
    [
        pytest.param("50-a.conf", SINGLE, marks=statement("CF04")),
        pytest.param("50-a.conflist", LIST, marks=statement("CF15")),
    ],
)
def test_an_unknown_name_is_told_with_the_directory(tmp_path, file, content):
    put(tmp_path, file, content)
    said = f'no net configuration with name "other" in {tmp_path}'
    assert fails(load, tmp_path, "other") == said


@pytest.mark.parametrize(
    ("bad", "good", "content", "name", "said"),
    [
        pytest.param(
            "00-bad.conf",
            "50-a.conf",
            SINGLE,
            "some-plugin",
            "error parsing configuration: ",
            marks=statement("CF05"),
        ),
        pytest.param(
            "00-bad.conflist",
            "50-a.conflist",
            LIST,
            "some-list",
            "error parsing configuration list: ",
            marks=statement("CF16"),
        ),
    ],
)
def test_a_malformed_file_earlier_in_order_fails_the_look_up(
    tmp_path, bad, good, content, name, said
):
    put(tmp_path, good, content)
    put(tmp_path, bad, "{")
    assert fails(load, tmp_path, name).startswith(said)


@pytest.mark.parametrize(
    ("file", "content", "name"),
    [
        pytest.param("below/50-a.conf", SINGLE, "some-plugin", marks=statement("CF06")),
        pytest.param("below/50-a.conflist", LIST, "some-list", marks=statement("CF17")),
    ],
)
def test_subdirectories_are_not_searched(tmp_path, file, content, name):
    put(tmp_path, file, content)
    assert fails(load, tmp_path, name) == f"no net configurations found in {tmp_path}"


@statement("CF07")
def test_capabilities_are_read_false_ones_too():
    found = parse_plugin(CAPABLE.encode())
    assert found.capabilities == {"portMappings": True, "somethingElse": False}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("a.conf", marks=statement("CF08")),
        pytest.param("a.conflist", marks=statement("CF31")),
    ],
)
def test_a_file_that_cannot_be_read_is_told_with_its_path(tmp_path, name):
    path = f"{tmp_path}/{name}"
    said = fails(conflist.load_file, path)
    assert said.startswith(f"error reading {path}: open {path}")


@statement("CF09")
def test_a_file_without_type_is_an_error(tmp_path):
    put(tmp_path, "a.conf", '{"name": "n", "some-key": 1}')
    assert fails(load, tmp_path, "n") == "error parsing configuration: missing 'type'"


@statement("CF10")
def test_bytes_without_type_are_an_error():
    said = fails(parse_plugin, b'{"name": "n"}')
    assert said == "error parsing configuration: missing 'type'"


# --- lists --------------------------------------------------------------------------------------


@statement("CF11")
def test_a_list_is_found_with_all_it_says(tmp_path):
    put(tmp_path, "50-a.conflist", LIST)
    found = load(tmp_path, "some-list")
    assert (found.name, found.cni_version, found.disable_check) == ("some-list", "0.2.0", True)
    assert [p.document for p in found.plugins] == json.loads(LIST)["plugins"]
    assert found.raw == LIST.encode()


@statement("CF12")
@statement("CF13")
def test_a_list_wins_and_the_single_plugin_is_used_when_it_is_gone(tmp_path):
    put(tmp_path, "00-a.conf", '{"name": "some-list", "type": "solo"}')
    path = put(tmp_path, "50-a.conflist", LIST)
    assert len(load(tmp_path, "some-list").plugins) == 3
    path.unlink()
    assert [p.type for p in load(tmp_path, "some-list").plugins] == ["solo"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("true", True, marks=statement("CF18")),
        pytest.param("false", False, marks=statement("CF19")),
    ],
)
def test_disable_check_may_be_text(text, expected):
    raw = json.dumps(network(disableCheck=text)).encode()
    assert parse_list(raw).disable_check is expected


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("disableCheck", marks=statement("CF20")),
        pytest.param("loadOnlyInlinedPlugins", marks=statement("CF23")),
    ],
)
def test_another_text_for_a_flag_names_the_key(key):
    said = fails(parse_list, json.dumps(network(**{key: "adventure"})).encode())
    assert said == f'error parsing configuration list: invalid value "adventure" for {key}'


@statement("CF21")
@statement("CF22")
def test_load_only_inlined_plugins_is_read_and_false_by_default():
    assert parse_list(json.dumps(network(loadOnlyInlinedPlugins=True)).encode()).inlined_only
    assert not parse_list(json.dumps(network()).encode()).inlined_only


@statement("CF24")
def test_only_inlined_plugins_and_none():
    raw = json.dumps(network(plugins=None, loadOnlyInlinedPlugins=True)).encode()
    assert "`loadOnlyInlinedPlugins` is true, and no 'plugins' key" in fails(parse_list, raw)


@pytest.mark.parametrize(
    ("document", "folder", "expected"),
    [
        pytest.param(network(plugins=None), ["two"], ["two"], marks=statement("CF25")),
        pytest.param(network(), None, ["one"], marks=statement("CF27")),
        pytest.param(network(), [], ["one"], marks=statement("CF28")),
        pytest.param(network(), ["two"], ["one", "two"], marks=statement("CF29")),
        pytest.param(
            network(loadOnlyInlinedPlugins=True), ["two"], ["one"], marks=statement("CF30")
        ),
    ],
)
def test_plugins_of_the_list_and_of_its_folder(tmp_path, document, folder, expected):
    put(tmp_path, "n.conflist", document)
    if folder is not None:
        (tmp_path / "n").mkdir()
        for plugin in folder:
            put(tmp_path, f"n/{plugin}.conf", {"type": plugin})
    assert [p.type for p in load(tmp_path, "n").plugins] == expected


@statement("CF26")
def test_neither_plugins_nor_folder(tmp_path):
    put(tmp_path, "n.conflist", network(plugins=None))
    assert fails(load, tmp_path, "n") == "no plugin configs found"


def test_plugins_of_the_folder_come_in_the_order_of_their_names(tmp_path):
    put(tmp_path, "n.conflist", network(plugins=None))
    for name in ("b", "a", "c"):
        put(tmp_path, f"n/{name}.conf", {"type": name})
    assert [p.type for p in load(tmp_path, "n").plugins] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"plugins": [{"type": "one"}]}, "no name"),
        (network(name=7), "invalid name type float64"),
        (network(plugins={}), "invalid 'plugins' type map[string]interface {}"),
        (network(plugins=[]), "no plugins in list"),
        (network(plugins=[{"type": "one"}, {}]), "failed to parse plugin config 1: "),
        (network(plugins=["one"]), "failed to parse plugin config 0: "),
        (network(cniVersion=1), "invalid cniVersion type float64"),
        (network(cniVersions="1.0.0"), "invalid type for cniVersions: string"),
        (network(disableCheck=7), "invalid type float64 for disableCheck"),
        (network(plugins=[{"type": "x", "capabilities": [1]}]), "capabilities"),
    ],
)
def test_what_is_wrong_with_a_list_is_named(document, said):
    assert said in fails(parse_list, json.dumps(document).encode())


def test_every_file_is_listed_with_its_network_or_its_fault(tmp_path):
    put(tmp_path, "30-c.conflist", "{")
    put(tmp_path, "10-a.conf", SINGLE)
    put(tmp_path, "20-b.conflist", LIST)
    put(tmp_path, "40.txt", "x")
    found = conflist.load_all(str(tmp_path))
    assert [os.path.basename(path) for path, _ in found] == [
        "10-a.conf",
        "20-b.conflist",
        "30-c.conflist",
    ]
    assert isinstance(found[2][1], ConfError)


# --- injecting ----------------------------------------------------------------------------------


@statement("CF32")
def test_bytes_that_are_no_object_take_no_key():
    assert fails(read_object, b"cc").startswith("error parsing configuration list: ")


@pytest.mark.parametrize(
    ("added", "said"),
    [
        pytest.param({"": "x"}, "keys cannot be empty", marks=statement("CF33")),
        pytest.param({"k": None}, "key 'k' value must not be nil", marks=statement("CF34")),
    ],
)
def test_a_key_and_its_value_are_needed(added, said):
    assert fails(inject, {"type": "x"}, added) == said


@statement("CF35")
@statement("CF36")
def test_keys_are_added_and_replaced_and_sorted():
    sent = inject({"type": "x", "name": "old"}, {"name": "new", "cniVersion": "1.0.0"})
    assert sent == b'{"cniVersion":"1.0.0","name":"new","type":"x"}'


@statement("CF37")
def test_injecting_twice_is_injecting_once():
    once = inject({"type": "x"}, {"name": "n"})
    assert inject(json.loads(once), {"name": "n"}) == once


@statement("CF38")
def test_nested_values_show_in_bytes_and_fields():
    sent = inject({"type": "x"}, {"dns": {"nameservers": ["1.1.1.1"]}, "type": "bridge"})
    assert b'"dns":{"nameservers":["1.1.1.1"]}' in sent
    assert parse_plugin(sent).type == "bridge"


# --- versions -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "versions", "expected"),
    [
        pytest.param(None, ["1.1.0", "0.4.0", "1.0.0"], "1.1.0", marks=statement("CF39")),
        pytest.param(None, ["1.1.0", "99.0.0", "1.0.0"], "1.1.0", marks=statement("CF40")),
        pytest.param("1.2.3", None, "1.2.3", marks=statement("CF42")),
        pytest.param("1.0.0", ["0.1.0", "0.4.0"], "1.0.0", marks=statement("CF43")),
        pytest.param(None, [], "", marks=statement("CF44")),
    ],
)
def test_the_version_of_a_list(version, versions, expected):
    raw = json.dumps(network(cniVersion=version, cniVersions=versions)).encode()
    assert parse_list(raw).cni_version == expected


@statement("CF41")
def test_an_entry_that_is_no_version_is_an_error():
    said = fails(parse_list, json.dumps(network(cniVersions=["1.0.0", "1.0.f"])).encode())
    assert "invalid cniVersions entry 1.0.f at index 1" in said


@statement("CF45")
def test_a_single_plugin_becomes_a_list_that_reads_the_same(tmp_path):
    path = put(tmp_path, "a.conf", {"name": "n", "cniVersion": "0.4.0", "type": "x", "z": 1})
    found = conflist.load_file(str(path))
    again = parse_list(found.raw)
    assert (found.name, found.cni_version) == (again.name, again.cni_version) == ("n", "0.4.0")
    assert [p.document for p in found.plugins] == [p.document for p in again.plugins]


# --- asking a plugin for its versions -----------------------------------------------------------


@pytest.fixture
def ask(tmp_path):
    """Asks a plugin that answers as told; what it saw is in ``env`` and ``stdin``."""

    def ask(stdout: str, status: int = 0, env: dict[str, str] | None = None) -> tuple[str, ...]:
        (tmp_path / "answer").write_text(stdout)
        script = f"#!/bin/sh\ncd {tmp_path}\nenv > env\ncat > stdin\ncat answer\nexit {status}\n"
        (tmp_path / "plugin").write_text(script)
        (tmp_path / "plugin").chmod(0o755)
        runner = Runner({"PATH": "/usr/bin:/bin"}, Deadline.after(5.0))
        return invoke.probe_versions(runner, f"{tmp_path}/plugin", env or {"PATH": "/bin"})

    return ask


def answer(version: str | None, *supported: str) -> str:
    """An answer to VERSION."""
    document: dict[str, Any] = {"cniVersion": version} if version is not None else {}
    return json.dumps(document | ({"supportedVersions": supported} if supported else {}))


@statement("VE04")
@statement("IN28")
def test_the_supported_versions_come_in_their_order(ask):
    assert ask(answer("1.0.0", "0.3.1", "0.1.0", "1.0.0")) == ("0.3.1", "0.1.0", "1.0.0")


@pytest.mark.parametrize(
    ("stdout", "said"),
    [
        pytest.param("{{", "decoding version info: ", marks=statement("VE05")),
        pytest.param(
            '{"supportedVersions": ["1.0.0"]}',
            "decoding version info: missing field cniVersion",
            marks=statement("VE06"),
        ),
        pytest.param(
            '{"cniVersion": "1.0.0"}', "decoding version info: missing field supportedVersions"
        ),
    ],
)
def test_an_answer_that_makes_no_sense(ask, stdout, said):
    with pytest.raises(CniError) as caught:
        ask(stdout)
    assert caught.value.msg.startswith(said)


@statement("VE07")
def test_version_0_2_0_without_a_list(ask):
    assert ask(answer("0.2.0")) == ("0.1.0", "0.2.0")


@statement("IN27")
@statement("IN31")
def test_what_the_plugin_is_asked_with(ask, tmp_path):
    own = {"PATH": "/bin", "CNI_CONTAINERID": "c", "CNI_ARGS": "a=b", "CNI_COMMAND": "ADD"}
    ask(answer("1.0.0", "1.0.0"), env=own)
    seen = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    assert seen["CNI_COMMAND"] == "VERSION"
    assert {seen[n] for n in ("CNI_NETNS", "CNI_IFNAME", "CNI_PATH")} == {"dummy"}
    assert (seen["CNI_CONTAINERID"], seen["CNI_ARGS"]) == ("", "")
    assert json.loads((tmp_path / "stdin").read_text()) == {"cniVersion": "1.1.0"}


@statement("IN29")
def test_an_error_of_the_execution_is_returned(ask):
    with pytest.raises(CniError) as caught:
        ask('{"code": 50, "msg": "broken"}', status=1)
    assert (caught.value.code, caught.value.msg) == (50, "broken")


@statement("IN30")
@statement("IN32")
def test_a_plugin_of_the_spec_s_earlier_days(ask):
    assert ask('{"code": 4, "msg": "unknown CNI_COMMAND: VERSION"}', status=1) == ("0.1.0",)
