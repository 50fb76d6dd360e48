"""One short-axis stack from sequences of single slices, as Slicer's DICOM importer makes them of one series per slice.

What may be a stack, how its phases are ordered and which gaps it may have are the rules of the library's DICOM
reader: each frame is given to them as the header that it came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from CardiacSegLib.errors import StudyError
from CardiacSegLib.readers.dicom_choice import Candidate, one_layout, same_places, slices_along_normal
from CardiacSegLib.readers.dicom_headers import Header
from CardiacSegLib.readers.dicom_stack import order_stack
from CardiacSegLib.study import CineStudy, Geometry
from CardiacSegSlicer.loading import addCine
from CardiacSegSlicer.patient import patientFacts
from CardiacSegSlicer.sequences import (
    framesOf,
    ownGeometry,
    refuseDifferentTransforms,
    refuseNoGreyImage,
    sequenceOf,
    triggerTimeOf,
    triggerTimes,
)

_FEWEST_SLICES = 3


@dataclass(frozen=True)
class _Frame(Header):
    """A frame of one slice as the header that it came from, with its volume node."""

    node: Any

    @property
    def place(self) -> float:
        """Position along the normal, mm."""
        return float(np.dot(self.position, self.normal))


def acrossHeart(geometry: Geometry) -> bool:
    """Whether the slices lie across the long axis of a usual heart, as short-axis slices do."""
    return Candidate([[_header(geometry)]], 1, set()).across_heart()


def singleSliceSequences(scene=None) -> list:
    """Sequences of single slices that may be one short-axis stack: of one study, orientation, matrix and pixel size.

    Returns:
        a list for each stack of three positions or more, its nodes in the order of their slices: the proxy of each
        sequence, or the sequence where it has none.
    """
    scene = scene or slicer.mrmlScene
    groups: list = []
    for node in _sequenceNodes(scene):
        frames = _framesOrNone(node)
        if not frames:
            continue
        shown = _proxyOf(node) or node
        key = _studyItem(shown)
        group = next((g for g in groups if g[0] == key and one_layout(g[1][0][0], frames[0])), None)
        if group is None:
            groups.append((key, [frames], [shown]))
        else:
            group[1].append(frames)
            group[2].append(shown)
    found = []
    for _key, frames, shown in groups:
        if len(_slicesOf(frames)) >= _FEWEST_SLICES:
            order = sorted(range(len(shown)), key=lambda i, frames=frames: frames[i][0].place)
            found.append([shown[i] for i in order])
    return sorted(found, key=len, reverse=True)


def assembleShortAxisStack(sequences: Sequence, name: str):
    """Assemble single-slice sequences to a cine of their own; they stay as they are.

    Slices are sorted along their normal, lowest first, phases matched by their order (trigger times differ between
    slices). The geometry is right-handed. Voxels are those of the frames.

    Args:
        sequences: sequences of single slices or their proxies, in any order.
        name: name of the new cine.

    Returns:
        the volume node that shows a frame of the new sequence, under the transform of the slices if they have one.

    Raises:
        StudyError: no single slices, fewer than three positions, two sequences at one place, slices of another
            orientation, matrix or pixel size, unequal numbers of phases, a gap, a transform that changes sizes.
    """
    nodes = list(dict.fromkeys(sequences))
    parts = [_framesOf(node) for node in nodes]
    volumes = [node for node in nodes if not node.IsA("vtkMRMLSequenceNode")]
    refuseDifferentTransforms(*volumes)
    slices = _slicesOf(parts)
    if len(slices) < _FEWEST_SLICES:
        raise StudyError(
            _(
                "A short-axis stack has at least {fewest} slices; these sequences show {count}. Choose all of them."
            ).format(fewest=_FEWEST_SLICES, count=len(slices))
        )
    _refuseOtherLayouts(nodes, parts)
    _refuseSamePlaces(nodes, parts)
    stack = order_stack(slices)
    _refuseDifferentDoubles(stack.doubles)
    image = np.stack([np.concatenate([_voxels(frame) for frame in frames]) for frames in stack.frames])
    study = CineStudy(
        image,
        stack.geometry,
        name=name,
        times_ms=stack.times_ms,
        patient=patientFacts(nodes[0]),
        warnings=tuple(stack.warnings),
    )
    proxy = addCine(study, nodes[0].GetScene())
    if volumes and volumes[0].GetTransformNodeID():
        proxy.SetAndObserveTransformNodeID(volumes[0].GetTransformNodeID())
    return proxy


def _sequenceNodes(scene) -> list:
    count = scene.GetNumberOfNodesByClass("vtkMRMLSequenceNode")
    return [scene.GetNthNodeByClass(i, "vtkMRMLSequenceNode") for i in range(count)]


def _proxyOf(sequence):
    browser = slicer.modules.sequences.logic().GetFirstBrowserNodeForSequenceNode(sequence)
    return None if browser is None else browser.GetProxyNode(sequence)


def _studyItem(node) -> int:
    """The DICOM study of a node in the subject hierarchy; 0 where there is none."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(node.GetScene())
    item = hierarchy.GetItemByDataNode(node) if hierarchy else 0
    level = slicer.vtkMRMLSubjectHierarchyConstants.GetDICOMLevelStudy()
    return hierarchy.GetItemAncestorAtLevel(item, level) if item else 0


def _framesOrNone(node):
    try:
        return _framesOf(node)
    except StudyError:
        return None


def _framesOf(node) -> list:
    """The frames of a single-slice sequence or its proxy.

    Raises:
        StudyError: it is none.
    """
    sequence = sequenceOf(node)
    volumes = [] if sequence is None else framesOf(sequence)
    if len(volumes) < 2:
        raise StudyError(
            _("'{name}' is no sequence of a slice. Choose the sequences of the slices.").format(name=node.GetName())
        )
    for volume in volumes:
        refuseNoGreyImage(volume)
        if volume.GetImageData().GetDimensions()[2] != 1:
            raise StudyError(
                _("'{name}' has several slices already. Choose sequences of single slices.").format(name=node.GetName())
            )
    times = triggerTimes(sequence) or [triggerTimeOf(volume) for volume in volumes]
    return [
        _header(ownGeometry(volume), series=sequence.GetID(), number=i, trigger=time, node=volume)
        for i, (volume, time) in enumerate(zip(volumes, times))
    ]


def _header(geometry: Geometry, series: str = "", number: int = 0, trigger=None, node=None) -> _Frame:
    """The header that a slice would have; nothing of it comes from a patient."""
    axes = np.asarray(geometry.direction)
    between, *pixel = geometry.spacing
    return _Frame(
        path=Path(series, str(number)),
        study="",
        series=series,
        acquired="",
        series_number=0.0,
        shape=geometry.shape[1:],
        pixel=tuple(pixel),
        position=geometry.origin,
        row=tuple(axes[:, 0].tolist()),
        column=tuple(axes[:, 1].tolist()),
        trigger_ms=trigger,
        temporal=None,
        instance=float(number),
        thickness=between,
        slice_distance=None,
        lossy=False,
        heart_rate_bpm=None,
        nominal_interval_ms=None,
        size_m=None,
        weight_kg=None,
        sex="",
        age="",
        node=node,
    )


def _slicesOf(parts) -> list:
    """All frames by position along the normal, lowest first; of each slice unordered."""
    frames = [frame for part in parts for frame in part]
    return slices_along_normal(frames, frames[0].normal) if frames else []


def _refuseOtherLayouts(nodes, parts) -> None:
    """What most of the sequences are counts; named are those that differ."""
    firsts = [part[0] for part in parts]
    usual = max(firsts, key=lambda first: sum(one_layout(first, other) for other in firsts))
    odd = [node.GetName() for node, part in zip(nodes, parts) if not all(one_layout(usual, frame) for frame in part)]
    if odd:
        raise StudyError(
            _(
                "Of another orientation, matrix or pixel size than the other slices: {names}. Leave out what does not "
                "belong to the short-axis stack."
            ).format(names=_listed(odd))
        )


def _refuseSamePlaces(nodes, parts) -> None:
    stacks = [Candidate(slices_along_normal(part, parts[0][0].normal), len(part), set()) for part in parts]
    for i, stack in enumerate(stacks):
        for j in range(i):
            if same_places(stacks[j], stack):
                raise StudyError(
                    _(
                        "Two sequences show the same slice: {names}. Leave one of them out: delete it in the module "
                        "Data, and assemble again."
                    ).format(names=_listed([nodes[j].GetName(), nodes[i].GetName()]))
                )


def _refuseDifferentDoubles(doubles) -> None:
    for kept, double in doubles:
        if not np.array_equal(_voxels(kept), _voxels(double)):
            raise StudyError(
                _("'{name}' has two different images of the same time. Load this slice again, alone.").format(
                    name=kept.node.GetName()
                )
            )


def _voxels(frame: _Frame) -> np.ndarray:
    return slicer.util.arrayFromVolume(frame.node)


def _listed(names) -> str:
    return ", ".join(f"'{name}'" for name in names[:5]) + (" …" if len(names) > 5 else "")
