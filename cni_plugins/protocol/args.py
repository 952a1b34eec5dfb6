"""Identifiers and CNI_ARGS: the text rules of the environment.

Source: CNI spec 1.1.0, "Parameters" and "Network configuration"; pkg/utils and pkg/types/args of
containernetworking/cni.
"""

from __future__ import annotations

from cni_plugins.errors import (
    INVALID_CONFIG,
    UNKNOWN_CONTAINER,
    CniError,
    ConfigError,
    RequestError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

_HEXADECIMAL = frozenset("0123456789abcdef")
_MAC_SEPARATORS = ((":", 2), ("-", 2), (".", 4))
_NO_SEPARATORS = str.maketrans("", "", ":-.")
_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_FURTHER = _FIRST | frozenset("_.-")
IFNAME_BYTES = 15
_TRUTH = {"1": True, "true": True, "0": False, "false": False}


def is_identifier(text: str) -> bool:
    """Whether ``text`` may be a container id or a network name."""
    return text[:1] in _FIRST and _FURTHER.issuperset(text)


def validate_container_id(container_id: str) -> None:
    """Refuse a container id that is empty (code 3) or has foreign characters (code 4)."""
    if not container_id:
        raise CniError(UNKNOWN_CONTAINER, "missing containerID")
    if not is_identifier(container_id):
        raise RequestError("invalid characters in containerID", container_id)


def validate_network_name(name: str) -> None:
    """Refuse a network name that is empty or has foreign characters (code 7)."""
    if not name:
        raise CniError(INVALID_CONFIG, "missing network name:")
    if not is_identifier(name):
        raise ConfigError("", "invalid characters found in network name", name)


def validate_ifname(name: str) -> None:
    """Refuse what the kernel would not take as an interface name (code 4)."""
    if not name:
        raise RequestError("interface name is empty")
    if len(name.encode("utf-8", "surrogateescape")) > IFNAME_BYTES:
        raise RequestError(
            "interface name is too long", "interface name should be less than 16 characters"
        )
    if name in {".", ".."}:
        raise RequestError("interface name is . or ..")
    # str.isspace() counts U+001C to U+001F as white space, Unicode's White_Space does not
    if any(c in "/:" or (c.isspace() and c not in "\x1c\x1d\x1e\x1f") for c in name):
        raise RequestError("interface name contains / or : or whitespace characters")


def parse_args(cni_args: str, known: Mapping[str, Callable[[str], Any]]) -> dict[str, Any]:
    """Read CNI_ARGS, ``K=V;K2=V2``, strictly.

    Args:
        cni_args: the variable's text, "" for none.
        known: parser of each key the plugin understands (keys are case-sensitive); it raises
            ValueError.

    Returns:
        The parsed values of the known keys that were given; the last of repeated keys counts.

    Raises:
        RequestError: a malformed pair, an unknown key without IgnoreUnknown, a bad value.
    """
    if not cni_args:
        return {}
    pairs = []
    for pair in cni_args.split(";"):
        parts = pair.split("=")
        if len(parts) != 2:
            raise RequestError(f'ARGS: invalid pair "{pair}"', "CNI_ARGS is KEY=VALUE;KEY=VALUE")
        pairs.append((parts[0], parts[1]))
    ignore_unknown = False
    found: dict[str, Any] = {}
    unknown = []
    for name, value in pairs:
        if name == "IgnoreUnknown":
            if value.lower() not in _TRUTH:
                raise RequestError(
                    f'ARGS: error parsing value of pair "{name}={value}"',
                    "IgnoreUnknown is 1, true, 0 or false",
                )
            ignore_unknown = _TRUTH[value.lower()]
        elif name not in known:
            unknown.append(f'"{name}={value}"')
        else:
            try:
                found[name] = known[name](value)
            except ValueError as e:
                raise RequestError(
                    f'ARGS: error parsing value of pair "{name}={value}": {e}'
                ) from None
    if unknown and not ignore_unknown:
        raise RequestError(
            f"ARGS: unknown args [{' '.join(unknown)}]",
            f"known keys: {', '.join(sorted(known))}; IgnoreUnknown=1 accepts any",
        )
    return found


def parse_mac(text: str) -> str:
    """A 48-bit MAC address, written with colons, hyphens or dots, in the kernel's form.

    Raises:
        ValueError: the text is no unicast Ethernet address.
    """
    digits = text.translate(_NO_SEPARATORS).lower()
    ways = {s.join(digits[i : i + n] for i in range(0, 12, n)) for s, n in _MAC_SEPARATORS}
    if len(digits) != 12 or not _HEXADECIMAL.issuperset(digits) or text.lower() not in ways:
        raise ValueError(f"invalid MAC address: {text}")
    if int(digits[:2], 16) & 1 or digits == "0" * 12:
        raise ValueError(f"invalid MAC address: {text} is not a unicast address")
    return ":".join(digits[i : i + 2] for i in range(0, 12, 2))
