"""Read ACDC's patients as images of other scanners and hospitals might look, and say what that costs.

python Testing/Benchmarks/strangers.py ACDC SPLITS.json MODEL [MODEL …]

SPLITS.json: of a cross-validation; the patients of each fold are read by the network that did not see them, the first
MODEL those of the first fold and so on, as far as there are models. A row a change: mean Dice of six columns, Hausdorff
distance in mm, Dice at ED and ES of each structure, and how many structures are below .80.
A changed spacing is the manual masks' as well: what is asked is whether the same voxels are found.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from CardiacSegLib.inference import Segmenter
from CardiacSegLib.metrics.evaluation import evaluate_pairs
from CardiacSegLib.readers.acdc import read_acdc_folder, read_acdc_truth
from CardiacSegLib.study import STRUCTURES, CineStudy, Geometry, LabelMap

BAD = 0.80


@dataclass(frozen=True)
class Patient:
    """Frames with manual masks.

    Attributes:
        image: ``(t, z, y, x)``, grey values in [0, 1].
        masks: ``(t, z, y, x)``, by the numbers of :class:`~CardiacSegLib.study.Label`.
        spacing: ``(z, y, x)`` in mm.
    """

    image: np.ndarray
    masks: np.ndarray
    spacing: tuple[float, float, float]


def read_patient(folder: Path) -> Patient:
    """ED and ES, the brightest hundredth of the voxels at 1."""
    study, truths = read_acdc_folder(folder), read_acdc_truth(folder)
    image = study.image.astype(np.float32)
    masks = np.stack([truths[number].data for number in study.frame_numbers])
    return Patient(np.clip(image / np.percentile(image, 99.0), 0.0, 1.0), masks, study.spacing)


def cut(pixels: int, patient: Patient) -> Patient:
    """So many rows and columns around the heart, black where the image ends."""
    found = [np.flatnonzero(patient.masks.any(axis=axes)) for axes in ((0, 1, 3), (0, 1, 2))]
    wanted = [np.arange(pixels) + round(float(lines.mean())) - pixels // 2 for lines in found]
    there = [(lines >= 0) & (lines < size) for lines, size in zip(wanted, patient.image.shape[2:])]
    rows, columns = (lines.clip(0, size - 1) for lines, size in zip(wanted, patient.image.shape[2:]))
    inside = there[0][:, None] & there[1]
    image, masks = (
        array[:, :, rows[:, None], columns] * inside.astype(array.dtype) for array in (patient.image, patient.masks)
    )
    return Patient(image, masks, patient.spacing)


def stretched(by: float, patient: Patient) -> Patient:
    """Pixels that are said to be so much larger than they are."""
    z, y, x = patient.spacing
    return replace(patient, spacing=(z, y * by, x * by))


def quarter_turn(patient: Patient) -> Patient:
    """Turned by 90° in the plane."""
    z, y, x = patient.spacing
    image, masks = (np.rot90(array, axes=(2, 3)).copy() for array in (patient.image, patient.masks))
    return Patient(image, masks, (z, x, y))


def mirrored(patient: Patient) -> Patient:
    """Left to right."""
    return replace(patient, image=patient.image[..., ::-1].copy(), masks=patient.masks[..., ::-1].copy())


def from_apex(patient: Patient) -> Patient:
    """The stack the other way round."""
    return replace(patient, image=patient.image[:, ::-1].copy(), masks=patient.masks[:, ::-1].copy())


def gamma(exponent: float, patient: Patient) -> Patient:
    """Darker (above 1) or brighter in the middle of the greys."""
    return replace(patient, image=patient.image**exponent)


def bias(patient: Patient) -> Patient:
    """A coil near one corner: three times as bright there as in the other."""
    rows, columns = (np.linspace(-1.0, 1.0, size, dtype=np.float32) for size in patient.image.shape[2:])
    return replace(patient, image=patient.image * np.exp(0.275 * (rows[:, None] + columns)))


def noisy(sd: float, patient: Patient) -> Patient:
    """Rician noise of so much of the brightest."""
    real, imaginary = np.random.default_rng(0).normal(0.0, sd, (2, *patient.image.shape))
    return replace(patient, image=np.hypot(patient.image + real, imaginary))


def blurred(sd: float, patient: Patient) -> Patient:
    """By a Gaussian of so many pixels in the plane."""
    return replace(patient, image=ndimage.gaussian_filter(patient.image, (0.0, 0.0, sd, sd)))


def every_second_slice(patient: Patient) -> Patient:
    """Slices twice as far apart."""
    z, y, x = patient.spacing
    return Patient(patient.image[:, ::2], patient.masks[:, ::2], (2.0 * z, y, x))


CHANGES: dict[str, Sequence[Callable[[Patient], Patient]]] = {
    "as they are": (),
    "cut to 192² around the heart": (lambda p: cut(192, p),),
    "cut to 128²": (lambda p: cut(128, p),),
    "cut to 192², spacing 15 % too small": (lambda p: stretched(0.85, cut(192, p)),),
    "cut to 192², spacing 15 % too large": (lambda p: stretched(1.15, cut(192, p)),),
    "turned by 90°": (quarter_turn,),
    "mirrored": (mirrored,),
    "from apex to base": (from_apex,),
    "every second slice": (every_second_slice,),
    "gamma 0.6": (lambda p: gamma(0.6, p),),
    "gamma 1.6": (lambda p: gamma(1.6, p),),
    "a bias field of 1 to 3": (bias,),
    "noise of 4 %": (lambda p: noisy(0.04, p),),
    "blurred by a pixel": (lambda p: blurred(1.0, p),),
    "cut to 192², 15 % too large, gamma 1.6, bias, noise": (
        lambda p: stretched(1.15, cut(192, p)),
        lambda p: gamma(1.6, p),
        bias,
        lambda p: noisy(0.04, p),
    ),
}


def row(name: str, folds: Sequence[tuple[Segmenter, Sequence[Patient]]]) -> str:
    """A row of the table, from patients that are changed already, each with the network that reads them."""
    pairs = []
    for fold, (segmenter, patients) in enumerate(folds):
        for number, patient in enumerate(patients):
            shape = patient.image.shape
            geometry = Geometry((shape[1], shape[2], shape[3]), patient.spacing)
            study = CineStudy(patient.image, geometry, name=f"patient {number} of fold {fold}", ed=0, es=1)
            drawn = segmenter.segment(study).labels
            for index, phase in enumerate(("ED", "ES")):
                pairs.append((study.name, phase, drawn[index], LabelMap(patient.masks[index], geometry)))
    found = evaluate_pairs(pairs).to_json()
    columns = [
        "/".join(_dice(found["structures"][s.name][phase]["dice"]) for phase in ("ED", "ES")) for s in STRUCTURES
    ]
    bad = sum(case[s.name]["dice"] < BAD for case in found["cases"] for s in STRUCTURES)
    return " | ".join(
        [f"| {name}", _dice(found["mean_dice"]), f"{found['mean_hausdorff_mm']:.1f}", *columns, f"{bad} |"]
    )


def _dice(value: float) -> str:
    return f"{value:.3f}".lstrip("0")


def main(acdc: Path, splits: Path, models: Sequence[str]) -> None:
    """Print the table."""
    names = json.loads(splits.read_text(encoding="utf-8"))["folds"][: len(models)]
    folds = [[read_patient(acdc / name) for name in fold] for fold in names]
    segmenters = [Segmenter(model) for model in models]
    print(
        f"| {sum(map(len, folds))} patients | Dice | HD | "
        + " | ".join(f"{s.name} ED/ES" for s in STRUCTURES)
        + " | below .80 |"
    )
    print("|---" * (len(STRUCTURES) + 4) + "|")
    for name, steps in CHANGES.items():
        changed = folds
        for step in steps:
            changed = [[step(patient) for patient in patients] for patients in changed]
        print(row(name, list(zip(segmenters, changed))), flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
