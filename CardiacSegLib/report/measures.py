"""The figures of a reading as rows: name, value, unit, per m² of body surface, reference range, corrected by hand.

Every page and table of figures is made of these rows. They are taken from the content of ``function.json``; a figure
that is not there, or not known, has no row.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from CardiacSegLib.function.body import PER_M2
from CardiacSegLib.study import Label

#: By phase (``"ED"``, ``"ES"``, or ``"frame 7"`` of a frame that is neither) the structures whose masks were corrected
#: by hand.
Corrected = Mapping[str, Collection[Label]]

#: Stands for every phase in a figure's masks.
ANY_PHASE = "*"


@dataclass(frozen=True)
class Figure:
    """A figure of ``function.json``, what a table calls it, and the masks (phase and structure) it is made of.

    ``part`` may name a part within a part, as in ``cycle.lv``.
    """

    part: str
    key: str
    structure: Label
    title: str
    unit: str
    masks: tuple[tuple[str, Label], ...] = ()
    decimals: int = 1

    @property
    def name(self) -> str:
        """Its name in ``function.json``, for example ``lv.edv_ml``."""
        return f"{self.part}.{self.key}"

    def is_corrected(self, corrected: Corrected) -> bool:
        """Whether any mask that enters it was corrected by hand."""
        return any(
            structure in structures
            for phase, structure in self.masks
            for given, structures in corrected.items()
            if phase in (given, ANY_PHASE)
        )

    def value_in(self, function: Mapping[str, Any]) -> float | None:
        """Its value, or ``None`` where ``function.json`` does not hold a finite number."""
        return finite(inside(function, self.part).get(self.key))


def inside(function: Mapping[str, Any], part: str) -> Mapping[str, Any]:
    """A part of ``function.json`` by name (``lv``, ``cycle.lv``); empty where it is not there."""
    found: Any = function
    for name in part.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def finite(value: Any) -> float | None:
    """A finite number, or ``None`` for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def _ventricle(part: str, structure: Label) -> tuple[Figure, ...]:
    ed, es = ("ED", structure), ("ES", structure)
    return (
        Figure(part, "edv_ml", structure, "End-diastolic volume", "mL", (ed,)),
        Figure(part, "esv_ml", structure, "End-systolic volume", "mL", (es,)),
        Figure(part, "sv_ml", structure, "Stroke volume", "mL", (ed, es)),
        Figure(part, "ef_percent", structure, "Ejection fraction", "%", (ed, es)),
        Figure(part, "co_l_per_min", structure, "Cardiac output", "L/min", (ed, es)),
        Figure(part, "volume_ml", structure, "Volume", "mL", ((ANY_PHASE, structure),)),
    )


#: What a table of one reading lists, in this order. "Volume" is that of a single frame of unknown phase.
FIGURES: tuple[Figure, ...] = (
    *_ventricle("lv", Label.LV),
    *_ventricle("rv", Label.RV),
    Figure("myo", "ed_ml", Label.MYO, "Volume at end diastole", "mL", (("ED", Label.MYO),)),
    Figure("myo", "es_ml", Label.MYO, "Volume at end systole", "mL", (("ES", Label.MYO),)),
    Figure("myo", "volume_ml", Label.MYO, "Volume", "mL", ((ANY_PHASE, Label.MYO),)),
    Figure("lv", "mass_g", Label.LV, "Mass at end diastole", "g", (("ED", Label.MYO),)),
)


def _rates(part: str, structure: Label) -> tuple[Figure, ...]:
    masks = ((ANY_PHASE, structure),)
    return (
        Figure(part, "peak_ejection_rate_ml_per_s", structure, "Peak ejection rate", "mL/s", masks, 0),
        Figure(part, "time_to_peak_ejection_ms", structure, "Time to peak ejection", "ms", masks, 0),
        Figure(part, "peak_filling_rate_ml_per_s", structure, "Peak filling rate", "mL/s", masks, 0),
        Figure(part, "time_to_peak_filling_ms", structure, "Time to peak filling", "ms", masks, 0),
    )


#: Known only where the whole cycle was segmented.
CYCLE_FIGURES: tuple[Figure, ...] = (*_rates("cycle.lv", Label.LV), *_rates("cycle.rv", Label.RV))


def _wall(key: str, title: str, phase: str) -> Figure:
    return Figure("wall", key, Label.MYO, title, "mm", ((phase, Label.MYO), (phase, Label.LV)), 1)


#: Thickness of the LV's wall: mean and largest over all its directions and slices.
WALL_FIGURES: tuple[Figure, ...] = (
    _wall("mean_ed_mm", "Mean thickness at ED", "ED"),
    _wall("max_ed_mm", "Largest thickness at ED", "ED"),
    _wall("mean_es_mm", "Mean thickness at ES", "ES"),
    _wall("max_es_mm", "Largest thickness at ES", "ES"),
)

ALL_FIGURES: tuple[Figure, ...] = (*FIGURES, *CYCLE_FIGURES, *WALL_FIGURES)


@dataclass(frozen=True)
class Range:
    """A reference range of a figure, in its unit; an end that is ``None`` is open. ``verdict`` says it in words."""

    low: float | None
    high: float | None
    verdict: str = ""
    source: str = ""

    @property
    def text(self) -> str:
        """``93–232``, ``< 73`` or ``> 50``; empty where no end is known."""
        if self.low is not None and self.high is not None:
            return f"{self.low:g}\N{EN DASH}{self.high:g}"
        if self.low is None and self.high is None:
            return ""
        return f"< {self.high:g}" if self.low is None else f"> {self.low:g}"

    @property
    def is_outside(self) -> bool:
        """Whether the verdict is another than "within the range"."""
        return bool(self.verdict) and not self.verdict.lower().startswith("within")


@dataclass(frozen=True)
class FigureRow:
    """A figure that is known. ``per_m2`` is its value per m², in ``unit``/m²; both may have a reference range."""

    figure: Figure
    value: float
    per_m2: float | None = None
    range: Range | None = None
    range_per_m2: Range | None = None
    corrected: bool = False

    @property
    def value_text(self) -> str:
        """Value and unit, as a table shows it."""
        return f"{self.value:.{self.figure.decimals}f} {self.figure.unit}"

    @property
    def per_m2_text(self) -> str:
        """Value per m² with its unit; empty where it is not known."""
        return "" if self.per_m2 is None else f"{self.per_m2:.{max(self.figure.decimals, 1)}f} {self.figure.unit}/m²"


def figure_rows(
    function: Mapping[str, Any],
    *,
    indexed: Mapping[str, Mapping[str, float | None]] | None = None,
    corrected: Corrected | None = None,
) -> list[FigureRow]:
    """The figures that are known, in the order in which tables list them.

    Args:
        function: content of ``function.json``; ``indexed`` and ``ranges`` in it are used where they are there.
        indexed: figures per m² (of :func:`CardiacSegLib.function.body.indexed`) in place of those in ``function``.
        corrected: masks that were corrected by hand.
    """
    per_area = function.get("indexed") if indexed is None else indexed
    ranges, rows = _ranges(function), []
    for figure in ALL_FIGURES:
        value = figure.value_in(function)
        if value is None:
            continue
        rows.append(
            FigureRow(
                figure,
                value,
                finite(inside(per_area or {}, figure.part).get(figure.key + PER_M2)),
                ranges.get(figure.name),
                ranges.get(figure.name + PER_M2),
                figure.is_corrected(corrected or {}),
            )
        )
    return rows


def _ranges(function: Mapping[str, Any]) -> dict[str, Range]:
    """Reference ranges by the figure's name (``lv.edv_ml``); those of indexed figures end in ``_per_m2``."""
    found = {}
    given = function.get("ranges")
    for entry in given if isinstance(given, (list, tuple)) else ():
        if not isinstance(entry, Mapping):
            continue
        name = str(entry.get("figure", ""))
        name = f"{entry['part']}.{name}" if entry.get("part") else name
        low, high = finite(entry.get("low")), finite(entry.get("high"))
        source = "; ".join(str(entry[key]) for key in ("source", "applies_to") if entry.get(key))
        found[name] = Range(low, high, str(entry.get("verdict") or ""), source)
    return found


def range_sources(rows: Collection[FigureRow]) -> list[str]:
    """Where the reference ranges of the rows come from, each source once."""
    ranges = [r for row in rows for r in (row.range, row.range_per_m2) if r is not None]
    return list(dict.fromkeys(r.source for r in ranges if r.source))
