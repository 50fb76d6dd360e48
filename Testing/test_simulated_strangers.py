"""What `Testing/Benchmarks/strangers.py` makes of a patient is still that patient, with the right masks."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from CardiacSegLib.phantom import PhantomConfig, make_phantom

SCRIPT = Path(__file__).parent / "Benchmarks" / "strangers.py"
SPEC = importlib.util.spec_from_file_location("strangers", SCRIPT)
strangers = importlib.util.module_from_spec(SPEC)
sys.modules["strangers"] = strangers  # dataclasses look there for the types that they name
SPEC.loader.exec_module(strangers)

# Of these the image stays where it is.
IN_GREYS = [name for name in strangers.CHANGES if name.startswith(("gamma", "a bias", "noise", "blurred"))]
IN_PLACE = [name for name, steps in strangers.CHANGES.items() if name not in IN_GREYS and len(steps) == 1]


@pytest.fixture(scope="module")
def patient():
    phantom = make_phantom(PhantomConfig(frames=3, ed_index=0, slices=6, size=(120, 150), spacing=(10.0, 1.9, 1.7)))
    masks = np.stack([phantom.labels[i].data for i in (phantom.ed, phantom.es)])
    image = phantom.study.image[[phantom.ed, phantom.es]].astype(np.float32)
    return strangers.Patient(image / image.max(), masks, (10.0, 1.9, 1.7))


def changed(name, patient):
    for step in strangers.CHANGES[name]:
        patient = step(patient)
    return patient


@pytest.mark.parametrize("name", IN_PLACE)
def test_masks_go_wherever_the_image_goes(name, patient):
    heart_as_image = strangers.Patient(patient.masks.astype(np.float32), patient.masks, patient.spacing)

    result = changed(name, heart_as_image)

    assert result.image.shape == result.masks.shape
    assert np.array_equal(result.image, result.masks)
    if name != "every second slice":
        assert np.bincount(result.masks.ravel())[1:].tolist() == np.bincount(patient.masks.ravel())[1:].tolist()


@pytest.mark.parametrize("name", IN_GREYS)
def test_changed_greys_leave_masks_and_spacing(name, patient):
    result = changed(name, patient)

    assert result.masks is patient.masks and result.spacing == patient.spacing
    assert result.image.shape == patient.image.shape and np.isfinite(result.image).all()
    assert not np.allclose(result.image, patient.image)


def test_a_cut_has_the_heart_in_its_middle_and_is_black_beyond_the_image(patient):
    result = strangers.cut(192, patient)

    rows, columns = (np.flatnonzero(result.masks.any(axis=axes)) for axes in ((0, 1, 3), (0, 1, 2)))
    assert result.image.shape[2:] == (192, 192)
    assert abs(rows.mean() - 96) <= 1 and abs(columns.mean() - 96) <= 1
    assert not result.image[..., 0].any() and not result.image[:, :, 0].any()


def test_a_quarter_turn_keeps_the_pixels_extent(patient):
    result = strangers.quarter_turn(patient)

    assert result.spacing == (10.0, 1.7, 1.9) and result.image.shape[2:] == (150, 120)


def test_a_row_states_what_the_evaluation_measures(patient):
    class Knows:
        """Draws the manual masks."""

        def segment(self, study):
            labels = {i: strangers.LabelMap(patient.masks[i], study.geometry) for i in range(2)}
            return type("Segmentation", (), {"labels": labels})

    assert strangers.row("as they are", [(Knows(), [patient]), (Knows(), [patient])]) == (
        "| as they are | 1.000 | 0.0 | 1.000/1.000 | 1.000/1.000 | 1.000/1.000 | 0 |"
    )
