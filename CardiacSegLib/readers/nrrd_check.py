"""What a NRRD header must not say: that the voxels lie in another file, or more of them than any cine has."""

from __future__ import annotations

import math
import re
from pathlib import Path

from CardiacSegLib.errors import StudyError
from CardiacSegLib.readers.nifti_check import refuse_huge

_LONGEST_HEADER = 2**20
_WIDEST = 8  # bytes of a double


def check_nrrd(path: Path) -> None:
    """Raise a StudyError if a NRRD file names another file (the reader would open it, whatever it is) or is huge.

    Files with another header are left to the reader.
    """
    with path.open("rb") as stream:
        header = stream.read(_LONGEST_HEADER)
    if not header.startswith(b"NRRD"):
        return
    for line in header.splitlines():
        if not line.strip():
            return
        name, colon, value = line.partition(b":")
        field = re.sub(rb"[ _]", b"", name).lower()
        if colon and field == b"datafile":
            raise StudyError(
                f"'{path}' has its voxels in another file (a detached header). Give one file that holds all: export it "
                "as .nrrd or .nii.gz."
            )
        if colon and field == b"sizes":
            sizes = [int(n) for n in value.split() if re.fullmatch(rb"[0-9]{1,18}", n)]
            refuse_huge(path, math.prod(sizes) * _WIDEST if max(sizes, default=0) > 2**16 else math.prod(sizes))
