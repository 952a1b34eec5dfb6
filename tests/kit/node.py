"""A throw-away node: the "host" of a test, with its pods, in namespaces of its own.

What the kernel has is looked at with ip, nft and iptables-save, never with our own code.
"""

from __future__ import annotations

import ctypes
import json
import os
import pickle
import shutil
import subprocess
import tempfile
import threading
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import pyroute2  # noqa: F401 - imported once here, not in every forked call

from cni_plugins import catalog, dispatch
from cni_plugins.deadline import Deadline
from cni_plugins.protocol.request import Request
from forkserver.wire import SOCKETS

if TYPE_CHECKING:
    from collections.abc import Callable

REFERENCE = "/usr/lib/cni"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_TIMEOUT_S = 20.0
_HOLD = """
for place in /run /var/lib/cni /etc/cni; do mount -t tmpfs -o mode=755 tmpfs $place; done
mount --make-shared /run
mkdir -p /run/lock
ip link set lo up
echo ready
exec sleep infinity
"""
_CLONE_NEWNS = 0x00020000
_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Outcome:
    """How a call ended."""

    exit_code: int
    stdout: str
    stderr: str
    extra: Any = None

    @property
    def result(self) -> dict[str, Any]:
        """The result of a successful ADD."""
        assert self.exit_code == 0, self
        return json.loads(self.stdout)

    @property
    def error(self) -> dict[str, Any]:
        """The error object of a failed call; nothing else may be on stdout."""
        assert self.exit_code == 1, self
        return json.loads(self.stdout)

    def ok(self) -> Outcome:
        """Itself, if the call succeeded."""
        assert self.exit_code == 0, self
        return self


class Pod:
    """A container's network namespace."""

    def __init__(self, node: Node, name: str) -> None:
        self.node = node
        self.name = name
        self.path = f"/run/netns/{name}"
        node.sh("ip", "netns", "add", name)

    def delete(self) -> None:
        """The namespace goes, with all that is in it."""
        self.node.sh("ip", "netns", "del", self.name)

    def ip(self, *args: str) -> Any:
        """``ip -j`` in the pod."""
        return self.node.ip(*args, pod=self)

    def sh(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A command in the pod."""
        return self.node.sh("ip", "netns", "exec", self.name, *argv, check=check)

    def pings(self, address: str) -> bool:
        """Whether an address answers, also where the first question for its neighbour is lost."""
        return self.sh("ping", "-c1", "-W2", "-n", address, check=False).returncode == 0

    def link(self, name: str = "eth0") -> Any:
        """A link as ``ip -d -j link`` shows it."""
        return next((link for link in self.ip("-d", "link") if link["ifname"] == name), None)

    def addresses(self, name: str = "eth0", scope: str = "global") -> list[str]:
        """Addresses of a link with their prefixes."""
        return _addresses(self.ip("addr"), name, scope)


class Asked(NamedTuple):
    """What a call is given."""

    plugin: str
    env: dict[str, str]
    stdin: bytes


class Way(Protocol):
    """How calls are made, other than in a forked process."""

    is_once: bool
    """The test that runs counts what its calls do, so none may be made again."""

    def make(self, node: Node, asked: Asked, forked: Callable[[], Outcome]) -> Outcome:
        """Make a call, as ``forked`` would."""

    def left(self, reason: str) -> None:
        """A call is made in a forked process for a reason."""

    def leave(self, node: Node) -> None:
        """A node goes."""

    def close(self) -> str:
        """The end; a line about it."""


class Node:
    """A host."""

    way: ClassVar[Way | None] = None
    """Set by the options of tests/conftest.py; tests/kit/modes.py has the ways."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", _HOLD],
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"ready\n"
        self._scratch = tempfile.mkdtemp(prefix="cni-node-")
        self.ours = f"{self._scratch}/bin"
        os.mkdir(self.ours)
        for plugin_type in catalog.PLUGINS:
            self.install(self.ours, plugin_type, f"# {dispatch_mark()}\n")

    @property
    def holder_pid(self) -> int:
        """A process that stands in the host's namespaces."""
        return self._holder.pid

    @staticmethod
    def install(directory: str, name: str, content: str) -> None:
        """Put an executable script into a directory."""
        path = f"{directory}/{name}"
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"#!/bin/sh\n{content}")
        os.chmod(path, 0o755)

    @property
    def scratch(self) -> str:
        """A directory that goes with the node."""
        return self._scratch

    def close(self) -> None:
        """Everything goes."""
        if self.way:
            self.way.leave(self)
        self._holder.kill()
        self._holder.wait()
        assert self._holder.stdout is not None
        self._holder.stdout.close()
        shutil.rmtree(self._scratch)

    def pod(self, name: str) -> Pod:
        """Another pod."""
        return Pod(self, name)

    def sh(
        self, *argv: str, check: bool = True, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """A command on the host."""
        done = subprocess.run(
            [*self.enter(), *argv], capture_output=True, text=True, input=stdin, check=False
        )
        assert not check or done.returncode == 0, (argv, done.stderr)
        return done

    def enter(self) -> list[str]:
        """What to put before a command that shall run on the host."""
        pid = self._holder.pid
        return ["nsenter", f"--net=/proc/{pid}/ns/net", f"--mount=/proc/{pid}/ns/mnt", "--"]

    def ip(self, *args: str, pod: Pod | None = None) -> Any:
        """``ip -j`` on the host or in a pod."""
        where = ["-n", pod.name] if pod else []
        done = self.sh("ip", *where, "-j", *args)
        return json.loads(done.stdout or "[]")

    def link(self, name: str) -> Any:
        """A link as ``ip -d -j link`` shows it."""
        return next((link for link in self.ip("-d", "link") if link["ifname"] == name), None)

    def links(self) -> set[str]:
        """The names of the host's links."""
        return {link["ifname"] for link in self.ip("link")}

    def addresses(self, name: str, scope: str = "global") -> list[str]:
        """Addresses of a link with their prefixes."""
        return _addresses(self.ip("addr"), name, scope)

    def nft(self) -> list[dict[str, Any]]:
        """The rule set."""
        return json.loads(self.sh("nft", "-j", "list", "ruleset").stdout)["nftables"]

    def nft_rules(self, table: str, chain: str | None = None) -> list[dict[str, Any]]:
        """The rules of a table."""
        rules = [entry["rule"] for entry in self.nft() if "rule" in entry]
        return [r for r in rules if r["table"] == table and chain in {None, r["chain"]}]

    def iptables(self, family: int = 4, table: str = "nat") -> list[str]:
        """The ``-A`` lines of a table, without making the table."""
        tool = {4: "iptables-save", 6: "ip6tables-save"}[family]
        current, found = "", []
        for line in self.sh(tool).stdout.splitlines():
            current = line[1:] if line.startswith("*") else current
            if current == table and line.startswith("-A"):
                found.append(line)
        return found

    def files(self, *roots: str) -> list[str]:
        """Every file below some directories, but a fork server's own."""
        found = self.sh("find", *roots, "-type", "f", check=False).stdout.split()
        return sorted(path for path in found if not path.startswith(f"{SOCKETS}/"))

    def read(self, path: str) -> bytes:
        """A file of the node."""
        done = subprocess.run([*self.enter(), "cat", path], capture_output=True, check=True)
        return done.stdout

    def write(self, path: str, content: str | bytes) -> None:
        """Write a file of the node."""
        data = content.encode() if isinstance(content, str) else content
        script = 'mkdir -p "$(dirname "$0")"; cat > "$0"'
        subprocess.run([*self.enter(), "sh", "-c", script, path], input=data, check=True)

    def leases(self, network: str = "net1", data_dir: str = "/var/lib/cni/networks") -> set[str]:
        """The addresses that are leased."""
        names = self.sh("ls", f"{data_dir}/{network}", check=False).stdout.split()
        return {n for n in names if n != "lock" and not n.startswith("last_reserved_ip.")}

    def cni(  # a call has that many facts
        self,
        plugin_type: str,
        command: str,
        conf: dict[str, Any] | bytes,
        *,
        netns: str | Pod = "",
        container_id: str = "c1",
        ifname: str = "eth0",
        args: str = "",
        path: str | None = None,
        env: dict[str, str] | None = None,
        binaries: str | None = None,
        timeout_s: float = _TIMEOUT_S,
        prepare: Callable[[], Any] | None = None,
    ) -> Outcome:
        """One call of a plugin.

        In a forked process that stands in this node's namespaces, unless ``binaries`` names a
        directory of executables.  ``prepare`` is called in that process first; what it returns is
        called at the end, and its answer becomes the outcome's ``extra``.
        """
        variables = {
            "PATH": _PATH,
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container_id,
            "CNI_NETNS": netns.path if isinstance(netns, Pod) else netns,
            "CNI_IFNAME": ifname,
            "CNI_ARGS": args,
            "CNI_PATH": path or binaries or self.ours,
            **(env or {}),
        }
        stdin = conf if isinstance(conf, bytes) else json.dumps(conf).encode()
        if binaries:
            done = subprocess.run(
                [*self.enter(), f"{binaries}/{plugin_type}"],
                input=stdin,
                capture_output=True,
                env=variables,
                timeout=timeout_s + 20,
                check=False,
            )
            return Outcome(done.returncode, done.stdout.decode(), done.stderr.decode())

        def call() -> Outcome:
            finish = prepare() if prepare else None
            plugin = catalog.find(plugin_type)
            assert plugin is not None
            deadline = Deadline.after(timeout_s)
            reply = dispatch.run(plugin, Request(variables, lambda: stdin, deadline))
            return Outcome(
                reply.exit_code,
                reply.stdout.decode(),
                reply.stderr.decode(),
                finish() if finish else None,
            )

        if self.way is None:
            return self.forked(call)
        is_alone = threading.current_thread() is threading.main_thread()
        if prepare or timeout_s < _TIMEOUT_S or not is_alone:
            reason = "in a hurry" if is_alone else "at the same time"
            self.way.left("prepared" if prepare else reason)
            return self.forked(call)
        asked = Asked(plugin_type, variables, stdin)
        return self.way.make(self, asked, lambda: self.forked(call))

    def forked(self, call: Callable[[], Any]) -> Any:
        """What ``call`` returns in a process that stands in this node's namespaces.

        Raises:
            ChildProcessError: the process was killed.
        """
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            self._child(call, read_end, write_end)
        os.close(write_end)
        with os.fdopen(read_end, "rb") as pipe:
            answer = pipe.read()
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            raise ChildProcessError(f"killed by signal {os.WTERMSIG(status)}")
        assert answer, "the child left without an answer"
        value = pickle.loads(answer)
        if isinstance(value, _Crash):
            raise AssertionError(value.text)
        return value

    def _child(self, call: Callable[[], Any], read_end: int, write_end: int) -> None:
        try:
            os.close(read_end)
            for kind, flag in (("net", _CLONE_NEWNET), ("mnt", _CLONE_NEWNS)):
                fd = os.open(f"/proc/{self._holder.pid}/ns/{kind}", os.O_RDONLY)
                assert _libc.setns(fd, flag) == 0, os.strerror(ctypes.get_errno())
                os.close(fd)
            try:
                value = call()
            except BaseException:
                value = _Crash(traceback.format_exc())
            with os.fdopen(write_end, "wb") as pipe:
                pipe.write(pickle.dumps(value))
        finally:
            os._exit(0)


@dataclass
class _Crash:
    text: str


def dispatch_mark() -> str:
    """The line by which a delegate is known to be of this build."""
    from cni_plugins.build_info import build_id
    from cni_plugins.delegate import MARK

    return f"{MARK.decode()}{build_id()}"


def _addresses(listed: list[dict[str, Any]], name: str, scope: str) -> list[str]:
    return [
        f"{info['local']}/{info['prefixlen']}"
        for link in listed
        if link.get("ifname") == name
        for info in link["addr_info"]
        if info["scope"] == scope
    ]
