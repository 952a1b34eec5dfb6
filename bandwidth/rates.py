"""From the configuration's bits to the kernel's bytes and ticks: pure arithmetic.

Source: tc-tbf(8); the reference suite's bandwidth plugin, whose kernel state this equals.
"""

from __future__ import annotations

from cni_plugins.frozen import Frozen
from cni_plugins.host.tc import Tbf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

LATENCY_US = 25_000
"""How long a packet may wait in the queue."""
_BITS = 8
_MICROSECONDS = 1_000_000
_BIGGEST_U32 = 2**32 - 1


class Limit(Frozen, kw_only=False):
    """A rate in bits a second with its burst in bits."""

    rate: int
    burst: int

    @property
    def exceeds_a_second(self) -> bool:
        """Whether the burst is more than the rate sends in one second."""
        return self.burst > self.rate

    def clamped(self) -> Limit:
        """The same with a burst of one second at most."""
        return Limit(self.rate, min(self.rate, self.burst))

    def tbf(self, ticks: Callable[[int], int]) -> Tbf:
        """The token bucket.

        Args:
            ticks: microseconds in the scheduler's unit.
        """
        rate, burst = self.rate // _BITS, self.burst // _BITS
        return Tbf(
            rate=rate,
            limit=min(rate * LATENCY_US // _MICROSECONDS + burst, _BIGGEST_U32),
            buffer=min(ticks(burst * _MICROSECONDS // rate), _BIGGEST_U32),
        )


def validate(rate: int, burst: int) -> str:
    """What is wrong with a rate and its burst, in the reference's words; "" for nothing."""
    if rate and not burst:
        return "if rate is set, burst must also be set"
    if burst and not rate:
        return "if burst is set, rate must also be set"
    if burst // _BITS >= _BIGGEST_U32:
        return "burst cannot be more than 4GB"
    if rate and rate < _BITS:
        return f"a rate of {rate} bit/s is less than a byte a second"
    return ""
