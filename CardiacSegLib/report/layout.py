"""How much room the parts of a reading's two pages take, estimated in mm before a browser lays them out.

The pages are A4; text is estimated by its number of characters. What is estimated a little too high only leaves white.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from CardiacSegLib.report.measures import FigureRow
from CardiacSegLib.report.page import lines_of

#: Characters of a name that are shown.
MOST_NAME = 120

_PAGE_MM, _HEADER_MM, _ROW_MM, _CYCLE_MM, _LINE_MM = 268.0, 26.0, 5.3, 58.0, 3.15
# A row of bull's-eyes as wide as the page, and where findings need the room.
_WALL_MM, _SMALL_WALL_MM = 76.0, 65.0
_HEADING_MM = 8.0
_COLUMN_CHARACTERS = 72
# Of many findings the print is smaller: more than so many lines, then so many characters and so high.
_MANY_LINES, _TINY_CHARACTERS, _TINY_MM = 40, 80, 2.8
_LEAST_CONTOURS_MM = 72.0


@dataclass(frozen=True)
class Findings:
    """Sentences of a list, and the classes of its style."""

    sentences: Sequence[str] = ()
    kind: str = ""


def first_sheet_mm(rows: list[FigureRow], identity: Mapping[str, str] | None, cycle: bool, diagnosis: str) -> float:
    """What is left on the first page for findings and the wall."""
    room = _PAGE_MM - _HEADER_MM - _tables_mm(rows) - (_CYCLE_MM if cycle else 0)
    room -= 4 * lines_of((name[:MOST_NAME] for name in identity.values()), 100) if identity else 0
    return room - (12 + _LINE_MM * diagnosis.count("<li>") if diagnosis else 0)


def split_findings(sentences: list[str], room: float, wall: bool) -> tuple[Findings, Findings, bool]:
    """What of the findings has room on the first page (mm), the rest, and whether the wall must be drawn small."""
    shown, rest = _split(sentences, room - (_WALL_MM if wall else 0))
    taken = _HEADING_MM + 1.2 * _LINE_MM * lines_of(shown.sentences, 2 * _COLUMN_CHARACTERS) if shown.sentences else 0
    is_tight = wall and (bool(rest.sentences) or room - _WALL_MM < taken)
    return (*_split(sentences, room - _SMALL_WALL_MM), True) if is_tight else (shown, rest, False)


def _split(sentences: list[str], room: float) -> tuple[Findings, Findings]:
    if lines_of(sentences, 2 * _COLUMN_CHARACTERS) <= 6:
        return Findings(sentences), Findings()
    tiny = lines_of(sentences, _COLUMN_CHARACTERS) > _MANY_LINES
    kind, characters, line = ("tiny", _TINY_CHARACTERS, _TINY_MM) if tiny else ("small", _COLUMN_CHARACTERS, _LINE_MM)
    most = int((room - _HEADING_MM) / line) * 2
    fits = (n for n in range(len(sentences), 0, -1) if lines_of(sentences[:n], characters) <= most)
    count = next(fits, min(1, len(sentences)))
    return Findings(sentences[:count], f"columns {kind}"), Findings(sentences[count:], f"columns {kind}")


def _tables_mm(rows: list[FigureRow]) -> float:
    """About what the higher side of the tables takes."""
    sides = [[r for r in rows if r.figure.part in parts] for parts in (("lv",), ("rv", "myo"))]
    return max(sum(max(_ROW_MM, _LINE_MM * _range_lines(r) + 1) for r in side) + 4 * _ROW_MM for side in sides)


def _range_lines(row: FigureRow) -> int:
    given = (r for r in (row.range, row.range_per_m2) if r is not None)
    return lines_of((f"{r.text}/m²: {r.verdict}" for r in given), 18)


def second_sheet_mm(meant: Mapping[str, str], made: Mapping[str, Any], rest: Findings) -> float:
    """What is left on the second page for contours: all but definitions, provenance and findings."""
    lines = lines_of(meant.values(), _COLUMN_CHARACTERS) / 2 + len(made) / 3 + 1
    room = _PAGE_MM - 30 - _LINE_MM * lines
    if rest.sentences:
        room -= _HEADING_MM + _TINY_MM * lines_of(rest.sentences, _TINY_CHARACTERS) / 2
    return max(_LEAST_CONTOURS_MM, room)
