"""The launcher alone: with a scripted server, under the sanitizers and valgrind.

It is compiled here with another place for its state, and beside a bundle that tells that it ran.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cni_plugins import catalog, dispatch
from forkserver import identity, wire
from tests.kit.node import Node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "launcher" / "launcher.c"
BUILD = "0.0.1-test"
FLAGS = {
    "sanitized": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1"],
    "valgrind": ["-g", "-O1"],
}
WRAPPERS = {
    "sanitized": [],
    "valgrind": ["valgrind", "-q", "--error-exitcode=99", "--leak-check=full"],
}
BUNDLE = 'echo "bundle $(basename "$0") $CNI_COMMAND"; cat; exit 7\n'


class Launcher:
    """A compiled launcher, and a server that plays a script for each connection."""

    def __init__(self, place: Path, how: str) -> None:
        self.state = place / "state"
        self.state.mkdir(mode=0o700)
        (self.state / "server").mkdir()
        runtime = place / "cni-plugins-runtime" / BUILD
        runtime.mkdir(parents=True)
        Node.install(str(runtime), "cni-plugins", BUNDLE)
        self.bundle = runtime / "cni-plugins"
        self._place = place
        self._entry = str(place / "bridge")
        self._wrapper = WRAPPERS[how]
        argv = ["cc", "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
        names = [f'-DBUILD_ID="{BUILD}"', f'-DSTATE_DIR="{self.state}"', f"-I{place}"]
        table = subprocess.run([ROOT / "tools" / "version-table"], capture_output=True, check=True)
        (place / "versions.h").write_bytes(table.stdout)
        subprocess.run([*argv, *FLAGS[how], *names, "-o", self._entry, str(SOURCE)], check=True)

    def call(
        self, stdin: bytes = b"the request", verb: str = "DEL", **env: str
    ) -> subprocess.CompletedProcess[bytes]:
        """One call."""
        return subprocess.run(
            [*self._wrapper, self._entry],
            input=stdin,
            env={"PATH": os.environ["PATH"], "CNI_COMMAND": verb, **env},
            capture_output=True,
            timeout=60,
            check=False,
        )

    def ask_version(
        self, *arguments: str, name: str = "bridge"
    ) -> subprocess.CompletedProcess[bytes]:
        """Called as ``name`` for VERSION, with something to read that must stay unread."""
        entry = self._place / name
        if not entry.exists():
            entry.symlink_to(self._entry)
        request = self._place / "request"
        request.write_bytes(b"unread")
        with request.open("rb") as stdin:
            done = subprocess.run(
                [*self._wrapper, str(entry), *arguments],
                stdin=stdin,
                env={"PATH": os.environ["PATH"], "CNI_COMMAND": "VERSION"},
                capture_output=True,
                timeout=60,
                check=False,
            )
            if done.returncode == 0:
                assert os.lseek(stdin.fileno(), 0, os.SEEK_CUR) == 0
        return done

    @contextlib.contextmanager
    def server(self, script: Callable[[socket.socket], None]) -> Iterator[None]:
        """A server on both sockets."""
        listeners = []
        for name in ("call", "quick"):
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(f"{self.state}/server/{name}.sock")
            listener.listen()
            listeners.append(listener)
            threading.Thread(target=self._serve, args=(listener, script), daemon=True).start()
        try:
            yield
        finally:
            for listener in listeners:
                listener.shutdown(socket.SHUT_RDWR)
                listener.close()

    def _serve(self, listener: socket.socket, script: Callable[[socket.socket], None]) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    script(connection)

    def fallbacks(self) -> dict[str, int]:
        """What it counted."""
        path = self.state / "fallbacks"
        raw = path.read_bytes() if path.exists() else b""
        size = 8 * len(wire.REASONS)
        counters = struct.unpack(f"={len(wire.REASONS)}Q", raw.ljust(size, b"\0"))
        return {r: n for r, n in zip(wire.REASONS, counters, strict=True) if n}


@pytest.fixture(params=list(FLAGS))
def launcher(request, tmp_path) -> Launcher:
    """One that watches itself."""
    return Launcher(tmp_path, request.param)


def ready(build: str = BUILD, **over: object) -> bytes:
    """READY of a server that stands here."""
    return wire.ready(identity.observe()._replace(build=build, **over))


def receive_go(connection: socket.socket) -> wire.Go:
    """A whole GO."""
    raw = b""
    while len(raw) < wire.GO_HEADER_BYTES:
        raw += connection.recv(1 << 20)
    header = wire.parse_header(raw[: wire.GO_HEADER_BYTES])
    while len(raw) < wire.GO_HEADER_BYTES + header.rest:
        raw += connection.recv(1 << 20)
    return wire.parse_go(header, raw[wire.GO_HEADER_BYTES :])


def test_a_call_goes_over_whole_and_its_answer_comes_back(launcher):
    calls = []

    def script(connection: socket.socket) -> None:
        connection.sendall(ready())
        calls.append(receive_go(connection))
        answer = wire.reply(3, b"out" * 100_000, b"err" * 50_000)
        for part in (wire.BEGUN, answer[:10], answer[10:1000], answer[1000:]):
            connection.sendall(part)
            time.sleep(0.01)

    stdin = os.urandom(3_000_000)
    with launcher.server(script):
        done = launcher.call(stdin, OWN="ä=ö", EMPTY="")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"out" * 100_000, b"err" * 50_000)
    assert calls[0].stdin == stdin
    assert calls[0].argv[0].endswith("/bridge")
    assert calls[0].env["OWN"] == "ä=ö"
    assert calls[0].env["EMPTY"] == ""
    assert calls[0].cwd == os.getcwdb()
    assert calls[0].header.caller == os.getpid()
    assert launcher.fallbacks() == {}


def says(*parts: bytes, after_go: bool = False) -> Callable[[socket.socket], None]:
    """A server that says this and hangs up."""

    def script(connection: socket.socket) -> None:
        first, *rest = parts or (b"",)
        connection.sendall(first)
        if after_go:
            receive_go(connection)
        for part in rest:
            connection.sendall(part)

    return script


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (says(), "no free slot in time"),
        (says(b"x"), "no free slot in time"),
        (says(b"\0" * 10_000), "no free slot in time"),
        (says(ready()[:-1]), "no free slot in time"),
        (says(ready("0.0.1-other")), "server of another build"),
        (says(ready(places=((1, 1),) * 5)), "server in other namespaces"),
        (says(ready(places=((0, 0),) * 5)), "server in other namespaces"),
        (says(ready(capabilities=1)), "server with other rights"),
        (says(ready(label=b"x" * 256)), "server with other rights"),
        (says(ready()), "ended before it began"),
        (says(ready(), after_go=True), "ended before it began"),
        (says(ready(), b"CNI", after_go=True), "ended before it began"),
        (says(ready(), b"CNI-XYZ1", after_go=True), "ended before it began"),
        (says(ready(), wire.BEGUN, after_go=True), "ended without an answer"),
        (says(ready(), wire.BEGUN, b"x" * 24, after_go=True), "ended without an answer"),
        (
            says(ready(), wire.BEGUN, wire.reply(0, b"abc", b"")[:-1], after_go=True),
            "ended without an answer",
        ),
        (
            says(
                ready(),
                wire.BEGUN,
                struct.pack("=8s4I", b"CNI-RPL1", 0, 0xFFFFFFFF, 0xFFFFFFFF, 0),
                after_go=True,
            ),
            "ended without an answer",
        ),
    ],
)
def test_whatever_a_server_says_the_call_is_answered(launcher, script, reason):
    with launcher.server(script):
        done = launcher.call()
        assert (done.returncode, done.stdout) == (7, b"bundle cni-plugins DEL\nthe request")
        assert launcher.fallbacks() == {reason: 1}
        added = launcher.call(verb="ADD")
    if reason == "ended without an answer":
        error = json.loads(added.stdout)
        assert (added.returncode, error["code"]) == (1, 999)
        assert "DEL" in error["details"]
    else:
        assert added.returncode == 7
    assert launcher.fallbacks() == {reason: 2}


def test_a_server_that_hangs_is_not_waited_for(launcher):
    with launcher.server(lambda _: time.sleep(2)):
        began = time.monotonic()
        assert launcher.call().returncode == 7
        assert time.monotonic() - began < 1.9
    assert launcher.fallbacks() == {"no free slot in time": 1}


def test_nobody_listens(launcher):
    for verb in ("STATUS", "ADD"):
        assert launcher.call(verb=verb).returncode == 7
    assert launcher.fallbacks() == {"no server": 2}


# --- VERSION ------------------------------------------------------------------------------------


def test_version_is_answered_without_anybody(launcher):
    connections: list[socket.socket] = []
    with launcher.server(connections.append):
        for name in catalog.PLUGINS:
            plugin = catalog.find(name)
            assert plugin is not None
            done = launcher.ask_version(name=name)
            expected = dispatch.version_object(plugin.versions)
            assert (done.returncode, done.stdout, done.stderr) == (0, expected, b"")
    assert connections == []
    assert launcher.fallbacks() == {}


@pytest.mark.parametrize("name", ["frob", "cnictl", "bridg", "bridge2", "Bridge"])
def test_version_of_what_is_no_plugin_is_the_bundle_s(launcher, name):
    done = launcher.ask_version(name=name)
    assert (done.returncode, done.stdout) == (7, b"bundle cni-plugins VERSION\nunread")


def test_version_with_arguments_is_the_bundle_s(launcher):
    assert launcher.ask_version("daemon", name="dhcp").returncode == 7


@pytest.mark.parametrize("verb", ["VERSIO", "VERSIONS", "version", " VERSION"])
def test_what_only_looks_like_version_is_a_call(launcher, verb):
    assert launcher.call(verb=verb).stdout == f"bundle cni-plugins {verb}\nthe request".encode()
    assert launcher.fallbacks() == {"no server": 1}


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (Path.unlink, "No such file or directory"),
        (lambda bundle: bundle.chmod(0o644), "Permission denied"),
        (lambda bundle: (bundle.unlink(), bundle.mkdir()), "Permission denied"),
    ],
    ids=["missing", "not executable", "a directory"],
)
def test_version_without_a_bundle_says_why(launcher, spoil, why):
    spoil(launcher.bundle)
    connections: list[socket.socket] = []
    with launcher.server(connections.append):
        done = launcher.ask_version()
    assert connections == []
    error = json.loads(done.stdout)
    assert (done.returncode, error["code"]) == (1, 999)
    assert error["msg"] == f"run {launcher.bundle}: {why}"


def test_a_link_in_place_of_the_counters_is_not_followed(launcher, tmp_path):
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    (launcher.state / "fallbacks").symlink_to(target)
    assert launcher.call().returncode == 7
    assert target.read_bytes() == b"precious"


def test_too_large_a_request(launcher):
    done = launcher.call(b"x" * ((8 << 20) + 1))
    assert done.stdout == b"bundle cni-plugins DEL\n" + b"x" * ((8 << 20) + 1)
    assert launcher.fallbacks() == {"too much standard input": 1}
