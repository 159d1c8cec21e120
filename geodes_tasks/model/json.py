"""JSON as text: orjson, and the standard library for texts and values that orjson refuses.

orjson follows RFC 8259 and refuses NaN, lone surrogates and encodings other than UTF-8, which files
of users contain nevertheless. It reads a whole number beyond 64 bits as a float, and writes NaN as
null.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson

OBJECT = (dict, Mapping)
"""Types of a JSON object. With dict first, ``isinstance`` takes a sixth of the time for a dict."""

# Built once: json.dumps builds an encoder at each call that has separators.
_ENCODER = json.JSONEncoder(separators=(",", ":"))


def parsed(text: bytes | str) -> Any:
    """Parse JSON.

    Raises:
        json.JSONDecodeError: no JSON; with line and column.
        UnicodeDecodeError: the bytes are no text.
        RecursionError: nested too deeply.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)


def compact(value: object) -> str:
    """Return JSON without blanks.

    Raises:
        TypeError: JSON has no form for the value.
    """
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        return _ENCODER.encode(value)
