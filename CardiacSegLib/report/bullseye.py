"""The bull's eye of the AHA as SVG text: the left ventricle seen from its apex, 16 segments with a value each.

The outer ring is the base, the inner one lies near the apex; the tip of the apex, segment 17, is not measured in a
short-axis stack and stays blank.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from CardiacSegLib.errors import StudyError
from CardiacSegLib.function.segments import SEGMENT_NAMES, SEGMENTS
from CardiacSegLib.report.plots import _document, _fit, _line, _number, _text, nice_ticks

# Radii in px of the rings' edges, from the tip outwards.
_RADII = (30.0, 74.0, 118.0, 162.0)
_CENTRE = (196.0, 240.0)
_WIDTH, _HEIGHT = 500.0, 440.0
_EDGE = "#444444"
# From the least to the largest value. Yellow to blue tells apart for every colour vision; it grows darker all the way,
# so that it survives a grey print, and is never so dark that the figures on it cannot be read.
_SCALE = ((255, 250, 224), (240, 224, 150), (172, 200, 170), (116, 172, 198), (92, 146, 202))
_UNKNOWN = "#FFFFFF"
_SIDES = (("anterior", 0, -1), ("inferior", 0, 1), ("septal", -1, 0), ("lateral", 1, 0))


class Bullseye(NamedTuple):
    """A picture of the wall: its key in the part ``wall`` of ``function.json``, and how it is shown."""

    key: str
    title: str
    unit: str
    decimals: int


#: Those of a reading, in the order in which they are shown.
BULLSEYES = (
    Bullseye("ed_mm", "Wall thickness at ED", "mm", 1),
    Bullseye("es_mm", "Wall thickness at ES", "mm", 1),
    Bullseye("thickening_percent", "Wall thickening", "%", 0),
)


def bullseye_svg(
    values: Sequence[float | None],
    title: str,
    unit: str,
    limits: tuple[float, float] | None = None,
    decimals: int = 1,
) -> str:
    """One whole SVG document with the 16 segments, each with its number and its value.

    Args:
        values: of segments 1 to 16 in ``unit``; ``None``, or a number that is not finite, is shown as "—".
        title: for example "Wall thickness at ED".
        unit: for example "mm".
        limits: values of the ends of the colour scale, so that pictures can be compared; what lies beyond has the
            colour of the end. By default round numbers around the values.
        decimals: of the values.

    Raises:
        StudyError: there are not 16 values, or the limits do not rise.
    """
    if len(values) != SEGMENTS:
        raise StudyError(f"A bull's eye has {SEGMENTS} segments, not {len(values)}.")
    shown = [None if value is None or not math.isfinite(value) else float(value) for value in values]
    known = [value for value in shown if value is not None]
    low, high = _limits(known) if limits is None else limits
    if not low < high:
        raise StudyError(f"The limits of a colour scale must rise; these are {low:g} and {high:g}.")
    parts = [_text(_WIDTH / 2, 26, _fit(title, _WIDTH - 40, 16), "middle", 16)]
    for number, value in enumerate(shown, 1):
        parts += _segment(number, value, unit, (low, high), decimals)
    for name, right, down in _SIDES:
        far = _RADII[-1] + 12
        # Beside the ring names are turned, so that they need no more room than above it.
        x, y = _CENTRE[0] + right * far, _CENTRE[1] + down * far + (0 if right else 4 + 3 * down)
        turn = f' transform="rotate({90 * right} {x:.1f} {y:.1f})"' if right else ""
        parts.append(_text(x, y, name, "middle", 12, turn))
    if known:
        parts += _colour_bar((low, high), unit)
    return _document(_WIDTH, _HEIGHT, parts, title)


def _limits(values: Sequence[float]) -> tuple[float, float]:
    """Round numbers around the values."""
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    middle, half = (low + high) / 2, max((high - low) / 2, 0.05 * abs(high), 0.5)
    ticks = nice_ticks(middle - half, middle + half, 5)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else half
    return step * math.floor((middle - half) / step + 1e-9), step * math.ceil((middle + half) / step - 1e-9)


def _place(number: int) -> tuple[float, float, float, float]:
    """Inner and outer radius in px, first and last angle in degrees anticlockwise from the right, of a segment."""
    ring = 2 if number <= 6 else 1 if number <= 12 else 0
    width = 60 if ring else 90
    # Segments 1, 7 and 13 have their middle on top; the next lies to the left, on the side of the septum.
    first = 90 - width / 2 + width * ((number - 1) % 6 if ring else number - 13)
    return _RADII[ring], _RADII[ring + 1], first, first + width


def _point(radius: float, degrees: float) -> tuple[float, float]:
    angle = math.radians(degrees)
    return _CENTRE[0] + radius * math.cos(angle), _CENTRE[1] - radius * math.sin(angle)


def _segment(
    number: int, value: float | None, unit: str, limits: tuple[float, float], decimals: int
) -> tuple[str, str, str]:
    """A segment's outline, its number and its value."""
    inner, outer, first, last = _place(number)
    corners = [_point(outer, first), _point(outer, last), _point(inner, last), _point(inner, first)]
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = corners
    path = (
        f"M {ax:.1f} {ay:.1f} A {outer:.1f} {outer:.1f} 0 0 0 {bx:.1f} {by:.1f} "
        f"L {cx:.1f} {cy:.1f} A {inner:.1f} {inner:.1f} 0 0 1 {dx:.1f} {dy:.1f} Z"
    )
    shown = "\N{EM DASH}" if value is None else _number(value, decimals)
    said = escape(f"{number} {SEGMENT_NAMES[number - 1]}: " + ("not known" if value is None else f"{shown} {unit}"))
    colour = _UNKNOWN if value is None else _colour(value, limits)
    x, y = _point((inner + outer) / 2, (first + last) / 2)
    return (
        f'<path d="{path}" fill="{colour}" stroke="{_EDGE}" stroke-width="1.2"><title>{said}</title></path>',
        _text(x, y - 5, str(number), "middle", 10),
        _text(x, y + 10, shown, "middle", 14, ' font-weight="bold"'),
    )


def _colour(value: float, limits: tuple[float, float]) -> str:
    share = min(max((value - limits[0]) / (limits[1] - limits[0]), 0.0), 1.0) * (len(_SCALE) - 1)
    at = min(int(share), len(_SCALE) - 2)
    pair = zip(_SCALE[at], _SCALE[at + 1])
    return "#" + "".join(f"{round(a + (share - at) * (b - a)):02X}" for a, b in pair)


def _colour_bar(limits: tuple[float, float], unit: str) -> list[str]:
    """The scale of colours with its values, to the right of the rings."""
    left, top, width, height, steps = 412.0, 110.0, 20.0, 260.0, 52
    parts = [_text(left, top - 14, unit)]
    for k in range(steps):
        colour = _colour(limits[1] - (k + 0.5) / steps * (limits[1] - limits[0]), limits)
        y = top + k * height / steps
        # Each reaches under the next: no hairlines between them.
        reach = min(height / steps + 1, top + height - y)
        parts.append(f'<rect x="{left:.1f}" y="{y:.1f}" width="{width:.1f}" height="{reach:.1f}" fill="{colour}"/>')
    parts.append(
        f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" fill="none" stroke="{_EDGE}"/>'
    )
    ticks = nice_ticks(*limits, count=6)
    whole = len(ticks) > 1 and ticks[1] - ticks[0] > 0.99
    for tick in ticks:
        y = top + height * (limits[1] - tick) / (limits[1] - limits[0])
        parts.append(_line(left + width, y, left + width + 5, y, _EDGE))
        parts.append(_text(left + width + 9, y + 4, _number(tick, 0 if whole else 1)))
    return parts
