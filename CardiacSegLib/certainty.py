"""How sure a network is of what it drew: the Dice to be expected of each structure, without knowing the truth.

The Dice of a mask with a truth in which every voxel is of the structure with the probability that the network gives
it, is known from the probabilities alone. Networks are surer than they are right, so a line through cross-validated
patients turns it into the Dice to be expected (``Testing/Benchmarks/fit_certainty.py`` draws and fits it). On the 100
of ACDC, each by a network and a line that never saw it, expected and true Dice have r .69 (LV), .72 (RV) and .58 (MYO),
.74 over all; of the 31 structures below .80 the limit here warns of 13, and of 6 % of all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from CardiacSegLib.function.quality import NAMES, Finding
from CardiacSegLib.function.volumes import json_number
from CardiacSegLib.study import STRUCTURES, CineStudy, Label

#: Expected Dice is the first number plus the second times the Dice with the network's own probabilities.
CALIBRATION: Mapping[Label, tuple[float, float]] = {
    Label.LV: (-1.558, 2.586),
    Label.RV: (-2.034, 3.066),
    Label.MYO: (-0.171, 1.143),
}
_SENTENCE = re.compile(
    rf"The network is not sure of the (?:{'|'.join(NAMES.values())})(?: at (?P<phase>ED|ES))?, "
    r"least of all in slice (?P<slice>\d+) "
)
#: A structure of which less is expected is worth a look.
DOUBTFUL = 0.85


@dataclass(frozen=True)
class Certainty:
    """Of one structure in one frame.

    Attributes:
        expected_dice: 0 to 1.
        doubtful_slice: index (from 0) of the slice that takes most from it.
    """

    expected_dice: float
    doubtful_slice: int


def certainty(probabilities: np.ndarray, labels: np.ndarray) -> dict[Label, Certainty]:
    """How sure the network is of each structure that it drew.

    Args:
        probabilities: ``(class, z, y, x)``, by the numbers of :class:`~CardiacSegLib.study.Label`.
        labels: what was drawn from them ``(z, y, x)``.
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
        offset, slope = CALIBRATION[label]
        expected = offset + slope * 2.0 * float(both.sum() / either.sum())
        result[label] = Certainty(min(max(expected, 0.0), 1.0), int(np.argmax(either - 2.0 * both)))
    return result


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


def doubt_in(sentence: str) -> Finding | None:
    """The finding whose sentence this is, as :func:`doubts` writes it; ``None`` for any other sentence."""
    said = _SENTENCE.match(sentence)
    return None if said is None else Finding("doubt", sentence, int(said["slice"]), said["phase"])


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
