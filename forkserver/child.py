"""A child of the server: it waits for a connection, serves its call, and waits again.

Like a fresh process of the plugin it has the caller's environment, directory, umask and limits; it
never has the caller's descriptors: a runtime waits for the end of its pipes.

What a fork saves it takes back in copied pages, a millisecond and more in every call; so a child
serves one call after the other, as long as nothing can be left of the one before: only after a call
that succeeded, with the server's own limits and as many descriptors as before it, and not for ever.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import os
import resource
import select
import struct
import time
import traceback
from _socket import AF_UNIX, SO_PEERCRED, SOCK_STREAM, SOL_SOCKET, socket
from signal import Signals
from typing import TYPE_CHECKING, NamedTuple

from cni_plugins import catalog, dispatch
from cni_plugins.background import Background
from cni_plugins.deadline import DEFAULT_S, Deadline
from cni_plugins.main import stopper
from cni_plugins.protocol.request import Request
from forkserver import wire

if TYPE_CHECKING:
    import signal
    from types import FrameType
    from typing import NoReturn

    from forkserver.seats import Seats
else:
    import _signal as signal  # the module around it takes enums in and gives enums out

ACCEPTED, BEGUN, ANSWERED, OTHER_BUILD, WAITING = b"A", b"B", b"E", b"O", b"W"
"""What a child tells its server, with its pid."""
REPORT = struct.Struct("=Ic")
LEAVE = signal.SIGUSR1
"""Ends a child that waits for a connection; one that has it takes no notice."""
HARD_LIMIT_S = 120
"""When the kernel ends a child, whatever holds it; a call's own deadline is half of that."""
_GO_S = 1.0
_PR_SET_PDEATHSIG = 1
_CHUNK = 1 << 16
_libc = ctypes.CDLL(None, use_errno=True)


class Post(NamedTuple):
    """Where a child stands.

    ``listener`` is where connections come from, ``seats`` are those of its pool, ``reports`` is
    the pipe to the server, ``ready`` the message READY, ``limits`` the server's own limits by the
    number of the resource, ``calls`` how many a child serves at the most.
    """

    listener: socket
    seats: Seats
    reports: int
    ready: bytes
    limits: tuple[tuple[int, int], ...]
    calls: int


class Door:
    """Where a child waits: the kernel wakes one child, and the same one as long as it is free.

    accept(2) would wake the one that has waited longest, whose memory is in no cache any more.

    Source: epoll_ctl(2), EPOLLEXCLUSIVE.
    """

    def __init__(self, listener: socket) -> None:
        self._listener = listener
        listener.settimeout(0.0)
        self._epoll = select.epoll()
        self._epoll.register(listener, select.EPOLLIN | select.EPOLLEXCLUSIVE)

    def accept(self) -> socket:
        """The next connection, without the class around it, which makes enums of what it is."""
        while True:
            self._epoll.poll()
            try:
                fd, _ = self._listener._accept()  # type: ignore[attr-defined]  # noqa: SLF001
            except (BlockingIOError, ConnectionAbortedError):
                continue  # another child was faster, or the caller has gone
            return socket(AF_UNIX, SOCK_STREAM, 0, fd)


def run(post: Post) -> NoReturn:
    """Be a child; it has a seat already."""
    status = 70
    try:
        server = os.getppid()
        _libc.prctl(_PR_SET_PDEATHSIG, int(LEAVE))
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, LEAVE):
            signal.signal(number, signal.SIG_DFL)
        door = Door(post.listener)
        descriptors = _descriptors()
        left = post.calls
        while os.getppid() == server:
            connection = door.accept()
            try:
                is_clean = _converse(connection, post)
            finally:
                connection.close()
            left -= 1
            if not left or not is_clean or _descriptors() != descriptors or not _sit_down(post):
                break
        status = 0
    except BaseException:  # noqa: BLE001 - never back into the server's own frames
        log(traceback.format_exc())
    finally:
        os._exit(status)


def _stand_up(post: Post) -> None:
    """Wait no longer; LEAVE has no effect within a call."""
    signal.signal(LEAVE, _take_no_notice)
    post.seats.give_back()
    _report(post.reports, ACCEPTED)


def _is_root(connection: socket) -> bool:
    credentials = connection.getsockopt(SOL_SOCKET, SO_PEERCRED, 12)
    uid: int = struct.unpack("=iII", credentials)[1]
    return uid == 0


def _sit_down(post: Post) -> bool:
    """Wait for another connection, if that is wanted.

    LEAVE can end the child before that is reported, and it is reported before it takes a seat: a
    server that removed the seats finds everybody who got one.
    """
    signal.alarm(0)
    os.chdir("/")
    signal.signal(LEAVE, signal.SIG_DFL)
    _report(post.reports, WAITING)
    if not post.seats.take():
        return False
    gc.collect()
    return True


def _descriptors() -> list[str]:
    return os.listdir("/proc/self/fd")


def log(text: str) -> None:
    """A line for the server's log."""
    try:
        os.write(2, f"{text.rstrip()}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        return


def _take_no_notice(_number: int, _frame: FrameType | None) -> None:
    """As a handler, which unlike SIG_IGN no tool inherits."""


def _report(reports: int, what: bytes) -> None:
    try:
        os.write(reports, REPORT.pack(os.getpid(), what))
    except OSError:
        return  # the server has gone; the call has not


def _converse(connection: socket, post: Post) -> bool:
    """Serve what comes; whether nothing can be left of it."""
    is_root = _is_root(connection)
    connection.settimeout(_GO_S)
    until = time.monotonic() + _GO_S
    try:
        if is_root:
            connection.sendall(post.ready)  # first: what follows is done while the launcher looks
    except OSError:
        is_root = False  # it has gone
    _stand_up(post)
    if not is_root:
        log("refused a connection that is not root's, or has gone")
        return False
    try:
        go = _receive_go(connection, until)
        if go is None:
            _report(post.reports, OTHER_BUILD)
            return False
    except wire.WireError as e:
        log(f"refused a connection: {e}")
        return False
    except OSError:
        return False  # it has gone, or says nothing
    return _serve(connection, go, post)


def _receive_go(connection: socket, until: float) -> wire.Go | None:
    """The call; None when the launcher said BYE."""
    content = bytearray()
    header = None
    needed = wire.BYE_BYTES
    while len(content) < needed:
        left_s = until - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        connection.settimeout(left_s)
        chunk = connection.recv(_CHUNK)
        if not chunk:
            raise wire.WireError("half a message") if content else ConnectionResetError
        content += chunk
        if len(content) >= wire.BYE_BYTES and wire.is_bye(content):
            return None
        needed = wire.GO_HEADER_BYTES
        if header is None and len(content) >= wire.GO_HEADER_BYTES:
            header = wire.parse_header(bytes(content[: wire.GO_HEADER_BYTES]))
        if header is not None:
            needed = wire.GO_HEADER_BYTES + header.rest
    if header is None or len(content) != needed:
        raise wire.WireError("more than a call")
    return wire.parse_go(header, bytes(content[wire.GO_HEADER_BYTES :]))


def _serve(connection: socket, go: wire.Go, post: Post) -> bool:
    """Serve a call, after BEGUN; where that is not sent nothing is done."""
    name = os.path.basename(go.argv[0])
    plugin = catalog.find(name)
    if plugin is None:
        return False
    try:
        _become(go, post.limits)
    except (OSError, ValueError) as e:
        log(f"cannot stand where the caller stands: {e}")
        return False
    deadline = Deadline.after(DEFAULT_S)
    command = go.env.get("CNI_COMMAND", "")
    _listen(connection, command, deadline)
    signal.alarm(HARD_LIMIT_S)
    call_id = go.header.id
    log(f"begun {call_id} {command} {name} {go.env.get('CNI_CONTAINERID', '')}")
    _report(post.reports, BEGUN)
    try:
        connection.sendall(wire.BEGUN)
    except OSError:
        log(f"ended {call_id}: the caller had gone")
        return False
    background = Background()
    request = Request(go.env, lambda: go.stdin, deadline, go.header.caller, background)
    reply = dispatch.run(plugin, request)
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    _report(post.reports, ANSWERED)
    connection.settimeout(None)
    try:
        connection.sendall(wire.reply(reply.exit_code, reply.stdout, reply.stderr))
        log(f"ended {call_id} {reply.exit_code}")
    except OSError:
        log(f"ended {call_id}: nobody waits for its answer any more")
        return False
    finally:
        background.join()
    return reply.exit_code == 0 and go.header.limits == post.limits


def _become(go: wire.Go, limits: tuple[tuple[int, int], ...]) -> None:
    """Take the caller's directory, umask and limits."""
    os.chdir(go.cwd)
    os.umask(go.header.umask)
    if go.header.limits != limits:
        for number, pair in enumerate(go.header.limits):
            if pair != limits[number]:
                resource.setrlimit(number, (_limit(pair[0]), _limit(pair[1])))


def _limit(value: int) -> int:
    return resource.RLIM_INFINITY if value >= 1 << 63 else value


def _listen(connection: socket, command: str, deadline: Deadline) -> None:
    """Stop the call as a signal would when the launcher passes one on, or goes away.

    The kernel tells by SIGIO: fcntl(2), O_ASYNC.
    """
    stop = stopper(command, deadline)

    def look() -> None:
        if not select.select([connection], [], [], 0)[0]:
            return
        try:
            said = connection.recv(16)
        except OSError:
            said = b""
        stop(Signals(said[0]).name if said else "the caller's end")

    def on_io(_number: int, _frame: FrameType | None) -> None:
        look()

    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGIO, on_io)
    fcntl.fcntl(connection, fcntl.F_SETOWN, os.getpid())
    flags = fcntl.fcntl(connection, fcntl.F_GETFL)
    fcntl.fcntl(connection, fcntl.F_SETFL, flags | os.O_ASYNC)
    look()
