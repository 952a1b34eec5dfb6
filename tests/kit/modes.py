"""The same calls by a fork server's child, by a fresh interpreter and by a child of the tests.

The netns tier's calls are made by children that the tests fork.  With ``--record-calls DIR`` it
writes down what they answer; with ``--compare-calls DIR`` the tests run again, each call goes
through the launcher to a fork server on its node, and

- exit status, standard output and standard error are those that were recorded for this call of this
  test, after masking what no two runs have in common (:data:`MASKS`);
- a call that changes nothing (CHECK, STATUS, VERSION, but not those that ask the DHCP daemon, nor
  in tests marked once; and whatever is refused with one of :data:`REFUSED`) is then made once more,
  on the same node, by an interpreter started for it, and is answered with the same bytes, nothing
  masked.

Launcher and server are of the checkout: the launcher is compiled for the build "dev", and the bundle
beside it is one that fails, so that no call goes anywhere but to the server.  Servers are forked
from one that is warm already (tests/kit/zygote.py).

Left to the tests' own children, in both runs: calls for which something in the process is prepared
(faults, a kill), with less time than a plugin has by itself, and those made at the same time as
others.  They are counted and printed.  Tests marked faults or storm, which make hardly any other,
are not run again.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from cni_plugins import catalog
from cni_plugins.build_info import build_id
from forkserver import wire
from forkserver.server import _POOLS
from tests.kit.node import Asked, Node, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
REPEATABLE = {"CHECK", "STATUS", "VERSION"}
REFUSED = {1, 2, 4, 6}
"""Errors of the environment and of the request as a whole, which come before a plugin is loaded."""
MASKS: tuple[tuple[str, str], ...] = (
    (r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b", "MAC"),
    (r"cni-node-\w+", "SCRATCH"),
    (r"\b\d+ s old\b", "AGE"),
    (r"\b192\.168\.1\.\d+\b", "DHCP"),
    (r"\b\d+ DHCPDISCOVER in\b", "TRIES"),
)
"""Random MAC addresses, the node's directory of scratch files, the age of a lease, addresses that
dnsmasq chose, and how often it was asked in the time there was."""
_FRESH = (
    "import sys; sys.path.insert(0, sys.argv[1]); del sys.argv[:2];"
    "from cni_plugins.main import main; sys.exit(main())"
)
_LIMIT_S = 60.0
_SEATS = sum(waiting for waiting, _ in _POOLS.values())


def test_id() -> str:
    """The test that runs."""
    return os.environ["PYTEST_CURRENT_TEST"].rpartition(" (")[0]


class Recording:
    """Calls as always, written down.

    Args:
        place: a directory.
    """

    def __init__(self, place: Path) -> None:
        self.is_once = False
        place.mkdir(exist_ok=True)
        self._file = (place / f"{os.getpid()}.jsonl").open("w", encoding="utf-8")

    def make(self, node: Node, asked: Asked, forked: Callable[[], Outcome]) -> Outcome:
        """Make the call."""
        outcome = forked()
        self._file.write(json.dumps([test_id(), *facts(asked, outcome)]) + "\n")
        self._file.flush()
        return outcome

    def left(self, reason: str) -> None:
        """A call that is not written down."""

    def leave(self, node: Node) -> None:
        """The node goes."""

    def close(self) -> str:
        """The end; a line about it."""
        self._file.close()
        return ""


class Comparison:
    """Calls that are served, compared with what was recorded and with a fresh interpreter's.

    Args:
        place: the recording's directory.
    """

    def __init__(self, place: Path) -> None:
        self._recorded: dict[str, list[list[str]]] = {}
        for path in sorted(place.glob("*.jsonl")):
            for line in path.read_text(encoding="utf-8").splitlines():
                test, *what = json.loads(line)
                self._recorded.setdefault(test, []).append(what)
        assert self._recorded, f"no calls are recorded in {place}"
        self.is_once = False
        self._made: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self._scratch = tempfile.TemporaryDirectory(prefix="cni-modes-")
        self._bin = _compile(Path(self._scratch.name))
        self._servers: dict[int, int] = {}
        self._zygote = subprocess.Popen(
            [sys.executable, "-m", "tests.kit.zygote", self._bin],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )

    def make(self, node: Node, asked: Asked, forked: Callable[[], Outcome]) -> Outcome:
        """Make the call in both modes."""
        self._have_server(node)
        served = self._execute(node, asked, [f"{self._bin}/{asked.plugin}"])
        test = test_id()
        number = self._made[test]
        self._made[test] += 1
        self.counts["served"] += 1
        recorded = self._recorded.get(test, [])
        assert number < len(recorded), f"call {number + 1} of {test} was not recorded"
        found = [masked(fact) for fact in facts(asked, served)]
        expected = [masked(fact) for fact in recorded[number]]
        same(f"call {number + 1}", found, "as recorded", expected)
        if not self.is_once and _changes_nothing(asked, served):
            argv = [sys.executable, "-I", "-c", _FRESH, str(ROOT), asked.plugin]
            fresh = self._execute(node, asked, argv)
            self.counts["fresh"] += 1
            same(f"call {number + 1}", served, "by a fresh interpreter", fresh)
        return served

    def left(self, reason: str) -> None:
        """A call that is not compared."""
        self.counts[reason] += 1

    def leave(self, node: Node, number: int = signal.SIGTERM) -> None:
        """The node goes, or its server."""
        pid = self._servers.pop(node.holder_pid, None)
        if pid is not None:
            os.kill(pid, number)

    def close(self) -> str:
        """The end; a line about it."""
        assert self._zygote.stdin is not None
        self._zygote.stdin.close()
        self._zygote.wait()
        for pid in self._servers.values():
            os.kill(pid, signal.SIGTERM)
        self._scratch.cleanup()
        return ", ".join(f"{n} {what}" for what, n in sorted(self.counts.items()))

    def _have_server(self, node: Node) -> None:
        """Another one when the test removed the socket of the last."""
        if not os.path.exists(f"/proc/{node.holder_pid}/root{wire.SOCKETS}/{wire.CALL}.sock"):
            self.leave(node, signal.SIGKILL)  # by TERM it would remove the next one's sockets
            self._servers[node.holder_pid] = self._serve(node)

    def _serve(self, node: Node) -> int:
        """Start the node's server; its pid."""
        assert self._zygote.stdin is not None
        assert self._zygote.stdout is not None
        log = f"{node.scratch}/server.log"
        self._zygote.stdin.write(f"{node.holder_pid} {log}\n")
        self._zygote.stdin.flush()
        pid = int(self._zygote.stdout.readline())
        until = time.monotonic() + _LIMIT_S
        while not _is_waiting(pid):
            assert time.monotonic() < until, Path(log).read_text(encoding="utf-8")
            time.sleep(0.005)
        return pid

    def _execute(self, node: Node, asked: Asked, argv: list[str]) -> Outcome:
        done = subprocess.run(
            [*node.enter(), *argv],
            input=asked.stdin,
            env=asked.env,
            capture_output=True,
            timeout=_LIMIT_S,
            check=False,
        )
        return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())


def same(what: str, served: object, other: str, expected: object) -> None:
    """They must be equal; pytest explains assertions of test modules only."""
    assert served == expected, f"{what}\nserved: {served}\n{other}: {expected}"


def facts(asked: Asked, outcome: Outcome) -> tuple[str, ...]:
    """Which call it was and what it was answered."""
    status = str(outcome.exit_code)
    return asked.plugin, asked.env["CNI_COMMAND"], status, outcome.stdout, outcome.stderr


def masked(text: str) -> str:
    """Without what no two runs have in common."""
    for pattern, name in MASKS:
        text = re.sub(pattern, name, text)
    return text


def _changes_nothing(asked: Asked, outcome: Outcome) -> bool:
    if asked.env["CNI_COMMAND"] in REPEATABLE:
        return b'"dhcp"' not in asked.stdin
    return outcome.exit_code == 1 and json.loads(outcome.stdout)["code"] in REFUSED


def _is_waiting(server: int) -> bool:
    """Whether all children that shall wait for connections have been forked."""
    path = f"/proc/{server}/task/{server}/children"
    with open(path, encoding="ascii") as file:
        return len(file.read().split()) >= _SEATS


def _compile(place: Path) -> str:
    """Launchers of the build "dev"; their directory."""
    table = subprocess.run([ROOT / "tools" / "version-table"], capture_output=True, check=True)
    (place / "versions.h").write_bytes(table.stdout)
    runtime = place / "cni-plugins-runtime" / build_id()
    runtime.mkdir(parents=True)
    Node.install(str(runtime), "cni-plugins", "echo this call was not served\nexit 70\n")
    flags = ["-std=c11", "-D_GNU_SOURCE", "-O1", "-static", f'-DBUILD_ID="{build_id()}"']
    launcher = str(place / "launcher")
    source = str(ROOT / "launcher" / "launcher.c")
    subprocess.run(["cc", *flags, f"-I{place}", "-o", launcher, source], check=True)
    for name in catalog.PLUGINS:
        (place / name).symlink_to(launcher)
    return str(place)
