"""``AsyncResult`` reads the ledger's record."""

from __future__ import annotations

import re
from typing import Any

import pytest
from celery.result import AsyncResult

from geodes_tasks import errors
from geodes_tasks.errors import ChecksumMismatchError, TransferError, UnknownBatchError
from geodes_tasks.ledger import Claim, Ledger, Request
from geodes_tasks.model.results import DownloadResult, Proof
from geodes_tasks.model.states import Outcome, State
from geodes_tasks.settings import config
from geodes_tasks.tasks.app import make
from geodes_tasks.tasks.backend import LedgerBackend
from tests.conftest import asset_of

REQUEST = Request(asset_of(b"content"), "/data/a.zip")
ENTRY = {"at": "now", "worker": "w", "source": "geodes", "bytes": 0, "transferred": 0, "error": "x"}


@pytest.fixture
def result(fake_ledger: Ledger) -> Any:
    """The AsyncResult of a download, over a ledger in memory."""
    app = make(config.load())
    app.backend.ledger = fake_ledger
    return AsyncResult(REQUEST.download_id, app=app)


@pytest.fixture
def claim(fake_ledger: Ledger) -> Claim:
    """A download under way."""
    fake_ledger.admission.admit("b", "acc", [REQUEST], lambda _: None)()
    answer = fake_ledger.leases.claim(REQUEST.download_id, "w")
    assert isinstance(answer, Claim)
    return answer


def test_states_are_the_ledgers(result: Any, claim: Claim) -> None:
    """A running download is STARTED, and its result so far is the record."""
    assert result.state == "STARTED"
    assert result.info["path"] == "/data/a.zip"
    assert result.ready() is False


def test_a_success_gives_the_record(result: Any, claim: Claim, fake_ledger: Ledger) -> None:
    """get() returns what the report says of the download."""
    done = DownloadResult(
        outcome=Outcome.DOWNLOADED,
        path=claim.path,
        size_bytes=7,
        checksum=claim.asset.checksum,
        verified=True,
        bytes_transferred=7,
        source="geodes",
        proof=Proof(7, 1, 1),
    )
    fake_ledger.leases.finish(claim, done)

    record = result.get(timeout=1)
    assert (record["state"], record["outcome"], record["verified"]) == (
        State.SUCCESS,
        Outcome.DOWNLOADED,
        True,
    )


@pytest.mark.parametrize(
    "error",
    [
        UnknownBatchError("x"),
        TransferError("href", "reset"),
        ChecksumMismatchError("p", "md5:a", "md5:b"),
    ],
    ids=repr,
)
def test_a_failure_raises_its_own_class(
    result: Any, claim: Claim, fake_ledger: Ledger, error: errors.GeodesTasksError
) -> None:
    """Whatever values an error has, get() raises its class, with the same text."""
    fake_ledger.leases.fail(claim, error, ENTRY)

    with pytest.raises(type(error), match=f"^{re.escape(str(error))}") as caught:
        result.get(timeout=1)

    assert str(caught.value) == str(error)


def test_a_cancelled_download_says_so(result: Any, claim: Claim, fake_ledger: Ledger) -> None:
    """REVOKED without an error is Celery's own TaskRevokedError."""
    fake_ledger.control.cancel([claim.download_id])
    fake_ledger.leases.revoke(claim)

    assert result.state == "REVOKED"
    assert type(result.info).__name__ == "TaskRevokedError"


def test_an_unknown_download_is_pending_to_celery(result: Any) -> None:
    """Celery has no word for what was never heard of; the ledger has."""
    assert result.state == "PENDING"
    assert result.info is None


def test_nothing_is_stored_twice(result: Any, fake_ledger: Ledger) -> None:
    """What Celery would store and forget, the ledger keeps."""
    backend = result.backend
    assert isinstance(backend, LedgerBackend)
    backend.store_result(REQUEST.download_id, {"a": 1}, "SUCCESS")
    result.forget()

    # A worker publishes its limits when it starts; nothing else is there.
    assert fake_ledger.connection.client.keys() == ["geodes:limits"]
