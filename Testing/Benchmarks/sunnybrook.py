"""Read cines of another vendor whose left ventricle readers outlined by hand, and say how near the networks come.

python Testing/Benchmarks/sunnybrook.py SUNNYBROOK [MODEL …]

SUNNYBROOK holds ``dicom/STUDY/`` and ``contours/STUDY/``: of the endocardium at ED and ES (``i-contours``) and of the
epicardium at ED (``o-contours``), in the layout of the Sunnybrook Cardiac Data (Radau et al., The MIDAS Journal 2009;
GE, 1.5 T). A row a study and model, ``fast`` if none is named. Dice is of the sections that a reader outlined; volumes
are of all sections that were outlined or drawn.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from skimage.draw import polygon2mask

from CardiacSegLib.inference import Segmenter
from CardiacSegLib.metrics.overlap import dice
from CardiacSegLib.readers import read_study
from CardiacSegLib.study import CineStudy, Label, LabelMap

_RUNNING_NUMBER = re.compile(r"IM-\d+-(\d+)-")
#: The middle of the first pixel is (1, 1), as in the program that the contours were drawn in: half a pixel less or more
#: of it lowers every Dice.
_FIRST_PIXEL = 1.0

Masks = Mapping[tuple[int, int], np.ndarray]


@dataclass(frozen=True)
class Outlined:
    """A cine and what readers outlined in it: masks ``(row, column)`` of its DICOM images, by frame and slice index."""

    study: CineStudy
    endocardium: Masks
    epicardium: Masks


@dataclass(frozen=True)
class Agreement:
    """Of a reading with the readers' outlines: Dice, and volumes in mL."""

    lv_ed: float
    lv_es: float
    wall_ed: float
    outlined_ml: tuple[float, float]
    drawn_ml: tuple[float, float]

    @property
    def ejection_fractions(self) -> tuple[float, float]:
        """As outlined, and as drawn; percent."""
        of = [100.0 * (1.0 - es / ed) for ed, es in (self.outlined_ml, self.drawn_ml)]
        return of[0], of[1]


def read_outlined(root: Path, name: str) -> Outlined:
    """A study and its contours; its ED is the frame with epicardial ones, its ES the other frame with contours."""
    study = read_study(root / "dicom" / name)
    assert study.sources is not None
    place = {
        int(pydicom.dcmread(file, stop_before_pixels=True).InstanceNumber): (t, z)
        for t, files in enumerate(study.sources)
        for z, file in enumerate(files)
    }
    endo, epi = (_contours(root / "contours" / name / f"{kind}-contours", study, place) for kind in "io")
    ed = next(iter(epi))[0]
    es = next(t for t, _ in endo if t != ed)
    return Outlined(study.with_phases(ed, es), endo, epi)


def _contours(folder: Path, study: CineStudy, place: Mapping[int, tuple[int, int]]) -> Masks:
    masks = {}
    for file in sorted(folder.glob("*.txt")):
        number = _RUNNING_NUMBER.match(file.name)
        assert number, file
        masks[place[int(number[1])]] = filled(np.loadtxt(file), stored_shape(study))
    return masks


def stored_shape(study: CineStudy) -> tuple[int, int]:
    """Rows and columns of the images as their files hold them."""
    shape = study.geometry.shape if study.stored is None else study.stored.geometry.shape
    return shape[1], shape[2]


def filled(contour: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The pixels ``(row, column)`` within a contour of points ``(n, 2)`` as (x, y)."""
    return np.asarray(polygon2mask(shape, contour[:, ::-1] - _FIRST_PIXEL))


def agreement(outlined: Outlined, labels: Mapping[int, LabelMap]) -> Agreement:
    """How a reading's label maps, by frame index, agree with the outlines at ED and ES."""
    study, stored = outlined.study, outlined.study.stored
    assert study.ed is not None and study.es is not None

    def drawn(t: int, z: int) -> np.ndarray:
        return study.as_stored(labels[t]).data[z if stored is None else stored.slice_to_stored(z)]

    def compared(masks: Masks, t: int, label: Label, hole: Masks | None = None) -> float:
        at = [key for key in masks if key[0] == t]
        truth = [masks[key] if hole is None else masks[key] & ~hole[key] for key in at]
        return dice(np.stack([drawn(*key) == int(label) for key in at]), np.stack(truth))

    pixel_ml = study.geometry.voxel_ml
    phases = (study.ed, study.es)
    outlined_ml = [sum(int(m.sum()) for (t, _), m in outlined.endocardium.items() if t == at) for at in phases]
    return Agreement(
        compared(outlined.endocardium, study.ed, Label.LV),
        compared(outlined.endocardium, study.es, Label.LV),
        compared(outlined.epicardium, study.ed, Label.MYO, outlined.endocardium),
        (outlined_ml[0] * pixel_ml, outlined_ml[1] * pixel_ml),
        (labels[study.ed].volume_ml(Label.LV), labels[study.es].volume_ml(Label.LV)),
    )


def main(root: Path, models: list[str]) -> None:
    """Print the table."""
    studies = [read_outlined(root, folder.name) for folder in sorted((root / "contours").iterdir())]
    print(
        "| model | study | LV ED/ES | wall ED | EDV, outlined/drawn, mL | ESV | EF, % |\n|---|---|---|---|---|---|---|"
    )
    for model in models:
        segmenter = Segmenter(model)
        for outlined in studies:
            study = outlined.study
            found = agreement(outlined, segmenter.segment(study, [study.ed, study.es]).labels)
            edv, esv = ("/".join(f"{v:.0f}" for v in pair) for pair in zip(found.outlined_ml, found.drawn_ml))
            ef = "/".join(f"{v:.0f}" for v in found.ejection_fractions)
            lv = f"{found.lv_ed:.3f}/{found.lv_es:.3f}"
            print(f"| {model} | {study.name} | {lv} | {found.wall_ed:.3f} | {edv} | {esv} | {ef} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2:] or ["fast"])
