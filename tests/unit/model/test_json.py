"""JSON is read and written fast, and as tolerantly as the standard library does it."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from geodes_tasks.model.json import compact, parsed


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1, 2.5, null, true]}', {"a": [1, 2.5, None, True]}),
        (b'"caf\xc3\xa9"', "caf\u00e9"),
        ('"\\ud800"', "\ud800"),
        ("1e400", math.inf),
        ("-Infinity", -math.inf),
        ('"a"'.encode("utf-16"), "a"),
    ],
)
def test_parsed(text: str | bytes, value: object) -> None:
    """JSON is parsed; so are infinity, lone surrogates and UTF-16, which orjson refuses."""
    assert parsed(text) == value


def test_nan_is_parsed() -> None:
    """NaN, which the standard library writes, is read."""
    assert math.isnan(parsed("NaN"))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("{", json.JSONDecodeError),
        (b'"\xff"', UnicodeDecodeError),
        ("[" * 100_000, RecursionError),
    ],
)
def test_no_json(text: str | bytes, error: type[Exception]) -> None:
    """The error is that of the standard library."""
    with pytest.raises(error):
        parsed(text)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": [1, None]}, '{"a":[1,null]}'),
        (2**70, str(2**70)),
        ({1: "\ud800"}, '{"1":"\\ud800"}'),
    ],
)
def test_compact(value: Any, text: str) -> None:
    """JSON has no blanks; so have whole numbers beyond 64 bits and lone surrogates."""
    assert compact(value) == text


def test_no_form() -> None:
    """A value without a form in JSON is a TypeError."""
    with pytest.raises(TypeError, match="not JSON serializable"):
        compact(object())
