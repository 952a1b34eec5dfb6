"""Standing in a namespace, and its settings."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from cni_plugins.errors import KernelError, NetnsError
from cni_plugins.host import sysctl
from cni_plugins.host.netns import NetNS, current_id

if TYPE_CHECKING:
    from tests.kit.node import Node, Pod

pytestmark = pytest.mark.netns
statement = pytest.mark.statement


def id_of(path: str) -> tuple[int, int]:
    """A namespace as the kernel tells it apart."""
    status = os.stat(path)
    return status.st_dev, status.st_ino


@statement("NS-01", "NS-02")
def test_work_runs_in_the_namespace_and_the_caller_is_back_afterwards(node: Node, pod: Pod) -> None:
    """The caller's own namespace can be told from the one entered."""

    def work() -> Any:
        home = current_id()
        with NetNS.open(pod.path) as netns, netns.entered():
            inside = current_id()
        return home, inside, current_id(), id_of(pod.path)

    home, inside, afterwards, wanted = node.forked(work)
    assert inside == wanted
    assert afterwards == home != inside


@statement("NS-01", "NS-03")
def test_many_threads_at_once(node: Node, pod: Pod) -> None:
    """Each thread moves alone, and none stays behind."""
    other = node.pod("pod2")

    def work() -> Any:
        home = current_id()
        wrong: list[str] = []

        def visit(path: str) -> None:
            for _ in range(25):
                with NetNS.open(path) as netns, netns.entered():
                    if current_id() != id_of(path):
                        wrong.append(path)
                if current_id() != home:
                    wrong.append("home")

        paths = [pod.path, other.path] * 4
        threads = [threading.Thread(target=visit, args=(path,)) for path in paths]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        tasks = {id_of(f"/proc/self/task/{task}/ns/net") for task in os.listdir("/proc/self/task")}
        return wrong, tasks == {home}

    assert node.forked(work) == ([], True)


@statement("NS-02")
def test_an_error_inside_is_passed_on(node: Node, pod: Pod) -> None:
    """With the caller back at home."""

    def work() -> Any:
        home = current_id()
        error = RuntimeError("potato")
        try:
            with NetNS.open(pod.path) as netns, netns.entered():
                raise error
        except RuntimeError as caught:
            return caught is error, current_id() == home

    assert node.forked(work) == (True, True)


@statement("NS-04")
@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/run/missing", "it does not exist"),
        ("/run/file/missing", "it does not exist"),
        ("", "it does not exist"),
        ("/run/file", "what is there is no network namespace"),
        ("/run", "what is there is no network namespace"),
        ("/proc/self/ns/mnt", "what is there is no network namespace"),
        ("/dev/null", "what is there is no network namespace"),
    ],
)
def test_paths_that_lead_to_no_namespace(node: Node, path: str, reason: str) -> None:
    """Told apart by their text; to DEL both are gone."""
    node.write("/run/file", "")

    def work() -> Any:
        try:
            NetNS.open(path)
        except NetnsError as e:
            return e.code, e.gone, e.msg
        return None

    assert node.forked(work) == (999, True, f"open network namespace {path!r}: {reason}")


@statement("NS-04")
def test_a_namespace_is_opened_by_any_of_its_names(node: Node, pod: Pod) -> None:
    """A path of /run/netns, and one of /proc."""

    def work() -> Any:
        with NetNS.open(pod.path) as one, NetNS.open("/proc/self/ns/net") as two:
            with NetNS.current() as three:
                return one.id != two.id, two.id == three.id == current_id()

    assert node.forked(work) == (True, True)


@statement("NS-05")
def test_a_closed_namespace_cannot_be_entered(node: Node, pod: Pod) -> None:
    """Closing it again is no trouble."""

    def work() -> Any:
        home = current_id()
        netns = NetNS.open(pod.path)
        netns.close()
        netns.close()
        try:
            with netns.entered():
                return "entered"
        except NetnsError as e:
            return e.msg.startswith("enter network namespace"), current_id() == home

    assert node.forked(work) == (True, True)


@statement("NS-03")
def test_a_closed_namespace_is_let_go(node: Node, pod: Pod) -> None:
    """When its name goes too, its links are gone: here seen at the other end of a veth pair."""
    node.sh("ip", "link", "add", "outside", "type", "veth", "peer", "eth0", "netns", pod.name)

    def work() -> None:
        with NetNS.open(pod.path) as netns, netns.entered():
            pass

    node.forked(work)
    pod.delete()
    node.sh("sh", "-c", "for i in $(seq 50); do ip link show outside || exit 0; sleep 0.1; done")
    assert node.link("outside") is None


@statement("UT-05")
def test_settings_of_an_interface_with_a_dot_in_its_name(node: Node) -> None:
    """Slashes separate the parts of a key."""
    node.sh("ip", "link", "add", "cnitest.1", "type", "veth", "peer", "cnitest.2")
    key = "net/ipv4/conf/cnitest.1/proxy_arp"

    def work() -> Any:
        before = sysctl.read(key)
        sysctl.write(key, "1")
        return before, sysctl.read(key)

    assert node.forked(work) == ("0", "1")
    shown = node.sh("cat", f"/proc/sys/{key}").stdout
    assert shown == "1\n"


@pytest.mark.parametrize(
    ("key", "value", "msg", "errno"),
    [
        ("net/ipv4/conf/none/proxy_arp", "1", "No such file or directory", 2),
        ("net/ipv4/ip_forward", "x", "Invalid argument", 22),
    ],
)
def test_settings_that_are_refused(node: Node, key: str, value: str, msg: str, errno: int) -> None:
    """The setting, the value and the kernel's reason are named."""

    def work() -> Any:
        try:
            sysctl.write(key, value)
        except KernelError as e:
            return e.msg, e.errno
        return None

    assert node.forked(work) == (f"write {value!r} to sysctl {key}: {msg}", errno)


@statement("IP-05")
@pytest.mark.parametrize("family", [4, 6])
def test_forwarding_that_is_on_is_not_written_again(node: Node, family: int) -> None:
    """Seen by making the settings read-only."""
    key = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}[family]

    def turn_on() -> bool:
        sysctl.enable_forwarding(family)
        return sysctl.is_forwarding(family)

    assert node.sh("cat", f"/proc/sys/{key}").stdout == "0\n"
    assert node.forked(turn_on) is True
    node.sh("sh", "-c", "mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys")
    assert node.sh("sh", "-c", f"echo 1 > /proc/sys/{key}", check=False).returncode != 0
    assert node.forked(turn_on) is True
