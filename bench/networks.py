"""A pod's whole life on a bridge network, alone and beside many others."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING

from bench.node import Call, conf, sh

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CROWDS = (1, 100, 500)
_NETNS = "/run/netns/bench"


def life(*subnets: str, label: str = "", bridge: str = "br0") -> Callable[[str], dict[str, float]]:
    """ADD, CHECK, DEL of a bridge network with host-local and ipMasq."""

    def sample(directory: str) -> dict[str, float]:
        call = Call(directory, "bridge")
        document = conf("1.0.0", *subnets, bridge=bridge)
        sh("ip", "netns", "add", "bench")
        add_s, stdout = call("ADD", document, netns=_NETNS)
        checked = {**document, "prevResult": json.loads(stdout)}
        check_s, _ = call("CHECK", checked, netns=_NETNS)
        del_s, _ = call("DEL", checked, netns=_NETNS)
        sh("ip", "netns", "del", "bench")
        return {
            f"bridge ADD{label}": add_s,
            f"bridge CHECK{label}": check_s,
            f"bridge DEL{label}": del_s,
        }

    return sample


@contextlib.contextmanager
def crowd(count: int) -> Iterator[str]:
    """A bridge that has so many ports already; its name."""
    sh("ip", "netns", "add", "crowd")
    sh("ip", "link", "add", "crowd0", "type", "bridge")
    lines = []
    for n in range(count):
        lines.append(f"link add crowd-p{n} type veth peer name p{n} netns crowd")
        lines.append(f"link set crowd-p{n} master crowd0 up")
    sh("ip", "-batch", "-", stdin="\n".join(lines))
    inside = [f"link set p{n} up" for n in range(count)]
    sh("ip", "-n", "crowd", "-batch", "-", stdin="\n".join(inside))
    try:
        yield "crowd0"
    finally:
        gone = [f"link del crowd-p{n}" for n in range(count)]
        sh("ip", "-batch", "-", stdin="\n".join([*gone, "link del crowd0"]))
        sh("ip", "netns", "del", "crowd")
