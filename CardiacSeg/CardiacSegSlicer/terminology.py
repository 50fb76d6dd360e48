"""What a segment is: SNOMED CT codes, the structures' colours, and the file that makes them known to Slicer."""

from __future__ import annotations

import slicer
import vtk

from CardiacSegLib.report.pictures import STRUCTURE_COLOURS
from CardiacSegLib.resources import resource_folders
from CardiacSegLib.study import SNOMED, STRUCTURES, Label

#: The terminology's file, and its name in there.
TERMINOLOGY_FILE, TERMINOLOGY = "CardiacSeg.term.json", "CardiacSeg"


def terminologyEntry(structure: Label) -> str:
    """Serialised terminology entry of a segment, as Slicer reads and saves it: category, type, no modifiers."""
    code, meaning = SNOMED[structure]
    return f"{TERMINOLOGY}~SCT^123037004^Anatomical Structure~SCT^{code}^{meaning}~^^~~^^~^^"


def setTerminology(segment, structure: Label) -> None:
    """Say what a segment is."""
    if hasattr(segment, "SetTerminology"):
        segment.SetTerminology(terminologyEntry(structure))
    else:
        segment.SetTag(segment.GetTerminologyEntryTagName(), terminologyEntry(structure))


def colourOf(structure: Label) -> tuple[float, float, float]:
    """Red, green and blue of a structure, 0 to 1, as in the library's pictures."""
    code = STRUCTURE_COLOURS[structure].lstrip("#")
    red, green, blue = (int(code[i : i + 2], 16) / 255.0 for i in (0, 2, 4))
    return red, green, blue


def segmentIdOf(segmentation, structure: Label) -> str | None:
    """ID of a structure's segment: told by its ID, else by its name, else by its SNOMED CT code; None without one."""
    if segmentation.GetSegment(structure.name) is not None:
        return structure.name
    ids = list(segmentation.GetSegmentIDs())
    for telling in (_isNamed, _isCoded):
        for segmentId in ids:
            if telling(segmentation.GetSegment(segmentId), structure):
                return segmentId
    return None


def namesOfOthers(segmentation) -> list[str]:
    """Names of the segments that belong to no structure."""
    ours = {segmentIdOf(segmentation, structure) for structure in STRUCTURES}
    others = (one for one in segmentation.GetSegmentIDs() if one not in ours)
    return [segmentation.GetSegment(one).GetName() or one for one in others]


def _isNamed(segment, structure: Label) -> bool:
    return (segment.GetName() or "").strip().upper() == structure.name


def _isCoded(segment, structure: Label) -> bool:
    text = vtk.reference("")
    if not segment.GetTag(segment.GetTerminologyEntryTagName(), text):
        return False
    fields = str(text).split("~")  # context, category, type, ...
    return len(fields) > 2 and fields[2].split("^")[:2] == ["SCT", SNOMED[structure][0]]


def loadTerminology(path=None) -> bool:
    """Make a ``.term.json`` file (the module's own) known to Slicer.

    Returns:
        False where there is no module Terminologies, or the file is not read.
    """
    terminologies = getattr(slicer.modules, "terminologies", None)
    if path is None:
        path = next((folder / TERMINOLOGY_FILE for folder in resource_folders("Terminology")), None)
    if terminologies is None or path is None:
        return False
    return bool(terminologies.logic().LoadTerminologyFromFile(str(path)))
