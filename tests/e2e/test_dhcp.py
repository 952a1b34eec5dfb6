"""The built ``dhcp`` as daemon and plugin, behind a built macvlan."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.kit.confs import chained
from tests.kit.dhcp import SERVER, Daemon, Lan
from tests.kit.fixtures import node, pod
from tests.kit.waiting import wait_for

__all__ = ["node", "pod"]
pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]
DIST = ROOT / "dist" / "bin"


def test_a_life_with_a_restart_of_the_daemon(node, pod):
    lan = Lan(node)
    leases = lan.dnsmasq()
    daemon = Daemon(node, command=(str(DIST / "dhcp"),))
    node.sh(
        "sh",
        "-ec",
        """
    ip link add up0 type veth peer up1; ip link set up1 master lan0 up; ip link set up0 up
    """,
    )
    conf = {"cniVersion": "1.1.0", "name": "net1", "type": "macvlan", "master": "up0",
            "ipam": {"type": "dhcp"}}  # fmt: skip

    def call(verb, document):
        return node.cni("macvlan", verb, document, netns=pod, binaries=str(DIST))

    result = call("ADD", conf).result
    assert pod.addresses() == [result["ips"][0]["address"]]
    assert pod.pings(SERVER)
    daemon.signal(signal.SIGKILL)
    daemon.start()
    assert "holds 1 leases" in daemon.log
    call("CHECK", chained(conf, result)).ok()
    call("DEL", chained(conf, result)).ok()
    wait_for("release", lambda: leases.read_text() == "")
    assert daemon.signal(signal.SIGTERM) == 0
    lan.close()


def test_wrong_options_of_the_daemon(node):
    done = node.sh(str(DIST / "dhcp"), "daemon", "-frob", check=False)
    assert done.returncode == 2
    assert "unrecognized arguments: -frob" in done.stderr


def test_units_for_systemd_run_what_is_installed():
    units = ROOT / "dist" / "systemd"
    service = (units / "cni-dhcp.service").read_text()
    assert "ExecStart=/opt/cni/bin/dhcp daemon\n" in service
    assert "Requires=cni-dhcp.socket\n" in service
    socket = (units / "cni-dhcp.socket").read_text()
    assert "ListenStream=/run/cni/dhcp.sock\n" in socket
    assert "SocketMode=0660\n" in socket
