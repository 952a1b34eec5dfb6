"""Names that are derived from an attachment, so that DEL finds what ADD made.

An attachment is known by (network, container id, ifname).
"""

from __future__ import annotations

from cni_plugins.protocol.digests import sha256


def attachment(network: str, container_id: str, ifname: str) -> str:
    """A file name for an attachment within its network: 32 hexadecimal digits."""
    return _digest(network, container_id, ifname)[:32]


def veth(network: str, container_id: str, ifname: str, attempt: int = 0) -> str:
    """Name of the host's end of the veth pair: ``veth`` and 8 hexadecimal digits.

    ``attempt`` gives further candidates for the case that another link has the name already.
    """
    salt = (str(attempt),) if attempt else ()
    return "veth" + _digest(network, container_id, ifname, *salt)[:8]


def draft(network: str, container_id: str, ifname: str) -> str:
    """Name of a link of the container until it has its own: ``cni`` and 12 hexadecimal digits."""
    return "cni" + _digest("draft", network, container_id, ifname)[:12]


def _digest(*parts: str) -> str:
    # the lengths keep ("ab", "c") and ("a", "bc") apart
    joined = "".join(f"{len(part)}:{part};" for part in parts)
    return sha256(joined.encode("utf-8", "surrogateescape")).hexdigest()
