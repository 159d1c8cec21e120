"""Answers whose shape is not known for sure: what is in them is found by its name."""

from __future__ import annotations

from typing import Any


def number(said: Any, word: str) -> int | None:
    """Find a whole number by its name, however deep it lies; None where there is none.

    Args:
        said: Decoded JSON.
        word: Name of the number.
    """
    found = [said]
    for value in found:
        if isinstance(value, dict):
            if isinstance(value.get(word), int):
                return int(value[word])
            found.extend(value.values())
        elif isinstance(value, list):
            found.extend(value)
    return None
