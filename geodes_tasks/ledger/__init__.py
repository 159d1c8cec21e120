"""The ledger: what was requested, who works on it, how it ended. The truth, kept in Redis.

Each change of a state is one script (``scripts/``), so that two workers never see half of one.
``connection`` sends the commands. Each other module is one subject: ``admission`` takes downloads
in, ``dispatch`` chooses what starts next, ``leases`` claims, renews and finishes, ``control`` holds
the verbs of people, ``account`` the limits, ``source_health`` what is known of S3, ``offline`` the
files on tape, ``reading`` reads, ``retention`` removes what is over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from geodes_tasks.ledger.account import Accounts, AccountState, Change, Spent
from geodes_tasks.ledger.admission import (
    Admission,
    Admissions,
    Admitted,
    Asking,
    Refusal,
    Request,
)
from geodes_tasks.ledger.connection import Client, Connection, Limits, connect
from geodes_tasks.ledger.control import Control, Withdrawn
from geodes_tasks.ledger.dispatch import Dispatch, Wakeup
from geodes_tasks.ledger.figures import FailureGroup, Totals, Wait
from geodes_tasks.ledger.leases import Claim, Leases, Progress, Renewal, Verdict, clock
from geodes_tasks.ledger.offline import OfflineFiles, TapeAnswer
from geodes_tasks.ledger.reading import Reading, Running
from geodes_tasks.ledger.retention import Forgotten, Retention
from geodes_tasks.ledger.source_health import News, SourceHealth, SourceState

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


class Ledger:
    """The ledger of one Redis: its parts, each with one subject, over one connection.

    Example:
        >>> ledger = Ledger.of(config.load())              # doctest: +SKIP
        >>> ledger.reading.status("tuesday").total         # doctest: +SKIP
        20000
    """

    def __init__(
        self,
        client: Client,
        limits: Limits | None = None,
        *,
        prefix: str = "geodes:",
        url: str = "redis://",
    ) -> None:
        """Take a client with ``decode_responses``; sends nothing."""
        self.connection = Connection(client, limits, prefix=prefix, url=url)
        self.admission = Admissions(self.connection)
        self.dispatch = Dispatch(self.connection)
        self.leases = Leases(self.connection)
        self.control = Control(self.connection)
        self.account = Accounts(self.connection)
        self.sources = SourceHealth(self.connection)
        self.offline = OfflineFiles(self.connection)
        self.reading = Reading(self.connection)
        self.retention = Retention(self.connection)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the ledger of these settings; opens no connection yet."""
        return cls(
            connect(settings),
            Limits.of(settings),
            prefix=settings.key_prefix,
            url=settings.redis_url.get_secret_value(),
        )
