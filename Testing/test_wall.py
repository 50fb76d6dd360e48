"""Wall thickness and its segments: bodies of known thickness, the phantom in every position, real masks."""

from __future__ import annotations

import dataclasses
import json
import time
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from CardiacSegLib.function.contours import DIRECTIONS, wall_contours
from CardiacSegLib.function.segments import find_orientation, rv_insertions
from CardiacSegLib.function.wall import WallFigures, segment_map, slice_thickness, wall_figures, wall_json
from CardiacSegLib.phantom import Phantom, PhantomConfig, make_phantom
from CardiacSegLib.phantom.wall import true_wall_mm
from CardiacSegLib.readers.acdc import read_acdc_truth, read_info
from CardiacSegLib.study import Geometry, Label, LabelMap

SMALL = PhantomConfig(frames=2, ed_index=0)
SETTINGS = dict(deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@lru_cache(maxsize=4)
def phantom(config: PhantomConfig = SMALL) -> Phantom:
    return make_phantom(config)


def turned(labels: LabelMap, rotation: np.ndarray) -> LabelMap:
    """The same heart lying otherwise in the patient."""
    direction = tuple(map(tuple, rotation @ np.array(labels.geometry.direction)))
    return LabelMap(labels.data, dataclasses.replace(labels.geometry, direction=direction))


def flipped(labels: LabelMap, axes: tuple[int, ...]) -> LabelMap:
    """The same heart in the same place, stored the other way along some of (z, y, x)."""
    geometry = labels.geometry
    far = np.zeros(3)
    direction = np.array(geometry.direction)
    for axis in axes:
        far[axis] = geometry.shape[axis] - 1
        direction[:, 2 - axis] *= -1
    moved = dataclasses.replace(geometry, origin=tuple(geometry.to_lps(far)), direction=tuple(map(tuple, direction)))
    return LabelMap(np.ascontiguousarray(np.flip(labels.data, axes)), moved)


def lost(labels: LabelMap) -> LabelMap:
    """As ACDC's files: no direction."""
    return LabelMap(labels.data, Geometry(labels.geometry.shape, labels.geometry.spacing))


def body(inner, outer, spacing=(8.0, 1.5, 1.5), slices=9, pixels=96, shift=(0.0, 0.0)) -> LabelMap:
    """Muscle where ``outer(x, y, z)`` holds and ``inner`` does not, in mm from the middle; an RV on the left.

    Its slices run from base to apex, as the RV ends two slices before the stack does.
    """
    z, y, x = np.meshgrid(
        (np.arange(slices) - (slices - 1) / 2) * spacing[0],
        (np.arange(pixels) - pixels / 2) * spacing[1] - shift[0],
        (np.arange(pixels) - pixels / 2) * spacing[2] - shift[1],
        indexing="ij",
    )
    cavity, heart = inner(x, y, z), outer(x, y, z)
    data = np.where(cavity, Label.LV, np.where(heart, Label.MYO, 0)).astype(np.uint8)
    rv = outer(x + 15, y, z) & ~heart
    rv[-2:] = False
    data[rv] = Label.RV
    return LabelMap(data, Geometry((slices, pixels, pixels), spacing))


def ring(cx, cy, r):
    return lambda x, y, z: np.hypot(x - cx, y - cy) < r


def test_a_round_wall_has_its_thickness_in_every_segment():
    figures = wall_figures(body(ring(0, 0, 22), ring(0, 0, 30)), None)
    assert np.array(figures.ed_mm) == pytest.approx(8.0, abs=0.25)
    assert (figures.mean_ed_mm, figures.max_ed_mm) == pytest.approx((8.0, 8.0), abs=0.2)
    assert set(figures.es_mm) == set(figures.thickening_percent) == {None}


@settings(max_examples=15, **SETTINGS)
@given(
    thick=st.floats(4, 20),
    radius=st.floats(12, 30),
    pixel=st.floats(0.8, 2.0),
    shift=st.tuples(st.floats(-3, 3), st.floats(-3, 3)),
)
@example(thick=5.0, radius=12.0, pixel=2.0, shift=(0.0, 1.0))
def test_a_round_wall_has_its_thickness_to_half_a_pixel_at_any_size_and_place(thick, radius, pixel, shift):
    pixels = int(2.6 * (radius + thick + 8) / pixel)
    labels = body(ring(0, 0, radius), ring(0, 0, radius + thick), (8.0, pixel, pixel), 6, pixels, shift)
    assert np.array(wall_figures(labels, None).ed_mm) == pytest.approx(thick, abs=0.5 * pixel)


def test_an_eccentric_wall_is_as_thick_as_it_is_across():
    labels = body(ring(5, 3, 18), ring(0, 0, 32), pixels=110)
    contours = wall_contours(labels)
    circle = np.radians(np.arange(0, 360, 0.1))
    edges = [np.stack([cx + r * np.cos(circle), cy + r * np.sin(circle)]) for cx, cy, r in ((5, 3, 18), (0, 0, 32))]
    ways = np.stack([np.cos(DIRECTIONS), np.sin(DIRECTIONS)])
    midway = (contours.centre[0] - 55 * 1.5)[:, None] + ways * (contours.endo[0] + contours.epi[0]) / 2
    truth = sum(np.hypot(*(midway[:, :, None] - edge[:, None, :])).min(axis=1) for edge in edges)
    assert truth.max() > 2 * truth.min()
    for measured in slice_thickness(labels):
        assert np.abs(measured - truth).max() < 1.0
        assert np.abs(measured - truth).mean() < 0.25


@pytest.mark.parametrize("lean_deg", [10, 25, 40])
def test_a_leaning_wall_is_not_taken_for_a_thick_one(lean_deg):
    lean = np.radians(lean_deg)
    axis = np.array([np.sin(lean) * 0.5, np.sin(lean) * np.sqrt(0.75), np.cos(lean)])

    def cylinder(r):
        return lambda x, y, z: x * x + y * y + z * z - (axis[0] * x + axis[1] * y + axis[2] * z) ** 2 < r * r

    labels = body(cylinder(20), cylinder(28), slices=7, spacing=(6.0, 1.2, 1.2), pixels=130)
    figures = wall_figures(labels, None)
    assert np.array(figures.ed_mm) == pytest.approx(8.0, abs=0.4)
    assert figures.mean_ed_mm == pytest.approx(8.0, abs=0.15)


def test_a_bowl_is_as_thick_near_its_tip_as_at_its_rim():
    def ball(r):
        return lambda x, y, z: np.hypot(np.hypot(x, y), z + 24) < r  # its middle lies in the first slice

    labels = body(ball(30), ball(40), slices=7, spacing=(8.0, 1.2, 1.2), pixels=100)
    contours = wall_contours(labels)
    assert (contours.epi - contours.endo)[-1].mean() > 13
    assert np.array(wall_figures(labels, None).ed_mm) == pytest.approx(10.0, abs=0.5)


def test_slices_shifted_by_breathing_do_not_make_the_wall_thinner():
    labels = body(ring(0, 0, 22), ring(0, 0, 30))
    shifts = (0, 3, -4, 2, -3, 4, -2, 3, -3)
    moved = LabelMap(np.stack([np.roll(plane, s, 0) for plane, s in zip(labels.data, shifts)]), labels.geometry)
    assert np.array(wall_figures(moved, None).ed_mm) == pytest.approx(8.0, abs=0.3)


def test_an_open_ring_has_no_thickness_where_it_is_open():
    labels = body(ring(0, 0, 22), ring(0, 0, 30))
    y, x = np.indices(labels.data.shape[1:])
    angle = np.arctan2(y - 48, x - 48)
    data = labels.data.copy()
    data[:, (np.abs(angle) < np.radians(50)) & (labels.data[0] == Label.MYO)] = 0
    figures = wall_figures(LabelMap(data, labels.geometry), None)
    known = [value for value in figures.ed_mm if value is not None]
    assert 10 <= len(known) < 16
    assert np.array(known) == pytest.approx(8.0, abs=0.5)
    assert figures.max_ed_mm == pytest.approx(8.0, abs=0.4)


@settings(max_examples=4, **SETTINGS)
@given(
    rv_angle=st.floats(0, 360),
    axis=st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.floats(-0.8, 0.8)).filter(
        lambda a: a[0] ** 2 + a[1] ** 2 > 0.3
    ),
    pixel=st.floats(1.2, 1.9),
    distance=st.sampled_from([6.0, 8.0, 10.0]),
    wall=st.floats(5, 13),
    ef=st.floats(0.2, 0.65),
)
def test_the_phantoms_wall_is_right_in_every_segment_however_it_lies(rv_angle, axis, pixel, distance, wall, ef):
    pixels = int(260 / pixel)
    config = dataclasses.replace(
        SMALL, rv_angle_deg=rv_angle, heart_axis=axis, spacing=(distance, pixel, pixel), wall_mm=wall, ef=ef,
        size=(pixels + 20, pixels + 20), slices=int(110 / distance),
    )  # fmt: skip
    made = make_phantom(config)
    phases = (made.ed, made.es)
    truth = [true_wall_mm(config, t, wall_contours(made.labels[t]).slices) for t in phases]
    for axes in ((), (0,), (2,), (0, 1)):
        figures = wall_figures(*(flipped(made.labels[t], axes) for t in phases))
        assert np.abs(np.array([figures.ed_mm, figures.es_mm]) - truth).max() < 0.5


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 2), (0, 1, 2)])
def test_segments_stay_in_place_when_the_array_is_stored_otherwise(axes):
    labels = phantom().labels[0]
    here, there = segment_map(labels), np.flip(segment_map(flipped(labels, axes)), axes)
    assert set(np.unique(here)) == set(range(17))
    myo = labels.mask(Label.MYO)
    assert np.mean(here[myo] == there[myo]) > 0.98  # a direction that lies on an edge may fall to either side


@settings(max_examples=10, **SETTINGS)
@given(turn=st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_segments_turn_with_the_heart(turn):
    w, x, y, z = np.array(turn) / np.linalg.norm(turn)
    rotation = np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ])  # fmt: skip
    labels = phantom().labels[0]
    assert np.array_equal(segment_map(turned(labels, rotation)), segment_map(labels))


def test_segments_lie_where_their_names_say():
    made = phantom()
    labels, segment = made.labels[0], segment_map(made.labels[0])
    centre = {k: labels.geometry.to_lps(np.argwhere(segment == k)).mean(0) for k in range(1, 17)}
    rv, lv = (labels.geometry.to_lps(np.argwhere(labels.mask(s))).mean(0) for s in (Label.RV, Label.LV))
    for anterior, inferior, septal, lateral in (
        (1, 4, (2, 3), (5, 6)),
        (7, 10, (8, 9), (11, 12)),
        (13, 15, (14,), (16,)),
    ):
        up = centre[anterior] - centre[inferior]
        assert up[2] > 20 and up[1] < -5  # towards the head and the chest wall
        to_septum = np.mean([centre[k] for k in septal], 0) - np.mean([centre[k] for k in lateral], 0)
        assert to_septum @ (rv - lv) / np.linalg.norm(to_septum) / np.linalg.norm(rv - lv) > 0.75
    # From the base to the apex
    axis = np.array(SMALL.heart_axis)
    assert centre[1] @ axis < centre[7] @ axis - 10 < centre[13] @ axis - 20


@pytest.mark.parametrize("rv_angle", [150.0, 100.0, 200.0])
def test_a_file_without_orientation_is_taken_as_seen_from_the_apex_and_says_so(rv_angle):
    labels = phantom(dataclasses.replace(SMALL, rv_angle_deg=rv_angle)).labels[0]
    for axes in ((), (0,)):
        bare = lost(flipped(labels, axes))
        assert np.array_equal(np.flip(segment_map(bare), axes), segment_map(labels))
        assert any("lost the orientation" in said for said in wall_figures(bare, None).assumptions)
        assert wall_figures(bare, None).warnings == (), "nothing looks wrong"
    known = wall_figures(labels, None)
    assert known.warnings == known.assumptions == ()


def test_an_apex_on_the_unusual_side_is_pointed_out():
    figures = wall_figures(turned(phantom().labels[0], -np.eye(3)), None)
    assert any("unusual" in w for w in figures.warnings)


def test_both_rv_insertions_are_found():
    config = dataclasses.replace(SMALL, breathing_mm=0.0)
    labels = phantom(config).labels[0]
    contours, orientation = wall_contours(labels), find_orientation([labels])
    assert not orientation.apex_up and orientation.turn == 1
    found = np.degrees(rv_insertions(labels, contours, orientation.turn))[-5:]
    off = (found - 150 + 180) % 360 - 180
    half = 82 * (0.62 + 0.38 * np.linspace(0.48, 0.94, 5))
    assert off[:, 0] == pytest.approx(half, abs=5)
    assert off[:, 1] == pytest.approx(-half, abs=5)


def test_thickening_is_of_the_end_diastolic_thickness():
    figures = WallFigures(ed_mm=(8.0, None, 10.0) + (5.0,) * 13, es_mm=(12.0, 9.0, 9.0) + (None,) * 13)
    assert figures.thickening_percent == (50.0, None, -10.0) + (None,) * 13


def test_without_rv_the_mean_is_known_and_the_segments_are_not():
    labels = phantom().labels[0]
    no_rv = LabelMap(np.where(labels.data == Label.RV, 0, labels.data), labels.geometry)
    whole, figures = wall_figures(labels, None), wall_figures(no_rv, None)
    assert figures.mean_ed_mm == pytest.approx(whole.mean_ed_mm, abs=0.01)
    assert set(figures.ed_mm) == {None} and any("beside the LV" in w for w in figures.warnings)
    # One phase may borrow from the other.
    assert None not in wall_figures(labels, no_rv).es_mm


def test_nothing_known_is_nothing_said_but_a_reason():
    labels = phantom().labels[0]
    assert wall_figures(None, None) == WallFigures()
    for gone in ((Label.LV,), (Label.MYO,), (Label.LV, Label.MYO, Label.RV)):
        bare = LabelMap(np.where(np.isin(labels.data, gone), 0, labels.data), labels.geometry)
        figures = wall_figures(bare, None)
        assert figures.mean_ed_mm is None and "at ED is not known" in figures.warnings[0]
        assert not segment_map(bare).any() and slice_thickness(bare) == []


def test_ed_and_es_may_be_stored_differently():
    made = phantom()
    ed, es = made.labels
    figures = wall_figures(ed, flipped(es, (0, 2)))
    assert np.array(figures.es_mm) == pytest.approx(np.array(wall_figures(ed, es).es_mm), abs=0.15)


@settings(max_examples=40, **SETTINGS)
@given(seed=st.integers(0, 10**6), slices=st.integers(1, 5), blobs=st.integers(1, 8), pixels=st.integers(1, 24))
def test_no_label_map_breaks_it(seed, slices, blobs, pixels):
    rng = np.random.default_rng(seed)
    data = np.zeros((slices, pixels, pixels), np.uint8)
    for _ in range(blobs):
        z, y, x = (rng.integers(0, n, 2) for n in data.shape)
        data[min(z) : max(z) + 1, min(y) : max(y) + 1, min(x) : max(x) + 1] = rng.integers(0, 4)
    labels = LabelMap(data, Geometry(data.shape, (8.0, 1.5, 1.5)))
    figures = wall_figures(labels, labels)
    values = [v for v in (*figures.ed_mm, figures.mean_ed_mm, figures.max_ed_mm) if v is not None]
    assert np.all(np.isfinite(values)) and np.all(np.array(values) >= 0)
    json.dumps(wall_json(figures), allow_nan=False)


def test_json_has_the_promised_keys():
    made = phantom()
    content = json.loads(json.dumps(wall_json(wall_figures(made.labels[made.ed], None)), allow_nan=False))
    assert list(content) == [
        *("ed_mm", "es_mm", "thickening_percent", "mean_ed_mm", "max_ed_mm", "mean_es_mm", "max_es_mm", "method"),
        "assumptions",
    ]
    assert all(len(content[key]) == 16 for key in ("ed_mm", "es_mm", "thickening_percent"))
    assert content["es_mm"] == [None] * 16 and content["mean_es_mm"] is None
    assert content["ed_mm"][0] == pytest.approx(8, abs=0.5)


def test_a_study_takes_less_than_half_a_second():
    made = phantom()
    times = []
    for _ in range(3):
        start = time.process_time()
        wall_figures(made.labels[made.ed], made.labels[made.es])
        times.append(time.process_time() - start)
    assert min(times) < 0.5


def test_the_manual_masks_of_100_patients_give_plausible_walls(acdc_root):
    groups: dict[str, list[WallFigures]] = {}
    for folder in sorted(acdc_root.glob("patient*")):
        info, truth = read_info(folder / "Info.cfg"), read_acdc_truth(folder)
        figures = wall_figures(truth[info.ed], truth[info.es])
        assert None not in figures.ed_mm and None not in figures.es_mm
        assert min(figures.ed_mm) > 2 and max(figures.ed_mm) < 25 and min(figures.es_mm) > 2
        if int(folder.name[-1]) % 5 == 0:
            segment = segment_map(truth[info.ed])
            row = {k: np.argwhere(segment == k)[:, 1].mean() for k in (1, 4, 7, 10, 13, 15)}
            assert row[1] < row[4] and row[7] < row[10] and row[13] < row[15]  # ACDC has the anterior wall on top
        groups.setdefault(info.group, []).append(figures)
    mean = {g: np.mean([f.mean_ed_mm for f in found]) for g, found in groups.items()}
    largest = {g: np.mean([f.max_ed_mm for f in found]) for g, found in groups.items()}
    thickening = {g: np.mean([f.thickening_percent for f in found]) for g, found in groups.items()}
    assert 5 < mean["NOR"] < 8 and largest["HCM"] > 15 > 1.2 * largest["NOR"]
    assert mean["HCM"] == max(mean.values()) and thickening["DCM"] == min(thickening.values())
    normal = np.mean([f.ed_mm for f in groups["NOR"]], axis=0)
    assert normal.min() > 4 and normal.max() < 10
    assert normal[:6].mean() > normal[12:].mean()
