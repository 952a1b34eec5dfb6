"""pyroute2's rtnetlink requests over a plain socket.

pyroute2 speaks through an event loop, which costs more than the kernel's work.  Its requests and
messages are used unchanged; only what carries them is ours: it blocks, so its coroutines never
wait and need nobody to run them.

Source: netlink(7); pyroute2.iproute.linux.RTNL_API, a mixin for classes that have what
``NetlinkRequest`` uses.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Any

from pyroute2.iproute.linux import RTNL_API
from pyroute2.netlink import NLM_F_MULTI
from pyroute2.netlink.rtnl.marshal import MarshalRtnl

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

_SOL_NETLINK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK = 270, 11, 12
_DATAGRAM_BYTES = 1 << 17
_SEQUENCE_AT = 8


class RtnlSocket(RTNL_API):  # type: ignore[misc]
    """One socket, in the network namespace of the thread that opens it."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        try:
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
            self._socket.bind((0, 0))
        except OSError:
            self._socket.close()
            raise
        self.addr_pool = self.msg_queue = _Numbers()
        self.epid = self._socket.getsockname()[0]
        self.marshal = MarshalRtnl()
        self.status = {"nlm_echo": False, "strict_check": True}
        self.callbacks: tuple[Any, ...] = ()
        self.batch = self.request_proxy = None

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def call(self, method: str, *args: Any, **attributes: Any) -> Any:
        """What a method of RTNL_API returns, a list where that is a stream of messages."""
        answer = _finish(getattr(self, method)(*args, **attributes))
        return _finish(_collect(answer)) if hasattr(answer, "__aiter__") else answer

    # --- what NetlinkRequest uses --------------------------------------------------------------

    async def setup_endpoint(self) -> None:
        """Nothing is left to do."""

    def send(self, data: bytes) -> int:
        """Send a request."""
        return self._socket.send(data)

    async def get(
        self,
        msg_seq: int = 0,
        terminate: Callable[[Any], bool] | None = None,  # noqa: ARG002 - the library's signature
        callback: Callable[[Any], bool] | None = None,  # noqa: ARG002
        exception_factory: Any = None,  # noqa: ARG002
    ) -> AsyncIterator[Any]:
        """The answer to a request; acknowledgements of earlier ones are passed over."""
        while True:
            data = self._socket.recv(_DATAGRAM_BYTES)
            if struct.unpack_from("=I", data, _SEQUENCE_AT)[0] != msg_seq:
                continue
            message = None
            for message in self.marshal.parse(data, msg_seq):
                if message["header"]["error"] is not None:
                    raise message["header"]["error"]
                if self.marshal.is_enough(message):
                    return
                yield message
            if message is None or not message["header"]["flags"] & NLM_F_MULTI:
                return


class _Numbers:
    """Numbers of requests, and the queue that pyroute2 sorts answers into by them."""

    def __init__(self) -> None:
        self._last = 0

    def alloc(self) -> int:
        self._last += 1
        return self._last

    def free(self, number: int, ban: int = 0) -> None:
        pass

    def ensure_tag(self, number: int) -> None:
        pass

    def free_tag(self, number: int) -> None:
        pass


def _finish(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as e:
        return e.value
    raise RuntimeError("a request waits for something else than the kernel's answer")


async def _collect(messages: AsyncIterator[Any]) -> list[Any]:
    return [message async for message in messages]
