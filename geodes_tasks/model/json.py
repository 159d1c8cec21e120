"""JSON as text, fast: orjson, and the standard library for what that one refuses.

It refuses to read what JSON proper does not have and files hold nevertheless: NaN, half characters,
another encoding than UTF-8. A whole number beyond 64 bits it reads as a float, and it writes NaN
as null.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import orjson

OBJECT = (dict, Mapping)
"""What a JSON object may be in Python; asked so, a dict is known in a sixth of the time."""

# Made once: json.dumps makes one at each call.
_ENCODER = json.JSONEncoder(separators=(",", ":"))


def parsed(text: bytes | str) -> Any:
    """Read JSON.

    Raises:
        json.JSONDecodeError: what is wrong, as the standard library says it.
        UnicodeDecodeError: bytes that are no text.
        RecursionError: nested too deeply.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)


def compact(value: object) -> str:
    """Write JSON without blanks.

    Raises:
        TypeError: JSON has no form for it.
    """
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        return _ENCODER.encode(value)
