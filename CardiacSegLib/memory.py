"""Freed memory kept for the next use, where the C library would give it back to the system after every layer.

glibc maps blocks of 32 MB and more anew each time. A network's large activations are such blocks: the system zeroes
every page of them again in every step, which costs as much as the arithmetic.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# malloc.h of glibc
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_KEEPING = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 64 * 2**20}
_AS_BEFORE = {_MMAP_MAX: 65536, _TRIM_THRESHOLD: 64 * 2**20, _TOP_PAD: 128 * 2**10}

_depth = 0


@contextmanager
def freed_memory_kept() -> Iterator[bool]:
    """While it lasts, freed memory stays with the process; afterwards all that is free goes back to the system.

    Does nothing where the C library is not glibc. May be nested.

    Yields:
        whether it has an effect.
    """
    global _depth
    libc = _glibc()
    if libc is None:
        yield False
        return
    if _depth == 0:
        _set(libc, _KEEPING)
    _depth += 1
    try:
        yield True
    finally:
        _depth -= 1
        if _depth == 0:
            _set(libc, _AS_BEFORE)
            libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if all(hasattr(libc, name) for name in ("gnu_get_libc_version", "mallopt", "malloc_trim")) else None


def _set(libc: ctypes.CDLL, options: dict[int, int]) -> None:
    for option, value in options.items():
        libc.mallopt(option, value)
