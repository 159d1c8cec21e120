"""Addresses: which are this machine, and what a message shows of them."""

from __future__ import annotations

import pytest

from geodes_tasks.settings.urls import is_loopback, masked


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("0.0.0.0", False),  # noqa: S104 - nothing is bound
        ("localhost.example", False),
        ("127.0.0.1.example", False),
        ("", False),
        (None, False),
    ],
)
def test_loopback(host: str | None, expected: bool) -> None:
    """Only this machine itself is loopback, not a name that begins like it."""
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://:hunter2@h:6379/0", "redis://:***@h:6379/0"),
        ("redis://me:hunter2@h", "redis://me:***@h"),
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("redis://h/0?password=hunter2", "redis://h/0"),
        ("redis:/:hunter2@h", "redis:/:***@h"),
        ("redis:/me:hunt/er@2@h", "redis:/me:***@h"),
        ("redis://[hunter2", "(an address that cannot be read)"),
    ],
)
def test_masked(url: str, expected: str) -> None:
    """A password in an address is not shown."""
    assert masked(url) == expected
