"""One-machine mode with a million finished files of earlier runs: it starts, and knows them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from geodes_tasks.client.local_server import OneMachine
from geodes_tasks.ledger import Admission, Ledger
from geodes_tasks.model.states import State
from geodes_tasks.settings import config
from tests.conftest import require_server
from tests.real.filled import ACCOUNT, ORIGINALS, PROOF, Filler, bring, request_of

if TYPE_CHECKING:
    from pathlib import Path

COUNT, BATCH = 1_000_000, "finished"
BLOCK = 400
"""Downloads in one call of admission."""
pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]


def test_a_million_finished_files_of_earlier_runs(tmp_path: Path) -> None:
    """The next run starts, forgets nothing, and admits known files by one stat each."""
    require_server()
    folder = tmp_path / "out"
    with OneMachine(config.load(), folder) as machine:
        ledger = Ledger.of(machine.settings)
        bring(ledger, BATCH, range(ORIGINALS))
        Filler(ledger, BATCH, ORIGINALS).fill(COUNT)
    known = [request_of(BATCH, number) for number in range(COUNT - BLOCK, COUNT)]

    began = time.monotonic()
    with OneMachine(config.load(), folder) as machine:
        started_s = time.monotonic() - began
        ledger = Ledger.of(machine.settings)
        answers = ledger.admission.admit("next", ACCOUNT, known, lambda _: PROOF)()
        admitted_s = time.monotonic() - began - started_s
        states = ledger.reading.totals().states
        left = ledger.reading.status(BATCH).total
    print(f"\n{COUNT} finished: started in {started_s:.0f} s, {BLOCK} known in {admitted_s:.2f} s")

    assert {answer.admission for answer in answers} == {Admission.PRESENT}
    assert (states[State.SUCCESS], left) == (COUNT, COUNT - BLOCK)
