"""Body surface area, and figures per square metre of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from CardiacSegLib.errors import StudyError
from CardiacSegLib.function.volumes import json_number

# From a preterm child to the tallest and heaviest of adults; the index tells height and weight that are exchanged,
# or a height in metres or inches.
HEIGHT_PLAUSIBLE_CM = (30.0, 260.0)
WEIGHT_PLAUSIBLE_KG = (1.0, 400.0)
BODY_MASS_INDEX_PLAUSIBLE = (6.0, 110.0)  # kg/m²

#: Ends the name of an indexed figure: ``edv_ml`` becomes ``edv_ml_per_m2``.
PER_M2 = "_per_m2"


#: Formulas for body surface area by name, with the words for a report.
BSA_FORMULAS: Mapping[str, str] = {
    "du_bois": "Du Bois: 0.007184 · kg^0.425 · cm^0.725",
    "mosteller": "Mosteller: √(cm · kg / 3600)",
}


def body_surface_area(height_cm: float, weight_kg: float, formula: str = "du_bois") -> float:
    """Body surface area in m².

    ``"du_bois"``, 0.007184 · kg^0.425 · cm^0.725: D. Du Bois and E. F. Du Bois, "A formula to estimate the approximate
    surface area if height and weight be known", Arch Intern Med 17:863-871, 1916. ``"mosteller"``, √(cm · kg / 3600):
    R. D. Mosteller, "Simplified calculation of body-surface area", N Engl J Med 317:1098, 1987.

    Raises:
        StudyError: height or weight is no number, or cannot be a person's; or the formula is unknown.
    """
    if formula not in BSA_FORMULAS:
        raise StudyError(
            f"There is no formula '{formula}' for body surface area; choose {' or '.join(sorted(BSA_FORMULAS))}."
        )
    for name, value, (low, high), unit in (
        ("height", height_cm, HEIGHT_PLAUSIBLE_CM, "cm"),
        ("weight", weight_kg, WEIGHT_PLAUSIBLE_KG, "kg"),
    ):
        if not math.isfinite(value) or not low <= value <= high:
            raise StudyError(
                f"A {name} of {value:g} {unit} is not plausible. Give it in {unit}, between {low:g} and {high:g}."
            )
    index = weight_kg / (height_cm / 100.0) ** 2
    if not BODY_MASS_INDEX_PLAUSIBLE[0] <= index <= BODY_MASS_INDEX_PLAUSIBLE[1]:
        raise StudyError(
            f"A height of {height_cm:g} cm and a weight of {weight_kg:g} kg do not go together. "
            "Are the two exchanged, or in other units?"
        )
    if formula == "mosteller":
        return math.sqrt(height_cm * weight_kg / 3600.0)
    return 0.007184 * weight_kg**0.425 * height_cm**0.725


def indexed(figures: Mapping[str, Any], bsa_m2: float) -> dict[str, dict[str, float | None]]:
    """Volumes, masses and cardiac output per m² of body surface.

    Args:
        figures: ``lv``, ``rv`` and ``myo`` as ``function.json`` holds them; other keys are left alone.
        bsa_m2: body surface area in m².

    Returns:
        the same parts; every figure in mL, g or L/min under its name and ``_per_m2``, ``None`` where it is not known.
        Percentages do not depend on body size and are left out.

    Raises:
        StudyError: the area is not positive.
    """
    if not math.isfinite(bsa_m2) or bsa_m2 <= 0:
        raise StudyError(f"A body surface area must be a positive number of m², not {bsa_m2:g}.")
    return {
        part: {
            key + PER_M2: None if value is None else json_number(value / bsa_m2)
            for key, value in figures[part].items()
            if key.endswith(("_ml", "_g", "_l_per_min"))
        }
        for part in ("lv", "rv", "myo")
        if part in figures
    }
