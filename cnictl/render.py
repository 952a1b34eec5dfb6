"""What an operator sees: pure functions from values to text of at most 80 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnictl.calls import PluginError, Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cni_plugins.errors import CniError
    from cnictl.calls import Container

_LABEL = 12
_HINTS = {
    1: "give the list a cniVersion that every plugin supports: cnictl version",
    4: "a CNI_* variable or argument is wrong; the message names it",
    6: "the configuration is not valid JSON, or a value has another type than expected",
    7: "correct the configuration at the path that the message names",
    8: "CNI_NETNS is the host's own namespace: give the container's",
    11: "something is busy: try again in a moment",
    50: "no new pod can be given its network until this is mended",
    51: "no new pod can be given its network, and running ones may suffer",
}


def summary(
    network: str, container: Container, result: dict[str, Any], steps: Sequence[Step]
) -> str:
    """An attachment after its ADD."""
    lines = [f"{container.id} is attached to {network} as {container.ifname}"]
    lines += interfaces(result)
    lines += addresses(result)
    for route in result.get("routes", ()):
        lines.append(_row("route", _route(route)))
    lines += _dns(result.get("dns") or {})
    lines += timings(steps)
    return "\n".join(lines)


def interfaces(result: dict[str, Any]) -> list[str]:
    """A line for each interface of a result."""
    return [
        _row(
            "interface",
            f"{entry['name']:<15} {entry.get('mac', ''):<17}  {entry.get('sandbox') or 'host'}",
        )
        for entry in result.get("interfaces", ())
    ]


def addresses(result: dict[str, Any]) -> list[str]:
    """A line for each address of a result, whatever its version."""
    entries = list(result.get("ips", ()))
    for family in ("ip4", "ip6"):
        if family in result:
            old = result[family]
            entries.append({"address": old["ip"], "gateway": old.get("gateway")})
    return [
        _row(
            "address",
            entry["address"] + (f" via {entry['gateway']}" if entry.get("gateway") else ""),
        )
        for entry in entries
    ]


def timings(steps: Sequence[Step]) -> list[str]:
    """How long each plugin took."""
    if not steps:
        return []
    parts = [f"{step.plugin} {step.seconds * 1000:.0f} ms" for step in steps]
    total = sum(step.seconds for step in steps) * 1000
    return [_row("time", f"{', '.join(parts)}; {total:.0f} ms in all")]


def failure(error: CniError) -> str:
    """An error, the plugin it came from, and what to do next."""
    lines = []
    if isinstance(error, PluginError):
        place, count = error.place
        lines.append(f"cnictl: {error.verb} failed in {error.plugin}, plugin {place} of {count}")
        inner = error.error
    else:
        lines.append("cnictl: failed")
        inner = error
    lines.append(_row("code", str(inner.code)))
    lines.append(_row("message", inner.msg or "(the plugin gave none)"))
    lines += [_row("details", detail) for detail in inner.details.splitlines()]
    hint = _hint(error, inner)
    if hint:
        lines.append(_row("next", hint))
    return "\n".join(lines)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as they need to be."""
    if not rows:
        return ""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join(lines)


def _hint(error: CniError, inner: CniError) -> str:
    if "failed to find plugin" in inner.msg:
        return "install the plugin, or name its directory: --cni-path, CNI_PATH"
    if "network namespace" in inner.msg:
        return "the container is gone? then: cnictl del"
    if inner.code in _HINTS:
        return _HINTS[inner.code]
    if isinstance(error, PluginError) and error.verb == "ADD":
        return "what was made has been undone; correct the cause and add again"
    if isinstance(error, PluginError) and error.verb == "DEL":
        return "correct the cause and run the same cnictl del again"
    return ""


def _row(label: str, text: str) -> str:
    return f"  {label:<{_LABEL}}{text}"


def _route(route: dict[str, Any]) -> str:
    extras = [f"via {route['gw']}"] if route.get("gw") else []
    extras += [
        f"{name} {route[name]}"
        for name in ("mtu", "advmss", "priority", "table", "scope")
        if route.get(name) is not None
    ]
    return " ".join([route["dst"], *extras])


def _dns(dns: dict[str, Any]) -> list[str]:
    rows = [(key, dns.get(key)) for key in ("nameservers", "domain", "search", "options")]
    return [
        _row("dns", f"{key} {' '.join(value) if isinstance(value, list) else value}")
        for key, value in rows
        if value
    ]
