"""Support for a diagnosis: how alike a heart is to five groups of patients, and which figures say so. Research only.

The groups are those of ACDC (Bernard et al., IEEE TMI 37:2514-2525, 2018). A linear classifier weighs figures of
:mod:`~CardiacSegLib.function.diagnosis_features`; its parameters are a JSON file beside the networks, fitted by
:mod:`~CardiacSegLib.function.diagnosis_fit`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from CardiacSegLib.errors import ModelError, StudyError
from CardiacSegLib.function.diagnosis_features import FEATURES, Feature
from CardiacSegLib.resources import resource_folders

FORMAT = "cardiacseg-diagnosis"
FORMAT_VERSION = 1
MODEL_FILE = "diagnosis.json"

#: The groups, and what they stand for.
GROUP_TITLES: Mapping[str, str] = {
    "NOR": "normal heart",
    "MINF": "systolic heart failure after infarction",
    "DCM": "dilated cardiomyopathy",
    "HCM": "hypertrophic cardiomyopathy",
    "RV": "abnormal right ventricle",
}
GROUPS: tuple[str, ...] = tuple(GROUP_TITLES)

NOTE = (
    "Research only, not for diagnosis: likeness to five groups of 20 patients of one hospital (ACDC), taken as equally "
    "frequent; other diseases are not known to it. Usual is the middle 80 % of a group."
)
_FAR_NOTE = "This heart lies far from all of these patients, so the probabilities mean little."

_DECIDERS = 3
_USUAL_SD = 1.28  # 80 % of a normal distribution lie within
# Beyond so many SD a figure counts as if it lay there: what no patient shows must not decide alone.
_LONGEST_SD = 2.5
# Mean square of the figures' distances from the nearest group, in its own SD: at most 2.9 in the patients fitted to.
_FAR = 4.0


def standardised(scaled: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """Scaled figures ``(..., n)`` in SD from a mean, the far ones brought nearer."""
    return np.clip((scaled - mean) / sd, -_LONGEST_SD, _LONGEST_SD)


@dataclass(frozen=True)
class Classifier:
    """Parameters of the classifier of :data:`GROUPS` by ``n`` figures, scaled as :data:`FEATURES` says.

    Attributes:
        names: of the figures.
        mean, sd: ``(n,)`` over all patients.
        weights, bias: ``(5, n)`` and ``(5,)``, of the figures in SD from the mean.
        group_mean, group_sd: ``(5, n)`` of each group.
    """

    names: tuple[str, ...]
    mean: np.ndarray
    sd: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    group_mean: np.ndarray
    group_sd: np.ndarray

    ARRAYS: ClassVar[tuple[str, ...]] = ("mean", "sd", "weights", "bias", "group_mean", "group_sd")

    @property
    def features(self) -> tuple[Feature, ...]:
        """The figures, in the order of the parameters."""
        return tuple(FEATURES[name] for name in self.names)

    def standardised(self, scaled: np.ndarray) -> np.ndarray:
        """Scaled figures ``(..., n)`` in SD from the mean of all patients."""
        return standardised(scaled, self.mean, self.sd)

    def probabilities(self, scaled: np.ndarray) -> np.ndarray:
        """Probabilities ``(..., 5)`` of the groups from scaled figures ``(..., n)``."""
        scores = self.standardised(scaled) @ self.weights.T + self.bias
        exponential = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return exponential / exponential.sum(axis=-1, keepdims=True)


@dataclass(frozen=True)
class Diagnosis:
    """Probability of each group, the three figures that decided, in words, and what to make of it."""

    probabilities: dict[str, float]
    decided_by: tuple[str, ...]
    note: str = NOTE

    @property
    def group(self) -> str:
        """The likeliest group."""
        return max(self.probabilities, key=lambda group: self.probabilities[group])


def diagnose(features: Mapping[str, float | None], classifier: Classifier | None = None) -> Diagnosis:
    """Probabilities of the groups for one heart, and why.

    Args:
        features: of :func:`~CardiacSegLib.function.diagnosis_features.diagnosis_features`.
        classifier: by default the one that comes with the library.

    Raises:
        StudyError: a figure is not known.
        ModelError: the classifier is missing or damaged.
    """
    classifier = classifier or load_classifier()
    missing = [f.title for f in classifier.features if not _known(features.get(f.name))]
    if missing:
        raise StudyError(
            "Without masks of LV, RV and myocardium at both ED and ES nothing can be said about the diagnosis: not "
            f"known is the {missing[0]}" + (f", and {len(missing) - 1} more." if len(missing) > 1 else ".")
        )
    scaled = np.array([f.scaled(float(features[f.name])) for f in classifier.features])  # type: ignore[arg-type]
    probabilities = classifier.probabilities(scaled)
    order = np.argsort(-probabilities)
    distance = (scaled - classifier.group_mean) / classifier.group_sd
    far = float(np.minimum(distance**2, 4 * _FAR**2).mean(axis=1).min()) > _FAR
    return Diagnosis(
        {group: float(p) for group, p in zip(GROUPS, probabilities)},
        _reasons(classifier, scaled, int(order[0]), int(order[1])),
        f"{NOTE} {_FAR_NOTE}" if far else NOTE,
    )


def diagnosis_json(diagnosis: Diagnosis) -> dict[str, Any]:
    """The key ``diagnosis`` of ``function.json``."""
    return {
        "probabilities": {group: round(p, 3) for group, p in diagnosis.probabilities.items()},
        "decided_by": list(diagnosis.decided_by),
        "note": diagnosis.note,
    }


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _reasons(classifier: Classifier, scaled: np.ndarray, first: int, second: int) -> tuple[str, ...]:
    """The figures that speak most for the likeliest group against the next, as sentences.

    A figure speaks by its weight times its way from the middle between both groups. Weights of figures that go together
    share their work, so a figure counts only where it also lies nearer to the first group than to the second.
    """
    middle = (classifier.group_mean[first] + classifier.group_mean[second]) / 2
    way = classifier.standardised(scaled) - classifier.standardised(middle)
    speaks = (classifier.weights[first] - classifier.weights[second]) * way
    apart = np.abs(scaled - classifier.group_mean) / classifier.group_sd
    # Where none or too few do, the others fill up.
    order = np.lexsort((-speaks, apart[first] > apart[second]))
    return tuple(_sentence(classifier, int(k), float(scaled[k]), first, second) for k in order[:_DECIDERS])


def _sentence(classifier: Classifier, k: int, scaled: float, first: int, second: int) -> str:
    feature = classifier.features[k]
    usual = []
    for group in (first, second):
        mean, half = classifier.group_mean[group, k], _USUAL_SD * classifier.group_sd[group, k]
        low, high = (max(feature.unscaled(end), 0.0) for end in (mean - half, mean + half))
        usual.append(f"{low:.{feature.decimals}f} to {feature.text(high)} in {GROUPS[group]}")
    subject = feature.title[0].upper() + feature.title[1:]
    return f"{subject} {feature.text(feature.unscaled(scaled))}: usual are {usual[0]} and {usual[1]}."


def load_classifier(path: Path | None = None) -> Classifier:
    """Read a classifier from its JSON file, by default the one that comes with the library.

    Raises:
        ModelError: it is missing, damaged, or of another version.
    """
    if path is None:
        found = [folder / MODEL_FILE for folder in resource_folders("Models") if (folder / MODEL_FILE).is_file()]
        if not found:
            raise ModelError(
                f"The classifier of diagnosis groups, '{MODEL_FILE}', did not come with this installation."
            )
        path = found[0]
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names = tuple(map(str, content["features"]))
        fits = content["format"] == FORMAT and content["version"] == FORMAT_VERSION
        fits = fits and content["groups"] == list(GROUPS) and set(names) <= set(FEATURES)
        arrays = {name: np.array(content[name], float) for name in Classifier.ARRAYS} if fits else {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"'{path}' is not a classifier of diagnosis groups, or is damaged.") from error
    if not fits:
        raise ModelError(f"'{path}' was made for other figures, groups or another version of CardiacSeg.")
    many, few = len(names), len(GROUPS)
    shapes = {"mean": (many,), "sd": (many,), "bias": (few,)}
    for name, array in arrays.items():
        wrong = array.shape != shapes.get(name, (few, many)) or not np.isfinite(array).all()
        if wrong or (name.endswith("sd") and array.min() <= 0):
            raise ModelError(f"'{path}' is damaged: its {name} is not what it should be.")
    return Classifier(names, **arrays)
