"""loopback: the container's lo goes up and down."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cni_plugins.protocol import spec

if TYPE_CHECKING:
    from tests.kit.node import Node, Outcome, Pod

pytestmark = pytest.mark.netns

CHECKED = [version for version in spec.ALL if version >= "0.4.0"]
FAMILY_A = ("0.1.0", "0.2.0")
ROOT = Path(__file__).parents[2]


def conf(version: str | None = "1.1.0", **keys: Any) -> dict[str, Any]:
    """The configuration runtimes have built in."""
    document = {"cniVersion": version, "name": "lo", "type": "loopback", **keys}
    return {k: v for k, v in document.items() if v is not None}


def call(node: Node, command: str, document: dict[str, Any], netns: Pod | str) -> Outcome:
    """As containerd calls it."""
    return node.cni(
        "loopback", command, document, netns=netns, ifname="lo", args="none", path="/bogus"
    )


def is_up(pod: Pod) -> bool:
    """Whether the kernel calls lo up."""
    link = pod.link("lo")
    assert link is not None
    return "UP" in link["flags"]


@pytest.mark.statement("LO-01", "BC02")
@pytest.mark.parametrize("version", [None, *spec.ALL])
def test_add_brings_lo_up_and_reports_it_in_the_version_s_own_form(
    node: Node, pod: Pod, version: str | None
) -> None:
    """The reference prints the newest form under every version's name."""
    assert not is_up(pod)
    result = call(node, "ADD", conf(version), pod).result
    assert is_up(pod)
    assert result["cniVersion"] == version or (version is None and result["cniVersion"] == "0.1.0")
    if version is None or version in FAMILY_A:
        assert result == {
            "cniVersion": version or "0.1.0",
            "ip4": {"ip": "127.0.0.1/8"},
            "ip6": {"ip": "::1/128"},
            "dns": {},
        }
        return
    assert result["interfaces"] == [{"name": "lo", "mac": "00:00:00:00:00:00", "sandbox": pod.path}]
    labelled = version < "1.0.0"
    assert result["ips"] == [
        {**({"version": "4"} if labelled else {}), "address": "127.0.0.1/8", "interface": 0},
        {**({"version": "6"} if labelled else {}), "address": "::1/128", "interface": 0},
    ]


@pytest.mark.statement("LO-01")
def test_add_as_a_process(node: Node, pod: Pod) -> None:
    """Exit status 0, a result on stdout and nothing on stderr."""
    variables = {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "dummy",
        "CNI_NETNS": pod.path,
        "CNI_IFNAME": "lo",
        "CNI_ARGS": "none",
        "CNI_PATH": "/some/test/path",
    }
    done: subprocess.CompletedProcess[str] = node.sh(
        "env",
        "-C",
        str(ROOT),
        "-i",
        *(f"{name}={value}" for name, value in variables.items()),
        sys.executable,
        "-m",
        "loopback",
        stdin=json.dumps(conf()),
    )
    assert json.loads(done.stdout)["ips"][0]["address"] == "127.0.0.1/8"
    assert done.stderr == ""
    assert is_up(pod)


def test_add_again(node: Node, pod: Pod) -> None:
    """lo may be up already; it is nobody's own."""
    first = call(node, "ADD", conf(), pod).result
    assert call(node, "ADD", conf(), pod).result == first


@pytest.mark.parametrize("version", ["0.3.1", "0.4.0", "1.0.0", "1.1.0"])
def test_a_chained_result_is_passed_on(node: Node, pod: Pod, version: str) -> None:
    """Nothing of lo is put into it."""
    prev_result = {
        "cniVersion": version,
        "interfaces": [{"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": pod.path}],
        "ips": [
            {
                **({"version": "4"} if version < "1.0.0" else {}),
                "address": "10.1.2.3/24",
                "interface": 0,
            }
        ],
        "dns": {"domain": "a.test"},
    }
    assert call(node, "ADD", conf(version, prevResult=prev_result), pod).result == prev_result
    assert is_up(pod)


def test_a_chained_result_that_cannot_be_read(node: Node, pod: Pod) -> None:
    """lo stays as it is."""
    prev_result = {"cniVersion": "0.4.0"}
    error = call(node, "ADD", conf("1.1.0", prevResult=prev_result), pod).error
    assert error["code"] == 7
    assert error["msg"].startswith("could not parse prevResult: ")
    assert not is_up(pod)


@pytest.mark.parametrize("address", ["10.1.2.3/24", "2001:db8::1/64"])
def test_an_address_that_is_no_loopback_address(node: Node, pod: Pod, address: str) -> None:
    """Is an error."""
    pod.sh("ip", "address", "add", address, "dev", "lo")
    error = call(node, "ADD", conf(), pod).error
    assert error["code"] == 999
    assert address in error["msg"]


@pytest.mark.statement("LO-02", "BC02")
@pytest.mark.parametrize("version", spec.ALL)
def test_del_takes_lo_down(node: Node, pod: Pod, version: str) -> None:
    """Whether it was up or down already."""
    call(node, "DEL", conf(version), pod).ok()
    assert not is_up(pod)
    call(node, "ADD", conf(version), pod).ok()
    call(node, "DEL", conf(version), pod).ok()
    assert not is_up(pod)


def test_del_without_a_namespace(node: Node, pod: Pod) -> None:
    """Nothing to do: no path, a path that is gone, and the file a namespace was mounted on."""
    node.write("/run/netns/stale", "")
    for netns in ("", "/run/netns/none", "/run/netns/stale"):
        outcome = call(node, "DEL", conf(), netns)
        assert (outcome.exit_code, outcome.stdout) == (0, "")
    pod.delete()
    call(node, "DEL", conf(), pod).ok()


def test_del_reads_nothing_of_the_configuration(node: Node, pod: Pod) -> None:
    """It may have been edited into nonsense since."""
    call(node, "DEL", conf(prevResult=5, dns="x", ipam=[]), pod).ok()


@pytest.mark.parametrize("version", CHECKED)
def test_check(node: Node, pod: Pod, version: str) -> None:
    """lo is up, prevResult or not."""
    error = call(node, "CHECK", conf(version), pod).error
    assert error["code"] == 999
    assert "lo" in error["msg"]
    call(node, "ADD", conf(version), pod).ok()
    assert call(node, "CHECK", conf(version), pod).ok().stdout == ""


@pytest.mark.parametrize("command", ["ADD", "CHECK"])
def test_add_and_check_of_a_namespace_that_is_gone(node: Node, command: str) -> None:
    """Never code 3, which lets a runtime skip its cleanup."""
    error = call(node, command, conf(), "/run/netns/none").error
    assert error["code"] == 999
    assert "/run/netns/none" in error["msg"]


def test_status_and_gc(node: Node) -> None:
    """Always ready, and nothing to collect."""
    for command in ("STATUS", "GC"):
        outcome = node.cni("loopback", command, conf(), container_id="", ifname="")
        assert (outcome.exit_code, outcome.stdout, outcome.stderr) == (0, "", "")
