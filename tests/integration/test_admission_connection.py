"""Downloads on their way into the ledger of a real server, when the way breaks."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from geodes_tasks.errors import LedgerUnavailableError, UnknownBatchError
from geodes_tasks.ledger import Admission, Ledger, Request
from geodes_tasks.settings import config
from tests.conftest import asset_of, require_server
from tests.servers import RedisServer, wait_until

if TYPE_CHECKING:
    from pathlib import Path

REQUESTS = [Request(asset_of(name.encode(), f"{name}.zip"), f"/data/{name}.zip") for name in "abc"]


@pytest.fixture
def ledger(ledger: Ledger) -> Ledger:
    """Give a ledger whose server knows the script already."""
    ledger.admission.admit(
        "a", "acc", [Request(asset_of(b"0", "0.zip"), "/data/0.zip")], lambda _: None
    )()
    return ledger


def kill_connections(ledger: Ledger) -> None:
    """End all connections of a ledger but the one that asks for it."""
    other = Ledger.of(config.load(redis_url=ledger.connection.url))
    other.connection.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    other.connection.client.close()


def has_all(ledger: Ledger) -> bool:
    """Tell whether the batch is admitted: Redis serves connections in any order."""
    with contextlib.suppress(UnknownBatchError):
        return ledger.reading.status("b").total == len(REQUESTS)
    return False


def test_the_results_are_read_later(ledger: Ledger) -> None:
    """Other commands may be sent meanwhile, over the same client."""
    results = ledger.admission.admit("b", "acc", REQUESTS, lambda _: None)

    wait_until(lambda: has_all(ledger))
    assert [one.admission for one in results()] == [Admission.NEW] * 3


@pytest.mark.parametrize("when", ["before it is sent", "before it is answered"])
def test_a_connection_that_breaks(ledger: Ledger, when: str) -> None:
    """The block is sent again; what was admitted already has joined, and nothing is there twice."""
    if when == "before it is sent":
        kill_connections(ledger)
    results = ledger.admission.admit("b", "acc", REQUESTS, lambda _: None)
    if when == "before it is answered":
        wait_until(lambda: has_all(ledger))
        kill_connections(ledger)
    answers = results()

    assert {one.admission for one in answers} <= {Admission.NEW, Admission.JOINED}
    assert ledger.reading.status("b").total == 3


def test_an_answer_that_nobody_waits_for(ledger: Ledger) -> None:
    """Whoever asks next gets its own answer, and not that of before."""
    ledger.admission.admit("b", "acc", REQUESTS, lambda _: None)

    assert ledger.connection.client.echo("mine") == "mine"
    wait_until(lambda: has_all(ledger))


def test_a_server_that_has_forgotten_its_scripts(ledger: Ledger) -> None:
    """It is told the script, as after a restart."""
    ledger.admission.admit("b", "acc", REQUESTS[:1], lambda _: None)()
    ledger.connection.client.script_flush()

    answers = ledger.admission.admit("b", "acc", REQUESTS, lambda _: None)()

    assert [str(one.admission) for one in answers] == ["joined", "new", "new"]


def test_a_server_that_is_gone(tmp_path: Path) -> None:
    """It is named, gone before the block is sent or before the answer."""
    require_server()
    with RedisServer(tmp_path) as server:
        ledger = Ledger.of(config.load(redis_url=server.url))
        # It does not know the script, so its first answer asks for it.
        results = ledger.admission.admit("b", "acc", REQUESTS, lambda _: None)
        server.stop()
        with pytest.raises(LedgerUnavailableError, match="no answer from Redis"):
            results()
        with pytest.raises(LedgerUnavailableError, match="no answer from Redis"):
            ledger.admission.admit("b", "acc", REQUESTS, lambda _: None)()
