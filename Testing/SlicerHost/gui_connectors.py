"""Which widgets a parameter node can be bound to: those of Slicer 5.8, by exact type, with their conditions."""

from __future__ import annotations

import enum
import typing
from collections.abc import Callable

import slicer

from . import parameter_types as types
from .ctk import ctk
from .qt import qt, relay


class Connector:
    """Between one widget and one parameter."""

    signal = ""

    def __init__(self, widget, kind) -> None:
        self.widget, self.kind = widget, types.unannotated(kind)
        self.annotations = types.annotationsOf(kind)
        self.slot: Callable[[], None] | None = None
        self.prepare()

    def annotation(self, kind: type):
        return next((a for a in self.annotations if isinstance(a, kind)), None)

    def prepare(self) -> None:
        """What binding does to the widget."""

    def connect(self, callback: Callable[[], None]) -> None:
        self.slot = relay(callback)
        getattr(self.widget, self.signal).connect(self.slot)

    def disconnect(self) -> None:
        getattr(self.widget, self.signal).disconnect(self.slot)

    def read(self):
        raise NotImplementedError

    def write(self, value) -> None:
        raise NotImplementedError


class CheckBox(Connector):
    signal = "stateChanged"

    def read(self) -> bool:
        return self.widget.checked

    def write(self, value) -> None:
        self.widget.checked = value


class PushButton(CheckBox):
    signal = "toggled"

    def prepare(self) -> None:
        self.widget.checkable = True


class Number(Connector):
    """Without annotations the range in the .ui file is replaced by all numbers, as Slicer does it."""

    signal = "valueChanged"

    def prepare(self) -> None:
        for kind, name in ((types.Decimals, "decimals"), (types.SingleStep, "singleStep")):
            if self.annotation(kind) is not None:
                setattr(self.widget, name, self.annotation(kind).value)
        within = self.annotation(types.WithinRange)
        low, high = self.annotation(types.Minimum), self.annotation(types.Maximum)
        if type(self.widget) in (qt.QSlider, ctk.ctkSliderWidget) and within is None and None in (low, high):
            raise RuntimeError(f"Cannot have a connection to {self.widget.className()} where the number is unbounded.")
        unbounded = 2.0**31 - 1 if self.kind is int else float("inf")
        least = within.minimum if within else low.minimum if low else -unbounded
        most = within.maximum if within else high.maximum if high else unbounded
        self.widget.minimum, self.widget.maximum = self.kind(least), self.kind(most)

    def read(self):
        return self.widget.value

    def write(self, value) -> None:
        self.widget.value = value


class ComboBox(Connector):
    """Fills the box with the choices itself."""

    signal = "currentIndexChanged"

    def prepare(self) -> None:
        if _isEnum(self.kind):
            label = getattr(self.kind, "label", lambda member: member.name)
            self.values = list(self.kind)
            texts = [label(member) for member in self.values]
        else:
            choice = self.annotation(types.Choice)
            if choice is None:
                raise RuntimeError("A QComboBox for a value needs the Choice annotation.")
            self.values = list(choice.choices)
            texts = [str(value) for value in self.values]
        self.widget.clear()
        for text in texts:
            self.widget.addItem(text)

    def read(self):
        return self.values[self.widget.currentIndex]

    def write(self, value) -> None:
        self.widget.currentIndex = self.values.index(value)


class LineEdit(Connector):
    signal = "textChanged"

    def read(self) -> str:
        return self.widget.text

    def write(self, value) -> None:
        self.widget.text = value


class TextEdit(Connector):
    signal = "textChanged"

    def read(self) -> str:
        return self.widget.toPlainText()

    def write(self, value) -> None:
        self.widget.setPlainText(value)


class PathEdit(Connector):
    signal, name = "currentPathChanged", "currentPath"

    def read(self):
        return self.kind(getattr(self.widget, self.name))

    def write(self, value) -> None:
        setattr(self.widget, self.name, str(value))


class Directory(PathEdit):
    signal, name = "directoryChanged", "directory"


class NodeBox(Connector):
    signal = "currentNodeChanged"

    def prepare(self) -> None:
        self.widget.nodeTypes = [kind().GetClassName() for kind in _nodeTypes(self.kind)]

    def read(self):
        return self.widget.currentNode()

    def write(self, value) -> None:
        self.widget.setCurrentNode(value)


def _nodeTypes(kind) -> list[type]:
    """Node classes of a node type or a Union of those and None; empty for anything else."""
    members = typing.get_args(kind) if typing.get_origin(kind) is typing.Union else (kind,)
    members = [types.unannotated(member) for member in members if member is not types.NoneType]
    known = all(isinstance(m, type) and issubclass(m, slicer.vtkMRMLNode) for m in members)
    return members if known else []


def _isEnum(kind) -> bool:
    return isinstance(kind, type) and issubclass(kind, enum.Enum)


def connectorFor(widget, kind) -> Connector:
    """The connector of a widget for a possibly annotated type.

    Raises:
        RuntimeError: Slicer has none for that pair, or not under these conditions.
    """
    bare, widgetType = types.unannotated(kind), type(widget)
    byType = {
        qt.QCheckBox: (CheckBox, bare is bool),
        qt.QPushButton: (PushButton, bare is bool),
        qt.QSlider: (Number, bare is int),
        qt.QSpinBox: (Number, bare is int),
        qt.QDoubleSpinBox: (Number, bare is float),
        ctk.ctkSliderWidget: (Number, bare is float),
        qt.QComboBox: (ComboBox, bare in (int, float, str, bool) or _isEnum(bare)),
        qt.QLineEdit: (LineEdit, bare is str),
        qt.QTextEdit: (TextEdit, bare is str),
        ctk.ctkPathLineEdit: (PathEdit, bare in types.PATHS),
        ctk.ctkDirectoryButton: (Directory, bare in types.PATHS),
        slicer.qMRMLNodeComboBox: (NodeBox, bool(_nodeTypes(bare))),
    }
    connector, fits = byType.get(widgetType, (None, False))
    if not fits:
        raise RuntimeError(f"Unable to create GUI connector from datatype '{kind}' to widget type '{widgetType}'")
    return connector(widget, kind)
