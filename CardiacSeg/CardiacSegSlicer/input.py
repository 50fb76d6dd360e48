"""What is loaded in Slicer → what the library works on; the other way round for files (``loadCine``).

A cine is chosen by the volume that shows it: the proxy of a sequence; or, with a second volume for ES, two volumes
of their own. Nothing here needs Qt or the application, only MRML.
"""

from __future__ import annotations

import numpy as np
import slicer

from CardiacSegLib.study import CineStudy
from CardiacSegSlicer.assembly import assembleShortAxisStack, singleSliceSequences
from CardiacSegSlicer.loading import addCine, fileFrameNumbers, knownPhases, loadCine, loadPair, readerWarnings
from CardiacSegSlicer.patient import patientFacts
from CardiacSegSlicer.sequences import (
    browserOfProxy,
    chosenFrames,
    geometryOfVolume,
    gridOfFrames,
    ijkToRasMatrix,
    sequenceOfProxy,
    triggerTimes,
)
from CardiacSegSlicer.summary import InputSummary, describe

__all__ = [
    "InputSummary",
    "addCine",
    "assembleShortAxisStack",
    "browserOfProxy",
    "describe",
    "fileFrameNumbers",
    "geometryOfVolume",
    "ijkToRasMatrix",
    "knownPhases",
    "loadCine",
    "loadPair",
    "patientFacts",
    "readerWarnings",
    "sequenceOfProxy",
    "singleSliceSequences",
    "studyFromNodes",
]


def studyFromNodes(cine, esVolume=None, ed=None, es=None, voxels: bool = True) -> CineStudy:
    """The study that is chosen: every frame of a cine sequence, or a volume at ED and one at ES.

    Frames are copies, made once: the nodes are never written to, and browsing does not change the study.

    Args:
        cine: the proxy of a sequence; or the volume at end diastole.
        esVolume: the volume at end systole.
        ed, es: frame numbers (from 1) in the sequence; not given, they are unknown. Of two volumes the first is ED.
        voxels: without them the image is 0 throughout and takes no memory: enough to measure masks.

    Returns:
        image ``(t, z, y, x)`` as stored, geometry in LPS and mm without any transform, times in ms and patient facts
        where known.

    Raises:
        StudyError: nothing usable chosen, frames on different grids, a transform that changes sizes, no such frame.
    """
    frames = chosenFrames(cine, esVolume)
    geometry = gridOfFrames(frames)
    sequence = sequenceOfProxy(cine) if esVolume is None else None
    if voxels:
        image = np.stack([slicer.util.arrayFromVolume(node) for node in frames])
    else:
        image = np.broadcast_to(np.zeros((), np.uint8), (len(frames), *geometry.shape))
    study = CineStudy(
        image,
        geometry,
        name=(sequence or cine).GetName(),
        times_ms=None if sequence is None else triggerTimes(sequence),
        patient=patientFacts(cine),
        source="scene",
        warnings=readerWarnings(cine),
    )
    if sequence is None:
        return study.with_phases(0, 1)
    return study.with_phases(*(None if number is None else study.index_of(number) for number in (ed, es)))
