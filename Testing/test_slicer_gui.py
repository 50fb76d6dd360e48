"""The module in the Slicer host: real clicks, real MRML, real networks in real processes.

What a real Slicer alone can show (PythonQt's conversions, the editor's own effects, layouts) is not claimed here.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
import time
import types
from dataclasses import replace

import numpy as np
import pytest

if sys.version_info < (3, 10):
    pytest.skip("slicer-core needs Python 3.10 or later", allow_module_level=True)
slicer = pytest.importorskip("slicer", reason="slicer-core (3D Slicer's MRML) is not installed")
pytest.importorskip("PySide6", reason="PySide6 (Qt) is not installed")

import vtk  # noqa: E402

from CardiacSegLib.cli import main as cardiacseg  # noqa: E402
from CardiacSegLib.errors import TrainingError  # noqa: E402
from CardiacSegLib.phantom import PhantomConfig, make_phantom  # noqa: E402
from CardiacSegLib.resources import resource_folders  # noqa: E402
from CardiacSegLib.study import Label  # noqa: E402
from CardiacSegLib.writers import write_cine  # noqa: E402
from CardiacSegSlicer.process import startMark  # noqa: E402
from CardiacSegSlicer.training import TrainingRun  # noqa: E402
from conftest import MODULE_FILE, open_module  # noqa: E402
from SlicerHost.user import click, figures, load, paint, segment, settle, wait  # noqa: E402

CORNER = (slice(0, 1), slice(0, 4), slice(0, 4))


def masks_of(reading) -> dict[int, np.ndarray]:
    return {index: labels.data for index, labels in reading.masks().labels.items()}


def same_masks(masks: dict[int, np.ndarray], others: dict[int, np.ndarray]) -> bool:
    return sorted(masks) == sorted(others) and all((masks[i] == others[i]).all() for i in masks)


@pytest.fixture(scope="session")
def cycle(host, small_cine, tmp_path_factory) -> types.SimpleNamespace:
    """The phantom's whole cycle, loaded and segmented by clicks once for all tests that only look at it.

    What was seen meanwhile (``steps``, ``turns``), the figures, and the scene with a correction as it was saved.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        module = open_module(host)
        load(host, module, small_cine)
        module.ui.framesComboBox.currentIndex = 1
        click(module.ui.segmentButton)
        steps, turns = set(), 0
        while module.segmentPanel.running:
            turns += 1
            host.process(10)
            steps.add((module.ui.statusLabel.text, module.ui.progressBar.value, module.ui.progressBar.maximum))
    host.check()
    function = module.reading.function()
    paint(host, module, "ED", Label.LV, CORNER)
    settle(host, module)
    seen = types.SimpleNamespace(
        steps=steps,
        turns=turns,
        function=function,
        corrected=types.SimpleNamespace(
            function=module.reading.function(), structures=module.reading.corrected(), masks=masks_of(module.reading)
        ),
        provenance=module.reading.node.provenance,
        table=figures(module),
        scene=tmp_path_factory.mktemp("scene") / "scene.mrb",
    )
    host.saveScene(seen.scene)
    host.reset()
    return seen


# ---------------------------------------------------------------------------------------------------- the main job


def test_a_cine_file_is_loaded_segmented_and_read_as_the_command_line_reads_it(host, module, acdc_root, tmp_path):
    """And comes back with the scene as it was left, corrected."""
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
    assert figures(module)["LV EDV"] == f"{truth['lv']['edv_ml']:.1f} mL"
    for phase in ("ED", "ES"):
        assert module.reading.segmentation(phase).GetSegmentation().ContainsRepresentation("Closed surface") == (
            phase == "ED"  # the phase that is shown, in 2D and 3D
        )

    painted = paint(host, module, "ED", Label.RV, CORNER)
    settle(host, module)
    added = painted * module.reading.study().geometry.voxel_ml
    corrected, masks, table = module.reading.function(), masks_of(module.reading), figures(module)
    assert corrected["rv"]["edv_ml"] == pytest.approx(ours["rv"]["edv_ml"] + added, abs=1e-3)
    provenance = module.reading.node.provenance
    host.saveScene(tmp_path / "scene.mrb")
    host.closeScene()
    assert module.reading is None and module.ui.resultsTable.rowCount == 0
    host.loadScene(tmp_path / "scene.mrb")
    assert module.reading.function() == corrected and same_masks(masks_of(module.reading), masks)
    assert module.reading.corrected() == {"ED": {Label.RV}, "ES": set()}
    assert module.reading.node.provenance == provenance and figures(module) == table


def test_progress_counts_real_steps_and_the_window_stays_alive(cycle):
    assert cycle.turns > 20
    counted = {(done, total) for stage, done, total in cycle.steps if "frame" in stage.lower()}
    assert {total for _, total in counted} == {6} and any(0 < done < 6 for done, _ in counted)


def test_the_whole_cycle_is_a_dense_sequence_in_step_with_the_cine(host, cycle, module):
    from CardiacSegSlicer.sequences import browserOfProxy, sequenceOfProxy

    host.loadScene(cycle.scene)
    proxy = module.reading.node.cycleSegmentation
    assert sequenceOfProxy(proxy).GetNumberOfDataNodes() == 6
    assert browserOfProxy(proxy) is browserOfProxy(module.parameters.cine)
    labels = module.reading.masks().labels
    assert len({labels[i].volume_ml(Label.LV) for i in range(6)}) > 3
    chart = module.reading.node.curveChart
    assert chart is not None and chart.GetNumberOfPlotSeriesNodes() >= 2
    assert slicer.mrmlScene.GetSingletonNode("PlotView1", "vtkMRMLPlotViewNode").GetPlotChartNode() is chart


def test_a_saved_cycle_comes_back_with_masks_figures_corrections_and_provenance(host, cycle, module):
    host.loadScene(cycle.scene)
    assert module.reading.isCycle
    assert module.reading.function() == cycle.corrected.function != cycle.function
    assert module.reading.corrected() == cycle.corrected.structures == {"ED": {Label.LV}, "ES": set()}
    assert same_masks(masks_of(module.reading), cycle.corrected.masks)
    assert module.reading.node.provenance == cycle.provenance
    provenance = json.loads(cycle.provenance)
    assert provenance["model"] == "fast" and provenance["device"] and provenance["version"]
    assert provenance["frames"] == [1, 2, 3, 4, 5, 6]
    assert module.reading.function()["expected_dice"] == provenance["expectedDice"] and provenance["expectedDice"]["ED"]
    assert figures(module) == cycle.table


# ------------------------------------------------------------------------------------------- stopped in the middle


def test_cancel_stops_the_process_and_leaves_the_scene_as_it_was(host, module, small_cine):
    load(host, module, small_cine)
    nodes = slicer.mrmlScene.GetNumberOfNodes()
    click(module.ui.segmentButton)
    assert module.ui.segmentButton.text.replace("&", "") == "Cancel"
    process = module.segmentPanel.job._process
    wait(host, lambda: module.ui.progressBar.maximum == 6 and module.ui.progressBar.value > 0, "A frame")
    click(module.ui.segmentButton)
    assert not module.segmentPanel.running and not process.running
    assert slicer.mrmlScene.GetNumberOfNodes() == nodes
    assert module.ui.segmentButton.enabled and not module.reading.hasResult
    click(module.ui.segmentButton)
    assert module.segmentPanel.running and module.segmentPanel.job._process is not process
    click(module.ui.segmentButton)
    assert not module.segmentPanel.running


def test_closing_the_scene_in_the_middle_stops_everything(host, module, small_cine, cycle):
    load(host, module, small_cine)
    click(module.ui.segmentButton)
    process = module.segmentPanel.job._process
    host.process(300)
    host.closeScene()
    assert not module.segmentPanel.running and not process.running
    assert module.reading is None and not module.ui.segmentButton.enabled
    load(host, module, small_cine)
    segment(host, module)
    assert module.reading.function()["lv"] == pytest.approx(cycle.function["lv"], abs=0.1)


def test_segmenting_goes_on_for_its_cine_when_the_module_is_left_and_another_cine_chosen(
    host, module, small_cine, phantom, cycle, tmp_path
):
    other = tmp_path / "other.nii.gz"
    write_cine(other, replace(phantom.study, image=phantom.study.image[:5], frame_numbers=(), times_ms=None))
    first = load(host, module, small_cine)
    click(module.ui.segmentButton)
    host.selectModule("")
    host.process(100)
    host.selectModule("CardiacSeg")
    assert module.segmentPanel.running
    second = load(host, module, other)
    assert module.segmentPanel.running and module.ui.segmentButton.text.replace("&", "") == "Cancel"
    wait(host, lambda: not module.segmentPanel.running, "Segmenting")
    assert module.parameters.cine is second is not first
    assert not module.reading.hasResult and module.ui.resultsTable.rowCount == 0
    module.parameters.cine = first
    host.process(50)
    assert module.reading.function()["lv"] == pytest.approx(cycle.function["lv"], abs=0.1) and figures(module)


# ---------------------------------------------------------------------------------------------- what may be chosen


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


def test_ed_and_es_as_two_volumes_are_segmented_by_several_models(host, module, tmp_path):
    """One is shipped, the other a file of the user's own: both are checked in the list."""
    from CardiacSegSlicer.loading import loadPair

    phantom = make_phantom(PhantomConfig(frames=4, size=(144, 128), spacing=(10.0, 2.2, 2.2)))
    paths = [tmp_path / "ed.nii.gz", tmp_path / "es.nii.gz"]
    for path, index in zip(paths, (phantom.ed, phantom.es)):
        one = replace(phantom.study, image=phantom.study.image[index : index + 1], frame_numbers=(), times_ms=None)
        write_cine(path, one)
    ed, es = loadPair(*paths)
    module.parameters.esVolume = es
    module.parameters.cine = ed
    assert not module.ui.phasesSection.enabled
    own = tmp_path / "own.pt"
    shutil.copy(next(folder / "fast.pt" for folder in resource_folders("Models")), own)
    host.answer(str(own))
    click(module.ui.addModelButton)
    assert module.parameters.models.split("\n") == ["fast", str(own)]
    segment(host, module)
    assert json.loads(module.reading.node.provenance)["model"] == "fast+own"
    assert module.reading.function()["lv"]["ef_percent"] == pytest.approx(60, abs=6)
    assert module.reading.segmentation("ES").GetNodeReference("referenceImageGeometryRef") is es


def test_a_rigid_transform_over_the_cine_stands_over_the_masks_and_changes_no_figure(host, module, small_cine, cycle):
    load(host, module, small_cine)  # an oblique stack
    turned = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "turned")
    transform = vtk.vtkTransform()
    transform.RotateWXYZ(33, 1, 2, 3)
    transform.Translate(10, -20, 30)
    turned.SetMatrixTransformToParent(transform.GetMatrix())
    module.parameters.cine.SetAndObserveTransformNodeID(turned.GetID())
    segment(host, module)
    assert module.reading.segmentation("ED").GetParentTransformNode() is turned
    assert module.reading.function()["lv"] == pytest.approx(cycle.function["lv"], abs=1e-6)
    module.parameters.cine.SetAndObserveTransformNodeID(None)
    assert module.reading.segmentation("ED").GetParentTransformNode() is None
    assert module.reading.function()["lv"] == pytest.approx(cycle.function["lv"], abs=1e-6)


# --------------------------------------------------------------------------------------------- what may be missing


def test_a_gpu_that_is_not_there_is_said_and_nothing_else_happens(host, module, small_cine):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    load(host, module, small_cine)
    module.parameters.device = "cuda"
    click(module.ui.segmentButton)
    end = time.monotonic() + 90
    while module.segmentPanel.running and time.monotonic() < end:
        host.app.processEvents()
        time.sleep(0.01)
    assert any("cuda" in words for words in host.dialogs.texts("error"))
    host.dialogs.reset()
    assert not module.reading.hasResult


def test_devices_are_found_when_the_section_is_opened(host, module):
    module.segmentPanel.probe = None
    module.ui.segmentSection.collapsed = False
    wait(host, lambda: module.ui.deviceComboBox.count > 1, "The list of devices")
    import torch

    devices = module.ui.deviceComboBox
    listed = [(devices.itemData(i), devices.itemText(i)) for i in range(devices.count)]
    assert listed[0] == ("auto", "Automatic") and listed[-1] == ("cpu", "CPU")
    assert len(listed) > 2 or not torch.cuda.is_available()


# ----------------------------------------------------------------------------------------------------------- train


def test_training_is_started_stopped_resumed_and_charted(host, module, training_set, tmp_path):
    ui, panel, output = module.ui, module.trainPanel, tmp_path / "run"
    ui.trainDataPath.currentPath = str(training_set)
    ui.trainOutputPath.currentPath = str(output)
    module.parameters.trainEpochs = 10
    assert ui.trainStartButton.text.startswith("Start")
    click(ui.trainStartButton)
    host.check()
    assert not host.dialogs and panel.run.running
    again = TrainingRun(output)  # as by another window
    assert again.running and again.state == "running" and again.settings["epochs"] == 10
    with pytest.raises(TrainingError, match="is running"):
        again.start(str(training_set))
    wait(host, lambda: len(again.curves().epochs) >= 1, "The first epoch")
    assert "of 10" in again.status
    pid = json.loads((output / "process.json").read_text(encoding="utf-8"))["pid"]
    click(ui.trainStopButton)
    assert startMark(pid) is None and not panel.run.running and not again.running and not ui.trainStopButton.enabled
    assert 1 <= len(again.curves().epochs) < 10 and again.state == "stopped"
    assert again.modelFile is None and again.message == "" and "Stopped: epoch" in ui.trainStatusLabel.text
    assert slicer.mrmlScene.GetSingletonNode("PlotView1", "vtkMRMLPlotViewNode").GetPlotChartNode() is panel.chart
    module.parameters.trainEpochs = 11
    assert ui.trainStartButton.text.startswith("Start")  # another training
    module.parameters.trainEpochs = 10
    assert ui.trainStartButton.text.startswith("Resume")
    click(ui.trainStartButton)
    wait(host, lambda: not panel.run.running, "The training")
    panel.refresh()
    epochs, losses, dices = again.curves()
    assert epochs == [float(number) for number in range(1, 11)] and len(losses) == len(dices) == 10
    assert not math.isnan(dices[-1]) and math.isnan(dices[0])
    assert again.state == "finished" and again.status.startswith("Finished, best Dice")
    assert again.modelFiles == [panel.run.modelFile] == [output / "model.pt"] and again.modelFile.is_file()
    assert panel.shown == 10
    assert [panel.chart.GetNthPlotSeriesNode(i).GetYColumnName() for i in range(2)] == [
        *("Loss", "Dice of the validation cases"),
    ]
    model = str(panel.run.modelFile)
    assert model in module.parameters.modelFiles and model not in module.parameters.models  # offered, not chosen
    assert model in [ui.modelList.item(i).toolTip() for i in range(ui.modelList.count)]


def test_a_training_goes_on_when_the_module_is_closed_and_is_found_again(host, training_set, tmp_path, one_thread):
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


def test_the_console_examples_of_the_readme_run(host, module, training_set, phantom, tmp_path):
    readme = (MODULE_FILE.parents[1] / "README.md").read_text(encoding="utf-8")
    section = readme.split("### From Slicer's Python console", 1)[1]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL).group(1)
    studies = tmp_path / "studies"
    studies.mkdir()
    few = replace(phantom.study, image=phantom.study.image[3:], frame_numbers=(), times_ms=None)  # ED to ES
    write_cine(studies / "a.nii.gz", few)
    for stands_for, real in {
        "/data/cine.nii.gz": studies / "a.nii.gz", "/data/studies": studies, "/data/training": training_set,
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
