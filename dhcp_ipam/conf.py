"""Configuration of dhcp."""

from __future__ import annotations

from cni_plugins.errors import ConfigError
from cni_plugins.frozen import Frozen, replace
from cni_plugins.protocol.config import (
    any_object,
    array_of,
    find,
    flag,
    integer,
    key,
    read,
    record,
    text,
)
from cni_plugins.protocol.versions import decode_prev_result
from dhcp_ipam import message as dhcp
from dhcp_ipam.leases import SOCKET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cni_plugins.context import Context
    from cni_plugins.protocol.result import Result

NAMES = {
    "subnet-mask": dhcp.SUBNET_MASK,
    "routers": dhcp.ROUTERS,
    "host-name": dhcp.HOST_NAME,
    "vendor-class-identifier": dhcp.VENDOR_CLASS,
    "dhcp-client-identifier": dhcp.CLIENT_ID,
    "user-class": dhcp.USER_CLASS,
}
"""The options that have a name in a configuration; the others go by number."""
ALWAYS = (dhcp.ROUTERS, dhcp.SUBNET_MASK, dhcp.NAME_SERVERS, dhcp.DOMAIN_NAME, dhcp.DOMAIN_SEARCH)
"""What is asked for unless ``skipDefault`` says otherwise, after what ``request`` names."""
_OURS = {
    dhcp.REQUESTED_ADDRESS: "the address asked for",
    dhcp.OVERLOAD: "where options are",
    dhcp.MESSAGE_TYPE: "the message's type",
    dhcp.SERVER_ID: "the server",
    dhcp.PARAMETERS: "what request makes",
}
"""Options that the protocol itself needs; providing them would break it."""


class Provided(Frozen):
    """An option to send."""

    option: str = key("option", text, default="", doc="name or number of the option")
    value: str = key("value", text, default="", doc="its value, sent as it is")
    from_arg: str = key("fromArg", text, default="", doc="key of CNI_ARGS to take the value from")


class Requested(Frozen):
    """An option to ask for."""

    option: str = key("option", text, default="", doc="name or number of the option")
    skip_default: bool = key("skipDefault", flag, default=False, doc="ask for the listed ones only")


class IpamConf(Frozen):
    """The ``ipam`` object."""

    socket_path: str = key("daemonSocketPath", text, default=SOCKET, doc="socket of the daemon")
    provide: tuple[Provided, ...] = key("provide", array_of(record(Provided)), default=())
    request: tuple[Requested, ...] = key("request", array_of(record(Requested)), default=())
    priority: int = key("priority", integer(0, 2**31 - 1), default=0, doc="metric of every route")
    timeout_s: int = key(
        "timeout", integer(1, 600), default=0, doc="seconds after which ADD gives up"
    )


class DhcpConf(Frozen):
    """The keys of dhcp; ``options`` and ``parameters`` follow from ``provide`` and ``request``."""

    ipam: IpamConf = key("ipam", record(IpamConf), default=IpamConf())
    prev_result: dict[str, Any] | None = key("prevResult", any_object, default=None)

    options: dict[int, bytes] | None = None
    parameters: tuple[int, ...] = ()
    chained: Result | None = None


def parse(ctx: Context, document: dict[str, Any]) -> DhcpConf:
    """ADD, CHECK, STATUS.

    Raises:
        ConfigError: with the JSON path.
    """
    if find(document, "ipam") is None:
        raise ConfigError("ipam", "is required: an object with type dhcp")
    conf = read(DhcpConf, document)
    previous = conf.prev_result
    return replace(
        conf,
        options=_options(conf.ipam.provide, lax_args(ctx.cni_args)),
        parameters=_parameters(conf.ipam.request),
        chained=None if previous is None else decode_prev_result(previous, ctx.cni_version),
    )


def parse_cleanup(ctx: Context, document: dict[str, Any]) -> DhcpConf:
    """DEL, GC: the daemon's socket."""
    ipam = find(document, "ipam")
    if not isinstance(ipam, dict):
        return DhcpConf()
    socket_path = read(IpamConf, ipam, "ipam", forgive=ctx.forgive).socket_path
    return DhcpConf(ipam=IpamConf(socket_path=socket_path))


def option_code(path: str, name: str) -> int:
    """The number of an option.

    Raises:
        ConfigError: it is neither one of :data:`NAMES` nor a number from 1 to 254.
    """
    if name in NAMES:
        return NAMES[name]
    if name.isascii() and name.isdigit() and 0 < int(name) < 255:
        return int(name)
    raise ConfigError(
        path,
        f'Can not parse option "{name}": expected a number from 1 to 254, or one of '
        + ", ".join(NAMES),
    )


def lax_args(cni_args: str) -> dict[str, str]:
    """CNI_ARGS as this plugin has always read them: what is no pair is passed over."""
    pairs = (pair.partition("=") for pair in cni_args.split(";"))
    return {name: value for name, sign, value in pairs if sign}


def _options(provide: tuple[Provided, ...], given: dict[str, str]) -> dict[int, bytes]:
    found = {}
    for i, entry in enumerate(provide):
        path = f"ipam.provide[{i}].option"
        code = option_code(path, entry.option)
        if code in _OURS:
            raise ConfigError(path, f"option {code} is {_OURS[code]} and cannot be provided")
        value = given.get(entry.from_arg, entry.value) if entry.from_arg else entry.value
        raw = value.encode("utf-8", "surrogateescape")
        if len(raw) > dhcp.OPTION_BYTES:
            raise ConfigError(
                f"ipam.provide[{i}].value",
                f"value too long for option {entry.option}: {len(raw)} bytes, at most 255",
            )
        if raw:
            found[code] = raw
    return found


def _parameters(request: tuple[Requested, ...]) -> tuple[int, ...]:
    wanted = [
        option_code(f"ipam.request[{i}].option", entry.option)
        for i, entry in enumerate(request)
        if entry.option
    ]
    if not wanted or not any(entry.skip_default for entry in request):
        wanted += ALWAYS
    return tuple(dict.fromkeys(wanted))
