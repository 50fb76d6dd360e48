"""Slices with contours as one SVG for a page: grey tiles with vector lines over them, told apart without colour.

Lengths are mm on the paper. Slices are shown as they are stored, row 0 of ``[y, x]`` on top, and numbered from 1.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from CardiacSegLib.report.pictures import STRUCTURE_COLOURS, View, contour_lines, grey_tile, grey_window, heart_view
from CardiacSegLib.report.plots import clean
from CardiacSegLib.study import STRUCTURES, Label

#: Strokes of the structures in mm; whole, dashed and dash-dotted lines are told apart on a black and white print.
STRUCTURE_DASHES: Mapping[Label, str] = {Label.LV: "", Label.RV: "1.8 0.7", Label.MYO: "1.6 0.6 0.3 0.6"}

_GAP = 0.8
_HEADING = 4.6
_LINE, _EDGE = 0.4, 0.75  # a coloured line over a wider black one is seen on bright blood and dark wall alike
_MOST_TILE = 46.0
_TILE_PX = 168
_TOLERANCE = 0.03


@dataclass(frozen=True)
class Layer:
    """Contours of one label array ``(z, y, x)``: colour and dash pattern by structure, on a black edge or without."""

    labels: np.ndarray
    colours: Mapping[Label, str]
    dashes: Mapping[Label, str]
    edge: bool = True


def plain_layer(labels: np.ndarray) -> Layer:
    """A label array in the colours of every picture, each structure with its own stroke."""
    return Layer(labels, STRUCTURE_COLOURS, STRUCTURE_DASHES)


@dataclass(frozen=True)
class TileBlock:
    """Slices under one heading.

    Attributes:
        title: the heading.
        frame: image ``(z, y, x)``; ``None`` draws contours on an empty ground.
        layers: drawn one over the other.
        slices: indexes of the slices to show.
        notes: by slice index what is written after its number.
    """

    title: str
    frame: np.ndarray | None
    layers: Sequence[Layer]
    slices: Sequence[int]
    notes: Mapping[int, str]


def tiles_svg(
    blocks: Sequence[TileBlock], spacing: tuple[float, float, float], width: float, height: float, title: str
) -> str:
    """All blocks beneath each other, in tiles as large as fit into ``width`` by ``height`` mm, cropped to the heart.

    Args:
        blocks: at least one; their arrays share one grid.
        spacing: of that grid, ``(z, y, x)`` in mm.
        width, height: room in mm. The SVG's ``viewBox`` is in mm and may be lower than ``height``.
        title: what a screen reader says.
    """
    view = heart_view([layer.labels for block in blocks for layer in block.layers], spacing, _TILE_PX)
    aspect = view.size[1] / view.size[0]
    columns = _columns([len(block.slices) for block in blocks], aspect, width, height)
    tile_w = min(_MOST_TILE, (width + _GAP) / columns - _GAP)
    tile_h = tile_w * aspect
    parts: list[str] = []
    y = 0.0
    for block in blocks:
        parts.append(_text(0.0, y + 3.3, block.title, 3.0))
        y += _HEADING
        window = None if block.frame is None else grey_window(block.frame, view)
        for number, z in enumerate(block.slices):
            x = (number % columns) * (tile_w + _GAP)
            parts.append(f'<g transform="translate({x:.2f} {y + number // columns * (tile_h + _GAP):.2f})">')
            parts += [*_tile(block, z, view, window, (tile_w, tile_h)), "</g>"]
        y += math.ceil(len(block.slices) / columns) * (tile_h + _GAP)
    head = f'<svg viewBox="0 0 {width:.1f} {y:.1f}" role="img" preserveAspectRatio="xMinYMin meet">'
    return "\n".join([head, f"<title>{clean(title)}</title>", *parts, "</svg>"])


def _columns(counts: Sequence[int], aspect: float, width: float, height: float) -> int:
    """So many tiles in a row that they become about as large as they can, with few rows that are not full."""

    def size(columns: int) -> float:
        rows = sum(math.ceil(n / columns) for n in counts)
        by_height = ((height - len(counts) * _HEADING) / max(rows, 1) - _GAP) / aspect
        return min((width + _GAP) / columns - _GAP, by_height, _MOST_TILE)

    every = range(1, max([1, *counts]) + 1)
    large = [n for n in every if size(n) >= 0.8 * max(map(size, every))]
    return min(large, key=lambda n: (sum(math.ceil(count / n) for count in counts), -size(n)))


def _tile(
    block: TileBlock, z: int, view: View, window: tuple[float, float] | None, size: tuple[float, float]
) -> list[str]:
    box = f'width="{size[0]:.2f}" height="{size[1]:.2f}"'
    if block.frame is None or window is None:
        parts = [f'<rect {box} fill="#E8E8E8"/>']
    else:
        file = io.BytesIO()
        grey_tile(block.frame[z], view, window).convert("L").save(file, format="PNG", optimize=True)
        data = base64.b64encode(file.getvalue()).decode("ascii")
        parts = [f'<image {box} preserveAspectRatio="none" href="data:image/png;base64,{data}"/>']
    for layer in block.layers:
        for structure in (Label.RV, Label.MYO, Label.LV):  # LV last: its outline is the inner one of the wall too
            path = _path(view.cut(layer.labels[z]) == structure, size)
            if path:
                parts += [_stroke(path, "#000000", _EDGE, "")] if layer.edge else []
                parts.append(_stroke(path, layer.colours[structure], _LINE, layer.dashes[structure]))
    note = block.notes.get(z, "")
    parts.append(_text(0.6, 2.9, f"{z + 1} {note}".strip(), 2.6, halo=True))
    return parts


def _path(mask: np.ndarray, size: tuple[float, float]) -> str:
    """Outlines of a mask ``(y, x)`` as SVG path data over a tile of ``size`` mm."""
    from skimage.measure import approximate_polygon

    fine = 1000.0  # contours are traced in so many px, then thinned
    scale = size[0] / fine
    lines = contour_lines(mask, (int(fine), max(1, round(size[1] / scale))))
    found = []
    for line in lines:
        points = approximate_polygon(line * scale, _TOLERANCE)
        closed = np.allclose(points[0], points[-1])
        text = " ".join(f"{x:.2f},{y:.2f}" for x, y in (points[:-1] if closed else points).tolist())
        found.append(f"M{text}{'Z' if closed else ''}")
    return "".join(found)


def _stroke(path: str, colour: str, width: float, dash: str) -> str:
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="{width}" stroke-linejoin="round"{dashed}/>'


def _text(x: float, y: float, text: str, size: float, halo: bool = False) -> str:
    look = 'fill="#FFFFFF" stroke="#000000" stroke-width="0.7" paint-order="stroke"' if halo else 'fill="#1A1A1A"'
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" {look}>{clean(text)}</text>'


def legend_svg(entries: Sequence[tuple[str, str, str]]) -> str:
    """Names with a stroke of their colour and dash pattern, in one line: (name, colour, dash pattern)."""
    parts, x = [], 0.0
    for name, colour, dash in entries:
        path = f"M{x:.1f},2L{x + 9:.1f},2"
        parts += [_stroke(path, "#000000", _EDGE + 0.1, ""), _stroke(path, colour, _LINE + 0.1, dash)]
        parts.append(_text(x + 10.2, 3.0, name, 2.9))
        x += 15.0 + 1.65 * len(name)
    return "\n".join([f'<svg class="legend" viewBox="0 0 {x:.0f} 4" width="{x:.0f}mm" height="4mm">', *parts, "</svg>"])


def structure_legend_svg() -> str:
    """The legend of :func:`plain_layer`."""
    names = {Label.LV: "left ventricle (LV)", Label.RV: "right ventricle (RV)", Label.MYO: "myocardium, outer line"}
    return legend_svg([(names[s], STRUCTURE_COLOURS[s], STRUCTURE_DASHES[s]) for s in STRUCTURES])
