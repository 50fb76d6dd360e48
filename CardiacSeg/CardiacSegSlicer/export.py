"""Masks to files: NIfTI label maps, ``.seg.nrrd`` segmentations, cases of a training set.

Files lie on the volumes' own grids: a transform over a node does not enter them, as when Slicer saves a volume.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from CardiacSegLib.errors import CardiacSegError
from CardiacSegLib.study import CineStudy, LabelMap
from CardiacSegLib.workflow import label_files
from CardiacSegLib.writers import write_label_map, write_training_case
from CardiacSegSlicer.sequences import sequenceOfProxy

SEGMENTATION_SUFFIX = ".seg.nrrd"


def exportLabelMaps(
    study: CineStudy,
    labelsByFrame: Mapping[int, LabelMap],
    folder,
    overwrite: bool = False,
    pair: tuple[str, str] | None = None,
) -> list[Path]:
    """Write label maps (by frame index, from 0) as NIfTI in ACDC's numbers, named as ``cardiacseg segment`` does.

    ``pair`` are the names of two volumes that stand for ED and ES.

    Raises:
        CardiacSegError: a file is there already and must not be replaced (then none is written), or cannot be written.
    """
    paths = _labelPaths(study, labelsByFrame, folder, pair)
    _refuseExisting(paths.values(), overwrite)
    for index, path in paths.items():
        write_label_map(path, labelsByFrame[index])
    return list(paths.values())


def exportSegmentations(segmentationNodes: Iterable, folder, overwrite: bool = False) -> list[Path]:
    """Write segmentation nodes as ``.seg.nrrd``, one file each; of a whole cycle one for each frame.

    The nodes keep the files that they are saved to with the scene.

    Raises:
        CardiacSegError: a file is there already and must not be replaced (then none is written), or cannot be written.
    """
    nodes = _segmentationPaths(segmentationNodes, folder)
    _refuseExisting(nodes, overwrite)
    for path, node in nodes.items():
        _writeSegmentation(node, path)
    return list(nodes)


def exportMasks(
    study: CineStudy,
    labelsByFrame: Mapping[int, LabelMap],
    segmentationNodes: Iterable,
    folder,
    pair: tuple[str, str] | None = None,
) -> None:
    """:func:`exportLabelMaps` and :func:`exportSegmentations`; where any file is there already none of both is written.

    Raises:
        CardiacSegError: a file is there already, or cannot be written.
    """
    nodes = list(segmentationNodes)
    paths = _labelPaths(study, labelsByFrame, folder, pair)
    _refuseExisting([*paths.values(), *_segmentationPaths(nodes, folder)], False)
    exportLabelMaps(study, labelsByFrame, folder, pair=pair)
    exportSegmentations(nodes, folder)


def addToTrainingSet(study: CineStudy, labelsByFrame: Mapping[int, LabelMap], root, name: str) -> Path:
    """Write ED and ES with their masks (by frame index, from 0) as a patient that training reads; returns its folder.

    Raises:
        CardiacSegError: ED or ES is not known or has no mask, or the patient is there already.
    """
    return write_training_case(Path(root), fileName(name), study, labelsByFrame)


def fileName(name: str) -> str:
    """A node's name as a file can be called on every system."""
    return re.sub(r'[<>:"/\\|?*\x00-\x1f]', "_", name).strip(" .") or "CardiacSeg"


def _labelPaths(
    study: CineStudy, labelsByFrame: Mapping[int, LabelMap], folder, pair: tuple[str, str] | None = None
) -> dict[int, Path]:
    stems = None if pair is None else (Path(fileName(pair[0])), Path(fileName(pair[1])))
    names = label_files(study, sorted(labelsByFrame), stems)
    return {index: Path(folder) / fileName(name) for index, name in names.items()}


def _segmentationPaths(segmentationNodes: Iterable, folder) -> dict:
    """Nodes by the file that each is written to.

    Raises:
        CardiacSegError: two would be written to the same.
    """
    paths: dict[Path, object] = {}
    for stem, one in (frame for node in segmentationNodes for frame in _frames(node)):
        path = Path(folder) / (fileName(stem) + SEGMENTATION_SUFFIX)
        if path in paths:
            raise CardiacSegError(
                _("Two segmentations are called '{name}' and would be one file. Rename one of them.").format(name=stem)
            )
        paths[path] = one
    return paths


def _frames(segmentationNode) -> list[tuple]:
    """File stem and node, of the proxy of a sequence those of every frame."""
    sequence, name = sequenceOfProxy(segmentationNode), segmentationNode.GetName()
    if sequence is None:
        return [(name, segmentationNode)]
    count = sequence.GetNumberOfDataNodes()
    return [(f"{name}_frame{i + 1:02d}", sequence.GetNthDataNode(i)) for i in range(count)]


def _refuseExisting(paths: Iterable[Path], overwrite: bool) -> None:
    there = [path for path in paths if path.exists()]
    if there and not overwrite:
        raise CardiacSegError(
            _("'{path}' is there already. Choose another folder, or move it away.").format(path=there[0])
        )


def _writeSegmentation(node, path: Path) -> None:
    # A storage node of its own, and a name aside: an interrupted write leaves the old file or the new one.
    storage, aside = slicer.vtkMRMLSegmentationStorageNode(), path.with_name(f".{os.getpid()}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        storage.SetFileName(str(aside))
        written = bool(storage.WriteData(node)) and aside.exists()
        if written:
            os.replace(aside, path)
    except OSError:
        written = False
    finally:
        if aside.exists():
            aside.unlink()
    if not written:
        raise CardiacSegError(_("'{path}' cannot be written: no room, or no permission.").format(path=path))
