"""From files, or a study in memory, to a cine in the scene: sequence, browser and the volume that shows a frame."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import slicer

from CardiacSegLib.orientation import in_file_order
from CardiacSegLib.readers import read_study
from CardiacSegLib.study import CineStudy
from CardiacSegSlicer.patient import keepPatientFacts
from CardiacSegSlicer.sequences import (
    FRAME_LABELS,
    FRAME_TAG,
    TRIGGER_TIME,
    ijkToRasMatrix,
    sequenceOf,
)

_ED, _ES, _WARNINGS = "CardiacSeg.ED", "CardiacSeg.ES", "CardiacSeg.Warnings"
_FRAME_NUMBERS = "CardiacSeg.FrameNumbers"  # where the files have others than 1, 2, …

#: Grey values that are shown: the few darkest and brightest voxels do not decide.
_SHOWN_PERCENTILES = (1.0, 99.5)


def loadCine(path, scene=None):
    """Load a 4D NIfTI or NRRD file, a folder of cine DICOM or an ACDC patient folder, on the file's own grid.

    Only a stack whose slices run along another than the third axis is turned, as the views expect it.

    Returns:
        the volume node that shows a frame of the new sequence; for a file of one frame a volume of its own.

    Raises:
        StudyError: nothing there that can be read as a cine.
    """
    return addCine(in_file_order(read_study(Path(path), whole_cycle=True)), scene)


def loadPair(edPath, esPath, scene=None) -> tuple:
    """Load an ED and an ES file of one frame each; returns their two volume nodes.

    Raises:
        StudyError: a file cannot be read or is not of one frame, or the two lie on different grids.
    """
    study = in_file_order(read_study(Path(edPath), Path(esPath)))
    es = read_study(Path(esPath))
    return tuple(
        _addVolume(study, index, name, scene or slicer.mrmlScene) for index, name in ((0, study.name), (1, es.name))
    )


def addCine(study: CineStudy, scene=None):
    """Put a study into a scene: a sequence with its browser, or a volume where it has one frame.

    The sequence carries what other modules look for (index "0", "1", …; trigger times as Slicer's DICOM importer
    writes them), and what the reader knew: patient facts, ED and ES, warnings. Voxels are copied once.

    Returns:
        the volume node that shows a frame, its grey values set by percentiles.
    """
    scene = scene or slicer.mrmlScene
    if study.frames == 1:
        return _addVolume(study, 0, study.name, scene)
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", scene.GenerateUniqueName(_nodeName(study.name)))
    sequence.SetIndexName("frame")
    sequence.SetIndexUnit("")
    empty = slicer.vtkMRMLScalarVolumeNode()
    for index in range(study.frames):
        empty.SetName(f"{sequence.GetName()} {index + 1}")
        # The sequence keeps a copy of the node that it is given: filled afterwards, voxels are copied once.
        sequence.SetDataNodeAtValue(empty, str(index))
        frame = sequence.GetNthDataNode(index)
        _fill(frame, study, index)
        if study.times_ms is not None:
            frame.SetAttribute(TRIGGER_TIME, repr(float(study.times_ms[index])))
    _keepFacts(sequence, study)
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", f"{sequence.GetName()} browser")
    browser.AddSynchronizedSequenceNode(sequence)
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    proxy = browser.GetProxyNode(sequence)
    _setDisplay(proxy)
    return proxy


def _nodeName(name: str) -> str:
    """A file's name as a node can have it; MRML ends the application at one that is no Unicode, as Linux allows."""
    return name.encode("utf-8", "replace").decode()


def knownPhases(volumeNode) -> tuple:
    """Frame numbers (from 1) of ED and ES where the files told them, each else None."""
    sequence = sequenceOf(volumeNode)
    if sequence is None:
        return None, None
    return _frameNumber(sequence, _ED), _frameNumber(sequence, _ES)


def fileFrameNumbers(volumeNode) -> tuple[int, ...]:
    """Numbers of a cine's frames in its files: of an ACDC folder without its cine those of ED and ES."""
    sequence = sequenceOf(volumeNode)
    count = 0 if sequence is None else sequence.GetNumberOfDataNodes()
    text = "" if sequence is None else sequence.GetAttribute(_FRAME_NUMBERS) or ""
    numbers = tuple(int(part) for part in text.split(",") if part.isdigit())
    return numbers if len(numbers) == count else tuple(range(1, count + 1))


def readerWarnings(volumeNode) -> tuple:
    """What was said while a cine was read from its files, as sentences."""
    sequence = sequenceOf(volumeNode)
    text = (volumeNode if sequence is None else sequence).GetAttribute(_WARNINGS)
    return tuple(json.loads(text)) if text else ()


def _frameNumber(sequence, attribute):
    text = sequence.GetAttribute(attribute) or ""
    return int(text) if text.isdigit() and 1 <= int(text) <= sequence.GetNumberOfDataNodes() else None


def _addVolume(study: CineStudy, index: int, name: str, scene):
    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", scene.GenerateUniqueName(_nodeName(name)))
    _fill(node, study, index)
    keepPatientFacts(node, study.patient)
    node.SetAttribute(_WARNINGS, json.dumps(study.warnings))
    _setDisplay(node)
    return node


def _fill(volumeNode, study: CineStudy, index: int) -> None:
    volumeNode.SetIJKToRASMatrix(ijkToRasMatrix(study.geometry))
    slicer.util.updateVolumeFromArray(volumeNode, _showable(study.image[index]))


def _showable(frame: np.ndarray) -> np.ndarray:
    """The frame in a type that volume nodes take: 64-bit integers, half floats and booleans are converted."""
    if frame.dtype.kind in "iu" and frame.dtype.itemsize == 8:
        fits = np.abs(frame).max() <= np.iinfo(np.int32).max
        return frame.astype(np.int32 if fits else np.float64)
    if frame.dtype.kind == "b":
        return frame.astype(np.uint8)
    return frame.astype(np.float32) if frame.dtype == np.float16 else frame


def _keepFacts(sequence, study: CineStudy) -> None:
    keepPatientFacts(sequence, study.patient)
    sequence.SetAttribute(_WARNINGS, json.dumps(study.warnings))
    if study.frame_numbers != tuple(range(1, study.frames + 1)):
        sequence.SetAttribute(_FRAME_NUMBERS, ",".join(map(str, study.frame_numbers)))
    for attribute, index in ((_ED, study.ed), (_ES, study.es)):
        if index is not None:
            sequence.SetAttribute(attribute, str(index + 1))
    if study.times_ms is not None:
        sequence.SetAttribute("MultiVolume.NumberOfFrames", str(study.frames))
        sequence.SetAttribute(FRAME_TAG, "TriggerTime")
        sequence.SetAttribute("MultiVolume.FrameIdentifyingDICOMTagUnits", "ms")
        sequence.SetAttribute(FRAME_LABELS, ",".join(repr(float(t)) for t in study.times_ms))


def _setDisplay(volumeNode) -> None:
    volumeNode.CreateDefaultDisplayNodes()
    low, high = np.percentile(slicer.util.arrayFromVolume(volumeNode), _SHOWN_PERCENTILES).tolist()
    if high > low:
        display = volumeNode.GetDisplayNode()
        display.SetAutoWindowLevel(0)
        display.SetWindowLevelMinMax(low, high)
