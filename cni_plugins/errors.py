"""What a plugin may answer instead of a result.

::

    CniError(code, msg, details="")     the error object of the CNI spec, section "Error"
    ├── RequestError        4     environment variables, all of them named
    ├── DecodeError         6     JSON or version text that cannot be read
    ├── ConfigError         7     a network configuration key, named by its JSON path
    ├── VersionError        1     a version or verb that is not supported
    ├── NetnsError        999/8   999 a namespace that is gone or no namespace; 8 our own
    ├── KernelError       999     what the kernel refused, on which object
    ├── ExecError         999     a tool that failed: argv, exit status, tail of stderr
    ├── StateError        999     our own files on the node
    ├── Busy               11     a lock or a wait ran out of time: try again later
    ├── Unavailable      50/51    STATUS only: no new pod can be given its network
    ├── AlreadyAttached   999     a second ADD of a living attachment
    └── DelegateError     as the delegate gave it

Interrupted, no answer but a signal, stands beside the tree.

A message is "verb object: reason" in lower case.  Callers decide by type, code or errno, never by
message text.
"""

from __future__ import annotations

INCOMPATIBLE_VERSION = 1
UNKNOWN_CONTAINER = 3
INVALID_ENVIRONMENT = 4
IO_FAILURE = 5
DECODING_FAILURE = 6
INVALID_CONFIG = 7
INVALID_NETNS = 8
TRY_AGAIN_LATER = 11
NOT_AVAILABLE = 50
LIMITED_CONNECTIVITY = 51
INTERNAL = 999


class CniError(Exception):
    """An error object as the spec defines it.

    Args:
        code: a code of the CNI spec, or 100 and above for a plugin's own.
        msg: one line for the operator.
        details: more lines, may be empty.
    """

    def __init__(self, code: int, msg: str, details: str = "") -> None:
        super().__init__(msg)
        self.code = code
        self.msg = msg
        self.details = details

    def __str__(self) -> str:
        return f"{self.msg}; {self.details}" if self.details else self.msg


class RequestError(CniError):
    """An environment variable is missing or invalid (code 4)."""

    def __init__(self, msg: str, details: str = "") -> None:
        super().__init__(INVALID_ENVIRONMENT, msg, details)


class DecodeError(CniError):
    """JSON or a version text cannot be decoded (code 6)."""

    def __init__(self, msg: str, details: str = "") -> None:
        super().__init__(DECODING_FAILURE, msg, details)


class ConfigError(CniError):
    """A key of the network configuration is wrong (code 7).

    Args:
        path: JSON path of the key, such as ``ipam.ranges[0][0].subnet``; "" for the whole document.
        reason: what is wrong and what was expected.
    """

    def __init__(self, path: str, reason: str, details: str = "") -> None:
        super().__init__(INVALID_CONFIG, f"{path}: {reason}" if path else reason, details)
        self.path = path
        self.reason = reason


class VersionError(CniError):
    """The configuration's version, or the verb under it, is not supported (code 1)."""

    def __init__(self, msg: str, details: str = "") -> None:
        super().__init__(INCOMPATIBLE_VERSION, msg, details)


class NetnsError(CniError):
    """A network namespace that is gone, no namespace at all, or our own.

    Args:
        gone: the path does not exist, or no longer leads to a namespace: DEL takes it for success.
    """

    def __init__(self, msg: str, *, code: int = INTERNAL, gone: bool = False) -> None:
        super().__init__(code, msg)
        self.gone = gone


class KernelError(CniError):
    """The kernel refused a request; ``errno`` is its positive number, 0 when it gave none."""

    def __init__(self, msg: str, errno: int = 0, details: str = "") -> None:
        super().__init__(INTERNAL, msg, details)
        self.errno = errno


class ExecError(CniError):
    """A tool could not be run or failed.

    Args:
        status: exit status; negative for a signal; None when it was never started or timed out.
        stderr: the tail of what it said.
    """

    def __init__(self, msg: str, *, status: int | None = None, stderr: str = "") -> None:
        super().__init__(INTERNAL, msg, stderr.strip())
        self.status = status
        self.stderr = stderr


class StateError(CniError):
    """Files that the suite keeps on the node cannot be read or written."""

    def __init__(self, msg: str, details: str = "") -> None:
        super().__init__(INTERNAL, msg, details)


class Busy(CniError):
    """Somebody else holds what this call needs, or a wait ran out: try again later (code 11)."""

    def __init__(self, msg: str, details: str = "") -> None:
        super().__init__(TRY_AGAIN_LATER, msg, details)


class Unavailable(CniError):
    """STATUS: every ADD would fail (code 50), and running pods may suffer too (code 51)."""

    def __init__(self, msg: str, details: str = "", *, code: int = NOT_AVAILABLE) -> None:
        super().__init__(code, msg, details)


class DelegateError(CniError):
    """What a delegate answered: its code and details, its message prefixed with its type.

    Args:
        already_allocated: the delegate refused because this attachment has its address already;
            the caller must then not send it a DEL, which would free a running pod's address.
    """

    def __init__(self, plugin: str, error: CniError, *, already_allocated: bool = False) -> None:
        super().__init__(error.code, f"{plugin}: {error.msg}", error.details)
        self.already_allocated = already_allocated


class AlreadyAttached(CniError):
    """A second ADD of an attachment that is alive; nothing was touched (code 999).

    The spec forbids a runtime to send it (CNI spec, section "ADD").
    """

    def __init__(self, msg: str, details: str = "") -> None:
        super().__init__(INTERNAL, msg, details)


class Interrupted(BaseException):
    """TERM or INT arrived during ADD, CHECK or STATUS; ADD rolls back, then the call ends."""
