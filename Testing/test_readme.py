"""What the README shows is true: its Python runs, its commands are commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from CardiacSegLib.cli import build_parser

REPOSITORY = Path(__file__).resolve().parents[1]
TEXT = (REPOSITORY / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", TEXT, re.DOTALL)


def test_the_python_example_gives_a_plausible_ejection_fraction(acdc_root, tmp_path, monkeypatch, capsys):
    (tmp_path / "patient001").symlink_to(acdc_root / "patient001", target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    (code,) = [body for kind, body in BLOCKS if kind == "python" and not re.search("slicer|dask", body)]
    exec(compile(code, "README.md", "exec"), {})
    assert 15 < float(capsys.readouterr().out) < 35  # by the manual masks: 24 %


def commands() -> list[str]:
    lines = [line.split("#")[0].strip() for _, body in BLOCKS for line in body.splitlines()]
    return [line for line in lines if line.startswith("cardiacseg ")]


@pytest.mark.parametrize("command", commands())
def test_every_command_line_shown_is_understood(command):
    build_parser().parse_args(shlex.split(command)[1:])


def test_every_file_and_picture_that_is_named_is_there():
    named = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", TEXT)
    named += ["Resources/Models/LICENSE", "CITATION.cff", "CONTRIBUTING.md"]
    for name in named:
        assert (REPOSITORY / name).is_file(), name
        assert name in TEXT
