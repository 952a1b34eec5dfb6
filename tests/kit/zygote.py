"""Fork servers for many nodes from one warmed interpreter, since every node would warm its own.

A program: each line of standard input, the pid of a node's holder and the path of a log, makes it
fork a server of :mod:`forkserver` that stands on that node; its answer is the server's pid.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import NoReturn

from forkserver import preload
from forkserver.server import Server
from forkserver.warmup import Warmup, keep_from_collector

NAMESPACES = (("net", 0x40000000), ("mnt", 0x00020000))


class WarmServer(Server):
    """One whose preparations its zygote has made."""

    def _prepare(self) -> None:
        pass


def serve(holder: int, log: str) -> NoReturn:
    """Be the server of a node."""
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for number in (1, 2):
            os.dup2(fd, number)
        os.close(fd)
        os.close(0)
        libc = ctypes.CDLL(None, use_errno=True)
        for kind, flag in NAMESPACES:
            fd = os.open(f"/proc/{holder}/ns/{kind}", os.O_RDONLY)
            if libc.setns(fd, flag) != 0:
                raise OSError(ctypes.get_errno(), f"enter {kind}")
            os.close(fd)
        status = WarmServer({}).run()
    finally:
        os._exit(status)


def main(bin_dir: str) -> None:
    """Fork servers until standard input ends."""
    preload.everything()
    warmup = Warmup(bin_dir)
    assert not warmup.problem, warmup.problem
    keep_from_collector()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        holder, log = line.split()
        pid = os.fork()
        if pid == 0:
            serve(int(holder), log)
        print(pid, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
