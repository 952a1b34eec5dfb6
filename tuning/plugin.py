"""tuning's verbs: change the container's interface and settings, put them back on DEL."""

from __future__ import annotations

import errno

from cni_plugins.errors import CniError, ConfigError, KernelError, StateError, Unavailable
from cni_plugins.frozen import replace
from cni_plugins.host import sysctl
from cni_plugins.host.store import read_file
from cni_plugins.plugin import Verbs
from cni_plugins.undo import Cleanup
from tuning.backup import LINK, SYSCTL, Backup, of_link
from tuning.conf import TuningConf, parse, parse_cleanup, sysctl_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_plugins.context import Context
    from cni_plugins.protocol.result import Result

ALLOWLIST = "/etc/cni/tuning/allowlist.conf"


def add(ctx: Context, conf: TuningConf) -> Result:
    """Note the old values, then change what is asked for."""
    assert conf.chained is not None
    settings = {sysctl_key(name, ctx.ifname): value for name, value in named(conf).items()}
    refuse_forbidden(conf)
    link = ctx.container.get(ctx.ifname) if conf.tuned.has_attributes else None
    old = read_settings(ctx, conf)
    backup = Backup(conf.data_dir, ctx.container_id, ctx.ifname)
    ctx.undo.push("tuning", delete, ctx, conf)
    backup.keep(SYSCTL, old)
    if link is not None:
        backup.keep(LINK, of_link(link, conf.tuned))
    write_settings(ctx, settings)
    if link is None:
        return conf.chained
    ctx.container.set(
        link,
        mac=conf.tuned.mac or "",
        mtu=conf.tuned.mtu,
        promisc=True if conf.tuned.promisc else None,
        allmulti=conf.tuned.allmulti,
        tx_queue_len=conf.tuned.tx_queue_len,
    )
    return with_mac(conf.chained, ctx.ifname, conf.tuned.mac or "")


def delete(ctx: Context, conf: TuningConf) -> None:
    """Put the old values back where there is still something to put them on."""
    backup = Backup(conf.data_dir, ctx.container_id, ctx.ifname)
    attributes, settings = backup.read(LINK), backup.read(SYSCTL)
    if (attributes or settings) and ctx.find_netns() is not None:
        with Cleanup() as cleanup:
            if attributes:
                cleanup.attempt("attributes of the link", restore_link, ctx, attributes)
            for name, value in settings.items():
                cleanup.attempt(f"sysctl {name}", restore_setting, ctx, name, str(value))
    backup.discard()


def check(ctx: Context, conf: TuningConf) -> None:
    """Every setting and attribute is as it was asked for; all that are not are named."""
    problems = []
    for name, wanted in named(conf).items():
        with ctx.netns.entered():
            found = sysctl.read(sysctl_key(name, ctx.ifname))
        if found.split() != wanted.split():
            problems.append(f"sysctl {name} is {found!r}, not {wanted!r}")
    link = ctx.container.get(ctx.ifname)
    expectations: tuple[tuple[str, Any, Any], ...] = (
        ("mac", conf.tuned.mac or link.mac, link.mac),
        ("mtu", conf.tuned.mtu or link.mtu, link.mtu),
        ("promisc", conf.tuned.promisc or link.is_promisc, link.is_promisc),
        ("allmulti", _or(conf.tuned.allmulti, link.is_allmulti), link.is_allmulti),
        ("txQLen", _or(conf.tuned.tx_queue_len, link.tx_queue_len), link.tx_queue_len),
    )
    problems += [
        f"{name} of {link.name} is {found}, not {wanted}"
        for name, wanted, found in expectations
        if found != wanted
    ]
    if problems:
        raise CniError(999, f"check {ctx.ifname}: {'; '.join(problems)}")


def status(_ctx: Context, conf: TuningConf) -> None:
    """Ready unless the allowlist keeps every new pod from starting."""
    try:
        refuse_forbidden(conf)
    except CniError as e:
        raise Unavailable(e.msg, e.details) from e


def gc(_ctx: Context, _conf: TuningConf) -> None:
    """Old values belong to attachments of the journal; files alone do not name their network."""


def named(conf: TuningConf) -> dict[str, str]:
    """The settings by the names they are written with."""
    return conf.tuned.sysctl or {}


def refuse_forbidden(conf: TuningConf) -> None:
    """Hold the settings against the node's allowlist; without that file all are allowed.

    Raises:
        CniError: a setting is not allowed, or the list cannot be used.
    """
    if not named(conf):
        return
    try:
        text = read_file(ALLOWLIST).decode("utf-8", "replace")
    except StateError as e:
        if e.details == "ENOENT":
            return
        raise
    entries = [line.strip() for line in text.splitlines() if line.strip()]
    for name in named(conf):
        if not any(_matches(entry, name) for entry in entries):
            raise CniError(
                999,
                f"Sysctl {name} is not allowed. Only the following sysctls are allowed: {entries}",
                f"the list is {ALLOWLIST}",
            )


def _matches(entry: str, name: str) -> bool:
    import re  # noqa: PLC0415 - for administrators who keep a list

    try:
        return re.search(entry, name) is not None
    except re.error as e:
        raise CniError(999, f"{ALLOWLIST}: {entry!r} is no regular expression: {e}") from None


def read_settings(ctx: Context, conf: TuningConf) -> dict[str, str]:
    """The present values of the settings that can be read.

    Raises:
        ConfigError: there is no such setting.
    """
    found = {}
    with ctx.netns.entered():
        for name in named(conf):
            key = sysctl_key(name, ctx.ifname)
            try:
                found[key] = sysctl.read(key)
            except KernelError as e:
                if e.errno == errno.ENOENT:
                    raise ConfigError(
                        f'sysctl["{name}"]',
                        f"there is no /proc/sys/{key} in the container",
                        "is it spelt right, does this kernel have it?",
                    ) from e
                ctx.warn(f"sysctl {key} will stay as it is set: its value cannot be read: {e}")
    return found


def write_settings(ctx: Context, settings: dict[str, str]) -> None:
    """Write settings in the container's namespace, each before the link's attributes change."""
    with ctx.netns.entered():
        for key, value in settings.items():
            sysctl.write(key, value)


def restore_setting(ctx: Context, key: str, value: str) -> None:
    """Give a setting its old value; one that went with its interface needs none."""
    try:
        with ctx.netns.entered():
            sysctl.ensure(key, value)
    except KernelError as e:
        if e.errno != errno.ENOENT:
            raise


def restore_link(ctx: Context, attributes: dict[str, Any]) -> None:
    """Give a link its old attributes; one that is gone needs none."""
    link = ctx.container.find(ctx.ifname)
    if link is None:
        return
    ctx.container.set(
        link,
        mac=str(attributes.get("mac") or ""),
        mtu=int(attributes.get("mtu") or 0),
        promisc=attributes.get("promisc"),
        allmulti=attributes.get("allmulti"),
        tx_queue_len=attributes.get("txQLen"),
    )


def with_mac(result: Result, ifname: str, mac: str) -> Result:
    """The result with the container's interface under its new address."""
    if not mac:
        return result
    interfaces = tuple(
        replace(interface, mac=mac) if interface.name == ifname else interface
        for interface in result.interfaces
    )
    return replace(result, interfaces=interfaces)


def _or(wanted: Any, present: Any) -> Any:
    return present if wanted is None else wanted


VERBS = Verbs(
    parse=parse,
    parse_cleanup=parse_cleanup,
    add=add,
    delete=delete,
    check=check,
    status=status,
    gc=gc,
)
