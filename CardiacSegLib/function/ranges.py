"""Reference ranges by sex and age, and figures compared with them; a range is given only where it applies.

Source: S. E. Petersen, N. Aung, M. M. Sanghvi, et al., "Reference ranges for cardiac structure and function using
cardiovascular magnetic resonance (CMR) in Caucasians from the UK Biobank population cohort", J Cardiovasc Magn Reson
19:18, 2017, doi 10.1186/s12968-017-0327-9. 800 healthy adults (368 men, 432 women) of 45 to 74 years, Caucasian, 1.5 T
balanced SSFP, short-axis stack, contoured by hand, papillary muscles and trabeculae counted to the volume: the
convention of ACDC and of the shipped models. Ranges of other conventions are larger or smaller and do not apply.

The paper's tables themselves could not be read here; each number was found in two or more places that agree:

- Limits of LV and RV EDV, ESV and EDV index: in the published code of a contouring study that sorts patients into the
  paper's zones (its class ``ReorderPercentage``: abnormal low, normal, abnormal high), and in one other transcription;
  whether the two are independent is not known. As a third check, where means and SD were found (LV EDV 166 ± 32 and
  124 ± 21, LV ESV 69 ± 16 and 49 ± 11 mL, alike in two public transcriptions of the paper's Table 12) each range holds
  mean ± 1.96 SD and is wider at either end by less than a tenth of the mean.
- LV EF (58 ± 5 and 61 ± 5 %) and LV mass index (53 ± 9 and 42 ± 7 g/m², men and women): in the paper's abstract, as the
  publisher and as a second library print it; EF in the two transcriptions of Table 12 too. The ranges are mean ± 1.96
  SD, computed here.

Limits of LV and RV stroke volume, their indexes, ESV indexes and RV EF were found in one place only, or nowhere, and
are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from CardiacSegLib.function.body import PER_M2
from CardiacSegLib.study import Patient

#: As a report prints it.
SOURCE = "Petersen et al., J Cardiovasc Magn Reson 19:18, 2017 (UK Biobank)"
#: Whom and what the ranges hold for.
APPLIES_TO = "healthy Caucasian adults of 45 to 74 years; papillary muscles and trabeculae counted to the volume"

AGES_YEARS = (45, 74)

_Z95 = 1.96  # of a normal distribution, 95 % lie within so many SD


@dataclass(frozen=True)
class Range:
    """The range of one figure of one sex.

    Attributes:
        part, key: where the figure stands in ``function.json`` (indexed ones under ``indexed``).
        sex: ``"M"`` or ``"F"``.
        low, high: limits in the figure's unit; values on a limit are within.
    """

    part: str
    key: str
    sex: str
    low: float
    high: float


def _limits(part: str, key: str, men: tuple[float, float], women: tuple[float, float]) -> tuple[Range, Range]:
    return Range(part, key, "M", *men), Range(part, key, "F", *women)


def _around(mean: float, sd: float) -> tuple[float, float]:
    return round(mean - _Z95 * sd, 1), round(mean + _Z95 * sd, 1)


#: Every range that ships.
RANGES: tuple[Range, ...] = (
    *_limits("lv", "edv_ml", (93, 232), (80, 175)),
    *_limits("lv", "esv_ml", (34, 103), (25, 73)),
    *_limits("lv", "ef_percent", _around(58, 5), _around(61, 5)),
    *_limits("lv", "edv_ml" + PER_M2, (52, 117), (50, 101)),
    *_limits("lv", "mass_g" + PER_M2, _around(53, 9), _around(42, 7)),
    *_limits("rv", "edv_ml", (99, 260), (83, 192)),
    *_limits("rv", "esv_ml", (34, 135), (26, 95)),
    *_limits("rv", "edv_ml" + PER_M2, (55, 128), (51, 110)),
)


def ranges_for(patient: Patient) -> tuple[Range, ...]:
    """The ranges that apply to a patient; none where sex or age are not known or the age is outside the cohort's."""
    age = patient.age_years
    if patient.sex not in ("M", "F") or age is None or not AGES_YEARS[0] <= age < AGES_YEARS[1] + 1:
        return ()
    return tuple(r for r in RANGES if r.sex == patient.sex)


def compare_with_ranges(function: Mapping[str, Any], patient: Patient) -> list[dict[str, Any]]:
    """Compare the figures of ``function.json`` with the ranges that apply.

    Args:
        function: with ``lv`` and ``rv``, and ``indexed`` where body surface area is known.
        patient: sex (``"M"``, ``"F"``) and age decide which ranges apply.

    Returns:
        for every figure that is known and has a range: ``part``, ``figure`` (the key in ``function.json``), ``value``,
        ``low``, ``high``, ``verdict`` (``"below the range"``, ``"within the range"``, ``"above the range"``),
        ``source`` and ``applies_to``.
    """
    compared = []
    for entry in ranges_for(patient):
        group = function.get("indexed") or {} if entry.key.endswith(PER_M2) else function
        value = (group.get(entry.part) or {}).get(entry.key)
        if value is None:
            continue
        compared.append(
            {
                "part": entry.part,
                "figure": entry.key,
                "value": value,
                "low": float(entry.low),
                "high": float(entry.high),
                "verdict": _verdict(float(value), entry),
                "source": SOURCE,
                "applies_to": APPLIES_TO,
            }
        )
    return compared


def _verdict(value: float, entry: Range) -> str:
    if value < entry.low:
        return "below the range"
    return "above the range" if value > entry.high else "within the range"
