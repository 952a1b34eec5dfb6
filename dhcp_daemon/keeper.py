"""The leases the daemon holds: acquired, given back, found again after a restart.

While a lease rests nothing of its pod is held open: an open socket would keep the namespace alive.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cni_plugins.errors import (
    AlreadyAttached,
    CniError,
    KernelError,
    NetnsError,
    StateError,
)
from cni_plugins.host.links import Links
from cni_plugins.host.netns import NetNS
from cni_plugins.host.packets import PacketSocket
from dhcp_daemon.exchange import Answer, Exchange, Timing
from dhcp_daemon.renewal import LATE_S, Renewal, tell_free
from dhcp_ipam import leases, terms
from dhcp_ipam import message as dhcp
from dhcp_ipam.leases import Lease, LeaseFiles, Wish

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from cni_plugins.protocol.addresses import Address

_CARRIER_S, _UNKNOWN_S = 2.0, 1.0
_CARRIER_POLL_S = 0.005


@dataclass
class Held:
    """A lease with its renewal, and the task that runs it."""

    renewal: Renewal
    task: asyncio.Task[None] | None = None

    @property
    def lease(self) -> Lease:
        """The lease as it is now."""
        return self.renewal.lease


class Keeper:
    """Every lease of one daemon.

    Args:
        files: where they are kept.
        timing: how patient to be with servers.
        prefix: where the daemon sees the host's file system.
        log: takes one line.
    """

    def __init__(
        self, files: LeaseFiles, timing: Timing, prefix: str, log: Callable[[str], None]
    ) -> None:
        self._files = files
        self._timing = timing
        self._prefix = prefix
        self._log = log
        self._held: dict[str, Held] = {}
        self._acquiring: dict[str, asyncio.Task[Lease]] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def __len__(self) -> int:
        return len(self._held)

    def start(self) -> None:
        """Find the leases of an earlier daemon and go on with them."""
        for lease in self._files.all():
            if isinstance(lease, StateError):
                self._log(lease.msg)
            else:
                self._hold(lease)

    async def stop(self) -> None:
        """Let go of everything; leases stay as they are."""
        tasks = [held.task for held in self._held.values() if held.task is not None]
        for task in [*tasks, *self._acquiring.values()]:
            task.cancel()
        await asyncio.gather(*tasks, *self._acquiring.values(), return_exceptions=True)

    # --- what plugins ask for ------------------------------------------------------------------

    async def acquire(self, wish: Wish, limit_s: float) -> Lease:
        """A new lease.

        Raises:
            AlreadyAttached: the attachment has one, and its link is there.
            Busy: no server granted one in time.
            NetnsError, KernelError: there is no such pod or link.
            StateError: the lease cannot be written down; it was given back.
        """
        async with self._locks[wish.name]:
            held = self._held.get(wish.name)
            preferred = None
            if held is not None:
                _refuse_living(held.lease, self._prefix)
                preferred = held.lease.terms.address.address
                await self._drop(held, "its link is gone")
            return await self._run(wish, self._acquire(wish, limit_s, preferred))

    async def check(self, wish: Wish, expected: Address | None, limit_s: float) -> Lease:
        """The lease as it is held; one that is not known is asked for again.

        Raises:
            CniError: it expired, it is another namespace's, or the address cannot be had again.
        """
        async with self._locks[wish.name]:
            held = self._held.get(wish.name)
            if held is None:
                return await self._run(wish, self._adopt(wish, expected, limit_s))
        lease = held.lease
        if lease.expired:
            raise CniError(
                999,
                f"the lease of {lease.terms.address.address} expired",
                f"no server renewed it, so {wish.ifname} was set down (RFC 2131, 4.4.5); "
                "delete and add the container again",
            )
        if lease.wish.netns != wish.netns:
            raise CniError(999, f"the lease is for {lease.wish.netns}, not for {wish.netns}")
        lease.open_link(self._prefix).close()
        return lease

    async def release(self, wish: Wish) -> None:
        """Give a lease back, or end its acquisition; unknown ones are no error."""
        acquiring = self._acquiring.get(wish.name)
        if acquiring is not None:
            acquiring.cancel()
        async with self._locks[wish.name]:
            held = self._held.get(wish.name)
            if held is not None:
                await self._give_back(held)
        self._locks.pop(wish.name, None)

    async def collect(
        self, network: str, valid: frozenset[tuple[str, str]] | None, age_s: float
    ) -> None:
        """Give back what a collector takes, but nothing younger than its call."""
        newest = leases.now() - age_s
        for held in list(self._held.values()):
            lease = held.lease
            is_ours = lease.wish.network == network and lease.began < newest
            if is_ours and leases.is_garbage(lease, valid, self._prefix):
                await self.release(lease.wish)

    # --- acquiring -----------------------------------------------------------------------------

    async def _run(self, wish: Wish, work: Coroutine[Any, Any, Lease]) -> Lease:
        task = asyncio.ensure_future(work)
        self._acquiring[wish.name] = task
        try:
            return await task
        except asyncio.CancelledError:
            if task.cancelled():
                text = "a DEL of the same attachment, or the daemon's end, came first"
                raise CniError(11, f"the acquisition was ended: {text}") from None
            task.cancel()
            raise
        finally:
            del self._acquiring[wish.name]

    async def _acquire(self, wish: Wish, limit_s: float, preferred: Address | None) -> Lease:
        began = leases.now()
        limit_s = min(limit_s, self._timing.resend_timeout_s)
        with (
            NetNS.open(self._prefix + wish.netns) as netns,
            PacketSocket.open(netns, wish.ifname, dhcp.CLIENT_PORT) as link,
        ):
            await _bring_up(netns, wish.ifname)
            mac = link.link_mac()
            left_s = limit_s - (leases.now() - began)
            answer = await Exchange(link, wish, mac, self._timing).acquire(left_s, preferred)
            return self._accept(wish, netns.id, link.link_index(), mac, answer)

    async def _adopt(self, wish: Wish, expected: Address | None, limit_s: float) -> Lease:
        """A lease that another daemon held, or this one whose files were lost."""
        if expected is None:
            raise CniError(999, "no lease is known for this attachment")
        with (
            NetNS.open(self._prefix + wish.netns) as netns,
            PacketSocket.open(netns, wish.ifname, dhcp.CLIENT_PORT) as link,
        ):
            mac = link.link_mac()
            wait_s = min(limit_s, self._timing.timeout_s)
            exchange = Exchange(link, wish, mac, self._timing)
            answer = await exchange.reboot(expected, min(wait_s, LATE_S) / 2)
            if answer is None or not answer.is_granted:
                answer = await exchange.acquire(wait_s / 2, expected)
            lease = self._accept(wish, netns.id, link.link_index(), mac, answer)
        if lease.terms.address.address != expected:
            await self._give_back(self._held[wish.name])
            raise CniError(
                999,
                f"no lease is known for this attachment, and the server gives "
                f"{lease.terms.address.address}, not {expected}",
                "delete and add the container again",
            )
        return lease

    def _accept(
        self, wish: Wish, netns_id: tuple[int, int], index: int, mac: bytes, answer: Answer
    ) -> Lease:
        """Hold what an ACK grants.

        Raises:
            CniError: its terms make no sense, or cannot be written down; it is given back.
        """
        try:
            granted = terms.read(answer.message)
        except CniError:
            granted = terms.of_refused(answer.message)
            self._tell_free(self._lease(wish, granted, netns_id, index, mac, answer))
            raise
        lease = self._lease(wish, granted, netns_id, index, mac, answer)
        try:
            self._files.write(lease)
        except StateError:
            self._tell_free(lease)
            raise
        self._hold(lease)
        self._log(f"{wish}: {granted.address} from {granted.server} for {granted.lease_s} s")
        return lease

    @staticmethod
    def _lease(  # noqa: PLR0913 - a lease is what it is
        wish: Wish,
        granted: terms.Terms,
        netns_id: tuple[int, int],
        index: int,
        mac: bytes,
        answer: Answer,
    ) -> Lease:
        return Lease(
            wish=wish,
            terms=granted,
            netns_id=netns_id,
            link_index=index,
            mac=mac,
            server_mac=answer.station,
            began=answer.asked,
        )

    # --- keeping -------------------------------------------------------------------------------

    def _hold(self, lease: Lease) -> None:
        renewal = Renewal(lease, self._files, self._timing, self._prefix, self._log)
        held = Held(renewal)
        self._held[lease.wish.name] = held
        if not lease.expired:
            held.task = asyncio.ensure_future(self._keep(held))

    async def _keep(self, held: Held) -> None:
        try:
            await held.renewal.run()
        except (NetnsError, KernelError) as e:
            self._forget(held, e.msg)
        except StateError as e:
            self._log(f"{held.lease.wish}: {e.msg}")

    # --- giving back ---------------------------------------------------------------------------

    def _tell_free(self, lease: Lease) -> None:
        tell_free(lease, self._prefix, self._log)

    async def _give_back(self, held: Held) -> None:
        await self._end(held)
        if not held.lease.expired:
            self._tell_free(held.lease)
        self._forget(held, "released")

    async def _drop(self, held: Held, why: str) -> None:
        await self._end(held)
        self._forget(held, why)

    @staticmethod
    async def _end(held: Held) -> None:
        task, held.task = held.task, None
        if task is not None and not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _forget(self, held: Held, why: str) -> None:
        name = held.lease.wish.name
        if self._held.get(name) is held:
            del self._held[name]
            self._log(f"{held.lease.wish}: {held.lease.terms.address} forgotten: {why}")
        self._files.discard(name)


def _refuse_living(lease: Lease, prefix: str) -> None:
    """A second ADD must not take over what a running pod has."""
    try:
        lease.open_link(prefix).close()
    except (NetnsError, KernelError) as e:
        if leases.is_gone(e):
            return
        raise
    age_s = leases.now() - lease.began
    raise AlreadyAttached(
        f"{lease.terms.address.address} has been allocated to {lease.wish.container_id}, "
        "duplicate allocation is not allowed",
        f"leased or renewed {age_s:.0f} s ago; DEL this attachment first",
    )


async def _bring_up(netns: NetNS, ifname: str) -> None:
    """Up, and operational at both ends: what is sent before is lost.

    A carrier does not suffice: a bridge at the link's other end drops everything until the kernel
    has told it of that.  It takes a millisecond for a veth and a second at most, so a link that is
    still in an unknown state then has a driver that never tells.

    Source: Documentation/networking/operstates.rst and net/core/link_watch.c of the kernel.
    """
    with Links.open(netns) as links:
        link = links.get(ifname)
        links.set(link, up=True)
        began = time.monotonic()
        while (states := {*links.operstates(link)}) != {"up"}:
            limit_s = _UNKNOWN_S if states <= {"up", "unknown"} else _CARRIER_S
            if time.monotonic() - began >= limit_s:
                break
            await asyncio.sleep(_CARRIER_POLL_S)
