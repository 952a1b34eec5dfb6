"""What calls load that do their whole work: nothing that a fresh process takes long to import."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kit.confs import SUBNET4, chained, full_chain, host_local
from tests.kit.imports import CALL, HEAVY, packages

if TYPE_CHECKING:
    from tests.kit.node import Node, Pod

pytestmark = pytest.mark.netns

ROOT = Path(__file__).parents[2]


@pytest.fixture
def binaries(node: Node) -> str:
    """Executables that note what they loaded."""
    directory = f"{node.scratch}/noting"
    os.mkdir(directory)
    for name in ("bridge", "portmap", "bandwidth", "tuning", "firewall"):
        argv = [sys.executable, "-S", "-c", CALL, name, f"{directory}/{name}.modules"]
        node.install(directory, name, f"PYTHONPATH={ROOT} exec {shlex.join(argv)}\n")
    return directory


@pytest.mark.parametrize("backend", ["iptables", "nftables"])
def test_a_chain_loads_nothing_heavy(node: Node, pod: Pod, binaries: str, backend: str) -> None:
    def call(verb: str, conf: dict) -> dict:
        name = conf["type"]
        done = node.cni(name, verb, conf, netns=pod, binaries=binaries, path=node.ours).ok()
        loaded = packages(Path(f"{binaries}/{name}.modules").read_text())
        found[f"{verb} {name}"] = sorted(loaded & HEAVY)
        return done.result if verb == "ADD" else {}

    found: dict[str, list[str]] = {}
    chain = [{"name": "net1", "cniVersion": "1.1.0", **conf} for conf in full_chain(backend, 8080)]
    chain[0]["ipam"] = host_local(SUBNET4)
    result = call("ADD", chain[0])
    for conf in chain[1:]:
        result = call("ADD", chained(conf, result))
    for verb in ("CHECK", "DEL"):
        for conf in reversed(chain):
            call(verb, chained(conf, result))
    assert {what: heavy for what, heavy in found.items() if heavy} == {}
