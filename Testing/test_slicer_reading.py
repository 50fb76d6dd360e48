"""What must never happen to a reading: masks lost, figures of others or of before, clicks in an odd order that fail.

Masks are the phantom's own, put in as a finished job would, so that no network is needed.
"""

from __future__ import annotations

import re
import sys
import types
from dataclasses import replace

import numpy as np
import pytest

if sys.version_info < (3, 10):
    pytest.skip("slicer-core needs Python 3.10 or later", allow_module_level=True)
slicer = pytest.importorskip("slicer", reason="slicer-core (3D Slicer's MRML) is not installed")
pytest.importorskip("PySide6", reason="PySide6 (Qt) is not installed")
import vtk  # noqa: E402

from CardiacSegLib.certainty import Certainty, doubts  # noqa: E402
from CardiacSegLib.errors import CardiacSegError  # noqa: E402
from CardiacSegLib.function.quality import Finding, empty_frames  # noqa: E402
from CardiacSegLib.readers.acdc import read_acdc_truth, read_info  # noqa: E402
from CardiacSegLib.study import Label, LabelMap  # noqa: E402
from CardiacSegLib.workflow import measure_labels  # noqa: E402
from conftest import MODULE_FILE, add_cine  # noqa: E402
from SlicerHost.user import click, finished_job, load, paint, put_masks, settle  # noqa: E402
from trust.same_answer import turned  # noqa: E402

#: What a network gives that is sure of the wall alone.
UNSURE = {Label.LV: Certainty(0.7, 2), Label.RV: Certainty(0.6, 1), Label.MYO: Certainty(0.9, 0)}
CORNER = (slice(0, 1), slice(0, 4), slice(0, 4))


def warnings_of(module) -> str:
    return module.ui.warningsLabel.text


def rows(module) -> int:
    return module.ui.resultsTable.rowCount


# ------------------------------------------------------------------------------------------ corrections are kept


def test_masks_corrected_while_segmenting_are_not_replaced_without_asking(host, module, phantom):
    add_cine(module, phantom)
    put_masks(module, phantom)
    paint(host, module, "ED", Label.LV, CORNER)
    with pytest.raises(CardiacSegError, match="corrected by hand"):
        module.logic.finishSegmenting(module.reading, finished_job(phantom))
    assert module.reading.corrected()["ED"] == {Label.LV}


def test_masks_without_their_automatic_copy_count_as_corrected(host, module, phantom):
    add_cine(module, phantom)
    put_masks(module, phantom)
    slicer.mrmlScene.RemoveNode(module.reading.node.edAutomatic)
    settle(host, module)
    assert module.reading.anyCorrected()
    with pytest.raises(CardiacSegError, match="not in this scene"):
        module.reading.restore(module.reading.frame("ED"))


def test_of_a_whole_cycle_the_frame_shown_is_taken_back(host, module, phantom):
    from CardiacSegSlicer import views

    cine = add_cine(module, phantom)
    put_masks(module, phantom, cycle=True)
    other = next(n for n in range(1, 7) if n not in (module.reading.frame("ED"), module.reading.frame("ES")))
    views.showFrame(cine, other)
    host.process(50)
    mask = phantom.labels[other - 1].mask(Label.LV)
    mask[CORNER] = True
    host.paint(module.correctPanel.editor, "LV", mask)
    settle(host, module)
    assert module.reading.masks().correctedFrames() == [other] and f"{other}" in module.ui.editedLabel.text
    host.answer(True)
    click(module.ui.restoreButton)
    assert module.reading.masks().correctedFrames() == []


def test_hidden_masks_cannot_be_painted_into(host, module, phantom):
    from CardiacSegSlicer import views

    cine = add_cine(module, phantom)
    put_masks(module, phantom)
    other = next(n for n in range(1, 7) if n not in (module.reading.frame("ED"), module.reading.frame("ES")))
    views.showFrame(cine, other)
    host.process(50)
    assert module.correctPanel.editor.segmentationNode() is None


def test_masks_are_read_once_after_an_edit_and_no_voxel_of_the_cine(host, module, phantom, monkeypatch):
    """Of figures, corrections, table and curve; of a cycle every frame."""
    from CardiacSegSlicer import input as nodesIn
    from CardiacSegSlicer.segments import LabelReader

    add_cine(module, phantom)
    put_masks(module, phantom, cycle=True)
    paint(host, module, "ED", Label.LV, CORNER)
    settle(host, module)
    read, voxels = [], []
    reads = LabelReader.read
    monkeypatch.setattr(LabelReader, "read", lambda self, node: read.append(node) or reads(self, node))

    class Numpy:  # as the input's file sees it: others may stack what they like
        def __getattr__(self, name):
            return getattr(np, name)

        def stack(self, arrays, *args, **kwargs):
            voxels.append(arrays)
            return np.stack(arrays, *args, **kwargs)

    monkeypatch.setattr(nodesIn, "np", Numpy())
    mask = phantom.labels[phantom.ed].mask(Label.RV)
    mask[1:2, :4, :4] = True
    host.paint(module.correctPanel.editor, "RV", mask)
    settle(host, module)
    assert len(read) == phantom.study.frames and not voxels
    assert module.reading.corrected()["ED"] == {Label.LV, Label.RV}


def test_corrected_structures_are_those_whose_voxels_changed(host, module, phantom):
    add_cine(module, phantom)
    put_masks(module, phantom)
    reading = module.reading
    truth = phantom.labels[phantom.ed].data
    host.paint(module.correctPanel.editor, "RV", truth == Label.RV)  # painted as it was
    assert reading.corrected() == {"ED": set(), "ES": set()} and not reading.anyCorrected()
    one = tuple(np.argwhere(truth == Label.LV)[0])
    mask = truth == Label.MYO
    mask[one] = True  # one voxel from cavity to wall
    host.paint(module.correctPanel.editor, "MYO", mask)
    assert reading.corrected() == {"ED": {Label.LV, Label.MYO}, "ES": set()}
    assert reading.masks().correctedFrames() == [phantom.ed + 1]


def test_taking_corrections_back_is_an_edit_that_can_be_undone(host, module, phantom):
    add_cine(module, phantom)
    put_masks(module, phantom)
    paint(host, module, "ED", Label.RV, CORNER)
    edited = module.reading.labels("ED").data
    history = slicer.vtkSegmentationHistory()  # what undo of the Segment Editor is made of
    history.SetSegmentation(module.reading.segmentation("ED").GetSegmentation())
    assert history.SaveState()
    module.reading.restore(phantom.ed + 1)
    assert (module.reading.labels("ED").data == phantom.labels[phantom.ed].data).all()
    assert history.RestorePreviousState()
    assert (module.reading.labels("ED").data == edited).all()


# ------------------------------------------------------------------------------------------ nothing is half done


def test_a_result_without_a_ventricle_is_said_and_leaves_the_former_one(host, module, phantom):
    add_cine(module, phantom)
    put_masks(module, phantom)
    before = module.reading.function()
    job = finished_job(phantom, "ED and ES could not be found.")
    job.study = job.study.with_phases(None, None)
    with pytest.raises(CardiacSegError, match="could not be found"):
        module.logic.finishSegmenting(module.reading, job)
    assert module.reading.function() == before and rows(module) > 0


def test_a_cine_that_was_changed_meanwhile_keeps_its_masks(host, module, phantom):
    cine = add_cine(module, phantom)
    put_masks(module, phantom)
    stretch = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    larger = vtk.vtkTransform()
    larger.Scale(2, 2, 2)
    stretch.SetMatrixTransformToParent(larger.GetMatrix())
    cine.SetAndObserveTransformNodeID(stretch.GetID())
    settle(host, module)
    assert rows(module) == 0 and "transform" in warnings_of(module)
    cine.SetAndObserveTransformNodeID(None)
    settle(host, module)
    assert rows(module) > 0 and module.reading.segmentation("ED") is not None


def test_notes_of_a_run_are_there_after_every_run(host, module, phantom):
    add_cine(module, phantom)
    for _ in range(3):
        put_masks(module, phantom, "The GPU was full.")
        assert "The GPU was full." in warnings_of(module)


def doubts_of(function: dict) -> list[tuple]:
    found = [(f["slice"], f["phase"], f["sentence"]) for f in function["findings"] if f["kind"] == "doubt"]
    assert all(sentence in function["warnings"] for *_, sentence in found)
    return found


def test_doubts_of_the_network_are_findings_and_become_those_of_before_where_it_was_corrected(host, module, phantom):
    add_cine(module, phantom)
    run = [*doubts(UNSURE, "ED"), *doubts(UNSURE, "ES")]
    put_masks(module, phantom, found=run)
    reading = module.reading
    given = [(f.slice_number, f.phase, f.sentence) for f in run]
    assert len(given) == 4 and doubts_of(reading.function()) == given
    paint(host, module, "ED", Label.RV, CORNER)
    settle(host, module)
    (rv,) = (f.sentence for f in run if f.phase == "ED" and "right" in f.sentence)
    now = reading.function()
    assert doubts_of(now) == [one for one in given if one[2] != rv]
    assert rv not in now["warnings"] and f"Before the correction: {rv}" in now["warnings"]
    assert f"Before the correction: {rv}" in warnings_of(module)
    reading.restore(reading.frame("ED"))
    assert doubts_of(reading.function()) == given


def test_frames_without_a_ventricle_are_said_though_only_ed_and_es_were_kept(host, module, phantom):
    add_cine(module, phantom)
    run = empty_frames({Label.LV: np.array([100.0, 0.0, 50.0, 0.0])}, (1, 2, 3, 4))
    put_masks(module, phantom, found=run)
    assert [f.sentence for f in run] == [
        "The left ventricle was not found in frames 2 and 4: ED, ES, the curve and rates may be wrong."
    ]
    assert run[0].sentence in module.reading.function()["warnings"] and run[0].sentence in warnings_of(module)


def test_what_is_said_of_a_frame_is_not_said_of_the_one_that_became_ed(host, module, phantom):
    from CardiacSegSlicer.parameters import provenanceOf, setProvenance

    add_cine(module, phantom)
    put_masks(module, phantom, cycle=True, found=doubts(UNSURE, "ED"))
    reading = module.reading
    expected = {phase: {"lv": 0.9, "rv": 0.8, "myo": 0.85} for phase in ("ED", "ES")}
    setProvenance(reading.node, {**provenanceOf(reading.node), "expectedDice": expected})
    assert reading.function()["expected_dice"] == expected
    frame = reading.frame("ED")
    paint(host, module, "ED", Label.RV, CORNER)
    settle(host, module)
    reading.setFrame("ED", frame + 1)
    now = reading.function()
    assert now["expected_dice"] == {"ES": expected["ES"]}
    (before,) = (w for w in now["warnings"] if w.startswith("Before the correction"))
    assert f"in frame {frame}" in before and "at ED" not in before


def test_what_is_measured_anew_is_no_note_of_the_run(host, module, phantom):
    """Though it was said in other words, or of other slices, than it is found now."""
    from CardiacSegSlicer import views

    add_cine(module, phantom)
    gap = Finding("wall_gap", "In slice 4 at ED the wall is missing around 44 % of the left ventricle.", 4, "ED")
    mended = Finding("flicker", "In frame 2, slice 3, the left ventricle was replaced.", 3, "frame 2")
    put_masks(module, phantom, "The GPU was full.", cycle=True, found=[gap, mended])
    function = module.reading.function()
    assert gap.sentence not in function["warnings"] and gap.to_json() not in function["findings"]
    assert mended.to_json() in function["findings"] and "The GPU was full." in function["warnings"]
    assert len(set(function["warnings"])) == len(function["warnings"])
    views.showFrame(module.reading.node.cine, 2)
    host.process(50)
    mask = phantom.labels[1].mask(Label.LV)
    mask[CORNER] = True
    host.paint(module.correctPanel.editor, "LV", mask)
    assert f"Before the correction: {mended.sentence}" in module.reading.function()["warnings"]


def test_a_doubt_about_a_frame_that_is_ed_no_more_names_the_frame(module, phantom):
    add_cine(module, phantom)
    put_masks(module, phantom, cycle=True, found=doubts(UNSURE, "ED"))
    before, reading = module.reading.frame("ED"), module.reading
    reading.setFrame("ED", before + 1)
    found = doubts_of(reading.function())
    assert [phase for _, phase, _ in found] == [f"frame {before}"] * 2
    assert all(f"in frame {before}, least" in sentence for *_, sentence in found)


def test_frames_that_are_not_there_leave_the_reading_as_it_was(host, module, phantom):
    cine = add_cine(module, phantom)
    before = (module.reading.node.edFrame, module.reading.node.automaticPhases)
    with pytest.raises(CardiacSegError, match="99"):
        module.logic.segment(cine, ed=99)
    assert (module.reading.node.edFrame, module.reading.node.automaticPhases) == before


def test_the_same_frame_as_ed_and_es_is_refused(host, module, phantom):
    add_cine(module, phantom)
    for phase in ("ED", "ES"):
        module.phasesPanel.choose(phase, 3)
    with pytest.raises(CardiacSegError, match="same frame"):
        module.logic.startSegmenting(module.reading)


# ----------------------------------------------------------------------------------------- figures are of the masks


def test_hardening_a_transform_changes_no_figure(host, module, phantom, tmp_path):
    from CardiacSegLib.writers import write_cine
    from CardiacSegSlicer.loading import loadPair

    paths = [tmp_path / "ed.nii.gz", tmp_path / "es.nii.gz"]
    for path, i in zip(paths, (phantom.ed, phantom.es)):
        one = replace(phantom.study, image=phantom.study.image[i : i + 1], frame_numbers=(), times_ms=None)
        write_cine(path, one)
    ed, es = loadPair(*paths)
    module.parameters.esVolume, module.parameters.cine = es, ed
    job = finished_job(phantom)
    job.study = module.reading.study()
    job.labels = dict(enumerate(phantom.labels[i] for i in (phantom.ed, phantom.es)))
    module.logic.finishSegmenting(module.reading, job)
    before = module.reading.function()
    turned = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    rotation = vtk.vtkTransform()
    rotation.RotateWXYZ(33, 1, 2, 3)
    rotation.Translate(20, -10, 5)
    turned.SetMatrixTransformToParent(rotation.GetMatrix())
    for volume in (ed, es):
        volume.SetAndObserveTransformNodeID(turned.GetID())
    for volume in (ed, es):
        volume.HardenTransform()
    settle(host, module)
    assert module.reading.function() == before and not module.reading.anyCorrected()


@pytest.mark.parametrize("cycle", (False, True))
@pytest.mark.parametrize("first", ("transform", "masks"))
def test_a_stroke_under_a_transform_changes_the_voxels_that_were_painted(host, module, phantom, first, cycle):
    cine = add_cine(module, phantom)
    turn = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    rotation = vtk.vtkTransform()
    rotation.RotateWXYZ(20, 1, 2, 3)
    turn.SetMatrixTransformToParent(rotation.GetMatrix())
    steps = [lambda: cine.SetAndObserveTransformNodeID(turn.GetID()), lambda: put_masks(module, phantom, cycle=cycle)]
    for step in steps if first == "transform" else steps[::-1]:
        step()
        settle(host, module)
    module.correctPanel.showPhase("ED")
    settle(host, module)
    before = module.reading.labels("ED").data.copy()
    painted = paint(host, module, "ED", Label.RV, (slice(0, 1), slice(0, 4), slice(0, 4)))
    settle(host, module)
    changed = module.reading.labels("ED").data != before
    assert painted == changed.sum() == changed[0, :4, :4].sum() == 16
    cine.SetAndObserveTransformNodeID(None)
    settle(host, module)
    assert ((module.reading.labels("ED").data != before) == changed).all()


@pytest.mark.parametrize("cycle", (False, True))
def test_a_transform_hardened_over_a_cine_is_said_and_spoils_no_mask(host, module, phantom, cycle):
    """It moves the frame shown alone, and only until another is shown."""
    from CardiacSegSlicer import views

    cine = add_cine(module, phantom)
    put_masks(module, phantom, cycle=cycle)
    views.showFrame(cine, module.reading.maskFrame("ED"))
    settle(host, module)
    before = module.reading.function()
    turn = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    rotation = vtk.vtkTransform()
    rotation.RotateWXYZ(20, 1, 2, 3)
    turn.SetMatrixTransformToParent(rotation.GetMatrix())
    cine.SetAndObserveTransformNodeID(turn.GetID())
    settle(host, module)
    assert module.reading.function() == before
    cine.HardenTransform()
    settle(host, module)
    assert "was moved" in module.ui.warningsLabel.text and not module.resultsPanel.rows
    for number in (module.reading.maskFrame("ES"), module.reading.maskFrame("ED")):
        views.showFrame(cine, number)
        settle(host, module)
    assert "was moved" not in module.ui.warningsLabel.text and module.resultsPanel.rows
    assert module.reading.function() == before and not module.reading.anyCorrected()


def test_the_panel_follows_masks_made_from_the_console(host, module, phantom):
    add_cine(module, phantom)
    put_masks(module, phantom)
    module.logic.finishSegmenting(module.reading, finished_job(phantom, may_discard=True))  # nobody tells the panel
    host.process(50)
    paint(host, module, "ED", Label.LV, CORNER)
    settle(host, module)
    shown = module.ui.resultsTable.item(0, 1).text()
    assert shown == f"{module.reading.function()['lv']['edv_ml']:.1f} mL" and module.reading.anyCorrected()


def test_a_report_right_after_an_edit_has_the_new_figures(host, module, phantom, tmp_path):
    add_cine(module, phantom)
    put_masks(module, phantom)
    paint(host, module, "ED", Label.LV, (slice(0, 3), slice(0, 40), slice(0, 40)))
    host.answer(str(tmp_path / "report.html"))
    click(module.ui.reportButton)
    edv = module.reading.function()["lv"]["edv_ml"]
    assert f"{edv:.1f}" in (tmp_path / "report.html").read_text(encoding="utf-8")


# ----------------------------------------------------------------------------------------- one cine, then another


def test_choosing_another_cine_shows_that_one_and_hides_the_masks_of_the_former(host, module, phantom):
    from CardiacSegSlicer import views

    first = add_cine(module, phantom, "first")
    put_masks(module, phantom, cycle=True)
    former = module.reading
    views.play(first, True)
    module.ui.playButton.checked = True
    second = add_cine(module, phantom, "second")
    settle(host, module)
    composite = slicer.app.applicationLogic().GetSliceLogicByLayoutName("Red").GetSliceCompositeNode()
    assert composite.GetBackgroundVolumeID() == second.GetID()
    assert not former.segmentation("ED").GetDisplayNode().GetVisibility()
    assert not views.isPlaying(first) and rows(module) == 0
    plot = slicer.mrmlScene.GetSingletonNode("PlotView1", "vtkMRMLPlotViewNode")
    assert plot is None or plot.GetPlotChartNode() is None


def test_a_cine_with_an_es_volume_besides_is_refused_in_words(host, module, phantom):
    first, second = add_cine(module, phantom, "first"), add_cine(module, phantom, "second")
    module.parameters.esVolume = first
    assert second is module.parameters.cine
    assert "ES volume" in module.ui.problemLabel.text and not module.ui.segmentButton.enabled


def test_a_deleted_cine_empties_the_panel(host, module, phantom):
    cine = add_cine(module, phantom)
    put_masks(module, phantom)
    slicer.mrmlScene.RemoveNode(cine)
    settle(host, module)
    assert module.reading is None and rows(module) == 0


def test_a_scene_without_a_cine_that_is_added_leaves_the_choice_as_it_is(host, module, phantom, tmp_path):
    host.saveScene(tmp_path / "empty.mrb")  # with the module's own node, in which nothing is chosen
    cine = add_cine(module, phantom)
    put_masks(module, phantom)
    before = module.reading.function()
    for shown in (True, False):
        host.selectModule("CardiacSeg" if shown else "")
        host.loadScene(tmp_path / "empty.mrb")
        assert module.parameters.cine is cine and module.ui.cineSelector.currentNode() is cine
        assert module.reading.function() == before and rows(module) > 0


def test_a_scene_with_a_cine_that_is_added_shows_that_one(host, module, phantom, tmp_path):
    add_cine(module, phantom, "saved")
    host.saveScene(tmp_path / "saved.mrb")
    host.closeScene()
    first = add_cine(module, phantom, "first")
    host.loadScene(tmp_path / "saved.mrb")
    assert module.parameters.cine is not first and module.reading.name == "saved"


def test_a_scene_loaded_before_the_module_is_opened_is_there_when_it_is(host, module, phantom, tmp_path):
    add_cine(module, phantom)
    put_masks(module, phantom)
    before = module.reading.function()
    host.saveScene(tmp_path / "scene.mrb")
    host.reset()
    host.loadScene(tmp_path / "scene.mrb")
    again = host.loadModule(MODULE_FILE)
    assert again.reading.function() == before
    assert again.correctPanel.editor.segmentationNode() is again.reading.segmentation(again.correctPanel.phase)


def save_cycle(host, module, phantom, name: str, label: Label, path) -> dict:
    """A scene with a whole cycle, corrected at ED; its figures."""
    add_cine(module, phantom, name)
    put_masks(module, phantom, cycle=True)
    settle(host, module)
    paint(host, module, "ED", label, CORNER)
    settle(host, module)
    figures = module.reading.function()
    host.saveScene(path)
    host.closeScene()
    settle(host, module)
    return figures


@pytest.mark.parametrize("shown", [True, False])
@pytest.mark.parametrize("names", ["AB", "ABC"])
def test_a_patient_that_is_added_leaves_the_masks_of_the_others_alone(host, module, phantom, tmp_path, names, shown):
    """Slicer by itself reads the added masks into those that are shown."""
    labels = dict(zip("ABC", (Label.LV, Label.RV, Label.MYO)))
    figures = {n: save_cycle(host, module, phantom, n, labels[n], tmp_path / f"{n}.mrb") for n in names}
    cines = {}
    for name in names:
        host.selectModule("CardiacSeg" if shown else "")
        host.loadScene(tmp_path / f"{name}.mrb")
        host.selectModule("CardiacSeg")
        settle(host, module)
        cines[name] = module.parameters.cine
    for name, cine in cines.items():
        reading = module.logic.reading(cine)
        assert reading.corrected()["ED"] == {labels[name]} and reading.function() == figures[name]
        module.parameters.cine = cine
        settle(host, module)
        assert f"Corrected by hand at ED: {labels[name].name}." in module.ui.editedLabel.text


def test_a_correction_that_was_never_saved_outlasts_a_patient_that_is_added(host, module, phantom, tmp_path):
    from CardiacSegSlicer import views

    save_cycle(host, module, phantom, "B", Label.RV, tmp_path / "B.mrb")
    cine = add_cine(module, phantom, "A")
    put_masks(module, phantom, cycle=True)
    views.showFrame(cine, 2)
    host.process(50)
    mask = phantom.labels[1].mask(Label.LV).copy()
    mask[CORNER] = True
    host.paint(module.correctPanel.editor, "LV", mask)
    host.loadScene(tmp_path / "B.mrb")
    masks = module.logic.reading(cine).masks()
    assert masks.correctedFrames() == [2] and masks.corrected(1) == {Label.LV}
    # and browsing keeps what is painted from then on
    module.parameters.cine = cine
    settle(host, module)
    module.correctPanel.showPhase("ED")
    host.process(50)
    paint(host, module, "ED", Label.MYO, CORNER)
    views.showFrame(cine, 3)
    host.process(50)
    assert module.reading.masks().corrected(module.reading.maskFrame("ED") - 1) == {Label.MYO}


# --------------------------------------------------------------------------------- masks of a cine that is not chosen


def shown_masks() -> set[str]:
    nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    return {node.GetName() for node in nodes if node.GetDisplayNode().GetVisibility()}


@pytest.mark.parametrize("cycle", [False, True])
def test_masks_of_a_cine_that_is_not_chosen_are_not_shown_over_another(host, module, phantom, cycle):
    first = add_cine(module, phantom, "first")
    reading = module.reading
    reading.node.wholeCycle = cycle
    second = add_cine(module, phantom, "second")
    assert module.parameters.cine is second
    module.logic.finishSegmenting(reading, finished_job(phantom, cycle=cycle))  # from the console, or begun before
    module.segmented(reading)
    assert not shown_masks()
    module.parameters.cine = first
    settle(host, module)
    module.correctPanel.showPhase("ED")
    assert len(shown_masks()) == 1


# -------------------------------------------------------------------------------------------- segments of one's own


@pytest.mark.parametrize("cycle", [False, True])
def test_a_segment_of_ones_own_is_not_replaced_without_asking(host, module, phantom, cycle):
    add_cine(module, phantom)
    put_masks(module, phantom, cycle=cycle)
    segmentation = module.reading.segmentation("ED").GetSegmentation()
    segmentation.AddEmptySegment("scar", "scar")
    with pytest.raises(CardiacSegError, match="'scar'"):
        module.logic.finishSegmenting(module.reading, finished_job(phantom, cycle=cycle))
    assert "scar" in module.reading.segmentation("ED").GetSegmentation().GetSegmentIDs()
    assert not module.reading.anyCorrected()
    put_masks(module, phantom, cycle=cycle, may_discard=True)
    assert "scar" not in module.reading.segmentation("ED").GetSegmentation().GetSegmentIDs()


# ------------------------------------------------------------------------------------------- what is deleted by hand


def test_a_cycle_whose_segmentation_is_deleted_is_gone_as_a_whole(host, module, phantom):
    from CardiacSegSlicer import views

    cine = add_cine(module, phantom)
    before = {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLSequenceNode")}
    put_masks(module, phantom, cycle=True)
    slicer.mrmlScene.RemoveNode(module.reading.segmentation("ED"))
    settle(host, module)
    views.showFrame(cine, 3)
    host.process(50)
    assert not slicer.util.getNodesByClass("vtkMRMLSegmentationNode") and not module.reading.hasResult
    assert {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLSequenceNode")} == before
    put_masks(module, phantom, cycle=True)
    assert len(slicer.util.getNodesByClass("vtkMRMLSegmentationNode")) == 1


def test_a_cycle_whose_sequence_is_deleted_can_be_segmented_again(host, module, phantom):
    from CardiacSegSlicer.logic import CorrectedError
    from CardiacSegSlicer.sequences import sequenceOfProxy

    add_cine(module, phantom)
    put_masks(module, phantom, cycle=True)
    slicer.mrmlScene.RemoveNode(sequenceOfProxy(module.reading.node.cycleSegmentation))
    settle(host, module)
    assert "has no masks" in warnings_of(module)
    with pytest.raises(CorrectedError):  # nobody knows what was corrected: it is asked
        module.logic.finishSegmenting(module.reading, finished_job(phantom, cycle=True))
    put_masks(module, phantom, cycle=True, may_discard=True)
    assert len(module.reading.masks().labels) == 6 and rows(module) > 0


# ----------------------------------------------------------------------------------------------- calls that fail


def test_a_call_of_the_console_that_fails_changes_nothing(host, module, phantom):
    cine = add_cine(module, phantom)
    put_masks(module, phantom, cycle=True)
    node, ed = module.reading.node, module.reading.frame("ED")
    before = node.edFrame, node.esFrame, node.automaticPhases, node.wholeCycle
    with pytest.raises(CardiacSegError, match="same frame"):
        module.logic.segment(cine, es=ed)
    assert (node.edFrame, node.esFrame, node.automaticPhases, node.wholeCycle) == before


def test_a_cine_whose_volume_was_deleted_keeps_its_reading_when_it_is_shown_again(host, module, phantom):
    from CardiacSegSlicer.sequences import browserOfProxy

    cine = add_cine(module, phantom)
    put_masks(module, phantom, cycle=True)
    module.correctPanel.showPhase("ED")
    paint(host, module, "ED", Label.LV, CORNER)
    browser = browserOfProxy(cine)
    slicer.mrmlScene.RemoveNode(cine)
    settle(host, module)
    browser.SetSelectedItemNumber(2)  # Slicer makes another volume that shows the sequence
    host.process(50)
    module.parameters.cine = browser.GetProxyNode(browser.GetMasterSequenceNode())
    settle(host, module)
    assert module.reading.hasResult and module.reading.corrected()["ED"] == {Label.LV} and rows(module) > 0


def test_a_phase_whose_segmentation_was_deleted_is_said(host, module, phantom):
    add_cine(module, phantom)
    put_masks(module, phantom)
    table = module.reading.node.functionTable
    slicer.mrmlScene.RemoveNode(module.reading.segmentation("ED"))
    settle(host, module)
    click(module.ui.showEdButton)
    assert module.ui.editedLabel.text.startswith("There are no masks at ED: segment again.")
    slicer.mrmlScene.RemoveNode(module.reading.segmentation("ES"))
    settle(host, module)
    assert rows(module) == 0 and table.GetNumberOfRows() == 0


# ------------------------------------------------------------------------------------------------ what files say


def test_segmentations_of_one_name_are_not_written_over_each_other(host, module, phantom, tmp_path):
    add_cine(module, phantom)
    put_masks(module, phantom)
    for phase in ("ED", "ES"):
        module.reading.segmentation(phase).SetName("heart")
    host.answer(str(tmp_path))
    click(module.ui.saveMasksButton)
    assert "'heart'" in str(list(host.dialogs)) and not list(tmp_path.iterdir())


def _grid(volume):
    from CardiacSegSlicer.sequences import geometryOfVolume

    return geometryOfVolume(volume)


def job_of(study, labels, phantom=None):
    """A finished job with other masks than the phantom's own."""
    if phantom is not None:
        study = study.with_phases(phantom.ed, phantom.es)
    function = measure_labels(study, labels, model="truth")
    return types.SimpleNamespace(
        state="done", study=study, labels=labels, function=function, device="cpu", error="", mayDiscard=False
    )


def test_frames_of_an_acdc_folder_keep_their_numbers_in_files(host, module, acdc_root, tmp_path):
    cine = load(host, module, acdc_root / "patient001")
    reading, truths = module.reading, read_acdc_truth(acdc_root / "patient001")
    assert set(truths) == {1, 12} and reading.study().frames == 2
    labels = {i: LabelMap(truths[n].data, _grid(cine)) for i, n in enumerate((1, 12))}
    module.logic.finishSegmenting(reading, job_of(reading.study(), labels))
    module.segmented(reading)
    host.answer(str(tmp_path))
    click(module.ui.saveMasksButton)
    names = {path.name for path in tmp_path.glob("*.nii.gz")}
    assert names == {"patient001_frame01_seg.nii.gz", "patient001_frame12_seg.nii.gz"}
    host.answer(str(tmp_path / "report.html"))
    click(module.ui.reportButton)
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "frame 12" in report and "frame 2<" not in report
    (tmp_path / "set").mkdir()
    host.answer(str(tmp_path / "set"))
    click(module.ui.trainingCaseButton)
    info = read_info(tmp_path / "set" / "patient001" / "Info.cfg")
    assert (info.ed, info.es) == (1, 12)


def test_two_volumes_are_named_as_they_are_in_files(host, module, phantom, tmp_path):
    from CardiacSegSlicer.loading import addCine

    single = [replace(phantom.study, image=phantom.study.image[i : i + 1], frame_numbers=(), times_ms=None, ed=None,
                      es=None, name=name) for i, name in ((phantom.ed, "first"), (phantom.es, "second"))]  # fmt: skip
    module.parameters.cine, module.parameters.esVolume = (addCine(study, slicer.mrmlScene) for study in single)
    settle(host, module)
    reading = module.reading
    labels = {0: phantom.labels[phantom.ed], 1: phantom.labels[phantom.es]}
    module.logic.finishSegmenting(reading, job_of(reading.study(), labels))
    module.segmented(reading)
    host.answer(str(tmp_path))
    click(module.ui.saveMasksButton)
    assert {path.name for path in tmp_path.glob("*.nii.gz")} == {"first_seg.nii.gz", "second_seg.nii.gz"}
    host.answer(str(tmp_path / "report.html"))
    click(module.ui.reportButton)
    assert "frame 1" not in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("flips", [(False, True, True), (True, False, True)])
def test_the_report_shows_the_same_however_the_stack_is_stored(host, module, phantom, tmp_path, flips):
    from CardiacSegSlicer.loading import addCine

    codes, slices = set(), set()
    for name, turn in (("plain", (False, False, False)), ("other", flips)):
        stored = turned(phantom.study, ((0, 1, 2), turn))
        module.parameters.cine = addCine(replace(stored, name=name), slicer.mrmlScene)
        settle(host, module)
        axes = [axis for axis, flip in enumerate(turn) if flip]
        geometry = _grid(module.parameters.cine)
        labels = {i: LabelMap(np.flip(phantom.labels[i].data, axes).copy(), geometry) for i in (phantom.ed, phantom.es)}
        top = labels[phantom.ed].data[-1 if not turn[0] else 0]
        top[:] = 0  # a finding that names the slice at the base
        module.logic.finishSegmenting(module.reading, job_of(module.reading.study(), labels, phantom))
        module.segmented(module.reading)
        host.answer(str(tmp_path / f"{name}.html"))
        click(module.ui.reportButton)
        text = (tmp_path / f"{name}.html").read_text(encoding="utf-8")
        codes.add(re.search(r"Reading ([0-9a-f]{4}-[0-9a-f]{4})", text).group(1))
        slices.add(tuple(re.findall(r"[Ss]lices? \d+", text)))
    assert len(codes) == 1 and len(slices) == 1
