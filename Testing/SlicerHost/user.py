"""What a user does, for tests: clicks, and brush strokes of the Segment Editor."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtTest import QTest

from CardiacSegLib.study import Label


def click(button) -> None:
    """Click with the mouse, as a user can only where the button is enabled and its section open."""
    parent = button.parent()
    while parent is not None:
        if hasattr(parent, "collapsed"):
            parent.collapsed = False
        parent = parent.parent()
    assert button.enabled, f"{button.objectName} is not enabled"
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)


def paint(host, module, phase: str, label: Label, block: tuple[slice, slice, slice]) -> int:
    """Paint a block of voxels (z, y, x) through the editor's logic; returns how many were not that label before."""
    reading = module.reading
    before = reading.labels(phase).mask(label)
    mask = before.copy()
    mask[block] = True
    host.paint(module.correctPanel.editor, label.name, mask)
    return int(mask.sum() - before.sum())
