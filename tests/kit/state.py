"""Snapshots of a node, for "nothing is left" and "nothing was changed"."""

from __future__ import annotations

import difflib
import io
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.kit.node import Node, Pod

_VOLATILE_LINK = {
    "ifindex", "link_index", "link_netnsid", "link", "operstate", "flags", "stats", "stats64",
    "linkinfo", "inet6_addr_gen_mode", "address", "broadcast", "addr_info",
}  # fmt: skip
SHARED_FILES = (
    "/run/cni-plugins/server/",
    "/run/cni-plugins/fallbacks",
    "/var/lib/cni/networks/net1/lock",
    "/var/lib/cni/networks/net1/last_reserved_ip.",
    "/var/lib/cni/networks/.cni-plugins/net1/header.json",
    "/var/lib/cni/networks/.cni-plugins/net1/used/",
    "/var/lib/cni/networks/.cni-plugins/net1/foreign",
    "/run/cni-plugins/cnictl/all",
)
"""Objects of the file system that ADD ensures and nobody undoes: docs/compatibility.md."""
SHARED_TABLES = {
    ("ip", "nat"), ("ip6", "nat"), ("inet", "cni_plugins_masquerade"), ("bridge", "nat"),
}  # fmt: skip


def snapshot(node: Node, *pods: Pod, shared_links: tuple[str, ...] = ("br0",)) -> dict[str, Any]:
    """What is on the node but for the shared objects."""
    return {
        "links": _links(node.ip("addr"), shared_links),
        "rules": _rules(node),
        "files": [
            path
            for path in node.files("/var/lib/cni", "/run/cni-plugins")
            if not path.startswith(SHARED_FILES)
        ],
        "pods": {pod.name: _links(pod.ip("addr"), ()) for pod in pods},
        "pod routes": {pod.name: [_routes(pod, "-4"), _routes(pod, "-6")] for pod in pods},
    }


def _routes(pod: Pod, family: str) -> list[dict[str, Any]]:
    """In an order of their own: the kernel's is that of their coming."""
    found = pod.ip(family, "route")
    return sorted(found, key=lambda route: json.dumps(route, sort_keys=True))


def assert_same(before: dict[str, Any], after: dict[str, Any], said: str = "") -> None:
    """Fail with a readable difference."""
    if before != after:
        old, new = (json.dumps(s, indent=1, sort_keys=True).splitlines() for s in (before, after))
        difference = "\n".join(difflib.unified_diff(old, new, "before", "after", lineterm="", n=1))
        raise AssertionError(f"{said}\n{difference}")


def load_nft(node: Node, rules: list[dict[str, Any]]) -> None:
    """Put a recorded rule set into the kernel."""
    commands = []
    for entry in rules:
        for kind in ("table", "chain", "rule"):
            if kind in entry:
                body = {k: v for k, v in entry[kind].items() if k != "handle"}
                commands.append({"add": {kind: body}})
    node.sh("nft", "-j", "-f", "-", stdin=json.dumps({"nftables": commands}))


def restore(node: Node) -> tuple[int, str, str]:
    """``cnictl restore --json`` on a node: exit status, stdout, stderr."""
    from cnictl import cli  # in the forked process, as in a fresh one

    def call() -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        return cli.main(["restore", "--json"], env, out, err), out.getvalue(), err.getvalue()

    answer: tuple[int, str, str] = node.forked(call)
    return answer


def _links(listed: list[dict[str, Any]], shared: tuple[str, ...]) -> list[dict[str, Any]]:
    found = []
    for link in listed:
        if not link or link["ifname"] in shared:
            continue
        kept = {k: v for k, v in link.items() if k not in _VOLATILE_LINK}
        kept["addresses"] = sorted(
            f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if a["scope"] != "link"
        )
        found.append(kept)
    return sorted(found, key=lambda link: link["ifname"])


def _rules(node: Node) -> list[str]:
    """Every rule, and every chain that is not a shared table's base chain."""
    found = []
    for entry in node.nft():
        for kind, body in entry.items():
            if kind in {"metainfo", "table"}:
                if kind == "table" and (body["family"], body["name"]) not in SHARED_TABLES:
                    found.append(json.dumps(body, sort_keys=True))
                continue
            stripped = {k: v for k, v in body.items() if k != "handle"}
            if "expr" in body:
                stripped["expr"] = [e for e in body["expr"] if "counter" not in e]
            place = (body.get("family"), body.get("table"))
            is_base = kind == "chain" and ("hook" in body or body["name"] == "masq_checks")
            is_skeleton = kind == "rule" and body.get("chain") == "postrouting"
            if place in SHARED_TABLES and (is_base or is_skeleton):
                continue
            found.append(f"{kind} {json.dumps(stripped, sort_keys=True)}")
    return sorted(found)
