"""What is known of a download afterwards: result, decision, record, counts."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from geodes_tasks.model.states import Reason

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from geodes_tasks.model.checksum import Checksum
    from geodes_tasks.model.states import Outcome, State


@dataclass(frozen=True, slots=True)
class Proof:
    """What one ``stat`` shows of a file at the moment its bytes were proven.

    A file whose stat still shows the same has not been written since, so it is not read again.
    The device number is left out: it differs between the hosts of a shared file system.
    """

    size_bytes: int
    mtime_ns: int
    inode: int

    @classmethod
    def of(cls, stat: os.stat_result) -> Proof:
        """Take what matters from a stat result."""
        return cls(stat.st_size, stat.st_mtime_ns, stat.st_ino)

    @classmethod
    def parse(cls, text: str) -> Proof:
        """Read the form of ``str(proof)``."""
        size, mtime, inode = text.split(":")
        return cls(int(size), int(mtime), int(inode))

    def __str__(self) -> str:
        """Give the form that the ledger keeps."""
        return f"{self.size_bytes}:{self.mtime_ns}:{self.inode}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadResult:
    """What the engine says of a file that is now at its final name."""

    outcome: Outcome
    path: str
    size_bytes: int
    checksum: Checksum | None
    """Of the bytes on disk; None when one stat was enough and the catalogue has none."""
    verified: bool
    """True when the catalogue's checksum was there and agreed."""
    bytes_transferred: int
    """Bytes that came over the network in this attempt."""
    source: str | None
    """Which source gave the last byte; None when nothing was fetched."""
    proof: Proof
    sources: Mapping[str, int] = field(default_factory=dict)
    """Bytes that came over the network in this attempt, by source."""


class Complaint(StrEnum):
    """What an answer to one request says of all requests of its account."""

    THROTTLED = "throttled"
    """Too many at once: fewer places from now on."""
    BROKEN = "broken"
    """The connection broke: fewer places when that happens again and again."""
    REFUSED = "refused"
    """The portal refuses for its quota: one request at a time tries, after the pause."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a download whose attempt failed."""

    retry: bool
    """False: it ends as FAILURE."""
    reason: Reason = Reason.BACKOFF
    """Why it waits."""
    delay_s: float = 0.0
    """How long it waits; 0 is as soon as there is a place."""
    counted: bool = True
    """Whether the attempt counts: only when bytes were really asked for."""
    suspect: Checksum | None = None
    """Digest of a whole copy that does not agree with the catalogue."""
    pause: str | None = None
    """Why the whole account waits, if it does."""
    pause_s: float | None = None
    """How long the account waits; None is until somebody resumes it."""
    probe_s: float | None = None
    """Seconds between two tries whether the portal gives files again; None where it did not
    refuse for its quota."""
    held: str | None = None
    """The only source that the download waits for from now on, which takes nothing at present."""
    complaint: Complaint | None = None
    """What the portal's answer says of the whole account."""


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """An error as data: it survives JSON, and says what to do."""

    type: str
    message: str
    hint: str = ""

    @classmethod
    def of(cls, error: BaseException) -> ErrorInfo:
        """Describe an exception."""
        hint = getattr(error, "hint", "")
        return cls(type(error).__name__, str(error), hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadRecord:
    """One line of a report: the contract's fields, in its order."""

    item_id: str
    collection: str
    asset_key: str
    state: State
    outcome: Outcome | None
    path: str
    size_bytes: int | None
    checksum: str | None
    """``md5:<hex>``."""
    verified: bool
    bytes_transferred: int
    attempts: int
    source: str | None
    started_at: str | None
    """ISO 8601, UTC."""
    finished_at: str | None
    error: ErrorInfo | None
    sources: Mapping[str, int] = field(default_factory=dict)
    """Which source gave which bytes, over all attempts: ``{"s3": n, "geodes": m}``."""
    download_id: str = ""
    reason: str | None = None
    """Why it waits (state RETRY)."""
    due_at: str | None = None
    """When it goes on, if that is known."""
    worker: str | None = None
    history: tuple[Mapping[str, Any], ...] = ()
    """One entry an attempt that failed: at, worker, source, bytes, error."""
    footprint: str | None = field(default=None, repr=False)
    """Place and time of the item as JSON, in one record of each item; not part of the JSON form."""

    def to_dict(self) -> dict[str, Any]:
        """Give the JSON form."""
        form = asdict(self)
        del form["footprint"]
        return form


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchStatus:
    """Counts over a batch, as ``status --json`` prints them."""

    batch: str
    owner: str | None = None
    """``user@host`` that enqueued it first; None where that is not known."""
    enqueued_at: str | None = None
    """ISO 8601, UTC."""
    total: int
    states: Mapping[str, int]
    outcomes: Mapping[str, int]
    waiting: Mapping[str, int] = field(default_factory=dict)
    """Reason to count of downloads in state RETRY."""
    bytes_total: int = 0
    bytes_done: int = 0

    @property
    def unfinished(self) -> int:
        """Downloads that are not in a terminal state."""
        return sum(self.states.get(name, 0) for name in ("PENDING", "STARTED", "RETRY"))

    def to_dict(self) -> dict[str, Any]:
        """Give the JSON form."""
        return asdict(self)
