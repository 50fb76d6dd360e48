"""The page of one reading: complete in itself, escaped, naming nobody unasked, two pages in print."""

from __future__ import annotations

import base64
import io
import re
import sys
import types
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from CardiacSegLib import DISCLAIMER
from CardiacSegLib.errors import CardiacSegError, StudyError
from CardiacSegLib.function.body import indexed
from CardiacSegLib.report.measures import ALL_FIGURES, figure_rows
from CardiacSegLib.report.reading import write_reading_report
from CardiacSegLib.study import CineStudy, Geometry, Label, LabelMap, Patient
from CardiacSegLib.workflow import measure_labels
from print_page import browser, print_page

GEOMETRY = Geometry((3, 64, 60), (10.0, 1.5, 1.5))
HOSTILE = "<script>alert('x')</script>&\"name\"' onload='alert(1)"
SOURCE = "Somebody et al. 2017"


def labels_of(size: int, geometry: Geometry = GEOMETRY) -> LabelMap:
    data = np.zeros(geometry.shape, np.uint8)
    data[:-1, 16:44, 10:38] = Label.MYO
    data[:-1, 20 : 20 + size, 14 : 14 + size] = Label.LV
    data[:-1, 20:36, 40:52] = Label.RV
    return LabelMap(data, geometry)


LABELS = {0: labels_of(20), 2: labels_of(12)}


def study_of(geometry: Geometry = GEOMETRY, **facts) -> CineStudy:
    image = np.random.default_rng(0).integers(0, 200, (4, *geometry.shape)).astype(np.int16)
    return CineStudy(image, geometry, **{"name": "visit", "ed": 0, "es": 2, **facts})


def whole_function(labels=LABELS, study: CineStudy | None = None) -> dict:
    """Every key that the report knows, as ``function.json`` holds them."""
    function = measure_labels(study or study_of(), labels, model="fast", notes=["Slice 3 was dark."])
    function["lv"]["co_l_per_min"], function["rv"]["co_l_per_min"] = 1.25, 1.3
    rates = {"peak_ejection_rate_ml_per_s": 411.6, "time_to_peak_ejection_ms": 151.2}
    rates.update(peak_filling_rate_ml_per_s=388.8, time_to_peak_filling_ms=170.5)
    curve = [18.0, 12.0, 6.5, 14.0]
    function["cycle"] = {"frames": [1, 2, 3, 4], "times_ms": [0.0, 40.0, 80.0, 120.0], "lv": rates, "rv": rates}
    function["cycle"].update({f"{s}_ml": curve for s in ("lv", "rv", "myo")}, lv_smooth_ml=curve, rv_smooth_ml=curve)
    function["patient"] = {"sex": "F", "age_years": 63.0, "height_cm": 182.0, "weight_kg": 84.5}
    function["patient"].update(heart_rate_bpm=71.0, bsa_m2=2.0, bsa_formula="Du Bois")
    function["indexed"] = indexed(function, 2.0)
    function["ranges"] = [
        {"figure": "lv.edv_ml", "value": 18.0, "low": 80, "high": 175, "verdict": "below the range", "source": SOURCE},
        {"figure": "lv.edv_ml_per_m2", "low": 2, "high": 101, "verdict": "within the range", "source": SOURCE},
    ]
    function["findings"] = [{"kind": "gap", "sentence": "Slice 2 lacks the LV at ES.", "slice": 2, "phase": "ES"}]
    sixteen = [8.0 + i / 4 for i in range(16)]
    function["wall"] = {"ed_mm": sixteen, "es_mm": sixteen, "thickening_percent": sixteen, "mean_ed_mm": 9.9}
    function["wall"].update(max_ed_mm=11.8, method="Laplace")
    function["diagnosis"] = {"probabilities": {"NOR": 0.2, "DCM": 0.8}, "decided_by": ["The LV is large."], "note": ""}
    return function


@pytest.fixture
def bullseye(monkeypatch):
    """A stand-in for the bull's-eye pictures where the library has none."""
    try:
        import CardiacSegLib.report.bullseye  # noqa: F401
    except ImportError:
        module = types.ModuleType("CardiacSegLib.report.bullseye")
        module.bullseye_svg = lambda values, title, unit: (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 300 310"><text>{title} ({unit})</text></svg>'
        )
        monkeypatch.setitem(sys.modules, module.__name__, module)


class Page(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += f" {data}"

    def has(self, sentence: str) -> bool:
        return sentence in " ".join(self.text.split())


def report(path: Path, study: CineStudy | None = None, labels=LABELS, **parts) -> tuple[str, Page]:
    study = study or study_of()
    function = parts.pop("function", None) or measure_labels(study, labels, model="fast", notes=parts.pop("notes", ()))
    write_reading_report(path, study, labels, function, **parts)
    text = path.read_text(encoding="utf-8")
    return text, Page(text)


def test_page_holds_figures_doubts_provenance_and_disclaimer(tmp_path: Path) -> None:
    function = measure_labels(study_of(), LABELS, model="fast", notes=["Slice 3 was dark."])
    _, page = report(
        tmp_path / "sub" / "reading.html",
        function=function,
        indexed=indexed(function, 2.0),
        corrected={"ED": {Label.LV}, "ES": set()},
        provenance={"device": "cpu", "frames": [1, 3], "model": "fast", "absent": None},
    )
    edv = function["lv"]["edv_ml"]
    assert page.has(f"End-diastolic volume {edv:.1f} mL {edv / 2:.1f} mL/m² by hand End-systolic")
    assert page.has(f"End-diastolic volume {function['rv']['edv_ml']:.1f} mL")
    assert page.has(f"Mass at end diastole {function['lv']['mass_g']:.1f} g")
    for said in (
        "Slice 3 was dark.",
        DISCLAIMER,
        "diastole : frame 1",
        "Device : cpu",
        "Frames : 1, 3",
        "Model : fast",
    ):
        assert page.has(said.replace(" :", "")), said
    assert page.has("Corrected by hand LV at ED") and not page.has("None") and not page.has("Absent")


def test_page_holds_everything_that_function_json_knows(tmp_path: Path, bullseye) -> None:
    _, page = report(tmp_path / "reading.html", function=whole_function())
    for said in (
        "80\N{EN DASH}175: below the range",
        "2\N{EN DASH}101/m²: within",
        "Cardiac output 1.2 L/min",
        "Peak ejection rate 412 mL/s 412 mL/s",
        "Time to peak filling 170 ms",
        "Slice 2 lacks the LV at ES.",
        "2 finding",
        "Mean thickness at ED 9.9 mm",
        "Wall thickness at ES",
        "Volume (mL)",
        "DCM 80 %, NOR 20 %.",
        "The LV is large.",
        "research only",
        "Sex F",
        "Age 63 years",
        "Body surface 2.00 m²",
        f"Source of the ranges: {SOURCE}",
        "1.05 g/mL",
        "Nothing is interpolated at the base",
        "Papillary muscles",
        "Du Bois",
        "16 segments of the AHA",
        "Laplace",
        "Steepest fall of the smoothed volume curve",
    ):
        assert page.has(said), said
    assert page.text.count("Slice 3 was dark.") == 1


@pytest.mark.parametrize(
    "part", ["cycle", "patient", "indexed", "ranges", "findings", "wall", "diagnosis", "warnings", "model", "version"]
)
def test_whatever_function_json_lacks_is_left_out_without_a_gap(part: str, tmp_path: Path, bullseye) -> None:
    function = whole_function()
    del function[part]
    _, page = report(tmp_path / "reading.html", function=function)
    assert page.has("End-diastolic volume") and not page.has("None")
    shown = {"cycle": "Peak ejection", "wall": "Wall of the", "diagnosis": "DCM", "ranges": "below the range"}
    assert part not in shown or not page.has(shown[part])


def test_pictures_are_inside_and_show_both_phases_with_vector_contours(tmp_path: Path) -> None:
    from PIL import Image

    text, page = report(tmp_path / "reading.html")
    images = [attributes for tag, attributes in page.tags if tag == "image"]
    assert len(images) == 2 * GEOMETRY.shape[0]
    kind, data = images[0]["href"].split(",", 1)
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    assert kind == "data:image/png;base64" and picture.format == "PNG"
    assert page.has("End diastole: frame 1") and page.has("End systole: frame 3")
    strokes = {a["stroke"]: a.get("stroke-dasharray") for tag, a in page.tags if tag == "path"}
    colours = {"#D55E00", "#56B4E9", "#E6C200"}
    assert colours <= set(strokes) and len({strokes[c] for c in colours}) == 3  # told apart without colour


def test_contours_lie_on_the_edge_of_the_mask(tmp_path: Path) -> None:
    _, page = report(tmp_path / "reading.html")
    tile = next(a for tag, a in page.tags if tag == "image")
    path = next(a["d"] for tag, a in page.tags if tag == "path" and a["stroke"] == "#D55E00" and a["d"].endswith("Z"))
    points = np.array([[float(v) for v in pair.split(",")] for pair in path.strip("MZ").split()])
    width = np.ptp(points[:, 0]) / float(tile["width"])
    # the view holds all 60 columns; the LV is 20 of them wide, its corners rounded
    assert width == pytest.approx(20 / 60, abs=0.01)
    assert points[:, 0].min() / float(tile["width"]) == pytest.approx(14 / 60, abs=0.01)


def test_without_images_contours_are_drawn_alone_and_the_page_says_so(tmp_path: Path) -> None:
    _, page = report(tmp_path / "reading.html", images=False)
    assert not [a for tag, a in page.tags if tag == "image"] and page.has("the images were not given")
    assert [a for tag, a in page.tags if tag == "path"]


def test_page_needs_no_other_file_and_runs_nothing(tmp_path: Path, bullseye) -> None:
    text, page = report(tmp_path / "reading.html", function=whole_function())
    assert not {"script", "link", "iframe", "object", "a", "base", "form", "img"} & {tag for tag, _ in page.tags}
    assert not re.search(r"https?:|//[a-z]|url\(|@import|\son[a-z]+=", re.sub(r"base64,[^\"]+", "", text))
    (policy,) = [a["content"] for tag, a in page.tags if tag == "meta" and "http-equiv" in a]
    assert "default-src 'none'" in policy
    assert list(tmp_path.iterdir()) == [tmp_path / "reading.html"]


def hostile(value):
    """The same with every text replaced by a hostile one."""
    if isinstance(value, dict):
        return {k: hostile(v) for k, v in value.items()}
    if isinstance(value, list):
        return [hostile(v) for v in value]
    return HOSTILE if isinstance(value, str) else value


def test_every_text_from_outside_is_escaped(tmp_path: Path, bullseye) -> None:
    function = hostile(whole_function())
    function["diagnosis"]["probabilities"] = {HOSTILE: 1.0}
    for entry, figure in zip(function["ranges"], ("lv.edv_ml", "lv.esv_ml")):
        entry["figure"] = figure
    text, page = report(
        tmp_path / "reading.html",
        study_of(name=HOSTILE),
        function=function,
        provenance={HOSTILE: HOSTILE, "device": HOSTILE, "frames": [HOSTILE]},
        identity={"Patient": HOSTILE, HOSTILE: HOSTILE},
    )
    assert "<script" not in text.lower() and "script" not in {tag for tag, _ in page.tags}
    assert not [a for _, a in page.tags if any(k.startswith("on") for k in a)]
    assert page.text.count("alert('x')") >= 14  # told, as text


@pytest.mark.parametrize("wrong", [[], {}, "text", 5, None, {"lv": 3}, [{"figure": None}], [None]])
@pytest.mark.parametrize("key", ["cycle", "patient", "indexed", "ranges", "findings", "wall", "diagnosis"])
def test_a_key_of_another_kind_is_left_out(key: str, wrong, tmp_path: Path) -> None:
    function = measure_labels(study_of(), LABELS, model="fast")
    function[key] = wrong
    _, page = report(tmp_path / "reading.html", function=function)
    assert page.has("End-diastolic volume")


def test_nothing_that_names_the_patient_is_written_unasked(tmp_path: Path) -> None:
    patient = Patient(182.0, 84.5, "M", 63.0, 71.0, "DCM")
    study = study_of(patient=patient, source="/data/someone/visit.nii.gz", name="someone")
    text, page = report(tmp_path / "reading.html", study)
    assert page.has("Height 182 cm") and page.has("Weight 84.5 kg")
    assert page.has("Sex M") and page.has("Age 63 years")  # which ranges depend on, and which name nobody
    assert "someone" not in text and not page.has("DCM")
    assert page.has("Name: Number: Date of study:")  # lines to be filled in by hand
    _, page = report(tmp_path / "reading.html", study, identity={"Patient": "Someone, Else", "Number": "17"})
    assert page.has("Patient: Someone, Else Number: 17") and not page.has("Name:")


def test_figures_that_are_not_known_are_left_out(tmp_path: Path) -> None:
    _, page = report(tmp_path / "reading.html", labels={0: LABELS[0]})
    assert page.has("End-diastolic volume") and not page.has("End-systolic volume")
    nothing = LabelMap(np.zeros(GEOMETRY.shape, np.uint8), GEOMETRY)
    _, page = report(tmp_path / "reading.html", labels={0: nothing, 2: nothing})
    assert page.has("No structure was found.")


def test_every_figure_has_a_row_and_those_of_a_corrected_mask_are_marked() -> None:
    function = whole_function()
    rows = {row.figure.name: row for row in figure_rows(function, corrected={"ES": {Label.LV}})}
    known = {"lv.volume_ml", "rv.volume_ml", "myo.volume_ml"} | {f"wall.{k}" for k in ("mean_es_mm", "max_es_mm")}
    assert set(rows) == {f.name for f in ALL_FIGURES} - known
    by_hand = {name for name, row in rows.items() if row.corrected}
    assert {"lv.esv_ml", "lv.ef_percent", "cycle.lv.peak_filling_rate_ml_per_s"} <= by_hand
    assert not {"lv.edv_ml", "rv.esv_ml", "myo.es_ml", "wall.mean_ed_mm"} & by_hand


def test_what_cannot_be_written_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CardiacSegError, match="cannot be written"):
        report(tmp_path / "file" / "reading.html")
    other = LabelMap(LABELS[0].data, Geometry(GEOMETRY.shape, (5.0, 1.5, 1.5)))
    function = measure_labels(study_of(), LABELS, model=None)
    with pytest.raises(StudyError, match="grid"):
        write_reading_report(tmp_path / "reading.html", study_of(), {0: other}, function)


@pytest.mark.skipif(browser() is None, reason="Chromium, which prints the page, is not installed")
@pytest.mark.parametrize("doubts", [1, 40])
def test_it_prints_on_two_pages_with_eighteen_slices_and_forty_warnings(doubts: int, tmp_path: Path, bullseye) -> None:
    geometry = Geometry((18, 64, 60), (6.0, 1.5, 1.5))
    study, labels = study_of(geometry), {0: labels_of(20, geometry), 2: labels_of(12, geometry)}
    function = whole_function(labels, study)
    function["warnings"] = [
        f"The right ventricle touches the image edge at ES in slice {i}: part of it may be cut off."
        for i in range(doubts)
    ]
    page = tmp_path / "reading.html"
    write_reading_report(page, study, labels, function, identity={"Patient": "Long" * 60, "Number": "1" * 200})
    assert print_page(page, tmp_path / "reading.pdf") == 2
