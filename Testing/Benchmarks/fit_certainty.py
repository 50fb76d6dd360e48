"""Fit and judge the Dice to be expected (CardiacSegLib/certainty.py) on the patients of a cross-validation.

python Testing/Benchmarks/fit_certainty.py RUN ACDC [PICTURES]

Each fold's network draws the patients that it did not see. A line for each structure takes the Dice with the network's
own probabilities to the true one; to judge it, each fold's is predicted by the line through the others.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from CardiacSegLib import certainty
from CardiacSegLib.inference import Segmenter
from CardiacSegLib.metrics.overlap import dice
from CardiacSegLib.readers.acdc import read_acdc_folder, read_acdc_truth
from CardiacSegLib.report.plots import scatter_svg
from CardiacSegLib.study import STRUCTURES
from CardiacSegLib.writers import write_text

BAD = 0.80  # such a structure should carry a warning


def own_and_true(run: Path, data: Path) -> dict[str, np.ndarray]:
    """By structure ``(n, 3)``: fold, Dice with the network's own probabilities, and true Dice."""
    found: dict[str, list[tuple[float, ...]]] = {s.name: [] for s in STRUCTURES}
    certainty.CALIBRATION = dict.fromkeys(STRUCTURES, (0.0, 1.0))  # as it comes
    folds = json.loads((run / "splits.json").read_text(encoding="utf-8"))["folds"]
    for fold, names in enumerate(folds):
        if not (run / f"fold{fold}" / "fold.json").is_file():
            continue
        segmenter = Segmenter(run / f"fold{fold}" / "model.pt", region=True)
        for name in names:
            study, truths = read_acdc_folder(data / name), read_acdc_truth(data / name)
            result = segmenter.segment(study)
            for index, of in result.certainty.items():
                truth = truths[study.frame_numbers[index]]
                for s, one in of.items():
                    true = dice(result.labels[index].mask(s), truth.mask(s))
                    found[s.name].append((fold, one.expected_dice, true))
    return {name: np.array(rows) for name, rows in found.items()}


def held_out(rows: np.ndarray) -> np.ndarray:
    """Expected Dice of every row, by the line through the other folds."""
    expected = np.zeros(len(rows))
    for fold in np.unique(rows[:, 0]):
        mine = rows[:, 0] == fold
        slope, offset = np.polyfit(rows[~mine, 1], rows[~mine, 2], 1)
        expected[mine] = np.clip(offset + slope * rows[mine, 1], 0, 1)
    return expected


def main(run: Path, data: Path, pictures: Path | None = None) -> None:
    """Print the lines, the correlations and what a limit warns of."""
    everything = []
    for name, rows in own_and_true(run, data).items():
        slope, offset = np.polyfit(rows[:, 1], rows[:, 2], 1)
        expected = held_out(rows)
        r = np.corrcoef(expected, rows[:, 2])[0, 1]
        print(f"Label.{name}: ({offset:.3f}, {slope:.3f}),  # held out r {r:.2f}, n {len(rows)}")
        everything.append(np.stack([expected, rows[:, 2]], axis=1))
        if pictures is not None:
            title = f"Expected and true Dice, {name}"
            write_text(
                pictures / f"expected_dice_{name.lower()}.svg",
                scatter_svg(expected.tolist(), rows[:, 2].tolist(), title, "Dice", ("Expected", "True")),
            )
    both = np.concatenate(everything)
    bad = both[:, 1] < BAD
    print(f"all: r {np.corrcoef(both.T)[0, 1]:.2f}, n {len(both)}, {bad.sum()} below {BAD:.2f}")
    for limit in (0.80, 0.85, 0.875, 0.90):
        warned = both[:, 0] < limit
        print(f"below {limit:.3f}: {warned.mean():.1%} of all warned, {(warned & bad).sum()} of {bad.sum()} bad ones")


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:4]))
