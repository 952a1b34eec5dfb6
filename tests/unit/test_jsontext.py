"""JSON text is what the standard library's json makes of it, and reads as that does."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from cni_plugins import jsontext

if TYPE_CHECKING:
    from collections.abc import Callable

TEXTS = ["", "a", '"\\/', "\x00\x1f\x7f\n", "ü€", "\U0001f600", "\ud800", "<&>", "NaN"]
NUMBERS = [0, -1, 1 << 70, 0.1, -2.5e300, 1e-7, float("inf"), float("-inf")]


def some_value(pick: random.Random, depth: int = 4) -> Any:
    """A document, by chance."""
    kind = pick.randrange(8 if depth else 4)
    if kind == 0:
        return pick.choice([True, False, None])
    if kind == 1:
        return pick.choice(NUMBERS)
    if kind <= 3:
        return pick.choice(TEXTS)
    many = range(pick.randrange(4))
    if kind <= 5:
        return [some_value(pick, depth - 1) for _ in many]
    return {pick.choice(TEXTS) + str(n): some_value(pick, depth - 1) for n in many}


VALUES = [some_value(random.Random(seed)) for seed in range(300)]


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"indent": 4, "ensure_ascii": False},
        {"indent": 1},
        {"ensure_ascii": False},
        {"sort_keys": True, "separators": (",", ":")},
    ],
    ids=str,
)
def test_texts_are_those_of_json(how: dict[str, Any]) -> None:
    assert [jsontext.dumps(v, **how) for v in VALUES] == [json.dumps(v, **how) for v in VALUES]


def test_tuples_are_written_as_lists() -> None:
    value = {"a": (1, ("b",)), "b": ()}
    assert jsontext.dumps(value) == json.dumps(value)
    assert jsontext.dumps(value, indent=2) == json.dumps(value, indent=2)


@pytest.mark.parametrize("indent", [None, 2])
def test_what_is_no_json_is_refused(indent: int | None) -> None:
    round_about: list[Any] = []
    round_about.append(round_about)
    with pytest.raises(TypeError, match="Object of type set is not JSON serializable"):
        jsontext.dumps({"a": set()}, indent=indent)
    with pytest.raises((ValueError, RecursionError)):
        jsontext.dumps(round_about, indent=indent)


def outcome(read: Callable[..., Any], raw: str | bytes, hooks: dict[str, Any]) -> str:
    """What came of reading: the value, or the error's type and text."""
    try:
        return repr(read(raw, **hooks))
    except (ValueError, RecursionError) as e:
        return repr(e)


def refuse(word: str) -> float:
    """A hook that refuses."""
    raise ValueError(f"no {word}")


DOCUMENTS = [json.dumps(value) for value in VALUES]
SPOILT = [
    text[:at] + random.Random(n).choice(["", '"', "}", "]", ",", "\x00", "x"]) + text[at + 1 :]
    for n, text in enumerate(DOCUMENTS)
    for at in (random.Random(n).randrange(len(text)),)
]
ODD: list[str | bytes] = [
    *("", " ", "\n", "nul", "NaN", "[NaN, -Infinity]", "1.5", " \t\r\n1 \n", "1 2", "\u00a01"),
    *('{"a":1,"a":2}', '"\\ud800"', '"\\x"', '"\n"', "[1,]", "{a:1}", "\ufeff{}", "01", "1e999"),
    *(b"", b"\xef\xbb\xbf{}", b'"\xff"', b'"\xed\xa0\x80"', b"{}\x00", b"\x00", b"{"),
    *('{"a": "ü"}'.encode(code) for code in ("utf-8", "utf-16", "utf-16-le", "utf-32")),
]


@pytest.mark.parametrize(
    "hooks",
    [{}, {"object_pairs_hook": list}, {"parse_float": str}, {"parse_constant": refuse}],
    ids=lambda hooks: "".join(hooks) or "plain",
)
def test_documents_are_read_as_by_json(hooks: dict[str, Any]) -> None:
    raws = [*DOCUMENTS, *(text.encode() for text in DOCUMENTS if text.isascii()), *SPOILT, *ODD]
    expected = {repr(raw): outcome(json.loads, raw, hooks) for raw in raws}
    assert {repr(raw): outcome(jsontext.loads, raw, hooks) for raw in raws} == expected


READ_ALONE = """
import sys
from cni_plugins import jsontext
assert "json" not in sys.modules
try:
    jsontext.loads(os.fsencode(sys.argv[1]))
except ValueError as e:
    print(repr(e))
"""


@pytest.mark.parametrize("text", ["", "{", '{"a"', '{"a":', "[1,", '"', '"\\x"', "nul", "[] 1"])
def test_an_error_is_json_s_where_nothing_had_loaded_json(text: str) -> None:
    argv = [sys.executable, "-S", "-c", f"import os{READ_ALONE}", text]
    path = os.path.dirname(os.path.dirname(jsontext.__file__))
    done = subprocess.run(
        argv, capture_output=True, text=True, env={"PYTHONPATH": path}, check=True, timeout=30
    )
    assert done.stdout.strip() == outcome(json.loads, text, {})


def test_a_document_that_is_nested_too_deeply() -> None:
    with pytest.raises(RecursionError):
        jsontext.loads("[" * 100_000)
