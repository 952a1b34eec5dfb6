"""UDP packets below the kernel's IP layer: a link that has no address yet can send and receive.

Source: packet(7), socket(7) SO_ATTACH_FILTER, linux/filter.h, netdevice(7).
"""

from __future__ import annotations

import errno
import fcntl
import socket
import struct
from array import array

from cni_plugins.host.rtnl import kernel_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from cni_plugins.host.netns import NetNS

EVERYBODY = b"\xff" * 6
_ETH_P_IP = 0x0800
_PACKET_AUXDATA, _TP_STATUS_CSUMNOTREADY = 8, 8
_SOL_PACKET, _SO_ATTACH_FILTER = 263, 26
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _SIOCGIFHWADDR, _SIOCGIFINDEX = 0x8913, 0x8914, 0x8927, 0x8933
_IFF_UP = 0x1
_IFREQ = 40
_LARGEST = 65535
_AUXDATA = struct.Struct("=IIIHHHH")


class PacketSocket:
    """IPv4 packets for one UDP port of one link, in the namespace it was opened in.

    It keeps the namespace alive while it is open.  Every method raises KernelError.
    """

    def __init__(self, opened: socket.socket, ifname: str) -> None:
        self._socket = opened
        self._ifname = ifname

    @classmethod
    def open(cls, netns: NetNS, ifname: str, port: int) -> Self:
        """A socket that does not block, for UDP packets to ``port``.

        Raises:
            KernelError: ENODEV when there is no such link.
        """
        with netns.entered():
            opened = socket.socket(
                socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0
            )
        try:
            _attach_filter(opened, port)
            opened.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
            opened.bind((ifname, _ETH_P_IP))
            # a link that is down leaves an error behind for the first packet; it may come up
            opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        except OSError as e:
            opened.close()
            if e.errno == errno.ENODEV:
                text = f'error looking up "{ifname}"'
                raise kernel_error(text, errno.ENODEV, "Link not found") from e
            raise kernel_error(f"open a packet socket on {ifname}", e.errno or 0, str(e)) from e
        return cls(opened, ifname)

    def fileno(self) -> int:
        """For event loops."""
        return self._socket.fileno()

    def close(self) -> None:
        """Let go of the link and its namespace."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def send(self, packet: bytes, mac: bytes = EVERYBODY) -> None:
        """Send an IPv4 packet to the station ``mac``."""
        try:
            self._socket.sendto(packet, (self._ifname, _ETH_P_IP, 0, 0, mac))
        except OSError as e:
            raise kernel_error(f"send through {self._ifname}", e.errno or 0, str(e)) from e

    def receive(self) -> tuple[bytes, bytes, bool] | None:
        """A packet, its sender's MAC, whether its checksum is complete; None when none waits."""
        try:
            packet, auxiliary, _, sender = self._socket.recvmsg(_LARGEST, 256)
        except BlockingIOError:
            return None
        except OSError as e:
            raise kernel_error(f"receive from {self._ifname}", e.errno or 0, str(e)) from e
        status = 0
        for level, kind, data in auxiliary:
            if (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA) and len(data) >= _AUXDATA.size:
                status = _AUXDATA.unpack_from(data)[0]
        return packet, sender[4], not status & _TP_STATUS_CSUMNOTREADY

    def link_index(self) -> int:
        """Index of the link."""
        return int(struct.unpack_from("=i", self._ioctl(_SIOCGIFINDEX), 16)[0])

    def link_mac(self) -> bytes:
        """MAC address of the link."""
        return self._ioctl(_SIOCGIFHWADDR)[18:24]

    def set_link_down(self) -> None:
        """Bring the link down."""
        (flags,) = struct.unpack_from("=H", self._ioctl(_SIOCGIFFLAGS), 16)
        self._ioctl(_SIOCSIFFLAGS, struct.pack("=H", flags & ~_IFF_UP))

    def _ioctl(self, number: int, value: bytes = b"") -> bytes:
        request = self._ifname.encode().ljust(16, b"\0") + value
        try:
            return fcntl.ioctl(self._socket, number, request.ljust(_IFREQ, b"\0"))
        except OSError as e:
            raise kernel_error(f"look at link {self._ifname}", e.errno or 0, str(e)) from e


def _attach_filter(opened: socket.socket, port: int) -> None:
    """Whole UDP packets to ``port`` only; a busy link would drown them otherwise."""
    code = array(
        "Q",
        b"".join(
            struct.pack("=HBBI", *instruction)
            for instruction in (
                (0x30, 0, 0, 9),  # ldb the protocol
                (0x15, 0, 6, socket.IPPROTO_UDP),
                (0x28, 0, 0, 6),  # ldh the fragment's offset
                (0x45, 4, 0, 0x1FFF),
                (0xB1, 0, 0, 0),  # ldx the header's length
                (0x48, 0, 0, 2),  # ldh the destination port
                (0x15, 0, 1, port),
                (0x06, 0, 0, _LARGEST),
                (0x06, 0, 0, 0),
            )
        ),
    )
    address, length = code.buffer_info()
    opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", length, address))
