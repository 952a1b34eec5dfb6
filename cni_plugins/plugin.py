"""What a plugin is: its name and versions, and the functions behind the five verbs."""

from __future__ import annotations

from cni_plugins.frozen import Frozen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cni_plugins.context import Context
    from cni_plugins.protocol.result import Result


class Verbs(Frozen):
    """The functions of a plugin; each plugin folder's ``plugin.py`` has one as ``VERBS``.

    ``parse`` reads the decoded configuration for ADD, CHECK and STATUS: strict, without I/O,
    raising ConfigError with a path.  ``parse_cleanup`` reads it for DEL and GC: it needs only what
    names the attachment and takes every other fault as "not set", telling ``ctx.warn``.
    Both get the context for the facts of the call (command, versions, CNI_ARGS), not for I/O.
    """

    parse: Callable[[Context, dict[str, Any]], Any]
    parse_cleanup: Callable[[Context, dict[str, Any]], Any]
    add: Callable[[Context, Any], Result]
    delete: Callable[[Context, Any], None]
    check: Callable[[Context, Any], None]
    status: Callable[[Context, Any], None]
    gc: Callable[[Context, Any], None]
    restore: Callable[[Context, Any], None] | None = None
    """Makes the rules of an attachment again when somebody flushed them, from the configuration of
    its ADD and ``ctx.plan``; repeatable.  None for plugins that make none."""
    journaled: bool = True
    """Takes the attachment's lock and keeps a journal entry.  Not so IPAM plugins, which another
    plugin calls under its lock and which keep records of their own, and loopback, which makes
    nothing."""
    uses_netns: bool = True
    """ADD and CHECK open CNI_NETNS; IPAM plugins do not."""


class Plugin(Frozen):
    """What VERSION and the checks before a verb need; the rest is loaded when a verb runs."""

    type: str
    versions: tuple[str, ...]
    load: Callable[[], Verbs]
    about: str = ""
