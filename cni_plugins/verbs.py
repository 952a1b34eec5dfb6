"""How each verb runs around a plugin's own function: lock, journal, rollback and sweep."""

from __future__ import annotations

from cni_plugins import jsontext
from cni_plugins.errors import AlreadyAttached, ConfigError, NetnsError, Unavailable
from cni_plugins.frozen import replace
from cni_plugins.host import journal as journals
from cni_plugins.host.journal import Journal, Record
from cni_plugins.locks import attachment_lock
from cni_plugins.protocol.netconf import valid_attachments
from cni_plugins.protocol.request import Call
from cni_plugins.protocol.versions import encode
from cni_plugins.undo import Cleanup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_plugins.context import Context
    from cni_plugins.plugin import Plugin, Verbs
    from cni_plugins.protocol.result import Result

_PER_CALL = ("prevresult", "runtimeconfig", "cni.dev/")
"""Prefixes of the keys a runtime changes from call to call."""


def perform(plugin: Plugin, ctx: Context) -> dict[str, Any] | None:
    """Run the verb; the document to print, None for verbs that print nothing."""
    verbs = plugin.load()
    match ctx.command:
        case "ADD":
            _, document = add(verbs, ctx)
            return document
        case "DEL":
            delete(verbs, ctx)
        case "CHECK":
            check(verbs, ctx)
        case "STATUS":
            status(verbs, ctx)
        case _:
            collect(verbs, ctx)
    return None


def add(verbs: Verbs, ctx: Context) -> tuple[Result, dict[str, Any]]:
    """ADD; its result and the document to print.  Rolls back whole when anything fails."""
    conf = verbs.parse(ctx, ctx.document)
    if not verbs.journaled:
        if verbs.uses_netns:
            _ = ctx.netns
        with ctx.undo:
            result = verbs.add(ctx, conf)
            return result, encode(result, ctx.cni_version)
    with attachment_lock(ctx):
        if verbs.uses_netns:
            _ = ctx.netns  # before anything is touched
        journal = Journal(ctx.warn)
        _make_way(verbs, ctx, journal)
        record = _new_record(ctx)
        with ctx.undo:
            ctx.note = lambda: _write(journal, ctx, record, journals.ADDING)
            ctx.note()
            ctx.undo.push("journal entry", journal.discard, ctx.network, ctx.attachment, ctx.plugin)
            result = verbs.add(ctx, conf)
            document = encode(result, ctx.cni_version)
            ctx.deadline.check()
            _write(journal, ctx, record, journals.LIVE)
        return result, document


def delete(verbs: Verbs, ctx: Context) -> None:
    """DEL; also with the configuration of the ADD when it was edited since."""
    if not verbs.journaled:
        verbs.delete(ctx, verbs.parse_cleanup(ctx, ctx.document))
        return
    with attachment_lock(ctx):
        journal = Journal(ctx.warn)
        ctx.record = journal.read(ctx.network, ctx.attachment, ctx.plugin)
        with Cleanup() as cleanup:
            cleanup.attempt("attachment", _delete_one, verbs, ctx)
            if ctx.record is not None and _was_edited(ctx.document, ctx.record.config):
                earlier = _as_added(ctx, ctx.record)
                cleanup.attempt("attachment as it was added", _delete_one, verbs, earlier)
        journal.discard(ctx.network, ctx.attachment, ctx.plugin)


def check(verbs: Verbs, ctx: Context) -> None:
    """CHECK; it changes nothing and takes no lock."""
    conf = verbs.parse(ctx, ctx.document)
    if verbs.uses_netns:
        _ = ctx.netns
    if verbs.journaled:
        journal = Journal(ctx.warn)
        ctx.find_record_by(lambda: journal.read(ctx.network, ctx.attachment, ctx.plugin))
    verbs.check(ctx, conf)
    _ = ctx.record  # what is wrong with it is told, too


def status(verbs: Verbs, ctx: Context) -> None:
    """STATUS; a configuration that no ADD can work with is as bad as a missing tool.

    Raises:
        Unavailable: code 50, as the spec wants it for "cannot service ADD requests".
    """
    try:
        conf = verbs.parse(ctx, ctx.document)
    except ConfigError as e:
        raise Unavailable(e.msg, e.details) from e
    verbs.status(ctx, conf)


def collect(verbs: Verbs, ctx: Context) -> None:
    """GC: sweep the journal's attachments that are not valid, then what the plugin finds itself."""
    ctx.valid = valid_attachments(ctx.document)
    conf = verbs.parse_cleanup(ctx, ctx.document)
    with Cleanup() as cleanup:
        if verbs.journaled:
            from cni_plugins import garbage  # noqa: PLC0415 - GC only

            journal = Journal(ctx.warn)
            for record in garbage.find(ctx, journal):
                what = f"attachment {record.container_id} {record.ifname}"
                cleanup.attempt(what, _collect_one, verbs, ctx, record)
            ctx.journalled = frozenset(
                (record.container_id, record.ifname)
                for _, record in journal.entries(ctx.network, ctx.plugin)
            )
        cleanup.attempt("leftovers", verbs.gc, ctx, conf)


def _make_way(verbs: Verbs, ctx: Context, journal: Journal) -> None:
    """Refuse to add a living attachment again; sweep what is left of a dead one.

    Raises:
        AlreadyAttached: nothing was touched.
    """
    record = journal.read(ctx.network, ctx.attachment, ctx.plugin)
    if record is None:
        return
    if record.state == journals.LIVE and _may_be_alive(ctx, record):
        raise AlreadyAttached(
            f"{ctx.plugin} has attached {ctx.container_id} to {ctx.network} as {ctx.ifname} "
            "already",
            "a second ADD needs a DEL before it; nothing was changed",
        )
    ctx.warn(f"swept what an earlier ADD of this attachment ({record.state}) had left")
    _delete_one(verbs, _as_added(ctx, record, record))
    journal.discard(ctx.network, ctx.attachment, ctx.plugin)


def _may_be_alive(ctx: Context, record: Record) -> bool:
    from cni_plugins.liveness import Liveness, Verdict  # noqa: PLC0415 - rare

    if record.witness.is_of(*ctx.netns.identity()):
        return record.witness.boot_id == ctx.witness().boot_id
    verdict = Liveness().verdict(record.witness)
    if verdict is Verdict.LINGERING:
        ctx.host.wait_gone(record.witness.link_index, ctx.deadline)
        verdict = Liveness().verdict(record.witness)
    return verdict is not Verdict.DEAD


def _delete_one(verbs: Verbs, ctx: Context) -> None:
    verbs.delete(ctx, verbs.parse_cleanup(ctx, ctx.document))


def _collect_one(verbs: Verbs, ctx: Context, record: Record) -> None:
    from cni_plugins import garbage  # noqa: PLC0415 - GC only

    earlier = _as_added(ctx, record, record)
    with garbage.lock_if_idle(earlier) as is_idle:
        if not is_idle:
            ctx.warn(f"left attachment {record.container_id} {record.ifname}: another verb runs")
            return
        _delete_one(verbs, earlier)
        Journal(ctx.warn).discard(ctx.network, earlier.attachment, ctx.plugin)


def _new_record(ctx: Context) -> Record:
    call = ctx.call
    env = {
        "CNI_CONTAINERID": call.container_id,
        "CNI_NETNS": call.netns,
        "CNI_IFNAME": call.ifname,
        "CNI_ARGS": call.args,
        "CNI_PATH": call.path,
    }
    return Record(
        state=journals.ADDING,
        build=ctx.build,
        witness=ctx.witness(),
        env=env,
        config=ctx.document,
    )


def _write(journal: Journal, ctx: Context, record: Record, state: str) -> None:
    link_index = int(ctx.plan.get("link_index", 0))
    witness = replace(
        record.witness, link_index=link_index, link_name=str(ctx.plan.get("link_name", ""))
    )
    entry = replace(record, state=state, witness=witness, plan=ctx.plan)
    journal.write(ctx.network, ctx.attachment, ctx.plugin, entry)


def _was_edited(now: dict[str, Any], then: dict[str, Any]) -> bool:
    def lasting(document: dict[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in document.items() if not k.lower().startswith(_PER_CALL)}

    return lasting(now) != lasting(then)


def _has_its_netns(record: Record) -> bool:
    from cni_plugins.host.netns import NetNS  # noqa: PLC0415 - loads ctypes

    try:
        with NetNS.open(record.env.get("CNI_NETNS", "")) as netns:
            return record.witness.is_of(*netns.identity())
    except NetnsError:
        return False


def _as_added(ctx: Context, record: Record, current: Record | None = None) -> Context:
    """The context for undoing an earlier ADD, with the present call's CNI_PATH.

    A path that leads to another namespace by now (its pod is gone, the name was given again) is
    left out: nothing in the new namespace is ours.
    """
    call = Call(
        command="DEL",
        container_id=record.container_id,
        netns=record.env.get("CNI_NETNS", "") if _has_its_netns(record) else "",
        ifname=record.ifname,
        args=record.env.get("CNI_ARGS", ""),
        path=ctx.call.path or record.env.get("CNI_PATH", ""),
        netns_override=ctx.call.netns_override,
    )
    earlier = ctx.with_config(call, record.config, jsontext.dumps(record.config).encode())
    earlier.record = current or record
    return earlier
