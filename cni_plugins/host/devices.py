"""Devices of the host that containers are given: finding them, and moving them to and fro.

Source: sysfs(5); ip-link(8), "netns"; Documentation/ABI/testing/sysfs-bus-pci of the Linux kernel.
"""

from __future__ import annotations

import errno
import os

from cni_plugins.errors import KernelError
from cni_plugins.host.messages import IFLA_IFALIAS, IFLA_IFNAME, IFLA_NET_NS_FD
from cni_plugins.host.netlink import attribute, text, u32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cni_plugins.host.links import Links
    from cni_plugins.host.netns import NetNS
    from cni_plugins.host.snapshots import Link

PCI = "/sys/bus/pci/devices"
AUXILIARY = "/sys/bus/auxiliary/devices"
USER_SPACE_DRIVERS = frozenset({"vfio-pci", "uio_pci_generic", "igb_uio"})


def all_links(links: Links) -> tuple[Link, ...]:
    """Every link of a namespace."""
    return links.every("list links")


def move(links: Links, link: Link, target: NetNS, name: str) -> None:
    """Put a device into another namespace under another name; it arrives down.

    Raises:
        KernelError: as the kernel answered, for instance when the name is taken there.
    """
    links.change(
        f"move {link.name} to another namespace as {name}",
        link.index,
        u32(IFLA_NET_NS_FD, target.fileno()),
        text(IFLA_IFNAME, name),
    )


def rename(links: Links, link: Link, name: str) -> None:
    """Give a device, which must be down, another name."""
    links.change(f"rename {link.name} to {name}", link.index, text(IFLA_IFNAME, name))


def set_alias(links: Links, link: Link, alias: str) -> None:
    """Note something at a device; "" clears it."""
    value = alias.encode("utf-8", "surrogateescape")
    links.change(f"set alias of {link.name}", link.index, attribute(IFLA_IFALIAS, value))


def network_name(path: str) -> str:
    """The network interface of a device in sysfs; "" when it has none."""
    return next(iter(_names(f"{path}/net")), "")


def of_pci(address: str) -> str:
    """The network interface of a PCI device, behind virtio too; "" when it has none."""
    path = f"{PCI}/{address}"
    found = network_name(path)
    if found:
        return found
    virtio = [name for name in _names(path) if name.startswith("virtio")]
    return next(filter(None, (network_name(f"{path}/{name}") for name in virtio)), "")


def driver(address: str) -> str:
    """The driver of a PCI device.

    Raises:
        KernelError: it has none.
    """
    try:
        return os.path.basename(os.readlink(f"{PCI}/{address}/driver"))
    except OSError as e:
        raise KernelError(
            f"find the driver of PCI device {address}: {e.strerror}",
            e.errno or 0,
            errno.errorcode.get(e.errno or 0, ""),
        ) from e


def exists(path: str) -> bool:
    """Whether sysfs has a path."""
    return os.path.exists(path)


def _names(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []
