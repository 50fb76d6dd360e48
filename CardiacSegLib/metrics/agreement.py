"""Agreement of two ways to measure the same quantity: correlation, bias and limits of agreement.

Source: J. M. Bland, D. G. Altman, "Statistical methods for assessing agreement between two methods of
clinical measurement", Lancet 327(8476):307–310, 1986.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from CardiacSegLib.errors import StudyError

#: The limits of agreement lie this many standard deviations from the bias (95 % of a normal distribution).
LIMITS_SD = 1.96


@dataclass(frozen=True)
class Agreement:
    """Automatic against manual, in the unit of the quantity; NaN where too few pairs tell.

    Attributes:
        n: pairs that count.
        left_out: pairs of which one or both values are not known.
        r: Pearson's correlation; NaN with fewer than 3 pairs or where a side does not vary.
        bias: mean of automatic − manual.
        sd: standard deviation (n − 1) of the differences.
        loa_low, loa_high: limits of agreement, bias ± 1.96 SD.
        mean_absolute_error: mean of |automatic − manual|.
    """

    n: int
    left_out: int
    r: float
    bias: float
    sd: float
    loa_low: float
    loa_high: float
    mean_absolute_error: float


def agreement(automatic: Sequence[float] | np.ndarray, manual: Sequence[float] | np.ndarray) -> Agreement:
    """Agreement of paired values, one pair per patient, both in the same unit; NaN stands for not known.

    Raises:
        StudyError: the two are not of equal length.
    """
    a, m = np.asarray(automatic, float).ravel(), np.asarray(manual, float).ravel()
    if a.size != m.size:
        raise StudyError(f"Agreement needs pairs: there are {a.size} automatic and {m.size} manual values.")
    known = np.isfinite(a) & np.isfinite(m)
    n, left_out = int(known.sum()), int((~known).sum())
    a, m = a[known], m[known]
    difference = a - m
    bias = float(difference.mean()) if n else np.nan
    sd = float(difference.std(ddof=1)) if n > 1 else np.nan
    return Agreement(
        n=n,
        left_out=left_out,
        r=_correlation(a, m),
        bias=bias,
        sd=sd,
        loa_low=bias - LIMITS_SD * sd,
        loa_high=bias + LIMITS_SD * sd,
        mean_absolute_error=float(np.abs(difference).mean()) if n else np.nan,
    )


def _correlation(a: np.ndarray, m: np.ndarray) -> float:
    # A tie to rounding counts as no variance: r of rounding errors would be a number without meaning.
    if a.size < 3 or any(np.ptp(v) <= 1e-12 * np.abs(v).max() for v in (a, m)):
        return float("nan")
    return float(np.clip(np.corrcoef(a, m)[0, 1], -1.0, 1.0))
