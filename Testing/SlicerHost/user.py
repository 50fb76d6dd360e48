"""What a user does, for tests: clicks, waits, brush strokes of the Segment Editor; and masks without a network."""

from __future__ import annotations

import types
from collections.abc import Callable
from pathlib import Path

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


def wait(host, until: Callable[[], bool], what: str, seconds: float = 90.0) -> None:
    """Let the window live until something has come about."""
    try:
        host.waitFor(until, seconds)
    except TimeoutError:
        raise AssertionError(f"{what} did not come about in {seconds:.0f} s") from None


def settle(host, module) -> None:
    """Wait for what follows edits and nodes that came or went, after a moment of rest."""
    host.process()
    timers = (module.resultsPanel.timer, module._removed, module._added)
    host.waitFor(lambda: not any(timer.active for timer in timers))


def load(host, module, path: Path):
    """Load a file or a folder by its button; returns the cine that is then chosen."""
    host.answer(str(path))
    click(module.ui.loadFolderButton if path.is_dir() else module.ui.loadFileButton)
    return module.parameters.cine


def segment(host, module) -> None:
    """Click Segment and wait."""
    click(module.ui.segmentButton)
    assert module.segmentPanel.running, list(host.dialogs)
    wait(host, lambda: not module.segmentPanel.running, "Segmenting")
    host.check()


def column(module, number: int) -> list[str]:
    """A column of the results table as it is seen: figures, values, indexed values, notes."""
    table = module.ui.resultsTable
    return [table.item(row, number).text() for row in range(table.rowCount)]


def figures(module) -> dict[str, str]:
    """The results table as it is seen: figure → value."""
    return dict(zip(column(module, 0), column(module, 1)))


def paint(host, module, phase: str, label: Label, block: tuple[slice, slice, slice]) -> int:
    """Paint a block of voxels (z, y, x) through the editor's logic; returns how many were not that label before."""
    reading = module.reading
    before = reading.labels(phase).mask(label)
    mask = before.copy()
    mask[block] = True
    host.paint(module.correctPanel.editor, label.name, mask)
    return int(mask.sum() - before.sum())


def finished_job(phantom, *notes: str, cycle: bool = False, may_discard: bool = False, found=()):
    """What a segmenting process gives, with the phantom's own masks; ``found`` are findings of the run."""
    study = phantom.study.with_phases(phantom.ed, phantom.es)
    labels = {i: phantom.labels[i] for i in (range(study.frames) if cycle else (phantom.ed, phantom.es))}
    function = measure_labels(study, labels, model="truth", notes=notes, found=found)
    return types.SimpleNamespace(
        state="done", study=study, labels=labels, function=function, device="cpu", error="", mayDiscard=may_discard
    )


def put_masks(module, phantom, *notes: str, cycle: bool = False, may_discard: bool = False, found=()) -> None:
    module.reading.node.wholeCycle = cycle
    job = finished_job(phantom, *notes, cycle=cycle, may_discard=may_discard, found=found)
    module.logic.finishSegmenting(module.reading, job)
    module.segmented(module.reading)
