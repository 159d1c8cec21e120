"""The ledger: what was asked for, who works on it, how it ended. The truth, kept in Redis.

Each change of a state is one script (``scripts/``), so that two workers never see half of one.
``store`` holds the connection, ``admitting`` takes in, ``queue`` releases, ``leases`` claims and
records, ``ways`` knows the sources, ``tape`` keeps what waits for the portal to say something,
``limits`` what people hold and prefer, ``reading`` answers questions, ``insight`` those of
monitors, ``forgetting`` lets go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from geodes_tasks.ledger.account import Change, LimitsKept
from geodes_tasks.ledger.admission import Admission, Admitted, Admitting, Asking, Refusal, Request
from geodes_tasks.ledger.connection import Limits, connect
from geodes_tasks.ledger.dispatch import Queue, Wakeup, Withdrawn
from geodes_tasks.ledger.leases import (
    Claim,
    Leases,
    Progress,
    Renewal,
    Spent,
    Verdict,
    clock,
)
from geodes_tasks.ledger.offline import Tape, TapeAnswer
from geodes_tasks.ledger.reading import Reading, Running
from geodes_tasks.ledger.reading_counts import AccountState, FailureGroup, Insight, Totals, Wait
from geodes_tasks.ledger.retention import Forgetting, Forgotten
from geodes_tasks.ledger.source_health import News, SourceState, Ways

if TYPE_CHECKING:
    from geodes_tasks.settings.config import Settings

__all__ = [
    "Ledger",
    "Limits",
    # admitting
    "Admission",
    "Admitted",
    "Asking",
    "Refusal",
    "Request",
    # queue
    "Wakeup",
    "Withdrawn",
    # leases
    "Claim",
    "Progress",
    "Renewal",
    "Spent",
    "Verdict",
    "clock",
    # ways
    "News",
    "SourceState",
    # tape
    "TapeAnswer",
    # limits
    "Change",
    # reading
    "Running",
    # insight
    "AccountState",
    "FailureGroup",
    "Totals",
    "Wait",
    # forgetting
    "Forgotten",
]


class Ledger(Admitting, Queue, Leases, Ways, Tape, LimitsKept, Reading, Insight, Forgetting):
    """Every question to the ledger and every change of it."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Make the ledger of these settings; opens no connection yet."""
        return cls(
            connect(settings),
            Limits.of(settings),
            prefix=settings.key_prefix,
            url=settings.redis_url.get_secret_value(),
        )
