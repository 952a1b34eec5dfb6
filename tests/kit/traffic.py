"""Traffic between pods, made and counted by Python's sockets and the kernel's counters."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.kit.node import Node, Pod

PYTHON = "/usr/bin/python3"
_BLAST = """
import socket, sys, time
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
s = socket.socket(family, socket.SOCK_DGRAM)
s.connect((sys.argv[1], 9))
until = time.monotonic() + float(sys.argv[2])
while time.monotonic() < until:
    try:
        s.send(bytes(1400))
    except OSError:
        time.sleep(0.0005)
"""


def blast(source: Pod, target: Pod, address: str, seconds: float) -> list[float]:
    """Send datagrams as fast as it goes; bits a second that arrived, by quarters of a second."""
    argv = [*source.node.enter(), "ip", "netns", "exec", source.name, PYTHON, "-c", _BLAST]
    process = subprocess.Popen([*argv, address, str(seconds)])
    try:
        samples = [(time.monotonic(), received(target))]
        while samples[0][1] == samples[-1][1]:
            samples[0] = (time.monotonic(), samples[-1][1])
            samples.append((time.monotonic(), received(target)))
            samples = [samples[0], samples[-1]]
        while process.poll() is None:
            time.sleep(0.25)
            samples.append((time.monotonic(), received(target)))
    finally:
        process.kill()
        process.wait()
    return [
        (b2 - b1) * 8 / (t2 - t1)
        for (t1, b1), (t2, b2) in zip(samples[1:], samples[2:], strict=False)
    ]


def received(pod: Pod) -> int:
    """Bytes that the kernel counted on a pod's eth0."""
    shown = pod.ip("-s", "link", "show", "dev", "eth0")
    return int(shown[0]["stats64"]["rx"]["bytes"])


def serve(node: Node, pod: Pod | None, family: int, protocol: str, port: int, says: str):
    """A server that answers everybody with a line: what it is called, and whom it sees."""
    where = ["ip", "netns", "exec", pod.name] if pod else []
    argv = [*node.enter(), *where, PYTHON, "-uc", _SERVER, str(family), protocol, str(port), says]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.stdout.close()
    return process


_SERVER = """
import socket, sys
family = socket.AF_INET6 if sys.argv[1] == "6" else socket.AF_INET
kind = socket.SOCK_DGRAM if sys.argv[2] == "udp" else socket.SOCK_STREAM
s = socket.socket(family, kind, socket.IPPROTO_SCTP if sys.argv[2] == "sctp" else 0)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("::" if sys.argv[1] == "6" else "0.0.0.0", int(sys.argv[3])))
if sys.argv[2] != "udp":
    s.listen()
print("ready")
while True:
    if sys.argv[2] != "udp":
        c, peer = s.accept()
        if sys.argv[2] == "sctp":
            c.recv(100)
        c.sendall(f"{sys.argv[4]} {peer[0]}".encode())
        c.close()
    else:
        _, peer = s.recvfrom(100)
        s.sendto(f"{sys.argv[4]} {peer[0]}".encode(), peer)
"""
_CLIENT = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
kind = socket.SOCK_DGRAM if sys.argv[2] == "udp" else socket.SOCK_STREAM
s = socket.socket(family, kind, socket.IPPROTO_SCTP if sys.argv[2] == "sctp" else 0)
s.settimeout(float(sys.argv[4]))
if len(sys.argv) > 5:
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("", int(sys.argv[5])))
try:
    s.connect((sys.argv[1], int(sys.argv[3])))
    s.send(b"x")
    print(s.recv(100).decode(), end="")
except OSError as e:
    print(f"! {e}", end="")
"""


def ask(  # a question has that many facts
    node: Node,
    pod: Pod | None,
    address: str,
    protocol: str,
    port: int,
    *,
    timeout_s: float = 2.0,
    source_port: int = 0,
) -> str:
    """What a server answered; begins with "!" when nobody did."""
    where = ["ip", "netns", "exec", pod.name] if pod else []
    more = [str(source_port)] if source_port else []
    argv = [*where, PYTHON, "-c", _CLIENT, address, protocol, str(port), str(timeout_s), *more]
    return node.sh(*argv).stdout
