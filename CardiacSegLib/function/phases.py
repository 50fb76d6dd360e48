"""The volume of every structure over the cycle, and end diastole and end systole found from it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from CardiacSegLib.errors import StudyError
from CardiacSegLib.study import STRUCTURES, Label, LabelMap

# A single frame this far (in parts of the curve's range) from both its neighbours is a failed segmentation. The
# corner at end systole, the sharpest of a schematic LV curve, reaches 0.39 in a cycle of 10 frames, 0.11 in one of
# 20; with fewer than 10 frames it cannot be told from a failure.
_SPIKE = 0.5
_FEWEST_FRAMES = 10


def time_volume_curve(labels: Sequence[LabelMap]) -> dict[Label, np.ndarray]:
    """Volume of every structure in mL, each an array ``(t,)`` over the frames given; 0 where it was not found."""
    return {label: np.array([frame.volume_ml(label) for frame in labels], float) for label in STRUCTURES}


def find_phases(lv_volumes_ml: np.ndarray) -> tuple[int, int]:
    """ED and ES as indexes (from 0) into a cycle's LV volumes: the largest and the smallest.

    The curve closes on itself: its last frame is a neighbour of its first. Two kinds of failed frames do not
    count: volumes that are 0 or not finite, and, in a cycle of 10 good frames or more, a single frame that stands out
    from both neighbours by more than half the range of the curve smoothed by a circular median of 3. Everything else
    is taken as it is, so the frames found are truly the largest and smallest. Of equal volumes the first counts.

    Args:
        lv_volumes_ml: ``(t,)`` in mL.

    Raises:
        StudyError: no frame has an LV volume.
    """
    volumes = np.array(lv_volumes_ml, float).ravel()
    valid = np.isfinite(volumes) & (volumes > 0)
    if not valid.any():
        raise StudyError(
            "ED and ES cannot be found: the left ventricle was not found in any frame. Name the two frames."
        )
    valid = _without_spikes(volumes, valid)
    return int(np.argmax(np.where(valid, volumes, -np.inf))), int(np.argmin(np.where(valid, volumes, np.inf)))


def _without_spikes(volumes: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """The valid frames less those that stand out from both neighbours.

    The worst goes first and alone, and frames that are out are bridged: else a spike would make its neighbour one.
    """
    valid, at = valid.copy(), np.arange(volumes.size)
    while np.count_nonzero(valid) >= _FEWEST_FRAMES:
        curve = np.interp(at, at[valid], volumes[valid], period=volumes.size)
        smooth = np.median([np.roll(curve, 1), curve, np.roll(curve, -1)], axis=0)
        off = np.where(valid, np.abs(curve - smooth), 0.0)
        if off.max() <= _SPIKE * np.ptp(smooth):
            break
        valid[np.argmax(off)] = False
    return valid
