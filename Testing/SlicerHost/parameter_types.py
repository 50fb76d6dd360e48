"""The types that a parameter node takes, their annotations, and how their values lie in the node.

Values are stored as Slicer stores them (an Optional under ``name_0`` or ``name_1``, a list under ``name_len`` and
``name_0`` …, a node as a reference of that role), so a scene saved by one is read by the other.
"""

from __future__ import annotations

import collections.abc
import enum
import pathlib
import types
import typing

import slicer

NoneType = type(None)
PATHS = (pathlib.Path, pathlib.PosixPath, pathlib.WindowsPath)
PATHS += (pathlib.PurePath, pathlib.PurePosixPath, pathlib.PureWindowsPath)


# ------------------------------------------------------------------------------------------------- annotations


class Default:
    def __init__(self, value=None, generator=None) -> None:
        self._value, self.generator = value, generator

    @property
    def value(self):
        return self.generator() if self.generator else self._value


class Validator:
    """Base of those that refuse a value."""

    def validate(self, value) -> None:
        raise NotImplementedError


class _Compared(Validator):
    def accepts(self, value) -> bool:
        raise NotImplementedError

    def validate(self, value) -> None:
        if not self.accepts(value):
            raise ValueError(f"Value {value!r} is refused by {type(self).__name__} {vars(self)}")


class NotNone(_Compared):
    def accepts(self, value) -> bool:
        return value is not None


class IsInstance(Validator):
    def __init__(self, classtype) -> None:
        self.classtype = classtype

    def validate(self, value) -> None:
        if value is not None and not isinstance(value, self.classtype):
            raise TypeError(f"Value must be of type '{self.classtype}', is type '{type(value)}' value '{value}'")


class WithinRange(_Compared):
    def __init__(self, minimum, maximum) -> None:
        self.minimum, self.maximum = minimum, maximum

    def accepts(self, value) -> bool:
        return self.minimum <= value <= self.maximum


class Minimum(_Compared):
    def __init__(self, minimum) -> None:
        self.minimum = minimum

    def accepts(self, value) -> bool:
        return value >= self.minimum


class Maximum(_Compared):
    def __init__(self, maximum) -> None:
        self.maximum = maximum

    def accepts(self, value) -> bool:
        return value <= self.maximum


class Choice(_Compared):
    def __init__(self, choices) -> None:
        self.choices = choices

    def accepts(self, value) -> bool:
        return value in self.choices


class Exclude(_Compared):
    def __init__(self, excludedValues) -> None:
        self.excludedValues = excludedValues

    def accepts(self, value) -> bool:
        return value not in self.excludedValues


class Decimals:
    def __init__(self, value: int) -> None:
        self.value = value


class SingleStep:
    def __init__(self, value: float) -> None:
        self.value = value


# ------------------------------------------------------------------------------------------------------ codecs


class Codec:
    """How values of one type lie in a parameter node."""

    def __init__(self, kind, validators=()) -> None:
        self.kind, self.validators = kind, list(validators)

    def takes(self, kind: type) -> bool:
        """Whether a member of a Union with this codec is meant for a value of exactly this type."""
        return kind is self.kind

    def validate(self, value) -> None:
        for validator in self.validators:
            validator.validate(value)

    def default(self):
        return self.kind()

    def isIn(self, node, name: str) -> bool:
        return node.HasParameter(name)

    def write(self, node, name: str, value) -> None:
        self.validate(value)
        node.SetParameter(name, self.encode(value))

    def read(self, node, name: str):
        return self.decode(node.GetParameter(name))

    def remove(self, node, name: str) -> None:
        node.UnsetParameter(name)

    def encode(self, value) -> str:
        return str(value)

    def decode(self, text: str):
        return self.kind(text)


class NumberCodec(Codec):
    def __init__(self, kind, validators=()) -> None:
        allowed = (int, float) if kind is float else int
        super().__init__(kind, [NotNone(), IsInstance(allowed), *validators])

    def takes(self, kind: type) -> bool:
        return kind in (int, float)

    def default(self):
        return 0


class TextCodec(Codec):
    def __init__(self, kind, validators=()) -> None:
        super().__init__(kind, [NotNone(), IsInstance(kind), *validators])


class PathCodec(TextCodec):
    def takes(self, kind: type) -> bool:
        return kind in PATHS


class BoolCodec(TextCodec):
    def decode(self, text: str) -> bool:
        return text == "True"


class EnumCodec(Codec):
    """An enumeration by the names of its members."""

    def __init__(self, kind, validators=()) -> None:
        super().__init__(kind, [IsInstance(kind), *validators])

    def takes(self, kind: type) -> bool:
        return isinstance(kind, type) and issubclass(kind, enum.Enum)

    def default(self):
        return next(iter(self.kind))

    def encode(self, value) -> str:
        return value.name

    def decode(self, text: str):
        if text not in self.kind.__members__:
            raise ValueError(f"Found {text!r} in parameter node but it is not a name in {self.kind!r}")
        return self.kind[text]


class NodeCodec(Codec):
    """A node: a reference of the parameter's name, and an empty parameter that says that there is one."""

    def __init__(self, kind, validators=()) -> None:
        super().__init__(kind, [IsInstance(kind), *validators])

    def takes(self, kind: type) -> bool:
        return isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode)

    def default(self):
        return None

    def write(self, node, name: str, value) -> None:
        self.validate(value)
        node.SetParameter(name, "")
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    def read(self, node, name: str):
        return node.GetNodeReference(name)

    def remove(self, node, name: str) -> None:
        node.UnsetParameter(name)
        node.RemoveNodeReferenceIDs(name)


class NoneCodec(Codec):
    def __init__(self, kind=NoneType, validators=()) -> None:
        super().__init__(NoneType, validators)

    def validate(self, value) -> None:
        if value is not None:
            raise ValueError("Value must be None")

    def encode(self, value) -> str:
        return "True"

    def decode(self, text: str) -> None:
        return None


class UnionCodec(Codec):
    """The first member of a Union that takes a value holds it, under its own number."""

    def __init__(self, kind, validators=()) -> None:
        super().__init__(kind, validators)
        self.members = [codecOf(member)[0] for member in typing.get_args(kind)]

    def default(self):
        optional = len(self.members) == 2 and isinstance(self.members[1], NoneCodec)
        return None if optional else self.members[0].default()

    def isIn(self, node, name: str) -> bool:
        return any(member.isIn(node, f"{name}_{i}") for i, member in enumerate(self.members))

    def _memberFor(self, value) -> int:
        refused: Exception | None = None
        for index, member in enumerate(self.members):
            if member.takes(type(value)):
                try:
                    member.validate(value)
                    return index
                except Exception as error:
                    refused = error
        raise refused or TypeError(f"Unable to write value '{value}' of type '{type(value)}'")

    def write(self, node, name: str, value) -> None:
        self.validate(value)
        index = self._memberFor(value)
        with slicer.util.NodeModify(node):
            self.remove(node, name)
            self.members[index].write(node, f"{name}_{index}", value)

    def read(self, node, name: str):
        for index, member in enumerate(self.members):
            if member.isIn(node, f"{name}_{index}"):
                return member.read(node, f"{name}_{index}")
        raise KeyError(f"Unable to find value for name: {name}")

    def remove(self, node, name: str) -> None:
        with slicer.util.NodeModify(node):
            for index, member in enumerate(self.members):
                member.remove(node, f"{name}_{index}")


class ListCodec(Codec):
    """Items under ``name_0`` …, their number under ``name_len``; what is read writes itself back when changed."""

    def __init__(self, kind, validators=()) -> None:
        super().__init__(kind, validators)
        self.item = codecOf(typing.get_args(kind)[0])[0]

    def takes(self, kind: type) -> bool:
        return kind is list

    def default(self) -> list:
        return []

    def _length(self, node, name: str) -> int:
        return int(node.GetParameter(f"{name}_len")) if self.isIn(node, name) else 0

    def isIn(self, node, name: str) -> bool:
        return node.HasParameter(f"{name}_len")

    def write(self, node, name: str, value) -> None:
        self.validate(value)
        for entry in value:
            self.item.validate(entry)
        with slicer.util.NodeModify(node):
            before = self._length(node, name)
            for index, entry in enumerate(value):
                self.item.write(node, f"{name}_{index}", entry)
            for index in range(len(value), before):
                self.item.remove(node, f"{name}_{index}")
            node.SetParameter(f"{name}_len", str(len(value)))

    def read(self, node, name: str) -> ObservedList:
        found = [self.item.read(node, f"{name}_{i}") for i in range(self._length(node, name))]
        return ObservedList(found, lambda values: self.write(node, name, values))

    def remove(self, node, name: str) -> None:
        with slicer.util.NodeModify(node):
            for index in range(self._length(node, name)):
                self.item.remove(node, f"{name}_{index}")
            node.UnsetParameter(f"{name}_len")


class ObservedList(collections.abc.MutableSequence):
    """A list that writes itself to its parameter node with every change."""

    def __init__(self, values: list, save) -> None:
        self._values, self._save = values, save

    def __getitem__(self, index):
        return self._values[index]

    def __len__(self) -> int:
        return len(self._values)

    def __eq__(self, other) -> bool:
        return self._values == (other._values if isinstance(other, ObservedList) else other)

    def __repr__(self) -> str:
        return f"ObservedList({self._values})"

    def __setitem__(self, index, value) -> None:
        self._values[index] = value
        self._save(self._values)

    def __delitem__(self, index) -> None:
        del self._values[index]
        self._save(self._values)

    def insert(self, index: int, value) -> None:
        self._values.insert(index, value)
        self._save(self._values)


def unannotated(kind):
    return typing.get_args(kind)[0] if typing.get_origin(kind) is typing.Annotated else kind


def annotationsOf(kind) -> tuple:
    return typing.get_args(kind)[1:] if typing.get_origin(kind) is typing.Annotated else ()


def codecOf(kind) -> tuple[Codec, tuple]:
    """Codec of a possibly annotated type, and the annotations that are not validators.

    Raises:
        TypeError: no such value can lie in a parameter node.
    """
    bare = unannotated(kind)
    validators = [a() if isinstance(a, type) else a for a in annotationsOf(kind) if _isValidator(a)]
    others = tuple(a for a in annotationsOf(kind) if not _isValidator(a))
    return _codecClass(bare)(bare, validators), others


def _isValidator(annotation) -> bool:
    return isinstance(annotation, Validator) or isinstance(annotation, type) and issubclass(annotation, Validator)


def _codecClass(kind) -> type[Codec]:
    simple = {int: NumberCodec, float: NumberCodec, str: TextCodec, bool: BoolCodec, NoneType: NoneCodec}
    if kind in simple:
        return simple[kind]
    if kind in PATHS:
        return PathCodec
    if typing.get_origin(kind) is list:
        return ListCodec
    if typing.get_origin(kind) is typing.Union and not isinstance(kind, getattr(types, "UnionType", ())):
        return UnionCodec
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return EnumCodec
    if isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode):
        return NodeCodec
    raise TypeError(f"Unable to create serializer for type: {kind}")
