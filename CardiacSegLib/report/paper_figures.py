"""The published figures, Tables 1 to 4, as printed: 5-fold cross-validation on the 100 ACDC training patients.

Every figure is found by its place in ``evaluation.json`` (see :mod:`CardiacSegLib.metrics.evaluation`), for example
``("structures", "LV", "ED", "dice")`` or ``("clinical", "lv_ef", "bias")``, so that ours are looked up by the same key.
Hausdorff distances are in mm; biases and limits in percentage points of ejection fraction and g of myocardium.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

Key = tuple[str, ...]

#: The losses in the order in which the paper lists them, with its names for them.
LOSSES: Mapping[str, str] = MappingProxyType({"ce": "CE Loss", "dice": "Dice Loss", "dice-ce": "Dice-CE Loss"})

#: Columns of Tables 1 and 2, left to right.
DISTANCE_KEYS: tuple[Key, ...] = tuple(
    ("structures", structure, phase, measure)
    for measure in ("dice", "hausdorff_mm")
    for structure in ("LV", "RV", "MYO")
    for phase in ("ED", "ES")
)

#: Columns of Tables 3 and 4, left to right; the limits of agreement are two figures in one printed column.
CLINICAL_KEYS: tuple[Key, ...] = tuple(
    ("clinical", quantity, statistic)
    for quantity in ("lv_ef", "rv_ef", "myo_mass_ed")
    for statistic in ("r", "bias", "loa_low", "loa_high")
)

_DISTANCE = {
    (2, "ce"): "0.95 0.90 0.87 0.76 0.79 0.82  13.92 17.67 27.40 27.73 23.81 22.11",
    (2, "dice"): "0.95 0.90 0.90 0.79 0.86 0.88  9.51 12.29 16.1 20.38 13.45 14.88",
    (2, "dice-ce"): "0.95 0.90 0.89 0.81 0.83 0.84  9.15 11.7 16.0 18.22 13.87 15.35",
    (3, "ce"): "0.94 0.89 0.86 0.73 0.76 0.81  12.36 14.41 25.85 29.57 43.47 43.82",
    (3, "dice"): "0.95 0.90 0.91 0.83 0.85 0.86  14.95 14.35 23.15 22.14 37.75 38.50",
    (3, "dice-ce"): "0.94 0.89 0.91 0.81 0.83 0.85  10.71 11.52 38.01 32.26 43.28 44.98",
}
_CLINICAL = {
    (2, "ce"): "0.95 -0.74 -12.48 11.00  0.822 9.79 -10.89 30.47  0.93 -43.85 -92.12 4.42",
    (2, "dice"): "0.88 1.06 -18.10 20.22  0.822 9.35 -11.67 30.37  0.95 -6.32 -39.46 26.82",
    (2, "dice-ce"): "0.93 -0.46 -15.67 14.75  0.813 5.66 -16.59 27.91  0.94 -29.31 -68.20 9.58",
    (3, "ce"): "0.975 1.04 -7.67 9.75  0.756 9.62 -15.11 34.35  0.922 -48.17 -97.51 1.17",
    (3, "dice"): "0.956 1.51 -10.09 13.11  0.825 4.99 -17.17 27.15  0.958 3.77 -24.91 32.45",
    (3, "dice-ce"): "0.956 1.25 -10.37 12.87  0.867 6.19 -12.09 24.47  0.950 -10.08 -42.85 22.69",
}


def _by_key(dims: int, loss: str) -> Mapping[Key, str]:
    distance = _DISTANCE[dims, loss].split()
    clinical = _CLINICAL[dims, loss].split()
    return MappingProxyType(dict(zip(DISTANCE_KEYS + CLINICAL_KEYS, distance + clinical)))


#: The paper's figures as printed text, by (dimensions of the network, loss), then by key.
PAPER: Mapping[tuple[int, str], Mapping[Key, str]] = MappingProxyType(
    {(dims, loss): _by_key(dims, loss) for dims in (2, 3) for loss in LOSSES}
)
