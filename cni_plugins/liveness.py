"""Who is dead: judging an attachment by what was written down at its ADD.

A collector that frees a living attachment is worse than a leak, so whatever cannot be proved is
UNKNOWN; docs/design.md, "Who is dead", has the rules.

Source: proc(5), namespaces(7); fib_trie's and if_inet6's formats as the kernel prints them.
"""

from __future__ import annotations

import _socket as socket  # for one call; the module around it takes 3 ms to import
import os
import time

from cni_plugins.errors import NetnsError
from cni_plugins.host import files
from cni_plugins.host.netns import NetNS
from cni_plugins.protocol.addresses import Address, parse_address
from cni_plugins.scopes import cached_property
from cni_plugins.witness import Witness

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from enum import Enum
else:
    Enum = object  # the verdicts are their texts then; enum takes 2 ms to import

GRACE_S = 10.0
"""Attachments without a host's link are looked at twice, at least this far apart."""


class Verdict(Enum):
    """What can be proved of an attachment."""

    ALIVE = "alive"
    DEAD = "dead"
    SUSPECT = "suspect"
    """Its namespace is nowhere, but there is no link to confirm it: look again after GRACE_S."""
    LINGERING = "lingering"
    """Its namespace is nowhere and its link is still there: the kernel, which removes links some
    time after their namespace, may be about to; else something we cannot see holds it."""
    UNKNOWN = "unknown"


def observe(netns: str, *, link_index: int = 0, link_name: str = "", caller: int = 0) -> Witness:
    """The circumstances of a call that adds the attachment in ``netns``.

    Args:
        netns: path of the container's namespace.
        link_index: of the host's end, 0 for none.
        link_name: of the host's end.
        caller: pid of the runtime, 0 for this process's parent.
    """
    dev, ino, cookie = _namespace(netns) if netns else (0, 0, 0)
    return Witness(
        boot_id=_boot_id(),
        boot_time=_boot_time(),
        netns=netns,
        netns_dev=dev,
        netns_ino=ino,
        netns_cookie=cookie,
        net=_identity("/proc/thread-self/ns/net")[1],
        mnt=_identity("/proc/self/ns/mnt")[1],
        pid_ns=_identity("/proc/self/ns/pid")[1],
        user=_identity("/proc/self/ns/user")[1],
        link_index=link_index,
        link_name=link_name,
        runtime=_executable(caller or os.getppid()),
        pid=os.getpid(),
        start=_start(),
        created=time.time(),
    )


LIVING = frozenset({Verdict.ALIVE, Verdict.LINGERING})


class Liveness:
    """Judges attachments by one look at the node, taken when first needed."""

    def verdict(self, witness: Witness) -> Verdict:
        """Whether the attachment is alive or dead, as far as it can be proved."""
        if not witness.boot_id:
            return Verdict.UNKNOWN
        if witness.boot_id != self._here.boot_id:
            # both must say so: the clock may have been set, a sandbox may invent boot ids
            is_older = witness.created < self._here.boot_time
            return Verdict.DEAD if is_older else Verdict.UNKNOWN
        if self.is_elsewhere(witness) or not witness.netns_ino:
            return Verdict.UNKNOWN
        if self._is_there(witness):
            return Verdict.ALIVE
        if not witness.link_index:
            return Verdict.SUSPECT
        return Verdict.LINGERING if _has_link(witness) else Verdict.DEAD

    def is_elsewhere(self, witness: Witness) -> bool:
        """Whether this process stands in other namespaces than the one that made the attachment."""
        here = self._here
        return (witness.net, witness.mnt, witness.pid_ns, witness.user) != (
            here.net,
            here.mnt,
            here.pid_ns,
            here.user,
        )

    @property
    def boot_id(self) -> str:
        """This boot."""
        return self._here.boot_id

    @property
    def boot_time(self) -> int:
        """When this boot began, seconds since the epoch."""
        return self._here.boot_time

    @property
    def runtime(self) -> str:
        """The executable that called this plugin."""
        return self._here.runtime

    @cached_property
    def addresses(self) -> frozenset[Address]:
        """Every address that a network namespace of the node has."""
        found: set[Address] = set()
        for path in self._namespaces.values():
            try:
                with NetNS.open(path) as netns, netns.entered():
                    found.update(_local_addresses())
            except NetnsError:
                continue  # it ended between the look and now
        return frozenset(found)

    def _is_there(self, witness: Witness) -> bool:
        """Whether an attachment's namespace lives.

        Where one with its inode number lives that cannot be looked at, it counts as that one.
        """
        path = self._namespaces.get(witness.netns_ino)
        if path is None:
            return False
        there = _namespace(path)
        return there[1] != witness.netns_ino or witness.is_of(*there)

    @cached_property
    def _here(self) -> Witness:
        return observe("")

    @cached_property
    def _namespaces(self) -> dict[int, str]:
        """Every living network namespace: its inode, and a path by which it can be opened."""
        found: dict[int, str] = {}
        mounts_seen: set[int] = set()
        for pid in filter(str.isdigit, os.listdir("/proc")):
            process = f"/proc/{pid}"
            _, ino = _identity(f"{process}/ns/net")
            found.setdefault(ino, f"{process}/ns/net")
            for fd_path, fd_ino in _open_namespaces(process):
                found.setdefault(fd_ino, fd_path)
            _, mnt = _identity(f"{process}/ns/mnt")
            if mnt not in mounts_seen:
                mounts_seen.add(mnt)
                for mount_path, mount_ino in _mounted_namespaces(process):
                    found.setdefault(mount_ino, mount_path)
        found.pop(0, None)
        return found


def _open_namespaces(process: str) -> Iterator[tuple[str, int]]:
    try:
        descriptors = os.listdir(f"{process}/fd")
    except OSError:
        return
    for fd in descriptors:
        path = f"{process}/fd/{fd}"
        try:
            target = os.readlink(path)
        except OSError:
            continue
        if target.startswith("net:["):
            yield path, int(target[5:-1])
        elif target.startswith("/"):
            # a descriptor opened through a bind mount shows that path
            dev, ino = _identity(path)
            if dev == _nsfs():
                yield path, ino


def _mounted_namespaces(process: str) -> Iterator[tuple[str, int]]:
    try:
        with open(f"{process}/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
            for line in table:
                fields = line.split(" ")
                if fields[3].startswith("net:["):
                    where = fields[4].encode().decode("unicode_escape")
                    yield f"{process}/root{where}", int(fields[3][5:-1])
    except OSError:
        return


def _nsfs() -> int:
    return _identity("/proc/self/ns/net")[0]


def _local_addresses() -> Iterator[Address]:
    """The addresses of the namespace the thread stands in."""
    with open("/proc/thread-self/net/fib_trie", encoding="utf-8") as trie:
        last = ""
        for line in trie:
            words = line.split()
            if words[0] == "|--":
                last = words[1]
            elif words[:3] == ["/32", "host", "LOCAL"]:
                yield parse_address(last)
    try:
        with open("/proc/thread-self/net/if_inet6", encoding="utf-8") as table:
            for line in table:
                yield Address(6, int(line.split()[0], 16))
    except FileNotFoundError:
        return  # a kernel without IPv6


def _has_link(witness: Witness) -> bool:
    try:
        return socket.if_indextoname(witness.link_index) == witness.link_name
    except OSError:
        return False


def _namespace(path: str) -> tuple[int, int, int]:
    """Device, inode number and cookie of a network namespace, 0 for what cannot be told."""
    try:
        with NetNS.open(path) as netns:
            return netns.identity()
    except NetnsError:
        return 0, 0, 0


def _identity(path: str) -> tuple[int, int]:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return 0, 0
    return status.st_dev, status.st_ino


def _boot_id() -> str:
    try:
        return files.read("/proc/sys/kernel/random/boot_id").decode().strip()
    except OSError:
        return ""


def _boot_time() -> int:
    try:
        return int(time.time() - time.clock_gettime(time.CLOCK_BOOTTIME))
    except OSError:
        return 0


def _executable(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return ""


def _start() -> int:
    try:
        with open("/proc/self/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0
