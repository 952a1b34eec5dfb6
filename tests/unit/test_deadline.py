"""How long a call may take, its reserve for rollback, and interruptions."""

from __future__ import annotations

import time

import pytest

from cni_plugins.deadline import ROLLBACK_SHARE, Deadline
from cni_plugins.errors import Interrupted


def test_a_share_is_kept_back_for_rollback() -> None:
    """Until the rollback begins."""
    deadline = Deadline.after(60)
    offered = 60 * (1 - ROLLBACK_SHARE)
    assert offered - 1 < deadline.remaining() <= offered
    deadline.release()
    assert 59 < deadline.remaining() <= 60


def test_it_never_falls_below_zero() -> None:
    """Not even long afterwards."""
    assert Deadline(0.0).remaining() == 0.0
    assert Deadline(time.monotonic() + 1, reserve_s=5).remaining() == 0.0


def test_a_step_ends_before_the_interruption_is_heard() -> None:
    """The next look at the deadline raises it, and so does every further one."""
    deadline = Deadline.after(60)
    deadline.check()
    deadline.interrupt("SIGTERM")
    for look in (deadline.check, deadline.remaining, deadline.check):
        with pytest.raises(Interrupted, match="^SIGTERM$"):
            look()


def test_waiting_is_interrupted_at_once() -> None:
    """From the signal handler itself."""
    deadline = Deadline.after(60)
    with pytest.raises(Interrupted, match="^SIGINT$"), deadline.waiting():
        deadline.interrupt("SIGINT")


def test_waiting_does_not_begin_after_an_interruption() -> None:
    """It would not be heard in time."""
    deadline = Deadline.after(60)
    deadline.interrupt("SIGINT")
    with pytest.raises(Interrupted), deadline.waiting():
        pytest.fail("the block was entered")


def test_after_waiting_an_interruption_waits_for_the_next_step() -> None:
    """As before it."""
    deadline = Deadline.after(60)
    with deadline.waiting():
        pass
    deadline.interrupt("SIGTERM")
    with pytest.raises(Interrupted):
        deadline.check()


def test_a_rollback_hears_no_interruption() -> None:
    """Neither the one that began it nor any further one."""
    deadline = Deadline.after(60)
    deadline.interrupt("SIGTERM")
    deadline.release()
    deadline.check()
    deadline.interrupt("SIGTERM")
    assert deadline.remaining() > 0
    with deadline.waiting():
        deadline.interrupt("SIGTERM")
