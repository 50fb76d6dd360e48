"""NIfTI and NRRD: one frame, a whole cine, an ED/ES pair, and label maps."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from CardiacSegLib.errors import StudyError
from CardiacSegLib.files import plain_path
from CardiacSegLib.orientation import ordered, stored_grid
from CardiacSegLib.readers.nifti_check import check_nifti
from CardiacSegLib.readers.nrrd_check import check_nrrd
from CardiacSegLib.study import CineStudy, Geometry, LabelMap

if TYPE_CHECKING:
    import SimpleITK as sitk

SUFFIXES = (".nii.gz", ".nii", ".nrrd")

#: A short-axis stack has thicker slices than pixels; the other way round the axes are probably permuted.
_MIN_SLICE_TO_PIXEL = 0.8
_PLAUSIBLE_PIXEL_MM = (0.4, 3.0)
_MIN_SLICE_MM = 3.0
_MOST_COLOURS = 4
_FEW_SLICES = 4
_LONGEST_STACK_MM = 300.0
_LABEL_MAP_VALUES = 8
#: Of a packed file its unpacked bytes are kept beside the image while that is read.
_MOST_IN_MEMORY = 256 * 2**20


def is_image_file(path: Path) -> bool:
    """Whether the name ends as one of the image files that are read here."""
    return path.name.lower().endswith(SUFFIXES)


def stem_of(path: Path) -> str:
    """The file's name without ``.nii.gz``, ``.nii`` or ``.nrrd``."""
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.name


def load_image(path: Path) -> sitk.Image:
    """Read a file with SimpleITK, which takes the spacing from ``pixdim`` where NIfTI's sform misleads.

    Raises:
        StudyError: the file is missing, empty, cut off or of another format.
    """
    import SimpleITK as sitk

    if not path.exists():
        raise StudyError(f"There is no file '{path}'.")
    if path.is_dir():
        raise StudyError(f"'{path}' is a folder, not an image file.")
    if path.stat().st_size == 0:
        raise StudyError(f"'{path}' is empty (0 bytes). Copy or export it again.")
    nrrd = path.name.lower().endswith(".nrrd")
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        # By the name alone: of the many formats that ITK guesses some lead to other files.
        with _checked_file(path, nrrd) as file:
            return sitk.ReadImage(str(file), imageIO="NrrdImageIO" if nrrd else "NiftiImageIO")
    except OSError as error:
        raise StudyError(f"'{path}' cannot be read: {error.strerror or 'damaged'}. Check the permission.") from error
    except (RuntimeError, MemoryError) as error:
        raise StudyError(
            f"'{path}' cannot be read as NIfTI or NRRD: it is cut off, damaged or of another format. "
            f"Copy or export it again. (Reader: {_last_line(error)})"
        ) from error


@contextmanager
def _checked_file(path: Path, nrrd: bool) -> Iterator[Path]:
    """A way to a file for ITK, after what ITK would not tell; of a packed NIfTI one to its unpacked bytes, if possible.

    ITK takes as long to unpack as the check does.
    """
    with ExitStack() as stack:
        way = None
        if nrrd:
            check_nrrd(path)
        else:
            way = _in_memory(path, check_nifti(path), stack)
        yield way or stack.enter_context(_alone(stack.enter_context(plain_path(path))))


def _in_memory(path: Path, content: bytes, stack: ExitStack) -> Path | None:
    """The bytes of a packed NIfTI file as a file that lasts as long as the stack, and that no disk sees (Linux)."""
    packed = path.name.lower().endswith(".gz") and len(content) <= _MOST_IN_MEMORY
    if not packed or not hasattr(os, "memfd_create"):
        return None
    try:
        way = Path(stack.enter_context(tempfile.TemporaryDirectory()), "file.nii")
        memory = stack.enter_context(os.fdopen(os.memfd_create("cardiacseg"), "wb"))
        memory.write(content)
        memory.flush()
        way.symlink_to(f"/proc/self/fd/{memory.fileno()}")
        return way if way.exists() else None
    except OSError:
        return None


@contextmanager
def _alone(path: Path) -> Iterator[Path]:
    """A way to a packed NIfTI file beside which none lies unpacked.

    Of ``cine.nii.gz`` ITK takes the header alone, and the voxels of a file or folder ``cine.nii`` if there is one
    (github.com/InsightSoftwareConsortium/ITK/issues/2243).
    """
    if not path.name.lower().endswith(".nii.gz") or not path.with_suffix("").exists():
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        way = Path(folder, "file.nii.gz")
        try:
            way.symlink_to(path.absolute())
        except OSError:  # Windows lets few users make links
            shutil.copyfile(path, way)
        yield way


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:160] if lines else type(error).__name__


def _checked_array(path: Path, image: sitk.Image) -> np.ndarray:
    import SimpleITK as sitk

    components = image.GetNumberOfComponentsPerPixel()
    if components > _MOST_COLOURS and image.GetDimension() == 3 and path.name.lower().endswith(".nrrd"):
        # A sequence as 3D Slicer writes it (.seq.nrrd): the frames are the values of each voxel.
        array = np.moveaxis(sitk.GetArrayFromImage(image), -1, 0)
    elif components == 1:
        array = sitk.GetArrayFromImage(image)
    else:
        raise StudyError(
            f"'{path}' has {image.GetNumberOfComponentsPerPixel()} values per voxel (colour or vectors). "
            "A cine MR has one grey value per voxel; export it without colour."
        )
    if image.GetDimension() not in (3, 4):
        raise StudyError(f"'{path}' has {image.GetDimension()} dimensions; a cine is 3D (one frame) or 4D (frames).")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise StudyError(f"'{path}' holds values that are not finite (NaN or infinity). Export it again.")
    return array


def grid_doubts(geometry: Geometry) -> list[str]:
    """What is unusual about the grid of a short-axis stack, as sentences."""
    doubts = []
    if geometry.spacing[0] < _MIN_SLICE_TO_PIXEL * min(geometry.spacing[1:]):
        doubts.append(
            f"The distance between slices ({geometry.spacing[0]:.2f} mm) is smaller than the pixels "
            f"({geometry.spacing[2]:.2f} mm): the third axis may not be the short-axis stack's."
        )
    low, high = _PLAUSIBLE_PIXEL_MM
    if not all(low <= s <= high for s in geometry.spacing[1:]):
        doubts.append(
            f"Pixels of {geometry.spacing[1]:.2f} x {geometry.spacing[2]:.2f} mm are unusual for cine MR: if the "
            "spacing is wrong, so are all volumes."
        )
    if geometry.spacing[0] < _MIN_SLICE_MM:
        doubts.append(
            f"A slice distance of {geometry.spacing[0]:.2f} mm is unusual for a short-axis stack: if the spacing is "
            "wrong, so are all volumes."
        )
    if geometry.shape[0] < _FEW_SLICES:
        count = "one slice" if geometry.shape[0] == 1 else f"{geometry.shape[0]} slices"
        doubts.append(f"The stack has only {count}: the volumes are those of a part of the heart.")
    length = geometry.shape[0] * geometry.spacing[0]
    if length > _LONGEST_STACK_MM:
        doubts.append(
            f"The stack is {length:.0f} mm long, longer than any heart: if the spacing is wrong, so are all volumes."
        )
    return doubts


def read_image_file(path: Path) -> CineStudy:
    """A 3D file as a study of one frame, a 4D file as a cine; image ``(t, z, y, x)``, geometry in LPS.

    The axes are in the library's order (:mod:`CardiacSegLib.orientation`), whatever the file's is.

    Raises:
        StudyError: the file cannot be read, or is not a grey-value image of 3 or 4 dimensions.
    """
    image = load_image(path)
    array = _checked_array(path, image)
    frames = array[np.newaxis] if array.ndim == 3 else array
    try:
        stored = CineStudy(frames, Geometry.from_sitk(image), name=stem_of(path), source=str(path), kind="image")
    except StudyError as error:
        raise StudyError(f"'{path}': {error}") from error
    study = ordered(stored)
    warnings = grid_doubts(study.geometry)
    if np.ptp(frames) == 0:
        warnings.append("The image is constant: every voxel has the same value.")
    elif (values := _few_values(frames)) is not None:
        warnings.append(f"The image holds only {values} different values, as a label map does: is it an image?")
    if image.GetDimension() == 4 and image.GetSpacing()[3] > 0:
        study = replace(study, times_ms=_times_ms(image, study.frames))
    return study.with_warnings(*warnings)


def _few_values(frames: np.ndarray) -> int | None:
    """The number of different values where it is no more than a label map's."""
    if len(np.unique(frames.ravel()[:: max(1, frames.size // 10_000)])) > _LABEL_MAP_VALUES:
        return None
    values = len(np.unique(frames))
    return values if values <= _LABEL_MAP_VALUES else None


def _times_ms(image: sitk.Image, frames: int) -> tuple[float, ...] | None:
    """Phase times of a 4D file where its time step is one of a heart cycle, else ``None``.

    ITK gives the step in seconds where the header states a unit; many files state 1 for "unknown".
    """
    step = float(image.GetSpacing()[3])
    for ms in (step * 1000.0, step):
        if 5.0 <= ms <= 200.0:
            return tuple(ms * i for i in range(frames))
    return None


def read_pair(ed_path: Path, es_path: Path) -> CineStudy:
    """ED and ES in two 3D files on one grid: a study of two frames, ED first.

    Raises:
        StudyError: a file is not 3D, or the two lie on different grids.
    """
    ed, es = read_image_file(ed_path), read_image_file(es_path)
    for study, path in ((ed, ed_path), (es, es_path)):
        if study.frames != 1:
            raise StudyError(f"'{path}' holds {study.frames} frames; an ED/ES pair is two files of one frame each.")
    if not same_grid(ed, es):
        raise StudyError(f"'{ed_path}' and '{es_path}' lie on different grids; ED and ES must be frames of one cine.")
    warnings = tuple(dict.fromkeys((*ed.warnings, *es.warnings)))
    return replace(
        ed, image=np.concatenate([ed.image, es.image]), frame_numbers=(1, 2), ed=0, es=1, kind="pair", warnings=warnings
    )


def same_grid(study: CineStudy, other: CineStudy) -> bool:
    """Whether two studies that were read from files lie on one grid, stored in one order."""
    stored = [s.geometry if s.stored is None else s.stored.geometry for s in (study, other)]
    return stored[0].matches(stored[1])


def read_label_map(path: Path, numbering: str = "acdc", *, as_stored: bool = False) -> LabelMap:
    """A label map of one frame, its numbers those of ``numbering`` (``"acdc"``, ``"mnms"``).

    The axes are in the library's order, as those of the image on the same grid; ``as_stored`` leaves them in the
    file's.

    Raises:
        StudyError: the file cannot be read, is not 3D, or holds other numbers.
    """
    return _label_map(path, numbering, as_stored)[0]


def label_map_and_doubts(path: Path, numbering: str = "acdc") -> tuple[LabelMap, tuple[str, ...]]:
    """As :func:`read_label_map`, and the doubts about its grid as sentences, those of an image on the same grid."""
    return _label_map(path, numbering, as_stored=False)


def _label_map(path: Path, numbering: str, as_stored: bool) -> tuple[LabelMap, tuple[str, ...]]:
    image = load_image(path)
    array = _checked_array(path, image)
    if array.ndim != 3:
        raise StudyError(f"'{path}' has {array.ndim} dimensions; a label map of one frame has 3.")
    said: tuple[str, ...] = ()
    try:
        geometry = Geometry.from_sitk(image)
        if not as_stored:
            stored, said = stored_grid(geometry)
            array, geometry = stored.from_stored(array), stored.turned
        return LabelMap.from_numbering(array, geometry, numbering), (*said, *grid_doubts(geometry))
    except StudyError as error:
        raise StudyError(f"'{path}': {error}") from error
