"""The paper's Figures 3 and 4: image, manual labels and the labels of a 2D and a 3D network side by side.

Labels are laid over the image as transparent colour. Everything is shown as stored, ``[y, x]`` with row 0 on top.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from CardiacSegLib.errors import StudyError
from CardiacSegLib.report.pictures import (
    BACKGROUND,
    STRUCTURE_COLOURS,
    View,
    contour_lines,
    grey_tile,
    grey_window,
    heart_view,
    label_array,
    sheet,
    structure_legend,
    write_text,
)
from CardiacSegLib.study import STRUCTURES, LabelMap

if TYPE_CHECKING:
    from PIL import Image

#: What is shown, in the paper's order.
COLUMNS = ("Image", "Manual", "2D network", "3D network")
_OPACITY = 0.5
_FINE = 3


@dataclass(frozen=True)
class Comparison:
    """One frame ``(z, y, x)``, its manual labels and those of the networks (``None``: not there), on one grid."""

    frame: np.ndarray
    truth: LabelMap | None
    two_d: LabelMap | None = None
    three_d: LabelMap | None = None
    title: str = ""

    def label_maps(self) -> tuple[np.ndarray | None, ...]:
        """Arrays ``(z, y, x)`` of the truth, the 2D and the 3D network."""
        maps = (self.truth, self.two_d, self.three_d)
        return tuple(None if labels is None else label_array(labels, self.frame.shape) for labels in maps)

    def view(self, tile_px: int) -> View:
        """The heart as all label maps show it."""
        for labels in (self.truth, self.two_d, self.three_d):
            if labels is not None:
                arrays = [array for array in self.label_maps() if array is not None]
                return heart_view(arrays, labels.geometry.spacing, tile_px)
        raise StudyError("A figure needs at least one label map: manual labels, or those of a network.")


def overlay_tile(plane: np.ndarray, labels: np.ndarray | None, view: View, window: tuple[float, float]) -> Image.Image:
    """One slice ``(y, x)`` under its labels in transparent colour; the image alone without labels."""
    from PIL import Image, ImageDraw

    tile = grey_tile(plane, view, window, _FINE)
    if labels is not None:
        part = view.cut(labels)
        colour = tile.copy()
        for structure in STRUCTURES:
            colour.paste(STRUCTURE_COLOURS[structure], (0, 0), _filled(part == structure, tile.size))
        tile = Image.blend(tile, colour, _OPACITY)
        draw = ImageDraw.Draw(tile)
        for structure in STRUCTURES:  # a thin outline of full colour, for where image and colour are equally bright
            for line in contour_lines(part == structure, tile.size):
                draw.line([tuple(p) for p in line.tolist()], fill=STRUCTURE_COLOURS[structure], width=_FINE)
    return tile.resize(view.size, Image.Resampling.BOX)


def _filled(mask: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """The smooth outlines of a mask ``(y, x)``, filled, holes left open; mode ``"1"``, ``size`` (w, h)."""
    from PIL import Image, ImageChops, ImageDraw

    filled = Image.new("1", size, 0)
    for line in contour_lines(mask, size):
        inside = Image.new("1", size, 0)
        ImageDraw.Draw(inside).polygon([tuple(p) for p in line.tolist()], fill=1)
        filled = ImageChops.logical_xor(filled, inside)
    return filled


def _tiles(comparison: Comparison, z: int, view: View, window: tuple[float, float]) -> list[Image.Image]:
    """Image, manual, 2D and 3D of one slice; an empty tile where labels are not there."""
    from PIL import Image, ImageDraw

    plane = comparison.frame[z]
    tiles = [overlay_tile(plane, None, view, window)]
    for labels in comparison.label_maps():
        if labels is None:
            tile = Image.new("RGB", view.size, BACKGROUND)
            write_text(ImageDraw.Draw(tile), (6, view.size[1] / 2 - 8), "not available", view.size[0] - 8)
        else:
            tile = overlay_tile(plane, labels[z], view, window)
        tiles.append(tile)
    return tiles


def figure_3(rows: Sequence[tuple[Comparison, int]], title: str = "", tile_px: int = 240) -> Image.Image:
    """Chosen slices, one in each row: image, manual labels, 2D network, 3D network.

    Args:
        rows: a comparison and the index (from 0) of the slice to show of it.
        title: written on top.
        tile_px: longer side of a tile.

    Raises:
        StudyError: there are no rows, no such slice, no labels at all, or shapes differ.
    """
    if not rows:
        raise StudyError("The figure needs at least one slice to show.")
    drawn = []
    for comparison, z in rows:
        _check_slice(comparison, z)
        view = comparison.view(tile_px)
        head = f"{comparison.title}, slice {z + 1}" if comparison.title else f"Slice {z + 1}"
        drawn.append((head, _tiles(comparison, z, view, grey_window(comparison.frame, view))))
    return sheet(drawn, title, COLUMNS, structure_legend())


def figure_4(
    comparison: Comparison, slices: Sequence[int] | None = None, title: str = "", tile_px: int | None = None
) -> Image.Image:
    """All slices of a frame in columns; image, manual labels, 2D network and 3D network in rows.

    Args:
        comparison: the frame with its labels.
        slices: indexes (from 0) of the slices to show; by default all.
        title: written on top; by default the comparison's own.
        tile_px: longer side of a tile; by default, so that the picture is at most about 2400 px wide.

    Raises:
        StudyError: there is no such slice, no labels at all, or shapes differ.
    """
    chosen = list(range(len(comparison.frame))) if slices is None else list(slices)
    for z in chosen or [-1]:
        _check_slice(comparison, z)
    view = comparison.view(tile_px or min(200, max(100, 2400 // len(chosen))))
    window = grey_window(comparison.frame, view)
    columns = [_tiles(comparison, z, view, window) for z in chosen]
    rows = [(name, [column[i] for column in columns]) for i, name in enumerate(COLUMNS)]
    return sheet(rows, title or comparison.title, [f"Slice {z + 1}" for z in chosen], structure_legend())


def _check_slice(comparison: Comparison, z: int) -> None:
    if not 0 <= z < len(comparison.frame):
        raise StudyError(f"There is no slice {z + 1}: the frame has {len(comparison.frame)}.")
