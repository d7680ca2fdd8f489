"""How the process of a replica gives memory back to its machine."""

import ctypes
import sys

LARGE_BYTES = 2**20
_MMAP_THRESHOLD = -3  # of glibc's mallopt


def return_large_blocks() -> None:
    """Let the allocator take blocks above `LARGE_BYTES` from the system one by one and return each when it is freed.

    glibc raises that limit to 32 MiB by itself, once such a block was freed, and keeps what is below it, in a heap for
    each thread: pictures of some tens of megapixels, decoded in the threads of a pool, left half a gigabyte behind.
    Without effect where the allocator is another one.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(_MMAP_THRESHOLD, LARGE_BYTES)
