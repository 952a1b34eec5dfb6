"""How many children may wait for a connection: a counter that they and the server share.

A child that waits has a seat.  It gives it back when it gets a connection, and after the call it
waits again if a seat is free, else it ends: so there are never more that wait than seats, and
nobody has to be told.

Source: eventfd(2), EFD_SEMAPHORE.
"""

from __future__ import annotations

import mmap
import os

CALLS_PER_CHILD = 250
"""After so many calls a child ends in any case, whatever it may have kept of them."""


class Seats:
    """Seats of one pool of children.

    Args:
        count: how many there are; all are free.
    """

    def __init__(self, count: int) -> None:
        self._fd = os.eventfd(count, os.EFD_SEMAPHORE | os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._are_removed = mmap.mmap(-1, 1)  # shared with those that are forked

    def take(self) -> bool:
        """Sit down; False when no seat is free."""
        if self._are_removed[0]:
            return False
        try:
            os.eventfd_read(self._fd)
        except BlockingIOError:
            return False
        return True

    def give_back(self) -> None:
        """Stand up."""
        os.eventfd_write(self._fd, 1)

    def remove(self) -> None:
        """There are no seats any more: whoever serves a call ends after it."""
        self._are_removed[0] = 1

    def close(self) -> None:
        """Forget them, in this process."""
        os.close(self._fd)
