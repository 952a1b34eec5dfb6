"""Reading a file whole, in the four system calls that takes.

The objects that ``open`` makes around a descriptor ask for its size, kind and position, and take
longer than the reading of most files here.
"""

from __future__ import annotations

import os

_CHUNK = 1 << 16


def read(path: str) -> bytes:
    """The content of a file, of the kernel's too, whose size is not known before.

    Raises:
        OSError: it cannot be read.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        chunks = []
        while chunk := os.read(fd, _CHUNK):
            chunks.append(chunk)
    finally:
        os.close(fd)
    return b"".join(chunks)
