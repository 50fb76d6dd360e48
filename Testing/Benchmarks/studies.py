"""What is measured on: a patient of ACDC where there is one, phantoms in the same layout where there is none."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from CardiacSegLib.phantom import PhantomConfig, make_phantom
from CardiacSegLib.readers.acdc import frame_file, is_acdc_folder, read_info
from CardiacSegLib.training.dataset import Case, find_cases
from CardiacSegLib.writers import write_training_case

#: Slices, rows and columns of the study that speed is stated for.
USUAL = (10, 256, 256)


@dataclass(frozen=True)
class Source:
    """A patient's folder, and where it comes from, in words."""

    folder: Path
    words: str


def usual_study(acdc: Path | None, scratch: Path, quick: bool) -> Source:
    """One patient: the one nearest to :data:`USUAL` in ACDC, or a phantom of that size written to ``scratch``."""
    if acdc is not None:
        folders = sorted(p for p in acdc.iterdir() if is_acdc_folder(p))
        return Source(min(folders, key=_unlikeness), "a patient of ACDC")
    shape = (3, 96, 96) if quick else USUAL
    return Source(_write_phantom(scratch, "study001", shape, seed=0), "a phantom")


def training_patients(acdc: Path | None, scratch: Path, count: int, quick: bool) -> tuple[list[Case], str]:
    """``count`` patients with masks: ACDC's first ones, or phantoms written to ``scratch``."""
    if acdc is not None:
        return find_cases(acdc)[:count], "patients of ACDC"
    shape = (5, 96, 96) if quick else (10, 224, 224)
    for number in range(count):
        _write_phantom(scratch, f"patient{number + 1:03d}", shape, seed=number)
    return find_cases(scratch), "phantoms"


def _unlikeness(folder: Path) -> float:
    """How far the ED frame is from :data:`USUAL`, in its own pixels and in those of 1.5 mm that the network reads."""
    import SimpleITK as sitk

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(frame_file(folder, read_info(folder / "Info.cfg").ed)))
    reader.ReadImageInformation()
    (nx, ny, nz), spacing = reader.GetSize()[:3], reader.GetSpacing()
    sizes = (nz, ny, nx, ny * spacing[1] / 1.5, nx * spacing[0] / 1.5)
    return max(abs(math.log(size / usual)) for size, usual in zip(sizes, (*USUAL, *USUAL[1:])))


def _write_phantom(root: Path, name: str, shape: tuple[int, int, int], seed: int) -> Path:
    """ED and ES of a phantom, with masks, in ACDC's layout: 100 mm high, 270 mm wide at least."""
    pixel = max(1.5, 270.0 / shape[1])
    spacing = (100.0 / shape[0], pixel, pixel)
    config = PhantomConfig(frames=3, ed_index=0, slices=shape[0], size=shape[1:], spacing=spacing, seed=seed)
    phantom = make_phantom(config)
    return write_training_case(
        root, name, phantom.study.with_phases(phantom.ed, phantom.es), dict(enumerate(phantom.labels))
    )
