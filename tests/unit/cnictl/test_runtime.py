"""What a runtime does with a network: calls, results, cache, deadlines."""

from __future__ import annotations

import base64
import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from cni_plugins.deadline import Deadline
from cni_plugins.errors import CniError
from cni_plugins.host.command import Runner
from cnictl.cache import Cache
from cnictl.calls import Caller, Container, environment
from cnictl.networks import ConfError, as_list, parse_list
from cnictl.runtime import Runtime

if TYPE_CHECKING:
    from pathlib import Path

statement = pytest.mark.statement
RESULT = {"ips": [{"address": "10.1.2.3/24"}], "dns": {}}
CACHED = {
    "cniVersion": "1.0.0",
    "ips": [{"address": "10.1.2.3/24"}],
    "dns": {"nameservers": ["1.2.3.4"]},
}
CAPS = {"portMappings": [{"hostPort": 8080}], "somethingElse": ["foobar"], "noCapability": True}
POD = Container(
    id="some-id",
    netns="/some/netns",
    ifname="eth0",
    args=(("FOO", "BAR"),),
    capability_args={"portMappings": [{"hostPort": 8080}]},
)


class World:
    """Plugins that log what they get, a cache, and a runtime over both."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bin = root / "bin"
        self.bin.mkdir()
        self.results = root / "results"
        for name in ("one", "two", "three"):
            self.plugin(name)
        self.limit(10.0)

    def limit(self, seconds: float) -> None:
        """A runtime whose calls end after so many seconds."""
        env = {"PATH": "/usr/bin:/bin"}
        self.caller = Caller(Runner(env, Deadline.after(seconds)), env, str(self.bin))
        self.runtime = Runtime(self.caller, Cache(str(self.results)))

    def plugin(
        self,
        name: str,
        *,
        result: dict[str, Any] | None = None,
        error: dict[str, Any] | None = None,
        hangs: bool = False,
        versions: tuple[str, ...] = ("0.3.1", "0.4.0", "1.0.0", "1.1.0"),
    ) -> None:
        """A plugin: it succeeds, fails with an error object, or never ends."""
        said = {"cniVersion": "1.0.0", "supportedVersions": versions}
        (self.root / f"{name}.result").write_text(json.dumps(result or RESULT))
        (self.root / f"{name}.error").write_text(json.dumps(error) if error else "")
        (self.root / f"{name}.versions").write_text(json.dumps(said))
        script = (
            "#!/bin/sh\n"
            f"cd {self.root}\n"
            f'{{ env | grep ^CNI_; echo "stdin=$(cat)"; echo "plugin={name}"; echo; }} >> log\n'
            + (f"echo $$ > {name}.pid; exec sleep 30\n" if hangs else "")
            + f"[ $CNI_COMMAND != VERSION ] || exec cat {name}.versions\n"
            f"[ ! -s {name}.error ] || {{ cat {name}.error; exit 1; }}\n"
            f"[ $CNI_COMMAND != ADD ] || cat {name}.result\n"
        )
        (self.bin / name).write_text(script)
        (self.bin / name).chmod(0o755)

    @property
    def calls(self) -> list[dict[str, Any]]:
        """Every call: the variables, ``plugin``, and ``conf``, what it read."""
        log = self.root / "log"
        if not log.exists():
            return []
        found = []
        for block in log.read_text().strip().split("\n\n"):
            call: dict[str, Any] = dict(line.split("=", 1) for line in block.splitlines())
            call["conf"] = json.loads(call.pop("stdin"))
            found.append(call)
        return found

    @property
    def verbs(self) -> list[str]:
        """Verb and plugin of every call."""
        return [f"{call['CNI_COMMAND']} {call['plugin']}" for call in self.calls]

    def cache(self, content: Any, network: str = "net", pod: Container = POD) -> None:
        """A file of the cache: bytes as they are, a result as libcni wraps it."""
        self.results.mkdir(exist_ok=True)
        raw = content if isinstance(content, str) else json.dumps(record(content, network, pod))
        (self.results / f"{network}-{pod.id}-{pod.ifname}").write_text(raw)

    @property
    def cached(self) -> list[str]:
        """The names of the cache's files."""
        return sorted(os.listdir(self.results)) if self.results.is_dir() else []

    def break_cache(self) -> None:
        """The place of the cache's directory is taken by a file."""
        self.results.write_text("")


def record(result: dict[str, Any] | None, network: str, pod: Container) -> dict[str, Any]:
    """A cache file's document."""
    return {
        "kind": "cniCacheV1",
        "containerId": pod.id,
        "ifName": pod.ifname,
        "networkName": network,
        "config": None,
        "result": result,
    }


@pytest.fixture
def world(tmp_path) -> World:
    """Three plugins that succeed."""
    return World(tmp_path)


def single(plugin: str = "one", version: str = "1.0.0", **over: Any):
    """A network of a single plugin."""
    document = {"name": "net", "cniVersion": version, "type": plugin, **over}
    return as_list(json.dumps(document).encode())


def triple(version: str = "1.0.0", *plugins: str, **over: Any):
    """A network of three plugins, or of those given; all take ``portMappings``."""
    entries = [
        {"type": plugin, "capabilities": {"portMappings": True}, "some": plugin}
        for plugin in plugins or ("one", "two", "three")
    ]
    document = {"name": "net", "cniVersion": version, "plugins": entries, **over}
    return parse_list(json.dumps(document).encode())


both = pytest.mark.parametrize
ERROR = {"code": 50, "msg": "plugin error: banana", "details": "yellow"}


def fails(call, *args: Any) -> Any:
    """The error of a call."""
    with pytest.raises(CniError) as caught:
        call(*args)
    return caught.value


# --- capabilities -------------------------------------------------------------------------------


@statement("LA01")
def test_runtime_config_has_what_is_offered_and_enabled(world):
    enabled = {"portMappings": True, "somethingElse": True, "noCapability": False}
    pod = Container(id="c", netns="/n", ifname="eth0", capability_args={**CAPS, "undeclared": 1})
    world.runtime.add(single(capabilities=enabled), pod)
    assert world.calls[0]["conf"]["runtimeConfig"] == {
        "portMappings": [{"hostPort": 8080}],
        "somethingElse": ["foobar"],
    }


@statement("LA02")
def test_none_in_common_and_there_is_no_runtime_config(world):
    world.runtime.add(single(capabilities={"other": True}), POD)
    assert "runtimeConfig" not in world.calls[0]["conf"]


# --- validation and versions --------------------------------------------------------------------


@statement("LA03")
@statement("LA28")
def test_validation_gives_the_enabled_capabilities(world):
    enabled = {"portMappings": True, "off": False}
    assert world.runtime.validate(single(capabilities=enabled)) == {"portMappings"}


@both(
    ("network", "said"),
    [
        pytest.param(
            single("nope"), 'failed to find plugin "nope" in path', marks=statement("LA29")
        ),
        pytest.param(
            single("one", "0.2.0"),
            'plugin one does not support config version "0.2.0"',
            marks=statement("LA30"),
        ),
        pytest.param(
            triple("1.0.0", "one", "nope"),
            '[failed to find plugin "nope" in path [',
            marks=statement("LA61"),
        ),
    ],
)
def test_validation_finds_what_cannot_work(world, network, said):
    assert said in fails(world.runtime.validate, network).msg


@statement("LA31")
def test_an_empty_version_is_validated_as_0_1_0(world):
    assert 'version "0.1.0"' in fails(world.runtime.validate, single(version="")).msg
    world.plugin("one", versions=("0.1.0",))
    assert world.runtime.validate(single(version="")) == frozenset()


@statement("LA61")
def test_validation_of_a_list_joins_capabilities(world):
    assert world.runtime.validate(triple()) == {"portMappings"}


@statement("LA62")
def test_a_message_for_each_plugin_of_an_unsupported_version(world):
    said = fails(world.runtime.validate, triple("0.2.0")).msg
    assert said.startswith("[plugin one does not support")
    assert said.count('does not support config version "0.2.0"') == 3


@statement("LA26")
def test_version_information_is_the_plugin_s_list(world):
    world.plugin("one", versions=("0.3.1", "1.0.0"))
    assert world.caller.versions("one") == ("0.3.1", "1.0.0")


@statement("LA27")
def test_version_information_of_an_unknown_plugin(world):
    assert 'failed to find plugin "nope"' in fails(world.caller.versions, "nope").msg


# --- ADD ----------------------------------------------------------------------------------------


@statement("LA04")
def test_add_of_a_single_plugin(world):
    network = single(capabilities={"portMappings": True})
    result = world.runtime.add(network, POD)
    assert result == {"cniVersion": "1.0.0", "ips": [{"address": "10.1.2.3/24"}]}
    (call,) = world.calls
    assert (call["CNI_COMMAND"], call["CNI_CONTAINERID"]) == ("ADD", "some-id")
    assert (call["CNI_NETNS"], call["CNI_IFNAME"]) == ("/some/netns", "eth0")
    assert (call["CNI_ARGS"], call["CNI_PATH"]) == ("FOO=BAR", str(world.bin))
    assert call["conf"] == {
        "name": "net",
        "cniVersion": "1.0.0",
        "type": "one",
        "capabilities": {"portMappings": True},
        "runtimeConfig": {"portMappings": [{"hostPort": 8080}]},
    }
    (name,) = world.cached
    document = json.loads((world.results / name).read_text())
    assert base64.b64decode(document["config"]) == network.raw
    assert document["cniArgs"] == [["FOO", "BAR"]]
    assert document["capabilityArgs"] == POD.capability_args
    assert document["result"] == result
    (entry,) = Cache(str(world.results)).attachments()
    assert (entry.container_id, entry.netns) == ("some-id", "/some/netns")


@statement("LA32")
def test_add_of_a_list_hands_results_on(world):
    world.plugin("three", result={**RESULT, "dns": {"nameservers": ["1.2.3.4"]}})
    result = world.runtime.add(triple(), POD)
    confs = [call["conf"] for call in world.calls]
    assert [(c["name"], c["cniVersion"], c["some"]) for c in confs] == [
        ("net", "1.0.0", name) for name in ("one", "two", "three")
    ]
    assert all(c["runtimeConfig"] == {"portMappings": [{"hostPort": 8080}]} for c in confs)
    assert "prevResult" not in confs[0]
    assert [c["prevResult"]["ips"] for c in confs[1:]] == [RESULT["ips"]] * 2
    assert (result["ips"], result["dns"]) == (RESULT["ips"], {"nameservers": ["1.2.3.4"]})


@statement("LA33")
@statement("LA34")
def test_the_cache_has_the_returned_result_and_the_list_s_bytes(world):
    network = triple()
    result = world.runtime.add(network, POD)
    document = json.loads((world.results / world.cached[0]).read_text())
    assert document["result"] == result
    assert base64.b64decode(document["config"]) == network.raw


@both(
    ("network", "position"),
    [
        pytest.param(single("nope"), 1, marks=statement("LA05")),
        pytest.param(triple("1.0.0", "one", "nope", "three"), 2, marks=statement("LA35")),
    ],
)
def test_add_with_a_missing_plugin(world, network, position):
    error = fails(world.runtime.add, network, POD)
    assert 'failed to find plugin "nope" in path' in error.msg
    assert error.place[0] == position
    assert world.cached == []


@statement("LA06")
def test_the_error_of_a_plugin_surfaces(world):
    world.plugin("one", error=ERROR)
    error = fails(world.runtime.add, single(), POD)
    assert (error.code, error.details) == (50, "yellow")
    assert "plugin error: banana" in error.msg


@statement("LA45")
@statement("LA46")
def test_an_error_of_the_second_plugin_leaves_no_cache_file(world):
    world.plugin("two", error=ERROR)
    error = fails(world.runtime.add, triple(), POD)
    assert error.msg == 'plugin type="two" failed (add): plugin error: banana'
    assert world.verbs == ["ADD one", "ADD two"]
    assert world.cached == []


@both(
    "network",
    [
        pytest.param(single(), marks=statement("LA07")),
        pytest.param(triple(), marks=statement("LA47")),
    ],
)
def test_a_cache_that_cannot_be_written_fails_add(world, network):
    world.break_cache()
    said = fails(world.runtime.add, network, POD).msg
    assert said.startswith('failed to set network "net" cached result: ')


@both(
    ("name", "container_id", "ifname", "said"),
    [
        pytest.param("net", "", "eth0", "missing containerID", marks=statement("LA36")),
        pytest.param("n/t", "c", "eth0", "invalid characters", marks=statement("LA37")),
        pytest.param("net", "c", "", "interface name is empty", marks=statement("LA38")),
        pytest.param("net", "c", "x" * 16, "interface name is too long", marks=statement("LA39")),
        pytest.param("net", "c", ".", "interface name is . or ..", marks=statement("LA40")),
        pytest.param("net", "c", "..", "interface name is . or ..", marks=statement("LA41")),
        pytest.param("net", "c", "a/b", "interface name contains / or :", marks=statement("LA42")),
        pytest.param("net", "c", "a:b", "interface name contains / or :", marks=statement("LA43")),
        pytest.param("net", "c", "a b", "contains / or : or whitespace", marks=statement("LA44")),
    ],
)
def test_a_bad_name_fails_before_the_plugin_runs(world, name, container_id, ifname, said):
    network = triple(name=name)
    pod = Container(id=container_id, netns="/n", ifname=ifname)
    error = fails(world.runtime.add, network, pod)
    assert error.msg.startswith('plugin type="one" failed (add): ')
    assert said in error.msg
    assert world.calls == []


@statement("LA75")
def test_two_interfaces_have_two_cache_files(world):
    for ifname, address in (("eth0", "10.1.2.3/24"), ("eth1", "10.1.2.5/24")):
        world.plugin("one", result={"ips": [{"address": address}]})
        world.runtime.add(single(), Container(id="c", netns="/n", ifname=ifname))
    assert world.cached == ["net-c-eth0", "net-c-eth1"]
    for ifname, address in (("eth0", "10.1.2.3/24"), ("eth1", "10.1.2.5/24")):
        document = json.loads((world.results / f"net-c-{ifname}").read_text())
        assert document["kind"] == "cniCacheV1"
        assert (document["ifName"], document["containerId"]) == (ifname, "c")
        assert document["networkName"] == "net"
        assert document["result"]["ips"] == [{"address": address}]


@statement("LA76")
def test_a_cached_attachment_is_found_with_its_arguments(world):
    network = single()
    world.runtime.add(network, POD)
    entry = Cache(str(world.results)).find("net", "some-id", "eth0")
    assert entry is not None
    assert (entry.config, entry.args) == (network.raw, POD.args)
    assert entry.capability_args == POD.capability_args


@both(
    "place",
    [
        pytest.param(("", "c", "eth0"), marks=statement("LA77")),
        pytest.param(("net", "", "eth0"), marks=statement("LA78")),
        pytest.param(("net", "c", ""), marks=statement("LA79")),
    ],
)
def test_a_cache_path_needs_all_three(world, place):
    said = fails(Cache(str(world.results)).find, *place).msg
    assert said == (
        f'cache file path requires network name ("{place[0]}"), container ID ("{place[1]}"), '
        f'and interface name ("{place[2]}")'
    )


@statement("LA80")
def test_a_cache_file_with_bad_json_is_an_error(world):
    world.cache("adfadsfasdfasfdsafaf")
    assert "decoding" in fails(Cache(str(world.results)).find, "net", "some-id", "eth0").msg


@statement("LA81")
def test_a_missing_cache_file_is_none(world):
    assert Cache(str(world.results)).find("net", "some-id", "eth0") is None


@statement("IN01")
def test_the_protocol_s_variables_replace_inherited_ones():
    inherited = {"CNI_COMMAND": "OLD", "CNI_IFNAME": "old", "OTHER": "stays"}
    pod = Container(id="c", netns="/n", ifname="eth0", args=(("A", "1"), ("B", "2")))
    assert environment(inherited, "ADD", pod, "/a:/b") == {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c",
        "CNI_NETNS": "/n",
        "CNI_ARGS": "A=1;B=2",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "/a:/b",
        "OTHER": "stays",
    }


# --- CHECK --------------------------------------------------------------------------------------


@statement("LA08")
@statement("LA12")
@statement("LA13")
def test_check_passes_a_cached_result_of_the_old_form(world):
    world.cache(json.dumps({**CACHED, "cniVersion": "0.4.0", "ips": []}))
    network = single(version="0.4.0")
    assert world.runtime.check(network, POD)
    (call,) = world.calls
    assert call["CNI_COMMAND"] == "CHECK"
    assert call["conf"]["prevResult"]["dns"] == {"nameservers": ["1.2.3.4"]}
    assert {"kind", "config", "networkName"} & set(call["conf"]["prevResult"]) == set()
    rest = {k: v for k, v in call["conf"].items() if k != "prevResult"}
    assert rest == {"name": "net", "cniVersion": "0.4.0", "type": "one"}


@statement("LA48")
@statement("LA50")
@both("version", ["0.4.0", "1.0.0"])
def test_check_of_a_list_gives_every_plugin_the_cached_result(world, version):
    world.cache(CACHED)
    assert world.runtime.check(triple(version), POD)
    assert world.verbs == ["CHECK one", "CHECK two", "CHECK three"]
    for call in world.calls:
        assert call["conf"]["prevResult"]["ips"][0]["address"] == "10.1.2.3/24"
        assert call["conf"]["prevResult"]["cniVersion"] == version


@both(
    "network",
    [
        pytest.param(single("nope"), marks=statement("LA09")),
        pytest.param(triple("1.0.0", "one", "nope"), marks=statement("LA52")),
    ],
)
def test_check_with_a_missing_plugin(world, network):
    assert 'failed to find plugin "nope"' in fails(world.runtime.check, network, POD).msg


@both(
    ("network", "broken"),
    [
        pytest.param(single(), "one", marks=statement("LA10")),
        pytest.param(triple(), "two", marks=statement("LA53")),
    ],
)
def test_check_returns_the_plugin_s_error_as_it_is(world, network, broken):
    world.plugin(broken, error=ERROR)
    error = fails(world.runtime.check, network, POD)
    assert (error.code, error.msg, error.details) == (50, "plugin error: banana", "yellow")
    assert world.verbs[-1] == f"CHECK {broken}"


@both(
    "network",
    [
        pytest.param(single(version="0.3.1"), marks=statement("LA11")),
        pytest.param(triple("0.3.1"), marks=statement("LA51")),
    ],
)
def test_check_of_0_3_1_is_refused(world, network):
    error = fails(world.runtime.check, network, POD)
    assert error.msg == 'configuration version "0.3.1" does not support the CHECK command'
    assert error.code == 1
    assert world.calls == []


@both(
    "network",
    [
        pytest.param(single(), marks=statement("LA14")),
        pytest.param(triple(), marks=statement("LA54")),
    ],
)
def test_a_cache_file_that_is_garbage_fails_check(world, network):
    world.cache("adfadsfasdfasfdsafaf")
    said = fails(world.runtime.check, network, POD).msg
    assert said.startswith('failed to get network "net" cached result: decoding version from ')
    assert world.calls == []


@statement("LA15")
def test_a_cached_result_of_an_older_version_is_converted(world):
    old = {"cniVersion": "0.3.1", "ips": [{"version": "4", "address": "10.1.2.3/24"}]}
    world.cache(old)
    world.runtime.check(single(), POD)
    assert world.calls[0]["conf"]["prevResult"] == {
        "cniVersion": "1.0.0",
        "ips": [{"address": "10.1.2.3/24"}],
    }


@statement("LA16")
def test_a_cached_result_of_an_unknown_version_fails_check(world):
    world.cache({"cniVersion": "0.4567.0", "ips": []})
    said = fails(world.runtime.check, single(), POD).msg
    assert 'unsupported CNI result version "0.4567.0"' in said


@statement("LA49")
def test_disable_check_runs_nothing(world):
    assert not world.runtime.check(triple(disableCheck=True), POD)
    assert world.calls == []


# --- DEL ----------------------------------------------------------------------------------------


@statement("LA17")
@statement("LA20")
def test_del_gets_the_cached_result_which_is_gone_afterwards(world):
    world.cache(CACHED)
    world.runtime.delete(single(), POD)
    assert world.calls[0]["conf"]["prevResult"]["dns"] == {"nameservers": ["1.2.3.4"]}
    assert world.cached == []
    assert Cache(str(world.results)).attachments() == []
    world.runtime.delete(single(), POD)
    assert "prevResult" not in world.calls[1]["conf"]


@statement("LA55")
def test_del_of_a_list_runs_backwards(world):
    world.cache(CACHED)
    world.runtime.delete(triple(), POD)
    assert world.verbs == ["DEL three", "DEL two", "DEL one"]
    assert world.cached == []


@both(
    ("network", "is_passed"),
    [
        pytest.param(single(version="0.3.1"), False, marks=statement("LA21")),
        pytest.param(single(version="0.4.0"), True, marks=statement("LA22")),
        pytest.param(triple("0.4.0"), True, marks=statement("LA56")),
        pytest.param(triple("0.3.1"), False, marks=statement("LA57")),
    ],
)
def test_del_gets_the_cached_result_from_0_4_0_on(world, network, is_passed):
    world.cache({**CACHED, "cniVersion": "1.0.0"})
    world.runtime.delete(network, POD)
    assert {"prevResult" in call["conf"] for call in world.calls} == {is_passed}


@both(
    "network",
    [
        pytest.param(single("nope"), marks=statement("LA18")),
        pytest.param(triple("1.0.0", "one", "nope"), marks=statement("LA58")),
    ],
)
def test_del_with_a_missing_plugin_keeps_the_cache(world, network):
    world.cache(CACHED)
    assert 'failed to find plugin "nope"' in fails(world.runtime.delete, network, POD).msg
    assert len(world.cached) == 1


@both(
    ("network", "broken"),
    [
        pytest.param(single(), "one", marks=statement("LA19")),
        pytest.param(triple(), "two", marks=statement("LA59")),
    ],
)
def test_an_error_of_del_names_the_plugin(world, network, broken):
    world.plugin(broken, error=ERROR)
    error = fails(world.runtime.delete, network, POD)
    named = ' name="net"' if len(network.plugins) == 1 else ""
    assert error.msg == f'plugin type="{broken}"{named} failed (delete): plugin error: banana'
    assert error.code == 50


@both(
    ("network", "content"),
    [
        pytest.param(single(), "garbage", marks=statement("LA23")),
        pytest.param(single(), {"cniVersion": "0.4567.0", "ips": []}, marks=statement("LA25")),
        pytest.param(triple(), "garbage", marks=statement("LA60")),
    ],
)
def test_del_goes_on_without_a_cached_result_it_cannot_use(world, network, content):
    world.cache(content)
    world.runtime.delete(network, POD)
    assert not any("prevResult" in call["conf"] for call in world.calls)
    assert world.cached == []


@statement("LA24")
def test_del_converts_a_cached_result(world):
    old = {"cniVersion": "0.3.1", "ips": [{"version": "4", "address": "10.1.2.3/24"}]}
    world.cache(old)
    world.runtime.delete(single(), POD)
    assert world.calls[0]["conf"]["prevResult"]["ips"] == [{"address": "10.1.2.3/24"}]


# --- GC and STATUS ------------------------------------------------------------------------------


@statement("LA63")
def test_garbage_collection(world):
    world.runtime.add(triple("1.1.0"), POD)
    assert world.runtime.gc(triple("1.1.0", disableGC=True), frozenset()) == []
    assert world.runtime.gc(triple("1.1.0"), {("some-id", "eth0")}) == []
    assert world.cached == ["net-some-id-eth0"]
    assert world.runtime.gc(triple("1.1.0"), frozenset()) == []
    assert world.cached == []
    first = [call for call in world.calls if call["plugin"] == "one"]
    assert [call["CNI_COMMAND"] for call in first] == ["ADD", "GC", "DEL", "GC"]
    pair = [{"containerID": "some-id", "ifname": "eth0"}]
    assert first[1]["conf"]["cni.dev/valid-attachments"] == pair
    assert first[3]["conf"]["cni.dev/valid-attachments"] == []
    assert first[1]["CNI_CONTAINERID"] == first[1]["CNI_NETNS"] == ""


@statement("LA64")
def test_status_reaches_the_plugins_at_1_1_0(world):
    assert world.runtime.status(triple("1.1.0"))
    assert world.verbs == ["STATUS one", "STATUS two", "STATUS three"]
    assert not world.runtime.status(triple("1.0.0"))
    assert len(world.calls) == 3


@statement("LA65")
def test_status_stops_at_the_first_error(world):
    world.plugin("two", error=ERROR)
    assert fails(world.runtime.status, triple("1.1.0")).code == 50
    assert world.verbs == ["STATUS one", "STATUS two"]


# --- deadlines ----------------------------------------------------------------------------------


def run_add(world, network):
    world.runtime.add(network, POD)


def run_delete(world, network):
    world.runtime.delete(network, POD)


def run_check(world, network):
    world.runtime.check(network, POD)


def run_versions(world, _network):
    world.caller.versions("one")


def run_validate(world, network):
    world.runtime.validate(network)


@both(
    ("run", "network"),
    [
        pytest.param(run_add, single(), marks=statement("LA66")),
        pytest.param(run_delete, single(), marks=statement("LA67")),
        pytest.param(run_check, single(), marks=statement("LA68")),
        pytest.param(run_versions, single(), marks=statement("LA69")),
        pytest.param(run_validate, single(), marks=statement("LA70")),
        pytest.param(run_add, triple(), marks=statement("LA71")),
        pytest.param(run_delete, triple("1.0.0", "three", "two", "one"), marks=statement("LA72")),
        pytest.param(run_check, triple(), marks=statement("LA73")),
        pytest.param(run_validate, triple(), marks=statement("LA74")),
    ],
)
def test_a_plugin_that_hangs_is_killed_at_the_deadline(world, run, network):
    world.plugin("one", hangs=True)
    world.limit(0.4)
    began = time.monotonic()
    assert "netplugin failed with no error message" in fails(run, world, network).msg
    assert time.monotonic() - began < 5
    pid = int((world.root / "one.pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_faulty_result_is_the_plugin_s_fault(world):
    world.plugin("one", result={"ips": [{"address": "nonsense"}]})
    error = fails(world.runtime.add, single(), POD)
    assert "its result is faulty: ips[0].address" in error.msg
    assert error.plugin == "one"


def test_a_list_without_plugins_is_none():
    with pytest.raises(ConfError, match="no plugins in list"):
        parse_list(b'{"name": "n", "plugins": []}')
