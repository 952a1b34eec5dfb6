"""A directory of small files that many processes share: atomic writes and locks with a deadline.

Nothing here is ever half written: a file is written beside its place and linked or renamed into
it.  A lock is a BSD flock (what the reference suite takes too), so the kernel frees it when its
holder dies.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time

from cni_plugins.errors import Busy, StateError
from cni_plugins.host import files
from cni_plugins.scopes import contextmanager, suppress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, TypeVar

    from cni_plugins.deadline import Deadline

    T = TypeVar("T")


_GONE = (FileNotFoundError, NotADirectoryError)
_FIRST_RETRY_S = 0.0005
_LONGEST_RETRY_S = 0.002
"""As long as most holders take; many that wait cost less than a lock that nobody has."""
_RACES = 16


class Store:
    """Files under ``root``; names are relative and may contain ``/``.

    Every method raises StateError, naming the path and the reason, for what the file system
    refuses.

    Args:
        root: absolute path of the directory; made when something is first written.
        scratch: where files are written before they are linked into place, on the same file
            system; ``root`` itself unless somebody else lists that directory.
    """

    def __init__(self, root: str, *, scratch: str = "") -> None:
        self.root = root
        self._scratch = scratch or root

    def path(self, name: str = "") -> str:
        """Absolute path of a file of the store."""
        return f"{self.root}/{name}" if name else self.root

    def read(self, name: str) -> bytes | None:
        """The content of a file, None when there is none."""
        try:
            return files.read(self.path(name))
        except _GONE:
            return None
        except OSError as e:
            raise self._error("read", name, e) from e

    def create(self, name: str, content: bytes, *, mode: int = 0o600) -> bool:
        """Make a file with all its content at once; False when the name is taken."""
        try:
            temporary = self._write(name, content, mode, durable=False)
            try:
                _with_directory(self.path(name), os.link, temporary, self.path(name))
            except FileExistsError:
                return False
            finally:
                os.unlink(temporary)
        except OSError as e:
            raise self._error("create", name, e) from e
        return True

    def replace(
        self, name: str, content: bytes, *, mode: int = 0o600, durable: bool = False
    ) -> None:
        """Give a file new content at once; ``durable`` content survives a power failure."""
        try:
            temporary = self._write(name, content, mode, durable=durable)
            try:
                _with_directory(self.path(name), os.rename, temporary, self.path(name))
            except OSError:
                os.unlink(temporary)
                raise
            if durable:
                self._sync_directory(os.path.dirname(self.path(name)))
        except OSError as e:
            raise self._error("write", name, e) from e

    def patch(self, name: str, offset: int, content: bytes) -> None:
        """Change some bytes of a file in place, making it when missing."""
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC
            fd = _with_directory(self.path(name), os.open, self.path(name), flags, 0o600)
            try:
                os.pwrite(fd, content, offset)
            finally:
                os.close(fd)
        except OSError as e:
            raise self._error("write", name, e) from e

    def mtime_ns(self, name: str = "") -> int | None:
        """When a file or directory was last changed, in nanoseconds; None when it is not there."""
        try:
            return os.stat(self.path(name)).st_mtime_ns
        except _GONE:
            return None
        except OSError as e:
            raise self._error("look at", name, e) from e

    def problem(self) -> str:
        """Why nothing could be written here, "" when it could; looks, but neither locks nor writes.

        Root may write anywhere as far as access(2) goes, so the file system itself is asked.
        """
        place = self.root
        while not os.path.lexists(place):
            place = os.path.dirname(place)
        try:
            if not os.path.isdir(place):
                return f"{place} is no directory"
            facts = os.statvfs(place)
        except OSError as e:
            return f"{place}: {e.strerror}"
        if facts.f_flag & os.ST_RDONLY:
            return f"{place} is on a read-only file system"
        if facts.f_blocks and not facts.f_bavail:
            return f"the file system of {place} is full"
        if facts.f_files and not facts.f_favail:
            return f"the file system of {place} has no inodes left"
        return ""

    def discard(self, name: str) -> bool:
        """Remove a file; False when there was none."""
        try:
            os.unlink(self.path(name))
        except _GONE:
            return False
        except OSError as e:
            raise self._error("remove", name, e) from e
        return True

    def discard_files(self, directory: str) -> None:
        """Remove a directory of files with all of them."""
        for name in self.names(directory):
            self.discard(f"{directory}/{name}")
        self.discard_directory(directory)

    def discard_directory(self, name: str = "") -> None:
        """Remove a directory if it is empty; one that is not, or not there, stays as it is."""
        with suppress(OSError):
            os.rmdir(self.path(name))

    def names(self, directory: str = "") -> tuple[str, ...]:
        """The names in a directory, sorted; none when it does not exist."""
        try:
            return tuple(sorted(os.listdir(self.path(directory))))
        except _GONE:
            return ()
        except OSError as e:
            raise self._error("list", directory, e) from e

    @contextmanager
    def locked(
        self, name: str, deadline: Deadline, *, mode: int = 0o600, shared: bool = False
    ) -> Iterator[int]:
        """Hold the lock of file ``name``, which is made when missing and stays empty.

        Its descriptor can be left to a process, which then holds the lock as well.

        Whoever holds the lock may remove the file: others that wait for it then start anew.  A
        ``shared`` lock excludes only those that are not; its holders may not remove the file.

        Raises:
            Busy: the deadline passed; the message names the holder.
        """
        fd = self.lock(name, deadline, mode=mode, shared=shared)
        try:
            yield fd
        finally:
            os.close(fd)

    def lock(
        self, name: str, deadline: Deadline, *, mode: int = 0o600, shared: bool = False
    ) -> int:
        """A descriptor that holds the lock until it is closed; otherwise as :meth:`locked`."""
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        while True:
            fd = self._open_lock(name, mode)
            try:
                self._wait_for_lock(fd, name, deadline, kind)
                if self._is_in_place(fd, name):
                    return fd
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)  # its last holder removed it while we waited

    def _wait_for_lock(self, fd: int, name: str, deadline: Deadline, kind: int) -> None:
        """Ask again and again: a flock that blocks knows no deadline but a signal's."""
        pause = _FIRST_RETRY_S
        while True:
            try:
                fcntl.flock(fd, kind | fcntl.LOCK_NB)
            except OSError as e:
                if e.errno not in {errno.EWOULDBLOCK, errno.EINTR}:
                    raise self._error("lock", name, e) from e
            else:
                return
            left = deadline.remaining()
            if left <= 0:
                raise Busy(
                    f"lock {self.path(name)}: held by {lock_holder(fd) or 'another process'}",
                    "try again later; if the holder hangs, end that process: "
                    "the kernel then frees the lock",
                )
            time.sleep(min(pause * (1 + os.urandom(1)[0] / 256), left))
            pause = min(pause * 2, _LONGEST_RETRY_S)

    def _open_lock(self, name: str, mode: int) -> int:
        path = self.path(name)
        flags = os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC
        try:
            return _with_directory(path, os.open, path, flags, mode)
        except OSError as e:
            raise self._error("lock", name, e) from e

    def _is_in_place(self, fd: int, name: str) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), os.stat(self.path(name)))
        except OSError:
            return False

    def _write(self, name: str, content: bytes, mode: int, *, durable: bool) -> str:
        """Write ``content`` beside its place and return the temporary file's path."""
        temporary = f"{self._scratch}/.{os.path.basename(name)}.{os.getpid()}.{time.time_ns():x}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        fd = _with_directory(temporary, os.open, temporary, flags, mode)
        try:
            _write_all(fd, content)
            if durable:
                os.fsync(fd)
        except OSError:
            os.unlink(temporary)
            raise
        finally:
            os.close(fd)
        return temporary

    @staticmethod
    def _sync_directory(path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def _error(self, verb: str, name: str, e: OSError) -> StateError:
        return StateError(
            f"{verb} {self.path(name)}: {e.strerror or e}", errno.errorcode.get(e.errno or 0, "")
        )


def read_file(path: str) -> bytes:
    """A file anywhere on the node.

    Raises:
        StateError: it cannot be read.
    """
    content = Store(os.path.dirname(path)).read(os.path.basename(path))
    if content is None:
        raise StateError(f"open {path}: no such file or directory", "ENOENT")
    return content


def _with_directory(path: str, action: Callable[..., T], /, *args: Any) -> T:
    """``action(*args)``, making the directory of ``path`` when it is missing.

    Another call may remove a directory it left empty at any moment, hence the repetition.
    """
    for _ in range(_RACES):
        try:
            return action(*args)
        except FileNotFoundError:
            # makedirs reports "exists" for a directory that is removed while it looks
            with suppress(FileNotFoundError, FileExistsError):
                os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
    return action(*args)


def _write_all(fd: int, content: bytes) -> None:
    """os.write may write less than asked; on a full disk the next call says so."""
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]


def lock_holder(fd: int) -> str:
    """Who holds the flock of an open file, as "pid 17 (bridge) for 4 s"; "" when unknown.

    Source: /proc/locks, proc(5).  Pids are those of the reader's pid namespace.
    """
    status = os.fstat(fd)
    wanted = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    try:
        with open("/proc/locks", encoding="utf-8") as table:
            for line in table:
                words = line.split()
                if "FLOCK" in words and "->" not in words and words[5] == wanted:
                    return _describe_process(int(words[4]))
    except OSError:
        pass
    return ""


def _describe_process(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            name = file.read().strip()
        age_s = time.time() - os.stat(f"/proc/{pid}").st_ctime
    except OSError:
        return f"pid {pid}"
    return f"pid {pid} ({name}, running for {age_s:.0f} s)"
