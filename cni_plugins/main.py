"""The process edge: the only place that touches the process's streams, environment and signals."""

from __future__ import annotations

import gc
import os
import sys

from cni_plugins import catalog
from cni_plugins.deadline import DEFAULT_S, Deadline
from cni_plugins.protocol.request import Reply, Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable
    from types import FrameType
else:
    import _signal as signal  # the module around it makes enums, a tenth of a fresh process's call

_CHUNK = 1 << 16


def main(plugin_type: str | None = None) -> int:
    """Run the plugin this process was called as; its exit status.

    Args:
        plugin_type: a type of the catalog; by default the name the executable was called by.
    """
    name = plugin_type or os.path.basename(sys.argv[0])
    env = dict(os.environ)
    if name == "cnictl":
        from cnictl.cli import main as operate  # noqa: PLC0415 - plugins never need it

        return operate(sys.argv[1:], env, sys.stdout, sys.stderr)
    if name == "dhcp" and sys.argv[1:2] == ["daemon"]:
        from dhcp_daemon.cli import main as keep_leases  # noqa: PLC0415 - as above

        return keep_leases(sys.argv[2:], env, sys.stderr)
    plugin = catalog.find(name)
    if plugin is None:
        sys.stderr.write(f"{name}: no plugin of this suite; it has {', '.join(catalog.PLUGINS)}\n")
        return 1
    gc.disable()  # a call ends before garbage is worth a search
    deadline = Deadline.after(DEFAULT_S)
    _listen(env.get("CNI_COMMAND", ""), deadline)

    from cni_plugins.dispatch import run  # noqa: PLC0415 - json, not before it is needed

    return _print(run(plugin, Request(env, _read_stdin, deadline)))


def stopper(command: str, deadline: Deadline) -> Callable[[str], None]:
    """What ends a call early, given the reason: an ADD with its rollback, DEL and GC never."""

    def stop(reason: str) -> None:
        if command not in {"DEL", "GC"}:
            deadline.interrupt(reason)

    return stop


def _listen(command: str, deadline: Deadline) -> None:
    """TERM and INT end a call early."""
    stop = stopper(command, deadline)

    def on_signal(number: int, _frame: FrameType | None) -> None:
        from signal import Signals  # noqa: PLC0415 - few calls are ended

        stop(Signals(number).name)

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)


def _read_stdin() -> bytes:
    from cni_plugins.dispatch import STDIN_BYTES  # noqa: PLC0415 - loaded by now

    chunks = []
    size = 0
    while size <= STDIN_BYTES and (chunk := os.read(0, _CHUNK)):
        chunks.append(chunk)
        size += len(chunk)
    return b"".join(chunks)


def _print(reply: Reply) -> int:
    """Write the reply; a reader that has gone away is no reason for a traceback."""
    for fd, content in ((2, reply.stderr), (1, reply.stdout)):
        view = memoryview(content)
        try:
            while view:
                view = view[os.write(fd, view) :]
        except OSError:
            continue
    return reply.exit_code
