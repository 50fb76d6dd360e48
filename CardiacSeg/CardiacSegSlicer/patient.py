"""What a loaded cine knows of its patient: kept on its node, or looked up in Slicer's DICOM database."""

from __future__ import annotations

from dataclasses import asdict, fields
from types import SimpleNamespace

import slicer

from CardiacSegLib.readers.dicom import patient_facts
from CardiacSegLib.study import Patient
from CardiacSegSlicer.sequences import framesOf, sequenceOf

_PREFIX = "CardiacSeg.Patient."
_WORDS = ("sex", "group")

#: Attribute of the library's DICOM headers → tag in the database. No name, number or date is asked for.
_NUMBERS = {
    "size_m": "0010,1020",
    "weight_kg": "0010,1030",
    "heart_rate_bpm": "0018,1088",
    "nominal_interval_ms": "0018,1062",
}
_TEXTS = {"sex": "0010,0040", "age": "0010,1010"}


def patientFacts(volumeNode) -> Patient:
    """Height, weight, sex, age and heart rate, each where it is known; never a name, number or date.

    Args:
        volumeNode: a sequence, its proxy, or a volume of its own.
    """
    sequence = sequenceOf(volumeNode)
    kept = _kept(volumeNode if sequence is None else sequence)
    if kept is not None:
        return kept
    frames = [volumeNode] if sequence is None else [*framesOf(sequence)[:1], volumeNode]
    uids = next((text.split() for text in (f.GetAttribute("DICOM.instanceUIDs") for f in frames) if text), [])
    return patient_facts(_headersInDatabase(uids))


def keepPatientFacts(node, patient: Patient) -> None:
    """Write what is known as attributes of a sequence, or of a volume of its own; saved with the scene."""
    for name, value in asdict(patient).items():
        if value is not None:
            node.SetAttribute(_PREFIX + name, value if isinstance(value, str) else repr(float(value)))


def _kept(node):
    facts = {}
    for name in (f.name for f in fields(Patient)):
        text = node.GetAttribute(_PREFIX + name)
        if text:
            facts[name] = text if name in _WORDS else _number(text)
    return Patient(**facts) if facts else None


def _headersInDatabase(uids) -> list:
    """What Slicer's DICOM database has of some images; empty where there is no database or it knows none."""
    database = getattr(slicer, "dicomDatabase", None)
    if database is None:
        return []
    files = [file for file in (database.fileForInstance(uid) for uid in uids) if file]
    return [
        SimpleNamespace(
            **{name: _number(database.fileValue(file, tag)) for name, tag in _NUMBERS.items()},
            **{name: (database.fileValue(file, tag) or "").strip().upper() for name, tag in _TEXTS.items()},
        )
        for file in files
    ]


def _number(text):
    try:
        return float(text)
    except (TypeError, ValueError):
        return None
