"""Calls of executables on a throw-away host, timed from fork to the end of output."""

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import Any

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def sh(*argv: str, check: bool = True) -> str:
    """Output of a command."""
    return subprocess.run(argv, check=check, capture_output=True, text=True).stdout


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


class Call:
    """One plugin's executable of one suite.

    Args:
        directory: the suite's executables.
        plugin: type of the plugin.
        host: name of the namespace that is the host; "" for this process's.
        wrapper: what executes it, strace for instance.
    """

    def __init__(
        self, directory: str, plugin: str, *, host: str = "", wrapper: tuple[str, ...] = ()
    ) -> None:
        self.directory = directory
        self.plugin = plugin
        self.host = host
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
        host = ("nsenter", f"--net=/run/netns/{self.host}") if self.host else ()
        argv = [*host, *self._wrapper, os.path.join(self.directory, self.plugin)]
        stdin = json.dumps(document).encode() if document else b""
        began = time.perf_counter()
        done = subprocess.run(argv, input=stdin, env=env, capture_output=True, check=False)
        seconds = time.perf_counter() - began
        if done.returncode and not may_fail:
            raise SystemExit(f"{argv[-1]} {command}: {done.stdout.decode()} {done.stderr.decode()}")
        return seconds, done.stdout.decode()
