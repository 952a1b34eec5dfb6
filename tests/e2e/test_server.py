"""The fork server and its launchers: what is served, what is not, and what happens at the edges."""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cni_plugins import catalog
from tests.kit.confs import bridge, full_chain, host_local
from tests.kit.fixtures import pod
from tests.kit.node import Node, Outcome, Pod
from tests.kit.server import DIST, Server
from tests.kit.state import assert_same, snapshot
from tests.kit.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["pod"]
pytestmark = pytest.mark.e2e
SLOTS = 64
OURS = str(DIST)
CALL_SOCKET = "/run/cni-plugins/server/call.sock"


@pytest.fixture
def node() -> Iterator[Node]:
    """A host of its own, in either mode of this tier."""
    node = Node()
    yield node
    node.close()


@pytest.fixture
def cleanup(node) -> Iterator[contextlib.ExitStack]:
    """What is to end with the test, before its node does."""
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def server(node) -> Iterator[Server]:
    """Its server."""
    with Server(node.enter()) as server:
        yield server


def started(
    node: Node, plugin: str, command: str, conf: dict[str, Any], **over: str
) -> subprocess.Popen[bytes]:
    """A call that is under way, with its request handed over."""
    variables = {
        "PATH": os.environ["PATH"],
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": "/run/netns/pod1",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": OURS,
        **over,
    }
    process = subprocess.Popen(
        [*node.enter(), str(DIST / plugin)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=variables,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(conf).encode())
    process.stdin.close()
    process.stdin = None
    return process


def hanging(node: Node, verb: str = "ADD", then: str = "exec sleep 100") -> str:
    """A CNI_PATH with an IPAM plugin ``slow`` that hangs, and tells that it was called."""
    place = Path(node.scratch) / "hanging"
    place.mkdir(exist_ok=True)
    script = f'[ "$CNI_COMMAND" = {verb} ] || exit 0\necho >> {place}/called\n{then}\n'
    Node.install(str(place), "slow", script)
    return str(place)


def called(node: Node) -> int:
    """How often ``slow`` was called."""
    path = Path(node.scratch) / "hanging" / "called"
    return len(path.read_text().splitlines()) if path.exists() else 0


LOOPBACK = {"cniVersion": "1.1.0", "name": "n", "type": "loopback"}
SLOW = bridge(ipam={"type": "slow"})


# --- what is served -----------------------------------------------------------------------------


def chain_s_life(node: Node, pod: Pod) -> int:
    """ADD, CHECK and DEL of the five plugins; how many calls that were."""
    conf = {"cniVersion": "1.0.0", "name": "net1"}
    made = 0
    previous: dict[str, Any] = {}
    chain = full_chain(host_port=8080)
    for keys in chain:
        request = {**conf, **keys, **previous}
        result = node.cni(keys["type"], "ADD", request, netns=pod, binaries=OURS).result
        previous = {"prevResult": result}
        made += 1
    for verb, order in (("CHECK", chain), ("DEL", chain[::-1])):
        for keys in order:
            request = {**conf, **keys, **previous}
            node.cni(keys["type"], verb, request, netns=pod, binaries=OURS).ok()
            made += 1
    return made


def test_a_chain_s_whole_life_is_served(node, pod, server):
    made = chain_s_life(node, pod)
    before = snapshot(node, pod)
    made += chain_s_life(node, pod)
    assert server.calls() == {"begun": made, "answered": made, "lost": 0, "inFlight": 0}
    assert server.fallbacks() == {}
    assert_same(before, snapshot(node, pod))


REQUESTS: dict[str, tuple[dict[str, str], bytes]] = {
    "VERSION": ({"CNI_COMMAND": "VERSION"}, b""),
    "variables": ({"CNI_COMMAND": "ADD"}, b"{}"),
    "verb": ({"CNI_COMMAND": "FROB"}, b'{"name": "n", "cniVersion": "1.1.0"}'),
    "empty": ({"CNI_COMMAND": "STATUS", "CNI_PATH": "/x"}, b""),
    "truncated": ({"CNI_COMMAND": "STATUS", "CNI_PATH": "/x"}, b'{"cniVersion": "1.1.0", "na'),
    "nested": ({"CNI_COMMAND": "STATUS", "CNI_PATH": "/x"}, b"[" * 100_000),
    "nul": ({"CNI_COMMAND": "STATUS", "CNI_PATH": "/x"}, b"\0" * 100),
    "large": ({"CNI_COMMAND": "STATUS", "CNI_PATH": "/x"}, b" " * 8_000_000),
    "bytes": ({"CNI_COMMAND": "GC", "CNI_PATH": "/\udcff"}, b'{"name": "\xff"}'),
    "no netns": (
        {
            "CNI_COMMAND": "ADD",
            "CNI_CONTAINERID": "c1",
            "CNI_NETNS": "/nonexistent",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": "/nonexistent",
        },
        b'{"name": "n", "cniVersion": "1.1.0", "ipam": {"type": "none"}}',
    ),
    "faulty": (
        {
            "CNI_COMMAND": "DEL",
            "CNI_CONTAINERID": "c1",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": "/nonexistent",
        },
        b'{"name": "n", "cniVersion": "1.1.0", "mtu": "x", "ipam": [], "bridge": 7}',
    ),
}


def answer(node: Node, plugin: str, request: str, *wrapper: str) -> tuple[int, bytes, bytes]:
    """What an entry answers, whoever does it."""
    env, stdin = REQUESTS[request]
    done = subprocess.run(
        [*node.enter(), *wrapper, str(DIST / plugin)],
        input=stdin,
        env=env,
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("plugin", catalog.PLUGINS)
def test_the_server_answers_as_a_fresh_process(node, plugin):
    fresh = {name: answer(node, plugin, name) for name in REQUESTS}
    with Server(node.enter()) as server:
        earlier = server.fallbacks()
        served = {name: answer(node, plugin, name) for name in REQUESTS}
        assert server.calls()["answered"] == len(REQUESTS) - 1, "all but VERSION"
        assert server.fallbacks() == earlier
    assert served == fresh


def test_a_call_stands_where_its_caller_stands(node, pod, server):
    """Directory, umask, limits, environment; tools inherit them, and no descriptor of the server."""
    shown = f"{node.scratch}/shown"
    Path(shown).mkdir()
    script = f"""
exec > {shown}/all
pwd; umask; ulimit -n; ulimit -c; echo "$OWN"; ls -l /proc/self/fd | grep -c "sock\\|pipe"
grep -E "^Sig(Ign|Blk)" /proc/self/status | sed "s/0.*\\(.......\\)$/\\1/"
exit 1
"""
    Node.install(shown, "shown", script)
    request = json.dumps(bridge(ipam={"type": "shown"})).encode()
    env = {
        "PATH": os.environ["PATH"],
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": pod.path,
        "CNI_IFNAME": "eth0",
        "CNI_PATH": shown,
        "OWN": "of the caller",
    }
    shell = f"cd {shown}; umask 027; ulimit -n 123; ulimit -c 0; exec {DIST}/bridge"
    done = subprocess.run(
        [*node.enter(), "sh", "-c", shell],
        input=request,
        env=env,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    served = Path(f"{shown}/all").read_text()
    assert server.fallbacks() == {}
    assert served.splitlines()[:5] == [shown, "0027", "123", "0", "of the caller"]
    server.close()
    subprocess.run(
        [*node.enter(), "sh", "-c", shell], input=request, env=env, capture_output=True, check=False
    )
    assert Path(f"{shown}/all").read_text() == served


def test_the_journal_names_the_runtime_and_not_the_server(node, pod, server):
    node.cni("bridge", "ADD", bridge(), netns=pod, binaries=OURS).ok()
    entry = next(f for f in node.files("/run/cni-plugins/journal") if f.endswith("bridge.json"))
    assert "cni-plugins-runtime" not in json.loads(node.read(entry))["witness"]["runtime"]
    assert server.fallbacks() == {}


# --- what is not served -------------------------------------------------------------------------


def test_without_a_server_the_bundle_runs_the_call(node, pod):
    whole_life(node, pod)
    done = node.sh(f"{DIST}/cnictl", "status", check=False)
    assert done.returncode == 1
    assert "no fork server answers" in done.stdout
    assert re.search("no server +2", done.stdout)


def whole_life(node: Node, pod: Pod) -> None:
    """ADD and DEL."""
    before = snapshot(node, pod)
    node.cni("bridge", "ADD", bridge(), netns=pod, binaries=OURS).ok()
    node.cni("bridge", "DEL", bridge(), netns=pod, binaries=OURS).ok()
    assert_same(before, snapshot(node, pod))


@pytest.mark.parametrize(
    ("wrapper", "reason"),
    [
        (("unshare", "--net"), "server in other namespaces"),
        (("unshare", "--mount"), "server in other namespaces"),
        (("unshare", "--pid", "--fork", "--mount-proc"), "server in other namespaces"),
        (
            ("setpriv", "--bounding-set", "-sys_time", "--inh-caps", "-all"),
            "server with other rights",
        ),
    ],
)
def test_a_caller_that_stands_elsewhere_is_not_served(node, server, wrapper, reason):
    status, stdout, _ = answer(node, "bridge", "truncated", *wrapper)
    assert (status, json.loads(stdout)["code"]) == (1, 6)
    assert server.fallbacks() == {reason: 1}
    assert server.calls()["begun"] == 0


def test_too_large_a_request_is_the_bundle_s(node, server):
    env, _ = REQUESTS["truncated"]
    done = subprocess.run(
        [*node.enter(), str(DIST / "bridge")],
        input=b" " * 10_000_000,
        env=env,
        capture_output=True,
        check=False,
    )
    assert json.loads(done.stdout)["code"] == 6
    assert server.fallbacks() == {"too much standard input": 1}


# --- the socket ---------------------------------------------------------------------------------


def connected(node: Node) -> socket.socket:
    """A connection to the socket for calls."""

    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(10)
    connection.connect(f"/proc/{node.holder_pid}/root{CALL_SOCKET}")
    return connection


GO = struct.pack("=8s16s6I32Q", b"CNI-GO-1", b"0" * 16, 1, 0o22, 7, 0, 1, 0, *[1024] * 32)


@pytest.mark.parametrize(
    "message",
    [
        b"GET / HTTP/1.1\r\n\r\n" * 40,
        b"\0" * 4096,
        os.urandom(4096),
        GO[:40],
        GO,
        GO + b"bridge",
        GO + b"bridge\0/" + b"more",
        struct.pack("=8s16s6I32Q", b"CNI-GO-1", b"0" * 16, 1, 0, *[0xFFFFFFF0] * 4, *[0] * 32),
        GO + b"frobby\0/",
        b"",
    ],
)
def test_what_is_no_call_is_refused(node, pod, server, message):
    with connected(node) as connection:
        assert len(connection.recv(4096)) > 100
        connection.sendall(message)
        connection.shutdown(socket.SHUT_WR)
        try:
            assert connection.recv(4096) == b""
        except ConnectionResetError:
            pass  # what it had not read yet was thrown away
    whole_life(node, pod)
    assert server.calls()["answered"] == 2
    assert server.fallbacks() == {}


def test_another_user_is_refused(node, pod, server):
    node.sh("chmod", "755", "/run/cni-plugins", "/run/cni-plugins/server")
    node.sh("chmod", "666", CALL_SOCKET)
    code = (
        "import socket; s = socket.socket(socket.AF_UNIX);"
        f"s.connect({CALL_SOCKET!r}); print(s.recv(100))"
    )
    argv = ("setpriv", "--reuid=65534", "--clear-groups", "/usr/bin/python3", "-c", code)
    assert node.sh(*argv).stdout == "b''\n"
    assert "refused a connection that is not root's" in server.log()
    whole_life(node, pod)
    assert server.fallbacks() == {}


def test_a_thousand_connections_that_say_nothing(node, pod, server):
    """They get their slots for a second each; calls are run meanwhile, by whomever."""

    def occupy(_: int) -> None:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(3)
            connection.connect(f"/proc/{node.holder_pid}/root{CALL_SOCKET}")
            connection.recv(4096)
            connection.recv(1)

    with concurrent.futures.ThreadPoolExecutor(1000) as pool:
        list(pool.submit(occupy, n) for n in range(1000))
        time.sleep(0.5)
        whole_life(node, pod)
        node.cni("loopback", "STATUS", LOOPBACK, binaries=OURS).ok()
    earlier = server.fallbacks()
    whole_life(node, pod)
    assert server.fallbacks() == earlier
    assert server.status()["server"]["children"]["all"] <= 14


def test_all_slots_filled_with_hung_children(node, pod, server):
    path = hanging(node)
    hung = [
        started(node, "bridge", "ADD", SLOW, CNI_PATH=path, CNI_CONTAINERID=f"h{n}", CNI_NETNS=p)
        for n, p in enumerate(node.pod(f"hung{n}").path for n in range(SLOTS))
    ]
    wait_for("all slots to hang", lambda: called(node) >= SLOTS, 60)
    assert server.calls()["inFlight"] == SLOTS

    fastest = 1.0
    for _ in range(5):
        began = time.monotonic()
        node.cni("loopback", "STATUS", LOOPBACK, binaries=OURS).ok()
        fastest = min(fastest, time.monotonic() - began)
    assert fastest < 0.1
    assert server.fallbacks() == {}
    whole_life(node, pod)
    assert server.fallbacks() == {"no free slot in time": 2}

    for process in hung:
        process.kill()
        process.communicate()
    server.wait(lambda: server.calls()["inFlight"] == 0)
    assert node.sh("pgrep", "-f", f"{path}/slow", check=False).stdout == ""


# --- ends ---------------------------------------------------------------------------------------


def test_a_killed_launcher_s_pipes_end_at_once_and_its_add_is_undone(node, pod, server):
    before = snapshot(node, pod)
    process = started(node, "bridge", "ADD", SLOW, CNI_PATH=hanging(node))
    wait_for("the delegate", lambda: called(node) == 1)
    process.kill()
    began = time.monotonic()
    process.communicate()
    assert time.monotonic() - began < 0.1
    server.wait(lambda: server.calls()["inFlight"] == 0)
    assert_same(before, snapshot(node, pod))
    assert server.calls() == {"begun": 1, "answered": 1, "lost": 0, "inFlight": 0}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_call(node, pod, server, number):
    before = snapshot(node, pod)
    process = started(node, "bridge", "ADD", SLOW, CNI_PATH=hanging(node))
    wait_for("the delegate", lambda: called(node) == 1)
    process.send_signal(number)
    stdout, _ = process.communicate(timeout=10)
    assert number.name in json.loads(stdout)["msg"]
    assert_same(before, snapshot(node, pod))
    assert server.fallbacks() == {}


def children_of(pid: int) -> list[int]:
    """Processes whose parent it is."""
    listed = subprocess.run(
        ["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False
    ).stdout
    return [int(line) for line in listed.split()]


def test_a_child_that_is_killed_within_add_is_told_and_del_cleans_up(node, pod, server):
    before = snapshot(node, pod)
    process = started(node, "bridge", "ADD", SLOW, CNI_PATH=hanging(node))
    wait_for("the delegate", lambda: called(node) == 1)
    pid = server.status()["server"]["pid"]
    busy = next(c for c in children_of(pid) if children_of(c))
    tools = children_of(busy)
    os.kill(busy, signal.SIGKILL)
    stdout, _ = process.communicate(timeout=10)
    for tool in tools:
        os.kill(tool, signal.SIGKILL)
    error = json.loads(stdout)
    assert (process.returncode, error["code"]) == (1, 999)
    call = re.search("call ([0-9a-f]{16})", error["details"])
    assert call is not None
    assert "DEL" in error["details"]
    assert f"begun {call[1]} ADD bridge c1" in server.log()
    assert f"ended {call[1]}" not in server.log()
    assert server.fallbacks() == {"ended without an answer": 1}
    assert server.calls()["lost"] == 1
    node.cni("bridge", "DEL", SLOW, netns=pod, binaries=OURS, path=hanging(node)).ok()
    assert_same(before, snapshot(node, pod))


def test_a_child_that_is_killed_within_del_is_replaced_by_the_bundle(node, pod, server):
    before = snapshot(node, pod)
    path = hanging(node, "DEL")
    process = started(node, "bridge", "DEL", SLOW, CNI_PATH=path)
    wait_for("the delegate", lambda: called(node) == 1)
    busy = next(c for c in children_of(server.status()["server"]["pid"]) if children_of(c))
    tools = children_of(busy)
    Node.install(path, "slow", "exit 0\n")
    os.kill(busy, signal.SIGKILL)
    assert process.communicate(timeout=10)[0] == b""
    assert process.returncode == 0
    for tool in tools:
        os.kill(tool, signal.SIGKILL)
    assert server.fallbacks() == {"ended without an answer": 1}
    assert_same(before, snapshot(node, pod))


def test_a_stop_lets_calls_end(node, pod, server):
    path = hanging(node, "DEL", "sleep 1")
    process = started(node, "bridge", "DEL", SLOW, CNI_PATH=path)
    wait_for("the delegate", lambda: called(node) == 1)
    server.process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=10)[0] == b""
    assert process.returncode == 0
    assert server.process.wait(10) == 0
    assert "stopped after 1 calls" in server.log()
    assert node.sh("ls", "/run/cni-plugins/server").stdout == "lock\n"


def test_a_stale_socket_is_replaced_and_a_living_one_is_not(node, pod, server):
    second = node.sh(f"{DIST}/cnictl", "serve", check=False)
    assert second.returncode == 1
    assert "another fork server serves this node" in second.stderr
    server.process.kill()
    server.process.wait()
    assert "call.sock" in node.sh("ls", "/run/cni-plugins/server").stdout
    whole_life(node, pod)
    assert server.fallbacks() == {"no server": 2}
    server.start()
    whole_life(node, pod)
    assert server.calls()["answered"] == 2
    assert server.fallbacks() == {"no server": 2}


def test_sockets_of_systemd_stay(node, pod):
    """As sd_listen_fds(3) hands them over."""
    code = f"""
import os, socket
os.makedirs("/run/cni-plugins/server", 0o700)
for n, name in enumerate(("call", "quick", "status")):
    s = socket.socket(socket.AF_UNIX)
    s.bind(f"/run/cni-plugins/server/{{name}}.sock")
    s.listen(128)
    os.dup2(s.fileno(), 3 + n + 10)
for n in range(3):
    os.dup2(13 + n, 3 + n)
os.environ["LISTEN_PID"] = str(os.getpid())
os.environ["LISTEN_FDS"] = "3"
os.execv("{DIST}/cnictl", ["cnictl", "serve"])
"""
    process = subprocess.Popen([*node.enter(), "/usr/bin/python3", "-c", code])
    wait_for("the server", lambda: (asked(node) or {}).get("children", {}).get("waiting"))
    whole_life(node, pod)
    status = asked(node)
    assert status is not None
    assert status["calls"]["answered"] == 2
    process.terminate()
    assert process.wait(10) == 0
    assert "call.sock" in node.sh("ls", "/run/cni-plugins/server").stdout


def asked(node: Node) -> dict[str, Any] | None:
    """What the server says of itself."""
    done = node.sh(f"{DIST}/cnictl", "status", "--json", check=False)
    found: dict[str, Any] | None = json.loads(done.stdout)["server"]
    return found


def test_nothing_leaks(node, pod, server):
    pid = server.status()["server"]["pid"]
    whole_life(node, pod)
    before = len(os.listdir(f"/proc/{pid}/fd"))
    for _ in range(20):
        whole_life(node, pod)
        node.cni("loopback", "STATUS", LOOPBACK, binaries=OURS).ok()
    server.wait(lambda: server.status()["server"]["children"]["waiting"] == 12)
    assert len(os.listdir(f"/proc/{pid}/fd")) == before
    memory = server.status()["server"]["memoryKiB"]
    assert memory["server"] < 80 << 10
    assert memory["child"] < 10 << 10


# --- under load ---------------------------------------------------------------------------------

STORM = 500


def storm_conf() -> dict[str, Any]:
    """A network with room for them all."""
    return bridge(ipam=host_local("10.9.0.0/16"))


def storm_call(node: Node, verb: str, n: int, bin_dir: str = OURS) -> Outcome:
    """A call for the n-th pod."""
    return node.cni(
        "bridge",
        verb,
        storm_conf(),
        netns=f"/run/netns/storm{n}",
        container_id=f"storm{n}",
        binaries=bin_dir,
        path=bin_dir,
    )


def test_the_server_is_killed_again_and_again_in_a_storm(node, cleanup):
    """No ADD is lost but those that the log shows as begun and not ended; DEL leaves nothing."""
    for n in range(STORM):
        node.pod(f"storm{n}")
    node.cni("bridge", "ADD", storm_conf(), netns="/run/netns/storm0", container_id="x").ok()
    node.cni("bridge", "DEL", storm_conf(), netns="/run/netns/storm0", container_id="x").ok()
    before = snapshot(node)
    server = cleanup.enter_context(Server(node.enter()))
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        calls = [pool.submit(storm_call, node, "ADD", n) for n in range(STORM)]
        while sum(call.done() for call in calls) < STORM - 100:
            time.sleep(1.5)
            group = [server.process.pid, *children_of(server.process.pid)]
            for pid in group:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            server.process.wait()
            server.start()
        outcomes = {f"storm{n}": call.result() for n, call in enumerate(calls)}
    log = server.log()
    begun = dict(re.findall(r"^begun ([0-9a-f]{16}) ADD bridge (\S+)$", log, re.MULTILINE))
    ended = set(re.findall(r"^ended ([0-9a-f]{16}) ", log, re.MULTILINE))
    unfinished = {call for call in begun if call not in ended}
    failed = {name: o.error["details"] for name, o in outcomes.items() if o.exit_code != 0}
    for name, details in failed.items():
        call = re.search("call ([0-9a-f]{16})", details)
        assert call is not None, details
        assert begun[call[1]] == name
        assert call[1] in unfinished
    assert len(failed) <= len(unfinished)
    assert len(begun) > STORM / 4, "the storm was served"

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        for outcome in pool.map(lambda n: storm_call(node, "DEL", n), range(STORM)):
            outcome.ok()
    server.close()
    assert_same(before, snapshot(node))


def another_build(where: Path) -> None:
    """The same executables under another id."""
    shutil.copytree(DIST, where)
    runtime = where / "cni-plugins-runtime"
    old = next(runtime.iterdir()).name
    new = old[:-12] + "0123456789ab"
    (runtime / old).rename(runtime / new)
    for entry in where.iterdir():
        if entry.is_file():
            entry.write_bytes(entry.read_bytes().replace(old.encode(), new.encode()))


def test_an_upgrade_in_place_under_load(node, cleanup):
    """A new build beside the old one, its launchers renamed one by one: no call fails."""
    installed = Path(node.scratch) / "installed"
    shutil.copytree(DIST, installed)
    staged = Path(node.scratch) / "staged"
    another_build(staged)
    for n in range(100):
        node.pod(f"storm{n}")
    server = cleanup.enter_context(Server(node.enter(), installed))
    old = server.status()["server"]["build"]
    runtime = next((staged / "cni-plugins-runtime").iterdir())
    shutil.copytree(runtime, installed / "cni-plugins-runtime" / runtime.name)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(storm_call, node, "ADD", n, str(installed)) for n in range(100)]
        next(itertools.islice(concurrent.futures.as_completed(calls), 9, None))
        for entry in sorted(p for p in staged.iterdir() if p.is_file()):
            entry.rename(installed / entry.name)
        outcomes = [call.result() for call in calls]
    assert [o.stdout for o in outcomes if o.exit_code != 0] == []
    assert server.fallbacks(), "the server was replaced while calls came"
    time.sleep(5)
    served = server.calls()["answered"] if server.status()["server"]["build"] != old else 0
    earlier = server.fallbacks()
    for n in range(20):
        storm_call(node, "DEL", n, str(installed)).ok()
    assert server.status()["server"]["build"] == runtime.name != old
    assert server.calls()["answered"] - served == 20
    assert server.fallbacks() == earlier
