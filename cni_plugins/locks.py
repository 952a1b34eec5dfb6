"""Locks of the node: one per attachment, one per tool whose shared objects need it.

Order: attachment, then a network's store, then a tool's.
"""

from __future__ import annotations

import os

from cni_plugins.errors import StateError
from cni_plugins.host.store import Store
from cni_plugins.scopes import contextmanager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from cni_plugins.context import Context
    from cni_plugins.deadline import Deadline

LOCKS = "/run/cni-plugins/lock"


@contextmanager
def attachment_lock(ctx: Context, *, deadline: Deadline | None = None) -> Iterator[None]:
    """One verb at a time per attachment; Busy when the deadline passes.

    The tools that a verb runs hold it too: what they do is done before the next verb looks, even
    when the verb's own process was killed.

    Args:
        ctx: the call.
        deadline: another than the call's own.
    """
    with _locked(ctx, f"{ctx.network}/{ctx.attachment}", deadline or ctx.deadline) as fd:
        ctx.lock = fd
        try:
            yield
        finally:
            ctx.lock = None


@contextmanager
def tool_lock(ctx: Context, tool: str) -> Iterator[None]:
    """One change at a time to objects that attachments share and that are listed before.

    Raises:
        Busy: the deadline passed; the message names the holder.
    """
    with _locked(ctx, f"tool.{tool}", ctx.deadline):
        yield


@contextmanager
def iptables_lock(ctx: Context, backend: str = "iptables") -> Iterator[None]:
    """The lock of iptables, under which a look at the rules stays true: they are listed once.

    For an ADD that makes what is shared where it is missing, and for one that takes a host's port
    because nobody has it: two at once would both do it.  A transaction whose conditions stand in
    it, and one that touches an attachment's own rules only, need none: the tools apply it whole or
    not at all, and begin again when another one was faster.

    Args:
        ctx: the call.
        backend: what is used, "" when that is not known yet; another needs no such lock.

    Raises:
        Busy: as for :func:`tool_lock`.
    """
    if backend not in {"", "iptables"}:
        yield
        return
    with tool_lock(ctx, "iptables"), ctx.tools.iptables.listed_once():
        yield


@contextmanager
def _locked(ctx: Context, name: str, deadline: Deadline) -> Iterator[int | None]:
    """Hold a lock; its file goes with it.

    A node whose /run cannot be written goes on without the lock: refusing DEL would leave a pod
    in Terminating for ever.
    """
    store = Store(LOCKS)
    try:
        fd = store.lock(name, deadline)
    except StateError as e:
        ctx.warn(f"went on without the lock {name}: {e}")
        yield None
        return
    try:
        yield fd
    finally:
        _discard(ctx, store, name)
        os.close(fd)


def _discard(ctx: Context, store: Store, name: str) -> None:
    try:
        store.discard(name)
    except StateError as e:
        ctx.warn(f"the file of a lock stays: {e}")
