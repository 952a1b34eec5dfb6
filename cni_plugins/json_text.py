"""JSON as :mod:`json` reads and writes it, without its import.

The module brings ``re`` and ``enum`` along, 5 ms, to wrap the scanner and the encoder of CPython's
``_json`` that do the work.  These are used here as it uses them; what they cannot read goes to it,
so that its errors are raised.
"""

from __future__ import annotations

from _json import encode_basestring, encode_basestring_ascii, make_encoder, make_scanner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    _Encode = Callable[[Any, int], tuple[str, ...]]

_BLANKS = " \t\n\r"
_CONSTANTS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


class _How:
    """What the scanner asks of json's decoder."""

    strict = True
    object_hook = None
    parse_int = int

    def __init__(
        self,
        pairs: Callable[[list[tuple[str, Any]]], Any] | None,
        constant: Callable[[str], Any] | None,
        number: Callable[[str], Any] | None,
    ) -> None:
        self.object_pairs_hook = pairs
        self.parse_constant = constant or _CONSTANTS.__getitem__
        self.parse_float = number or float


def loads(
    raw: str | bytes,
    *,
    object_pairs_hook: Callable[[list[tuple[str, Any]]], Any] | None = None,
    parse_constant: Callable[[str], Any] | None = None,
    parse_float: Callable[[str], Any] | None = None,
) -> Any:
    """The value of a document, as ``json.loads`` gives it.

    Raises:
        ValueError: it is none; json's own error.
    """
    if isinstance(raw, str) or (raw[:1].isascii() and b"\0" not in raw[:4]):  # else perhaps UTF-16
        text = raw if isinstance(raw, str) else raw.decode("utf-8", "surrogatepass")
        how: Any = _How(object_pairs_hook, parse_constant, parse_float)
        try:
            value, end = make_scanner(how)(text, len(text) - len(text.lstrip(_BLANKS)))
        except (StopIteration, SystemError):  # its errors are of a class that json has to bring
            value, end = None, -1
        if end == len(text.rstrip(_BLANKS)):
            return value
    import json  # noqa: PLC0415 - for its errors

    return json.loads(
        raw,
        object_pairs_hook=object_pairs_hook,
        parse_constant=parse_constant,
        parse_float=parse_float,
    )


def dumps(
    value: Any,
    *,
    indent: int | None = None,
    ensure_ascii: bool = True,
    sort_keys: bool = False,
    separators: tuple[str, str] = (", ", ": "),
) -> str:
    """The document of a value, as ``json.dumps`` writes it; with ``indent`` keys must be texts."""
    quote = encode_basestring_ascii if ensure_ascii else encode_basestring
    between, behind_key = separators
    encode: _Encode = make_encoder(
        {}, _refuse, quote, None, behind_key, between, sort_keys, *(False, True)
    )
    if indent is None:
        return "".join(encode(value, 0))
    return _lines(value, quote, encode, " " * indent, "\n")


def _lines(
    value: Any,
    quote: Callable[[str], str],
    encode: _Encode,
    indent: str,
    newline: str,
) -> str:
    inner = newline + indent
    if value and isinstance(value, dict):
        entries = (
            f"{quote(name)}: {_lines(entry, quote, encode, indent, inner)}"
            for name, entry in value.items()
        )
        return f"{{{inner}{f',{inner}'.join(entries)}{newline}}}"
    if value and isinstance(value, list | tuple):
        entries = (_lines(entry, quote, encode, indent, inner) for entry in value)
        return f"[{inner}{f',{inner}'.join(entries)}{newline}]"
    return "".join(encode(value, 0))


def _refuse(value: object) -> NoReturn:
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
