"""How sure a network is of what it drew: the Dice to be expected of each structure, without knowing the truth.

Two things tell it. The Dice of a mask with a truth in which every voxel is of the structure with the probability that
the network gives it, is known from the probabilities alone. And a network that is sure gives the same at its second
look (:mod:`CardiacSegLib.second_look`). Both, fitted to cross-validated patients, give the Dice to be expected
(``Testing/Benchmarks/fit_certainty.py`` draws and fits it). On the 100 of ACDC, each by a network and a fit that never
saw it, expected and true Dice have r .74 (LV), .72 (RV) and .71 (MYO), .77 over all; of the 17 structures below .80 the
limit here warns of 11, and of 9 % of all. The others are sections at the base of which nothing in the image tells
whether the readers counted them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from CardiacSegLib.function.quality import NAMES, Finding
from CardiacSegLib.function.volumes import json_number
from CardiacSegLib.orientation import StoredGrid
from CardiacSegLib.study import STRUCTURES, CineStudy, Label

#: What is fitted here holds for networks of this preset, at its own width; of the paper's own more would be expected
#: than is true.
CALIBRATED_PRESET = "default-2d"
#: ln(1 - expected Dice) is the first number, plus the second times ln(1 - Dice with the network's own probabilities),
#: plus the third times ln(1 - likeness of its two looks).
CALIBRATION: Mapping[Label, tuple[float, float, float]] = {
    Label.LV: (1.035, 0.938, 0.272),
    Label.RV: (0.734, 0.784, 0.298),
    Label.MYO: (0.087, 0.030, 0.787),
}
#: A structure of which less is expected is worth a look.
DOUBTFUL = 0.88
# No Dice of real masks is nearer to 1.
_LEAST_ERROR = 1e-3


@dataclass(frozen=True)
class Certainty:
    """Of one structure in one frame.

    Attributes:
        expected_dice: 0 to 1.
        doubtful_slice: index (from 0) of the slice that takes most from it.
        own_dice: Dice of the mask with the network's own probabilities.
        likeness: of both looks' probabilities, as a Dice.
    """

    expected_dice: float
    doubtful_slice: int
    own_dice: float = math.nan
    likeness: float = math.nan


def certainty(probabilities: np.ndarray, labels: np.ndarray, likeness: Mapping[Label, float]) -> dict[Label, Certainty]:
    """How sure the network is of each structure that it drew.

    Args:
        probabilities: ``(class, z, y, x)``, by the numbers of :class:`~CardiacSegLib.study.Label`.
        labels: what was drawn from them ``(z, y, x)``.
        likeness: by structure, of both looks' probabilities (:func:`CardiacSegLib.second_look.likeness`).
    """
    result = {}
    # What was taken for the structure far away, and dropped, says nothing of what was kept.
    dropped = (labels == 0) & (probabilities[0] < probabilities[1:].max(axis=0))
    for label in STRUCTURES:
        drawn, likely = labels == int(label), np.where(dropped, 0.0, probabilities[int(label)])
        if not drawn.any():
            continue
        both = np.sum(likely * drawn, axis=(1, 2), dtype=np.float64)
        either = drawn.sum(axis=(1, 2)) + likely.sum(axis=(1, 2), dtype=np.float64)
        own, second = 2.0 * float(both.sum() / either.sum()), likeness.get(label, 0.0)
        expected = _expected_dice(label, own, second)
        result[label] = Certainty(expected, int(np.argmax(either - 2.0 * both)), own, second)
    return result


def _expected_dice(label: Label, own_dice: float, likeness: float) -> float:
    offset, *slopes = CALIBRATION[label]
    errors = log_error(np.array([own_dice, likeness]))
    return float(np.clip(1.0 - np.exp(offset + np.dot(slopes, errors)), 0.0, 1.0))


def log_error(dice: np.ndarray) -> np.ndarray:
    """ln(1 - Dice): errors of good and of bad masks differ by factors."""
    return np.log(np.clip(1.0 - dice, _LEAST_ERROR, 1.0))


def doubts(of: Mapping[Label, Certainty], phase: str | None) -> list[Finding]:
    """A finding for each structure of which little is to be expected in a frame; ``phase``: ``ED``, ``ES`` or none."""
    where = "" if phase is None else f" at {phase}"
    return [
        Finding(
            "doubt",
            f"The network is not sure of the {NAMES[label]}{where}, least of all in slice {one.doubtful_slice + 1} "
            f"(expected Dice {one.expected_dice:.2f}): look at it first.",
            one.doubtful_slice + 1,
            phase,
        )
        for label, one in of.items()
        if one.expected_dice < DOUBTFUL
    ]


def as_stored(of: Mapping[Label, Certainty], stored: StoredGrid) -> dict[Label, Certainty]:
    """The same with slices counted as the input stores them."""
    return {s: replace(one, doubtful_slice=stored.slice_to_stored(one.doubtful_slice)) for s, one in of.items()}


def doubts_at_phases(study: CineStudy, of: Mapping[int, Mapping[Label, Certainty]]) -> list[Finding]:
    """The doubts at ED and ES, or in the only frame of a study; ``of`` is by frame index."""
    return [finding for phase, one in _at_phases(study, of).items() for finding in doubts(one, phase)]


def expected_dice_json(study: CineStudy, of: Mapping[int, Mapping[Label, Certainty]]) -> dict[str, Any]:
    """The key ``expected_dice`` of ``function.json``: by phase and structure, ``None`` for what was not drawn."""
    return {
        phase or "frame": {
            label.name.lower(): json_number(one[label].expected_dice, 3) if label in one else None
            for label in STRUCTURES
        }
        for phase, one in _at_phases(study, of).items()
    }


def _at_phases(
    study: CineStudy, of: Mapping[int, Mapping[Label, Certainty]]
) -> dict[str | None, Mapping[Label, Certainty]]:
    if study.is_single_frame:
        return {None: of[0]} if 0 in of else {}
    phases = (("ED", study.ed), ("ES", study.es))
    return {phase: of[index] for phase, index in phases if index is not None and index in of}
