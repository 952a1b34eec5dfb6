"""The base class of the suite's values: frozen, compared by their fields, quick to declare.

A class lists its fields as a dataclass does, and mypy checks it as one::

    class Interface(Frozen):
        name: str
        mac: str = ""

    loopback = Interface(name="lo")
    replace(loopback, mac="00:00:00:00:00:00")

:mod:`dataclasses` itself takes 7 ms to import and writes, compiles and runs source text for each
class, half a millisecond of it; a plugin's whole call has some twenty classes.  Here a class is
made in a few microseconds, and the methods are shared.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from dataclasses import replace as replace  # noqa: PLC0414 - so that mypy checks the changes
    from typing import Any, NoReturn, TypeVar, dataclass_transform

    T = TypeVar("T")
else:

    def dataclass_transform(**_how: Any) -> Callable[[T], T]:
        """Nothing: what typing's does is for the type checker."""
        return lambda cls: cls

    def replace(value: T, /, **changes: Any) -> T:
        """The same value but for some fields."""
        return type(value)(**{**as_dict(value), **changes})


REQUIRED: Any = object()
"""The default of a field that has none."""
_FIELDS = "__frozen_fields__"


class Field:
    """What a field is when no value is given: ``default``, or what ``make`` makes each time."""

    __slots__ = ("default", "make")

    def __init__(self, default: Any = REQUIRED, make: Callable[[], Any] | None = None) -> None:
        self.default = default
        self.make = make


def fresh(make: Callable[[], T]) -> T:
    """The default of a field whose values can change: a new one each time, as of ``dict``."""
    return Field(make=make)  # type: ignore[return-value]


class _Declared(type):
    """Takes the fields out of a class's body; instances have nothing but their values."""

    __frozen_fields__: dict[str, Field]
    __frozen_order__: tuple[str, ...]
    __frozen_defaults__: dict[str, Any]

    def __new__(
        cls, name: str, bases: tuple[type, ...], body: dict[str, Any], *, kw_only: bool = True
    ) -> _Declared:
        inherited = {k: v for base in bases for k, v in getattr(base, _FIELDS, {}).items()}
        fields = dict(inherited)
        for field in body.get("__annotations__", ()):
            default = body.pop(field, REQUIRED)
            fields[field] = default if isinstance(default, Field) else Field(default)
        body[_FIELDS] = fields
        body["__frozen_order__"] = () if kw_only else tuple(fields)
        body["__frozen_defaults__"] = {
            name: field.default
            for name, field in fields.items()
            if field.make is None and field.default is not REQUIRED
        }
        return super().__new__(cls, name, bases, body)


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Frozen(metaclass=_Declared):
    """A value; its fields are given by keyword, with ``kw_only=False`` also in their order."""

    def __init__(self, *args: Any, **given: Any) -> None:
        kind = type(self)
        fields = kind.__frozen_fields__
        if args and not given and len(args) == len(kind.__frozen_order__):  # as nearly always
            values = dict(zip(fields, args))  # noqa: B905 - of the same length
        else:
            if args:
                given = _in_order(kind, args, given)
            values = {**kind.__frozen_defaults__, **given}
            if values.keys() != fields.keys():
                _complete(kind, values)
        object.__setattr__(self, "__dict__", values)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash(tuple(getattr(self, name) for name in fields_of(self)))

    def __repr__(self) -> str:
        content = ", ".join(f"{name}={getattr(self, name)!r}" for name in fields_of(self))
        return f"{type(self).__qualname__}({content})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), as_dict(self))

    def __setattr__(self, name: str, _value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be changed")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be deleted")


def _complete(kind: type[Any], values: dict[str, Any]) -> None:
    """Add the values that are made each time; a TypeError when others are lacking, or too many."""
    fields: dict[str, Field] = kind.__frozen_fields__
    for name, field in fields.items():
        if name not in values:
            if field.make is None:
                raise TypeError(f"{kind.__name__}: {name} is required")
            values[name] = field.make()
    if unknown := values.keys() - fields.keys():
        raise TypeError(f"{kind.__name__} has no {', '.join(unknown)}")


def _in_order(kind: type[Any], args: tuple[Any, ...], given: dict[str, Any]) -> dict[str, Any]:
    order = kind.__frozen_order__
    if len(args) > len(order):
        raise TypeError(f"{kind.__name__} takes {len(order)} arguments without their names")
    twice = given.keys() & set(order[: len(args)])
    if twice:
        raise TypeError(f"{kind.__name__}: {', '.join(twice)} is given twice")
    return {**dict(zip(order, args, strict=False)), **given}


def _again(kind: type[T], given: dict[str, Any]) -> T:
    """A copied or unpickled value."""
    return kind(**given)


def fields_of(value: Any) -> Mapping[str, Field]:
    """The fields of a value or a class, those of its base classes first."""
    fields: Mapping[str, Field] = value.__frozen_fields__
    return fields


def as_dict(value: Frozen) -> dict[str, Any]:
    """The fields and their values; values that are Frozen themselves stay so."""
    return {name: getattr(value, name) for name in fields_of(value)}
