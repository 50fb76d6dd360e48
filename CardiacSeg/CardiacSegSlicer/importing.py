"""A scene that is added to the one that is there: the masks of whole cycles stay those of their own patient.

A segmentation sequence that keeps edits shares the segmentation of the frame shown with its proxy. While a scene is
added, its browser's references are for a while those of nodes that are there already: a proxy takes a segmentation of
the first patient, of whichever frame the added scene shows, and the file of the second is read into it.
"""

from __future__ import annotations

import slicer

from CardiacSegSlicer.parameters import CardiacSegReadingNode, readingNodes, withoutUnreadable
from CardiacSegSlicer.sequences import browserOfProxy, framesOf, sequenceOfProxy

#: Of every cycle that was there before: its sequence, and a copy of each frame's segmentation.
_kept: list = []


def watch(scene) -> None:
    """From now on, keep masks whenever a scene is added to this one."""
    scene.AddObserver(scene.StartImportEvent, lambda _caller, _event: keep(scene))
    scene.AddObserver(scene.EndImportEvent, lambda _caller, _event: restore(scene))


def keep(scene) -> None:
    """Copy the masks of every cycle, before a scene is added."""
    _kept.clear()
    for proxy in _cycles(scene):
        sequence, shown = sequenceOfProxy(proxy), browserOfProxy(proxy).GetSelectedItemNumber()
        copies = []
        for index, frame in enumerate(framesOf(sequence)):
            copies.append(slicer.vtkSegmentation())
            copies[-1].DeepCopy((proxy if index == shown else frame).GetSegmentation())
        _kept.append((sequence, copies))


def restore(scene) -> None:
    """Put them back where they were, and let every proxy show its own sequence again; once for each :func:`keep`."""
    if not _kept:
        return
    for sequence, copies in _kept:
        if sequence.GetScene() is scene:
            for frame, segmentation in zip(framesOf(sequence), copies):
                frame.SetAndObserveSegmentation(segmentation)
    _kept.clear()
    for proxy in _cycles(scene):
        frame = sequenceOfProxy(proxy).GetNthDataNode(browserOfProxy(proxy).GetSelectedItemNumber())
        if frame is not None:
            proxy.SetAndObserveSegmentation(frame.GetSegmentation())


def _cycles(scene) -> list:
    """The proxies of all cycles of masks."""
    nodes = (CardiacSegReadingNode(withoutUnreadable(node)).cycleSegmentation for node in readingNodes(scene))
    return [node for node in nodes if node is not None and sequenceOfProxy(node) is not None]
