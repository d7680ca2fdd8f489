"""How processes give memory back to their machine: by their environment those of Ray, and more so our replicas."""

import ctypes
import sys
from collections.abc import Mapping
from types import MappingProxyType

# Ray's processes have tens of threads, and glibc gives each a heap of its own, up to eight for a core, which keep what
# was freed in them. It reads this when a process starts, so each node's environment has it before its Ray starts.
ENVIRONMENT: Mapping[str, str] = MappingProxyType({"MALLOC_ARENA_MAX": "2"})
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
