"""The threads that poll the portal: one failure costs one account one turn."""

from __future__ import annotations

import pytest
from kombu.exceptions import OperationalError

from geodes_tasks.errors import LedgerUnavailableError
from geodes_tasks.ledger import Ledger, Request
from geodes_tasks.settings import config
from tests.conftest import asset_of
from tests.unit.worker.conftest import Mailbox
from worker.poller import Poller


class Polled(Poller):
    """A poller that fails for one account, and stops after a number of turns."""

    error: Exception
    turns = 0

    def poll(self, account: str) -> int:
        """Fail for the account `bad`; let downloads of every other one continue."""
        if account == "bad":
            self.turns += 1
            if self.turns == 3:
                self.stop()
            raise self.error
        return 1


@pytest.mark.parametrize(
    "error",
    [LedgerUnavailableError("redis://h", "x"), OperationalError("x"), ZeroDivisionError("x")],
    ids=lambda error: type(error).__name__,
)
def test_no_error_ends_a_poller(
    fake_ledger: Ledger,
    mailbox: Mailbox,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    """The other accounts are polled in the same turn, and the next turn comes."""
    ids = {}
    for account in ("bad", "good"):
        request = Request(asset_of(b"content", f"{account}.zip"), f"/data/{account}.zip")
        fake_ledger.admission.admit(account, account, [request], lambda _: None)()
        ids[account] = request.download_id
    poller = Polled(config.load(), fake_ledger, mailbox, "w@host")  # type: ignore[arg-type] # it sends
    poller.error, poller.period_s = error, 0.001

    poller.run()

    assert poller.turns == 3
    assert ids["good"] in mailbox.sent
    assert caplog.text.count("Polled of the portal failed") == 1
