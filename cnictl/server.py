"""The commands about the fork server: being it, and asking how it does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cni_plugins.errors import CniError
from cnictl import render
from forkserver import status

if TYPE_CHECKING:
    from cnictl.cli import Command


def serve(command: Command) -> int:
    """Serve until TERM or INT; HUP starts the installed server in this one's place.

    Raises:
        CniError: another one serves, the sockets cannot be made, or an option is wrong.
    """
    from forkserver.server import Server, installed_entry  # noqa: PLC0415 - imports every plugin

    calls = command.options.calls_per_child
    if calls < 1:
        raise CniError(999, f"serve: --calls-per-child {calls}: expected a number from 1 on")
    try:
        return Server(command.env, installed_entry(), calls_per_child=calls).run()
    except OSError as e:
        raise CniError(999, f"serve: {e.filename or 'its sockets'}: {e.strerror}") from e


def show(command: Command) -> int:
    """How the server does, and what launchers had to run without it; 1 when none serves.

    Raises:
        CniError: what answers is no server.
    """
    try:
        found = status.ask()
    except (OSError, ValueError) as e:
        raise CniError(999, f"ask the fork server: {e}") from e
    counters = status.fallbacks()
    if command.options.json:
        command.print_json({"server": found, "fallbacks": counters})
    else:
        command.print("\n".join(_lines(found, counters)))
    return 0 if found else 1


def _lines(found: dict[str, Any] | None, counters: dict[str, int]) -> list[str]:
    if found is None:
        lines = ["no fork server answers: every call starts a Python of its own", ""]
    else:
        calls, children, memory = (found[key] for key in ("calls", "children", "memoryKiB"))
        rows = [
            ("server", f"build {found['build']}, pid {found['pid']}"),
            ("up", f"{found['uptimeSeconds']:.0f} s"),
            ("calls", f"{calls['answered']} answered, {calls['inFlight']} in flight"),
            ("lost", f"{calls['lost']}"),
            ("children", f"{children['waiting']} waiting of {children['all']}"),
            ("memory", f"{memory['server'] >> 10} MiB, a child's own {memory['child']} KiB"),
        ]
        lines = [f"{name:<10}{text}" for name, text in rows] + [""]
    total = sum(counters.values())
    lines.append(f"since the boot launchers ran {total} calls without it")
    named = [[reason, str(count)] for reason, count in counters.items() if count]
    return [*lines, *([render.table(named)] if named else [])]
