"""The executables of dist/bin as a node has them: copied, without Python, under any environment."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from cni_plugins import catalog, dispatch
from cni_plugins.deadline import Deadline
from cni_plugins.protocol.request import Request
from tests.kit.confs import bridge, chained
from tests.kit.fixtures import node, pod
from tests.kit.node import Node, Pod
from tests.kit.state import assert_same, snapshot

__all__ = ["node", "pod"]
pytestmark = pytest.mark.e2e

DIST = Path(__file__).parents[2] / "dist" / "bin"
PLUGINS = sorted(p.name for p in DIST.iterdir() if p.is_file() and p.name != "cnictl")
VERSIONS = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]
SINCE = {"bandwidth": "0.3.0", "firewall": "0.4.0", "vrf": "0.3.1"}
HIDE_PYTHON = """
mount --bind /dev/null $(realpath /usr/bin/python3)
for place in /usr/lib/python3*; do mount -t tmpfs tmpfs $place; done
"""
DUMP = 'env > "$DUMP_DIR/$(basename "$0").$$"\n'


def run(name: str, stdin: bytes = b"", bin_dir: Path = DIST, **env: str):
    """One entry with exactly this environment."""
    argv = [str(bin_dir / name)]
    return subprocess.run(argv, input=stdin, env=env, capture_output=True, timeout=60, check=False)


# --- without a container ------------------------------------------------------------------------


def test_there_is_an_entry_for_every_plugin():
    assert PLUGINS == sorted(catalog.PLUGINS)


@pytest.mark.parametrize("plugin", PLUGINS)
def test_version_needs_no_environment_but_the_verb(plugin):
    done = run(plugin, CNI_COMMAND="VERSION")
    assert (done.returncode, done.stderr) == (0, b"")
    known = catalog.find(plugin)
    assert known is not None
    request = Request({"CNI_COMMAND": "VERSION"}, lambda: b"", Deadline.after(5))
    assert done.stdout == dispatch.run(known, request).stdout
    answer = json.loads(done.stdout)
    assert answer["cniVersion"] == "1.1.0"
    assert answer["supportedVersions"] == VERSIONS[VERSIONS.index(SINCE.get(plugin, "0.1.0")) :]


def test_the_environment_chooses_no_other_python(tmp_path):
    for name in ("os", "json", "cni_plugins", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit(9)\n")
    for library in (DIST / "cni-plugins-runtime").rglob("lib*.so.*"):
        (tmp_path / library.name).write_bytes(b"no library")
    for name in ("PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH"):
        done = run("bridge", b"{", CNI_COMMAND="STATUS", CNI_PATH="/x", **{name: str(tmp_path)})
        assert json.loads(done.stdout)["code"] == 6
    done = run(
        "bridge", CNI_COMMAND="VERSION", LC_ALL="xx_XX", PYTHONINSPECT="1", PYTHONVERBOSE="1"
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("plugin", PLUGINS)
def test_version_is_what_the_bundle_would_answer(plugin):
    """The launcher answers it; the bundle still can."""
    bundle = next((DIST / "cni-plugins-runtime").iterdir()) / "cni-plugins"
    done = subprocess.run(
        [plugin], executable=bundle, env={"CNI_COMMAND": "VERSION"}, capture_output=True, check=True
    )
    assert run(plugin, CNI_COMMAND="VERSION").stdout == done.stdout


@pytest.mark.parametrize("plugin", PLUGINS)
def test_run_by_hand_it_says_what_it_is(plugin):
    done = run(plugin)
    assert (done.returncode, done.stdout) == (0, b"")
    first, second = done.stderr.decode().splitlines()
    assert first.startswith(f"CNI {plugin} plugin v")
    since = SINCE.get(plugin, "0.1.0")
    assert second.startswith(f"CNI protocol versions supported: {since}, ")
    assert second.endswith(", 1.1.0")


@pytest.mark.parametrize("plugin", PLUGINS)
@pytest.mark.parametrize(
    ("env", "stdin", "code"),
    [
        ({"CNI_COMMAND": "ADD"}, b"{}", 4),
        ({"CNI_COMMAND": "FROB"}, b'{"name": "n", "cniVersion": "1.1.0"}', 4),
        ({"CNI_COMMAND": "STATUS", "CNI_PATH": "/x"}, b'{"cniVersion": "1.1.0", "na', 6),
        ({"CNI_COMMAND": "STATUS", "CNI_PATH": "/x"}, b'{"name": "n", "cniVersion": "9.9.9"}', 1),
        ({"CNI_COMMAND": "STATUS", "CNI_PATH": "/x"}, b"\0" * 100, 6),
        ({"CNI_COMMAND": "STATUS", "CNI_PATH": "/x"}, b"[" * 100_000, 6),
        ({"CNI_COMMAND": "STATUS", "CNI_PATH": "/x"}, b" " * 10_000_000, 6),
    ],
    ids=["variables", "verb", "truncated", "version", "nul", "nested", "10 MB"],
)
def test_an_error_is_one_json_object(plugin, env, stdin, code):
    done = run(plugin, stdin, **env)
    error = json.loads(done.stdout)
    assert (done.returncode, error["code"]) == (1, code), error
    assert error["msg"]
    assert b"Traceback" not in done.stdout


def test_what_is_copied_elsewhere_runs(tmp_path):
    subprocess.run(["cp", "-r", f"{DIST}/.", str(tmp_path / "new place")], check=True)
    done = run("bridge", bin_dir=tmp_path / "new place", CNI_COMMAND="VERSION")
    assert done.returncode == 0
    done = run("cnictl", bin_dir=tmp_path / "new place")
    assert b"attach a container to a network" in done.stdout


@pytest.mark.parametrize("env", [{}, {"CNI_COMMAND": "VERSION"}], ids=["by hand", "VERSION"])
def test_an_entry_without_its_bundle_says_what_is_missing(tmp_path, env):
    shutil.copy(DIST / "bridge", tmp_path)
    done = run("bridge", bin_dir=tmp_path, **env)
    error = json.loads(done.stdout)
    assert (done.returncode, error["code"]) == (1, 999)
    assert f"{tmp_path}/cni-plugins-runtime/" in error["msg"]
    assert "install dist/bin whole" in error["details"]


def test_a_link_to_an_entry_is_the_entry(tmp_path):
    (tmp_path / "bridge").symlink_to(DIST / "bridge")
    assert run("bridge", bin_dir=tmp_path, CNI_COMMAND="VERSION").returncode == 0


# --- with a container ---------------------------------------------------------------------------


def whole_life(node: Node, pod: Pod, bin_dir: str = str(DIST)) -> None:
    """ADD, CHECK, ping, DEL; nothing is left."""
    conf = bridge(ipMasq=True)
    before = snapshot(node, pod)
    result = node.cni("bridge", "ADD", conf, netns=pod, binaries=bin_dir).result
    assert pod.addresses() == [result["ips"][0]["address"]]
    assert pod.pings("10.9.0.1")
    node.cni("bridge", "CHECK", chained(conf, result), netns=pod, binaries=bin_dir).ok()
    node.cni("bridge", "DEL", chained(conf, result), netns=pod, binaries=bin_dir).ok()
    assert_same(before, snapshot(node, pod))


def test_a_pod_s_whole_life(node, pod):
    whole_life(node, pod)


def test_it_needs_no_python_on_the_node(node, pod):
    copied = f"{node.scratch}/copied"
    subprocess.run(["cp", "-r", str(DIST), copied], check=True)
    node.sh("sh", "-c", HIDE_PYTHON)
    assert node.sh("/usr/bin/python3", "-c", "pass", check=False).returncode != 0
    whole_life(node, pod, copied)


def test_cnictl_attaches_and_detaches(node, pod):
    conf = {"cniVersion": "1.0.0", "name": "net1", "plugins": [bridge()]}
    node.write("/etc/cni/net.d/10-net1.conflist", json.dumps(conf))
    before = snapshot(node, pod)
    cnictl = ("env", f"CNI_PATH={DIST}", str(DIST / "cnictl"))
    assert "is attached to net1" in node.sh(*cnictl, "add", "net1", "pod1").stdout
    assert len(pod.addresses()) == 1
    assert "is as it was added" in node.sh(*cnictl, "check", "net1", "pod1").stdout
    node.sh(*cnictl, "del", "net1", "pod1")
    assert_same(before, snapshot(node, pod))


@pytest.fixture
def dumps(node) -> Path:
    """A directory with a delegate ``dumper`` and a tool ``nft`` that write their environment."""
    bin_dir = Path(node.scratch) / "dumping"
    bin_dir.mkdir()
    Node.install(str(bin_dir), "dumper", DUMP + "exit 1\n")
    Node.install(str(bin_dir), "nft", DUMP + 'exec /usr/sbin/nft "$@"\n')
    return bin_dir


@pytest.mark.parametrize("library_path", [None, "/opt/vendor/lib"])
def test_delegates_and_tools_get_the_caller_s_environment(node, pod, dumps, library_path):
    env = {"DUMP_DIR": str(dumps), "PATH": f"{dumps}:/usr/sbin:/usr/bin:/sbin:/bin", "OWN": "1"}
    if library_path:
        env["LD_LIBRARY_PATH"] = library_path
    delegating = bridge(ipam={"type": "dumper"})
    done = node.cni(
        "bridge", "ADD", delegating, netns=pod, binaries=str(DIST), path=str(dumps), env=env
    )
    assert done.exit_code == 1
    spoofcheck = bridge(macspoofchk=True)
    node.cni("bridge", "ADD", spoofcheck, netns=pod, binaries=str(DIST), env=env).ok()
    seen = {
        path.name.split(".")[0]: dict(
            line.split("=", 1) for line in path.read_text().splitlines() if "=" in line
        )
        for path in dumps.iterdir()
        if "." in path.name
    }
    assert set(seen) == {"dumper", "nft"}
    assert seen["dumper"]["CNI_CONTAINERID"] == "c1"
    for variables in seen.values():
        assert variables["OWN"] == "1"
        assert variables.get("LD_LIBRARY_PATH") == library_path
        assert [n for n in variables if "_MEI" in n or "_PYI" in n or n.endswith("_ORIG")] == []


# --- signals ------------------------------------------------------------------------------------


def started(node: Node, pod: Pod, command: str) -> subprocess.Popen[bytes]:
    """A call that stands in the middle of its work: its IPAM delegate waits."""
    waiting = Path(node.scratch) / "waiting"
    waiting.mkdir(exist_ok=True)
    Node.install(str(waiting), "slow", f'echo "$CNI_COMMAND" > {waiting}/called\nexec sleep 3\n')
    conf = json.dumps(bridge(ipam={"type": "slow"})).encode()
    variables = {
        "PATH": os.environ["PATH"],
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": pod.path,
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(waiting),
    }
    process = subprocess.Popen(
        [*node.enter(), str(DIST / "bridge")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=variables,
    )
    assert process.stdin is not None
    process.stdin.write(conf)
    process.stdin.close()
    process.stdin = None
    deadline = time.monotonic() + 20
    while not (waiting / "called").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (waiting / "called").unlink()
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_add_takes_everything_back_when_it_is_told_to_stop(node, pod, number):
    before = snapshot(node, pod)
    process = started(node, pod, "ADD")
    process.send_signal(number)
    stdout, _ = process.communicate()
    error = json.loads(stdout)
    assert process.returncode == 1
    assert number.name in error["msg"]
    assert_same(before, snapshot(node, pod))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_del_goes_on_to_its_end(node, pod, number):
    before = snapshot(node, pod)
    process = started(node, pod, "DEL")
    process.send_signal(number)
    assert process.communicate()[0] == b""
    assert process.returncode == 0
    assert_same(before, snapshot(node, pod))


def test_del_cleans_up_after_an_add_that_was_killed(node, pod):
    before = snapshot(node, pod)
    process = started(node, pod, "ADD")
    path = f"{DIST}:{node.scratch}/waiting"
    process.kill()
    process.communicate()
    node.cni("bridge", "DEL", bridge(), netns=pod, binaries=str(DIST), path=path).ok()
    assert_same(before, snapshot(node, pod))
