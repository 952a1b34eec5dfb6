"""flannel's verbs: another plugin does the work, with the subnet that flanneld got for the node."""

from __future__ import annotations

from cni_plugins import jsontext
from cni_plugins.errors import TRY_AGAIN_LATER, CniError, StateError, Unavailable
from cni_plugins.host.store import read_file
from cni_plugins.plugin import Verbs
from cni_plugins.protocol.config import find
from cni_plugins.undo import Cleanup
from flannel import subnet
from flannel.conf import FlannelConf, parse, parse_cleanup
from flannel.state import State, collect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_plugins.context import Context
    from cni_plugins.delegate import Delegate
    from cni_plugins.protocol.result import Result


def add(ctx: Context, conf: FlannelConf) -> Result:
    """The delegate's ADD; its configuration is kept before, for DEL.

    Raises:
        CniError: flanneld has not written the subnet yet (code 11), or the delegate's own error.
    """
    document = delegate_config(ctx, conf)
    state = State(ctx, conf.data_dir)
    earlier = state.read()
    if earlier is None:
        ctx.undo.push("state", state.discard)
    else:
        ctx.undo.push("state", state.keep, earlier)
    state.keep(document)
    return delegate(ctx, document).add()


def delegate_config(ctx: Context, conf: FlannelConf) -> dict[str, Any]:
    """The delegate's configuration.

    Raises:
        CniError: the subnet is not known, code 11.
    """
    try:
        text = read_file(conf.subnet_file).decode("utf-8", "replace")
        return subnet.delegate_config(conf, subnet.parse(text), ctx.document)
    except (StateError, ValueError) as e:
        raise CniError(
            TRY_AGAIN_LATER,
            f"flannel has no subnet for this node yet: {conf.subnet_file}: {e}",
            "is flanneld running here? its log says what it waits for",
        ) from e


def delegate(ctx: Context, document: dict[str, Any]) -> Delegate:
    """The plugin behind, with its own configuration and this call's rollback."""
    behind = ctx.with_config(ctx.call, document, jsontext.dumps(document).encode())
    behind.undo = ctx.undo
    return behind.delegate(str(find(document, "type") or "bridge"))


def with_previous(ctx: Context, document: dict[str, Any]) -> dict[str, Any]:
    """The delegate's configuration with the runtime's result, which is the delegate's."""
    previous = find(ctx.document, "prevResult")
    return document if previous is None else {**document, "prevResult": previous}


def delete(ctx: Context, conf: FlannelConf) -> None:
    """The delegate's DEL; what is known of the attachment stays until that succeeded."""
    state = State(ctx, conf.data_dir)
    document = state.read()
    if document is None:
        return
    delegate(ctx, with_previous(ctx, document)).delete()
    state.discard()


def check(ctx: Context, conf: FlannelConf) -> None:
    """The delegate's CHECK.

    Raises:
        CniError: nothing is known of the attachment, or the delegate's own error.
    """
    document = State(ctx, conf.data_dir).read()
    if document is None:
        raise CniError(999, f"check {ctx.ifname}: no ADD is known of", conf.data_dir)
    delegate(ctx, with_previous(ctx, document)).check()


def status(ctx: Context, conf: FlannelConf) -> None:
    """Ready once flanneld has written the subnet, if the delegate is.

    Raises:
        Unavailable: every ADD would fail.
    """
    try:
        document = delegate_config(ctx, conf)
    except CniError as e:
        raise Unavailable(e.msg, e.details) from e
    delegate(ctx, document).status()


def gc(ctx: Context, conf: FlannelConf) -> None:
    """The delegate's GC, and what is known of attachments that are not valid."""
    with Cleanup() as cleanup:
        cleanup.attempt("delegate", collect_delegate, ctx, conf)
        if ctx.valid is not None:
            cleanup.attempt("state", collect, ctx, conf.data_dir)


def collect_delegate(ctx: Context, conf: FlannelConf) -> None:
    """The delegate's GC, with the runtime's list."""
    try:
        document = delegate_config(ctx, conf)
    except CniError as e:
        ctx.warn(f"{e.msg}: the delegate collects nothing")
        return
    lists = {k: v for k, v in ctx.document.items() if k.lower().startswith("cni.dev/")}
    delegate(ctx, {**document, **lists}).gc()


VERBS = Verbs(
    parse=parse,
    parse_cleanup=parse_cleanup,
    add=add,
    delete=delete,
    check=check,
    status=status,
    gc=gc,
    journaled=False,
)
