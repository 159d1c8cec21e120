"""Retry-After with any status, and a first 404: what waits, how long, and what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from geodes_tasks.errors import (
    GeodesTasksError,
    LicenceError,
    NotFoundError,
    OfflineError,
    QuotaError,
    ServerError,
    ThrottledError,
)
from geodes_tasks.model.states import State
from geodes_tasks.transports.http.responses import MAX_RETRY_AFTER_S
from tests.fault.scene import Scene
from tests.integration.scripted import Scripted, answer
from tests.integration.test_http_transport import fetch, transport_for
from tests.standin import KiB

if TYPE_CHECKING:
    from geodes_tasks.settings.config import Config
    from tests.conftest import WorkerFactory
    from tests.standin import StandIn

QUOTA_WORDS = b"Request from user exceeds quota limit DownloadQuotaPlugin"


def refused(status: str, *headers: str, body: bytes = b"not now") -> GeodesTasksError:
    """Return the error for one answer of a portal."""
    with (
        Scripted(answer(body, *headers, status=status), close=True) as portal,
        pytest.raises(GeodesTasksError) as caught,
    ):
        fetch(transport_for(portal.url), f"{portal.url}/a")
    return caught.value


@pytest.mark.parametrize(
    "status",
    ["400 Bad Request", "401 Unauthorized", "403 Forbidden", "408 Timeout", "425 Too Early",
     "429 Too Many Requests", "500 Error", "502 Bad Gateway", "503 Unavailable", "504 Timeout"],
)  # fmt: skip
def test_retry_after_of_any_status(status: str) -> None:
    """The server says when to try again: it is waited for, whatever the status."""
    error = refused(status, "Retry-After: 7")

    assert isinstance(error, ThrottledError)
    assert (error.retry_after_s, error.status) == (7.0, int(status[:3]))


@pytest.mark.parametrize(
    ("value", "wait_s"),
    [("0", 0.0), ("2.5", 2.5), ("120000", MAX_RETRY_AFTER_S), ("9" * 400, MAX_RETRY_AFTER_S),
     ("Fri, 01 Jan 2100 00:00:00 GMT", MAX_RETRY_AFTER_S), ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0)],
)  # fmt: skip
def test_a_wait_is_clamped(value: str, wait_s: float) -> None:
    """Milliseconds, dates of any year and absurd numbers are waits between 0 s and 15 minutes."""
    error = refused("503 Unavailable", f"Retry-After: {value}")

    assert isinstance(error, ThrottledError)
    assert error.retry_after_s == wait_s


@pytest.mark.parametrize("value", ["soon", "-5", "1e3", "", "12 parsecs"])
def test_garbage_is_no_wait(value: str) -> None:
    """What is no number and no date is ignored: a 503 is an error of the server then."""
    assert isinstance(refused("503 Unavailable", f"Retry-After: {value}"), ServerError)


def test_a_status_with_a_meaning_keeps_it() -> None:
    """A file on tape, a used-up quota, a licence and a missing file stay what they are."""
    wait = "Retry-After: 7"
    kinds = [
        type(refused("410 Gone", wait)),
        type(refused("423 Locked", wait)),
        type(refused("403 Forbidden", wait, body=QUOTA_WORDS)),
    ]
    missing = refused("404 Not Found", wait)

    assert kinds == [OfflineError, LicenceError, QuotaError]
    assert isinstance(missing, NotFoundError)
    assert missing.retry_after_s == 7.0


# --- a first 404 -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("times", "max_attempts", "state", "requests"),
    [(1, 8, State.SUCCESS, 2), (9, 8, State.FAILURE, 2), (9, 1, State.FAILURE, 1)],
    ids=["passes", "stays", "one attempt"],
)
def test_a_first_404_is_tried_once_more(
    standin: StandIn,
    settings: Config,
    worker: WorkerFactory,
    times: int,
    max_attempts: int,
    state: State,
    requests: int,
) -> None:
    """It waits (reason ``backoff``) as long as between two polls; a second 404 is final."""
    scene = Scene(standin, settings, worker)
    scene.change(max_attempts=max_attempts)
    item = standin.add_item(KiB)
    standin.fault(item, "gone_404", times=times)
    scene.worker("one")
    batch = scene.enqueue(item)
    if requests > 1:
        scene.until(lambda: batch.status().waiting == {"backoff": 1}, 20, "it waits")

    (record,) = scene.settled(batch, 30)

    assert record.state is state, scene.logs
    assert scene.downloads(item) == requests
    scene.end()
