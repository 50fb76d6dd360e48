"""The whole cycle: volumes over time, smoothed, and how fast the ventricles empty and fill."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from CardiacSegLib.function.curve import smooth_cycle
from CardiacSegLib.function.phases import time_volume_curve
from CardiacSegLib.function.volumes import json_number
from CardiacSegLib.study import CineStudy, Label, LabelMap

#: The fewest frames that are a cycle rather than some frames of one.
FEWEST_FRAMES_OF_A_CYCLE = 3

_STEPS = 2000  # at which the slope of the smoothed curve is looked at, over a cycle
# A heart rate that says the cycle is longer than frames and times do by more than this share is not believed.
_LONGEST_PAUSE = 0.5
# Nor one that says it is shorter; from here on that is no irregular beat.
_SHORTEST_BEAT = 0.85
_KEYS = {Label.LV: "lv", Label.RV: "rv", Label.MYO: "myo"}


@dataclass(frozen=True)
class VentricleRates:
    """How fast one ventricle empties and fills, ``None`` where not known; see ``definitions.py`` for the words."""

    peak_ejection_rate_ml_per_s: float | None = None
    peak_ejection_rate_edv_per_s: float | None = None
    time_to_peak_ejection_ms: float | None = None
    peak_filling_rate_ml_per_s: float | None = None
    peak_filling_rate_edv_per_s: float | None = None
    time_to_peak_filling_ms: float | None = None


@dataclass(frozen=True)
class Cycle:
    """Volumes over a cycle.

    Attributes:
        frames: frame numbers (from 1).
        times_ms: time of each frame, ``None`` where not known.
        length_ms: time from beat to beat, ``None`` where not known.
        volumes_ml: counted volumes ``(t,)`` of LV, RV and MYO; 0 where the structure was not found.
        smooth_ml: smoothed volumes ``(t,)`` of LV and RV; with too few frames to smooth the counted ones.
        rates: of LV and RV.
        failed: indexes of frames whose volume does not lie on the curve of the others, of LV and RV.
    """

    frames: tuple[int, ...]
    times_ms: tuple[float, ...] | None
    length_ms: float | None
    volumes_ml: Mapping[Label, np.ndarray]
    smooth_ml: Mapping[Label, np.ndarray]
    rates: Mapping[Label, VentricleRates]
    failed: Mapping[Label, tuple[int, ...]]


def is_whole_cycle(study: CineStudy, labels: Mapping[int, LabelMap]) -> bool:
    """Whether every frame of a cine has labels, and the frames are a cycle: one after the other, none between."""
    numbers = study.frame_numbers
    return (
        study.kind != "pair"
        and study.frames >= FEWEST_FRAMES_OF_A_CYCLE
        and numbers == tuple(range(numbers[0], numbers[0] + study.frames))
        and all(index in labels for index in range(study.frames))
    )


def cycle_length_ms(study: CineStudy) -> float | None:
    """Time from beat to beat in ms, ``None`` where the frames' times are not known or do not rise.

    The heart rate says it, unless it contradicts the times: the last frame must lie within the cycle, and the pause
    after it must not be longer than half the frames' span. Otherwise the frames span the cycle evenly.
    """
    spanned, times, rate = _spanned_ms(study), study.times_ms, study.patient.heart_rate_bpm
    if spanned is None or times is None:
        return None
    between = float(times[-1] - times[0])
    if rate and between < 60000.0 / rate <= (1 + _LONGEST_PAUSE) * spanned:
        return 60000.0 / rate
    return spanned


def _spanned_ms(study: CineStudy) -> float | None:
    """The cycle that the frames' times span evenly, with the last one's own share; ``None`` without such times."""
    times = study.times_ms
    if times is None or len(times) < 2 or not np.all(np.diff(times) > 0):
        return None
    return float(times[-1] - times[0]) * len(times) / (len(times) - 1)


def heart_rate_doubt(study: CineStudy) -> str | None:
    """A sentence where a stated heart rate and the times of a cycle's frames cannot both be right."""
    spanned, rate = _spanned_ms(study), study.patient.heart_rate_bpm
    if spanned is None or not rate or study.frames < FEWEST_FRAMES_OF_A_CYCLE:
        return None
    if _SHORTEST_BEAT * spanned <= 60000.0 / rate <= (1 + _LONGEST_PAUSE) * spanned:
        return None
    return (
        f"A heart rate of {rate:.0f} bpm does not fit the times of the frames, which span {spanned:.0f} ms "
        f"({60000.0 / spanned:.0f} bpm): cardiac output follows the one, rates of filling and ejection the other."
    )


def frame_phases(study: CineStudy) -> np.ndarray:
    """Time of each frame as a share of the cycle, ``(t,)``; evenly spaced where times are not known."""
    length = cycle_length_ms(study)
    if length is None or study.times_ms is None:
        return np.arange(study.frames) / study.frames
    return (np.asarray(study.times_ms, float) - study.times_ms[0]) / length


def measure_cycle(study: CineStudy, labels: Mapping[int, LabelMap]) -> Cycle | None:
    """Volumes over the cycle and their rates; ``None`` unless the whole cycle was segmented.

    Rates need ED and ES of the study, the frames' times, and enough frames for a smooth curve.

    Args:
        study: with ED and ES.
        labels: by frame index (from 0).
    """
    if not is_whole_cycle(study, labels):
        return None
    phases, length = frame_phases(study), cycle_length_ms(study)
    volumes = time_volume_curve([labels[i] for i in range(study.frames)])
    smooth, rates, failed = {}, {}, {}
    for label in (Label.LV, Label.RV):
        curve, valid = smooth_cycle(volumes[label], phases)
        found = volumes[label] > 0
        smooth[label] = volumes[label] if curve is None else np.maximum(curve(phases), 0)
        failed[label] = () if curve is None else tuple(np.flatnonzero(found & ~valid).tolist())
        rates[label] = VentricleRates()
        if curve is not None and length is not None and study.ed is not None and study.es is not None:
            ends = float(phases[study.ed]), float(phases[study.es])
            rates[label] = _rates(curve.slope, ends, length, float(volumes[label][study.ed]))
    return Cycle(study.frame_numbers, study.times_ms, length, volumes, smooth, rates, failed)


def _rates(slope: Any, ends: tuple[float, float], length_ms: float, edv_ml: float) -> VentricleRates:
    """Steepest fall of a curve from ED to ES and steepest rise from ES to the next ED; ``ends`` are their phases."""
    ed, es = ends
    systole, diastole = (es - ed) % 1.0, (ed - es) % 1.0
    if not systole or edv_ml <= 0:
        return VentricleRates()
    along = np.arange(_STEPS + 1) / _STEPS
    per_s = 1000.0 / length_ms
    falls, rises = -slope(ed + along * systole) * per_s, slope(es + along * diastole) * per_s
    ejection, filling = float(falls.max()), float(rises.max())
    if ejection <= 0 or filling <= 0:
        return VentricleRates()
    return VentricleRates(
        peak_ejection_rate_ml_per_s=ejection,
        peak_ejection_rate_edv_per_s=ejection / edv_ml,
        time_to_peak_ejection_ms=float(along[falls.argmax()] * systole * length_ms),
        peak_filling_rate_ml_per_s=filling,
        peak_filling_rate_edv_per_s=filling / edv_ml,
        time_to_peak_filling_ms=float(along[rises.argmax()] * diastole * length_ms),
    )


def cycle_json(cycle: Cycle) -> dict[str, Any]:
    """The key ``cycle`` of ``function.json``: 1-based frames, ms, mL, mL/s; null where not known or not found."""
    result: dict[str, Any] = {
        "frames": [int(number) for number in cycle.frames],
        "times_ms": None if cycle.times_ms is None else [json_number(t) for t in cycle.times_ms],
        "cycle_length_ms": json_number(cycle.length_ms),
    }
    for label, volumes in cycle.volumes_ml.items():
        result[f"{_KEYS[label]}_ml"] = [json_number(v) if v > 0 else None for v in volumes]
    for label, volumes in cycle.smooth_ml.items():
        result[f"{_KEYS[label]}_smooth_ml"] = [json_number(v) if v > 0 else None for v in volumes]
    for label, rates in cycle.rates.items():
        result[_KEYS[label]] = {name: json_number(value) for name, value in vars(rates).items()}
    return result
