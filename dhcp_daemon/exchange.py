"""Talking with DHCP servers over one link: the client's part of RFC 2131, section 4.4."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cni_plugins.errors import Busy
from cni_plugins.host.packets import EVERYBODY
from dhcp_ipam import leases
from dhcp_ipam import message as dhcp
from dhcp_ipam.message import Message
from dhcp_ipam.terms import is_usable_offer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cni_plugins.host.packets import PacketSocket
    from cni_plugins.protocol.addresses import Address
    from dhcp_ipam.leases import Lease, Wish

_FIRST_WAIT_S = 2.0
_REFUSED_PAUSE_S = 1.0
_REQUEST_TRIES = 3
_LARGEST_MESSAGE = 1500


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How patient the daemon is, seconds.

    ``timeout_s``: longest wait for an answer before a message is sent again; ``resend_max_s``:
    longest pause between two tries; ``resend_timeout_s``: after which it gives an acquisition up.
    """

    timeout_s: float = 10.0
    resend_max_s: float = 62.0
    resend_timeout_s: float = 208.0
    broadcast: bool = False

    def waits(self) -> Iterator[float]:
        """How long to wait for each answer, with some chance (RFC 2131 section 4.1)."""
        wait_s = min(_FIRST_WAIT_S, self.timeout_s)
        while True:
            yield wait_s * random.uniform(0.75, 1.25)  # noqa: S311
            wait_s = min(wait_s * 2, self.timeout_s, self.resend_max_s)


@dataclass(frozen=True, slots=True)
class Answer:
    """A server's message, the station it came from, and when it was asked for.

    A lease begins with the question (RFC 2131 section 4.4.1); ``asked`` is on the leases' clock.
    """

    message: Message
    station: bytes
    asked: float

    @property
    def is_granted(self) -> bool:
        """Whether it is an ACK."""
        return self.message.type == dhcp.ACK


class Exchange:
    """One transaction over an open link.

    Args:
        link: open for packets to the client's port.
        wish: whose it is, and what it wants.
        mac: the hardware address to ask with.
        timing: how patient to be.
    """

    def __init__(self, link: PacketSocket, wish: Wish, mac: bytes, timing: Timing) -> None:
        self._link = link
        self._wish = wish
        self._mac = mac
        self._timing = timing
        self._xid = random.getrandbits(32)
        self._asked = leases.now()
        self._common = {
            dhcp.PARAMETERS: bytes(wish.parameters),
            dhcp.LONGEST: _LARGEST_MESSAGE.to_bytes(2, "big"),
            **wish.options,
            dhcp.CLIENT_ID: leases.client_id(wish),
        }

    async def acquire(self, limit_s: float, preferred: Address | None = None) -> Answer:
        """DISCOVER, OFFER, REQUEST, ACK.

        Every other try asks for broadcast answers: some links, ipvlan's for one, get no packet
        for an address that they do not have yet.

        Raises:
            Busy: no server granted an address within ``limit_s`` seconds.
            KernelError: the link is gone.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + limit_s
        offers = refusals = 0
        for tries, wait_s in enumerate(self._timing.waits()):
            wants_broadcast = self._timing.broadcast or tries % 2 == 1
            if loop.time() >= until:
                raise Busy(
                    "no more tries",
                    f"{tries} DHCPDISCOVER in {limit_s:.0f} s: {offers} usable offers, "
                    f"{refusals} refusals; look at the server's log and its free addresses",
                )
            wanted = {dhcp.REQUESTED_ADDRESS: preferred.packed} if preferred else {}
            self._send(dhcp.DISCOVER, wanted, wants_broadcast=wants_broadcast)
            end = min(until, loop.time() + wait_s)
            offer = await self._expect(lambda m: m.type == dhcp.OFFER and is_usable_offer(m), end)
            if offer is None:
                continue
            offers += 1
            answer = await self._select(offer.message, until, wants_broadcast=wants_broadcast)
            if answer is not None and answer.is_granted:
                return answer
            refusals += answer is not None
            await asyncio.sleep(min(_REFUSED_PAUSE_S, max(0.0, until - loop.time())))
        raise AssertionError  # the waits never end

    async def _select(
        self, offer: Message, until: float, *, wants_broadcast: bool
    ) -> Answer | None:
        """REQUEST of an offered address; the server's ACK or NAK, None for silence."""
        options = {
            dhcp.REQUESTED_ADDRESS: offer.yiaddr.packed,
            dhcp.SERVER_ID: offer.options[dhcp.SERVER_ID],
        }
        server = offer.address(dhcp.SERVER_ID)
        for _, wait_s in zip(range(_REQUEST_TRIES), self._timing.waits(), strict=False):
            self._send(dhcp.REQUEST, options, wants_broadcast=wants_broadcast)
            end = min(until, asyncio.get_running_loop().time() + wait_s)
            answer = await self._expect(
                lambda m: m.address(dhcp.SERVER_ID) == server and _answers(m, offer.yiaddr), end
            )
            if answer is not None:
                return answer
        return None

    async def renew(self, lease: Lease, wait_s: float) -> Answer | None:
        """RENEWING: REQUEST to the server that granted the lease (RFC 2131 section 4.4.5)."""
        address = lease.terms.address.address
        packet = self._message(dhcp.REQUEST, {}, ciaddr=address)
        self._link.send(
            dhcp.wrap(dhcp.encode(packet), address, lease.terms.server), lease.server_mac
        )
        return await self._granted_or_not(address, wait_s)

    async def rebind(self, lease: Lease, wait_s: float) -> Answer | None:
        """REBINDING: the same REQUEST to any server."""
        address = lease.terms.address.address
        packet = self._message(dhcp.REQUEST, {}, ciaddr=address)
        self._link.send(dhcp.wrap(dhcp.encode(packet), address, dhcp.EVERYBODY))
        return await self._granted_or_not(address, wait_s)

    async def reboot(self, address: Address, wait_s: float) -> Answer | None:
        """INIT-REBOOT: may an address be kept that nobody here has a lease of any more?"""
        wanted = {dhcp.REQUESTED_ADDRESS: address.packed}
        self._send(dhcp.REQUEST, wanted, wants_broadcast=self._timing.broadcast)
        return await self._granted_or_not(address, wait_s)

    async def _granted_or_not(self, address: Address, wait_s: float) -> Answer | None:
        end = asyncio.get_running_loop().time() + wait_s
        return await self._expect(
            lambda m: m.address(dhcp.SERVER_ID) is not None and _answers(m, address), end
        )

    def _send(self, kind: int, options: dict[int, bytes], *, wants_broadcast: bool) -> None:
        """A message of a client without an address, to every station."""
        message = self._message(kind, options, wants_broadcast=wants_broadcast)
        self._link.send(dhcp.wrap(dhcp.encode(message), dhcp.ANY, dhcp.EVERYBODY), EVERYBODY)

    def _message(
        self,
        kind: int,
        options: dict[int, bytes],
        *,
        ciaddr: Address = dhcp.ANY,
        wants_broadcast: bool = False,
    ) -> Message:
        self._asked = leases.now()
        return Message(
            type=kind,
            xid=self._xid,
            mac=self._mac,
            ciaddr=ciaddr,
            wants_broadcast=wants_broadcast,
            options={**self._common, **options},
        )

    async def _expect(self, accept: Callable[[Message], bool], until: float) -> Answer | None:
        """The first answer to this transaction that is accepted; None at ``until``.

        What is malformed, foreign or not accepted is passed over: anybody on the network can send
        it.
        """
        while True:
            got = self._link.receive()
            if got is None:
                if not await _readable(self._link, until):
                    return None
                continue
            packet, station, is_complete = got
            try:
                message = dhcp.decode(dhcp.unwrap(packet, is_checksum_complete=is_complete))
            except ValueError:
                continue
            if (message.xid, message.mac) == (self._xid, self._mac) and accept(message):
                return Answer(message, station, self._asked)


def _answers(message: Message, address: Address) -> bool:
    return message.type == dhcp.NAK or (message.type == dhcp.ACK and message.yiaddr == address)


async def _readable(link: PacketSocket, until: float) -> bool:
    """Wait for a packet; False at ``until`` (the loop's clock)."""
    loop = asyncio.get_running_loop()
    woken = asyncio.Event()
    loop.add_reader(link.fileno(), woken.set)
    try:
        await asyncio.wait_for(woken.wait(), max(0.0, until - loop.time()))
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(link.fileno())
    return True
