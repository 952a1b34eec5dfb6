"""A directory many processes share: atomic writes, locks with a deadline."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from cni_plugins.deadline import Deadline
from cni_plugins.errors import Busy, Interrupted, StateError
from cni_plugins.host.store import Store

if TYPE_CHECKING:
    from pathlib import Path

LONG = 30.0


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store whose directory does not exist yet."""
    return Store(f"{tmp_path}/a/b")


def mode_of(store: Store, name: str) -> int:
    """Permissions of a file."""
    return stat.S_IMODE(os.stat(store.path(name)).st_mode)


def test_nothing_is_there_at_first(store: Store) -> None:
    """Reading, listing and discarding say so and make nothing."""
    assert store.read("x") is None
    assert store.names() == ()
    assert store.discard("x") is False
    store.discard_directory("x")
    assert not os.path.exists(store.root)


@pytest.mark.parametrize("name", ["x", "net/x", "net/att/x.json"])
def test_create(store: Store, name: str) -> None:
    """With all its content, its directories and for its owner only."""
    assert store.create(name, b"content")
    assert store.read(name) == b"content"
    assert mode_of(store, name) == 0o600
    assert store.create(name, b"other") is False
    assert store.read(name) == b"content"
    assert store.discard(name) is True
    assert store.read(name) is None


@pytest.mark.parametrize("durable", [False, True])
def test_replace(store: Store, *, durable: bool) -> None:
    """Whether it was there or not."""
    store.replace("net/x", b"one", durable=durable)
    store.replace("net/x", b"two", mode=0o644, durable=durable)
    assert store.read("net/x") == b"two"
    assert mode_of(store, "net/x") == 0o644


def test_a_directory_that_appears_later(store: Store) -> None:
    """The root is there already, the file's own directory is not."""
    store.create("first", b"")
    store.replace("net/one/x", b"1")
    assert store.create("net/two/x", b"2")
    assert (store.read("net/one/x"), store.read("net/two/x")) == (b"1", b"2")


def test_no_temporary_file_is_left(store: Store) -> None:
    """Neither after success nor after failure."""
    store.create("x", b"1")
    store.create("x", b"2")
    store.replace("x", b"3")
    os.mkdir(store.path("directory"))
    with pytest.raises(StateError):
        store.replace("directory", b"4")
    assert store.names() == ("directory", "x")


def test_scratch_is_where_files_are_written(tmp_path: Path) -> None:
    """Somebody else lists the root."""
    store = Store(f"{tmp_path}/root", scratch=f"{tmp_path}/scratch")
    store.create("x", b"1")
    assert store.names() == ("x",)
    assert os.listdir(tmp_path / "scratch") == []


def test_discarding_a_directory(store: Store) -> None:
    """Only when it is empty."""
    store.create("net/x", b"")
    store.discard_directory("net")
    assert store.names() == ("net",)
    store.discard("net/x")
    store.discard_directory("net")
    assert store.names() == ()


def test_what_the_file_system_refuses(store: Store, tmp_path: Path) -> None:
    """The path and the reason are named."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").mkdir()
    os.mkdir(store.path("d"))
    for attempt in (
        lambda: store.read("d"),
        lambda: store.discard("d"),
        lambda: store.replace("d", b""),
    ):
        with pytest.raises(StateError) as caught:
            attempt()
        assert store.path("d") in caught.value.msg
        assert caught.value.code == 999
    with pytest.raises(StateError, match="Not a directory"):
        Store(f"{sys.executable}/x").create("y", b"")


def test_many_writers_lose_nothing(store: Store) -> None:
    """Also while the directory that they share comes and goes."""
    faults: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for round_ in range(40):
                name = f"net/{number}-{round_}"
                assert store.create(name, b"x")
                store.replace(name, b"y")
                assert store.read(name) == b"y"
                assert store.discard(name)
                store.discard_directory("net")
        except BaseException as fault:  # noqa: BLE001 - told by the test
            faults.append(fault)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert store.names() == ()


def test_one_creator_wins(store: Store) -> None:
    """Of many at once."""
    won: list[int] = []
    barrier = threading.Barrier(8)

    def race(number: int) -> None:
        barrier.wait()
        if store.create("x", str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [str(number).encode() for number in won] == [store.read("x")]


# --- locks --------------------------------------------------------------------------------------


def test_a_lock_excludes_others(store: Store) -> None:
    """Until it is let go; the file stays, empty."""
    with store.locked("net/lock", Deadline.after(LONG)):
        with pytest.raises(Busy), store.locked("net/lock", Deadline(0.0)):
            pytest.fail("both have it")
        with store.locked("net/other", Deadline(0.0)):
            pass
    with store.locked("net/lock", Deadline(0.0)):
        pass
    assert store.read("net/lock") == b""


def test_a_free_lock_is_had_even_without_time(store: Store) -> None:
    """The first attempt is never too late."""
    with store.locked("lock", Deadline(0.0)):
        pass


def test_busy_names_the_holder(store: Store) -> None:
    """Code 11, with its pid and name."""
    with (
        store.locked("lock", Deadline.after(LONG)),
        pytest.raises(Busy) as caught,
        store.locked("lock", Deadline(0.0)),
    ):
        pytest.fail("both have it")
    assert caught.value.code == 11
    assert store.path("lock") in caught.value.msg
    assert f"pid {os.getpid()} (" in caught.value.msg


def test_the_deadline_is_kept(store: Store) -> None:
    """Neither much earlier nor much later."""
    with store.locked("lock", Deadline.after(LONG)):
        begin = time.monotonic()
        with pytest.raises(Busy), store.locked("lock", Deadline(begin + 0.1)):
            pytest.fail("both have it")
        assert 0.09 < time.monotonic() - begin < 2


def test_a_lock_is_freed_by_its_holder_s_death(store: Store) -> None:
    """The kernel does it."""
    store.create("lock", b"")
    code = (
        "import fcntl, os, sys\n"
        "fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-S", "-c", code, store.path("lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(Busy, match=f"pid {holder.pid}"), store.locked("lock", Deadline(0.0)):
            pytest.fail("both have it")
    finally:
        holder.kill()
        holder.communicate()
    with store.locked("lock", Deadline.after(LONG)):
        pass


def test_a_lock_whose_file_was_removed_is_taken_anew(store: Store) -> None:
    """Two holders of different files of one name would both think they are alone."""
    order: list[str] = []

    def second() -> None:
        with store.locked("net/lock", Deadline.after(LONG)):
            order.append("second")
            with pytest.raises(Busy), store.locked("net/lock", Deadline(0.0)):
                order.append("both have it")

    with store.locked("net/lock", Deadline.after(LONG)):
        waiter = threading.Thread(target=second)
        waiter.start()
        time.sleep(0.05)
        order.append("first")
        store.discard("net/lock")
        store.discard_directory("net")
    waiter.join()
    assert order == ["first", "second"]


def test_waiting_for_a_lock_hears_an_interruption(store: Store) -> None:
    """Soon."""
    deadline = Deadline.after(LONG)
    with store.locked("lock", Deadline.after(LONG)):
        threading.Timer(0.05, deadline.interrupt, ("SIGTERM",)).start()
        begin = time.monotonic()
        with pytest.raises(Interrupted), store.locked("lock", deadline):
            pytest.fail("both have it")
        assert time.monotonic() - begin < 2
