"""Pictures of a frame, slice by slice, with the contours of its structures (Pillow only).

Arrays are shown as they are stored: row 0 of ``[y, x]`` on top, column 0 on the left; pixels keep their size in mm.
Slices are numbered from 1, as a user counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from CardiacSegLib.errors import StudyError
from CardiacSegLib.files import moved_into_place
from CardiacSegLib.study import STRUCTURES, CineStudy, Geometry, Label, LabelMap

if TYPE_CHECKING:
    from PIL import Image, ImageDraw, ImageFont

#: One colour per structure for every picture and plot: vermilion and sky blue of Okabe and Ito (2008) and a darkened
#: yellow of theirs; they stay apart with any colour vision, on grey images and on white paper.
STRUCTURE_COLOURS: Mapping[Label, str] = {Label.LV: "#D55E00", Label.RV: "#56B4E9", Label.MYO: "#E6C200"}

TRUTH_COLOUR = "#FFFFFF"
BACKGROUND = "#101010"
TEXT_COLOUR = "#F0F0F0"
GAP = 4  # px between tiles
TEXT_SIZE = 14
MARGIN_MM = 15.0  # shown around the heart
FIELD_MM = 90.0  # shown at least, so that a heart found only in part is still seen in its surroundings
_FINE = 3  # tiles are drawn so many times larger and reduced, for smooth thin lines
_LINE_PX = 1.6


@dataclass(frozen=True)
class View:
    """What a row of tiles shows: rows and columns ``[y0:y1, x0:x1]`` of every slice, as tiles of ``size`` (w, h) px."""

    y0: int
    y1: int
    x0: int
    x1: int
    size: tuple[int, int]

    def cut(self, plane: np.ndarray) -> np.ndarray:
        """The part of a slice ``(y, x)`` that is shown."""
        return plane[self.y0 : self.y1, self.x0 : self.x1]


def label_array(labels: LabelMap | np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The ``(z, y, x)`` array of a label map.

    Raises:
        StudyError: it has another shape than the frame that it should be drawn on.
    """
    data = labels.data if isinstance(labels, LabelMap) else np.asarray(labels)
    if tuple(data.shape) != tuple(shape):
        raise StudyError(f"Labels of shape {data.shape} cannot be drawn on a frame of shape {tuple(shape)}.")
    return data


def heart_view(labels: Sequence[np.ndarray], spacing: tuple[float, float, float], tile_px: int = 200) -> View:
    """The view that holds every labelled voxel of all arrays ``(z, y, x)``, with a margin; all of it if there is none.

    Args:
        labels: label arrays of one shape, at least one.
        spacing: ``(z, y, x)`` in mm.
        tile_px: longer side of a tile.
    """
    shown = np.zeros(labels[0].shape[1:], bool)
    for array in labels:
        shown |= (array > 0).any(axis=0)
    bounds: list[int] = []
    for axis, step in ((1, spacing[1]), (0, spacing[2])):  # rows, then columns
        n: int = shown.shape[1 - axis]
        used = np.flatnonzero(shown.any(axis=axis)).tolist()
        first, stop = (used[0], used[-1] + 1) if len(used) else (0, n)
        margin = math.ceil(max(MARGIN_MM, (FIELD_MM - (stop - first) * step) / 2) / step)
        bounds += [max(0, first - margin), min(n, stop + margin)]
    y0, y1, x0, x1 = bounds
    height, width = (y1 - y0) * spacing[1], (x1 - x0) * spacing[2]
    scale = tile_px / max(height, width)
    return View(y0, y1, x0, x1, (max(1, round(width * scale)), max(1, round(height * scale))))


def grey_window(frame: np.ndarray, view: View) -> tuple[float, float]:
    """Darkest and brightest value shown: percentiles 1 and 99.5 of what the view shows of a frame ``(z, y, x)``."""
    part = frame[:, view.y0 : view.y1, view.x0 : view.x1]
    part = part[np.isfinite(part)]
    low, high = np.percentile(part, (1.0, 99.5)) if part.size else (0.0, 1.0)
    return float(low), float(high) if high > low else float(low) + 1.0


def grey_tile(plane: np.ndarray, view: View, window: tuple[float, float], fine: int = 1) -> Image.Image:
    """One slice ``(y, x)`` as an RGB picture of the view's size times ``fine``."""
    from PIL import Image

    low, high = window
    grey = np.nan_to_num((view.cut(plane).astype(np.float64) - low) / (high - low), nan=0.0, posinf=1.0, neginf=0.0)
    picture = Image.fromarray(np.rint(np.clip(grey, 0.0, 1.0) * 255).astype(np.uint8))
    size = (view.size[0] * fine, view.size[1] * fine)
    return picture.resize(size, Image.Resampling.BICUBIC).convert("RGB")


def contour_lines(mask: np.ndarray, size: tuple[int, int]) -> list[np.ndarray]:
    """Smooth outlines of a mask ``(y, x)``, each ``(n, 2)`` as (x, y) in px of a picture of ``size`` (w, h) px over it.

    The mask is enlarged and blurred by 0.4 pixel before it is traced, so that steps are rounded and a single pixel
    still has an outline.
    """
    from scipy.ndimage import gaussian_filter
    from skimage.measure import find_contours

    if not mask.any():
        return []
    factor, pad = 4, 2
    padded = np.pad(mask, pad).astype(np.float32)
    enlarged = gaussian_filter(padded.repeat(factor, 0).repeat(factor, 1), 0.4 * factor)
    scale = np.array([size[0] / mask.shape[1], size[1] / mask.shape[0]])
    lines = find_contours(enlarged, 0.5)
    # + 0.5: from pixel centres, which contours count in, to pixel edges, which a picture is measured from.
    return [((line[:, ::-1] + 0.5) / factor - pad) * scale for line in lines]


def contour_tile(
    plane: np.ndarray, labels: np.ndarray | None, truth: np.ndarray | None, view: View, window: tuple[float, float]
) -> Image.Image:
    """One slice ``(y, x)`` with the contours of its labels in colour, over those of the truth in white."""
    from PIL import Image, ImageDraw

    tile = grey_tile(plane, view, window, _FINE)
    draw = ImageDraw.Draw(tile)
    width = round(_LINE_PX * _FINE)
    for source, colours in ((truth, dict.fromkeys(STRUCTURES, TRUTH_COLOUR)), (labels, STRUCTURE_COLOURS)):
        if source is None:
            continue
        part = view.cut(source)
        # LV last: its outline is the inner one of the myocardium too.
        for structure in (Label.RV, Label.MYO, Label.LV):
            for line in contour_lines(part == structure, tile.size):
                draw.line(
                    [tuple(point) for point in line.tolist()], fill=colours[structure], width=width, joint="curve"
                )
    return tile.resize(view.size, Image.Resampling.BOX)


def font(size: int = TEXT_SIZE) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """Pillow's own font; before Pillow 10.1, or without FreeType, the one size that there is."""
    from PIL import ImageFont

    try:
        return ImageFont.load_default(size=size)
    except (TypeError, ImportError, OSError):
        return ImageFont.load_default()


def write_text(
    draw: ImageDraw.ImageDraw, xy: tuple[float, float], text: str, width: float, size: int = TEXT_SIZE
) -> None:
    """Write one line with its top left at ``xy``, shortened to ``width`` px; edged in black to be read on white."""
    face = font(size)
    text = " ".join(text.split())
    if not hasattr(face, "getmask2"):  # the bitmap font knows only Latin-1
        text = text.encode("latin-1", "replace").decode("latin-1")
    whole = text
    while len(text) > 1 and draw.textlength(text, font=face) > width:
        whole = whole[:-1]
        text = whole.rstrip() + "..."
        if not whole:
            break
    for dx, dy in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        draw.text((xy[0] + dx, xy[1] + dy), text, fill="#000000", font=face)
    draw.text(xy, text, fill=TEXT_COLOUR, font=face)


def sheet(
    rows: Sequence[tuple[str, Sequence[Image.Image]]],
    title: str = "",
    column_titles: Sequence[str] = (),
    legend: Sequence[tuple[str, str]] = (),
) -> Image.Image:
    """Put rows of tiles on one picture: title on top, a heading over each row that has one, a legend beneath.

    Args:
        rows: (heading or ``""``, tiles of equal size within a row).
        title: over everything.
        column_titles: over the first row's tiles.
        legend: (name, colour) of each entry.
    """
    from PIL import Image, ImageDraw

    line = TEXT_SIZE + 8
    width = max(GAP + sum(tile.width + GAP for tile in tiles) for _, tiles in rows)
    width = max(width, GAP + sum(40 + 9 * len(name) for name, _ in legend), 160)
    heads = (line + 4 if title else 0) + (line if column_titles else 0)
    height = GAP + heads + sum((line if head else 0) + tiles[0].height + GAP for head, tiles in rows)
    canvas = Image.new("RGB", (width, height + (line if legend else 0)), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    y = GAP
    if title:
        write_text(draw, (GAP + 2, y), title, width - 2 * GAP, TEXT_SIZE + 3)
        y += line + 4
    if column_titles:
        x = GAP
        for name, tile in zip(column_titles, rows[0][1]):
            write_text(draw, (x + 2, y), name, tile.width - 4)
            x += tile.width + GAP
        y += line
    for head, tiles in rows:
        if head:
            write_text(draw, (GAP + 2, y + 2), head, width - 2 * GAP)
            y += line
        x = GAP
        for tile in tiles:
            canvas.paste(tile, (x, y))
            x += tile.width + GAP
        y += tiles[0].height + GAP
    x = GAP + 2
    for name, colour in legend:
        draw.rectangle((x, y + 4, x + 18, y + TEXT_SIZE), fill=colour, outline="#808080")
        write_text(draw, (x + 25, y + 1), name, width - x - 25)
        x += 40 + 9 * len(name)
    return canvas


def structure_legend(truth: bool = False) -> list[tuple[str, str]]:
    """Legend entries of the structures, and of the manual contours if there are any."""
    entries = [(structure.name, STRUCTURE_COLOURS[structure]) for structure in STRUCTURES]
    return [*entries, ("manual", TRUTH_COLOUR)] if truth else entries


def contour_montage(
    frame: np.ndarray,
    labels: LabelMap | np.ndarray,
    spacing: tuple[float, float, float] | None = None,
    truth: LabelMap | np.ndarray | None = None,
    title: str = "",
    columns: int | None = None,
    tile_px: int = 200,
) -> Image.Image:
    """All slices of one frame with the contours of LV, RV and MYO, cropped to the heart, in reading order.

    Args:
        frame: image ``(z, y, x)``.
        labels: of the same shape, in :class:`~CardiacSegLib.study.Label` numbers.
        spacing: ``(z, y, x)`` in mm; taken from a label map, 1 mm if only arrays are given.
        truth: manual labels, drawn in white beneath.
        title: written on top.
        columns: tiles in a row; by default, so many that the picture is wider than high.
        tile_px: longer side of a tile.

    Returns:
        An RGB picture.

    Raises:
        StudyError: shapes differ.
    """
    spacing = spacing or (labels.geometry.spacing if isinstance(labels, LabelMap) else (1.0, 1.0, 1.0))
    drawn = label_array(labels, frame.shape)
    manual = None if truth is None else label_array(truth, frame.shape)
    view = heart_view([drawn] if manual is None else [drawn, manual], spacing, tile_px)
    tiles = _numbered_tiles(frame, drawn, manual, view)
    columns = columns or max(1, min(len(tiles), math.ceil(math.sqrt(len(tiles) * 1.6))))
    rows = [("", tiles[i : i + columns]) for i in range(0, len(tiles), columns)]
    return sheet(rows, title, legend=structure_legend(manual is not None))


def _numbered_tiles(
    frame: np.ndarray, labels: np.ndarray | None, truth: np.ndarray | None, view: View
) -> list[Image.Image]:
    from PIL import ImageDraw

    window = grey_window(frame, view)
    tiles = []
    for z, plane in enumerate(frame):
        tile = contour_tile(
            plane, None if labels is None else labels[z], None if truth is None else truth[z], view, window
        )
        write_text(ImageDraw.Draw(tile), (4, 2), f"slice {z + 1}", tile.width - 6)
        tiles.append(tile)
    return tiles


def study_picture(
    study: CineStudy,
    labels: Mapping[int, LabelMap],
    path: Path | None = None,
    truth: Mapping[int, LabelMap] | None = None,
    frames: Sequence[int] | None = None,
) -> Image.Image:
    """Frames of a study in rows, slices in columns, with contours; cropped to the heart as all frames show it.

    Args:
        study: the images.
        labels: by frame index (from 0).
        path: PNG to write, if any.
        truth: manual labels by frame index, drawn in white beneath.
        frames: indexes of the rows; by default ED and ES where they have labels, else every frame that has.

    Returns:
        An RGB picture.

    Raises:
        StudyError: no frame has labels, or labels are not on the study's grid.
    """
    if frames is None:
        phases = [index for index in (study.ed, study.es) if index is not None and index in labels]
        frames = list(dict.fromkeys(phases)) or sorted(labels)
    if not frames:
        raise StudyError(f"There is nothing to draw: no frame of '{study.name}' has labels.")
    truth = truth or {}
    for index in frames:
        for given in (labels.get(index), truth.get(index)):
            if given is not None:
                check_grid(given.geometry, study, index)
    used = [given[i].data for given in (labels, truth) for i in frames if i in given]
    empty = np.zeros(study.geometry.shape, np.uint8)
    view = heart_view(used or [empty], study.spacing, tile_px=min(200, max(120, 2400 // study.slices)))
    rows = []
    for index in frames:
        drawn, manual = labels.get(index), truth.get(index)
        arrays = [None if given is None else given.data for given in (drawn, manual)]
        rows.append((_row_title(study, index), _numbered_tiles(study.frame(index), arrays[0], arrays[1], view)))
    picture = sheet(rows, study.name, legend=structure_legend(bool(truth)))
    if path is not None:
        save_png(picture, path)
    return picture


def _row_title(study: CineStudy, index: int) -> str:
    names = [name for name, phase in (("end diastole", study.ed), ("end systole", study.es)) if phase == index]
    text = f"Frame {study.frame_numbers[index]}"
    if names:
        text = " and ".join(names).capitalize()
        if study.kind != "pair":  # of two files no frame number is known
            text += f" (frame {study.frame_numbers[index]})"
    if study.times_ms is not None:
        text += f", {study.times_ms[index]:.0f} ms"
    return text


def check_grid(geometry: Geometry, study: CineStudy, index: int) -> None:
    if not geometry.matches(study.geometry):
        raise StudyError(
            f"The labels of frame {study.frame_numbers[index]} are not on the grid of '{study.name}': "
            f"{geometry.shape} voxels of {geometry.spacing} mm against {study.geometry.shape} of {study.spacing} mm."
        )


def save_png(picture: Image.Image, path: Path) -> Path:
    """Write a picture as PNG, with its folder; returns the path."""
    moved_into_place(path, lambda aside: picture.save(aside, format="PNG", optimize=False))
    return path
