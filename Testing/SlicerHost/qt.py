"""The module ``qt`` as PythonQt offers it, made of PySide6.

PythonQt shows a Q_PROPERTY as a Python attribute and everything else as a method, forbids new attributes on C++
objects, connects by ``widget.connect("clicked(bool)", f)``, and takes ``str`` where a path is meant. PySide6's
classes get a thin subclass each, made when first asked for, that behaves so.
"""

from __future__ import annotations

import ctypes
import inspect
import os
import types
import weakref
from collections.abc import Callable

import shiboken6
from PySide6 import QtCore, QtGui, QtWidgets

MODULES = (QtCore, QtGui, QtWidgets)

#: Q_PROPERTYs that C++ asks for as virtual methods, or that hide a static method
_STAY_METHODS = {"sizeHint", "minimumSizeHint", "singleShot"}

#: Methods whose result Qt may have made itself: it gets its PythonQt class on the way out.
_ACCESSORS = [
    "actions",
    "addAction",
    "addMenu",
    "button",
    "buttons",
    "cellWidget",
    "centralWidget",
    "checkedButton",
    "childAt",
    "children",
    "clipboard",
    "completer",
    "cornerWidget",
    "currentWidget",
    "defaultAction",
    "focusWidget",
    "header",
    "horizontalHeader",
    "horizontalScrollBar",
    "itemWidget",
    "lineEdit",
    "menu",
    "menuBar",
    "model",
    "parent",
    "parentWidget",
    "selectionModel",
    "statusBar",
    "tabBar",
    "topLevelWidgets",
    "verticalHeader",
    "verticalScrollBar",
    "view",
    "viewport",
    "widget",
    "window",
]


class Strict(type(QtCore.QObject)):
    """Metaclass of the subclasses: ``isinstance(x, qt.QWidget)`` asks for Qt's own inheritance."""

    def __new__(mcs, name: str, bases: tuple, namespace: dict, **kwargs):
        for member in (connect, disconnect):  # Shiboken overlooks them in a base class
            namespace.setdefault(member.__name__, member)
        return super().__new__(mcs, name, bases, namespace, **kwargs)

    def __instancecheck__(cls, instance: object) -> bool:
        native = cls.__dict__.get("_native")
        instance = getattr(instance, "_object", instance)
        return isinstance(instance, native) if native else super().__instancecheck__(instance)

    def __subclasscheck__(cls, subclass: type) -> bool:
        native = cls.__dict__.get("_native")
        return issubclass(subclass, native) if native else super().__subclasscheck__(subclass)


_twins: dict[type, type] = {}


def strict(native: type) -> type:
    """The PythonQt-like subclass of a PySide6 class."""
    if native not in _twins:
        _twins[native] = Strict(native.__name__, (native,), _namespace(native))
    return _twins[native]


class Adopted:
    """An object that Qt made itself (a header, a scroll bar), with the manners of its PythonQt-like class."""

    __slots__ = ("_object", "__weakref__")

    def __init__(self, instance: QtCore.QObject) -> None:
        object.__setattr__(self, "_object", instance)

    def __getattr__(self, name: str):
        member = getattr(strict(type(self._object)), name)
        if isinstance(member, property):
            return member.fget(self._object)
        if isinstance(member, types.FunctionType):
            return types.MethodType(member, self._object)
        return getattr(self._object, name)

    def __setattr__(self, name: str, value) -> None:
        member = getattr(strict(type(self._object)), name, None)
        if not isinstance(member, property):
            raise AttributeError(f"Attribute '{name}' does not exist on {type(self._object).__name__}")
        member.__set__(self._object, value)

    def __eq__(self, other: object) -> bool:
        return self._object is getattr(other, "_object", other)

    def __hash__(self) -> int:
        return hash(self._object)


_adopted: weakref.WeakValueDictionary[int, Adopted] = weakref.WeakValueDictionary()


def adopt(value):
    """What a method returns, with every QObject that Qt made itself as an Adopted."""
    if isinstance(value, (list, tuple)):
        return type(value)([adopt(item) for item in value])
    if isinstance(value, QtCore.QObject) and type(value).__module__.startswith("PySide6."):
        pointer = shiboken6.getCppPointer(value)[0]
        return _adopted.get(pointer) or _adopted.setdefault(pointer, Adopted(value))
    return value


# object.__setattr__ refuses Shiboken's subclasses of subclasses
_genericSetAttr = ctypes.pythonapi.PyObject_GenericSetAttr
_genericSetAttr.argtypes = [ctypes.py_object] * 3


class Loading:
    """While a .ui file is read: PySide6 hangs every child on the top widget by its name, PythonQt does not."""

    now = False


def setAttribute(self, name: str, value) -> None:
    """Attribute of a wrapped object; a new one only on a class of the module's own."""
    if Loading.now and isinstance(value, QtCore.QObject) and QtCore.QObject.objectName(value) == name:
        return
    if "_wrapped" in type(self).__dict__ and not name.startswith(("_host", "__")) and not hasattr(type(self), name):
        raise AttributeError(
            f"Attribute '{name}' does not exist on {type(self).__name__} and creation of new attributes on C++ "
            "objects is not allowed"
        )
    _genericSetAttr(self, name, value)


def members() -> dict:
    """What PythonQt adds to every QObject; ``connect`` and ``disconnect`` come by the metaclass."""
    return {
        "findChildren": findChildren,
        "findChild": findChild,
        "className": className,
        "delete": lambda self: self.deleteLater(),
        "name": property(QtCore.QObject.objectName, QtCore.QObject.setObjectName),
        "__setattr__": setAttribute,
    }


def wrapped(cls: type) -> type:
    """Class decorator for a widget that the host stands in for: as strict as Qt's own classes."""
    for name, member in members().items():
        setattr(cls, name, member)
    cls._wrapped = True
    return cls


def _namespace(native: type) -> dict:
    namespace = {"_native": native, "_wrapped": True, "__module__": "qt", "__doc__": native.__doc__, **members()}
    meta = native.staticMetaObject
    for index in range(meta.propertyCount()):
        name = meta.property(index).name()
        if name not in _STAY_METHODS and name.isidentifier():
            namespace[name] = propertyOf(native, name)
    for name in _ACCESSORS:
        if name not in namespace and inspect.ismethoddescriptor(getattr(native, name, None)):
            namespace[name] = _adopting(native, name)
    if hasattr(native, "exec"):
        namespace["exec_"] = native.exec
    namespace["__init__"] = _initializer(native)
    return namespace


def _initializer(native: type) -> Callable:
    def __init__(self, *args, **kwargs) -> None:
        refusePaths((*args, *kwargs.values()))
        native.__init__(self, *args, **kwargs)

    return __init__


def _adopting(native: type, name: str) -> Callable:
    method = getattr(native, name)

    def call(self, *args, **kwargs):
        return adopt(method(self, *args, **kwargs))

    call.__name__ = name
    return call


def _method(native: type, name: str) -> Callable | None:
    """A method of a class as a function of the object, static ones too; None where there is none."""
    method = getattr(native, name, None)
    if not callable(method):
        return None
    return method if inspect.ismethoddescriptor(method) else lambda self, *args: method(*args)


def propertyOf(native: type, name: str) -> property:
    """A Q_PROPERTY as a Python property."""
    big = name[0].upper() + name[1:]
    read = next((m for m in (_method(native, n) for n in (name, f"is{big}", f"has{big}")) if m), None)
    write = _method(native, f"set{big}")
    meta = native.staticMetaObject
    writable = meta.property(meta.indexOfProperty(name)).isWritable()

    def getter(self):
        alive(self, name)
        return adopt(read(self) if read else QtCore.QObject.property(self, name))

    def setter(self, value) -> None:
        alive(self, name)
        refusePaths((value,))
        if write:
            write(self, value)
        else:
            QtCore.QObject.setProperty(self, name, value)

    return property(getter, setter if writable else None)


def alive(instance, name: str) -> None:
    """PythonQt's answer where PySide6 would crash."""
    if not shiboken6.isValid(instance):
        raise ValueError(f"Trying to access '{name}' of a destroyed {type(instance).__name__} object")


def refusePaths(values) -> None:
    """PythonQt turns no ``pathlib.Path`` into a QString."""
    for value in values:
        if isinstance(value, os.PathLike):
            raise TypeError(f"Qt takes a str where a path is meant, not {type(value).__name__}: {value}")


def className(self) -> str:
    return type(self).__name__


def _nativeOf(kind):
    return kind.__dict__.get("_native", kind) if isinstance(kind, type) else kind


def findChildren(self, kind=QtCore.QObject, name: str = "") -> list:
    found = QtCore.QObject.findChildren(self, _nativeOf(kind))
    return [adopt(child) for child in found if not name or QtCore.QObject.objectName(child) == name]


def findChild(self, kind=QtCore.QObject, name: str = ""):
    return next(iter(findChildren(self, kind, name)), None)


#: Where an exception in a slot goes; the host sets it.
onException: list[Callable[[BaseException], None]] = []


def _positional(callback: Callable) -> int | None:
    """How many arguments a callable takes at most, None for any number."""
    try:
        parameters = inspect.signature(callback).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return None
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)


def relay(callback: Callable) -> Callable:
    """A slot as PythonQt calls it: with as many arguments as it takes, held strongly, its exception recorded."""
    most = _positional(callback)

    def slot(*args):
        try:
            callback(*(args if most is None else args[:most]))
        except Exception as error:
            for record in onException:
                record(error)

    return slot


def _signalOf(sender, signature: str):
    """The signal that ``connect("name(types)", …)`` means: a Signal of one of the host's classes, or Qt's."""
    named = getattr(type(sender), "hostSignals", {})
    if signature.replace(" ", "") in named:
        return getattr(sender, named[signature.replace(" ", "")])
    normalized = bytes(QtCore.QMetaObject.normalizedSignature(signature).data()).decode()
    if sender.metaObject().indexOfSignal(normalized) < 0:
        return None
    return normalized


_connections: dict[int, list] = {}


def _connectionsOf(sender) -> list:
    """What ``connect`` made on an object: signature, callable, slot."""
    if hasattr(sender, "__dict__"):
        return sender.__dict__.setdefault("_hostConnections", [])
    return _connections.setdefault(shiboken6.getCppPointer(sender)[0], [])


def connect(self, signature: str, receiver, slot=None) -> bool:
    """``w.connect("clicked(bool)", f)``; ValueError for a signal that the class does not have."""
    callback = receiver if slot is None else getattr(receiver, slot.split("(")[0])
    signal = _signalOf(self, signature)
    if signal is None:
        raise ValueError(f"Signal '{signature}' does not exist on {type(self).__name__}")
    if not callable(callback):
        raise TypeError(f"'{callback}' cannot be called; connect \"{signature}\" to a function or a method")
    slotFunction = relay(callback)
    if isinstance(signal, str):
        QtCore.QObject.connect(self, f"2{signal}", slotFunction)
    else:
        signal.connect(slotFunction)
    _connectionsOf(self).append((signature.replace(" ", ""), callback, slotFunction))
    return True


def disconnect(self, signature: str, receiver, slot=None) -> bool:
    """Undoes one ``connect``; False where there was none."""
    callback = receiver if slot is None else getattr(receiver, slot.split("(")[0])
    made = _connectionsOf(self)
    for entry in made:
        if entry[0] == signature.replace(" ", "") and entry[1] == callback:
            made.remove(entry)
            signal = _signalOf(self, signature)
            if isinstance(signal, str):
                QtCore.QObject.disconnect(self, f"2{signal}", entry[2])
            else:
                signal.disconnect(entry[2])
            return True
    return False


class QtModule(types.ModuleType):
    """``import qt``: classes appear when asked for, as PySide6 loads them."""

    def __getattr__(self, name: str):
        for module in MODULES:
            found = getattr(module, name, None)
            if found is None:
                continue
            if isinstance(found, type) and issubclass(found, QtCore.QObject):
                found = strict(found)
            setattr(self, name, found)
            return found
        raise AttributeError(f"module 'qt' has no attribute '{name}'")


qt = QtModule("qt")
