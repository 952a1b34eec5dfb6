"""Calls made for their own sake, before the first that counts.

CPython rewrites its bytecode where it runs often, and pyroute2 compiles its tables when they are
first used: what the server has done before it forks, no child has to do again, nor to copy.  So it
makes real calls, in a thread that stands in network and mount namespaces of its own, which end
with it.

Source: PEP 659; unshare(2), mount_namespaces(7).
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

from cni_plugins import catalog, dispatch
from cni_plugins.deadline import Deadline
from cni_plugins.protocol.request import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROUNDS = 4
"""PEP 659 specializes what ran eight times; most of it runs more than once in a call."""
_CLONE_NEWNS, _CLONE_NEWNET = 0x00020000, 0x40000000
_MS_REC, _MS_PRIVATE, _MS_BIND = 0x4000, 1 << 18, 0x1000
_NETNS = "/run/netns/warmup"
_RESULT = "/run/result"
_SUBNETS = ("10.255.255.0/28", "fd00:ffff::/124")
_CHAIN: tuple[tuple[str, dict[str, Any]], ...] = (
    (
        "bridge",
        {
            "bridge": "warmup0",
            "isDefaultGateway": True,
            "ipMasq": True,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": s}] for s in _SUBNETS]},
        },
    ),
    (
        "portmap",
        {"runtimeConfig": {"portMappings": [{"hostPort": 1, "containerPort": 1}]}},
    ),
    (
        "bandwidth",
        {
            "ingressRate": 8_000_000,
            "ingressBurst": 800_000,
            "egressRate": 8_000_000,
            "egressBurst": 800_000,
        },
    ),
    ("tuning", {"sysctl": {"net.ipv4.conf.eth0.arp_filter": "1"}, "mtu": 1400}),
    ("firewall", {"backend": "iptables"}),
)
_libc = ctypes.CDLL(None, use_errno=True)


class Warmup:
    """The calls, made at once.

    Args:
        bin_dir: where the executables of this build are, for delegates.

    Attributes:
        problem: "" or what went wrong, which harms nothing.
    """

    def __init__(self, bin_dir: str) -> None:
        self.problem = ""
        thread = threading.Thread(target=self._stand_apart, args=(bin_dir,))
        thread.start()
        thread.join()

    def _stand_apart(self, bin_dir: str) -> None:
        try:
            _enter_namespaces()
            for _ in range(ROUNDS):
                for call in _life(bin_dir):
                    call()
        except Exception as e:  # noqa: BLE001 - whatever it is, the server serves without it
            self.problem = f"{type(e).__name__}: {e}"


def keep_from_collector() -> None:
    """The garbage collector would touch, and so copy, every page of a child."""
    gc.collect()
    gc.freeze()
    gc.disable()


def _enter_namespaces() -> None:
    """Leave the host: nothing after this can reach it.

    Raises:
        OSError: and then no call is made.
    """
    _check(_libc.unshare(_CLONE_NEWNS | _CLONE_NEWNET), "unshare")
    _check(_libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None), "make mounts private")
    for place in ("/run", "/var/lib/cni"):
        os.makedirs(place, exist_ok=True)
        options = b"mode=755"
        _check(_libc.mount(b"tmpfs", place.encode(), b"tmpfs", 0, options), f"mount {place}")
    os.makedirs(os.path.dirname(_NETNS))
    os.close(os.open(_NETNS, os.O_CREAT | os.O_CLOEXEC, 0o600))
    host = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.unshare(_CLONE_NEWNET), "unshare")
        own = b"/proc/thread-self/ns/net"
        _check(_libc.mount(own, _NETNS.encode(), None, _MS_BIND, None), "bind")
        _check(_libc.setns(host, _CLONE_NEWNET), "setns")
    finally:
        os.close(host)


def _check(status: int, what: str) -> None:
    if status != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _life(bin_dir: str) -> Iterator[Callable[[], object]]:
    """The calls of a chain in their order: ADD, CHECK, STATUS, VERSION and DEL."""
    for verb in ("ADD", "CHECK", "STATUS", "VERSION"):
        for plugin, keys in _CHAIN:
            yield partial(_call, plugin, verb, keys, bin_dir)
    for plugin, keys in reversed(_CHAIN):
        yield partial(_call, plugin, "DEL", keys, bin_dir)


def _call(plugin_type: str, verb: str, keys: dict[str, Any], bin_dir: str) -> None:
    """Make a call; that it succeeds is not needed: a node may lack a tool or a qdisc.

    The result goes from one plugin to the next through a file, since each may run in a child.
    """
    env = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "CNI_COMMAND": verb,
        "CNI_CONTAINERID": "warmup",
        "CNI_NETNS": _NETNS,
        "CNI_IFNAME": "eth0",
        "CNI_PATH": bin_dir,
    }
    document = {"cniVersion": "1.0.0", "name": "warmup", "type": plugin_type, **keys}
    if os.path.exists(_RESULT):
        with open(_RESULT, "rb") as file:
            document["prevResult"] = json.loads(file.read())
    if verb == "STATUS":
        document["cniVersion"] = "1.1.0"
    plugin = catalog.find(plugin_type)
    assert plugin is not None
    stdin = json.dumps(document).encode()
    reply = dispatch.run(plugin, Request(env, lambda: stdin, Deadline.after(5)))
    if verb == "ADD" and reply.exit_code == 0:
        with open(_RESULT, "wb") as file:
            file.write(reply.stdout)
    elif verb == "DEL" and plugin_type == "bridge":
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_RESULT)
