"""On cines of another vendor, outlined by other readers, the left ventricle is drawn where they saw it."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from CardiacSegLib.inference import Segmenter
from CardiacSegLib.study import LabelMap

SCRIPT = Path(__file__).parent / "Benchmarks" / "sunnybrook.py"
SPEC = importlib.util.spec_from_file_location("sunnybrook", SCRIPT)
sunnybrook = importlib.util.module_from_spec(SPEC)
sys.modules["sunnybrook"] = sunnybrook  # dataclasses look there for the types that they name
SPEC.loader.exec_module(sunnybrook)


def test_a_contour_is_filled_with_the_pixels_whose_middles_it_surrounds():
    """Counted from 1: a square around (x, y) = (3, 5) to (4, 7) holds columns 2 and 3 of rows 4 to 6."""
    contour = np.array([[2.5, 4.5], [4.5, 4.5], [4.5, 7.5], [2.5, 7.5]])
    mask = sunnybrook.filled(contour, (10, 8))
    assert np.argwhere(mask).tolist() == [[row, column] for row in (4, 5, 6) for column in (2, 3)]


@pytest.fixture(scope="module", params=["SCD0000101", "SCD0000201", "SCD0000301"])
def outlined(request, cine_dicom_root):
    return sunnybrook.read_outlined(cine_dicom_root, request.param)


def test_the_left_ventricle_lies_where_readers_of_another_vendors_cine_outlined_it(outlined):
    study = outlined.study
    found = sunnybrook.agreement(outlined, Segmenter("fast", "cpu").segment(study, [study.ed, study.es]).labels)
    assert found.lv_ed > 0.92
    assert found.lv_es > 0.91
    assert found.wall_ed > 0.77
    by_hand, drawn = found.ejection_fractions
    assert abs(by_hand - drawn) < 5.0


def test_what_the_readers_outlined_agrees_with_itself_and_not_with_the_stack_reversed(outlined):
    """The comparison has its images and slices in order: their own masks, as label maps, have a Dice of 1."""
    study = outlined.study
    labels = {}
    for t in (study.ed, study.es):
        data = np.zeros(study.stored.geometry.shape, np.uint8)
        for (frame, z), mask in outlined.endocardium.items():
            if frame == t:
                at = study.stored.slice_to_stored(z)
                data[at] = np.where(mask, 3, 2 * outlined.epicardium.get((frame, z), mask))
        labels[t] = LabelMap(study.stored.from_stored(data), study.geometry)
    found = sunnybrook.agreement(outlined, labels)
    assert (found.lv_ed, found.lv_es, found.wall_ed) == (1.0, 1.0, 1.0)
    assert found.drawn_ml == pytest.approx(found.outlined_ml)
    reversed_stack = {t: replace(frame, data=frame.data[::-1]) for t, frame in labels.items()}
    assert sunnybrook.agreement(outlined, reversed_stack).lv_ed < 0.9
