"""Running the node's tools and other plugins: the only place that starts processes."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from cni_plugins.errors import ExecError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cni_plugins.deadline import Deadline

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


@dataclass(frozen=True, slots=True)
class Completed:
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

    A tool stands in a process group of its own, which is killed when the time is up, and never
    inherits the descriptors 0 to 2 of this process: a runtime waits for their end.

    Args:
        env: the environment the caller gave.
        deadline: of the call.
    """

    def __init__(self, env: Mapping[str, str], deadline: Deadline) -> None:
        self._env = env
        self._deadline = deadline
        given = [entry for entry in env.get("PATH", "").split(":") if entry.startswith("/")]
        self._path = tuple(dict.fromkeys((*given, *_SYSTEM_PATH)))

    def remaining(self) -> float:
        """Seconds that the call has left."""
        return self._deadline.remaining()

    @property
    def search_path(self) -> str:
        """Where tools are looked for: the caller's PATH and the system's directories."""
        return ":".join(self._path)

    def which(self, tool: str) -> str | None:
        """Path of a tool, None when it is not installed."""
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
        path = self.which(argv[0])
        if path is None:
            raise ExecError(f"run {argv[0]}: not found in {self.search_path}")
        done = self.execute([path, *argv[1:]], stdin=stdin)
        if done.status != 0:
            raise ExecError(
                f"run {' '.join(argv)}: {done.ending}",
                status=done.status,
                stderr=done.stderr[-_STDERR_TAIL:].decode("utf-8", "replace"),
            )
        return done

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
        try:
            process = subprocess.Popen(  # noqa: S603 - no shell, absolute path
                list(argv),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=dict(self._env if env is None else env),
                start_new_session=True,
            )
        except OSError as e:
            raise ExecError(f"run {argv[0]}: {e.strerror}") from e
        try:
            return self._converse(process, stdin)
        except ExecError as e:
            _kill_group(process)
            raise ExecError(f"run {argv[0]}: {e.msg}") from e
        except BaseException:
            _kill_group(process)
            raise
        finally:
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    _close(pipe)

    def _converse(self, process: subprocess.Popen[bytes], stdin: bytes) -> Completed:
        """Feed and read a process until it has ended; what it left running does not count."""
        with _Conversation(process, stdin) as conversation:
            while not conversation.has_ended:
                timeout_s = self._deadline.remaining()
                with self._deadline.waiting():
                    ready = conversation.wait(timeout_s)
                if not ready:
                    raise ExecError("took too long and was killed")
        stdout, stderr = conversation.said()
        return Completed(process.wait(), stdout, stderr)


class _Conversation:
    """What goes to a process's standard input and comes from its outputs, until it ends."""

    def __init__(self, process: subprocess.Popen[bytes], stdin: bytes) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._input = process.stdin
        self._left = memoryview(stdin)
        self._outputs = {pipe.fileno(): bytearray() for pipe in (process.stdout, process.stderr)}
        self._pidfd = os.pidfd_open(process.pid)  # readable when the process has ended
        self._selector = selectors.DefaultSelector()
        self.has_ended = False
        for fd in self._outputs:
            os.set_blocking(fd, False)
            self._selector.register(fd, selectors.EVENT_READ)
        self._selector.register(self._pidfd, selectors.EVENT_READ)
        if stdin:
            os.set_blocking(self._input.fileno(), False)
            self._selector.register(self._input, selectors.EVENT_WRITE)
        else:
            _close(self._input)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._selector.close()
        os.close(self._pidfd)

    def wait(self, timeout_s: float) -> bool:
        """Do what can be done without waiting; False when nothing could within the time."""
        ready = self._selector.select(timeout_s)
        for event, _ in ready:
            if event.fileobj is self._input:
                self._feed()
            elif event.fd == self._pidfd:
                self.has_ended = True
            elif not _drain(event.fd, self._outputs[event.fd]):
                self._selector.unregister(event.fd)
        return bool(ready)

    def said(self) -> tuple[bytes, bytes]:
        """Standard output and error of a process that has ended."""
        for fd, content in self._outputs.items():
            _drain(fd, content)
        stdout, stderr = (bytes(content) for content in self._outputs.values())
        return stdout, stderr

    def _feed(self) -> None:
        self._left = _feed(self._input.fileno(), self._left)
        if not self._left:
            self._selector.unregister(self._input)
            _close(self._input)


def _feed(fd: int, left: memoryview) -> memoryview:
    """Write some; a process that does not read its standard input is none of our business."""
    try:
        return left[os.write(fd, left[:_CHUNK]) :]
    except BlockingIOError:
        return left
    except OSError:
        return memoryview(b"")


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


def _close(pipe: object) -> None:
    try:
        pipe.close()  # type: ignore[attr-defined]
    except OSError:
        return


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        process.wait()
