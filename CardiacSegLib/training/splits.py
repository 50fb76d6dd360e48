"""Which patients train and which validate."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from CardiacSegLib.errors import TrainingError
from CardiacSegLib.readers.acdc import read_acdc_folder
from CardiacSegLib.training.dataset import Case


def five_folds(cases: Sequence[Case], folds: int = 5, seed: int = 0) -> list[list[str]]:
    """The validation patients of every fold, by name: stratified by diagnosis group.

    Patients with identical images (074 and 076 of ACDC) fall into one fold: otherwise one would be validated on
    what the network has seen.

    Raises:
        TrainingError: fewer patients than folds.
    """
    if len(cases) < 2:
        raise TrainingError("A cross-validation needs two patients or more.")
    if not 2 <= folds <= len(cases):
        raise TrainingError(f"{len(cases)} patients cannot be split into {folds} folds; use 2 to {len(cases)}.")
    twins = _twins(cases)
    generator = np.random.default_rng(seed)
    result: list[list[str]] = [[] for _ in range(folds)]
    groups: dict[str, list[list[Case]]] = defaultdict(list)
    for together in twins:
        groups[together[0].group].append(together)
    for group in sorted(groups):
        members = groups[group]
        # Twins first, so that the single patients even the folds out afterwards.
        order = sorted(generator.permutation(len(members)).tolist(), key=lambda i: -len(members[i]))
        counts = [0] * folds
        for i in order:
            fold = min(range(folds), key=lambda f: (counts[f], len(result[f]), f))
            counts[fold] += len(members[i])
            result[fold] += [case.name for case in members[i]]
    return [sorted(names) for names in result]


def _twins(cases: Sequence[Case]) -> list[list[Case]]:
    """Patients grouped by the voxels of their images (the files around them may differ); most are alone."""
    by_content: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        image = read_acdc_folder(case.folder).image
        by_content[f"{image.shape} {hashlib.sha256(image.tobytes()).hexdigest()}"].append(case)
    return list(by_content.values())


def split_by_name(cases: Sequence[Case], validation: Sequence[str]) -> tuple[list[str], list[str]]:
    """Training and validation patients by name.

    Raises:
        TrainingError: a name is not among the cases, or nothing is left to train with.
    """
    names = [case.name for case in cases]
    unknown = sorted(set(validation) - set(names))
    if unknown:
        raise TrainingError(f"Unknown validation patients: {', '.join(unknown[:5])}.")
    training = [name for name in names if name not in set(validation)]
    if not training:
        raise TrainingError("Every patient is in the validation set; none is left to train with.")
    return training, [name for name in names if name in set(validation)]
