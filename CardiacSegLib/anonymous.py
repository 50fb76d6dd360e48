"""A study without the name that the user gave it: ``study-001`` in files, figures, messages and reports."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from CardiacSegLib.errors import CardiacSegError
from CardiacSegLib.readers.find import FoundStudy
from CardiacSegLib.readers.images import stem_of
from CardiacSegLib.study import CineStudy
from CardiacSegLib.writers import write_json

NUMBERS_FILE = ".anonymous.json"
_MOST_FILES = 100_000


def anonymous_name(number: int) -> str:
    """``study-001`` for 1."""
    return f"study-{number:03d}"


def anonymous_name_in(output: Path) -> str:
    """The name of a study whose results go into a folder: the folder's own where it is a number's, else the first."""
    return output.name if re.fullmatch(r"study-[0-9]{3,}", output.name) else anonymous_name(1)


def anonymous_study(study: CineStudy, name: str, paths: Sequence[Path]) -> CineStudy:
    """The study under another name; what was said of it names neither its paths nor files in them."""
    said = tuple(without_names(sentence, name, [*paths, Path(study.name)]) for sentence in study.warnings)
    return replace(study, name=name, source=name, warnings=said)


def without_names(sentence: str, name: str, paths: Iterable[Path]) -> str:
    """A sentence in which ``name`` stands for the paths, for files below them, and for their names without ending."""
    known: set[str] = set()
    for path in paths:
        known |= {str(path), str(path.absolute()), os.path.realpath(path)}
        quoted = {path.name, path.absolute().name, stem_of(path), *_below(path)}
        known |= {f"'{text}'" for text in quoted if text}
        # names without quotes: only such as cannot be part of a word or number
        known |= {text for text in quoted if len(text) > 3}
    for text in sorted(known - {".", "..", "/", ""}, key=len, reverse=True):
        if text.startswith("'"):
            sentence = sentence.replace(text, f"'{name}'")
        elif "/" in text or os.sep in text:
            sentence = re.sub(re.escape(text) + r"[^'\s]*", name, sentence)
        else:
            sentence = re.sub(rf"(?<!\w){re.escape(text)}(?!\w)", name, sentence)
    return sentence


def _below(path: Path) -> Iterable[str]:
    """Relative paths and names of files below a folder."""
    if not path.is_dir():
        return
    count = 0
    for root, _, names in os.walk(path):
        for file in names:
            count += 1
            if count > _MOST_FILES:
                return
            relative = Path(root, file).relative_to(path)
            yield from (str(relative), file, stem_of(Path(file)))


def numbered(studies: Sequence[FoundStudy], output: Path) -> list[FoundStudy]:
    """The studies with their number as the name of their results.

    Raises:
        CardiacSegError: in ``output`` the numbers mean other studies.
    """
    _keep_numbers(output, [str(s.results) for s in studies])
    return [replace(s, results=Path(anonymous_name(i))) for i, s in enumerate(studies, 1)]


def _keep_numbers(output: Path, studies: Sequence[str]) -> None:
    """Make sure that the numbers of studies mean in ``output`` what they meant before.

    The folder keeps the count and one check sum of all names together, from which no single name can be told.

    Raises:
        CardiacSegError: ``output`` holds anonymous results of other studies.
    """
    digest = hashlib.sha256("\0".join(studies).encode("utf-8", "surrogateescape")).hexdigest()
    now, file = {"studies": len(studies), "sha256": digest}, output / NUMBERS_FILE
    try:
        before = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        write_json(file, now)
        return
    except (OSError, ValueError) as error:
        raise CardiacSegError(f"'{file}' cannot be read. Give another output folder.") from error
    if before != now:
        raise CardiacSegError(
            f"'{output}' holds anonymous results of other studies, or studies came or went since: the numbers would no "
            "longer mean the same. Give another output folder."
        )
