"""What host-local costs by the leases that are there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from bench.node import Call, conf

if TYPE_CHECKING:
    from collections.abc import Callable

COUNTS = (10, 1_000, 60_000)


def cost(count: int, suites: dict[str, str]) -> Callable[[str], dict[str, float]]:
    """host-local's ADD, DEL, and DEL of an unknown container over ``count`` leases.

    Each suite works in a folder of its own that the reference's format fills; the first ADD, in
    which ours reads them all once, belongs to the warm-up.
    """
    names = {directory: suite for suite, directory in suites.items()}

    def sample(directory: str) -> dict[str, float]:
        host_local = Call(directory, "host-local")
        document = conf(ipMasq=False)
        document["ipam"]["dataDir"] = folder(count, names[directory])
        add_s, _ = host_local("ADD", document, netns="/run/netns/x")
        del_s, _ = host_local("DEL", document, netns="/run/netns/x")
        unknown_s, _ = host_local("DEL", document, "unknown", netns="/run/netns/x")
        return {
            f"host-local ADD, {count} leases": add_s,
            f"host-local DEL, {count} leases": del_s,
            f"host-local DEL unknown, {count} leases": unknown_s,
        }

    return sample


def folder(count: int, suite: str) -> str:
    """Where a suite's leases are."""
    return f"/run/leases-{suite}-{count}"


def write(count: int, suite: str) -> None:
    """Leases as the reference writes them."""
    place = Path(folder(count, suite)) / "bench"
    place.mkdir(parents=True)
    for i in range(count):
        n = i + 2
        (place / f"10.9.{n >> 8}.{n & 255}").write_bytes(f"c{i}\r\neth0".encode())
    last = count + 1
    (place / "last_reserved_ip.0").write_bytes(f"10.9.{last >> 8}.{last & 255}".encode())


def remove(count: int, suite: str) -> None:
    """They go."""
    shutil.rmtree(folder(count, suite))


def first_add(directory: str) -> float:
    """Seconds of the one ADD that finds the most leases, which another suite wrote."""
    count = COUNTS[-1]
    write(count, "first")
    document = conf(ipMasq=False)
    document["ipam"]["dataDir"] = folder(count, "first")
    seconds, _ = Call(directory, "host-local")("ADD", document, netns="/run/netns/x")
    remove(count, "first")
    return seconds
