"""Fit and judge the Dice to be expected (CardiacSegLib/certainty.py) on the patients of a cross-validation.

python Testing/Benchmarks/fit_certainty.py RUN ACDC [PICTURES]

Each fold's network draws the patients that it did not see. For each structure a plane takes the errors (ln(1 - Dice))
by the network's own probabilities and between its two looks to the true one; to judge it, each fold's is
predicted by the plane through the others.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from CardiacSegLib.certainty import log_error
from CardiacSegLib.inference import Segmenter
from CardiacSegLib.metrics.overlap import dice
from CardiacSegLib.readers.acdc import read_acdc_folder, read_acdc_truth
from CardiacSegLib.report.plots import scatter_svg
from CardiacSegLib.study import STRUCTURES
from CardiacSegLib.writers import write_text

BAD = 0.80  # such a structure should carry a warning


def told_and_true(run: Path, data: Path) -> dict[str, np.ndarray]:
    """By structure ``(n, 4)``: fold, Dice with own probabilities, likeness of both looks, true Dice."""
    found: dict[str, list[tuple[float, ...]]] = {s.name: [] for s in STRUCTURES}
    folds = json.loads((run / "splits.json").read_text(encoding="utf-8"))["folds"]
    for fold, names in enumerate(folds):
        if not (run / f"fold{fold}" / "fold.json").is_file():
            continue
        segmenter = Segmenter(run / f"fold{fold}" / "model.pt", region=True)
        for name in names:
            study, truths = read_acdc_folder(data / name), read_acdc_truth(data / name)
            result = segmenter.segment(study, with_certainty=True)
            for index, of in result.certainty.items():
                truth = truths[study.frame_numbers[index]]
                for s, one in of.items():
                    true = dice(result.labels[index].mask(s), truth.mask(s))
                    found[s.name].append((fold, one.own_dice, one.likeness, true))
    return {name: np.array(rows) for name, rows in found.items()}


def plane(rows: np.ndarray) -> np.ndarray:
    """Offset and two slopes, by least squares."""
    errors = log_error(rows[:, 1:])
    return np.linalg.lstsq(np.column_stack([np.ones(len(rows)), errors[:, :2]]), errors[:, 2], rcond=None)[0]


def expected(rows: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Expected Dice of every row by a plane."""
    return 1.0 - np.exp(np.minimum(by[0] + log_error(rows[:, 1:3]) @ by[1:], 0.0))


def held_out(rows: np.ndarray) -> np.ndarray:
    """Expected Dice of every row, by the plane through the other folds."""
    result = np.zeros(len(rows))
    for fold in np.unique(rows[:, 0]):
        mine = rows[:, 0] == fold
        result[mine] = expected(rows[mine], plane(rows[~mine]))
    return result


def main(run: Path, data: Path, pictures: Path | None = None) -> None:
    """Print the lines, the correlations and what a limit warns of."""
    everything = []
    for name, rows in told_and_true(run, data).items():
        guess, true = held_out(rows), rows[:, 3]
        numbers = ", ".join(f"{value:.3f}" for value in plane(rows))
        print(f"Label.{name}: ({numbers}),  # held out r {np.corrcoef(guess, true)[0, 1]:.3f}, n {len(rows)}")
        everything.append(np.stack([guess, true], axis=1))
        if pictures is not None:
            title = f"Expected and true Dice, {name}"
            write_text(
                pictures / f"expected_dice_{name.lower()}.svg",
                scatter_svg(guess.tolist(), true.tolist(), title, "Dice", ("Expected", "True")),
            )
    both = np.concatenate(everything)
    bad = both[:, 1] < BAD
    print(f"all: r {np.corrcoef(both.T)[0, 1]:.2f}, n {len(both)}, {bad.sum()} below {BAD:.2f}")
    for limit in (0.80, 0.825, 0.85, 0.86, 0.87, 0.88, 0.89, 0.90):
        warned = both[:, 0] < limit
        print(f"below {limit:.3f}: {warned.mean():.1%} of all warned, {(warned & bad).sum()} of {bad.sum()} bad ones")


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:4]))
