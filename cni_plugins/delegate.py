"""Calling another plugin for the same attachment: IPAM, or what a meta plugin stands in front of.

Source: CNI spec 1.1.0, section 4 "Plugin Delegation".
"""

from __future__ import annotations

import os

from cni_plugins import catalog, dispatch, invoke, verbs
from cni_plugins.errors import AlreadyAttached, CniError, DelegateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.context import Context
    from cni_plugins.plugin import Plugin
    from cni_plugins.protocol.result import Result

MARK = b"cni-plugins-build:"
"""Stands with the build id in the last line of every executable the build makes."""
_TAIL_BYTES = 256
_REFUSED_AS_DUPLICATE = "duplicate allocation is not allowed"
"""host-local of the reference suite says so; there is no code for it."""


class Delegate:
    """One plugin found on CNI_PATH; called in process when it is of this build, else executed."""

    def __init__(self, ctx: Context, plugin_type: str) -> None:
        self._ctx = ctx
        self._type = plugin_type
        self._has_something = True
        """Whether a DEL is due when the caller's ADD fails."""

    def add(self) -> Result:
        """ADD; what it made is undone when the caller's ADD fails later, or when it fails itself.

        Raises:
            CniError: there is no such plugin.
            DelegateError: as the delegate answered.
        """
        path = self._find()
        self._ctx.undo.push(f"{self._type} ADD", self._undo_add)
        try:
            return self._add(path)
        except DelegateError as e:
            self._has_something = self._has_something and not e.already_allocated
            raise

    def _add(self, path: str) -> Result:
        plugin = self._ours(path)
        if plugin is None:
            try:
                stdout = self._execute(path, "ADD")
            except CniError as e:
                refused = _REFUSED_AS_DUPLICATE in e.msg
                raise DelegateError(self._type, e, already_allocated=refused) from e
            return invoke.parse_result(stdout, self._ctx.cni_version)
        nested = self._ctx.nested(plugin.type, "ADD")
        self._has_something = False  # ours roll back themselves
        try:
            dispatch.gate(plugin, "ADD", nested.cni_version)
            result, _ = verbs.add(plugin.load(), nested)
        except CniError as e:
            refused = isinstance(e, AlreadyAttached)
            raise DelegateError(self._type, e, already_allocated=refused) from e
        self._has_something = True
        return result

    def delete(self) -> None:
        """DEL; repeatable."""
        self._run("DEL")

    def check(self) -> None:
        """CHECK."""
        self._run("CHECK")

    def status(self) -> None:
        """STATUS."""
        self._run("STATUS")

    def gc(self) -> None:
        """GC."""
        self._run("GC")

    def _undo_add(self) -> None:
        if self._has_something:
            self.delete()

    def _run(self, command: str) -> None:
        path = self._find()
        try:
            plugin = self._ours(path)
            if plugin is None:
                self._execute(path, command)
                return
            nested = self._ctx.nested(plugin.type, command)
            dispatch.gate(plugin, command, nested.cni_version)
            verbs.perform(plugin, nested)
        except CniError as e:
            raise DelegateError(self._type, e) from e

    def _find(self) -> str:
        return invoke.find_plugin(self._type, self._ctx.call.path)

    def _ours(self, path: str) -> Plugin | None:
        """The plugin behind an executable of this very build; anything else is None."""
        plugin = catalog.find(self._type)
        if plugin is None or not is_of_build(os.path.realpath(path), self._ctx.build):
            return None
        return plugin

    def _execute(self, path: str, command: str) -> bytes:
        env = {**self._ctx.env, "CNI_COMMAND": command}
        done = invoke.invoke(self._ctx.runner, path, self._ctx.stdin, env)
        if done.stderr:
            self._ctx.warn(done.stderr.decode("utf-8", "replace"))
        return done.stdout


def is_of_build(path: str, build: str) -> bool:
    """Whether an executable carries the mark of ``build`` in its last line."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            tail = os.pread(fd, _TAIL_BYTES, max(0, os.fstat(fd).st_size - _TAIL_BYTES))
        finally:
            os.close(fd)
    except OSError:
        return False
    return tail.rstrip().endswith(MARK + build.encode())
