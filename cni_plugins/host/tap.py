"""TAP devices of the namespace that the calling thread stands in.

Source: Documentation/networking/tuntap.rst of the Linux kernel; linux/if_tun.h.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from cni_plugins.errors import KernelError
from cni_plugins.host.rtnl import kernel_error

DEVICE = "/dev/net/tun"
_EXEC_LABEL = "/proc/thread-self/attr/exec"
_TUNSETIFF, _TUNSETPERSIST = 0x400454CA, 0x400454CB
_TUNSETOWNER, _TUNSETGROUP = 0x400454CC, 0x400454CE
_IFF_TAP, _IFF_NO_PI, _IFF_MULTI_QUEUE = 0x0002, 0x1000, 0x0100


def add(name: str, *, multi_queue: bool, owner: int | None, group: int | None) -> None:
    """Make a device that stays when nobody has it open.

    Args:
        name: its name.
        multi_queue: several processes' queues at once.
        owner: id of the user that may open it; None for nobody but root.
        group: id of the group that may open it.

    Raises:
        KernelError: as the kernel answered.
    """
    flags = _IFF_TAP | _IFF_NO_PI | (_IFF_MULTI_QUEUE if multi_queue else 0)
    what = f"add tap {name}"
    try:
        fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as e:
        raise kernel_error(f"{what}: open {DEVICE}", e.errno or 0, e.strerror or "") from e
    try:
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
        if owner is not None:
            fcntl.ioctl(fd, _TUNSETOWNER, owner)
        if group is not None:
            fcntl.ioctl(fd, _TUNSETGROUP, group)
        fcntl.ioctl(fd, _TUNSETPERSIST, 1)
    except OSError as e:
        raise kernel_error(what, e.errno or 0, e.strerror or "") from e
    finally:
        os.close(fd)


def set_exec_label(context: str) -> None:
    """Give the next program that this thread executes an SELinux label; "" for its own again.

    A device has the label of the process that made it, which only an executed tool can change.

    Raises:
        KernelError: there is no SELinux here, or it refuses.
    """
    try:
        with open(_EXEC_LABEL, "w", encoding="utf-8") as file:
            file.write(f"{context}\0" if context else "")
    except OSError as e:
        if not context and e.errno in {errno.EINVAL, errno.ENOENT}:
            return
        raise KernelError(
            f"set SELinux label {context!r}: {e.strerror}",
            e.errno or 0,
            "selinuxContext needs a node where SELinux is enabled",
        ) from e
