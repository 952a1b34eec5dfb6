"""A real firewalld on a throw-away host, with a message bus of its own."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.kit.node import Node

_BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
  </policy>
</busconfig>
"""


class Firewalld:
    """The daemon and its bus."""

    def __init__(self, node: Node) -> None:
        self._node = node
        node.sh("mount", "-t", "tmpfs", "tmpfs", "/etc/firewalld")
        node.sh("mkdir", "-p", "/run/dbus", "/etc/firewalld/zones")
        node.write("/run/dbus/bus.conf", _BUS)
        self._bus = self._start("dbus-daemon", "--config-file=/run/dbus/bus.conf", "--nofork")
        self._wait(lambda: node.sh("test", "-S", "/run/dbus/system_bus_socket", check=False))
        self._daemon = self._start("firewalld", "--nofork", "--nopid")
        self._wait(lambda: node.sh("firewall-cmd", "--state", check=False))

    def _start(self, *argv: str) -> subprocess.Popen[bytes]:
        quiet = subprocess.DEVNULL
        return subprocess.Popen([*self._node.enter(), *argv], stdout=quiet, stderr=quiet)

    @staticmethod
    def _wait(look) -> None:
        deadline = time.monotonic() + 20
        while look().returncode != 0:
            assert time.monotonic() < deadline, "it never came up"
            time.sleep(0.05)

    def sources(self, zone: str = "trusted") -> set[str]:
        """The sources of a zone, as firewalld's own tool lists them."""
        listed = self._node.sh("firewall-cmd", f"--zone={zone}", "--list-sources").stdout
        return set(listed.split())

    def command(self, *argv: str) -> None:
        """firewall-cmd."""
        self._node.sh("firewall-cmd", *argv)

    def close(self) -> None:
        """Both end."""
        for process in (self._daemon, self._bus):
            process.terminate()
            process.wait()
