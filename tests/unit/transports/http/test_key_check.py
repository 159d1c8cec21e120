"""Which refusals are about the key, and which about one file: nothing but a key is classified."""

from __future__ import annotations

import threading
import time

import pytest

from geodes_tasks.errors import AuthError, ForbiddenError, KeyMissingError, NotFoundError
from geodes_tasks.settings.config import load
from geodes_tasks.transports.http import key_check
from geodes_tasks.transports.http.availability import Availability
from geodes_tasks.transports.http.key_check import KeyCheck
from tests.integration.scripted import Scripted, answer

KEY = "canary-0123456789"
NAME = load(api_key=KEY).key_name()
REFUSED = AuthError("https://p/f", NAME, "HTTP 403")


@pytest.mark.parametrize(
    ("status", "gave", "kind"),
    [
        ("200 OK", False, ForbiddenError),
        ("401 Unauthorized", False, AuthError),
        ("500 Error", True, ForbiddenError),
        ("500 Error", False, AuthError),
    ],
)
def test_a_key_that_is_accepted_elsewhere_is_refused_for_this_file(
    status: str, gave: bool, kind: type[Exception]
) -> None:
    """The portal is asked with the key; where it has no answer, a file that came since is one."""
    with Scripted(answer(b"{}", "Content-Type: application/json", status=status)) as portal:
        check = KeyCheck(load(portal_url=portal.url, api_key=KEY))

        found = check.classify(REFUSED, "default", lambda: gave)

    assert type(found) is kind


@pytest.mark.parametrize(
    "error", [KeyMissingError("https://p", "GEODES_API_KEY", "is not set"), NotFoundError("h", 404)]
)
def test_no_request_for_other_errors(error: Exception) -> None:
    """A key that was not sent is not asked about."""
    check = KeyCheck(load(portal_url="https://portal.invalid", api_key=KEY))

    assert check.classify(error, "default", lambda: True) is error


def test_a_slow_answer_counts_for_all_that_waited(monkeypatch: pytest.MonkeyPatch) -> None:
    """A portal that thinks for longer than its answer counts is asked once, not once a thread."""
    asked: list[float] = []

    def accepts(_portal: Availability, _name: str, seconds: float) -> bool:
        asked.append(seconds)
        time.sleep(0.4)
        return True

    monkeypatch.setattr(Availability, "accepts", accepts)
    monkeypatch.setattr(key_check, "KNOWN_SECONDS", 0.3)
    check, found = KeyCheck(load(api_key=KEY)), list[Exception]()
    threads = [
        threading.Thread(target=lambda: found.append(check.classify(REFUSED, "default")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert asked == [key_check.REQUEST_SECONDS]
    assert [type(one) for one in found] == [ForbiddenError] * 4


def test_a_silent_portal_is_left_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusals of all accounts wait for the answer: it has seconds, whatever the settings."""
    monkeypatch.setattr(key_check, "REQUEST_SECONDS", 0.3)
    began = time.monotonic()
    with Scripted(b"") as portal:
        check = KeyCheck(load(portal_url=portal.url, api_key=KEY, first_byte_seconds=20.0))

        assert check.classify(REFUSED, "default", lambda: False) is REFUSED

    assert time.monotonic() - began < 5
