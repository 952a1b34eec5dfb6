"""Typed reading of JSON objects; every complaint carries the JSON path of the key.

A configuration type is a Frozen whose fields are made by :func:`key`; that one
declaration gives the parser, the error paths and the JSON Schema::

    class BridgeConf(Frozen):
        bridge: str = key("bridge", text, default="cni0", doc="name of the bridge")
        vlan: int = key("vlan", integer(0, 4094), default=0, doc="VLAN id of the port")

    conf = read(BridgeConf, {"bridge": "br0", "VLAN": 7})

Rules (those of Go's encoding/json, which every CNI client was written against): keys match
case-insensitively and the last one wins, unknown keys are accepted, ``null`` is "not set", and a
value of another JSON type is an error: ``"yes"`` is not true, 1500.0 is not an integer.
"""

from __future__ import annotations

from cni_plugins import jsontext
from cni_plugins.errors import ConfigError
from cni_plugins.frozen import REQUIRED, Field, fields_of
from cni_plugins.protocol.addresses import parse_address, parse_network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, NoReturn, TypeVar

    T = TypeVar("T")


type_of_json = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
    type(None): "null",
}
_DEEPEST = 200
_KEYS = "__config_keys__"


class Reader:
    """Turns one JSON value into a Python value, or raises ConfigError with the value's path."""

    def __init__(self, read: Callable[[Any, str], Any], schema: Mapping[str, Any]) -> None:
        self.read = read
        self.schema = dict(schema)


def wrong_type(path: str, value: object, expected: str) -> NoReturn:
    """Raise the ConfigError for a value of another JSON type than ``expected``."""
    raise ConfigError(path, f"expected {expected}, got {type_of_json[type(value)]}")


def scalar(json_type: type, expected: str, **schema: Any) -> Reader:
    """A value of exactly one JSON type (a boolean is no integer)."""

    def read_scalar(value: Any, path: str) -> Any:
        if type(value) is not json_type:
            wrong_type(path, value, expected)
        return value

    return Reader(read_scalar, {"type": type_of_json[json_type], **schema})


text = scalar(str, "a string")
flag = scalar(bool, "a boolean")
any_object = scalar(dict, "an object")
anything = Reader(lambda value, _path: value, {})


def integer(low: int | None = None, high: int | None = None) -> Reader:
    """An integer within ``low`` … ``high`` inclusive."""
    whole = scalar(int, "an integer")

    def read_integer(value: Any, path: str) -> int:
        number: int = whole.read(value, path)
        if (low is not None and number < low) or (high is not None and number > high):
            if high is None:
                raise ConfigError(path, f"{number} is below {low}")
            raise ConfigError(path, f"{number} is outside {low}..{high}")
        return number

    bounds = {"minimum": low, "maximum": high}
    return Reader(
        read_integer, {"type": "integer", **{k: v for k, v in bounds.items() if v is not None}}
    )


def choice(*allowed: str) -> Reader:
    """One of a few words."""

    def read_choice(value: Any, path: str) -> str:
        word: str = text.read(value, path)
        if word not in allowed:
            words = ", ".join(repr(w) for w in allowed if w)
            raise ConfigError(path, f"{word!r} is not one of {words}")
        return word

    return Reader(read_choice, {"type": "string", "enum": list(allowed)})


def parsed(parse: Callable[[str], Any], expected: str) -> Reader:
    """A string that ``parse`` understands; its ValueError becomes the complaint."""

    def read_parsed(value: Any, path: str) -> Any:
        word = text.read(value, path)
        try:
            return parse(word)
        except ValueError as e:
            raise ConfigError(path, f"{e}, expected {expected}") from None

    return Reader(read_parsed, {"type": "string", "description": expected})


def optional(reader: Reader) -> Reader:
    """The same, where "" means that the key is not set."""
    return Reader(lambda v, p: None if v == "" else reader.read(v, p), reader.schema)


ip_address = parsed(parse_address, "an IP address such as 10.1.2.1")
ip_network = parsed(parse_network, "an address with prefix length such as 10.1.2.0/24")


def array_of(item: Reader) -> Reader:
    """An array, read into a tuple."""

    def read_array(value: Any, path: str) -> tuple[Any, ...]:
        if type(value) is not list:
            wrong_type(path, value, "an array")
        return tuple(item.read(entry, f"{path}[{i}]") for i, entry in enumerate(value))

    return Reader(read_array, {"type": "array", "items": item.schema})


def map_of(item: Reader) -> Reader:
    """An object whose keys are data, read into a dict with the keys as they are written."""

    def read_map(value: Any, path: str) -> dict[str, Any]:
        if type(value) is not dict:
            wrong_type(path, value, "an object")
        return {k: item.read(v, join(path, k)) for k, v in value.items()}

    return Reader(read_map, {"type": "object", "additionalProperties": item.schema})


def record(cls: type[Any]) -> Reader:
    """An object described by a Frozen of :func:`key` fields."""
    return Reader(lambda value, path: read(cls, value, path), schema(cls))


class Key(Field):
    """A field that is read from a JSON key."""

    __slots__ = ("doc", "folded", "name", "reader")

    def __init__(self, name: str, reader: Reader, default: Any, doc: str) -> None:
        super().__init__(default)
        self.name = name
        self.folded = name.lower()
        self.reader = reader
        self.doc = doc


def key(name: str, reader: Reader, *, default: Any = REQUIRED, doc: str = "") -> Any:
    """Declare a configuration key: a field read from JSON key ``name``.

    Args:
        name: the key as the documentation spells it.
        reader: turns the JSON value into the field's value.
        default: value when the key is absent or null; without it the key is required.
        doc: one line for the JSON Schema and the plugin's page.
    """
    return Key(name, reader, default, doc)


def join(path: str, name: str) -> str:
    """The JSON path of key ``name`` under ``path``."""
    return f"{path}.{name}" if path else name


def find(document: dict[str, Any], name: str) -> Any:
    """The value of a top-level key whatever its case, None when absent; the last one counts."""
    folded = name.lower()
    return next((v for k, v in reversed(document.items()) if k.lower() == folded), None)


def fold(value: dict[str, Any]) -> dict[str, Any]:
    """The object with lower-case keys; of keys that differ in case only, the last one stays."""
    return {k.lower(): v for k, v in value.items()}


def _keys_of(cls: type[Any]) -> tuple[tuple[str, Key], ...]:
    """The fields that are read from keys; found once for a class."""
    found: tuple[tuple[str, Key], ...] | None = cls.__dict__.get(_KEYS)
    if found is None:
        found = tuple((field, k) for field, k in fields_of(cls).items() if isinstance(k, Key))
        setattr(cls, _KEYS, found)
    return found


def read(
    cls: type[T],
    value: Any,
    path: str = "",
    *,
    forgive: Callable[[ConfigError], None] | None = None,
) -> T:
    """Read a JSON object into ``cls``.

    Args:
        cls: a Frozen whose fields are made by :func:`key`; others keep their default.
        value: the decoded JSON value.
        path: JSON path of the value, for complaints.
        forgive: given, it is told of each faulty key, which then counts as not set (DEL, GC).

    Raises:
        ConfigError: the first faulty key.
    """
    if type(value) is not dict:
        wrong_type(path, value, "an object")
    given = fold(value)
    found: dict[str, Any] = {}
    for field, spec in _keys_of(cls):
        entry = given.get(spec.folded)
        if entry is None:
            if spec.default is REQUIRED:
                raise ConfigError(join(path, spec.name), "is required")
            continue
        try:
            found[field] = spec.reader.read(entry, join(path, spec.name))
        except ConfigError as fault:
            if forgive is None or spec.default is REQUIRED:
                raise
            forgive(fault)
    return cls(**found)


def schema(cls: type[Any]) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a Frozen of :func:`key` fields."""
    properties: dict[str, Any] = {}
    required: list[str] = []
    for _, spec in _keys_of(cls):
        entry = dict(spec.reader.schema)
        if spec.doc:
            entry["description"] = spec.doc
        if isinstance(spec.default, str | int | bool) and spec.default != "":
            entry["default"] = spec.default
        elif spec.default is REQUIRED:
            required.append(spec.name)
        properties[spec.name] = entry
    return {"type": "object", "properties": properties, "required": required}


def _last_wins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object in the order of each key's last occurrence, which :func:`fold` relies on."""
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    value.clear()
    for name, entry in pairs:
        value.pop(name, None)
        value[name] = entry
    return value


def _refuse_constant(word: str) -> NoReturn:
    raise ValueError(f"invalid number {word}")


def _finite(word: str) -> float:
    number = float(word)
    if number in {float("inf"), float("-inf")}:
        _refuse_constant(word)
    return number


def _refuse_depth(value: object, depth: int = 0) -> None:
    if depth > _DEEPEST:
        raise ValueError(f"nested deeper than {_DEEPEST} levels")
    if isinstance(value, dict | list):
        for entry in value.values() if isinstance(value, dict) else value:
            _refuse_depth(entry, depth + 1)


def decode_json(raw: bytes) -> Any:
    """Decode one JSON document as Go's decoder would: UTF-8 only, no NaN, nothing behind it.

    Raises:
        ValueError: what is wrong and where.
    """
    if not raw.strip():
        raise ValueError("unexpected end of JSON input")
    if raw.startswith(b"\xef\xbb\xbf"):
        raise ValueError(
            "invalid character '\\ufeff' (byte order mark) looking for beginning of value"
        )
    try:
        value = jsontext.loads(
            raw.decode("utf-8", "replace"),
            object_pairs_hook=_last_wins,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
        if raw.count(b"{") + raw.count(b"[") > _DEEPEST:  # what opens in texts counts, too
            _refuse_depth(value)
    except RecursionError:
        raise ValueError(f"nested deeper than {_DEEPEST} levels") from None
    return _whole_characters(value) if b"\\ud" in raw.lower() else value


def _whole_characters(value: Any) -> Any:
    """Halves of a surrogate pair that stand alone, which no UTF-8 can carry, become U+FFFD."""
    text_form = jsontext.dumps(value, ensure_ascii=False)
    return jsontext.loads(text_form.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
