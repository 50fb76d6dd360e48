"""Reference ranges: what ships, for whom, and how a figure outside is marked."""

from __future__ import annotations

import itertools

import pytest

from CardiacSegLib.function.definitions import DEFINITIONS
from CardiacSegLib.function.ranges import RANGES, SOURCE, compare_with_ranges, ranges_for
from CardiacSegLib.study import Patient

#: Mean and SD that others print of the same cohort (Table 12 of the paper), men then women.
TABLE_12 = {
    "edv_ml": ((166, 32), (124, 21)),
    "esv_ml": ((69, 16), (49, 11)),
    "ef_percent": ((58, 5), (61, 5)),
}
FUNCTION = {
    "lv": {"edv_ml": 240.0, "esv_ml": 60.0, "sv_ml": 180.0, "ef_percent": 40.0, "mass_g": 110.0},
    "rv": {"edv_ml": 150.0, "esv_ml": None, "sv_ml": None, "ef_percent": None},
    "indexed": {"lv": {"edv_ml_per_m2": 120.0, "mass_g_per_m2": 55.0}, "rv": {"edv_ml_per_m2": 75.0}},
}


@pytest.mark.parametrize(("key", "sex"), list(itertools.product(TABLE_12, "MF")))
def test_ranges_of_the_lv_fit_the_means_and_sd_of_the_cohort(key, sex):
    mean, sd = TABLE_12[key]["MF".index(sex)]
    (entry,) = [r for r in RANGES if (r.part, r.key, r.sex) == ("lv", key, sex)]
    assert mean - 0.1 * mean <= entry.low + 1.96 * sd <= mean + 0.05
    assert mean - 0.05 <= entry.high - 1.96 * sd <= mean + 0.1 * mean


def test_every_range_is_of_a_figure_there_is_and_once_for_each_sex():
    assert len({(r.part, r.key, r.sex) for r in RANGES}) == len(RANGES) == 16
    for entry in RANGES:
        assert 0 < entry.low < entry.high
        assert entry.key.replace("_per_m2", "") in DEFINITIONS


@pytest.mark.parametrize(
    ("sex", "age", "applies"),
    [
        *(("M", age, True) for age in (45, 60.5, 74, 74.9)),
        *(("F", age, True) for age in (45, 74)),
        *(("M", age, False) for age in (44.9, 75, 20, None)),
        *((sex, 60, False) for sex in (None, "O")),
    ],
)
def test_ranges_apply_from_45_to_74_years_where_the_sex_is_known(sex, age, applies):
    patient = Patient(sex=sex, age_years=age)
    assert bool(ranges_for(patient)) is applies
    assert bool(compare_with_ranges(FUNCTION, patient)) is applies


def test_a_figure_outside_its_range_is_marked_in_words():
    compared = compare_with_ranges(FUNCTION, Patient(sex="M", age_years=60))
    verdicts = {(c["part"], c["figure"]): c["verdict"] for c in compared}
    assert verdicts == {
        ("lv", "edv_ml"): "above the range",
        ("lv", "esv_ml"): "within the range",
        ("lv", "ef_percent"): "below the range",
        ("lv", "edv_ml_per_m2"): "above the range",
        ("lv", "mass_g_per_m2"): "within the range",
        ("rv", "edv_ml"): "within the range",
        ("rv", "edv_ml_per_m2"): "within the range",
    }
    assert all(c["source"] == SOURCE and "papillary" in c["applies_to"] for c in compared)
    assert {(c["low"], c["high"]) for c in compared if c["figure"] == "edv_ml"} == {(93.0, 232.0), (99.0, 260.0)}


def test_women_have_their_own_ranges_and_a_limit_is_within():
    function = {"lv": {"edv_ml": 175.0, "esv_ml": 25.0, "ef_percent": None}, "rv": {"edv_ml": 192.1}}
    verdicts = {
        (c["part"], c["figure"]): c["verdict"] for c in compare_with_ranges(function, Patient(None, None, "F", 50))
    }
    assert verdicts == {
        ("lv", "edv_ml"): "within the range",
        ("lv", "esv_ml"): "within the range",
        ("rv", "edv_ml"): "above the range",
    }
