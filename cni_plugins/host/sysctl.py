"""Kernel settings under /proc/sys, of the network namespace the calling thread stands in.

Keys are written with ``/``, since interface names may contain dots.

Source: Documentation/networking/ip-sysctl.rst of the Linux kernel.
"""

from __future__ import annotations

import errno

from cni_plugins.errors import KernelError
from cni_plugins.host import files

_FORWARDING = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}


def read(key: str) -> str:
    """The value of a setting without its newline.

    Raises:
        KernelError: there is no such setting, or it cannot be read.
    """
    try:
        return files.read(f"/proc/sys/{key}").decode("utf-8", "replace").rstrip("\n")
    except OSError as e:
        raise _error("read", key, e) from e


def write(key: str, value: str) -> None:
    """Give a setting a value.

    Raises:
        KernelError: there is no such setting, or it does not take the value.
    """
    try:
        with open(f"/proc/sys/{key}", "w", encoding="utf-8") as file:
            file.write(value)
    except OSError as e:
        raise _error(f"write {value!r} to", key, e) from e


def ensure(key: str, value: str) -> None:
    """Write only what differs, so that a read-only /proc/sys is fine when nothing is to do."""
    if read(key) != value:
        write(key, value)


def enable_forwarding(family: int) -> None:
    """The host forwards packets of the family (4 or 6)."""
    ensure(_FORWARDING[family], "1")


def is_forwarding(family: int) -> bool:
    """Whether the host forwards packets of the family."""
    return _find(_FORWARDING[family]) == "1"


def refuse_router_advertisements(ifname: str) -> None:
    """The host takes no routes from containers (CVE-2020-10749)."""
    _attempt(f"net/ipv6/conf/{ifname}/accept_ra", "0")


def set_dad(ifname: str, *, enabled: bool) -> None:
    """Turn IPv6 duplicate address detection of an interface on or off."""
    if enabled:
        _attempt(f"net/ipv6/conf/{ifname}/enhanced_dad", "1")
    _attempt(f"net/ipv6/conf/{ifname}/accept_dad", "1" if enabled else "0")


def announce_addresses(ifname: str) -> None:
    """The kernel sends gratuitous ARP and unsolicited NA when the interface comes up."""
    _attempt(f"net/ipv4/conf/{ifname}/arp_notify", "1")
    _attempt(f"net/ipv6/conf/{ifname}/ndisc_notify", "1")


def enable_ipv6(ifname: str) -> None:
    """IPv6 works on ``lo`` and the interface, and addresses survive a link that goes down.

    Raises:
        KernelError: the kernel has no IPv6.
    """
    for name in ("lo", ifname):
        if _find(f"net/ipv6/conf/{name}/disable_ipv6") not in {"0", None}:
            write(f"net/ipv6/conf/{name}/disable_ipv6", "0")
    ensure(f"net/ipv6/conf/{ifname}/keep_addr_on_down", "1")


def _find(key: str) -> str | None:
    try:
        return read(key)
    except KernelError as e:
        if e.errno == errno.ENOENT:
            return None
        raise


def _attempt(key: str, value: str) -> None:
    """Write a setting that not every kernel has; under a read-only /proc/sys it stays as it is."""
    if _find(key) in {value, None}:
        return
    try:
        write(key, value)
    except KernelError as e:
        if e.errno != errno.EROFS:
            raise


def _error(verb: str, key: str, e: OSError) -> KernelError:
    return KernelError(
        f"{verb} sysctl {key}: {e.strerror}", e.errno or 0, errno.errorcode.get(e.errno or 0, "")
    )
