"""bandwidth's arithmetic: golden values of the reference, and the edges."""

from __future__ import annotations

import pytest

from bandwidth.rates import Limit, validate
from cni_plugins.host.tc import Tbf

statement = pytest.mark.statement


def ticks(microseconds: int) -> int:
    """The usual scheduler: 64 ns a tick."""
    return microseconds * 1000 // 64


@statement("BW01")
@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (Limit(8, 8), Tbf(rate=1, limit=1, buffer=15_625_000)),
        (Limit(16, 8), Tbf(rate=2, limit=1, buffer=7_812_500)),
        (Limit(8000, 80), Tbf(rate=1000, limit=35, buffer=156_250)),
        (Limit(10_000_000, 2_000_000), Tbf(rate=1_250_000, limit=281_250, buffer=3_125_000)),
        (Limit(2**35, 8000), Tbf(rate=2**32, limit=107_375_182, buffer=0)),
        (Limit(9, 15), Tbf(rate=1, limit=1, buffer=15_625_000)),
    ],
)
def test_bits_become_bytes_and_ticks(limit, expected):
    assert limit.tbf(ticks) == expected


def test_what_32_bits_cannot_hold_is_the_most_they_can():
    found = Limit(8, 8 * (2**32 - 2)).tbf(ticks)
    assert (found.buffer, found.limit) == (2**32 - 1, 2**32 - 2)
    assert Limit(2**63, 8).tbf(ticks).limit == 2**32 - 1


@statement("BW02")
@pytest.mark.parametrize(
    ("rate", "burst", "problem"),
    [
        (0, 0, ""),
        (8, 8, ""),
        (0, 1, "if burst is set, rate must also be set"),
        (1, 0, "if rate is set, burst must also be set"),
        (8, 8 * 2**32 - 16, ""),
        (8, 8 * 2**32 - 8, "burst cannot be more than 4GB"),
        (8, 8 * 2**32, "burst cannot be more than 4GB"),
        (7, 8, "a rate of 7 bit/s is less than a byte a second"),
        (2**64 - 1, 8, ""),
    ],
)
def test_what_is_wrong_with_a_rate_and_its_burst(rate, burst, problem):
    assert validate(rate, burst) == problem


def test_a_burst_is_clamped_to_a_second():
    assert Limit(100, 4_000_000_000).clamped() == Limit(100, 100)
    assert Limit(100, 50).clamped() == Limit(100, 50)
