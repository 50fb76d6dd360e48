"""The page of one reading: complete in itself, escaped, and saying what it must."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from CardiacSegLib import DISCLAIMER
from CardiacSegLib.errors import CardiacSegError, StudyError
from CardiacSegLib.function.body import indexed
from CardiacSegLib.report.reading import write_reading_report
from CardiacSegLib.study import CineStudy, Geometry, Label, LabelMap, Patient
from CardiacSegLib.workflow import measure_labels

GEOMETRY = Geometry((3, 64, 60), (10.0, 1.5, 1.5))
HOSTILE = "<script>alert('x')</script>&\"name\""


def labels_of(size: int) -> LabelMap:
    data = np.zeros(GEOMETRY.shape, np.uint8)
    data[:2, 16:44, 10:38] = Label.MYO
    data[:2, 20 : 20 + size, 14 : 14 + size] = Label.LV
    data[:2, 20:36, 40:52] = Label.RV
    return LabelMap(data, GEOMETRY)


LABELS = {0: labels_of(20), 2: labels_of(12)}


def study_of(**facts) -> CineStudy:
    image = np.random.default_rng(0).integers(0, 200, (4, *GEOMETRY.shape)).astype(np.int16)
    return CineStudy(image, GEOMETRY, **{"name": "visit", "ed": 0, "es": 2, **facts})


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
        provenance={"device": "cpu", "frames": [1, 3], "model": "fast", "nothing": None},
    )
    edv = function["lv"]["edv_ml"]
    assert page.has(f"LV End-diastolic volume {edv:.1f} mL {edv / 2:.1f} mL/m² corrected by hand")
    assert page.has(f"RV End-diastolic volume {function['rv']['edv_ml']:.1f} mL")
    assert page.has(f"LV Mass at end diastole {function['lv']['mass_g']:.1f} g")
    for said in ("Slice 3 was dark.", DISCLAIMER, "End diastole frame 1", "Device cpu", "Frames 1, 3", "Model fast"):
        assert page.has(said), said
    assert page.has("Corrected by hand LV at ED") and not page.has("None") and not page.has("Nothing")


def test_pictures_are_inside_and_show_both_phases(tmp_path: Path) -> None:
    from PIL import Image

    _, page = report(tmp_path / "reading.html")
    (image,) = [attributes for tag, attributes in page.tags if tag == "img"]
    kind, data = image["src"].split(",", 1)
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    assert kind == "data:image/png;base64" and picture.format == "PNG" and image["alt"]
    assert picture.height > 300  # two rows of tiles
    colours = {tuple(c) for c in np.asarray(picture.convert("RGB")).reshape(-1, 3).tolist()}
    assert any(r > 150 and g < 130 and b < 60 for r, g, b in colours)  # the LV's vermilion


def test_page_needs_no_other_file_and_runs_nothing(tmp_path: Path) -> None:
    text, page = report(tmp_path / "reading.html")
    assert not {"script", "link", "iframe", "object", "a", "base", "form"} & {tag for tag, _ in page.tags}
    assert not re.search(r"https?:|//[a-z]|url\(|@import|\son[a-z]+=", re.sub(r"base64,[^\"]+", "", text))
    assert list(tmp_path.iterdir()) == [tmp_path / "reading.html"]


def test_every_text_from_outside_is_escaped(tmp_path: Path) -> None:
    text, page = report(
        tmp_path / "reading.html",
        study_of(name=HOSTILE),
        notes=[HOSTILE],
        provenance={HOSTILE: HOSTILE, "device": HOSTILE, "frames": [HOSTILE]},
    )
    assert "<script" not in text.lower() and "script" not in {tag for tag, _ in page.tags}
    assert page.text.count("alert('x')") >= 5  # told, as text


def test_nothing_of_the_patient_but_height_and_weight_is_written(tmp_path: Path) -> None:
    patient = Patient(182.0, 84.5, "M", 63.0, 71.0, "DCM")
    _, page = report(tmp_path / "reading.html", study_of(patient=patient, source="/data/someone/visit.nii.gz"))
    assert page.has("Height 182 cm") and page.has("Weight 84.5 kg")
    assert not page.has("someone") and not page.has("DCM") and not page.has("63")


def test_figures_that_are_not_known_are_left_out(tmp_path: Path) -> None:
    _, page = report(tmp_path / "reading.html", labels={0: LABELS[0]})
    assert page.has("End-diastolic volume") and not page.has("End-systolic volume")
    nothing = LabelMap(np.zeros(GEOMETRY.shape, np.uint8), GEOMETRY)
    _, page = report(tmp_path / "reading.html", labels={0: nothing, 2: nothing})
    assert page.has("No structure was found.")


def test_what_cannot_be_written_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CardiacSegError, match="cannot be written"):
        report(tmp_path / "file" / "reading.html")
    other = LabelMap(LABELS[0].data, Geometry(GEOMETRY.shape, (5.0, 1.5, 1.5)))
    function = measure_labels(study_of(), LABELS, model=None)
    with pytest.raises(StudyError, match="grid"):
        write_reading_report(tmp_path / "reading.html", study_of(), {0: other}, function)
