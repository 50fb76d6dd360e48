"""The bull's eye: every segment in its place, legible, and honest about what is not known."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from CardiacSegLib.errors import StudyError
from CardiacSegLib.report.bullseye import bullseye_svg

SVG = "{http://www.w3.org/2000/svg}"
VALUES = [5.0 + 0.5 * k for k in range(16)]


def texts(svg: str) -> dict[str, tuple[float, float]]:
    """Where each text stands, (x, y) in px."""
    return {str(t.text): (float(t.get("x")), float(t.get("y"))) for t in ET.fromstring(svg).iter(f"{SVG}text")}


def colours(svg: str) -> list[tuple[int, ...]]:
    found = [path.get("fill") for path in ET.fromstring(svg).iter(f"{SVG}path")]
    return [tuple(int(colour[k : k + 2], 16) for k in (1, 3, 5)) for colour in found]


def luminance(colour: tuple[int, ...]) -> float:
    """Relative luminance, WCAG 2."""
    linear = [c / 3294.6 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_every_segment_shows_its_number_and_its_value():
    svg = bullseye_svg(VALUES, "Wall thickness at ED", "mm")
    shown = [t.text for t in ET.fromstring(svg).iter(f"{SVG}text")]
    for number, value in enumerate(VALUES, 1):
        assert shown[shown.index(str(number)) + 1] == f"{value:.1f}"
    said = [title.text for title in ET.fromstring(svg).iter(f"{SVG}title")]
    assert "1 basal anterior: 5.0 mm" in said and "16 apical lateral: 12.5 mm" in said


def test_segments_lie_as_in_the_model_of_the_aha():
    at = texts(bullseye_svg([50.0 + k for k in range(16)], "", "%", decimals=0))
    x, y = (at["1"][0], (at["1"][1] + at["4"][1]) / 2)
    for top, bottom in ((1, 4), (7, 10), (13, 15)):
        assert at[str(top)][1] < y < at[str(bottom)][1]
    for left, right in ((2, 6), (3, 5), (8, 12), (9, 11), (14, 16)):  # the septum on the left
        assert at[str(left)][0] < x < at[str(right)][0]
    assert at["2"][1] < at["3"][1] and at["12"][1] < at["11"][1]
    assert at["1"][1] < at["7"][1] < at["13"][1]  # the base outside
    assert at["septal"][0] < x < at["lateral"][0] and at["anterior"][1] < y < at["inferior"][1]


def test_what_is_not_known_is_a_dash_on_white():
    svg = bullseye_svg([None, float("nan"), *VALUES[2:]], "", "mm")
    assert svg.count(">—<") == 2
    assert colours(svg)[:2] == [(255, 255, 255)] * 2 and (255, 255, 255) not in colours(svg)[2:]
    nothing = bullseye_svg([None] * 16, "", "mm")
    assert nothing.count(">—<") == 16 and "<rect" not in nothing.replace('<rect width="500"', "")


def test_colours_tell_values_apart_in_grey_and_leave_figures_legible():
    found = [luminance(colour) for colour in colours(bullseye_svg(VALUES, "", "mm", limits=(5, 12.5)))]
    assert found == sorted(found, reverse=True) and len(set(found)) == 16
    ink = luminance((0x22, 0x22, 0x22))
    assert min((value + 0.05) / (ink + 0.05) for value in found) > 4.5
    assert found[0] > 2.5 * found[-1]


def test_beyond_the_limits_the_scale_ends():
    found = colours(bullseye_svg([-5.0, 0.0, 10.0, 99.0, *VALUES[4:]], "", "mm", limits=(0, 10)))
    assert found[0] == found[1] and found[2] == found[3]


@pytest.mark.parametrize("values", [[8.0] * 16, [0.0] * 16, [-20.0, 120.0] * 8, [None] * 15 + [7.0], [1e6] * 16])
def test_any_values_make_a_picture(values):
    assert len(colours(bullseye_svg(values, "", "%"))) == 16


def test_it_is_escaped_and_needs_nothing_else():
    svg = bullseye_svg(VALUES, "<script>&", '"<mm>')
    assert "<script>" not in svg
    ET.fromstring(svg)
    assert "href" not in svg and "url(" not in svg


@pytest.mark.parametrize("values, limits", [(VALUES[:-1], None), ([*VALUES, 1.0], None), (VALUES, (5, 5))])
def test_other_than_16_values_or_an_empty_scale_are_refused(values, limits):
    with pytest.raises(StudyError):
        bullseye_svg(values, "", "mm", limits)
