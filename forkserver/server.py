"""The server: it keeps children waiting for connections, and counts what they did."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cni_plugins.build_info import build_id
from cni_plugins.delegate import is_of_build
from forkserver import child, identity, preload, wire
from forkserver.seats import CALLS_PER_CHILD, Seats
from forkserver.sockets import Sockets
from forkserver.warmup import Warmup, keep_from_collector

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping
    from types import FrameType

_POOLS = {wire.CALL: (8, 64), wire.QUICK: (4, 12)}
"""Seats for children that wait, and how many children there may be, for each socket."""
_STOP_S = child.HARD_LIMIT_S + 10
_RETRY_S = 0.5
_GATHER_S = 0.01
"""How long reports may gather while enough children wait: a call makes four, and who takes each at
once takes a core that the call could use."""
_RECORDS = 4096


@dataclass
class _Child:
    pool: str
    accepted: bool = False
    begun: bool = False
    answered: bool = False


@dataclass
class _Pool:
    listener: socket.socket
    seat_count: int
    limit: int
    seats: Seats
    children: set[int] = field(default_factory=set)


class Server:
    """One server process.

    Args:
        env: the environment it was started with.
        entry: the executable by which it was started, to be started again by; "" for none.
        calls_per_child: after how many calls a child ends.
    """

    def __init__(
        self, env: Mapping[str, str], entry: str = "", *, calls_per_child: int = CALLS_PER_CHILD
    ) -> None:
        self._env = dict(env)
        self._entry = entry
        self._sockets = Sockets(env)
        self._pools: dict[str, _Pool] = {}
        self._calls_per_child = calls_per_child
        self._children: dict[int, _Child] = {}
        self._reports, self._to_server = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._wake, self._waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._signals: set[int] = set()
        self._started = time.time()
        self._counts = dict.fromkeys(("begun", "answered", "lost", "refused", "other build"), 0)
        limits = tuple(resource.getrlimit(n) for n in range(wire.LIMITS))
        self._limits = tuple((soft & _U64, hard & _U64) for soft, hard in limits)

    def run(self) -> int:
        """Serve until TERM or INT; the exit status."""
        self._prepare()
        self._sockets.open()
        listeners = self._sockets.listeners
        self._status = listeners[wire.STATUS]
        self._pools = {
            name: _Pool(listeners[name], *sizes, Seats(sizes[0])) for name, sizes in _POOLS.items()
        }
        self._ready = wire.ready(identity.observe())
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, self._on_signal)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        child.log(f"build {build_id()} serves")
        while not self._signals & {signal.SIGTERM, signal.SIGINT}:
            is_full = self._refill()
            self._wait(None if is_full else _RETRY_S)
            if self._signals & {signal.SIGHUP}:
                self._signals.discard(signal.SIGHUP)
                self._replace()
        return self._stop()

    def _prepare(self) -> None:
        """Have everything in memory that a call needs, where children share it."""
        preload.everything()
        if self._entry:
            warmup = Warmup(os.path.dirname(self._entry))
            if warmup.problem:
                child.log(f"went on without a warm-up: {warmup.problem}")
        keep_from_collector()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._signals.add(number)

    def _is_short(self) -> bool:
        """Whether half of some seats are empty."""
        return any(self._waiting(pool) <= pool.seat_count // 2 for pool in self._pools.values())

    def _waiting(self, pool: _Pool) -> int:
        """How many of its children wait for a connection, as far as they have reported."""
        return sum(not self._children[pid].accepted for pid in pool.children)

    def _refill(self) -> bool:
        """Fork what is missing; False when that was not possible.

        Not before half of the seats are empty: most calls give their child back soon, and a fork
        in the middle of a call costs it a core.  Children that have answered are about to come
        back, which will do unless nobody else waits.
        """
        for name, pool in self._pools.items():
            waiting = self._waiting(pool)
            returning = sum(self._children[pid].answered for pid in pool.children)
            if waiting and waiting + returning > pool.seat_count // 2:
                continue
            while len(pool.children) < pool.limit and pool.seats.take():
                if not self._fork(name, pool):
                    pool.seats.give_back()
                    return False
        return True

    def _fork(self, name: str, pool: _Pool) -> bool:
        try:
            pid = os.fork()
        except OSError as e:
            child.log(f"fork: {e.strerror}")
            return False
        if pid == 0:
            signal.set_wakeup_fd(-1)
            self._sockets.leave(pool.listener)
            for other in self._pools.values():
                if other is not pool:
                    other.seats.close()
            for fd in (self._reports, self._wake, self._waker):
                os.close(fd)
            child.run(
                child.Post(
                    listener=pool.listener,
                    seats=pool.seats,
                    reports=self._to_server,
                    ready=self._ready,
                    limits=self._limits,
                    calls=self._calls_per_child,
                )
            )
        pool.children.add(pid)
        self._children[pid] = _Child(name)
        return True

    def _wait(self, timeout_s: float | None) -> None:
        """Until a child reports or ends, somebody asks, or a signal comes."""
        status = self._status.fileno()
        ready, _, _ = select.select([self._reports, self._wake, status], [], [], timeout_s)
        if ready == [self._reports] and not self._is_short():
            time.sleep(_GATHER_S)
        _drain(self._wake)
        self._catch_up()
        if status in ready:
            self._tell()

    def _catch_up(self) -> None:
        """Take the reports of children, and the ends of those that ended."""
        raw = _drain(self._reports)
        for pid, what in child.REPORT.iter_unpack(raw):
            self._note(pid, what)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for late_pid, what in child.REPORT.iter_unpack(_drain(self._reports)):
                self._note(late_pid, what)
            self._bury(pid, status)

    def _note(self, pid: int, what: bytes) -> None:
        known = self._children.get(pid)
        if known is None:
            return  # a predecessor's child
        if what == child.ACCEPTED:
            known.accepted = True
        elif what == child.WAITING:
            self._children[pid] = _Child(known.pool)
        elif what == child.BEGUN:
            known.begun = True
            self._counts["begun"] += 1
        elif what == child.ANSWERED:
            known.answered = True
            self._counts["answered"] += 1
        elif what == child.OTHER_BUILD:
            self._counts["other build"] += 1
            if self._entry and not is_of_build(self._entry, build_id()):
                self._signals.add(signal.SIGHUP)

    def _bury(self, pid: int, status: int) -> None:
        known = self._children.pop(pid, None)
        if known is None:
            return
        pool = self._pools[known.pool]
        pool.children.discard(pid)
        if known.begun and not known.answered:
            self._counts["lost"] += 1
            child.log(f"child {pid} ended within its call: wait status {status}")
        elif known.accepted and not known.begun:
            self._counts["refused"] += 1
        elif not known.accepted and os.waitstatus_to_exitcode(status) not in {0, -child.LEAVE}:
            pool.seats.give_back()
            child.log(f"child {pid} ended while it waited: wait status {status}")
            time.sleep(0.05)  # not to fork as fast as they die

    def _tell(self) -> None:
        """Answer a question about the server: a JSON object, and the end."""
        try:
            connection, _ = self._status.accept()
        except OSError:
            return
        with connection:
            connection.settimeout(0)
            try:
                connection.sendall(json.dumps(self._describe()).encode())
            except OSError:
                return

    def _describe(self) -> dict[str, object]:
        states = self._children.values()
        idle = [pid for pid, c in self._children.items() if not c.accepted]
        return {
            "build": build_id(),
            "pid": os.getpid(),
            "uptimeSeconds": round(time.time() - self._started, 1),
            "calls": {
                "begun": self._counts["begun"],
                "answered": self._counts["answered"],
                "lost": self._counts["lost"],
                "inFlight": sum(c.begun and not c.answered for c in states),
            },
            "connections": {
                "refused": self._counts["refused"],
                "otherBuild": self._counts["other build"],
            },
            "children": {"waiting": len(idle), "all": len(self._children)},
            "memoryKiB": {
                "server": _resident_kib("self"),
                "child": _private_kib(idle[0]) if idle else 0,
            },
        }

    def _dismiss(self) -> None:
        """Children that wait end; those with a connection serve it, and end then."""
        for pool in self._pools.values():
            pool.seats.remove()
        self._catch_up()  # those that got a seat have reported before
        for pid, known in self._children.items():
            if not known.accepted:
                os.kill(pid, child.LEAVE)

    def _replace(self) -> None:
        """Become the server that is installed by now; calls in flight go on."""
        if not self._entry:
            child.log("cannot start again: not started by an installed entry")
            return
        child.log(f"starting {self._entry} in this server's place")
        self._dismiss()
        variables = self._sockets.hand_over()
        signal.set_wakeup_fd(-1)
        try:
            os.execve(  # noqa: S606 - no shell, our own entry
                self._entry, [self._entry, "serve"], {**self._env, **variables}
            )
        except OSError as e:
            # descriptors of this server were given other numbers: it cannot go on
            child.log(f"run {self._entry}: {e.strerror}")
            os._exit(1)

    def _stop(self) -> int:
        """Take no more calls; end when those in flight have ended."""
        self._dismiss()
        self._sockets.close()
        until = time.monotonic() + _STOP_S
        while self._children and time.monotonic() < until:
            select.select([self._reports, self._wake], [], [], until - time.monotonic())
            _drain(self._wake)
            self._catch_up()
        child.log(f"stopped after {self._counts['answered']} calls")
        return 0


_U64 = (1 << 64) - 1


def _drain(fd: int) -> bytes:
    try:
        return os.read(fd, child.REPORT.size * _RECORDS)
    except BlockingIOError:
        return b""


def _resident_kib(pid: str) -> int:
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize() >> 10


def _private_kib(pid: int) -> int:
    """Memory of a process that it shares with no other."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
            sizes = [line.split() for line in file if line.startswith("Private_")]
    except OSError:
        return 0
    return sum(int(words[1]) for words in sizes)


def installed_entry() -> str:
    """The entry of dist/bin that stands beside this bundle, "" in a checkout."""
    if not hasattr(sys, "_MEIPASS"):
        return ""
    bundle = os.path.dirname(os.path.realpath(sys.executable))
    return os.path.join(os.path.dirname(os.path.dirname(bundle)), "cnictl")
