"""``slicer.parameterNodeWrapper``: a typed class over a vtkMRMLScriptedModuleNode, as Slicer documents it.

Only what Slicer 5.8 takes is taken: ``typing.Optional`` and no ``X | None``, no ctkSliderWidget for an int.
"""

from __future__ import annotations

import functools
import sys
import types
import typing
import weakref
from contextlib import suppress

import slicer
import vtk

from .parameter_types import (
    Choice,
    Decimals,
    Default,
    Exclude,
    IsInstance,
    Maximum,
    Minimum,
    NotNone,
    SingleStep,
    Validator,
    WithinRange,
    codecOf,
)


class Behaviour:
    """What differs between versions of Slicer.

    Up to Slicer 5.8 at least, ``connectGui`` returns None instead of a tag, so that ``disconnectGui`` leaves every
    widget connected; until 5.12 the observer of the node stays too.
    """

    connectGuiReturnsTag = True


class Parameter:
    """One annotated member of the class, as a descriptor."""

    def __init__(self, name: str, kind, owner: type) -> None:
        self.basename, self.unalteredType = name, kind
        self.serializer, others = codecOf(kind)
        default = next((a for a in others if isinstance(a, Default)), None)
        if hasattr(owner, name):
            default = Default(getattr(owner, name))
        self.default = default or Default(generator=self.serializer.default)

    def __get__(self, wrapper, owner=None):
        return self if wrapper is None else wrapper._values[self.basename]

    def __set__(self, wrapper, value) -> None:
        wrapper._write(self, value)


class _Wrapper:
    """What the decorator adds to a class."""

    _is_parameter_node_wrapper = True

    def __init__(self, parameterNode, prefix: str | None = None) -> None:
        self.parameterNode, self._prefix = parameterNode, prefix or ""
        self._values: dict = {}
        self._guis: dict[int, dict] = {}
        self._tags: dict[int, int] = {}
        self._updating = self._writing = False
        for parameter in self.allParameters.values():
            name = self._prefix + parameter.basename
            if not parameter.serializer.isIn(parameterNode, name):
                parameter.serializer.write(parameterNode, name, parameter.default.value)
        self._readAll()
        weak = weakref.ref(self)
        tag = parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: weak()._onModified())
        weakref.finalize(self, parameterNode.RemoveObserver, tag).atexit = False

    def _readAll(self) -> None:
        for parameter in self.allParameters.values():
            name = self._prefix + parameter.basename
            if not parameter.serializer.isIn(self.parameterNode, name):
                parameter.serializer.write(self.parameterNode, name, parameter.default.value)
            self._values[parameter.basename] = parameter.serializer.read(self.parameterNode, name)

    def _onModified(self) -> None:
        if not self._writing:
            self._readAll()

    def _write(self, parameter: Parameter, value) -> None:
        name = self._prefix + parameter.basename
        self._writing = True
        try:
            with slicer.util.NodeModify(self.parameterNode):
                parameter.serializer.write(self.parameterNode, name, value)
                self._values[parameter.basename] = parameter.serializer.read(self.parameterNode, name)
        finally:
            self._writing = False

    def _parameter(self, name: str) -> Parameter:
        if name not in self.allParameters:
            known = ", ".join(self.allParameters)
            raise ValueError(f"Cannot find a param with the given name: {name}; there are {known}")
        return self.allParameters[name]

    def getValue(self, name: str):
        return self._values[self._parameter(name).basename]

    def setValue(self, name: str, value) -> None:
        self._write(self._parameter(name), value)

    def default(self, name: str) -> Default:
        return self._parameter(name).default

    def isCached(self, name: str) -> bool:
        return bool(self._parameter(name))

    def dataType(self, name: str):
        return self._parameter(name).unalteredType

    def connectGui(self, gui) -> int | None:
        """Connects every widget of ``gui`` whose property SlicerParameterName names a parameter."""
        from .qt import QtWidgets, findChildren

        isWidget = isinstance(gui, QtWidgets.QWidget)
        widgets = findChildren(gui, QtWidgets.QWidget) if isWidget else vars(gui).values()
        named = {widget.property("SlicerParameterName"): widget for widget in widgets}
        tag = self.connectParametersToGui({name: widget for name, widget in named.items() if name})
        return tag if Behaviour.connectGuiReturnsTag else None

    def connectParametersToGui(self, mapping: dict) -> int:
        """Connects widgets to parameters by name; returns what ``disconnectGui`` takes."""
        from .gui_connectors import connectorFor

        connectors = {name: connectorFor(w, self._parameter(name).unalteredType) for name, w in mapping.items()}
        tag = len(self._tags)
        self._guis[tag] = connectors
        for name, connector in connectors.items():
            connector.write(self._values[name])
            connector.connect(functools.partial(self._onGui, name, connector))
        self._tags[tag] = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: self._updateGui())
        return tag

    def disconnectGui(self, tag: int | None) -> None:
        for connector in self._guis.pop(tag, {}).values():
            connector.disconnect()
        if Behaviour.connectGuiReturnsTag and tag in self._tags:
            self.RemoveObserver(self._tags[tag])

    def _onGui(self, name: str, connector) -> None:
        with slicer.util.NodeModify(self):
            if not self._updating:
                self.setValue(name, connector.read())

    def _updateGui(self) -> None:
        if self._updating:
            return
        self._updating = True
        try:
            with slicer.util.NodeModify(self):
                for connectors in list(self._guis.values()):
                    for name, connector in connectors.items():
                        connector.write(self._values[name])
        finally:
            self._updating = False

    def StartModify(self) -> int:
        return self.parameterNode.StartModify()

    def EndModify(self, wasModifying: int):
        return self.parameterNode.EndModify(wasModifying)

    def Modified(self) -> None:
        self.parameterNode.Modified()

    def AddObserver(self, event, callback, priority: float = 0.0) -> int:
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)


def parameterNodeWrapper(classtype=None):
    """Class decorator, with or without parentheses."""
    if classtype is None:
        return parameterNodeWrapper
    hints = typing.get_type_hints(classtype, vars(sys.modules[classtype.__module__]), include_extras=True)
    parameters: dict[str, Parameter] = {}
    for name, kind in hints.items():
        try:
            parameters[name] = Parameter(name, kind, classtype)
        except Exception as error:
            raise Exception(f"Unable to create serializer for {classtype} member {name}") from error
    for name, member in {**vars(_Wrapper), "allParameters": parameters}.items():
        if name in ("__module__", "__dict__", "__weakref__", "__doc__", "__qualname__", "__firstlineno__"):
            continue
        if name in parameters or hasattr(classtype, name) and not name.startswith("__"):
            raise ValueError(f"Cannot use reserved name '{name}' in a parameterNodeWrapper")
        with suppress(AttributeError):
            setattr(classtype, name, member)
    for name, parameter in parameters.items():
        setattr(classtype, name, parameter)
    return classtype


def isParameterNodeWrapper(classOrObject) -> bool:
    return getattr(classOrObject, "_is_parameter_node_wrapper", False)


def module() -> types.ModuleType:
    """The module ``slicer.parameterNodeWrapper``."""
    made = types.ModuleType("slicer.parameterNodeWrapper")
    for member in (parameterNodeWrapper, isParameterNodeWrapper, Default, Validator, NotNone, IsInstance, WithinRange):
        setattr(made, member.__name__, member)
    for member in (Minimum, Maximum, Choice, Exclude, Decimals, SingleStep):
        setattr(made, member.__name__, member)
    made.SlicerParameterNamePropertyName = "SlicerParameterName"
    return made
