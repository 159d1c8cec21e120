"""Rounds of polls for files on tape: in time for the right to poll, each account by itself."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import pytest

from geodes_tasks.ledger import Ledger
from geodes_tasks.ledger.offline import ASK_SECONDS
from geodes_tasks.model.asset import Asset
from geodes_tasks.settings import config
from geodes_tasks.settings.config import Config
from geodes_tasks.transports.http.availability import (
    FileAvailability,
    RouteFailedError,
    RouteMissingError,
)
from tests.conftest import asset_of
from tests.unit.worker.conftest import Mailbox
from worker import offline_poller, poller
from worker.offline_poller import PATIENCE, OfflinePoller, OfflineRound

TAPED = {name: asset_of(name.encode(), name) for name in (f"{n}.zip" for n in range(100))}


class SlowPortal:
    """A portal without the bulk route, which takes its time for each file."""

    def __init__(self, answer: FileAvailability | None, answer_s: float) -> None:
        """Answer the same of every file."""
        self.now, self.asked = 1000.0, 0
        self._answer, self._answer_s = answer, answer_s

    def bulk(self, assets: Sequence[Asset]) -> list[FileAvailability | None]:
        """Refuse.

        Raises:
            RouteMissingError: always.
        """
        raise RouteMissingError("/fastavailability: HTTP 404", 404)

    def one(self, asset: Asset) -> FileAvailability | None:
        """Answer late."""
        self.now, self.asked = self.now + self._answer_s, self.asked + 1
        return self._answer

    def sleep(self, seconds: float) -> None:
        """Let the time of a pause pass."""
        self.now += seconds


class BrokenPortal:
    """A portal whose routes fail for one account."""

    def __init__(self, account: str) -> None:
        """Fail for the account `bad`."""
        self._is_bad = account == "bad"

    def bulk(self, assets: Sequence[Asset]) -> list[FileAvailability | None]:
        """Answer that all files are on tape.

        Raises:
            RouteFailedError: of that account.
        """
        if self._is_bad:
            raise RouteFailedError("/fastavailability: HTTP 500")
        return [FileAvailability(online=False) for _ in assets]


@pytest.mark.parametrize("answer", [FileAvailability(online=True), None], ids=["online", "unknown"])
def test_a_slow_round_ends_while_the_right_to_poll_lasts(
    monkeypatch: pytest.MonkeyPatch, answer: FileAvailability | None
) -> None:
    """What is known by then is answered; the other files wait for the next round."""
    portal = SlowPortal(answer, 0.7)
    clock = SimpleNamespace(monotonic=lambda: portal.now, sleep=portal.sleep)
    monkeypatch.setattr(offline_poller, "time", clock)

    found = OfflineRound(portal, is_patient=True).poll(TAPED)  # type: ignore[arg-type] # it answers

    assert portal.now - 1000 < 0.6 * ASK_SECONDS
    assert 30 < portal.asked < len(TAPED)
    assert len(found.online if answer else found.unknown) == portal.asked
    assert len([*found.online, *found.offline, *found.unknown]) == portal.asked


def test_one_request_ends_while_the_right_to_poll_lasts(
    monkeypatch: pytest.MonkeyPatch, fake_ledger: Ledger, mailbox: Mailbox
) -> None:
    """A silent portal would cost a worker its turn, and the failed round would never be counted."""
    seen: list[Config] = []
    monkeypatch.setattr(poller, "Availability", seen.append)
    for settings in (config.load(), config.load(first_byte_seconds=3)):
        OfflinePoller(settings, fake_ledger, mailbox, "w@host").portal("default")

    assert [one.first_byte_seconds for one in seen] == [ASK_SECONDS / 2, 3]


def test_failed_rounds_count_for_their_own_account(
    monkeypatch: pytest.MonkeyPatch, fake_ledger: Ledger, mailbox: Mailbox
) -> None:
    """Rounds of another account that succeed meanwhile keep no file of this one on tape."""
    unknown: dict[str, int] = {}
    polling = OfflinePoller(config.load(), fake_ledger, mailbox, "w@host")
    monkeypatch.setattr(polling, "portal", BrokenPortal)
    monkeypatch.setattr(fake_ledger.offline, "begin", lambda *_: [*TAPED])
    monkeypatch.setattr(fake_ledger.reading, "assets", lambda _: TAPED)
    monkeypatch.setattr(fake_ledger.offline, "end", lambda *_: None)

    def answer(account: str, _: str, found: object, __: float) -> int:
        unknown[account] = len(found.unknown)  # type: ignore[attr-defined]
        return 0

    monkeypatch.setattr(fake_ledger.offline, "answer", answer)
    for _ in range(PATIENCE + 1):
        for account in ("bad", "good"):
            polling.poll(account)

    assert unknown == {"bad": len(TAPED), "good": 0}
