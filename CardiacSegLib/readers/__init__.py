"""From a path to a :class:`~CardiacSegLib.study.CineStudy`, whatever lies there."""

from __future__ import annotations

from pathlib import Path

from CardiacSegLib.errors import StudyError
from CardiacSegLib.study import CineStudy


def read_study(path: Path, es_path: Path | None = None, *, whole_cycle: bool = False) -> CineStudy:
    """Read an ACDC patient folder, a NIfTI or NRRD file, a folder of cine DICOM, or an ED/ES pair of files.

    The axes are in the library's order (:mod:`CardiacSegLib.orientation`), whatever that of the files is.

    Args:
        path: the file or folder; the ED file of a pair.
        es_path: the ES file of a pair.
        whole_cycle: take an ACDC folder's 4D cine instead of its ED and ES frames.

    Raises:
        StudyError: there is nothing that can be read, or it contradicts itself.
    """
    try:
        return _read(path, es_path, whole_cycle)
    except OSError as error:
        reason = f"{error.strerror or type(error).__name__}. Check the path and the permission."
        raise StudyError(f"'{error.filename or path}' cannot be read: {reason}") from error


def _read(path: Path, es_path: Path | None, whole_cycle: bool) -> CineStudy:
    from CardiacSegLib.readers.acdc import is_acdc_folder, read_acdc_folder
    from CardiacSegLib.readers.images import is_image_file, read_image_file, read_pair

    if es_path is not None:
        return read_pair(path, es_path)
    if not path.exists():
        raise StudyError(f"There is no file or folder '{path}'.")
    if path.is_dir():
        if is_acdc_folder(path):
            return read_acdc_folder(path, whole_cycle)
        return _read_folder(path)
    if is_image_file(path):
        return read_image_file(path)

    from CardiacSegLib.readers.dicom import looks_like_dicom

    if path.stat().st_size == 0:
        raise StudyError(f"'{path}' is empty (0 bytes). Copy or export it again.")
    if looks_like_dicom(path):
        raise StudyError(f"'{path}' is one DICOM file of a cine. Give the folder that holds all of them.")
    raise StudyError(
        f"'{path}' is no kind of study that can be read. Give a .nii, .nii.gz or .nrrd file, an ACDC patient folder "
        "(with Info.cfg), or a folder of cine DICOM."
    )


def _read_folder(folder: Path) -> CineStudy:
    from CardiacSegLib.orientation import ordered
    from CardiacSegLib.readers.dicom import read_dicom_folder
    from CardiacSegLib.readers.find import study_images

    images = study_images(folder)
    if len(images) > 1:
        names = ", ".join(p.name for p in images[:3])
        raise StudyError(
            f"'{folder}' holds {len(images)} images ({names} …) and no Info.cfg. Give one file, an ED and an ES file, "
            "or use 'cardiacseg batch' for all of them."
        )
    if images:
        from CardiacSegLib.readers.images import read_image_file

        return read_image_file(images[0])
    return ordered(read_dicom_folder(folder), through=0)
