"""The same study gives the same labels: turned into any order of axes, from any format, on repeated runs, with 1 or 2
threads, alone or among others. ``python -m trust.same_answer [--long]`` (from ``Testing``) prints the figures.
"""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from CardiacSegLib.dicom_writer import write_cine_dicom
from CardiacSegLib.orientation import StoredGrid, ordered
from CardiacSegLib.phantom import PhantomConfig, make_phantom
from CardiacSegLib.readers import read_study
from CardiacSegLib.readers.images import read_label_map
from CardiacSegLib.study import STRUCTURES, CineStudy, LabelMap
from CardiacSegLib.workflow import SegmentOptions, label_files, segment_path
from CardiacSegLib.writers import write_cine

#: Every way to store a volume: an order of its axes, and a direction of each.
ORDERS = tuple(itertools.product(itertools.permutations(range(3)), itertools.product((False, True), repeat=3)))

VOXELS_DIFFERENT, VOLUME_DIFFERENT = 0.001, 0.005


def small_phantom() -> CineStudy:
    """A phantom of two frames, ED and ES, with oblique axes."""
    phantom = make_phantom(PhantomConfig(frames=2, slices=7, size=(112, 104), spacing=(10.0, 2.0, 2.0), ed_index=0))
    return phantom.study.with_phases(phantom.ed, phantom.es)


def turned(study: CineStudy, order: tuple[tuple[int, int, int], tuple[bool, bool, bool]]) -> CineStudy:
    """The same image, its array stored in another order, with the matching direction."""
    way = StoredGrid(study.geometry, *order)
    return replace(study, image=way.from_stored(study.image), geometry=way.turned, stored=None)


@dataclass
class Difference:
    """The largest share of voxels, and of a structure's volume, by which label maps differ from the first."""

    voxels: float = 0.0
    volume: float = 0.0
    compared: int = 0

    def add(self, first: LabelMap, other: LabelMap) -> None:
        """Compare two label maps on one grid."""
        assert first.geometry.matches(other.geometry, 0.05), "the labels lie elsewhere"
        self.compared += 1
        self.voxels = max(self.voxels, float(np.mean(first.data != other.data)))
        for label in STRUCTURES:
            a, b = first.volume_ml(label), other.volume_ml(label)
            self.volume = max(self.volume, abs(a - b) / a if a else float(b > 0))

    @property
    def within(self) -> bool:
        """Whether it is what is promised."""
        return self.voxels <= VOXELS_DIFFERENT and self.volume <= VOLUME_DIFFERENT

    def __str__(self) -> str:
        return (
            f"{self.compared} label maps, at most {100 * self.voxels:.3f} % of the voxels and "
            f"{100 * self.volume:.3f} % of a volume differ"
        )


def written_labels(path: Path, output: Path, segmenter: object) -> list[LabelMap]:
    """What ``segment`` writes for a study, read from its files."""
    reading = segment_path(path, output, segmenter, SegmentOptions(whole_cycle=True))  # type: ignore[arg-type]
    names = label_files(reading.study, sorted(reading.labels))
    stored = reading.study.stored
    for name in names.values():
        as_stored = read_label_map(output / name, as_stored=True)
        assert stored is not None and as_stored.geometry.matches(stored.geometry, 0.05), "not the grid of the input"
    return [read_label_map(output / name) for name in names.values()]


def through_files(study: CineStudy, orders: tuple, segmenter: object, folder: Path) -> Difference:
    """A study as DICOM, and as NIfTI and NRRD in every one of ``orders``."""
    difference, first = Difference(), None
    write_cine_dicom(study, folder / "dicom")
    paths = [folder / "dicom"]
    for number, order in enumerate(orders):
        path = folder / f"study{number:02d}{('.nii', '.nrrd')[number % 2]}"
        write_cine(path, replace(turned(study, order), times_ms=None))
        paths.append(path)
    for path in paths:
        labels = written_labels(path, folder / f"results-{path.name}", segmenter)
        first = first or labels
        for a, b in zip(first, labels):
            difference.add(a, b)
    return difference


def arrays_equal(study: CineStudy) -> int:
    """Of how many of the 48 orders of a stored study the reader makes the very same array."""
    reference = ordered(study).image
    return sum(np.array_equal(ordered(turned(study, order)).image, reference) for order in ORDERS)


def threads_and_company(studies: list[CineStudy], segmenter: object) -> Difference:
    """1 thread against 2; alone against after others, forwards and backwards."""
    import torch

    before, difference = torch.get_num_threads(), Difference()
    try:
        torch.set_num_threads(1)
        first = [segmenter.segment(s).labels for s in studies]  # type: ignore[attr-defined]
        torch.set_num_threads(2)
        for at in [*range(len(studies)), *reversed(range(len(studies)))]:
            again = segmenter.segment(studies[at]).labels  # type: ignore[attr-defined]
            for index, labels in first[at].items():
                difference.add(labels, again[index])
    finally:
        torch.set_num_threads(before)
    return difference


def acdc_studies(count: int) -> Iterator[CineStudy]:
    """The first patients of the folder that ``CARDIACSEG_ACDC`` names; none where it is not set."""
    root = os.environ.get("CARDIACSEG_ACDC")
    for folder in sorted(Path(root).glob("patient*"))[:count] if root else ():
        yield read_study(folder)


def main(long: bool = False) -> bool:
    """Print the figures; whether all that is promised holds."""
    from CardiacSegLib.inference import Segmenter

    segmenter, phantom, good = Segmenter("fast", "cpu"), small_phantom(), True
    with tempfile.TemporaryDirectory() as folder:
        orders = ORDERS if long else ORDERS[5::11]
        found = through_files(phantom, orders, segmenter, Path(folder))
        print(f"Same answer, DICOM and {len(orders)} orders of axes as NIfTI and NRRD: {found}.")
        good &= found.within
    patients = list(acdc_studies(100 if long else 3))
    equal = sum(arrays_equal(study) for study in (phantom, *patients))
    print(f"Same answer, arrays: {equal} of {len(ORDERS) * (1 + len(patients))} turned studies are read bit for bit.")
    good &= equal == len(ORDERS) * (1 + len(patients))
    found = threads_and_company([phantom, *patients[: 20 if long else 1]], segmenter)
    print(f"Same answer, 1 and 2 threads, alone and among others: {found}.")
    return good and found.within


if __name__ == "__main__":
    sys.exit(0 if main("--long" in sys.argv) else 1)
