"""Keeping one lease: renewing, rebinding, and what becomes of it when nobody renews it.

Source: RFC 2131, sections 4.4.5 and 3.2.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

from cni_plugins.errors import CniError, KernelError, NetnsError, StateError
from cni_plugins.frozen import replace
from dhcp_daemon.exchange import Answer, Exchange, Timing
from dhcp_ipam import leases, terms

if TYPE_CHECKING:
    from collections.abc import Callable

    from dhcp_ipam.leases import Lease, LeaseFiles

LATE_S = 20.0
"""How long a lease that ran out while no daemon ran is tried for again, before it is given up."""
_LONGEST_SLEEP_S = 60.0
"""A sleep of the machine does not count on the event loop's clock: look at the other one often."""
_SHORTEST_WAIT_S = 1.0
_FUZZ = 0.05


class Renewal:
    """Keeps a lease; while it rests nothing of the pod is open, which would keep it alive.

    Args:
        lease: the lease at first; the attribute is what it is now.
        files: where it is kept.
        timing: how patient to be with servers.
        prefix: where the daemon sees the host's file system.
        log: takes one line.
    """

    def __init__(
        self,
        lease: Lease,
        files: LeaseFiles,
        timing: Timing,
        prefix: str,
        log: Callable[[str], None],
    ) -> None:
        self.lease = lease
        self._files = files
        self._timing = timing
        self._prefix = prefix
        self._log = log

    async def run(self) -> None:
        """Renew the lease again and again, until it expires.

        Raises:
            NetnsError, KernelError: the pod or its link is gone.
            StateError: the end of the lease cannot be written down.
        """
        self._refuse_gone()
        while await self._extend():
            pass

    async def _extend(self) -> bool:
        """Sleep until the lease is to be renewed, and renew it; False when it ended.

        Raises:
            NetnsError, KernelError: the pod or its link is gone.
        """
        lease = self.lease
        is_late = leases.now() >= lease.ends_at
        until = leases.now() + LATE_S if is_late else lease.ends_at
        renew_at = lease.renew_at - random.uniform(0, _FUZZ) * lease.terms.renew_s  # noqa: S311
        await _sleep_until(renew_at)
        is_refused = False
        while leases.now() < until:
            began = leases.now()
            answer = await self._try(lease, is_refused=is_refused)
            if answer is not None and answer.is_granted:
                self._renewed(answer)
                return True
            if answer is not None:
                self._log(f"{lease.wish}: the server refused to renew {lease.terms.address}")
                is_refused = True
            limit = lease.rebind_at if began < lease.rebind_at else until
            pause_s = max(_SHORTEST_WAIT_S, (limit - began) / 2)
            await _sleep_until(min(began + min(pause_s, self._timing.resend_max_s), limit))
        self._expire()
        return False

    def _refuse_gone(self) -> None:
        try:
            self.lease.open_link(self._prefix).close()
        except (NetnsError, KernelError) as e:
            self._complain(e)

    def _complain(self, fault: NetnsError | KernelError) -> None:
        """A link that is not there ends the lease; anything else may pass."""
        if leases.is_gone(fault):
            raise fault
        self._log(f"{self.lease.wish}: {fault.msg}")

    async def _try(self, lease: Lease, *, is_refused: bool) -> Answer | None:
        try:
            return await self._ask(lease, is_refused=is_refused)
        except (NetnsError, KernelError) as e:
            self._complain(e)
            return None

    async def _ask(self, lease: Lease, *, is_refused: bool) -> Answer | None:
        """One try to go on with a lease."""
        now = leases.now()
        limit = lease.rebind_at if now < lease.rebind_at else lease.ends_at
        left_s = limit - now if now < limit else _SHORTEST_WAIT_S
        wait_s = min(self._timing.timeout_s, max(_SHORTEST_WAIT_S, left_s / 2), left_s)
        address = lease.terms.address.address
        with lease.open_link(self._prefix) as link:
            exchange = Exchange(link, lease.wish, lease.mac, self._timing)
            if is_refused:
                return await self._start_again(exchange, lease, wait_s)
            if now >= lease.ends_at:
                return await exchange.reboot(address, wait_s)
            if now >= lease.rebind_at:
                return await exchange.rebind(lease, wait_s)
            return await exchange.renew(lease, wait_s)

    async def _start_again(self, exchange: Exchange, lease: Lease, wait_s: float) -> Answer | None:
        """After a refusal: ask for the same address as if for the first time."""
        address = lease.terms.address.address
        try:
            answer = await exchange.acquire(wait_s, address)
        except (KernelError, NetnsError):
            raise
        except CniError:
            return None
        if answer.message.yiaddr == address:
            return answer
        self._log(f"{lease.wish}: the server gives {answer.message.yiaddr}, not {address}")
        other = terms.of_refused(answer.message)
        refused = replace(lease, terms=other, server_mac=answer.station)
        tell_free(refused, self._prefix, self._log)
        return None

    def _renewed(self, answer: Answer) -> None:
        """The lease goes on; what the pod was given at its ADD stays as it is."""
        old = self.lease
        try:
            granted = terms.read(answer.message)
        except CniError as e:
            self._log(f"{old.wish}: {e.msg}; the terms stay as they were")
            granted = old.terms
        if (granted.address, granted.gateway, granted.routes) != (
            old.terms.address,
            old.terms.gateway,
            old.terms.routes,
        ):
            self._log(f"{old.wish}: the server changed mask, gateway or routes; they stay")
        granted = replace(
            granted,
            address=old.terms.address,
            gateway=old.terms.gateway,
            routes=old.terms.routes,
            dns=old.terms.dns,
        )
        self.lease = replace(old, terms=granted, server_mac=answer.station, began=answer.asked)
        try:
            self._files.write(self.lease)
        except StateError as e:
            self._log(f"{old.wish}: renewed, but {e.msg}")

    def _expire(self) -> None:
        """Nobody renewed it: the address must not be used any more."""
        lease = replace(self.lease, expired=True)
        with lease.open_link(self._prefix) as link:
            link.set_link_down()
        self.lease = lease
        self._log(f"{lease.wish}: {lease.terms.address} expired, {lease.wish.ifname} is set down")
        self._files.write(lease)


def tell_free(lease: Lease, prefix: str, log: Callable[[str], None]) -> None:
    """Send a RELEASE if there is still a link to send it through."""
    try:
        leases.release(lease, random.getrandbits(32), prefix)
    except (NetnsError, KernelError) as e:
        log(f"{lease.wish}: {lease.terms.address} was not released: {e.msg}")


async def _sleep_until(moment: float) -> None:
    """Until a moment of :func:`leases.now`'s clock, also when the machine sleeps meanwhile."""
    while (left_s := moment - leases.now()) > 0:  # noqa: ASYNC110 - it is a clock
        await asyncio.sleep(min(left_s, _LONGEST_SLEEP_S))
