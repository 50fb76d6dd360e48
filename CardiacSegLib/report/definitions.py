"""What the figures of a reading mean, in the words that stand beneath them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from CardiacSegLib.function.volumes import MYOCARDIUM_DENSITY_G_PER_ML
from CardiacSegLib.report.measures import inside

_MOSTELLER = "√(cm · kg / 3600) (Mosteller 1987)"
_DU_BOIS = "0.007184 · kg^0.425 · cm^0.725 (Du Bois and Du Bois 1916)"


def definitions(function: Mapping[str, Any], *, per_m2: bool, ranges: bool) -> dict[str, str]:
    """Definitions and conventions by what they define, of the figures that ``function.json`` holds.

    Args:
        function: content of ``function.json``.
        per_m2: whether figures per m² are shown.
        ranges: whether reference ranges are shown.
    """
    said = {
        "Volumes": "voxels counted slice by slice (stack of disks), nothing interpolated at the base. Papillary "
        "muscles and trabeculae belong to the cavity. Reference ranges made otherwise do not apply.",
        "Phases": "end diastole (ED) is the frame of the largest, end systole (ES) that of the smallest LV volume, or "
        "the frames that were named.",
        "Figures": "stroke volume SV = EDV − ESV; ejection fraction EF = SV / EDV"
        + ("; cardiac output = SV · heart rate" if _has_output(function) else "")
        + f"; mass = myocardium at ED · {MYOCARDIUM_DENSITY_G_PER_ML} g/mL.",
    }
    if per_m2:
        formula = str(inside(function, "patient").get("bsa_formula") or "").lower()
        said["Per m²"] = "of body surface, " + (_MOSTELLER if "mosteller" in formula else _DU_BOIS) + "."
    if inside(function, "cycle"):
        said["Peak rates"] = (
            "the steepest fall (ejection) and rise (filling) of the smoothed time–volume curve; times to them count "
            "from end diastole and from end systole."
        )
    if inside(function, "wall"):
        method = str(inside(function, "wall").get("method") or "")
        said["Wall"] = "thickness of the LV's wall on the 16 segments of the AHA (Cerqueira et al. 2002), counted from "
        said["Wall"] += "the anterior insertion of the RV" + (f"; {method}" if method else "") + "."
    if ranges:
        said["Ranges"] = "an unmarked figure has no range that applies; a figure outside its range is said to be so."
    return said


def _has_output(function: Mapping[str, Any]) -> bool:
    return any(inside(function, part).get("co_l_per_min") is not None for part in ("lv", "rv"))
