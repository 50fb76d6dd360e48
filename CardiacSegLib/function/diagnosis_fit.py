"""Fitting the classifier of :mod:`~CardiacSegLib.function.diagnosis` and measuring how often it is right."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from CardiacSegLib.errors import TrainingError
from CardiacSegLib.function.diagnosis import FORMAT, FORMAT_VERSION, GROUPS, Classifier, standardised
from CardiacSegLib.function.diagnosis_features import FEATURES, USED

#: Strength of the squared weights against the likelihood of a patient: the usual first choice, not tuned.
PENALTY = 0.5


def fit_classifier(
    features: Sequence[Mapping[str, float | None]],
    groups: Sequence[str],
    weights: Sequence[float] | None = None,
    names: Sequence[str] = USED,
) -> Classifier:
    """Multinomial logistic regression on standardised figures, squared weights penalised; every group counts alike.

    Args:
        features: of each heart, as :func:`~CardiacSegLib.function.diagnosis_features.diagnosis_features` gives them.
        groups: of each heart, one of :data:`~CardiacSegLib.function.diagnosis.GROUPS`.
        weights: how much each counts, by default 1; half for each of two readings of one heart.
        names: of the figures to use.

    Raises:
        TrainingError: a figure is not known, or a group has fewer than two hearts.
    """
    from scipy.optimize import minimize

    values, wanted = scaled_figures(features, names), np.array([GROUPS.index(group) for group in groups])
    if np.bincount(wanted, minlength=len(GROUPS)).min() < 2:
        raise TrainingError(f"Each of the groups {', '.join(GROUPS)} needs two hearts or more.")
    share = np.ones(len(values)) if weights is None else np.asarray(weights, float)
    mean, sd = _moments(values, share)
    x = np.column_stack([standardised(values, mean, sd), np.ones(len(values))])
    balanced = share * (share.sum() / len(GROUPS) / np.bincount(wanted, share))[wanted]
    target = np.eye(len(GROUPS))[wanted]
    penalised = np.append(np.full(len(names), PENALTY), 0.0)

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w = flat.reshape(len(GROUPS), -1)
        scores = x @ w.T
        scores -= scores.max(axis=1, keepdims=True)
        logs = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        slope = ((np.exp(logs) - target) * balanced[:, None]).T @ x + 2 * penalised * w
        return float((penalised * w**2).sum() - balanced @ (logs * target).sum(axis=1)), slope.ravel()

    start = np.zeros(len(GROUPS) * x.shape[1])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 2000}).x.reshape(len(GROUPS), -1)
    by_group = [_moments(values[wanted == k], share[wanted == k]) for k in range(len(GROUPS))]
    group_mean, group_sd = (np.array(column) for column in zip(*by_group))
    return Classifier(tuple(names), mean, sd, found[:, :-1], found[:, -1], group_mean, group_sd)


def scaled_figures(features: Sequence[Mapping[str, float | None]], names: Sequence[str] = USED) -> np.ndarray:
    """Figures of hearts as a classifier takes them, ``(hearts, figures)``.

    Raises:
        TrainingError: one is not known.
    """
    rows = []
    for one in features:
        known = [(FEATURES[name], one.get(name)) for name in names]
        if not all(value is not None and math.isfinite(value) for _, value in known):
            raise TrainingError("A figure of a heart is not known: leave that heart out.")
        rows.append([feature.scaled(float(value)) for feature, value in known if value is not None])
    return np.array(rows)


def _moments(values: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation down the rows, each counted by its share."""
    mean = np.average(values, axis=0, weights=share)
    return mean, np.maximum(np.sqrt(np.average((values - mean) ** 2, axis=0, weights=share)), 1e-6)


def classifier_json(classifier: Classifier, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a model file: means, deviations and weights over many hearts, nothing of any one of them."""

    def numbers(array: np.ndarray) -> Any:
        # Four significant digits are as many as the fit means.
        return np.vectorize(lambda v: float(f"{v:.4g}"))(array).tolist()

    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "groups": list(GROUPS),
        "features": list(classifier.names),
        **{name: numbers(getattr(classifier, name)) for name in Classifier.ARRAYS},
        "facts": dict(facts),
    }


def wilson_interval(right: float, of: int, z: float = 1.96) -> tuple[float, float]:
    """95 % interval of a share ``right / of``.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", J Am Stat Assoc 22:209-212,
    1927. ``right`` may be a mean over repeats; the interval is that of one pass over ``of`` patients.
    """
    share = right / of
    middle = share + z * z / (2 * of)
    half = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    scale = 1 + z * z / of
    return (middle - half) / scale, (middle + half) / scale


def stratified_folds(
    groups: Sequence[str], folds: int, seed: int, together: Sequence[Sequence[int]] = ()
) -> np.ndarray:
    """Fold of each patient: every group spread evenly, drawn by ``seed``; patients named together share a fold."""
    rng = np.random.default_rng(seed)
    bundles = [list(bundle) for bundle in together]
    bundled = {i for bundle in bundles for i in bundle}
    bundles += [[i] for i in range(len(groups)) if i not in bundled]
    fold = np.zeros(len(groups), int)
    for group in sorted(set(groups)):
        mine = [bundle for bundle in bundles if groups[bundle[0]] == group]
        order = sorted(rng.permutation(len(mine)).tolist(), key=lambda k: -len(mine[k]))
        sizes = rng.permutation(folds) * 1e-3  # breaks ties at random
        for k in order:
            at = int(sizes.argmin())
            fold[mine[k]] = at
            sizes[at] += len(mine[k])
    return fold
