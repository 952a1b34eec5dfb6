"""Making the n-th call of an adapter fail, or killing the process before it.

The adapters' choke points are wrapped in the forked process of one call; the production code has no
hook for it.
"""

from __future__ import annotations

import os
import signal
from functools import partial
from typing import TYPE_CHECKING, Any

from cni_plugins.errors import ExecError, KernelError, StateError

if TYPE_CHECKING:
    from collections.abc import Callable


class Faults:
    """Counts the calls of all adapters; the ``at``-th one fails or is never reached.

    Args:
        at: which call, from 1 on; 0 for none.
        kill: the process is killed before that call, with SIGKILL.
    """

    def __init__(self, at: int = 0, *, kill: bool = False) -> None:
        self.at = at
        self.kill = kill
        self.count = 0
        self.seen: list[str] = []

    def __call__(self) -> Callable[[], list[str]]:
        """Wrap the choke points; the answer tells which calls were made."""
        from cni_plugins.host import sysctl
        from cni_plugins.host.command import Runner
        from cni_plugins.host.rtnl import Rtnl
        from cni_plugins.host.store import Store

        def kernel(name: str) -> Exception:
            return KernelError(f"{name}: fault number {self.at}")

        def store(name: str) -> Exception:
            return StateError(f"{name}: fault number {self.at}")

        self._wrap(Rtnl, "request", lambda a: f"rtnl {a[1]}", kernel)
        self._wrap(
            Runner,
            "start",
            lambda a: f"exec {a[1][0]}",
            lambda name: ExecError(f"{name}: fault number {self.at}", status=1, stderr="fault"),
        )
        for method in ("create", "replace", "patch", "discard"):
            self._wrap(Store, method, partial(_describe_store, method), store)
        self._wrap(sysctl, "write", lambda a: f"sysctl {a[0]}", kernel)
        return lambda: self.seen

    def _wrap(
        self,
        owner: Any,
        name: str,
        describe: Callable[[tuple[Any, ...]], str],
        error: Callable[[str], Exception],
    ) -> None:
        real = getattr(owner, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            what = describe(args)
            self.seen.append(what)
            if self.count == self.at:
                if self.kill:
                    os.kill(os.getpid(), signal.SIGKILL)
                raise error(what)
            return real(*args, **kwargs)

        setattr(owner, name, wrapped)


def _describe_store(method: str, args: tuple[Any, ...]) -> str:
    return f"store {method} {args[0].root}/{args[1]}"
