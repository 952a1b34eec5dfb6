"""How many children may wait."""

from __future__ import annotations

import os

import pytest

from forkserver.seats import Seats


@pytest.fixture
def seats():
    """Two of them."""
    seats = Seats(2)
    yield seats
    seats.close()


def in_child(take: Seats) -> bool:
    """Whether a forked process gets a seat."""
    pid = os.fork()
    if pid == 0:
        os._exit(0 if take.take() else 1)
    return os.waitpid(pid, 0)[1] == 0


def test_there_are_as_many_as_were_made(seats):
    assert [seats.take() for _ in range(3)] == [True, True, False]
    seats.give_back()
    assert [seats.take() for _ in range(2)] == [True, False]


def test_processes_share_them(seats):
    assert in_child(seats)
    assert in_child(seats)
    assert not in_child(seats)
    assert not seats.take()
    seats.give_back()
    assert in_child(seats)


def test_none_is_left_when_they_were_removed_also_of_those_given_back(seats):
    assert seats.take()
    seats.remove()
    seats.give_back()
    assert not seats.take()
    assert not in_child(seats)
