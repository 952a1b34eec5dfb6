"""dhcp's verbs: the daemon holds the leases, the plugin asks it.

DEL and GC also work while no daemon runs: the leases are files.
"""

from __future__ import annotations

import errno
import os
import time

from cni_plugins.deadline import Deadline
from cni_plugins.errors import (
    AlreadyAttached,
    Busy,
    CniError,
    ConfigError,
    KernelError,
    NetnsError,
    Unavailable,
)
from cni_plugins.frozen import replace
from cni_plugins.host import unix_call
from cni_plugins.plugin import Verbs
from cni_plugins.scopes import contextmanager
from cni_plugins.undo import Cleanup
from dhcp_ipam import leases
from dhcp_ipam.conf import DhcpConf, parse, parse_cleanup
from dhcp_ipam.leases import LOCK, Lease, LeaseFiles, Wish

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from cni_plugins.context import Context
    from cni_plugins.protocol.result import Result

_NOBODY = {errno.ENOENT, errno.ECONNREFUSED}
_PING_S = 2.0
_LOCK_S = 1.0
_MARGIN_S = 0.5
"""The daemon gives up this long before the plugin does, so that its reason arrives."""
CALLING = {
    "acquire": "error calling DHCP.Allocate: ",
    "check": "error calling DHCP.Allocate: ",
    "release": "error calling DHCP.Release: ",
    "gc": "error calling DHCP.GC: ",
}
"""The reference's words for a fault of the daemon."""
START = "start it: systemctl start cni-dhcp.socket, or dhcp daemon"


def add(ctx: Context, conf: DhcpConf) -> Result:
    """Have the daemon acquire a lease, in the time there is."""
    answer = ask(ctx, conf, "acquire")
    ctx.undo.push("lease", delete, ctx, conf)
    return as_result(conf, answer)


def delete(ctx: Context, conf: DhcpConf) -> None:
    """Have the lease released; without a daemon, release it here."""
    try:
        ask(ctx, conf, "release")
    except NoDaemon:
        with without_daemon(ctx, conf) as files:
            lease = files.read(wish(ctx, conf).name)
            if lease is not None:
                give_back(ctx, files, lease)


def check(ctx: Context, conf: DhcpConf) -> None:
    """The lease is held, and it is what the result says.

    A daemon that does not know the lease asks the server for the same address.
    """
    if conf.chained is None:
        raise ConfigError("prevResult", "Required prevResult missing")
    addresses = [ip.address for ip in conf.chained.ips if ip.address.family == 4]
    expected = str(addresses[0].address) if addresses else ""
    result = as_result(conf, ask(ctx, conf, "check", expected=expected))
    held = result.ips[0].address
    if held not in addresses:
        raise CniError(
            999,
            f"dhcp: the lease is for {held}, prevResult has {', '.join(map(str, addresses))}",
            "the server gave another address: delete and add the container again",
        )


def status(ctx: Context, conf: DhcpConf) -> None:
    """Ready while the daemon answers."""
    quick = Deadline.after(min(_PING_S, ctx.deadline.remaining()))
    try:
        unix_call.call(conf.ipam.socket_path, {"method": "status"}, quick)
    except CniError as e:
        raise Unavailable(f"the DHCP daemon does not answer: {e.msg}", START) from e


def gc(ctx: Context, conf: DhcpConf) -> None:
    """Release leases: by the runtime's list, or without one those whose pod is gone."""
    valid = None if ctx.valid is None else sorted(map(list, ctx.valid))
    try:
        ask(ctx, conf, "gc", valid=valid, age_s=time.time() - ctx.began)
    except NoDaemon:
        with without_daemon(ctx, conf) as files, Cleanup() as cleanup:
            for lease in files.all():
                if not isinstance(lease, Lease):
                    ctx.warn(lease.msg)
                elif lease.wish.network == ctx.network and leases.is_garbage(lease, ctx.valid):
                    cleanup.attempt(f"lease of {lease.wish}", give_back, ctx, files, lease)


class NoDaemon(CniError):
    """Nobody listens on the socket."""


def ask(ctx: Context, conf: DhcpConf, method: str, **more: Any) -> dict[str, Any]:
    """The daemon's answer.

    Raises:
        NoDaemon: there is none.
        CniError: it could not do it, or answered nothing that makes sense.
    """
    remaining_s = ctx.deadline.remaining() - _MARGIN_S
    question = {
        "method": method,
        "wish": wish(ctx, conf).as_json(),
        "limit_s": min(remaining_s, conf.ipam.timeout_s or remaining_s),
        **more,
    }
    try:
        answer = unix_call.call(conf.ipam.socket_path, question, ctx.deadline)
    except KernelError as e:
        if e.errno in _NOBODY:
            raise NoDaemon(11, f"error dialing DHCP daemon: {e.msg}", START) from e
        raise Busy(
            f"error calling DHCP daemon: {e.msg}",
            "it stopped meanwhile, or another suite's daemon listens there: "
            "systemctl restart cni-dhcp.service",
        ) from e
    fault = answer.get("error")
    if fault is not None:
        if fault.get("duplicate"):
            raise AlreadyAttached(fault["msg"], fault["details"])
        raise CniError(fault["code"], CALLING[method] + fault["msg"], fault["details"])
    return dict(answer)


def wish(ctx: Context, conf: DhcpConf) -> Wish:
    """What this attachment wants of a server."""
    path = ctx.netns_path
    return Wish(
        network=ctx.network,
        container_id=ctx.container_id,
        ifname=ctx.ifname,
        netns=os.path.abspath(path) if path else "",
        options=conf.options or {},
        parameters=conf.parameters,
    )


def as_result(conf: DhcpConf, answer: dict[str, Any]) -> Result:
    """The lease of an answer, its routes with the configured metric."""
    try:
        result = leases.decode(answer["lease"]).result
    except (KeyError, TypeError, ValueError) as e:
        raise CniError(999, f"{conf.ipam.socket_path}: the answer is no lease: {e!r}") from e
    if not conf.ipam.priority:
        return result
    routes = tuple(replace(route, priority=conf.ipam.priority) for route in result.routes)
    return replace(result, routes=routes)


@contextmanager
def without_daemon(ctx: Context, conf: DhcpConf) -> Iterator[LeaseFiles]:
    """The files of a daemon that does not run, and cannot start meanwhile.

    Raises:
        Busy: it does run, on another socket or without listening.
    """
    files = LeaseFiles(conf.ipam.socket_path)
    if not files.store.names():
        yield files
        return
    limit = Deadline.after(min(_LOCK_S, ctx.deadline.remaining()))
    with files.store.locked(LOCK, limit):
        yield files


def give_back(ctx: Context, files: LeaseFiles, lease: Lease) -> None:
    """Release a lease as well as can be: without its link the server is left to expire it."""
    try:
        leases.release(lease, int.from_bytes(os.urandom(4), "big"))
    except (NetnsError, KernelError) as e:
        ctx.warn(f"{lease.terms.address} of {lease.wish} was not released, it expires: {e.msg}")
    files.discard(lease.wish.name)


VERBS = Verbs(
    parse=parse,
    parse_cleanup=parse_cleanup,
    add=add,
    delete=delete,
    check=check,
    status=status,
    gc=gc,
    journaled=False,
    uses_netns=False,
)
