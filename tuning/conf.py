"""Configuration of tuning."""

from __future__ import annotations

from cni_plugins import chain, jsontext
from cni_plugins.errors import ConfigError
from cni_plugins.frozen import Frozen, replace
from cni_plugins.protocol import args
from cni_plugins.protocol.config import (
    flag,
    integer,
    key,
    map_of,
    optional,
    parsed,
    read,
    record,
    text,
)
from cni_plugins.protocol.netconf import NetConf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_plugins.context import Context
    from cni_plugins.protocol.result import Result

DATA_DIR = "/run/cni/tuning"
_mac = optional(parsed(args.parse_mac, "a MAC address"))


class Settings(Frozen):
    """What can be tuned; None means that it stays as it is.

    Keys of ``sysctl`` may have ``IFNAME`` in place of the interface's name.
    """

    sysctl: dict[str, str] | None = key("sysctl", map_of(text), default=None)
    mac: str | None = key("mac", _mac, default=None, doc="MAC address")
    mtu: int = key("mtu", integer(0, 2**31 - 1), default=0, doc="MTU in bytes, 0 to leave it")
    promisc: bool = key("promisc", flag, default=False, doc="all frames are received")
    allmulti: bool | None = key("allmulti", flag, default=None, doc="all multicast is received")
    tx_queue_len: int | None = key("txQLen", integer(0, 2**32 - 1), default=None)

    @property
    def has_attributes(self) -> bool:
        """Whether an attribute of the interface is to change."""
        numbers = (self.allmulti, self.tx_queue_len)
        return bool(self.mac or self.mtu or self.promisc) or any(n is not None for n in numbers)


class _Args(Frozen):
    cni: Settings = key("cni", record(Settings), default=Settings())


class _Runtime(Frozen):
    mac: str | None = key("mac", _mac, default=None)


class TuningConf(NetConf):
    """The keys of tuning beside those of Settings, which are ``tuned`` in the end."""

    data_dir: str = key("dataDir", text, default=DATA_DIR, doc="where old values are kept")
    args: _Args = key("args", record(_Args), default=_Args())
    runtime_config: _Runtime = key("runtimeConfig", record(_Runtime), default=_Runtime())

    tuned: Settings = Settings()
    chained: Result | None = None


def parse(ctx: Context, document: dict[str, Any]) -> TuningConf:
    """ADD, CHECK, STATUS.  ``args.cni`` wins over everything, then runtimeConfig, CNI_ARGS.

    Raises:
        ConfigError: with the JSON path.
        RequestError: CNI_ARGS.
    """
    conf = read(TuningConf, document)
    own, over = read(Settings, document), conf.args.cni
    refuse_duplicates(ctx.stdin)
    from_args = args.parse_args(ctx.cni_args, {"MAC": lambda t: args.parse_mac(t) if t else None})
    tuned = Settings(
        sysctl={**(own.sysctl or {}), **(over.sysctl or {})},
        mac=over.mac or conf.runtime_config.mac or from_args.get("MAC") or own.mac,
        mtu=over.mtu or own.mtu,
        promisc=over.promisc or own.promisc,
        allmulti=own.allmulti if over.allmulti is None else over.allmulti,
        tx_queue_len=own.tx_queue_len if over.tx_queue_len is None else over.tx_queue_len,
    )
    for name in tuned.sysctl or {}:
        sysctl_key(name, ctx.ifname or "IFNAME")  # STATUS is of no interface
    conf = replace(conf, tuned=tuned)
    if ctx.command == "STATUS":
        return conf
    return replace(conf, chained=chain.previous(ctx, conf, "Required prevResult missing"))


def parse_cleanup(ctx: Context, document: dict[str, Any]) -> TuningConf:
    """DEL, GC: only where the old values are kept matters."""
    return read(TuningConf, document, forgive=ctx.forgive)


def sysctl_key(name: str, ifname: str) -> str:
    """The setting's path below /proc/sys.

    ``net.ipv4.conf.IFNAME.arp_filter`` and ``net/ipv4/conf/IFNAME/arp_filter`` are the same; only
    through ``IFNAME`` can an interface be meant whose name has a dot.

    Raises:
        ConfigError: it is not one of the network namespace's.
    """
    path = name.replace(".", "/").replace("IFNAME", ifname, 1)
    parts = path.split("/")
    if parts[0] != "net" or len(parts) < 2 or not all(parts) or ".." in parts or "\0" in path:
        raise ConfigError(
            f'sysctl["{name}"]', f'invalid net sysctl key: "{path}"', "expected net.… or net/…"
        )
    return path


def refuse_duplicates(stdin: bytes) -> None:
    """A setting written twice in one ``sysctl`` object is a mistake: which one counts?

    Raises:
        ConfigError: it is.
    """
    twice: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        for name, value in pairs:
            if name.lower() == "sysctl" and isinstance(value, _Pairs):
                keys = [k.replace("/", ".") for k in value.names]
                twice.extend(sorted({k for k in keys if keys.count(k) > 1}))
        return _Pairs(dict(pairs), names)

    jsontext.loads(stdin, object_pairs_hook=look)
    if twice:
        raise ConfigError(
            f'sysctl["{twice[0]}"]', "duplicated sysctl keys are not allowed", "write it once"
        )


class _Pairs(dict[str, object]):
    """An object that remembers the names as they were written."""

    def __init__(self, content: dict[str, Any], names: list[str]) -> None:
        super().__init__(content)
        self.names = names
