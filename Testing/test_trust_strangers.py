"""Strangers: what comes from outside cannot run, read or write elsewhere, or tell who the patient is."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from CardiacSegLib.errors import ModelError
from CardiacSegLib.models import load_model
from CardiacSegLib.writers import write_cine
from trust.cases import SECRETS, phantom, plain, quick_model, study
from trust.cases_dicom import series
from trust.cases_folders import patient
from trust.inputs import check_messages, command_line, everything

# ------------------------------------------------------------------------------------------------------------ names


def below(folder: Path) -> str:
    """All names and all texts below a folder."""
    texts = [str(p.relative_to(folder)) for p in folder.rglob("*")]
    written = [p for p in folder.rglob("*") if p.is_file() and p.suffix not in (".gz", ".png")]
    texts += [p.read_text(encoding="utf-8") for p in written]
    return "\n".join(texts)


@pytest.fixture
def named(tmp_path) -> Path:
    """A root with three studies, each under a name that must not be told: DICOM, patient folder, 4D file."""
    root = tmp_path / "Archive of DOE"
    root.mkdir()
    series(root, "DOE JANE 1951")
    patient(root, name="DOE_JOHN")
    write_cine(root / "O'Doe, Jim.nii.gz", study())
    (root / "Broken Doe.nii.gz").write_bytes(b"no image")
    return root


def test_anonymous_batches_name_no_input_in_files_figures_messages_and_lines(named, tmp_path):
    run = ("batch", named, "--output", tmp_path / "out", "--model", quick_model(tmp_path), "--picture", "--anonymous")
    code, out, err = command_line(*run, "--progress", "json")
    assert code == 1  # the broken one
    names = sorted(p.name for p in (tmp_path / "out").iterdir() if p.is_dir())
    assert names == ["study-002", "study-003", "study-004"]
    assert (tmp_path / "out" / "study-003" / "study-003_frame01_seg.nii.gz").is_file()
    told = (out + err + below(tmp_path / "out")).lower()
    for secret in ("doe", "jane", "jim", "john", "archive", *SECRETS):
        assert secret.lower() not in told, secret
    assert "study-001" in out and "cannot be read" in out
    code, out, _ = command_line(*run)
    assert code == 1 and "3 skipped" in out and "doe" not in out.lower()


def test_numbers_mean_the_same_studies_or_the_batch_stops(named, tmp_path):
    run = ("batch", named, "--output", tmp_path / "out", "--model", quick_model(tmp_path), "--anonymous")
    command_line(*run)
    plain(named, "Added Doe.nii.gz")
    code, _, err = command_line(*run)
    assert code == 1 and "no longer mean the same" in err


def test_an_anonymous_study_is_number_one_whatever_it_is(named, tmp_path):
    model = quick_model(tmp_path)
    files = {}
    for kind, given in (
        ("dicom", [named / "DOE JANE 1951"]),
        ("folder", [named / "DOE_JOHN"]),
        ("file", [named / "O'Doe, Jim.nii.gz"]),
        ("pair", [named / "DOE_JOHN" / f"DOE_JOHN_frame0{n}.nii.gz" for n in (1, 2)]),
    ):
        out = tmp_path / kind
        code, said, err = command_line("segment", *given, "--output", out, "--model", model, "--anonymous")
        assert code == 0, err
        assert "doe" not in (said + err + below(out)).lower().replace(str(tmp_path).lower(), "")
        files[kind] = sorted(p.name for p in out.glob("*_seg.nii.gz"))
    assert files["pair"] == ["study-001_ED_seg.nii.gz", "study-001_ES_seg.nii.gz"]
    assert all(
        f == ["study-001_frame01_seg.nii.gz", "study-001_frame02_seg.nii.gz"] for k, f in files.items() if k != "pair"
    )


@pytest.mark.parametrize("given", ["DOE JANE 1951/IM_0001.dcm", "DOE JANE absent", "DOE_JOHN", "Broken Doe.nii.gz"])
def test_messages_of_an_anonymous_study_do_not_name_it(named, tmp_path, given):
    (named / "DOE_JOHN" / "Info.cfg").write_text("ED: 9\nES: 2\nName: Doe\n")
    code, out, err = command_line("segment", named / given, "--output", tmp_path / "out", "--anonymous")
    assert code == 1 and "study-001" in err
    assert "doe" not in (out + err).lower()


@pytest.mark.parametrize("what", ["segment", "batch", "info"])
def test_nothing_of_a_header_is_told(tmp_path, what):
    root = tmp_path / "in"
    root.mkdir()
    given = [series(root), patient(root)]
    options = ("--output", tmp_path / "out", "--model", quick_model(tmp_path), "--picture")
    for number, path in enumerate(given):
        if what == "info":
            code, out, err = command_line("info", path)
        elif what == "segment":
            code, out, err = command_line("segment", path, *options[:1], tmp_path / "out" / str(number), *options[2:])
        else:
            code, out, err = command_line("batch", root, *options)
        assert code == 0, err
        check_messages(out + err)
    if what != "info":
        told = below(tmp_path / "out")
        assert not [secret for secret in SECRETS if secret in told]


def test_a_report_tells_neither_header_nor_script(tmp_path):
    from CardiacSegLib.readers import read_study
    from CardiacSegLib.report.reading import write_reading_report
    from CardiacSegLib.workflow import measure_labels

    evil = "</title><script>alert(1)</script><img src=x onerror=alert(1)>\"'"
    read = read_study(series(tmp_path)).with_phases(0, 1)
    read = replace(read, name=evil).with_warnings(evil)
    labels = {i: replace(m, geometry=read.geometry) for i, m in enumerate(phantom().labels)}
    function = measure_labels(read, labels, model=evil)
    write_reading_report(tmp_path / "r.html", read, labels, function, provenance={evil: evil, "device": evil})
    text = (tmp_path / "r.html").read_text()
    assert (
        "<script" not in text and "<img src=x" not in text and "onerror" not in text.replace("onerror=alert(1)&gt;", "")
    )
    assert "default-src 'none'" in text and "://" not in text
    assert not [secret for secret in SECRETS if secret in text]


def test_trained_models_and_logs_tell_nothing_of_info_cfg(tmp_path):
    from trust.kills import _patients, _train

    _patients(tmp_path)
    for folder in (tmp_path / "patients").iterdir():
        with open(folder / "Info.cfg", "a") as stream:
            stream.write("Group: SECRETWORD\nName: HIDDENNAME\n")
    _train(tmp_path)
    told = b"".join(p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file())
    assert not [secret for secret in SECRETS if secret.encode() in told]


# ---------------------------------------------------------------------------------------------------------- network


def test_nothing_asks_the_network(tmp_path, monkeypatch):
    def asked(*arguments, **_):
        raise AssertionError(f"asks the network: {arguments}")

    for name in ("connect", "connect_ex", "sendto", "bind"):
        monkeypatch.setattr(socket.socket, name, asked)
    for name in ("getaddrinfo", "gethostbyname", "create_connection"):
        monkeypatch.setattr(socket, name, asked)
    from trust.kills import _patients, _train

    _patients(tmp_path)
    root, model = tmp_path / "patients", quick_model(tmp_path)
    assert command_line("info")[0] == 0
    assert command_line("info", "fast")[0] == 0
    assert command_line("batch", root, "--output", tmp_path / "out", "--model", model, "--picture")[0] == 0
    assert command_line("evaluate", tmp_path / "out", root, "--plots", tmp_path / "plots")[0] == 0
    _train(tmp_path)


# ------------------------------------------------------------------------------------------------------ model files


def file_of(path: Path, header: object = None, weights: object = None, **changes: object) -> Path:
    """A model file with some of its recipe changed: ``network__features=…`` and so on."""
    made = torch.load(quick_model(path.parent), weights_only=True)
    content = json.loads(made["header"])
    for key, value in changes.items():
        place = content
        *way, last = key.split("__")
        for part in way:
            place = place[part]
        place[last] = value
    torch.save(
        {
            "header": json.dumps(content) if header is None else header,
            "weights": made["weights"] if weights is None else weights,
        },
        path,
    )
    return path


HOSTILE = {
    "a wide network": {"preset__network__features": [10**9, 10**9]},
    "a deep network": {"preset__network__features": [4] * 5000},
    "features of text": {"preset__network__features": ["4", "8"]},
    "features of fractions": {"preset__network__features": [4.5, 8.0]},
    "a nested network": {"preset__network": [[[]]]},
    "no network": {"preset__network": None},
    "many classes": {"preset__network__classes": 10**6},
    "many convolutions": {"preset__network__convs": 10**6},
    "an endless field": {"preset__preprocessing__min_size": 10**7},
    "tiny pixels": {"preset__preprocessing__pixel_mm": 1e-9},
    "pixels of nothing": {"preset__preprocessing__pixel_mm": 0},
    "negative pixels": {"preset__preprocessing__pixel_mm": -1.5},
    "pixels of text": {"preset__preprocessing__pixel_mm": "1.5"},
    "tiny pixels to read": {"preset__preprocessing__read_pixel_mm": 1e-9},
    "pixels to read of text": {"preset__preprocessing__read_pixel_mm": "1.3"},
    "pixels to read of nothing": {"preset__preprocessing__read_pixel_mm": 0},
    "thin slices": {"preset__preprocessing__slice_mm": 1e-9},
    "one percentile": {"preset__preprocessing__percentiles": [1.0]},
    "exchanged percentiles": {"preset__preprocessing__percentiles": [99.0, 1.0]},
    "a field that cannot be pooled": {"preset__preprocessing__min_size": 50},
    "an unknown option": {"preset__preprocessing__clahe2": True},
    "facts that are a list": {"facts": [1, 2]},
    "a preset that is a list": {"preset": [1, 2]},
    "other labels": {"labels": {"LV": 1}},
    "a version of text": {"version": "new"},
    "an endless version": {"version": 10**400},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_absurd_recipes_are_refused_before_anything_is_built(name, tmp_path):
    with pytest.raises(ModelError):
        load_model(file_of(tmp_path / "evil.pt", **HOSTILE[name]))


def with_nan(weights: dict) -> dict:
    key = next(iter(weights))
    return {**weights, key: torch.full_like(weights[key], float("nan"))}


@pytest.mark.parametrize(
    ("header", "weights", "words"),
    [
        (None, {"w": torch.zeros(1).expand(10**12)}, "more weights"),
        (None, [1, 2], "no weights"),
        (None, {"w": "text"}, "no weights"),
        ("[" * 100_000, None, "another program"),
        ("null", None, "another program"),
        (b"{}", None, "another program"),
        (7, None, "another program"),
        (None, {"w": torch.full((3,), float("nan"))}, "no numbers"),
        (None, {"w": torch.zeros(3)}, "do not fit"),
    ],
)
def test_strange_contents_are_refused_in_words(header, weights, words, tmp_path):
    path = file_of(tmp_path / "evil.pt", header, weights)
    with pytest.raises(ModelError, match=words):
        load_model(path).build()


def test_a_small_model_file_that_unpacks_to_gigabytes_is_refused(tmp_path, monkeypatch):
    import zipfile

    monkeypatch.setattr("CardiacSegLib.models._MOST_WEIGHTS", 2**20)
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data/0", bytes(9 * 2**20))
    assert (tmp_path / "bomb.pt").stat().st_size < 100_000
    with pytest.raises(ModelError, match="GiB"):
        load_model(tmp_path / "bomb.pt")


def test_a_model_card_cannot_command_the_terminal(tmp_path):
    path = file_of(tmp_path / "evil.pt", card="\x1b]0;owned\x07\x1b[2J", facts={"\x1b[31mred": "\x1b[2J"},
                   preset__summary="\x1b[2J")  # fmt: skip
    code, out, err = command_line("info", path)
    assert code == 0 and "\x1b" not in out + err and "\x07" not in out


def test_a_model_is_never_read_from_elsewhere_than_its_file(tmp_path, monkeypatch):
    path = file_of(tmp_path / "evil.pt", facts={"path": "/etc/passwd"}, preset__name="../../../etc/passwd")
    before = everything(tmp_path)
    opened = []
    real = os.open
    monkeypatch.setattr(
        os, "open", lambda file, *rest, **more: (opened.append(str(file)), real(file, *rest, **more))[1]
    )
    assert load_model(path).preset.name == "../../../etc/passwd"
    assert not [file for file in opened if "passwd" in file] and everything(tmp_path) == before


# --------------------------------------------------------------------------------------------------- nothing outside


def test_links_and_names_in_the_input_write_nothing_outside_of_the_output(tmp_path):
    root, outside = tmp_path / "in", tmp_path / "outside"
    outside.mkdir()
    plain(root, "...nii.gz")
    plain(root / "a", "..b.nii.gz")
    (root / "link").symlink_to(outside)
    plain(outside, "linked.nii.gz")
    before = everything(outside), everything(root)
    code, out, err = command_line("batch", root, "--output", tmp_path / "out", "--model", quick_model(tmp_path))
    assert code == 0, out + err
    assert (everything(outside), everything(root)) == before
    assert (tmp_path / "out" / "link" / "linked" / "function.json").is_file()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in", "out", "outside", "quick.pt"]
