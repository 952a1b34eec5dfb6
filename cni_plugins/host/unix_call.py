"""One question to a daemon of the node: a line of JSON there, a line of JSON back.

Source: unix(7).
"""

from __future__ import annotations

import _socket  # the module around it takes 3 ms to import

from cni_plugins import jsontext
from cni_plugins.errors import Busy, KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_plugins.deadline import Deadline

_LARGEST = 1 << 20
_CHUNK = 1 << 16


def call(path: str, question: dict[str, Any], deadline: Deadline) -> Any:
    """Ask the daemon that listens on a socket.

    Args:
        path: of the socket.
        question: what to send.
        deadline: bounds the wait for the answer.

    Returns:
        The decoded answer.

    Raises:
        KernelError: nobody listens there (errno ENOENT or ECONNREFUSED), or it went away (errno
            0) or its answer is no JSON.
        Busy: it did not answer in time.
    """
    opened = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        opened.settimeout(max(0.001, deadline.remaining()))
        opened.connect(path)
        opened.sendall(jsontext.dumps(question).encode() + b"\n")
        answer = _read_line(opened, deadline)
    except TimeoutError:
        raise Busy(f"wait for the answer of {path}: none in time") from None
    except OSError as e:
        raise KernelError(f"{path}: {e.strerror or e}", e.errno or 0) from e
    finally:
        opened.close()
    try:
        return jsontext.loads(answer)
    except ValueError:
        said = answer[:80].decode("utf-8", "replace").strip()
        text = f"{path}: whoever listens there answered {said!r}" if said else f"{path}: no answer"
        raise KernelError(text) from None


def _read_line(opened: _socket.socket, deadline: Deadline) -> bytes:
    found = b""
    while not found.endswith(b"\n") and len(found) < _LARGEST:
        opened.settimeout(max(0.001, deadline.remaining()))
        with deadline.waiting():
            chunk = opened.recv(_CHUNK)
        if not chunk:
            break
        found += chunk
    return found
