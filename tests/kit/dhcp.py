"""A network with a DHCP server, and the daemon of the dhcp plugin."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.kit.waiting import LIMIT_S, wait_for

if TYPE_CHECKING:
    from tests.kit.node import Node, Pod

ROOT = Path(__file__).parents[2]
SOCKET = "/run/cni/dhcp.sock"
SERVER = "192.168.1.1"
STATE = "/var/lib/cni/dhcp/run-cni-dhcp.sock"


class Lan:
    """A bridge ``lan0`` on the host with a server at its other end."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.server = node.pod("server")
        self._processes: list[subprocess.Popen[str]] = []
        script = f"""
        ip link add lan0 type bridge
        ip link set lan0 up
        ip link add port type veth peer eth0 netns server
        ip link set port master lan0 up
        ip -n server addr add {SERVER}/24 dev eth0
        ip -n server link set eth0 up
        ip -n server link set lo up
        """
        node.sh("sh", "-ec", script)

    def close(self) -> None:
        """End the servers."""
        for process in self._processes:
            process.kill()
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()

    def _start(self, *argv: str, **options: Any) -> subprocess.Popen[str]:
        inside = ["ip", "netns", "exec", "server"]
        process = subprocess.Popen(
            [*self.node.enter(), *inside, *argv], text=True, stdin=subprocess.DEVNULL, **options
        )
        self._processes.append(process)
        return process

    def dnsmasq(self, pool: str = "192.168.1.5,192.168.1.99", *more: str) -> Path:
        """Debian's dnsmasq; the path of its lease file."""
        leases = Path(self.node.scratch) / "dnsmasq.leases"
        # with --no-ping: the check for a duplicate takes it three seconds
        self._start(
            "dnsmasq",
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--port=0",
            "--user=root",
            "--pid-file",
            "--no-ping",
            "--interface=eth0",
            f"--dhcp-range={pool},255.255.255.0,2m",
            f"--dhcp-leasefile={leases}",
            *more,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._listens()
        return leases

    def udhcpd(self, lease_s: int, end: str = "192.168.1.5") -> None:
        """BusyBox's server, which grants leases shorter than two minutes."""
        scratch = self.node.scratch
        conf = Path(scratch) / "udhcpd.conf"
        conf.write_text(
            f"start 192.168.1.5\nend {end}\ninterface eth0\nmin_lease {lease_s}\n"
            f"lease_file {scratch}/udhcpd.leases\npidfile {scratch}/udhcpd.pid\n"
            f"option subnet 255.255.255.0\noption router {SERVER}\noption lease {lease_s}\n"
        )
        Path(scratch, "udhcpd.leases").touch()
        self._start(
            "busybox",
            "udhcpd",
            "-f",
            str(conf),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._listens()

    def _listens(self) -> None:
        wait_for("server", lambda: ":67 " in self.server.sh("ss", "-Hlun").stdout)

    def scripted(self, **told: Any) -> Scripted:
        """tests/kit/dhcp_server.py."""
        process = self._start(
            sys.executable,
            "-m",
            "tests.kit.dhcp_server",
            json.dumps(told),
            stdout=subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        )
        return Scripted(process)


class Scripted:
    """What a scripted server was told."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        assert process.stdout is not None
        self._fd = process.stdout.fileno()
        os.set_blocking(self._fd, False)
        self._rest = b""
        self.messages: list[dict[str, Any]] = []
        wait_for("scripted server", lambda: self.heard("ready"))

    def heard(self, kind: str) -> list[dict[str, Any]]:
        """The messages of a type so far."""
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._fd, 1 << 16):
                self._rest += chunk
        *lines, self._rest = self._rest.split(b"\n")
        self.messages += map(json.loads, lines)
        return [message for message in self.messages if message["type"] == kind]

    def wait(self, kind: str, count: int = 1, limit_s: float = LIMIT_S) -> list[dict[str, Any]]:
        """Wait for so many of them."""
        return wait_for(
            f"{count} {kind}",
            lambda: found if len(found := self.heard(kind)) >= count else None,
            limit_s,
        )

    def stop(self) -> None:
        """The server is gone."""
        self._process.kill()
        self._process.wait()


class Daemon:
    """``dhcp daemon`` on the host."""

    def __init__(self, node: Node, *options: str, command: tuple[str, ...] = ()) -> None:
        self.node = node
        self._options = options
        self._command = command or (sys.executable, "-m", "dhcp_ipam")
        self._log = Path(node.scratch) / "dhcp.log"
        self.start()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        before = self.log if self._log.exists() else ""
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [*self.node.enter(), *self._command, "daemon", *self._options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
            )
        wait_for("daemon", lambda: self._is_up(before))

    def _is_up(self, before: str) -> bool:
        assert self._process.poll() is None, self.log
        return "listens on" in self.log.removeprefix(before)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def log(self) -> str:
        """What it said."""
        return self._log.read_text()

    def signal(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; the exit status."""
        self._process.send_signal(number)
        return self._process.wait(10)

    def close(self) -> None:
        """It goes."""
        if self._process.poll() is None:
            self.signal(signal.SIGKILL)


def cable(pod: Pod, ifname: str = "eth0", port: str = "p1") -> None:
    """A link of a pod into ``lan0``, down inside, as interface plugins leave it to the daemon."""
    pod.node.sh("ip", "link", "add", port, "type", "veth", "peer", ifname, "netns", pod.name)
    pod.node.sh("ip", "link", "set", port, "master", "lan0", "up")


def dhcp(version: str = "1.1.0", **ipam: Any) -> dict[str, Any]:
    """A configuration for the dhcp plugin alone."""
    return {
        "cniVersion": version,
        "name": "net1",
        "type": "macvlan",
        "ipam": {"type": "dhcp", **ipam},
    }
