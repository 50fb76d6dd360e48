"""The 20 figures of a heart from which its diagnosis group is told.

M. Khened, V. A. Kollerathu, G. Krishnamurthi, "Fully convolutional multi-scale residual DenseNets for cardiac
segmentation and automated cardiac diagnosis using ensemble of classifiers", Med Image Anal 51:21-45, 2019.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from CardiacSegLib.function.contours import ANGLES
from CardiacSegLib.function.volumes import ventricular_function
from CardiacSegLib.function.wall import slice_thickness
from CardiacSegLib.study import LabelMap


@dataclass(frozen=True)
class Feature:
    """A figure, what a sentence calls it, and its unit; ``logarithm``: what is compared is its logarithm."""

    name: str
    title: str
    unit: str = ""
    decimals: int = 1
    logarithm: bool = True

    def scaled(self, value: float) -> float:
        """The value as the classifier takes it."""
        return math.log(max(value, _LEAST)) if self.logarithm else value

    def unscaled(self, value: float) -> float:
        """The inverse of :meth:`scaled`."""
        return math.exp(value) if self.logarithm else value

    def text(self, value: float) -> str:
        """The value in words, with its unit."""
        return f"{value:.{self.decimals}f}" + (f" {self.unit}" if self.unit else "")


_LEAST = 0.02  # mm or a ratio: a spread may be 0, where a heart has one slice
_LEAST_DIRECTIONS = ANGLES // 4  # a slice with less of a ring says little of its mean


def _wall(phase: str) -> tuple[Feature, ...]:
    at = f"at {phase.upper()}"
    return (
        Feature(f"wall_max_mean_{phase}_mm", f"mean thickness of the thickest slice {at}", "mm"),
        Feature(f"wall_sd_mean_{phase}_mm", f"spread (SD) of mean thickness from slice to slice {at}", "mm", 2),
        Feature(f"wall_mean_sd_{phase}_mm", f"spread (SD) of thickness around a slice {at}", "mm", 2),
        Feature(f"wall_sd_sd_{phase}_mm", f"difference (SD) of that spread from slice to slice {at}", "mm", 2),
    )


#: All figures, in the order in which they are published.
_ALL: tuple[Feature, ...] = (
    Feature("lv_edv_ml", "end-diastolic volume of the LV", "mL", 0),
    Feature("lv_esv_ml", "end-systolic volume of the LV", "mL", 0),
    Feature("rv_edv_ml", "end-diastolic volume of the RV", "mL", 0),
    Feature("rv_esv_ml", "end-systolic volume of the RV", "mL", 0),
    Feature("lv_ef_percent", "ejection fraction of the LV", "%", 0, False),
    Feature("rv_ef_percent", "ejection fraction of the RV", "%", 0, False),
    Feature("myo_mass_ed_g", "LV mass at ED", "g", 0),
    Feature("myo_es_ml", "volume of the myocardium at ES", "mL", 0),
    Feature("lv_to_rv_ed", "ratio of LV to RV volume at ED", decimals=2),
    Feature("lv_to_rv_es", "ratio of LV to RV volume at ES", decimals=2),
    Feature("myo_to_lv_ed", "ratio of myocardial to LV volume at ED", decimals=2),
    Feature("myo_to_lv_es", "ratio of myocardial to LV volume at ES", decimals=2),
    *_wall("ed"),
    *_wall("es"),
)
#: All figures by name.
FEATURES: Mapping[str, Feature] = {feature.name: feature for feature in _ALL}

#: Those that the classifier uses. The other four, spreads from slice to slice, differ between manual and automatic
#: masks of one heart by more than half of what they differ by between hearts.
USED: tuple[str, ...] = tuple(name for name in FEATURES if not name.startswith(("wall_sd_mean", "wall_sd_sd")))


def diagnosis_features(ed: LabelMap | None, es: LabelMap | None) -> dict[str, float | None]:
    """The :data:`FEATURES` by name, from the label maps ``(z, y, x)`` at ED and ES; ``None`` where not known."""
    figures = ventricular_function(ed, es)
    lv, rv, myo = figures.lv, figures.rv, figures.myo
    return {
        "lv_edv_ml": lv.edv_ml,
        "lv_esv_ml": lv.esv_ml,
        "rv_edv_ml": rv.edv_ml,
        "rv_esv_ml": rv.esv_ml,
        "lv_ef_percent": lv.ef_percent,
        "rv_ef_percent": rv.ef_percent,
        "myo_mass_ed_g": myo.mass_ed_g,
        "myo_es_ml": myo.es_ml,
        "lv_to_rv_ed": _ratio(lv.edv_ml, rv.edv_ml),
        "lv_to_rv_es": _ratio(lv.esv_ml, rv.esv_ml),
        "myo_to_lv_ed": _ratio(myo.ed_ml, lv.edv_ml),
        "myo_to_lv_es": _ratio(myo.es_ml, lv.esv_ml),
        **_wall_features("ed", ed),
        **_wall_features("es", es),
    }


def _ratio(a: float | None, b: float | None) -> float | None:
    return None if a is None or not b else a / b


def _wall_features(phase: str, labels: LabelMap | None) -> dict[str, float | None]:
    names = [feature.name for feature in _wall(phase)]
    slices = [] if labels is None else [s for s in slice_thickness(labels) if len(s) >= _LEAST_DIRECTIONS]
    if not slices:
        return dict.fromkeys(names)
    means, spreads = (np.array([f(s) for s in slices]) for f in (np.mean, np.std))
    return dict(zip(names, map(float, (means.max(), means.std(), spreads.mean(), spreads.std()))))
