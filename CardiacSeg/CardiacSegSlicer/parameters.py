"""What is chosen and what came of it, in nodes that are saved with the scene: one for the module, one for each cine."""

import json
from typing import Annotated, Any, Optional

import slicer
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

from CardiacSegSlicer.sequences import sequenceOfProxy

#: Attribute that tells a cine's node from the module's own.
READING_ATTRIBUTE = "CardiacSeg.Reading"


@parameterNodeWrapper
class CardiacSegParameterNode:
    """What is chosen in the panel.

    Attributes:
        cine: proxy volume of a cine sequence, or the volume at end diastole where ``esVolume`` is chosen.
        esVolume: volume at end systole, where both are volumes of their own.
        models: names or files of the models that are checked, one a line; several are averaged.
        modelFiles: files of the user's own models that are listed, one a line.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        trainData, trainOutput, trainPreset, trainFolds, trainEpochs: of the section Train; 0 folds train one network,
            0 epochs are the preset's.
    """

    cine: Optional[slicer.vtkMRMLScalarVolumeNode] = None
    esVolume: Optional[slicer.vtkMRMLScalarVolumeNode] = None
    models: str = "fast"
    modelFiles: str = ""
    device: str = "auto"
    trainData: str = ""
    trainOutput: str = ""
    trainPreset: str = "default-2d"
    trainFolds: Annotated[int, WithinRange(0, 20)] = 0
    trainEpochs: Annotated[int, WithinRange(0, 10000)] = 0


_NUMBERS = {
    "trainFolds": int, "trainEpochs": int, "edFrame": int, "esFrame": int, "heightCm": float, "weightKg": float,
}  # fmt: skip


@parameterNodeWrapper
class CardiacSegReadingNode:
    """One cine and what was read from it.

    Attributes:
        cine, esVolume: as in the module's node; they say which cine this is.
        cineSequence: the sequence that ``cine`` shows: it may be shown by another volume, once that one was deleted.
        edFrame, esFrame: 1-based; 0 is not known yet.
        automaticPhases: ED and ES are found when segmenting.
        wholeCycle: every frame is segmented, not ED and ES alone.
        heightCm, weightKg: 0 is not known.
        diagnosis: likeness to groups of patients is said; research only.
        edSegmentation, esSegmentation: results at ED and ES.
        cycleSegmentation: result of the whole cycle: the proxy of a sequence.
        cycleSequence: that sequence.
        edAutomatic, esAutomatic, cycleAutomatic: hidden copies of what the network gave.
        functionTable, curveTable, curveChart: the results as nodes.
        provenance: JSON, see :func:`provenanceOf`.
    """

    cine: Optional[slicer.vtkMRMLScalarVolumeNode] = None
    esVolume: Optional[slicer.vtkMRMLScalarVolumeNode] = None
    cineSequence: Optional[slicer.vtkMRMLSequenceNode] = None
    edFrame: int = 0
    esFrame: int = 0
    automaticPhases: bool = True
    wholeCycle: bool = False
    heightCm: float = 0.0
    weightKg: float = 0.0
    diagnosis: bool = False
    edSegmentation: Optional[slicer.vtkMRMLSegmentationNode] = None
    esSegmentation: Optional[slicer.vtkMRMLSegmentationNode] = None
    cycleSegmentation: Optional[slicer.vtkMRMLSegmentationNode] = None
    cycleSequence: Optional[slicer.vtkMRMLSequenceNode] = None
    edAutomatic: Optional[slicer.vtkMRMLLabelMapVolumeNode] = None
    esAutomatic: Optional[slicer.vtkMRMLLabelMapVolumeNode] = None
    cycleAutomatic: Optional[slicer.vtkMRMLSequenceNode] = None
    functionTable: Optional[slicer.vtkMRMLTableNode] = None
    curveTable: Optional[slicer.vtkMRMLTableNode] = None
    curveChart: Optional[slicer.vtkMRMLPlotChartNode] = None
    provenance: str = ""


def provenanceOf(reading: CardiacSegReadingNode) -> dict[str, Any]:
    """How the masks came about: ``model``, ``device``, ``version``, ``frames`` (1-based), ``phases`` (the frames that
    were ED and ES), ``notes`` (sentences), ``findings`` (those of the run, as ``function.json``'s, which cannot be
    measured anew), ``expectedDice`` (as ``function.json``'s ``expected_dice``).

    Scenes of earlier versions have neither ``phases`` nor ``findings``: the network's doubts are among their notes.

    Empty before anything was segmented.
    """
    try:
        values = json.loads(reading.provenance or "{}")
    except ValueError:  # of another version
        return {}
    return values if isinstance(values, dict) else {}


def setProvenance(reading: CardiacSegReadingNode, values: dict[str, Any]) -> None:
    reading.provenance = json.dumps(values, sort_keys=True)


def withoutUnreadable(node):
    """A node less the numbers in it that are none: another version's, which the wrapper would stumble over."""
    for name, kind in _NUMBERS.items():
        try:
            kind(node.GetParameter(name) or 0)
        except (ValueError, OverflowError):
            node.UnsetParameter(name)
    return node


def readingNodes(scene) -> list:
    """The nodes of all cines of a scene that were opened in the module."""
    count = scene.GetNumberOfNodesByClass("vtkMRMLScriptedModuleNode")
    nodes = [scene.GetNthNodeByClass(i, "vtkMRMLScriptedModuleNode") for i in range(count)]
    return [node for node in nodes if node.GetAttribute(READING_ATTRIBUTE)]


def readingOf(cine, esVolume=None) -> CardiacSegReadingNode:
    """The node of a cine, made where there is none; a cine is told by its nodes, never by their names."""
    scene, sequence = cine.GetScene(), sequenceOfProxy(cine)
    for node in readingNodes(scene):
        reading = CardiacSegReadingNode(withoutUnreadable(node))
        if reading.esVolume is not esVolume:
            continue
        if reading.cine is None and sequence is not None and reading.cineSequence is sequence:
            reading.cine = cine
        if reading.cine is cine:
            reading.cineSequence = sequence
            return reading
    node = scene.AddNewNodeByClass("vtkMRMLScriptedModuleNode", "CardiacSeg reading")
    node.SetModuleName("CardiacSeg")
    node.SetHideFromEditors(True)
    node.SetAttribute(READING_ATTRIBUTE, "1")
    reading = CardiacSegReadingNode(node)
    reading.cine = cine
    reading.esVolume = esVolume
    reading.cineSequence = sequence
    return reading
