"""``dhcp daemon``: its options, its socket, its end.

Options are spelled as the reference suite's daemon takes them, with one dash or two.

Source: sd_listen_fds(3) for a socket that systemd made.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import signal
import socket
from typing import TYPE_CHECKING, TextIO

from cni_plugins.deadline import Deadline
from cni_plugins.errors import CniError
from dhcp_daemon.exchange import Timing
from dhcp_daemon.keeper import Keeper
from dhcp_daemon.server import LARGEST, Server
from dhcp_ipam.leases import LOCK, SOCKET, LeaseFiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_FIRST_FD = 3
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001, "us": 1e-6, "ns": 1e-9}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(h|ms|m|us|ns|s)")
_TRUTH = {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}


def main(argv: Sequence[str], env: Mapping[str, str], stderr: TextIO) -> int:
    """Run the daemon until TERM or INT; 0 then, 1 when it cannot start, 2 for wrong options."""
    try:
        options = _parser().parse_args(argv)
    except SystemExit as e:
        return e.code if isinstance(e.code, int) else 2

    def log(line: str) -> None:
        stderr.write(f"dhcp: {line}\n")
        stderr.flush()

    try:
        with contextlib.ExitStack() as stack:
            _run(options, env, stack, log)
    except CniError as e:
        log(str(e))
        return 1
    except OSError as e:
        log(f"{e.filename or options.socketpath}: {e.strerror}")
        return 1
    return 0


def _run(
    options: argparse.Namespace,
    env: Mapping[str, str],
    stack: contextlib.ExitStack,
    log: Callable[[str], None],
) -> None:
    files = LeaseFiles(options.socketpath, options.hostprefix)
    stack.enter_context(files.store.locked(LOCK, Deadline.after(0)))
    path = options.hostprefix + options.socketpath
    listener = stack.enter_context(listening(path, env))
    if options.pidfile:
        stack.enter_context(pid_file(options.pidfile))
    timing = Timing(
        timeout_s=options.timeout,
        resend_max_s=options.resendmax,
        resend_timeout_s=options.resendtimeout,
        broadcast=options.broadcast,
    )
    keeper = Keeper(files, timing, options.hostprefix, log)
    asyncio.run(_serve(keeper, listener, log))


async def _serve(keeper: Keeper, listener: socket.socket, log: Callable[[str], None]) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    keeper.start()
    server = Server(keeper, os.geteuid(), log)
    listener.settimeout(0)
    async with await asyncio.start_unix_server(server.serve, sock=listener, limit=LARGEST):
        log(f"listens on {listener.getsockname()}, holds {len(keeper)} leases")
        await stopped.wait()
    await keeper.stop()
    log(f"stops; {len(keeper)} leases stay")


@contextlib.contextmanager
def listening(path: str, env: Mapping[str, str]) -> Iterator[socket.socket]:
    """The socket systemd made, or one at ``path``, which goes in the end.

    A socket that a killed daemon left behind is replaced; one that somebody listens on is not.
    """
    if env.get("LISTEN_PID") == str(os.getpid()) and env.get("LISTEN_FDS", "0") != "0":
        if env["LISTEN_FDS"] != "1":
            raise CniError(999, f"systemd gave {env['LISTEN_FDS']} sockets, expected one")
        with socket.socket(fileno=_FIRST_FD) as given:
            yield given
        return
    os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as opened:
        _discard_stale(path)
        mask = os.umask(0o117)
        try:
            opened.bind(path)
        finally:
            os.umask(mask)
        try:
            opened.listen(socket.SOMAXCONN)
            yield opened
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def _discard_stale(path: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise CniError(999, f"listen on {path}: another daemon does", "stop it first")


@contextlib.contextmanager
def pid_file(path: str) -> Iterator[None]:
    """The daemon's process id in a file, as long as it runs."""
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w", encoding="ascii") as file:
        file.write(str(os.getpid()))
    os.chmod(temporary, 0o644)
    os.rename(temporary, path)
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def duration(text: str) -> float:
    """Seconds of a duration as Go writes it, such as ``1m30s`` or ``500ms``.

    Raises:
        argparse.ArgumentTypeError: it is none, or not above zero.
    """
    parts = _PART.findall(text)
    if "".join(number + unit for number, unit in parts) != text or not parts:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration such as 10s or 1m30s")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if seconds <= 0:
        raise argparse.ArgumentTypeError(f"{text} is not above zero")
    return seconds


def _absolute(text: str) -> str:
    if text and not text.startswith("/"):
        raise argparse.ArgumentTypeError(f"{text!r} is not an absolute path")
    return text


def _truth(text: str) -> bool:
    if text.lower() not in _TRUTH:
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return _TRUTH[text.lower()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dhcp daemon",
        allow_abbrev=False,
        description="Leases addresses for the dhcp plugin; docs/plugins/dhcp.md is its page.",
    )

    def option(name: str, kind: Callable[[str], object], default: object, what: str) -> None:
        parser.add_argument(f"-{name}", f"--{name}", type=kind, default=default, help=what)

    option("pidfile", _absolute, "", "file to write the process id to")
    option("hostprefix", _absolute, "", "where the host's file system is seen")
    option("socketpath", _absolute, SOCKET, f"socket to listen on, by default {SOCKET}")
    option("timeout", duration, 10.0, "longest wait for an answer of a server, by default 10s")
    option("resendmax", duration, 62.0, "longest pause between two tries, by default 62s")
    option("resendtimeout", duration, 208.0, "when an acquisition is given up, by default 208s")
    parser.add_argument(
        "-broadcast",
        "--broadcast",
        nargs="?",
        const=True,
        default=False,
        type=_truth,
        help="ask servers to broadcast their answers from the first try on",
    )
    return parser
