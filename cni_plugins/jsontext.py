"""JSON as :mod:`json` reads and writes it, without the part of it that takes long to import.

What reads and writes is CPython's ``_json``, as in :mod:`json`; the Python around that brings
``re`` and ``enum`` along, a sixth of a fresh process's whole call.  What is refused is read again
by :mod:`json`, whose errors say what is wrong and where.
"""

from __future__ import annotations

from _json import encode_basestring, encode_basestring_ascii, make_encoder, make_scanner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

_SPACE = " \t\n\r"
_REFUSED = (StopIteration, ValueError, SystemError)
"""What ``_json`` raises; the last where json's own error, which it would raise, is not loaded."""
_CONSTANTS = {"-Infinity": float("-inf"), "Infinity": float("inf"), "NaN": float("nan")}


class _Reading:
    """What ``_json`` asks of a decoder."""

    strict = True
    object_hook = None
    memo: dict[str, str]

    def __init__(
        self,
        object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None,
        parse_float: Callable[[str], Any],
        parse_constant: Callable[[str], Any],
    ) -> None:
        self.object_pairs_hook = object_pairs_hook
        self.parse_float = parse_float
        self.parse_int = int
        self.parse_constant = parse_constant
        self.memo = {}


def loads(
    raw: str | bytes,
    *,
    object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None,
    parse_float: Callable[[str], Any] = float,
    parse_constant: Callable[[str], Any] = _CONSTANTS.__getitem__,
) -> Any:
    """Read one document.

    Args:
        raw: the document; bytes are UTF-8, or UTF-16 or UTF-32 as :func:`json.loads` tells them.
        object_pairs_hook: makes the value of an object of its names and values.
        parse_float: makes the value of a number that is no integer.
        parse_constant: makes the value of ``NaN``, ``Infinity`` and ``-Infinity``.

    Raises:
        ValueError: it is no such document, as a json.JSONDecodeError, or a hook said so.
        RecursionError: it is nested too deeply.
    """
    reading: Any = _Reading(object_pairs_hook, parse_float, parse_constant)
    scan = make_scanner(reading)
    try:
        text = raw if isinstance(raw, str) else raw.decode()
        value, end = scan(text, len(text) - len(text.lstrip(_SPACE)))
        if end == len(text) or not text[end:].strip(_SPACE):
            return value
    except _REFUSED:
        pass
    from json import loads as explain  # noqa: PLC0415 - it is no document, or in another encoding

    return explain(
        raw,
        object_pairs_hook=object_pairs_hook,
        parse_float=parse_float,
        parse_constant=parse_constant,
    )


def dumps(
    value: Any,
    *,
    indent: int | None = None,
    ensure_ascii: bool = True,
    sort_keys: bool = False,
    separators: tuple[str, str] = (", ", ": "),
) -> str:
    """Write a document; the arguments are those of :func:`json.dumps`.

    Args:
        value: of dictionaries with texts as names, lists, tuples, texts, numbers, booleans, None.
        indent: how many spaces a level is indented by; None for one line.
        ensure_ascii: write other characters as escapes.
        sort_keys: names of objects in order; only without ``indent``.
        separators: between entries, and between a name and its value; only without ``indent``.

    Raises:
        TypeError: a value is of another type.
        ValueError: a value contains itself.
    """
    string = encode_basestring_ascii if ensure_ascii else encode_basestring
    if isinstance(value, str):
        return string(value)
    entries, names = separators
    skip_keys, allow_nan = False, True
    encode = make_encoder(
        {}, _refuse, string, None, names, entries, sort_keys, skip_keys, allow_nan
    )
    if indent is None:
        return "".join(encode(value, 0))
    return _indented(value, " " * indent, "\n", lambda leaf: "".join(encode(leaf, 0)))


def _indented(value: Any, step: str, line: str, write: Callable[[Any], str]) -> str:
    """A value over several lines, each but the first begun by ``line``."""
    inner = line + step
    if isinstance(value, dict) and value:
        named = (f"{write(k)}: {_indented(v, step, inner, write)}" for k, v in value.items())
        return "{" + inner + f",{inner}".join(named) + line + "}"
    if isinstance(value, list | tuple) and value:
        listed = (_indented(entry, step, inner, write) for entry in value)
        return "[" + inner + f",{inner}".join(listed) + line + "]"
    return write(value)


def _refuse(value: object) -> NoReturn:
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
