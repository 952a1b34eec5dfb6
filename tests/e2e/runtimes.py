"""podman and containerd on a throw-away node, with the executables of dist/bin as its plugins."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.e2e import image

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.kit.node import Node

DIST = Path(__file__).parents[2] / "dist" / "bin"
_PODMAN_CONF = """
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
runtime = "runc"
[containers]
log_driver = "k8s-file"
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[network]
network_backend = "cni"
cni_plugin_dirs = ["/opt/cni/bin"]
network_config_dir = "/etc/cni/net.d"
"""
_CONTAINERD_CONF = """
version = 2
root = "{home}/root"
state = "{home}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{home}/socket"
"""


def prepare(node: Node, conflist: dict[str, Any]) -> str:
    """Give a node its plugins, one network and an image; the image's path."""
    for place in ("/opt", "/usr/lib/cni", "/var/lib/containers", "/var/lib/containerd"):
        node.sh("mkdir", "-p", place)
        node.sh("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", place)
    node.sh("mkdir", "-p", "/opt/cni/bin")
    node.sh("mount", "--bind", str(DIST), "/opt/cni/bin")
    node.sh("umount", "/sys/fs/cgroup/unified", check=False)  # of a hybrid set-up: runc minds
    node.write("/etc/cni/net.d/10-pods.conflist", json.dumps(conflist))
    path = f"{node.scratch}/image.tar"
    image.write(path)
    return path


def until(is_so: Callable[[], Any], limit_s: float = 20.0) -> Any:
    """Wait for something that announces itself to nobody; what it became."""
    deadline = time.monotonic() + limit_s
    while not (found := is_so()):
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)
    return found


class Podman:
    """podman 4 with its CNI backend."""

    version = "0.4.0"

    def __init__(self, node: Node, conflist: dict[str, Any]) -> None:
        self._node = node
        archive = prepare(node, conflist)
        self._network = conflist["name"]
        home = f"{node.scratch}/podman"
        node.write(f"{home}/containers.conf", _PODMAN_CONF)
        storage = ["--storage-driver", "vfs", "--root", f"{home}/root", "--runroot", f"{home}/run"]
        self._podman = ["env", f"CONTAINERS_CONF={home}/containers.conf", "podman", *storage]
        self._run("load", "-i", archive)

    def _run(self, *argv: str) -> str:
        return self._node.sh(*self._podman, *argv).stdout

    def start(self, name: str, *options: str) -> None:
        """A container that sleeps."""
        which = ("--name", name, "--network", self._network)
        self._run("run", "-d", "--http-proxy=false", *which, *options, image.NAME, "sleep", "600")

    def execute(self, name: str, *argv: str) -> str:
        """Output of a command in a container."""
        return self._run("exec", name, *argv)

    def remove(self, name: str) -> None:
        """The container goes, and its network before."""
        self._run("rm", "-f", "-t", "0", name)

    def close(self) -> None:
        """Whatever still runs is ended."""
        self._node.sh(*self._podman, "rm", "-f", "-a", "-t", "0", check=False)


class Containerd:
    """containerd 1.6 by ``ctr run --cni``: it sends DEL when a foreground container ends."""

    version = "1.0.0"

    def __init__(self, node: Node, conflist: dict[str, Any]) -> None:
        self._node = node
        archive = prepare(node, conflist)
        self._home = f"{node.scratch}/containerd"
        node.write(f"{self._home}/config.toml", _CONTAINERD_CONF.format(home=self._home))
        self._ctr = ["ctr", "--address", f"{self._home}/socket"]
        with open(f"{self._home}/log", "wb") as log:
            self._daemon = subprocess.Popen(
                [*node.enter(), "containerd", "--config", f"{self._home}/config.toml"],
                stdout=log,
                stderr=log,
            )
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        until(lambda: node.sh(*self._ctr, "version", check=False).returncode == 0)
        node.sh(*self._ctr, "images", "import", archive)

    def start(self, name: str, *options: str) -> None:
        """A container that sleeps."""
        argv = [*self._node.enter(), *self._ctr, "run", "--rm", "--cni", "--snapshotter", "native"]
        with open(f"{self._home}/{name}.log", "wb") as log:
            self._running[name] = subprocess.Popen(
                [*argv, *options, image.NAME, name, "sleep", "600"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

        def is_running() -> bool:
            assert self._running[name].poll() is None, Path(f"{self._home}/{name}.log").read_text()
            tasks = self._node.sh(*self._ctr, "task", "ls").stdout.splitlines()
            return any(t.split()[0] == name and t.endswith("RUNNING") for t in tasks)

        until(is_running)

    def execute(self, name: str, *argv: str) -> str:
        """Output of a command in a container.

        ctr loses what a process wrote right before its end, so it stays until all has come.
        """
        which = ("--exec-id", f"e{time.monotonic_ns()}")
        inside = ("sh", "-c", r'"$@"; printf "\0%s\0" $?; read -r _', "-", *argv)
        command = ["timeout", "30", *self._ctr, "task", "exec", *which, name, *inside]
        with subprocess.Popen(
            [*self._node.enter(), *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            said = b""
            while said.count(b"\0") < 2:
                chunk = os.read(process.stdout.fileno(), 1 << 16)
                assert chunk, f"{argv} ended without its status: {said!r}"
                said += chunk
            process.stdin.close()
        output, status, _ = said.split(b"\0")
        assert status == b"0", said
        return output.decode()

    def remove(self, name: str) -> None:
        """The container ends; ctr, which waits for that, sends DEL."""
        self._node.sh(*self._ctr, "task", "kill", "-s", "KILL", name)
        self._running.pop(name).wait(20)

    def close(self) -> None:
        """Whatever still runs is ended."""
        for name in list(self._running):
            self.remove(name)
        self._daemon.terminate()
        self._daemon.wait(20)
