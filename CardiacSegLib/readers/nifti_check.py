"""What ITK does not tell about a NIfTI file: that its voxels are cut off, or not finite.

ITK fills a truncated file with zeros and replaces NaN by 0, both without a word; nor does it tell when a full disk cuts
off what it writes.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import numpy as np

from CardiacSegLib.errors import StudyError

_FLOATS = {16: "f4", 64: "f8"}
#: Bits of each type of one real number a voxel.
_BITS = {2: 8, 4: 16, 8: 32, 16: 32, 64: 64, 256: 8, 512: 16, 768: 32, 1024: 64, 1280: 64}
#: Complex, colour, and numbers that numpy does not have everywhere.
_OTHER_TYPES = (32, 128, 1536, 1792, 2048, 2304)
_HEADER_BYTES = 352
#: ITK looks for no voxels before, whatever the header says.
_FIRST_VOXEL = 348
#: Bytes that follow the voxels, at most: more are no padding but a file made to fill the memory.
_MOST_PADDING = 2**20
#: 500 MB is a large cine, with 40 phases of 20 slices of 400 x 400 pixels in single precision.
LARGEST_BYTES = 4 * 2**30


@dataclass(frozen=True)
class _Voxels:
    order: str
    kind: int
    start: int
    count: int
    bytes: int


def check_nifti(path: Path) -> bytes:
    """The unpacked bytes of a file, up to its last voxel.

    Nothing doubtful is left to ITK: some headers make it write where it must not.

    Raises:
        StudyError: it is no NIfTI-1, or damaged, too large, or holds NaN or infinity.
    """
    content, voxels = _content(path)
    if voxels.kind in _FLOATS:
        values = np.frombuffer(content, np.dtype(voxels.order + _FLOATS[voxels.kind]), voxels.count, voxels.start)
        if not np.isfinite(values).all():
            raise StudyError(f"'{path}' holds values that are not finite (NaN or infinity). Export it again.")
    return content


def is_whole_nifti(path: Path) -> bool:
    """Whether a NIfTI file holds as many voxels as its header says."""
    try:
        _content(path)
    except (StudyError, OSError):
        return False
    return True


def _content(path: Path) -> tuple[bytes, _Voxels]:
    """All bytes up to the last voxel, decompressed, and where the voxels are."""
    with path.open("rb") as stream:
        packed = stream.read(2) == b"\x1f\x8b"
        stream.seek(0)
        source = cast("IO[bytes]", gzip.GzipFile(fileobj=stream)) if packed else stream
        try:
            head = source.read(_HEADER_BYTES)
            voxels = _voxels(path, head)
            content = head + source.read(max(0, voxels.bytes - len(head)))
            if len(source.read(_MOST_PADDING)) == _MOST_PADDING:
                raise StudyError(
                    f"'{path}' is larger than its header says ({voxels.bytes} bytes): it is damaged. Export it again."
                )
        except (EOFError, zlib.error, gzip.BadGzipFile, struct.error) as error:
            raise StudyError(f"'{path}' is cut off or damaged. Copy or export it again.") from error
    if len(content) < voxels.bytes:
        raise StudyError(
            f"'{path}' is cut off: its header promises {voxels.bytes} bytes, {len(content)} are there. "
            "Copy or export it again."
        )
    return content, voxels


def _voxels(path: Path, head: bytes) -> _Voxels:
    if head[4:7] == b"n+2":
        raise StudyError(f"'{path}' is of version 2 of NIfTI, which is not read. Convert it to NIfTI-1 or NRRD.")
    order = _byte_order(head)
    if order is None:
        raise StudyError(
            f"'{path}' cannot be read as NIfTI: it is damaged or of another format. Copy or export it again."
        )
    dims = struct.unpack_from(order + "8h", head, 40)
    kind, bits = struct.unpack_from(order + "2h", head, 70)
    (offset,) = struct.unpack_from(order + "f", head, 108)
    _refuse_types(path, dims, kind, bits)
    _refuse_places(path, head, order)
    if not 1 <= dims[0] <= 7 or min(dims[1 : 1 + dims[0]]) < 1 or bits < 1 or not 0 <= offset < 2**31:
        raise StudyError(f"'{path}' has a damaged NIfTI header (size, type or start of the voxels). Export it again.")
    start, count = max(int(offset), _FIRST_VOXEL), math.prod(dims[1 : 1 + dims[0]])
    voxels = _Voxels(order, kind, start, count, start + count * bits // 8)
    refuse_huge(path, voxels.bytes)
    return voxels


def _refuse_types(path: Path, dims: tuple[int, ...], kind: int, bits: int) -> None:
    """ITK's own buffers overflow where a fifth dimension makes vectors of the voxels."""
    if kind in _OTHER_TYPES:
        raise StudyError(
            f"'{path}' has several values per voxel (colour, complex numbers or vectors). A cine MR has one grey value "
            "per voxel; export it without colour."
        )
    if _BITS.get(kind) != bits:
        raise StudyError(f"'{path}' has a damaged NIfTI header (type of the voxels). Export it again.")
    if 1 <= dims[0] <= 7 and max(dims[5 : 1 + dims[0]], default=1) > 1:
        raise StudyError(f"'{path}' has {dims[0]} dimensions, as colour and vectors have; a cine is 3D or 4D.")


def _refuse_places(path: Path, head: bytes, order: str) -> None:
    """ITK looks for ever for the axes of a matrix that holds no numbers."""
    spacing, forms = struct.unpack_from(order + "3f", head, 80), struct.unpack_from(order + "2h", head, 252)
    if min(spacing) < 0:  # ITK would turn the axes round
        raise StudyError(f"'{path}' has a negative voxel spacing: where its voxels lie is not known. Export it again.")
    if not all(s == 0 or 1e-6 < s < 1e6 for s in spacing):
        raise StudyError(f"'{path}' has a voxel spacing that is no number, or none of an image. Export it again.")
    quaternion, offset = struct.unpack_from(order + "3f", head, 256), struct.unpack_from(order + "3f", head, 268)
    rows = struct.unpack_from(order + "12f", head, 280)
    sound = forms[0] <= 0 or (all(abs(q) <= 1.1 for q in quaternion) and all(abs(o) < 1e6 for o in offset))
    if not sound or (forms[1] > 0 and not all(abs(r) < 1e6 for r in rows)):
        raise StudyError(f"'{path}' has a place or axes that are no numbers, or none of an image. Export it again.")


def refuse_huge(path: Path, size: int) -> None:
    """Raise a StudyError if a file says that it holds more bytes of voxels than any cine does."""
    if size > LARGEST_BYTES:
        raise StudyError(
            f"'{path}' says that it holds {size / 2**30:.1f} GiB of voxels; no cine does (more than "
            f"{LARGEST_BYTES // 2**30} GiB are not read). Export it again, or cut it to the heart."
        )


def _byte_order(head: bytes) -> str | None:
    if len(head) < 348 or head[344:347] != b"n+1":
        return None
    return next((order for order in "<>" if struct.unpack_from(order + "i", head)[0] == 348), None)
