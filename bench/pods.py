"""Whole pods: the chain of five plugins one after the other, alone and many at once."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench.chained import CHAINED, ports
from bench.node import Call, conf, sh

_ORDER = ("bridge", *CHAINED)


class Pod:
    """One pod's calls.

    Args:
        directory: the executables of one suite.
        n: number of the pod; its published ports follow from it.
    """

    def __init__(self, directory: str, n: int = 0) -> None:
        self._calls = {plugin: Call(directory, plugin) for plugin in _ORDER}
        self._name = f"pod{n}"
        self._netns = f"/run/netns/{self._name}"
        self._requests: dict[str, dict[str, Any]] = {
            "bridge": conf("1.0.0"),
            **{
                plugin: {"cniVersion": "1.0.0", "name": "bench", "type": plugin, **keys}
                for plugin, keys in CHAINED.items()
            },
        }
        self._requests["portmap"].update(ports(2, 10_000 + 2 * n))

    def make_namespace(self) -> None:
        """What a runtime does before ADD."""
        sh("ip", "netns", "add", self._name)

    def drop_namespace(self) -> None:
        """What a runtime does after DEL."""
        sh("ip", "netns", "del", self._name)

    def add(self) -> float:
        """Seconds of ADD through the chain."""
        seconds, previous = 0.0, None
        for plugin in _ORDER:
            seconds += self._run(plugin, "ADD", previous)
            previous = self._result
        return seconds

    def check(self) -> float:
        """Seconds of CHECK; portmap's, which Debian's reference never passes, is left out."""
        return sum(self._run(p, "CHECK", self._result) for p in _ORDER if p != "portmap")

    def delete(self) -> float:
        """Seconds of DEL in the other order."""
        return sum(self._run(p, "DEL", self._result) for p in reversed(_ORDER))

    def _run(self, plugin: str, verb: str, previous: Any) -> float:
        request = self._requests[plugin]
        if previous is not None:
            request = {**request, "prevResult": previous}
        seconds, stdout = self._calls[plugin](verb, request, self._name, self._netns)
        if verb == "ADD":
            self._result = json.loads(stdout)
        return seconds


def chain(directory: str) -> dict[str, float]:
    """ADD, CHECK and DEL of one pod."""
    pod = Pod(directory)
    pod.make_namespace()
    found = {"chain ADD": pod.add(), "chain CHECK": pod.check(), "chain DEL": pod.delete()}
    pod.drop_namespace()
    return found


def per_second(directory: str, in_flight: int, count: int) -> dict[str, float]:
    """Seconds per pod: ``count`` pods' ADD and DEL, so many at once.

    ADD of all of them, then DEL of all of them.
    """
    pods = [Pod(directory, n) for n in range(count)]
    for pod in pods:
        pod.make_namespace()
    with ThreadPoolExecutor(in_flight) as pool:
        began = time.perf_counter()
        list(pool.map(Pod.add, pods))
        added = time.perf_counter()
        list(pool.map(Pod.delete, pods))
        deleted = time.perf_counter()
    for pod in pods:
        pod.drop_namespace()
    return {
        f"a pod's ADD, {in_flight} at once": (added - began) / count,
        f"a pod's DEL, {in_flight} at once": (deleted - added) / count,
        whole(in_flight): (deleted - began) / count,
    }


def whole(in_flight: int) -> str:
    """The step that is a pod's whole life, with so many at once."""
    return f"a pod's ADD and DEL, {in_flight} at once"
