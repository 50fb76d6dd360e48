"""Pictures and plots show what they are given, where it is, and can be opened by others."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageColor, ImageDraw, ImageFont
from scipy import ndimage

from CardiacSegLib.errors import StudyError, TrainingError
from CardiacSegLib.readers.acdc import read_acdc_folder, read_acdc_truth
from CardiacSegLib.report import figures, pictures, plots
from CardiacSegLib.study import STRUCTURES, CineStudy, Geometry, Label, LabelMap

SVG = "{http://www.w3.org/2000/svg}"
RGB = {label: np.array(ImageColor.getrgb(colour)) for label, colour in pictures.STRUCTURE_COLOURS.items()}


def heart(slices: int = 3, size: int = 64, spacing: tuple[float, float, float] = (10.0, 1.5, 1.5)) -> LabelMap:
    """A round LV in its myocardium with an RV to the left, the first slice empty."""
    y, x = np.mgrid[:size, :size]
    data = np.zeros((slices, size, size), np.uint8)
    data[1:, np.hypot(y - 30, x - 16) < 9] = Label.RV
    data[1:, np.hypot(y - 30, x - 36) < 14] = Label.MYO
    data[1:, np.hypot(y - 30, x - 36) < 9] = Label.LV
    return LabelMap(data, Geometry(data.shape, spacing))


def frame_of(labels: LabelMap) -> np.ndarray:
    return np.array([40, 160, 60, 200], np.int16)[labels.data]


def study_of(labels: LabelMap, **facts: object) -> CineStudy:
    return CineStudy(np.stack([frame_of(labels)] * 2), labels.geometry, ed=0, es=1, **facts)


def whole(shape: tuple[int, int], scale: int = 4) -> pictures.View:
    return pictures.View(0, shape[0], 0, shape[1], (shape[1] * scale, shape[0] * scale))


# ---- contours


@pytest.mark.parametrize("label", STRUCTURES)
def test_contour_pixels_lie_on_the_boundary_and_all_along_it(label: Label) -> None:
    plane = heart().data[1]
    only = np.where(plane == label, plane, 0)
    view, grey = whole(plane.shape), np.full(plane.shape, 100.0)
    tile = np.asarray(pictures.contour_tile(grey, only, None, view, (0.0, 200.0)), float)
    bare = np.asarray(pictures.grey_tile(grey, view, (0.0, 200.0)), float)
    drawn = np.abs(tile - bare).max(axis=2) > 60
    fine = np.kron(only > 0, np.ones((4, 4), bool))
    edge = fine & ~ndimage.binary_erosion(fine)
    assert ndimage.distance_transform_edt(~edge)[drawn].max() < 4, "within one voxel of the boundary"
    assert ndimage.distance_transform_edt(~drawn)[edge].max() < 4, "no gap in the contour"
    reddest = tile[drawn][np.abs(tile[drawn] - RGB[label]).sum(axis=1).argmin()]
    np.testing.assert_allclose(reddest, RGB[label], atol=2)


@settings(max_examples=40, deadline=None)
@given(st.floats(4, 11), st.floats(4, 11), st.floats(13, 19), st.floats(13, 19), st.sampled_from([(96, 96), (160, 64)]))
def test_a_contour_encloses_the_area_and_keeps_the_centre(ry: float, rx: float, cy: float, cx: float, size) -> None:
    y, x = np.mgrid[:32, :32]
    mask = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1
    (line,) = pictures.contour_lines(mask, size)
    px, py = line.T
    cross = px[:-1] * py[1:] - px[1:] * py[:-1]
    scale = np.array(size) / 32
    area = cross.sum() / 2
    centre = np.array([((px[:-1] + px[1:]) * cross).sum(), ((py[:-1] + py[1:]) * cross).sum()]) / (6 * area)
    assert abs(area) / scale.prod() == pytest.approx(mask.sum(), rel=0.06)
    rows, columns = np.nonzero(mask)
    np.testing.assert_allclose(centre / scale, [columns.mean() + 0.5, rows.mean() + 0.5], atol=0.1)


def test_a_single_voxel_has_an_outline_and_an_empty_mask_none() -> None:
    mask = np.zeros((8, 8), bool)
    assert pictures.contour_lines(mask, (80, 80)) == []
    mask[0, 7] = True  # at the edge: the outline still closes
    (line,) = pictures.contour_lines(mask, (80, 80))
    np.testing.assert_array_equal(line[0], line[-1])
    np.testing.assert_allclose(line[:-1].mean(axis=0), [75, 5], atol=0.5)


def test_the_picture_is_as_the_array_is_stored() -> None:
    plane = np.zeros((40, 60))
    plane[2:8, 3:9] = 1.0  # small indexes: top left
    tile = np.asarray(pictures.grey_tile(plane, whole((40, 60)), (0.0, 1.0)))[..., 0]
    row, column = ndimage.center_of_mass(tile)
    assert tile.shape == (160, 240)
    assert (row, column) == (pytest.approx(4 * 5 - 0.5, abs=0.2), pytest.approx(4 * 6 - 0.5, abs=0.2))


# ---- views


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_the_view_holds_every_labelled_voxel_and_keeps_the_pixel_aspect(data: st.DataObject) -> None:
    ny, nx = data.draw(st.integers(8, 90)), data.draw(st.integers(8, 90))
    dy, dx = data.draw(st.floats(0.5, 3)), data.draw(st.floats(0.5, 3))
    labels = np.zeros((2, ny, nx), np.uint8)
    for z in range(2):
        labels[z, data.draw(st.integers(0, ny - 1)), data.draw(st.integers(0, nx - 1))] = 3
    view = pictures.heart_view([labels[:1], labels[1:]], (10.0, dy, dx), 200)
    assert sum(view.cut(plane).any() for plane in labels) == 2
    width, height = (view.x1 - view.x0) * dx, (view.y1 - view.y0) * dy
    assert max(view.size) == 200
    assert view.size[0] == pytest.approx(200 * width / max(width, height), abs=0.51)
    assert view.size[1] == pytest.approx(200 * height / max(width, height), abs=0.51)
    assert min(height, ny * dy) >= min(pictures.FIELD_MM / 2, ny * dy / 2) - dy, "not zoomed in on a speckle"


def test_without_labels_all_of_the_slice_is_shown() -> None:
    view = pictures.heart_view([np.zeros((3, 50, 40), np.uint8)], (10.0, 1.0, 1.0))
    assert (view.y0, view.y1, view.x0, view.x1) == (0, 50, 0, 40)


def test_the_window_ignores_what_is_not_shown_and_what_is_not_finite() -> None:
    frame = np.tile(np.linspace(0, 100, 1000).reshape(20, 50), (2, 1, 1))
    frame[:, :, 25:] = 1e6
    frame[0, 0, 0] = np.nan
    low, high = pictures.grey_window(frame, pictures.View(0, 20, 0, 25, (25, 20)))
    assert 0 <= low < 3 and 90 < high < 100
    flat = pictures.grey_window(np.zeros((2, 20, 50)), pictures.View(0, 20, 0, 25, (25, 20)))
    assert flat[1] > flat[0]


# ---- sheets


def test_a_montage_has_a_tile_for_every_slice() -> None:
    labels = heart(slices=7)
    picture = pictures.contour_montage(frame_of(labels), labels, title="ED", columns=3, tile_px=100)
    tile = pictures.heart_view([labels.data], labels.geometry.spacing, 100).size
    assert picture.mode == "RGB" and picture.width == 3 * tile[0] + 4 * pictures.GAP
    assert 3 * tile[1] < picture.height < 4 * tile[1]
    for label in STRUCTURES:
        near = np.abs(np.asarray(picture, int) - RGB[label]).sum(axis=2) < 12
        assert near.sum() > 6 * 20, f"{label.name} is drawn"


def test_labels_of_another_shape_or_grid_are_refused() -> None:
    labels = heart()
    with pytest.raises(StudyError, match="shape"):
        pictures.contour_montage(frame_of(labels), labels.data[:2])
    moved = LabelMap(labels.data, Geometry(labels.data.shape, (10.0, 1.5, 1.5), (5.0, 0.0, 0.0)))
    with pytest.raises(StudyError, match="grid of 'study'"):
        pictures.study_picture(study_of(labels), {0: moved})
    with pytest.raises(StudyError, match="nothing to draw"):
        pictures.study_picture(study_of(labels), {})


def test_a_study_picture_has_a_row_for_ed_and_es_and_is_written(tmp_path: Path) -> None:
    labels = heart()
    study = study_of(labels, frame_numbers=(1, 12), times_ms=(0.0, 310.0))
    path = tmp_path / "new" / "contours.png"
    both = pictures.study_picture(study, {0: labels, 1: labels}, path, truth={1: labels})
    one = pictures.study_picture(study, {1: labels})
    assert both.height > one.height + 100
    with Image.open(path) as read:
        np.testing.assert_array_equal(np.asarray(read), np.asarray(both))
        assert not read.info.get("Comment")


def test_texts_stay_within_the_width_and_any_font_and_script_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def last_column(text: str) -> int:
        canvas = Image.new("RGB", (200, 40))
        pictures.write_text(ImageDraw.Draw(canvas), (4, 4), text, 120)
        return int(np.flatnonzero(np.asarray(canvas).any(axis=(0, 2)))[-1])

    assert 90 < last_column("a long name " * 20) <= 126
    small = ImageFont.load_default_imagefont() if hasattr(ImageFont, "load_default_imagefont") else None
    if small is None:
        small = ImageFont.load_default()

    def old_load_default(size: float | None = None) -> object:
        if size is not None:
            raise TypeError("no size before Pillow 10.1")
        return small

    monkeypatch.setattr(ImageFont, "load_default", old_load_default)
    assert last_column("\u5fc3 \u03bb " * 30) <= 126


# ---- the paper's figures


def test_overlays_colour_the_structures_and_leave_the_image_column_alone() -> None:
    labels = heart()
    grey = np.full(labels.data.shape, 100.0)
    grey[:, 0, 0], grey[:, -1, -1] = 0.0, 200.0
    view = whole(labels.data.shape[1:])
    bare = np.asarray(figures.overlay_tile(grey[1], None, view, (0.0, 200.0)), float)
    tile = np.asarray(figures.overlay_tile(grey[1], labels.data[1], view, (0.0, 200.0)), float)
    assert np.ptp(bare, axis=2).max() == 0, "no colour without labels"
    for label, (y, x) in {Label.LV: (30, 36), Label.RV: (30, 14), Label.MYO: (30, 48)}.items():
        np.testing.assert_allclose(tile[4 * y + 2, 4 * x + 2], (bare[4 * y + 2, 4 * x + 2] + RGB[label]) / 2, atol=3)
    np.testing.assert_array_equal(tile[4 * 60, 4 * 60], bare[4 * 60, 4 * 60])


def test_figure_3_has_four_columns_and_figure_4_a_column_for_every_slice() -> None:
    labels = heart(slices=5)
    comparison = figures.Comparison(frame_of(labels), labels, labels, None, "patient")
    third = figures.figure_3([(comparison, 1), (comparison, 2)], tile_px=120)
    assert third.width == 4 * comparison.view(120).size[0] + 5 * pictures.GAP
    assert third.height > 2 * comparison.view(120).size[1]
    fourth = figures.figure_4(comparison, tile_px=110)
    step = comparison.view(110).size[0] + pictures.GAP
    assert fourth.width == 5 * step + pictures.GAP
    assert figures.figure_4(comparison, [1, 3], tile_px=110).width == 2 * step + pictures.GAP
    pixels = np.asarray(fourth, int)
    coloured = [x for x in range(5) if np.ptp(pixels[60:-30, 4 + step * x : step * (x + 1)], axis=2).max() > 60]
    assert coloured == [1, 2, 3, 4], "the first slice has no labels"


def test_a_figure_says_which_slice_or_labels_it_lacks() -> None:
    labels = heart()
    with pytest.raises(StudyError, match="no slice 9: the frame has 3"):
        figures.figure_3([(figures.Comparison(frame_of(labels), labels), 8)])
    with pytest.raises(StudyError, match="at least one label map"):
        figures.figure_4(figures.Comparison(frame_of(labels), None))
    with pytest.raises(StudyError, match="at least one slice"):
        figures.figure_3([])


# ---- plots

finite = st.floats(-1e6, 1e6, allow_nan=False)


def parse(svg: str) -> ElementTree.Element:
    root = ElementTree.fromstring(svg)
    assert root.tag == SVG + "svg"
    numbers = re.findall(r'(?:x|y|cx|cy|x1|x2|y1|y2|points)="([^"]*)"', svg)
    assert not any("nan" in value or "inf" in value for value in numbers)
    return root


def texts(root: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in root.iter(SVG + "text")]


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=40), st.lists(st.tuples(st.floats(), st.floats()), max_size=12))
def test_every_plot_is_xml_whatever_its_names_and_values(name: str, pairs: list[tuple[float, float]]) -> None:
    pairs = [p for p in pairs if all(not math.isfinite(v) or abs(v) < 1e6 for v in p)]
    a, b = [p[0] for p in pairs], [p[1] for p in pairs]
    parse(plots.bland_altman_svg(a, b, name, name))
    parse(plots.scatter_svg(a, b, name, name))
    parse(plots.curves_svg({name: (a, b), "LV": (b, a)}, name, name, name, marks={name: 1.0, "ES": float("nan")}))


def test_names_are_escaped_and_shown() -> None:
    root = parse(plots.scatter_svg([1, 2, 3], [1, 2, 4], 'EF <b> & "c"', "%"))
    assert 'EF <b> & "c"' in texts(root)
    assert not list(root.iter(SVG + "b"))


def test_a_bland_altman_plot_shows_bias_and_limits_and_every_pair() -> None:
    rng = np.random.default_rng(3)
    manual = rng.uniform(50, 200, 30)
    automatic = manual + rng.normal(-4, 8, 30)
    root = parse(plots.bland_altman_svg([*automatic, np.nan], [*manual, 100.0], "LV EDV", "mL"))
    difference = automatic - manual
    shown = texts(root)
    for value in (difference.mean(), difference.mean() - 1.96 * difference.std(ddof=1)):
        assert f"{value:.1f}".replace("-", "\N{MINUS SIGN}") in shown
    assert "n = 30" in shown and "Automatic \N{MINUS SIGN} manual (mL)" in shown
    dots = list(root.iter(SVG + "circle"))
    assert len(dots) == 30
    ys = np.array([float(dot.get("cy")) for dot in dots])
    assert np.corrcoef(ys, difference)[0, 1] == pytest.approx(-1, abs=1e-3), "larger differences stand higher"


def test_equal_values_lie_on_the_line_of_identity_of_a_scatter_plot() -> None:
    values = [10.0, 35.0, 80.0]
    root = parse(plots.scatter_svg(values, values, "EF", "%"))
    (line,) = [e for e in root.iter(SVG + "line") if e.get("stroke-dasharray")]
    x1, y1, x2, y2 = (float(line.get(k)) for k in ("x1", "y1", "x2", "y2"))
    for dot in root.iter(SVG + "circle"):
        x, y = float(dot.get("cx")), float(dot.get("cy"))
        assert (y - y1) * (x2 - x1) == pytest.approx((x - x1) * (y2 - y1), abs=60)
    assert any(text.startswith("r = 1.000, n = 3") for text in texts(root))


def test_unequal_lists_are_refused() -> None:
    with pytest.raises(StudyError, match="pairs"):
        plots.bland_altman_svg([1.0, 2.0], [1.0], "EF", "%")


@given(finite, st.floats(1e-3, 1e6), st.integers(3, 10))
def test_ticks_are_round_evenly_spaced_and_within_the_axis(low: float, span: float, count: int) -> None:
    ticks = plots.nice_ticks(low, low + span, count)
    assert 2 <= len(ticks) <= 2 * count
    steps = np.diff(ticks)
    assert np.allclose(steps, steps[0], rtol=1e-5, atol=1e-9 * max(1.0, abs(low)))
    mantissa = steps[0] / 10 ** math.floor(math.log10(steps[0] * 1.0001))
    assert min(abs(mantissa - m) for m in (1, 2, 5)) < 0.05
    assert ticks[0] >= low - 1e-6 * span and ticks[-1] <= low + span * (1 + 1e-6)


def test_structures_have_their_own_colours_in_curves() -> None:
    root = parse(plots.curves_svg({"LV": ([0, 1], [3, 4]), "other": ([0, 1], [1, 1])}, "t", "x", "y"))
    strokes = [e.get("stroke") for e in root.iter(SVG + "polyline")]
    assert strokes[0] == pictures.STRUCTURE_COLOURS[Label.LV] and strokes[1] not in pictures.STRUCTURE_COLOURS.values()


# ---- training log


def epoch(number: int, dice: float | None = None) -> dict:
    val = None if dice is None else {"LV": dice, "RV": dice, "MYO": dice}
    return {"epoch": number, "loss": 1 / number, "lr": 0.01, "seconds": 2.0, "val_dice": dice, "val": val}


def test_the_training_picture_survives_a_cut_off_line_and_epochs_run_twice(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    lines = [epoch(1), epoch(2, 0.5), epoch(3), epoch(2, 0.6), epoch(3), epoch(4, 0.8)]
    log.write_text("\n".join(map(json.dumps, lines)) + '\n{"epoch": 5, "lo')
    assert [entry["epoch"] for entry in plots.read_log(log)] == [1, 2, 3, 4]
    assert plots.read_log(log)[1]["val_dice"] == 0.6
    written = plots.training_picture(log, tmp_path / "out" / "training.svg")
    root = parse(written.read_text(encoding="utf-8"))
    assert "Training, 4 epochs" in texts(root)
    assert "Dice on the validation patients (best mean 0.800)" in texts(root)
    assert len(list(root.iter(SVG + "polyline"))) == 5  # loss, mean, LV, RV, MYO


def test_a_training_picture_before_the_first_validation_says_so(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(json.dumps(epoch(1)) + "\n")
    assert "no values" in texts(parse(plots.training_picture(log, tmp_path / "t.svg").read_text(encoding="utf-8")))


@pytest.mark.parametrize("content", ["", "\n", '{"loss": 1}\n{"epoch": 2}\n', "hello\n" * 2])
def test_what_is_no_training_log_is_refused(tmp_path: Path, content: str) -> None:
    log = tmp_path / "log.jsonl"
    with pytest.raises(TrainingError, match="cannot be read"):
        plots.read_log(log)
    log.write_text(content)
    with pytest.raises(TrainingError, match="log"):
        plots.training_picture(log, tmp_path / "t.svg")


# ---- patients


@pytest.mark.parametrize("patient", ["patient001", "patient096"])
def test_a_patient_is_drawn_with_contours_around_its_bright_blood(
    acdc_root: Path, patient: str, tmp_path: Path
) -> None:
    study = read_acdc_folder(acdc_root / patient)
    by_number = read_acdc_truth(acdc_root / patient)
    truth = {study.index_of(number): labels for number, labels in by_number.items()}
    moved = {k: LabelMap(np.roll(labels.data, 2, axis=2), labels.geometry) for k, labels in truth.items()}
    picture = pictures.study_picture(study, moved, tmp_path / "p.png", truth)
    assert picture.width <= 2600 and (tmp_path / "p.png").stat().st_size > 50_000
    view = pictures.heart_view([labels.data for labels in truth.values()], study.spacing)
    z, ed = study.slices // 2, truth[study.ed]
    frame = study.frame(study.ed)
    tile = np.asarray(pictures.grey_tile(frame[z], view, pictures.grey_window(frame, view)))
    canvas = Image.new("1", view.size)
    for line in pictures.contour_lines(view.cut(ed.data[z]) == Label.LV, view.size):
        ImageDraw.Draw(canvas).polygon([tuple(p) for p in line.tolist()], fill=1)
    blood = np.asarray(canvas)
    ring = ndimage.binary_dilation(blood, iterations=12) & ~ndimage.binary_dilation(blood, iterations=4)
    assert np.median(tile[blood]) > np.median(tile[ring]) + 40, "bright within the LV contour, dark wall around it"
