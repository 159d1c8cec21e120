"""The quota as text: a count in a window of time, or off."""

from __future__ import annotations

from typing import Any

import pytest

from geodes_tasks.settings.quota import Quota


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("50/hour", Quota(50, 3600.0)),
        (" 10 / 20 Seconds ", Quota(10, 20.0)),
        ("1/second", Quota(1, 1.0)),
        ("5/2days", Quota(5, 172800.0)),
        ("off", None),
        ("none", None),
        ("", None),
        (None, None),
        (Quota(3, 4.0), Quota(3, 4.0)),
    ],
)
def test_quota(text: Any, expected: Quota | None) -> None:
    """A quota is a count in a window, or off."""
    assert Quota.parse(text) == expected


@pytest.mark.parametrize(
    "text", ["50", "50/", "/hour", "-1/hour", "0/hour", "5/week", "5 per hour"]
)
def test_no_quota(text: str) -> None:
    """What is no quota is refused with the forms that are."""
    with pytest.raises(ValueError, match="50/hour, 10/20seconds or off"):
        Quota.parse(text)


def test_quota_as_text_is_read_back() -> None:
    """The text of a quota is a quota."""
    assert Quota.parse(str(Quota(50, 3600.0))) == Quota(50, 3600.0)
