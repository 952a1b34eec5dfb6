"""Running the node's tools and other plugins: the only place that starts processes."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cni_plugins.errors import ExecError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cni_plugins.deadline import Deadline

_SYSTEM_PATH: Final = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
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
        except BaseException:
            _kill_group(process)
            raise
        finally:
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    _close(pipe)

    def _converse(self, process: subprocess.Popen[bytes], stdin: bytes) -> Completed:
        """Feed and read a process until it has ended; what it left running does not count."""
        assert process.stdin and process.stdout and process.stderr
        said = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
        left = memoryview(stdin)
        with _PidFd(process.pid) as ended, selectors.DefaultSelector() as selector:
            for fd in said:
                os.set_blocking(fd, False)
                selector.register(fd, selectors.EVENT_READ)
            selector.register(ended, selectors.EVENT_READ)
            if left:
                os.set_blocking(process.stdin.fileno(), False)
                selector.register(process.stdin, selectors.EVENT_WRITE)
            else:
                process.stdin.close()
            while True:
                timeout_s = self._deadline.remaining()
                with self._deadline.waiting():
                    ready = selector.select(timeout_s)
                if not ready:
                    raise ExecError(f"run {process.args[0]}: took too long and was killed")  # type: ignore[index]
                has_ended = False
                for event, _ in ready:
                    if event.fileobj is process.stdin:
                        left = _feed(process.stdin.fileno(), left)
                        if not left:
                            selector.unregister(process.stdin)
                            _close(process.stdin)
                    elif event.fd in said:
                        if not _drain(event.fd, said[event.fd]):
                            selector.unregister(event.fd)
                    else:
                        has_ended = True
                if has_ended:
                    for fd, content in said.items():
                        _drain(fd, content)
                    break
        stdout, stderr = (bytes(content) for content in said.values())
        return Completed(process.wait(), stdout, stderr)


class _PidFd:
    """A descriptor that becomes readable when the process has ended: pidfd_open(2)."""

    def __init__(self, pid: int) -> None:
        self._fd = os.pidfd_open(pid)

    def fileno(self) -> int:
        return self._fd

    def __enter__(self) -> _PidFd:
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.close(self._fd)


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
