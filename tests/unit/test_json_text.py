"""JSON without json: the same values, texts and errors, byte for byte."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from cni_plugins import json_text

ROOT = Path(__file__).parents[2]
TEXTS = [
    "{}",
    " \t\r\n[1, -0, 1.5e3, 12345678901234567890123] \n",
    '{"a": {"b": [null, true, false, "\\u00e4\\ud83d\\ude00\\n"]}, "a": 2}',
    '"\\ud800"',
    "[NaN, Infinity, -Infinity, 1e999]",
    '"plain"',
    "0",
    "",
    "  ",
    "{",
    "[1,]",
    '{"a": 1,}',
    '{"a" 1}',
    "{'a': 1}",
    '{"a": 1} x',
    "[1] [2]",
    "nul",
    '"open',
    '"tab\there"',
    '"\\x"',
    "01",
    "-",
    "\ufeff{}",
    "\u00a0{}",
    "{}\u00a0",
    "[" * 100_000,
]
RAW = [
    *(text.encode("utf-8", "surrogatepass") for text in TEXTS),
    b"\xff{}",
    b'{"a": "\xff"}',
    b"\xef\xbb\xbf{}",
    b"\0",
    '{"a": 1}'.encode("utf-16"),
    '{"a": 1}'.encode("utf-16-le"),
    '{"a": 1}'.encode("utf-32-be"),
    b'"\xed\xa0\x80"',
]
VALUES = [
    {},
    [],
    {"a": [], "b": {}, "c": [{}, [[]]]},
    {"code": 7, "msg": 'a "quoted" \\ ä \ud800 \u2028 \x7f\x00', "details": ""},
    {"z": 1, "a": (1, 2.5, -0.0, 1e300, None, True, False), "nested": {"b": {"x": "y"}, "a": []}},
    [float("nan"), float("inf")],
    "text ä",
    3,
    None,
]


def outcome(function, *args, **options):
    """What came of it, errors included; repr tells 1 from 1.0 and NaN is equal to itself."""
    try:
        return repr(function(*args, **options))
    except (ValueError, RecursionError, TypeError) as e:
        return type(e), str(e)


@pytest.mark.parametrize("text", [*TEXTS, *RAW], ids=lambda text: ascii(text)[:40])
def test_what_is_read(text):
    assert outcome(json_text.loads, text) == outcome(json.loads, text)
    hooks = {"object_pairs_hook": list, "parse_constant": str.lower, "parse_float": str}
    assert outcome(json_text.loads, text, **hooks) == outcome(json.loads, text, **hooks)


def test_errors_before_json_is_loaded():
    """The scanner itself only looks whether json is there."""
    code = """
import sys
from cni_plugins import json_text

for text in eval(sys.stdin.read()):
    assert "json" not in sys.modules
    try:
        json_text.loads(text)
    except (ValueError, RecursionError) as e:
        print(type(e).__name__, ascii(str(e)))
    for name in [name for name in sys.modules if name.split(".")[0] == "json"]:
        del sys.modules[name]
"""
    texts = TEXTS + RAW
    argv = [sys.executable, "-S", "-c", code]
    done = subprocess.run(argv, input=ascii(texts), capture_output=True, text=True, cwd=ROOT)
    assert done.stderr == ""
    expected = [outcome(json.loads, text) for text in texts]
    errors = [f"{e[0].__name__} {ascii(e[1])}" for e in expected if isinstance(e, tuple)]
    assert done.stdout.splitlines() == errors


def test_what_a_hook_raises():
    def refuse(word: str) -> None:
        raise ValueError(f"no {word}")

    with pytest.raises(ValueError, match="^no NaN$"):
        json_text.loads("[NaN]", parse_constant=refuse)


@pytest.mark.parametrize("options", [{}, {"sort_keys": True, "separators": (",", ":")}])
@pytest.mark.parametrize("ensure_ascii", [True, False])
@pytest.mark.parametrize("value", VALUES, ids=lambda value: ascii(value)[:40])
def test_what_is_written(value, ensure_ascii, options):
    written = json.dumps(value, ensure_ascii=ensure_ascii, **options)
    assert json_text.dumps(value, ensure_ascii=ensure_ascii, **options) == written


@pytest.mark.parametrize("indent", [1, 4])
@pytest.mark.parametrize("ensure_ascii", [True, False])
@pytest.mark.parametrize("value", VALUES, ids=lambda value: ascii(value)[:40])
def test_what_is_written_on_lines(value, ensure_ascii, indent):
    written = json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)
    assert json_text.dumps(value, ensure_ascii=ensure_ascii, indent=indent) == written


@pytest.mark.parametrize("indent", [None, 4])
def test_what_cannot_be_written(indent):
    value = {"a": [object()]}
    assert outcome(json_text.dumps, value, indent=indent) == outcome(
        json.dumps, value, indent=indent
    )


def test_documents_with_anything_anywhere():
    """Truncated, doubled and changed documents come to the same."""
    chance = random.Random(1)
    document = json.dumps([VALUES[4], {"ä": VALUES[3], "n": [1e5, -1, 10**30]}], indent=1)
    for _ in range(3000):
        at, length = chance.randrange(len(document)), chance.choice((0, 1, 1, 2, 30))
        put = chance.choice(("", "", " ", '"', "{", "}", "]", ",", "1", "\\", "\x01", "é", "NaN"))
        text = document[:at] + put + document[at + length :]
        assert outcome(json_text.loads, text) == outcome(json.loads, text), text
        raw = text.encode()
        assert outcome(json_text.loads, raw) == outcome(json.loads, raw), text
