"""What the figures of a reading mean: the library's definitions, those of the figures that the reading holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from CardiacSegLib.function.body import BSA_FORMULAS
from CardiacSegLib.function.definitions import CONVENTIONS, DEFINITIONS
from CardiacSegLib.report.measures import CYCLE_FIGURES, finite, inside

_FIGURES = ("sv_ml", "ef_percent", "co_l_per_min", "mass_g")


def definitions(function: Mapping[str, Any], *, ranges: bool) -> dict[str, str]:
    """Definitions and conventions by what they define, of the figures that ``function.json`` holds.

    Args:
        function: content of ``function.json``.
        ranges: whether reference ranges are shown.
    """
    cycle = bool(inside(function, "cycle"))
    said = {"Conventions": " ".join(CONVENTIONS if cycle else CONVENTIONS[:-1])}
    known = [key for key in _FIGURES if any(finite(inside(function, p).get(key)) is not None for p in ("lv", "rv"))]
    said["Figures"] = _sentences(known)
    if inside(function, "indexed"):
        formula = str(inside(function, "patient").get("bsa_formula") or "du_bois")
        said["Per m²"] = f"of body surface. {BSA_FORMULAS.get(formula, formula)}."
    rates = [f.key for f in CYCLE_FIGURES if f.part == "cycle.lv" and f.value_in(function) is not None]
    if rates:
        said["Rates"] = _sentences(rates)
    wall = inside(function, "wall")
    if wall:
        segments = "16 segments of the AHA (Cerqueira et al. 2002), counted from the anterior insertion of the RV."
        given = wall.get("assumptions")
        assumed = [str(one) for one in given] if isinstance(given, (list, tuple)) else []
        said["Wall"] = " ".join([segments, str(wall.get("method") or ""), *assumed]).strip()
    if ranges:
        said["Ranges"] = "A figure without a range has none that applies; one outside its range is said to be so."
    return {name: text for name, text in said.items() if text}


def _sentences(keys: list[str]) -> str:
    return " ".join(f"{DEFINITIONS[key].title}: {DEFINITIONS[key].text}" for key in keys)
