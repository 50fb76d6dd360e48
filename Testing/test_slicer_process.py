"""Child processes of the Slicer module: the real command line, cancelled, orphaned, failing; training found again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("slicer", reason="slicer-core (3D Slicer's MRML) is not installed")

from CardiacSegLib.errors import CardiacSegError, TrainingError
from CardiacSegLib.orientation import stored_grid
from CardiacSegLib.phantom import PhantomConfig, make_phantom
from CardiacSegLib.study import CineStudy, Geometry
from CardiacSegLib.workflow import measure_labels
from CardiacSegLib.writers import write_cine
from CardiacSegSlicer.jobs import BatchJob, SegmentJob
from CardiacSegSlicer.process import ChildProcess, lastError, libraryCommand, startMark
from CardiacSegSlicer.training import TrainingRun
from conftest import rotation
from trust.same_answer import small_phantom, turned

posix = pytest.mark.skipif(os.name != "posix", reason="process groups of POSIX")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(PhantomConfig(frames=4, slices=4, size=(100, 90), spacing=(14.0, 2.5, 2.5)))


@pytest.fixture
def study(phantom) -> CineStudy:
    """Frames 3 to 6 of an oblique cine, whose phases are not known."""
    axes = tuple(map(tuple, rotation(-0.87, 0.61, 0.0).tolist()))
    geometry = Geometry(phantom.study.geometry.shape, phantom.study.spacing, (-31.0, 72.5, 12.25), axes)
    return CineStudy(
        phantom.study.image, geometry, name="a/name: no file's", frame_numbers=(3, 4, 5, 6), warnings=("A doubt.",)
    )


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    """Where temporary folders are made, so that what is left behind is seen."""
    folder = tmp_path / "temporary folder"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def wait_for(condition, seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def poll_until(job, condition, seconds: float = 30.0) -> None:
    def reached() -> bool:
        job.poll()
        return condition()

    assert wait_for(reached, seconds), (job.state, job.error, job.progress)


def test_a_job_gives_the_labels_and_figures_of_the_library_on_the_studys_own_grid(study, temporary):
    from CardiacSegLib.inference import Segmenter
    from CardiacSegLib.workflow import SegmentOptions, segment_study

    heard, ended = [], []
    job = SegmentJob(
        study, wholeCycle=True, device="cpu", onProgress=lambda *p: heard.append(p), onFinished=ended.append
    )
    labels = job.run(pump=lambda: None)
    expected = segment_study(study, Segmenter("fast", "cpu"), SegmentOptions(whole_cycle=True))
    assert job.state == "done" and ended == [job] and job.device == "cpu" and not job.error
    assert sorted(labels) == [0, 1, 2, 3]
    for index, found in labels.items():
        assert found.geometry is study.geometry
        np.testing.assert_array_equal(found.data, expected.labels[index].data)
    assert (job.study.ed, job.study.es) == (expected.study.ed, expected.study.es)
    assert job.function["ed_frame"] == study.frame_numbers[job.study.ed]
    for part in ("lv", "rv", "myo"):
        for key, value in expected.function[part].items():
            assert job.function[part][key] == pytest.approx(value, abs=0.1), (part, key)
    assert job.function["warnings"][0] == "A doubt." and job.function["model"] == "fast"
    stages = list(dict.fromkeys(stage for stage, _, _ in heard))
    wanted = ["Starting", "Reading the study", "Loading the network", "Segmenting frames", "Writing the results"]
    assert stages == [*wanted, "Taking over the results"]
    assert [done for stage, done, total in heard if stage == "Segmenting frames" and total == 4][-1] == 4
    assert list(temporary.iterdir()) == []


def test_cancelling_in_the_middle_leaves_no_process_and_no_file(study, temporary):
    ended = []
    job = SegmentJob(study, wholeCycle=True, device="cpu", onFinished=ended.append)
    job.start()
    poll_until(job, lambda: job.progress[0] == "Loading the network")
    assert any(temporary.iterdir())
    pid, began = job._process.pid, time.monotonic()
    job.cancel()
    assert time.monotonic() - began < 5
    assert job.state == "cancelled" and not job.running and ended == [job] and job.result is None
    assert startMark(pid) is None and list(temporary.iterdir()) == []
    job.cancel()
    assert job.poll() is False and ended == [job]


def test_a_job_that_fails_says_why_in_one_line_without_traceback(study, temporary):
    job = SegmentJob(study, models=["absent"])
    with pytest.raises(CardiacSegError, match="no model 'absent'"):
        job.run()
    assert job.state == "failed" and "\n" not in job.error and "cardiacseg:" not in job.error
    assert list(temporary.iterdir()) == []


def test_a_job_that_cannot_write_its_file_fails_in_words(study, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    job = SegmentJob(study)
    job.start()
    assert job.state == "failed" and "could not be started" in job.error


def test_chosen_phases_are_kept_and_a_single_frame_gives_its_labels(study, temporary):
    job = SegmentJob(study, device="cpu", ed=1, es=2)
    assert sorted(job.run()) == [1, 2]
    assert (job.function["ed_frame"], job.function["es_frame"]) == (4, 5)
    single = replace(study, image=study.image[:1], frame_numbers=(3,))
    assert sorted(SegmentJob(single, device="cpu").run()) == [0]


def test_a_folder_is_segmented_and_its_failures_are_told_by_study(phantom, tmp_path):
    root = tmp_path / "studies"
    write_cine(root / "good" / "cine.nii.gz", replace(phantom.study, image=phantom.study.image[:2], frame_numbers=(),
                                                      times_ms=None))  # fmt: skip
    (root / "bad").mkdir()
    (root / "bad" / "cine.nii.gz").write_bytes(b"no image")
    heard = []
    job = BatchJob(str(root), str(tmp_path / "out"), device="cpu", onProgress=lambda *p: heard.append(p))
    outcomes = {outcome["name"]: outcome for outcome in job.run()}
    statuses = {name.split("/")[0].split("\\")[0]: o["status"] for name, o in outcomes.items()}
    assert statuses == {"good": "done", "bad": "failed"}
    assert all(o["function"] or o["reason"] for o in outcomes.values())
    assert heard[-2][0] == "Segmenting studies" and heard[-2][1:] == (2, 2)
    with pytest.raises(CardiacSegError, match="no folder"):
        BatchJob(str(tmp_path / "absent"), str(tmp_path / "out")).run()


LAUNCHER = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]])
sys.exit(child.wait())
"""
STUBBORN = """
import json, os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(json.dumps({"pid": os.getpid()}), flush=True)
time.sleep(60)
"""


def test_slices_of_findings_are_those_of_the_scene_however_the_library_turns_the_stack(temporary):
    upright = small_phantom()
    image = upright.image.copy()
    image[:, 4] = np.roll(image[:, 4], 12, axis=2)  # breathed 24 mm off
    study = turned(replace(upright, image=image), ((0, 1, 2), (True, False, False)))
    assert stored_grid(study.geometry)[0].flips[0]
    job = SegmentJob(study, device="cpu")
    job.run()
    known = measure_labels(job.study, job.labels, model=None)["findings"]
    given = [finding for finding in job.function["findings"] if finding["kind"] != "doubt"]
    assert {f["sentence"] for f in given} == {f["sentence"] for f in known}
    assert any("Slice 3 lies" in f["sentence"] and f["slice"] == 3 for f in given)


@posix
def test_stopping_a_launcher_kills_its_child_that_ignores_sigterm():
    process = ChildProcess([sys.executable, "-c", LAUNCHER, STUBBORN])
    process.start()
    events: list[dict] = []
    assert wait_for(lambda: bool(events.extend(process.poll()) or events))
    child = events[0]["pid"]
    assert child != process.pid and startMark(child) is not None
    began = time.monotonic()
    process.stop()
    assert time.monotonic() - began < 5
    assert wait_for(lambda: startMark(child) is None, 2) and startMark(process.pid) is None
    assert wait_for(lambda: not process.running, 2) and process.exitCode < 0


@posix
def test_a_job_ends_when_the_process_that_started_it_is_killed(phantom, tmp_path):
    """The parent is killed hard, as by a crash: only the closed pipe tells the child."""
    write_cine(tmp_path / "cine.nii", phantom.study)
    arguments = ["segment", tmp_path / "cine.nii", "--output", tmp_path / "out", "--device", "cpu", "--frames", "all"]
    parent = (
        "import json, sys, time\n"
        "from CardiacSegSlicer.process import ChildProcess\n"
        "child = ChildProcess(json.loads(sys.argv[1]), stopWithParent=True)\n"
        "child.start()\n"
        "while not child.poll():\n    time.sleep(0.02)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    command = libraryCommand([*arguments, "--progress", "json", "--stop-with-parent"])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    running = subprocess.Popen(
        [sys.executable, "-c", parent, json.dumps(command)], stdout=subprocess.PIPE, text=True, env=environment
    )
    pid = int(running.stdout.readline())
    assert startMark(pid) is not None
    running.kill()
    running.wait()
    running.stdout.close()
    assert wait_for(lambda: startMark(pid) is None, 10)
    assert not (tmp_path / "out" / "function.json").exists()


def test_json_lines_are_events_other_lines_are_log_and_the_last_error_is_the_message():
    code = (
        "import sys\n"
        "print('{\"stage\": \"a\"}')\nprint('{not json')\nprint('[1]')\nprint('plain ü')\n"
        "print('a warning', file=sys.stderr)\nprint('cardiacseg: No such thing.', file=sys.stderr)\nsys.exit(3)"
    )
    process = ChildProcess([sys.executable, "-c", code], environment={"PYTHONWARNINGS": "ignore"})
    assert not process.running and process.exitCode is None
    process.start()
    pumped = []
    assert process.waitForFinished(pump=lambda: pumped.append(1), seconds=30)
    assert process.poll() == [{"stage": "a"}] and list(process.log) == ["{not json", "[1]", "plain ü"]
    assert process.exitCode == 3 and process.errorMessage == "No such thing." and pumped
    process.stop()
    assert lastError(["", "Killed", ""]) == "Killed" and lastError([]) == ""
    with pytest.raises(OSError):
        ChildProcess(["/no/such/program"]).start()


def test_a_process_that_dies_without_a_word_is_explained(study, monkeypatch):
    job = SegmentJob(study)
    monkeypatch.setattr(job, "_command", lambda: [sys.executable, "-c", "import os; os._exit(9)"])
    with pytest.raises(CardiacSegError, match=r"ended unexpectedly \(exit code 9\)"):
        job.run()


def test_where_nothing_was_started_there_is_nothing_to_resume(tmp_path):
    run = TrainingRun(str(tmp_path / "a run"))
    assert (run.state, run.status, run.message, run.modelFile) == ("none", "", "", None) and not run.curves().epochs
    with pytest.raises(TrainingError, match="no training"):
        run.resume()


def test_training_that_cannot_start_says_why(tmp_path):
    run = TrainingRun(tmp_path / "run")
    run.start(str(tmp_path / "absent"), epochs=1)
    assert wait_for(lambda: not run.running)
    assert run.state == "failed" and "no folder" in run.message and "cardiacseg" not in run.message
    assert run.status.startswith("Failed: ") and TrainingRun(tmp_path / "run").message == run.message
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TrainingError, match="another output folder"):
        TrainingRun(tmp_path / "file").start(str(tmp_path))


def test_the_number_of_a_former_process_is_not_taken_for_the_run(tmp_path):
    record = {"pid": os.getpid(), "started": "another time", "settings": {}}
    (tmp_path / "process.json").write_text(json.dumps(record))
    run = TrainingRun(tmp_path)
    assert not run.running
    run.stop()  # or this test would not come to its end
    (tmp_path / "process.json").write_text(json.dumps({**record, "started": startMark(os.getpid())}))
    assert run.running
    (tmp_path / "process.json").write_text("half a rec")
    assert not run.running and run.state == "none"


def test_folds_follow_one_another_in_the_curves_and_the_status_names_the_fold(tmp_path):
    settings = {"dataFolder": "d", "preset": "p", "folds": 2, "epochs": 2, "device": "cpu"}
    (tmp_path / "process.json").write_text(json.dumps({"pid": 1, "started": None, "settings": settings}))
    for fold in (0, 1):
        (tmp_path / f"fold{fold}").mkdir()
        lines = [json.dumps({"epoch": e, "loss": 1 / e, "val_dice": 0.5 * fold or None}) for e in (1, 2)]
        (tmp_path / f"fold{fold}" / "log.jsonl").write_text("\n".join(lines))
        (tmp_path / f"fold{fold}" / "model.pt").write_bytes(b"")
    news = {"stage": "fold 1", "done": 3, "total": 9, "note": "", "epoch": 2, "epochs": 2, "loss": 0.214}
    news.update(best_dice=0.91, seconds_left=4800.0)
    (tmp_path / "process.log").write_text(json.dumps(news) + "\n" + '{"stage": "cut o')
    run = TrainingRun(tmp_path)
    assert run.curves().epochs == [1.0, 2.0, 3.0, 4.0] and run.curves().dices[2:] == [0.5, 0.5]
    assert run.status == "Stopped: fold 2, epoch 2 of 2, loss 0.21, best Dice 0.91, 1:20:00 left"
    assert run.modelFiles == []
    (tmp_path / "process.log").write_text(json.dumps(news) + "\n" + '{"result": {}}\n')
    assert [path.parent.name for path in run.modelFiles] == ["fold0", "fold1"] and run.modelFile is None
