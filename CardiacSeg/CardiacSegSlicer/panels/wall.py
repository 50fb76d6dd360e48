"""Part of section Results: the bull's-eye of wall thickness or thickening, of the masks as they are now."""

from __future__ import annotations

import contextlib
import math
import os
import re
import tempfile
from pathlib import Path

import qt
from slicer.i18n import tr as _

from CardiacSegLib.function.segments import SEGMENT_NAMES
from CardiacSegLib.report.bullseye import BULLSEYES, bullseye_svg

WIDTH = 340


class WallView:
    """Shows one of the three bull's-eyes that ``function.json``'s ``wall`` holds; nothing where there is none."""

    def __init__(self, ui) -> None:
        self.ui, self.wall, self.titles = ui, {}, _titles()
        for kind in BULLSEYES:
            ui.wallComboBox.addItem(self.titles[kind.title])
        ui.wallComboBox.connect("currentIndexChanged(int)", self.draw)

    def show(self, function) -> None:
        """Take the wall of ``function.json``'s content."""
        self.wall = function.get("wall") or {}
        known = any(_some(self.wall.get(kind.key)) for kind in BULLSEYES)
        for widget in (self.ui.wallComboBox, self.ui.wallLabel):
            widget.visible = known
        assumed = " ".join(self.wall.get("assumptions") or ())
        self.ui.wallNoteLabel.text = assumed
        self.ui.wallNoteLabel.visible = known and bool(assumed)
        if known:
            self.draw()

    def draw(self, _index=0) -> None:
        kind = BULLSEYES[max(0, self.ui.wallComboBox.currentIndex)]
        values, picture = self.wall.get(kind.key), None
        if _some(values):
            said = "\n".join(
                f"{number} {name}: " + (_("not known") if value is None else f"{value:.{kind.decimals}f} {kind.unit}")
                for number, (name, value) in enumerate(zip(SEGMENT_NAMES, values), 1)
            )
            svg = bullseye_svg(values, self.titles.get(kind.title, kind.title), kind.unit, decimals=kind.decimals)
            picture = pixmapOfSvg(svg, WIDTH, pixelRatio(self.ui.wallLabel))
        else:
            said = _("Not known: one of the two phases has no wall.")
        if picture is None:
            self.ui.wallLabel.clear()
            self.ui.wallLabel.setText(said)
        else:
            self.ui.wallLabel.setPixmap(picture)
        # In both cases: what was said of another choice, or of masks of before, must not stay.
        self.ui.wallLabel.toolTip = said
        self.ui.wallLabel.accessibleDescription = said


def pixelRatio(widget) -> float:
    """Pixels of the screen for each that a widget counts; 1 where Qt does not tell."""
    given = getattr(widget, "devicePixelRatioF", None)
    given = given() if callable(given) else given
    return float(given) if given and given > 0 else 1.0


def pixmapOfSvg(svg: str, width: int, ratio: float = 1.0):
    """A picture of an SVG document, so many widget's pixels wide, as sharp as a screen of this pixel ratio shows it.

    By a file: it is loaded everywhere. None where no file can be written, or Qt's plugin for SVG is missing.
    """
    name = None
    try:
        handle, name = tempfile.mkstemp(suffix=".svg")
        os.close(handle)
        Path(name).write_text(_atWidth(svg, round(width * ratio)), encoding="utf-8")
        picture = qt.QPixmap(name)
    except OSError:  # the disk is full, or there is no folder for temporary files
        return None
    finally:
        if name is not None:
            with contextlib.suppress(OSError):  # a scanner for viruses may hold it
                os.unlink(name)
    if picture.isNull():
        return None
    if ratio != 1.0 and hasattr(picture, "setDevicePixelRatio"):
        picture.setDevicePixelRatio(ratio)
        return picture
    return picture if ratio == 1.0 else picture.scaledToWidth(width, qt.Qt.SmoothTransformation)


def _atWidth(svg: str, width: int) -> str:
    """The same drawing at another size: Qt draws it at the size that the document states; enlarged it is blurred."""
    stated = re.search(r'width="(\d+)" height="(\d+)"', svg)
    if stated is None:
        return svg
    height = round(width * int(stated[2]) / int(stated[1]))
    return svg[: stated.start()] + f'width="{width}" height="{height}"' + svg[stated.end() :]


def _titles() -> dict[str, str]:
    """The library's names of the bull's-eyes in the user's language."""
    return {
        "Wall thickness at ED": _("Wall thickness at ED"),
        "Wall thickness at ES": _("Wall thickness at ES"),
        "Wall thickening": _("Wall thickening"),
    }


def _some(values) -> bool:
    return any(value is not None and math.isfinite(value) for value in values or ())
