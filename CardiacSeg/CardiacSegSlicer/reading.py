"""One cine of the scene and what was read from it: masks by phase, what of them was corrected, figures.

All state lies in nodes (:class:`CardiacSegSlicer.parameters.CardiacSegReadingNode`), so that it is saved with the
scene; objects of this class can be made and thrown away at any time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

import slicer
from slicer.i18n import tr as _

from CardiacSegLib.errors import CardiacSegError, StudyError
from CardiacSegLib.function.quality import Finding, structures_named
from CardiacSegLib.study import CineStudy, Label, LabelMap
from CardiacSegSlicer import input as nodesIn
from CardiacSegSlicer import output as nodesOut
from CardiacSegSlicer import results
from CardiacSegSlicer.masks import Masks
from CardiacSegSlicer.parameters import CardiacSegReadingNode, provenanceOf, readingOf, setProvenance
from CardiacSegSlicer.terminology import namesOfOthers

ED, ES = "ED", "ES"
PHASES = (ED, ES)
_MASKS = (
    "edSegmentation", "esSegmentation", "cycleSegmentation", "cycleSequence",
    "edAutomatic", "esAutomatic", "cycleAutomatic",
)  # fmt: skip

#: Kinds of findings that only a run knows of: what the network doubted, what flickered and was replaced, so that the
#: masks show it no more, and frames without a ventricle among those that ED and ES were found by.
_KINDS_OF_THE_RUN = ("doubt", "flicker", "empty_frames")


def _remove(parts: Mapping[str, Any]) -> None:
    """Take nodes out of their scene, by the names of the reading's parameters."""
    for name, node in parts.items():
        if node is None or node.GetScene() is None:
            continue
        if name == "cycleSegmentation":
            nodesOut.removeSegmentationSequence(node)
            if node.GetScene() is None:
                continue
        elif name == "cycleSequence":
            nodesOut.removeSequence(node)
            continue
        elif name == "curveChart":
            for series in [node.GetNthPlotSeriesNode(i) for i in range(node.GetNumberOfPlotSeriesNodes())]:
                node.GetScene().RemoveNode(series)
        node.GetScene().RemoveNode(node)


def _ofTheRun(function: Mapping[str, Any], measured: Collection[str]) -> dict[str, Any]:
    """What a run says that its masks do not: findings, and notes that are the sentences of none.

    Sentences of other findings are left out: they are measured anew, with the masks as they then are.

    Args:
        function: content of the run's ``function.json``.
        measured: sentences that the masks give by themselves.
    """
    found = function.get("findings") or ()
    told = {*measured, *(one["sentence"] for one in found)}
    return {
        "findings": [one for one in found if one["kind"] in _KINDS_OF_THE_RUN and one["sentence"] not in measured],
        "notes": [sentence for sentence in function["warnings"] if sentence not in told],
    }


class Reading:
    """See the module. ``node`` is the parameter node of the cine."""

    def __init__(self, node: CardiacSegReadingNode) -> None:
        self.node = node

    @classmethod
    def of(cls, cine, esVolume=None) -> Reading:
        """The reading of a cine; at first sight with the phases and patient facts that the cine knows."""
        node = readingOf(cine, esVolume)
        reading = cls(node)
        if not node.provenance:
            setProvenance(node, {})
            patient = nodesIn.patientFacts(cine)
            node.heightCm, node.weightKg = patient.height_cm or 0.0, patient.weight_kg or 0.0
            ed, es = (1, 2) if esVolume is not None else nodesIn.knownPhases(cine)
            if ed and es:
                node.edFrame, node.esFrame, node.automaticPhases = ed, es, False
        reading.followTransforms()
        return reading

    def followTransforms(self) -> None:
        """Put the masks under the transforms of their volumes, wherever the user has moved these."""
        for phase in PHASES:
            segmentation, automatic, volume = self.segmentation(phase), self._automatic(phase), self.volume(phase)
            if segmentation is None:
                continue
            if self.isPair and automatic is not None and nodesOut.moveToGrid(automatic, volume):
                # The volume's transform was hardened: the masks' too, which still lie under it. Of a cine only the
                # frame shown is, until another is shown.
                segmentation.HardenTransform()
            segmentation.SetAndObserveTransformNodeID(volume.GetTransformNodeID())

    def isSameAs(self, other: Reading | None) -> bool:
        """Whether both are of one cine: several objects may stand for it."""
        return other is not None and self.node.parameterNode is other.node.parameterNode

    @property
    def isPair(self) -> bool:
        """Whether ED and ES are two volumes of their own."""
        return self.node.esVolume is not None

    @property
    def name(self) -> str:
        """Name for nodes and files: that of the sequence, or of the volume at end diastole."""
        sequence = nodesIn.sequenceOfProxy(self.node.cine)
        return (sequence or self.node.cine).GetName()

    @property
    def isCycle(self) -> bool:
        """Whether the whole cycle was segmented."""
        return self.node.cycleSegmentation is not None

    @property
    def hasResult(self) -> bool:
        """Whether anything was segmented."""
        return any(self.segmentation(phase) is not None for phase in PHASES)

    def nodes(self) -> set:
        """The scene's nodes that the reading stands on or has made."""
        node = self.node
        own = {getattr(node, name) for name in ("cine", "esVolume", *_MASKS, "curveTable", "curveChart")}
        own |= {node.parameterNode, *map(self.segmentation, PHASES)}
        own |= {nodesIn.sequenceOfProxy(node.cine), nodesIn.browserOfProxy(node.cine)}
        own |= {nodesIn.sequenceOfProxy(node.cycleSegmentation), node.cycleSequence}
        return own - {None}

    def frame(self, phase: str) -> int:
        """Frame number (from 1) of a phase; 0 where it is not known."""
        return self.node.edFrame if phase == ED else self.node.esFrame

    def setFrame(self, phase: str, number: int) -> None:
        """Choose the frame of a phase; from then on phases are not searched for."""
        if phase == ED:
            self.node.edFrame = number
        else:
            self.node.esFrame = number
        self.node.automaticPhases = False

    def volume(self, phase: str):
        """The volume node that shows a phase."""
        return self.node.esVolume if self.isPair and phase == ES else self.node.cine

    def study(self, ofMasks: bool = False, voxels: bool = True) -> CineStudy:
        """The study with ED and ES as chosen, or as the masks have them; frames are copies, or 0 without ``voxels``.

        Raises:
            StudyError: the nodes hold no cine.
        """
        ed, es = (self.maskFrame(phase) if ofMasks else self.frame(phase) for phase in PHASES)
        pair = self.node.esVolume
        phases = (None, None) if pair is not None else (ed or None, es or None)
        study = nodesIn.studyFromNodes(self.node.cine, pair, *phases, voxels=voxels)
        facts = replace(study.patient, height_cm=self.node.heightCm or None, weight_kg=self.node.weightKg or None)
        return replace(study, patient=facts)

    def studyOfFiles(self, voxels: bool = True) -> CineStudy:
        """The study of the masks as files name it: frames by the numbers that the cine's files gave them; two volumes
        have none.

        Raises:
            StudyError: the nodes hold no cine.
        """
        study = self.study(ofMasks=True, voxels=voxels)
        if self.isPair:
            return replace(study, kind="pair")
        return replace(study, frame_numbers=nodesIn.fileFrameNumbers(self.node.cine))

    # ------------------------------------------------------------------ masks

    def segmentation(self, phase: str):
        """The segmentation node of a phase; of a whole cycle always the proxy, which shows the frame shown."""
        if self.isCycle:
            return self.node.cycleSegmentation
        return self.node.edSegmentation if phase == ED else self.node.esSegmentation

    def maskFrame(self, phase: str) -> int:
        """Frame number that the masks of a phase belong to; 0 where there are none.

        Of ED and ES alone it stays what it was when another frame is chosen, until it is segmented.
        """
        node = self.segmentation(phase)
        if node is None:
            return 0
        return self.frame(phase) if self.isCycle else int(node.GetAttribute(nodesOut.FRAME_ATTRIBUTE))

    def labels(self, phase: str) -> LabelMap | None:
        """The masks of a phase as they are now; None where it was not segmented."""
        node, frame = self.segmentation(phase), self.maskFrame(phase)
        if not frame:
            return None
        if self.isCycle:
            return nodesOut.labelsOfFrame(node, frame - 1, self.node.cine)
        return nodesOut.labelsOfSegmentation(node, self.volume(phase))

    def _automatic(self, phase: str):
        if self.isCycle:
            return self.node.cycleAutomatic
        return self.node.edAutomatic if phase == ED else self.node.esAutomatic

    def masks(self) -> Masks:
        """All masks as they are now, beside what the network gave: read once, to be handed on."""
        cine, cycle = self.node.cine, self.node.cycleSegmentation
        if cycle is not None:
            labels = nodesOut.labelsOfCycle(cycle, cine)
            copies = {index: nodesOut.automaticArray(self.node.cycleAutomatic, cine, index) for index in labels}
        else:
            phases = {self.maskFrame(phase) - 1: phase for phase in PHASES if self.maskFrame(phase)}
            labels = {index: self.labels(phase) for index, phase in phases.items()}
            copies = {
                index: nodesOut.automaticArray(self._automatic(phase), self.volume(phase))
                for index, phase in phases.items()
            }
        return Masks(labels, {index: copy for index, copy in copies.items() if copy is not None})

    def corrected(self, masks: Masks | None = None) -> dict[str, set[Label]]:
        """By phase the structures whose masks are no longer what the network gave; phases where that is known."""
        masks = self.masks() if masks is None else masks
        frames = {phase: self.maskFrame(phase) - 1 for phase in PHASES}
        found = {phase: masks.corrected(index) for phase, index in frames.items() if index in masks.labels}
        return {phase: structures for phase, structures in found.items() if structures is not None}

    def anyCorrected(self) -> bool:
        """Whether any mask was corrected, or may have been: without an automatic copy, or where masks cannot be read,
        nobody knows."""
        try:
            return bool(self.masks().correctedFrames())
        except StudyError:
            return True

    def ownSegments(self) -> list[str]:
        """Names of segments among the masks that are none of the structures: a user's own."""
        nodes = {self.segmentation(phase) for phase in PHASES} - {None}
        nodes |= {frame for node in nodes for frame in nodesOut.framesOfCycle(node)}
        return sorted({name for node in nodes for name in namesOfOthers(node.GetSegmentation())})

    def restore(self, frame: int) -> None:
        """Back to the automatic masks of a frame (from 1).

        Raises:
            StudyError: they are not in the scene.
        """
        masks = self.masks()
        copy, now = masks.automatic.get(frame - 1), masks.labels.get(frame - 1)
        if copy is None or now is None:
            raise StudyError(_("The automatic result of frame {frame} is not in this scene.").format(frame=frame))
        self.replaceMasks(frame, LabelMap(copy.copy(), now.geometry))

    def replaceMasks(self, frame: int, labels: LabelMap) -> None:
        """Put other masks into a frame (from 1) that has some, as a correction by hand would.

        Raises:
            StudyError: they lie on another grid.
        """
        if self.isCycle:
            nodesOut.replaceFrame(self.node.cycleSegmentation, frame - 1, labels, self.node.cine)
            return
        phase = next(phase for phase in PHASES if self.maskFrame(phase) == frame)
        nodesOut.replaceLabels(self.segmentation(phase), labels, self.volume(phase))

    def forgetAutomatic(self, frames: Collection[int]) -> None:
        """Remove what was automatic of some frames (from 1), of a whole cycle of all: it is not known any more."""
        names = ["cycleAutomatic"]
        if not self.isCycle:
            names = [f"{phase.lower()}Automatic" for phase in PHASES if self.maskFrame(phase) in frames]
        self._take(names)

    def store(self, study: CineStudy, labels: Mapping[int, LabelMap], function: dict[str, Any], device: str) -> None:
        """Keep what the network gave: new masks in place of the former ones, ED and ES, provenance.

        Args:
            study: the study that was segmented, with the ED and ES that were found.
            labels: by frame index.
            function: content of ``function.json``.
            device: kind of the device that was used.

        Raises:
            CardiacSegError: there is nothing to keep, or the cine is gone or changed; all is left as it was.
        """
        node = self.node
        if node.cine is None or (node.esVolume is None and nodesIn.sequenceOfProxy(node.cine) is None):
            raise CardiacSegError(_("The cine was removed meanwhile. Nothing was kept."))
        if study.ed is None or study.es is None:
            raise CardiacSegError(" ".join(function["warnings"]) or _("ED and ES were not found."))
        frames = {ED: study.frame_numbers[study.ed], ES: study.frame_numbers[study.es]}
        made: dict[str, Any] = {}
        # What was chosen may have changed since the job began: what it gave says which frames were meant.
        every = len(labels) == study.frames and (study.frames > len(PHASES) or node.wholeCycle)
        with nodesOut.allOrNothing(node.cine.GetScene()):
            if every and not self.isPair:
                name = f"{self.name} segmentation"
                made["cycleSegmentation"] = nodesOut.addSegmentationSequence(labels, node.cine, name)
                made["cycleSequence"] = nodesIn.sequenceOfProxy(made["cycleSegmentation"])
                made["cycleAutomatic"] = nodesOut.keepAutomaticSequence(labels, node.cine, f"{self.name} automatic")
            else:
                for phase, key in ((ED, "ed"), (ES, "es")):
                    found, volume = labels[frames[phase] - 1], self.volume(phase)
                    name = f"{self.name} {phase} segmentation"
                    made[f"{key}Segmentation"] = nodesOut.addSegmentation(found, volume, name, frames[phase])
                    made[f"{key}Automatic"] = nodesOut.keepAutomatic(found, volume, f"{self.name} {phase} automatic")
        with slicer.util.NodeModify(node.parameterNode):
            self.discard()
            node.edFrame, node.esFrame = frames[ED], frames[ES]
            for name, part in made.items():
                setattr(node, name, part)
            setProvenance(node, {})  # notes of the former run are none of this one
            provenance = {
                "model": function["model"],
                "version": function["version"],
                "device": device,
                "frames": sorted(study.frame_numbers[i] for i in labels),
                "phases": frames,
                "expectedDice": function.get("expected_dice"),
            }
            setProvenance(node, {**provenance, **_ofTheRun(function, set(self.function()["warnings"]))})

    def dropHalfDeleted(self) -> None:
        """A whole cycle whose segmentation was deleted goes as a whole: its sequence would bring the masks back."""
        if self.node.cycleSegmentation is None and self.node.cycleSequence is not None:
            self.discard()

    def discard(self) -> None:
        """Remove all masks and the curve of a whole cycle; nothing else of the scene is touched."""
        self._take((*_MASKS, "curveTable", "curveChart"))

    def _take(self, names: Iterable[str]) -> None:
        """Take nodes out of the reading and of the scene, by the names of the reading's parameters."""
        parts = {name: getattr(self.node, name) for name in names}
        for name in parts:
            setattr(self.node, name, None)
        _remove(parts)

    # ---------------------------------------------------------------- figures

    def function(self, masks: Masks | None = None, diagnosis: bool | None = None) -> dict[str, Any]:
        """The content of ``function.json`` for the masks as they are now, or as they were read.

        ``diagnosis``: with likeness to groups of patients, research only; by default as chosen for this cine.
        """
        provenance = provenanceOf(self.node)
        read = self.masks() if masks is None else masks
        now = {phase: read.labels.get(self.maskFrame(phase) - 1) for phase in PHASES}
        found, notes = self._said(read)
        function = results.figuresOf(
            self.study(ofMasks=True, voxels=False),
            now[ED],
            now[ES],
            model=provenance.get("model"),
            notes=notes,
            found=found,
            cycle=read.labels if self.isCycle else None,
            diagnosis=self.node.diagnosis if diagnosis is None else diagnosis,
        )
        expected = provenance.get("expectedDice") or {}
        # Of a whole cycle another frame may have become ED or ES, of which nothing was said.
        said = {p: dice for p, dice in expected.items() if self._frameMeant(p, provenance) == self.maskFrame(p)}
        if said:
            function["expected_dice"] = said
        return function

    def _said(self, masks: Masks) -> tuple[list[Finding], list[str]]:
        """Findings and notes of the run; a finding about a mask that was corrected since is a note of before."""
        provenance = provenanceOf(self.node)
        notes, current = list(provenance.get("notes") or ()), []
        found = [
            Finding(*map(given.get, ("kind", "sentence", "slice", "phase")))
            for given in provenance.get("findings") or ()
        ]
        for one in found:
            frame = self._frameMeant(one.phase, provenance)
            corrected = masks.corrected(frame - 1) if frame - 1 in masks.labels else None
            placed = self._placed(one, frame)
            if corrected and corrected & structures_named(one.sentence):
                notes.append(_("Before the correction: {note}").format(note=placed.sentence))
            else:
                current.append(placed)
        return current, notes

    def _frameMeant(self, phase: str | None, provenance: Mapping[str, Any]) -> int:
        """Frame number that a finding of the run is about; 0 for none."""
        if phase in PHASES:
            return (provenance.get("phases") or {}).get(phase) or self.maskFrame(phase)
        return int(phase.split()[-1]) if phase else 0

    def _placed(self, finding: Finding, frame: int) -> Finding:
        """The finding as it is to be said now: of a whole cycle another frame may have become ED or ES."""
        if finding.phase not in PHASES or frame == self.maskFrame(finding.phase):
            return finding
        sentence = finding.sentence.replace(f" at {finding.phase}", f" in frame {frame}", 1)
        return replace(finding, sentence=sentence, phase=f"frame {frame}")

    def bodySurfaceArea(self) -> float | None:
        """In m², where height and weight are known."""
        if not (self.node.heightCm and self.node.weightKg):
            return None
        return results.bodySurfaceArea(self.node.heightCm, self.node.weightKg)
