"""What a new connection through published ports costs."""

from __future__ import annotations

import json
import statistics
import subprocess

from bench.chained import PORT
from bench.node import Call, sh
from bench.published import request

PORTS = (10, 10_000)


def cost(directory: str, rounds: int) -> dict[int, list[float]]:
    """Seconds of new connections through nftables with few and with many published ports.

    Two hosts take turns, each with a client outside and a server in a pod.
    """
    found: dict[int, list[float]] = {count: [] for count in PORTS}
    servers = [_connected(directory, count) for count in PORTS]
    try:
        for _ in range(rounds):
            for count in PORTS:
                found[count] += _connect(f"client{count}", count)
    finally:
        for server in servers:
            server.kill()
            server.wait()
    return found


def _connected(directory: str, count: int) -> subprocess.Popen[bytes]:
    host, client, pod = f"host{count}", f"client{count}", f"pod{count}"
    for name in (host, client, pod):
        sh("ip", "netns", "add", name)
    for name, peer, address in ((client, "out0", "192.0.2.1"), (pod, "pod0", "10.9.0.1")):
        inside = address.rpartition(".")[0] + ".2"
        sh("ip", "-n", host, "link", "add", peer, "type", "veth", "peer", "eth0", "netns", name)
        sh("ip", "-n", host, "address", "add", f"{address}/24", "dev", peer)
        sh("ip", "-n", host, "link", "set", peer, "up")
        sh("ip", "-n", name, "address", "add", f"{inside}/24", "dev", "eth0")
        sh("ip", "-n", name, "link", "set", "eth0", "up")
        sh("ip", "-n", name, "route", "add", "default", "via", address)
    sh("ip", "netns", "exec", host, "sysctl", "-qw", "net.ipv4.ip_forward=1")
    listed = [{**PORT, "hostPort": 20_000 + i} for i in range(count)]
    document = request(0, {"runtimeConfig": {"portMappings": listed}}, "nftables")
    call = Call(directory, "portmap", wrapper=("nsenter", f"--net=/run/netns/{host}"))
    call("ADD", document, f"c{count}", f"/run/netns/{pod}")
    code = (
        "import socket\nwith socket.create_server(('', 80), backlog=1024) as s:\n"
        " print('ready', flush=True)\n while True: s.accept()[0].close()"
    )
    argv = ["ip", "netns", "exec", pod, "python3", "-c", code]
    server = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert server.stdout is not None
    server.stdout.readline()
    return server


def _connect(client: str, count: int) -> list[float]:
    """Seconds of 200 new connections to ports spread over all that are published."""
    step = max(1, count // 200)
    code = f"""
import json, socket, time
found = []
for i in range(200):
    began = time.perf_counter()
    s = socket.create_connection(("192.0.2.1", 20000 + i * {step} % {count}))
    found.append(time.perf_counter() - began)
    s.recv(1)
    s.close()
print(json.dumps(found))
"""
    answer: list[float] = json.loads(sh("ip", "netns", "exec", client, "python3", "-c", code))
    return answer


def lines(found: dict[int, list[float]]) -> list[str]:
    """What the report says of connections."""
    few, many = (statistics.median(found[count]) for count in PORTS)
    costs = f"{few * 1e6:.0f} µs with {PORTS[0]} ports, {many * 1e6:.0f} µs with {PORTS[1]}"
    ratio = f"{many / few:.2f} of it"
    return [f"- ours, a new connection through portmap on nftables: {costs}, {ratio}"]
