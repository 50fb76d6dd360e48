"""Part of section Results: the bull's-eye of wall thickness or thickening, of the masks as they are now."""

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path

import qt
from slicer.i18n import tr as _

from CardiacSegLib.function.segments import SEGMENT_NAMES
from CardiacSegLib.report.bullseye import bullseye_svg

WIDTH = 340


class WallView:
    """Shows one of the three bull's-eyes that ``function.json``'s ``wall`` holds; nothing where there is none."""

    def __init__(self, ui) -> None:
        self.ui, self.wall = ui, {}
        self.kinds = (
            ("ed_mm", _("Wall thickness at ED"), "mm", 1),
            ("es_mm", _("Wall thickness at ES"), "mm", 1),
            ("thickening_percent", _("Wall thickening"), "%", 0),
        )
        for _key, title, _unit, _decimals in self.kinds:
            ui.wallComboBox.addItem(title)
        ui.wallComboBox.connect("currentIndexChanged(int)", self.draw)

    def show(self, function) -> None:
        """Take the wall of ``function.json``'s content."""
        self.wall = function.get("wall") or {}
        known = any(_some(self.wall.get(key)) for key, *_rest in self.kinds)
        for widget in (self.ui.wallComboBox, self.ui.wallLabel):
            widget.visible = known
        assumed = " ".join(self.wall.get("assumptions") or ())
        self.ui.wallNoteLabel.text = assumed
        self.ui.wallNoteLabel.visible = known and bool(assumed)
        if known:
            self.draw()

    def draw(self, _index=0) -> None:
        key, title, unit, decimals = self.kinds[max(0, self.ui.wallComboBox.currentIndex)]
        values = self.wall.get(key)
        if not _some(values):
            self.ui.wallLabel.clear()
            self.ui.wallLabel.setText(_("Not known: one of the two phases has no wall."))
            return
        said = "\n".join(
            f"{number} {name}: " + (_("not known") if value is None else f"{value:.{decimals}f} {unit}")
            for number, (name, value) in enumerate(zip(SEGMENT_NAMES, values), 1)
        )
        picture = pixmapOfSvg(bullseye_svg(values, title, unit, decimals=decimals))
        if picture.isNull():  # this Qt draws no SVG
            self.ui.wallLabel.setText(said)
        else:
            self.ui.wallLabel.setPixmap(picture.scaledToWidth(WIDTH, qt.Qt.SmoothTransformation))
        self.ui.wallLabel.toolTip = said
        self.ui.wallLabel.accessibleDescription = said


def pixmapOfSvg(svg: str):
    """A picture of an SVG document; null where Qt's plugin for SVG is missing. By a file: it is loaded everywhere."""
    handle, name = tempfile.mkstemp(suffix=".svg")
    os.close(handle)
    try:
        Path(name).write_text(svg, encoding="utf-8")
        return qt.QPixmap(name)
    finally:
        os.unlink(name)


def _some(values) -> bool:
    return any(value is not None and math.isfinite(value) for value in values or ())
