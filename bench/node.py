"""Calls of executables on throw-away hosts, timed from fork to the end of output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from bench.worker import timed

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
STATE_DIR = "/run/cni-plugins"


def sh(*argv: str, check: bool = True, stdin: str | None = None) -> str:
    """Output of a command."""
    return subprocess.run(argv, check=check, capture_output=True, text=True, input=stdin).stdout


def conf(version: str = "1.0.0", *subnets: str, **over: Any) -> dict[str, Any]:
    """A bridge network; it stands for host-local's configuration too."""
    ranges = [[{"subnet": subnet}] for subnet in subnets or ("10.9.0.0/16",)]
    return {
        "cniVersion": version,
        "name": "bench",
        "type": "bridge",
        "bridge": "br0",
        "isDefaultGateway": True,
        "ipMasq": True,
        "ipam": {"type": "host-local", "ranges": ranges},
        **over,
    }


class Host:
    """A host beside the first one: its own network, and its own state of our suite.

    Calls are made by a process that stands there; docs of :mod:`bench.worker`.
    """

    def __init__(self) -> None:
        script = (
            f"mkdir -p {STATE_DIR} && mount -t tmpfs -o mode=700 tmpfs {STATE_DIR} &&"
            'ip link set lo up && exec "$0" -m bench.worker'
        )
        self._worker = subprocess.Popen(
            [
                *("unshare", "--net", "--mount", "--propagation", "slave"),
                *("sh", "-c", script, sys.executable),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.timed([sys.executable, "-c", ""], {}, "")

    @property
    def enter(self) -> tuple[str, ...]:
        """What to put before a command that shall run there."""
        place = f"/proc/{self._worker.pid}/ns"
        return ("nsenter", f"--net={place}/net", f"--mount={place}/mnt", "--")

    def timed(
        self, argv: list[str], env: dict[str, str], stdin: str
    ) -> tuple[float, int, str, str]:
        """As the worker's."""
        assert self._worker.stdin is not None
        assert self._worker.stdout is not None
        call = {"argv": argv, "env": env, "stdin": stdin}
        self._worker.stdin.write(json.dumps(call) + "\n")
        self._worker.stdin.flush()
        seconds, status, stdout, stderr = json.loads(self._worker.stdout.readline())
        return seconds, status, stdout, stderr

    def close(self) -> None:
        """It goes."""
        assert self._worker.stdin is not None
        self._worker.stdin.close()
        self._worker.wait()


class Call:
    """One plugin's executable of one suite.

    Args:
        directory: the suite's executables.
        plugin: type of the plugin.
        host: where; None for this process's host.
        wrapper: what executes it, strace for instance.
    """

    def __init__(
        self,
        directory: str,
        plugin: str,
        *,
        host: Host | None = None,
        wrapper: tuple[str, ...] = (),
    ) -> None:
        self.directory = directory
        self.plugin = plugin
        self._timed = host.timed if host else timed
        self._wrapper = wrapper

    def __call__(  # a call has that many facts
        self,
        command: str,
        document: dict[str, Any] | None = None,
        container_id: str = "bench",
        netns: str = "",
        *,
        may_fail: bool = False,
    ) -> tuple[float, str]:
        """Seconds and standard output of one call."""
        env = {
            "PATH": PATH,
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container_id,
            "CNI_NETNS": netns,
            "CNI_IFNAME": "eth0",
            "CNI_PATH": self.directory,
        }
        argv = [*self._wrapper, os.path.join(self.directory, self.plugin)]
        stdin = json.dumps(document) if document else ""
        seconds, status, stdout, stderr = self._timed(argv, env, stdin)
        if status and not may_fail:
            raise SystemExit(f"{argv[-1]} {command}: {stdout} {stderr}")
        return seconds, stdout
