"""What ITK does not tell about a NIfTI file: that its voxels are cut off, or not finite.

ITK fills a truncated file with zeros and replaces NaN by 0, both without a word.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from CardiacSegLib.errors import StudyError

_FLOATS = {16: "f4", 64: "f8"}


def check_nifti(path: Path) -> None:
    """Raise a StudyError if a NIfTI-1 file is shorter than its header says, or holds NaN or infinity.

    Files with another header (NIfTI-2, Analyze, not NIfTI at all) are left to the reader.
    """
    content = _content(path)
    order = _byte_order(content)
    if order is None:
        return
    dims = struct.unpack_from(order + "8h", content, 40)
    kind, bits = struct.unpack_from(order + "2h", content, 70)
    (offset,) = struct.unpack_from(order + "f", content, 108)
    if not 1 <= dims[0] <= 7 or min(dims[1 : 1 + dims[0]]) < 1 or bits < 1 or not 0 <= offset < 2**31:
        raise StudyError(f"'{path}' has a damaged NIfTI header (size, type or start of the voxels). Export it again.")
    start, count = int(offset), math.prod(dims[1 : 1 + dims[0]])
    expected = start + count * bits // 8
    if len(content) < expected:
        raise StudyError(
            f"'{path}' is cut off: its header promises {expected} bytes, {len(content)} are there. "
            "Copy or export it again."
        )
    if kind in _FLOATS:
        values = np.frombuffer(content, np.dtype(order + _FLOATS[kind]), count, start)
        if not np.isfinite(values).all():
            raise StudyError(f"'{path}' holds values that are not finite (NaN or infinity). Export it again.")


def _content(path: Path) -> bytes:
    raw = path.read_bytes()
    if raw[:2] != b"\x1f\x8b":
        return raw
    try:
        return gzip.decompress(raw)
    except (EOFError, zlib.error, gzip.BadGzipFile, struct.error) as error:
        raise StudyError(f"'{path}' is cut off or damaged. Copy or export it again.") from error


def _byte_order(content: bytes) -> str | None:
    if len(content) < 348 or content[344:347] != b"n+1":
        return None
    for order in ("<", ">"):
        if struct.unpack_from(order + "i", content)[0] == 348:
            return order
    return None
