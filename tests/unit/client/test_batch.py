"""A batch: how it stands, and the exit code that says so."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from geodes_tasks.client import waiting
from geodes_tasks.client.batch import Batch, batch
from geodes_tasks.client.enqueue import enqueue
from geodes_tasks.client.exit_codes import exit_code
from geodes_tasks.errors import NotFoundError, UnknownBatchError
from geodes_tasks.ledger import Claim, FailureGroup, Ledger, Request
from geodes_tasks.model.results import BatchStatus, ErrorInfo
from geodes_tasks.model.states import Reason, State
from tests.conftest import asset_of


def status_of(waiting: dict[Reason, int] | None = None, **states: int) -> BatchStatus:
    """Make the counts of a batch."""
    counts = {str(state): states.get(state.name.lower(), 0) for state in State}
    return BatchStatus(
        batch="b",
        total=sum(counts.values()),
        states=counts,
        outcomes={},
        waiting={str(reason): count for reason, count in (waiting or {}).items()},
    )


def failed(kind: str) -> FailureGroup:
    """Make the group of the downloads that ended with this error."""
    return FailureGroup(State.FAILURE, kind, 1, ErrorInfo(kind, "text"), "URN:a")


WAITS = FailureGroup(State.RETRY, "TransferError", 1, ErrorInfo("TransferError", "text"), "URN:b")
"""A download that waits after an error: no failure."""


def test_a_batch_goes_to_another_process(tmp_path: Path) -> None:
    """A pool of processes takes a handle, which opens connections of its own there."""
    private, empty = Batch("a", folder=tmp_path), Batch("b", is_empty=True)

    found = pickle.loads(pickle.dumps([private, empty]))  # noqa: S301 - our own

    assert [(one.id, one.folder) for one in found] == [("a", tmp_path), ("b", None)]
    assert found[1].status().ok


@pytest.mark.parametrize(
    "call",
    [
        lambda: Batch(5),  # type: ignore[arg-type]
        lambda: batch(None),  # type: ignore[arg-type]
        lambda: Batch("a").retry([5]),  # type: ignore[list-item]
        lambda: Batch("a").retry(items=[NotFoundError]),  # type: ignore[list-item]
        lambda: Batch("a").cancel(5),  # type: ignore[arg-type]
        lambda: enqueue([], batch=5),  # type: ignore[arg-type]
        lambda: enqueue([], account=5),  # type: ignore[arg-type]
    ],
)
def test_an_argument_of_another_type_is_named(call: Callable[[], object]) -> None:
    """The message has the name of the argument and the value."""
    with pytest.raises(TypeError, match=r"(5|None|NotFoundError'>)$"):
        call()


@pytest.mark.parametrize(
    ("status", "failures", "code"),
    [
        (status_of(success=3), [], 0),
        (status_of(), [], 4),
        (status_of(success=1, failure=1), [failed("NotFoundError")], 3),
        (status_of(failure=2), [failed("TransferError"), failed("NotFoundError")], 3),
        (status_of(failure=2), [failed("TransferError"), failed("ChecksumMismatchError")], 5),
        (status_of(failure=1), [failed("WorkerLostError")], 3),
        (status_of(success=1, revoked=1), [], 130),
        (status_of(failure=1, revoked=1), [failed("NotFoundError")], 3),
        (status_of({Reason.OFFLINE: 1}, success=1, retry=1), [], 6),
        (status_of({Reason.OFFLINE: 1}, failure=1, retry=1), [failed("NotFoundError")], 3),
        (status_of({Reason.BACKOFF: 1}, retry=1), [], 5),
        (status_of(pending=1, started=1), [], 5),
        (status_of({Reason.AUTH: 1}, success=1, retry=1), [], 7),
        (status_of({Reason.QUOTA: 1}, failure=1, retry=1), [failed("NotFoundError")], 7),
    ],
)
def test_the_exit_code_says_how_a_batch_stands(
    status: BatchStatus, failures: list[FailureGroup], code: int
) -> None:
    """Scripts tell done, failed, transient, tape and account apart."""
    assert exit_code(status, [WAITS, *failures]) == code


@pytest.fixture
def request_() -> Request:
    """One download."""
    return Request(asset_of(b"content"), "/data/a.zip")


def test_waiting_ends_with_the_last_download(
    fake_ledger: Ledger, request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    """wait() gives the counts once nothing is queued, running or waiting."""
    fake_ledger.admission.admit("b", "acc", [request_], lambda _: None)()

    def cancel(_: float) -> None:
        fake_ledger.control.cancel([request_.download_id])

    monkeypatch.setattr(waiting, "time", SimpleNamespace(sleep=cancel, monotonic=time.monotonic))
    status = Batch("b", fake_ledger).wait()

    assert status.states[State.REVOKED] == 1


def test_waiting_can_be_bounded(
    fake_ledger: Ledger, request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the timeout the batch goes on, and the error says how much is left."""
    fake_ledger.admission.admit("b", "acc", [request_], lambda _: None)()
    monkeypatch.setattr(waiting, "POLL_S", 0.001)
    batch = Batch("b", fake_ledger)

    with pytest.raises(TimeoutError, match=r"batch b: 1 of 1 download unfinished after 0 s"):
        batch.wait(timeout=0)

    assert fake_ledger.reading.status("b").states[State.PENDING] == 1


def test_results_are_the_records(fake_ledger: Ledger, request_: Request) -> None:
    """One record a download, in the order they were asked for."""
    other = Request(asset_of(b"other", "b.zip"), "/data/b.zip")
    fake_ledger.admission.admit("b", "acc", [request_, other], lambda _: None)()
    assert isinstance(fake_ledger.leases.claim(other.download_id, "w"), Claim)
    batch = Batch("b", fake_ledger)

    results = batch.results()

    assert [record.state for record in results] == [State.PENDING, State.STARTED]
    assert [record.path for record in results] == ["/data/a.zip", "/data/b.zip"]
    assert batch.status().total == 2
    assert repr(batch) == "Batch('b')"


def test_an_unknown_batch_is_named(fake_ledger: Ledger) -> None:
    """A handle may be made of any name; the first question tells."""
    batch = Batch("nothing", fake_ledger)

    with pytest.raises(UnknownBatchError, match="'nothing'"):
        batch.status()
    with pytest.raises(UnknownBatchError, match="'nothing'"):
        batch.results()
