"""Fit the classifier of diagnosis groups on ACDC, and measure it and other recipes.

python Testing/Benchmarks/fit_diagnosis.py acdc/training RESULTS [--output Resources/Models/diagnosis.json]

``RESULTS`` is the output of ``cardiacseg crossval acdc/training``: each patient's automatic masks are of a network that
never saw the patient. Needs scikit-learn for the other recipes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from CardiacSegLib import __version__
from CardiacSegLib.function.diagnosis import GROUPS
from CardiacSegLib.function.diagnosis_features import FEATURES, USED, diagnosis_features
from CardiacSegLib.function.diagnosis_fit import (
    classifier_json,
    fit_classifier,
    scaled_figures,
    stratified_folds,
    wilson_interval,
)
from CardiacSegLib.readers.acdc import read_acdc_truth, read_info
from CardiacSegLib.readers.images import read_label_map

SEEDS, FOLDS = 10, 5
#: Patients with the same images.
TWINS = ("patient074", "patient076")
HELD_OUT = 5  # patients whose number divides by this, to be compared with what was measured before


@dataclass(frozen=True)
class Recipe:
    """Which figures, fitted on which masks, by what; ``None``: as shipped."""

    title: str
    names: tuple[str, ...] = USED
    both: bool = True
    model: Callable[[], Any] | None = None


ALL = tuple(FEATURES)
SHIPPED = Recipe("shipped: logistic, 16 figures")
RECIPES = (
    SHIPPED,
    Recipe("logistic, 16 figures, manual masks only", both=False),
    Recipe("logistic, the 20 published figures", ALL),
    Recipe("logistic, the 20 published figures, manual masks only", ALL, False),
    Recipe("random forest, 20 figures", ALL, True, lambda: RandomForestClassifier(100, random_state=0)),
    Recipe(
        "random forest, 20 figures, manual masks only", ALL, False, lambda: RandomForestClassifier(100, random_state=0)
    ),
    Recipe(
        "linear discriminant (shrunk), 20 figures, manual masks only",
        *(ALL, False, lambda: LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")),
    ),
    Recipe("support vectors (RBF), 20 figures, manual masks only", ALL, False, SVC),
)


class Cohort:
    """Names, groups and figures of the patients, from manual and from automatic masks."""

    def __init__(self, root: Path, results: Path) -> None:
        self.names, self.groups, self.manual, self.automatic = [], [], [], []
        predicted = {file.name: file for file in results.glob("fold*/predictions/*_seg.nii.gz")}
        for folder in sorted(root.glob("patient*")):
            info, truth = read_info(folder / "Info.cfg"), read_acdc_truth(folder)
            self.names.append(folder.name)
            self.groups.append(str(info.group))
            self.manual.append(diagnosis_features(truth[info.ed], truth[info.es]))
            masks = [predicted[f"{folder.name}_frame{n:02d}_seg.nii.gz"] for n in (info.ed, info.es)]
            self.automatic.append(diagnosis_features(*map(read_label_map, masks)))

    def folds(self, patients: np.ndarray, seed: int) -> np.ndarray:
        """Fold of each of some patients."""
        groups = [self.groups[i] for i in patients]
        twins = [k for k, i in enumerate(patients) if self.names[i] in TWINS]
        return stratified_folds(groups, FOLDS, seed, [twins] if twins else [])

    def fit(self, recipe: Recipe, patients: Sequence[int]) -> Callable[[list[dict[str, Any]]], list[str]]:
        """A function from figures to groups, fitted on some patients."""
        rows = [self.manual[i] for i in patients] + [self.automatic[i] for i in patients if recipe.both]
        groups = [self.groups[i] for i in patients] * (2 if recipe.both else 1)
        if recipe.model is None:
            fitted = fit_classifier(rows, groups, [len(patients) / len(rows)] * len(rows), recipe.names)
            return lambda hearts: [
                GROUPS[k] for k in fitted.probabilities(scaled_figures(hearts, recipe.names)).argmax(axis=1)
            ]
        model = make_pipeline(StandardScaler(), recipe.model()).fit(scaled_figures(rows, recipe.names), groups)
        return lambda hearts: list(model.predict(scaled_figures(hearts, recipe.names)))

    def right(self, recipe: Recipe, fitted: Sequence[int], tried: Sequence[int]) -> np.ndarray:
        """Whether each patient tried is told right, ``(2, patients)``: from manual, from automatic masks."""
        tell = self.fit(recipe, fitted)
        true = np.array([self.groups[i] for i in tried])
        return np.array([np.array(tell([m[i] for i in tried])) == true for m in (self.manual, self.automatic)])

    def cross_validate(self, recipe: Recipe | None, patients: np.ndarray, seed: int) -> np.ndarray:
        """Whether each patient is told right; without a recipe that of each fold is chosen inside its training set."""
        fold, result = self.folds(patients, seed), np.zeros((2, len(patients)), bool)
        for k in range(FOLDS):
            inside, outside = patients[fold != k], patients[fold == k]
            result[:, fold == k] = self.right(recipe or self.choose(inside), inside, outside)
        return result

    def choose(self, patients: np.ndarray) -> Recipe:
        """The recipe that does best in a cross-validation among these patients, both kinds of masks together."""
        return max(RECIPES, key=lambda recipe: self.cross_validate(recipe, patients, 0).sum())


def row(title: str, right: Sequence[float], of: int) -> str:
    """A row of a table: mean, range over the seeds, Wilson interval of one pass."""
    mean = float(np.mean(right))
    low, high = wilson_interval(mean, of)
    spread = f"{min(right) / of:.2f}-{max(right) / of:.2f}" if len(right) > 1 else "—"
    return f"| {title} | {of} | {mean / of:.3f} | {spread} | {low:.3f}-{high:.3f} |"


def confusion_table(cohort: Cohort, measured: list[dict[str, Any]]) -> str:
    """Patients of each true group (down) by what they are told to be (across), a mean over seeds."""
    count = np.zeros((len(GROUPS), len(GROUPS)))
    everyone = np.arange(len(cohort.names))
    for seed in range(SEEDS):
        fold = cohort.folds(everyone, seed)
        for k in range(FOLDS):
            tried = everyone[fold == k]
            for i, told in zip(tried, cohort.fit(SHIPPED, everyone[fold != k])([measured[i] for i in tried])):
                count[GROUPS.index(cohort.groups[i]), GROUPS.index(told)] += 1 / SEEDS
    lines = ["| true \\ told | " + " | ".join(GROUPS) + " |", "|---|" + "---:|" * len(GROUPS)]
    lines += [f"| {group} | " + " | ".join(f"{v:.1f}" for v in counts) + " |" for group, counts in zip(GROUPS, count)]
    return "\n".join(lines)


def main() -> None:
    """Print the tables; write the classifier fitted on all patients."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("acdc", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    cohort = Cohort(arguments.acdc, arguments.results)
    everyone = np.arange(len(cohort.names))
    held_out = np.array([int(name[-3:]) % HELD_OUT == 0 for name in cohort.names])
    train, test = everyone[~held_out], everyone[held_out]
    head = "| recipe | patients | accuracy | seeds | Wilson 95 % |\n|---|---:|---:|---|---|"

    right: dict[str, list[np.ndarray]] = {
        recipe.title: [cohort.cross_validate(recipe, everyone, seed) for seed in range(SEEDS)] for recipe in RECIPES
    }
    right["chosen among these inside each training set"] = [
        cohort.cross_validate(None, everyone, seed) for seed in range(3)
    ]
    for k, kind in enumerate(("manual", "automatic")):
        print(f"\n## All 100, {kind} masks, cross-validated\n\n{head}")
        print(
            "\n".join(row(title, [float(r[k].sum()) for r in found], len(everyone)) for title, found in right.items())
        )
    chosen = cohort.choose(train)
    for k, kind in enumerate(("manual", "automatic")):
        print(f"\n## The 20 held out, {kind} masks, fitted on the other 80\n\n{head}")
        for recipe, title in [*((r, r.title) for r in RECIPES), (chosen, f"chosen among the 80 ({chosen.title})")]:
            print(row(title, [float(cohort.right(recipe, train, test)[k].sum())], len(test)))
    for kind, measured in (("manual", cohort.manual), ("automatic", cohort.automatic)):
        print(f"\n## Shipped recipe, all 100, {kind} masks\n\n{confusion_table(cohort, measured)}")
    if arguments.output:
        facts = {
            "patients": len(everyone),
            "data": "ACDC training: manual masks, and automatic ones of networks that never saw the patient",
            "accuracy_manual_cross_validated": round(float(np.mean([r[0].mean() for r in right[SHIPPED.title]])), 3),
            "accuracy_automatic_cross_validated": round(float(np.mean([r[1].mean() for r in right[SHIPPED.title]])), 3),
            "version": __version__,
        }
        rows = [*cohort.manual, *cohort.automatic]
        classifier = fit_classifier(rows, cohort.groups * 2, [0.5] * len(rows))
        arguments.output.write_text(json.dumps(classifier_json(classifier, facts), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
