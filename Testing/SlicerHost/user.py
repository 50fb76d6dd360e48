"""What a user does, for tests: clicks, brush strokes of the Segment Editor; and masks without a network."""

from __future__ import annotations

import types

from PySide6.QtCore import Qt
from PySide6.QtTest import QTest

from CardiacSegLib.study import Label
from CardiacSegLib.workflow import measure_labels


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


def finished_job(phantom, *notes: str, cycle: bool = False, may_discard: bool = False):
    """What a segmenting process gives, with the phantom's own masks."""
    study = phantom.study.with_phases(phantom.ed, phantom.es)
    labels = {i: phantom.labels[i] for i in (range(study.frames) if cycle else (phantom.ed, phantom.es))}
    function = measure_labels(study, labels, model="truth", notes=notes)
    return types.SimpleNamespace(
        state="done", study=study, labels=labels, function=function, device="cpu", error="", mayDiscard=may_discard
    )


def put_masks(module, phantom, *notes: str, cycle: bool = False, may_discard: bool = False) -> None:
    module.reading.node.wholeCycle = cycle
    job = finished_job(phantom, *notes, cycle=cycle, may_discard=may_discard)
    module.logic.finishSegmenting(module.reading, job)
    module.segmented(module.reading)
