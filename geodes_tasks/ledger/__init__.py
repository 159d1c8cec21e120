"""The ledger: the record of each download, its worker and its end. The truth, kept in Redis.

Each change of a state is one script (``scripts/``), so that two workers never see half of one.
``connection`` sends the commands. Each other module is one subject: ``admission`` takes downloads
in, ``dispatch`` chooses what starts next, ``leases`` claims, renews and finishes, ``control`` holds
the verbs of users, ``account`` the limits, ``source_health`` the sources out of reach, ``offline``
the files on tape, ``directories`` those of zip archives, ``reading`` reads, ``retention`` removes
finished batches. ``checks`` checks the configuration of a server, ``turns`` which batches share an
account; ``records`` and ``figures`` hold the forms in which records are read.
"""

from __future__ import annotations

from typing import Self

from geodes_tasks.ledger.account import Accounts, AccountState, Change, Spent
from geodes_tasks.ledger.admission import (
    Admission,
    Admissions,
    Admitted,
    Cost,
    Refusal,
    Request,
)
from geodes_tasks.ledger.connection import Connection
from geodes_tasks.ledger.control import Control, Withdrawn
from geodes_tasks.ledger.directories import Directories
from geodes_tasks.ledger.dispatch import Dispatch, Wakeup, WorkerState
from geodes_tasks.ledger.figures import FailureGroup, Totals, Wait
from geodes_tasks.ledger.leases import Claim, Leases, Progress, Renewal, Verdict, clock
from geodes_tasks.ledger.limits import Limits
from geodes_tasks.ledger.offline import OfflineFiles, TapeAnswer
from geodes_tasks.ledger.reading import Reading
from geodes_tasks.ledger.records import Running
from geodes_tasks.ledger.redis_client import Client, connect
from geodes_tasks.ledger.retention import Retention
from geodes_tasks.ledger.source_health import News, SourceHealth, SourceState
from geodes_tasks.ledger.turns import Turn, turns_of
from geodes_tasks.settings.config import Config

__all__ = [
    "Ledger",
    "Limits",
    # admission
    "Admission",
    "Admitted",
    "Cost",
    "Refusal",
    "Request",
    # dispatch, control
    "Wakeup",
    "WorkerState",
    "Withdrawn",
    # leases
    "Claim",
    "Progress",
    "Renewal",
    "Spent",
    "Verdict",
    "clock",
    # source_health
    "News",
    "SourceState",
    # offline
    "TapeAnswer",
    # account
    "AccountState",
    "Change",
    # reading
    "Running",
    # figures
    "FailureGroup",
    "Totals",
    "Wait",
    # turns
    "Turn",
    "turns_of",
    # retention
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
        self.account = Accounts(self.connection)
        self.control = Control(self.connection, self.account)
        self.sources = SourceHealth(self.connection)
        self.offline = OfflineFiles(self.connection)
        self.directories = Directories(self.connection)
        self.reading = Reading(self.connection)
        self.retention = Retention(self.connection)

    @classmethod
    def of(cls, settings: Config) -> Self:
        """Return the ledger of these settings; opens no connection yet."""
        return cls(
            connect(settings),
            Limits.of(settings),
            prefix=settings.key_prefix,
            url=str(settings.redis_url),
        )

    def close(self) -> None:
        """Close the connections; the next command opens new ones."""
        self.connection.client.close()
