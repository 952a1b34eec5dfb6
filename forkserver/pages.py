"""The pages that every call writes to, copied before it comes.

A forked child shares the server's memory until it writes, and CPython writes wherever it looks: a
thousand page faults in a call that takes milliseconds.  Children of the warm-up tell which pages
they came to own; those that most of them did a child makes its own while it still waits.

Source: Documentation/admin-guide/mm/pagemap.rst of the Linux kernel; madvise(2),
MADV_POPULATE_WRITE.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Range = tuple[int, int]
"""First address and length in bytes."""
_PAGE = mmap.PAGESIZE
_PRESENT, _EXCLUSIVE = 1 << 63, 1 << 56
_POPULATE_WRITE = 23
_COMMON_SHARE = 0.6
_libc = ctypes.CDLL(None, use_errno=True)
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


def common(calls: Iterable[Callable[[], object]]) -> tuple[Range, ...]:
    """The pages that most calls write to, each made in a child of its own.

    Raises:
        OSError: the kernel does not tell.
    """
    areas = _writable_areas()
    probes = [_written_by(call, areas) for call in calls]
    counts = Counter(page for pages in probes for page in pages)
    needed = _COMMON_SHARE * len(probes)
    return _merge(page for page, count in counts.items() if count >= needed)


def populate(ranges: tuple[Range, ...]) -> None:
    """Make pages this process's own; a kernel that cannot copies them when they are written."""
    for address, length in ranges:
        if _libc.madvise(address, length, _POPULATE_WRITE) != 0:
            return


def _writable_areas() -> list[Range]:
    """Private memory of this process, but the stack."""
    found = []
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            words = line.split()
            if words[1].startswith("rw-p") and words[-1] != "[stack]":
                first, end = (int(number, 16) for number in words[0].split("-"))
                found.append((first, end - first))
    return found


def _written_by(call: Callable[[], object], areas: list[Range]) -> tuple[int, ...]:
    """The pages that a call makes a child's own."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            call()
            pages = _exclusive(areas)
            with open(write_end, "wb") as pipe:
                pipe.write(struct.pack(f"={len(pages)}Q", *pages))
        finally:
            os._exit(0)
    os.close(write_end)
    with open(read_end, "rb") as pipe:
        raw = pipe.read()
    os.waitpid(pid, 0)
    return struct.unpack(f"={len(raw) // 8}Q", raw)


def _exclusive(areas: list[Range]) -> list[int]:
    found = []
    with open("/proc/self/pagemap", "rb", buffering=0) as table:
        for first, length in areas:
            table.seek(first // _PAGE * 8)
            raw = table.read(length // _PAGE * 8)
            for n, (entry,) in enumerate(struct.iter_unpack("=Q", raw)):
                if entry & _PRESENT and entry & _EXCLUSIVE:
                    found.append(first + n * _PAGE)
    return found


def _merge(pages: Iterable[int]) -> tuple[Range, ...]:
    ranges: list[list[int]] = []
    for page in sorted(pages):
        if ranges and page == sum(ranges[-1]):
            ranges[-1][1] += _PAGE
        else:
            ranges.append([page, _PAGE])
    return tuple((first, length) for first, length in ranges)
