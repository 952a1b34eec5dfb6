"""Pages that a child makes its own."""

from __future__ import annotations

import ctypes
import mmap

from forkserver import pages


def test_the_pages_that_calls_write_to_are_found_and_can_be_populated():
    area = mmap.mmap(-1, 64 * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    area[:] = b"x" * len(area)
    view = (ctypes.c_char * len(area)).from_buffer(area)
    first = ctypes.addressof(view)
    wanted = {first + n * mmap.PAGESIZE for n in range(8, 40)}

    def write() -> None:
        for page in range(8, 40):
            area[page * mmap.PAGESIZE] = 1

    found = pages.common([write, write, lambda: None])
    mine = {
        address
        for start, length in found
        for address in range(start, start + length, mmap.PAGESIZE)
    } & {first + n * mmap.PAGESIZE for n in range(64)}
    assert mine == wanted
    pages.populate(found)
    assert area[8 * mmap.PAGESIZE] == ord("x")
    del view
    area.close()
