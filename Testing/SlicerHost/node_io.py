"""``slicer.app.coreIOManager()``, as far as ``slicer.util``'s load, save and export functions ask it."""

from __future__ import annotations

from pathlib import Path

import slicer

#: file type, ending → class of the node that reads it, longest ending first
READERS = (
    ("SceneFile", (".mrml", ".mrb"), ""),
    ("SegmentationFile", (".seg.nrrd", ".seg.vtm", ".seg.nhdr"), "vtkMRMLSegmentationNode"),
    ("SequenceFile", (".seq.nrrd", ".seq.mha", ".seq.mrb"), "vtkMRMLSequenceNode"),
    ("TransformFile", (".h5", ".tfm"), "vtkMRMLTransformNode"),
    ("TableFile", (".tsv", ".csv"), "vtkMRMLTableNode"),
    ("VolumeFile", (".nrrd", ".nii.gz", ".nii", ".mha", ".mhd", ".nhdr"), "vtkMRMLScalarVolumeNode"),
)


class CoreIOManager:
    def __init__(self, app) -> None:
        self._app = app

    def fileType(self, filename: str) -> str:
        for kind, endings, _ in READERS:
            if str(filename).lower().endswith(endings):
                return kind
        return "NoFile"

    def fileWriterFileType(self, node) -> str:
        for kind, _, className in READERS:
            if className and node.IsA(className):
                return kind
        return "NoFile"

    def fileWriterExtensions(self, node) -> tuple:
        storage = node.CreateDefaultStorageNode()
        storage.UnRegister(None)
        storage.SetScene(self._app.mrmlScene())  # a volume's formats are asked of the scene's IO manager
        types = storage.GetSupportedWriteFileTypes()
        return tuple(types.GetValue(i) for i in range(types.GetNumberOfValues()))

    def extractKnownExtension(self, filename: str, node) -> str:
        format_ = slicer.vtkDataFileFormatHelper.GetFileExtensionFromFormatString
        known = [format_(text) for text in self.fileWriterExtensions(node)]
        return max((e for e in known if filename.lower().endswith(e)), key=len, default=Path(filename).suffix)

    def loadNodes(self, filetype: str, properties: dict, loaded, messages=None) -> bool:
        filename = properties["fileName"]
        if filetype == "SceneFile":
            return loadScene(self._app.mrmlScene(), filename, self._app.temporaryPath)
        className = next((name for kind, _, name in READERS if kind == filetype), "")
        if filetype == "VolumeFile" and properties.get("labelmap"):
            className = "vtkMRMLLabelMapVolumeNode"
        if not className or not Path(filename).exists():
            return False
        scene = self._app.mrmlScene()
        name = properties.get("name") or Path(filename).name.split(".")[0]
        node = scene.AddNewNodeByClass(className, scene.GenerateUniqueName(name))
        storage = node.CreateDefaultStorageNode()
        storage.UnRegister(None)
        scene.AddNode(storage)
        node.SetAndObserveStorageNodeID(storage.GetID())
        storage.SetFileName(filename)
        if not storage.ReadData(node):
            scene.RemoveNode(storage)
            scene.RemoveNode(node)
            return False
        if hasattr(node, "CreateDefaultDisplayNodes"):
            node.CreateDefaultDisplayNodes()
        loaded.AddItem(node)
        return True

    def saveNodes(self, filetype: str, properties: dict, messages=None) -> bool:
        filename = properties["fileName"]
        scene = self._app.mrmlScene()
        if filetype == "SceneFile":
            return saveScene(scene, filename)
        node = scene.GetNodeByID(properties["nodeID"])
        if node.GetStorageNode() is None:
            node.AddDefaultStorageNode(filename)
        storage = node.GetStorageNode()
        storage.SetFileName(filename)
        return bool(storage.WriteData(node))

    def exportNodes(self, nodeIDs, fileNames, properties, hardenTransform=False, messages=None) -> bool:
        """Through a storage node of its own, so that the one of the node keeps its file name."""
        written = []
        for nodeId, filename in zip(nodeIDs, fileNames):
            node = self._app.mrmlScene().GetNodeByID(nodeId)
            storage = node.CreateDefaultStorageNode()
            storage.UnRegister(None)
            storage.SetScene(self._app.mrmlScene())
            storage.SetFileName(filename)
            storage.SetWriteFileFormat(properties.get("fileFormat"))
            storage.SetUseCompression(bool(properties.get("useCompression", True)))
            written.append(bool(storage.WriteData(node)))
        return all(written)


def saveScene(scene, filename: str) -> bool:
    """MRB or MRML through MRML itself; every storable node gets a storage node as Slicer's save dialog gives it."""
    if filename.lower().endswith(".mrb"):
        return bool(scene.WriteToMRB(filename))
    scene.SetURL(filename)
    return bool(scene.Commit())


def loadScene(scene, filename: str, temporary: str) -> bool:
    """Adds what the file holds, as "Add data" does; clear the scene before to replace it."""
    if filename.lower().endswith(".mrb"):
        return bool(scene.ReadFromMRB(filename))
    scene.SetURL(filename)
    return bool(scene.Import())
