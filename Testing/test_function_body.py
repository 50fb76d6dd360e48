"""Body surface area and figures per square metre."""

from __future__ import annotations

import math

import pytest

from CardiacSegLib.errors import StudyError
from CardiacSegLib.function.body import body_surface_area, indexed
from CardiacSegLib.function.volumes import function_from_volumes, to_json
from CardiacSegLib.study import Label


@pytest.mark.parametrize(
    ("height_cm", "weight_kg", "area_m2"),
    # worked out by hand from the formula as Du Bois and Du Bois printed it (area in cm², constant 71.84)
    [(170.0, 70.0, 1.810), (184.0, 95.0, 2.180), (150.0, 45.0, 1.370), (50.0, 3.5, 0.209)],
)
def test_area_is_that_of_du_bois(height_cm: float, weight_kg: float, area_m2: float) -> None:
    logs = math.log(71.84) + 0.425 * math.log(weight_kg) + 0.725 * math.log(height_cm)
    assert body_surface_area(height_cm, weight_kg) == pytest.approx(math.exp(logs) / 1e4, rel=1e-12)
    assert body_surface_area(height_cm, weight_kg) == pytest.approx(area_m2, abs=0.003)


@pytest.mark.parametrize(
    ("height_cm", "weight_kg", "said"),
    [
        (1.8, 80.0, "height of 1.8 cm"),
        (0.0, 80.0, "height"),
        (400.0, 80.0, "height"),
        (180.0, 0.0, "weight of 0 kg"),
        (180.0, -5.0, "weight"),
        (180.0, 800.0, "weight"),
        (math.nan, 80.0, "height"),
        (180.0, math.inf, "weight"),
        (70.0, 180.0, "exchanged"),
        (71.0, 80.0, "exchanged"),  # inches
    ],
)
def test_what_cannot_be_a_person_is_refused_in_words(height_cm: float, weight_kg: float, said: str) -> None:
    with pytest.raises(StudyError, match=said):
        body_surface_area(height_cm, weight_kg)


def test_mostellers_formula_is_taken_by_name_and_another_is_refused() -> None:
    assert body_surface_area(180.0, 80.0, "mosteller") == pytest.approx(2.0)
    with pytest.raises(StudyError, match="no formula 'haycock'.*du_bois or mosteller"):
        body_surface_area(180.0, 80.0, "haycock")


def test_cardiac_output_is_divided_too() -> None:
    figures = to_json(function_from_volumes({Label.LV: 150.0}, {Label.LV: 60.0}), heart_rate_bpm=60)
    assert indexed(figures, 2.0)["lv"]["co_l_per_min_per_m2"] == 2.7


def test_volumes_and_mass_are_divided_and_percentages_left_out() -> None:
    ed = {Label.LV: 150.0, Label.RV: 160.0, Label.MYO: 100.0}
    es = {Label.LV: 60.0, Label.MYO: 105.0}
    per_area = indexed({**to_json(function_from_volumes(ed, es)), "ed_frame": 1, "warnings": []}, 2.0)
    assert per_area["lv"] == {
        "edv_ml_per_m2": 75.0,
        "esv_ml_per_m2": 30.0,
        "sv_ml_per_m2": 45.0,
        "mass_g_per_m2": 52.5,
        "co_l_per_min_per_m2": None,
    }
    assert {key: value for key, value in per_area["rv"].items() if value is not None} == {"edv_ml_per_m2": 80.0}
    assert set(per_area["rv"]) == set(per_area["lv"]) - {"mass_g_per_m2"}
    assert per_area["myo"]["es_ml_per_m2"] == 52.5
    assert set(per_area) == {"lv", "rv", "myo"}


@pytest.mark.parametrize("area", [0.0, -1.0, math.nan, math.inf])
def test_area_that_is_none_is_refused(area: float) -> None:
    with pytest.raises(StudyError, match="positive"):
        indexed({"lv": {"edv_ml": 100.0}}, area)
