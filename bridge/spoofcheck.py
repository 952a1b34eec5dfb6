"""macspoofchk: frames of a container with another source address than its own are dropped.

The objects are the reference suite's: family bridge, table nat, a chain per attachment that jumps
to another one, which knows the container's MAC address.
"""

from __future__ import annotations

from cni_plugins.errors import CniError
from cni_plugins.host.nftables import NotThere

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_plugins.host.nftables import Nftables

TABLE = {"family": "bridge", "table": "nat"}
BASE_CHAIN = "PREROUTING"
_LIST_ATTEMPTS = 5


def interface_chain(container_id: str, ifname: str) -> str:
    """The chain that PREROUTING jumps to for frames of the container's port."""
    return f"cni-br-iface-{container_id}-{ifname}"


def mac_chain(container_id: str, ifname: str) -> str:
    """The chain that compares the address."""
    return f"{interface_chain(container_id, ifname)}-mac"


def comment(container_id: str, ifname: str) -> str:
    """The comment of all four rules."""
    return f"macspoofchk-{container_id}-{ifname}"


def rules(container_id: str, ifname: str, port: str, mac: str) -> tuple[dict[str, Any], ...]:
    """The four rules, in order."""
    first, second = interface_chain(container_id, ifname), mac_chain(container_id, ifname)
    is_port = {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": port}
    source = {"payload": {"protocol": "ether", "field": "saddr"}}
    is_own = {"op": "==", "left": source, "right": mac}
    expressions: tuple[tuple[str, list[dict[str, Any]]], ...] = (
        (BASE_CHAIN, [{"match": is_port}, {"jump": {"target": first}}]),
        (first, [{"jump": {"target": second}}]),
        (second, [{"match": is_own}, {"return": None}]),
        (second, [{"drop": None}]),
    )
    said = comment(container_id, ifname)
    return tuple({**TABLE, "chain": c, "expr": e, "comment": said} for c, e in expressions)


def plan(container_id: str, ifname: str, port: str, mac: str) -> tuple[dict[str, Any], ...]:
    """The transaction that sets everything up; the two chains start empty."""
    chains = (interface_chain(container_id, ifname), mac_chain(container_id, ifname))
    hook = {"type": "filter", "hook": "prerouting", "prio": -300, "policy": "accept"}
    return (
        {"add": {"table": {"family": "bridge", "name": "nat"}}},
        {"add": {"chain": {**TABLE, "name": BASE_CHAIN, **hook}}},
        *({"add": {"chain": {**TABLE, "name": name}}} for name in chains),
        *({"flush": {"chain": {**TABLE, "name": name}}} for name in chains),
        *({"add": {"rule": rule}} for rule in rules(container_id, ifname, port, mac)),
    )


def ensure(nftables: Nftables, *, container_id: str, ifname: str, port_name: str, mac: str) -> None:
    """Set the check up."""
    try:
        nftables.apply(plan(container_id, ifname, port_name, mac))
    except CniError as e:
        raise CniError(e.code, f"failed to setup spoof-check: {e.msg}", e.details) from e


def discard(nftables: Nftables, *, container_id: str, ifname: str) -> None:
    """Remove the check; repeatable.  The table and PREROUTING are shared and stay."""
    try:
        for attempt in range(_LIST_ATTEMPTS):
            commands = _teardown(nftables, container_id, ifname)
            if not commands:
                return
            try:
                nftables.apply(commands)
            except NotThere:  # another process removed one of them since the listing
                if attempt == _LIST_ATTEMPTS - 1:
                    raise
            else:
                return
    except CniError as e:
        raise CniError(e.code, f"failed to teardown spoof-check: {e.msg}", e.details) from e


def _teardown(nftables: Nftables, container_id: str, ifname: str) -> list[dict[str, Any]]:
    """Commands for what is there: the jumps by handle, then both chains with their rules."""
    said = comment(container_id, ifname)
    present = nftables.rules("bridge", "nat", BASE_CHAIN)
    commands: list[dict[str, Any]] = [
        {"delete": {"rule": {**TABLE, "chain": BASE_CHAIN, "handle": rule["handle"]}}}
        for rule in present
        if rule.get("comment") == said
    ]
    for name in (interface_chain(container_id, ifname), mac_chain(container_id, ifname)):
        if nftables.has_chain("bridge", "nat", name):
            commands.append({"flush": {"chain": {**TABLE, "name": name}}})
            commands.append({"delete": {"chain": {**TABLE, "name": name}}})
    return commands


def missing(
    nftables: Nftables, *, container_id: str, ifname: str, port_name: str, mac: str
) -> list[str]:
    """What CHECK finds missing, one line for each rule."""
    said = comment(container_id, ifname)
    lacking = []
    present: dict[str, list[Any]] = {}
    for rule in rules(container_id, ifname, port_name, mac):
        chain = rule["chain"]
        if chain not in present:
            present[chain] = [
                found["expr"]
                for found in nftables.rules("bridge", "nat", chain)
                if found.get("comment") == said
            ]
        if rule["expr"] not in present[chain]:
            lacking.append(f"spoof check rule {rule['expr']} is missing in bridge nat {chain}")
    return lacking
