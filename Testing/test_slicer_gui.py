"""The module in the Slicer host: real clicks, real MRML, real networks in real processes.

What a real Slicer alone can show (PythonQt's conversions, the editor's own effects, layouts) is not claimed here.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

if sys.version_info < (3, 10):
    pytest.skip("slicer-core needs Python 3.10 or later", allow_module_level=True)
pytest.importorskip("slicer", reason="slicer-core (3D Slicer's MRML) is not installed")
pytest.importorskip("PySide6", reason="PySide6 (Qt) is not installed")


from CardiacSegLib.cli import main as cardiacseg
from CardiacSegLib.phantom import PhantomConfig, make_phantom
from CardiacSegLib.study import Label
from CardiacSegLib.writers import write_cine
from SlicerHost.user import click, paint, put_masks

MODULE_FILE = Path(__file__).resolve().parents[1] / "CardiacSeg" / "CardiacSeg.py"
#: s that any one piece of work may take.
PATIENCE = 90.0
#: Quick to segment whole.
SMALL = PhantomConfig(frames=6, slices=5, size=(120, 104), spacing=(20.0, 2.5, 2.5))


@pytest.fixture(scope="session")
def small_cine(tmp_path_factory) -> Path:
    """A phantom of few frames: quick to segment whole."""
    path = tmp_path_factory.mktemp("cine") / "phantom.nii.gz"
    write_cine(path, make_phantom(SMALL).study)
    return path


def wait(host, until, what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not until():
        host.process(20)
        host.check()
        assert time.monotonic() < end, f"{what} did not come about in {PATIENCE:.0f} s"


def segment(host, module) -> None:
    """Click Segment and wait."""
    click(module.ui.segmentButton)
    assert module.segmentPanel.running, host.dialogs
    wait(host, lambda: not module.segmentPanel.running, "Segmenting")
    host.check()


def load(host, module, path: Path):
    host.answer(str(path))
    click(module.ui.loadFolderButton if path.is_dir() else module.ui.loadFileButton)
    return module.parameters.cine


def figures(module) -> dict[str, str]:
    """The results table as it is seen: figure → value."""
    table = module.ui.resultsTable
    return {table.item(i, 0).text(): table.item(i, 1).text() for i in range(table.rowCount)}


# ---------------------------------------------------------------------------------------------------- the main job


def test_a_cine_file_is_loaded_segmented_and_read_as_the_command_line_reads_it(host, module, acdc_root, tmp_path):
    cine = next((acdc_root / "patient090").glob("*_4d.nii.gz"))
    load(host, module, cine)
    assert "frames" in module.ui.understoodLabel.text and not module.ui.problemLabel.visible
    assert module.ui.automaticPhasesCheckBox.checked
    segment(host, module)
    assert cardiacseg(["segment", str(cine), "--output", str(tmp_path)]) == 0
    truth = json.loads((tmp_path / "function.json").read_text(encoding="utf-8"))
    ours = module.reading.function()
    assert (ours["ed_frame"], ours["es_frame"]) == (truth["ed_frame"], truth["es_frame"])
    for part in ("lv", "rv", "myo"):
        for key, value in truth[part].items():
            assert ours[part][key] == pytest.approx(value, abs=0.1), (part, key)
    assert ours["warnings"] == truth["warnings"]
    seen = figures(module)
    assert seen["LV EDV"] == f"{truth['lv']['edv_ml']:.1f} mL"


def test_progress_counts_real_steps_and_the_window_stays_alive(host, module, small_cine):
    load(host, module, small_cine)
    click(module.ui.segmentButton)
    steps, turns = set(), 0
    while module.segmentPanel.running:
        turns += 1
        host.process(10)
        steps.add((module.ui.statusLabel.text, module.ui.progressBar.value, module.ui.progressBar.maximum))
    host.check()
    assert turns > 20
    counted = {(done, total) for stage, done, total in steps if "frame" in stage.lower()}
    assert {total for _, total in counted} == {6} and any(0 < done < 6 for done, _ in counted)


# ----------------------------------------------------------------------------------------------------- corrections


def test_an_edit_changes_the_figures_by_the_voxels_painted_within_a_second(host, module, small_cine):
    load(host, module, small_cine)
    segment(host, module)
    before = module.reading.function()["lv"]["edv_ml"]
    z, y, x = (int(v) for v in np.argwhere(module.reading.labels("ED").mask(Label.LV)).mean(axis=0))
    outside = (slice(z, z + 1), slice(0, 6), slice(0, 6))
    painted = paint(host, module, "ED", Label.LV, outside)
    start = time.monotonic()
    wait(host, lambda: "corrected by hand" in _notes(module), "The figures")
    assert time.monotonic() - start < 1.0
    voxel = module.reading.study().geometry.voxel_ml
    assert module.reading.function()["lv"]["edv_ml"] == pytest.approx(before + painted * voxel, abs=1e-6)
    assert module.reading.corrected() == {"ED": {Label.LV}, "ES": set()}
    assert painted == 36 and "LV" in module.ui.editedLabel.text


def _notes(module) -> str:
    table = module.ui.resultsTable
    return " ".join(table.item(i, 3).text() for i in range(table.rowCount))


def test_masks_are_shown_only_over_the_frame_that_they_belong_to(host, module, small_cine):
    load(host, module, small_cine)
    put_masks(module, make_phantom(SMALL))
    reading, cine = module.reading, module.parameters.cine
    from CardiacSegSlicer import views

    def shown() -> list[bool]:
        return [bool(reading.segmentation(phase).GetDisplayNode().GetVisibility()) for phase in ("ED", "ES")]

    assert views.frameShown(cine) == reading.frame("ED") and shown() == [True, False]
    click(module.ui.showEsButton)
    assert views.frameShown(cine) == reading.frame("ES") and shown() == [False, True]
    other = next(n for n in range(1, 7) if n not in (reading.frame("ED"), reading.frame("ES")))
    views.showFrame(cine, other)
    host.process(50)
    assert shown() == [False, False] and "Another frame" in module.ui.editedLabel.text
    views.showFrame(cine, reading.frame("ED"))
    host.process(50)
    assert shown() == [True, False]
    assert module.correctPanel.editor.segmentationNode() is reading.segmentation("ED")


def test_corrections_are_never_replaced_without_asking_and_can_be_taken_back(host, module, small_cine):
    load(host, module, small_cine)
    put_masks(module, make_phantom(SMALL))
    automatic = module.reading.labels("ED").data.copy()
    paint(host, module, "ED", Label.RV, (slice(0, 1), slice(0, 4), slice(0, 4)))
    edited = module.reading.labels("ED").data.copy()
    host.process(400)
    host.answer(False)
    click(module.ui.segmentButton)
    assert not module.segmentPanel.running and (module.reading.labels("ED").data == edited).all()
    host.answer(True)
    click(module.ui.restoreButton)
    assert (module.reading.labels("ED").data == automatic).all() and not (edited == automatic).all()
    assert not module.reading.anyCorrected()


# -------------------------------------------------------------------------------------------- saved with the scene


@pytest.mark.parametrize("whole_cycle", [False, True], ids=["phases", "cycle"])
def test_a_saved_scene_comes_back_with_masks_figures_corrections_and_provenance(
    host, module, small_cine, tmp_path, whole_cycle
):
    load(host, module, small_cine)
    module.ui.framesComboBox.currentIndex = int(whole_cycle)
    segment(host, module)
    paint(host, module, "ED", Label.LV, (slice(0, 1), slice(0, 4), slice(0, 4)))
    host.process(400)
    before, corrected = module.reading.function(), module.reading.corrected()
    provenance = module.reading.node.provenance
    assert corrected["ED"] == {Label.LV}
    host.saveScene(tmp_path / "scene.mrb")
    host.closeScene()
    assert module.reading is None and module.ui.resultsTable.rowCount == 0
    host.loadScene(tmp_path / "scene.mrb")
    assert module.reading is not None and module.reading.isCycle == whole_cycle
    assert module.reading.function() == before
    assert module.reading.corrected() == corrected
    assert module.reading.node.provenance == provenance
    assert figures(module)


# ------------------------------------------------------------------------------------------- stopped in the middle


def test_cancel_stops_the_process_and_leaves_the_scene_as_it_was(host, module, small_cine):
    load(host, module, small_cine)
    nodes = module.parameters.cine.GetScene().GetNumberOfNodes()
    click(module.ui.segmentButton)
    assert module.ui.segmentButton.text == "Cancel"
    process = module.segmentPanel.job._process
    host.process(300)
    click(module.ui.segmentButton)
    assert not module.segmentPanel.running and not process.running
    assert module.parameters.cine.GetScene().GetNumberOfNodes() == nodes
    assert module.ui.segmentButton.enabled and not module.reading.hasResult
    segment(host, module)
    assert module.reading.hasResult


def test_closing_the_scene_in_the_middle_stops_everything(host, module, small_cine):
    load(host, module, small_cine)
    click(module.ui.segmentButton)
    process = module.segmentPanel.job._process
    host.process(300)
    host.closeScene()
    assert not module.segmentPanel.running and not process.running
    assert module.reading is None and not module.ui.segmentButton.enabled
    load(host, module, small_cine)
    segment(host, module)
    assert module.reading.hasResult


# ---------------------------------------------------------------------------------------------- what may be chosen


def test_two_cines_of_a_scene_do_not_mix(host, module, small_cine, tmp_path):
    other = tmp_path / "other.nii.gz"
    write_cine(other, make_phantom(replace(SMALL, frames=5, edv_ml=180.0)).study)
    first = load(host, module, small_cine)
    put_masks(module, make_phantom(SMALL))
    before = module.reading.function()
    second = load(host, module, other)
    assert second is not first and not module.reading.hasResult and module.ui.resultsTable.rowCount == 0
    segment(host, module)
    assert module.reading.function() != before
    module.parameters.cine = first
    host.process(50)
    assert module.reading.function() == before and figures(module)


def test_a_dicom_folder_is_loaded_and_read(host, module, cine_dicom_root):
    folder = sorted(p for p in (cine_dicom_root / "dicom").iterdir() if p.is_dir())[0]
    load(host, module, folder)
    module.phasesPanel.choose("ED", 1)
    module.phasesPanel.choose("ES", 8)
    assert not module.ui.automaticPhasesCheckBox.checked
    segment(host, module)
    function = module.reading.function()
    assert (function["ed_frame"], function["es_frame"]) == (1, 8)
    assert 20 < function["lv"]["ef_percent"] < 60 and function["lv"]["edv_ml"] > 100


def test_single_slice_sequences_are_offered_and_assembled(host, module, small_cine):
    from CardiacSegSlicer.loading import addCine

    study = make_phantom(PhantomConfig(frames=4)).study
    import slicer

    from CardiacSegLib.study import CineStudy, Geometry

    for z in np.random.default_rng(0).permutation(study.slices):
        g = study.geometry
        origin = tuple(g.to_lps(np.array([int(z), 0, 0])).tolist())
        one = Geometry((1, *g.shape[1:]), g.spacing, origin, g.direction)
        addCine(
            CineStudy(study.image[:, int(z) : int(z) + 1], one, name=f"slice {z}", times_ms=study.times_ms),
            slicer.mrmlScene,
        )
    host.dialogs.reset()
    module.enter()
    assert module.ui.assembleButton.visible
    click(module.ui.assembleButton)
    assert module.reading is not None
    whole = module.reading.study()
    assert whole.geometry.matches(study.geometry) and (whole.image == study.image).all()


def test_ed_and_es_as_two_volumes_are_segmented(host, module, tmp_path):
    from CardiacSegSlicer.loading import loadPair

    phantom = make_phantom(PhantomConfig(frames=6))
    paths = [tmp_path / "ed.nii.gz", tmp_path / "es.nii.gz"]
    for path, index in zip(paths, (phantom.ed, phantom.es)):
        write_cine(
            path, replace(phantom.study, image=phantom.study.image[index : index + 1], frame_numbers=(), times_ms=None)
        )
    ed, es = loadPair(*paths)
    module.parameters.esVolume = es
    module.parameters.cine = ed
    assert not module.ui.phasesSection.enabled
    segment(host, module)
    assert module.reading.function()["lv"]["ef_percent"] == pytest.approx(60, abs=6)
    assert module.reading.segmentation("ES").GetNodeReference("referenceImageGeometryRef") is es


def test_a_rigid_transform_over_the_cine_stands_over_the_masks_and_changes_no_figure(
    host, module, small_cine, tmp_path
):
    import slicer
    import vtk

    load(host, module, small_cine)  # an oblique stack
    turned = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "turned")
    transform = vtk.vtkTransform()
    transform.RotateWXYZ(33, 1, 2, 3)
    transform.Translate(10, -20, 30)
    turned.SetMatrixTransformToParent(transform.GetMatrix())
    module.parameters.cine.SetAndObserveTransformNodeID(turned.GetID())
    segment(host, module)
    assert module.reading.segmentation("ED").GetParentTransformNode() is turned
    assert cardiacseg(["segment", str(small_cine), "--output", str(tmp_path)]) == 0
    truth = json.loads((tmp_path / "function.json").read_text(encoding="utf-8"))
    assert module.reading.function()["lv"] == pytest.approx(truth["lv"], abs=1e-6)
    module.parameters.cine.SetAndObserveTransformNodeID(None)
    assert module.reading.segmentation("ED").GetParentTransformNode() is None
    assert module.reading.function()["lv"] == pytest.approx(truth["lv"], abs=1e-6)


def test_what_is_no_cine_is_said_in_words_and_cannot_be_segmented(host, module):
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "one")
    slicer.util.updateVolumeFromArray(node, np.zeros((1, 32, 32), np.int16))
    module.parameters.cine = node
    assert module.ui.problemLabel.text and module.ui.problemLabel.visible
    assert not module.ui.segmentButton.enabled


def test_a_file_that_is_no_image_is_said_in_one_message(host, module, tmp_path):
    path = tmp_path / "broken.nii.gz"
    path.write_bytes(b"nothing")
    load(host, module, path)
    assert len(host.dialogs.texts("error")) == 1 and "broken" in host.dialogs.texts("error")[0]
    host.dialogs.reset()
    assert module.reading is None


# --------------------------------------------------------------------------------------------- what may be missing


def test_a_declined_install_is_one_readable_message(host, module, small_cine):
    from CardiacSegSlicer.installer import PACKAGES, Installer

    image = [package for package in PACKAGES if package.title == "scikit-image"]
    module.logic.installer = Installer(find=lambda: image)
    load(host, module, small_cine)
    host.process(400)
    host.answer(False)
    click(module.ui.segmentButton)
    assert not module.segmentPanel.running
    assert len(host.dialogs.texts("error")) == 1 and "scikit-image" in host.dialogs.texts("error")[0]
    assert host.installs == []
    host.dialogs.reset()
    assert module.ui.segmentButton.enabled


def test_a_gpu_that_is_not_there_is_said_and_nothing_else_happens(host, module, small_cine):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    load(host, module, small_cine)
    module.parameters.device = "cuda"
    click(module.ui.segmentButton)
    wait_quiet(host, module)
    assert any("cuda" in words for words in host.dialogs.texts())
    host.dialogs.reset()
    assert not module.reading.hasResult


def wait_quiet(host, module) -> None:
    end = time.monotonic() + PATIENCE
    while module.segmentPanel.running and time.monotonic() < end:
        host.process(20)


def test_the_module_loads_without_a_main_window_and_without_torch(tmp_path):
    import subprocess

    code = (
        "import sys, SlicerHost\n"
        "host = SlicerHost.start()\n"
        "host.showMainWindow(False)\n"
        f"module = host.loadModule({str(MODULE_FILE)!r})\n"
        "assert not module.ui.segmentButton.enabled\n"
        "assert 'torch' not in sys.modules and 'skimage' not in sys.modules\n"
    )
    root = MODULE_FILE.parents[1]
    # Only the module's own folder, as a user adds it to Slicer's module paths: the library lies beside it.
    env = {**os.environ, "PYTHONPATH": str(root / "Testing"), "QT_QPA_PLATFORM": "offscreen"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_devices_are_found_when_the_section_is_opened(host, module):
    module.ui.segmentSection.collapsed = False
    wait(host, lambda: module.ui.deviceComboBox.count > 1, "The list of devices")
    names = [module.ui.deviceComboBox.itemData(i) for i in range(module.ui.deviceComboBox.count)]
    assert names[0] == "auto" and "cpu" in names


# ------------------------------------------------------------------------------------------------- the whole cycle


def test_the_whole_cycle_is_a_dense_sequence_in_step_with_the_cine(host, module, small_cine):
    load(host, module, small_cine)
    module.ui.framesComboBox.currentIndex = 1
    segment(host, module)
    from CardiacSegSlicer.sequences import browserOfProxy, sequenceOfProxy

    proxy = module.reading.node.cycleSegmentation
    assert sequenceOfProxy(proxy).GetNumberOfDataNodes() == 6
    assert browserOfProxy(proxy) is browserOfProxy(module.parameters.cine)
    labels = module.reading.labelsByFrame()
    assert len({labels[i].volume_ml(Label.LV) for i in range(6)}) > 3
    chart = module.reading.node.curveChart
    assert chart is not None and chart.GetNumberOfPlotSeriesNodes() >= 2


# ------------------------------------------------------------------------------------------------------------- out


def test_figures_masks_report_and_training_case_are_written(host, module, small_cine, tmp_path):
    load(host, module, small_cine)
    put_masks(module, make_phantom(SMALL))
    module.ui.heightSpinBox.value, module.ui.weightSpinBox.value = 180.0, 75.0
    for button, path in (
        (module.ui.saveTableButton, tmp_path / "figures.csv"),
        (module.ui.reportButton, tmp_path / "report.html"),
        (module.ui.saveMasksButton, tmp_path / "masks"),
        (module.ui.trainingCaseButton, tmp_path / "training"),
    ):
        if not path.suffix:
            path.mkdir()
        host.answer(str(path))
        click(button)
        host.check()
    assert "EF" in (tmp_path / "figures.csv").read_text(encoding="utf-8") or "Ejection" in (
        tmp_path / "figures.csv"
    ).read_text(encoding="utf-8")
    assert "not a medical device" in (tmp_path / "report.html").read_text(encoding="utf-8")
    names = {p.name for p in (tmp_path / "masks").iterdir()}
    assert sum(n.endswith("_seg.nii.gz") for n in names) == 2 and sum(n.endswith(".seg.nrrd") for n in names) == 2
    assert len(list((tmp_path / "training").rglob("*_gt.nii.gz"))) == 2
    click(module.ui.copyButton)
    host.answer(str(tmp_path / "masks"))
    click(module.ui.saveMasksButton)
    assert len(host.dialogs.texts("error")) == 1  # what is there already is not replaced
    host.dialogs.reset()


def test_indexed_figures_need_height_and_weight(host, module, small_cine):
    load(host, module, small_cine)
    put_masks(module, make_phantom(SMALL))
    module.ui.heightSpinBox.value = module.ui.weightSpinBox.value = 0
    table = module.ui.resultsTable
    assert not any(table.item(i, 2).text() for i in range(table.rowCount))
    module.ui.heightSpinBox.value, module.ui.weightSpinBox.value = 180.0, 75.0
    assert any("m²" in table.item(i, 2).text() for i in range(table.rowCount))


# ----------------------------------------------------------------------------------------------------------- train


@pytest.fixture(scope="session")
def training_set(tmp_path_factory) -> Path:
    from CardiacSegLib.writers import write_training_case

    root = tmp_path_factory.mktemp("training")
    for seed in range(4):
        phantom = make_phantom(PhantomConfig(frames=4, slices=3, size=(64, 64), spacing=(14.0, 3.0, 3.0), seed=seed))
        labels = {i: phantom.labels[i] for i in (phantom.ed, phantom.es)}
        write_training_case(root, f"case{seed}", phantom.study.with_phases(phantom.ed, phantom.es), labels)
    return root


def test_training_is_started_stopped_resumed_and_charted(host, module, training_set, tmp_path):
    module.ui.trainDataPath.currentPath = str(training_set)
    module.ui.trainOutputPath.currentPath = str(tmp_path / "run")
    module.parameters.trainEpochs = 3
    click(module.ui.trainStartButton)
    host.check()
    assert not host.dialogs and module.trainPanel.run.running
    wait(host, lambda: len(module.trainPanel.run.curves()[0]) >= 1, "The first epoch")
    click(module.ui.trainStopButton)
    assert not module.trainPanel.run.running
    done = len(module.trainPanel.run.curves()[0])
    if done < 3:
        click(module.ui.trainStartButton)
        wait(host, lambda: not module.trainPanel.run.running, "The training")
    module.trainPanel.refresh()
    assert len(module.trainPanel.run.curves()[0]) == 3
    assert module.trainPanel.chart.GetNumberOfPlotSeriesNodes() >= 1
    model = str(module.trainPanel.run.modelFile)
    assert model in module.parameters.modelFiles and model not in module.parameters.models  # offered, not chosen


def test_a_training_goes_on_when_the_module_is_closed_and_is_found_again(host, training_set, tmp_path):
    host.closeScene()
    first = host.loadModule(MODULE_FILE)
    run = first.logic.train(training_set, tmp_path / "run", epochs=50)
    first.cleanup()
    assert run.running
    second = host.loadModule(MODULE_FILE)
    second.parameters.trainOutput = str(tmp_path / "run")
    second.trainPanel.attach(str(tmp_path / "run"))
    assert second.trainPanel.run.running and second.ui.trainStopButton.enabled
    host.closeScene()
    assert not run.running
    second.cleanup()
    host.check()


# -------------------------------------------------------------------------------------------------- Python console


def test_the_console_examples_of_the_readme_run(host, module, small_cine, training_set, tmp_path):
    import re
    import shutil

    readme = (MODULE_FILE.parents[1] / "README.md").read_text(encoding="utf-8")
    section = readme.split("### From Slicer's Python console", 1)[1]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL).group(1)
    studies = tmp_path / "studies"
    studies.mkdir()
    shutil.copy(small_cine, studies / "a.nii.gz")
    for stands_for, real in {
        "/data/cine.nii.gz": small_cine, "/data/studies": studies, "/data/training": training_set,
        "/data/results": tmp_path / "results", "/data/run": tmp_path / "run", "/data/folds": tmp_path / "folds",
    }.items():  # fmt: skip
        assert stands_for in code
        code = code.replace(f'"{stands_for}"', repr(str(real)))
    exec(compile(code, "README.md", "exec"), {})
    host.check()
    assert list((tmp_path / "results").rglob("function.json"))
    assert (tmp_path / "run" / "model.pt").is_file() and (tmp_path / "folds" / "fold1" / "model.pt").is_file()


def test_the_modules_own_test_passes(host, module):
    sys.modules["CardiacSeg"].CardiacSegTest().runTest()
