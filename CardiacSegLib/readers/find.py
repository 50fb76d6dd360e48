"""Every study below a folder: patient folders, image files and DICOM folders."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from CardiacSegLib.errors import StudyError
from CardiacSegLib.readers.acdc import is_acdc_folder
from CardiacSegLib.readers.images import is_image_file, stem_of

_NOT_A_STUDY = re.compile(r"_(gt|seg)", re.IGNORECASE)


@dataclass(frozen=True)
class FoundStudy:
    """A study below a root: where it is, and the relative path of its results below the output folder."""

    path: Path
    results: Path


def is_study_file(path: Path) -> bool:
    """Whether a file is an image to segment: ``*_gt*`` and ``*_seg*`` are label maps."""
    return is_image_file(path) and not path.name.startswith(".") and not _NOT_A_STUDY.search(path.name)


def study_images(folder: Path) -> list[Path]:
    """The images to segment that lie directly in a folder, by name."""
    return sorted(p for p in folder.iterdir() if p.is_file() and is_study_file(p))


def find_studies(root: Path, leave_out: Path | None = None) -> list[FoundStudy]:
    """Every study below ``root``, by path; ``leave_out`` (the output folder) is not looked into.

    An ACDC patient folder is one study, an image file is one, and so is a folder of DICOM files: where several folders
    hold the same DICOM study (one series a folder), the folder above them is. Links to folders are followed, loops are
    not.

    Raises:
        StudyError: the root is missing or holds no study.
    """
    if not root.is_dir():
        raise StudyError(f"There is no folder '{root}'.")
    found: list[FoundStudy] = []
    dicom_folders: list[Path] = []
    for folder in _folders(root, leave_out):
        if is_acdc_folder(folder):
            found.append(FoundStudy(folder, _below(folder, root)))
            continue
        images = study_images(folder)
        stems = [stem_of(p) for p in images]
        for path, stem in zip(images, stems):
            # "a.nii.gz" and "a.nrrd" in one folder must not share their results.
            name = stem if stems.count(stem) == 1 else path.name
            found.append(FoundStudy(path, folder.relative_to(root) / name))
        if not images and _first_dicom(folder) is not None:
            dicom_folders.append(folder)
    found += [FoundStudy(folder, _below(folder, root)) for folder in _joined(dicom_folders)]
    # "p1.nii.gz" beside a folder "p1": the file's results take its whole name.
    taken = Counter(str(s.results) for s in found)
    found = [
        FoundStudy(s.path, s.results.with_name(s.path.name)) if taken[str(s.results)] > 1 and s.path.is_file() else s
        for s in found
    ]
    if not found:
        raise StudyError(
            f"No study below '{root}': no patient folder with Info.cfg, no .nii, .nii.gz or .nrrd image and no "
            "DICOM files (label maps, *_gt* and *_seg*, do not count)."
        )
    return sorted(found, key=lambda s: str(s.results))


def _below(folder: Path, root: Path) -> Path:
    return folder.relative_to(root) if folder != root else Path(root.resolve().name)


def _folders(root: Path, leave_out: Path | None) -> Iterator[Path]:
    """``root`` and every folder below it that is not within a patient folder."""
    hidden = os.path.realpath(leave_out) if leave_out is not None else None
    seen: set[str] = set()
    for name, subfolders, _ in os.walk(root, followlinks=True):
        real = os.path.realpath(name)
        if real in seen or real == hidden:
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(s for s in subfolders if not s.startswith("."))
        folder = Path(name)
        yield folder
        if is_acdc_folder(folder):
            subfolders.clear()


def _first_dicom(folder: Path) -> Path | None:
    from CardiacSegLib.readers.dicom import looks_like_dicom

    files = (p for p in sorted(folder.iterdir()) if p.is_file() and not p.name.startswith(".") and p.name != "DICOMDIR")
    return next((p for p in files if looks_like_dicom(p)), None)


def _joined(folders: list[Path]) -> list[Path]:
    """DICOM folders, those of one DICOM study replaced by the folder above them where nothing else lies below it."""
    import pydicom
    from pydicom.errors import InvalidDicomError

    from CardiacSegLib.readers.dicom_headers import quiet_pydicom

    by_study: dict[str, list[Path]] = defaultdict(list)
    for folder in folders:
        first = _first_dicom(folder)
        try:
            with quiet_pydicom():
                header = pydicom.dcmread(str(first), stop_before_pixels=True, specific_tags=["StudyInstanceUID"])
                key = str(header.get("StudyInstanceUID") or folder)
        except (InvalidDicomError, OSError, ValueError):
            key = str(folder)
        by_study[key].append(folder)
    result = []
    for together in by_study.values():
        above = Path(os.path.commonpath([str(f) for f in together]))
        strangers = [f for f in folders if f not in together and above in (f, *f.parents)]
        result += together if len(together) == 1 or strangers else [above]
    return result
