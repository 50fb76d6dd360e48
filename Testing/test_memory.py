"""Freed memory is kept while a network works, and given back afterwards."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from CardiacSegLib.memory import freed_memory_kept

REPOSITORY = Path(__file__).resolve().parents[1]

with freed_memory_kept() as _has_effect:
    pass
needs_glibc = pytest.mark.skipif(not _has_effect, reason="the C library is not glibc")

# 100 times a block of 100 MB, each page of it written; then what is resident, in MB.
_BLOCKS = """
import ctypes, resource
from contextlib import nullcontext
from CardiacSegLib.memory import freed_memory_kept
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def fill():
    block = libc.malloc(100_000_000)
    ctypes.memset(block, 1, 100_000_000)
    libc.free(block)
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() / 1e6
with KEPT:
    fill()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        fill()
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    inside = resident()
print(faults, inside, resident())
"""


def _run(kept: str) -> tuple[float, float, float]:
    command = [sys.executable, "-c", _BLOCKS.replace("KEPT", kept)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    faults, inside, after = map(float, done.stdout.split())
    return faults, inside, after


@needs_glibc
def test_a_large_block_is_not_fetched_anew_from_the_system_and_goes_back_in_the_end():
    pages = 100_000_000 / resource.getpagesize()
    faults, inside, after = _run("freed_memory_kept()")
    assert faults < 0.1 * pages
    assert inside > 100 and after < inside - 80
    # What it is for: without it every block costs all its pages again.
    faults, _, _ = _run("nullcontext()")
    assert faults > 5 * pages


def test_it_may_be_nested_and_survives_an_error():
    with pytest.raises(ValueError), freed_memory_kept() as outer, freed_memory_kept() as inner:
        assert inner == outer
        raise ValueError
    with freed_memory_kept() as again:
        assert again == outer
