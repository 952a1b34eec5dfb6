"""The daemon's socket: one question a connection, as :mod:`cni_plugins.host.unix_call` asks it."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import TYPE_CHECKING, Any

from cni_plugins.errors import DECODING_FAILURE, INTERNAL, AlreadyAttached, CniError
from cni_plugins.protocol.addresses import parse_address
from dhcp_ipam import leases
from dhcp_ipam.leases import Wish

if TYPE_CHECKING:
    from collections.abc import Callable

    from dhcp_daemon.keeper import Keeper

LARGEST = 1 << 20
_QUESTION_S = 5.0
_CREDENTIALS = struct.Struct("3i")
_ENDED_BY_CLIENT = {"acquire", "check"}
"""What nobody needs any more when its plugin has gone away; a release runs to its end."""


class Server:
    """Answers plugins.

    Args:
        keeper: has the leases.
        uid: whose questions are answered, beside root's.
        log: takes one line.
    """

    def __init__(self, keeper: Keeper, uid: int, log: Callable[[str], None]) -> None:
        self._keeper = keeper
        self._uids = {0, uid}
        self._log = log

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            answer = await self._converse(reader, writer)
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> dict[str, Any]:
        try:
            question = await self._question(reader, writer)
        except (ValueError, KeyError, TypeError, asyncio.LimitOverrunError) as e:
            return _fault(CniError(DECODING_FAILURE, f"the question makes no sense: {e!r}"))
        except TimeoutError:
            return _fault(CniError(DECODING_FAILURE, f"no question within {_QUESTION_S:.0f} s"))
        work = asyncio.ensure_future(self._answer(question))
        gone = asyncio.ensure_future(reader.read(1))
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        method = question["method"]
        if gone.done() and method in _ENDED_BY_CLIENT:
            work.cancel()
        answer = (await asyncio.gather(work, return_exceptions=True))[0]
        if gone.done() and method == "acquire" and isinstance(answer, dict) and "lease" in answer:
            self._log("a plugin went away before its lease arrived")
            await self._keeper.release(Wish.from_json(question["wish"]))
        gone.cancel()
        if isinstance(answer, dict):
            return answer
        return _fault(CniError(INTERNAL, f"the daemon failed: {answer!r}"))

    async def _question(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> dict[str, Any]:
        peer: socket.socket = writer.get_extra_info("socket")
        raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        _, uid, _ = _CREDENTIALS.unpack(raw)
        if uid not in self._uids:
            raise ValueError(f"user {uid} may not ask")
        line = await asyncio.wait_for(reader.readline(), _QUESTION_S)
        question = json.loads(line)
        if not isinstance(question, dict) or not isinstance(question["method"], str):
            raise ValueError("expected an object with a method")  # noqa: TRY004 - one answer
        return question

    async def _answer(self, question: dict[str, Any]) -> dict[str, Any]:
        try:
            return await self._do(question)
        except CniError as e:
            return _fault(e)
        except (ValueError, KeyError, TypeError) as e:
            return _fault(CniError(DECODING_FAILURE, f"the question makes no sense: {e!r}"))

    async def _do(self, question: dict[str, Any]) -> dict[str, Any]:
        method = question["method"]
        if method == "status":
            return {"leases": len(self._keeper)}
        wish = Wish.from_json(question["wish"])
        limit_s = float(question["limit_s"])
        if method == "acquire":
            return {"lease": leases.encode(await self._keeper.acquire(wish, limit_s))}
        if method == "check":
            expected = parse_address(question["expected"]) if question["expected"] else None
            return {"lease": leases.encode(await self._keeper.check(wish, expected, limit_s))}
        if method == "release":
            await self._keeper.release(wish)
            return {}
        if method == "gc":
            given = question["valid"]
            valid = None if given is None else frozenset((str(c), str(i)) for c, i in given)
            await self._keeper.collect(wish.network, valid, float(question["age_s"]))
            return {}
        raise ValueError(f"there is no method {method}")


def _fault(error: CniError) -> dict[str, Any]:
    return {
        "error": {
            "code": error.code,
            "msg": error.msg,
            "details": error.details,
            "duplicate": isinstance(error, AlreadyAttached),
        }
    }
