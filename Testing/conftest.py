"""Where real data is, how many threads the tests take, and what the tests of the Slicer module share."""

from __future__ import annotations

import os
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

# Before anything loads torch or ITK: more threads than that make tests on small arrays slower, not faster.
for variable in ("OMP_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
    os.environ.setdefault(variable, str(min(2, os.cpu_count() or 1)))

# slicer-core has no translations; the host puts its own in their place.
sys.modules.setdefault("slicer.i18n", types.ModuleType("slicer.i18n")).__dict__.setdefault("tr", str)

MODULE_FILE = Path(__file__).resolve().parents[1] / "CardiacSeg" / "CardiacSeg.py"


def _data_folder(variable: str, holds: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set; it names {holds}")
    folder = Path(value)
    if not folder.is_dir():
        pytest.skip(f"{variable} names a folder that is not there; it should be {holds}")
    return folder


@pytest.fixture(scope="session")
def acdc_root() -> Path:
    """ACDC's training folder: ``patientNNN/Info.cfg`` and NIfTI files."""
    return _data_folder("CARDIACSEG_ACDC", "the ACDC training folder (patient001, patient002, ...)")


@pytest.fixture(scope="session")
def cine_dicom_root() -> Path:
    """Sunnybrook's folder with ``dicom/`` and ``contours/``."""
    return _data_folder("CARDIACSEG_CINE_DICOM", "a folder of cine DICOM studies (dicom/ and contours/)")


@pytest.fixture(scope="session")
def real_hearts(acdc_root):
    """ACDC's ``Info.cfg`` and manual masks at ED and ES, by patient."""
    from CardiacSegLib.readers.acdc import read_acdc_truth, read_info

    hearts = {}
    for folder in sorted(acdc_root.glob("patient*")):
        info, truth = read_info(folder / "Info.cfg"), read_acdc_truth(folder)
        hearts[folder.name] = info, truth[info.ed], truth[info.es]
    return hearts


# ------------------------------------------------------------------------------- MRML without the application


def slicer_over(scene) -> dict:
    """What the application would have over a scene: real logics and a real layout, no window, no DICOM database."""
    import slicer
    import vtk

    application = slicer.vtkMRMLApplicationLogic()
    application.SetMRMLScene(scene)
    application.GetColorLogic().SetMRMLScene(scene)
    application.SetModuleLogic("Colors", application.GetColorLogic())
    layout = slicer.vtkMRMLLayoutLogic()
    layout.SetMRMLScene(scene)
    layout.GetLayoutNode().SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)
    modules = {}
    vtk.vtkObject.GlobalWarningDisplayOff()  # slicer-core has none of the terminology files asked for here
    for name, kind in {
        "volumes": slicer.vtkSlicerVolumesLogic,
        "sequences": slicer.vtkSlicerSequencesLogic,
        "segmentations": slicer.vtkSlicerSegmentationsModuleLogic,
        "terminologies": slicer.vtkSlicerTerminologiesModuleLogic,
    }.items():
        logic = kind()
        logic.SetMRMLApplicationLogic(application)
        logic.SetMRMLScene(scene)
        modules[name] = types.SimpleNamespace(logic=lambda logic=logic: logic)
    vtk.vtkObject.GlobalWarningDisplayOn()
    manager = types.SimpleNamespace(layoutLogic=lambda: layout)
    app = types.SimpleNamespace(layoutManager=lambda: manager, applicationLogic=lambda: application)
    return {"mrmlScene": scene, "modules": types.SimpleNamespace(**modules), "app": app, "dicomDatabase": None}


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch):
    """An empty scene as ``slicer.mrmlScene``, see :func:`slicer_over`."""
    import slicer

    scene = slicer.vtkMRMLScene()
    for name, value in slicer_over(scene).items():
        monkeypatch.setattr(slicer, name, value, raising=False)
    yield scene
    scene.Clear(0)  # Clear(1) would take the layout node from under its logic


def rotation(a: float, b: float, c: float) -> np.ndarray:
    """Rotation about z, then x, then z, radians."""

    def about_z(t: float) -> np.ndarray:
        return np.array([[np.cos(t), -np.sin(t), 0], [np.sin(t), np.cos(t), 0], [0, 0, 1]])

    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return about_z(a) @ about_x @ about_z(c)


#: Axes of a usual short-axis stack in RAS and of a long-axis view, for ``rotation``.
SHORT_AXIS, LONG_AXIS = (3.92, 1.96, 0.3), (-0.78, 1.57, 0.0)


def oblique_matrix(left_handed: bool = False, spacing: tuple[float, ...] = (1.5, 1.4, 8.0)) -> np.ndarray:
    """IJK → RAS of a tilted short-axis stack, spacing (x, y, z)."""
    axes = rotation(*SHORT_AXIS)
    if left_handed:
        axes[:, 2] *= -1
    matrix = np.eye(4)
    matrix[:3, :3] = axes @ np.diag(spacing)
    matrix[:3, 3] = (-31.0, 72.5, 12.25)
    return matrix


def add_volume(scene, array: np.ndarray, name: str = "cine", matrix: np.ndarray | None = None):
    """A volume node with these voxels (z, y, x), oblique where nothing else is said."""
    import slicer

    node = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, array)
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(oblique_matrix() if matrix is None else matrix))
    return node


def add_transform(scene, matrix: np.ndarray):
    """A linear transform node; ``matrix`` is 3 × 3 or 4 × 4."""
    import slicer

    full = np.eye(4)
    full[: matrix.shape[0], : matrix.shape[1]] = matrix
    node = scene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    node.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(full))
    return node


def add_sequence(scene, frames, name="cine sequence", matrix=None, frame_attributes=None, **attributes: str):
    """A sequence as the DICOM importer makes it, its browser, and the proxy that shows one frame."""
    import slicer

    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", name)
    for i, frame in enumerate(frames):
        node = add_volume(scene, frame, f"frame {i}", matrix)
        for key, values in (frame_attributes or {}).items():
            node.SetAttribute(key, values[i])
        sequence.SetDataNodeAtValue(node, str(i))
        scene.RemoveNode(node)
    for key, value in attributes.items():
        sequence.SetAttribute(f"MultiVolume.{key}", value)
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", f"{name} browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    return sequence, browser, browser.GetProxyNode(sequence)


# ------------------------------------------------------------------------------------- the module in the host


@pytest.fixture(scope="session")
def host():
    """The stand-in for the Slicer application (see ``SlicerHost``)."""
    import SlicerHost

    return SlicerHost.start()


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Child processes work in one thread: on two cores two that wait for each other are slower, beside others much."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def open_module(host):
    """The module as Slicer opens it, in an empty scene, but without a look for GPUs, which starts torch for nothing."""
    from CardiacSegSlicer.jobs import DeviceProbe

    host.reset()
    widget = host.loadModule(MODULE_FILE)
    widget.segmentPanel.probe = DeviceProbe()
    widget.segmentPanel.probe.state = "done"
    widget.parent.show()
    return widget


@pytest.fixture
def module(host, one_thread):
    """See :func:`open_module`; afterwards nothing may run and no error be left."""
    widget = open_module(host)
    yield widget
    host.closeScene()
    assert not widget.segmentPanel.running
    host.reset()


def add_cine(module, phantom, name: str = "cine"):
    """Load a phantom and choose it, as one of the buttons would; returns the cine."""
    import slicer

    from CardiacSegSlicer.loading import addCine

    cine = addCine(replace(phantom.study, name=name), slicer.mrmlScene)
    module.cinePanel.choose(cine)
    return cine


@pytest.fixture(scope="session")
def phantom():
    """Quick to segment whole."""
    from CardiacSegLib.phantom import PhantomConfig, make_phantom

    return make_phantom(PhantomConfig(frames=6, slices=5, size=(120, 104), spacing=(20.0, 2.5, 2.5)))


@pytest.fixture(scope="session")
def small_cine(phantom, tmp_path_factory) -> Path:
    """The phantom as a 4D file."""
    from CardiacSegLib.writers import write_cine

    path = tmp_path_factory.mktemp("cine") / "phantom.nii.gz"
    write_cine(path, phantom.study)
    return path


@pytest.fixture(scope="session")
def training_set(tmp_path_factory) -> Path:
    """Two patients to train with."""
    from CardiacSegLib.phantom import PhantomConfig, make_phantom
    from CardiacSegLib.writers import write_training_case

    root = tmp_path_factory.mktemp("training")
    for number in (1, 2):
        config = PhantomConfig(frames=4, slices=3, size=(64, 64), spacing=(14.0, 3.0, 3.0), seed=number)
        made = make_phantom(config)
        study = made.study.with_phases(made.ed, made.es)
        write_training_case(root, f"patient{number:03d}", study, dict(enumerate(made.labels)))
    return root
