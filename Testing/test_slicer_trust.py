"""The module where things go wrong: processes die, scenes close, nodes and weights go, disks fill, two are at work."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

if sys.version_info < (3, 10):
    pytest.skip("slicer-core needs Python 3.10 or later", allow_module_level=True)
slicer = pytest.importorskip("slicer", reason="slicer-core (3D Slicer's MRML) is not installed")
pytest.importorskip("PySide6", reason="PySide6 (Qt) is not installed")

from CardiacSegLib.errors import CardiacSegError, TrainingError  # noqa: E402
from CardiacSegLib.phantom import PhantomConfig, make_phantom  # noqa: E402
from SlicerHost.user import click, finished_job, put_masks, settle  # noqa: E402
from test_trust_files import full_disk, posix  # noqa: E402

STAGES = ("Reading the study", "Loading the network", "Segmenting frames", "Writing the results")


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(PhantomConfig(frames=4, slices=4, size=(80, 72), spacing=(20.0, 3.0, 3.0)))


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    """Where temporary folders are made, so that what is left behind is seen."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def add_cine(module, phantom, name: str = "cine"):
    from CardiacSegSlicer.loading import addCine

    cine = addCine(replace(phantom.study, name=name), slicer.mrmlScene)
    module.parameters.esVolume = None
    module.parameters.cine = cine
    return cine


class Process:
    """A child process that says what it is told to, and works until it is stopped."""

    pid = exitCode = errorMessage = None

    def __init__(self, command, **_) -> None:
        self.running, self.said = False, []
        self.command = command

    def start(self) -> None:
        self.running = True

    def poll(self) -> list:
        said, self.said = self.said, []
        return said

    def stop(self) -> None:
        self.running = False


@pytest.fixture
def process(monkeypatch) -> type[Process]:
    from CardiacSegSlicer import jobs

    monkeypatch.setattr(jobs, "ChildProcess", Process)
    return Process


def stage(name: str) -> dict:
    return {"stage": name, "done": 0, "total": 0, "note": ""}


# ------------------------------------------------------------------------------------------------------- processes


@posix
def test_a_worker_that_dies_is_said_and_leaves_the_scene_as_it_was(host, module, phantom, temporary):
    add_cine(module, phantom)
    nodes = slicer.mrmlScene.GetNumberOfNodes()
    click(module.ui.segmentButton)
    host.process(50)
    os.kill(module.segmentPanel.job._process.pid, signal.SIGKILL)
    end = time.monotonic() + 20
    while module.segmentPanel.running and time.monotonic() < end:
        host.process(50)
    assert not module.segmentPanel.running and module.ui.segmentButton.text.replace("&", "") == "Segment"
    assert any("ended unexpectedly" in str(text) for text in host.dialogs.texts()), host.dialogs.texts()
    assert slicer.mrmlScene.GetNumberOfNodes() == nodes and not module.reading.hasResult
    assert list(temporary.iterdir()) == [] and module.ui.segmentButton.enabled
    host.dialogs.reset()


@pytest.mark.parametrize("at", ("Starting", *STAGES))
def test_a_scene_that_closes_at_any_stage_stops_the_run_and_nothing_is_left(
    host, module, phantom, process, temporary, at
):
    add_cine(module, phantom)
    click(module.ui.segmentButton)
    job = module.segmentPanel.job
    job._process.said = [stage(name) for name in STAGES[: STAGES.index(at) + 1 if at in STAGES else 0]]
    host.process(150)
    assert job.running and job.progress[0] == at and any(temporary.iterdir())
    host.closeScene()
    host.process(150)
    assert job.state == "cancelled" and not job._process.running and list(temporary.iterdir()) == []
    assert not module.segmentPanel.running and module.reading is None and not module.ui.segmentButton.enabled


def test_a_scene_that_closes_while_results_are_taken_over_gets_none_of_them(host, module, phantom, process, temporary):
    add_cine(module, phantom)
    click(module.ui.segmentButton)
    job = module.segmentPanel.job

    def close(name: str, *_: int) -> None:
        if name == "Taking over the results":
            host.closeScene()

    job.onProgress = close
    job._process.said = [{"result": {"function": {}, "files": [], "device": "cpu"}}]
    job._process.running = False
    host.process(200)
    assert not module.segmentPanel.running and module.reading is None
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode") == 0
    assert list(temporary.iterdir()) == []
    host.dialogs.reset()
    host.reset()


@pytest.mark.parametrize("what", ("proxy", "sequence", "browser", "reading", "all"))
def test_a_node_that_goes_while_its_cine_is_segmented_is_said_in_words(host, module, phantom, process, temporary, what):
    from CardiacSegSlicer.sequences import browserOfProxy, sequenceOfProxy

    cine = add_cine(module, phantom)
    reading = module.reading
    nodes = {
        "proxy": cine,
        "sequence": sequenceOfProxy(cine),
        "browser": browserOfProxy(cine),
        "reading": reading.node.parameterNode,
    }
    click(module.ui.segmentButton)
    for name, node in nodes.items():
        if what in (name, "all"):
            slicer.mrmlScene.RemoveNode(node)
    host.process(400)
    try:
        module.logic.finishSegmenting(reading, finished_job(phantom))
    except CardiacSegError as error:
        assert str(error) and "None" not in str(error)
    if module.segmentPanel.running:
        click(module.ui.segmentButton)  # Cancel
    host.process(300)
    assert not module.segmentPanel.running and list(temporary.iterdir()) == []


@pytest.mark.parametrize("cycle", (False, True))
def test_a_run_gives_the_frames_that_it_was_started_for_whatever_is_chosen_meanwhile(
    host, module, phantom, process, temporary, cycle
):
    add_cine(module, phantom)
    module.ui.framesComboBox.currentIndex = int(cycle)
    click(module.ui.segmentButton)
    other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode")
    slicer.mrmlScene.RemoveNode(other)
    settle(host, module)
    assert module.segmentPanel.running and not module.ui.framesComboBox.enabled
    module.enter()
    assert not module.ui.framesComboBox.enabled
    module.reading.node.wholeCycle = not cycle  # from the console
    job, done = module.segmentPanel.job, finished_job(phantom, cycle=cycle)
    job.study, job.labels, job.function, job.device, job.state = done.study, done.labels, done.function, "cpu", "done"
    module.segmentPanel._finish(job)
    assert module.reading.isCycle is cycle
    drawn = module.reading.masks().labels
    assert len(drawn) == (phantom.study.frames if cycle else 2) and all(one.data.any() for one in drawn.values())


def test_a_run_of_the_console_stops_too_when_the_scene_closes(host, module, phantom, process, temporary):
    from CardiacSegSlicer.logic import CardiacSegLogic

    add_cine(module, phantom)
    job = CardiacSegLogic().startSegmenting(module.reading)
    assert job.running
    host.closeScene()
    host.process(100)
    assert not job.running and not job._process.running and list(temporary.iterdir()) == []


def test_images_that_are_no_numbers_are_said_by_the_name_that_the_user_knows(host, module, phantom, temporary):
    image = phantom.study.image.astype(np.float32)
    image[0, 0, 0, 0] = np.nan
    add_cine(module, replace(phantom, study=replace(phantom.study, image=image)))
    click(module.ui.segmentButton)
    assert not module.segmentPanel.running
    (said,) = host.dialogs.texts("error")
    assert "'cine" in said and "not finite" in said and "study.nii" not in said
    host.dialogs.reset()


# ---------------------------------------------------------------------------------------------------------- weights


def test_weights_that_are_gone_are_said_before_anything_runs_for_long(host, module, phantom, temporary, tmp_path):
    add_cine(module, phantom)
    module.parameters.modelFiles = module.parameters.models = str(tmp_path / "gone.pt")
    click(module.ui.segmentButton)
    end = time.monotonic() + 30
    while module.segmentPanel.running and time.monotonic() < end:
        host.process(50)
    assert any("gone" in str(text) for text in host.dialogs.texts()), host.dialogs.texts()
    assert not module.segmentPanel.running and not module.reading.hasResult and list(temporary.iterdir()) == []
    host.dialogs.reset()


# ------------------------------------------------------------------------------------------------------- full disks


@posix
def test_a_full_disk_while_saving_is_said_and_leaves_nothing_half_written(host, module, phantom, tmp_path):
    add_cine(module, phantom)
    put_masks(module, phantom)
    panel, kept = module.resultsPanel, tmp_path / "report.html"
    kept.write_text("old")
    for what, save in {
        "report": lambda: panel.writeReport(kept),
        "masks": lambda: panel.saveMasks(str(tmp_path / "masks")),
        "training": lambda: panel.addToTrainingSet(str(tmp_path / "set")),
    }.items():
        with full_disk(300), pytest.raises((CardiacSegError, OSError)) as error:
            save()
        assert "cannot be written" in str(error.value), (what, error.value)
    left = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert left == ["report.html"] and kept.read_text() == "old"


# --------------------------------------------------------------------------------------------- what others have left


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("device", "tpu"),
        ("device", ""),
        ("models", "a model of before\nanother"),
        ("models", ""),
        ("modelFiles", "/nowhere/a.pt\n\n../b.pt"),
        ("trainPreset", "a preset of before"),
        ("trainFolds", "-5"),
        ("wholeCycle", "perhaps"),
        ("a parameter of before", "x"),
    ],
)
def test_settings_of_another_version_do_no_harm(host, module, phantom, parameter, value):
    cine = add_cine(module, phantom)
    put_masks(module, phantom)
    node = module.parameters.parameterNode
    module.setParameterNode(None)
    node.SetParameter(parameter, value)
    module.initializeParameterNode()
    host.process(50)
    host.check()
    assert module.parameters.cine is cine and module.reading.hasResult and module.ui.resultsTable.rowCount > 0
    host.dialogs.reset()


@pytest.mark.parametrize("value", ["many", "1e99", "nan"])
def test_numbers_of_another_version_that_are_none_are_forgotten(module, value):
    from CardiacSegSlicer.parameters import CardiacSegParameterNode, CardiacSegReadingNode, withoutUnreadable

    node = slicer.vtkMRMLScriptedModuleNode()
    for name in ("trainFolds", "trainEpochs", "edFrame", "esFrame"):
        node.SetParameter(name, value)
    parameters, reading = CardiacSegParameterNode(withoutUnreadable(node)), CardiacSegReadingNode(node)
    assert (parameters.trainFolds, parameters.trainEpochs, reading.edFrame, reading.esFrame) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("parameter", "value"),
    [("provenance", "{not JSON"), ("provenance", "[1]"), ("edFrame", "first"), ("edFrame", "99"), ("heightCm", "tall"),
     ("weightKg", "-1e400"), ("wholeCycle", "2"), ("edSegmentation", "vtkMRMLNoNode")],
)  # fmt: skip
def test_a_reading_of_another_version_is_read_or_said(host, module, phantom, parameter, value):
    add_cine(module, phantom)
    put_masks(module, phantom)
    node = module.reading.node.parameterNode
    module.setReading(None)
    node.SetParameter(parameter, value)
    module.lookAgain()
    host.process(50)
    host.check()
    host.dialogs.reset()


def test_what_a_scene_says_is_shown_as_text(host, module, phantom):
    from PySide6.QtCore import Qt

    cine = add_cine(module, phantom, "<img src='file:///etc/passwd'><b>cine")
    put_masks(module, phantom, "<a href='http://x'>look</a>")
    assert "<a href" in module.ui.warningsLabel.text and cine is not None
    for label in ("understoodLabel", "problemLabel", "statusLabel", "warningsLabel", "editedLabel", "trainStatusLabel"):
        assert getattr(module.ui, label).textFormat == Qt.TextFormat.PlainText, label


# ---------------------------------------------------------------------------------------------------- two instances


def test_two_instances_do_not_train_in_one_folder(tmp_path, module):
    from CardiacSegSlicer.process import startMark
    from CardiacSegSlicer.training import TrainingRun

    record = {"pid": os.getppid(), "started": startMark(os.getppid()), "settings": {}}
    (tmp_path / "process.json").write_text(json.dumps(record))
    run = TrainingRun(str(tmp_path))
    assert run.running
    with pytest.raises(TrainingError, match="running in"):
        run.start(str(tmp_path), epochs=1)
    assert json.loads((tmp_path / "process.json").read_text()) == record


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"pid": "x", "started": "y"}', '{"pid": -1, "started": 1.5}',
                                  '{"settings": 3}', '{"pid": null, "started": null}'])  # fmt: skip
def test_a_strange_record_of_a_training_is_none_that_runs(tmp_path, module, text):
    from CardiacSegSlicer.training import TrainingRun

    (tmp_path / "process.json").write_text(text)
    run = TrainingRun(str(tmp_path))
    assert not run.running and run.status is not None
    with pytest.raises(TrainingError, match="no training"):
        run.resume()
    run.stop()


def test_two_instances_saving_into_one_folder_replace_nothing(host, module, phantom, tmp_path):
    add_cine(module, phantom)
    put_masks(module, phantom)
    module.resultsPanel.saveMasks(str(tmp_path))
    before = {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    with pytest.raises(CardiacSegError, match="already"):
        module.resultsPanel.saveMasks(str(tmp_path))
    assert {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()} == before and before
