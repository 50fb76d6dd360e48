"""The region of the heart: it never loses a heart, and what is read in it is what is read in the whole field."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from CardiacSegLib.inference import Segmenter
from CardiacSegLib.metrics.overlap import dice
from CardiacSegLib.models import find_finder, load_model
from CardiacSegLib.phantom import PhantomConfig, make_phantom
from CardiacSegLib.preprocessing import PreprocessingConfig, make_grid, normalise
from CardiacSegLib.readers.acdc import read_acdc_folder, read_acdc_truth
from CardiacSegLib.region import HeartFinder, touches_edge
from CardiacSegLib.study import STRUCTURES
from CardiacSegLib.training.presets import get_preset

CONFIG = PreprocessingConfig(min_size=128, region=True)
SHIFT_MM = 40.0


@pytest.fixture(scope="module")
def finder() -> HeartFinder:
    return HeartFinder(torch.device("cpu"))


def shifted(volume: np.ndarray, pixels: tuple[int, int]) -> np.ndarray:
    """Moved in plane; what comes in is 0, as beyond a scanner's field of view."""
    moved = np.zeros_like(volume)
    (dy, dx), (height, width) = pixels, volume.shape[1:]
    target = slice(max(0, dy), height + min(0, dy)), slice(max(0, dx), width + min(0, dx))
    source = slice(max(0, -dy), height - max(0, dy)), slice(max(0, -dx), width - max(0, dx))
    moved[(slice(None), *target)] = volume[(slice(None), *source)]
    return moved


def cropped(volume: np.ndarray, mask: np.ndarray, spacing: tuple[float, ...], margin_mm: float = 10.0) -> np.ndarray:
    """The field of view cut to the heart and a margin."""
    window = []
    for axis in (1, 2):
        found = np.flatnonzero(mask.any(axis=(0, 3 - axis)))
        margin = int(margin_mm / spacing[axis])
        window.append(slice(max(0, found[0] - margin), found[-1] + 1 + margin))
    return volume[(slice(None), *window)]


def variants(frame: np.ndarray, mask: np.ndarray, spacing: tuple[float, float, float]):
    """The frame and its mask as they are, mirrored, turned, reversed, shifted and cut; with the spacing."""
    turned = spacing[0], spacing[2], spacing[1]
    pixels = round(SHIFT_MM / spacing[1]), -round(SHIFT_MM / spacing[2])
    yield "as it is", frame, mask, spacing
    yield "mirrored", frame[:, :, ::-1], mask[:, :, ::-1], spacing
    yield "turned", np.rot90(frame, axes=(1, 2)), np.rot90(mask, axes=(1, 2)), turned
    yield "upside down, from the apex", frame[::-1, ::-1], mask[::-1, ::-1], spacing
    yield "shifted", shifted(frame, pixels), shifted(mask, pixels), spacing
    yield "cut", cropped(frame, mask, spacing), cropped(mask, mask, spacing), spacing


def test_the_region_holds_every_labelled_voxel_of_every_patient_however_it_lies(finder, acdc_root):
    lost, areas, whole = [], [], []
    for folder in sorted(acdc_root.glob("patient*")):
        study, truths = read_acdc_folder(folder), read_acdc_truth(folder)
        for index, number in enumerate(study.frame_numbers):
            for name, frame, mask, spacing in variants(study.frame(index), truths[number].data > 0, study.spacing):
                grid = make_grid(frame.shape, spacing, CONFIG)
                region = finder.find(normalise(frame, CONFIG), spacing, grid)
                if region is None:
                    whole.append(name)
                    continue
                areas.append(
                    grid.part(*region).shape[1] * grid.part(*region).shape[2] / (grid.shape[1] * grid.shape[2])
                )
                if grid.part(*region).outside(mask) > 0:
                    lost.append(f"{folder.name} frame {number}, {name}: {grid.part(*region).outside(mask):.2%}")
    assert not lost, f"{len(lost)}: {lost[:20]}"
    # Fields that are small, by nature or by the cut, are read whole.
    assert sum(name != "cut" for name in whole) < 100 and np.median(areas) < 0.35


def test_the_region_and_the_whole_field_give_the_same_figures(acdc_root):
    """On patients that no network was trained on."""
    segmenter, scores = Segmenter("fast", "cpu", region=True), {"region": [], "whole": []}
    for number in (5, 30, 45, 65, 90):
        study = read_acdc_folder(acdc_root / f"patient{number:03d}")
        truths = read_acdc_truth(acdc_root / f"patient{number:03d}")
        for name in scores:
            for index, labels in whole_or_region(segmenter, name).segment(study).labels.items():
                truth = truths[study.frame_numbers[index]]
                scores[name] += [dice(labels.mask(s), truth.mask(s)) for s in STRUCTURES]
    assert np.mean(scores["region"]) > np.mean(scores["whole"]) - 0.002


def whole_or_region(segmenter: Segmenter, name: str) -> Segmenter:
    class Nothing:
        def find(self, *_: object) -> None:
            return None

    if name == "whole":
        other = Segmenter(segmenter.models, "cpu")
        other._finder = Nothing()  # type: ignore[assignment]
        return other
    return segmenter


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(PhantomConfig(frames=3, ed_index=0))


def test_where_no_heart_is_found_the_whole_field_is_read(finder):
    noise = np.random.default_rng(0).random((5, 96, 96)).astype(np.float32) * 0.05
    grid = make_grid(noise.shape, (10.0, 1.5, 1.5), CONFIG)
    assert finder.find(np.zeros_like(noise), (10.0, 1.5, 1.5), grid) is None


def test_a_heart_at_the_edge_of_its_region_is_read_again_in_the_whole_field(phantom, monkeypatch):
    """A finder that cuts the heart in half must not cut the figures."""
    segmenter = Segmenter("fast", "cpu", region=True)
    expected = whole_or_region(segmenter, "whole").segment(phantom.study, [0]).labels[0]
    region = segmenter.segment(phantom.study, [0]).labels[0]

    def half(values, spacing, grid):
        rows = np.flatnonzero(grid.labels_to_network(region.data, 4).any(axis=(0, 2)))
        middle = int(rows.mean()) // 16 * 16
        return slice(0, middle), slice(0, grid.shape[2])

    monkeypatch.setattr(segmenter._finder, "find", half)
    np.testing.assert_array_equal(segmenter.segment(phantom.study, [0]).labels[0].data, expected.data)


def test_an_edge_of_the_field_itself_is_no_reason_to_read_again():
    grid = make_grid((2, 64, 64), (10.0, 1.5, 1.5), PreprocessingConfig(min_size=64))
    labels = np.zeros((2, 32, 64), np.uint8)
    labels[0, 5:20, 0] = 3  # at the field's own edge
    assert not touches_edge(labels, (slice(0, 32), slice(0, 64)), grid)
    labels[0, 31, 10] = 3  # the field goes on below
    assert touches_edge(labels, (slice(0, 32), slice(0, 64)), grid)


def test_the_finder_that_ships_was_made_by_the_preset_of_its_name():
    shipped, preset = load_model(find_finder()).preset, get_preset("finder")
    assert shipped.augmentation == preset.augmentation and shipped.network == preset.network
    assert shipped.preprocessing == preset.preprocessing
