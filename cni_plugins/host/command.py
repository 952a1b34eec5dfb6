"""Running the node's tools and other plugins: the only place that starts processes."""

from __future__ import annotations

import fcntl
import math
import os
import select

from cni_plugins.errors import ExecError
from cni_plugins.frozen import Frozen
from cni_plugins.scopes import cached_property

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Mapping, Sequence
    from typing import Final

    from cni_plugins.deadline import Deadline
else:
    import _signal as signal  # as in main.py

_SYSTEM_PATH: Final = (
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
)
_STDERR_TAIL = 4096
_CHUNK = 1 << 16
_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
"""Signals that stay ignored across exec, unless told otherwise."""


class Completed(Frozen, kw_only=False):
    """A process that has ended: its exit status (negative: the signal), and what it said."""

    status: int
    stdout: bytes
    stderr: bytes

    @property
    def ending(self) -> str:
        """How it ended, as in "exit status 1" or "signal: killed"."""
        if self.status < 0:
            return f"signal: {signal.strsignal(-self.status) or -self.status}".lower()
        return f"exit status {self.status}"


class Runner:
    """Runs tools with the caller's environment, within the call's deadline.

    A tool stands in a session of its own, whose process group is killed when the time is up, and
    inherits no descriptor of this process but a lock's: a runtime waits for the end of 0 to 2.

    Args:
        env: the environment the caller gave.
        deadline: of the call.
        lock: descriptor of a lock that tools, which unlike plugins leave nothing running, hold too.
    """

    def __init__(
        self, env: Mapping[str, str], deadline: Deadline, *, lock: int | None = None
    ) -> None:
        self._env = env
        self._lock = lock
        self._deadline = deadline
        given = [entry for entry in env.get("PATH", "").split(":") if entry.startswith("/")]
        self._path = tuple(dict.fromkeys((*given, *_SYSTEM_PATH)))
        self._places: dict[str, str | None] = {}

    def remaining(self) -> float:
        """Seconds that the call has left."""
        return self._deadline.remaining()

    @property
    def search_path(self) -> str:
        """Where tools are looked for: the caller's PATH and the system's directories."""
        return ":".join(self._path)

    def which(self, tool: str) -> str | None:
        """Path of a tool, None when it is not installed; looked for once in a call."""
        if tool not in self._places:
            self._places[tool] = self._find(tool)
        return self._places[tool]

    def _find(self, tool: str) -> str | None:
        for directory in self._path:
            path = f"{directory}/{tool}"
            if os.access(path, os.X_OK) and not os.path.isdir(path):
                return path
        return None

    def run(self, argv: Sequence[str], *, stdin: bytes = b"") -> Completed:
        """Run a tool of the search path to its end.

        Raises:
            ExecError: it is not installed, cannot be started, fails or takes too long.
        """
        return self.launch(argv, stdin=stdin).result()

    def launch(self, argv: Sequence[str], *, stdin: bytes = b"") -> Tool:
        """Start a tool of the search path; its result, to be fetched, tells every failure."""
        path = self.which(argv[0])
        if path is None:
            return Tool(argv, ExecError(f"run {argv[0]}: not found in {self.search_path}"))
        try:
            return Tool(argv, self.start([path, *argv[1:]], stdin=stdin, keep=self._lock))
        except ExecError as e:
            return Tool(argv, e)

    def execute(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        """Run an executable by its path; any exit status is an answer.

        Args:
            argv: path and arguments.
            stdin: what it reads.
            env: another environment than the caller's.

        Raises:
            ExecError: it cannot be started (``__cause__`` is the OSError) or takes too long.
        """
        return self.start(argv, stdin=stdin, env=env).wait()

    def start(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        keep: int | None = None,
    ) -> Process:
        """Start an executable by its path, as :meth:`execute` does; it has to be waited for.

        Args:
            argv: path and arguments.
            stdin: what it reads.
            env: another environment than the caller's.
            keep: a descriptor that it gets, by the same number.

        Raises:
            ExecError: it cannot be started; ``__cause__`` is the OSError.
        """
        made: list[int] = []  # standard input, then both ends of either output
        try:
            made.append(_file_of(stdin))
            made += os.pipe()
            made += os.pipe()
            for i, fd in enumerate(made):
                made[i] = _off_standard(fd)
            places = enumerate((made[0], made[2], made[4]))
            pid = os.posix_spawn(
                argv[0],
                list(argv),
                dict(self._env if env is None else env),
                file_actions=[
                    *((os.POSIX_SPAWN_DUP2, fd, place) for place, fd in places),
                    *((os.POSIX_SPAWN_CLOSE, fd) for fd in self._inherited),
                    *((os.POSIX_SPAWN_DUP2, fd, fd) for fd in (keep,) if fd is not None and fd > 2),
                ],
                setsid=True,
                setsigdef=_IGNORED_BY_PYTHON,
            )
        except OSError as e:
            _close(*made)
            raise ExecError(f"run {argv[0]}: {e.strerror}") from e
        _close(made[0], made[2], made[4])
        return Process(argv[0], pid, (made[1], made[3]), self._deadline)

    @cached_property
    def _inherited(self) -> tuple[int, ...]:
        """What whoever started this process left open; what Python opens no tool inherits."""
        found = []
        for fd in map(int, os.listdir("/proc/self/fd")):
            try:
                if fd > 2 and os.get_inheritable(fd):
                    found.append(fd)
            except OSError:  # that of the listing itself
                continue
        return tuple(found)


class Process:
    """A process that was started.

    Args:
        name: what it is called in errors.
        pid: of the process, which is the leader of its group.
        outputs: where its standard output and error are read.
        deadline: of the call.
    """

    def __init__(self, name: str, pid: int, outputs: Sequence[int], deadline: Deadline) -> None:
        self._name = name
        self._pid = pid
        self._said = {fd: bytearray() for fd in outputs}
        self._deadline = deadline

    def wait(self) -> Completed:
        """Read until it has ended; what it left running does not count.

        Raises:
            ExecError: it took too long and was killed.
        """
        status: int | None = None
        try:
            self._listen()
            _, status = os.waitpid(self._pid, 0)
        finally:
            if status is None:
                self._kill()
            _close(*self._said)
        stdout, stderr = map(bytes, self._said.values())
        return Completed(os.waitstatus_to_exitcode(status), stdout, stderr)

    def _listen(self) -> None:
        end = os.pidfd_open(self._pid)  # readable when the process has ended
        try:
            poller = select.poll()
            poller.register(end, select.POLLIN)
            for fd in self._said:
                os.set_blocking(fd, False)
                poller.register(fd, select.POLLIN)
            while end not in (ready := self._wait(poller)):
                for fd in ready:
                    if not _drain(fd, self._said[fd]):
                        poller.unregister(fd)
        finally:
            os.close(end)
        for fd, content in self._said.items():
            _drain(fd, content)

    def _wait(self, poller: select.poll) -> list[int]:
        timeout_s = self._deadline.remaining()
        with self._deadline.waiting():
            ready = poller.poll(math.ceil(timeout_s * 1000))
        if not ready:
            raise ExecError(f"run {self._name}: took too long and was killed")
        return [fd for fd, _ in ready]

    def _kill(self) -> None:
        try:
            os.killpg(self._pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        finally:
            os.waitpid(self._pid, 0)


class Tool:
    """A tool that was started, or could not be."""

    def __init__(self, argv: Sequence[str], started: Process | ExecError) -> None:
        self._argv = argv
        self._started = started

    def result(self) -> Completed:
        """Wait for its end, once.

        Raises:
            ExecError: it was not started, failed or took too long.
        """
        if isinstance(self._started, ExecError):
            raise self._started
        done = self._started.wait()
        if done.status != 0:
            raise ExecError(
                f"run {' '.join(self._argv)}: {done.ending}",
                status=done.status,
                stderr=done.stderr[-_STDERR_TAIL:].decode("utf-8", "replace"),
            )
        return done


def _file_of(content: bytes) -> int:
    """A file in memory, which unlike a pipe takes any amount without somebody who reads."""
    fd = os.memfd_create("stdin")
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
        os.lseek(fd, 0, os.SEEK_SET)
    except OSError:
        os.close(fd)
        raise
    return fd


def _off_standard(fd: int) -> int:
    """The same file by a descriptor above 2, where a dup2 onto 0 to 2 does not overwrite it."""
    if fd > 2:
        return fd
    above = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(fd)
    return above


def _drain(fd: int, content: bytearray) -> bool:
    """Read what is there; False at the end."""
    while True:
        try:
            chunk = os.read(fd, _CHUNK)
        except BlockingIOError:
            return True
        if not chunk:
            return False
        content += chunk


def _close(*fds: int) -> None:
    for fd in fds:
        os.close(fd)
