""".ui files: every widget in its PythonQt-like class, unknown classes refused, connections made as listed."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from PySide6 import QtCore, QtGui, QtUiTools, QtWidgets

from . import ctk, qmrml, segment_editor
from .qt import Loading, _signalOf, relay, strict, wrapped

OWN = {widget.__name__: widget for widget in (*ctk.WIDGETS, *qmrml.WIDGETS, segment_editor.qMRMLSegmentEditorWidget)}


def hostProperty(kind: type, name: str) -> bool:
    """Whether a property is one of the host's own, which Qt's loader cannot set."""
    return any(isinstance(vars(c).get(name), property) and c.__module__ != "qt" for c in kind.__mro__)


def _value(element: ElementTree.Element, kind: type):
    """A value of a .ui file as Python's."""
    child = element[0]
    text = (child.text or "").strip()
    if child.tag == "bool":
        return text == "true"
    if child.tag == "number":
        return int(text)
    if child.tag == "double":
        return float(text)
    if child.tag == "stringlist":
        return [entry.text or "" for entry in child]
    if child.tag in ("enum", "set"):
        total = 0
        for part in text.split("|"):
            member = getattr(kind, part.split("::")[-1], 0)
            total |= member if isinstance(member, int) else 0
        return total
    return child.text or ""


class _Loader(QtUiTools.QUiLoader):
    """Qt's loader, asked for the host's classes."""

    def __init__(self) -> None:
        super().__init__()
        self.unknown: list[str] = []

    def createWidget(self, className: str, parent=None, name: str = ""):
        kind = OWN.get(className)
        if kind is None and hasattr(QtWidgets, className):
            kind = strict(getattr(QtWidgets, className))
        if className == "Line":
            kind = strict(QtWidgets.QFrame)
        if kind is None:
            self.unknown.append(className)
            return super().createWidget("QWidget", parent, name)
        widget = kind(parent) if parent is not None else kind()
        widget.setObjectName(name)
        if parent is not None and isinstance(parent, (QtWidgets.QTabWidget, QtWidgets.QStackedWidget)):
            widget.setParent(parent)
        return widget

    def createLayout(self, className: str, parent=None, name: str = ""):
        layout = strict(getattr(QtWidgets, className))(*([parent] if isinstance(parent, QtWidgets.QWidget) else []))
        layout.setObjectName(name)
        return layout

    def createAction(self, parent=None, name: str = ""):
        action = strict(QtGui.QAction)(parent)
        action.setObjectName(name)
        return action


@wrapped
class QUiLoader(strict(QtCore.QObject)):
    """``qt.QUiLoader``: only ``load`` is used."""

    def load(self, device, parent=None):
        """The widget of a .ui file that is open.

        Raises:
            RuntimeError: a class that the host does not have, or a connection that cannot be made.
        """
        root = ElementTree.fromstring(bytes(device.readAll().data()))
        own = _takeOwnProperties(root)
        connections = root.find("connections")
        listed = [] if connections is None else [{part.tag: part.text for part in c} for c in connections]
        if connections is not None:
            root.remove(connections)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(root, encoding="utf-8"))
        buffer.open(QtCore.QIODevice.OpenModeFlag.ReadOnly)
        loader = _Loader()
        Loading.now = True
        try:
            widget = loader.load(buffer, parent)
        finally:
            Loading.now = False
        if loader.unknown:
            raise RuntimeError(f"The host has no widget {', '.join(sorted(set(loader.unknown)))}")
        if widget is None:
            return None
        byName = {child.objectName: child for child in (widget, *widget.findChildren(QtCore.QObject)) if _named(child)}
        for name, properties in own.items():
            for key, value in properties.items():
                setattr(byName[name], key, value)
        for connection in listed:
            _wire(connection, byName)
        return widget


def _named(child) -> bool:
    return isinstance(getattr(child, "objectName", None), str) and bool(child.objectName)


def _takeOwnProperties(root: ElementTree.Element) -> dict[str, dict]:
    """Properties of the host's classes, by the name of the widget; they leave the tree."""
    taken: dict[str, dict] = {}
    for element in root.iter("widget"):
        kind = OWN.get(element.get("class", ""))
        if kind is None:
            continue
        for entry in list(element.findall("property")):
            name = entry.get("name", "")
            if entry.get("stdset") != "0" and hostProperty(kind, name):
                element.remove(entry)
                taken.setdefault(element.get("name", ""), {})[name] = _value(entry, kind)
    return taken


def _wire(connection: dict, byName: dict) -> None:
    """One <connection>; Slicer would only log one that it cannot make."""
    said = "{sender}.{signal} → {receiver}.{slot}".format(**connection)
    sender, receiver = byName.get(connection["sender"]), byName.get(connection["receiver"])
    if sender is None or receiver is None:
        raise RuntimeError(f"The .ui file connects a widget that it does not have: {said}")
    slot = getattr(receiver, connection["slot"].split("(")[0], None)
    signal = _signalOf(sender, connection["signal"])
    if signal is None or not callable(slot):
        raise RuntimeError(f"The .ui file lists a connection that cannot be made: {said}")
    if isinstance(signal, str):
        QtCore.QObject.connect(sender, f"2{signal}", relay(slot))
    else:
        signal.connect(relay(slot))
