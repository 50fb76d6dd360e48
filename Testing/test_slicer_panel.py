"""The panel, section by section: what is clicked, and what is then seen.

Masks are the phantom's own, put in as a finished job would, so that no network is needed.
"""

from __future__ import annotations

import csv
import json
import sys

import numpy as np
import pytest

if sys.version_info < (3, 10):
    pytest.skip("slicer-core needs Python 3.10 or later", allow_module_level=True)
slicer = pytest.importorskip("slicer", reason="slicer-core (3D Slicer's MRML) is not installed")
pytest.importorskip("PySide6", reason="PySide6 (Qt) is not installed")
from PySide6.QtCore import Qt  # noqa: E402

from CardiacSegLib import DISCLAIMER  # noqa: E402
from CardiacSegLib.function.quality import Finding  # noqa: E402
from CardiacSegLib.function.stack import slice_shifts_mm  # noqa: E402
from CardiacSegLib.phantom import PhantomConfig, make_phantom  # noqa: E402
from CardiacSegLib.study import CineStudy, Geometry, Label  # noqa: E402
from conftest import add_cine, add_transform, rotation  # noqa: E402
from SlicerHost.user import click, column, figures, load, paint, put_masks, settle, wait  # noqa: E402

CORNER = (slice(0, 1), slice(0, 4), slice(0, 4))


@pytest.fixture
def read(module, phantom):
    """The module with a cine that was segmented."""
    add_cine(module, phantom)
    put_masks(module, phantom)
    return module


# ----------------------------------------------------------------------------------------------------- Cine MR


def test_choosing_a_cine_says_what_it_is_and_shows_it_in_its_own_plane(host, module, small_cine):
    from CardiacSegSlicer import views

    cine = load(host, module, small_cine)
    for words in ("5 slices of 104 × 120", "6 frames", "2.5 × 2.5 mm", "20 mm between slices"):
        assert words in module.ui.understoodLabel.text
    logic = slicer.app.applicationLogic().GetSliceLogicByLayoutName("Red")
    assert logic.GetSliceCompositeNode().GetBackgroundVolumeID() == cine.GetID()
    shown = slicer.util.arrayFromVTKMatrix(logic.GetSliceNode().GetSliceToRAS())[:3, :3]
    np.testing.assert_allclose(shown, views.shortAxisOrientation(cine), atol=1e-6)
    assert slicer.app.layoutManager().layoutLogic().GetLayoutNode().GetViewArrangement() == views.CINE_LAYOUT


def test_single_slice_sequences_are_offered_assembled_and_not_offered_again(host, module, phantom):
    from CardiacSegSlicer.loading import addCine

    study, g = phantom.study, phantom.study.geometry
    assert not module.ui.assembleButton.visible
    for z in np.random.default_rng(0).permutation(study.slices).tolist():
        one = Geometry((1, *g.shape[1:]), g.spacing, tuple(g.to_lps(np.array([z, 0, 0])).tolist()), g.direction)
        part = CineStudy(study.image[:, z : z + 1], one, name=f"slice {z}", times_ms=study.times_ms)
        addCine(part, slicer.mrmlScene)
    settle(host, module)
    assert module.ui.assembleButton.visible
    click(module.ui.assembleButton)
    whole = module.reading.study()
    assert whole.geometry.matches(g) and (whole.image == study.image).all()
    settle(host, module)
    assert not module.ui.assembleButton.visible


def test_what_is_no_cine_is_said_in_words_and_cannot_be_segmented(module):
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


def test_sections_open_as_they_become_useful(module, phantom):
    """From a loaded cine it is one choice and one click: the button is seen as soon as it can be pressed."""
    ui = module.ui
    names = ("cine", "phases", "segment", "correct", "results", "train")

    def opened() -> list[str]:
        return [name for name in names if not getattr(ui, f"{name}Section").collapsed]

    assert opened() == ["cine"] and not ui.segmentButton.enabled
    add_cine(module, phantom)
    assert opened() == ["cine", "segment"] and ui.segmentButton.enabled and ui.segmentButton.visible
    assert not ui.correctSection.enabled and not ui.resultsSection.enabled
    put_masks(module, phantom)
    assert opened() == ["cine", "segment", "correct", "results"]


# ------------------------------------------------------------------------------------------------------ Phases


def test_the_cine_follows_the_sliders_and_the_frame_shown_can_be_taken(host, module, phantom):
    from CardiacSegSlicer import views

    cine, ui = add_cine(module, phantom), module.ui
    ui.phasesSection.collapsed = False
    assert ui.automaticPhasesCheckBox.checked and ui.edSlider.maximum == phantom.study.frames
    for slider, phase, frames in ((ui.edSlider, "ED", (4, 2)), (ui.esSlider, "ES", (6, 5))):
        for frame in frames:  # while it is dragged
            slider.value = frame
            assert views.frameShown(cine) == frame == module.reading.frame(phase)
    assert not ui.automaticPhasesCheckBox.checked and module.reading.frame("ED") == 2
    views.showFrame(cine, 3)
    click(ui.edHereButton)
    views.showFrame(cine, 6)
    click(ui.esHereButton)
    assert (ui.edSlider.value, ui.esSlider.value) == (3, 6)
    assert [module.reading.frame(phase) for phase in ("ED", "ES")] == [3, 6]
    click(ui.automaticPhasesCheckBox)
    assert module.reading.node.automaticPhases


def test_play_shows_the_frames_one_after_another_until_it_is_paused(host, module, phantom):
    from CardiacSegSlicer import views

    cine, button = add_cine(module, phantom), module.ui.playButton
    click(button)
    assert button.text.replace("&", "") == "Pause" and views.isPlaying(cine)
    seen = set()
    wait(host, lambda: seen.add(views.frameShown(cine)) or len(seen) >= 3, "Three frames")
    click(button)
    assert button.text.replace("&", "") == "Play" and not views.isPlaying(cine)


# ----------------------------------------------------------------------------------------------------- Segment


def test_models_are_those_shipped_and_files_of_ones_own_of_which_several_are_averaged(host, module, phantom, tmp_path):
    add_cine(module, phantom)
    models, own = module.ui.modelList, tmp_path / "mine.pt"

    def listed() -> dict[str, bool]:
        items = [models.item(i) for i in range(models.count)]
        return {item.text(): item.checkState() == Qt.CheckState.Checked for item in items}

    assert listed()["fast"] and sum(listed().values()) == 1
    host.answer(str(own))
    click(module.ui.addModelButton)
    assert listed()["fast"] and listed()["mine"]
    click(module.ui.segmentButton)
    arguments = module.segmentPanel.job._process.arguments
    assert [arguments[i + 1] for i, a in enumerate(arguments) if a == "--model"] == ["fast", str(own)]
    click(module.ui.segmentButton)
    for i in range(models.count):
        models.item(i).setCheckState(Qt.CheckState.Unchecked)
    click(module.ui.segmentButton)
    assert not module.segmentPanel.running and "No model" in host.dialogs.texts("error")[0]
    host.dialogs.reset()


def test_models_of_two_training_runs_are_listed_by_their_runs(host, module, phantom, tmp_path):
    add_cine(module, phantom)
    for run in ("one", "two"):
        host.answer(str(tmp_path / run / "model.pt"))
        click(module.ui.addModelButton)

    models = module.ui.modelList
    assert [models.item(i).text() for i in range(models.count)][-2:] == ["one", "two"]


def test_a_gpu_is_named_with_its_memory_and_can_be_chosen(host, module, phantom, monkeypatch):
    from CardiacSegSlicer import jobs

    found = '{"result": {"cuda": [["NVIDIA RTX A5000", 25757220864]], "mps": false}}'
    monkeypatch.setattr(jobs, "_PROBE", f"print('{found}')")
    module.segmentPanel.probe = None
    add_cine(module, phantom)  # opens the section
    devices = module.ui.deviceComboBox
    wait(host, lambda: devices.count > 1, "The devices")
    assert [devices.itemText(i) for i in range(devices.count)] == ["Automatic", "NVIDIA RTX A5000, 24 GB", "CPU"]
    devices.currentIndex = 1
    assert module.parameters.device == "cuda"
    click(module.ui.segmentButton)
    arguments = module.segmentPanel.job._process.arguments
    assert arguments[arguments.index("--device") + 1] == "cuda"
    click(module.ui.segmentButton)


def test_a_declined_install_is_one_readable_message(host, module, phantom):
    from CardiacSegSlicer.installer import PACKAGES, Installer

    image = [package for package in PACKAGES if package.title == "scikit-image"]
    module.logic.installer = Installer(find=lambda: image)
    add_cine(module, phantom)
    settle(host, module)
    host.answer(False)
    click(module.ui.segmentButton)
    assert not module.segmentPanel.running
    assert len(host.dialogs.texts("error")) == 1 and "scikit-image" in host.dialogs.texts("error")[0]
    assert host.installs == []
    host.dialogs.reset()
    assert module.ui.segmentButton.enabled


# ----------------------------------------------------------------------------------------------------- Correct


def test_an_edit_changes_the_figures_by_the_voxels_painted_within_a_second_and_undo_takes_it_back(host, read):
    before, text = read.reading.function()["lv"]["edv_ml"], figures(read)["LV EDV"]
    painted = paint(host, read, "ED", Label.LV, (slice(2, 3), slice(0, 6), slice(0, 6)))
    wait(host, lambda: "corrected by hand" in column(read, 3), "The figures", 1.0)
    voxel = read.reading.study().geometry.voxel_ml
    assert read.reading.function()["lv"]["edv_ml"] == pytest.approx(before + painted * voxel, abs=1e-6)
    assert figures(read)["LV EDV"] == f"{before + painted * voxel:.1f} mL"
    assert painted == 36 and read.reading.corrected() == {"ED": {Label.LV}, "ES": set()}
    marked = [name for name, note in zip(column(read, 0), column(read, 3)) if note]
    assert marked == ["LV EDV", "LV SV", "LV EF", "LV CO"]
    assert "Corrected by hand at ED: LV." in read.ui.editedLabel.text and read.ui.restoreButton.enabled
    read.correctPanel.editor.undo()
    wait(host, lambda: "corrected by hand" not in column(read, 3), "The figures", 1.0)
    assert figures(read)["LV EDV"] == text and "Corrected" not in read.ui.editedLabel.text
    assert not read.ui.restoreButton.enabled


def test_the_bulls_eye_is_shown_follows_an_edit_and_is_read_out_segment_by_segment(host, read):
    ui = read.ui
    assert ui.wallLabel.isVisibleTo(ui.resultsSection) and not ui.wallLabel.pixmap.isNull()
    said = ui.wallLabel.toolTip
    assert said.splitlines()[0].startswith("1 basal anterior: ") and len(said.splitlines()) == 16
    assert said == ui.wallLabel.accessibleDescription
    thickness = read.reading.function()["wall"]["ed_mm"]
    assert f"7 mid anterior: {thickness[6]:.1f} mm" in said
    ui.wallComboBox.setCurrentIndex(2)
    assert ui.wallLabel.toolTip.splitlines()[0].endswith(" %")
    ui.wallComboBox.setCurrentIndex(0)
    # The wall of a middle slice is made thicker on one side.
    wall = read.reading.labels("ED").mask(Label.MYO)
    middle = int(np.median(np.flatnonzero(wall.any(axis=(1, 2)))))
    rows, columns = np.nonzero(wall[middle])
    row = int(np.median(rows))
    last = int(columns[rows == row].max())
    paint(host, read, "ED", Label.MYO, (slice(middle, middle + 1), slice(row - 5, row + 6), slice(last, last + 5)))
    wait(host, lambda: ui.wallLabel.toolTip != said, "The bull's-eye", 1.0)
    read.correctPanel.editor.undo()
    wait(host, lambda: ui.wallLabel.toolTip == said, "The bull's-eye", 1.0)


def test_a_bulls_eye_that_is_not_known_leaves_nothing_said_of_the_former(host, read):
    ui = read.ui
    click(ui.showEsButton)
    everywhere = np.ones(read.reading.labels("ES").data.shape, bool)
    host.paint(read.correctPanel.editor, "MYO", everywhere, erase=True)
    settle(host, read)
    assert " mm" in ui.wallLabel.toolTip
    ui.wallComboBox.setCurrentIndex(1)
    assert ui.wallLabel.text.startswith("Not known") and ui.wallLabel.pixmap.isNull()
    assert ui.wallLabel.toolTip == ui.wallLabel.accessibleDescription == ui.wallLabel.text


def test_the_bulls_eye_is_read_where_no_file_can_be_written(host, read, monkeypatch):
    import tempfile

    def full(*_args, **_named):
        raise OSError(28, "No space left on device")

    ui = read.ui
    for name in ("mkstemp", "write_text"):
        with monkeypatch.context() as disk:
            disk.setattr(*((tempfile, name) if name == "mkstemp" else ("pathlib.Path.write_text",)), full)
            read.resultsChanged()
        host.check()
        assert ui.wallLabel.text == ui.wallLabel.toolTip and ui.wallLabel.text.startswith("1 basal anterior: ")
    read.resultsChanged()
    assert not ui.wallLabel.pixmap.isNull()


def test_the_bulls_eye_has_the_pixels_of_a_fine_screen(read, monkeypatch):
    import qt

    from CardiacSegSlicer.panels import wall

    drawn, draw = [], wall.pixmapOfSvg
    monkeypatch.setattr(wall, "pixmapOfSvg", lambda *given: drawn.append(draw(*given)) or drawn[-1])
    for ratio in (wall.pixelRatio(read.ui.wallLabel), 2.0):
        monkeypatch.setattr(wall, "pixelRatio", lambda widget, ratio=ratio: ratio)
        read.resultsPanel.wall.draw()
    assert [picture.devicePixelRatio() for picture in drawn] == [1.0, 2.0]
    coarse, fine = (picture.toImage() for picture in drawn)
    assert fine.width() == 2 * coarse.width() == 2 * wall.WIDTH
    fine.setDevicePixelRatio(1.0)
    assert fine != coarse.scaledToWidth(fine.width(), qt.Qt.SmoothTransformation)  # drawn, not enlarged


def test_masks_are_shown_only_over_the_frame_that_they_belong_to(host, read):
    from CardiacSegSlicer import views

    reading, cine = read.reading, read.parameters.cine

    def shown() -> list[bool]:
        return [bool(reading.segmentation(phase).GetDisplayNode().GetVisibility()) for phase in ("ED", "ES")]

    assert views.frameShown(cine) == reading.frame("ED") and shown() == [True, False]
    click(read.ui.showEsButton)
    assert views.frameShown(cine) == reading.frame("ES") and shown() == [False, True]
    other = next(n for n in range(1, 7) if n not in (reading.frame("ED"), reading.frame("ES")))
    views.showFrame(cine, other)
    host.process(50)
    assert shown() == [False, False] and "Another frame" in read.ui.editedLabel.text
    views.showFrame(cine, reading.frame("ED"))
    host.process(50)
    assert shown() == [True, False]
    assert read.correctPanel.editor.segmentationNode() is reading.segmentation("ED")


def test_corrections_are_never_replaced_without_asking_and_can_be_taken_back(host, read):
    automatic = read.reading.labels("ED").data.copy()
    paint(host, read, "ED", Label.RV, CORNER)
    edited = read.reading.labels("ED").data.copy()
    settle(host, read)
    host.answer(False)
    click(read.ui.segmentButton)
    assert not read.segmentPanel.running and (read.reading.labels("ED").data == edited).all()
    host.answer(True)
    click(read.ui.restoreButton)
    assert (read.reading.labels("ED").data == automatic).all() and not (edited == automatic).all()
    assert not read.reading.anyCorrected()


def test_the_editors_keys_and_tools_are_let_go_of_when_the_module_is_left(host, read):
    editor = read.correctPanel.editor
    assert editor._hostShortcuts and editor.segmentationNode() is read.reading.segmentation("ED")
    editor.setActiveEffectByName("Paint")
    host.selectModule("")
    assert not editor._hostShortcuts and editor.activeEffect() is None
    host.selectModule("CardiacSeg")
    assert editor._hostShortcuts


# ----------------------------------------------------------------------------------------------------- Results


def test_figures_masks_report_and_training_case_are_written(host, read, phantom, tmp_path):
    from CardiacSegLib.readers.acdc import read_acdc_truth
    from CardiacSegLib.training.dataset import find_cases

    ui = read.ui
    ui.heightSpinBox.value, ui.weightSpinBox.value = 180.0, 75.0
    click(ui.showEsButton)
    paint(host, read, "ES", Label.LV, CORNER)  # written right after
    edited = {name: read.reading.labels(name).data for name in ("ED", "ES")}
    for button, path in (
        (ui.saveTableButton, tmp_path / "figures.csv"),
        (ui.reportButton, tmp_path / "report.html"),
        (ui.saveMasksButton, tmp_path / "masks"),
        (ui.trainingCaseButton, tmp_path / "training"),
    ):
        if not path.suffix:
            path.mkdir()
        host.answer(str(path))
        click(button)
        host.check()
    with open(tmp_path / "figures.csv", encoding="utf-8", newline="") as file:
        rows = {(row["Structure"], row["Figure"]): row for row in csv.DictReader(file)}
    esv = rows["LV", "End-systolic volume"]
    assert float(esv["Value"]) == pytest.approx(read.reading.function()["lv"]["esv_ml"], abs=1e-3)
    assert esv["Corrected"] == "corrected by hand" and float(esv["Indexed value"]) > 0
    report = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "not a medical device" in report and f"{float(esv['Value']):.1f}" in report
    names = {p.name for p in (tmp_path / "masks").iterdir()}
    assert sum(n.endswith("_seg.nii.gz") for n in names) == 2 and sum(n.endswith(".seg.nrrd") for n in names) == 2
    (case,) = find_cases(tmp_path / "training")  # what training reads
    truth = read_acdc_truth(case.folder)
    assert [(truth[n].data == edited[name]).all() for n, name in zip((phantom.ed + 1, phantom.es + 1), edited)] == [
        *(True, True),
    ]
    host.answer(str(tmp_path / "masks"))
    click(ui.saveMasksButton)
    assert len(host.dialogs.texts("error")) == 1  # what is there already is not replaced
    host.dialogs.reset()
    for label_map in (tmp_path / "masks").glob("*_seg.nii.gz"):
        label_map.unlink()
    before = sorted((tmp_path / "masks").iterdir())
    host.answer(str(tmp_path / "masks"))
    click(ui.saveMasksButton)
    assert len(host.dialogs.texts("error")) == 1 and sorted((tmp_path / "masks").iterdir()) == before
    host.dialogs.reset()


def test_what_goes_elsewhere_disturbs_neither_tool_nor_view(host, read):
    """Tools of the editor remove previews of their own, and another module its nodes while this one is not open."""
    from CardiacSegSlicer import views

    scene, editor = slicer.mrmlScene, read.correctPanel.editor
    editor.setActiveEffectByName("Paint")
    for kind in ("vtkMRMLSegmentationNode", "vtkMRMLTableNode"):
        scene.RemoveNode(scene.AddNewNodeByClass(kind, "preview"))
        settle(host, read)
        assert editor.activeEffect() is not None and editor.activeEffect().name == "Paint"

    host.selectModule("")
    shown = [read.reading.segmentation(phase).GetDisplayNode() for phase in ("ED", "ES")]
    for display in shown:
        display.SetVisibility(False)
    chart = scene.AddNewNodeByClass("vtkMRMLPlotChartNode", "of another module")
    views.showChart(chart)
    scene.RemoveNode(scene.AddNewNodeByClass("vtkMRMLTableNode", "of another module"))
    settle(host, read)
    assert [display.GetVisibility() for display in shown] == [0, 0]
    plot = scene.GetSingletonNode(views.PLOT_VIEW, "vtkMRMLPlotViewNode")
    assert plot.GetPlotChartNode() is chart
    views.showChart(None)
    assert plot.GetPlotChartNode() is chart, "none of this module's"
    host.selectModule("CardiacSeg")


def test_corrected_masks_are_compared_with_the_automatic_ones_and_nothing_is_overwritten(host, read, tmp_path):
    ui = read.ui
    assert not ui.compareButton.enabled, "nothing was corrected"
    painted = paint(host, read, "ED", Label.LV, CORNER)
    settle(host, read)
    assert ui.compareButton.enabled
    host.answer(str(tmp_path))
    click(ui.compareButton)
    host.check()
    compared = json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"))
    row = next(f for f in compared["figures"] if f["figure"] == "lv.edv_ml")
    assert row["difference"] == pytest.approx(painted * read.reading.study().geometry.voxel_ml, abs=1e-3)
    assert "corrected" in (tmp_path / "comparison.html").read_text(encoding="utf-8")
    host.answer(str(tmp_path))
    click(ui.compareButton)
    assert len(host.dialogs.texts("error")) == 1 and "is there already" in host.dialogs.texts("error")[0]
    host.dialogs.reset()


def test_likeness_to_disease_is_off_said_on_request_and_called_research_only(host, read):
    ui = read.ui
    assert not ui.diagnosisCheckBox.checked and "diagnosis" not in read.resultsPanel.function
    assert not ui.diagnosisLabel.isVisibleTo(ui.resultsSection)
    ui.diagnosisCheckBox.setChecked(True)
    settle(host, read)
    assert {"NOR", "MINF", "DCM", "HCM", "RV"} <= set(ui.diagnosisLabel.text.replace(",", " ").split())
    assert "research" in ui.diagnosisLabel.text.lower() and len(ui.diagnosisLabel.text.splitlines()) >= 4
    assert read.logic.measure(read.parameters.cine, diagnosis=True)["diagnosis"]
    ui.diagnosisCheckBox.setChecked(False)
    settle(host, read)
    assert not ui.diagnosisLabel.isVisibleTo(ui.resultsSection)
    assert "diagnosis" not in read.logic.measure(read.parameters.cine)


def test_slices_breathed_apart_are_moved_in_a_copy_and_the_original_stays(host, module):
    made = make_phantom(PhantomConfig(frames=6, slices=8, breathing_mm=6.0, ed_index=0))
    add_cine(module, made)
    put_masks(module, made)
    settle(host, module)
    cine, before = module.parameters.cine, module.reading.labels("ED").data.copy()
    figures_before = module.reading.function()["lv"]
    click(module.ui.alignButton)
    host.check()
    settle(host, module)
    assert module.parameters.cine is not cine and "were moved" in module.ui.statusLabel.text
    assert "aligned" in module.parameters.cine.GetName()
    assert module.reading.function()["lv"]["ef_percent"] == pytest.approx(figures_before["ef_percent"])
    assert any("moved onto the heart's axis" in w for w in module.resultsPanel.function["warnings"])
    aligned = slice_shifts_mm([module.reading.labels("ED"), module.reading.labels("ES")])
    module.parameters.cine = cine
    settle(host, module)
    original = slice_shifts_mm([module.reading.labels("ED"), module.reading.labels("ES")])
    assert (module.reading.labels("ED").data == before).all()
    assert np.nanmax(np.abs(aligned)) < 0.5 * np.nanmax(np.abs(original))


def slice_shown(volume) -> int:
    """Number of the slice of a volume that the short-axis view shows, and shows in its own plane."""
    from CardiacSegSlicer import views

    logic = slicer.app.applicationLogic().GetSliceLogicByLayoutName("Red")
    axes = slicer.util.arrayFromVTKMatrix(logic.GetSliceNode().GetSliceToRAS())
    to_voxels = np.linalg.inv(views._ijkToWorld(volume))
    assert abs((to_voxels @ np.append(axes[:3, 0], 0))[2]) < 1e-6
    return round((to_voxels @ axes[:, 3])[2]) + 1


FINDINGS = (
    Finding("doubt", "The network is not sure of the RV at ES, in slice 4.", 4, "ES"),
    Finding("flicker", "In frame 3, slice 2, the right ventricle was torn.", 2, "frame 3"),
    Finding("breathing", "Slice 5 lies off the axis.", 5),
    Finding("flicker", "In frame 6 the right ventricle was torn.", None, "frame 6"),
    Finding("mass", "The mass is odd."),
)


@pytest.fixture
def doubtful(host, module, phantom, monkeypatch):
    """The module with a cycle in which there is something to look at."""
    from CardiacSegSlicer.reading import Reading

    add_cine(module, phantom)
    put_masks(module, phantom, cycle=True)
    measured = Reading.function

    def function(self, *given, **named):
        found = measured(self, *given, **named)
        sentences = [finding.sentence for finding in FINDINGS]
        return {**found, "findings": [f.to_json() for f in FINDINGS], "warnings": ["Some are dark.", *sentences]}

    monkeypatch.setattr(Reading, "function", function)
    module.resultsChanged()
    return module


def test_a_finding_is_shown_in_its_slice_and_phase(host, doubtful):
    from CardiacSegSlicer import views

    ui, cine, reading = doubtful.ui, doubtful.parameters.cine, doubtful.reading
    listed = ui.findingsList
    assert [listed.item(i).text() for i in range(listed.count)] == [finding.sentence for finding in FINDINGS[:4]]
    assert ui.warningsLabel.text.splitlines() == ["⚠ Some are dark.", "⚠ The mass is odd."]  # each is said once
    assert listed.item(1).toolTip() == "Show slice 2, frame 3" and not ui.showFindingButton.enabled
    expected = ((4, reading.frame("ES")), (2, 3), (5, 3), (5, 6))
    for row, place in enumerate(expected):
        listed.setCurrentRow(row)
        click(ui.showFindingButton)
        host.process()
        assert (slice_shown(cine), views.frameShown(cine)) == place
    assert doubtful.correctPanel.phase == "ES" and ui.showEsButton.checked


def test_findings_are_worked_through_by_keyboard_and_mouse(host, doubtful):
    from PySide6.QtTest import QTest

    from CardiacSegSlicer import views

    ui, cine = doubtful.ui, doubtful.parameters.cine
    ui.resultsSection.collapsed = False
    listed = ui.findingsList
    listed.setCurrentRow(0)
    QTest.keyClick(listed, Qt.Key.Key_Down)
    views.play(cine, True)
    ui.playButton.checked = True
    QTest.keyClick(listed, Qt.Key.Key_Return)
    assert (slice_shown(cine), views.frameShown(cine)) == (2, 3) and not views.isPlaying(cine)
    paint(host, doubtful, "ED", Label.LV, CORNER)
    settle(host, doubtful)
    assert listed.currentRow == 1  # an edit does not take away where one is
    listed.scrollToItem(listed.item(2))
    item, ground = listed.visualItemRect(listed.item(2)).center(), listed.viewport()._object
    QTest.mouseClick(ground, Qt.MouseButton.LeftButton, pos=item)
    QTest.mouseDClick(ground, Qt.MouseButton.LeftButton, pos=item)
    assert slice_shown(cine) == 5


def test_without_findings_there_is_no_list(module, phantom, monkeypatch):
    from CardiacSegSlicer.reading import Reading

    add_cine(module, phantom)
    measured = Reading.function
    monkeypatch.setattr(Reading, "function", lambda self, *a, **k: {**measured(self, *a, **k), "findings": []})
    put_masks(module, phantom)
    for widget in (module.ui.findingsLabel, module.ui.findingsList, module.ui.showFindingButton):
        assert not widget.isVisibleTo(module.ui.resultsSection)
    assert module.ui.warningsLabel.text


@pytest.fixture(scope="module")
def breathed():
    return make_phantom(
        PhantomConfig(frames=4, slices=6, size=(120, 104), spacing=(15.0, 2.5, 2.5), breathing_mm=8.0, ed_index=0)
    )


@pytest.mark.parametrize("cycle", [False, True])
def test_a_copy_on_one_axis_knows_what_the_original_knows(host, module, breathed, cycle):
    from CardiacSegLib.certainty import Certainty, doubts
    from CardiacSegLib.function.stack import align_labels
    from CardiacSegSlicer.parameters import provenanceOf, setProvenance

    cine = add_cine(module, breathed)
    doubt = doubts({Label.LV: Certainty(0.5, 2), Label.RV: Certainty(0.5, 2)}, "ED")
    put_masks(module, breathed, "The GPU was full.", cycle=cycle, found=doubt)
    reading = module.reading
    reading.node.diagnosis, reading.node.heightCm, reading.node.weightKg = True, 180.0, 75.0
    paint(host, module, "ED", Label.RV, (slice(2, 4), slice(10, 14), slice(10, 14)))
    cine.SetAndObserveTransformNodeID(add_transform(slicer.mrmlScene, rotation(0.3, 0.2, 0.1)).GetID())
    settle(host, module)
    known = {**provenanceOf(reading.node), "version": "0.1", "expectedDice": {"ED": {"lv": 0.5, "rv": 0.5, "myo": 0.9}}}
    setProvenance(reading.node, known)
    masks = reading.masks()
    copy = module.logic.reading(module.logic.alignSlices(cine))
    assert copy.node.cine.GetTransformNodeID() == cine.GetTransformNodeID()
    assert copy.segmentation("ED").GetTransformNodeID() == cine.GetTransformNodeID()
    assert copy.corrected() == reading.corrected() == {"ED": {Label.RV}, "ES": set()}
    assert copy.isCycle == cycle and copy.masks().correctedFrames() == masks.correctedFrames()
    shifts = slice_shifts_mm([masks.labels[breathed.ed], masks.labels[breathed.es]])
    now, before = align_labels(masks.labels, shifts), align_labels(dict(enumerate(breathed.labels)), shifts)
    for index in masks.labels:
        assert (copy.masks().labels[index].data == now[index].data).all()
        assert (copy.masks().automatic[index] == before[index].data).all()
    for key in ("model", "version", "device", "expectedDice", "findings", "phases", "frames"):
        assert provenanceOf(copy.node)[key] == known[key], key
    function = copy.function()
    assert function["expected_dice"] == known["expectedDice"] and "diagnosis" in function
    said = {"The GPU was full.", doubt[0].sentence, f"Before the correction: {doubt[1].sentence}"}
    assert said <= set(function["warnings"]) and copy.node.heightCm == 180.0


def test_a_copy_does_not_know_what_was_automatic_where_the_original_does_not(host, module, breathed):
    cine = add_cine(module, breathed)
    put_masks(module, breathed)
    slicer.mrmlScene.RemoveNode(module.reading.node.edAutomatic)
    settle(host, module)
    copy = module.logic.reading(module.logic.alignSlices(cine))
    assert copy.masks().correctedFrames() == module.reading.masks().correctedFrames() == [breathed.ed + 1]
    assert copy.corrected() == {"ES": set()}


@pytest.mark.parametrize("cycle", [False, True])
def test_of_a_copy_that_cannot_be_made_nothing_stays(host, module, breathed, cycle, monkeypatch):
    from CardiacSegLib.errors import StudyError
    from CardiacSegSlicer import output

    cine = add_cine(module, breathed)
    put_masks(module, breathed, cycle=cycle)
    settle(host, module)

    def nodes() -> list[str]:
        scene = slicer.mrmlScene
        return [scene.GetNthNode(i).GetID() for i in range(scene.GetNumberOfNodes())]

    before, figures_before = nodes(), module.reading.function()
    for error in (StudyError("No."), MemoryError()):
        with monkeypatch.context() as broken:

            def fail(*_given, error=error):
                raise error

            broken.setattr(output, "keepAutomaticSequence" if cycle else "keepAutomatic", fail)
            with pytest.raises(type(error)):
                module.logic.alignSlices(cine)
        assert nodes() == before
    settle(host, module)
    assert module.parameters.cine is cine and module.reading.function() == figures_before


def test_copied_figures_are_those_seen_with_the_warnings_and_what_the_software_is_not(read):
    import qt

    click(read.ui.copyButton)
    text = qt.QApplication.clipboard().text()
    assert f"LV End-diastolic volume: {figures(read)['LV EDV']}" in text and DISCLAIMER in text
    listed = read.ui.findingsList
    seen = "\n".join([read.ui.warningsLabel.text, *(listed.item(i).text() for i in range(listed.count))])
    for warning in read.reading.function()["warnings"]:
        assert warning in text and warning in seen


def test_indexed_figures_need_height_and_weight(read):
    ui = read.ui
    ui.heightSpinBox.value = ui.weightSpinBox.value = 0
    assert not any(column(read, 2))
    ui.heightSpinBox.value, ui.weightSpinBox.value = 180.0, 75.0
    assert any("m²" in text for text in column(read, 2))
    ui.heightSpinBox.value = 17.0  # nobody's
    assert not any(column(read, 2)) and "⚠" in ui.warningsLabel.text


# ------------------------------------------------------------------------------------------------------- Train


def test_a_training_is_started_with_what_is_chosen(host, module, training_set, tmp_path):
    ui = module.ui
    click(ui.trainStartButton)
    assert "data folder" in host.dialogs.texts("error")[0]  # nothing is chosen yet
    host.dialogs.reset()
    ui.trainDataPath.currentPath, ui.trainOutputPath.currentPath = str(training_set), str(tmp_path / "run")
    ui.trainPresetComboBox.currentIndex = ui.trainPresetComboBox.findData("paper-3d-dice")
    ui.trainDeviceComboBox.currentIndex = ui.trainDeviceComboBox.findData("cpu")
    ui.trainFoldsSpinBox.value, ui.trainEpochsSpinBox.value = 2, 7
    click(ui.trainStartButton)
    run = module.trainPanel.run
    assert run.settings == {
        "dataFolder": str(training_set), "preset": "paper-3d-dice", "folds": 2, "epochs": 7, "device": "cpu"
    }  # fmt: skip
    assert run.running and not ui.trainStartButton.enabled
    click(ui.trainStopButton)
    assert not run.running and ui.trainStartButton.enabled
